"""Exercises: a student writes a function of the book, the project's own tests grade it.

    from nnzip.book.exercises import check
    check(quantize=my_quantize)                        in a notebook
    python -m nnzip exercises check 02                 a whole file
    python -m pytest --impl=exercises/ex02_quantization.py --junitxml=grades.xml

Behind all three stand the same graders, in tests/exercises of the clone: for each exercise a reference (whose signature
and docstring make the stub) and checks, functions that call the student's function and hold its answers against numbers
worked out independently.
"""

import ast
import contextlib
import functools
import importlib.util
import inspect
import re
import runpy
import sys
import textwrap
from pathlib import Path

from nnzip.atomic import atomic_write
from nnzip.book import sandbox
from nnzip.book.grading import Exercise, Result, run_check
from nnzip.book.plots import error_curves
from nnzip.book.study import error_grid
from nnzip.book.techniques import FLOAT
from nnzip.checks import one_of
from nnzip.data import load_mnist
from nnzip.nn.zoo import trained

GRADERS = Path(__file__).resolve().parents[2] / "tests" / "exercises"


def exercises(chapter=None):
    """Return the exercises by name, of one chapter ("02") or of all; FileNotFoundError without a clone."""
    if not GRADERS.is_dir():
        raise FileNotFoundError(
            "the exercises need a clone of the project: their graders are its tests, not in the wheel"
        )
    found = {}
    for path in sorted(GRADERS.glob("ex[0-9][0-9]_*.py")):
        if chapter is None or path.stem[2:4] == chapter.zfill(2):
            found |= {e.name: e for e in _load(path)}
    if not found:
        chapters = sorted(path.stem[2:4] for path in GRADERS.glob("ex[0-9][0-9]_*.py"))
        raise ValueError(f"chapter must be one of {', '.join(chapters)}, got {chapter}")
    return found


_LOADED = {}


def _load(path):
    if path not in _LOADED:
        spec = importlib.util.spec_from_file_location(f"nnzip_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _LOADED[path] = [e for e in vars(module).values() if isinstance(e, Exercise)]
        for exercise in _LOADED[path]:
            exercise.chapter = path.stem[2:]
    return _LOADED[path]


def check(**functions):
    """Grade functions in a notebook: check(quantize=my_quantize). Prints what is wrong; true if all passed.

    The functions run in the notebook's own process: nothing stops an endless loop there but the stop button.

    Raises ValueError for a name that is no exercise, TypeError for what is no function.
    """
    try:
        known, results = exercises(), []
    except FileNotFoundError as error:  # a chapter runs to its end from a wheel too
        print(error)
        return False
    for name, function in functions.items():
        exercise = known[one_of(*known)(name, "exercise")]
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {type(function).__name__}")
        if function is exercise.reference:
            print(f"{name}: this is nnzip's own; give yours")
        results.append(_graded(exercise, functools.partial(_ask_here, function)))
        print(told(results[-1]))
    return all(result.state == "passed" for result in results)


def _ask_here(function, *args, **kwargs):
    return sandbox.call(function, args, kwargs)


def _graded(exercise, ask):  # the first check that does not pass decides
    results = [run_check(exercise, check, ask) for check in exercise.checks]
    passed = sum(result.state == "passed" for result in results)
    if passed == len(results):
        return Result(exercise.name, "", "passed")
    first = next(result for result in results if result.state != "passed")
    if first.state == "not begun":
        return first
    return Result(exercise.name, first.check, "failing", f"{first.message}\n  ({passed} of {len(results)} checks pass)")


def told(result):
    """Return what to say of a graded exercise."""
    if result.state != "passed":
        return result.message
    exercise = exercises()[result.exercise]
    unlocked = f"; python -m nnzip exercises unlock {exercise.name} shows {exercise.unlocks}" if exercise.unlock else ""
    return f"{exercise.name}: passed, {len(exercise.checks)} checks{unlocked}"


def grade_file(path, wanted=None):
    """Grade a student's file in a process of its own; yield a Result for each exercise.

    Parameters
    ----------
    path : the file; its name, such as ex02_quantization.py, says which exercises it must answer, all of
        its chapter's; with any other name these are the exercises whose functions it defines
    wanted : names of exercises, instead

    Raises OSError if a file of another name cannot be read, ValueError if it holds no exercise.
    """
    for exercise in asked_of(path, wanted):
        with implementation(path, exercise) as ask:
            yield _graded(exercise, ask)


def asked_of(path, wanted=None):
    """Return the exercises that a file is to answer."""
    path, known = Path(path), exercises()
    if wanted:
        return [known[one_of(*known)(name, "exercise")] for name in wanted]
    chapter = [e for e in known.values() if path.stem == f"ex{e.chapter}"]
    found = chapter or [known[name] for name in _functions(path) if name in known]
    if not found:
        raise ValueError(f"{path} defines no exercise; a name such as ex02_quantization.py says which it should")
    return found


def _functions(path):
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no Python: {error}") from None
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


@contextlib.contextmanager
def implementation(path, exercise):
    """Hand out what answers for an exercise's function in a student's file: a process, or the reason for none."""
    problem = _unfit(Path(path), exercise)
    if problem:
        yield lambda *args, **kwargs: problem
        return
    with sandbox.Sandbox(path, seconds=exercise.seconds) as student:
        yield lambda *args, **kwargs: student.call(exercise.name, *args, **kwargs)


def _unfit(path, exercise):
    try:
        source = path.read_text(encoding="utf-8")
        refused = sandbox.refusals(source, function=exercise.name, forbidden=exercise.forbidden)
    except SyntaxError as error:
        where = f"line {error.lineno}: {(error.text or '').strip()}"
        return {"error": "SyntaxError", "message": error.msg, "where": where}
    except (OSError, ValueError) as error:  # no file; not UTF-8, or null bytes
        return {"error": "ValueError", "message": str(error), "where": ""}
    return {"error": "not allowed", "message": "; ".join(refused), "where": ""} if refused else None


def start(chapter, folder="exercises"):
    """Write a chapter's file of stubs, ex02_quantization.py; return its path.

    Raises FileExistsError if it is there already (a student's work is never overwritten), ValueError for a chapter
    without exercises.
    """
    chosen = exercises(chapter)
    path = Path(folder) / f"ex{next(iter(chosen.values())).chapter}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already and stays as it is; move it away to start again")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(stubs(chosen.values()).encode())
    return path


