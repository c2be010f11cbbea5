"""The map from the articles to the chapters, and the glossary: chapters/README.md, from sections.csv and glossary.csv.

    python chapters/articles/reading_map.py        writes it; a test holds the file to what this makes

In both tables [04 §2] is section 2 of chapter 04, [05b §3] section 3 of chapter 05b, and [13] is chapter 13; the links
are made from the chapters' headings. Dotted names in backticks are the library's. What chapter 13 says of a section is
linked from `articles.findings`, not by hand.
"""

import csv
import json
import re
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHAPTERS = HERE.parent
if __name__ == "__main__":
    sys.path.insert(0, str(CHAPTERS))

from articles.findings import FINDINGS, anchor

TITLES = {
    "A0": "Python深度学习实践：神经网络的量化和压缩",
    "A1": "第十三章：量化和模型压缩",
    "A2": "神经网络优化：量化与剪枝",
    "A3": "神经网络压缩技术与性能优化",
    "A4": "神经网络优化：量化与蒸馏",
}
BEGINNING = """# The chapters, and the articles beside them

A teacher starts with [INSTRUCTORS.md](INSTRUCTORS.md).

## Where to begin

**One afternoon**, nine sections and the five functions that they are about. Write each as its exercise, where it stands:

| read | function | what it is |
|---|---|---|
| [02 §2] · [02 §4] | `quantization.quantize` | a number becomes the nearest point of a grid; what a bit buys |
| [02 §3] · [02 §5] | `quantization.choose_qparams` | where the grid lies, and who shares it |
| [04 §1] · [04 §6] | `hadamard.hadamard_transform` | a large number is spread over all others, and the grid gets finer |
| [05 §2] · [05 §6] | `pruning.magnitude_mask` | the smallest weights go, and the others learn to do without them |
| [06 §3] | `distillation.distillation_loss` | a small network learns from all ten answers of a large one |

**The whole book**: an hour to read a chapter and its code, more with the exercises. What each one needs:

| chapter | needs |
|---|---|
| [01] networks | Python, NumPy, the chain rule |
| [02] quantization | [01 §7], the two networks |
| [03] integer products | [02 §2] |
| [04] Hadamard rotation | [02 §2] to [02 §5] |
| [05] pruning | [01 §5] and [01 §6], the loss and the training |
| [05b] structure | [05 §2] |
| [06] distillation | [01 §5]; for its section 9, [02 §5] and [05 §6] |
| [07] codebooks | [02 §4] to [02 §6] |
| [08] integer networks | [02 §7], [03 §5], [03 §6] |
| [09] training through the rounding | [02 §5], [01 §6] |
| [09b] training in sixteen bits | [01 §6] |
| [10] reconstruction | [02 §6], [05 §3] |
| [11] mixed precision | [02 §5], [10 §2] |
| [12] files | [05b §2], [07 §2] |
| [13] the articles | one of the articles, open beside it |

## Beside the articles

Open an article, find its section here, and see where this book does the same: 02 §5 is section 5 of chapter 02. Where a
claim of the section was checked, the last link leads to [chapter 13](13_articles.ipynb), which goes through the articles:
what is printed, what it gives, what is right. Introductions, installation, lists of uses and books, and summaries are left
out. Each chapter ends with the same map the other way round. The titles of A2, A3 and A4 are ours; their texts have none.
(This page is made by `articles/reading_map.py` from the tables beside it.)
"""
HEADS = ("section", "what it is about", "here")
FRIENDS = """## Glossary

**Bold** Chinese words are the field's own, which the articles do not use. A *false friend* misleads: the article means
another thing, or two.
"""


