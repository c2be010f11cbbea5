"""Build the Chinese edition: NN_stem.zh.ipynb, README.zh.md and the map, from the English pages and chapters/zh.

    python .ci/translation.py        (or: python .ci/chapters.py --zh)

chapters/zh/NN_stem.md has the Chinese of a chapter's texts in their order: its markdown cells and the alt texts of its
figures. Each stands under a line such as <!-- 02-07 3fa9c1d2 -->: the cell's id, for people, and for the machine the
first eight hex digits of the SHA-256 of the English text. readme.md, map.md and findings.md do the same for README.md's
sections, the phrases of the map and the claims of chapter 13. Code and outputs are the English chapter's: nothing
runs twice. Where an English text changed and its translation must wait, <!-- 02-07 3fa9c1d2 stale --> alone is enough:
the page then shows the English.
"""

import hashlib
import itertools
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = ROOT / "chapters"
sys.path.insert(0, str(CHAPTERS))

from articles import reading_map  # noqa: E402
from articles.findings import FINDINGS, anchor  # noqa: E402

HEAD = re.compile(r"^<!-- (.+?) ([0-9a-f]{8})( stale)? -->$", re.MULTILINE)
LINK = re.compile(r"\[([^\[\]]*)\]\(([^()#\s]*)(#[^()\s]*)?\)")
STALE = "> 这一段的英文已更新，译文待补，先看英文。\n\n"
FRAMES = {  # what findings and the map say around their claims, in outputs
    "**Printed**: ": "**原文**：",
    "**Wrong**; in truth: ": "**错**。实际上：",
    "**Right**: ": "**对**：",
    "**Unclear**: ": "**不明确**：",
    "**In this book**: ": "**本书**：",
    "; chapter [": "；章节 [",
    " The article says ": " 文章给出 ",
    "` gives ": "` 得到 ",
    "| where | verdict | printed | in truth | in this book |": "| 位置 | 结论 | 原文 | 实际 | 本书 |",
    "| wrong |": "| 错 |",
    "| right |": "| 对 |",
    "| unclear |": "| 不明确 |",
    "| here | in the articles |": "| 本章 | 文章 |",
    "| in the article | in this book |": "| 文章 | 本书 |",
    "<summary>Section by section</summary>": "<summary>逐节对照</summary>",
    "<summary>All findings, a line each</summary>": "<summary>全部结论，每条一行</summary>",
}


def key(text):
    """Return the digits by which a translation finds its text."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:8]


def blocks(path):  # -> [(name, key, whether it is stale, text)]
    parts = HEAD.split(path.read_text(encoding="utf-8"))[1:] if path.exists() else []
    return [(n, k, bool(s), t.strip("\n")) for n, k, s, t in zip(*(parts[i::4] for i in range(4)), strict=True)]


def texts(page):
    """Return the texts of an English page that are to be translated, with the names of their places."""
    if page.suffix == ".md":
        parts = re.split(r"^(?=## )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return [(f"readme-{n}", part.strip("\n")) for n, part in enumerate(part for part in parts if part.strip())]
    found = []
    for cell in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        alts = [output["metadata"]["image/png"]["alt"] for output in cell.get("outputs", []) if has_alt(output)]
        said = ["".join(cell["source"])] if cell["cell_type"] == "markdown" else alts
        found += [(cell["id"], text) for text in said]
    return found


def has_alt(output):
    return "alt" in output.get("metadata", {}).get("image/png", {})


def phrases():  # -> {file of chapters/zh: its texts}
    claims = [(f.heading, text) for f in FINDINGS for text in (f.claim, f.truth)]
    return {"findings.md": claims, "map.md": [("map", phrase) for phrase in reading_map.phrases()]}


def sources():  # -> {file of chapters/zh: the English texts it should have}, for the files that are there
    chapters = {f"{Path(file).stem}.md": CHAPTERS / file for file in reading_map.files().values()}
    found = {name: texts(page) for name, page in ({"readme.md": ROOT / "README.md"} | chapters).items()} | phrases()
    return {name: found[name] for name in sorted(found) if (CHAPTERS / "zh" / name).exists()}


def problems(name, english):
    """Return what is wrong with a translation as a whole, a line each."""
    there = [k for _, k, _, _ in blocks(CHAPTERS / "zh" / name)]
    wanted = list(dict.fromkeys(key(text) for _, text in english))
    lines = [f"{name}: no block <!-- {n} {key(text)} -->" for n, text in english if key(text) not in there]
    lines += [
        f"{name}: no English text for <!-- {n} {k} -->"
        for n, k, *_ in blocks(CHAPTERS / "zh" / name)
        if k not in wanted
    ]
    return lines or ([] if there == wanted else [f"{name}: the blocks are not in the order of the English texts"])


def translation(name, english):  # -> {English text: Chinese text}
    of = {key(text): text for _, text in english}
    return {of[k]: STALE + of[k] if stale else text for _, k, stale, text in blocks(CHAPTERS / "zh" / name) if k in of}


def headings(text):
    return re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def titles(words):  # -> {English heading: Chinese heading}
    pairs = (zip(headings(english), headings(chinese), strict=False) for english, chinese in words.items())
    return dict(itertools.chain(*pairs))


def anchors(heading):
    """Return the names of a heading's place: Jupyter's and GitHub's."""
    return anchor(heading), anchor(re.sub(r"[^\w\- ]", "", heading.lower()))


