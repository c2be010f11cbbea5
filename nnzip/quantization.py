"""Uniform quantization: a float as an integer code times a scale.

    codes = clip(round(x / scale) + zero_point, qmin, qmax)        quantize
    x_hat = (codes - zero_point) * scale                           dequantize

Symmetric grids have zero_point 0 and the signed codes -(2^(b-1) - 1) .. 2^(b-1) - 1; affine grids lay all 2^b codes
over a range [lo, hi] that includes 0. One scale serves the whole tensor, or there is one for each index of an axis
(per channel), or one for each group of neighbours along the last axis. How a range is chosen is in
`nnzip.calibration`; Jacob et al. 2018, arXiv:1712.05877, sections 2.1 and 3 are the origin of the affine map.
"""

from dataclasses import dataclass

import numpy as np

from nnzip import calibration
from nnzip.checks import check_choice, check_integer, check_not_empty, check_number, check_same_shape, real_array

ROUNDINGS = ("half_even", "half_away", "half_up", "floor", "toward_zero", "stochastic")
OBSERVER_MODES = ("minmax", "moving_average", "histogram")
FLOAT32_TINY = float(np.finfo(np.float32).tiny)  # below it floats lose bits, and some machines make them 0
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False, repr=False)
class QuantParams:
    """A grid to quantize on: the code q stands for the value (q - zero_point) * scale.

    Parameters
    ----------
    scale : the step between neighbouring values, stored as float32: of shape () for a whole tensor, (C,) with
        `axis`, (..., groups) with `group_size`
    zero_point : the code of the value 0, stored as int32, of the same shape
    bits : 2 to 16
    signed : codes from -2^(bits-1) to 2^(bits-1) - 1, else from 0 to 2^bits - 1
    narrow : without the lowest signed code, so that the codes are symmetric around 0
    axis : the axis that has a scale for each of its indices
    group_size : how many neighbours along the last axis share a scale

    Raises TypeError or ValueError for a field of the wrong kind, size or shape, and for a scale that is not positive or
    under which some code is no finite float32.

    Examples
    --------
    >>> grid = QuantParams(scale=0.1, zero_point=0, bits=8, signed=True)
    >>> grid
    QuantParams(scale=0.1, zero_point=0, bits=8, signed=True, narrow=False)
    >>> grid.qmin, grid.qmax, grid.dtype
    (-128, 127, dtype('int8'))
    """

    scale: np.ndarray
    zero_point: np.ndarray
    bits: int
    signed: bool
    narrow: bool = False
    axis: int | None = None
    group_size: int | None = None

    def __post_init__(self):
        self._set(bits=_check_codes(self.bits, self.signed, self.narrow))
        zero_point = _integers(self.zero_point, "zero_point", self.qmin, self.qmax).astype(np.int32)
        with np.errstate(over="ignore"):  # infinity is refused with the other scales that are too large
            scale = real_array(self.scale, "scale").astype(np.float32)
        check_same_shape(scale, zero_point, ("scale", "zero_point"))
        _check_layout(scale.shape, self.axis, self.group_size)
        largest = _largest_scale(zero_point, self.qmin, self.qmax)
        if not np.all((scale >= FLOAT32_TINY) & (scale <= largest)):
            allowed = f"positive, from {FLOAT32_TINY:.3g} to {largest.min():.3g}"
            raise ValueError(f"scale must be {allowed} so that every code is a finite float32, got {self.scale}")
        scale.setflags(write=False)
        zero_point.setflags(write=False)
        self._set(scale=scale, zero_point=zero_point)

    def _set(self, **fields):
        for name, value in fields.items():
            object.__setattr__(self, name, value)  # the way into a frozen dataclass

    @property
    def qmin(self):
        return _code_range(self.bits, self.signed, self.narrow)[0]

    @property
    def qmax(self):
        return _code_range(self.bits, self.signed, self.narrow)[1]

    @property
    def dtype(self):
        """The smallest NumPy integer type that holds every code."""
        return np.dtype(f"{'int' if self.signed else 'uint'}{8 if self.bits <= 8 else 16}")

    def __repr__(self):
        fields = {"scale": _brief(self.scale), "zero_point": _brief(self.zero_point)}
        fields |= {"bits": self.bits, "signed": self.signed, "narrow": self.narrow}
        fields |= {name: getattr(self, name) for name in ("axis", "group_size") if getattr(self, name) is not None}
        return f"QuantParams({', '.join(f'{name}={value}' for name, value in fields.items())})"