def read(name):
    """Return the rows of a table of this folder, as dicts."""
    with open(HERE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files():  # -> {"02": "02_quantization.ipynb", ..., "05b": "05b_structure.ipynb", ...}
    return {
        path.name.partition("_")[0]: path.name
        for path in sorted(CHAPTERS.glob("[0-9]*.ipynb"))
        if ".zh." not in path.name
    }


@cache
def headings(file):  # -> {"5": "5. One scale for all, or one for each", ...}
    """Return a chapter's numbered headings by their numbers."""
    cells = json.loads((CHAPTERS / file).read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {
        number: heading for heading, number in re.findall(r"^## ((\d+)\..*)$", text, re.MULTILINE)
    }


def linked(text, words=False):
    """Return a cell with a link to every place it names, with its heading if `words`; KeyError if it is not there."""

    def link(match):
        chapter, section = match.groups()
        file = files()[chapter]
        if section is None:
            return f"[{chapter}]({file})"
        heading = headings(file)[section]
        label = heading if words else section
        return f"[{chapter} §{label}]({file}{anchor(heading)})"

    return re.sub(r"\[(\d\d[a-z]?)(?: §(\d+))?\]", link, text)


def findings(article, section):
    """Return what chapter 13 has on a section, or on a part of it, in its order."""
    key = f"{article} {section}"
    return [
        finding
        for finding in FINDINGS
        if any(place == key or key.startswith(f"{place}.") for place in finding.places)
    ]


def places(row, say=str, chapter_13="13_articles.ipynb"):
    """Return the places of a row of sections.csv as links: sections of chapters, then what chapter 13 has."""
    links = [linked(row["here"], words=True)] if row["here"] else []
    links += [
        f"[13 {say(topic(finding))}]({chapter_13}{finding.anchor})"
        for finding in findings(row["article"], row["section"])
    ]
    return " · ".join(links)


def topic(finding):  # "the bit width"
    return finding.heading.partition(": ")[2]


def beside(key):  # "02" or "A2"
    """Display what the articles have beside each section of a chapter, or where an article's sections are done."""
    from IPython.display import Markdown

    rows = read("sections.csv")
    if key in TITLES:
        lines = [
            [f"**{row['section']}** {row['about']}", places(row, chapter_13="")]
            for row in rows
            if row["article"] == key
        ]
        return Markdown(folded("Section by section", ["in the article", "in this book"], lines))
    lines = ["| here | in the articles |", "|---|---|"]
    for number, heading in headings(files()[key]).items():
        there = [
            f"**{row['article']} {row['section']}** {row['about']}"
            for row in rows
            if f"[{key} §{number}]" in row["here"]
        ]
        if there:
            lines.append(f"| [{heading}]({anchor(heading)}) | {'; '.join(there)} |")
    return Markdown("\n".join(lines))


def phrases():
    """Return the English of the map that a translation replaces; the glossary is in both languages as it is."""
    return [
        BEGINNING,
        FRIENDS,
        *HEADS,
        *dict.fromkeys(row["about"] for row in read("sections.csv")),
        *dict.fromkeys(map(topic, FINDINGS)),
    ]


def render(say=str):
    """Return the text of chapters/README.md; `say` translates a phrase."""
    heads, parts = [*map(say, HEADS)], [linked(say(BEGINNING))]
    for article, title in TITLES.items():
        rows = [
            [row["section"], say(row["about"]), places(row, say), row["functions"]]
            for row in read("sections.csv")
            if row["article"] == article
        ]
        parts.append(folded(f"{article} {title}", [*heads, "`nnzip.`"], rows))
    rows = [
        [row["word"], row["english"], linked(row["here"], words=True), row["articles"]]
        for row in read("glossary.csv")
    ]
    summary = f"中文, English, nnzip: {len(rows)}"
    parts += [say(FRIENDS), folded(summary, ["中文", "English", "nnzip", "A0 – A4"], rows)]
    return "\n".join(parts)


def folded(summary, heads, rows):
    """Return a Markdown table behind a line that unfolds it; GitHub wants the blank lines."""
    lines = [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return f"<details>\n<summary>{summary}</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


if __name__ == "__main__":
    (CHAPTERS / "README.md").write_text(render(), encoding="utf-8")
