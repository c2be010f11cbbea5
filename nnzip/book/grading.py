"""What an exercise is, and how its checks grade a function and say what is wrong.

A check is a row with the answer (`case`), inputs drawn at random and held against nnzip's own function (`draw`), or a
function that looks at the answers itself (`check`).
"""

import contextlib
import copy
import inspect
import re
import textwrap
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nnzip.book import sandbox
from nnzip.book.messages import QPARAMS
from nnzip.quantization import QuantParams


class Wrong(AssertionError):
    """An answer is not the expected one; the message says what came, what should, and the likely mistake."""


class NotBegun(Exception):
    """The function is still its stub."""


class Check(NamedTuple):
    """One thing that is asked of a function: a sentence, and run(student, rng), which raises `Wrong`."""

    about: str
    run: object


class Result(NamedTuple):
    """How an exercise came out: "passed", "failing" or "not begun", why, and how many of its checks passed."""

    exercise: str
    state: str
    message: str = ""
    passed: int = 0


@dataclass
class Exercise:
    """A function to write.

    reference : nnzip's own function, or one in the grader's file that states the task; gives name, signature, docstring
    section : the heading of the chapter that it belongs to
    notebook : the number of that chapter, such as 05b, where it is not the file's
    difficulty : 1 (a line), 2 (an hour), 3 (an afternoon); the points that it is worth
    size : about how much there is to write
    task : what is graded, where it is less than the docstring says
    parts : what the values of a tuple are called
    forbidden : names that the solution must not use
    seconds : what one call may take
    """

    reference: object
    section: str
    difficulty: int
    size: str
    task: str = ""
    parts: tuple = ()
    forbidden: tuple = ()
    seconds: float = 20
    checks: list = field(default_factory=list)
    unlocks: str = ""
    unlock: object = None
    notebook: str = ""
    chapter: str = ""  # the file's stem, such as 02_quantization; set when it is loaded

    @property
    def name(self):
        return self.reference.__name__

    @property
    def number(self):  # of its chapter, such as 05 or 05b
        return self.notebook or self.chapter.partition("_")[0]

    def case(self, about, *args, gives, likely="", tolerance=0.0, dtype=None, **kwargs):
        """Add a row: these arguments give this, see `expect`."""

        def run(student, rng):
            expect(student(*args, **kwargs), gives, likely, tolerance=tolerance, dtype=dtype)

        self.checks.append(Check(about, run))

    def refuses(self, about, *args, errors=("ValueError",), likely="", **kwargs):
        """Add a row: with these arguments one of the errors must come."""
        self.checks.append(
            Check(about, lambda student, rng: student.must_raise(errors, *args, likely=likely, **kwargs))
        )

    def draw(self, likely="", *, ulps=0, tolerance=0.0, dtype=False, count=20):
        """Add random inputs (as a decorator): function(rng) -> `given(...)`, for which `reference` knows the answer.

        ulps, tolerance : how far an answer may be off, see `expect`
        dtype : whether its dtype must be that of nnzip's answer
        count : how many inputs are drawn
        """

        def add(make):
            def run(student, rng):
                for _ in range(count):
                    args, kwargs = make(rng)
                    right = self.reference(*copy.deepcopy(args), **copy.deepcopy(kwargs))
                    expect(student(*args, **kwargs), right, likely, tolerance=tolerance, ulps=ulps, dtype=dtype or None)

            self.checks.append(Check(inspect.getdoc(make), run))
            return make

        return add

    def check(self, function):
        """Add a check (as a decorator): function(student), or function(student, rng), raises through `expect`."""
        takes_rng = len(inspect.signature(function).parameters) > 1
        run = function if takes_rng else lambda student, rng: function(student)
        self.checks.append(Check(inspect.getdoc(function), run))
        return function

    def unlocked(self, unlocks):
        """Say what the student's function then does in the book (as a decorator): function(student) -> Figure, text."""

        def add(function):
            self.unlocks, self.unlock = unlocks, function
            return function

        return add


def exercise(**about):
    """Make an `Exercise` of a function that states a task (as a decorator)."""
    return lambda reference: Exercise(reference, **about)


def given(*args, **kwargs):
    """Return arguments, as functions for `Exercise.draw` do."""
    return args, kwargs


def any_shape(rng, *, axes=(1, 4), most=6):
    """Return a random shape, of so many axes at least and at most; every third is a square, a cube and so on."""
    sides = rng.integers(2, most + 1, rng.integers(axes[0], axes[1] + 1))
    return tuple(map(int, np.full_like(sides, sides[:1].sum()) if rng.random() < 1 / 3 else sides))


