"""Chapter 02: the exercises and what grades them."""

import numpy as np

from nnzip import quantization as reference
from nnzip.book.grading import Exercise, any_floats, any_shape, exercise, expect, given
from nnzip.book.unlocking import signature_of
from nnzip.quantization import QuantParams


def any_grid(rng, shape, bits=None):
    """A grid for arrays of a shape: of any width up to 16 bits, with one scale or one for each index of an axis."""
    bits = bits or int(rng.integers(2, 17))
    signed = bool(rng.random() < 0.5)
    axis = int(rng.integers(len(shape))) if rng.random() < 0.7 else None
    count = () if axis is None else shape[axis]
    scale = 10 ** rng.uniform(-3, 1, count)
    narrow = signed and rng.random() < 0.3
    zero_point = rng.integers(-2, 2, count) if signed else rng.integers(0, 2**bits, count)
    return QuantParams(
        scale, np.zeros_like(zero_point) if narrow else zero_point, bits, signed, narrow=narrow, axis=axis
    )


@exercise(section="2. The grid", difficulty=1, size="three lines")
def dequantize(codes, qparams):  # integer codes [...] -> float32 [...]
    """Return the values that codes stand for: so many scales away from the code of 0, the zero point.

    The grid has one scale and zero point, or one for each index of an axis.

    >>> dequantize(np.array([8, 10, 255], np.uint8), QuantParams(scale=0.5, zero_point=10, bits=8, signed=False))
    array([ -1. ,   0. , 122.5], dtype=float32)
    """
    return reference.dequantize(codes, qparams)


dequantize.case(
    "A code stands for (code - zero_point) * scale.",
    np.array([0, 10, 11, 255], np.uint8),
    QuantParams(scale=0.5, zero_point=10, bits=8, signed=False),
    gives=[-5, 0, 0.5, 122.5],
    likely="subtract the zero point, then multiply; uint8 has no negative numbers, 0 - 10 is 246: convert first",
)
dequantize.case(
    "The difference of an int8 code and its zero point is larger than int8.",
    np.array([-128, 127], np.int8),
    QuantParams(scale=1.0, zero_point=np.int32(100), bits=8, signed=True),
    gives=[-228, 27],
    likely="int8 - int8 stays int8 and wraps at 128, uint8 has no negative numbers: convert the codes first",
)
dequantize.case(
    "With axis=0 every row has its own scale and zero point, and the values are float32.",
    np.array([[1, 2], [1, 2]], np.uint8),
    QuantParams(scale=[1.0, 10.0], zero_point=[0, 1], bits=8, signed=False, axis=0),
    gives=[[1, 2], [0, 10]],
    dtype=np.float32,
    likely="scale and zero_point have shape (2,): give them shape (2, 1), 1 everywhere but along the axis",
)


@dequantize.draw(
    "reshape the scales to 1 everywhere but along qparams.axis; 16-bit codes need a wider type", dtype=True
)
def any_codes(rng):
    """Codes of up to 16 bits in arrays of one to four axes, any of which may have the scales."""
    shape = any_shape(rng)
    grid = any_grid(rng, shape)
    return given(rng.integers(grid.qmin, grid.qmax + 1, shape).astype(grid.dtype), grid)


@exercise(section="2. The grid", difficulty=1, size="four lines")
def quantize(x, qparams):  # [...] -> codes [...], of the dtype qparams.dtype
    """Return the nearest codes of an array, ties to even; what lies outside the grid gets its nearest end.

    A code is the number of scales from 0, counted from the zero point on. The grid has one scale and zero point, or
    one for each index of an axis.

    >>> quantize(np.array([-1.0, 0.0, 1e9]), QuantParams(scale=0.5, zero_point=10, bits=8, signed=False))
    array([  8,  10, 255], dtype=uint8)
    """
    return reference.quantize(x, qparams)


TIES = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])

