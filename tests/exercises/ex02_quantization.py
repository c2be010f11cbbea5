"""Chapter 02: the exercises and what grades them."""

from fractions import Fraction

import numpy as np

from nnzip import quantization as reference
from nnzip.book.exercises import in_place_of, signature_of
from nnzip.book.grading import Exercise, expect
from nnzip.compression.quantization import quantize_activations, quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, fake_quantize

dequantize = Exercise(
    reference.dequantize,
    section="2. The grid",
    difficulty=1,
    size="three lines",
    task="Graded with one scale, or one for each index of an axis, and codes that fit the grid.",
    unlocks="the signature figure of chapter 02, its values restored by your function",
)


@dequantize.check
def values_of_codes(dequantize):
    """A code stands for (code - zero_point) * scale."""
    codes = np.array([0, 10, 11, 255], np.uint8)
    grid = QuantParams(scale=0.5, zero_point=10, bits=8, signed=False)
    expect(
        dequantize(codes, grid), [-5, 0, 0.5, 122.5], "the zero point is subtracted first, then the scale multiplies"
    )


@dequantize.check
def no_wrap(dequantize):
    """The difference of an int8 code and its zero point is larger than int8."""
    codes = np.array([-128, 127], np.int8)
    grid = QuantParams(scale=1.0, zero_point=np.int32(100), bits=8, signed=True)
    expect(dequantize(codes, grid), [-228, 27], "int8 - int8 stays int8 and wraps at 128: convert the codes first")


@dequantize.check
def unsigned_below_zero_point(dequantize):
    """A uint8 code below the zero point is a negative number."""
    codes = np.array([[0, 127], [128, 255]], np.uint8)
    grid = QuantParams(scale=0.25, zero_point=128, bits=8, signed=False)
    likely = "uint8 has no negative numbers, 0 - 128 comes out as 128: convert the codes first"
    expect(dequantize(codes, grid), [[-32, -0.25], [0, 31.75]], likely)


@dequantize.check
def a_scale_for_each_row(dequantize):
    """With axis=0 every row has its own scale and zero point."""
    codes = np.array([[1, 2], [1, 2]], np.uint8)
    grid = QuantParams(scale=[1.0, 10.0], zero_point=[0, 1], bits=8, signed=False, axis=0)
    expect(dequantize(codes, grid), [[1, 2], [0, 10]], "scale and zero_point have shape (2,): give them shape (2, 1)")


@dequantize.check
def a_scale_for_each_column(dequantize):
    """The axis that has the scales may be any."""
    codes = np.arange(12, dtype=np.int8).reshape(2, 3, 2)
    grid = QuantParams(scale=[1.0, 2.0, 4.0], zero_point=[0, 0, 4], bits=8, signed=True, axis=1)
    right = [[[0, 1], [4, 6], [0, 4]], [[6, 7], [16, 18], [24, 28]]]
    expect(dequantize(codes, grid), right, "reshape the scales to 1 everywhere but along qparams.axis")


@dequantize.check
def columns_of_a_square(dequantize):
    """With axis=1 the scales go with the columns, of a square array too."""
    grid = QuantParams(scale=[1.0, 10.0], zero_point=[0, 1], bits=8, signed=False, axis=1)
    right = [[1, 10], [3, 30]]
    expect(dequantize(np.array([[1, 2], [3, 4]], np.uint8), grid), right, "shape (1, 2) for axis=1, (2, 1) for axis=0")


@dequantize.check
def float32(dequantize):
    """The values are float32."""
    grid = QuantParams(scale=0.1, zero_point=0, bits=8, signed=True)
    expect(dequantize(np.array([3], np.int8), grid), np.float32([3]) * np.float32(0.1), dtype=np.float32)


@dequantize.unlocked
def draws_with(dequantize):
    return signature_of(reference.dequantize, dequantize, technique="per_channel")


quantize = Exercise(
    reference.quantize,
    section="2. The grid",
    difficulty=1,
    size="four lines",
    task="Graded with rounding='half_even', one scale or one for each index of an axis; no bad input.",
    unlocks="the signature figure of chapter 02, drawn by your quantizer",
)


@quantize.check
def steps_and_zero_point(quantize):
    """A code is round(x / scale) + zero_point."""
    grid = QuantParams(scale=0.5, zero_point=10, bits=8, signed=False)
    expect(quantize(np.array([-1.0, 0.0, 0.6, 3.0]), grid), [8, 10, 11, 16])


