"""README.md: short, its snippets print what it says, its tables are the committed records, its links lead somewhere."""

import csv
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


ROWS = {  # how README names a technique of figures/results.csv, by a piece of its row
    "one scale a layer": "per_tensor",
    "one scale a neuron": "per_channel",
    "one scale a filter": "per_channel",
    "rotated first": "rotated_per_channel",
    "all in integers": "integer_8",
    "distilled through": "distilled",
}


def test_the_table_of_bits_is_the_committed_one():
    with open(ROOT / "figures" / "results.csv", newline="") as file:
        errors = {(r["network"], r["technique"], int(r["bits"])): float(r["error"]) for r in csv.DictReader(file)}
    table = TEXT[TEXT.index("| | float | 8 bits |") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 10
    for line in table:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        network = "lenet_5" if table.index(line) >= 5 else "lenet_300_100"
        technique = next(technique for piece, technique in ROWS.items() if piece in name)
        for bits, cell in zip((32, 8, 4, 3, 2), cells, strict=True):
            error = errors.get((network, technique, bits))
            assert cell == ("" if error is None else f"{100 * error:.2f} %"), (name, bits)


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