def any_floats(rng, shape, *, dtype=None):
    """Return random floats of random size, in rows or in columns of memory; without a dtype of 32 or of 64 bits."""
    x = rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3)
    return np.asarray(x, dtype or rng.choice(["float32", "float64"]), order=rng.choice(["C", "F"]))


# Answers


def expect(got, expected, likely="", *, tolerance=0.0, ulps=0, dtype=None):
    """Raise `Wrong` unless an answer is the expected one.

    expected : a number, an array (or a list as one), a grid; a tuple or a dict of them, or a list of arrays
    likely : the mistake that gives an answer like this, for the message
    tolerance, ulps : how far numbers may be off: so much, and so many units in the last place of the largest
    dtype : the dtype asked for; True for that of `expected`
    """
    wrong = _difference(got, expected, tolerance, ulps, dtype)
    if wrong:
        raise Wrong("\n".join([*wrong, f"likely:   {likely}"] if likely else wrong))


def _difference(got, expected, *how):
    if isinstance(expected, QuantParams) and isinstance(got, QuantParams):
        got, expected = ({name: getattr(grid, name) for name in QPARAMS} for grid in (got, expected))
    if isinstance(expected, dict):
        if not isinstance(got, dict) or set(got) != set(expected):
            return _said(got, f"a dict of {', '.join(map(str, expected))}")
        return _first_difference(((f"under {key!r}", got[key], expected[key]) for key in expected), how)
    if isinstance(expected, tuple) or (isinstance(expected, list) and any(isinstance(e, np.ndarray) for e in expected)):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return _said(got, f"{len(expected)} values, {brief(expected)}")
        pairs = zip(got, expected, strict=True)
        return _first_difference(((f"in value {i}", *pair) for i, pair in enumerate(pairs, 1)), how)
    if expected is None or isinstance(expected, str):
        return [] if got == expected else _said(got, brief(expected))
    return _array_difference(got, np.asarray(expected), *how)


def _first_difference(parts, how):
    return next(([where, *wrong] for where, got, right in parts if (wrong := _difference(got, right, *how))), [])


def _said(got, expected):
    return [f"got:      {brief(got)}", f"expected: {expected}"]


def _array_difference(got, right, tolerance, ulps, dtype):
    lines = _said(got, brief(right))
    try:
        array = np.asarray(got)
    except ValueError:
        return lines
    if array.dtype.kind not in "biufc":
        return lines
    if array.shape != right.shape:
        return [*lines, f"          of shape {right.shape}, not {array.shape}"]
    wanted = right.dtype if dtype is True else dtype
    if wanted is not None and array.dtype != wanted:
        return [lines[0], f"expected: the dtype {np.dtype(wanted)}"]
    with np.errstate(all="ignore"):
        if ulps:
            largest = np.max(np.abs(right), initial=0, where=np.isfinite(right))
            tolerance = max(
                tolerance, ulps * float(np.finfo(right.dtype if right.dtype.kind == "f" else float).eps * largest)
            )
        same = (array == right) | (np.isnan(array) & np.isnan(right))
        if tolerance:
            same |= np.abs(array.astype(complex) - right) <= tolerance
    return [] if np.all(same) else [*lines, *_where(array, right, np.atleast_1d(same))]


def _where(array, right, same):  # the first difference, how many there are, and whether they come of float32
    first = tuple(map(int, np.argwhere(~same)[0]))
    place = f"first at {list(first)}: " if array.ndim else ""
    pair = f"got {np.atleast_1d(array)[first]}, expected {np.atleast_1d(right)[first]}"
    yield f"          {place}{pair}" + (f"; {np.count_nonzero(~same)} of {same.size} differ" if array.ndim else "")
    if right.dtype == np.float64 and array.dtype.kind == "f" and np.allclose(array, right, rtol=1e-6, atol=1e-30):
        with np.errstate(over="ignore"):
            if np.array_equal(array, array.astype(np.float32)) and not np.array_equal(right, right.astype(np.float32)):
                yield "          which it is to six digits: computed in float32 where float64 was given?"


