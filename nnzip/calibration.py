"""Where the range of a quantizer comes from: the extremes, a percentile, or a search for the best clipping.

A narrow range has small steps and clips the largest values; a wide one clips nothing and rounds everything coarsely.
The search tries the ranges f [lo, hi], 0 < f <= 1, and keeps the one of least cost: the squared error, or the
Kullback-Leibler divergence between the distributions before and after.

Everything here sees values as slices, [S, n]: one row for each scale, with `counts` saying how often each value
occurs (None: once). So a tensor, its channels, its groups and the histogram of an observer all take the same way.
`nnzip.quantization` checks the arguments and calls these functions; they know ranges, not scales. The quantizer that
is being calibrated comes in as a function, round_trip(values, lo, hi) -> codes, decoded values.
"""

import math
from functools import partial

import numpy as np

from nnzip.checks import check_choice, check_integer, check_number

METHODS = ("minmax", "percentile", "mse", "entropy")
BINS = 2048  # of the histogram whose divergence is measured; Migacz 2017 has as many
BLOCK = 2**18  # values searched at a time: slices are taken in blocks, so that memory stays small
# Dense near 1, where 8 bits decide within half a step, and near 0, where an outlier can send it.
FRACTIONS = (1 + np.cos(np.pi * np.arange(128) / 128)) / 2


def slices(x, axis, group_size):  # [...] -> values [S, n], the shape that S unfolds to, the axis counted from 0
    """Lay out an array so that each row holds the values of one scale."""
    check_one_layout(axis, group_size)
    if axis is not None:
        axis = normalized_axis(axis, x.ndim)
        return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1), (x.shape[axis],), axis
    if group_size is not None:
        shape = grouped_shape(x.shape, group_size)
        return x.reshape(-1, group_size), shape[:-1], None
    return x.reshape(1, -1), (), None


def broadcast_shapes(shape, axis, group_size):
    """Return the shape to see an array in, the shape of its scales, and the one in which they broadcast over it."""
    if axis is not None:
        axis = normalized_axis(axis, len(shape))
        return shape, (shape[axis],), (shape[axis],) + (1,) * (len(shape) - 1 - axis)
    if group_size is not None:
        view = grouped_shape(shape, group_size)
        return view, view[:-1], (*view[:-1], 1)
    return shape, (), ()