@quantize.check
def ties_go_to_even(quantize):
    """Halves go to the even neighbour, above and below zero, before the zero point is added."""
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    likely = "np.rint rounds halves to even; floor(x + 0.5) rounds them up, a cast cuts them off"
    expect(quantize(x, QuantParams(1.0, 0, 8, True)), [0, 2, 2, 0, -2, -2], likely)
    likely = "round first, then add the zero point: rint(0.5 + 1) is 2, rint(0.5) + 1 is 1"
    expect(quantize(x, QuantParams(1.0, 101, 8, False)), [101, 103, 103, 101, 99, 99], likely)


@quantize.check
def nearest(quantize):
    """Everything else goes to the nearest code."""
    x = np.array([0.49, 0.51, -0.49, -0.51, 3.99])
    expect(quantize(x, QuantParams(1.0, 0, 8, True)), [0, 1, 0, -1, 4], "floor and casts do not round to nearest")


@quantize.check
def clipped_before_the_cast(quantize):
    """What lies outside the grid gets its last code: clip first, then cast."""
    x = np.array([300.0, -300.0, 128.0, -129.0, 127.4])
    likely = "a cast to int8 wraps 300 around to 44: clip to qmin and qmax before astype"
    expect(quantize(x, QuantParams(1.0, 0, 8, True)), [127, -128, 127, -128, 127], likely)


@quantize.check
def clipped_after_the_zero_point(quantize):
    """It is the code with its zero point that must lie in the grid."""
    grid = QuantParams(scale=1.0, zero_point=7, bits=4, signed=False)
    expect(quantize(np.array([-9.0, -7.0, 8.0, 12.0]), grid), [0, 0, 15, 15], "add the zero point, then clip")


@quantize.check
def narrow_grids(quantize):
    """A narrow grid has no lowest code, a grid of 3 bits only eight codes."""
    x = np.array([-9.0, 9.0])
    expect(quantize(x, QuantParams(1.0, 0, 4, True, narrow=True)), [-7, 7], "the limits are qparams.qmin and qmax")
    expect(quantize(x, QuantParams(1.0, 0, 3, True)), [-4, 3], "the limits are qparams.qmin and qmax")


@quantize.check
def axis_of_scales(quantize):
    """With axis=1 every column has its own scale and zero point."""
    grid = QuantParams(scale=[1.0, 0.5, 0.25], zero_point=[0, 1, 2], bits=8, signed=False, axis=1)
    x = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    expect(quantize(x, grid), [[1, 3, 6], [2, 5, 10]], "reshape scales and zero points along qparams.axis")
    rows = QuantParams(scale=[1.0, 0.5], zero_point=[0, 1], bits=8, signed=False, axis=0)
    expect(quantize(x, rows), [[1, 1, 1], [5, 5, 5]], "reshape scales and zero points along qparams.axis")


@quantize.check
def dtype_of_the_grid(quantize):
    """The codes have the smallest integer type that holds the grid."""
    x = np.array([1.0, 2.0], np.float32)
    for bits, signed, dtype in [(8, True, np.int8), (4, False, np.uint8), (12, True, np.int16), (16, False, np.uint16)]:
        expect(quantize(x, QuantParams(1.0, 0, bits, signed)), [1, 2], "that is qparams.dtype", dtype=dtype)


@quantize.check
def against_fractions(quantize):
    """300 random numbers, worked out in exact fractions."""
    rng = np.random.default_rng(2)
    x = rng.normal(scale=20, size=300)
    scale = np.float32(0.37)
    exact = [round(Fraction(float(v)) / Fraction(float(scale))) for v in x]  # Python rounds halves to even
    right = [min(max(code + 3, -64), 63) for code in exact]
    expect(quantize(x, QuantParams(scale, 3, 7, True)), right)


@quantize.unlocked
def draws(quantize):
    def with_options(x, qparams, **options):
        return quantize(x, qparams)

    return signature_of(reference.quantize, with_options, technique="per_channel")


sqnr_db = Exercise(
    reference.sqnr_db,
    section="4. What a bit buys",
    difficulty=1,
    size="two lines",
    unlocks="what each bit buys in the layers of a trained network, by your measure",
)


@sqnr_db.check
def a_power_ratio(sqnr_db):
    """Ten times the decimal logarithm of signal power over noise power."""
    expect(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 20.0, "10 log10 of powers", tolerance=1e-9)


