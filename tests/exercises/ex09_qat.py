"""Chapter 09: the exercises and what grades them."""

import math

import numpy as np

from nnzip.book.grading import any_floats, any_shape, exercise, given
from nnzip.book.unlocking import in_place_of
from nnzip.compression import low_precision
from nnzip.compression import qat as reference
from nnzip.compression.quantization import Rounded, quantize_activations, quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.layers import Linear
from nnzip.nn.training import SGD, evaluate, random_shift
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams


@exercise(
    section="2. The straight-through estimator",
    difficulty=1,
    size="six lines",
    task="With one scale, or one for each index of qparams.axis; the codes end at qparams.qmin and qparams.qmax.",
)
def straight_through(x, qparams, grad_y):  # [...], [...] -> [...]
    """Return the gradient at the input of a rounding: it passes where x is not clipped, elsewhere it is 0.

    A number that is rounded to an end of the grid is not clipped. The gradient keeps its dtype.

    >>> grid = QuantParams(scale=0.5, zero_point=0, bits=3, signed=True, narrow=True)  # from -1.5 to 1.5
    >>> straight_through(np.array([-9.0, -1.7, 0.3]), grid, np.array([1.0, 2.0, 3.0])).tolist()
    [0.0, 2.0, 3.0]
    """
    return reference.straight_through(x, qparams, grad_y)


straight_through.case(
    "What is rounded to an end is not clipped: the border lies half a step beyond the last value.",
    np.array([-1.8, -1.7, -1.5, 0.0, 1.7, 1.8]),
    QuantParams(scale=0.5, zero_point=0, bits=3, signed=True, narrow=True),
    np.array([1.0, -2.0, 30.0, 4.0, 5.0, 6.0]),
    gives=[0.0, -2.0, 30.0, 4.0, 5.0, 0.0],
    likely="compare round(x / scale) + zero_point with qmin and qmax; it is the gradient that passes, not the mask",
)
straight_through.case(
    "Far outside is outside: no integer type may wrap.",
    np.array([64.0, -64.0, 2.0**30, -(2.0**62), 1e30, 0.25]),
    QuantParams(scale=0.25, zero_point=0, bits=4, signed=True),
    np.ones(6),
    gives=[0, 0, 0, 0, 0, 1],
    likely="256 steps, made int8, are 0: compare the rounded floats",
)


@straight_through.draw("reshape scale and zero_point to 1 everywhere but along the axis", dtype=True)
def any_rounding(rng):
    """Arrays of one to four axes, squares among them, any grid, numbers on its borders and beyond."""
    shape, bits, signed = any_shape(rng), int(rng.integers(2, 9)), bool(rng.random() < 0.5)
    axis = int(rng.integers(len(shape))) if rng.random() < 0.6 else None
    count = None if axis is None else shape[axis]
    scale, narrow = 2.0 ** rng.integers(-4, 3, count), signed and rng.random() < 0.5
    zero_point = 0 * rng.integers(1, 2, count) if narrow else rng.integers(-2, 2, count) + (0 if signed else 2)
    grid = QuantParams(scale, zero_point, bits, signed, narrow=narrow, axis=axis)
    along = [1] * len(shape)
    along[axis or 0] = -1 if count else 1
    steps = rng.integers(2 * grid.qmin - 6, 2 * grid.qmax + 7, shape) / 2 + rng.choice([0, 0.1], shape)
    x = (steps - np.reshape(grid.zero_point, along)) * np.reshape(grid.scale, along)
    dtype = rng.choice(["float32", "float64"])
    return given(x.astype(dtype), grid, any_floats(rng, shape, dtype=dtype))


