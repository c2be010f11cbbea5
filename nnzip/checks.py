"""What a function asks of its arguments, said beside each of them: one clear line when the answer is no.

A kind is a function (value, name) -> what the body gets. `door` calls it before the body runs, some 20 microseconds a
call.
"""

import functools
import inspect

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)


def door(function):
    """Hand every argument that is given through the kind that annotates it.

    >>> @door
    ... def half(x: real, times: whole(1, 3) = 1):
    ...     return x / 2**times
    >>> half([1, 2], times=4)
    Traceback (most recent call last):
    ValueError: times must be from 1 to 3, got 4
    """
    signature = inspect.signature(function)
    kinds = {name: p.annotation for name, p in signature.parameters.items() if p.annotation is not p.empty}

    @functools.wraps(function)
    def entered(*args, **kwargs):
        given = signature.bind(*args, **kwargs)
        for name, value in given.arguments.items():
            if name in kinds:
                given.arguments[name] = kinds[name](value, name)
        return function(*given.args, **given.kwargs)

    entered.kinds = kinds
    return entered


# Arrays


def real(x, name="x", *, ndim=None):
    """Take anything array-like: a finite, non-empty float array; integers become float64, floats keep their dtype."""
    array = np.asarray(x)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    check_array(array, name, ndim)
    check_finite(array, name)
    return array


def reals(*ndim):
    """Take a real array of one of these numbers of dimensions."""
    return functools.partial(real, ndim=ndim)


def wide(x, name="x"):
    """Take a real array, float16 as float32: its products are 0 or infinite too soon."""
    array = real(x, name)
    return array.astype(np.result_type(array, np.float32), copy=False)


def real32(x, name="x"):
    """Take a real array whose numbers lie within the range of float32."""
    array = real(x, name)
    largest = max(abs(float(array.min())), abs(float(array.max())))
    if largest > FLOAT32_MAX:
        raise ValueError(f"{name} must be within float32's range, at most {FLOAT32_MAX}, got {largest}")
    return array


# Numbers and names


def whole(low, high=None):
    """Take a whole number from low to high; a bool or a float is a TypeError."""

    def kind(value, name):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if value < low or (high is not None and value > high):
            allowed = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"{name} must be {allowed}, got {value}")
        return int(value)

    return kind


def number(low, high, ends="[]"):
    """Take a number between low and high, as a float; a round bracket in `ends` leaves that end out."""

    def kind(value, name):
        if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
            raise TypeError(f"{name} must be a number, got {value!r}")
        left_out = (ends[0] == "(" and value == low) or (ends[1] == ")" and value == high)
        if left_out or not low <= value <= high:
            raise ValueError(f"{name} must be in {ends[0]}{low}, {high}{ends[1]}, got {value}")
        return float(value)

    return kind


unit, positive = number(0, 1), number(0, np.inf, "()")


def one_of(*allowed):
    """Take one of these values."""

    def kind(value, name):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
        return value

    return kind


# What is called in bodies


def check_array(array, name, ndim=None):
    """Raise ValueError for an array without elements, or where `ndim`, a number or some, has not its dimensions."""
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        raise ValueError(f"{name} must have {' or '.join(map(str, allowed))} dimensions, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")


def check_finite(array, name="x"):
    """Raise ValueError if the array holds NaN or infinity (min and max carry both, without a copy)."""
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        bad = np.flatnonzero(~np.isfinite(array))
        first = f"{array.flat[bad[0]]} at flat index {bad[0]}"
        raise ValueError(f"{name} must be finite, got {first} ({bad.size} such values)")


def same_shape(a, b, names):
    """Raise ValueError unless the two arrays, named in the message, have one shape."""
    if a.shape != b.shape:
        raise ValueError(f"{names[0]} and {names[1]} must have the same shape, got {a.shape} and {b.shape}")


def integers(x, name, low, high):
    """Return anything array-like as an array of integers, all of them from low to high."""
    array = np.asarray(x)
    check_array(array, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.min() < low or array.max() > high:
        raise ValueError(f"{name} must be from {low} to {high}, got {array.min()} to {array.max()}")
    return array


def check_labels(labels, count, classes=np.inf):
    """Return `labels` as an array of so many integers, each the number of a class."""
    labels = integers(labels, "labels", 0, classes - 1)
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape ({count},), one for each row, got {labels.shape}")
    return labels