def twin(page):
    """Return the page in the other language."""
    other = page.stem.removesuffix(".zh") if page.stem.endswith(".zh") else f"{page.stem}.zh"
    return page.with_name(other + page.suffix)


class Edition:
    """All translations that there are: of texts, by file, and of headings, by page."""

    def __init__(self):
        self.words = {name: translation(name, english) for name, english in sources().items()}
        names = {f"{name.removesuffix('.md')}.ipynb": name for name in self.words if name[0].isdigit()}
        self.pages = {CHAPTERS / page: self.words[name] for page, name in names.items()}
        if "readme.md" in self.words:
            self.pages[ROOT / "README.md"] = self.words["readme.md"]
        with_map = self.pages | ({CHAPTERS / "README.md": self.words["map.md"]} if "map.md" in self.words else {})
        self.titles = {page: titles(words) for page, words in with_map.items()}
        claims = {e.replace("|", r"\|"): z.replace("|", r"\|") for e, z in self.words.get("findings.md", {}).items()}
        of_map = self.words.get("map.md", {}).items()
        abouts = {f"** {e}": f"** {z}" for e, z in of_map} | {f"[13 {e}]": f"[13 {z}]" for e, z in of_map}
        self.phrases = FRAMES | self.words.get("findings.md", {}) | claims | abouts

    def linked(self, text, here):
        """Return a text with its links led to the Chinese pages and headings, where there are any."""

        def link(match):
            said, target, place = match[1], match[2], match[3] or ""
            page = (here.parent / target).resolve() if target else here
            for english, chinese in self.titles.get(page, {}).items():
                for old, new in zip(anchors(english), anchors(chinese), strict=True):
                    if place == old:
                        said, place = said.replace(english, chinese), new
            there = page in self.titles or twin(page) == here
            return f"[{said}]({twin(Path(target)) if target and there and page != here else target}{place})"

        return LINK.sub(link, text)

    def said(self, text, here):
        """Return what a cell printed of the articles with its phrases in Chinese, long ones first."""
        for english in sorted(self.phrases, key=len, reverse=True):
            text = text.replace(english, self.phrases[english])
        text = re.sub(r"(?<=[\u4e00-\u9fff）”])\.(?=\s|$)", "。", text).replace("; **", "；**")
        return self.linked(text, here)

    def notebook(self, page):
        """Return the Chinese notebook: the English one, with its texts replaced."""
        notebook = json.loads(page.read_text(encoding="utf-8"))
        words = self.pages[page]
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                cell["source"] = self.linked(words.get(source, source), page).splitlines(keepends=True)
            for output in cell.get("outputs", []):
                if has_alt(output):
                    alt = output["metadata"]["image/png"]
                    alt["alt"] = words.get(alt["alt"], alt["alt"])
                if "text/markdown" in output.get("data", {}) and re.search(r"\b(beside|finding|FINDINGS)\b", source):
                    markdown = self.said("".join(output["data"]["text/markdown"]), page)
                    output["data"]["text/markdown"] = markdown.splitlines(keepends=True)
        return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"

    def build(self):  # -> {Chinese page: its text}
        pages = {}
        for page, words in self.pages.items():
            whole = "\n\n".join(words.get(text, text) for _, text in texts(page)) if page.suffix == ".md" else ""
            pages[twin(page)] = self.linked(whole, page) + "\n" if whole else self.notebook(page)
        if "map.md" in self.words:
            page = CHAPTERS / "README.md"
            said = reading_map.render(lambda text: self.words["map.md"].get(text, text))
            pages[twin(page)] = self.linked(said, page)
        return pages


def main():
    """Write the Chinese pages; say what has no translation; return the exit code."""
    wrong = [line for name, english in sources().items() for line in problems(name, english)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    for page, text in Edition().build().items():
        page.write_text(text, encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
