"""Chapter 09: the exercises and what grades them."""

import itertools
import math
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book.exercises import in_place_of
from nnzip.book.grading import Exercise, Wrong, expect
from nnzip.compression import low_precision
from nnzip.compression import qat as reference
from nnzip.compression.quantization import Grid, Rounded, quantize_activations, quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.layers import Linear
from nnzip.nn.network import lenet_300_100, weights_of
from nnzip.nn.training import SGD, cross_entropy, evaluate, fit
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams

BATCH = 128


def _first_images(count=10_000):
    data = load_mnist()
    return data.train_images[:count], data.train_labels[:count]


def _top(bits, signed):
    return 2 ** (bits - 1) - 1 if signed else 2**bits - 1


passes = Exercise(
    reference.straight_through,
    section="2. The straight-through estimator",
    difficulty=1,
    size="six lines",
    task="With one scale, or one for each index of qparams.axis; never with groups. qparams.qmin and qparams.qmax are "
    "the ends of the codes.",
    unlocks="LeNet-300-100 with two-bit weights and inputs, trained on 10,000 images through your gradient",
)


@passes.check
def inside_passes(straight_through):
    """The gradient passes where the code lies on the grid, and is 0 beyond its ends."""
    grid = QuantParams(scale=0.5, zero_point=0, bits=3, signed=True, narrow=True)  # -1.5 .. 1.5
    x, grad = np.array([-9.0, -1.2, -0.3, 0.0, 0.7, 9.0]), np.array([1.0, -2.0, 30.0, 4.0, 5.0, 6.0])
    likely = "it is the gradient that passes, as it is: not the mask, not x; and 0 where x was clipped"
    expect(straight_through(x, grid, grad), [0.0, -2.0, 30.0, 4.0, 5.0, 0.0], likely)


@passes.check
def the_rounding_decides(straight_through):
    """What is rounded to an end is not clipped: the border lies half a step beyond the last value."""
    grid = QuantParams(scale=0.5, zero_point=0, bits=3, signed=True, narrow=True)  # codes -3 .. 3
    x = np.array([-1.8, -1.7, -1.5, 1.5, 1.7, 1.8])  # -3.6, -3.4, -3, 3, 3.4, 3.6 steps
    likely = "compare round(x / scale) + zero_point with qmin and qmax, which pass themselves"
    expect(straight_through(x, grid, np.ones(6)), [0, 1, 1, 1, 1, 0], likely)


@passes.check
def a_zero_point(straight_through):
    """The zero point moves the range: here the values are -2 .. 5."""
    grid = QuantParams(scale=1.0, zero_point=2, bits=3, signed=False)
    x = np.array([-7.0, -2.6, -2.4, 0.0, 5.4, 5.6, 7.0])
    expect(straight_through(x, grid, np.ones(7)), [0, 0, 1, 1, 1, 0, 0], "round(x / scale) + zero_point, qmin to qmax")


@passes.check
def full_grids(straight_through):
    """A grid that is not narrow has one code more below zero."""
    x, grad = np.array([-4.4, -3.4, 3.4, 4.4]), np.array([1.0, 2.0, 3.0, 4.0])
    for narrow, right in ((False, [1, 2, 3, 0]), (True, [0, 2, 3, 0])):
        grid = QuantParams(scale=1.0, zero_point=0, bits=3, signed=True, narrow=narrow)
        expect(straight_through(x, grid, grad), right, f"here qmin is {grid.qmin} and qmax is {grid.qmax}")


@passes.check
def ties_on_the_border(straight_through):
    """Half-way beyond an end it is the rounding to even, before the zero point, that decides."""
    grid = QuantParams(scale=2.0, zero_point=1, bits=3, signed=False)  # codes 0 .. 7 of -1 .. 6 steps
    likely = "6.5 steps round to 6, and 6 + 1 is a code; -1.5 steps round to -2, and -2 + 1 is none"
    expect(straight_through(np.array([-3.0, -2.9, 13.0, 13.1]), grid, np.ones(4)), [0, 1, 1, 0], likely)


@passes.check
def far_away(straight_through):
    """Far outside is outside: no integer type may wrap."""
    grid = QuantParams(scale=0.25, zero_point=0, bits=4, signed=True)
    x = np.array([64.0, -64.0, 2.0**30, -(2.0**62), 1e30, 0.25])
    likely = "256 steps, made int8, are 0: compare the rounded floats"
    expect(straight_through(x, grid, np.ones(6)), [0, 0, 0, 0, 0, 1], likely)


@passes.check
def a_scale_for_each_row_or_column(straight_through):
    """With an axis every index of it has its own scale and zero point, of a square array too."""
    x = np.array([[-3.0, 1.0, 3.0], [-3.0, 1.0, 3.0], [-25.0, 14.0, 36.0]])
    grad = np.arange(1.0, 10.0).reshape(3, 3)
    ends = np.array([[-1.5, 1.5], [-0.5, 2.5], [-15.0, 15.0]])  # half a step outside of codes -1 .. 1 times the scale
    for axis in (0, 1):
        grid = QuantParams([1.0, 1.0, 10.0], [0, -1, 0], 2, True, narrow=True, axis=axis)
        low, high = ends[:, 0], ends[:, 1]
        low, high = (low[:, None], high[:, None]) if axis == 0 else (low, high)
        likely = f"axis={axis}: reshape scale and zero_point to 1 everywhere but along the axis"
        expect(straight_through(x, grid, grad), np.where((x > low) & (x < high), grad, 0), likely)


@passes.check
def filters(straight_through):
    """The axis may be any of four."""
    x = np.full((2, 3, 1, 2), 4.0)
    grid = QuantParams([1.0, 2.0, 4.0], [0, 0, 0], 2, True, narrow=True, axis=1)
    right = np.zeros((2, 3, 1, 2))
    right[:, 2] = 1.0
    expect(straight_through(x, grid, np.ones_like(x)), right, "4.0 is 4, 2 and 1 steps: only the last is a code")


@passes.check
def slopes_of_the_clipping(straight_through):
    """It is the slope of clip(x, lo, hi), with lo and hi half a step outside: finite differences say so."""
    rng = np.random.default_rng(0)
    x, grad = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    e = 1e-7
    for zero_point in (0, 3, 12):
        grid = QuantParams(0.125, zero_point, 4, signed=False)
        low, high = 0.125 * (-zero_point - 0.5), 0.125 * (15 - zero_point + 0.5)
        slope = (np.clip(x + e, low, high) - np.clip(x - e, low, high)) / (2 * e)
        expect(straight_through(x, grid, grad), grad * slope, "see the docstring's formula", tolerance=1e-6)


