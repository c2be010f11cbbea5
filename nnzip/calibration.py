"""Where the range of a quantizer comes from: the extremes, a percentile, or a search for the best clip (chapter 02).

A narrow range has small steps and clips the largest values; a wide one clips nothing and rounds everything coarsely.
`RANGES` has a function for each way to choose. A tensor, its channels, its groups and the histogram of an observer are
all rows of values, one for each scale.
"""

import math
from functools import partial

import numpy as np

from nnzip.checks import FLOAT32_MAX, whole

BINS = 2048  # of the histogram whose divergence is measured; Migacz 2017 has as many
BLOCK = 2**18  # values searched at a time: they stay in the processor's cache, and memory stays small
FLOAT32_TINY = float(np.finfo(np.float32).tiny)  # below it floats lose bits, and some machines make them 0
INSIDE = 0.999  # of the values lie within each end that `percentile` chooses
SMOOTHING = 1e-4  # of the quantized histogram, so that no bin is empty and the divergence is finite
FRACTIONS = (1 + np.cos(np.pi * np.arange(128) / 128)) / 2  # dense near 1, for 8 bits, and near 0, for outliers


# The grid over a range


def code_range(bits, signed, narrow):
    """Return qmin and qmax, the smallest and the largest code; narrow leaves out the lowest signed one."""
    qmax = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return (-qmax if narrow else -qmax - 1) if signed else 0, qmax


def include_zero(lo, hi, symmetric):  # [S], [S] -> float64 [S], [S]
    """Widen a range so that 0 has a code: to [-m, m], m = max(|lo|, |hi|), or to [min(lo, 0), max(hi, 0)]."""
    lo, hi = np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)
    if symmetric:
        hi = np.maximum(np.abs(lo), np.abs(hi))
        return -hi, hi
    return np.minimum(lo, 0.0), np.maximum(hi, 0.0)


def scale_and_zero_point(lo, hi, qmin, qmax):  # float64 [...], [...] with 0 inside -> float32 [...], int32 [...]
    """Lay the codes qmin to qmax over a range.

        scale = (hi - lo) / (qmax - qmin)           zero_point = round(qmin - lo / scale)

    A range without width gets scale 1. The zero point belongs to the scale that is stored, so that it always fits;
    where the codes are as symmetric as the range, it is 0.
    """

    def zero_point(scale):
        return np.zeros(lo.shape, np.int32) if qmin == -qmax else np.rint(qmin - lo / scale).astype(np.int32)

    scale = np.where(hi > lo, (hi - lo) / (qmax - qmin), 1.0)
    scale = np.maximum(scale, FLOAT32_TINY).astype(np.float32)
    scale = np.minimum(scale, largest_scale(zero_point(scale), qmin, qmax))
    return scale, zero_point(scale)


def largest_scale(zero_point, qmin, qmax):
    """Return the largest scale under which the farthest code from the zero point is a finite float32."""
    steps = np.maximum(zero_point - qmin, qmax - zero_point)
    return np.nextafter((FLOAT32_MAX / steps).astype(np.float32), np.float32(0))


def rounded(values, lo, hi, bits, symmetric):  # [S, n], [S], [S] -> codes and what they stand for [S, n]
    """Quantize each row over its own range, which includes 0."""
    qmin, qmax = code_range(bits, symmetric, symmetric)
    scale, zero_point = scale_and_zero_point(lo, hi, qmin, qmax)
    s, z = scale[:, None], zero_point[:, None].astype(np.result_type(values, np.float32))
    with np.errstate(over="ignore"):  # a quotient too large for a float is clipped like any other
        codes = np.clip(np.rint(values / s) + z, qmin, qmax)
    return codes, (codes - z).astype(np.float32) * s


# Ranges: values [S, n], how often each occurs ([n], or 1 for all), the widest range [S], [S] -> a range [S], [S]


def minmax(values, counts, lo, hi, bits, symmetric):
    """Take the extremes: nothing is clipped."""
    return lo, hi


