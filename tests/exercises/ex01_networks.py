"""Chapter 01: the exercises and what grades them."""

from math import exp, log

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book.grading import any_floats, any_shape, exercise, expect, given
from nnzip.data import load_mnist
from nnzip.nn import layers, training
from nnzip.nn.zoo import trained


def _layer(kind, *sizes, weight=None, bias=None, **options):
    """One of nnzip's layers with these parameters."""
    layer = kind(*sizes, **options)
    if weight is not None:
        layer.params = {"weight": weight, "bias": np.zeros(len(weight), weight.dtype) if bias is None else bias}
    return layer


def _backward(layer, x, grad_y):
    layer.forward(x)
    return layer.backward(grad_y)


@exercise(section="4. The small layers, and a tie", difficulty=1, size="one line")
def relu_backward(x, grad_y):  # [...], [...] -> [...]
    """Return the gradient of ReLU, y = max(x, 0), at its input: grad_y passes where x is positive, elsewhere it is 0.

    At x = 0, where max(x, 0) has no slope, the gradient is 0.

    >>> relu_backward(np.array([-1.0, 0.0, 2.0]), np.array([5.0, 5.0, 5.0])).tolist()
    [0.0, 0.0, 5.0]
    """
    return _backward(layers.ReLU(), x, grad_y)


relu_backward.case(
    "The gradient passes, as it is, where x is above 0; at 0 it does not.",
    np.array([-2.0, 3.0, -0.5, 0.5, 0.0, -0.0, 1e-30]),
    np.array([10.0, -20.0, 30.0, 40.0, 50.0, 60.0, 70.0]),
    gives=[0, -20, 0, 40, 0, 0, 70],
    likely="grad_y where x > 0, else 0; x is no factor, and the sign of grad_y plays no part",
)


@relu_backward.draw("np.zeros is float64 by itself: the answer has the dtype of the gradient", dtype=True)
def any_inputs(rng):
    """Arrays of one to four axes, a third of the inputs exactly 0."""
    x = any_floats(rng, any_shape(rng))
    return given(np.where(rng.random(x.shape) < 1 / 3, 0, x).astype(x.dtype), any_floats(rng, x.shape, dtype=x.dtype))


@exercise(
    section="2. A layer is two functions",
    difficulty=1,
    size="three lines",
    parts=("grad_x", "grad_weight", "grad_bias"),
)
def linear_backward(x, weight, grad_y):  # [N, in], [out, in], [N, out] -> [N, in], [out, in], [out]
    """Return the gradients of y = x weight^T + bias: (grad_x, grad_weight, grad_bias).

    grad_y is how the loss changes with each output. Each answer has the shape of what it belongs to, and grad_weight
    and grad_bias are sums over the N rows (the 1 / N of a mean is in grad_y already).

    >>> x, weight, grad_y = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[10.0]])
    >>> [gradient.tolist() for gradient in linear_backward(x, weight, grad_y)]
    [[[30.0, 40.0]], [[10.0, 20.0]], [10.0]]
    """
    layer = _layer(layers.Linear, *weight.shape[::-1], weight=weight)
    return _backward(layer, x, grad_y), layer.grads["weight"], layer.grads["bias"]


linear_backward.case(
    "One image: every product by hand.",
    np.array([[1.0, 2.0, 3.0]]),
    np.array([[1.0, 0.0, -1.0], [2.0, 5.0, 0.0]]),
    np.array([[10.0, 100.0]]),
    gives=([[210, 500, -10]], [[10, 20, 30], [100, 200, 300]], [10, 100]),
    likely="the shapes tell: [N, out] and [out, in] make [N, in]; [out, in] is grad_y transposed times x",
)


@linear_backward.draw("in a square no shape betrays a wrong order", ulps=64, dtype=True)
def any_batch(rng):
    """Batches and layers of any sizes, squares among them, in float32 or float64."""
    N, inputs, outputs = [3, 3, 3] if rng.random() < 0.3 else rng.integers(1, 7, 3)
    x = any_floats(rng, (N, inputs))
    return given(x, any_floats(rng, (outputs, inputs), dtype=x.dtype), any_floats(rng, (N, outputs), dtype=x.dtype))


