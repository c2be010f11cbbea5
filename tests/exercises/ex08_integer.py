"""Chapter 08: the exercises and what grades them."""

import numpy as np

from nnzip.book.grading import any_shape, exercise, given
from nnzip.compression.integer import IntegerLayer, IntegerMaxPool2d, integer_network
from nnzip.data import load_mnist
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, round_to_integer

TRIPLE = [np.float32(s) for s in (0.07, 0.03, 0.21)]  # every change of the multiplier's arithmetic shows (section 8)
ONE = np.ones(1, np.float32)


def _grid(zero_point, scale=1.0):
    return QuantParams(scale, zero_point, 8, signed=False)


def _layer(weight, bias, multiplier, z_x, z_y, *window):
    scale = np.asarray(multiplier, np.float32)
    return IntegerLayer(weight, scale, bias, _grid(z_x), _grid(z_y), "float_scale", *window)


def _any_weight(rng, shape):
    return (
        rng.integers(-127, 128, shape).astype(np.int8)
        if rng.random() < 0.7
        else np.full(shape, rng.choice([-128, 127]), np.int8)
    )


def _any_layer(rng, weight, codes):  # bias, multiplier, both zero points: codes that are not all clipped
    size = 300.0 * np.sqrt(weight[0].size)
    multiplier = (
        np.prod(TRIPLE[:2]) / TRIPLE[2] if rng.random() < 0.3 else rng.uniform(20, 90, len(weight)) / (40 * size)
    )
    bias = rng.integers(-int(20 * size), int(20 * size), len(weight)).astype(np.int32)
    return codes, weight, bias, np.float32(multiplier), *map(int, rng.integers(0, 256, 2))


@exercise(section="3. One number, all the way", difficulty=1, size="three lines")
def integer_bias(bias, input_scale, weight_scale):  # float [out], number, float32 [out] or one -> int32 [out]
    """Return the bias in steps of the accumulator, whose scale is the product of both scales.

        b_int = round(b / (s_x s_w)), halves to even, computed in float64 and clipped to int32

    >>> integer_bias(np.array([0.25, -1.0]), 0.5, np.float32([0.25, 0.125]))
    array([  2, -16], dtype=int32)
    """
    steps = np.asarray(bias, np.float64) / (float(input_scale) * np.asarray(weight_scale, np.float64))
    ends = np.iinfo(np.int32)
    return np.clip(round_to_integer(steps), ends.min, ends.max).astype(np.int32)


integer_bias.case(
    "The accumulator has the scale s_x s_w; halves go to the even step.",
    np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.7]) / 8,
    0.5,
    np.float32(0.25),
    gives=[0, 2, 2, 0, -2, 1],
    dtype=np.int32,
    likely="divide by both scales, then np.rint: a cast cuts off, floor(x + 0.5) rounds halves up",
)
integer_bias.case(
    "Beyond int32 a bias stays at the end: no wrap.",
    np.array([3.0, -3.0, 1.0]),
    0.5,
    np.float32([2.0**-40, 2.0**-40, 1.0]),
    gives=[2**31 - 1, -(2**31), 2],
    likely="clip to -2^31 and 2^31 - 1 before the cast to int32; 2^31 - 1 is no float32",
)


@integer_bias.draw(
    "the product of two float32 scales has 48 bits: convert both to float64 before you multiply", dtype=True
)
def any_biases(rng):
    """Biases of hundreds of millions of steps, one scale or one for each filter."""
    bias = rng.normal(size=300).astype(rng.choice(["float32", "float64"]))
    count = 300 if rng.random() < 0.7 else None
    return given(bias, np.float32(1 / 255), np.float32(10 ** rng.uniform(-7, -2, count)))


@exercise(
    section="8. Bit for bit against ONNX Runtime",
    difficulty=1,
    size="a line or two",
    task="The scales come as float32; there are scales for which every other order or precision shows.",
)
def folded_multiplier(input_scale, weight_scale, output_scale):  # float32, float32 [...], float32 -> float32 [...]
    """Return the multiplier that takes int32 sums to the steps of the next layer's codes.

        M = (s_x s_w) / s_y, computed in float32 and in this order, as ONNX Runtime does

    >>> folded_multiplier(np.float32(0.5), np.float32([0.25, 1.0]), np.float32(2.0))
    array([0.0625, 0.25  ], dtype=float32)
    """
    weight, bias, scale = np.zeros((1, 1), np.int8), np.zeros(1, np.int32), np.asarray(weight_scale, np.float32)
    return IntegerLayer(weight, scale, bias, _grid(0, input_scale), _grid(0, output_scale), "float_scale").multiplier


