"""Uniform quantization: a float as an integer code times a scale (chapter 02).

    codes = clip(round(x / scale) + zero_point, qmin, qmax)        quantize
    x_hat = (codes - zero_point) * scale                           dequantize

Rounded to nearest, a value within the range of the codes moves by scale / 2 at most. The grids for b bits are

    symmetric    signed, narrow    -(2^(b-1) - 1) .. 2^(b-1) - 1    zero_point 0              suits weights
    affine       unsigned           0 .. 2^b - 1                     lo gets the code qmin     suits outputs of a ReLU

Symmetric codes leave -2^(b-1) out ("narrow"), so that -w has a code wherever w has one. Both grids have a code for 0:
padding, pruned weights and ReLUs make 0 the most frequent number, and it must stay 0.

One scale serves the whole tensor, or each index of an axis has its own (per channel: axis 0 of a weight (out, in) gives
one to each of its out rows), or each group of neighbours along the last axis. How a range is chosen is in
`nnzip.calibration`. Source: Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3.

`@door` hands each argument through the function in its annotation: `x: real` is then a finite array of floats,
`bits: whole(2, 16)` a whole number from 2 to 16 (`nnzip.checks`).
"""

from dataclasses import dataclass

import numpy as np

from nnzip.calibration import (
    FLOAT32_TINY,
    RANGES,
    GrowingHistogram,
    code_range,
    include_zero,
    largest_scale,
    layout_of,
    scale_and_zero_point,
)
from nnzip.checks import door, integers, one_of, real, real32, same_shape, whole


@dataclass(eq=False)
class QuantParams:
    """A grid to quantize on: the code q stands for the value (q - zero_point) * scale.

    `scale`, the step between neighbouring values, becomes float32 and `zero_point`, the code of the value 0, int32;
    both have shape (), or (C,) with `axis`, or (..., groups) with `group_size`. Codes go from `qmin` to `qmax`, their
    integer type is `dtype`. A scale is a normal float32, and every code must stand for a finite one.

    >>> grid = QuantParams(scale=0.1, zero_point=0, bits=8, signed=True)
    >>> grid.scale, grid.qmin, grid.qmax, grid.dtype
    (array(0.1, dtype=float32), -128, 127, dtype('int8'))
    """

    scale: np.ndarray
    zero_point: np.ndarray
    bits: int  # 2 to 16
    signed: bool
    narrow: bool = False
    axis: int | None = None  # each index of this axis has a scale
    group_size: int | None = None  # so many neighbours along the last axis share a scale

    def __post_init__(self):
        self.bits = whole(2, 16)(self.bits, "bits")
        one_of(True, False)(self.signed, "signed")
        if one_of(True, False)(self.narrow, "narrow") and not self.signed:
            raise ValueError("narrow and symmetric codes are signed, got signed=False")
        self.qmin, self.qmax = code_range(self.bits, self.signed, self.narrow)
        self.dtype = np.dtype(f"{'int' if self.signed else 'uint'}{8 if self.bits <= 8 else 16}")
        with np.errstate(over="ignore"):  # a scale that becomes infinite is refused below
            self.scale = real(self.scale, "scale").astype(np.float32)
        self.zero_point = integers(self.zero_point, "zero_point", self.qmin, self.qmax).astype(np.int32)
        same_shape(self.scale, self.zero_point, ("scale", "zero_point"))
        if self.axis is not None and self.group_size is not None:
            raise ValueError(f"give axis or group_size, not both, got {self.axis} and {self.group_size}")
        if self.axis is not None:
            whole(-64, 63)(self.axis, "axis")  # NumPy's limits; the array decides when it comes
        if self.group_size is not None:
            whole(1)(self.group_size, "group_size")
        shape = self.scale.shape
        fits = len(shape) == int(self.axis is not None) if self.group_size is None else len(shape) >= 1
        if not fits:
            raise ValueError(f"scale must have shape (), (C,) with axis, (..., groups) with group_size, got {shape}")
        largest = largest_scale(self.zero_point, self.qmin, self.qmax)
        if not np.all((self.scale >= FLOAT32_TINY) & (self.scale <= largest)):
            allowed = f"positive, from {FLOAT32_TINY:.3g} to {largest.min():.3g}"
            raise ValueError(f"scale must be {allowed} so that every code is a finite float32, got {self.scale}")
        self.scale.setflags(write=False)  # many layers may hold one grid
        self.zero_point.setflags(write=False)


