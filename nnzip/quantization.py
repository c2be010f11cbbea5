"""Uniform quantization: a float as an integer code times a scale.

    codes = clip(round(x / scale) + zero_point, qmin, qmax)        quantize
    x_hat = (codes - zero_point) * scale                           dequantize

Symmetric grids have zero_point 0 and the signed codes -(2^(b-1) - 1) .. 2^(b-1) - 1; affine grids lay all 2^b codes
over a range [lo, hi] that includes 0. One scale serves the whole tensor, or there is one for each index of an axis
(per channel), or one for each group of neighbours along the last axis. How a range is chosen is in
`nnzip.calibration`; Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3 are the origin of the affine map.
"""

from dataclasses import dataclass, fields

import numpy as np

from nnzip.calibration import (
    FLOAT32_TINY,
    RANGES,
    GrowingHistogram,
    Rows,
    broadcast_shapes,
    check_layout,
    code_range,
    include_zero,
    largest_scale,
    scale_and_zero_point,
    slices,
)
from nnzip.checks import door, integers, one_of, real, real32, same_shape, whole

ROUNDINGS = {  # what `round_to_integer` explains: name -> function of the numbers and of an rng
    "half_even": lambda x, rng: np.rint(x),
    "half_away": lambda x, rng: np.copysign(_half_up(np.abs(x)), x),
    "half_up": lambda x, rng: _half_up(x),
    "floor": lambda x, rng: np.floor(x),
    "toward_zero": lambda x, rng: np.trunc(x),
    "stochastic": lambda x, rng: np.floor(x) + (np.random.default_rng(rng).random(x.shape) < x - np.floor(x)),
}


@dataclass(eq=False)
class QuantParams:
    """A grid to quantize on: the code q stands for the value (q - zero_point) * scale.

    `scale`, the step between neighbouring values, becomes float32 and `zero_point`, the code of the value 0, int32;
    both have shape (), or (C,) with `axis`, or (..., groups) with `group_size`. The codes, of the smallest integer
    `dtype` that holds them, go from `qmin` to `qmax`: signed ones from -2^(bits-1), or one more if `narrow`, to
    2^(bits-1) - 1, others from 0 to 2^bits - 1. A scale must be positive and every code under it a finite float32.

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
        with np.errstate(over="ignore"):  # infinity is refused with the other scales that are too large
            self.scale = real(self.scale, "scale").astype(np.float32)
        self.zero_point = integers(self.zero_point, "zero_point", self.qmin, self.qmax).astype(np.int32)
        same_shape(self.scale, self.zero_point, ("scale", "zero_point"))
        check_layout(self.axis, self.group_size)
        shape = self.scale.shape
        fits = len(shape) == (self.axis is not None) if self.group_size is None else len(shape) > 0
        if not fits:
            raise ValueError(f"scale must have shape (), (C,) with axis, (..., groups) with group_size, got {shape}")
        largest = largest_scale(self.zero_point, self.qmin, self.qmax)
        if not np.all((self.scale >= FLOAT32_TINY) & (self.scale <= largest)):
            allowed = f"positive, from {FLOAT32_TINY:.3g} to {largest.min():.3g}"
            raise ValueError(f"scale must be {allowed} so that every code is a finite float32, got {self.scale}")
        self.scale.setflags(write=False)  # many layers may hold one grid
        self.zero_point.setflags(write=False)

    def __repr__(self):
        with np.printoptions(threshold=8, edgeitems=1):
            return f"QuantParams({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in fields(self))})"


@door
def quantize(x: real, qparams, *, rounding: one_of(*ROUNDINGS) = "half_even", rng=None):  # [...] -> codes [...]
    """Return the codes of an array: clip(round(x / scale) + zero_point, qmin, qmax), in this order.

    In the array's own precision, float32 at least; `rounding` and `rng` are those of `round_to_integer`. Source:
    Krishnamoorthi 2018, arXiv:1806.08342, section 2.1; order and division are those of ONNX QuantizeLinear.

    >>> grid = QuantParams(scale=0.5, zero_point=10, bits=8, signed=False)
    >>> quantize([-1.0, 0.0, 0.25, 0.75, 1000.0], grid)
    array([  8,  10,  10,  12, 255], dtype=uint8)
    """
    values, scale, zero_point = aligned(x, qparams)
    with np.errstate(over="ignore", invalid="ignore"):  # a quotient too large for a float is clipped like any other
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
    """Return what is left of an array after quantization: dequantize(quantize(x)), still as floats.

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
    """Choose the grid for an array: its rows' ranges by `method`, then a grid over each of them.

    With `axis` each of its indices has a scale (0: the output channels of a weight), with `group_size` each so many
    neighbours along the last axis, which it must divide; convolution weights (out, in, kH, kW) are seen as
    (out, in * kH * kW). The range is by "minmax" from the smallest value to the largest; by "percentile" without the
    outermost 0.1 percent; by "mse" clipped for the least squared error; by "entropy" clipped for the least
    Kullback-Leibler divergence. Sources: Jacob et al. 2018, arXiv:1712.05877, equations 1 and 12; Krishnamoorthi 2018,
    arXiv:1806.08342, section 2; Nagel et al. 2021, arXiv:2106.08295, sections 2.2 and 3.1.

    >>> grid = choose_qparams([-1.0, 0.5, 1.27])
    >>> grid.scale, grid.qmin, grid.qmax
    (array(0.01, dtype=float32), -127, 127)
    """
    rows, shape, axis = slices(x, axis, group_size)
    lo, hi = RANGES[method](rows, bits, symmetric)
    layout = {"axis": axis, "group_size": group_size}
    return qparams_from_range(lo.reshape(shape), hi.reshape(shape), bits=bits, symmetric=symmetric, **layout)