folded_multiplier.case(
    "Sums have the scale s_x s_w, codes s_y: the multiplier is their quotient, one for each filter.",
    np.float32(0.5),
    np.float32([0.25, 1.0, 0.125]),
    np.float32(2.0),
    gives=[0.0625, 0.25, 0.03125],
    dtype=np.float32,
    likely="both scales of the sum go in, the scale of the output divides",
)


@folded_multiplier.draw("(s_x * s_w) / s_y in this order, all of them float32", dtype=True)
def any_scales(rng):
    """The triple of the chapter, and scales of any size."""
    scales = TRIPLE if rng.random() < 0.3 else np.float32(rng.uniform(1e-3, 0.5, 3))
    return given(scales[0], np.float32(rng.uniform(1e-3, 0.1, 50)) if rng.random() < 0.5 else scales[1], scales[2])


@exercise(section="4. A zero point that is not zero", difficulty=1, size="three lines")
def fold_zero_point(bias, weight, zero_point):  # int32 [out], int8 [out, ...], integer -> int32 [out]
    """Return the bias that takes the input's zero point off, so that the sum runs over the codes as they are.

        sum_k (x_k - z) w_k + b = sum_k x_k w_k + b_folded        b_folded = b - z sum_k w_k

    The weight is that of a linear layer [out, in] or of a convolution [out, C, k, k]; the zero point is from 0 to 255.

    >>> fold_zero_point(np.array([100, 0], np.int32), np.array([[1, 2], [-3, 3]], np.int8), 10)
    array([70,  0], dtype=int32)
    """
    layer = IntegerLayer(weight, np.float32(1), bias, _grid(int(zero_point)), None, "float_scale")
    return layer.accumulate(np.zeros((1, *weight.shape[1:]), np.uint8)).reshape(-1)  # the sum for codes of 0


fold_zero_point.case(
    "The zero point times the sum of a row's weights comes off.",
    np.array([100, 0], np.int32),
    np.array([[1, 2, 4], [-3, 3, -1]], np.int8),
    10,
    gives=[30, 10],
    likely="100 - 10 * 7, and 0 - 10 * -1",
)


@fold_zero_point.draw("the sum over every axis but the first", dtype=True)
def any_zero_point(rng):
    """Linear layers and convolutions of any size."""
    k = int(rng.integers(1, 4))
    weight = _any_weight(rng, (*rng.integers(1, 30, 2), *((k, k) if rng.random() < 0.5 else ())))
    zero_point = rng.integers(0, 256)
    return given(
        rng.integers(-9999, 9999, len(weight)).astype(np.int32), weight, rng.choice([int, np.uint8])(zero_point)
    )


@exercise(section="4. A zero point that is not zero", difficulty=2, size="five lines")
def integer_linear(codes, weight, bias, multiplier, input_zero_point, output_zero_point):  # uint8 [N, in] -> [N, out]
    """Return the uint8 codes that leave a linear layer: all sums in integers, one multiplication by a float32 each.

        acc = sum_k (x - z_x) w + b                   int32 [N, out]
        y = clip(round(acc M) + z_y, 0, 255)          acc and M as float32, halves to even

    weight : int8 (out, in)
    bias : int32 (out,)
    multiplier : float32 (out,), one for each output, or a single one
    input_zero_point, output_zero_point : integers from 0 to 255

    >>> weight, bias, multiplier = np.array([[2, -1]], np.int8), np.array([6], np.int32), np.float32([0.5])
    >>> integer_linear(np.array([[13, 10]], np.uint8), weight, bias, multiplier, 10, 100)
    array([[106]], dtype=uint8)
    """
    return _layer(weight, bias, multiplier, input_zero_point, output_zero_point).forward(codes)


integer_linear.case(
    "The input's zero point comes off, the bias is added to the sum, then multiplier, zero point, clip.",
    np.array([[12, 9, 10, 0], [255, 255, 0, 0]], np.uint8),
    np.array([[5, 1, 30, -2]], np.int8),
    np.array([3], np.int32),
    np.float32([0.5]),
    10,
    100,
    gives=[[116], [255]],
    dtype=np.uint8,
    likely="(12 - 10) * 5 + (9 - 10) * 1 + (0 - 10) * -2 + 3 is 32: in int32, as uint8 has no -1; clip before the cast",
)
integer_linear.case(
    "Halves go to even before the zero point is added.",
    np.arange(7, dtype=np.uint8)[:, None],
    np.array([[1]], np.int8),
    np.zeros(1, np.int32),
    np.float32([0.5]),
    0,
    5,
    gives=[[5], [5], [6], [7], [7], [7], [8]],
    likely="np.rint(0.5) + 5 is 5, np.rint(5.5) is 6",
)
integer_linear.case(
    "Sums beyond 2^24 are exact: the bias takes them back to small ones.",
    np.full((1, 1025), 255, np.uint8),
    np.full((1, 1025), 127, np.int8),
    np.array([77 - 1025 * 255 * 127], np.int32),
    ONE,
    0,
    0,
    gives=[[77]],
    likely="float32 products are exact up to 2^24 only, int16 wraps: sum in int32, the bias included",
)
integer_linear.case(
    "acc and M are float32, and so is their product: int32 * float32 is float64.",
    np.array([[50], [150]], np.uint8),
    np.array([[1]], np.int8),
    np.zeros(1, np.int32),
    np.float32([TRIPLE[0] * TRIPLE[1] / TRIPLE[2]]),
    0,
    0,
    gives=[[0], [2]],
    likely="acc.astype(np.float32) * multiplier",
)