@exercise(section="5. The loss", difficulty=2, size="eight lines", parts=("value", "gradient"))
def cross_entropy(logits, labels):  # [N, C], int [N] -> float, [N, C]
    """Return the cross-entropy, the mean of -log softmax(logits)[label] over the rows, and its gradient by the logits.

    Logits of any size give finite numbers.

    >>> value, gradient = cross_entropy(np.array([[0.0, 0.0]]), np.array([1]))
    >>> print(round(float(value), 4), gradient.tolist())
    0.6931 [[0.5, -0.5]]
    """
    return training.cross_entropy(logits, labels)


cross_entropy.case(
    "Logits log 1, log 2, log 5 are probabilities 1/8, 2/8, 5/8; with label 1 the loss is log 4.",
    np.log([[1.0, 2.0, 5.0]]),
    np.array([1], np.uint8),
    gives=(log(4), [[1 / 8, -6 / 8, 5 / 8]]),
    tolerance=1e-10,
    likely="-log of the probability at the label, base e; the gradient is softmax minus 1 at the label",
)
cross_entropy.case(
    "The loss is the mean over the rows, so the gradient carries 1 / N.",
    np.log([[1.0, 3.0, 4.0], [3.0, 1.0, 1.0]]),
    np.array([0, 1]),
    gives=((log(8) + log(5)) / 2, [[-7 / 16, 3 / 16, 4 / 16], [3 / 10, -4 / 10, 1 / 10]]),
    tolerance=1e-10,
    likely="-log p at each row's own label, divided by the number of rows; (softmax - one_hot) / N",
)
cross_entropy.case(
    "A label whose probability rounds to 0 has a large loss, not an infinite one.",
    np.array([[1000.0, 0, 0, 0]]),
    np.array([1]),
    gives=(1000, [[1, -1, 0, 0]]),
    tolerance=1e-10,
    likely="never log(softmax): log softmax is z - max - log(sum of exp(z - max)), with no log(0) and no epsilon in it",
)


@cross_entropy.draw("each row has its own maximum: logits.max(axis=1, keepdims=True)", ulps=64, tolerance=1e-10)
def any_logits(rng):
    """Logits of every size, their rows up to 2,000 apart, and one class or more."""
    shape = rng.integers(1, 7, 2)
    logits = rng.normal(scale=10 ** rng.uniform(-2, 2), size=shape)
    return given(logits + rng.choice([0, 1000], (shape[0], 1)), rng.integers(shape[1], size=shape[0]))


@exercise(
    section="5. The loss", difficulty=2, size="ten lines", task="Your cross_entropy, if it passes, gives the loss."
)
def numerical_gradient(weight, x, labels, *, epsilon=1e-6):  # [out, in], [N, in], [N] -> float64 [out, in]
    """Return the gradient of the cross-entropy of the logits x weight^T, by central differences in float64.

        (L(w + epsilon) - L(w - epsilon)) / (2 epsilon)        with one weight moved at a time

    L is the mean of -log softmax(logits)[label] over the N rows.

    >>> numerical_gradient(np.zeros((2, 1)), np.array([[4.0]]), np.array([0])).round(6).tolist()
    [[-2.0], [2.0]]
    """
    moved, slopes = np.array(weight, np.float64), np.empty(weight.shape)
    for index in np.ndindex(weight.shape):
        ends = []
        for step in (epsilon, -epsilon):
            there = moved.copy()
            there[index] += step
            ends.append(training.cross_entropy(x @ there.T, labels)[0])
        slopes[index] = (ends[0] - ends[1]) / (2 * epsilon)
    return slopes