@passes.check
def float32_stays(straight_through):
    """A float32 gradient stays float32."""
    grid = QuantParams(scale=1.0, zero_point=0, bits=2, signed=True)
    expect(straight_through(np.float32([0.5, 7]), grid, np.float32([2, 2])), [2, 0], dtype=np.float32)


@passes.unlocked
def through_your_gradient(straight_through):
    network, test, data = trained("lenet_300_100"), load_mnist()[2:], _first_images()
    after = quantize_activations(quantize_weights(network, bits=2, method="mse"), data[0][:1000], bits=2, method="mse")
    with in_place_of(reference.straight_through, straight_through):
        left = reference.train_quantized(
            network,
            data,
            weight_bits=2,
            activation_bits=2,
            method="straight_through",
            epochs=1,
            rate=0.03,
            progress=False,
        )
    errors = [evaluate(one, *test) for one in (after, left, network)]
    return (
        f"LeNet-300-100 with weights and inputs of two bits errs on {errors[0]:.1%} of the test images when it is "
        f"rounded after training, on {errors[1]:.2%} after 79 batches through your gradient, and as floats on "
        f"{errors[2]:.2%}."
    )


start = Exercise(
    reference.start_step,
    section="3. Learned steps",
    difficulty=1,
    size="four lines",
    task="Qp is the largest code: 2^(bits-1) - 1 signed, 2^bits - 1 unsigned. With axis=None and axis=0.",
    unlocks="what your first steps are worth before any training, beside grids of least squared error",
)


@start.check
def two_mean_magnitudes(start_step):
    """With two signed bits the largest code is 1, so the step is 2 mean|x|."""
    got = start_step(np.array([1.0, -3.0, 0.0, 2.0]), bits=2, signed=True)
    likely = "2 mean|x| / sqrt(Qp): magnitudes, all of them, zeros too; two signed bits are -1, 0, 1, so Qp is 1"
    expect(got, 3.0, likely, tolerance=1e-6)


@start.check
def the_root_of_the_largest_code(start_step):
    """More codes make a smaller step, by the root of the largest."""
    x = np.array([1.5, -0.5, 1.0, -1.0])  # mean|x| is 1
    for bits, signed, top in (
        (3, True, 3),
        (4, True, 7),
        (8, True, 127),
        (2, False, 3),
        (4, False, 15),
        (8, False, 255),
    ):
        likely = f"Qp is {top}: a signed grid is symmetric, an unsigned one begins at 0; its root divides"
        expect(start_step(x, bits=bits, signed=signed), 2 / math.sqrt(top), likely, tolerance=1e-6)


@start.check
def one_step_for_an_array(start_step):
    """With axis=None an array of any shape has one step."""
    x = np.array([[1.0, 2.0, 3.0], [-4.0, -5.0, -9.0]])
    expect(start_step(x, bits=2, signed=True), 8.0, "the mean over everything, one number", tolerance=1e-6)
    expect(start_step(np.array([-0.5]), bits=2, signed=True, axis=None), 1.0, tolerance=1e-6)


@start.check
def a_step_for_each_row(start_step):
    """With axis=0 every row has its own, and a filter's numbers lie along three axes."""
    x = np.array([[1.0, -1.0], [2.0, 4.0], [0.0, -0.5]])
    expect(start_step(x, bits=2, signed=True, axis=0), [2.0, 6.0, 0.5], "the mean over all axes but 0", tolerance=1e-6)
    x = np.arange(16.0).reshape(2, 2, 1, 4)
    expect(start_step(x, bits=2, signed=True, axis=0), [7.0, 23.0], "the mean over all axes but 0", tolerance=1e-6)


@start.check
def zeros(start_step):
    """Where all is 0, the step is 1: a step must be positive."""
    expect(start_step(np.zeros((2, 3)), bits=4, signed=False), 1.0, "x / step would be 0 / 0")
    got = start_step(np.array([[0.0, 0.0, 0.0], [3.0, -3.0, 0.0]]), bits=2, signed=True, axis=0)
    expect(got, [1.0, 4.0], "only the row of zeros has the step 1", tolerance=1e-6)


@start.check
def float32_steps(start_step):
    """Steps are float32, as the weights are."""
    x = np.array([[1.0, 2.0, 3.0]])
    expect(start_step(x, bits=2, signed=True, axis=0), [4.0], ".astype(np.float32)", tolerance=1e-6, dtype=np.float32)
    expect(start_step(x, bits=2, signed=True), 4.0, ".astype(np.float32)", tolerance=1e-6, dtype=np.float32)


@start.unlocked
def first_steps(start_step):
    network, test = trained("lenet_300_100"), load_mnist()[2:]
    lines = ["LeNet-300-100, a step for each neuron, weights rounded and not trained, 10,000 test images:"]
    for bits in (2, 3, 4, 8):
        rounded = network.copy()
        for weight in weights_of(rounded).values():
            step = start_step(weight, bits=bits, signed=True, axis=0)
            weight[...] = reference.learned_step(weight, step, bits=bits, signed=True)
        best = quantize_weights(network, bits=bits, method="mse")
        errors = evaluate(rounded, *test), evaluate(best, *test)
        lines.append(f"  {bits} bits: your first steps {errors[0]:.2%}, least squared error {errors[1]:.2%}")
    return "\n".join(lines)


steps = Exercise(
    reference.learned_step_gradients,
    section="3. Learned steps",
    difficulty=2,
    size="eight lines",
    task="Qp is the largest code, 2^(bits-1) - 1 signed and 2^bits - 1 unsigned; Qn is Qp signed and 0 unsigned. step "
    "is a number, or an array of one for each index of the first axis.",
    unlocks="the curve of your gradient, and a network's steps before and after training by it",
)


@steps.check
def inside(learned_step_gradients):
    """Inside, the slope along the step is round(v) - v, and x has slope 1."""
    for x, code in ((0.2, 0), (0.3, 1), (-0.7, -1), (1.1, 2)):
        got = learned_step_gradients(np.array([x]), 0.5, np.array([1.0]), bits=3, signed=True)
        expect(
            got,
            (np.array([1.0]), code - x / 0.5),
            f"v = x / step is {x / 0.5:g}, round(v) is {code}: their difference, in this order",
            tolerance=1e-9,
        )


