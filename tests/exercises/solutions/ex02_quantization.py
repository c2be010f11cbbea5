"""One solution of each exercise of chapter 02, without nnzip: what the planted bugs are planted into."""

import numpy as np

from nnzip.quantization import QuantParams


def along(values, axis, ndim):
    if axis is None:
        return values
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


def dequantize(codes, qparams):
    scale = along(qparams.scale, qparams.axis, codes.ndim)
    zero_point = along(qparams.zero_point, qparams.axis, codes.ndim)
    steps = codes.astype(np.int32) - zero_point
    return steps.astype(np.float32) * scale


def quantize(x, qparams):
    scale = along(qparams.scale, qparams.axis, x.ndim)
    zero_point = along(qparams.zero_point, qparams.axis, x.ndim)
    codes = np.rint(x / scale) + zero_point
    return np.clip(codes, qparams.qmin, qparams.qmax).astype(qparams.dtype)


def sqnr_db(x, x_hat):
    x, x_hat = x.astype(np.float64), x_hat.astype(np.float64)
    noise = np.sum((x - x_hat) ** 2)
    return float(10 * np.log10(np.sum(x**2) / noise)) if noise else np.inf


def range_to_grid(lo, hi, *, bits=8):
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = (hi - lo) / (2**bits - 1) if hi > lo else 1.0
    return QuantParams(scale, round(-lo / scale), bits, False)


def symmetric_scales(x, *, bits=8, axis=0):
    rows = np.moveaxis(np.abs(x), axis, 0).reshape(x.shape[axis], -1)
    largest = rows.max(axis=1)
    return np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1).astype(np.float32)


def round_to_integer(x, rounding="half_even", *, rng=None):
    below = np.floor(x)
    if rounding == "half_even":
        return np.rint(x)
    if rounding == "half_up":
        return below + (x - below >= 0.5)
    if rounding == "half_away":
        size = np.abs(x)
        return np.sign(x) * (np.floor(size) + (size - np.floor(size) >= 0.5))
    return below + (np.random.default_rng(rng).random(x.shape) < x - below)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "dequantize": {"steps = codes - zero_point": "a zero point is int32, and so is the difference"},
    "sqnr_db": {"x, x_hat = (x.astype(np.float64), x_hat)": "so the difference is float64 too"},
    "range_to_grid": {"return QuantParams(scale, round(-lo * (1 / scale)), bits, False)": "but for a last place"},
    "round_to_integer": {
        "return below + (np.random.default_rng(rng).random(x.shape) <= x - below)": "but for a chance of 2^-53",
    },
}
