"""Chapter 08: the exercises and what grades them."""

import copy
import dataclasses
from fractions import Fraction

import numpy as np

from nnzip.book.grading import Exercise, expect
from nnzip.compression.integer import IntegerLayer, IntegerMaxPool2d, integer_network
from nnzip.data import load_mnist
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, qparams_from_range, round_to_integer

IMAGES = 500  # test images that pass through the unlocked networks
TRIPLE = (
    0.07,
    0.03,
    0.21,
)  # scales with which every change of the multiplier's arithmetic shows (chapter 08, section 8)


def _integer(network):
    return integer_network(trained(network), load_mnist().train_images[:1000])


def _through(integer, forward):
    """Send test images through an integer network, layer by layer: forward(layer, codes) -> codes."""
    codes = integer.quantize_input(load_mnist().test_images[:IMAGES])
    outputs = []
    for layer in integer.layers:
        codes = forward(layer, codes)
        outputs.append(codes)
    return outputs


def _compared(network, what, forward):
    """Say how the network does with a student's function inside: its error, and integer by integer."""
    integer, labels = _integer(network), load_mnist().test_labels[:IMAGES]
    right, own = (_through(integer, f) for f in (lambda layer, codes: layer.forward(codes), forward))
    theirs, wrong = (np.count_nonzero(outputs[-1].argmax(axis=1) != labels) for outputs in (right, own))
    differ = sum(np.count_nonzero(a != b) for a, b in zip(own, right, strict=True))
    return (
        f"{network} in integers, {what}: {wrong} of {IMAGES} test images misread ({theirs} with nnzip's)\n"
        f"Of the {sum(a.size for a in right):,} integers that leave its layers, {differ:,} differ from nnzip's."
    )


def _code(total, multiplier, zero_point):
    """One uint8 code: sum and multiplier are float32, their product is exact in Python's float, then rounded once."""
    product = np.float32(float(np.float32(total)) * float(np.float32(multiplier)))
    return min(max(round(float(product)) + zero_point, 0), 255)  # Python rounds halves to even


def integer_bias(bias, input_scale, weight_scale):  # float [out], number, float32 [out] or one -> int32 [out]
    """Return the bias in steps of the accumulator, whose scale is the product of both scales.

        b_int = round(b / (s_x s_w)), halves to even, computed in float64 and clipped to int32

    Examples
    --------
    >>> integer_bias(np.array([0.25, -1.0]), 0.5, np.float32([0.25, 0.125]))
    array([  2, -16], dtype=int32)
    """
    steps = np.asarray(bias, np.float64) / (float(input_scale) * np.asarray(weight_scale, np.float64))
    ends = np.iinfo(np.int32)
    return np.clip(round_to_integer(steps), ends.min, ends.max).astype(np.int32)


bias_exercise = Exercise(
    integer_bias,
    section="3. One number, all the way",
    difficulty=1,
    size="three lines",
    unlocks="the MLP in integers, with the biases that you computed",
)


@bias_exercise.check
def steps_of_the_accumulator(integer_bias):
    """A bias of 1 is 1 / (0.5 * 0.25) = 8 steps of 0.125."""
    bias = np.array([1.0, -0.25, 0.0])
    likely = "the accumulator has the scale s_x s_w: divide by both"
    expect(integer_bias(bias, 0.5, np.float32(0.25)), [8, -2, 0], likely)


@bias_exercise.check
def a_scale_for_each_filter(integer_bias):
    """With a scale for each filter every bias has its own step."""
    bias, scale = np.array([1.0, 1.0, -3.0]), np.float32([0.25, 0.5, 0.125])
    expect(integer_bias(bias, 0.5, scale), [8, 4, -48], "bias i belongs to weight scale i")


@bias_exercise.check
def ties_go_to_even(integer_bias):
    """To the nearest step, halves to the even one."""
    bias = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.7, -0.7, 2.2]) / 8
    likely = "np.rint; a cast cuts off, floor(x + 0.5) rounds halves up"
    expect(integer_bias(bias, 0.5, np.float32(0.25)), [0, 2, 2, 0, -2, 1, -1, 2], likely)


@bias_exercise.check
def saturates(integer_bias):
    """Beyond int32 a bias stays at the end: no wrap."""
    bias, scale = np.array([3.0, -3.0, 1.0]), np.float32([2.0**-40, 2.0**-40, 1.0])
    likely = "clip to -2^31 and 2^31 - 1 before the cast to int32; 2^31 - 1 is no float32"
    expect(integer_bias(bias, 0.5, scale), [2**31 - 1, -(2**31), 2], likely)


@bias_exercise.check
def more_than_float32(integer_bias):
    """A bias of millions of steps is exact: 24 bits are too few for it."""
    bias, scale = np.array([33_554_433.0, -100_000_001.0, 2_000_000_003.0]), np.float32([1.0, 1.0, 1.0])
    expect(integer_bias(bias, 1.0, scale), [33_554_433, -100_000_001, 2_000_000_003], "compute in float64")


@bias_exercise.check
def against_fractions(integer_bias):
    """100 biases and scales, worked out in exact fractions."""
    rng = np.random.default_rng(1)
    bias = rng.normal(size=100).astype(np.float32)
    s_x, s_w = np.float32(1 / 255), rng.uniform(1e-7, 1e-2, 100).astype(np.float32)
    steps = [Fraction(float(s)) * Fraction(float(s_x)) for s in s_w]
    right = np.array([round(Fraction(float(b)) / step) for b, step in zip(bias, steps, strict=True)])
    likely = "the product of two float32 scales has 48 bits: convert both to float64 before you multiply"
    expect(integer_bias(bias, s_x, s_w), right, likely)