@sqnr_db.check
def sums_not_means_of_ratios(sqnr_db):
    """Powers are summed over the array, then divided."""
    x, x_hat = np.array([[10.0, 0.0], [0.0, 10.0]]), np.array([[9.0, 1.0], [1.0, 9.0]])
    expect(sqnr_db(x, x_hat), 10 * np.log10(200 / 4), "one ratio of two sums", tolerance=1e-9)


@sqnr_db.check
def mean_included(sqnr_db):
    """The signal's power includes its mean: no variance."""
    x = np.full(10, 5.0)
    expect(sqnr_db(x, x + 0.5), 20.0, "the power is sum x^2, np.var subtracts the mean", tolerance=1e-9)


@sqnr_db.check
def computed_in_float64(sqnr_db):
    """float32 squares of large numbers are infinite, so compute in float64."""
    x = np.array([1e30, 2e30], np.float32)
    expect(sqnr_db(x, x * np.float32(0.5)), 10 * np.log10(4), "convert to float64 before squaring", tolerance=1e-6)


@sqnr_db.check
def no_noise_is_infinite(sqnr_db):
    """Identical arrays have an infinite ratio."""
    expect(sqnr_db(np.array([1.0, 2.0]), np.array([1.0, 2.0])), np.inf, "no warning, no NaN: return float('inf')")


@sqnr_db.unlocked
def measures(sqnr_db):
    lines = ["SQNR of LeNet-300-100's weights, a scale for each neuron, by your function:"]
    for name, weight in weights_of(trained("lenet_300_100")).items():
        restored = {b: fake_quantize(weight, reference.choose_qparams(weight, bits=b, axis=0)) for b in (2, 3, 4, 6, 8)}
        cells = (f"{b} bits {sqnr_db(weight, x_hat):5.1f} dB" for b, x_hat in restored.items())
        lines.append(f"  {name:<9} {'   '.join(cells)}")
    return "\n".join(lines)


def range_to_grid(lo, hi, *, bits=8):  # two numbers -> QuantParams
    """Return the affine grid over a range, unsigned, with one scale.

        scale = (hi - lo) / (2^bits - 1)        zero_point = round(-lo / scale)

    The range is first widened to include 0, so that 0 has a code of its own. An empty range, lo = hi = 0, gets scale 1.

    Examples
    --------
    >>> grid = range_to_grid(-1.0, 1.55)
    >>> print(grid.scale, grid.zero_point)
    0.01 100
    """
    return reference.qparams_from_range(lo, hi, bits=bits, symmetric=False)


affine = Exercise(
    range_to_grid,
    section="3. Where to lay the grid",
    difficulty=2,
    size="five lines",
    unlocks="the error of a network whose activations lie on your grids",
)


def _is_grid(got, scale, zero_point, bits, likely):
    if not isinstance(got, QuantParams):
        expect(got, QuantParams(scale, zero_point, bits, False), "return QuantParams(scale, zero_point, bits, False)")
    expect(got.scale, np.float32(scale), likely, tolerance=1e-6 * scale)
    expect([int(got.zero_point), got.bits, got.signed], [zero_point, bits, False], likely)


@affine.check
def divides_into_steps(range_to_grid):
    """2^bits codes have 2^bits - 1 steps between them."""
    _is_grid(range_to_grid(0.0, 15.0, bits=4), 1.0, 0, 4, "15 is the last of 16 codes: divide by 2^bits - 1")
    _is_grid(range_to_grid(-1.0, 1.55), 0.01, 100, 8, "255 steps of 0.01; the zero point is round(1 / 0.01)")


@affine.check
def zero_has_a_code(range_to_grid):
    """Zero lies in the grid, also when all numbers are above it."""
    _is_grid(range_to_grid(5.0, 7.5, bits=4), 0.5, 0, 4, "lo = min(lo, 0) first; clipping the zero point is too late")


@affine.check
def all_negative(range_to_grid):
    """Zero lies in the grid, also when all numbers are below it."""
    _is_grid(
        range_to_grid(-7.5, -5.0, bits=4), 0.5, 15, 4, "hi = max(hi, 0) first; the zero point is then the last code"
    )


@affine.check
def empty_range(range_to_grid):
    """Of zeros only, any scale will do, but 0 / 0 will not."""
    _is_grid(range_to_grid(0.0, 0.0), 1.0, 0, 8, "scale 1 when hi = lo")