@integer_linear.draw("each output has its own bias and multiplier, along the last axis", dtype=True)
def any_linear(rng):
    """Layers of any size, squares among them, sums near halves and beyond the codes."""
    N, outputs, inputs = [4, 4, 4] if rng.random() < 0.2 else rng.integers(1, 30, 3)
    return given(
        *_any_layer(rng, _any_weight(rng, (outputs, inputs)), rng.integers(0, 256, (N, inputs)).astype(np.uint8))
    )


@exercise(section="5. ReLU, pool, flatten: nothing left to compute", difficulty=1, size="one line")
def integer_relu(codes, zero_point):  # uint8 [...], integer -> uint8 [...]
    """Return the codes of max(value, 0), of codes whose zero point is that integer.

    A code stands for (code - zero_point) * scale, with a positive scale. No scale is needed.

    >>> integer_relu(np.array([0, 99, 100, 101, 255], np.uint8), 100)
    array([100, 100, 100, 101, 255], dtype=uint8)
    """
    return np.maximum(codes, np.uint8(zero_point))


integer_relu.case(
    "What lies below the zero point stands for a negative value, and becomes the code of 0.",
    np.array([[0, 113], [114, 255]], np.uint8),
    114,
    gives=[[114, 114], [114, 255]],
    dtype=np.uint8,
    likely="the code of the value 0 is the zero point, not 0",
)


@integer_relu.draw("nothing is shifted; uint8 stays uint8", dtype=True)
def any_relu(rng):
    """Codes of any shape, any zero point."""
    return given(rng.integers(0, 256, any_shape(rng)).astype(np.uint8), int(rng.choice([0, 255, rng.integers(256)])))


@exercise(section="5. ReLU, pool, flatten: nothing left to compute", difficulty=1, size="four lines")
def integer_max_pool(codes, size):  # uint8 [N, C, H, W], integer -> uint8 [N, C, H // size, W // size]
    """Return the largest code of each size x size window, side by side; rows and columns left over are dropped.

    >>> integer_max_pool(np.array([[[[1, 200, 3], [4, 5, 6]]]], np.uint8), 2)
    array([[[[200]]]], dtype=uint8)
    """
    return IntegerMaxPool2d(size).forward(codes)


integer_max_pool.case(
    "Windows lie side by side, and codes above 127 are large ones.",
    np.array([[[[1, 200, 7, 8, 99], [4, 5, 250, 6, 99]]]], np.uint8),
    2,
    gives=[[[[200, 250]]]],
    dtype=np.uint8,
    likely="reshape to (N, C, H // size, size, W // size, size); uint8 and not int8",
)


@integer_max_pool.draw("the maximum over the two axes inside a window; the end is cut off", dtype=True)
def any_pool(rng):
    """Images of any size, windows of one code, of the whole image, and ends that fill none."""
    size = int(rng.integers(1, 5))
    return given(rng.integers(0, 256, (*rng.integers(1, 4, 2), *rng.integers(size, 10, 2))).astype(np.uint8), size)


@exercise(
    section="4. A zero point that is not zero",
    difficulty=3,
    size="fifteen lines",
    task="A loop over the places of the window is fast enough; a loop over every single product is not.",
)
def integer_conv2d(  # uint8 [N, C, H, W], int8 [O, C, k, k] -> uint8 [N, O, H', W']
    codes, weight, bias, multiplier, input_zero_point, output_zero_point, *, stride=1, padding=0
):
    """Return the uint8 codes that leave a convolution: all sums in integers, one multiplication by a float32 each.

        acc[n, o, i, j] = sum_{c, u, v} (x[n, c, s i + u, s j + v] - z_x) w[o, c, u, v] + b[o]      int32
        y = clip(round(acc M[o]) + z_y, 0, 255)          acc and M as float32, halves to even

    The image is first given a border of `padding` rows and columns on every side that stand for the *value* 0.
    H' = (H + 2 padding - k) // stride + 1, and W' likewise. bias is int32 (O,), multiplier float32 (O,), the zero
    points are integers from 0 to 255.

    >>> codes, weight = np.array([[[[12, 10], [10, 11]]]], np.uint8), np.array([[[[1, 0], [0, 20]]]], np.int8)
    >>> integer_conv2d(codes, weight, np.array([4], np.int32), np.float32([0.5]), 10, 100)
    array([[[[113]]]], dtype=uint8)
    """
    return _layer(weight, bias, multiplier, input_zero_point, output_zero_point, stride, padding).forward(codes)