@bias_exercise.check
def as_int32(integer_bias):
    """The biases are int32."""
    expect(integer_bias(np.array([1.0]), 0.5, np.float32([0.5])), [4], dtype=np.int32)


@bias_exercise.unlocked
def biases_of_the_mlp(integer_bias):
    biases = iter([layer.params["bias"] for layer in trained("lenet_300_100").layers if layer.params])

    def forward(layer, codes):
        if isinstance(layer, IntegerLayer):
            layer = dataclasses.replace(layer, bias=integer_bias(next(biases), layer.input.scale, layer.weight_scale))
        return layer.forward(codes)

    return _compared("lenet_300_100", "with the biases of your integer_bias", forward)


def folded_multiplier(input_scale, weight_scale, output_scale):  # float32, float32 [...], float32 -> float32 [...]
    """Return the multiplier that takes int32 sums to the steps of the next layer's codes.

        M = (s_x s_w) / s_y, computed in float32 and in this order, as ONNX Runtime does

    Examples
    --------
    >>> folded_multiplier(np.float32(0.5), np.float32([0.25, 1.0]), np.float32(2.0))
    array([0.0625, 0.25  ], dtype=float32)
    """
    weight, bias, scale = np.zeros((1, 1), np.int8), np.zeros(1, np.int32), np.asarray(weight_scale, np.float32)
    return IntegerLayer(weight, scale, bias, _grid(0, input_scale), _grid(0, output_scale), "float_scale").multiplier


def _grid(zero_point, scale=1.0):
    return QuantParams(scale, zero_point, 8, signed=False)


multiplier_exercise = Exercise(
    folded_multiplier,
    section="8. Bit for bit against ONNX Runtime",
    difficulty=1,
    size="a line or two",
    task="The scales come as float32; there are scales for which every other order or precision shows.",
    unlocks="60,001 sums by your multiplier, counted against ONNX Runtime's arithmetic, and LeNet-5 in integers",
)


def _folded(s_x, s_w, s_y):
    """In float32: a product or quotient of two float32 numbers in float64, then rounded once, is the float32 one."""
    return np.float32(float(np.float32(float(s_x) * float(s_w))) / float(s_y))


@multiplier_exercise.check
def three_scales_in_one(folded_multiplier):
    """Sums have the scale s_x s_w, codes s_y: the multiplier is their quotient."""
    got = folded_multiplier(np.float32(0.5), np.float32(0.25), np.float32(2.0))
    expect(got, 0.0625, "0.5 * 0.25 / 2: both scales of the sum go in, the scale of the output divides")


@multiplier_exercise.check
def one_for_each_filter(folded_multiplier):
    """Each filter has its own scale, so its own multiplier."""
    got = folded_multiplier(np.float32(0.5), np.float32([0.25, 1.0, 0.125]), np.float32(2.0))
    expect(got, [0.0625, 0.25, 0.03125], "as many as there are weight scales")
    got = folded_multiplier(np.float32(3.0), np.float32([0.5]), np.float32(0.75))
    expect(got, [2.0], "one scale in an array stays an array")


@multiplier_exercise.check
def in_float32(folded_multiplier):
    """All in float32: product first, then quotient, each rounded to 24 bits."""
    rng = np.random.default_rng(2)
    s_w, (s_x, s_y) = rng.uniform(1e-3, 1e-1, 200).astype(np.float32), np.float32([0.07, 0.21])
    right = np.array([_folded(s_x, s, s_y) for s in s_w])
    expect(folded_multiplier(s_x, s_w, s_y), right, "(s_x * s_w) / s_y in this order, all of them float32")


@multiplier_exercise.check
def scales_that_tell(folded_multiplier):
    """The four triples of the chapter, which were chosen because any other way shows."""
    for triple in ((0.1, 0.02, 0.1), (0.3, 0.1, 0.6), TRIPLE, (0.5, 0.25, 0.25)):
        scales = [np.float32(s) for s in triple]
        likely = "the product first, then the quotient; no float64, which rounds elsewhere"
        expect(folded_multiplier(*scales), _folded(*scales), likely)


@multiplier_exercise.check
def stays_float32(folded_multiplier):
    """The multiplier is a float32."""
    got = folded_multiplier(np.float32(0.5), np.float32([0.25, 0.5]), np.float32(0.5))
    expect(got, [0.25, 0.5], dtype=np.float32)


@multiplier_exercise.unlocked
def counts_codes(folded_multiplier):
    scales = [np.float32(s) for s in TRIPLE]
    acc = np.arange(-30_000, 30_001).astype(np.float32)
    steps = [np.rint(acc * np.float32(m)) for m in (folded_multiplier(*scales), scales[0] * scales[1] / scales[2])]

    def forward(layer, codes):
        if isinstance(layer, IntegerLayer) and layer.output is not None:
            layer = copy.copy(layer)
            layer.multiplier = folded_multiplier(layer.input.scale, layer.weight_scale, layer.output.scale)
        return layer.forward(codes)

    differ = np.count_nonzero(steps[0] != steps[1])
    first = f"Scales {TRIPLE}, sums from -30,000 to 30,000: {differ:,} of {len(acc):,} codes are not ONNX Runtime's.\n"
    return first + _compared("lenet_5", "by your folded_multiplier", forward)


