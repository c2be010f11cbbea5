"""The graders are graded: what should pass does, and what should not, does not, through all three doors.

A plain run takes a sample of the planted bugs; `pytest --all-planted` takes all, as continuous integration does.
"""

import inspect
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from headings import CHAPTERS as CHAPTERS_FOLDER
from headings import headings
from planted import CHAPTERS, KNOWN, bugs, functions, of_chapter, plant, solution, wholly_planted

from nnzip import (
    cli,
    distillation,
    equalization,
    hadamard,
    matmul,
    pruning,
    quantization,
    reconstruction,
    requantization,
)
from nnzip.book import exercises, grading, sandbox
from nnzip.compression import low_precision, mixed_precision, qat, search
from nnzip.nn import layers, training
from nnzip.quantization import QuantParams

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
PYTEST += ["-p", "no:hypothesispytest", "-p", "no:anyio"]  # plugins of packages that may be there: a second each time


def pytest_generate_tests(metafunc):
    everything = metafunc.config.getoption("--all-planted")
    if "bug" in metafunc.fixturenames:
        each = [(name, *bug) for chapter in CHAPTERS for name, found in bugs(chapter).items() for bug in found]
        each = each if everything else each[::48]
        metafunc.parametrize("bug", each, ids=[f"{name}-{what}" for name, what, *_ in each])
    if "source" in metafunc.fixturenames:
        sources = list(HOSTILE) if everything else list(HOSTILE)[::2]
        metafunc.parametrize("source", sources, ids=range(len(sources)))
    if "kind_of_file" in metafunc.fixturenames:
        metafunc.parametrize("kind_of_file", NO_WORK if everything else ["stub"])
    if "kind_of_answer" in metafunc.fixturenames:
        kinds = ["stub", "lambda", "none", "argument back"]
        metafunc.parametrize("kind_of_answer", kinds if everything else ["argument back"])
    if "submission" in metafunc.fixturenames:
        names = ["ex02_quantization.py", "other.py"]
        metafunc.parametrize("submission", names if everything else names[:1])
    if "through_doors" in metafunc.fixturenames:  # a process for every exercise: one chapter will do in a plain run
        metafunc.parametrize("through_doors", CHAPTERS if everything else ["02_quantization"])
    if "without_nnzip" in metafunc.fixturenames:
        metafunc.parametrize("without_nnzip", CHAPTERS if everything else CHAPTERS[1::4])
    if "solved" in metafunc.fixturenames:  # all are held to more by test_graders_need_no_reference_and_no_order
        firsts = [of_chapter(chapter)[0].name for chapter in CHAPTERS]
        metafunc.parametrize("solved", KNOWN if everything else firsts)
    if "planted_file" in metafunc.fixturenames:
        most = {chapter: max(map(len, bugs(chapter).values())) for chapter in CHAPTERS}
        pairs = [(chapter, i) for chapter in CHAPTERS for i in range(most[chapter])]
        pairs = pairs if everything else [("02_quantization", 0)]
        metafunc.parametrize("planted_file", pairs, ids=[f"{chapter}-{i}" for chapter, i in pairs])


def only_with_all_planted(request):
    if not request.config.getoption("--all-planted"):
        pytest.skip("needs --all-planted: in a plain run test_the_gradescope_script_runs goes through these doors")


def notebook_door(name, function, capsys):
    """The states of one exercise, and what was said."""
    passed = exercises.check(**{name: function})
    return passed, capsys.readouterr().out


def command_door(path, capsys):
    """{exercise: passed} of a file, by `python -m nnzip exercises check`."""
    code = cli.main(["exercises", "--folder", str(path.parent), "check", path.stem[2:4]])
    said = capsys.readouterr().out
    asked = exercises.asked_of(path)
    passed = {e.name: f"\n{e.name}: passed" in f"\n{said}" for e in asked}
    assert code == (0 if all(passed.values()) else 1)
    assert f"{sum(passed.values())} of {len(asked)} passed" in said
    return passed, said


