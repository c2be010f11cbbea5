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
from nnzip.book.answers import LIKELY, Wrong, brief, expect, of_error

UNLOADED = "the file does not load: "  # how the message begins where none of its functions can be called


class NotBegun(Exception):
    """The function is still its stub, or a part of it is."""


class Unloaded(Exception):
    """The file of the function does not load."""


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
    verb: str = "shows"
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
            student.likely = likely
            expect(student(*args, **kwargs), gives, likely, tolerance=tolerance, dtype=dtype)

        self.checks.append(Check(about, run))

    def refuses(self, about, *args, errors=("ValueError",), likely="", **kwargs):
        """Add a row: with these arguments one of the errors must come."""
        self.checks.append(
            Check(about, lambda student, rng: student.must_raise(errors, *args, likely=likely, **kwargs))
        )

    def draw(self, likely="", *, ulps=0, tolerance=0.0, dtype=False, count=20, largest=lambda *_, **__: 0.0):
        """Add random inputs (as a decorator): function(rng) -> `given(...)`, for which `reference` knows the answer.

        ulps, tolerance : how far an answer may be off, see `expect`
        dtype : whether its dtype must be that of nnzip's answer
        count : how many inputs are drawn
        largest : of the arguments, what is computed with where it is larger than the answer, see `expect`
        """
        how = {"tolerance": tolerance, "ulps": ulps, "dtype": dtype or None}

        def add(make):
            def run(student, rng):
                student.likely = likely
                for _ in range(count):
                    args, kwargs = make(rng)
                    right = self.reference(*copy.deepcopy(args), **copy.deepcopy(kwargs))
                    expect(student(*args, **kwargs), right, likely, largest=largest(*args, **kwargs), **how)

            self.checks.append(Check(inspect.getdoc(make), run))
            return make

        return add

    def check(self, function):
        """Add a check (as a decorator): function(student), or function(student, rng), raises through `expect`."""
        takes_rng = len(inspect.signature(function).parameters) > 1
        run = function if takes_rng else lambda student, rng: function(student)
        self.checks.append(Check(inspect.getdoc(function), run))
        return function

    def unlocked(self, unlocks, verb="shows"):
        """Say what the student's function then does in the book (as a decorator): function(student) -> Figure, text."""

        def add(function):
            self.unlocks, self.unlock, self.verb = unlocks, function, verb
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


# Grading


class Student:
    """A student's function as a check sees it: called on copies, its errors told as wrong answers."""

    def __init__(self, ask):
        self.ask, self.last, self.likely, self.printed = ask, ((), {}), "", ""

    def __call__(self, *args, **kwargs):
        answer = self._answer(args, kwargs)
        if "value" in answer:
            value = answer["value"]
            for part in value if isinstance(value, tuple) else (value,):
                if isinstance(part, list) and not any(isinstance(item, np.ndarray) for item in part):
                    raise Wrong(f"got:      {brief(value)}\nexpected: a NumPy array and no list")
            return value
        if "changed" in answer:
            raise Wrong(f"changed:  {', '.join(answer['changed'])}\n{LIKELY}an in-place operation; work on a copy")
        if answer["error"] == "not allowed":
            raise Wrong(f"refused:  {answer['message']}")
        raise Wrong(_raised(answer) + of_error(f"{answer['error']}: {answer['message']}", self.likely))

    def must_raise(self, errors, *args, likely="", **kwargs):
        """Call with bad input: `Wrong` unless one of the errors (names, such as "ValueError") comes."""
        answer = self._answer(args, kwargs)
        if answer.get("error") not in errors:
            got = brief(answer["value"]) if "value" in answer else answer.get("error", "changed arguments")
            wrong = f"got:      {got}\nexpected: {' or '.join(errors)}"
            raise Wrong(f"{wrong}\n{LIKELY}{likely}" if likely else wrong)

    def _answer(self, args, kwargs):
        self.last = args, kwargs
        answer = self.ask(args, kwargs)
        self.printed = answer.get("printed", "")
        if "unloaded" in answer:
            raise Unloaded(answer["unloaded"])
        if answer.get("stub"):
            raise NotBegun(_raised(answer))
        return answer

    def input(self):
        """Return the arguments of the last call, a line each."""
        args, kwargs = self.last
        return "\n          ".join([brief(a) for a in args] + [f"{name} = {brief(a)}" for name, a in kwargs.items()])


def _raised(answer):
    where = f"\n          in {answer['where']}" if answer["where"] else ""
    return f"raised:   {answer['error']}: {answer['message']}{where}"


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
        except Unloaded as problem:
            return Result(exercise.name, "failing", f"{UNLOADED}{problem}")
        except NotBegun as part:
            if not (passed or first):
                return Result(exercise.name, "not begun", f"{exercise.name} is not written yet")
            first = first or _told(exercise, check, student, str(part))
        except sandbox.Cut as cut:
            first = first or _told(exercise, check, student, f"cut off:  {cut}")
            break  # the other checks would take as long
        except Wrong as wrong:
            first = first or _told(exercise, check, student, str(wrong))
        except Exception as error:  # an answer of a kind that the check cannot even look at
            first = first or _told(
                exercise, check, student, f"got:      an answer that cannot be used: {error}{of_error(str(error))}"
            )
    state = "failing" if first else "passed"
    count = f"\n  ({passed} of {len(exercise.checks)} checks pass)"
    return Result(exercise.name, state, first + count if first else "", passed)


def _told(exercise, check, student, problem):
    with contextlib.suppress(IndexError):
        problem = re.sub(r"^in value (\d+)", lambda i: f"in value {i[1]}, {exercise.parts[int(i[1]) - 1]}", problem)
    shown = f"input:    {student.input()}\n" if any(student.last) else ""
    shown += f"printed:  {student.printed.rstrip()}\n" if student.printed else ""
    return f"{exercise.name}: {check.about}\n{textwrap.indent(shown + problem, '  ')}"
