"""README.md: short, its snippets print what it says, its tables are the committed records, its links lead somewhere."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_it_is_short_and_what_is_inside_is_on_the_first_screen():
    assert len(TEXT.encode()) <= 12_000
    assert TEXT[: TEXT.index("## What is inside")].count("\n") < 40


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_prints_what_its_comment_says(snippet):
    said = [part for line in snippet.splitlines() if "print(" in line for part in line.split("# ")[1].split(", ")]
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(snippet, {})
    assert printed.getvalue().splitlines() == said


ROWS = {  # how README names a technique of figures/results.md, by a piece of its row
    "one scale a layer": "per tensor",
    "one scale a neuron": "baseline, per channel",
    "one scale a filter": "baseline, per channel",
    "rotated first": "rotated first, per channel",
    "all in integers": "integers, 8-bit activations",
    "distilled through": "retrained by distillation",
}


def test_the_table_of_bits_is_the_committed_one():
    lines = (ROOT / "figures" / "results.md").read_text(encoding="utf-8").split("\n\n")[1].splitlines()
    (_, _, *widths), _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    errors = {(row[0], row[1]): dict(zip(widths, row[2:], strict=True)) for row in rows}
    table = TEXT[TEXT.index("| | float | 8 bits |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 10
    for line in table:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        network = "LeNet-5 (CNN)" if table.index(line) >= 5 else "LeNet-300-100 (MLP)"
        technique = next(technique for piece, technique in ROWS.items() if piece in name)
        for width, cell in zip(("float", "8 bits", "4 bits", "3 bits", "2 bits"), cells, strict=True):
            mean = errors[network, technique][width].partition("%")[0]
            assert cell == (mean and f"{mean} %"), (name, width)


def test_every_link_leads_to_a_file():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target


def test_the_walk_through_the_first_exercise_leaves_what_it_says(tmp_path):
    from nnzip.book.exercises import grade_file, start

    [line] = re.findall(r"put `(return .*?)` in the place of its `raise`", TEXT)
    path = start("02", tmp_path)
    text = path.read_text()
    stub = text.index("def dequantize(")
    path.write_text(text[:stub] + re.sub(r"raise NotImplementedError.*", line, text[stub:], count=1))
    [result] = grade_file(path, ["dequantize"])
    assert result.state != "passed" and result.message  # one scale for all is right, one for each row is missing