def quantize(x, qparams, *, rounding="half_even", rng=None):  # [...] -> integer codes [...]
    """Return the codes of an array: clip(round(x / scale) + zero_point, qmin, qmax), in this order.

    Parameters
    ----------
    x : real numbers of any shape that fits the scales; computed in its own precision, float32 at least
    qparams : QuantParams, whose dtype the codes get
    rounding, rng : as in `round_to_integer`

    Raises TypeError or ValueError if x is not real, finite and non-empty, or does not fit. Source: Krishnamoorthi 2018,
    arXiv:1806.08342, section 2.1; the order and the division are those of ONNX QuantizeLinear.

    Examples
    --------
    >>> grid = QuantParams(scale=0.5, zero_point=10, bits=8, signed=False)
    >>> quantize([-1.0, 0.0, 0.25, 0.75, 1000.0], grid)
    array([  8,  10,  10,  12, 255], dtype=uint8)
    """
    x = real_array(x)
    codes = _codes(*_aligned(x, qparams), qparams.qmin, qparams.qmax, rounding, rng)
    return codes.astype(qparams.dtype).reshape(x.shape)  # clipped first: a cast would wrap


def _codes(values, scale, zero_point, qmin, qmax, rounding="half_even", rng=None):  # -> whole floats in [qmin, qmax]
    with np.errstate(over="ignore", invalid="ignore"):  # a quotient too large for a float is clipped like any other
        steps = _round(values / scale, rounding, rng)
    return np.clip(steps + zero_point.astype(steps.dtype), qmin, qmax)


def dequantize(codes, qparams):  # integer codes [...] -> float32 [...]
    """Return the values that codes stand for: (codes - zero_point) * scale, in float32.

    Raises TypeError or ValueError if the codes are not integers, lie outside [qmin, qmax], or do not fit the scales.

    Examples
    --------
    >>> dequantize([8, 10, 255], QuantParams(scale=0.5, zero_point=10, bits=8, signed=False))
    array([ -1. ,   0. , 122.5], dtype=float32)
    """
    values, scale, zero_point = _aligned(np.asarray(codes), qparams)
    values = _integers(values, "codes", qparams.qmin, qparams.qmax)
    steps = values.astype(np.int32) - zero_point  # in int8 the difference would wrap
    return (steps.astype(np.float32) * scale).reshape(np.shape(codes))


def fake_quantize(x, qparams, *, rounding="half_even", rng=None):  # [...] -> float32 [...]
    """Return what is left of an array after quantization: dequantize(quantize(x)), still as floats.

    Examples
    --------
    >>> fake_quantize([0.2, 0.3], QuantParams(scale=0.25, zero_point=0, bits=4, signed=True))
    array([0.25, 0.25], dtype=float32)
    """
    return dequantize(quantize(x, qparams, rounding=rounding, rng=rng), qparams)


def round_to_integer(x, rounding="half_even", *, rng=None):
    """Round to whole numbers, which stay floats.

    Parameters
    ----------
    x : real numbers, any shape
    rounding : "half_even", ties to the even neighbour (ONNX, NumPy); "half_away", ties away from zero (C's `round`);
        "half_up", ties towards +infinity; "floor"; "toward_zero", as a cast does; "stochastic", up with the
        probability of the fraction, which is right on average (Gupta et al. 2015, arXiv:1502.02551, section 3)
    rng : for "stochastic", a numpy Generator or a seed

    Raises TypeError or ValueError if x is not real, finite and non-empty, or for an unknown name.

    Examples
    --------
    >>> x = [-1.5, -0.5, 0.5, 1.5, 2.5]
    >>> round_to_integer(x), round_to_integer(x, "half_away")
    (array([-2., -0.,  0.,  2.,  2.]), array([-2., -1.,  1.,  2.,  3.]))
    """
    x = real_array(x)
    return _round(x, rounding, rng).reshape(x.shape)


def _round(x, rounding, rng):
    below = np.floor(x)
    match check_choice(rounding, "rounding", ROUNDINGS):
        case "half_even":
            return np.rint(x)
        case "half_away":
            return np.copysign(_round(np.abs(x), "half_up", rng), x)
        case "half_up":
            return below + (x - below >= 0.5)  # floor(x + 0.5) is wrong: 0.49999997 + 0.5 rounds to 1
        case "floor":
            return below
        case "toward_zero":
            return np.trunc(x)
        case "stochastic":
            return below + (np.random.default_rng(rng).random(x.shape) < x - below)


