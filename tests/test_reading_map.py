"""The map from articles to chapters, the chapters' maps back, and the glossary: all that they name exists."""

import importlib
import inspect
import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from articles import reading_map
from articles.findings import FINDINGS
from headings import FILES as CHAPTERS
from headings import headings

from nnzip.quantization import ROUNDINGS

ROOT = Path(__file__).resolve().parent.parent
TECHNIQUES = [number for number in CHAPTERS if number != "13"]  # 13 goes through the articles in their own order

# The sections of the five articles, in their order; a question at the end is "9 Q1" where the article numbers it.
SECTIONS = {
    "A0": "1, 2.1, 2.2, 2.3, 3.1, 3.2.1, 3.2.2, 3.3.1, 3.3.2, 3.4, 4.1, 4.2, 4.3, 5.1, 5.2, 5.3, 6, 7.1, 7.2, 7.3, "
    "8.1, 8.2, 8.3, 8.4, 9.1, 9.2, 9.3",
    "A1": "1, 2, 3.1, 3.2, 3.3, 3.4, 4.1, 4.2, 4.3, 5.1, 5.2, 5.3, 5.4, 6.1, 6.2, 6.3, 6.4, 7.1, 7.2, 7.3, "
    "8.1, 8.2, 8.3, 8.4, 9 Q1, 9 Q2, 9 Q3",
    "A2": "1, 2.1, 2.2, 3.1, 3.2, 4.1, 4.2, 5, 6 Q1, 6 Q2, 6 Q3, 6 Q4",
    "A3": "1, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 3.1, 3.2.1, 3.2.2, 3.3, 3.4, 4.1, 4.2, 4.3, 5.1, 5.2, 5.3, 5.4, 6, "
    "7.1, 7.2, 7.3, 8.1, 8.2, 8.3, 8.4, 9.1, 9.2, 9.3",
    "A4": "1, 2.1, 2.2, 3.1.1, 3.1.2, 3.1.3, 3.2.1, 3.2.2, 3.2.3, 4.1, 4.2, 5, 6, 7",
}
SECTIONS = {article: text.split(", ") for article, text in SECTIONS.items()}

# Introductions, uses, installation, summaries: nothing in them to look up.
LEFT_OUT = {
    "A0": "1, 2.3, 3.4, 5.1, 5.3, 6, 7.1, 8.1, 8.4",
    "A1": "1, 3.4, 5.1, 5.3, 6.1, 6.2, 6.3, 6.4, 7.1, 8.1, 8.4",
    "A2": "",
    "A3": "3.1, 3.4, 5.1, 5.3, 6, 7.1, 7.2, 8.1, 8.4",
    "A4": "7",
}
NUMBER = r"\d+(?:\.\d+)*(?: Q\d)?"


# ---------------------------------------------------------------- reading


def rows_of(text, heads):
    """Return the rows, as lists of cells, of all tables whose first line is `heads`."""
    rows, inside = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = line.startswith("|") and (inside or cells == heads)
        if inside and cells != heads and set("".join(cells)) != {"-"}:
            assert len(cells) == len(heads), f"{len(cells)} cells under {len(heads)} heads: {line}"
            rows.append(cells)
    return rows


@cache
def article_rows():
    """Return (article, section, linked places, functions) for each row of the map."""
    rows = reading_map.read("sections.csv")
    return [(r["article"], r["section"], reading_map.places(r), r["functions"]) for r in rows]


def glossary():
    rows = reading_map.read("glossary.csv")
    return [(r["word"], r["english"], reading_map.linked(r["here"], words=True), r["articles"]) for r in rows]


def links(text):
    return re.findall(r"\[([^\]]*)\]\(([^)]*)\)", text)


def keys(text):
    """Return every article section that a text names.

    >>> keys("A0 3.1, 3.2.1 (note); A2 6 Q1, 6 Q2")
    ['A0 3.1', 'A0 3.2.1', 'A2 6 Q1', 'A2 6 Q2']
    """
    groups = re.findall(rf"\b(A\d) ({NUMBER}(?:, {NUMBER})*)", text)
    return [f"{article} {number}" for article, numbers in groups for number in numbers.split(", ")]


def names(text):
    """Return the dotted names in backticks, each with the options in brackets behind it."""
    found = re.findall(r"`(\w+(?:\.\w+)+)`(?: \((`[^)]*`)\))?", text)
    return [(name, re.findall(r"`(\w+)", options)) for name, options in found]


# ---------------------------------------------------------------- checking


def check_names(text):
    for name, options in names(text):
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(f"nnzip.{module}"), attribute)
        allowed = {*inspect.signature(thing).parameters, *ROUNDINGS}
        assert set(options) <= allowed, f"{name} has no option {set(options) - allowed}"


def check_place(label, target):
    """Hold a link to a chapter, to its section ("02 §5" or "02 §5. One scale") or to a finding, to what is there."""
    file, _, anchor = target.partition("#")
    assert (ROOT / "chapters" / file).is_file(), f"{target}: no such file"
    if not anchor:
        return
    number = Path(file).name.partition("_")[0]
    heading = next((text for text in headings(number) if text.replace(" ", "-") == anchor), None)
    assert heading, f"{target}: no such heading"
    if number == "13":
        assert label == f"13 {heading.partition(': ')[2]}"
    else:
        allowed = f"{number} §{heading}", f"{number} §{heading.split('.')[0]}"
        assert label in allowed, f"{label} leads to section {heading!r} of chapter {number}"