@steps.check
def beyond_the_ends(learned_step_gradients):
    """Beyond an end the value is a code times the step: its slope is the code, and x has none."""
    for x, bits, signed, code in ((7.0, 3, True, 3), (-7.0, 3, True, -3), (9.0, 2, False, 3), (-9.0, 2, False, 0)):
        got = learned_step_gradients(np.array([x]), 0.5, np.array([1.0]), bits=bits, signed=signed)
        likely = f"clipped to the code {code}: signed codes are symmetric, unsigned ones begin at 0"
        expect(got, (np.array([0.0]), float(code)), likely)


@steps.check
def the_chain_rule(learned_step_gradients):
    """Both are multiplied by the gradient that comes in, and the step's is summed over all that share it."""
    x, grad = np.array([[0.25, -7.0, 0.75], [7.0, -0.75, 0.25]]), np.array([[2.0, -1.0, 8.0], [0.5, 0.0, 4.0]])
    # v: 0.25, -7, 0.75; 7, -0.75, 0.25: slopes -0.25, -3, 0.25; 3, -0.25, -0.25
    got = learned_step_gradients(x, 1.0, grad, bits=3, signed=True)
    right = np.array([[2.0, 0.0, 8.0], [0.0, 0.0, 4.0]]), -0.5 + 3 + 2 + 1.5 - 1
    expect(got, right, "sum(grad_y * slope): a sum and no mean, and no gradient scale", tolerance=1e-12)


@steps.check
def at_the_ends(learned_step_gradients):
    """At -Qn and Qp exactly, x has no slope; of an unsigned grid 0 is such an end."""
    x = np.array([-1.5, -1.4, 1.4, 1.5, 1.6])
    got, _ = learned_step_gradients(x, 0.5, np.ones(5), bits=3, signed=True)
    expect(got, [0, 1, 1, 0, 0], "-Qn < v < Qp, of v before the rounding")
    got, _ = learned_step_gradients(np.array([0.0, 0.1, 1.5, 1.7]), 0.5, np.ones(4), bits=2, signed=False)
    expect(got, [0, 1, 0, 0], "0 < v < Qp")


@steps.check
def ties(learned_step_gradients):
    """The rounding is half to even: 0.5, 1.5 and 2.5 go to 0, 2 and 2."""
    for v, slope in ((0.5, -0.5), (1.5, 0.5), (2.5, -0.5), (-0.5, 0.5), (-1.5, -0.5)):
        _, got = learned_step_gradients(np.array([0.25 * v]), 0.25, np.array([1.0]), bits=4, signed=True)
        expect(got, slope, "np.rint")


@steps.check
def a_gradient_for_each_row(learned_step_gradients):
    """With a step for each row there is a gradient for each row."""
    x, grad = np.array([[0.25, 9.0, -0.75], [2.5, 90.0, -7.5]]), np.array([[1.0, 2.0, 4.0], [8.0, 0.0, 0.0]])
    got = learned_step_gradients(x, np.array([1.0, 10.0]), grad, bits=2, signed=True)
    right = np.array([[1.0, 0.0, 4.0], [8.0, 0.0, 0.0]]), np.array([-0.25 + 2 - 1, -2.0])
    expect(got, right, "step[:, None], and sums over all axes but the first", tolerance=1e-12)


@steps.check
def filters_have_four_axes(learned_step_gradients):
    """A filter's weights lie along three axes, and its gradient is one number."""
    x = np.full((3, 2, 1, 2), 0.3)
    step = np.array([1.0, 0.1, 0.4])  # v: 0.3; 3, beyond; 0.75
    got = learned_step_gradients(x, step, np.ones_like(x), bits=2, signed=True)
    right = np.ones_like(x), 4 * np.array([-0.3, 1.0, 0.25])
    right[0][1] = 0.0
    expect(got, right, "reshape the steps to (C, 1, 1, 1), and sum over axes 1, 2, 3", tolerance=1e-9)


@steps.check
def finite_differences(learned_step_gradients):
    """Both are the slopes of step (clip(v) + r), with r = round(clip(v)) - clip(v) held as it is."""
    e = 1e-6
    for seed, (bits, signed) in enumerate(itertools.product((2, 3, 8), (True, False))):
        rng, high = np.random.default_rng(seed), _top(bits, signed)
        low = -high if signed else 0
        step = np.array([0.3, 0.75, 2.0])
        v = np.floor(rng.uniform(low - 2, high + 2, (3, 4))) + rng.uniform(0.1, 0.4, (3, 4))
        x, grad = v * step[:, None], rng.normal(size=(3, 4))
        r = np.rint(np.clip(v, low, high)) - np.clip(v, low, high)

        def y(x, step, low=low, high=high, r=r):
            return step[:, None] * (np.clip(x / step[:, None], low, high) + r)

        slope_x = (y(x + e, step) - y(x - e, step)) / (2 * e)
        slope_step = (y(x, step + e) - y(x, step - e)) / (2 * e)
        right = grad * slope_x, np.sum(grad * slope_step, axis=1)
        got = learned_step_gradients(x, step, grad, bits=bits, signed=signed)
        expect(got, right, "the formulas of the docstring, element by element", tolerance=1e-5)


@steps.unlocked
def curve_and_steps(learned_step_gradients):
    x = np.linspace(-5, 5, 401)
    slopes = [learned_step_gradients(x[i : i + 1], 1.0, np.ones(1), bits=3, signed=True)[1] for i in range(len(x))]
    network, data, grid = trained("lenet_300_100"), _first_images(), {"weight_bits": 2, "activation_bits": 2}
    student = reference.rounded_in_training(network, data[0][:1000], **grid)
    before = {name: p.copy() for name, p in student.parameters().items() if name.endswith("weight_step")}
    with in_place_of(reference.learned_step_gradients, learned_step_gradients):
        fit(student, data, epochs=2, batch_size=BATCH, optimizer=SGD(0.03), progress=False)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(x, slopes)
    left.set(xlabel="x / step", ylabel="slope along the step", title="your gradient, 3 signed bits")
    for i, (name, steps) in enumerate(before.items()):
        right.plot(steps, student.parameters()[name], ".", label=f"layer {i + 1}")
    ends = [min(map(np.min, before.values())), max(map(np.max, before.values()))]
    right.plot(ends, ends, "k:", linewidth=1)
    error = evaluate(student, *load_mnist()[2:])
    right.set(
        xlabel="step at the start",
        ylabel="step after training",
        title=f"2 bits, 2 epochs of 10,000 images: {error:.2%}",
    )
    right.legend()
    plt.close(figure)
    return figure