def fold_zero_point(bias, weight, zero_point):  # int32 [out], int8 [out, ...], integer -> int32 [out]
    """Return the bias that takes the input's zero point off, so that the sum runs over the codes as they are.

        sum_k (x_k - z) w_k + b = sum_k x_k w_k + b_folded        b_folded = b - z sum_k w_k

    The weight is that of a linear layer [out, in] or of a convolution [out, C, k, k]; the zero point is from 0 to 255.

    Examples
    --------
    >>> fold_zero_point(np.array([100, 0], np.int32), np.array([[1, 2], [-3, 3]], np.int8), 10)
    array([70,  0], dtype=int32)
    """
    layer = IntegerLayer(weight, np.float32(1), bias, _grid(zero_point), None, "float_scale")
    return layer.accumulate(np.zeros((1, *weight.shape[1:]), np.uint8)).reshape(-1)  # the sum for codes of 0


fold_exercise = Exercise(
    fold_zero_point,
    section="4. A zero point that is not zero",
    difficulty=1,
    size="three lines",
    unlocks="LeNet-5 in integers, its zero points folded by you and nowhere else subtracted",
)


@fold_exercise.check
def by_hand(fold_zero_point):
    """The zero point times the sum of a row's weights comes off."""
    bias, weight = np.array([100, 0], np.int32), np.array([[1, 2, 4], [-3, 3, -1]], np.int8)
    expect(fold_zero_point(bias, weight, 10), [30, 10], "100 - 10 * 7, and 0 - 10 * -1")


@fold_exercise.check
def no_zero_point(fold_zero_point):
    """Without a zero point the bias stays."""
    expect(fold_zero_point(np.array([7, -7], np.int32), np.full((2, 3), 5, np.int8), 0), [7, -7])


@fold_exercise.check
def sums_of_filters(fold_zero_point):
    """Of a convolution every weight of a filter counts, over channels, rows and columns."""
    weight = np.arange(2 * 3 * 2 * 2, dtype=np.int8).reshape(2, 3, 2, 2) % 5
    expect(fold_zero_point(np.array([0, 1000], np.int32), weight, 3), [-63, 925], "sum over every axis but the first")


@fold_exercise.check
def one_neuron(fold_zero_point):
    """One row, or one weight for each row, is no exception."""
    expect(fold_zero_point(np.array([5], np.int32), np.array([[1, 2, 3]], np.int8), 2), [-7])
    expect(fold_zero_point(np.array([5, 6, 7], np.int32), np.array([[1], [2], [3]], np.int8), 2), [3, 2, 1])


@fold_exercise.check
def no_wrap(fold_zero_point):
    """Sums of weights pass int8 and int16, and the zero point may be a uint8."""
    weight = np.stack([np.full(3000, 127), np.full(3000, -128)]).astype(np.int8)
    right = [-(2**20) - 255 * 3000 * 127, 255 * 3000 * 128]
    likely = "sum in int32 (or more), and multiply there: np.uint8(255) * 2 is no uint8"
    expect(fold_zero_point(np.array([-(2**20), 0], np.int32), weight, 255), right, likely)
    expect(fold_zero_point(np.array([-(2**20), 0], np.int32), weight, np.uint8(255)), right, likely)


@fold_exercise.check
def the_same_sums(fold_zero_point):
    """With it the sum of the raw codes is the sum of the shifted ones: 40 neurons in Python's integers."""
    rng = np.random.default_rng(3)
    weight, bias = rng.integers(-127, 128, (40, 30), np.int8), rng.integers(-(10**6), 10**6, 40, np.int32)
    right = [b - 114 * sum(row) for b, row in zip(bias.tolist(), weight.tolist(), strict=True)]
    expect(fold_zero_point(bias, weight, 114), right)


@fold_exercise.check
def folded_as_int32(fold_zero_point):
    """The folded bias is int32, as the bias was."""
    expect(fold_zero_point(np.array([1], np.int32), np.array([[1, 1]], np.int8), 1), [-1], dtype=np.int32)


@fold_exercise.unlocked
def folds_in_lenet_5(fold_zero_point):
    def forward(layer, codes):
        if not isinstance(layer, IntegerLayer):
            return layer.forward(codes)
        bias = fold_zero_point(layer.bias, layer.weight, int(layer.input.zero_point))
        raw = dataclasses.replace(layer, bias=bias, input=_grid(0, layer.input.scale))
        return layer.requantize(raw.accumulate(codes))

    return _compared("lenet_5", "with your folded zero points", forward)


def integer_linear(codes, weight, bias, multiplier, input_zero_point, output_zero_point):  # uint8 [N, in] -> [N, out]
    """Return the uint8 codes that leave a linear layer: all sums in integers, one multiplication by a float32 each.

        acc = sum_k (x - z_x) w + b                   int32 [N, out]
        y = clip(round(acc M) + z_y, 0, 255)          acc and M as float32, halves to even

    Parameters
    ----------
    codes : uint8 (N, in)
    weight, bias : int8 (out, in), int32 (out,)
    multiplier : float32 (out,), one for each output, or a single one
    input_zero_point, output_zero_point : integers from 0 to 255

    Examples
    --------
    >>> weight, bias, multiplier = np.array([[2, -1]], np.int8), np.array([6], np.int32), np.float32([0.5])
    >>> integer_linear(np.array([[13, 10]], np.uint8), weight, bias, multiplier, 10, 100)
    array([[106]], dtype=uint8)
    """
    grids = _grid(input_zero_point), _grid(output_zero_point)
    return IntegerLayer(weight, np.asarray(multiplier, np.float32), bias, *grids, "float_scale").forward(codes)


