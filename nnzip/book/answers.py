"""Whether an answer is the expected one, and what to say where it is not: what differs, and the likely mistake.

A check names the mistake that it looks for. What is plain from the answer itself goes before that: the right numbers in
another dtype or shape, negative numbers in an unsigned type, an error that NumPy words in its own way.
"""

import re

import numpy as np

from nnzip.book.messages import QPARAMS
from nnzip.quantization import QuantParams

SHOWN = 16  # elements of an array that a message shows; of a larger one, eight around the first difference
LIKELY = "likely:   "
OF_SHAPES = r"shape|\bax[ie]s\b|row|column|keepdims"  # what a check says of them goes first
OF_ERRORS = {  # what NumPy and Python say: what it comes of
    r"0-dimensional|too many indices|scalar variable|unsized": "a single number comes here too, an array without axes "
    "that no index fits: np.reshape(value, shape) takes both",
    r"could not be broadcast|broadcast together|mismatch in its core|not aligned|out of bounds": "shapes that do not "
    "fit: print them; keepdims=True keeps an axis, np.reshape gives one number for each row the shape (rows, 1)",
    r"truth value of an array": "`if` asks one question: where each element has its own answer, np.where or a mask",
    r"Cannot cast ufunc": "an operation in place keeps the dtype of its array: x = x * s in the place of x *= s",
    r"positional argument|unexpected keyword|required keyword": "the arguments are those of the stub, named as there",
    r"is not subscriptable|NoneType": "something is None: a function without a return, or a grid without an axis",
    r"'QuantParams' object has no": "a grid has scale, zero_point, axis, bits, signed, narrow, dtype, qmin, qmax",
    r"__round__": "Python's round is for one number; of arrays it is np.rint, or np.round for so many digits",
    r"^NameError: name '(np|math)'": "its import is missing at the top of the file",
    r"^NameError: name": "the arguments are those in the stub's `def` line; what a grid has is written qparams.scale",
}


class Wrong(AssertionError):
    """An answer is not the expected one; the message says what came, what should, and the likely mistake."""


def expect(got, expected, likely="", *, tolerance=0.0, ulps=0, dtype=None, largest=0.0):
    """Raise `Wrong` unless an answer is the expected one.

    expected : a number, an array (or a list as one), a grid; a tuple or a dict of them, or a list of arrays
    likely : the mistake that gives an answer like this, for the message
    tolerance, ulps : how far numbers may be off: so much, and so many units in the last place of the largest
    dtype : the dtype asked for; True for that of `expected`
    largest : what numbers are computed with, where they are larger than the answer
    """
    wrong = _difference(got, expected, tolerance, ulps, dtype, largest)
    likely = "no `return`: what ends without one gives None" if got is None else likely
    if wrong:
        raise Wrong("\n".join([*wrong, f"{LIKELY}{likely}"] if likely and not wrong[-1].startswith(LIKELY) else wrong))


def of_error(message, likely=""):
    """Return what an error comes of, as a line to add to its message, or nothing; of shapes the check knows more."""
    cause = next((cause for pattern, cause in OF_ERRORS.items() if re.search(pattern, message)), "")
    if cause.startswith("shapes") and re.search(OF_SHAPES, likely):
        cause = likely
    return f"\n{LIKELY}{cause}" if cause else ""


def _difference(got, expected, *how):
    if isinstance(expected, QuantParams) and isinstance(got, QuantParams):
        got, expected = ({name: getattr(grid, name) for name in QPARAMS} for grid in (got, expected))
    if isinstance(expected, dict):
        if not isinstance(got, dict) or set(got) != set(expected):
            return _said(got, f"a dict of {', '.join(map(str, expected))}")
        return _first_difference(((f"under {key!r}", got[key], expected[key]) for key in expected), how)
    if isinstance(expected, tuple) or (isinstance(expected, list) and any(isinstance(e, np.ndarray) for e in expected)):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            hint = [] if isinstance(got, tuple | list | None) else [f"{LIKELY}one value came: return a, b gives two"]
            return [*_said(got, f"{len(expected)} values, {brief(expected)}"), *hint]
        pairs = zip(got, expected, strict=True)
        return _first_difference(((f"in value {i}", *pair) for i, pair in enumerate(pairs, 1)), how)
    if expected is None or isinstance(expected, str):
        return [] if got == expected else _said(got, brief(expected))
    return _array_difference(got, np.asarray(expected), *how)


def _first_difference(parts, how):
    return next(([where, *wrong] for where, got, right in parts if (wrong := _difference(got, right, *how))), [])


def _said(got, expected):
    return [f"got:      {brief(got)}", f"expected: {expected}"]