def binary_connect_step(weight, grad, rate):  # [C, ...], [C, ...], number -> [C, ...], [C, ...]
    """Return the float weight after one step of SGD, and the binary weight that the next forward pass computes with.

        w <- clip(w - rate grad, -1, 1)        b = sign(w) mean|w|, a mean for each index of the first axis

    The sign of 0 is +1. The gradient is the one at the binary weight that the last pass computed with, and moves the
    float weight as it is (straight-through): small steps add up there until a sign changes.

    Examples
    --------
    >>> w, b = binary_connect_step(np.float32([[0.25, -0.5]]), np.float32([[1.0, -0.5]]), rate=0.5)
    >>> w.tolist(), b.tolist()
    ([[-0.25, -0.25]], [[-0.25, -0.25]])
    """
    layer = Linear(1, 1)
    layer.params["weight"] = weight.copy()
    SGD(rate, momentum=0.0).step({"weight": layer.params["weight"]}, {"weight": grad})
    binary = reference.Binary().forward(layer.params["weight"])
    return layer.params["weight"], binary


binary = Exercise(
    binary_connect_step,
    section="5. Binary weights",
    difficulty=2,
    size="four lines",
    unlocks="LeNet-300-100 with one-bit weights, trained on 10,000 images by your steps",
)


def _float_and_binary(got, weight, signed, likely=""):
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Wrong(f"got:      {type(got).__name__}\nexpected: two arrays, the float weight and the binary one")
    expect(
        got[0],
        weight,
        f"float weight: {likely or 'w - rate grad, from the float weight, then clipped'}",
        tolerance=1e-6,
    )
    hint = "binary weight: sign(w) times mean|w| of the row, both of the weight after the step"
    expect(got[1], signed, f"binary weight: {likely}" if likely else hint, tolerance=1e-6)


@binary.check
def a_step_and_its_signs(binary_connect_step):
    """The float weight takes the step, the binary one has its signs and its mean magnitude."""
    w, grad = np.float32([[0.5, -0.25, 0.75]]), np.float32([[0.5, -0.5, 2.0]])
    _float_and_binary(
        binary_connect_step(w, grad, 0.5), np.float32([[0.25, 0.0, -0.25]]), np.float32([[0.5, 0.5, -0.5]]) / 3
    )


@binary.check
def kept_in_the_unit_interval(binary_connect_step):
    """The float weight is kept in [-1, 1], and the mean is taken of what is kept."""
    w, grad = np.float32([[0.75, -0.75, 0.5, -0.5]]), np.float32([[-4.0, 4.0, 0.0, 0.0]])
    right = np.float32([[1.0, -1.0, 0.5, -0.5]]), np.float32([[0.75, -0.75, 0.75, -0.75]])
    likely = (
        "clip after the step and before the mean: without it a weight drifts so far that no gradient turns its sign"
    )
    _float_and_binary(binary_connect_step(w, grad, 0.25), *right, likely)


@binary.check
def back_from_the_end(binary_connect_step):
    """A weight at 1 may come back: its gradient passes too."""
    w, grad = np.float32([[1.0, -1.0]]), np.float32([[1.0, -2.0]])
    right = np.float32([[0.75, -0.5]]), np.float32([[0.625, -0.625]])
    _float_and_binary(binary_connect_step(w, grad, 0.25), *right, "only the weight is clipped, no gradient is masked")


@binary.check
def a_mean_for_each_row(binary_connect_step):
    """Every row has its own scale."""
    w = np.float32([[0.5, -0.5, 0.25, -0.25], [0.125, 0.125, -0.125, -0.125]])
    right = w, np.float32([[0.375, -0.375, 0.375, -0.375], [0.125, 0.125, -0.125, -0.125]])
    likely = "the mean over all axes but the first, with keepdims=True"
    _float_and_binary(binary_connect_step(w, np.zeros_like(w), 0.5), *right, likely)


@binary.check
def filters_too(binary_connect_step):
    """A filter's weights lie along three axes, and it has one scale."""
    w = np.zeros((3, 2, 2, 1), np.float32)
    w[0, 0], w[1, 1, 0], w[2] = -0.5, 1.0, 0.25
    b = np.full((3, 2, 2, 1), 0.25, np.float32)
    b[0, 0] = -0.25
    _float_and_binary(binary_connect_step(w, np.zeros_like(w), 1.0), w, b, "the mean over axes 1, 2 and 3")


@binary.check
def a_row_of_zeros(binary_connect_step):
    """A row of zeros is binary too: its scale is 0, without a NaN."""
    w = np.float32([[0.0, 0.0], [0.5, -0.5]])
    _float_and_binary(binary_connect_step(w, np.zeros_like(w), 1.0), w, w, "sign(w) mean|w|: nothing is divided by")


@binary.check
def zero_is_positive(binary_connect_step):
    """There is no third code: the sign of 0 is +1."""
    w = np.float32([[0.0, -1.0, 0.5, 0.5]])
    got = binary_connect_step(w, np.zeros_like(w), 1.0)
    _float_and_binary(got, w, np.float32([[0.5, -0.5, 0.5, 0.5]]), "np.sign(0) is 0: np.where(w < 0, -1, 1)")


@binary.check
def small_steps_add_up(binary_connect_step):
    """Twenty small gradients turn a sign, each weight followed by itself."""
    w = np.float32([[0.25, -0.5], [1.0, 0.125], [-0.0625, 0.5]])
    grad = np.float32([[0.5, -0.25], [1.0, 0.0], [-1.0, -2.0]])
    right = w.tolist()
    for i in range(20):
        w, b = binary_connect_step(w, grad, 2.0**-5)
        for row, column in np.ndindex(3, 2):  # multiples of 2^-7: exact
            right[row][column] = min(1.0, max(-1.0, right[row][column] - float(grad[row, column]) / 32))
        scaled = [[math.copysign(sum(map(abs, row)) / 2, v + 0.0) for v in row] for row in right]
        likely = f"step {i + 1}: it is the float weight that remembers; the binary one is made anew from it"
        _float_and_binary((w, b), np.float32(right), np.float32(scaled), likely)


