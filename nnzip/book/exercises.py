"""Exercises: a student writes a function of the book, the project's own tests grade it.

    from nnzip.book.exercises import check
    check(quantize=my_quantize)                        in a notebook
    python -m nnzip exercises check 02                 a whole file
    python -m pytest --impl=exercises/ex02_quantization.py --junitxml=grades.xml

Behind all three stand the same graders, in tests/exercises of the clone, and they agree: an exercise is passed or not.
"""

import ast
import csv
import difflib
import functools
import importlib.util
import inspect
import os
import re
import runpy
import sys
import textwrap
from pathlib import Path

from nnzip.atomic import atomic_write
from nnzip.book import sandbox
from nnzip.book.grading import UNLOADED, Exercise, grade
from nnzip.checks import one_of

CLONE = Path(__file__).resolve().parents[2]
GRADERS = CLONE / "tests" / "exercises"
GRID = """
A QuantParams is a grid. Its fields:
    scale, zero_point        float32 and int32: a number each; with an axis an array each, an entry for each index of it
    axis                     None, or which axis of the array has scales of its own
    bits, signed             what codes there are: from qmin to qmax, kept in arrays of the dtype `dtype`
    narrow                   True: a signed grid without its lowest code, -127 to 127, as many below 0 as above
"""


def exercises(chapter=None):
    """Return the exercises by name, of one chapter ("02") or of all; FileNotFoundError without a clone."""
    if not GRADERS.is_dir():
        raise FileNotFoundError(
            "the exercises need a clone of the project: their graders are its tests, not in the wheel"
        )
    paths = {path.stem[2:4]: path for path in sorted(GRADERS.glob("ex[0-9][0-9]_*.py"))}
    if chapter is not None:
        number = str(chapter).zfill(2)
        if number[:2] in paths and any(e.notebook == number for e in _load(paths[number[:2]])):
            raise ValueError(f"the exercises of chapter {number} are among those of {number[:2]}")
        paths = {number: paths[one_of(*paths)(number, "chapter")]}
    return {e.name: e for path in paths.values() for e in _load(path)}


def named(known, name):
    """Return what has that name in a dict; ValueError, with the name that is most like it, if nothing has."""
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        like = f"did you mean {near[0]}?" if near else "python -m nnzip exercises lists them"
        raise ValueError(f"no exercise {name}; {like}")
    return known[name]


