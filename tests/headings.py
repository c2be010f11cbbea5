"""The English chapters and their headings."""

import json
from functools import cache
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1] / "chapters"
FILES = {  # "05b": its path
    path.name.partition("_")[0]: path for path in sorted(CHAPTERS.glob("[0-9]*.ipynb")) if ".zh" not in path.name
}


@cache
def headings(number):
    """The texts of a chapter's second-level headings, in their order; its number is such as 05 or 05b."""
    cells = json.loads(FILES[number].read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    return [line[3:].strip() for line in lines if line.startswith("## ")]