@binary.unlocked
def one_bit(binary_connect_step):
    network, test, (images, labels) = trained("lenet_300_100"), load_mnist()[2:], _first_images()
    names, parameters = weights_of(network), network.parameters()
    weights = {name: parameters[name].copy() for name in names}
    errors = [evaluate(network, *test)]
    for epoch in range(4):
        for first in range(0, len(images), BATCH):
            if epoch + first:
                grads = {name: array.copy() for name, array in network.gradients().items()}
            else:
                grads = {name: np.zeros_like(array) for name, array in parameters.items()}
            for name, array in parameters.items():
                if name in names:
                    weights[name], array[...] = binary_connect_step(weights[name], grads[name], 0.1)
                else:
                    array -= np.float32(0.1) * grads[name]
            if not epoch + first:
                errors.append(evaluate(network, *test))
            batch = slice(first, first + BATCH)
            network.backward(cross_entropy(network.forward(images[batch]), labels[batch])[1])
    errors.append(evaluate(network, *test))
    return (
        f"LeNet-300-100 errs on {errors[0]:.2%} of the test images; with signs times a scale for its weights, not "
        f"trained, on {errors[1]:.1%}; after four epochs of 10,000 images by your steps on {errors[2]:.2%}."
    )


def round_to_bfloat16(x):  # float32 [...] -> float32 [...]
    """Return x rounded to the nearest bfloat16, a tie to the even fraction, still as float32.

    A bfloat16 is a float32 without the last 16 bits of its fraction: a sign, 8 bits of exponent, 7 of fraction. What
    lies half a step or more above the largest is infinity; infinity and NaN stay what they are.

    Examples
    --------
    >>> round_to_bfloat16(np.float32([1.0, 1.01, 3.14159])).tolist()
    [1.0, 1.0078125, 3.140625]
    """
    return low_precision.round_to_float(x, "bfloat16")


bfloat16 = Exercise(
    round_to_bfloat16,
    section="7. Sixteen bits",
    difficulty=2,
    size="four lines",
    task="x is float32. x.view(np.uint32) are its bits: adding to them carries into the exponent by itself.",
    unlocks="LeNet-300-100 trained in your bfloat16, with float32 masters and without",
)


@bfloat16.check
def the_nearest(round_to_bfloat16):
    """Between 1 and 2 bfloat16 has steps of 1/128, between 256 and 512 steps of 2."""
    x = np.float32([1.0, 1.003, 1.005, -1.02, 257.1, 258.9, 0.0, 3.0])
    right = [1.0, 1.0, 1.0078125, -1.0234375, 258.0, 258.0, 0.0, 3.0]
    expect(round_to_bfloat16(x), right, "dropping the bits truncates: half a step must be added first")


@bfloat16.check
def ties_to_even(round_to_bfloat16):
    """Half-way between two it is the one whose last bit is 0."""
    x = np.float32([1 + 1 / 256, 1 + 3 / 256, 1 + 5 / 256, 257.0, -259.0])
    right = [1.0, 1 + 4 / 256, 1 + 4 / 256, 256.0, -260.0]
    likely = "add 0x7FFF and the last bit that is kept: a tie carries only where that bit is 1"
    expect(round_to_bfloat16(x), right, likely)


@bfloat16.check
def nearly_ties(round_to_bfloat16):
    """The last of 16 dropped bits decides beside a tie."""
    tie, bit = 1 + 1 / 256, 2.0**-23
    x = np.float32([tie - bit, tie + bit, tie + 2 / 256 - bit, tie + 2 / 256 + bit])
    expect(round_to_bfloat16(x), [1.0, 1 + 2 / 256, 1 + 2 / 256, 1 + 4 / 256], "one rounding from all 23 bits")


@bfloat16.check
def into_the_next_exponent(round_to_bfloat16):
    """Just below a power of two it is the power that is nearest."""
    x = np.float32([1.999, -3.999, 0.49999, 65535.0])
    expect(round_to_bfloat16(x), [2.0, -4.0, 0.5, 65536.0], "the carry goes into the exponent, which is right")


@bfloat16.check
def against_fractions(round_to_bfloat16):
    """300 numbers of all sizes, each rounded as a fraction; below 2^-126 the steps are 2^-133."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 0x7F000000, 300, dtype=np.uint32)
    bits[::5] = rng.integers(0, 2**23, 60, dtype=np.uint32)  # below the normal ones
    bits[::3] &= np.uint32(0xFFFF8000)  # ties among them
    x = bits.view(np.float32) * np.where(np.arange(300) % 2, np.float32(1), np.float32(-1))
    right = []
    for value in x.tolist():
        unit = Fraction(2) ** max(math.frexp(value)[1] - 8, -133)
        right.append(float(round(Fraction(value) / unit) * unit))  # Python rounds a fraction half to even
    likely = "8 significant bits of every number, as far down as 2^-133"
    expect(round_to_bfloat16(x), np.float32(right), likely)


@bfloat16.check
def too_large(round_to_bfloat16):
    """The largest is (2 - 2^-7) 2^127; half a step above it begins infinity."""
    largest, half = 2.0**128 - 2.0**120, 2.0**119
    x = np.float32([largest, largest + half - 2.0**104, largest + half, -largest - half, np.inf, -np.inf])
    right = [largest, largest, np.inf, -np.inf, np.inf, -np.inf]
    expect(round_to_bfloat16(x), np.float32(right), "bfloat16 has the exponents of float32, float16 has not")


@bfloat16.check
def nan_stays(round_to_bfloat16):
    """A NaN stays a NaN, whatever its fraction."""
    x = np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF, 0x7FC00000, 0x3F800000], np.uint32).view(np.float32)
    likely = "0x7FFFFFFF + 0x7FFF carries into the sign, and 0x7F800001 without its last bits is infinity"
    expect(np.isnan(round_to_bfloat16(x)), [True, True, True, True, False], likely)


@bfloat16.check
def shape_and_type(round_to_bfloat16):
    """Any shape, the sign of zero, and float32 come back."""
    x = np.float32([[1.0, -0.0, 1.005], [-1.005, 2.0, 1e-3]])
    right = np.float32([[1.0, -0.0, 1.0078125], [-1.0078125, 2.0, 0.00099945068359375]])
    got = round_to_bfloat16(x)
    expect(got, right, dtype=np.float32)
    expect(np.signbit(got), np.signbit(right), "-0.0 keeps its sign")
    expect(round_to_bfloat16(x.T), right.T, "the transposed view has the same numbers")


@bfloat16.check
def a_million(round_to_bfloat16):
    """A million numbers at once: arrays, no loop."""
    x = np.arange(2**20, dtype=np.float32)
    size = np.maximum(np.floor(np.log2(np.maximum(x, 1.0))) - 7, 0)
    unit = 2.0**size
    expect(round_to_bfloat16(x), np.rint(x / unit) * unit, "whole numbers up to 256, then steps of 2, 4, 8, ...")


@bfloat16.unlocked
def trains_in_bfloat16(round_to_bfloat16):
    def rounded(x, format):
        return round_to_bfloat16(np.asarray(x, np.float32))

    test, data, recipe = load_mnist()[2:], _first_images(), {"epochs": 1, "rate": 0.005, "progress": False}
    lines = ["LeNet-300-100 from scratch, one epoch of 10,000 images at a small rate, 10,000 test images:"]
    with in_place_of(low_precision.round_to_float, rounded):
        for masters in (True, False):
            network = lenet_300_100(seed=0)
            low_precision.train_low_precision(network, data, format="bfloat16", masters=masters, **recipe)
            masters = "with float32 masters" if masters else "the weights themselves in it"
            lines.append(f"  your bfloat16, {masters:<29} {evaluate(network, *test):.2%} error")
    return "\n".join(lines)


def scaled_sgd_step(weights, grads, scale, good, *, rate, interval):
    """Return the weights, the loss scale and the count of good steps after one step of SGD with loss scaling.

        every gradient finite    w <- w - rate grad / scale, in float32; good <- good + 1, and where that is `interval`
                                 scale <- 2 scale and good <- 0
        one of them is not       no weight changes; scale <- scale / 2 and good <- 0

    Parameters
    ----------
    weights : list of float32 arrays, the masters
    grads : list of float16 arrays of the same shapes, the gradients of scale times the loss; may hold infinity and NaN
    scale : float, a power of two
    good : int, how many steps without overflow came since the scale last changed

    Examples
    --------
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


