"""The comparison of a chapter with its committed outputs sees what changed, and forgives only what it should."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

SCRIPT = Path(__file__).parent.parent / ".ci" / "chapters.py"
CELLS = (
    "import random\nprint('error 2.31 %, 784 inputs')",
    "print(random.random())",  # tagged varies
    "print('a'); print('b')\n1 / 0",  # tagged raises-exception
    "from IPython.display import Markdown\nMarkdown('a **word**')",
)
TAGS = {1: ["varies"], 2: ["raises-exception"]}


@pytest.fixture(scope="module")
def chapters():
    spec = importlib.util.spec_from_file_location("ci_chapters", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def notebook(cells=CELLS, tags=TAGS):
    code = [nbformat.v4.new_code_cell(source, metadata={"tags": tags.get(n, [])}) for n, source in enumerate(cells)]
    return nbformat.v4.new_notebook(cells=code)


def store(folder, content, name="chapter.ipynb"):
    path = folder / name
    path.write_text(nbformat.writes(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def written(chapters, tmp_path_factory):
    """A chapter that was executed in place, with one old cell without an id and the metadata that editors leave."""
    content = json.loads(nbformat.writes(notebook()))
    content["nbformat_minor"] = 4
    content["metadata"] = {"widgets": {}, "language_info": {"name": "python", "version": "3.0"}}
    for cell in content["cells"]:
        cell["metadata"]["execution"] = {"iopub.execute_input": "2020-01-01"}
        del cell["id"]
    path = tmp_path_factory.mktemp("chapters") / "chapter.ipynb"
    path.write_text(json.dumps(content), encoding="utf-8")
    assert chapters.main(["--write", str(path)]) == 0
    return path


@pytest.fixture
def executed(chapters, written):
    return chapters.read(written)


# ---------------------------------------------------------------- a whole chapter


def test_a_written_chapter_passes_although_a_tagged_cell_varies_and_another_fails(chapters, written, capsys):
    before = written.read_bytes()
    assert chapters.main([str(written)]) == 0
    assert written.read_bytes() == before  # comparing changes nothing
    assert "chapter.ipynb" in (out := capsys.readouterr().out) and "1 passed, 0 failed" in out


def test_writing_leaves_only_what_every_machine_would(chapters, executed):
    assert executed.metadata.language_info == {"name": "python"}
    assert executed.metadata.kernelspec.name == "python3" and "widgets" not in executed.metadata
    assert [cell.id for cell in executed.cells] == ["cell-00", "cell-01", "cell-02", "cell-03"]
    assert not any("execution" in cell.metadata for cell in executed.cells)
    failing = executed.cells[2].outputs
    assert [output.output_type for output in failing] == ["stream", "error"] and failing[0].text == "a\nb\n"
    assert failing[1].traceback == ["ZeroDivisionError: division by zero"]  # no path of the machine


def test_writing_again_leaves_the_file_alone(chapters, tmp_path):
    path = store(tmp_path, notebook(CELLS[:1]))
    assert chapters.update(path) == []
    os.utime(path, (1, 1))
    first = path.read_bytes()
    assert chapters.update(path) == [] and path.read_bytes() == first and path.stat().st_mtime == 1


def test_a_failing_cell_is_reported_and_not_written(chapters, tmp_path, capsys):
    path = store(tmp_path, notebook(["x = 1\n1 / 0"]))
    before = path.read_bytes()
    assert chapters.main(["--write", str(path)]) == 1
    assert path.read_bytes() == before
    assert "ZeroDivisionError" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"nbformat": 4}', '{"nbformat": 3, "worksheets": []}'])
def test_a_file_that_is_no_notebook_is_reported(chapters, tmp_path, content, capsys):
    path = tmp_path / "chapter.ipynb"
    path.write_text(content)
    assert chapters.main([str(path)]) == 1 and path.read_text() == content
    assert "not a notebook" in capsys.readouterr().out


# ---------------------------------------------------------------- what is a difference


def test_a_changed_text_is_a_difference_with_its_cell(chapters, executed):
    committed = chapters.normalized(executed)
    committed.cells[0].outputs[0].text = "accuracy 2.31 %, 784 inputs\n"
    committed.cells[3].outputs[0].data["text/markdown"] = "another **word**"
    first, second = chapters.differences(committed, executed)
    assert first.startswith("cell 0 comes") and "-accuracy 2.31 %" in first and "+error 2.31 %" in first
    assert second.startswith("cell 3 comes") and "-another **word**" in second


def test_a_cell_that_varies_may_print_anything_but_only_with_its_tag(chapters, executed):
    committed = chapters.normalized(executed)
    committed.cells[1].outputs[0].text = "anything\n"
    assert chapters.differences(committed, executed) == []
    committed.cells[1].metadata.tags = []
    assert len(chapters.differences(committed, executed)) == 1


def test_another_error_or_none_is_a_difference(chapters, executed):
    committed = chapters.normalized(executed)
    committed.cells[2].outputs[1].evalue = "float division by zero"
    assert len(chapters.differences(committed, executed)) == 1
    del committed.cells[2].outputs[1]
    assert len(chapters.differences(committed, executed)) == 1


def test_images_are_not_compared_but_must_be_there(chapters):
    old, new, none = (notebook(["plot()"]) for _ in range(3))
    for n, drawn in enumerate((old, new)):
        data = {"image/png": "AAA" + "BC"[n], "text/plain": "<Figure>"}
        drawn.cells[0].outputs = [nbformat.v4.new_output("display_data", data)]
    assert chapters.differences(old, new) == []
    assert len(chapters.differences(old, none)) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("error 2.31 %", "error 2.36 %"),  # 0.05 points
        ("error 9.99 %  of it", "error 10.00 % of it"),  # a column that became wider
        ("0.123", "0.124"),  # one unit in the last place
        ("-1.50e-03", "-1.49e-03"),
        ("[0.1   0.2345]", "[0.0999 0.2345]"),  # NumPy drops zeros at the end
        ("1.", "1.01"),
        ("0.12345679", "0.12345689"),  # a float32 in full: 1e-5 of its value
        ("-0.00", "0.00"),
        ("head  x\n----  -", "head x\n-------  -"),
    ],
)
def test_numbers_have_the_room_that_blas_needs(chapters, a, b):
    assert chapters.same_text(a, b) and chapters.same_text(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("error 2.31 %", "error 2.37 %"),
        ("2.31 % and 0.12", "2.31 % and 0.17"),  # the room of a percentage is the percentage's alone
        ("0.123", "0.125"),
        ("0.1", "0.19"),
        ("784 inputs", "785 inputs"),
        ("1e-05", "2e-05"),
        ("0.12345679", "0.12346679"),
        ("1.5", "nan"),
        ("1.5 2.5", "1.5"),
        ("lenet_300_100", "lenet_300_101"),
        ("int8", "int9"),
        ("numpy 2.0.1", "numpy 2.0.2"),
        ("a\nb", "a b"),
    ],
)
def test_everything_else_is_a_difference(chapters, a, b):
    assert not chapters.same_text(a, b) and not chapters.same_text(b, a)


# ---------------------------------------------------------------- what a committed chapter must not have


def test_a_good_chapter_has_no_flaws(chapters, executed):
    assert chapters.flaws(executed, 1_499_999) == []


def test_each_flaw_is_named(chapters, executed):
    assert "1.6 MB" in chapters.flaws(executed, 1_600_000)[0]

    flawed = chapters.normalized(executed)
    flawed.cells[0].execution_count = None
    assert "not executed" in chapters.flaws(flawed)[0]

    flawed = chapters.normalized(executed)
    flawed.metadata.widgets = {}
    flawed.cells[0].metadata.execution = {}
    flawed.cells[0].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: careful\n"))
    flawed.cells[2].metadata.tags = []
    flawed.cells[3].outputs[0].data["text/plain"] = f"saved {Path(SCRIPT).resolve()}"
    widgets, timings, warning, error, folder = chapters.flaws(flawed)
    assert "widgets" in widgets and "cell 0: has timings" in timings and "UserWarning: careful" in warning
    assert "cell 2: fails: ZeroDivisionError" in error and "cell 3: prints a folder" in folder
