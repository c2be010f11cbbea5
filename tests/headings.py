"""The English chapters and their headings."""

import json
import re
from functools import cache
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[1] / "chapters"
FILES = {  # "05b": its path
    path.name.partition("_")[0]: path for path in sorted(CHAPTERS.glob("[0-9]*.ipynb")) if ".zh" not in path.name
}


@cache
def headings(number):
    """The texts of a chapter's headings, in their order; its number is such as 05 or 05b."""
    cells = json.loads(FILES[number].read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return [heading.strip() for heading in re.findall("^#+ (.*)", text, re.MULTILINE)]