linear_exercise = Exercise(
    integer_linear,
    section="3. One number, all the way",
    difficulty=2,
    size="five lines",
    unlocks="the MLP in integers, its hidden layers computed by you",
)

_ONE = np.float32([1.0])


def _linear(codes, weight, bias, multiplier, z_x, z_y):
    """Each output on its own, in Python's integers."""
    rows = []
    for x in codes.tolist():
        sums = [sum((a - z_x) * w for a, w in zip(x, row, strict=True)) for row in weight.tolist()]
        rows.append([_code(t + b, m, z_y) for t, b, m in zip(sums, bias.tolist(), multiplier, strict=True)])
    return rows


@linear_exercise.check
def sums_and_bias(integer_linear):
    """With zero points of 0 and a multiplier of 1 it is x w^T + b."""
    codes, weight = np.array([[1, 2, 3], [4, 0, 1]], np.uint8), np.array([[1, 2, 3], [10, 0, -1]], np.int8)
    got = integer_linear(codes, weight, np.array([5, 0], np.int32), _ONE, 0, 0)
    expect(got, [[19, 7], [12, 39]], "the weight is [out, in]: transpose it; then + b")


@linear_exercise.check
def both_zero_points(integer_linear):
    """The input's zero point comes off every code, the output's is added at the end."""
    codes, weight = np.array([[12, 10, 13]], np.uint8), np.array([[1, 50, 2]], np.int8)
    expect(integer_linear(codes, weight, np.array([1], np.int32), _ONE, 10, 0), [[9]], "2 * 1 + 0 * 50 + 3 * 2 + 1")
    expect(integer_linear(codes, weight, np.array([1], np.int32), _ONE, 10, 100), [[109]], "the sum's 9, + 100")


@linear_exercise.check
def below_the_zero_point(integer_linear):
    """Codes below the zero point are negative numbers."""
    codes, weight = np.array([[0, 255]], np.uint8), np.array([[-1, 1], [1, -1]], np.int8)
    likely = "uint8 - 200 has no negative results: convert to int32 first"
    got = integer_linear(codes, weight, np.array([-200, 300], np.int32), _ONE, 200, 7)
    expect(got, [[62, 52]], likely)


@linear_exercise.check
def a_multiplier_for_each_output(integer_linear):
    """Each output neuron has its own multiplier, and its own bias before it."""
    codes, weight = np.array([[10], [20]], np.uint8), np.array([[1], [2], [4]], np.int8)
    bias, multiplier = np.array([0, 10, -20], np.int32), np.float32([1.0, 0.5, 0.25])
    likely = "the bias is in steps of the sum: it is added before the multiplication"
    expect(integer_linear(codes, weight, bias, multiplier, 0, 3), [[13, 18, 8], [23, 28, 18]], likely)


@linear_exercise.check
def saturation(integer_linear):
    """What passes 0 or 255 stays there, after the zero point was added."""
    codes, weight = np.array([[1], [2], [100]], np.uint8), np.array([[-100], [100], [3]], np.int8)
    right = [[28, 228, 131], [0, 255, 134], [0, 255, 255]]
    likely = "zero point, then clip, then cast: a cast wraps 328 to 72"
    expect(integer_linear(codes, weight, np.zeros(3, np.int32), _ONE, 0, 128), right, likely)


@linear_exercise.check
def halves_to_even(integer_linear):
    """Rounded to nearest, halves to even, before the zero point is added."""
    codes, weight = np.arange(7, dtype=np.uint8)[:, None], np.array([[1]], np.int8)
    got = integer_linear(codes, weight, np.array([-3], np.int32), np.float32([0.5]), 0, 5)
    expect(got, [[3], [4], [5], [5], [5], [6], [7]], "np.rint, then the zero point")


@linear_exercise.check
def deep_sums(integer_linear):
    """2,000 products of 255 and 127 are 64 million: int16 wraps, and so does int8."""
    codes, weight = np.full((2, 2000), 255, np.uint8), np.full((1, 2000), 127, np.int8)
    codes[1, 0] = 0
    multiplier = np.float32([1e-5])
    right = _linear(codes, weight, np.array([-(6 * 10**7)]), multiplier, 0, 0)
    expect(integer_linear(codes, weight, np.array([-(6 * 10**7)], np.int32), multiplier, 0, 0), right, "sum in int32")


@linear_exercise.check
def exact_before_the_multiplier(integer_linear):
    """Nothing is rounded before the multiplication: large sums that a bias takes back to small ones."""
    codes, weight = np.full((1, 1001), 255, np.uint8), np.full((1, 1001), 127, np.int8)
    total = 1001 * 255 * 127  # 32,417,385: odd, and above 2^24
    got = integer_linear(codes, weight, np.array([77 - total], np.int32), _ONE, 0, 0)
    expect(got, [[77]], "float32 products are exact up to 2^24 only: sum in int32, the bias included")


@linear_exercise.check
def against_python(integer_linear):
    """Random layers, one output after the other."""
    rng = np.random.default_rng(4)
    codes, weight = rng.integers(0, 256, (6, 50), np.uint8), rng.integers(-127, 128, (9, 50), np.int8)
    bias, multiplier = rng.integers(-20_000, 20_000, 9, np.int32), rng.uniform(1e-3, 4e-3, 9).astype(np.float32)
    for z_x, z_y in ((0, 0), (131, 0), (3, 114)):
        right = _linear(codes, weight, bias, multiplier, z_x, z_y)
        expect(integer_linear(codes, weight, bias, multiplier, z_x, z_y), right)