@straight_through.unlocked("LeNet-300-100 with two-bit weights and inputs, trained on 10,000 images by your gradient")
def through_your_gradient(straight_through):
    network, data = trained("lenet_300_100"), load_mnist()
    part, test = (data.train_images[:10_000], data.train_labels[:10_000]), data[2:]
    after = quantize_activations(quantize_weights(network, bits=2, method="mse"), part[0][:1000], bits=2, method="mse")
    options = {"weight_bits": 2, "activation_bits": 2, "method": "straight_through", "epochs": 1, "rate": 0.03}
    with in_place_of(reference.straight_through, straight_through):
        left = reference.train_quantized(network, part, **options, augment=random_shift)
    errors = [evaluate(one, *test) for one in (after, left, network)]
    return (
        f"LeNet-300-100 with weights and inputs of two bits, test error: {errors[0]:.1%} rounded after training, "
        f"{errors[1]:.2%} after 79 batches through your gradient, {errors[2]:.2%} as floats"
    )


@exercise(section="3. Learned steps", difficulty=1, size="four lines")
def start_step(x, *, bits, signed, axis=None):  # [...] -> float32 number, or [C] with axis=0
    """Return the first step of a learned grid, 2 mean|x| / sqrt(Qp), in float32; 1 where all is 0.

    Qp is the largest code: 2^(bits-1) - 1 signed, 2^bits - 1 unsigned. axis is None, one step for all, or 0, one for
    each index of the first axis. The mean is worked out in float64.

    >>> start_step(np.array([[1.0, -3.0, 0.0, 2.0]]), bits=2, signed=True, axis=0)
    array([3.], dtype=float32)
    """
    return reference.start_step(x, bits=bits, signed=signed, axis=axis)


start_step.case(
    "With two signed bits the largest code is 1, so the step is 2 mean|x|.",
    np.array([1.0, -3.0, 0.0, 2.0]),
    bits=2,
    signed=True,
    gives=3.0,
    tolerance=1e-6,
    likely="magnitudes, all of them, zeros too; two signed bits are -1, 0, 1, so Qp is 1",
)
start_step.case(
    "Where all is 0, the step is 1: a step must be positive.",
    np.array([[0.0, 0.0, 0.0], [3.0, -3.0, 0.0]]),
    bits=2,
    signed=True,
    axis=0,
    gives=[1.0, 4.0],
    tolerance=1e-6,
    likely="x / step would be 0 / 0; only the row of zeros has the step 1",
)


@start_step.draw("the root of Qp divides; the mean over all axes but 0", ulps=4, dtype=True)
def any_start(rng):
    """Arrays of one to four axes, any width, signed or not, one step or one for each row."""
    x = any_floats(rng, any_shape(rng))
    return given(x, bits=int(rng.integers(2, 9)), signed=bool(rng.random() < 0.5), axis=[None, 0][rng.integers(2)])


@exercise(section="3. Learned steps", difficulty=2, size="eight lines", parts=("grad_x", "grad_step"))
def learned_step_gradients(x, step, grad_y, *, bits, signed):  # [...], number or [C], [...] -> [...], number or [C]
    """Return the gradients of y = round(clip(x / step, -Qn, Qp)) step at x and at the step.

        v = x / step            dy/dx        dy/dstep
        v <= -Qn                0            -Qn
        -Qn < v < Qp            1            round(v) - v
        Qp <= v                 0            Qp

    Qp is the largest code, 2^(bits-1) - 1 signed and 2^bits - 1 unsigned; Qn is Qp signed and 0 unsigned. Rounding is
    half to even. The step is a number, or an array of one for each index of the first axis; its gradient is the sum
    over all numbers that share it.

    >>> grad_x, grad_step = learned_step_gradients(np.array([0.3, 9.0]), 0.5, np.ones(2), bits=3, signed=True)
    >>> grad_x.tolist(), round(float(grad_step), 6)
    ([1.0, 0.0], 3.4)
    """
    return reference.learned_step_gradients(x, step, grad_y, bits=bits, signed=signed)