scaled = Exercise(
    scaled_sgd_step,
    section="7. Sixteen bits",
    difficulty=2,
    size="ten lines",
    unlocks="a float16 training with tiny gradients, whose loss scale your steps find",
)


def _step_is(got, weights, scale, good, likely):
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        raise Wrong(
            f"got:      {type(got).__name__}\nexpected: three values: the list of weights, the scale, the count"
        )
    if not isinstance(got[0], (tuple, list)) or len(got[0]) != len(weights):
        raise Wrong(f"got:      {type(got[0]).__name__}\nexpected: a list of {len(weights)} arrays as the first value")
    for ours, right in zip(got[0], weights, strict=True):
        expect(ours, right, f"weights: {likely}", dtype=np.float32)
    expect(got[1], scale, f"scale: {likely}")
    expect(got[2], good, f"good: {likely}")


@scaled.check
def one_good_step(scaled_sgd_step):
    """The gradients are divided by the scale, and the step counts as good."""
    weights, grads = (
        [np.float32([[1.0, 2.0, -3.0]]), np.float32([0.5])],
        [np.float16([[32.0, -16.0, 0.0]]), np.float16([8])],
    )
    got = scaled_sgd_step(weights, grads, 64.0, 0, rate=0.5, interval=1000)
    _step_is(got, [np.float32([[0.75, 2.125, -3.0]]), np.float32([0.4375])], 64.0, 1, "w - rate grad / scale")


@scaled.check
def small_gradients(scaled_sgd_step):
    """2^-20 / 2^10 is 0 in float16, and no zero in float32."""
    got = scaled_sgd_step([np.float32([0.0])], [np.float16([2.0**-20])], 2.0**10, 3, rate=0.5, interval=1000)
    _step_is(got, [np.float32([-(2.0**-31)])], 1024.0, 4, "make the gradient float32 first, then divide")


@scaled.check
def large_scales(scaled_sgd_step):
    """The scale itself may be larger than float16 holds."""
    got = scaled_sgd_step([np.float32([0.0])], [np.float16([1024.0])], 2.0**20, 0, rate=0.25, interval=1000)
    _step_is(got, [np.float32([-(2.0**-12)])], 2.0**20, 1, "float16(2^20) is infinity")


@scaled.check
def masters_are_float32(scaled_sgd_step):
    """A weight of 1 takes a step of 2^-20, which float16 would lose."""
    got = scaled_sgd_step([np.float32([[1.0]])], [np.float16([[1.0]])], 2.0**18, 0, rate=0.25, interval=1000)
    _step_is(got, [np.float32([[1 - 2.0**-20]])], 2.0**18, 1, "weight and step stay float32")


@scaled.check
def an_overflow_skips_the_step(scaled_sgd_step):
    """One infinite gradient, of either sign, or one NaN in any of the arrays: all weights stay, the scale is halved."""
    for bad, place in itertools.product((np.inf, -np.inf, np.nan), (0, 1)):
        grads = [np.ones((2, 3), np.float16), np.ones(2, np.float16)]
        grads[place].flat[-1] = bad
        weights = [np.full((2, 3), 0.5, np.float32), np.float32([1, 2])]
        likely = f"{bad} in array {place + 1}: no weight of any array moves, the scale is halved, good begins at 0"
        _step_is(scaled_sgd_step(weights, grads, 64.0, 7, rate=0.5, interval=1000), weights, 32.0, 0, likely)


@scaled.check
def the_largest_is_finite(scaled_sgd_step):
    """65504 is the largest float16 and no overflow."""
    got = scaled_sgd_step([np.float32([0.0, 0.0])], [np.float16([65504, -65504])], 32.0, 0, rate=1.0, interval=1000)
    _step_is(got, [np.float32([-2047.0, 2047.0])], 32.0, 1, "np.isfinite")


@scaled.check
def twice_after_a_good_run(scaled_sgd_step):
    """The step that makes the run complete doubles the scale, after it has used the old one."""
    for good, right in ((3, (16.0, 4)), (4, (32.0, 0))):
        got = scaled_sgd_step([np.float32([1.0])], [np.float16([8.0])], 16.0, good, rate=0.5, interval=5)
        _step_is(got, [np.float32([0.75])], *right, f"interval 5, and this is good step {good + 1}")


@scaled.check
def overflow_in_the_last_step_of_a_run(scaled_sgd_step):
    """An overflow is no good step: where the run would be complete, the scale is halved all the same."""
    got = scaled_sgd_step([np.float32([1.0])], [np.float16([np.nan])], 16.0, 4, rate=0.5, interval=5)
    _step_is(got, [np.float32([1.0])], 8.0, 0, "an overflow halves and begins a new run")