@linear_exercise.check
def codes_are_uint8(integer_linear):
    """The codes are uint8, ready for the next layer."""
    codes, weight = np.array([[3]], np.uint8), np.array([[2]], np.int8)
    expect(integer_linear(codes, weight, np.array([1], np.int32), _ONE, 0, 0), [[7]], dtype=np.uint8)


def _arguments(layer):
    zero_points = int(layer.input.zero_point), int(layer.output.zero_point)
    return layer.weight, layer.bias, layer.multiplier, *zero_points


@linear_exercise.unlocked
def hidden_layers_of_the_mlp(integer_linear):
    def forward(layer, codes):
        if isinstance(layer, IntegerLayer) and layer.output is not None:
            return integer_linear(codes, *_arguments(layer))
        return layer.forward(codes)

    return _compared("lenet_300_100", "its hidden layers by your integer_linear", forward)


def integer_relu(codes, zero_point):  # uint8 [...], integer -> uint8 [...]
    """Return the codes of max(value, 0), of codes whose zero point is that integer.

    A code stands for (code - zero_point) * scale, with a positive scale. No scale is needed.

    Examples
    --------
    >>> integer_relu(np.array([0, 99, 100, 101, 255], np.uint8), 100)
    array([100, 100, 100, 101, 255], dtype=uint8)
    """
    return np.maximum(codes, np.uint8(zero_point))


relu_exercise = Exercise(
    integer_relu,
    section="5. ReLU, pool, flatten: nothing left to compute",
    difficulty=1,
    size="one line",
    unlocks="the MLP in integers on grids that begin below zero, with your ReLU between its layers",
)


@relu_exercise.check
def clamps_at_the_zero_point(integer_relu):
    """What lies below the zero point is a negative number, and becomes the code of zero."""
    codes = np.array([0, 99, 100, 101, 127], np.uint8)
    likely = "the larger of code and zero point: the code of the value 0 is the zero point, not 0"
    expect(integer_relu(codes, 100), [100, 100, 100, 101, 127], likely)


@relu_exercise.check
def nothing_below(integer_relu):
    """With a zero point of 0 no code is negative, and nothing happens."""
    expect(integer_relu(np.array([0, 1, 127, 128, 255], np.uint8), 0), [0, 1, 127, 128, 255])


@relu_exercise.check
def nothing_above(integer_relu):
    """With a zero point of 255 no code is positive."""
    expect(integer_relu(np.array([0, 128, 255], np.uint8), 255), [255, 255, 255])


@relu_exercise.check
def codes_above_127(integer_relu):
    """A uint8 code of 200 is larger than a zero point of 131, although as int8 it would be negative."""
    expect(integer_relu(np.array([130, 131, 132, 200], np.uint8), 131), [131, 131, 132, 200], "codes are not signed")


@relu_exercise.check
def any_shape(integer_relu):
    """Images keep their shape, and the zero point may be a NumPy integer."""
    codes = np.arange(0, 240, 10, dtype=np.uint8).reshape(2, 3, 1, 4)
    right = [max(int(code), 77) for code in codes.ravel()]
    expect(integer_relu(codes, np.int32(77)), np.reshape(right, (2, 3, 1, 4)))


@relu_exercise.check
def stays_uint8(integer_relu):
    """Codes are uint8 and stay so, whatever integer the zero point is."""
    expect(integer_relu(np.array([3, 9], np.uint8), 5), [5, 9], dtype=np.uint8)
    likely = "np.maximum of uint8 and int32 is int32: make the zero point a uint8, or cast the answer"
    expect(integer_relu(np.array([3, 9], np.uint8), np.int32(5)), [5, 9], likely, dtype=np.uint8)


@relu_exercise.unlocked
def between_the_layers(integer_relu):
    network, integer, labels = trained("lenet_300_100"), _integer("lenet_300_100"), load_mnist().test_labels[:IMAGES]
    values, layers, grid = load_mnist().train_images[:1000], [], integer.input_qparams
    floats = [layer for layer in network.layers if layer.params]
    for layer, linear in zip((a for a in integer.layers if isinstance(a, IntegerLayer)), floats, strict=True):
        values = linear.forward(np.maximum(values.reshape(1000, -1), 0))
        output = None if layer.output is None else qparams_from_range(values.min(), values.max(), symmetric=False)
        bias = np.rint(linear.params["bias"] / (grid.scale * layer.weight_scale)).astype(np.int32)
        layers.append(dataclasses.replace(layer, input=grid, output=output, bias=bias))
        grid = output
    codes, lines = integer.quantize_input(load_mnist().test_images[:IMAGES]).reshape(IMAGES, -1), []
    for layer in layers:
        codes = layer.forward(codes)
        if layer.output is not None:
            z = int(layer.output.zero_point)
            share = np.mean(codes < z)
            codes = integer_relu(codes, z)
            lines.append(
                f"Zero point {z}: {share:.1%} of the codes below it, after your integer_relu {np.mean(codes < z):.1%}."
            )
    wrong = np.count_nonzero(codes.argmax(axis=1) != labels)
    theirs = np.count_nonzero(integer.predict(load_mnist().test_images[:IMAGES]) != labels)
    lines.append(
        f"{wrong} of {IMAGES} test images misread ({theirs} with the ReLU in the clip, on grids that begin at 0)."
    )
    return "\n".join(lines)