learned_step_gradients.case(
    "Inside, the slope along the step is round(v) - v; beyond an end it is the code, and x has none.",
    np.array([0.2, 0.3, 7.0, -7.0]),
    0.5,
    np.array([1.0, 10.0, 100.0, 1000.0]),
    bits=3,
    signed=True,
    gives=([1, 10, 0, 0], -0.4 + 4 + 300 - 3000),
    tolerance=1e-9,
    likely="v is 0.4 and 0.6: the difference in this order, times the gradient that comes in, summed, no mean",
)
learned_step_gradients.case(
    "At the ends exactly, x has no slope; of an unsigned grid 0 is such an end.",
    np.array([0.0, 0.1, 1.5, 1.7]),
    0.5,
    np.ones(4),
    bits=2,
    signed=False,
    gives=([0, 1, 0, 0], 0 - 0.2 + 3 + 3),
    tolerance=1e-9,
    likely="0 < v < Qp, of v before the rounding",
)


@learned_step_gradients.draw("reshape the steps to (C, 1, ...), and sum over all axes but the first", ulps=200)
def any_steps(rng):
    """Arrays of one to four axes, halves and ends among the numbers, one step or one for each row."""
    shape, bits, signed = any_shape(rng), int(rng.integers(2, 9)), bool(rng.random() < 0.5)
    step = 2.0 ** rng.integers(-4, 3, shape[0] if rng.random() < 0.6 else None)
    top = 2 ** (bits - signed)
    v = rng.integers(-2 * top - 4, 2 * top + 5, shape) / 2 + rng.choice([0, 0.1, -0.1], shape)
    x = v * (np.reshape(step, (-1, *[1] * (len(shape) - 1))) if np.ndim(step) else step)
    return given(x, step, any_floats(rng, shape, dtype=np.float64), bits=bits, signed=signed)


@exercise(section="5. Binary weights", difficulty=2, size="four lines", parts=("float weight", "binary weight"))
def binary_connect_step(weight, grad, rate):  # [C, ...], [C, ...], number -> [C, ...], [C, ...]
    """Return the float weight after one step of SGD, and the binary weight that the next forward pass computes with.

        w <- clip(w - rate grad, -1, 1)        b = sign(w) mean|w|, a mean for each index of the first axis

    The sign of 0 is +1. The gradient is the one at the binary weight that the last pass computed with, and moves the
    float weight as it is (straight-through): small steps add up there until a sign changes.

    >>> w, b = binary_connect_step(np.float32([[0.25, -0.5]]), np.float32([[1.0, -0.5]]), rate=0.5)
    >>> w.tolist(), b.tolist()
    ([[-0.25, -0.25]], [[-0.25, -0.25]])
    """
    moved = np.clip(weight - np.asarray(rate, weight.dtype) * grad, -1, 1)
    return moved, reference.Binary().forward(moved)


binary_connect_step.case(
    "The float weight takes the step and is clipped; the binary one has its signs and its mean magnitude.",
    np.float32([[0.75, -0.75, 0.5, -0.5], [0.5, -0.25, 0.75, 0.0]]),
    np.float32([[-4.0, 4.0, 0.0, 0.0], [1.0, -1.0, 4.0, 0.0]]),
    0.25,
    gives=([[1.0, -1.0, 0.5, -0.5], [0.25, 0, -0.25, 0]], [[0.75, -0.75, 0.75, -0.75], [0.125, 0.125, -0.125, 0.125]]),
    tolerance=1e-6,
    dtype=np.float32,
    likely="clip after the step and before the mean; np.sign(0) is 0: np.where(w < 0, -1, 1)",
)


@binary_connect_step.draw(
    "the mean over all axes but the first, with keepdims=True; a row of zeros has the scale 0", ulps=16, dtype=True
)
def any_binary(rng):
    """Weights of two to four axes, at the ends, at 0 and beyond."""
    shape = any_shape(rng, axes=(2, 4))
    weight = np.clip(rng.normal(size=shape), -1, 1) * (rng.random((shape[0], *[1] * (len(shape) - 1))) < 0.8)
    grad = rng.normal(scale=rng.choice([0.01, 10]), size=shape) * (rng.random(shape) < 0.5)
    return given(weight.astype(np.float32), grad.astype(np.float32), 2.0 ** -int(rng.integers(1, 6)))


