"""Count the lines of Python against the limits of the house, and print them: python .ci/count.py

Exit code 1 where a limit is passed, a module has over 350 lines, or a function over 40 without its docstring.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENGINE = {
    "answers",
    "course",
    "exercise_commands",
    "exercises",
    "grading",
    "impl_option",
    "messages",
    "sandbox",
    "unlocking",
}  # of nnzip/book
LIMITS = {  # part: lines at most; None is only reported
    "package without files/ and the exercise engine": 6900,
    "nnzip/files": None,
    "exercise engine": None,
    "tests outside tests/exercises": 14_500,
    "tests/exercises": None,
    "chapters": None,
    "figures": None,
}
MODULE, FUNCTION = 350, 40


def part_of(path):
    """Return to which part of the house a file belongs, or None."""
    top, *rest = path.parts
    if top == "nnzip":
        if rest[0] == "files":
            return "nnzip/files"
        return "exercise engine" if rest[0] == "book" and path.stem in ENGINE else next(iter(LIMITS))
    if top == "tests":
        return "tests/exercises" if rest[0] == "exercises" else "tests outside tests/exercises"
    return top if top in LIMITS else None


def long_functions(path, text):
    """Yield what is longer than a function should be, without its docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False)
            size = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
            if size > FUNCTION:
                yield f"{path}:{node.lineno} {node.name}: {size} lines without its docstring"


def main():
    """Print the table and what is too long; return the exit code."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines, modules, long = dict.fromkeys(LIMITS, 0), dict.fromkeys(LIMITS, 0), []
    for path in map(Path, listed.splitlines()):
        part, text = part_of(path), (ROOT / path).read_text(encoding="utf-8")
        if part is None:
            continue
        lines[part] += text.count("\n")
        modules[part] += 1
        if path.parts[0] == "nnzip":
            long += [f"{path}: {text.count(chr(10))} lines"] if text.count("\n") > MODULE else []
            long += long_functions(path, text)
    for part, limit in LIMITS.items():
        print(f"{part:50} {modules[part]:4} files {lines[part]:7,} lines" + (f" of {limit:,}" if limit else ""))
    print("\n".join(long) or f"no module over {MODULE} lines, no function over {FUNCTION} without its docstring")
    return int(bool(long) or any(limit and lines[part] > limit for part, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
