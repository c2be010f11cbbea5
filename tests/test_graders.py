"""The graders are graded: what is right passes, what is wrong does not, and every door says the same.

A plain run takes a sample; `pytest --all-planted` takes every bug and every change by rule.
"""

import ast
import csv
import doctest
import inspect
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import mutants
import numpy as np
import pytest
from headings import CHAPTERS as CHAPTERS_FOLDER
from headings import FILES, headings
from planted import CHAPTERS, KNOWN, bugs, functions, of_chapter, plant, solution

from nnzip import cli, quantization
from nnzip.book import answers, exercises, grading, sandbox, unlocking
from nnzip.quantization import QuantParams

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
PYTEST += ["-p", "no:hypothesispytest", "-p", "no:anyio"]  # plugins of packages that may be there: a second each time
C02 = "02_quantization"


def pytest_generate_tests(metafunc):
    everything = metafunc.config.getoption("--all-planted")
    if "bug" in metafunc.fixturenames:
        each = [(name, *bug) for chapter in CHAPTERS for name, found in bugs(chapter).items() for bug in found]
        each = each if everything else each[::12]
        metafunc.parametrize("bug", each, ids=[f"{name}-{what}" for name, what, *_ in each])
    if "submission" in metafunc.fixturenames:
        names = SUBMISSIONS if everything else ["right", "one wrong"]
        metafunc.parametrize("submission", names)


def in_notebook(exercise, function, **options):
    return grading.grade(exercise, lambda a, k: sandbox.call(function, a, k, exercise.forbidden), **options)


def student_file(folder, source, chapter=C02):
    path = folder / f"ex{chapter}.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return path


# What passes


@pytest.mark.parametrize("name", KNOWN)
def test_solutions_pass_with_any_seed(name):
    function = functions(solution(KNOWN[name].chapter))[name]
    for seed in (0, 7):
        result = in_notebook(KNOWN[name], function, seed=seed)
        assert result.state == "passed", result.message


HARMLESS = """# -*- coding: utf-8 -*-
import copy, re, heapq, operator, os, sys, random, string
import numpy.testing
import matplotlib
from collections import namedtuple
from nnzip.quantization import QuantParams, quantize as theirs
from nnzip.nn.layers import *
__all__ = ["quantize"]
inner = vars = "{:.3f}".format(1.5)
Pair = namedtuple("Pair", "a b")
pair = Pair(1, 2)._replace(a=3)
class Own(dict):
    def __init__(self):
        super().__init__()
if __name__ == "__main__":
    raise SystemExit
"""


def test_harmless_lines_cost_nothing(tmp_path):
    path = student_file(tmp_path, b"\xef\xbb\xbf" + (HARMLESS + solution(C02)).encode())
    for result in exercises.grade_file(path):
        assert result.state == "passed", result.message


def test_a_lambda_and_a_decorated_function_are_functions(tmp_path):
    source = "import functools\nimport numpy as np\nsqnr_db = functools.lru_cache(lambda x, x_hat: 1 / 0)\n"
    path = tmp_path / "mine.py"
    path.write_text(source)
    [result] = exercises.grade_file(path)
    assert result.exercise == "sqnr_db" and "unhashable" in result.message


# What does not


def test_each_planted_bug_is_caught(bug):
    name, what, old, new = bug
    function = functions(plant(solution(KNOWN[name].chapter), name, old, new))[name]
    with np.errstate(all="ignore"):
        assert not mutants.survives(KNOWN[name], function), f"{name} that {what} passes"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_survives_a_change_by_rule_is_still_right(chapter, request):
    everything = request.config.getoption("--all-planted")
    right = functions(solution(chapter)).get("RIGHT", {})
    for exercise in of_chapter(chapter):
        left = list(mutants.survivors(chapter, exercise, step=1 if everything else 12))
        known = right.get(exercise.name, {})
        assert set(left) <= set(known), f"{exercise.name}: no check notices {set(left) - set(known)}"
        if everything:
            assert set(known) <= set(left), f"{exercise.name}: noticed after all, {set(known) - set(left)}"


def returns_nothing(*args, **options):
    pass


@pytest.mark.parametrize("name", KNOWN)
def test_no_work_no_pass(name):
    stub = functions(exercises.stubs([KNOWN[name]]))[name]
    assert in_notebook(KNOWN[name], stub).state == "not begun"
    for function in (lambda *a, **k: 0, returns_nothing, lambda *a, **k: a[0]):
        result = in_notebook(KNOWN[name], function)
        assert result.state == "failing" and f"{name}:" in result.message
        assert function is not returns_nothing or "no `return`" in result.message or "refuse" in name


