"""Execute the chapters: compare them with what is committed or, with --write, bring their outputs up to date.

    python .ci/chapters.py [--write] [NOTEBOOK ...]        without names: every English notebook of chapters/
    python .ci/chapters.py --zh                            build the Chinese ones from them (translation.py)

A chapter is executed as a whole, with its own folder as the working directory. Comparing, the text of every cell must
come out as committed. BLAS differs in the last bits between CPUs, so numbers have the room that this needs: a
percentage 0.05 points, a fraction one unit in its last printed place (or 1e-5 of its value, for the longest printouts
of a float32), an integer none. Images are not compared. A cell tagged `varies` may print anything; a cell tagged
`raises-exception` may fail, and its error is compared.

Both ways report what a committed chapter must not have: cells that were not executed in order, errors, warnings,
paths of the machine, timings in the metadata, 1.5 MB, or two minutes of running time.
"""

import argparse
import copy
import difflib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

ROOT = Path(__file__).resolve().parent.parent
SLOW, TOO_SLOW = 60, 120  # seconds for a chapter: aimed at, and allowed on a busy machine
TOO_LARGE = 1_500_000  # bytes
POINTS = Decimal("0.05")  # of an error rate in percent
PRECISION = Decimal("1e-5")  # of a float32 sum, relative
NUMBER = re.compile(r"((?<![\w.])[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
THREADS = {"OPENBLAS_NUM_THREADS": "1"}  # more than one is many times slower as soon as the cores have other work
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def main(arguments=None):
    """Run a command line; return the exit code: 0, or 1 if a chapter has a problem."""
    parser = argparse.ArgumentParser(description="Execute the chapters and compare them with what is committed.")
    parser.add_argument("--write", action="store_true", help="store the outputs instead of comparing them")
    parser.add_argument("--zh", action="store_true", help="build the Chinese chapters; nothing is executed")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: the English ones of chapters/")
    asked = parser.parse_args(arguments)
    if asked.zh:
        return subprocess.run([sys.executable, ROOT / ".ci" / "translation.py"]).returncode
    paths = asked.notebooks or sorted(p for p in (ROOT / "chapters").glob("*.ipynb") if ".zh" not in p.name)
    failed = sum(1 for path in paths if report(path, write=asked.write))
    print(f"{len(paths) - failed} passed, {failed} failed" if paths else "no chapters yet")
    return 1 if failed else 0


def report(path, *, write):
    """Print how one chapter fares; return its problems."""
    start = time.perf_counter()
    try:
        problems = (update if write else check)(path)
        size = f", {path.stat().st_size / 1000:.0f} kB"
    except (OSError, ValueError, KeyError, nbformat.ValidationError) as error:
        problems, size = [f"not a notebook that can be read: {error}"], ""
    seconds = time.perf_counter() - start
    if seconds > TOO_SLOW:
        problems.append(f"takes {seconds:.0f} s; {SLOW} s is the aim and {TOO_SLOW} s the limit")
    slow = f" (slow: {SLOW} s is the aim)" if seconds > SLOW else ""
    print(f"{path.name}: {seconds:.0f} s{slow}{size}, {'FAILED' if problems else 'ok'}", flush=True)
    for problem in problems:
        print("    " + problem.replace("\n", "\n    "), flush=True)
    return problems


def check(path):
    """Execute a copy of a chapter and return its problems: those of the file, then what came out differently."""
    committed = read(path)
    executed, failure = execute(committed, path.resolve().parent)
    problems = flaws(committed, path.stat().st_size)
    if failure:
        return [*problems, failure]
    return problems + [p for p in flaws(executed) if p not in problems] + differences(committed, executed)


def update(path):
    """Execute a chapter in place and return its problems; nothing is written if it fails or comes out the same."""
    executed, failure = execute(read(path), path.resolve().parent)
    if failure:
        return [failure]
    text = nbformat.writes(normalized(executed)) + "\n"
    if path.read_bytes() != text.encode():
        path.write_bytes(text.encode())
    return flaws(executed, path.stat().st_size)


# ---------------------------------------------------------------- reading and executing


def read(path):
    """Read a notebook; cells of older formats, which have no id, get one by their place."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("nbformat") != 4:
        raise ValueError("nbformat is not 4")
    taken = {cell.get("id") for cell in content["cells"]}
    for place, cell in enumerate(content["cells"]):
        name = f"cell-{place:02d}"
        while "id" not in cell and name in taken:
            name += "-new"
        cell.setdefault("id", name)
    content["nbformat_minor"] = max(5, content["nbformat_minor"])
    notebook = nbformat.reads(json.dumps(content), as_version=4)
    nbformat.validate(notebook)
    return notebook


def execute(notebook, folder):
    """Return an executed copy, normalized, and what stopped it (or None)."""
    executed = copy.deepcopy(notebook)
    client = NotebookClient(
        executed,
        kernel_name="python3",
        timeout=10 * SLOW,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # the kernel's own words, not the chapter's
    )
    own = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # figures come inline
    try:
        client.execute(env=THREADS | own)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return executed, "stopped: " + "\n".join(ANSI.sub("", str(error)).strip().splitlines()[-20:])
    return normalized(executed), None


def normalized(notebook):
    """Return a copy without what differs from run to run: timings, versions, widgets, how the output was chunked."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    return notebook


def merged(outputs):
    """Join neighbouring pieces of a stream, and cut tracebacks, which name this machine's folders, to their end."""
    joined = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
            continue
        joined.append(copy.deepcopy(output))
        if output.output_type == "error":
            joined[-1].traceback = [f"{output.ename}: {output.evalue}"]
    return joined


# ---------------------------------------------------------------- what a chapter must not have


def flaws(notebook, size=0):
    """Return what is wrong with an executed notebook by itself."""
    problems = [f"{size / 1e6:.1f} MB; {TOO_LARGE / 1e6} MB is the limit"] if size > TOO_LARGE else []
    if "widgets" in notebook.metadata:
        problems.append("has the state of widgets in its metadata: run --write")
    code = [(n, cell) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for _, cell in code] != list(range(1, len(code) + 1)):
        problems.append("is not executed from its first cell to its last: run --write")
    return problems + [f"cell {n}: {flaw}" for n, cell in code for flaw in cell_flaws(cell)]


def cell_flaws(cell):
    """Yield what is wrong with one executed cell by itself."""
    if "execution" in cell.metadata:
        yield "has timings in its metadata: run --write"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            yield f"fails: {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield "writes to stderr:\n" + output.text.rstrip()
    found = [folder for folder in machine_folders() if folder in text_of(cell)]
    if found:
        yield f"prints a folder of this machine: {found[0]}"


def machine_folders():
    """Return the folders that no reader has: the checkout's, the home, the temporary one, Python's own."""
    folders = (ROOT, Path.home(), Path(tempfile.gettempdir()), Path(sys.prefix))
    return [f"{folder}{os.sep}" for folder in folders if folder != Path(folder.anchor)]


def tags(cell):
    return cell.metadata.get("tags", [])


# ---------------------------------------------------------------- comparing


def differences(committed, executed):
    """Return one problem, with a diff, for each code cell whose text came out differently."""
    problems = []
    for n, (old, new) in enumerate(zip(committed.cells, executed.cells, strict=True)):
        if old.cell_type != "code" or "varies" in tags(old) or same_text(text_of(old), text_of(new)):
            continue
        lines = [text_of(cell).splitlines() for cell in (old, new)]
        diff = list(difflib.unified_diff(*lines, "committed", "executed", lineterm="", n=1))
        problems.append("\n".join([f"cell {n} comes out differently:", *diff[:40], *["..."][: len(diff) > 40]]))
    return problems


def text_of(cell):
    """Return all the text of a cell's outputs; an image is named and not shown."""
    blocks = []
    for output in merged(cell.get("outputs", [])):
        if output.output_type == "stream":
            blocks.append(f"[{output.name}]\n{output.text}")
        elif output.output_type == "error":
            blocks.append(f"[error]\n{output.ename}: {output.evalue}")
        else:
            data = sorted(output.data.items())
            blocks += [f"[{mime}]\n{content if mime.startswith('text/') else ''}" for mime, content in data]
    return "\n".join(blocks)


def same_text(a, b):
    """Tell whether two texts agree: the words exactly, the numbers within their room, the blanks in any number."""
    a, b = NUMBER.split(squeezed(a)), NUMBER.split(squeezed(b))
    if a[::2] != b[::2]:
        return False
    followers = a[2::2]
    return all(map(same_number, a[1::2], b[1::2], [after.lstrip(" ").startswith("%") for after in followers]))


def squeezed(text):
    """Return the text without what depends on the width of its numbers: runs of blanks and of dashes."""
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.strip().splitlines()]
    return re.sub(r"-{3,}", "---", "\n".join(lines))


def same_number(a, b, percent=False):
    """Tell whether two printed numbers agree: integers exactly, others within a unit of the last place printed.

    >>> same_number("0.123", "0.124"), same_number("0.123", "0.125"), same_number("7", "8")
    (True, False, False)
    >>> same_number("2.31", "2.36", percent=True), same_number("2.31", "2.37", percent=True)
    (True, False)
    """
    x, y = Decimal(a), Decimal(b)
    if x == y or not any(re.search(r"\.[0-9]", number) for number in (a, b)):
        return x == y
    last_place = Decimal(10) ** min(x.as_tuple().exponent, y.as_tuple().exponent)
    return abs(x - y) <= max(last_place, PRECISION * abs(x), POINTS if percent else 0)


if __name__ == "__main__":
    sys.exit(main())
