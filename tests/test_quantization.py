"""Uniform quantization: properties, a specification in exact fractions, and searches done the long way."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest

from nnzip import calibration
from nnzip.quantization import (
    ROUNDINGS,
    QuantParams,
    RangeObserver,
    choose_qparams,
    dequantize,
    fake_quantize,
    mse,
    qparams_from_range,
    quantize,
    round_to_integer,
    sqnr_db,
)

pytestmark = pytest.mark.filterwarnings("error")  # no input may raise a warning either

TINY = np.finfo(np.float32).tiny
MAX = np.finfo(np.float32).max
METHODS = tuple(calibration.RANGES)


def rng():
    return np.random.default_rng(0)


@pytest.fixture
def coarse_search(monkeypatch):
    """Fewer candidate ranges, for tests that do not ask which one is best."""
    monkeypatch.setattr(calibration, "FRACTIONS", calibration.FRACTIONS[::16])


# The exact specification: one number at a time, in fractions

EXACT_ROUNDING = {
    "half_even": round,
    "half_away": lambda q: int(math.copysign(math.floor(abs(q) + Fraction(1, 2)), q)),
    "half_up": lambda q: math.floor(q + Fraction(1, 2)),
    "floor": math.floor,
    "toward_zero": math.trunc,
}


def exact_quantize(x, grid, rounding):
    """Every code from fractions; only the quotient is rounded, to float32, as IEEE has it."""

    def code(value):
        quotient = Fraction(float(value)) / Fraction(float(grid.scale))
        quotient = Fraction(float(np.float32(float(quotient))))  # via float64: exact enough for 24 bits
        return min(max(EXACT_ROUNDING[rounding](quotient) + int(grid.zero_point), grid.qmin), grid.qmax)

    return np.vectorize(code)(x)


@pytest.mark.parametrize("rounding", EXACT_ROUNDING)
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.1, 1 / 3])
@pytest.mark.parametrize("zero_point", [0, 101])
def test_quantize_is_the_exact_specification_ties_included(rounding, scale, zero_point):
    ties = (np.arange(-300, 300) + 0.5) * np.float32(scale)
    near = np.nextafter(ties.astype(np.float32), np.float32(0))
    x = np.stack([ties, near, rng().normal(0, 80 * scale, ties.size)]).astype(np.float32)
    grid = QuantParams(scale, zero_point, bits=8, signed=False)
    np.testing.assert_array_equal(quantize(x, grid, rounding=rounding), exact_quantize(x, grid, rounding))


def test_stochastic_rounding_never_lifts_an_integer():
    class Zeros(np.random.Generator):
        def random(self, size):
            return np.zeros(size)

    generator = Zeros(np.random.PCG64(0))
    assert round_to_integer([-2.0, 0.0, 3.0, 3.001], "stochastic", rng=generator).tolist() == [-2, 0, 3, 4]


def test_stochastic_rounding_repeats_with_its_seed():
    grid = QuantParams(0.1, 0, bits=8, signed=True)
    x = rng().normal(size=1000)
    first = quantize(x, grid, rounding="stochastic", rng=7)
    np.testing.assert_array_equal(first, quantize(x, grid, rounding="stochastic", rng=np.random.default_rng(7)))
    assert np.any(first != quantize(x, grid, rounding="stochastic", rng=8))
    np.testing.assert_array_equal(fake_quantize(x, grid, rounding="stochastic", rng=7), dequantize(first, grid))


# The grid


@pytest.mark.parametrize("symmetric, signed", [(True, True), (False, False), (False, True)])
@pytest.mark.parametrize("bits", range(2, 17))
def test_codes_fill_their_range_zero_is_exact_and_the_error_is_at_most_half_a_step(bits, symmetric, signed):
    x = np.append(rng().uniform(-1, 2, 3000), [-1, 2])
    grid = qparams_from_range(-1.0, 2.0, bits=bits, symmetric=symmetric, signed=signed)
    low = {(True, True): 1 - 2 ** (bits - 1), (False, True): -(2 ** (bits - 1)), (False, False): 0}[symmetric, signed]
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    assert (grid.qmin, grid.qmax, grid.narrow) == (low, high, symmetric)
    codes = quantize(x, grid)
    assert codes.dtype == np.dtype(("int" if signed else "uint") + ("8" if bits <= 8 else "16"))
    assert low <= codes.min() and codes.max() == high
    assert symmetric or codes.min() == low
    assert fake_quantize([0.0], grid) == 0 and quantize([0.0], grid) == grid.zero_point
    # Half a step, and what float32 has no bits for: scale and product are each rounded to 24 of them.
    slack = 2.0**-22 * (high - low)
    assert np.abs(x - dequantize(codes, grid)).max() <= grid.scale * (0.5 + slack)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", range(2, 17))
def test_scale_and_zero_point_are_those_of_the_formulas(bits, symmetric):
    """With the scale before its rounding to float32, a few zero points in a thousand come out one off."""
    x = rng().normal(1, 1, (20_000, 5))
    grid = choose_qparams(x, bits=bits, symmetric=symmetric, axis=0)
    lo, hi = np.minimum(x.min(axis=1), 0), np.maximum(x.max(axis=1), 0)
    if symmetric:
        np.testing.assert_array_equal(grid.scale, np.float32(np.abs(x).max(axis=1) / (2 ** (bits - 1) - 1)))
        assert not grid.zero_point.any()
    else:
        np.testing.assert_array_equal(grid.scale, np.float32((hi - lo) / (2**bits - 1)))
        np.testing.assert_array_equal(grid.zero_point, np.rint(-lo / grid.scale.astype(np.float64)))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 5, 8, 16])
def test_fake_quantize_changes_nothing_the_second_time_and_keeps_the_order(bits, symmetric):
    for spread in (1e-37, 1.0, 1e37):
        x = np.sort(rng().normal(size=2000) * spread).astype(np.float32)
        grid = choose_qparams(x, bits=bits, symmetric=symmetric)
        once = fake_quantize(x, grid)
        assert once.dtype == np.float32
        np.testing.assert_array_equal(fake_quantize(once, grid), once)
        np.testing.assert_array_equal(once, dequantize(quantize(x, grid), grid))
        assert np.all(np.diff(once) >= 0)


@pytest.mark.parametrize(
    "scale, zero_point, bits, signed", [(0.1, -128, 8, True), (1 / 3, 65535, 16, False), (TINY, 0, 16, True)]
)
def test_every_code_survives_the_way_there_and_back(scale, zero_point, bits, signed):
    grid = QuantParams(scale, zero_point, bits, signed)
    codes = np.arange(grid.qmin, grid.qmax + 1)
    np.testing.assert_array_equal(quantize(dequantize(codes, grid), grid), codes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_quotient_that_float32_cannot_hold_is_clipped(rounding, dtype):
    grid = QuantParams(TINY, 5, bits=8, signed=False)
    assert quantize(np.array([MAX, -MAX], dtype), grid, rounding=rounding, rng=0).tolist() == [255, 0]


# One scale for each slice


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("shape", "layout", "scales"),
    [
        *(((4, 2, 3), {"axis": axis}, ((4, 2, 3)[axis],)) for axis in (0, 1, 2, -1)),
        *(((*shape, 6), {"group_size": 3}, (*shape, 2)) for shape in ((), (2,), (2, 3))),
        ((2, 3, 2, 2), {"group_size": 3}, (2, 4)),
    ],
)
def test_each_slice_and_each_group_is_quantized_by_itself(shape, layout, scales, symmetric, method, coarse_search):
    """Convolution weights (2, 3, 2, 2) are seen as (2, 12): groups run over input channels and kernel alike."""

    def rows(array):
        return np.moveaxis(array, layout["axis"], 0) if "axis" in layout else array.reshape(-1, 3)

    options = {"bits": 5, "symmetric": symmetric, "method": method}
    x = rng().standard_t(3, shape)
    grid = choose_qparams(x, **layout, **options)
    assert grid.scale.shape == grid.zero_point.shape == scales
    codes = quantize(x, grid)
    decoded = dequantize(codes, grid)
    assert codes.shape == decoded.shape == shape
    for i, values in enumerate(rows(x)):
        part = choose_qparams(values, **options)
        assert (part.scale, part.zero_point) == (grid.scale.flat[i], grid.zero_point.flat[i])
        np.testing.assert_array_equal(quantize(values, part), rows(codes)[i])
        np.testing.assert_array_equal(fake_quantize(values, part), rows(decoded)[i])


def test_blocks_of_slices_change_nothing(monkeypatch):
    x = rng().standard_t(2, (7, 64)).astype(np.float32)
    whole = choose_qparams(x, axis=0, method="mse", bits=4)
    monkeypatch.setattr(calibration, "BLOCK", 3 * 64)
    np.testing.assert_array_equal(choose_qparams(x, axis=0, method="mse", bits=4).scale, whole.scale)


def test_an_axis_counted_from_the_end_is_kept_counted_from_0():
    assert choose_qparams(np.ones((2, 3)), axis=-1).axis == 1


def test_a_grid_by_hand_may_count_its_axis_from_the_end():
    x = rng().normal(size=(4, 3))
    first, last = (QuantParams([0.1, 0.2, 0.3], [0, 1, 2], 8, True, axis=axis) for axis in (1, -1))
    np.testing.assert_array_equal(quantize(x, first), quantize(x, last))


# Degenerate inputs, every method


DEGENERATE = {
    "all zero": [0.0, 0.0, 0.0],
    "minus zero": [-0.0, -0.0],
    "constant": [3.7] * 5,
    "positive": [5.0, 6.0],
    "negative": [-2.0, -9.0, -3.0],
    "one element": [0.3],
    "no dimension": 0.3,
    "one column": [[1.0], [-2.0], [3.0]],
    "denormal": np.array([1e-40, -1e-41], np.float32),
    "smallest float64": [5e-324, -5e-324],
    "float32 max": np.array([MAX, -MAX, 1.0], np.float32),
    "float32 max, one side": np.array([MAX, 1.0], np.float32),
    "float32 max, uneven": np.array([-MAX, MAX / 3], np.float32),
    "all sizes": [1e-45, 1e-30, 1.0, -1e30],
    "float16": np.array([65504, -1, 6e-8], np.float16),
    "integers": [1, -128, 7],
    "unsigned integers": np.array([200, 255], np.uint8),
    "mostly zero": [0.0] * 5000 + [1.0, -2.0],
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_inputs_give_finite_values_within_the_grid(name, symmetric, method, coarse_search):
    x = np.array(DEGENERATE[name])
    x.setflags(write=False)  # no argument is changed
    for bits in (2, 16):
        grid = choose_qparams(x, bits=bits, symmetric=symmetric, method=method)
        assert grid.scale.dtype == np.float32 and grid.zero_point.dtype == np.int32
        assert np.all(grid.scale >= TINY) and np.all(np.isfinite(grid.scale))
        assert grid.scale == 1 or np.any(x)
        codes, decoded = quantize(x, grid), fake_quantize(x, grid)
        assert codes.shape == decoded.shape == np.shape(x)
        assert (codes.dtype, decoded.dtype) == (grid.dtype, np.float32)
        assert codes.min() >= grid.qmin and codes.max() <= grid.qmax
        assert np.all(np.isfinite(decoded))
        assert not math.isnan(sqnr_db(x, decoded)) and not math.isnan(mse(x, decoded))
        if method == "minmax":  # float32's own end costs up to one step: half a step beyond it there is no float
            steps = 1 if "max" in name and not symmetric else 0.5
            slack = 2.0**-22 * (grid.qmax - grid.qmin)
            assert np.abs(x.astype(np.float64) - decoded).max() <= grid.scale * (steps + slack)


def test_only_the_slice_of_zeros_gets_scale_one():
    grid = choose_qparams([[0.0, 0.0], [1e-40, 0.0], [2.0, 2.0]], axis=0)
    assert grid.scale.tolist() == [1.0, TINY, np.float32(2 / 127)]


def test_numbers_are_taken_as_they_are():
    half = np.array([0.1, -0.7], np.float16)
    assert choose_qparams(half).scale == np.float32(float(-half[1]) / 127)
    third = QuantParams(1 / 3, 0, bits=8, signed=True)
    assert quantize(np.array([0.5]), third) == 1  # as a float32 the quotient would be 1.5


# Where the range comes from


def error_over(lo, hi, x, **options):
    return mse(x, fake_quantize(x, qparams_from_range(lo, hi, **options)))


SAMPLES = {
    "gaussian": rng().normal(size=1000),
    "laplace": rng().laplace(size=1000),
    "student": rng().standard_t(3, 1000),
    "uniform": rng().uniform(-1, 1, 1000),
    "outlier": np.append(rng().normal(size=4000), 40.0),
    "relu": np.maximum(rng().normal(size=1000), 0),
}


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("name", SAMPLES)
def test_mse_finds_the_best_clipping_within_one_percent(name, bits, symmetric):
    x, options = SAMPLES[name], {"bits": bits, "symmetric": symmetric}
    fractions = np.concatenate([np.geomspace(1e-3, 1, 100), np.linspace(0.9, 1, 40)])
    finest = min(error_over(f * x.min(), f * x.max(), x, **options) for f in fractions)
    assert mse(x, fake_quantize(x, choose_qparams(x, method="mse", **options))) <= 1.01 * finest


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_mse_is_never_worse_than_minmax(bits, symmetric, coarse_search):
    for n in (1, 2, 5, 25, 400):
        x = rng().standard_t(2, (20, n)).astype(np.float32)
        options = {"bits": bits, "symmetric": symmetric, "axis": 0}
        best = fake_quantize(x, choose_qparams(x, method="mse", **options))
        full = fake_quantize(x, choose_qparams(x, method="minmax", **options))
        for row, a, b in zip(x, best, full, strict=True):
            assert mse(row, a) <= mse(row, b) * (1 + 1e-12)


def test_mse_moves_the_two_ends_of_an_affine_range_apart():
    """One outlier above: shrinking both ends alike would clip the values below for it."""
    x = SAMPLES["outlier"]
    options = {"bits": 4, "symmetric": False}
    grid = choose_qparams(x, method="mse", **options)
    fractions = np.geomspace(1e-2, 1, 30)
    finest = min(error_over(f * x.min(), g * x.max(), x, **options) for f in fractions for g in fractions)
    together = min(error_over(f * x.min(), f * x.max(), x, **options) for f in fractions)
    assert mse(x, fake_quantize(x, grid)) <= 1.05 * finest < together


@pytest.mark.parametrize("inside", [0.75, 0.999])
@pytest.mark.parametrize("size", [1, 10, 1000, 3000, 4001])
def test_percentile_by_counting(monkeypatch, size, inside):
    monkeypatch.setattr(calibration, "INSIDE", inside)
    array = rng().normal(0.5, 1, size).astype(np.float32)  # whose own precision has no 0.999
    x = array.astype(float)
    kept = math.ceil(Fraction(str(inside)) * size)  # how many values must not lie beyond an end
    top = sorted(np.abs(x))[kept - 1]
    grid = choose_qparams(array, method="percentile")
    assert grid.scale == np.float32(top / 127)

    hi, lo = max(sorted(x)[kept - 1], 0), min(sorted(x, reverse=True)[kept - 1], 0)
    grid = choose_qparams(array, method="percentile", symmetric=False)
    assert grid.scale == np.float32((hi - lo) / 255)
    assert grid.zero_point == round(-lo / float(grid.scale))
    few = np.array([0.0] * 5000 + [1.0, -2.0])  # a percentile of 0 leaves the whole range
    assert choose_qparams(few, method="percentile").scale == np.float32(2 / 127)


def slow_divergence(x, f, low, top, scale, qmin, qmax):
    """KL(P || Q) over the range from f low to f top, as Migacz describes it, of 2,048 bins one after another."""
    index = np.minimum((x[x != 0] - low) / (top - low) * 2048, 2047).astype(int)
    counts, centres = np.bincount(index, minlength=2048), low + (np.arange(2048) + 0.5) * (top - low) / 2048
    inside = np.flatnonzero((f * low <= centres) & (centres <= f * top))
    if len(inside) <= qmax - qmin:
        return math.inf
    p, kept = counts[inside].astype(float), counts[inside]
    p[0] += counts[: inside[0]].sum()
    p[-1] += counts[inside[-1] + 1 :].sum()
    levels = np.clip(np.rint(centres[inside] / scale), qmin, qmax)
    means = {level: np.mean(kept[(levels == level) & (kept > 0)]) for level in set(levels[kept > 0])}
    q = np.array([means[level] if count else 0.0 for level, count in zip(levels, kept, strict=True)])
    p, q = p / p.sum(), (1 - 1e-4) * q / max(q.sum(), 1) + 1e-4 / 2048
    return math.fsum(one * math.log(one / other) for one, other in zip(p, q, strict=True) if one)


@pytest.mark.parametrize(
    ("name", "bits", "symmetric"),
    [
        *itertools.product(("laplace", "outlier", "group"), (4, 8), (True,)),
        *itertools.product(("relu", "positive group"), (6,), (False,)),
    ],
)
def test_entropy_is_the_least_divergence_found_slowly(name, bits, symmetric, monkeypatch):
    """After a ReLU, half of the values are 0: they say nothing. Of a group of 32 nearly all bins are empty."""
    monkeypatch.setattr(calibration, "FRACTIONS", calibration.FRACTIONS[::8])
    groups = {"group": SAMPLES["student"][:32], "positive group": np.abs(SAMPLES["student"][:32])}
    x = (SAMPLES | groups)[name]
    top = np.abs(x).max()
    low, qmin, qmax = (-top, 1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1) if symmetric else (0, 0, 2**bits - 1)
    fractions = calibration.FRACTIONS[:, None]
    scales = np.float32(fractions[:, 0] * (top - low) / (qmax - qmin))
    costs = [
        slow_divergence(x, f, low, top, float(scale), qmin, qmax)
        for f, scale in zip(calibration.FRACTIONS, scales, strict=True)
    ]
    centres, counts = calibration.histogram(x, 1, np.array([low]), np.array([top]))
    found = calibration.divergence(centres, counts, bits, symmetric, fractions * low, fractions * top)
    assert found[:, 0] == pytest.approx(costs, rel=1e-9)
    grid = choose_qparams(x, bits=bits, symmetric=symmetric, method="entropy")
    assert grid.scale == scales[np.argmin(costs)]
    assert grid.scale == choose_qparams(x[x != 0], bits=bits, symmetric=symmetric, method="entropy").scale


def test_entropy_of_thousands_of_groups_is_fast_as_a_group_costs_what_its_own_values_cost_and_not_all_bins():
    started = time.process_time()
    choose_qparams(rng().normal(size=(64, 1024)), bits=4, group_size=32, method="entropy")
    assert time.process_time() - started < 15


def test_entropy_has_nothing_to_say_about_more_levels_than_bins():
    x = rng().normal(size=1000)
    assert choose_qparams(x, bits=16, method="entropy").scale == choose_qparams(x, bits=16).scale


def test_a_range_given_by_hand_has_the_shape_of_its_scales():
    grid = qparams_from_range([[-1.0, 0.5]], [[0.5, 2.0]], bits=2, group_size=8)
    assert grid.scale.tolist() == [[1.0, 2.0]] and grid.zero_point.tolist() == [[0, 0]]


# Observers


def growing_batches():
    return [rng().normal(0, 10.0**k, 200 + k).astype(np.float32) for k in (-3, 1, 0, 4, -10)] + [np.zeros(3), [2.0**17]]


@pytest.mark.parametrize("bins", [4, 12, 256, 8192])
def test_the_histogram_stays_exact_while_its_range_grows(bins):
    histogram, batches = calibration.GrowingHistogram(bins), growing_batches()
    for batch in batches:
        histogram.add(np.array(batch))
    everything = np.concatenate(batches)
    ends, last = np.array([[everything.min()], [everything.max()]]), histogram.width * bins / 2
    assert np.log2(histogram.width) % 1 == 0 and last > np.abs(everything).max() >= last / 2
    edges = np.linspace(-last, last, bins + 1)
    np.testing.assert_array_equal(histogram.counts, np.histogram(everything[everything != 0], edges)[0])
    [centres], counts = histogram.clipped(*ends)
    assert counts[centres == 0] == 3 and counts.sum() == everything.size and np.all(np.diff(centres) > 0)
    assert centres[counts > 0].min() >= ends[0] and centres[counts > 0].max() <= ends[1]


@pytest.mark.parametrize("mode", ["minmax", "histogram"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("batches", [growing_batches(), [np.zeros(3)], [[MAX]]], ids=["many", "zeros", "one"])
def test_observed_extremes_are_those_of_all_batches_together(batches, mode, symmetric):
    observer = RangeObserver(mode)
    for batch in batches:
        observer.observe(batch)
    expected = choose_qparams(np.concatenate(batches), bits=6, symmetric=symmetric)
    grid = observer.qparams(bits=6, symmetric=symmetric)
    assert (grid.scale, grid.zero_point) == (expected.scale, expected.zero_point)


@pytest.mark.parametrize("method", ["percentile", "mse"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_histogram_answers_as_the_values_would(method, symmetric):
    x = np.maximum(rng().normal(1, 1, 20_000), 0)
    observer = RangeObserver("histogram")
    for batch in x.reshape(20, 1000):
        observer.observe(batch)
    grid = observer.qparams(bits=6, symmetric=symmetric, method=method)
    expected = choose_qparams(x, bits=6, symmetric=symmetric, method=method)
    assert grid.scale == pytest.approx(expected.scale, rel=0.02)
    assert sqnr_db(x, fake_quantize(x, grid)) == pytest.approx(sqnr_db(x, fake_quantize(x, expected)), abs=0.1)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [3, 7])
def test_a_histogram_answers_entropy_as_the_values_would(bits, symmetric):
    """Whole numbers up to 1024 fall into the same bins of width 1, whether of 2048 bins or of 4096."""
    x = np.concatenate([np.rint(rng().laplace(0, 100, 20_000)).clip(-1000, 1000), [-1024, 1024], np.zeros(50_000)])
    observer = RangeObserver("histogram")
    observer.histogram = calibration.GrowingHistogram(4096)
    observer.observe(x)
    assert observer.histogram.width == 1
    grid = observer.qparams(bits=bits, symmetric=symmetric, method="entropy")
    expected = choose_qparams(x, bits=bits, symmetric=symmetric, method="entropy")
    assert (grid.scale, grid.zero_point) == (expected.scale, expected.zero_point)


# Errors


def test_errors_by_hand_and_at_their_limits():
    assert mse([1, 2, 3], [1, 2, 6]) == 3
    assert sqnr_db([0.0, 0.0], [0.0, 0.0]) == math.inf
    assert sqnr_db([0.0, 0.0], [0.0, 1.0]) == -math.inf
    assert sqnr_db([1e300, -1e300], [1e300, -0.9e300]) == pytest.approx(10 * math.log10(200), abs=1e-9)
    assert sqnr_db([1e-300], [0.9e-300]) == pytest.approx(20, abs=1e-9)
    assert sqnr_db([1.7e308], [-1.7e308]) == pytest.approx(-20 * math.log10(2))
    assert mse([1e200], [-1e200]) == math.inf
    assert mse(np.array([0.1], np.float16), [0.1]) == (float(np.float16(0.1)) - 0.1) ** 2


# QuantParams


def test_a_grid_keeps_its_own_numbers():
    scale = np.array([0.5, 0.25])
    grid = QuantParams(scale, [0, 0], bits=8, signed=True, axis=0)
    scale[:] = 1
    assert grid.scale.tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="read-only"):
        grid.scale[0] = 1


@pytest.mark.parametrize(
    "fields, error, message",
    [
        ({"scale": 0.0}, ValueError, "scale must be positive"),
        ({"scale": 1e-40}, ValueError, "scale must be positive"),
        ({"scale": 1e300}, ValueError, "scale must be positive"),
        ({"scale": 1e37}, ValueError, "every code is a finite float32"),
        ({"scale": np.nan}, ValueError, "scale must be finite"),
        ({"scale": [0.1, 0.2]}, ValueError, "scale and zero_point must have the same shape"),
        ({"axis": 0}, ValueError, r"scale must have shape \(\)"),
        ({"scale": [[0.1]], "zero_point": [[0]], "axis": 0}, ValueError, r"scale must have shape \(\)"),
        ({"scale": [0.1], "zero_point": [0], "axis": 0, "group_size": 4}, ValueError, "not both"),
        ({"scale": [0.1], "zero_point": [0], "axis": 0.5}, TypeError, "axis must be an integer"),
        ({"scale": [0.1], "zero_point": [0], "axis": 100}, ValueError, "axis must be from -64 to 63"),
        ({"scale": [0.1], "zero_point": [0], "group_size": 0}, ValueError, "group_size must be at least 1"),
        ({"zero_point": 128}, ValueError, "zero_point must be from -128 to 127"),
        ({"zero_point": 0.0}, TypeError, "zero_point must be integers"),
        ({"bits": 1}, ValueError, "bits must be from 2 to 16"),
        ({"signed": "yes"}, ValueError, "signed must be one of True, False"),
        ({"signed": False, "narrow": True}, ValueError, "signed=False"),
    ],
)
def test_a_wrong_grid_is_refused(fields, error, message):
    with pytest.raises(error, match=message):
        QuantParams(**({"scale": 0.1, "zero_point": 0, "bits": 8, "signed": True} | fields))


# Bad input


GRID = QuantParams(0.1, 0, bits=8, signed=True)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: RangeObserver().observe([1e39]), ValueError, "within float32's range"),
        (lambda: choose_qparams([1.0], axis=0.5), TypeError, "axis must be an integer"),
        (lambda: choose_qparams([1.0], axis=1), ValueError, "axis must be from -1 to 0, got 1"),
        (lambda: choose_qparams(1.0, axis=0), ValueError, "axis needs at least one dimension"),
        (lambda: choose_qparams([1.0], axis=0, group_size=1), ValueError, "axis or group_size, not both"),
        (lambda: choose_qparams([1.0], group_size=0), ValueError, "group_size must be at least 1"),
        (lambda: choose_qparams(np.ones((2, 6)), group_size=4), ValueError, r"must divide.* got 4 for shape \(2, 6\)"),
        (lambda: choose_qparams(1.0, group_size=1), ValueError, "must divide"),
        (lambda: qparams_from_range(1.0, -1.0), ValueError, "lo must not be above hi"),
        (lambda: qparams_from_range([1.0], [1.0, 2.0]), ValueError, "lo and hi must have the same shape"),
        (lambda: quantize([1.0], 0.1), TypeError, "qparams must be QuantParams, got float"),
        (lambda: dequantize([1.0], GRID), TypeError, "codes must be integers, got dtype float64"),
        (lambda: dequantize([], GRID), ValueError, "codes must not be empty"),
        (lambda: dequantize([0, 200], GRID), ValueError, "codes must be from -128 to 127, got 0 to 200"),
        (lambda: RangeObserver("mean"), ValueError, "mode must be one of minmax, histogram"),
        (lambda: RangeObserver().range, ValueError, "nothing observed yet"),
    ],
)
def test_bad_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "other", "message"),
    [
        ({"axis": 0}, np.ones((5, 6)), r"shape \(5, 6\) needs scales of shape \(5,\), got \(4,\)"),
        ({"axis": 0}, np.array(1.0), "axis needs at least one dimension"),
        ({"group_size": 3}, np.ones((4, 9)), r"needs scales of shape \(4, 3\), got \(4, 2\)"),
        ({"group_size": 3}, np.ones((4, 5)), "must divide"),
    ],
)
def test_an_array_that_does_not_fit_the_scales_is_refused(layout, other, message):
    grid = choose_qparams(np.ones((4, 6)), **layout)
    with pytest.raises(ValueError, match=message):
        quantize(other, grid)
    with pytest.raises(ValueError, match=message):
        dequantize(other.astype(int), grid)


def test_a_range_alone_answers_only_minmax():
    observer = RangeObserver()
    observer.observe([1.0])
    with pytest.raises(ValueError, match="method 'mse' needs RangeObserver"):
        observer.qparams(method="mse")
