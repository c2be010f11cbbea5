"""Every measured number in a chapter's text is printed by one of its cells, or stands in a record of figures/."""

import csv
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from headings import FILES

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = [*FILES.values()]
ELSEWHERE = {  # numbers that no cell of ours can print
    "09b_low_precision": {"65,536"},  # as many terms as the example supposes
    "13_articles": {"28.4"},  # 10 + 20 (9300 - 1000) / 9000, TensorFlow's last pruning step
}
NUMBER = r"(?<![\w.^{])-?\d+(?:,\d{3})*(?:\.\d+)?"
MEASURED = re.compile(rf"({NUMBER})(?:(?:, | and | to | or |/){NUMBER})*\s?(?:\\?%|dB|bytes?|kB|MB|times)")


def claimed(text):
    """Return the numbers before a unit in a text, as it writes them, without formulas and code.

    >>> claimed("It costs 0.2, 1.3 and 25 % at 4 bits, in 1,024 bytes; $x = 7$ %")
    ['0.2', '1.3', '25', '1,024']
    """
    text = re.sub(r"`[^`]*`|\$\$?[^$]*\$\$?|\]\([^)]*\)", " ", text)
    return [number for found in MEASURED.finditer(text) for number in re.findall(NUMBER, found.group())]


@cache
def shown_in(path):
    """Return all numbers that the cells of a chapter print, those of its records, and the whole ones it is given."""
    printed, code = [], ""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            code += "".join(cell["source"]) + "\n"
            for output in cell["outputs"]:
                data = output.get("data", {})
                printed += ["".join(data[kind]) for kind in ("text/plain", "text/markdown") if kind in data]
                printed.append("".join(output.get("text", "")))
    numbers = [float(number.replace(",", "")) for text in printed for number in re.findall(NUMBER, text)]
    numbers += [float(number) for number in re.findall(r"\b0\.\d+\b", code)]
    numbers += [float(number) for number in re.findall(r"(?<![\w.])\d+", code)]
    for name in re.findall(r"\w+\.csv", code):
        numbers += in_records(ROOT / "figures" / name)
    return np.unique(np.abs(numbers))


@cache
def in_records(path):
    """Return the numbers of a file of records: each, and the means over the seeds of what is measured at a point."""
    numbers, seeds = [], {}
    with open(path, encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            numbers += [float(value) for value in record.values() if re.fullmatch(NUMBER, value)]
            if "seed" in record and record.get("error"):
                point = tuple(
                    value for key, value in record.items() if key not in ("seed", "error", "sqnr_db", "bytes")
                )
                seeds.setdefault(point, []).append(float(record["error"]))
    return numbers + [float(np.mean(errors)) for errors in seeds.values()]


def is_shown(number, shown):
    """Is a number of the text one that is shown, as it is or as a fraction, in the digits that the text gives?"""
    value, digits = abs(float(number.replace(",", ""))), len(number.partition(".")[2])
    room = 0.5 * 10.0**-digits * (1 + 1e-9)
    return any(np.any(np.abs(shown * scale - value) <= room) for scale in (1, 100))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_numbers_in_the_text_are_shown(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    text = text.partition("## Papers")[0]
    shown = shown_in(path)
    missing = {number for number in claimed(text) if not is_shown(number, shown)}
    assert not missing - ELSEWHERE.get(path.stem, set())