def _array_difference(got, right, tolerance, ulps, dtype, largest):
    wanted = right.dtype if dtype is True else dtype and np.dtype(dtype)
    lines = _said(got, _array(right if wanted is None else right.astype(wanted), wanted))
    try:
        array = np.asarray(got)
    except ValueError:
        return lines
    if array.dtype.kind not in "biufc":
        return lines
    if ulps:
        largest = np.max(np.abs(right), initial=largest, where=np.isfinite(right))
        kind = right.dtype if right.dtype.kind == "f" else float
        tolerance = max(tolerance, ulps * float(np.finfo(kind).eps * largest))
    if array.shape != right.shape:
        return [*lines, f"          of shape {right.shape}, not {array.shape}", *_reshaped(array, right, tolerance)]
    same = _same(array, right, tolerance)
    if wanted is not None and array.dtype != wanted and np.all(same | _near(array, right)):
        cure = f"the numbers are right, their dtype is not: .astype({'np.' * (wanted.kind != 'b')}{wanted})"
        return [lines[0], f"expected: the dtype {wanted}", LIKELY + cure]
    if np.all(same):
        return []
    first = tuple(map(int, np.argwhere(~np.atleast_1d(same))[0]))
    if array.size > SHOWN:
        lines = [_around("got:      ", array, first, array.dtype), _around("expected: ", right, first, wanted)]
    return [*lines, *_where(array, right, np.atleast_1d(same), first)]


def _same(array, right, tolerance):
    with np.errstate(all="ignore"):
        same = (array == right) | (np.isnan(array) & np.isnan(right))
        return same | (np.abs(array.astype(complex) - right) <= tolerance) if tolerance else same


def _near(array, right):  # to the digits of float32
    return np.isclose(array, right, rtol=1e-5, atol=1e-30) & (array.dtype.kind in "fc") & (right.dtype.kind in "fc")


def _reshaped(array, right, tolerance):
    """Yield what there is to say of an answer of another shape, if its numbers are the right ones."""
    if array.size == right.size and np.all(_same(array.ravel(), right.ravel(), tolerance)):
        cure = f".reshape{right.shape}" if right.ndim else "a number is asked for, and no array of one"
        yield f"{LIKELY}the numbers are right, their shape is not: {cure}"
    elif array.T.shape == right.shape and np.all(_same(array.T, right, tolerance)):
        yield f"{LIKELY}the numbers are right, but rows and columns are exchanged: .T"


def _around(head, array, first, dtype):  # of a large array what stands around a place
    *before, last = first
    begin = max(0, min(last - 3, array.shape[-1] - SHOWN // 2))
    part = array[(*before, slice(begin, begin + SHOWN // 2))]
    place = ", ".join([*map(str, before), f"{begin}:{begin + len(part)}"])
    return f"{head}at [{place}] {_array(part, dtype, array.shape)}"


def _where(array, right, same, first):
    """Yield the first difference, how many there are, and whether they come of float32 or of an unsigned type."""
    place = f"first at {list(first)}: " if array.ndim else ""
    mine, its = np.atleast_1d(array)[first], np.atleast_1d(right)[first]
    pair = f"got {mine}, expected {its}"
    yield f"          {place}{pair}" + (f"; {np.count_nonzero(~same)} of {same.size} differ" if array.ndim else "")
    if right.dtype == np.float64 and array.dtype.kind == "f" and np.allclose(array, right, rtol=1e-6, atol=1e-30):
        with np.errstate(over="ignore"):
            if np.array_equal(array, array.astype(np.float32)) and not np.array_equal(right, right.astype(np.float32)):
                yield "          which it is to six digits: computed in float32 where float64 was given?"
    wraps = array.dtype.kind == "u" and its < 0 and np.all(np.abs(right) < 2.0**62)
    if wraps and np.array_equal(array, right.astype(np.int64).astype(array.dtype)):
        yield f"{LIKELY}{array.dtype} has no negative numbers, {its} becomes {mine}: another dtype"


def brief(value):
    """Return a value as a short line of text, a few floats with all their digits."""
    if isinstance(value, np.ndarray):
        return _array(value, value.dtype)
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


def _array(value, dtype, shape=None):  # with the dtype, if any is asked for, and the shape of what it is part of
    kind = [str(dtype)] if dtype is not None else []
    if value.ndim == 0:
        return f"{value} ({kind[0]})" if kind else str(value)
    edge, digits = 4 if value.ndim < 2 else 2, {"floatmode": "unique"} if value.size <= 8 else {"precision": 6}
    text = np.array2string(value, threshold=SHOWN, edgeitems=edge, separator=", ", **digits)
    return f"{_cut(text)} ({', '.join([*kind, f'shape {shape or value.shape}'])})"


def _cut(text, length=240):
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length]} ..."