integer_conv2d.case(
    "The filter slides over rows and columns: x[i + u, j + v] * w[u, v], not turned around.",
    np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4),
    np.array([[[[1, 2], [3, 4]]]], np.int8),
    np.zeros(1, np.int32),
    ONE,
    0,
    0,
    gives=[[[[34, 44, 54], [74, 84, 94]]]],
    dtype=np.uint8,
    likely="H' = H - k + 1 and W' = W - k + 1: no transposed axes",
)
integer_conv2d.case(
    "The border stands for the value 0, whose code is the input's zero point.",
    np.array([[[[12]]]], np.uint8),
    np.ones((1, 1, 1, 1), np.int8),
    np.zeros(1, np.int32),
    ONE,
    10,
    100,
    padding=1,
    gives=[[[[100, 100, 100], [100, 102, 100], [100, 100, 100]]]],
    likely="pad rows and columns with input_zero_point: a code of 0 would stand for -z_x steps",
)
integer_conv2d.case(
    "Sums beyond 2^24 are exact: the bias takes them back to small ones.",
    np.full((1, 1025, 1, 1), 255, np.uint8),
    np.full((1, 1025, 1, 1), 127, np.int8),
    np.array([77 - 1025 * 255 * 127], np.int32),
    ONE,
    0,
    0,
    gives=[[[[77]]]],
    likely="float32 products are exact up to 2^24 only, int16 wraps: sum in int32, the bias included",
)
integer_conv2d.case(
    "acc and M are float32, and so is their product: int32 * float32 is float64; halves go to even.",
    np.array([[[[50, 150]]]], np.uint8),
    np.ones((1, 1, 1, 1), np.int8),
    np.zeros(1, np.int32),
    np.float32([TRIPLE[0] * TRIPLE[1] / TRIPLE[2]]),
    0,
    0,
    gives=[[[[0, 2]]]],
    likely="acc.astype(np.float32) * multiplier",
)


@integer_conv2d.draw(
    "multipliers and biases belong to axis 1: shape (O, 1, 1); pad first, then every stride-th window", dtype=True
)
def any_convolution(rng):
    """Images and filters of any size, strides of 1 to 3, borders of 0 to 2, sums near halves and beyond the codes."""
    k, stride, padding = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(3))
    N, C, O, more = map(int, rng.integers(1, 5, 4))
    H, W = rng.integers(max(k - 2 * padding, 1), max(k - 2 * padding, 1) + 2 * more + 1, 2)
    codes = rng.integers(0, 256, (N, C, H, W)).astype(np.uint8)
    arguments = _any_layer(rng, _any_weight(rng, (O, C, k, k)), codes)
    return given(
        *arguments[:3], np.broadcast_to(arguments[3], O).copy(), *arguments[4:], stride=stride, padding=padding
    )


@integer_conv2d.draw("a loop over every product is too slow", count=1)
def as_large_as_a_layer(rng):
    """The second layer of LeNet-5 for 40 images: 64 million products."""
    return given(
        *_any_layer(rng, _any_weight(rng, (50, 20, 5, 5)), rng.integers(0, 256, (40, 20, 12, 12)).astype(np.uint8))
    )


@integer_conv2d.unlocked("LeNet-5 in integers, its convolutions computed by you")
def convolves_in_lenet_5(integer_conv2d):
    data = load_mnist()
    network, labels = integer_network(trained("lenet_5"), data.train_images[:1000]), data.test_labels[:500]
    codes = network.quantize_input(data.test_images[:500])
    right, differ, count = network.trace(codes), 0, 0
    for layer, expected in zip(network.layers, right, strict=True):
        if isinstance(layer, IntegerLayer) and layer.weight.ndim == 4:
            zero_points = int(layer.input.zero_point), int(layer.output.zero_point)
            options = {"stride": layer.stride, "padding": layer.padding}
            codes = integer_conv2d(codes, layer.weight, layer.bias, layer.multiplier, *zero_points, **options)
        else:
            codes = layer.forward(codes)
        differ, count = differ + np.count_nonzero(codes != expected), count + codes.size
    wrong = np.count_nonzero(codes.argmax(axis=1) != labels)
    return (
        f"LeNet-5 in integers, its convolutions by your function: {wrong} of 500 test images misread\n"
        f"Of the {count:,} integers that leave its layers, {differ:,} differ from nnzip's."
    )
