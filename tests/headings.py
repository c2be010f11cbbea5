"""The headings of the chapters."""

import json
import re
from functools import cache
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1] / "chapters"


@cache
def headings(number):
    """The texts of a chapter's headings, in their order; its number is such as 05 or 05b."""
    [path] = CHAPTERS.glob(f"{number}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return [heading.strip() for heading in re.findall("^#+ (.*)", text, re.MULTILINE)]