def check_keys(text):
    for key in keys(text):
        article, section = key.split(" ", 1)
        assert section in SECTIONS[article], f"{article} has no section {section}"


@pytest.mark.parametrize("article", SECTIONS)
def test_the_map_has_every_section_of_an_article_in_its_order(article):
    left_out = LEFT_OUT[article].split(", ")
    wanted = [section for section in SECTIONS[article] if section not in left_out]
    assert [row[1] for row in article_rows() if row[0] == article] == wanted


@pytest.mark.parametrize(
    ("here", "functions"), [row[2:] for row in article_rows()], ids=[" ".join(row[:2]) for row in article_rows()]
)
def test_what_a_row_of_the_map_names_exists(here, functions):
    for label, target in links(here):
        check_place(label, target)
    assert re.sub(r"\[[^\]]*\]\([^)]*\)| · ", "", here) == "" and here, "nothing but places"
    check_names(functions)
    assert len(names(functions)) == functions.count("`") // 2


def test_every_section_that_has_a_finding_leads_to_it_and_only_those():
    linked = {
        (f"{article} {section}", unquote(target).partition("#")[2])
        for article, section, here, _ in article_rows()
        for _, target in links(here)
        if target.startswith("13_")
    }
    wanted = set()
    for finding in FINDINGS:
        for place in finding.places:
            article, section = place.split(" ", 1)
            parts = [part for part in SECTIONS[article] if part == section or part.startswith(f"{section}.")]
            assert parts, f"{finding.heading}: {article} has no section {section}"
            mapped = [part for part in parts if part not in LEFT_OUT[article].split(", ")]
            assert mapped, f"{finding.heading}: no row of the map for {place}"
            wanted |= {(f"{article} {part}", finding.heading.replace(" ", "-")) for part in mapped}
    assert linked == wanted
    assert not any("[13]" in row["here"] for row in reading_map.read("sections.csv")), "computed, not by hand"


@pytest.mark.parametrize("article", SECTIONS)
def test_chapter_13_shows_the_rows_of_the_map_and_no_table_of_its_own(article):
    cells = json.loads(CHAPTERS["13"].read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "".join(cell["source"]).endswith(f'beside("{article}")')]
    shown = "".join(cell["outputs"][0]["data"]["text/markdown"])
    rows = rows_of(shown, ["in the article", "in this book"])
    of_map = [row for row in reading_map.read("sections.csv") if row["article"] == article]
    assert [row[0] for row in rows] == [f"**{row['section']}** {row['about']}" for row in of_map]
    for shown_row, row in zip(rows, of_map, strict=True):
        assert shown_row[1] == reading_map.places(row, chapter_13="")
        for _, target in links(shown_row[1]):
            assert not target.startswith("#") or target[1:] in {h.replace(" ", "-") for h in headings("13")}
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert not re.search(r"^\| A\d \| concept", text, re.MULTILINE)


@pytest.mark.parametrize("number", TECHNIQUES)
def test_a_chapter_ends_with_the_same_map_the_other_way_round(number):
    cells = json.loads(CHAPTERS[number].read_text(encoding="utf-8"))["cells"]
    assert "".join(cells[-1]["source"]).endswith(f'beside("{number}")')
    shown = "".join(cells[-1]["outputs"][0]["data"]["text/markdown"])
    rows = rows_of(shown, ["here", "in the articles"])
    there = {
        (f"{article} {section}", unquote(target).partition("#")[2])
        for article, section, here, _ in article_rows()
        for _, target in links(here)
        if target.startswith(f"{number}_")
    }
    pairs = [(key, links(row[0])[0][1][1:]) for row in rows for key in re.findall(rf"\*\*(A\d {NUMBER})\*\*", row[1])]
    assert set(pairs) == there and len(pairs) == len(there)
    places = [headings(number).index(links(row[0])[0][0]) for row in rows]
    assert places == sorted(set(places)), "the sections of the chapter in their order, each once"
    for row in rows:  # Jupyter's anchor: the heading with hyphens for blanks
        target = links(row[0])[0][1]
        assert re.fullmatch(r"#[\w.,:;?!+-]+", target), "a character that browsers or MathJax would change"


@pytest.mark.parametrize("number", TECHNIQUES)
def test_the_headings_of_a_chapter_are_numbered_in_order(number):
    numbered = [heading for heading in headings(number) if re.match(r"\d+\. ", heading)]
    assert [int(heading.split(".")[0]) for heading in numbered] == list(range(1, len(numbered) + 1))


def test_the_page_is_what_the_tables_make():
    assert (ROOT / "chapters" / "README.md").read_text(encoding="utf-8") == reading_map.render()


def test_the_folded_tables_of_the_page_are_rendered():  # GitHub reads Markdown only after a blank line
    page = reading_map.render()
    assert not re.search(r"</(?:summary|details)>\n(?!\n|<details>|\Z)", page)
    assert page.count("<details>") == page.count("</details>") == len(SECTIONS) + 1


def test_the_glossary_has_each_word_once():
    words = [word.replace("*", "") for row in glossary() for word in row[0].split("、")]
    assert len(words) >= 60 and all(words)
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize(("word", "english", "here", "articles"), glossary())
def test_what_the_glossary_names_exists(word, english, here, articles):
    assert english and here
    check_names(here)
    check_keys(articles)
    check_keys(english)
    for label, target in links(here):
        check_place(label, target)
    only_the_field = all(part.startswith("**") for part in word.split("、"))
    assert bool(articles) != only_the_field, "where the articles have it; none for a word that they lack"
    assert ", ".join(keys(articles)) == articles