@functools.cache
def _load(path):
    spec = importlib.util.spec_from_file_location(f"nnzip_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [e for e in vars(module).values() if isinstance(e, Exercise)]
    for each in found:
        each.chapter = path.stem[2:]
    return found


def check(**functions):
    """Grade functions in a notebook: check(quantize=my_quantize). Prints what is wrong; true if all passed.

    The functions run in the notebook's own process, and are stopped there after an exercise's time where signals can.

    Raises ValueError for a name that is no exercise, TypeError for what is no function.
    """
    try:
        known = exercises()
    except FileNotFoundError as error:  # a chapter runs to its end from a wheel too
        print(error)
        return False
    results = [_graded_here(named(known, name), given) for name, given in functions.items()]
    print(frame_words()("\n".join(told(results, here=True))))
    return all(result.state == "passed" for result in results)


def yours(function):
    """Return one's own function if it passes its exercise, and until then the book's; print what is wrong.

    In a chapter the cells after an exercise go on with what this returns: sqnr_db = yours(sqnr_db).
    """
    name, say = getattr(function, "__name__", repr(function)), frame_words()
    try:
        exercise = named(exercises(), name)
    except FileNotFoundError as error:
        print(error)
        return function
    if function is exercise.reference:
        print(say(f"This {name} is the book's, not yours: run the cell with your `def {name}` again."))
        return function
    result = _graded_here(exercise, function)
    if result.state != "not begun":
        print(say("\n".join(told([result], here=True))))
    if result.state == "passed":
        return function
    print(say(f"Until your {name} passes, the cells below use the book's."))
    return exercise.reference


def _graded_here(exercise, function):
    if not callable(function):
        raise TypeError(f"{exercise.name} must be a function, got {type(function).__name__}")
    with sandbox.time_limit(sandbox.TIMES * exercise.seconds):
        return grade(exercise, lambda args, kwargs: sandbox.call(function, args, kwargs, exercise.forbidden))


def told(results, *, here=False):
    """Yield what to say of graded exercises as they come: what is wrong, and last what is not written yet.

    here : in a notebook, which has `unlock`, and needs no command
    """
    known, missing, unloaded = exercises(), [], ""
    for result in results:
        each = known[result.exercise]
        if result.state == "not begun":
            missing.append(result.exercise)
        elif result.state == "passed":
            yield f"{each.name}: passed, {len(each.checks)} checks{_shown(each, here) if each.unlock else ''}"
        elif result.message != unloaded:  # what is wrong with a whole file once
            unloaded = result.message if result.message.startswith(UNLOADED) else ""
            yield f"{result.message}\n"
    if missing:
        yield f"not written yet: {', '.join(missing)}"


def frame_words(lang=None):
    """Return a function that says a message in a language: "en", or "zh" but for its hints; None asks NNZIP_LANG."""
    chinese = os.environ.get("JPY_SESSION_NAME", "").endswith(".zh.ipynb")  # the notebook, where Jupyter tells it
    if not (lang or os.environ.get("NNZIP_LANG") or "zh" * chinese).startswith("zh"):
        return str
    with open(CLONE / "chapters" / "zh" / "exercises.csv", encoding="utf-8", newline="") as file:
        words = [tuple(row.values()) for row in csv.DictReader(file)]
    return lambda text: functools.reduce(lambda said, pair: re.sub(*pair, said, flags=re.MULTILINE), words, text)


def _shown(exercise, here):
    name, draws = exercise.name, exercise.verb == "draws"
    there = f"python -m nnzip exercises unlock {name}"
    how = f"from nnzip.book.exercises import unlock; unlock({name}={name})" if here else there
    return f"; {how} {exercise.verb} {exercise.unlocks}" + (f", into {name}.png" if draws and not here else "")


def grade_file(path, wanted=None, *, chapter=None, seed=0):
    """Grade a student's file in a process of its own; yield a Result for each exercise.

    Which exercises they are, `asked_of` says. seed : of the inputs that are drawn at random
    """
    with sandbox.Sandbox(path) as student:
        for each in asked_of(path, wanted, chapter=chapter):
            limits = {"seconds": each.seconds, "forbidden": each.forbidden}
            yield grade(each, functools.partial(student.call, each.name, **limits), seed=seed)


def asked_of(path, wanted=None, *, chapter=None):
    """Return the exercises that a file is to answer.

    Those that are wanted; else all of the chapter; else all of the chapter in the file's name, such as
    ex02_quantization-1.py; else those whose functions it defines. ValueError if there is none.
    """
    path, known = Path(path), exercises(chapter)
    if path.suffix == ".ipynb":
        raise ValueError(
            f"{path}: notebooks are not graded; put the functions into a file such as ex02_quantization.py"
        )
    if wanted:
        return [named(known, name) for name in wanted]
    number = re.search(r"ex(\d\d)(?!\d)", path.stem)
    if chapter is None and number and (own := [e for e in known.values() if e.chapter.startswith(number[1])]):
        return own
    found = list(known.values()) if chapter is not None else [known[name] for name in _defined(path) if name in known]
    if not found:
        raise ValueError(f"{path} defines no exercise; give --chapter, or a name such as ex02_quantization.py")
    return found


def _defined(path):  # -> names of functions, of whatever form
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no Python: {error}") from None
    for node in tree.body:
        targets = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "targets", [])
        yield from (getattr(target, "name", getattr(target, "id", "")) for target in targets)


# Files of stubs