# Rounding


def _half_up(x):
    below = np.floor(x)
    return below + (x - below >= 0.5)  # not floor(x + 0.5): in float32 0.49999997 + 0.5 is 1


ROUNDINGS = {
    "half_even": lambda x, rng: np.rint(x),
    "half_away": lambda x, rng: np.copysign(_half_up(np.abs(x)), x),
    "half_up": lambda x, rng: _half_up(x),
    "floor": lambda x, rng: np.floor(x),
    "toward_zero": lambda x, rng: np.trunc(x),
    "stochastic": lambda x, rng: np.floor(x) + (np.random.default_rng(rng).random(x.shape) < x - np.floor(x)),
}


@door
def round_to_integer(x: real, rounding: one_of(*ROUNDINGS) = "half_even", *, rng=None):
    """Round to whole numbers, which stay floats.

    "half_even" takes ties to the even neighbour (ONNX, NumPy), "half_away" away from zero (C's `round`), "half_up"
    towards +infinity; "floor" rounds down; "toward_zero" does what a cast does; "stochastic" rounds up with the
    probability of the fraction, which is right on average (Gupta et al. 2015, arXiv:1502.02551, section 3), by a NumPy
    Generator or a seed, `rng`.

    >>> x = [-1.5, -0.5, 0.5, 1.5, 2.5]
    >>> round_to_integer(x), round_to_integer(x, "half_away")
    (array([-2., -0.,  0.,  2.,  2.]), array([-2., -1.,  1.,  2.,  3.]))
    """
    return ROUNDINGS[rounding](x, rng).reshape(x.shape)


# Codes and back


def aligned(array, qparams):
    """Return the array, its scales and its zero points, in shapes that broadcast.

    axis 1 of (N, C, H, W)    the array becomes (N, C, H * W), the scales, (C,), become (C, 1)
    groups of g               the array becomes (1, groups, g), the scales (groups, 1)
    """
    if not isinstance(qparams, QuantParams):
        raise TypeError(f"qparams must be QuantParams, got {type(qparams).__name__}")
    wanted, view = layout_of(array.shape, qparams.axis, qparams.group_size)
    if qparams.scale.shape != wanted:
        raise ValueError(f"shape {array.shape} needs scales of shape {wanted}, got {qparams.scale.shape}")
    return array.reshape(view), qparams.scale.reshape(-1, 1), qparams.zero_point.reshape(-1, 1)


@door
def quantize(x: real, qparams, *, rounding: one_of(*ROUNDINGS) = "half_even", rng=None):  # [...] -> codes [...]
    """Return the codes of an array: clip(round(x / scale) + zero_point, qmin, qmax), in this order.

    In the array's own precision, float32 at least; `rounding` and `rng` are those of `round_to_integer`. Source:
    Krishnamoorthi 2018, arXiv:1806.08342, section 2.1. As in ONNX's QuantizeLinear x is divided by the scale, not
    multiplied by 1 / scale, which can round differently; the zero point is added after the rounding.

    >>> grid = QuantParams(scale=0.5, zero_point=10, bits=8, signed=False)
    >>> quantize([-1.0, 0.0, 0.25, 0.75, 1000.0], grid)
    array([  8,  10,  10,  12, 255], dtype=uint8)
    """
    values, scale, zero_point = aligned(x, qparams)
    with np.errstate(over="ignore", invalid="ignore"):  # a quotient that becomes infinite is clipped like any other
        steps = ROUNDINGS[rounding](values / scale, rng)
    codes = np.clip(steps + zero_point.astype(steps.dtype), qparams.qmin, qparams.qmax)
    return codes.astype(qparams.dtype).reshape(x.shape)  # clipped first: a cast would wrap