def choose_qparams(
    x, *, bits=8, symmetric=True, signed=None, axis=None, group_size=None, method="minmax", percentile=99.9
):
    """Choose the grid for an array.

        symmetric: scale = max|x| / (2^(bits-1) - 1)    zero_point = 0
        affine:    scale = (hi - lo) / (2^bits - 1)     zero_point = round(qmin - lo / scale)    lo <= 0 <= hi

    Parameters
    ----------
    x : real numbers, any shape
    bits : 2 to 16
    symmetric : signed codes around 0, without the lowest one; else affine
    signed : affine grids are unsigned by default, signed=True gives signed codes
    axis : the axis kept, with a scale for each of its indices (0: the output channels of a weight)
    group_size : a scale for each so many neighbours along the last axis, which it must divide; convolution weights
        (out, in, kH, kW) are seen as (out, in * kH * kW)
    method : what each slice's range is: "minmax", its extremes; "percentile", without its tails; "mse", clipped for
        the least squared error; "entropy", clipped for the least Kullback-Leibler divergence
    percentile : above 50, up to 100; of |x| if symmetric, else of both tails

    Returns QuantParams with scale (), (C,) or (..., groups), at least the smallest normal float32; a slice of zeros
    gets 1. TypeError or ValueError if x is not real, finite, non-empty and within float32, or an option not as above.
    Sources: Jacob et al. 2018, arXiv:1712.05877, equations 1 and 12; Krishnamoorthi 2018, arXiv:1806.08342, section 2;
    Nagel et al. 2021, arXiv:2106.08295, sections 2.2 and 3.1.

    Examples
    --------
    >>> choose_qparams([-1.0, 0.5, 1.27])
    QuantParams(scale=0.01, zero_point=0, bits=8, signed=True, narrow=True)
    >>> choose_qparams([-1.0, 0.5, 1.55], symmetric=False)
    QuantParams(scale=0.01, zero_point=100, bits=8, signed=False, narrow=False)
    """
    x = _within_float32(x, "x")
    values, shape, axis = calibration.slices(x, axis, group_size)
    grid = {"bits": bits, "symmetric": symmetric, "signed": signed}
    lo, hi = _choose_range(values, None, values.min(axis=1), values.max(axis=1), method, percentile, grid)
    return qparams_from_range(lo.reshape(shape), hi.reshape(shape), axis=axis, group_size=group_size, **grid)


def qparams_from_range(lo, hi, *, bits=8, symmetric=True, signed=None, axis=None, group_size=None):
    """Return the grid over a given range, widened to include 0 (symmetric: to [-m, m], m = max(|lo|, |hi|)).

    lo <= hi are real numbers of the shape that the scale shall have; formulas, options and errors are those of
    `choose_qparams`.

    Examples
    --------
    >>> qparams_from_range(5.0, 7.5, bits=4, symmetric=False)
    QuantParams(scale=0.5, zero_point=0, bits=4, signed=False, narrow=False)
    """
    check_choice(symmetric, "symmetric", (True, False))
    signed = symmetric if signed is None else signed
    bits = _check_codes(bits, signed, symmetric)
    lo, hi = _within_float32(lo, "lo"), _within_float32(hi, "hi")
    check_same_shape(lo, hi, ("lo", "hi"))
    if np.any(lo > hi):
        raise ValueError(f"lo must not be above hi, got {lo} and {hi}")
    lo, hi = calibration.include_zero(lo, hi, symmetric)
    scale, zero_point = _scale_and_zero_point(lo, hi, *_code_range(bits, signed, symmetric), symmetric)
    return QuantParams(scale, zero_point, bits, signed, symmetric, axis, group_size)


def _scale_and_zero_point(lo, hi, qmin, qmax, symmetric):  # float64 [...], [...] -> float32 [...], int32 [...]
    def zero_point(scale):  # of the scale that is stored, so that it always fits
        return np.zeros(lo.shape, np.int32) if symmetric else np.rint(qmin - lo / scale).astype(np.int32)

    scale = np.where(hi > lo, (hi - lo) / (qmax - qmin), 1.0)
    scale = np.maximum(scale, FLOAT32_TINY).astype(np.float32)
    scale = np.minimum(scale, _largest_scale(zero_point(scale), qmin, qmax))
    return scale, zero_point(scale)