@affine.check
def rounds_the_zero_point(range_to_grid):
    """The zero point is the nearest integer, not the one below."""
    _is_grid(range_to_grid(-0.9, 2.1, bits=2), 1.0, 1, 2, "round(0.9) is 1, int(0.9) is 0")
    _is_grid(range_to_grid(-1.2, 1.8, bits=2), 1.0, 1, 2, "round(1.2) is 1, ceil(1.2) is 2")


@affine.check
def small_ranges(range_to_grid):
    """A range far below 1 has a step far below 1."""
    _is_grid(range_to_grid(-1e-6, 2e-6, bits=8), 3e-6 / 255, 85, 8, "nothing to add to the denominator")


@affine.unlocked
def lays_grids(range_to_grid):
    def with_options(lo, hi, *, bits=8, **options):
        return range_to_grid(float(lo), float(hi), bits=bits)

    network, data = trained("lenet_300_100"), load_mnist()
    lines = ["LeNet-300-100, the inputs of every layer on your grids, weights float, 10,000 test images:"]
    with in_place_of(reference.qparams_from_range, with_options):
        for bits in (8, 6, 4, 3, 2):
            rounded = quantize_activations(network, data.train_images[:1000], bits=bits)
            lines.append(f"  {bits} bits: {evaluate(rounded, data.test_images, data.test_labels):.2%} error")
    return "\n".join(lines)


def symmetric_scales(x, *, bits=8, axis=0):  # [...] -> float32 [C]
    """Return the scales of a symmetric grid, one for each index of an axis.

        scale = max|x| / (2^(bits-1) - 1)

    The largest magnitude is over all other axes. A slice of zeros gets scale 1.

    Examples
    --------
    >>> symmetric_scales([[0.0, -1.27], [0.5, 0.254]])
    array([0.01      , 0.00393701], dtype=float32)
    """
    return reference.choose_qparams(x, bits=bits, axis=axis).scale


per_channel = Exercise(
    symmetric_scales,
    section="5. One scale for all, or one for each",
    difficulty=2,
    size="four lines",
    unlocks="the signature figure of chapter 02, with your scales",
)


@per_channel.check
def largest_magnitude(symmetric_scales):
    """The largest magnitude of a row gets the largest code, 2^(bits-1) - 1."""
    x = np.array([[0.0, -1.27], [0.5, 0.254]])
    expect(symmetric_scales(x), [0.01, 0.5 / 127], "max of |x|, over 127 and not 128 or 255", tolerance=1e-8)


@per_channel.check
def other_widths(symmetric_scales):
    """At 4 bits the largest code is 7, at 2 bits it is 1."""
    x = np.array([[3.5, -1.0]])
    expect(symmetric_scales(x, bits=4), [0.5], "2^(4-1) - 1 = 7", tolerance=1e-7)
    expect(symmetric_scales(x, bits=2), [3.5], "2^(2-1) - 1 = 1", tolerance=1e-7)


@per_channel.check
def filters(symmetric_scales):
    """A convolution's weight has four axes, three of which go into the maximum."""
    x = np.zeros((2, 3, 5, 5))
    x[0, 2, 4, 4], x[1, 0, 0, 0] = -7, 3.5
    expect(symmetric_scales(x, bits=4), [1.0, 0.5], "np.max over every axis but one", tolerance=1e-7)


@per_channel.check
def other_axes(symmetric_scales):
    """The axis kept may be any, counted from the end too."""
    x = np.array([[7.0, 14.0, 0.7], [-3.5, 1.4, -2.1]])
    likely = "keep the axis asked for, reduce the others"
    expect(symmetric_scales(x, bits=4, axis=1), [1.0, 2.0, 0.3], likely, tolerance=1e-6)
    expect(symmetric_scales(x, bits=4, axis=-1), [1.0, 2.0, 0.3], likely, tolerance=1e-6)


@per_channel.check
def dead_channels(symmetric_scales):
    """A channel of zeros gets scale 1, the others keep theirs."""
    expect(symmetric_scales(np.array([[0.0, 0.0], [127.0, 1.0]])), [1.0, 1.0], "max|x| = 0 would divide 0 by 0")


@per_channel.check
def as_float32(symmetric_scales):
    """Scales are float32."""
    expect(symmetric_scales(np.ones((2, 2)), bits=2), [1, 1], dtype=np.float32)