def brief(value):
    """Return a value as a short line of text, a few floats with all their digits."""
    if isinstance(value, np.ndarray):
        edge, digits = 4 if value.ndim < 2 else 2, {"floatmode": "unique"} if value.size <= 8 else {"precision": 6}
        text = np.array2string(value, threshold=16, edgeitems=edge, separator=", ", **digits)
        return f"{_cut(text)} ({value.dtype}, shape {value.shape})" if value.ndim else f"{value} ({value.dtype})"
    if isinstance(value, QuantParams):
        scale, zero_point = (brief(np.asarray(v)) if np.ndim(v) else str(v) for v in (value.scale, value.zero_point))
        kinds = [name for name in ("signed", "narrow") if getattr(value, name)] or ["unsigned"]
        over = "" if value.axis is None else f", axis {value.axis}"
        return f"a grid of {value.bits} bits, {', '.join(kinds)}{over}, scale {scale}, zero_point {zero_point}"
    if isinstance(value, list | tuple) and all(isinstance(item, np.generic) for item in value):
        value = type(value)(item.item() for item in value)
    if isinstance(value, list | tuple) and any(isinstance(item, np.ndarray) for item in value):
        return _cut("; ".join(map(brief, value)))
    return _cut(str(value) if isinstance(value, np.generic) else repr(value))


def _cut(text, length=240):
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]} ..."


# Grading


class Student:
    """A student's function as a check sees it: called on copies, its errors told as wrong answers."""

    def __init__(self, ask):
        self.ask, self.last = ask, ((), {})

    def __call__(self, *args, **kwargs):
        answer = self._answer(args, kwargs)
        if "value" in answer:
            value = answer["value"]
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, list) and not any(isinstance(item, np.ndarray) for item in part):
                    raise Wrong(f"got:      {brief(value)}\nexpected: a NumPy array and no list")
            return value
        if "changed" in answer:
            raise Wrong(f"changed:  {', '.join(answer['changed'])}\nlikely:   an in-place operation; work on a copy")
        if answer["error"] == "not allowed":
            raise Wrong(f"refused:  {answer['message']}")
        where = f"\n          in {answer['where']}" if answer["where"] else ""
        raise Wrong(f"raised:   {answer['error']}: {answer['message']}{where}")

    def must_raise(self, errors, *args, likely="", **kwargs):
        """Call with bad input: `Wrong` unless one of the errors (names, such as "ValueError") comes."""
        answer = self._answer(args, kwargs)
        if answer.get("error") not in errors:
            got = brief(answer["value"]) if "value" in answer else answer.get("error", "changed arguments")
            wrong = f"got:      {got}\nexpected: {' or '.join(errors)}"
            raise Wrong(f"{wrong}\nlikely:   {likely}" if likely else wrong)

    def _answer(self, args, kwargs):
        self.last = args, kwargs
        answer = self.ask(args, kwargs)
        if answer.get("error") == "NotImplementedError":
            raise NotBegun
        return answer

    def input(self):
        """Return the arguments of the last call, a line each."""
        args, kwargs = self.last
        return "\n          ".join([brief(a) for a in args] + [f"{name} = {brief(a)}" for name, a in kwargs.items()])


def rng_of(exercise, number, seed):
    """Return what the check of that number draws its inputs from."""
    return np.random.default_rng([seed, zlib.crc32(exercise.name.encode()), number])


def grade(exercise, ask, *, seed=0):
    """Hold what ask(args, kwargs) answers against every check; return the Result, with the first thing that is wrong.

    seed : of what is drawn
    """
    passed, first = 0, ""
    for i, check in enumerate(exercise.checks):
        student = Student(ask)
        try:
            check.run(student, rng_of(exercise, i, seed))
            passed += 1
        except NotBegun:
            return Result(exercise.name, "not begun", f"{exercise.name} is not written yet", passed)
        except sandbox.Cut as cut:
            first = first or _told(exercise, check, student, f"cut off:  {cut}")
            break  # the other checks would take as long
        except Wrong as wrong:
            first = first or _told(exercise, check, student, str(wrong))
        except Exception as error:  # an answer of a kind that the check cannot even look at
            first = first or _told(exercise, check, student, f"got:      an answer that cannot be used: {error}")
    state = "failing" if first else "passed"
    count = f"\n  ({passed} of {len(exercise.checks)} checks pass)"
    return Result(exercise.name, state, first + count if first else "", passed)


def _told(exercise, check, student, problem):
    with contextlib.suppress(IndexError):
        problem = re.sub(r"^in value (\d+)", lambda i: f"in value {i[1]}, {exercise.parts[int(i[1]) - 1]}", problem)
    shown = f"input:    {student.input()}\n" if any(student.last) else ""
    return f"{exercise.name}: {check.about}\n{textwrap.indent(shown + problem, '  ')}"