def stubs(chosen):
    """Return the text of a file of stubs, made from the references: signature, docstring, what is asked."""
    chosen = list(chosen)
    chapter, _, stem = chosen[0].chapter.partition("_")
    head = f'''"""Exercises of chapter {chapter}, {stem}.

Check them with:      python -m nnzip exercises check {chapter}
May be imported:      numpy, QuantParams as below, {", ".join(sorted(sandbox.MODULES - {"numpy"}))}
QuantParams:          the grid that chapter 02 explains; help(QuantParams) lists its fields
The graders give NumPy arrays and want arrays back; bad input they give only where a comment here says so.
"""

import numpy as np

from nnzip.quantization import QuantParams
'''
    return "\n\n".join([head, *(_stub(e) for e in chosen)])


def _stub(exercise):
    about = f"{exercise.name}: difficulty {exercise.difficulty} of 3, {exercise.size}; chapter {exercise.chapter[:2]}, "
    lines = [f"{about}section {exercise.section}"]
    lines += [exercise.task] if exercise.task else []
    lines += [f"Not to be used: {', '.join(exercise.forbidden)}"] if exercise.forbidden else []
    lines += [f"It unlocks: {exercise.unlocks}"] if exercise.unlocks else []
    comment = "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, 116))
    tree = ast.parse(textwrap.dedent(inspect.getsource(exercise.reference))).body[0]
    for argument in ast.walk(tree.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None  # the kinds of `nnzip.checks`, which a student's file does not have
    doc = textwrap.indent(f'"""{inspect.getdoc(exercise.reference)}\n"""', "    ").replace("    \n", "\n")
    todo = f'raise NotImplementedError("{exercise.name} of chapter {exercise.chapter[:2]} is yours to write")'
    shapes = re.search(r"\):(  # .*)$", inspect.getsource(exercise.reference), re.MULTILINE)  # of the def line
    shapes = shapes[1] if shapes and shapes.start() < inspect.getsource(exercise.reference).index('"""') else ""
    return f"{comment}\ndef {exercise.name}({ast.unparse(tree.args)}):{shapes}\n{doc}\n    {todo}\n"


def states(folder="exercises"):
    """Return the state of every exercise by name, "not begun", "failing" or "passed": each file there is graded."""
    known = exercises()
    found = dict.fromkeys(known, "not begun")
    for stem in dict.fromkeys(e.chapter for e in known.values()):
        path = Path(folder) / f"ex{stem}.py"
        if path.is_file():
            found |= {result.exercise: result.state for result in grade_file(path)}
    return found


def unlock(**functions):
    """Let one's own function work inside the book: unlock(quantize=my_quantize) returns a figure, or text.

    Raises ValueError for a name that is no exercise, and for a function that does not pass.
    """
    if len(functions) != 1:
        raise ValueError(f"unlock takes one function at a time, got {', '.join(functions) or 'none'}")
    [(name, function)] = functions.items()
    exercise = exercises()[one_of(*exercises())(name, "exercise")]
    result = _graded(exercise, functools.partial(_ask_here, function))
    if result.state != "passed":
        raise ValueError(f"what {name} unlocks needs one that passes. {result.message}")
    return exercise.unlock(function)


def unlock_file(name, folder="exercises"):
    """Let the function of that name from one's own file work inside the book, as `unlock` does."""
    path = Path(folder) / f"ex{exercises()[one_of(*exercises())(name, 'exercise')].chapter}.py"
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    function = runpy.run_path(str(path)).get(name)  # one's own code on one's own machine, so not in the sandbox
    if function is None:
        raise ValueError(f"{path} has no function {name}")
    return unlock(**{name: function})


@contextlib.contextmanager
def in_place_of(reference, function):
    """Put a function in the place of nnzip's own, in every module that uses it, for the length of a block."""
    places = [
        (module, name)
        for key, module in list(sys.modules.items())
        if key.split(".")[0] == "nnzip"
        for name, value in list(vars(module).items())
        if value is reference
    ]
    for module, name in places:
        setattr(module, name, function)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, reference)


def signature_of(reference, function, *, technique):
    """Return the signature figure of the MLP, seed 0, with a student's function in the place of nnzip's own."""
    network, data = trained("lenet_300_100"), load_mnist()
    with in_place_of(reference, function):
        bits = error_grid(network, data, technique=technique, bits=(2, 3, 4, 6, 8, FLOAT), sparsities=(0,))
        zeros = error_grid(
            network, data, technique=technique, bits=(4, FLOAT), sparsities=(0, 0.5, 0.7, 0.8, 0.9, 0.95)
        )
    records = [{"network": "lenet_300_100", "seed": 0, **record} for record in bits + zeros]
    return error_curves(records, names={technique: f"with your {reference.__name__}"})