def integer_max_pool(codes, size):  # uint8 [N, C, H, W], integer -> uint8 [N, C, H // size, W // size]
    """Return the largest code of each size x size window, side by side; rows and columns left over are dropped.

    Examples
    --------
    >>> integer_max_pool(np.array([[[[1, 200, 3], [4, 5, 6]]]], np.uint8), 2)
    array([[[[200]]]], dtype=uint8)
    """
    return IntegerMaxPool2d(size).forward(codes)


pool_exercise = Exercise(
    integer_max_pool,
    section="5. ReLU, pool, flatten: nothing left to compute",
    difficulty=1,
    size="four lines",
    unlocks="LeNet-5 in integers, its pools computed by you",
)


@pool_exercise.check
def largest_of_each_window(integer_max_pool):
    """Each 2 x 2 window gives its largest code."""
    codes = np.array([[1, 2, 30, 4], [5, 6, 7, 8], [9, 1, 2, 3], [4, 5, 6, 70]], np.uint8)[None, None]
    expect(integer_max_pool(codes, 2), [[[[6, 30], [9, 70]]]], "windows lie side by side: no overlap, no mean")


@pool_exercise.check
def codes_have_no_sign(integer_max_pool):
    """200 is larger than 100: uint8 has no sign."""
    expect(integer_max_pool(np.array([[[[200, 100], [0, 127]]]], np.uint8), 2), [[[[200]]]], "200 as int8 is -56")


@pool_exercise.check
def not_square(integer_max_pool):
    """Rows and columns are two different things."""
    codes = np.arange(24, dtype=np.uint8).reshape(1, 1, 4, 6)
    expect(integer_max_pool(codes, 2), [[[[7, 9, 11], [19, 21, 23]]]], "[N, C, H, W]: rows first")


@pool_exercise.check
def left_over(integer_max_pool):
    """What does not fill a window is dropped, at the right and at the bottom."""
    codes = np.array([[[[1, 2, 99], [3, 4, 99], [99, 99, 99]]]], np.uint8)
    expect(integer_max_pool(codes, 2), [[[[4]]]], "H // size rows and W // size columns")
    codes = np.arange(35, dtype=np.uint8).reshape(1, 1, 5, 7)
    expect(integer_max_pool(codes, 3), [[[[16, 19]]]], "H // size rows and W // size columns")


@pool_exercise.check
def images_and_channels(integer_max_pool):
    """Images and channels stay apart."""
    codes = np.random.default_rng(5).integers(0, 256, (3, 2, 4, 2), np.uint8)
    right = [[[[int(image[i : i + 2].max())] for i in (0, 2)] for image in images] for images in codes]
    expect(integer_max_pool(codes, 2), right, "the maximum is over the window's two axes only")


@pool_exercise.check
def other_sizes(integer_max_pool):
    """A window of 1 changes nothing, a window of the whole image leaves one code."""
    codes = np.random.default_rng(6).integers(0, 255, (2, 3, 4, 4), np.uint8)
    expect(integer_max_pool(codes, 1), codes)
    expect(integer_max_pool(codes, 4), [[[[int(image.max())]] for image in images] for images in codes])


@pool_exercise.check
def all_the_same(integer_max_pool):
    """Of equal codes it is that code, 0 and 255 too."""
    for code in (0, 114, 255):
        expect(integer_max_pool(np.full((1, 1, 2, 4), code, np.uint8), 2), [[[[code, code]]]])


@pool_exercise.check
def pooled_uint8(integer_max_pool):
    """uint8 stays uint8."""
    expect(integer_max_pool(np.array([[[[1, 2], [3, 4]]]], np.uint8), 2), [[[[4]]]], dtype=np.uint8)


@pool_exercise.unlocked
def pools_in_lenet_5(integer_max_pool):
    def forward(layer, codes):
        pools = isinstance(layer, IntegerMaxPool2d)
        return integer_max_pool(codes, layer.size) if pools else layer.forward(codes)

    return _compared("lenet_5", "its pools by your integer_max_pool", forward)


def integer_conv2d(  # uint8 [N, C, H, W], int8 [O, C, k, k] -> uint8 [N, O, H', W']
    codes, weight, bias, multiplier, input_zero_point, output_zero_point, *, stride=1, padding=0
):
    """Return the uint8 codes that leave a convolution: all sums in integers, one multiplication by a float32 each.

        acc[n, o, i, j] = sum_{c, u, v} (x[n, c, s i + u, s j + v] - z_x) w[o, c, u, v] + b[o]      int32
        y = clip(round(acc M[o]) + z_y, 0, 255)          acc and M as float32, halves to even

    The image is first given a border of `padding` rows and columns on every side that stand for the *value* 0.
    H' = (H + 2 padding - k) // stride + 1, and W' likewise.

    Parameters
    ----------
    codes : uint8 (N, C, H, W)
    weight, bias : int8 (O, C, k, k), int32 (O,)
    multiplier : float32 (O,), one for each filter
    input_zero_point, output_zero_point : integers from 0 to 255

    Examples
    --------
    >>> codes, weight = np.array([[[[12, 10], [10, 11]]]], np.uint8), np.array([[[[1, 0], [0, 20]]]], np.int8)
    >>> integer_conv2d(codes, weight, np.array([4], np.int32), np.float32([0.5]), 10, 100)
    array([[[[113]]]], dtype=uint8)
    """
    layer = IntegerLayer(
        weight, multiplier, bias, _grid(input_zero_point), _grid(output_zero_point), "float_scale", stride, padding
    )
    return layer.forward(codes)