@exercise(
    section="1. Two formats of sixteen bits",
    notebook="09b",
    difficulty=2,
    size="four lines",
    task="x is float32. x.view(np.uint32) are its bits: adding to them carries into the exponent by itself.",
)
def round_to_bfloat16(x):  # float32 [...] -> float32 [...]
    """Return x rounded to the nearest bfloat16, a tie to the even fraction, still as float32.

    A bfloat16 is a float32 without the last 16 bits of its fraction: a sign, 8 bits of exponent, 7 of fraction. What
    lies half a step or more above the largest is infinity; infinity and NaN stay what they are.

    >>> round_to_bfloat16(np.float32([1.0, 1.01, 3.14159])).tolist()
    [1.0, 1.0078125, 3.140625]
    """
    return low_precision.round_to_float(x, "bfloat16")


round_to_bfloat16.case(
    "Half-way between two it is the one whose last bit is 0; just below a power of two it is the power.",
    np.float32([1 + 1 / 256, 1 + 3 / 256, 257.0, -259.0, 1.999, 65535.0]),
    gives=[1.0, 1 + 4 / 256, 256.0, -260.0, 2.0, 65536.0],
    dtype=np.float32,
    likely="add 0x7FFF and the last bit that is kept: dropping the bits truncates, and a tie carries only at a 1",
)
round_to_bfloat16.case(
    "A NaN stays a NaN, whatever its fraction.",
    np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF, 0x7FC00000, 0x3F800000], np.uint32).view(np.float32),
    gives=[np.nan, np.nan, np.nan, np.nan, 1.0],
    likely="0x7FFFFFFF + 0x7FFF carries into the sign, and 0x7F800001 without its last bits is infinity",
)


@round_to_bfloat16.draw("8 significant bits of every number, as far down as 2^-133; arrays, no loop", dtype=True)
def any_bits(rng):
    """Numbers of all sizes, ties and the last of the dropped bits, infinities, a hundred thousand at once."""
    bits = rng.integers(0, 2**32, any_shape(rng) if rng.random() < 0.8 else 100_000, dtype=np.uint32)
    bits = np.where(rng.random(bits.shape) < 0.5, (bits & 0xFFFF0000) + rng.choice([0x7FFF, 0x8000, 0x8001]), bits)
    x = bits.astype(np.uint32).view(np.float32)
    return given(np.where(np.isnan(x), np.float32(np.inf), x))


@exercise(
    section="3. The gradient that is lost",
    notebook="09b",
    difficulty=2,
    size="ten lines",
    parts=("weights", "scale", "good"),
)
def scaled_sgd_step(weights, grads, scale, good, *, rate, interval):
    """Return the weights, the loss scale and the count of good steps after one step of SGD with loss scaling.

        every gradient finite    w <- w - rate grad / scale, in float32; good <- good + 1, and where that is `interval`
                                 scale <- 2 scale and good <- 0
        one of them is not       no weight changes; scale <- scale / 2 and good <- 0

    weights : list of float32 arrays, the masters
    grads : list of float16 arrays of the same shapes, the gradients of scale times the loss; may hold infinity and NaN
    scale : float, a power of two
    good : int, how many steps without overflow came since the scale last changed

    >>> w, g = [np.float32([1.0])], [np.float16([32.0])]
    >>> scaled_sgd_step(w, g, 64.0, 4, rate=0.5, interval=5)
    ([array([0.75], dtype=float32)], 128.0, 0)
    """
    loss_scale = low_precision.LossScale(scale, interval=interval)
    loss_scale.good = good
    optimizer = low_precision.ScaledSGD(rate, loss_scale, format="float16", momentum=0.0)
    held = {f"{i}": weight.copy() for i, weight in enumerate(weights)}
    optimizer.step(held, {f"{i}": grad.astype(np.float32) for i, grad in enumerate(grads)})
    return list(held.values()), loss_scale.scale, loss_scale.good