quantize.case(
    "A code counts the scales from 0, and 0 has the zero point as its code.",
    np.array([-1.0, 0.0, 0.6, 3.0]),
    QuantParams(scale=0.5, zero_point=10, bits=8, signed=False),
    gives=[8, 10, 11, 16],
    dtype=np.uint8,
    likely="round x / scale, add the zero point",
)
quantize.case(
    "Halves go to the even neighbour, above and below zero.",
    TIES,
    QuantParams(1.0, 0, 8, True),
    gives=[0, 2, 2, 0, -2, -2],
    likely="np.rint rounds halves to even, floor(x + 0.5) up; the ends are qparams.qmin and qmax, here signed",
)
quantize.case(
    "Rounding comes before the zero point.",
    TIES,
    QuantParams(1.0, 101, 8, False),
    gives=[101, 103, 103, 101, 99, 99],
    likely="round x / scale, then add the zero point: rint(0.5 + 101) is 102, rint(0.5) + 101 is 101",
)
quantize.case(
    "What lies outside the grid gets its nearest end: clip first, then cast.",
    np.array([300.0, -300.0, 128.0, -129.0, 127.4]),
    QuantParams(1.0, 0, 8, True),
    gives=[127, -128, 127, -128, 127],
    likely="a cast to int8 wraps 300 around to 44: clip to qmin and qmax before astype",
)
quantize.case(
    "It is the code with its zero point that must lie in the grid, here of 4 bits.",
    np.array([-9.0, -7.0, 8.0, 12.0]),
    QuantParams(scale=1.0, zero_point=7, bits=4, signed=False),
    gives=[0, 0, 15, 15],
    likely="add the zero point, then clip to qparams.qmin and qparams.qmax",
)
quantize.case(
    "x is divided by the scale.",
    np.array([0.105], np.float32),
    QuantParams(np.float32(0.07), 0, 8, True),
    gives=[2],
    likely="x / scale, in the precision of x: by 1 / scale, or in float64, 1.5 becomes 1.4999999",
)


quantize.case(
    "With axis=0 every row has its own scale and zero point.",
    np.array([[1.0, 2.0], [10.0, 20.0]]),
    QuantParams(scale=[1.0, 10.0], zero_point=[0, 3], bits=8, signed=False, axis=0),
    gives=[[1, 2], [4, 5]],
    likely="scale and zero_point have shape (2,): give them shape (2, 1), 1 everywhere but along the axis",
)


@quantize.draw("shape scales along qparams.axis; use qparams.qmin, qmax (mind narrow) and dtype", dtype=True)
def any_numbers(rng):
    """Arrays of one to four axes, some values on ties and beyond the grid, and grids of any width."""
    shape = any_shape(rng)
    grid = any_grid(rng, shape)
    steps = rng.uniform(grid.qmin - 2, grid.qmax + 2, shape) - np.mean(grid.zero_point)
    halves = rng.random(shape) < 0.3
    steps, scale, _ = reference.aligned(np.where(halves, np.round(2 * steps) / 2, steps), grid)
    return given((steps * scale).reshape(shape), grid)


@quantize.unlocked("test error against bits and zeros, the weights rounded by your quantizer", "draws")
def draws(quantize):
    def with_options(x, qparams, **options):
        return quantize(x, qparams)

    return signature_of(reference.quantize, with_options, technique="per_channel", stem="02_quantization")


sqnr_db = Exercise(reference.sqnr_db, section="4. What a bit buys", difficulty=1, size="two lines")