@per_channel.unlocked
def chooses_scales(symmetric_scales):
    def with_options(x, *, bits=8, axis=None, **options):
        scales = symmetric_scales(x, bits=bits, axis=axis)
        return QuantParams(scales, np.zeros(scales.shape, int), bits, True, narrow=True, axis=axis)

    return signature_of(reference.choose_qparams, with_options, technique="per_channel")


stochastic = Exercise(
    reference.round_to_integer,
    section="8. Rounding",
    difficulty=2,
    size="ten lines",
    task="Graded with 'half_even', 'half_away', 'half_up' and 'stochastic'.",
    unlocks="what each way of rounding costs a network",
)


@stochastic.check
def halves(round_to_integer):
    """Ties are where the ways of rounding differ."""
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    expect(round_to_integer(x), [-2, -2, 0, 0, 2, 2], "half_even is np.rint")
    expect(round_to_integer(x, "half_away"), [-3, -2, -1, 1, 2, 3], "away from zero: on |x|, then the sign back")
    expect(round_to_integer(x, "half_up"), [-2, -1, 0, 1, 2, 3], "towards +infinity, also below zero")


@stochastic.check
def no_ties(round_to_integer):
    """Away from ties all of them round to the nearest."""
    x = np.array([-1.7, -1.2, 0.2, 0.7, 3.0])
    for rounding in ("half_even", "half_away", "half_up"):
        expect(round_to_integer(x, rounding), [-2, -1, 0, 1, 3], f"{rounding} is to nearest")


@stochastic.check
def just_below_a_half(round_to_integer):
    """The float before 0.5 is nearer to 0, and above 2^52 every float is whole already."""
    x = np.array([0.49999999999999994, 2.0**52 + 1])
    likely = "floor(x + 0.5): the sum itself is rounded, to 1 and to 2^52 + 2; compare x - floor(x) with 0.5"
    expect(round_to_integer(x, "half_up"), [0, 2.0**52 + 1], likely)
    expect(round_to_integer(x, "half_away"), [0, 2.0**52 + 1], likely)


@stochastic.check
def right_on_average(round_to_integer):
    """Stochastic rounding goes up as often as the fraction says, below zero too."""
    n = 40_000
    for value in (0.3, -0.3, 2.75):
        got = round_to_integer(np.full(n, value), "stochastic", rng=7)
        below = np.floor(value)
        if not np.all(np.isin(got, [below, below + 1])):
            expect(np.unique(got), [below, below + 1], "only the two neighbours can come")
        likely = "up with the probability x - floor(x)"
        expect(np.mean(got), value, likely, tolerance=5 * np.sqrt(0.25 / n))  # five standard deviations


@stochastic.check
def draws_are_independent(round_to_integer):
    """Every number of the array is drawn on its own."""
    got = round_to_integer(np.full((100, 100), 0.5), "stochastic", rng=1)
    deviation = np.abs(np.concatenate([got.mean(axis=0), got.mean(axis=1)]) - 0.5).max()
    expect(float(deviation < 0.3), 1.0, "one random number for all, or for each row: draw as many as x has")


@stochastic.check
def whole_numbers_stay(round_to_integer):
    """A whole number stays itself, however it is rounded."""
    x = np.array([-3.0, 0.0, 5.0])
    for rounding in ("half_even", "half_away", "half_up"):
        expect(round_to_integer(x, rounding), x)
    expect(round_to_integer(x, "stochastic", rng=3), x, "its fraction is 0: never up")


@stochastic.unlocked
def rounds_networks(round_to_integer):
    network, data = trained("lenet_300_100"), load_mnist()
    lines = ["LeNet-300-100, weights of 4 and 3 bits rounded by your function, 10,000 test images:"]
    for rounding in ("half_even", "half_away", "half_up", "stochastic"):

        def own_quantize(x, grid, *, rounding=rounding, **options):
            steps = round_to_integer(x / grid.scale[:, None], rounding, rng=0)
            return np.clip(steps, grid.qmin, grid.qmax).astype(grid.dtype)

        with in_place_of(reference.quantize, lambda x, grid, own=own_quantize, **options: own(x, grid)):
            networks = [quantize_weights(network, bits=bits) for bits in (4, 3)]
        errors = [evaluate(n, data.test_images, data.test_labels) for n in networks]
        lines.append(f"  {rounding:<11} {errors[0]:.2%}, {errors[1]:.2%} error")
    return "\n".join(lines)