def both_doors(path, capsys):
    """{exercise: passed} of a file, by `pytest --impl`, from the JUnit report, and meanwhile by the command."""
    report = path.with_suffix(".xml")
    command = [*PYTEST, f"--impl={path}", f"--junitxml={report}"]
    run = subprocess.Popen(command, cwd=exercises.GRADERS.parents[1], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    by_command = command_door(path, capsys)
    said = run.communicate()[0].decode()
    passed = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name").split("[")[1].split("-")[1]
        good = case.find("failure") is None and case.find("error") is None and case.find("skipped") is None
        passed[name] = passed.get(name, True) and good
    assert run.returncode == (0 if all(passed.values()) else 1), said
    return (passed, said), by_command


def student_file(folder, chapter, source):
    path = folder / f"ex{chapter}.py"
    path.write_text(source, encoding="utf-8")
    return path


# What passes


def test_solutions_pass_in_a_notebook(solved, capsys):
    passed, said = notebook_door(solved, functions(solution(KNOWN[solved].chapter))[solved], capsys)
    assert passed, said


def test_solutions_pass_by_the_command_and_by_pytest(through_doors, tmp_path, capsys, request):
    only_with_all_planted(request)
    path = student_file(tmp_path, through_doors, solution(through_doors))
    names = {exercise.name for exercise in of_chapter(through_doors)}
    for passed, said in both_doors(path, capsys):
        assert passed == dict.fromkeys(names, True), said


def test_the_reference_passes(solved, capsys):
    """In every chapter; tests/test_exercises.py runs each check on its reference."""
    passed, said = notebook_door(solved, KNOWN[solved].reference, capsys)
    assert passed, said
    assert "this is nnzip's own" in said


def test_graders_need_no_reference_and_no_order(without_nnzip, monkeypatch):
    """With every function of nnzip's techniques out of order, and the checks backwards, a solution still passes."""

    def broken(*args, **kwargs):
        raise AssertionError("a check called nnzip's own function")

    techniques = (quantization, requantization, matmul, hadamard, pruning, distillation, reconstruction, equalization)
    for module in (*techniques, training, layers, low_precision, mixed_precision, qat, search):
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and not name.startswith("_") and value.__module__ == module.__name__:
                monkeypatch.setattr(module, name, broken)
    written = functions(solution(without_nnzip))
    for exercise in of_chapter(without_nnzip):
        for check in reversed(exercise.checks):
            result = grading.run_check(exercise, check, lambda *a, n=exercise.name, **k: sandbox.call(written[n], a, k))
            assert result.state == "passed", result.message


# What does not


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # some bugs divide by zero
def test_each_planted_bug_is_caught_in_a_notebook(bug, capsys, caught):
    name, what, old, new = bug
    source = plant(solution(KNOWN[name].chapter), name, old, new)
    passed, said = notebook_door(name, functions(source)[name], capsys)
    caught["notebook"][name, what] = not passed
    assert not passed, f"{name} that {what} passes"
    assert f"{name}:" in said


def test_each_planted_bug_is_caught_by_the_command_and_by_pytest(planted_file, tmp_path, capsys, caught, request):
    only_with_all_planted(request)
    chapter, i = planted_file
    source, planted = wholly_planted(chapter, i)
    path = student_file(tmp_path, chapter, source)
    for door, (passed, said) in zip(("pytest", "command"), both_doors(path, capsys), strict=True):
        assert set(passed) == set(planted), said
        for name, what in planted.items():
            caught[door][name, what] = not passed[name]
            assert not passed[name], f"{name} that {what} passes"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_planted_bugs_suffice_and_differ(chapter):
    assert set(bugs(chapter)) == {exercise.name for exercise in of_chapter(chapter)}
    for name, found in bugs(chapter).items():
        sources = {plant(solution(chapter), name, old, new) for _, old, new in found}
        assert len(found) >= 5 and len(sources) == len(found) == len({what for what, *_ in found}), name


NO_WORK = {  # files that answer nothing, or anything
    "stub": lambda chapter, names: exercises.stubs(of_chapter(chapter)),
    "empty": lambda chapter, names: "",
    "syntax error": lambda chapter, names: f"{solution(chapter)}\ndef broken(:\n",
    "lambda": lambda chapter, names: "".join(f"{name} = lambda *a, **k: 0\n" for name in names),
    "none": lambda chapter, names: "".join(f"def {name}(*a, **k): pass\n" for name in names),
    "argument back": lambda chapter, names: "".join(f"def {name}(*a, **k): return a[0]\n" for name in names),
}
SAID = {"stub": "not written yet", "empty": "no function", "syntax error": "SyntaxError"}


@pytest.mark.parametrize("name", KNOWN)
def test_no_work_no_pass_in_a_notebook(name, kind_of_answer, capsys):
    kind = kind_of_answer
    source = NO_WORK[kind](KNOWN[name].chapter, [name])
    passed, said = notebook_door(name, functions(source)[name], capsys)
    assert not passed and SAID.get(kind, f"{name}:") in said


def test_no_work_no_pass_by_the_command_and_by_pytest(kind_of_file, through_doors, tmp_path, capsys, request):
    kind = kind_of_file
    everything = request.config.getoption("--all-planted")
    names = [exercise.name for exercise in of_chapter(through_doors)]
    path = student_file(tmp_path, through_doors, NO_WORK[kind](through_doors, names))
    doors = both_doors(path, capsys) if everything else [command_door(path, capsys)]
    for passed, said in doors:
        assert passed == dict.fromkeys(names, False), said
        assert said.count(SAID.get(kind, "got:")) >= len(names)


# A process of its own


HOSTILE = {
    "def dequantize(codes, qparams):\n    while True: pass": "took more than",
    "while True: pass": "while the file was loaded: took more than",
    "import numpy as np\ndef dequantize(codes, qparams): return np.ones((10**6, 10**6))": "MemoryError",
    "import numpy as np\ndef dequantize(codes, qparams): return [np.zeros(10**8) for _ in range(10**3)]": "MemoryError",
    "def dequantize(codes, qparams): raise SystemExit(0)": "raised:   SystemExit",
    "raise SystemExit(0)": "raised:   SystemExit",
    "def dequantize(codes, qparams): return 10**100000": "Exceeds the limit",
    "def dequantize(codes, qparams): return codes.tolist()": "a NumPy array and no list",
    "import typing\nos = typing.sys.modules['os']": "sys is not allowed",
    "import numpy as np\nos = np.lib._datasource.os": "_datasource is not allowed",
    "from numpy._core.numeric import builtins": "numpy._core.numeric.builtins must not be imported",
    "from itertools import __loader__": "__loader__ must not be imported",
    "import operator": "operator must not be imported",
    "import numpy as np\nnp.savetxt('conftest.py', ['print(1)'], fmt='%s')": "savetxt is not allowed",
    "x = '{0.__init__}'.format(1)": "format is not allowed",
    "import numpy.testing as T": "numpy.testing must not be imported",
    "def dequantize(codes, qparams): return dequantize(codes, qparams)": "RecursionError",
    "class A:\n    def __eq__(self, o): return True\ndef dequantize(c, q): return A()": "a A is no answer",
    "def dequantize(codes, qparams):\n    codes[:] = 0\n    return codes": "changed:  argument 1",
    "from nnzip.quantization import dequantize": "dequantize must not be imported",
    "import nnzip.quantization": "nnzip.quantization must not be imported",
    "from nnzip import quantization": "nnzip.quantization must not be imported",
    "import importlib": "importlib must not be imported",
    "import os": "os must not be imported",
    "def dequantize(c, q): return __import__('nnzip').quantization.dequantize(c, q)": "__import__ is not allowed",
    "from nnzip.quantization import QuantParams as Q\ndequantize = Q.__init__.__globals__['dequantize']": "__globals__",
    "from numpy import fromfile": "fromfile must not be imported",
    "dequantize = eval('1')": "eval is not allowed",
    "def pytest_runtest_makereport(item, call): call.excinfo = None": "no function dequantize in the file",
    "import numpy as np\nnp.testing.assert_allclose = np.array_equal = None": "testing is not allowed",
    "import numpy as np\nnp.array_equal = lambda *a, **k: True\ndef dequantize(c, q): return c": "got:",
    "x = '\x00'": "null bytes",
}


def test_hostile_files_get_no_pass_and_an_answer(source, tmp_path, monkeypatch):
    monkeypatch.setattr(KNOWN["dequantize"], "seconds", 0.5 if "while True" in source else 10)  # what ends has time
    path = student_file(tmp_path, "02_quantization", source)
    [result] = exercises.grade_file(path, ["dequantize"])
    assert result.state == "failing" and HOSTILE[source] in result.message, result.message


def test_what_is_forbidden_is_forbidden_in_helpers_too():
    source = "def helper(x):\n    return x @ x\ndef f(x):\n    return helper(x)\ndef g(x):\n    return x.dot(x)\n"
    assert sandbox.refusals(source, function="f", forbidden=("@", "dot")) == ["line 2: @ is not allowed here"]
    assert sandbox.refusals(source, function="g", forbidden=("@", "dot")) == ["line 6: dot is not allowed here"]
    assert sandbox.refusals(source) == sandbox.refusals(source, function="f", forbidden=["dot"]) == []


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A folder with a conftest.py, and a student's file that pytest graded there: one function of it is wrong."""
    folder = tmp_path_factory.mktemp("graded")
    (folder / "conftest.py").write_text(f"open({str(folder / 'was run')!r}, 'w').close()\n")
    source = solution("02_quantization").replace("np.rint(x / scale)", "x / scale")
    path = student_file(folder, "02_quantization", source)
    command = [*PYTEST, "--impl", str(path), f"--junitxml={folder / 'grades.xml'}"]
    return path, subprocess.run(command, cwd=exercises.GRADERS.parents[1], capture_output=True, text=True)


def test_pytest_runs_nothing_that_lies_beside_a_students_file(graded, tmp_path):
    path, run = graded
    assert run.returncode == 1 and "test_exercise[02-quantize-ties_go_to_even]" in run.stdout, run.stdout + run.stderr
    assert not (path.parent / "was run").exists()
    path = student_file(tmp_path, "02_quantization", "")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # with a space between, this would be pytest's configuration
    command = [*PYTEST, "--impl", str(path)]
    run = subprocess.run(command, cwd=exercises.GRADERS.parents[1], capture_output=True, text=True)
    assert run.returncode == 4 and "--impl=FILE in one word" in run.stderr


def test_numbers_come_through_and_nothing_else():
    import io

    grid = QuantParams([0.5, 0.25], [1, 2], 4, False, axis=0)
    value = {"a": np.arange(6, dtype=np.int8).reshape(2, 3), 3: (1, 2.5, None, [True, "text"]), "s": np.float32(0.1)}
    back = sandbox.read(io.BytesIO(sandbox.message({**value, "grid": grid, "nan": np.nan, "empty": np.zeros((0, 3))})))
    np.testing.assert_array_equal(back["a"], value["a"], strict=True)
    assert back[3] == value[3] and type(back["s"]) is np.float32 and back["s"] == value["s"]
    assert repr(back["grid"]) == repr(grid) and np.isnan(back["nan"]) and back["empty"].shape == (0, 3)
    for bad in (object(), {"x": object()}, np.array([object()]), 1j, len, {1, 2}):
        with pytest.raises(TypeError, match="is no answer here"):
            sandbox.message(bad)


# Doors and stubs


def test_a_stub_is_the_reference_without_its_body():
    source = exercises.stubs(of_chapter("02_quantization"))
    for exercise in of_chapter("02_quantization"):
        stub = functions(source)[exercise.name]
        given, asked = (inspect.signature(f).parameters.values() for f in (stub, exercise.reference))
        assert [(p.name, p.kind, p.default) for p in given] == [(p.name, p.kind, p.default) for p in asked]
        assert inspect.getdoc(stub).split() == inspect.getdoc(exercise.reference).split()
        with pytest.raises(NotImplementedError, match=exercise.name):
            stub(
                *[None]
                * len([p for p in inspect.signature(stub).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD])
            )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_start_never_overwrites(chapter, tmp_path, capsys):
    arguments = ["exercises", "--folder", str(tmp_path / "new"), "start", chapter[:2]]
    assert cli.main(arguments) == 0
    path = tmp_path / "new" / f"ex{chapter}.py"
    compile(path.read_text(encoding="utf-8"), path, "exec")
    path.write_text("mine")
    assert cli.main(arguments) == 2 and "stays as it is" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_list_shows_the_states(tmp_path, capsys):
    source = plant(solution("02_quantization"), "quantize", "np.rint", "np.floor")
    student_file(
        tmp_path,
        "02_quantization",
        source.replace("    noise = np.sum", "    raise NotImplementedError\n    noise = np.sum"),
    )
    assert cli.main(["exercises", "--folder", str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")}
    assert set(lines) == set(KNOWN)
    states = {
        name: next(s for s in ("not begun", "failing", "passed") if f" {s} " in line) for name, line in lines.items()
    }
    assert (states["quantize"], states["sqnr_db"], states["dequantize"]) == ("failing", "not begun", "passed")
    assert all(state == "not begun" for name, state in states.items() if KNOWN[name].chapter != "02_quantization")


def test_check_of_a_file_of_any_name(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(solution("02_quantization"))
    assert cli.main(["exercises", "check", str(path), "quantize"]) == 0
    assert "1 of 1 passed" in capsys.readouterr().out
    (tmp_path / "own").mkdir()
    student_file(tmp_path / "own", "02_quantization", solution("02_quantization"))
    assert cli.main(["exercises", "--folder", str(tmp_path / "own"), "check", "quantize", "nonsense"]) == 2
    assert "exercise must be one of" in capsys.readouterr().err
    path.write_text("def helper(): pass")
    for arguments, message in (
        (["check", str(path)], "defines no exercise"),
        (["--folder", str(tmp_path), "check", "quantize"], "exercises start 02"),
        (["--folder", str(tmp_path), "check", "2"], "exercises start 02"),
        (["check", str(tmp_path / "none.py")], "no file"),
        (["check", "99"], "chapter must be one of"),
        (["start", "99"], "chapter must be one of"),
        (["--folder", str(tmp_path), "check", "02"], "exercises start 02"),
        (["--folder", str(tmp_path), "unlock", "quantize"], "no file"),
        (["--folder", str(tmp_path), "unlock", "nothing"], "exercise must be one of"),
    ):
        assert cli.main(["exercises", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_notebook_door_refuses_what_it_does_not_know(capsys):
    with pytest.raises(ValueError, match=r"exercise must be one of .*, got 'nothing'"):
        exercises.check(nothing=abs)
    with pytest.raises(TypeError, match="quantize must be a function, got int"):
        exercises.check(quantize=3)


def test_an_unfilled_cell_of_a_notebook_runs_on(capsys):
    def quantize(x, qparams):
        raise NotImplementedError

    assert exercises.check(quantize=quantize) is False
    assert capsys.readouterr().out == "quantize is not written yet\n"


def test_an_installed_wheel_says_that_it_needs_the_clone(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(exercises, "GRADERS", tmp_path / "tests" / "exercises")
    assert cli.main(["exercises"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert exercises.check(quantize=abs) is False and "need a clone" in capsys.readouterr().out


def test_messages_teach(capsys):
    assert not exercises.check(quantize=lambda x, grid: (np.floor(x / grid.scale + 0.5) + grid.zero_point).astype(int))
    said = capsys.readouterr().out
    for part in ("input:", "got:", "expected:", "likely:", "rint rounds halves to even", "checks pass)"):
        assert part in said


@pytest.mark.parametrize("name", KNOWN)
def test_an_exercise_belongs_to_a_section_and_unlocks_something(name):
    exercise = KNOWN[name]
    assert exercise.section in headings(exercise.chapter)
    assert exercise.difficulty in (1, 2, 3) and exercise.size and exercise.unlocks and exercise.unlock
    assert len(exercise.checks) >= 3 and all(inspect.getdoc(check) for check in exercise.checks)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_names_its_exercises_and_has_a_cell_for_one(chapter):
    text = (CHAPTERS_FOLDER / f"{chapter}.ipynb").read_text(encoding="utf-8")
    graded = text.split("**Graded**")[1]
    assert all(f"`{exercise.name}` {'★' * exercise.difficulty}" in graded for exercise in of_chapter(chapter))
    assert "passed = check(" in graded and f"exercises start {chapter[:2]}" in graded


def test_unlock_runs_the_students_function(digits, monkeypatch):
    monkeypatch.setattr(exercises, "load_mnist", lambda: digits)
    calls = []

    def dequantize(codes, qparams):
        calls.append(codes.shape)
        return original(codes, qparams)

    original = quantization.dequantize
    figure = exercises.unlock(dequantize=dequantize)
    assert (300, 784) in calls and len(figure.axes) == 2 and quantization.dequantize is original


# What INSTRUCTORS.md says

INSTRUCTORS = (CHAPTERS_FOLDER / "INSTRUCTORS.md").read_text(encoding="utf-8")


def test_the_table_of_exercises_is_true():
    lines = ["| chapter | exercise | difficulty | checks | planted bugs, all caught |", "|---|---|---|---|---|"]
    for name, exercise in KNOWN.items():
        count = len(bugs(exercise.chapter)[name])
        lines.append(
            f"| {exercise.chapter[:2]} | `{name}` | {exercise.difficulty} | {len(exercise.checks)} | {count} |"
        )
    total = sum(len(found) for chapter in CHAPTERS for found in bugs(chapter).values())
    lines.append(f"| | {len(KNOWN)} exercises | | {sum(len(e.checks) for e in KNOWN.values())} | {total} |")
    table = INSTRUCTORS.split("<!-- table of exercises -->")[1].split("## ")[0].strip()
    assert table == "\n".join(lines)


def gradescope(folder, monkeypatch):
    """{test: its result} of grades.xml in a folder, by the script of INSTRUCTORS.md."""
    monkeypatch.chdir(folder)
    exec(INSTRUCTORS.split("--junitxml=grades.xml`:\n\n```python\n")[1].split("```")[0], {})
    return {test["name"]: test for test in json.loads((folder / "results.json").read_text())["tests"]}


def test_no_submission_no_points(submission, tmp_path, monkeypatch):
    command = [*PYTEST, f"--impl={tmp_path / submission}", f"--junitxml={tmp_path / 'grades.xml'}"]
    run = subprocess.run(command, cwd=exercises.GRADERS.parents[1])
    tests = gradescope(tmp_path, monkeypatch)
    assert run.returncode != 0 and tests and all(test["score"] == 0 for test in tests.values())


def test_the_gradescope_script_runs(graded, monkeypatch):
    tests = gradescope(graded[0].parent, monkeypatch)
    assert len(tests) == sum(len(exercise.checks) for exercise in of_chapter("02_quantization"))
    assert {test["score"] for name, test in tests.items() if "-quantize-" not in name} == {1.0}
    bad = tests["test_exercise[02-quantize-ties_go_to_even]"]
    assert bad["score"] == 0 and "expected:" in bad["output"]