def start(chapter, folder="exercises"):
    """Write a chapter's file of stubs, ex02_quantization.py; return its path.

    Raises FileExistsError if it is there already (a student's work is never overwritten), ValueError for a chapter
    without exercises.
    """
    chosen = exercises(chapter)
    path = Path(folder) / f"ex{next(iter(chosen.values())).chapter}.py"
    if path.exists():
        raise FileExistsError(f"{path} is there already and stays as it is; move it away to start again, or check it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(stubs(chosen.values()).encode())
    return path


def stubs(chosen):
    """Return the text of a file of stubs, made from the references: signature, docstring, what is asked."""
    parts = list(map(_stub, chosen))
    chapter, _, stem = next(iter(chosen)).chapter.partition("_")
    grids = any("qparams" in part or "QuantParams" in part for part in parts)
    head = f'''"""Exercises of chapter {chapter}, {stem}.

Check them with:      python -m nnzip exercises check {chapter}
or one of them:       python -m nnzip exercises check {next(iter(chosen)).name}
What is called gets NumPy arrays and gives arrays back; bad input comes only where a comment here says so.
{GRID if grids else ""}"""

import numpy as np
'''
    return "\n\n".join([head + ("\nfrom nnzip.quantization import QuantParams\n" if grids else ""), *parts])


def _stub(exercise):
    about = f"{exercise.name}: difficulty {exercise.difficulty} of 3, {exercise.size}; chapter {exercise.number}, "
    lines = [f"{about}section {exercise.section}"]
    lines += [exercise.task] if exercise.task else []
    lines += [f"Not to be used: {', '.join(exercise.forbidden)}"] if exercise.forbidden else []
    lines += [f"It unlocks: {exercise.unlocks}"] if exercise.unlocks else []
    comment = "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, 116))
    source = textwrap.dedent(inspect.getsource(exercise.reference))
    tree = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    for argument in ast.walk(tree.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None  # the kinds of `nnzip.checks`, which a student's file does not have
    doc = textwrap.indent(f'"""{_with_arrays(exercise)}\n"""', "    ").replace("    \n", "\n")
    todo = f'raise NotImplementedError("{exercise.name} of chapter {exercise.number} is yours to write")'
    shapes = re.search(r"\):(  # .*)$", source, re.MULTILINE)  # of the def line
    shapes = shapes[1] if shapes and shapes.start() < source.index('"""') else ""
    return f"{comment}\ndef {exercise.name}({ast.unparse(tree.args)}):{shapes}\n{doc}\n    {todo}\n"


def _with_arrays(exercise):
    """Return the docstring; what its examples give to the function as lists, they give as arrays, as graders do."""

    def array(items):
        return ast.parse(f"np.array({ast.unparse(items)})", mode="eval").body

    def of_numbers(a):  # not of texts, nor of arrays
        inside = [type(getattr(node, "value", node)) for node in ast.walk(a)]
        return isinstance(a, ast.List) and str not in inside and ast.Call not in inside

    class Arrays(ast.NodeTransformer):
        def visit_Call(self, call):
            self.generic_visit(call)
            if getattr(call.func, "id", "") == exercise.name:
                call.args = [array(a) if of_numbers(a) else a for a in call.args]
            return call

    def line_with_arrays(line):
        code = line.lstrip().removeprefix(">>> ")
        if f"{exercise.name}([" not in code:
            return line
        return line.replace(code, ast.unparse(Arrays().visit(ast.parse(code))))

    return "\n".join(map(line_with_arrays, inspect.getdoc(exercise.reference).split("\n")))


def states(folder="exercises"):
    """Return by name whether each exercise is "not begun", "failing", "passed", or its file "does not load"."""
    known = exercises()
    found = dict.fromkeys(known, "not begun")
    for stem in dict.fromkeys(e.chapter for e in known.values()):
        path = Path(folder) / f"ex{stem}.py"
        if path.is_file():
            print(f"grading {path} ...", file=sys.stderr, flush=True)  # which may take a while
            for name, state, message, _ in grade_file(path):
                found[name] = "does not load" if message.startswith(UNLOADED) else state
    return found


# One's own function inside the book


def unlock(**functions):
    """Let one's own function work inside the book: unlock(quantize=my_quantize) returns a figure, or text.

    Raises ValueError for a name that is no exercise or unlocks nothing, and for a function that does not pass.
    """
    if len(functions) != 1:
        raise ValueError(f"unlock takes one function at a time, got {', '.join(functions) or 'none'}")
    [(name, function)] = functions.items()
    exercise = named(exercises(), name)
    if not exercise.unlock:
        own = [e.name for e in exercises(exercise.chapter[:2]).values() if e.unlock]
        raise ValueError(f"{name} unlocks nothing; in its chapter {', '.join(own)} does")
    result = _graded_here(exercise, function)
    if result.state != "passed":
        raise ValueError(f"what {name} unlocks needs one that passes. {result.message}")
    return exercise.unlock(function)


def unlock_file(name, folder="exercises"):
    """Let the function of that name from one's own file work inside the book, as `unlock` does."""
    path = file_of(named(exercises(), name), folder)
    try:
        function = runpy.run_path(str(path)).get(name)  # one's own code on one's own machine, so not in the sandbox
    except Exception as error:  # whatever the file does
        raise ValueError(f"{path} does not load: {type(error).__name__}: {error}") from error
    if function is None:
        raise ValueError(f"{path} has no function {name}")
    return unlock(**{name: function})


def file_of(exercise, folder="exercises"):
    """Return the path of the file of one's own that holds an exercise; FileNotFoundError if there is none."""
    path = Path(folder) / f"ex{exercise.chapter}.py"
    if not path.is_file():
        start = f"python -m nnzip exercises start {exercise.chapter[:2]}"
        raise FileNotFoundError(f"no file {path.resolve()}: {start} writes it; if yours is elsewhere, give --folder")
    return path