def dequantize(codes, qparams):  # integer codes [...] -> float32 [...]
    """Return the values that codes stand for: (codes - zero_point) * scale, in float32.

    >>> dequantize([8, 10, 255], QuantParams(scale=0.5, zero_point=10, bits=8, signed=False))
    array([ -1. ,   0. , 122.5], dtype=float32)
    """
    values, scale, zero_point = aligned(np.asarray(codes), qparams)
    values = integers(values, "codes", qparams.qmin, qparams.qmax)
    steps = values.astype(np.int32) - zero_point  # in int8 the difference would wrap
    return (steps.astype(np.float32) * scale).reshape(np.shape(codes))


def fake_quantize(x, qparams, *, rounding="half_even", rng=None):  # [...] -> float32 [...]
    """Return dequantize(quantize(x)): the floats that its codes stand for, to simulate quantization in floats.

    >>> fake_quantize([0.2, 0.3], QuantParams(scale=0.25, zero_point=0, bits=4, signed=True))
    array([0.25, 0.25], dtype=float32)
    """
    return dequantize(quantize(x, qparams, rounding=rounding, rng=rng), qparams)


@door
def choose_qparams(
    x: real32,
    *,
    bits: whole(2, 16) = 8,
    symmetric=True,
    axis=None,
    group_size=None,
    method: one_of(*RANGES) = "minmax",
):
    """Choose the grid for an array: find a range for each scale by `method`, then lay the codes over it.

    With `axis` each index of this axis has a scale. With `group_size` each run of so many neighbours along the last
    axis has one; it must divide the axis's length, and a convolution weight (out, in, kH, kW) is then seen as (out,
    in * kH * kW). Methods: "minmax", from the smallest value to the largest; "percentile", without the largest 0.1
    percent of |x|, or 0.1 percent at each end if affine; "mse", clipped for the least squared error; "entropy", clipped
    for the least Kullback-Leibler divergence.
    Sources: Jacob et al. 2018, arXiv:1712.05877, equations 1 and 12; Krishnamoorthi 2018, arXiv:1806.08342, section 2;
    Nagel et al. 2021, arXiv:2106.08295, sections 2.2 and 3.1.

    >>> grid = choose_qparams([-1.0, 0.5, 1.27])
    >>> grid.scale, grid.qmin, grid.qmax
    (array(0.01, dtype=float32), -127, 127)
    >>> weight = [[1.0, -7.0], [14.0, 0.0]]
    >>> choose_qparams(weight, bits=4, axis=0).scale, choose_qparams(weight, bits=4).scale
    (array([1., 2.], dtype=float32), array(2., dtype=float32))
    >>> choose_qparams(weight, bits=4, group_size=1).scale.shape  # a scale for each number
    (2, 2)
    """
    shape, view = layout_of(x.shape, axis, group_size)
    values = x.reshape(view).swapaxes(0, 1).reshape(view[1], -1)  # a row for each scale
    lo, hi = include_zero(values.min(axis=1), values.max(axis=1), symmetric)
    lo, hi = (ends.reshape(shape) for ends in RANGES[method](values, 1, lo, hi, bits, symmetric))
    axis = None if axis is None else axis % x.ndim
    return qparams_from_range(lo, hi, bits=bits, symmetric=symmetric, axis=axis, group_size=group_size)


@door
def qparams_from_range(
    lo: real32, hi: real32, *, bits: whole(2, 16) = 8, symmetric=True, signed=None, axis=None, group_size=None
):
    """Return the grid over a given range, which is first widened to include 0.

        symmetric: scale = max(|lo|, |hi|) / (2^(bits-1) - 1)    zero_point = 0
        affine:    scale = (hi - lo) / (2^bits - 1)              zero_point = round(qmin - lo / scale)

    lo <= hi have the shape of the wanted scale. Symmetric codes are signed and narrow, affine ones are unsigned, or
    signed with signed=True. If lo = hi = 0 the scale is 1, and no scale is below the smallest normal float32. As the
    zero point is a whole number, an affine grid is shifted by up to half a step against [lo, hi].

    >>> grid = qparams_from_range(5.0, 7.5, bits=4, symmetric=False)
    >>> grid.scale, grid.zero_point
    (array(0.5, dtype=float32), array(0, dtype=int32))
    """
    same_shape(lo, hi, ("lo", "hi"))
    if np.any(lo > hi):
        raise ValueError(f"lo must not be above hi, got {lo} and {hi}")
    signed = symmetric if signed is None else signed
    lo, hi = include_zero(lo, hi, symmetric)
    scale, zero_point = scale_and_zero_point(lo, hi, *code_range(bits, signed, narrow=symmetric))
    return QuantParams(scale, zero_point, bits, signed, narrow=symmetric, axis=axis, group_size=group_size)


