"""What an exercise is, and how one of its checks grades a function and says what is wrong."""

import contextlib
import inspect
import textwrap
from dataclasses import dataclass, field

import numpy as np

from nnzip.book import sandbox


class Wrong(AssertionError):
    """An answer is not the expected one; the message says what came, what should, and the likely mistake."""


class NotBegun(Exception):
    """The function is still its stub."""


@dataclass
class Exercise:
    """A function to write.

    Parameters
    ----------
    reference : nnzip's own function, or one in the grader's file that states the task; gives name, signature, docstring
    section : the heading of the chapter that it belongs to
    difficulty : 1 (a line), 2 (an hour), 3 (an afternoon)
    size : about how much there is to write
    task : what is graded, where it is less than the docstring says
    forbidden : names that the solution must not use
    unlocks : what one's own function then does in the book
    seconds : what one call may take
    """

    reference: object
    section: str
    difficulty: int
    size: str
    task: str = ""
    forbidden: tuple = ()
    unlocks: str = ""
    seconds: float = 20
    checks: list = field(default_factory=list)
    unlock: object = None
    chapter: str = ""  # the file's stem, such as 02_quantization; set when it is loaded

    @property
    def name(self):
        return self.reference.__name__

    def check(self, function):
        """Add a check (as a decorator): function(student) raises through `expect`."""
        self.checks.append(function)
        return function

    def unlocked(self, function):
        """Set what the student's function does in the book (as a decorator): function(student) -> Figure or text."""
        self.unlock = function
        return function


@dataclass(frozen=True)
class Result:
    """How one check, or a whole exercise, came out: a state and, unless it passed, why."""

    exercise: str
    check: str
    state: str
    message: str = ""


def expect(got, expected, likely="", *, tolerance=0.0, dtype=None):
    """Raise `Wrong` unless an answer is the expected one: equal, or within an absolute tolerance.

    Parameters
    ----------
    got, expected : numbers, arrays, or tuples and lists of them; shapes must be equal
    likely : the mistake that gives an answer like this, for the message
    dtype : the dtype asked for, where it matters
    """
    wrong = _difference(got, expected, tolerance, dtype)
    if wrong:
        raise Wrong("\n".join([*wrong, f"likely:   {likely}"] if likely else wrong))


def _difference(got, expected, tolerance, dtype):
    if isinstance(expected, (tuple, list)) and any(np.ndim(item) for item in expected) and not _is_array(expected):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            return [f"got:      {brief(got)}", f"expected: {len(expected)} values, {brief(expected)}"]
        parts = enumerate(zip(got, expected, strict=True))
        return next(
            (["in value " + str(i + 1), *w] for i, (g, e) in parts if (w := _difference(g, e, tolerance, dtype))), []
        )
    try:
        array, right = np.asarray(got), np.asarray(expected)
    except ValueError:
        return [f"got:      {brief(got)}", f"expected: {brief(expected)}"]
    lines = [f"got:      {brief(got)}", f"expected: {brief(expected)}"]
    if array.dtype.kind not in "biufc" or array.shape != right.shape:
        return [
            *lines,
            f"          of shape {right.shape}, not {array.shape if array.dtype.kind in 'biufc' else brief(got)}",
        ]
    if dtype is not None and array.dtype != dtype:
        return [lines[0], f"expected: the dtype {np.dtype(dtype)}"]
    with np.errstate(invalid="ignore", over="ignore"):
        same = array == right if tolerance == 0 else np.abs(array.astype(complex) - right) <= tolerance
    if np.all(same):
        return []
    first = tuple(map(int, np.argwhere(~np.atleast_1d(same))[0]))
    if array.dtype.kind == "f" and np.allclose(array, right, rtol=1e-6, atol=1e-30, equal_nan=True):
        lines.append("          which it is to six digits: computed in float32 where float64 was given?")
    count = f"{np.size(same) - np.count_nonzero(same)} of {np.size(same)} differ"
    at = (
        f"first at {list(first)}: got {np.atleast_1d(array)[first]}, expected {np.atleast_1d(right)[first]}; "
        if array.ndim
        else ""
    )
    return [*lines, f"          {at}{count}"]


def _is_array(value):
    with contextlib.suppress(ValueError):
        return np.asarray(value).dtype != object
    return False


def brief(value):
    """Return a value as a short line of text."""
    if isinstance(value, np.ndarray):
        edge = 4 if value.ndim < 2 else 2
        text = np.array2string(value, threshold=16, edgeitems=edge, precision=6, separator=", ")
        return f"{_cut(text)} ({value.dtype}, shape {value.shape})" if value.ndim else f"{value} ({value.dtype})"
    if isinstance(value, (list, tuple)) and all(isinstance(item, np.generic) for item in value):
        value = type(value)(item.item() for item in value)
    return _cut(repr(value))


def _cut(text, length=240):
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]} ..."


class Student:
    """A student's function as a check sees it: called on copies, its errors told as wrong answers."""

    def __init__(self, ask):
        self.ask, self.last = ask, ((), {})

    def __call__(self, *args, **kwargs):
        self.last = args, kwargs
        answer = self.ask(*args, **kwargs)
        if "value" in answer:
            value = answer["value"]
            if any(isinstance(part, list) and not _holds_arrays(part) for part in (value, *_parts(value))):
                raise Wrong(f"got:      {brief(value)}\nexpected: a NumPy array and no list")
            return value
        if answer.get("error") == "NotImplementedError":
            raise NotBegun(answer["message"])
        if "changed" in answer:
            raise Wrong(f"changed:  {', '.join(answer['changed'])}\nlikely:   an in-place operation; work on a copy")
        where = f"\n          in {answer['where']}" if answer["where"] else ""
        raise Wrong(f"raised:   {answer['error']}: {answer['message']}{where}")

    def must_raise(self, errors, *args, likely="", **kwargs):
        """Call with bad input: `Wrong` unless one of the errors (names, such as "ValueError") comes."""
        self.last = args, kwargs
        answer = self.ask(*args, **kwargs)
        if answer.get("error") == "NotImplementedError":
            raise NotBegun(answer["message"])
        if answer.get("error") not in errors:
            got = brief(answer["value"]) if "value" in answer else answer.get("error", "changed arguments")
            raise Wrong(
                f"got:      {got}\nexpected: {' or '.join(errors)}" + (f"\nlikely:   {likely}" if likely else "")
            )

    def input(self):
        """Return the arguments of the last call, a line each."""
        args, kwargs = self.last
        return "\n          ".join([brief(a) for a in args] + [f"{name} = {brief(a)}" for name, a in kwargs.items()])


def _parts(value):
    return value if isinstance(value, tuple) else ()


def _holds_arrays(values):
    return any(isinstance(value, np.ndarray) for value in values)


def run_check(exercise, check, ask):
    """Run one check on what answers for the student's function; return its Result."""
    student = Student(ask)
    try:
        check(student)
        return Result(exercise.name, check.__name__, "passed")
    except NotBegun:
        return Result(exercise.name, check.__name__, "not begun", f"{exercise.name} is not written yet")
    except Wrong as wrong:
        problem = str(wrong)
    except sandbox.Cut as cut:
        problem = f"cut off:  {cut}"
    except Exception as error:  # an answer of a kind that the check cannot even look at
        problem = f"got:      an answer that cannot be used: {error}"
    given = f"input:    {student.input()}\n" if any(student.last) else ""
    text = f"{exercise.name}: {inspect.getdoc(check)}\n{textwrap.indent(given + problem, '  ')}"
    return Result(exercise.name, check.__name__, "failing", text)