scaled_sgd_step.case(
    "The gradients are divided by the scale, and the step that completes a run doubles it afterwards.",
    [np.float32([[1.0, 2.0, -3.0]]), np.float32([0.5])],
    [np.float16([[32.0, -16.0, 0.0]]), np.float16([8])],
    64.0,
    4,
    rate=0.5,
    interval=5,
    gives=([np.float32([[0.75, 2.125, -3.0]]), np.float32([0.4375])], 128.0, 0),
    likely="w - rate grad / scale with the old scale; good + 1 is 5",
)
scaled_sgd_step.case(
    "One infinite gradient in any of the arrays: all weights stay, the scale is halved, also at the end of a run.",
    [np.float32([0.5, 0.5]), np.float32([1, 2])],
    [np.float16([1.0, 1.0]), np.float16([1.0, -np.inf])],
    64.0,
    4,
    rate=0.5,
    interval=5,
    gives=([np.float32([0.5, 0.5]), np.float32([1, 2])], 32.0, 0),
    likely="np.isfinite of every array before any weight moves",
)
scaled_sgd_step.case(
    "65504 is the largest float16 and no overflow.",
    [np.float32([0.0, 0.0])],
    [np.float16([65504, -65504])],
    32.0,
    0,
    rate=1.0,
    interval=1000,
    gives=([np.float32([-2047.0, 2047.0])], 32.0, 1),
)
scaled_sgd_step.case(
    "60000 and 60000 are finite, and their sum in float16 is not.",
    [np.float32([0.0, 0.0])],
    [np.float16([60000, 60000])],
    32.0,
    0,
    rate=1.0,
    interval=1000,
    gives=([np.float32([-1875, -1875])], 32.0, 1),
    likely="np.isfinite(grad).all(), not np.isfinite(grad.sum())",
)


@scaled_sgd_step.draw(
    "weight, step and scale are float32 or wider: float16(2^20) is infinity, 2^-20 / 2^10 is 0", ulps=4
)
def any_scaled(rng):
    """Networks of any number of arrays, scales from 2^-4 to 2^24, gradients of every size, some not finite."""
    shapes = [any_shape(rng, axes=(1, 2)) for _ in range(rng.integers(1, 4))]
    weights = [np.float32(rng.choice([0, 1])) * any_floats(rng, shape, dtype=np.float32) for shape in shapes]
    grads = [(any_floats(rng, shape) * 10 ** rng.uniform(-6, 1)).astype(np.float16) for shape in shapes]
    if rng.random() < 0.3:
        grads[rng.integers(len(grads))].flat[-1] = rng.choice([np.inf, -np.inf, np.nan])
    interval, rate = int(rng.integers(1, 5)), float(rng.choice([0.5, 0.1]))
    return given(
        weights, grads, 2.0 ** int(rng.integers(-4, 25)), int(rng.integers(interval)), rate=rate, interval=interval
    )