numerical_gradient.case(
    "A step of 1 is no limit: what comes is (L(2) - L(0)) / 2, neither the slope nor a one-sided difference.",
    np.array([[1.0], [0.0]]),
    np.array([[1.0]]),
    np.array([0]),
    epsilon=1.0,
    gives=[[(log(1 + exp(-2)) - log(2)) / 2], [(log(2) - log(1 + exp(-2))) / 2]],
    tolerance=1e-12,
    likely="both sides, w + epsilon and w - epsilon, with the epsilon given, divided by 2 epsilon",
)
numerical_gradient.case(
    "Next to 16 a float32 moves in steps of 2e-6, so the differences are taken in float64.",
    np.array([[16.0], [16.0]], np.float32),
    np.array([[1.0]], np.float32),
    np.array([1]),
    gives=[[0.5], [-0.5]],
    tolerance=1e-7,
    likely="w + 1e-6 is rounded in float32: work on weight.astype(np.float64)",
)
numerical_gradient.case(
    "Integer weights move too.",
    np.array([[5], [5]]),
    np.array([[-2.0]]),
    np.array([0]),
    gives=[[1], [-1]],
    tolerance=1e-7,
    likely="an element of an integer array cannot hold 5 + 1e-6: convert it first",
)


@numerical_gradient.draw("move one element of a copy, take both losses, put it back, go on", ulps=1e5)
def any_layer(rng):
    """Layers of any size and steps of any size, some logits in the thousands."""
    inputs, outputs, N = rng.integers(1, 5, 3)
    weight = rng.normal(scale=rng.choice([1, 500]), size=(outputs, inputs))
    return given(weight, rng.normal(size=(N, inputs)), rng.integers(outputs, size=N), epsilon=rng.choice([0.5, 0.01]))


@exercise(section="4. The small layers, and a tie", difficulty=1, size="four lines", task="H and W are at least size.")
def max_pool2d(x, size):  # [N, C, H, W] -> [N, C, H // size, W // size]
    """Return the largest number of each size x size window; the windows lie side by side.

        y[n, c, i, j] = max of x[n, c, size i + u, size j + v] over u, v < size

    Rows and columns at the end that do not fill a window are left out.

    >>> max_pool2d(np.arange(25.0).reshape(1, 1, 5, 5), 2).tolist()
    [[[[6.0, 8.0], [16.0, 18.0]]]]
    """
    return layers.MaxPool2d(size).forward(x)


max_pool2d.case(
    "Windows of 2 x 2 side by side, in an image that is no square; of negative numbers the one nearest to 0.",
    np.array([[[[1.0, 2, 0, 0, -9, -8], [3, 4, 5, 0, -7, -6], [0, 0, 1, 1, 2, 1], [7, 0, 1, 0, 1, 3]]]]),
    2,
    gives=[[[[4, 5, -6], [7, 1, 3]]]],
    likely="stride = size: reshape to (N, C, H // size, size, W // size, size), the maximum over the two axes inside",
)


@max_pool2d.draw("H // size windows, the first at row 0: cut the end off, pad nothing", dtype=True)
def any_images(rng):
    """Images of any shape and type, windows of one pixel, of the whole image, and ends that fill none."""
    size = int(rng.integers(1, 5))
    x = any_floats(rng, (*rng.integers(1, 4, 2), *rng.integers(size, 10, 2)))
    return given(x - rng.choice([0, 100]).astype(x.dtype), size)


@exercise(section="4. The small layers, and a tie", difficulty=2, size="ten lines", task="H and W are at least size.")
def max_pool2d_backward(x, grad_y, size):  # [N, C, H, W], [N, C, H // size, W // size] -> [N, C, H, W]
    """Return the gradient of max pooling at its input: each window hands all of its gradient to its largest pixel.

    If several are the largest, the first of them takes it, row by row. Pixels in no window get 0.

    >>> max_pool2d_backward(np.array([[[[1.0, 3.0], [3.0, 0.0]]]]), np.array([[[[6.0]]]]), 2).tolist()
    [[[[0.0, 6.0], [0.0, 0.0]]]]
    """
    return _backward(layers.MaxPool2d(size), x, grad_y)


