"""nnzip.requantization against gemmlowp's C written in Python's integers, and ONNX Runtime's order of operations."""

import numpy as np
import pytest

from nnzip.matmul import fixed_point_multiplier, requantize, requantize_fixed_point

OUT_DTYPES = (np.int8, np.uint8, np.int16, np.uint16)
MIN, MAX = -(2**31), 2**31 - 1
EDGES = [0, 1, 2, 3, 5, 7, 127, 128, 255, 256, 2**15, 2**24 - 1, 2**24, 2**24 + 1, 2**30 - 1, 2**30, 2**30 + 1, MAX - 1]
EDGES = np.array(sorted({sign * edge for edge in (*EDGES, MAX) for sign in (1, -1)} | {MIN, MIN + 1}), np.int32)
M0S = (2**30, 2**30 + 1, 3 * 2**29, 1_518_500_250, 2**31 - 2, 2**31 - 1)


# gemmlowp's fixedpoint.h, statement for statement; Python's integers have no end, C's division truncates


def divide(a, b):
    return abs(a) // b * (1 if a >= 0 else -1)


def high_mul(a, b):
    if a == b == MIN:
        return MAX
    nudge = 2**30 if a * b >= 0 else 1 - 2**30
    return divide(a * b + nudge, 2**31)


def divide_by_pot(x, exponent):
    mask = 2**exponent - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


def multiply_double(x, m0, shift):
    left, right = max(-shift, 0), max(shift, 0)
    return divide_by_pot(high_mul(min(max(x * 2**left, MIN), MAX), m0), right)


def multiply_single(x, m0, shift):
    total = 31 + shift
    return (x * m0 + 2 ** (total - 1)) >> total


def reference(acc, m0, shift, zero_point, dtype, double):
    codes = np.iinfo(dtype)
    multiply = multiply_double if double else multiply_single
    steps = [multiply(int(x), int(m0), int(shift)) + zero_point for x in acc]
    return np.array([min(max(step, codes.min), codes.max) for step in steps], dtype)


@pytest.mark.parametrize("double", (True, False))
@pytest.mark.parametrize("shift", range(-30, 32))
def test_fixed_point_edges(double, shift):
    for m0 in M0S:
        for dtype, zero_point in ((np.uint16, 0), (np.int16, -(2**15)), (np.int8, 3), (np.uint8, 255)):
            result = requantize_fixed_point(EDGES, m0, shift, zero_point, out_dtype=dtype, double_rounding=double)
            assert result.dtype == dtype
            np.testing.assert_array_equal(result, reference(EDGES, m0, shift, zero_point, dtype, double))


@pytest.mark.parametrize("m", (0.0, -1.0, 2.0**-33, 2.0**30, np.nextafter(2.0**30, 0), [1.0, -1.0], 1e300, 5e-324))
def test_multiplier_out_of_range(m):
    with pytest.raises(ValueError, match=r"m must be from 2\^-32 to below 2\^30, got"):
        fixed_point_multiplier(m)


# By float


def one_by_one(acc, multiplier, zero_point, dtype):
    """ONNX Runtime's operations on one number at a time, each rounded to float32 before the next."""
    codes = np.iinfo(dtype)
    steps = [round(float(np.float32(x) * np.float32(multiplier))) for x in acc.tolist()]  # a tie to the even neighbour
    return np.array([min(max(step + zero_point, codes.min), codes.max) for step in steps], dtype)


@pytest.mark.parametrize("dtype", OUT_DTYPES)
def test_float_edges_and_ties(dtype):
    acc = np.concatenate([EDGES, np.arange(-150, 150, 3, dtype=np.int32)])  # half of them odd: ties of 0.5 and 3.5
    for multiplier in (0.5, 0.02, 0.1 * 0.02 / 0.1, 0.07 * 0.03 / 0.21, 1.0, 3.5, 1e-9):
        for zero_point in (np.iinfo(dtype).min, 1, np.iinfo(dtype).max):
            result = requantize(acc, multiplier, zero_point, out_dtype=dtype)
            np.testing.assert_array_equal(result, one_by_one(acc, multiplier, zero_point, dtype), strict=True)


def test_products_beyond_float32_are_clipped():
    result = requantize(np.array([MIN, -1, 0, 1, MAX], np.int32), 3e38, 0, out_dtype=np.int8)
    assert result.tolist() == [-128, -128, 0, 127, 127]


def test_multipliers_of_columns_and_of_channels():
    acc = np.random.default_rng(2).integers(-(10**5), 10**5, (4, 3, 5)).astype(np.int32)
    for factors in (np.geomspace(1e-4, 0.5, 5), np.geomspace(1e-4, 0.5, 3)[:, None]):
        one_for_each = np.broadcast_to(factors, acc.shape).ravel()
        expected = requantize(acc.ravel(), one_for_each, 4, out_dtype=np.uint8)
        result = requantize(acc, factors, 4, out_dtype=np.uint8)
        np.testing.assert_array_equal(result, expected.reshape(acc.shape))


# Refusals

ACC = np.ones((2, 3), np.int32)


@pytest.mark.parametrize("multiplier", (0.0, -1.0, np.nan, np.inf, 1e39, 1e-50, [1.0, 0.0, 1.0], []))
def test_bad_multiplier(multiplier):
    with pytest.raises(ValueError, match="multiplier must"):
        requantize(ACC, multiplier, 0, out_dtype=np.int8)


BAD_COMMON = [
    ({"acc": ACC.astype(np.int64)}, TypeError, "acc must be int32, got int64"),
    ({"acc": ACC[:0]}, ValueError, r"acc must not be empty, got shape \(0, 3\)"),
    ({"zero_point": -1, "out_dtype": np.uint8}, ValueError, "zero_point must be from 0 to 255, got -1"),
    ({"out_dtype": np.int32}, ValueError, "out_dtype must be int8, uint8, int16 or uint16, got int32"),
]
BAD_FLOAT = [
    ({"multiplier": [1.0, 2.0]}, ValueError, "could not be broadcast"),
    ({"multiplier": np.ones((2, 2, 3))}, ValueError, "broadcast"),
]
BAD_FIXED = [
    ({"m0": 2**30 - 1}, ValueError, "m0 must be from 1073741824 to 2147483647, got 1073741823"),
    ({"m0": 1.5e9}, TypeError, "m0 must be integers, got dtype float64"),
    ({"m0": [2**30] * 2}, ValueError, "could not be broadcast"),
    ({"shift": np.ones((2, 2, 3), int)}, ValueError, "more dimensions"),
    ({"shift": 32}, ValueError, "shift must be from -30 to 31, got 32"),
]


@pytest.mark.parametrize("changes, error, message", BAD_COMMON + BAD_FLOAT)
def test_requantize_refuses(changes, error, message):
    arguments = {"acc": ACC, "multiplier": 0.5, "zero_point": 0, "out_dtype": np.int8} | changes
    with pytest.raises(error, match=message):
        requantize(**arguments)


@pytest.mark.parametrize("changes, error, message", BAD_COMMON + BAD_FIXED)
def test_requantize_fixed_point_refuses(changes, error, message):
    arguments = {"acc": ACC, "m0": 2**30, "shift": 0, "zero_point": 0, "out_dtype": np.int8} | changes
    with pytest.raises(error, match=message):
        requantize_fixed_point(**arguments)