def _largest_scale(zero_point, qmin, qmax):
    """Return the largest scale under which the farthest code from the zero point is a finite float32."""
    steps = np.maximum(zero_point - qmin, qmax - zero_point)
    return np.nextafter((FLOAT32_MAX / steps).astype(np.float32), np.float32(0))


def _choose_range(values, counts, lo, hi, method, percentile, grid):  # [S, n], [S, n] or None, [S], [S] -> [S], [S]
    symmetric = check_choice(grid["symmetric"], "symmetric", (True, False))
    signed = symmetric if grid["signed"] is None else grid["signed"]
    qmin, qmax = _code_range(_check_codes(grid["bits"], signed, symmetric), signed, symmetric)

    def round_trip(values, lo, hi):  # what the public functions do, checked once and not for each range that is tried
        scale, zero_point = (a[:, None] for a in _scale_and_zero_point(lo, hi, qmin, qmax, symmetric))
        codes = _codes(values, scale, zero_point, qmin, qmax).astype(np.int32)
        return codes, (codes - zero_point).astype(np.float32) * scale

    options = {"method": method, "percentile": percentile, "symmetric": symmetric, "round_trip": round_trip}
    return calibration.choose_range(values, counts, lo, hi, **options)


class RangeObserver:
    """Watch the range of activations over calibration batches, then give the grid for all of them.

    One range for the whole tensor: a scale for each input channel could not be taken out of a sum over channels.

    Parameters
    ----------
    mode : "minmax", the extremes of all batches; "moving_average", the extremes of each batch averaged with weights
        1 - momentum, momentum (1 - momentum), ... into the past (Jacob et al. 2018, section 3.1); "histogram",
        the extremes and how often each value occurs, for every method of `choose_qparams`
    momentum : in [0, 1), for "moving_average": how much of the old range is kept
    bins : for "histogram": a multiple of 4

    Examples
    --------
    >>> observer = RangeObserver("moving_average", momentum=0.5)
    >>> observer.observe([0.0, 2.0])
    >>> observer.observe([-1.0, 4.0])
    >>> observer.range
    (-0.5, 3.0)
    >>> observer.qparams(bits=3)
    QuantParams(scale=0.5, zero_point=1, bits=3, signed=False, narrow=False)
    """

    def __init__(self, mode="minmax", *, momentum=0.9, bins=8192):
        self.mode = check_choice(mode, "mode", OBSERVER_MODES)
        self.momentum = check_number(momentum, "momentum", 0, 1, open_high=True)
        if check_integer(bins, "bins", 4) % 4:
            raise ValueError(f"bins must be a multiple of 4, so that bins merge in pairs around 0, got {bins}")
        self.histogram = calibration.GrowingHistogram(int(bins)) if mode == "histogram" else None
        self._range = None

    def observe(self, x):
        """Take a batch of real numbers into account; any shape, errors as in `choose_qparams`."""
        x = _within_float32(x, "x")
        lo, hi = float(x.min()), float(x.max())
        old_lo, old_hi = self._range or (lo, hi)
        if self.mode == "moving_average":
            keep = self.momentum
            self._range = keep * old_lo + (1 - keep) * lo, keep * old_hi + (1 - keep) * hi
        else:
            self._range = min(old_lo, lo), max(old_hi, hi)
        if self.histogram:
            self.histogram.add(x)

    @property
    def range(self):
        """The range so far, (lo, hi); ValueError before the first batch."""
        if self._range is None:
            raise ValueError("nothing observed yet: call observe(x) with at least one batch first")
        return self._range

    def qparams(self, *, bits=8, symmetric=False, signed=None, method="minmax", percentile=99.9):
        """Return QuantParams for what was observed; the options are those of `choose_qparams`.

        A histogram answers with its bins' centres in place of the values. ValueError for a method other than
        "minmax" in another mode, which keeps no more than a range.
        """
        lo, hi = np.array([self.range]).T  # each [1]
        values, counts = np.array([self.range]), None
        if self.histogram:
            values, counts = (array[None] for array in self.histogram.values_and_counts())
            values = np.where(counts > 0, np.clip(values, lo, hi), values)  # no centre outside of what was seen
        elif method in calibration.METHODS[1:]:
            raise ValueError(f"method {method!r} needs RangeObserver('histogram'), this one is {self.mode!r}")
        grid = {"bits": bits, "symmetric": symmetric, "signed": signed}
        lo, hi = _choose_range(values, counts, lo, hi, method, percentile, grid)
        return qparams_from_range(lo[0], hi[0], **grid)


