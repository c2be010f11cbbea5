"""One solution of each exercise of chapter 03, without nnzip: what the planted bugs are planted into."""

import numpy as np


def int8_matmul(a, b, *, a_zero_point=0, b_zero_point=0):
    a = a - np.reshape(a_zero_point, (-1, 1)).astype(np.int32)
    b = b - np.reshape(b_zero_point, (1, -1)).astype(np.int32)
    return a @ b


def exact_depth(a_dtype, b):
    b = b.astype(np.int64)
    positive = np.cumsum(np.maximum(b, 0), axis=0)
    negative = np.cumsum(np.maximum(-b, 0), axis=0)
    reach = 128 * (positive + negative) if a_dtype == "int8" else 255 * np.maximum(positive, negative)
    return int(np.sum(reach.max(axis=1) <= 2**24))


def fast_int8_matmul(a, b):
    depth, K = 256, a.shape[1]
    total = np.zeros((len(a), b.shape[1]), np.int32)
    for start in range(0, K, depth):
        left, right = a[:, start : start + depth], b[start : start + depth]
        part = left.astype(np.float32) @ right
        total += part.astype(np.int32)
    return total


def requantize(acc, multiplier, zero_point, *, out_dtype):
    limits = np.iinfo(out_dtype)
    product = acc.astype(np.float32) * np.asarray(multiplier, np.float32)
    codes = np.rint(product) + zero_point
    return np.clip(codes, limits.min, limits.max).astype(out_dtype)


def fixed_point_multiplier(m):
    fraction, exponent = np.frexp(np.asarray(m, np.float64))
    m0, shift = np.rint(fraction * 2**31).astype(np.int64), -exponent
    carry = m0 == 2**31
    m0, shift = np.where(carry, 2**30, m0), np.where(carry, shift - 1, shift)
    if np.ndim(m) == 0:
        return int(m0), int(shift)
    return m0.astype(np.int32), shift


def requantize_fixed_point(acc, m0, shift, zero_point, *, out_dtype):
    limits = np.iinfo(out_dtype)
    m0, shift = np.asarray(m0, np.int64), np.asarray(shift, np.int64)
    sums = np.clip(acc << np.maximum(-shift, 0), -(2**31), 2**31 - 1)
    high = (sums * m0 + 2**30) >> 31
    right = np.maximum(shift, 0)
    half = (1 << right) >> 1
    steps = np.sign(high) * ((np.abs(high) + half) >> right)
    return np.clip(steps + zero_point, limits.min, limits.max).astype(out_dtype)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "exact_depth": {"b = b.astype(np.int16)": "np.cumsum adds in int64"},
    "fast_int8_matmul": {
        "depth, K = (257, a.shape[1])": "258 is the limit",
        "depth, K = (255, a.shape[1])": "258 is the limit",
    },
    "fixed_point_multiplier": {"m0, shift = (np.rint(fraction * 2 ** 31), -exponent)": "they become integers below"},
    "requantize_fixed_point": {  # whatever is saturated is clipped again as a code
        f"sums = np.clip(acc << np.maximum(-shift, 0), -{low}, {high})": "what is saturated is clipped as a code too"
        for low, high in (
            *(("2 ** 31", "2 ** 31 + 1"), ("2 ** 31", "2 ** 31 - 2"), ("2 ** 31", "2 ** 31 - 0")),
            *(("2 ** 32", "2 ** 31 - 1"), ("2 ** 30", "2 ** 31 - 1"), ("2 ** 31", "2 ** 32 - 1")),
        )
    },
}