conv_exercise = Exercise(
    integer_conv2d,
    section="3. One number, all the way",
    difficulty=3,
    size="fifteen lines",
    task="A loop over the places of the window is fast enough; a loop over every single product is not.",
    unlocks="LeNet-5 in integers, its convolutions computed by you; and its second layer with a border",
)


def _conv2d(codes, weight, bias, multiplier, z_x, z_y, stride=1, padding=0):
    """Each output on its own, in Python's integers."""
    (N, _, H, W), (O, C, k, _) = codes.shape, weight.shape
    x, w = codes.tolist(), weight.tolist()
    rows, columns = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    out = np.zeros((N, O, rows, columns), int)
    for n, o, i, j in np.ndindex(out.shape):
        total = int(bias[o])
        for c, u, v in np.ndindex(C, k, k):
            row, column = stride * i + u - padding, stride * j + v - padding
            if 0 <= row < H and 0 <= column < W:  # outside the value is 0
                total += (x[n][c][row][column] - z_x) * w[o][c][u][v]
        out[n, o, i, j] = _code(total, multiplier[o], z_y)
    return out


def _zeros(count):
    return np.zeros(count, np.int32)


@conv_exercise.check
def one_window(integer_conv2d):
    """Of an image as large as the filter there is one sum."""
    codes, weight = np.array([[[[1, 2], [3, 4]]]], np.uint8), np.array([[[[1, 10], [0, 5]]]], np.int8)
    got = integer_conv2d(codes, weight, np.array([7], np.int32), _ONE, 0, 0)
    expect(got, [[[[48]]]], "1 * 1 + 2 * 10 + 3 * 0 + 4 * 5 + 7: the filter is not turned around")


@conv_exercise.check
def every_window(integer_conv2d):
    """The filter slides over rows and columns: H' = H - k + 1, W' = W - k + 1."""
    codes, weight = np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4), np.array([[[[1, 2], [3, 4]]]], np.int8)
    likely = "x[i + u, j + v] * w[u, v]: no transposed axes"
    expect(integer_conv2d(codes, weight, _zeros(1), _ONE, 0, 0), [[[[34, 44, 54], [74, 84, 94]]]], likely)


@conv_exercise.check
def channels_and_filters(integer_conv2d):
    """Channels are summed up, filters are not; each filter has its bias."""
    codes = np.array([[[[1, 2]], [[10, 20]], [[100, 50]]]], np.uint8)  # [1, 3, 1, 2]
    weight = np.array([[1, 1, 1], [2, 0, 1]], np.int8)[:, :, None, None]
    got = integer_conv2d(codes, weight, np.array([0, 9], np.int32), _ONE, 0, 0)
    expect(got, [[[[111, 72]], [[111, 63]]]], "sum over c, u and v; the bias belongs to the filter")


@conv_exercise.check
def zero_points(integer_conv2d):
    """The input's zero point comes off every code, below it codes are negative; the output's is added at the end."""
    codes, weight = np.array([[[[12, 9], [10, 0]]]], np.uint8), np.array([[[[5, 1], [30, -2]]]], np.int8)
    likely = "(12 - 10) * 5 + (9 - 10) * 1 + 0 * 30 + (0 - 10) * -2: in int32, as uint8 has no -1"
    expect(integer_conv2d(codes, weight, _zeros(1), _ONE, 10, 0), [[[[29]]]], likely)
    expect(integer_conv2d(codes, weight, _zeros(1), _ONE, 10, 100), [[[[129]]]], "then + z_y")


@conv_exercise.check
def a_multiplier_for_each_filter(integer_conv2d):
    """Each filter has its own multiplier, and the bias comes before it."""
    codes, weight = np.array([[[[10, 20, 30]]]], np.uint8), np.array([1, 2], np.int8).reshape(2, 1, 1, 1)
    got = integer_conv2d(codes, weight, np.array([2, -20], np.int32), np.float32([0.5, 0.25]), 0, 1)
    likely = "multipliers and biases belong to axis 1 of [N, O, H', W']: shape (O, 1, 1); the bias is added first"
    expect(got, [[[[7, 12, 17]], [[1, 6, 11]]]], likely)


@conv_exercise.check
def rounded_and_clipped(integer_conv2d):
    """Halves to even before the zero point, then the clip, then the cast."""
    codes, weight = np.array([[[[0, 1, 2, 3, 4, 5, 6, 255]]]], np.uint8), np.array([[[[1]]], [[[-100]]]], np.int8)
    got = integer_conv2d(codes, weight, np.array([-3, 0], np.int32), np.float32([0.5, 1.0]), 0, 5)
    expect(got, [[[[3, 4, 5, 5, 5, 6, 7, 131]], [[5, 0, 0, 0, 0, 0, 0, 0]]]], "rint, + z_y, clip to 0 and 255, cast")
    got = integer_conv2d(codes, -weight, np.array([0, 100], np.int32), _ONE.repeat(2), 0, 0)
    expect(got[:, 1:], [[[[100, 200, 255, 255, 255, 255, 255, 255]]]], "a cast wraps 300 to 44: clip first")


