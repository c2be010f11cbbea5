"""One solution of each exercise of chapter 04, without nnzip: what the planted bugs are planted into."""

import numpy as np


def sylvester_matrix(n):
    if n < 1 or n & (n - 1):
        raise ValueError(f"{n} is no power of two")
    H = np.array([[1]])
    while len(H) < n:
        H = np.block([[H, H], [H, -H]])
    return H


def paley_matrix(q):
    if q < 3 or q % 4 != 3 or any(q % d == 0 for d in range(3, q)):
        raise ValueError(f"{q} is no prime that is 3 modulo 4")
    chi = np.full(q, -1)
    chi[[a * a % q for a in range(1, q)]] = 1
    chi[0] = 0
    a = np.arange(q)
    H = np.ones((q + 1, q + 1), int)
    H[1:, 0] = -1
    H[1:, 1:] = chi[(a[:, None] - a) % q] + np.eye(q, dtype=int)
    return H


def incoherence(x):
    x = x.astype(np.float64)
    largest = np.abs(x).max()
    if largest == 0:
        return 0.0
    return float(1 / np.sqrt(np.mean((x / largest) ** 2)))


def fast_hadamard(x, *, axis=-1):
    n = x.shape[axis]
    if n & (n - 1):
        raise ValueError(f"{n} is no power of two")
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    y = np.moveaxis(x.astype(dtype), axis, -1)
    shape = y.shape
    half = 1
    while half < n:
        y = y.reshape(-1, n // (2 * half), 2, half)
        a, b = y[:, :, 0], y[:, :, 1]
        y = np.stack([a + b, a - b], axis=2)
        half *= 2
    return np.moveaxis(y.reshape(shape) / dtype.type(np.sqrt(n)), -1, axis)


def as_float(x):
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def along(signs, x, axis):
    shape = [1] * x.ndim
    shape[axis] = -1
    return signs.astype(x.dtype).reshape(shape)


def rotate(x, signs, *, axis=-1):
    x = as_float(x)
    return fast_hadamard(x * along(signs, x, axis), axis=axis)


def unrotate(x, signs, *, axis=-1):
    x = as_float(x)
    return fast_hadamard(x, axis=axis) * along(signs, x, axis)


def rotated_weight(weight, signs):
    return rotate(weight, signs, axis=1)


def quantize_rotated(weight, signs, *, bits=4):
    turned = rotate(weight, signs)
    scale = np.abs(turned).max() / (2 ** (bits - 1) - 1)
    if scale == 0:
        return np.zeros_like(weight)
    codes = np.rint(turned / scale)
    return unrotate(codes * scale, signs)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "paley_matrix": {
        "if q < 2 or q % 4 != 3 or any((q % d == 0 for d in range(3, q))):": "2 is not 3 modulo 4",
        "if q < 3 or q % 4 != 3 or any((q % d == 0 for d in range(4, q))):": "its other factor divides it too",
        "if q < 3 or q % 4 != 3 or any((q % d == 0 for d in range(2, q))):": "q is odd",
        "chi[[a * a % q for a in range(2, q)]] = 1": "1 is also the square of q - 1",
        "chi[[a * a % q for a in range(0, q)]] = 1": "chi(0) is set below",
        "H[0, 1:] = -1": "a row negated",
        "H[1:, 1:] = chi[(a[:, None] - a) % q] + np.eye(q)": "H is of integers",
    },
    "fast_hadamard": {"pass": "reshape raises ValueError for such a length too"},
    "rotate": {"return fast_hadamard(x / along(signs, x, axis), axis=axis)": "signs are 1 and -1"},
    "unrotate": {
        "return fast_hadamard(x, axis=axis) / along(signs, x, axis)": "signs are 1 and -1",
        "return x": "fast_hadamard makes floats of integers",
        "return x if x.dtype.kind == 'f' else x": "fast_hadamard makes floats of integers",
    },
    "quantize_rotated": {"codes = np.rint(turned * (1 / scale))": "but for last places"},
}