@scaled.check
def twelve_steps(scaled_sgd_step):
    """Twelve steps with an interval of 2: the scale falls until the gradient fits and then tries to rise again."""
    weights, scale, good, got = [np.float32([0.0])], 2.0**18, 0, []
    with np.errstate(over="ignore"):
        for _ in range(12):
            grads = [np.float32([1.5 * scale]).astype(np.float16)]  # fits up to a scale of 2^15
            answer = scaled_sgd_step(weights, grads, scale, good, rate=0.25, interval=2)
            _step_is(answer, answer[0], answer[1], answer[2], "")
            weights, scale, good = answer
            got.append(float(np.log2(scale)))
    right = [17, 16, 15, 15, 16, 15, 15, 16, 15, 15, 16, 15]
    expect(
        np.array(got), np.array(right, float), "log2(scale) after each: halved, halved, halved, two good steps, twice"
    )
    expect(weights[0], [-0.375 * 6], "the six good steps are 0.25 * 1.5 each, at whatever scale")


@scaled.unlocked
def finds_a_scale(scaled_sgd_step):
    smaller, scale, good, scales = 2.0**-16, 2.0**40, 0, []  # the loss, as if it were a mean over 65,536 terms more
    images, labels = _first_images()
    network = lenet_300_100(seed=0)
    layers = [low_precision.RoundedArithmetic(layer, "float16") if layer.params else layer for layer in network.layers]
    twin = type(network)(layers)
    parameters = twin.parameters()
    for first in range(0, len(images), BATCH):
        batch = slice(first, first + BATCH)
        grad = smaller * cross_entropy(twin.forward(images[batch]), labels[batch])[1]
        found = []
        for factor in (1.0, scale):
            with np.errstate(over="ignore", invalid="ignore"):
                twin.backward(grad * np.float32(factor))
            found.append({name: array.astype(np.float16) for name, array in twin.gradients().items()})
        grads, weights = ([held[name].copy() for name in parameters] for held in (found[1], parameters))
        moved, scale, good = scaled_sgd_step(weights, grads, scale, good, rate=0.1 / smaller, interval=25)
        for array, weight in zip(parameters.values(), moved, strict=True):
            array[...] = weight
        scales.append(int(np.log2(scale)))
    left = [np.count_nonzero(gradients["3.weight"]) for gradients in found]
    return (
        f"LeNet-300-100 from scratch in float16, its loss 2^16 times smaller, {len(scales)} batches by your steps: "
        f"{evaluate(network, *load_mnist()[2:]):.1%} error. The scale began at 2^40, was 2^{scales[4]} after 5 steps, "
        f"2^{min(scales)} at the lowest and 2^{scales[-1]} at the end. In the last batch the second layer has "
        f"{left[1]:,} gradients that are not 0 at your scale, and {left[0]:,} at scale 1."
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

    Parameters
    ----------
    x : float64 array (N, in), nowhere negative
    target : float64 array (N, out)
    weight : float64 array (out, in)
    weight_step : float64 array (out,)
    input_step : float; neither kind of step comes near 0 on the way

    Examples
    --------
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


trains = Exercise(
    train_rounded_linear,
    section="4. Activations too",
    difficulty=3,
    size="fifteen lines",
    task="Your own learned_step_gradients of this file may be called.",
    unlocks="the last layer of LeNet-300-100 with two-bit weights and inputs, trained by your function",
)


def _surrogate(x, target, residuals, tops):
    """The loss as a function of weight, weight_step, input_step, with the residuals of the rounding held."""
    (r_x, r_w), (x_top, w_top) = residuals, tops

    def loss(weight, weight_step, input_step):
        x_hat = input_step * (np.clip(x / input_step, 0, x_top) + r_x)
        w_hat = weight_step[:, None] * (np.clip(weight / weight_step[:, None], -w_top, w_top) + r_w)
        return np.sum((np.einsum("ni,oi->no", x_hat, w_hat) - target) ** 2) / (2 * len(x))

    return loss


def _slopes(loss, values, e=1e-6):
    """Central differences of the loss at every number of every value."""
    found = []
    for k, value in enumerate(values):
        slope = np.zeros(np.shape(value))
        for index in np.ndindex(slope.shape):
            ends = []
            for move in (e, -e):
                moved = [np.array(v, np.float64) for v in values]
                moved[k][index] += move
                ends.append(loss(*moved))
            slope[index] = (ends[0] - ends[1]) / (2 * e)
        found.append(slope)
    return found


def _by_differences(x, target, values, weight_bits, input_bits, rate, iterations):
    """The three after some iterations, their gradients by finite differences of the surrogate."""
    w_top, x_top = _top(weight_bits, True), _top(input_bits, False)
    scales = 1.0, 1 / math.sqrt(x.shape[1] * w_top), 1 / math.sqrt(x.shape[1] * x_top)
    for _ in range(iterations):
        v_x = np.clip(x / values[2], 0, x_top)
        v_w = np.clip(values[0] / values[1][:, None], -w_top, w_top)
        residuals = np.rint(v_x) - v_x, np.rint(v_w) - v_w
        slopes = _slopes(_surrogate(x, target, residuals, (x_top, w_top)), values)
        values = [value - rate * scale * slope for value, scale, slope in zip(values, scales, slopes, strict=True)]
    return values


def _layer(seed, images=4, features=3, outputs=2):
    """A small layer and its data: weight, step for each row and step of the inputs last."""
    rng = np.random.default_rng(seed)
    x, weight = rng.uniform(0, 3, (images, features)), rng.normal(size=(outputs, features))
    target = x @ (weight + 0.5 * rng.normal(size=weight.shape)).T
    return x, target, [weight, rng.uniform(0.4, 0.9, outputs), np.float64(0.2)]


def _three(got, right, *likely, tolerance):
    if not isinstance(got, (tuple, list)) or len(got) != 3:
        raise Wrong(f"got:      {type(got).__name__}\nexpected: three values: weight, weight_step, input_step")
    for name, ours, theirs, hint in zip(("weight", "weight_step", "input_step"), got, right, likely, strict=True):
        expect(ours, theirs, f"{name}: {hint}", tolerance=tolerance)


@trains.check
def one_weight(train_rounded_linear):
    """One weight, one input, one iteration, by hand."""
    x, target, weight = np.array([[2.25]]), np.array([[0.0]]), np.array([[0.3]])
    grid = {"weight_bits": 3, "input_bits": 2}
    got = train_rounded_linear(x, target, weight, np.array([0.5]), 1.0, **grid, rate=0.1, iterations=1)
    # x_hat 2, w_hat 0.5, y 1: dL/dw_hat = 2, dL/dx_hat = 0.5; round(v) - v is 1 - 0.6 and 2 - 2.25
    right = np.array([[0.1]]), np.array([0.5 - 0.1 * 2 * 0.4 / math.sqrt(3)]), 1 + 0.1 * 0.5 * 0.25 / math.sqrt(3)
    _three(
        got,
        right,
        "its gradient is that of w_hat: what comes from y times x_hat, the rounded input; it stays a float",
        "sum of (round(v) - v) dL/dw_hat over the row, times 1 / sqrt(in Qp), here 1 / sqrt(3)",
        "sum of (round(v) - v) dL/dx_hat, with w_hat as it was in the forward pass, times 1 / sqrt(3)",
        tolerance=1e-12,
    )


@trains.check
def clipped(train_rounded_linear):
    """A clipped weight gets no gradient, its step gets the code as slope; so does a clipped input's step."""
    x, target, grid = np.array([[9.0]]), np.array([[0.0]]), {"weight_bits": 2, "input_bits": 2}
    got = train_rounded_linear(x, target, np.array([[-4.0]]), np.array([0.5]), 1.0, **grid, rate=0.1, iterations=1)
    # x_hat 3, w_hat -0.5, y -1.5: dL/dw_hat = -4.5 by the slope -1, dL/dx_hat = 0.75 by the slope 3
    right = np.array([[-4.0]]), np.array([0.5 - 0.1 * 4.5]), 1 - 0.1 * 2.25 / math.sqrt(3)
    _three(
        got,
        right,
        "no gradient where it was clipped",
        "the slope is -Qp below and Qp above; two signed bits are -1, 0, 1, so Qp is 1",
        "the slope is Qp above, and two unsigned bits are 0 to 3",
        tolerance=1e-12,
    )


@trains.check
def no_iteration(train_rounded_linear):
    """No iteration leaves everything as it is."""
    x, target, values = _layer(0)
    got = train_rounded_linear(x, target, *values, weight_bits=3, input_bits=3, rate=0.1, iterations=0)
    expect(got, tuple(values))


@trains.check
def one_iteration_by_differences(train_rounded_linear):
    """One iteration of four images, three inputs, two outputs: finite differences with the residuals held."""
    for seed, (weight_bits, input_bits) in enumerate(((2, 4), (3, 2), (8, 8))):
        x, target, values = _layer(seed)
        grid = {"weight_bits": weight_bits, "input_bits": input_bits, "rate": 0.05, "iterations": 1}
        got = train_rounded_linear(x, target, *values, **grid)
        _three(
            got,
            _by_differences(x, target, values, **grid),
            "the loss is a mean over the images and a sum over the outputs",
            "each row sums over its own weights; its gradient scale counts `in` of them, with the Qp of weight_bits",
            "one sum over images and inputs; its gradient scale counts `in`, not N in, with the Qp of input_bits",
            tolerance=1e-8,
        )


@trains.check
def the_mean_over_images(train_rounded_linear):
    """The same images twice change nothing."""
    x, target, values = _layer(3)
    grid = {"weight_bits": 3, "input_bits": 4, "rate": 0.05, "iterations": 1}
    once, twice = (train_rounded_linear(np.tile(x, (n, 1)), np.tile(target, (n, 1)), *values, **grid) for n in (1, 2))
    expect(twice, once, "divide by N, in the steps' gradients too, and let N into no gradient scale", tolerance=1e-12)


@trains.check
def every_row_by_itself(train_rounded_linear):
    """What one output learns has nothing to do with the others, the inputs' step apart."""
    x, target, (weight, steps, step) = _layer(4, outputs=3)
    grid = {"weight_bits": 3, "input_bits": 4, "rate": 0.05, "iterations": 1}
    w, w_steps, _ = train_rounded_linear(x, target, weight, steps, step, **grid)
    for i in range(3):
        row = slice(i, i + 1)
        got = train_rounded_linear(x, target[:, row], weight[row], steps[row], step, **grid)
        expect(
            got[:2], (w[row], w_steps[row]), "a step and a gradient for each row, each of `in` weights", tolerance=1e-12
        )


@trains.check
def twelve_iterations(train_rounded_linear):
    """Twelve iterations, against finite differences in each."""
    for seed in (5, 6):
        x, target, values = _layer(seed)
        grid = {"weight_bits": 2, "input_bits": 4, "rate": 0.05, "iterations": 12}
        got = train_rounded_linear(x, target, *values, **grid)
        likely = "the float weight moves and is rounded anew in each iteration"
        expect(got, tuple(_by_differences(x, target, values, **grid)), likely, tolerance=1e-6)


@trains.unlocked
def last_layer(train_rounded_linear):
    network, (images, _), test = trained("lenet_300_100"), _first_images(2000), load_mnist()[2:]
    x = images
    for layer in network.layers[:-1]:
        x = layer.forward(x)
    x, weight = x.astype(np.float64), network.layers[-1].params["weight"].astype(np.float64)
    steps = (
        reference.start_step(weight, bits=2, signed=True, axis=0),
        reference.start_step(x, bits=2, signed=False),
    )
    values, target = (weight, *(step.astype(np.float64) for step in steps)), x @ weight.T
    lines = ["LeNet-300-100, weights and inputs of its last layer in 2 bits, trained on 2,000 images without labels:"]
    for name, iterations in (("at the start", 0), ("50 of your iterations", 50), ("100 more", 100)):
        grid = {"weight_bits": 2, "input_bits": 2, "rate": 0.001, "iterations": iterations}
        values = train_rounded_linear(x, target, *values, **grid)
        rounded = network.copy()
        layer = rounded.layers[-1]
        layer.params["weight"][...] = reference.learned_step(*values[:2], bits=2, signed=True)
        rounded.layers[-1] = Rounded(layer, input=Grid(QuantParams(values[2], 0, 2, signed=False)))
        off = rounded.forward(images) - layer.params["bias"] - target
        lines.append(
            f"  {name:<22} outputs off by {np.sum(off**2) / np.sum(target**2):.1%} of their power, "
            f"{evaluate(rounded, *test):.2%} error on the test images"
        )
    return "\n".join([*lines, f"As floats the network has {evaluate(network, *test):.2%}."])