@conv_exercise.check
def exact_sums(integer_conv2d):
    """Sums beyond 2^24 are exact: the bias takes them back to small ones."""
    codes, weight = np.full((1, 1025, 1, 1), 255, np.uint8), np.full((1, 1025, 1, 1), 127, np.int8)
    total = 1025 * 255 * 127  # odd, and above 2^24
    got = integer_conv2d(codes, weight, np.array([77 - total], np.int32), _ONE, 0, 0)
    expect(got, [[[[77]]]], "float32 products are exact up to 2^24 only, int16 wraps: sum in int32, the bias included")


@conv_exercise.check
def strides(integer_conv2d):
    """With a stride of 2 every second window counts, along both axes, the first one first."""
    codes, weight = np.arange(30, dtype=np.uint8).reshape(1, 1, 5, 6), np.array([[[[0, 0], [0, 1]]]], np.int8)
    right = [[[[7, 9, 11], [19, 21, 23]]]]
    likely = "the window at (i, j) begins at (stride i, stride j); (H - k) // stride + 1 of them fit"
    expect(integer_conv2d(codes, weight, _zeros(1), _ONE, 0, 0, stride=2), right, likely)
    expect(integer_conv2d(codes, weight, _zeros(1), _ONE, 0, 0, stride=3), [[[[7, 10], [25, 28]]]], likely)


@conv_exercise.check
def a_border_of_zeros(integer_conv2d):
    """The border stands for the value 0, whose code is the input's zero point."""
    codes, weight = np.array([[[[12]]]], np.uint8), np.ones((1, 1, 3, 3), np.int8)
    likely = "pad with input_zero_point: a code of 0 would stand for -z_x steps"
    got = integer_conv2d(codes, weight[..., :1, :1], _zeros(1), _ONE, 10, 100, padding=1)
    expect(got, [[[[100, 100, 100], [100, 102, 100], [100, 100, 100]]]], likely)
    got = integer_conv2d(codes, weight, _zeros(1), _ONE, 10, 100, padding=1)
    expect(got, [[[[102]]]], likely)


@conv_exercise.check
def no_border_but_of_rows_and_columns(integer_conv2d):
    """The border lies around rows and columns, on every side: not around images or channels."""
    rng = np.random.default_rng(7)
    codes, weight = rng.integers(0, 256, (2, 2, 3, 2), np.uint8), rng.integers(-9, 10, (3, 2, 3, 3), np.int8)
    scale = np.float32([0.05, 0.1, 0.2])
    right = _conv2d(codes, weight, _zeros(3), scale, 128, 100, padding=2)
    got = integer_conv2d(codes, weight, _zeros(3), scale, 128, 100, padding=2)
    expect(got, right, "np.pad with ((0, 0), (0, 0), (p, p), (p, p))")


@conv_exercise.check
def stride_and_border(integer_conv2d):
    """Stride and border together, on images that are not square, worked out one by one."""
    rng = np.random.default_rng(8)
    codes, weight = rng.integers(0, 256, (2, 3, 7, 6), np.uint8), rng.integers(-127, 128, (4, 3, 3, 3), np.int8)
    bias, scale = rng.integers(-9000, 9000, 4, np.int32), rng.uniform(2e-3, 6e-3, 4).astype(np.float32)
    for stride, padding in ((1, 0), (2, 0), (2, 1), (3, 2)):
        right = _conv2d(codes, weight, bias, scale, 114, 90, stride, padding)
        got = integer_conv2d(codes, weight, bias, scale, 114, 90, stride=stride, padding=padding)
        expect(got, right, "pad first, then take every stride-th window of the padded image")


@conv_exercise.check
def as_large_as_a_layer(integer_conv2d):
    """The second layer of LeNet-5 for 40 images: 64 million products."""
    rng = np.random.default_rng(9)
    codes, weight = rng.integers(0, 256, (40, 20, 12, 12), np.uint8), rng.integers(-127, 128, (50, 20, 5, 5), np.int8)
    bias, scale = rng.integers(-9000, 9000, 50, np.int32), rng.uniform(4e-4, 8e-4, 50).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(codes - 114.0, (5, 5), axis=(2, 3))  # [N, C, 8, 8, 5, 5]
    acc = np.tensordot(windows, weight.astype(float), ((1, 4, 5), (1, 2, 3))) + bias  # exact: far below 2^53
    right = np.clip(np.rint(acc.astype(np.float32) * scale) + 90, 0, 255).transpose(0, 3, 1, 2)
    expect(integer_conv2d(codes, weight, bias, scale, 114, 90), right)


@conv_exercise.check
def leaves_uint8(integer_conv2d):
    """The codes are uint8, ready for the next layer."""
    codes, weight = np.array([[[[3]]]], np.uint8), np.array([[[[2]]]], np.int8)
    expect(integer_conv2d(codes, weight, np.array([1], np.int32), _ONE, 0, 0), [[[[7]]]], dtype=np.uint8)


@conv_exercise.unlocked
def convolves_in_lenet_5(integer_conv2d):
    entering = []

    def forward(layer, codes):
        if isinstance(layer, IntegerLayer) and layer.weight.ndim == 4:
            entering.append((layer, codes[:50]))
            return integer_conv2d(codes, *_arguments(layer), stride=layer.stride, padding=layer.padding)
        return layer.forward(codes)

    text = _compared("lenet_5", "its convolutions by your integer_conv2d", forward)
    layer, codes = entering[1]
    right = dataclasses.replace(layer, padding=2).forward(codes)
    differ = np.count_nonzero(integer_conv2d(codes, *_arguments(layer), stride=1, padding=2) != right)
    return f"{text}\nIts second layer with a border of 2: {differ:,} of {right.size:,} codes differ."