HOSTILE = {
    "def dequantize(codes, qparams):\n    while True: pass": "took more than",
    "while True: pass": "its loading took more than",
    "import numpy as np\ndef dequantize(codes, qparams): return np.ones((10**6, 10**6))": "MemoryError",
    "import numpy as np\ndef dequantize(codes, qparams): return [np.zeros(10**8) for _ in range(10**3)]": "MemoryError",
    "def dequantize(codes, qparams): raise SystemExit(0)": "raised:   SystemExit",
    "raise SystemExit(0)": "does not load: line 1: raise SystemExit(0) (SystemExit",
    "import os\ndef dequantize(codes, qparams): os._exit(0)": "ended its process without an answer",
    "def dequantize(codes, qparams): return 10**100000": "Exceeds the limit",
    "def dequantize(codes, qparams): return 'x' * 10**8": "is too large",
    "def dequantize(codes, qparams): return [[]] * 10**5": "is too large",
    "def dequantize(codes, qparams): return codes.tolist()": "a NumPy array and no list",
    "def dequantize(codes, qparams): return dequantize(codes, qparams)": "RecursionError",
    "class A:\n    def __eq__(self, o): return True\ndef dequantize(c, q): return A()": "a A is no answer",
    "def dequantize(codes, qparams):\n    codes[:] = 0\n    return codes": "changed:  argument 1",
    "from nnzip.quantization import dequantize": "dequantize is the book's own",
    "from nnzip import quantization\ndef dequantize(c, q): return quantization.dequantize(c, q)": "is the book",
    "def pytest_runtest_makereport(item, call): call.excinfo = None": "no function dequantize in the file",
    "import numpy as np\nnp.array_equal = lambda *a, **k: True\ndef dequantize(c, q): return c": "got:",
    "def broken(:": "SyntaxError",
    "x = '\x00'": "null bytes",
}


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_files_get_no_pass_and_an_answer(source, tmp_path, monkeypatch):
    monkeypatch.setattr(KNOWN["dequantize"], "seconds", 0.5 if "while True" in source else 10)  # what ends has time
    [result] = exercises.grade_file(student_file(tmp_path, source), ["dequantize"])
    assert result.state == "failing" and HOSTILE[source] in result.message, result.message


def test_a_crash_costs_its_own_exercise_alone(tmp_path):
    source = solution(C02) + "\n\ndef quantize(x, qparams):\n    __import__('os')._exit(1)\n"
    states = {result.exercise: result.state for result in exercises.grade_file(student_file(tmp_path, source))}
    assert states.pop("quantize") == "failing" and set(states.values()) == {"passed"}


def test_an_endless_loop_in_a_notebook_is_stopped(monkeypatch, capsys):
    def dequantize(codes, qparams):
        while True:
            pass

    monkeypatch.setattr(KNOWN["dequantize"], "seconds", 0.25)
    before = signal.getsignal(signal.SIGALRM)
    assert exercises.yours(dequantize) is KNOWN["dequantize"].reference
    assert "cut off:  took more than 0.5 s" in capsys.readouterr().out and signal.getsignal(signal.SIGALRM) is before


def test_what_the_failing_call_printed_is_shown_and_nothing_else(capfd):
    def dequantize(codes, qparams):
        print("codes", codes.dtype)
        return codes if codes.dtype == np.int8 else KNOWN["dequantize"].reference(codes, qparams)

    assert not exercises.check(dequantize=dequantize)
    assert capfd.readouterr().out.count("printed:  codes int8") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "quantize", "--lang", "zh", "--folder", "x"], "no file"),  # options after the action
        (["check", "04", "quantize"], "no exercise quantize"),
        (["check", "ex02_quantization.ipynb"], "notebooks are not graded"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_a_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ex02_quantization.ipynb").write_text("{}")
    assert cli.main(["exercises", *arguments]) == 2 and said in capsys.readouterr().err


def test_a_chapter_is_started_by_an_exercise_and_checked_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["exercises", "start", "quantize"]) == 0 and cli.main(["exercises", "check", "quantization"]) == 1
    assert "0 of 6 passed" in capsys.readouterr().out


def test_the_list_tells_a_file_that_does_not_load_and_is_the_same_inside_the_folder(tmp_path, monkeypatch, capsys):
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "ex02_quantization.py").write_text("def quantize(:")
    for folder in (tmp_path, tmp_path / "exercises"):
        monkeypatch.chdir(folder)
        assert cli.main(["exercises"]) == 0
        assert capsys.readouterr().out.count("does not load") == len(of_chapter(C02))


def test_a_whole_file_has_a_limit_of_its_own(tmp_path):
    path = student_file(tmp_path, "import time\ndef f(): time.sleep(0.3)")
    with sandbox.Sandbox(path, whole=5) as student:
        student.call("f", (), {})
        student.left = 0.1
        with pytest.raises(sandbox.Cut, match="took more than"):
            student.call("f", (), {})
        with pytest.raises(sandbox.Cut, match="the whole file has taken more time"):
            student.call("f", (), {})


