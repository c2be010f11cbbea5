"""What chapters show: source under its full name, with the sentence and the formula of its docstring and no more."""

import ast
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from headings import FILES

from nnzip.book.notebook import show, show_source, source_of, table

CHAPTERS = [*FILES.values()]
NNZIP = Path(__file__).resolve().parents[1] / "nnzip"


class Doubled:
    """Twice a number.

        y = 2 x

    Not shown: details.

    >>> Doubled().forward(1)
    2
    """

    def forward(self, x):
        """Return it."""
        return 2 * x  # a comment stays


def test_source_keeps_the_sentence_the_formula_and_the_comments():
    assert source_of(Doubled).splitlines() == [
        "class Doubled:",
        '    """Twice a number.',
        "",
        "        y = 2 x",
        '    """',
        "",
        "    def forward(self, x):",
        '        """Return it."""',
        "        return 2 * x  # a comment stays",
    ]


def test_source_is_shown_under_its_full_name():
    pytest.importorskip("IPython")
    assert show_source(Doubled.forward).data == (
        f"`{__name__}.Doubled.forward`\n\n```python\n"
        'def forward(self, x):\n    """Return it."""\n    return 2 * x  # a comment stays\n```'
    )


def test_source_is_folded_under_a_title():
    pytest.importorskip("IPython")
    source = show_source(Doubled.forward).data
    folded = f"<details><summary>Twice</summary>\n\n{source}\n\n</details>"
    assert show_source(Doubled.forward, fold="Twice").data == folded


def test_a_figure_is_shown_with_its_alt_text_and_closed(monkeypatch):
    displayed = pytest.importorskip("IPython.display")
    shown = []
    monkeypatch.setattr(displayed, "display", lambda *things, **options: shown.append((things, options)))
    figure = plt.figure()
    show(figure, "a line that falls")
    assert shown == [((figure,), {"metadata": {"image/png": {"alt": "a line that falls"}}})]
    assert not plt.fignum_exists(figure.number)


def test_a_table_is_text_and_markdown():
    shown = table([("a", 1), ("b", "")], heads=("name", "n"))
    assert repr(shown) == "name  n\na     1\nb"
    assert shown._repr_markdown_() == "| name | n |\n| --- | --- |\n| a | 1 |\n| b |  |"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_shows_no_private_function(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    shown = re.findall(r"show_source\((.*?)\)\n", code + "\n", re.DOTALL)
    private = [name for call in shown for name in re.findall(r"\b_\w+", call)]
    assert not private


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_what_a_cell_displays_is_its_last_line(path):  # a table in the middle of a cell is made and never seen
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code" and "raises-exception" not in cell["metadata"].get("tags", ()):
            before = [node.value for node in ast.parse("".join(cell["source"])).body[:-1] if isinstance(node, ast.Expr)]
            names = {getattr(call.func, "id", "") for call in before if isinstance(call, ast.Call)}
            assert not names & {"table", "show_source", "beside"}, cell["id"]


@pytest.mark.parametrize("path", sorted(NNZIP.glob("*/*.py")) + sorted(NNZIP.glob("*.py")), ids=lambda path: path.stem)
def test_a_module_that_a_chapter_is_about_names_the_chapter(path):
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).split("\n")[0]
    named = re.search(r"\(chapter (\w+)\)\.$", said)
    if path.parent.name in ("compression", "nn") and path.stem != "__init__":
        assert named, said
    assert not named or named[1] in FILES