def percentile(values, counts, lo, hi, bits, symmetric):
    """Leave out the largest 0.1 percent of |x| if symmetric, else 0.1 percent of x in each tail."""
    values = values.astype(np.float64)  # NumPy takes the share in the precision of the values
    counts = np.broadcast_to(counts, values.shape)

    def upper_end(values):  # the smallest value that has the share INSIDE of its row at or below it
        return np.quantile(values, INSIDE, axis=1, method="inverted_cdf", weights=counts)

    ends = [upper_end(np.abs(values))] * 2 if symmetric else [-upper_end(-values), upper_end(values)]
    low, high = include_zero(*ends, symmetric)
    collapsed = low == high  # nearly all values are 0: the few others are all there is, so they set the range
    return np.where(collapsed, lo, low), np.where(collapsed, hi, high)


def least_squares(values, counts, lo, hi, bits, symmetric):
    """Take the least `squared_error` in each row, a block of rows at a time."""
    found, step = [], max(1, BLOCK // values.shape[1])
    for rows in (slice(start, start + step) for start in range(0, len(values), step)):
        cost = partial(squared_error, values[rows], counts, bits, symmetric)
        found.append(search(lo[rows], hi[rows], symmetric, cost))
    return np.concatenate(found, axis=1)


def least_divergence(values, counts, lo, hi, bits, symmetric):
    """Take the least `divergence` between a row's histogram and its quantized self."""
    found = []
    for row, *ends in zip(values, lo[:, None], hi[:, None], strict=True):
        cost = partial(divergence, *histogram(row, counts, *ends), bits, symmetric)
        found.append(search(*ends, symmetric, cost))
    return np.concatenate(found, axis=1)


def search(lo, hi, symmetric, cost):  # [S], [S] -> [S], [S]
    """Return for each row the range of least cost among f [lo, hi], for all f in FRACTIONS.

    cost(lows, highs), [F, S], [F, S] -> [F, S], takes F candidates for each row. An affine range then moves each end by
    itself, the other one held. The full range comes first, so the result is never worse, and a tie keeps the wider one.
    """

    def best(lows, highs):  # [F, S], [F, S] -> [S], [S]
        first = np.argmin(cost(lows, highs), axis=0), np.arange(len(lo))
        return lows[first], highs[first]

    lows, highs = FRACTIONS[:, None] * lo, FRACTIONS[:, None] * hi
    low, high = best(lows, highs)
    if not symmetric and lo.any() and hi.any():  # two ends, as an outlier on one side needs them
        low, high = best(np.broadcast_to(low, lows.shape), highs)
        low, high = best(lows, np.broadcast_to(high, highs.shape))
    return low, high


def squared_error(values, counts, bits, symmetric, lows, highs):  # [S, n], [n] or 1, .., [F, S], [F, S] -> [F, S]
    """Return each row's sum of (x - x_hat)^2 over each range (Nagel et al. 2021, arXiv:2106.08295, section 3.1)."""
    costs = []
    for lo, hi in zip(lows, highs, strict=True):
        error = np.subtract(values, rounded(values, lo, hi, bits, symmetric)[1], dtype=np.float64)
        costs.append(np.sum(counts * error**2, axis=1))
    return costs


def divergence(centres, counts, bits, symmetric, lows, highs):  # [bins], [bins], .., [F, 1], [F, 1] -> [F, 1]
    """Return KL(P || Q) between a histogram and its quantized self, for each range.

    P is the histogram with the outliers moved into the outermost bins of the range; Q is the histogram without the
    outliers, merged into the quantizer's levels and spread back evenly over each level's non-empty bins (Migacz, 8-bit
    Inference with TensorRT, GTC 2017). A range of fewer bins than levels costs infinity: each bin has its own level.
    All ranges are measured at once, in the non-empty bins alone: a group of 32 values has 32 of 2048 at most.
    """
    first = np.searchsorted(centres, lows)
    last = np.searchsorted(centres, highs, side="right") - 1
    ends, _ = rounded(centres[[0, -1]], lows[:, 0], highs[:, 0], bits, symmetric)
    enough = last - first >= np.ptp(ends, axis=1, keepdims=True)
    seen = np.flatnonzero(counts)
    moved = np.clip(seen, first, last)  # [F, seen], as all that follows
    codes, _ = rounded(centres[seen], lows[:, 0], highs[:, 0], bits, symmetric)
    counts, inside = np.broadcast_to(counts[seen], moved.shape), moved == seen
    kept, total = counts * inside, max(counts[0].sum(), 1)
    merged, filled = totals(codes, kept, inside)  # of the level that a bin is in
    p, q = totals(moved, counts, inside * merged / np.maximum(filled, 1))  # an outlier's is the outermost bin
    p, q = p / total, q / np.maximum(kept.sum(axis=1, keepdims=True), 1)
    q = (1 - SMOOTHING) * q + SMOOTHING / len(centres)
    return np.where(enough, np.sum(counts / total * np.log(p / q), axis=1, keepdims=True), np.inf)


def totals(keys, *weights):  # [F, n] rising in each row, [F, n], .. -> [F, n], ..
    """Return at each place the sum of the weights in its row that have the same key."""
    run = np.cumsum(np.diff(keys, axis=1, prepend=np.nan) != 0).reshape(keys.shape)
    return [np.bincount(run.ravel(), of.ravel())[run] for of in weights]


def histogram(values, counts, lo, hi):  # [n], [n] or 1, [1], [1] -> centres of bins [B], counts [B]
    """Count the values in BINS equal bins over the range; an observer's, counted already, keep their bins.

    Values of exactly 0 are not counted: every grid has a code for them, so they say nothing about any range.
    """
    if np.ndim(counts):
        return values, counts * (values != 0)
    width = np.maximum((hi - lo) / BINS, np.finfo(np.float64).tiny)  # a row of zeros has no width
    index = np.minimum((values - lo) / width, BINS - 1).astype(np.int64)
    return lo + (np.arange(BINS) + 0.5) * width, np.bincount(index, values != 0, BINS)


RANGES = {"minmax": minmax, "percentile": percentile, "mse": least_squares, "entropy": least_divergence}


# Rows


def layout_of(shape, axis, group_size):
    """Return the shape of an array's scales, and the one to see the array in: (repeats, scales, a run that shares one).

    Axis 1 of (8, 3, 5, 5) has 3 scales, and the array is seen as (8, 3, 25). With groups, convolution weights
    (out, in, kH, kW) are seen as (out, in * kH * kW).
    """
    if axis is not None:
        if not shape:
            raise ValueError("axis needs at least one dimension, got shape ()")
        axis = whole(-len(shape), len(shape) - 1)(axis, "axis") % len(shape)
        return (shape[axis],), (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    if group_size is not None:
        *rows, last = (shape[0], math.prod(shape[1:])) if len(shape) == 4 else shape or (0,)
        if last == 0 or last % whole(1)(group_size, "group_size"):
            raise ValueError(f"group_size must divide the last axis, got {group_size} for shape {shape}")
        groups = (*rows, last // group_size)
        return groups, (1, math.prod(groups), group_size)
    return (), (1, 1, math.prod(shape))


class GrowingHistogram:
    """A histogram whose range grows with the data, while every count stays exact.

    The bins, a multiple of 4, lie around 0, their width is a power of two. A value beyond them doubles the width:
    neighbours merge, pair by pair, and empty bins are added outside. So the order of the batches does not matter.
    Values of exactly 0 are counted apart: after a ReLU they are half of all.
    """

    def __init__(self, bins=8192):
        self.counts = np.zeros(bins, dtype=np.int64)
        self.zeros = 0
        self.width = 2.0**-149  # the smallest float32, so that the first batch doubles it up to its own size

    def add(self, x):
        """Count the values of an array."""
        half, largest = self.counts.size // 2, float(np.abs(x).max())
        while largest >= half * self.width:
            self.counts = np.pad(self.counts.reshape(-1, 2).sum(axis=1), half // 2)
            self.width *= 2
        index = np.floor(x[x != 0].astype(np.float64) / self.width).astype(np.int64) + half
        self.counts += np.bincount(index, minlength=2 * half)
        self.zeros += x.size - index.size

    def clipped(self, lo, hi):  # [1], [1] -> [1, bins + 1], [bins + 1]
        """Return the bins' centres, with 0 among them, and the counts; no centre that counts lies outside [lo, hi]."""
        half = self.counts.size // 2
        counts = np.insert(self.counts, half, self.zeros)
        centres = np.insert((np.arange(-half, half) + 0.5) * self.width, half, 0.0)
        return np.where(counts > 0, np.clip(centres, lo, hi), centres)[None], counts
