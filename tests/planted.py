"""Solutions of the exercises, and bugs planted into them: what the graders are tested with."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

from nnzip.book import exercises

FOLDER = Path(__file__).parent / "exercises"
KNOWN = exercises.exercises()
CHAPTERS = list(dict.fromkeys(exercise.chapter for exercise in KNOWN.values()))


def of_chapter(chapter):
    return [exercise for exercise in KNOWN.values() if exercise.chapter == chapter]


def solution(chapter):
    """The text of a chapter's solutions."""
    return (FOLDER / "solutions" / f"ex{chapter}.py").read_text(encoding="utf-8")


@cache
def bugs(chapter):
    """The bugs of a chapter: {exercise: [(what it is, old text, new text), ...]}."""
    path = FOLDER / "planted" / f"ex{chapter}.py"
    spec = importlib.util.spec_from_file_location(f"planted_{chapter}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.BUGS


@cache
def lines_of(source, name):
    """The lines of one function of a source."""
    node = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name)
    return node.lineno - 1, node.end_lineno


def plant(source, name, old, new):
    """Replace text within one function of a source; ValueError if it is not there."""
    lines = source.splitlines(keepends=True)
    begin, end = lines_of(source, name)
    function = "".join(lines[begin:end])
    if old not in function or old == new:
        raise ValueError(f"{name} has no {old!r} to replace")
    return "".join(lines[:begin]) + function.replace(old, new) + "".join(lines[end:])


def functions(source, path="solutions"):
    """The functions that a source defines."""
    names = {}
    exec(compile(source, path, "exec"), names)
    return names