max_pool2d_backward.case(
    "Each window's gradient goes to its largest pixel, whatever the signs.",
    np.array([[[[1.0, 2.0, -1.0, -2.0], [4.0, 3.0, -4.0, -3.0]]]]),
    np.array([[[[10.0, -20.0]]]]),
    2,
    gives=[[[[0, 0, -20, 0], [10, 0, 0, 0]]]],
    likely="place grad_y itself, at the place of the maximum in x; the others get 0",
)
max_pool2d_backward.case(
    "Of equal largest pixels the first takes all, the chapter's tie; the upper right comes before the lower left.",
    np.array([[[[3.0, 3.0, 0.0, 5.0], [3.0, 1.0, 5.0, 5.0]]]]),
    np.array([[[[6.0, 7.0]]]]),
    2,
    gives=[[[[6, 0, 0, 7], [0, 0, 0, 0]]]],
    likely="argmax over the window as one axis of size * size",
)


@max_pool2d_backward.draw("zeros of the shape of x, then the winners; a window of zeros has one too", dtype=True)
def any_ties(rng):
    """Batches full of ties, windows of any size, ends that fill none."""
    size = int(rng.integers(1, 5))
    shape = (*rng.integers(1, 4, 2), *rng.integers(size, 10, 2))
    x = rng.integers(-2, 3, shape).astype(rng.choice(["float32", "float64"]))
    return given(x, any_floats(rng, (*shape[:2], shape[2] // size, shape[3] // size), dtype=x.dtype), size)


def _any_convolution(rng):  # images, filters and options
    k, stride, padding = int(rng.integers(1, 5)), int(rng.integers(1, 4)), int(rng.integers(3))
    N, C, O = rng.integers(1, 4, 3)
    least = max(k - 2 * padding, 1)
    H, W = [6, 6] if rng.random() < 0.2 else rng.integers(least, least + 8, 2)
    x = any_floats(rng, (N, C, H, W))
    return x, any_floats(rng, (O, C, k, k), dtype=x.dtype), {"stride": stride, "padding": padding}


@exercise(
    section="3. Convolution, twice",
    difficulty=3,
    size="ten lines",
    task="A call may take 5 s, and one check gives an image of four million pixels: four Python loops over images, "
    "filters and pixels are too slow, and so are the two over pixels of the chapter's conv2d_by_definition. Loops over "
    "the k * k entries of a filter are few; np.lib.stride_tricks.sliding_window_view shows all windows without a copy.",
    seconds=5,
)
def conv2d(x, weight, bias, *, stride=1, padding=0):  # [N, C, H, W], [O, C, k, k], [O] -> [N, O, H', W']
    """Return the convolution of images with square filters (not flipped: a cross-correlation).

        y[n, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] * x[n, c, s i + u - p, s j + v - p]

    x is zero outside of the image, s is the stride, p the padding, H' = (H + 2 p - k) // s + 1 and W' likewise.

    >>> x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    >>> conv2d(x, np.array([[[[1.0, 0.0], [0.0, 10.0]]]]), np.array([100.0])).tolist()
    [[[[151.0, 162.0]]]]
    """
    O, C, k, _ = weight.shape
    return _layer(layers.Conv2d, C, O, k, weight=weight, bias=bias, stride=stride, padding=padding).forward(x)


conv2d.case(
    "One image, one filter, one window: a dot product, plus the bias.",
    np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
    np.array([[[[1.0, 10.0], [100.0, 1000.0]]]]),
    np.array([0.5]),
    gives=[[[[4321.5]]]],
    tolerance=1e-9,
    likely="no filter is flipped or transposed: weight[u, v] meets x[i + u, j + v]; the bias is added once",
)
conv2d.case(
    "Channels are summed, each with its own part of the filter; each filter has its own bias.",
    np.array([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]]),
    np.array([[[[1.0]], [[10.0]]], [[[100.0]], [[0.0]]], [[[0.0]], [[-1.0]]]]),
    np.array([0.0, 1.0, 5.0]),
    gives=[[[[31, 42]], [[101, 201]], [[2, 1]]], [[[75, 86]], [[501, 601]], [[-2, -3]]]],
    tolerance=1e-9,
    likely="y is [N, O, H', W'], filters second, with bias[o] for every pixel of filter o",
)


@conv2d.draw(
    "H' = (H + 2 p - k) // s + 1; zeros on all four sides; filters may be larger than the image", ulps=400, dtype=True
)
def any_convolution(rng):
    """Images and filters of any size, strides of 1 to 3, padding of 0 to 2, in float32 or float64."""
    x, weight, options = _any_convolution(rng)
    return given(x, weight, any_floats(rng, len(weight), dtype=x.dtype), **options)


@conv2d.check
def a_photograph(conv2d):
    """An image of 2,000 x 1,900 pixels within 5 s: no Python loop over pixels."""
    rows, columns = np.arange(2000, dtype=np.float32), np.arange(1900, dtype=np.float32)
    x = (rows[:, None] - 2 * columns).reshape(1, 1, 2000, 1900)  # a slope: its differences are known everywhere
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[0, 0, [0, 2], 1] = [-1, 1]  # x[i + 2] - x[i] = 2 down, and -4 across
    weight[1, 0, 1, [0, 2]] = [-1, 1]
    right = np.broadcast_to(np.reshape([2.0, -3.0], (1, 2, 1, 1)), (1, 2, 1998, 1898))
    expect(conv2d(x, weight, np.array([0, 1], np.float32)), right, tolerance=0.01)


@conv2d.unlocked("the feature maps of LeNet-5, computed by your conv2d", "draws")
def draws_feature_maps(conv2d):
    def forward(x, *, layer):
        return conv2d(x, layer.params["weight"], layer.params["bias"], stride=layer.stride, padding=layer.padding)

    network, mnist = trained("lenet_5", seed=0), load_mnist()
    maps = forward(mnist.test_images[:1], layer=network.layers[0])[0]
    for layer in network.layers:
        if isinstance(layer, layers.Conv2d):
            layer.forward = lambda x, layer=layer: forward(x, layer=layer)
    error = training.evaluate(network, mnist.test_images[:2000], mnist.test_labels[:2000])
    figure, axes = plt.subplots(2, 11, figsize=(11, 2.4), layout="constrained")
    digit = mnist.test_images[0, 0]
    for axis, image in zip(axes.flat, [digit, *maps[:10], digit, *maps[10:]], strict=True):
        axis.imshow(image, cmap="gray_r")
        axis.axis("off")
    figure.suptitle(f"a 7 and its 20 feature maps; the error of LeNet-5 with your conv2d on 2,000 images: {error:.2%}")
    return figure


@exercise(
    section="3. Convolution, twice",
    difficulty=3,
    size="fifteen lines",
    task="A call may take 5 s, and one check gives 128 digits and 20 filters: Python loops over images and filters and "
    "pixels are too slow. Loops over the k * k entries of a filter are few.",
    parts=("grad_x", "grad_weight", "grad_bias"),
    seconds=5,
)
def conv2d_backward(
    x, weight, grad_y, *, stride=1, padding=0
):  # [N, C, H, W], [O, C, k, k], [N, O, H', W'] -> 3 arrays
    """Return the gradients of conv2d at its three arguments: (grad_x, grad_weight, grad_bias).

    y[n, o, i, j] holds weight[o, c, u, v] * x[n, c, s i + u - p, s j + v - p], so grad_y[n, o, i, j] times the one
    factor goes to the gradient of the other. Each answer has the shape of what it belongs to; grad_weight and grad_bias
    are sums over the images.

    >>> x, weight = np.array([[[[1.0, 2.0, 3.0]]]]), np.array([[[[10.0]]]])
    >>> [gradient.tolist() for gradient in conv2d_backward(x, weight, np.array([[[[1.0, 0.0, 2.0]]]]))]
    [[[[[10.0, 0.0, 20.0]]]], [[[[7.0]]]], [3.0]]
    """
    O, C, k, _ = weight.shape
    layer = _layer(layers.Conv2d, C, O, k, weight=weight, stride=stride, padding=padding)
    return _backward(layer, x, grad_y), layer.grads["weight"], layer.grads["bias"]


conv2d_backward.case(
    "One window: x and weight exchange places, each times grad_y.",
    np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
    np.array([[[[5.0, 6.0], [7.0, 8.0]]]]),
    np.array([[[[10.0]]]]),
    gives=([[[[50, 60], [70, 80]]]], [[[[10, 20], [30, 40]]]], [10]),
    tolerance=1e-9,
    likely="the bias is added to every pixel of every image: the sum of grad_y over N, H' and W'",
)
conv2d_backward.case(
    "A pixel that two windows share gets from both, each through its own weight.",
    np.array([[[[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]]]),
    np.array([[[[1.0, 10.0], [0.0, 0.0]]]]),
    np.array([[[[1.0, 2.0]]]]),
    gives=([[[[1, 12, 20], [0, 0, 0]]]], [[[[5, 10], [0, 0]]]], [3]),
    tolerance=1e-9,
    likely="every window adds grad_y * weight to the pixels under it: +=, into zeros",
)


@conv2d_backward.draw(
    "grad_x is made in the padded size, and the padding cut off at the end; a pixel in no window has 0; no means",
    ulps=1000,
    dtype=True,
    count=40,
)
def any_convolution_back(rng):
    """Images and filters of any size, strides of 1 to 3, padding of 0 to 2, in float32 or float64."""
    x, weight, options = _any_convolution(rng)
    outputs = [(side + 2 * options["padding"] - weight.shape[-1]) // options["stride"] + 1 for side in x.shape[2:]]
    return given(x, weight, any_floats(rng, (len(x), len(weight), *outputs), dtype=x.dtype), **options)


@conv2d_backward.check
def a_batch_back(conv2d_backward):
    """128 images of 28 x 28, 20 filters of 5 x 5, within 5 s."""
    x, weight, grad_y = np.ones((128, 1, 28, 28)), np.ones((20, 1, 5, 5)), np.ones((128, 20, 24, 24))
    reach = np.minimum(np.minimum(np.arange(1, 29), 5), np.arange(28, 0, -1))  # how many windows have a row
    right = (
        np.tile(20.0 * np.outer(reach, reach), (128, 1, 1, 1)),
        np.full((20, 1, 5, 5), 73728.0),
        np.full(20, 73728.0),
    )
    expect(conv2d_backward(x, weight, grad_y), right, tolerance=1e-6)


@exercise(section="6. Train one", difficulty=1, size="two lines", parts=("weight", "velocity"))
def sgd_momentum(weight, grad, velocity, rate, momentum):  # [...] three times, two numbers -> [...], [...]
    """Return (weight, velocity) after one step of gradient descent with momentum, as new arrays.

        velocity <- momentum velocity + grad        weight <- weight - rate velocity

    >>> weight, velocity = sgd_momentum(np.array([1.0]), np.array([2.0]), np.array([4.0]), 0.25, 0.5)
    >>> weight.tolist(), velocity.tolist()
    ([0.0], [4.0])
    """
    optimizer, weights = training.SGD(rate, momentum=momentum), {"weight": weight.copy()}
    optimizer.state["weight"], optimizer.steps["weight"] = [velocity.copy()], 0
    optimizer.step(weights, {"weight": grad})
    return weights["weight"], optimizer.state["weight"][0]


sgd_momentum.case(
    "The old velocity counts momentum times, and the step is made with the new one.",
    np.array([[10.0], [0.0]]),
    np.array([[1.0], [2.0]]),
    np.array([[8.0], [-8.0]]),
    0.5,
    0.25,
    gives=([[8.5], [0]], [[3], [0]]),
    likely="no rate and no 1 - momentum in the velocity; then weight - rate * the new velocity",
)


@sgd_momentum.draw("no float64 array may enter: float32 weights stay float32", ulps=4, dtype=True)
def any_step(rng):
    """Weights of any shape and type, at rest or moving, with or without momentum."""
    weight = any_floats(rng, any_shape(rng))
    grad, velocity = (any_floats(rng, weight.shape, dtype=weight.dtype) for _ in range(2))
    return given(weight, grad, velocity, float(rng.uniform(0.01, 1)), float(rng.choice([0.0, 0.5, 0.9])))
