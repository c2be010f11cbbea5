"""What every public function asks of its arguments: one clear line when the answer is no."""

import numpy as np


def real_array(x, name="x", *, ndim=None):  # anything array-like -> float array of the same shape
    """Return `x` as a finite, non-empty float array; integers become float64, floats keep their dtype.

    Raises TypeError for anything that is not real numbers, ValueError for an empty array, for NaN or
    infinity, and for a number of dimensions other than `ndim` (an int or a tuple of ints; None: any).
    """
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise ValueError(f"{name} is not a rectangular array: {error}") from None
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    check_ndim(array, name, ndim)
    check_not_empty(array, name)
    check_finite(array, name)
    return array


def check_finite(array, name="x"):
    """Raise ValueError if the array holds NaN or infinity (min and max carry both, without a copy)."""
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        bad = np.flatnonzero(~np.isfinite(array))
        raise ValueError(
            f"{name} must be finite, got {array.flat[bad[0]]} at flat index {bad[0]} ({bad.size} such values)"
        )


def check_not_empty(array, name="x"):
    """Raise ValueError for an array without elements."""
    if array.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")


def check_ndim(array, name, ndim):
    """Raise ValueError unless the number of dimensions is `ndim`, or one of them; None allows any."""
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise ValueError(f"{name} must have {wanted} dimensions, got shape {array.shape}")


def check_same_shape(a, b, names):
    """Raise ValueError unless the two arrays, named in the message, have one shape."""
    if a.shape != b.shape:
        raise ValueError(f"{names[0]} and {names[1]} must have the same shape, got {a.shape} and {b.shape}")


def check_labels(labels, shape):
    """Return `labels` as an integer array that has one class number for each row of logits of this shape."""
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    if labels.shape != shape[:1]:
        raise ValueError(f"labels must have shape ({shape[0]},), one for each row, got {labels.shape}")
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise ValueError(f"labels must be in [0, {shape[1] - 1}], got {labels.min()} to {labels.max()}")
    return labels


def check_integer(value, name, low, high=None):
    """Return `value` as an int in [low, high]; a bool or a float is a TypeError."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {allowed}, got {value}")
    return int(value)


def check_number(value, name, low, high, *, open_low=False, open_high=False):
    """Return `value` as a float in [low, high], each end excluded where it is marked open."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    inside = (low < value if open_low else low <= value) and (value < high if open_high else value <= high)
    if not inside:
        ends = f"{'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
        raise ValueError(f"{name} must be in {ends}, got {value}")
    return float(value)


def check_choice(value, name, allowed):
    """Return `value` if it is one of the names in `allowed`."""
    if value not in tuple(allowed):
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    return value