def grouped_shape(shape, group_size):  # (..., n) -> (..., n / group_size, group_size)
    """Split the last axis into groups; convolution weights (out, in, kH, kW) count as (out, in * kH * kW)."""
    check_integer(group_size, "group_size", 1)
    *rows, last = (shape[0], math.prod(shape[1:])) if len(shape) == 4 else shape or (0,)
    if last == 0 or last % group_size:
        raise ValueError(f"group_size must divide the last axis, got {group_size} for shape {shape}")
    return (*rows, last // group_size, group_size)


def normalized_axis(axis, ndim):
    if ndim == 0:
        raise ValueError("axis needs at least one dimension, got shape ()")
    return check_integer(axis, "axis", -ndim, ndim - 1) % ndim


def check_one_layout(axis, group_size):
    if axis is not None and group_size is not None:
        raise ValueError(f"give axis or group_size, not both, got axis={axis} and group_size={group_size}")


def choose_range(values, counts, lo, hi, *, method, percentile, symmetric, round_trip):
    """Return the range to quantize each slice in: lo [S], hi [S] in float64, with 0 inside.

    values [S, n] and counts [S, n] or None; lo and hi [S] are the slices' own extremes.
    """
    check_choice(method, "method", METHODS)
    check_number(percentile, "percentile", 50, 100, open_low=True)
    lo, hi = include_zero(lo, hi, symmetric)
    if method == "minmax":
        return lo, hi
    if method == "percentile":
        return percentile_range(values, counts, lo, hi, percentile=percentile, symmetric=symmetric)
    cost = partial(mse_cost if method == "mse" else divergence_cost, round_trip=round_trip)
    rows = max(1, BLOCK // (BINS if method == "entropy" else values.shape[1]))
    best = []
    for block in (slice(start, start + rows) for start in range(0, len(values), rows)):
        data = values[block], None if counts is None else counts[block]
        if method == "entropy":
            data = without_zeros(*data) if counts is not None else histogram(values[block], lo[block], hi[block])
        best.append(search_range(*data, lo[block], hi[block], cost, symmetric))
    return np.concatenate(best, axis=1)


def include_zero(lo, hi, symmetric):  # [S], [S] -> [S], [S]
    """Widen a range so that 0 has a code: to [-m, m], m = max(|lo|, |hi|), or to [min(lo, 0), max(hi, 0)]."""
    lo, hi = np.asarray(lo, dtype=np.float64), np.asarray(hi, dtype=np.float64)
    if symmetric:
        hi = np.maximum(np.abs(lo), np.abs(hi))
        return -hi, hi
    return np.minimum(lo, 0.0), np.maximum(hi, 0.0)


def percentile_range(values, counts, lo, hi, *, percentile, symmetric):
    """Clip what lies beyond the percentile: of |x| if symmetric, else of x in both tails."""
    if symmetric:
        top = percentile_of(np.abs(values), counts, percentile)
        low, high = -top, top
    else:
        low, high = -percentile_of(-values, counts, percentile), percentile_of(values, counts, percentile)
    low, high = include_zero(low, high, symmetric)
    collapsed = low == high  # nearly all values are 0: the few others are all there is, so they set the range
    return np.where(collapsed, lo, low), np.where(collapsed, hi, high)


def percentile_of(values, counts, percentile):  # [S, n] -> [S]
    """Return each slice's smallest value that has at least `percentile` percent of the slice at or below it."""
    order = values.argsort(axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    ones = np.broadcast_to(1, values.shape)
    below = np.take_along_axis(ones if counts is None else counts, order, axis=1).cumsum(axis=1)
    first = (below * 100.0 >= percentile * below[:, -1:]).argmax(axis=1)
    return ordered[np.arange(len(values)), first].astype(np.float64)


def search_range(values, counts, lo, hi, cost, symmetric):
    """Return, for each slice, the range of least cost(values, counts, lo, hi) among f [lo, hi], f in FRACTIONS.

    An affine range then moves each end by itself, the other one held. The full range comes first, so the result is
    never worse, and a tie keeps the wider range. (Banner et al. 2019, arXiv:1810.05723, solve for f in closed form,
    given a Gaussian or Laplace shape; here the data decide.)
    """

    def best(lows, highs):  # [F, S], [F, S] -> [S], [S]
        costs = np.array([cost(values, counts, low, high) for low, high in zip(lows, highs, strict=True)])
        first = costs.argmin(axis=0), np.arange(len(lo))
        return lows[first], highs[first]

    lows, highs = FRACTIONS[:, None] * lo, FRACTIONS[:, None] * hi
    low, high = best(lows, highs)
    if not symmetric and lo.any() and hi.any():  # two ends, as an outlier on one side needs them
        low, high = best(np.broadcast_to(low, lows.shape), highs)
        low, high = best(lows, np.broadcast_to(high, highs.shape))
    return low, high


def mse_cost(values, counts, lo, hi, *, round_trip):  # [S, n] -> [S]
    """Return the squared error of each slice, summed (Nagel et al. 2021, arXiv:2106.08295, section 3.1)."""
    _, decoded = round_trip(values, lo, hi)
    error = np.subtract(values, decoded, dtype=np.float64)
    return np.sum(error**2 if counts is None else counts * error**2, axis=1)


def divergence_cost(centres, counts, lo, hi, *, round_trip, smoothing=1e-4):  # [S, bins] -> [S]
    """Return KL(P || Q) between a histogram and its quantized self, for each slice.

    P is the histogram with the outliers moved into the outermost bins of the range; Q is the histogram without the
    outliers, merged into the quantizer's levels and spread back evenly over each level's non-empty bins. So rounding
    costs where neighbours differ, and clipping costs at the edges (Migacz, 8-bit Inference with TensorRT, GTC 2017).
    Values of exactly 0 are not counted: every grid has a code for them, so they say nothing about any range.
    A range of fewer bins than levels costs infinity: inside one bin no rounding can be seen.
    """
    codes, _ = round_trip(centres, lo, hi)
    lo, hi = lo[:, None], hi[:, None]
    inside = (centres >= lo) & (centres <= hi)
    enough = inside.sum(axis=1) > np.ptp(codes.astype(int), axis=1)  # in int8 the difference would wrap
    if not enough.any():
        return np.full(len(centres), np.inf)
    kept = np.where(inside, counts, 0).astype(np.float64)
    p = normalized(kept + outliers_at_the_edges(centres, counts, inside, lo, hi))
    q = normalized(merge_and_spread(kept, codes))
    q = (1 - smoothing) * q + smoothing / q.shape[1]  # no bin of Q is empty, so the divergence is finite
    return np.where(enough, np.sum(p * np.log(np.where(p > 0, p, 1) / q), axis=1), np.inf)


def outliers_at_the_edges(centres, counts, inside, lo, hi):  # [S, bins] -> [S, bins]
    rows, last = np.arange(len(centres)), centres.shape[1] - 1
    moved = np.zeros(centres.shape)
    moved[rows, inside.argmax(axis=1)] += np.sum(counts * (centres < lo), axis=1)
    moved[rows, last - inside[:, ::-1].argmax(axis=1)] += np.sum(counts * (centres > hi), axis=1)
    return moved


def merge_and_spread(kept, codes):  # counts and codes [S, bins] -> [S, bins]
    """Give every non-empty bin of a level the mean of that level's non-empty bins."""
    level = codes.astype(np.int64) - codes.min()
    level += (level.max() + 1) * np.arange(len(codes))[:, None]  # slices do not share their levels
    total = np.bincount(level.ravel(), weights=kept.ravel())
    filled = np.bincount(level.ravel(), weights=(kept > 0).ravel())
    return np.where(kept > 0, (total / np.maximum(filled, 1))[level], 0.0)


def normalized(counts):  # [S, bins] -> rows that sum to 1 (to 0, where nothing was counted)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def histogram(values, lo, hi):  # [S, n], [S], [S] -> centres and counts [S, BINS]
    """Count each slice's values other than 0 in BINS equal bins from its lo to its hi."""
    lo, shape = lo[:, None], (len(values), BINS)
    width = np.maximum((hi[:, None] - lo) / BINS, np.finfo(np.float64).tiny)  # a slice of zeros has no width
    index = np.minimum((values - lo) / width, BINS - 1).astype(np.int64) + BINS * np.arange(len(values))[:, None]
    counts = np.bincount(index.ravel(), weights=(values != 0).ravel(), minlength=math.prod(shape))
    return lo + (np.arange(BINS) + 0.5) * width, counts.reshape(shape)


def without_zeros(values, counts):
    return values, counts * (values != 0)


class GrowingHistogram:
    """A histogram whose range grows with the data, while every count stays exact.

    The bins lie symmetrically around 0 and their width is a power of two. A value beyond the last bin doubles the
    width: neighbours merge, pair by pair, into half as many bins, and empty bins are added outside. Every old edge
    that is still needed is an edge again, so nothing is interpolated, whatever the order of the batches. Values of
    exactly 0, half of all values after a ReLU, are also counted by themselves.
    """

    def __init__(self, bins):
        self.counts = np.zeros(bins, dtype=np.int64)
        self.zeros = 0
        self.width = 2.0**-149  # the smallest float32, so that the first batch doubles it up to its own size

    @property
    def edges(self):  # [bins + 1]
        return (np.arange(self.counts.size + 1) - self.counts.size // 2) * self.width

    def values_and_counts(self):  # [bins + 1], [bins + 1]
        """Return the bins' centres and counts, with the zeros apart, at 0."""
        half, counts = self.counts.size // 2, self.counts.copy()
        counts[half] -= self.zeros
        return np.insert(self.edges[:-1] + self.width / 2, half, 0.0), np.insert(counts, half, self.zeros)

    def add(self, x):
        half = self.counts.size // 2
        largest = max(abs(float(x.min())), abs(float(x.max())))
        empty = not self.counts.any()  # the first batch doubles the width a hundred times, with nothing to merge
        while largest >= half * self.width:
            self.counts = self.counts if empty else self._merged()
            self.width *= 2
        index = np.floor(x.ravel().astype(np.float64) / self.width).astype(np.int64) + half
        self.counts += np.bincount(index, minlength=2 * half)
        self.zeros += np.count_nonzero(x == 0)

    def _merged(self):
        return np.pad(self.counts.reshape(-1, 2).sum(axis=1), self.counts.size // 4)