def test_what_is_forbidden_is_forbidden_in_helpers_too():
    source = "def helper(x):\n    return x @ x\ndef f(x):\n    return helper(x)\ndef g(x):\n    return x.dot(x)\n"
    own, x = functions(source), np.eye(2)
    assert sandbox.call(own["f"], (x,), {}, ("@", "dot"))["message"] == "line 2: @ is not allowed here"
    assert sandbox.call(own["g"], (x,), {}, ("@", "dot"))["message"] == "line 6: dot is not allowed here"
    assert "value" in sandbox.call(own["f"], (x,), {}, ("dot",))


def test_numbers_come_through_and_nothing_else():
    grid = QuantParams([0.5, 0.25], [1, 2], 4, False, axis=0)
    value = {"a": np.arange(6, dtype=np.int8).reshape(2, 3), 3: (1, 2.5, None, [True, "text"]), "s": np.float32(0.1)}
    value["columns"] = np.asfortranarray(value["a"])
    back = sandbox.read(io.BytesIO(sandbox.message({**value, "grid": grid, "nan": np.nan, "empty": np.zeros((0, 3))})))
    for name in ("a", "columns"):
        np.testing.assert_array_equal(back[name], value[name], strict=True)
        assert back[name].strides == value[name].strides
    assert back[3] == value[3] and type(back["s"]) is np.float32 and back["s"] == value["s"]
    assert repr(back["grid"]) == repr(grid) and np.isnan(back["nan"]) and back["empty"].shape == (0, 3)
    for bad in (object(), {"x": object()}, np.array([object()]), 1j, len, {1, 2}):
        with pytest.raises(TypeError, match="is no answer here"):
            sandbox.message(bad)


# One grade through every door

RIGHT = solution(C02)
ALL_WRONG = RIGHT
for mistake in (
    ("steps.astype(np.float32) * scale", "steps * scale + 1"),
    ("np.rint(x / scale)", "np.floor(x / scale)"),
    ("10 * np.log10", "20 * np.log10"),
    ("round(-lo / scale)", "round(lo / scale)"),
    ("largest > 0", "largest >= 0"),
    ("below = np.floor(x)", "below = np.ceil(x)"),
):
    ALL_WRONG = ALL_WRONG.replace(*mistake)
SUBMISSIONS = {  # text of a file: how many of the six pass
    "right": (RIGHT, 6),
    "one wrong": (plant(RIGHT, "quantize", "np.rint", "np.floor"), 5),
    "all wrong": (ALL_WRONG, 0),
    "stubs": (exercises.stubs(of_chapter(C02)), 0),
    "half begun": (exercises.stubs(of_chapter(C02)) + "\n\n" + RIGHT.split("def sqnr_db")[0], 2),
    "empty": ("", 0),
    "a syntax error": (RIGHT + "\ndef broken(:\n", 0),
    "lambdas": ("".join(f"{e.name} = lambda *a, **k: 0\n" for e in of_chapter(C02)), 0),
    "the book's own": ("from nnzip.quantization import *\nfrom nnzip.quantization import quantize\n", 0),
}


def by_command(path, capsys, *arguments):
    code = cli.main(["exercises", "check", str(path), *arguments])
    said = capsys.readouterr().out
    return {e.name: f"\n{e.name}: passed" in f"\n{said}" for e in of_chapter(C02)}, code, said


def by_pytest(path, *arguments):
    """{exercise: passed} from the JUnit report, and the exit code."""
    report = path.with_suffix(".xml")
    command = [*PYTEST, f"--impl={path}", f"--junitxml={report}", *arguments]
    run = subprocess.run(command, cwd=exercises.CLONE, capture_output=True, text=True)
    cases = list(ElementTree.parse(report).iter("testcase"))
    return {case.get("name").split("02-")[1][:-1]: len(case) == 0 for case in cases}, run.returncode


def test_every_door_gives_the_same_grade(submission, tmp_path, capsys):
    source, count = SUBMISSIONS[submission]
    path = student_file(tmp_path, source)
    passed, code, said = by_command(path, capsys)
    assert sum(passed.values()) == count and code == (count < 6) and f"{count} of 6 passed" in said
    assert by_pytest(path) == (passed, code)
    with open(tmp_path / "notebook.py", "w") as names:  # as cells of a notebook would define them
        names.write(source)
    try:
        own = functions(source)
    except SyntaxError:
        return
    here = {e.name: e.name in own and in_notebook(e, own[e.name]).state == "passed" for e in of_chapter(C02)}
    assert here == passed