sqnr_db.case(
    "Ten times the decimal logarithm of signal power over noise power.",
    np.array([3.0, 4.0]),
    np.array([3.0, 4.5]),
    gives=20.0,
    tolerance=1e-9,
    likely="10 log10 of powers, which are sums of squares",
)
sqnr_db.case(
    "float32 squares of large numbers are infinite, so compute in float64.",
    np.array([1e30, 2e30], np.float32),
    np.array([0.5e30, 1e30], np.float32),
    gives=10 * np.log10(4),
    tolerance=1e-6,
    likely="convert both to float64 before squaring",
)
for _x, _x_hat, _ratio in (([1.0, 2.0], [1.0, 2.0], np.inf), ([0.0], [0.0], np.inf), ([0.0], [1.0], -np.inf)):
    sqnr_db.case(
        "Identical arrays, zeros too, have an infinite ratio; zeros and other numbers minus infinity.",
        np.array(_x),
        np.array(_x_hat),
        gives=_ratio,
        likely="ask for no noise first, then for no signal: float('inf'), -float('inf')",
    )


@sqnr_db.draw("one ratio of two sums over the whole array; the signal's power includes its mean", ulps=100)
def any_pair(rng):
    """Arrays of one to four axes whose rows have different sizes, with a mean, and float32 differences."""
    shape = any_shape(rng)
    x = (any_floats(rng, shape) + 3) * rng.uniform(0.1, 10, (shape[0], *[1] * (len(shape) - 1)))
    return given(x, x + any_floats(rng, shape, dtype=x.dtype))


@exercise(section="3. Where to lay the grid", difficulty=2, size="five lines")
def range_to_grid(lo, hi, *, bits=8):  # two numbers -> QuantParams
    """Return the affine grid over a range, unsigned, with one scale.

        scale = (hi - lo) / (2^bits - 1)        zero_point = round(-lo / scale)

    The range is first widened to include 0, so that 0 has a code of its own. An empty range, lo = hi = 0, gets scale 1.

    >>> grid = range_to_grid(-1.0, 1.55)
    >>> print(grid.scale, grid.zero_point)
    0.01 100
    """
    return reference.qparams_from_range(lo, hi, bits=bits, symmetric=False)


def a_grid(about, lo, hi, scale, zero_point, bits, likely):
    """Add a row: the grid over a range, to six digits of the scale."""

    def run(student, rng):
        got = student(lo, hi, bits=bits)
        if not isinstance(got, QuantParams):
            expect(
                got, QuantParams(scale, zero_point, bits, False), "return QuantParams(scale, zero_point, bits, False)"
            )
        expect(got.scale, np.float32(scale), likely, tolerance=1e-6 * scale)
        expect((int(got.zero_point), got.bits, got.signed, got.axis), (zero_point, bits, False, None), likely)

    run.__doc__ = about
    range_to_grid.check(run)


a_grid("2^bits codes have 2^bits - 1 steps between them.", 0.0, 15.0, 1.0, 0, 4, "15 is the last of 16 codes")
a_grid("The zero point is the code of 0.", -1.0, 1.55, 0.01, 100, 8, "255 steps of 0.01; round(1 / 0.01)")
a_grid("Zero has a code where all numbers are above it.", 5.0, 7.5, 0.5, 0, 4, "lo = min(lo, 0) first, then the scale")
a_grid(
    "Zero has a code where all numbers are below it.", -7.5, -5.0, 0.5, 15, 4, "hi = max(hi, 0) first, then the scale"
)
a_grid("Of zeros only, any scale will do, but 0 / 0 will not.", 0.0, 0.0, 1.0, 0, 8, "scale 1 when hi = lo")
a_grid("The zero point is the nearest integer.", -0.9, 2.1, 1.0, 1, 2, "round(0.9) is 1, int(0.9) is 0")


@exercise(section="5. One scale for all, or one for each", difficulty=2, size="four lines")
def symmetric_scales(x, *, bits=8, axis=0):  # [...] -> float32 [C]
    """Return the scales of a symmetric grid, one for each index of an axis.

        scale = max|x| / (2^(bits-1) - 1)

    The largest magnitude is over all other axes. A slice of zeros gets scale 1.

    >>> symmetric_scales(np.array([[0.0, -1.27], [0.5, 0.254]]))
    array([0.01      , 0.00393701], dtype=float32)
    """
    return reference.choose_qparams(x, bits=bits, axis=axis).scale


