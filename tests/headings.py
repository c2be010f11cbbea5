"""The headings of the chapters."""

import json
from functools import cache
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1] / "chapters"


@cache
def headings(number):
    """The texts of a chapter's second-level headings, in their order; its number is such as 05 or 05b."""
    [path] = CHAPTERS.glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if cell["cell_type"] == "markdown" for line in "".join(cell["source"]).splitlines()]
    return [line[3:].strip() for line in lines if line.startswith("## ")]
