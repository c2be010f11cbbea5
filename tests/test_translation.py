"""The Chinese edition is in step with the English one, text by text, and is what the builder makes of the two."""

import csv
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("translation", ROOT / ".ci" / "translation.py")
translation = importlib.util.module_from_spec(spec)
spec.loader.exec_module(translation)

SOURCES = translation.sources()
MATHS = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
EMPHASIS = re.compile(r"(?<!\*)(\*{1,2})([^*\n]+)\1(?!\*)")
LINK = re.compile(r"\]\(([^)\s]*)\)")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?")
with open(ROOT / "chapters" / "articles" / "glossary.csv", encoding="utf-8", newline="") as file:
    GLOSSARY = [(row["word"].replace("*", ""), row["english"]) for row in csv.DictReader(file)]
TERMS = {re.split(r"[,.;(]", english)[0].strip().lower(): re.split("[、（ /]", word) for word, english in GLOSSARY}


def kept(text):
    """Return what a translation leaves as it is: formulas, code, links, numbers, heads, shapes of tables."""
    found = {}
    for name, pattern in (("code", CODE), ("formulas", MATHS), ("links", LINK), ("numbers", NUMBER)):
        found[name] = sorted(pattern.findall(text))
        text = pattern.sub(" ", text)
    for name in ("code", "formulas"):  # a name may be said again where English has "it"
        found[name] = sorted(set(found[name]))
    found["headings"] = [(level, number) for level, number in re.findall(r"^(#+) ([\d.]*)", text, re.MULTILINE)]
    found["tables"] = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    return found


def lost(english, chinese):
    """Return what differs between a text and its translation, a line each."""
    before, after = kept(english), kept(chinese)
    lines = [f"{name}: {before[name]} became {after[name]}" for name in before if before[name] != after[name]]
    bold = {term.lower() for term in re.findall(r"\*\*([^*]+)\*\*", english)} & set(TERMS)
    lines += [f"{term} is {TERMS[term]}" for term in bold if not any(word and word in chinese for word in TERMS[term])]
    if chinese_share(chinese) < 0.6 and len(re.findall("[a-z]{3,}", MATHS.sub("", CODE.sub("", english)))) > 5:
        lines.append(f"{chinese_share(chinese):.0%} Chinese")
    return lines + [f"{mark} is shown as it is, its stars too" for mark in starred(chinese)]


def starred(text):
    """Return the emphasis that Markdown does not see: a letter beside it and, inside, punctuation, as in **字。**字."""
    text = MATHS.sub("$", CODE.sub("`", text))
    marks = [(text[: m.start()][-1:], m, text[m.end() :][:1]) for m in EMPHASIS.finditer(text)]
    return [m[0] for before, m, after in marks if re.search(r"^\w[^\w\s]|[^\w\s]\w$", f"{before:1}{m[2]}{after:1}")]


def chinese_share(text):
    """Return how much is Chinese, a character for a word: outside formulas, code, links, English titles of papers."""
    for pattern in (CODE, MATHS, LINK, re.compile(r"\*[^*\n\u4e00-\u9fff]+\*(?!\*)")):
        text = pattern.sub(" ", text)
    chinese = len(re.findall("[\u4e00-\u9fff]", text))
    return chinese / max(1, chinese + len(re.findall("[A-Za-z]+", text)))


@pytest.mark.parametrize("name", SOURCES)
def test_every_text_has_its_translation_in_order_and_nothing_is_lost_in_it(name):
    wrong = translation.problems(name, SOURCES[name])
    for english, chinese in translation.translation(name, SOURCES[name]).items():
        if not chinese.startswith(translation.STALE):
            wrong += [f"{name}: {english[:60]!r}: {line}" for line in lost(english, chinese)]
    assert not wrong, "\n".join(wrong)


def test_few_texts_wait_for_their_translation():
    waiting = [
        block for name in SOURCES for block in translation.blocks(translation.CHAPTERS / "zh" / name) if block[2]
    ]
    assert len(waiting) <= 10


def test_committed_pages_are_what_the_builder_makes():
    for page, text in translation.Edition().build().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name}: run python .ci/translation.py"


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("The error is 1.42 %.", "误差是 1.24 %。"),  # another number
        ("The step is $s/2$.", "步长是一半。"),  # a formula lost
        ("See [chapter 02](02_quantization.ipynb).", "见第 02 章。"),  # a link lost
        ("Call `quantize`.", "调用 `dequantize`。"),  # other code
        ("## 3. Words", "### 3. 词"),  # another level
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| 甲 | 乙 |\n|---|---|"),  # a row lost
        ("Nobody has looked at these words so far, none at all.", "Nobody has looked 它们."),  # English
        ("**Look** at it.", "**看。**它。"),  # Markdown would show the stars
        ("**Pruning** is what comes next.", "接下来是**蒸馏**。"),  # another word than the glossary's
    ],
)
def test_what_a_translation_loses_is_seen(english, chinese):
    assert lost(english, chinese)


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("*Nobody has looked at these words so far.*", "*这些词至今没有人看过。*"),  # a caption, all of it in italics
        ("`floor` rounds down: it has a bias.", "`floor` 向下取整，所以 `floor` 有偏差。"),  # a name said again
        ("**Look**: *this one*.", "**看**：就是**这一个**。（**那个。**）"),  # punctuation, but on both sides
    ],
)
def test_what_a_translation_may_do_is_not_reported(english, chinese):
    assert not lost(english, chinese)


def test_a_changed_moved_or_missing_text_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "CHAPTERS", tmp_path)
    english = [("02-01", "One."), ("02-02", "Two.")]
    there = [f"<!-- {name} {translation.key(text)} -->\n字" for name, text in english]
    for blocks, texts, says in (
        (there, english, []),
        (there[::-1], english, ["the blocks are not in the order"]),
        (there[:1], english, ["no block <!-- 02-02"]),
        (there, [english[0], ("02-02", "Three.")], ["no block <!-- 02-02", "no English text for <!-- 02-02"]),
    ):
        (tmp_path / "zh").mkdir(exist_ok=True)
        (tmp_path / "zh" / "02.md").write_text("\n\n".join(blocks), encoding="utf-8")
        found = translation.problems("02.md", texts)
        assert len(found) == len(says) and all(part in line for part, line in zip(says, found, strict=True))