def mse(x, x_hat):  # [...], [...] -> float
    """Return the mean squared error, mean (x - x_hat)^2, in float64.

    Raises TypeError or ValueError if the arrays are not real, finite and non-empty, or of unlike shapes.

    Examples
    --------
    >>> mse([1.0, 2.0], [1.0, 2.5])
    0.125
    """
    x, x_hat = _two_float64(x, x_hat)
    with np.errstate(over="ignore"):  # beyond float64 it is infinite
        return float(np.mean((x - x_hat) ** 2))


def sqnr_db(x, x_hat):  # [...], [...] -> float
    """Return the signal to quantization noise ratio in decibels, 10 log10(sum x^2 / sum (x - x_hat)^2), in float64.

    A noise uniform over a step has power step^2 / 12, so each further bit gains 20 log10(2) = 6.02 dB (Bennett 1948,
    Spectra of Quantized Signals). Infinity for identical arrays; errors as in `mse`.

    Examples
    --------
    >>> sqnr_db([3.0, 4.0], [3.0, 4.5])
    20.0
    """
    x, x_hat = _two_float64(x, x_hat)
    largest = max(np.abs(x).max(), np.abs(x_hat).max())
    unit = 2.0 ** (np.frexp(largest)[1] - 1)  # a power of two divides exactly and keeps the squares finite
    signal, noise = np.sum((x / unit) ** 2), np.sum((x / unit - x_hat / unit) ** 2)
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


# Checks


def _aligned(array, qparams):  # -> the array seen so that scale and zero_point broadcast over it, and these two
    if not isinstance(qparams, QuantParams):
        raise TypeError(f"qparams must be QuantParams, got {type(qparams).__name__}")
    view, wanted, spread = calibration.broadcast_shapes(array.shape, qparams.axis, qparams.group_size)
    if qparams.scale.shape != wanted:
        raise ValueError(f"shape {array.shape} needs scales of shape {wanted}, got {qparams.scale.shape}")
    return array.reshape(view), qparams.scale.reshape(spread), qparams.zero_point.reshape(spread)


def _code_range(bits, signed, narrow):
    qmax = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return (-qmax if narrow else -qmax - 1) if signed else 0, qmax


def _check_codes(bits, signed, narrow):
    check_choice(signed, "signed", (True, False))
    if check_choice(narrow, "narrow", (True, False)) and not signed:
        raise ValueError("narrow and symmetric codes are signed, got signed=False")
    return check_integer(bits, "bits", 2, 16)


def _check_layout(shape, axis, group_size):
    calibration.check_one_layout(axis, group_size)
    if axis is not None:
        check_integer(axis, "axis", -64, 63)  # NumPy's limits; the array decides when it comes
    if group_size is not None:
        check_integer(group_size, "group_size", 1)
    fits = len(shape) == (axis is not None) if group_size is None else len(shape) > 0
    if not fits:
        raise ValueError(f"scale must have shape (), (C,) with axis, (..., groups) with group_size, got {shape}")


def _integers(values, name, low, high):
    """Return an integer array whose values all lie in [low, high]."""
    array = np.asarray(values)
    check_not_empty(array, name)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {array.dtype}")
    if array.min() < low or array.max() > high:
        raise ValueError(f"{name} must be from {low} to {high}, got {array.min()} to {array.max()}")
    return array


def _within_float32(x, name):
    x = real_array(x, name)
    largest = max(abs(float(x.min())), abs(float(x.max())))
    if largest > FLOAT32_MAX:
        raise ValueError(f"{name} must be within float32's range, at most {FLOAT32_MAX}, got {largest}")
    return x


def _two_float64(x, x_hat):
    x, x_hat = real_array(x, "x"), real_array(x_hat, "x_hat")
    check_same_shape(x, x_hat, ("x", "x_hat"))
    return x.astype(np.float64), x_hat.astype(np.float64)


def _brief(array):
    return str(array) if array.ndim == 0 else f"<{array.shape} from {array.min()!s} to {array.max()!s}>"
