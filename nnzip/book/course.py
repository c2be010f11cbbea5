"""Grading a course: a folder of submissions becomes a table of points and a file of feedback for each student.

An exercise that passes gives its difficulty, 1 to 3, in points, one that does not 0: the same as every other door.
"""

import csv
import io
import json
import re
from pathlib import Path

from nnzip.atomic import atomic_write
from nnzip.book.exercises import exercises, grade_file, told


def points(result):
    """Return what a graded exercise is worth."""
    return exercises()[result.exercise].difficulty if result.state == "passed" else 0


def submissions(folder):
    """Return the files of each student, {name: paths}: a folder for each, or files such as ada_ex02_quantization.py.

    ValueError if there are none.
    """
    found = {}
    for path in sorted(Path(folder).iterdir()):
        if path.is_dir() and (files := sorted(path.rglob("*.py"))):
            found[path.name] = files
        elif path.suffix == ".py":
            found.setdefault(re.sub(r"[-_ ]*ex\d\d(?!\d).*", "", path.stem) or path.stem, []).append(path)
    if not found:
        raise ValueError(f"{folder} has no submissions: folders with Python files, or Python files")
    return found


def grade_folder(folder, output, *, chapter=None, seed=0):
    """Write a table, a row for each student, and beside it feedback/NAME.txt; yield (name, points, most) as they come.

    chapter : grade every file on it, whatever the file is called
    seed : of what is drawn: with one of your own, no table of recorded answers passes
    """
    output, grades = Path(output), {}
    for name, paths in submissions(folder).items():
        results, said = [], []
        for path in paths:
            try:
                graded = list(grade_file(path, chapter=chapter, seed=seed))
            except (OSError, ValueError) as error:  # no file of exercises
                said.append(f"{path.name}: not graded: {error}")
            else:
                results += graded
                said += [f"{path.name}:", *told(graded)]
        grades[name] = {result.exercise: points(result) for result in results}
        _write(output.parent / "feedback" / f"{name}.txt", "\n".join(said) + "\n")
        yield name, sum(grades[name].values()), sum(exercises()[e].difficulty for e in grades[name])
    asked = [e for e in exercises() if any(e in own for own in grades.values())]
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["student", "points", "of", *asked])
    most = sum(exercises()[e].difficulty for e in asked)
    for name, own in grades.items():
        rows.writerow([name, sum(own.values()), most, *(own.get(e, 0) for e in asked)])
    _write(output, table.getvalue())


def write_gradescope(path, results):
    """Write results as Gradescope reads them (results.json): a test for each exercise, worth its points."""
    known = exercises()
    tests = [
        {
            "name": f"{known[result.exercise].chapter[:2]} {result.exercise}",
            "score": points(result),
            "max_score": known[result.exercise].difficulty,
            "output": "\n".join(told([result])),
        }
        for result in results
    ]
    _write(Path(path), json.dumps({"tests": tests}, indent=1))


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(text.encode())