@exercise(
    section="4. Activations too",
    difficulty=3,
    size="fifteen lines",
    task="Your own learned_step_gradients of this file may be called.",
    parts=("weight", "weight_step", "input_step"),
)
def train_rounded_linear(x, target, weight, weight_step, input_step, *, weight_bits, input_bits, rate, iterations):
    """Return weight, weight_step and input_step of a linear layer after so many iterations of gradient descent.

        L = sum (x_hat w_hat^T - target)^2 / (2 N)
        x_hat = round(clip(x / input_step, 0, 2^input_bits - 1)) input_step
        w_hat = round(clip(weight / weight_step, -Qp, Qp)) weight_step        Qp = 2^(weight_bits-1) - 1

    Each row of the weight has a step of its own. In each iteration all three move at once, p <- p - rate dL/dp, by the
    gradients of `learned_step_gradients` at x_hat and w_hat. Those of the steps are first multiplied by
    1 / sqrt(in Qp), with the Qp of weights or of inputs (2^input_bits - 1): `in` weights share a weight_step, and `in`
    numbers of one image the input_step.

    x : float64 (N, in), nowhere negative
    target : float64 (N, out)
    weight : float64 (out, in)
    weight_step : float64 (out,)
    input_step : float; neither kind of step comes near 0 on the way

    >>> x, target, weight = np.array([[2.25]]), np.array([[0.0]]), np.array([[0.3]])
    >>> grid = {"weight_bits": 3, "input_bits": 2, "rate": 0.1, "iterations": 1}
    >>> w, w_step, x_step = train_rounded_linear(x, target, weight, np.array([0.5]), 1.0, **grid)
    >>> w.round(6).tolist(), w_step.round(6).tolist(), float(x_step.round(6))  # x_hat 2, w_hat 0.5, dL/dy 1
    ([[0.1]], [0.453812], 1.007217)
    """
    layer = Linear(weight.shape[1], weight.shape[0])
    layer.params |= {"weight": weight.copy()}
    of_weight = reference.LearnedStep(layer.params, "weight_step", weight, bits=weight_bits, signed=True, axis=0)
    of_input = reference.LearnedStep(layer.params, "input_step", x, bits=input_bits, signed=False)
    whole = Rounded(layer, weight=of_weight, input=of_input)
    moved = {"weight": whole.params["weight"], "weight_step": np.array(weight_step, np.float64)}
    moved["input_step"] = np.array(input_step, np.float64)
    whole.params.update(moved)
    for _ in range(iterations):
        whole.backward((whole.forward(x) - target) / len(x))
        SGD(rate, momentum=0.0).step(moved, whole.grads)
    return moved["weight"], moved["weight_step"], moved["input_step"][()]


train_rounded_linear.case(
    "One weight, one input: x_hat is 2, w_hat 0.5, dL/dw_hat 2, dL/dx_hat 0.5.",
    np.array([[2.25]]),
    np.array([[0.0]]),
    np.array([[0.3]]),
    np.array([0.5]),
    1.0,
    weight_bits=3,
    input_bits=2,
    rate=0.1,
    iterations=1,
    gives=([[0.1]], [0.5 - 0.1 * 2 * 0.4 / math.sqrt(3)], 1 + 0.1 * 0.5 * 0.25 / math.sqrt(3)),
    tolerance=1e-12,
    likely="the gradients are those at the rounded weight and input; round(v) - v is 1 - 0.6 and 2 - 2.25",
)
train_rounded_linear.case(
    "A clipped weight gets no gradient, its step gets the code as slope; so does a clipped input's step.",
    np.array([[9.0]]),
    np.array([[0.0]]),
    np.array([[-4.0]]),
    np.array([0.5]),
    1.0,
    weight_bits=2,
    input_bits=2,
    rate=0.1,
    iterations=1,
    gives=([[-4.0]], [0.5 - 0.1 * 4.5], 1 - 0.1 * 2.25 / math.sqrt(3)),
    tolerance=1e-12,
    likely="two signed bits are -1, 0, 1, so Qp is 1; two unsigned bits are 0 to 3",
)


@train_rounded_linear.draw(
    "a mean over the images; each row sums over its own weights; 1 / sqrt(in Qp) counts neither images nor outputs",
    ulps=1e5,
)
def any_rounded_layer(rng):
    """Layers of any size and width, squares among them, none to six iterations."""
    N, features, outputs = [3, 3, 3] if rng.random() < 0.2 else rng.integers(1, 5, 3)
    x, weight = rng.uniform(0, 3, (N, features)), rng.normal(size=(outputs, features))
    target = x @ (weight + 0.5 * rng.normal(size=weight.shape)).T
    widths = {"weight_bits": int(rng.choice([2, 3, 8])), "input_bits": int(rng.choice([2, 4, 8]))}
    return given(
        x, target, weight, rng.uniform(0.4, 0.9, outputs), 0.2, **widths, rate=0.02, iterations=int(rng.integers(7))
    )