class RangeObserver:
    """Watch the range of activations over calibration batches, then give the grid for all of them.

    One range for the whole tensor: sum_c s q_c w_c = s sum_c q_c w_c needs the same scale s for all inputs c. The mode
    "minmax" keeps the extremes of all batches, "histogram" also counts the values, for every method of
    `choose_qparams`.

    >>> observer = RangeObserver()
    >>> observer.observe([0.0, 2.0])
    >>> observer.observe([-1.5, 1.0])
    >>> observer.range, float(observer.qparams(bits=3).scale)
    ((-1.5, 2.0), 0.5)
    """

    def __init__(self, mode="minmax"):
        self.mode = one_of("minmax", "histogram")(mode, "mode")
        self.histogram = GrowingHistogram() if mode == "histogram" else None
        self._lo, self._hi = np.inf, -np.inf

    def observe(self, x):
        """Take a batch of real numbers into account, of any shape."""
        x = real32(x)
        self._lo, self._hi = min(self._lo, float(x.min())), max(self._hi, float(x.max()))
        if self.histogram:
            self.histogram.add(x)

    @property
    def range(self):
        """The range so far, (lo, hi); ValueError before the first batch."""
        if self._lo > self._hi:
            raise ValueError("nothing observed yet: call observe(x) with at least one batch first")
        return self._lo, self._hi

    @door
    def qparams(self, *, bits: whole(2, 16) = 8, symmetric=False, method: one_of(*RANGES) = "minmax"):
        """Return the grid for what was observed, the options as in `choose_qparams`.

        All values that were counted in one bin of the histogram are taken as its centre.
        """
        lo, hi = np.array([self.range]).T  # each [1]
        if not self.histogram and method != "minmax":
            raise ValueError(f"method {method!r} needs RangeObserver('histogram'), this one is {self.mode!r}")
        centres, counts = self.histogram.clipped(lo, hi) if self.histogram else (lo[:, None], 1)
        lo, hi = RANGES[method](centres, counts, *include_zero(lo, hi, symmetric), bits, symmetric)
        return qparams_from_range(lo[0], hi[0], bits=bits, symmetric=symmetric)


@door
def mse(x: real, x_hat: real):  # [...], [...] -> float
    """Return the mean squared error, mean (x - x_hat)^2, in float64.

    >>> mse([1.0, 2.0], [1.0, 2.5])
    0.125
    """
    same_shape(x, x_hat, ("x", "x_hat"))
    with np.errstate(over="ignore"):  # beyond float64 it is infinite
        return float(np.mean(np.subtract(x, x_hat, dtype=np.float64) ** 2))


@door
def sqnr_db(x: real, x_hat: real):  # [...], [...] -> float
    """Return the signal to quantization noise ratio in decibels, 10 log10(sum x^2 / sum (x - x_hat)^2), in float64.

    A noise uniform over a step has power step^2 / 12, so each further bit gains 20 log10(2) = 6.02 dB (Bennett 1948,
    Spectra of Quantized Signals). Infinity for identical arrays, minus infinity for x = 0 and an x_hat that is not.

    >>> sqnr_db([3.0, 4.0], [3.0, 4.5])
    20.0
    """
    same_shape(x, x_hat, ("x", "x_hat"))
    x, x_hat = x.astype(np.float64), x_hat.astype(np.float64)
    largest = max(np.abs(x).max(), np.abs(x_hat).max())
    unit = 2.0 ** (np.frexp(largest)[1] - 1)  # a power of two divides exactly and keeps the squares finite
    signal, noise = np.sum((x / unit) ** 2), np.sum((x / unit - x_hat / unit) ** 2)
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")