symmetric_scales.case(
    "The largest magnitude of a row gets the largest code, 2^(bits-1) - 1, here 127.",
    np.array([[0.0, -1.27], [0.5, 0.254]]),
    gives=[0.01, 0.5 / 127],
    tolerance=1e-8,
    likely="max of |x|, over 127 and not 128 or 255",
)
symmetric_scales.case(
    "A channel of zeros gets scale 1, the others keep theirs; scales are float32.",
    np.array([[0.0, 0.0], [127.0, 1.0]]),
    gives=[1.0, 1.0],
    dtype=np.float32,
    likely="max|x| = 0 would divide 0 by 0",
)


@symmetric_scales.draw(
    "np.max over every axis but the one asked for, which may be counted from the end", ulps=4, dtype=True
)
def any_weights(rng):
    """Arrays of one to four axes, any of which is kept, at 2 to 8 bits."""
    shape = any_shape(rng)
    axis = int(rng.integers(-len(shape), len(shape)))
    return given(any_floats(rng, shape), bits=int(rng.integers(2, 9)), axis=axis)


round_to_integer = Exercise(
    reference.round_to_integer,
    section="8. Rounding",
    difficulty=2,
    size="ten lines",
    task="Graded with 'half_even', 'half_away', 'half_up' and 'stochastic'.",
)

HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])

round_to_integer.case("half_even is np.rint.", HALVES, gives=[-2, -2, 0, 0, 2, 2])
round_to_integer.case(
    "half_away: away from zero.", HALVES, "half_away", gives=[-3, -2, -1, 1, 2, 3], likely="of |x|, then the sign back"
)
round_to_integer.case(
    "half_up rounds halves towards +infinity, also below zero.", HALVES, "half_up", gives=[-2, -1, 0, 1, 2, 3]
)
round_to_integer.case(
    "The number just below a half is below it.",
    np.array([np.nextafter(0.5, 0), -np.nextafter(0.5, 0)]),
    "half_up",
    gives=[0, 0],
    likely="x + 0.5 is rounded to 1: compare x - floor(x) with 0.5",
)


@round_to_integer.draw("all of them round to nearest, and differ at halves only; whole numbers stay themselves")
def any_values(rng):
    """Numbers of every size, some whole, some halves, some above 2^52, where every float is whole."""
    x = rng.normal(scale=10.0 ** rng.integers(0, 17), size=any_shape(rng))
    x = np.where(rng.random(x.shape) < 0.3, np.round(2 * x) / 2, x)
    return given(x, str(rng.choice(["half_even", "half_away", "half_up"])))


@round_to_integer.check
def right_on_average(round_to_integer):
    """Stochastic rounding goes up as often as the fraction says, below zero too."""
    n = 40_000
    for value in (0.3, -0.3, 2.75, -2.0):
        got = round_to_integer(np.full(n, value), "stochastic", rng=7)
        if not np.all(np.isin(got, [np.floor(value), np.ceil(value)])):
            expect(np.unique(got), [np.floor(value), np.ceil(value)], "only the two neighbours can come")
        deviation = 5 * np.sqrt(0.25 / n)
        expect(np.mean(got), value, "up with the probability x - floor(x)", tolerance=deviation)


@round_to_integer.check
def draws_are_independent(round_to_integer):
    """Every number of the array is drawn on its own, by the rng that was given."""
    x = np.full((100, 100), 0.5)
    got = round_to_integer(x, "stochastic", rng=1)
    deviation = np.abs(np.concatenate([got.mean(axis=0), got.mean(axis=1)]) - 0.5).max()
    expect(bool(deviation < 0.3), True, "one random number for all, or for each row: draw as many as x has")
    expect(round_to_integer(x, "stochastic", rng=1), got, "np.random.default_rng(rng): the same rng, the same numbers")
    other = round_to_integer(x, "stochastic", rng=2)
    expect(bool(np.array_equal(got, other)), False, "another rng gives other numbers: it is not used")