def test_a_renamed_file_is_graded_on_its_chapter(tmp_path, capsys):
    only = RIGHT.split("def sqnr_db")[0]
    for name, arguments in (("ex02_quantization-1.py", ()), ("ada.py", ("--chapter", "02"))):
        path = tmp_path / name
        path.write_text(only)
        passed, code, said = by_command(path, capsys, *arguments)
        assert "2 of 6 passed" in said and code == 1
        assert by_pytest(path, *(f"--chapter={a}" for a in arguments[1:])) == (passed, 1)


def test_pytest_grades_one_exercise_and_from_the_clone_alone(tmp_path):
    path = student_file(tmp_path, RIGHT)
    assert by_pytest(path, "-k", "quantize") == ({"quantize": True}, 0)
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    (tmp_path / "conftest.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w').close()\n")
    assert by_pytest(path)[1] == 0 and not (tmp_path / "was run").exists()
    run = subprocess.run([*PYTEST, f"--impl={path}"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 4 and "grade from the clone" in run.stderr and "passed" not in run.stdout


def test_no_submission_no_points(tmp_path):
    for name in ("ex02_quantization.py", "other.py"):
        run = subprocess.run([*PYTEST, f"--impl={tmp_path / name}"], cwd=exercises.CLONE, capture_output=True)
        assert run.returncode != 0


# A course


@pytest.fixture
def course(tmp_path):
    """Three students: ada is right, ben is wrong once and half done, cyd gave nothing."""
    folder = tmp_path / "submissions"
    (folder / "ada").mkdir(parents=True)
    student_file(folder / "ada", RIGHT)
    (folder / "ben_ex02_quantization-1.py").write_text(SUBMISSIONS["one wrong"][0].split("def symmetric_scales")[0])
    (folder / "cyd_ex02_quantization.py").write_text("")
    return folder


def test_a_folder_becomes_a_table_of_points(course, tmp_path, capsys):
    table = tmp_path / "grades" / "grades.csv"
    assert cli.main(["exercises", "grade", str(course), "-o", str(table), "--chapter", "02", "--seed", "5"]) == 0
    rows = {row["student"]: row for row in csv.DictReader(table.open())}
    assert {name: (row["points"], row["of"]) for name, row in rows.items()} == {
        "ada": ("9", "9"), "ben": ("4", "9"), "cyd": ("0", "9"),
    }  # fmt: skip
    assert rows["ben"]["quantize"] == "0" and rows["ben"]["range_to_grid"] == "2"
    told = (table.parent / "feedback" / "ben.txt").read_text()
    assert "rint rounds halves to even" in told and "no function symmetric_scales" in told
    assert cli.main(["exercises", "grade", str(tmp_path / "grades" / "feedback"), "-o", str(table)]) == 2
    assert "no submissions" in capsys.readouterr().err


def test_gradescope_gets_its_results(course, tmp_path):
    root = tmp_path / "autograder"
    (root / "source").mkdir(parents=True)
    (root / "source" / "nnzip").symlink_to(exercises.CLONE)
    (root / "submission").mkdir()
    script = exercises.CLONE / "chapters" / "grading" / "run_autograder"
    environment = os.environ | {"AUTOGRADER": str(root), "PYTHON": sys.executable}
    for name, count in (("ben_ex02_quantization-1.py", 3), (None, 0)):
        for old in (root / "submission").iterdir():
            old.unlink()
        if name:
            shutil.copy(course / name, root / "submission")
        subprocess.run([script], env=environment, check=True, capture_output=True)
        tests = json.loads((root / "results" / "results.json").read_text())["tests"]
        assert len(tests) == 6 and sum(test["score"] > 0 for test in tests) == count
        assert sum(test["max_score"] for test in tests) == 9 and all(test["output"] for test in tests)
        (root / "results" / "results.json").unlink()


def test_a_clone_without_answers_grades_the_same(course, tmp_path):
    """INSTRUCTORS.md says what may be taken out of the clone that students get."""
    clone = tmp_path / "clone"
    parts = ("nnzip", "tests/exercises", "pyproject.toml", "README.md")
    for part in parts:
        source = exercises.CLONE / part
        if source.is_dir():
            ignored = shutil.ignore_patterns("solutions", "planted", "styles.py", "__pycache__")
            shutil.copytree(source, clone / part, ignore=ignored)
        else:
            shutil.copy(source, clone / part)
    command = [sys.executable, "-m", "nnzip", "exercises", "check", str(course / "ada" / "ex02_quantization.py")]
    run = subprocess.run(
        command, cwd=clone, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(clone)}
    )
    assert "6 of 6 passed" in run.stdout, run.stdout + run.stderr


def test_a_table_of_recorded_answers_fails_with_another_seed():
    for exercise in of_chapter(C02):
        answers, function = {}, functions(RIGHT)[exercise.name]

        def recorded(args, kwargs, answers=answers, function=function):
            key = sandbox.message((args, kwargs))
            return {"value": answers.setdefault(key, function(*args, **kwargs))}

        def from_the_table(args, kwargs, answers=answers):
            return {"value": answers.get(sandbox.message((args, kwargs)), 0)}

        assert grading.grade(exercise, recorded).state == "passed"
        if any("rng" in inspect.signature(check.run).parameters for check in exercise.checks):
            drawn = [c for c in exercise.checks if "draw" in c.run.__qualname__]
            if drawn:
                assert grading.grade(exercise, from_the_table, seed=3).state == "failing", exercise.name


def test_the_files_for_grading_say_what_is_there():
    folder = exercises.CLONE / "chapters" / "grading"
    for name in ("setup.sh", "run_autograder"):
        subprocess.run(["bash", "-n", folder / name], check=True)
    docker = (folder / "Dockerfile").read_text()
    assert json.loads(docker.split("ENTRYPOINT ")[1]) == ["python", "-m", "nnzip", "exercises"]
    assert "chapters/grading/requirements.txt" in docker and "jupyter" not in (folder / "requirements.txt").read_text()


# Stubs and messages


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_stubs_are_the_references_without_their_bodies(chapter):
    stubs, own = functions(exercises.stubs(of_chapter(chapter))), functions(solution(chapter))
    for exercise in of_chapter(chapter):
        stub = stubs[exercise.name]
        given, asked = (inspect.signature(f).parameters.values() for f in (stub, exercise.reference))
        assert [(p.name, p.kind, p.default) for p in given] == [(p.name, p.kind, p.default) for p in asked]
        examples = doctest.DocTestParser().get_doctest(stub.__doc__, {**stubs, **own}, exercise.name, None, 0)
        said = io.StringIO()
        assert examples.examples and not doctest.DocTestRunner().run(examples, out=said.write).failed, said.getvalue()


@pytest.mark.parametrize("name", KNOWN)
def test_an_exercise_belongs_to_a_section(name):
    exercise = KNOWN[name]
    assert exercise.section in headings(exercise.number)
    assert exercise.difficulty in (1, 2, 3) and exercise.size
    assert len(exercise.checks) >= 2 and all(check.about for check in exercise.checks)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_names_its_exercises_and_unlocks_something(chapter):
    for number in {exercise.number for exercise in of_chapter(chapter)}:
        text, own = FILES[number].read_text(encoding="utf-8"), [e for e in of_chapter(chapter) if e.number == number]
        graded = text.split("**Graded**")[1]
        assert all(f"`{exercise.name}` {'★' * exercise.difficulty}" in graded for exercise in own)
        in_place = all(f"{e.name} = yours({e.name})" in text for e in own)
        assert in_place or "passed = check(" in graded
        assert f"exercises start {chapter[:2]}" in graded
    assert sum(exercise.unlock is not None for exercise in of_chapter(chapter)) == 1


def test_messages_teach(capsys):
    upward = lambda x, grid: (np.floor(x / grid.scale + 0.5) + grid.zero_point).astype(grid.dtype)  # noqa: E731
    assert not exercises.check(quantize=upward)
    said = capsys.readouterr().out
    for part in ("input:", "got:", "expected:", "likely:", "rint rounds halves to even", "checks pass)"):
        assert part in said


def test_messages_show_the_digits_that_differ_and_name_the_part():
    exercise = grading.Exercise(lambda x: x, "", 1, "", parts=("loss", "gradient"))
    exercise.case("A pair.", np.array([1.0]), gives=(3.75, np.array([0.1])))
    wrong = grading.grade(exercise, lambda a, k: {"value": (3.75, np.array([0.1 + 1e-17 + 2e-17]))})
    assert "in value 2, gradient" in wrong.message and "0.10000000000000003" in wrong.message
    assert "float32" not in wrong.message
    in_float32 = grading.grade(exercise, lambda a, k: {"value": (3.75, np.array([float(np.float32(0.1))]))})
    assert "computed in float32" in in_float32.message
    single = grading.grade(exercise, lambda a, k: {"value": np.array([3.75])})
    assert "expected: 2 values" in single.message


def test_a_file_that_does_not_load_says_so_once_and_where(tmp_path, capsys):
    asked = ["dequantize", "quantize", "sqnr_db"]
    stub = exercises.stubs([KNOWN["sqnr_db"]])
    done = RIGHT.split("def sqnr_db")[0] + stub
    line = done.count("\n") + 1
    for source, said in (
        (f"{done}print(sqnr_db(np.ones(2), np.ones(2)))", f"line {line}: print(sqnr_db(np.ones(2), np.ones(2)))"),
        (f"{done}print(sqnr_db(1, 2))", "(NotImplementedError: sqnr_db is not written yet): take that line out"),
        ("def f():\nreturn 1", "line 2: return 1 (IndentationError: expected an indented block"),
        ("import no_such_package", "line 1: import no_such_package (ModuleNotFoundError"),
    ):
        _, code, told = by_command(student_file(tmp_path, source), capsys, *asked)
        assert code == 1 and said in told and "0 of 3 passed" in told
        assert told.count("the file does not load") == 1 and "not written yet: " not in told


def test_begun_is_what_is_begun():
    exercise, calls = KNOWN["round_to_integer"], functions(exercises.stubs([KNOWN["round_to_integer"]]))

    def round_to_integer(x, rounding="half_even", *, rng=None):
        if rounding == "half_even":
            return np.rint(x)
        raise NotImplementedError

    part = in_notebook(exercise, round_to_integer)
    assert part.state == "failing" and part.passed == 1 and "raised:   NotImplementedError" in part.message
    helped = in_notebook(exercise, lambda *a, **k: calls["round_to_integer"](*a, **k))
    assert helped.state == "failing" and "round_to_integer is not written yet" in helped.message


def test_slow_calls_add_up(tmp_path):
    path = student_file(tmp_path, "import time\ndef f(): time.sleep(0.4)\ndef g(): return 1")
    with sandbox.Sandbox(path) as student:
        for _ in range(3):
            student.call("f", (), {}, seconds=0.5)
        with pytest.raises(sandbox.Cut, match="s together: too slow"):
            student.call("f", (), {}, seconds=0.5)
        assert student.call("g", (), {}, seconds=0.5) == {"value": 1, "printed": ""}


ROWS = np.float32([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    "got, expected, hint",
    [
        (ROWS.astype(float), ROWS, "their dtype is not: .astype(np.float32)"),
        (ROWS.astype(float) / 3, ROWS / 3, "their dtype is not: .astype(np.float32)"),
        (ROWS.astype(float) + 1, ROWS, "the check's"),
        (np.array([1.0, 0.0]), np.array([True, False]), "their dtype is not: .astype(bool)"),
        (ROWS.ravel(), ROWS, "their shape is not: .reshape(2, 3)"),
        (ROWS[None, :1], ROWS[0], "their shape is not: .reshape(3,)"),
        (ROWS[0, :1], np.float32(1), "a number is asked for"),
        (ROWS.T, ROWS, "rows and columns are exchanged: .T"),
        (ROWS[:1], ROWS, "the check's"),
        (np.array([254, 2], np.uint8), np.array([-2, 2], np.int8), "uint8 has no negative numbers, -2 becomes 254"),
        (np.array([253, 2], np.uint8), np.array([-2, 2], np.int8), "the check's"),
    ],
)
def test_what_an_answer_tells_goes_before_the_checks_likely(got, expected, hint):
    with pytest.raises(answers.Wrong) as wrong:
        answers.expect(got, expected, "the check's", dtype=True)
    [likely] = [line for line in str(wrong.value).split("\n") if line.startswith("likely:")]
    assert hint in likely


def test_errors_have_their_likely_cause():
    for body, hint in (
        (lambda c, q: (c.astype(float) - q.zero_point[:, None]) * q.scale, "np.reshape(value, shape) takes both"),
        (lambda c: c, "the arguments are those of the stub"),
        (lambda c, q: c if c > 0 else -c, "each element has its own answer"),
        (lambda c, q: None, "122.5] (shape (4,))"),  # with what was expected
        (lambda c, q: c * q.zp, "a grid has scale, zero_point, axis"),
        (lambda c, q: round(c * q.scale), "of arrays it is np.rint"),
        (lambda c, q: c * scale, "what a grid has is written qparams.scale"),  # noqa: F821
    ):
        assert hint in in_notebook(KNOWN["dequantize"], body).message
    exercise = grading.Exercise(lambda x: x, "", 1, "")
    exercise.case("Sum.", np.ones((2, 3)), gives=1, likely="give them shape (2, 1)")
    assert "likely:   give them" in in_notebook(exercise, lambda x: x + np.ones(2)).message
    exercise.checks.clear()
    exercise.case("Sum.", np.ones((2, 3)), gives=(1, 2), likely="the mean, no sum")
    assert "keepdims=True keeps" in in_notebook(exercise, lambda x: x + np.ones(2)).message
    assert "return a, b gives two" in in_notebook(exercise, lambda x: x).message


def test_of_a_large_array_the_place_that_differs_is_shown():
    right = np.arange(66.0).reshape(6, 11)
    wrong = right.copy()
    wrong[3, 5] = 0.5
    with pytest.raises(answers.Wrong) as said:
        answers.expect(wrong, right)
    got, expected, where = str(said.value).split("\n")
    assert got == "got:      at [3, 2:10] [35. , 36. , 37. , 0.5, 39. , 40. , 41. , 42. ] (float64, shape (6, 11))"
    assert expected.startswith("expected: at [3, 2:10] [35., 36., 37., 38.,") and "float64" not in expected
    assert "first at [3, 5]: got 0.5, expected 38.0; 1 of 66 differ" in where


def test_the_dtype_is_told_where_it_is_asked_for():
    for dtype, told in ((None, "[1, 2] (shape (2,))"), (np.float32, "[1., 2.] (float32, shape (2,))")):
        with pytest.raises(answers.Wrong) as said:
            answers.expect(np.array([1.0, 3.0]), [1, 2], dtype=dtype)
        assert f"expected: {told}" in str(said.value)


def test_int_for_round_is_told_on_a_small_array():
    source = solution("05_pruning")
    for name in ("magnitude_mask", "global_magnitude_masks"):
        said = in_notebook(KNOWN[name], functions(source.replace("round(", "int("))[name]).message
        assert "no int()" in said or "int(), floor" in said


def test_files_of_ones_own(tmp_path, capsys):
    folder = ["exercises", "--folder", str(tmp_path / "new")]
    assert cli.main([*folder, "start", "02"]) == 0
    path = tmp_path / "new" / "ex02_quantization.py"
    assert str(path.resolve()) in capsys.readouterr().out
    ast.parse(path.read_text(encoding="utf-8"))
    assert cli.main([*folder, "check", "02"]) == 1
    said = capsys.readouterr().out
    assert said.count("not written yet") == 1 and "not written yet: dequantize, quantize" in said
    path.write_text(plant(RIGHT, "quantize", "np.rint", "np.floor"))
    assert cli.main([*folder, "start", "02"]) == 2 and "stays as it is" in capsys.readouterr().err
    assert cli.main([*folder, "check", "dequantize"]) == 0 and "1 of 1 passed" in capsys.readouterr().out
    assert cli.main(folder) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert set(lines) == set(KNOWN) and " failing " in lines["quantize"] and " passed " in lines["sqnr_db"]
    (tmp_path / "mine.py").write_text("def helper(): pass")
    for arguments, message in (
        (["check", str(tmp_path / "mine.py")], "defines no exercise"),
        (["check", str(tmp_path / "none.py")], "no file"),
        (["check", "quantize", "nonsense"], "no exercise nonsense; python -m nnzip exercises lists"),
        (["check", "quantise"], "no exercise quantise; did you mean quantize?"),
        (["check", "02", "quantise"], "no exercise quantise; did you mean quantize?"),
        (["check", "99"], "chapter must be one of"),
        (["start", "99"], "chapter must be one of"),
        (["start", "05b"], "chapter 05b are among those of 05"),
        (["--folder", str(tmp_path), "check", "02"], "exercises start 02"),
        (["--folder", str(tmp_path), "check", "02"], f"no file {(tmp_path / 'ex02_quantization.py').resolve()}"),
        (["--folder", str(tmp_path), "check", "02"], "give --folder"),
        (["--folder", str(tmp_path), "unlock", "quantize"], "no file"),
        (["--folder", str(tmp_path), "unlock", "nothing"], "no exercise nothing"),
        (["unlock", "dequantize"], "unlocks nothing; in its chapter quantize does"),
    ):
        given = arguments if arguments[0] == "--folder" else [*folder[1:], *arguments]
        assert cli.main(["exercises", *given]) == 2
        assert message in capsys.readouterr().err


def test_the_notebook_door(capsys):
    with pytest.raises(ValueError, match="no exercise nothing"):
        exercises.check(nothing=abs)
    with pytest.raises(TypeError, match="quantize must be a function, got int"):
        exercises.check(quantize=3)

    def quantize(x, qparams):
        raise NotImplementedError

    assert exercises.check(quantize=quantize) is False  # an unfilled cell, after which the notebook runs on
    assert capsys.readouterr().out == "not written yet: quantize\n"
    assert exercises.check(quantize=quantization.quantize) is False
    assert "the book's own; here yours is asked for" in capsys.readouterr().out


GRID = QuantParams(scale=0.25, zero_point=0, bits=4, signed=True)


def test_an_exercise_in_place_gives_the_books_function_until_ones_own_passes(capsys):
    def quantize(x, qparams):
        raise NotImplementedError

    with pytest.raises(ValueError, match="no exercise 'quantize'; did you mean quantize"):
        exercises.yours("quantize")
    assert exercises.yours(quantize)(np.float32([0.5]), GRID) == [2]  # as the book has it
    assert capsys.readouterr().out == "Until your quantize passes, the cells below use the book's.\n"

    def quantize(x, qparams):
        return x

    assert exercises.yours(quantize)(np.float32([0.5]), GRID) == [2]  # as the book has it
    said = capsys.readouterr().out
    assert "expected" in said and said.endswith("Until your quantize passes, the cells below use the book's.\n")
    again = exercises.yours(exercises.yours(quantize))
    assert again(np.float32([0.5]), GRID) == [2] and "run the cell with your `def quantize`" in capsys.readouterr().out
    right = functions(RIGHT)["quantize"]
    assert exercises.yours(right) is right
    assert "unlock(quantize=quantize) draws" in capsys.readouterr().out

    def quantise(x, qparams):
        return x

    with pytest.raises(ValueError, match="no exercise quantise; did you mean quantize"):
        exercises.yours(quantise)


def test_the_book_is_closed_within_a_function_too():
    lines = "from nnzip import quantization as q", "import nnzip.quantization as q", "import nnzip as q"
    for line in (*lines, "from nnzip.quantization import dequantize as q"):
        own = functions(f"def f(x):\n    {line}\n    return 1\n")["f"]
        assert "the book's own" in sandbox.call(own, (1,), {})["message"], line
    own = functions("def f(x):\n    from nnzip.quantization import QuantParams\n    import math\n    return 1\n")["f"]
    assert sandbox.call(own, (1,), {}) == {"value": 1, "printed": ""}


def test_an_installed_wheel_says_that_it_needs_the_clone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(exercises, "GRADERS", tmp_path / "tests" / "exercises")
    assert cli.main(["exercises"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert exercises.check(quantize=abs) is False and "need a clone" in capsys.readouterr().out


def test_unlock_says_why_a_file_does_not_load(tmp_path):
    (tmp_path / f"ex{C02}.py").write_text("def quantize(x, qparams):\n    return (x\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"ex02_quantization.py does not load: SyntaxError: .*never closed.* line 2"):
        exercises.unlock_file("quantize", tmp_path)


def test_unlock_runs_the_students_function(digits, monkeypatch):
    monkeypatch.setattr(unlocking, "load_mnist", lambda: digits)
    original = quantization.quantize
    figure = exercises.unlock(quantize=functions(RIGHT)["quantize"])
    assert len(figure.axes) == 2 and quantization.quantize is original
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert any("the book's" in text for text in legend) and any("with your quantize" in text for text in legend)
    own, book = (line.get_xdata() for line in figure.axes[1].get_lines()[-2:])
    assert list(own) == list(book) and "should lie on the book's" in figure.axes[0].get_title("left")


def test_unlocked_masks_draw_the_columns_of_chapter_05(digits, monkeypatch):
    monkeypatch.setattr(unlocking, "load_mnist", lambda: digits)
    left, right = exercises.unlock(magnitude_mask=functions(solution("05_pruning"))["magnitude_mask"]).axes
    assert "90% of the weights zero" in left.get_xlabel() and "floats" in right.get_xlabel()
    assert len(right.get_legend().get_texts()) == 2


# What INSTRUCTORS.md says


def test_the_table_of_exercises_is_true():
    lines = ["| chapter | exercise | points | checks |", "|---|---|---|---|"]
    for name, exercise in KNOWN.items():
        lines.append(f"| {exercise.chapter[:2]} | `{name}` | {exercise.difficulty} | {len(exercise.checks)} |")
    points, checks = sum(e.difficulty for e in KNOWN.values()), sum(len(e.checks) for e in KNOWN.values())
    lines.append(f"| | {len(KNOWN)} exercises | {points} | {checks} |")
    text = (CHAPTERS_FOLDER / "INSTRUCTORS.md").read_text(encoding="utf-8")
    assert text.split("<!-- table of exercises -->")[1].split("## ")[0].strip() == "\n".join(lines)


def test_the_frame_of_a_message_is_chinese_where_that_is_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["exercises", "--lang", "zh", "start", "02"]) == 0
    path = tmp_path / "exercises" / "ex02_quantization.py"
    wrong = "\n\ndef dequantize(codes, qparams):\n    return codes * qparams.scale\n"
    path.write_text(
        path.read_text(encoding="utf-8") + solution(C02).split("def dequantize")[0] + wrong, encoding="utf-8"
    )
    assert cli.main(["exercises", "--lang", "zh", "check", "02"]) == 1
    monkeypatch.setenv("NNZIP_LANG", "zh")
    assert cli.main(["exercises"]) == 0
    exercises.yours(functions(wrong)["dequantize"])
    said = capsys.readouterr().out
    for word in (
        "由你来填写",
        "输入：",
        "得到：",
        "应为：",
        "首个不同在",
        "可能：",
        "检查中通过",
        "还没有写：",
        "题中通过",
        "第 02 章",
    ):
        assert word in said, word
    for word in ("未通过", "未开始", "下一步：", "使用书中的函数"):
        assert word in said, word
    assert not any(word in said for word in ("input:", "got:", "expected:", "likely:", "passed", "not begun", "Next"))