@door
def qparams_from_range(
    lo: real32, hi: real32, *, bits: whole(2, 16) = 8, symmetric=True, signed=None, axis=None, group_size=None
):
    """Return the grid over a given range, which is first widened to include 0.

        symmetric: scale = max(|lo|, |hi|) / (2^(bits-1) - 1)    zero_point = 0
        affine:    scale = (hi - lo) / (2^bits - 1)              zero_point = round(qmin - lo / scale)

    lo <= hi have the shape that the scale shall have. Symmetric codes are signed and without the lowest one, affine
    codes are unsigned, or signed with signed=True. A range without width gets scale 1, and no scale is below the
    smallest normal float32.

    >>> grid = qparams_from_range(5.0, 7.5, bits=4, symmetric=False)
    >>> grid.scale, grid.zero_point
    (array(0.5, dtype=float32), array(0, dtype=int32))
    """
    same_shape(lo, hi, ("lo", "hi"))
    if np.any(lo > hi):
        raise ValueError(f"lo must not be above hi, got {lo} and {hi}")
    signed = symmetric if signed is None else signed
    lo, hi = include_zero(lo, hi, symmetric)
    scale, zero_point = scale_and_zero_point(lo, hi, *code_range(bits, signed, symmetric))
    return QuantParams(scale, zero_point, bits, signed, symmetric, axis, group_size)


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


def _half_up(x):
    below = np.floor(x)
    return below + (x - below >= 0.5)  # floor(x + 0.5) is wrong: 0.49999997 + 0.5 rounds to 1


class RangeObserver:
    """Watch the range of activations over calibration batches, then give the grid for all of them.

    One range for the whole tensor: a scale for each input channel could not be taken out of a sum over channels.
    The mode "minmax" keeps the extremes of all batches, "histogram" also how often each value occurs, for every
    method of `choose_qparams`.

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
        """Return the grid for what was observed, the options as in `choose_qparams`; bins count as their centres."""
        lo, hi = np.array([self.range]).T  # each [1]
        if not self.histogram and method != "minmax":
            raise ValueError(f"method {method!r} needs RangeObserver('histogram'), this one is {self.mode!r}")
        rows = self.histogram.rows(lo, hi) if self.histogram else Rows(None, None, lo, hi)
        lo, hi = RANGES[method](rows, bits, symmetric)
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
    Spectra of Quantized Signals). Infinity for identical arrays.

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


def aligned(array, qparams):
    """Return the array, seen so that the scales and zero points broadcast over it, and these two."""
    if not isinstance(qparams, QuantParams):
        raise TypeError(f"qparams must be QuantParams, got {type(qparams).__name__}")
    view, wanted, spread = broadcast_shapes(array.shape, qparams.axis, qparams.group_size)
    if qparams.scale.shape != wanted:
        raise ValueError(f"shape {array.shape} needs scales of shape {wanted}, got {qparams.scale.shape}")
    return array.reshape(view), qparams.scale.reshape(spread), qparams.zero_point.reshape(spread)
