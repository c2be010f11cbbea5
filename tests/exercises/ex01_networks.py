"""Chapter 01: the exercises and what grades them."""

from fractions import Fraction
from math import exp, log

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book.grading import Exercise, Wrong, expect
from nnzip.data import load_mnist
from nnzip.nn import layers, training
from nnzip.nn.network import Network, lenet_5, lenet_300_100
from nnzip.nn.zoo import trained


def _expect_each(got, likely, *, tolerance=0.0, dtype=None, **expected):
    """Hold each of several answers against its own, by name; `likely` is a hint for all or one for each name."""
    if not isinstance(got, (tuple, list)) or len(got) != len(expected):
        expect(got, tuple(expected.values()), f"return {', '.join(expected)}, a tuple of {len(expected)}")
    for value, (name, right) in zip(got, expected.items(), strict=True):
        hint = likely[name] if isinstance(likely, dict) else likely
        try:
            expect(value, right, hint, tolerance=tolerance, dtype=dtype)
        except Wrong as wrong:
            raise Wrong(f"in {name}\n{wrong}") from None


def _integers(rng, *shape, dtype=np.float64):  # of few values: sums of products are exact, ties are many
    return rng.integers(-3, 4, shape).astype(dtype)


def _moved_by_one(loss, x, weight, bias):
    """Return what each number's step of 1 adds to a loss that is linear in it: its gradient, without rounding."""
    answers = {"grad_x": x, "grad_weight": weight, "grad_bias": bias}
    for name, moved in answers.items():
        answers[name], before = np.empty(moved.shape), loss()
        for index in np.ndindex(moved.shape):
            moved[index] += 1
            answers[name][index] = loss() - before
            moved[index] -= 1
    return answers


def _backward_with(network, kind, backward):
    """Let backward(layer, x, grad_y) work in every layer of a kind; x is the input of its last forward."""
    for layer in network.layers:
        if isinstance(layer, kind):

            def forward(x, layer=layer):
                layer.input = x
                return kind.forward(layer, x)

            def own(grad_y, *, input_gradient=True, layer=layer):
                return backward(layer, layer.input, grad_y)

            layer.forward, layer.backward = forward, own


def _error_of(network, *, images=10_000, optimizer=None, loss=training.cross_entropy):
    """Train for an epoch on some images; return what to say of the error."""
    mnist = load_mnist()
    data, optimizer = (mnist.train_images[:images], mnist.train_labels[:images]), optimizer or training.SGD(0.05)
    training.fit(network, data, epochs=1, batch_size=50, optimizer=optimizer, loss=loss, progress=False)
    error = training.evaluate(network, mnist.test_images[:2000], mnist.test_labels[:2000])
    return f"trained for one epoch on {images:,} images, it errs in {error:.1%} of 2,000 test images, guessing in 90 %"


def relu_backward(x, grad_y):  # [...], [...] -> [...]
    """Return the gradient of ReLU, y = max(x, 0), at its input: grad_y passes where x is positive, elsewhere it is 0.

    At x = 0, where max(x, 0) has no slope, the gradient is 0.

    Examples
    --------
    >>> relu_backward(np.array([-1.0, 0.0, 2.0]), np.array([5.0, 5.0, 5.0])).tolist()
    [0.0, 0.0, 5.0]
    """
    layer = layers.ReLU()
    layer.forward(x)
    return layer.backward(grad_y)


relu = Exercise(
    relu_backward,
    section="4. The small layers, and a tie",
    difficulty=1,
    size="one line",
    unlocks="LeNet-300-100, trained with your relu_backward",
)


@relu.check
def passes_where_x_is_positive(relu_backward):
    """The gradient passes, as it is, where x is above 0."""
    x, grad_y = np.array([-2.0, 3.0, -0.5, 0.5]), np.array([10.0, 20.0, 30.0, 40.0])
    expect(
        relu_backward(x, grad_y),
        [0, 20, 0, 40],
        "grad_y where x > 0, else 0; x is no factor, and the sign of grad_y plays no part",
    )


@relu.check
def negative_gradients(relu_backward):
    """The sign of x decides, not that of the gradient."""
    x, grad_y = np.array([1.0, -1.0, 2.0]), np.array([-7.0, 8.0, -9.0])
    expect(relu_backward(x, grad_y), [-7, 0, -9], "ReLU is not applied to the gradient: ask x > 0, not grad_y > 0")


@relu.check
def at_zero(relu_backward):
    """At x = 0 the gradient is 0, for -0.0 too."""
    expect(relu_backward(np.array([0.0, -0.0, 1.0]), np.array([4.0, 5.0, 6.0])), [0, 0, 6], "x > 0, not x >= 0")


@relu.check
def however_small(relu_backward):
    """However small x is, what is positive passes everything."""
    x = np.array([1e-30, -1e-30, 1e30, -1e30])
    expect(relu_backward(x, np.full(4, 3.0)), [3, 0, 3, 0], "compare with 0 exactly, with no epsilon and no 1 / x")


@relu.check
def images(relu_backward):
    """Any shape, one answer for each number."""
    x = np.arange(-12.0, 12.0).reshape(2, 1, 3, 4)
    expect(relu_backward(x, x + 100), np.stack([np.zeros((1, 3, 4)), x[1] + 100 * (x[1] > 0)]))


@relu.check
def float32_stays(relu_backward):
    """A float32 gradient stays float32."""
    x, grad_y = np.array([[-1, 1]], np.float32), np.array([[0.1, 0.1]], np.float32)
    expect(relu_backward(x, grad_y), np.float32([[0, 0.1]]), "np.zeros is float64 by itself", dtype=np.float32)


@relu.unlocked
def trains_with_relu(relu_backward):
    network = lenet_300_100()
    _backward_with(network, layers.ReLU, lambda layer, x, grad_y: relu_backward(x, grad_y))
    return f"LeNet-300-100 with your relu_backward: {_error_of(network)}"


def linear_backward(x, weight, grad_y):  # [N, in], [out, in], [N, out] -> [N, in], [out, in], [out]
    """Return the gradients of y = x weight^T + bias: (grad_x, grad_weight, grad_bias).

    grad_y is how the loss changes with each output. Each answer has the shape of what it belongs to, and grad_weight
    and grad_bias are sums over the N rows (the 1 / N of a mean is in grad_y already).

    Examples
    --------
    >>> x, weight, grad_y = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[10.0]])
    >>> [gradient.tolist() for gradient in linear_backward(x, weight, grad_y)]
    [[[30.0, 40.0]], [[10.0, 20.0]], [10.0]]
    """
    out_features, in_features = weight.shape
    layer = layers.Linear(in_features, out_features)
    layer.params = {"weight": weight, "bias": np.zeros(out_features, weight.dtype)}
    layer.forward(x)
    grad_x = layer.backward(grad_y)
    return grad_x, layer.grads["weight"], layer.grads["bias"]


linear = Exercise(
    linear_backward,
    section="2. A layer is two functions",
    difficulty=1,
    size="three lines",
    unlocks="LeNet-300-100, trained with your linear_backward",
)

LINEAR = {
    "grad_x": "the shapes tell: [N, out] and [out, in] make [N, in]",
    "grad_weight": "the shapes tell: [out, in] is grad_y transposed times x; it is a sum over the images, no mean",
    "grad_bias": "the bias is added to every row: the sum of grad_y over the rows, of shape (out,), no mean",
}


@linear.check
def one_image(linear_backward):
    """One image: every product by hand."""
    x, weight = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 0.0, -1.0], [2.0, 5.0, 0.0]])
    got = linear_backward(x, weight, np.array([[10.0, 100.0]]))
    right = {"grad_x": [[210, 500, -10]], "grad_weight": [[10, 20, 30], [100, 200, 300]], "grad_bias": [10, 100]}
    _expect_each(got, LINEAR, **right)


@linear.check
def sums_over_images(linear_backward):
    """What the images of a batch ask of a weight adds up."""
    x, weight, grad_y = np.ones((4, 2)), np.array([[1.0, 2.0]]), np.array([[1.0], [2.0], [3.0], [4.0]])
    right = {"grad_x": [[1, 2], [2, 4], [3, 6], [4, 8]], "grad_weight": [[10, 10]], "grad_bias": [10]}
    _expect_each(linear_backward(x, weight, grad_y), LINEAR, **right)


@linear.check
def squares(linear_backward):
    """Three images, three inputs, three outputs: here no shape betrays a wrong order."""
    x, weight, grad_y = np.eye(3)[[1, 2, 0]], np.diag([1.0, 10.0, 100.0]), np.arange(9.0).reshape(3, 3)
    weight[0, 2] = 1000
    right = {
        "grad_x": [[0, 10, 200], [3, 40, 3500], [6, 70, 6800]],
        "grad_weight": [[6, 0, 3], [7, 1, 4], [8, 2, 5]],
        "grad_bias": [9, 12, 15],
    }
    _expect_each(linear_backward(x, weight, grad_y), LINEAR, **right)


@linear.check
def one_input_one_output(linear_backward):
    """One number in, one out: still two axes, and one for the bias."""
    got = linear_backward(np.array([[3.0]]), np.array([[-2.0]]), np.array([[5.0]]))
    _expect_each(got, LINEAR, grad_x=[[-10]], grad_weight=[[15]], grad_bias=[5])


@linear.check
def moved_by_one(linear_backward):
    """Every number moved by 1: the layer is linear in each, so the loss changes by exactly its gradient."""
    rng = np.random.default_rng(0)
    x, weight, bias, grad_y = (_integers(rng, *shape) for shape in ((5, 3), (4, 3), (4,), (5, 4)))
    right = _moved_by_one(lambda: np.sum((x @ weight.T + bias) * grad_y), x, weight, bias)
    _expect_each(linear_backward(x, weight, grad_y), LINEAR, **right)


@linear.check
def stays_float32(linear_backward):
    """float32 in, float32 out."""
    x, weight, grad_y = np.ones((2, 3), np.float32), np.ones((1, 3), np.float32), np.ones((2, 1), np.float32)
    right = {"grad_x": np.ones((2, 3)), "grad_weight": [[2, 2, 2]], "grad_bias": [2]}
    _expect_each(linear_backward(x, weight, grad_y), "new arrays are float64 by themselves", dtype=np.float32, **right)


@linear.unlocked
def trains_with_linear(linear_backward):
    def backward(layer, x, grad_y):
        grad_x, layer.grads["weight"], layer.grads["bias"] = linear_backward(x, layer.params["weight"], grad_y)
        return grad_x

    network = lenet_300_100()
    _backward_with(network, layers.Linear, backward)
    return f"LeNet-300-100 with your linear_backward: {_error_of(network)}"


cross_entropy = Exercise(
    training.cross_entropy,
    section="5. The loss",
    difficulty=2,
    size="eight lines",
    task="No bad input. Leave `indices` unused, nnzip's fit hands it to every loss.",
    unlocks="LeNet-300-100, trained with your cross_entropy",
)


def _expect_loss(got, value, gradient, likely, tolerance=1e-10):
    _expect_each(got, likely, value=value, gradient=gradient, tolerance=tolerance)


@cross_entropy.check
def one_row_by_hand(cross_entropy):
    """Logits log 1, log 2, log 5 are probabilities 1/8, 2/8, 5/8; with label 1 the loss is log 4."""
    hint = {"value": "-log of the probability at the label, base e", "gradient": "softmax minus 1 at the label"}
    _expect_loss(cross_entropy(np.log([[1.0, 2.0, 5.0]]), np.array([1])), log(4), [[1 / 8, -6 / 8, 5 / 8]], hint)


@cross_entropy.check
def mean_of_rows(cross_entropy):
    """The loss is the mean over the rows, so the gradient carries 1 / N."""
    hint = {
        "value": "the mean over the N rows of -log p at each row's own label; no sum, no other column",
        "gradient": "(softmax - one_hot) / N: softmax along each row, divided by the number of rows",
    }
    logits, labels = np.log([[1.0, 3.0, 4.0], [3.0, 1.0, 1.0]]), np.array([0, 1])  # of 8 and of 5
    right = [[-7 / 16, 3 / 16, 4 / 16], [3 / 10, -4 / 10, 1 / 10]]
    _expect_loss(cross_entropy(logits, labels), (log(8) + log(5)) / 2, right, hint)


@cross_entropy.check
def logits_of_a_thousand(cross_entropy):
    """Logits of 1,000 and -1,000 are no trouble."""
    hint = "exp(1000) is infinite: subtract each row's maximum before exp"
    _expect_loss(cross_entropy(np.array([[1000.0, 1000.0]]), np.array([0])), log(2), [[-0.5, 0.5]], hint)
    _expect_loss(cross_entropy(np.array([[-1000.0, -1000.0]]), np.array([1])), log(2), [[0.5, -0.5]], hint)


@cross_entropy.check
def improbable_labels(cross_entropy):
    """A label whose probability rounds to 0 has a large loss, not an infinite one."""
    hint = "never log(softmax): log softmax is z - max - log(sum of exp(z - max)), with no log(0) and no epsilon in it"
    _expect_loss(cross_entropy(np.array([[1000.0, 0, 0, 0]]), np.array([1])), 1000, [[1, -1, 0, 0]], hint)
    _expect_loss(cross_entropy(np.array([[0.0, 50.0]]), np.array([0])), 50, [[-1, 1]], hint)


@cross_entropy.check
def rows_far_apart(cross_entropy):
    """Each row has its own maximum."""
    logits = np.array([[0.0, log(3)], [-2000.0, -2000.0], [900.0, 900.0]])
    hint = "logits.max(axis=1, keepdims=True): with the maximum of all, every exp of a small row is 0"
    right = np.array([[-3 / 4, 3 / 4], [-1 / 2, 1 / 2], [1 / 2, -1 / 2]]) / 3
    _expect_loss(cross_entropy(logits, np.array([0, 0, 1])), (log(4) + 2 * log(2)) / 3, right, hint)


@cross_entropy.check
def one_class(cross_entropy):
    """With one class there is no surprise: loss 0, gradient 0."""
    _expect_loss(cross_entropy(np.array([[3.0], [-8.0]]), np.array([0, 0])), 0, [[0], [0]], "its probability is 1")


@cross_entropy.check
def labels_of_mnist(cross_entropy):
    """The labels may be uint8, as MNIST's are."""
    _expect_loss(
        cross_entropy(np.zeros((2, 4)), np.array([3, 0], np.uint8)),
        log(4),
        [[1 / 8, 1 / 8, 1 / 8, -3 / 8], [-3 / 8, 1 / 8, 1 / 8, 1 / 8]],
        "index with [np.arange(N), labels]",
    )


def _loss_of(logits, labels):  # the definition, row by row
    return sum(log(sum(exp(z) for z in row)) - row[label] for row, label in zip(logits, labels, strict=True)) / len(
        logits
    )


def _differences(loss, point, epsilon):
    slopes = np.empty(point.shape)
    for index in np.ndindex(point.shape):
        step = np.zeros(point.shape)
        step[index] = epsilon
        slopes[index] = (loss(point + step) - loss(point - step)) / (2 * epsilon)
    return slopes


@cross_entropy.check
def finite_differences(cross_entropy):
    """The gradient is the slope of the loss."""
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(scale=2, size=(5, 3)), np.array([0, 2, 1, 1, 0])
    slopes = _differences(lambda z: _loss_of(z.tolist(), labels), logits, 1e-5)  # errs by 1e-10, of rounding and bend
    _expect_loss(cross_entropy(logits, labels), _loss_of(logits.tolist(), labels), slopes, "", tolerance=1e-9)


@cross_entropy.unlocked
def trains_with_loss(cross_entropy):
    network = lenet_300_100()
    return f"LeNet-300-100 with your cross_entropy: {_error_of(network, loss=cross_entropy)}"


def numerical_gradient(weight, x, labels, *, epsilon=1e-6):  # [out, in], [N, in], [N] -> float64 [out, in]
    """Return the gradient of the cross-entropy of the logits x weight^T, by central differences in float64.

        (L(w + epsilon) - L(w - epsilon)) / (2 epsilon)        with one weight moved at a time

    L is the mean of -log softmax(logits)[label] over the N rows.

    Examples
    --------
    >>> numerical_gradient(np.zeros((2, 1)), np.array([[4.0]]), np.array([0])).round(6).tolist()
    [[-2.0], [2.0]]
    """
    moved, slopes = np.array(weight, np.float64), np.empty(weight.shape)
    for index in np.ndindex(weight.shape):
        value = moved[index]
        moved[index] = value + epsilon
        above = training.cross_entropy(x @ moved.T, labels)[0]
        moved[index] = value - epsilon
        slopes[index] = (above - training.cross_entropy(x @ moved.T, labels)[0]) / (2 * epsilon)
        moved[index] = value
    return slopes


numerical = Exercise(
    numerical_gradient,
    section="2. A layer is two functions",
    difficulty=2,
    size="ten lines",
    task="Your cross_entropy, if it passes, gives the loss.",
    unlocks="how far nnzip's backward and your differences are apart, and what a wrong backward scores",
)


@numerical.check
def two_weights(numerical_gradient):
    """Two weights of 0 and one input of 4: the slopes are -2 and 2."""
    got = numerical_gradient(np.zeros((2, 1)), np.array([[4.0]]), np.array([0]))
    expect(got, [[-2], [2]], "up minus down, divided by 2 epsilon; one weight at a time", tolerance=1e-7)


@numerical.check
def central(numerical_gradient):
    """A step of 1 is no limit: what comes is (L(2) - L(0)) / 2, neither the slope nor a one-sided difference."""
    got = numerical_gradient(np.array([[1.0], [0.0]]), np.array([[1.0]]), np.array([0]), epsilon=1.0)
    first = (log(1 + exp(-2)) - log(2)) / 2
    likely = "both sides, w + epsilon and w - epsilon, with the epsilon given, divided by 2 epsilon"
    expect(got, [[first], [-first]], likely, tolerance=1e-12)


def _loss_of_weight(x, labels):
    return lambda weight: _loss_of([[sum(map(float, w * row)) for w in weight] for row in x], labels)


@numerical.check
def one_at_a_time(numerical_gradient):
    """Each weight is moved alone, and back before the next one moves."""
    rng = np.random.default_rng(3)
    weight, x, labels = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), np.array([2, 0, 1, 2])
    right = _differences(_loss_of_weight(x, labels), weight, 0.5)
    likely = "move one element of a copy, take both losses, put it back, go on; the loss is a mean over the rows"
    expect(numerical_gradient(weight, x, labels, epsilon=0.5), right, likely, tolerance=1e-12)


@numerical.check
def the_slope(numerical_gradient):
    """With the small step it is the slope, (softmax - one_hot)^T x / N."""
    rng = np.random.default_rng(4)
    weight, x, labels = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), np.array([3, 0, 1, 1, 2])
    p = np.exp(x @ weight.T)
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(5), labels] -= 1
    likely = "a step far below 1e-6 drowns in the rounding of the loss"
    expect(numerical_gradient(weight, x, labels), p.T @ x / 5, likely, tolerance=1e-8)  # 1e-16 / 1e-6, hundredfold


@numerical.check
def float32_weights(numerical_gradient):
    """Next to 16 a float32 moves in steps of 2e-6, so the differences are taken in float64."""
    weight = np.array([[16.0], [16.0]], np.float32)
    got = numerical_gradient(weight, np.array([[1.0]], np.float32), np.array([1]))
    expect(got, [[0.5], [-0.5]], "w + 1e-6 is rounded in float32: work on weight.astype(np.float64)", tolerance=1e-7)


@numerical.check
def whole_weights(numerical_gradient):
    """Integer weights move too."""
    got = numerical_gradient(np.array([[5], [5]]), np.array([[-2.0]]), np.array([0]))
    expect(got, [[1], [-1]], "an element of an integer array cannot hold 5 + 1e-6: convert it first", tolerance=1e-7)


@numerical.check
def large_logits(numerical_gradient):
    """Logits of 1,000 are no trouble."""
    got = numerical_gradient(np.array([[1000.0], [0.0]]), np.array([[1.0]]), np.array([1]))
    expect(got, [[1], [-1]], "subtract each row's maximum before exp, and never take log(0)", tolerance=1e-6)


@numerical.unlocked
def checks_the_last_layer(numerical_gradient):
    network, mnist = trained("lenet_300_100", seed=0), load_mnist()
    images, labels = mnist.test_images[:20].astype(np.float64), mnist.test_labels[:20]
    *others, last = network.layers
    network.backward(training.cross_entropy(network.forward(images), labels)[1])
    x = np.hstack([Network(others).forward(images), np.ones((20, 1))])  # the bias is the weight of a constant 1
    numeric = numerical_gradient(np.column_stack([last.params["weight"], last.params["bias"]]), x, labels)
    gradient = np.column_stack([last.grads["weight"], last.grads["bias"]])
    apart = [np.abs(g - numeric).max() / np.abs(numeric).max() for g in (gradient, gradient / len(images))]
    return (
        f"LeNet-300-100, the {numeric.size:,} weights and biases of its last layer, on 20 images: nnzip's backward and "
        f"your differences are {apart[0]:.0e} of the largest gradient apart; with a mean over the images where the sum "
        f"belongs it would be {apart[1]:.2f}"
    )


def max_pool2d(x, size):  # [N, C, H, W] -> [N, C, H // size, W // size]
    """Return the largest number of each size x size window; the windows lie side by side.

        y[n, c, i, j] = max of x[n, c, size i + u, size j + v] over u, v < size

    Rows and columns at the end that do not fill a window are left out.

    Examples
    --------
    >>> max_pool2d(np.arange(25.0).reshape(1, 1, 5, 5), 2).tolist()
    [[[[6.0, 8.0], [16.0, 18.0]]]]
    """
    return layers.MaxPool2d(size).forward(x)


pool = Exercise(
    max_pool2d,
    section="4. The small layers, and a tie",
    difficulty=1,
    size="four lines",
    task="H and W are at least size.",
    unlocks="the trained LeNet-5, reading digits with your max_pool2d",
)


@pool.check
def four_windows(max_pool2d):
    """Windows of 2 x 2 side by side, in an image that is no square."""
    x = np.array([[[[1.0, 2, 0, 0, 9, 8], [3, 4, 5, 0, 7, 6], [0, 0, 1, 1, 2, 1], [7, 0, 1, 0, 1, 3]]]])
    likely = "windows lie side by side, stride = size; reshape to (N, C, H // size, size, W // size, size)"
    expect(max_pool2d(x, 2), [[[[4, 5, 9], [7, 1, 3]]]], likely)


@pool.check
def below_zero(max_pool2d):
    """Of negative numbers the largest is the one nearest to 0."""
    x = np.array([[[[-4.0, -3.0, -1.0, -9.0], [-2.0, -1.0, -9.0, -9.0]]]])
    likely = "the largest, not the one of largest magnitude; a maximum that begins with 0 never goes below it"
    expect(max_pool2d(x, 2), [[[[-1, -1]]]], likely)


@pool.check
def what_does_not_fill_a_window(max_pool2d):
    """Of 5 rows and 7 columns, windows of 2 use 4 and 6; the largest numbers, at the end, do not count."""
    x = np.arange(35.0).reshape(1, 1, 5, 7)
    likely = "H // size windows, the first at row 0: cut the end off, pad nothing"
    expect(max_pool2d(x, 2), [[[[8, 10, 12], [22, 24, 26]]]], likely)
    expect(max_pool2d(x - 100, 2), [[[[-92, -90, -88], [-78, -76, -74]]]], likely)


@pool.check
def other_sizes(max_pool2d):
    """Windows of 3 x 3, of 1 x 1, and one as large as the image."""
    x = np.arange(18.0).reshape(1, 1, 3, 6)
    expect(max_pool2d(x, 3), [[[[14, 17]]]], "the window is size x size")
    expect(max_pool2d(x, 1), x, "a window of one pixel is that pixel")
    expect(max_pool2d(-x[..., :3], 3), [[[[0]]]], "one window")


@pool.check
def window_by_window(max_pool2d):
    """Images and channels are kept apart: every window of a batch, looked at by itself."""
    x = np.random.default_rng(0).normal(size=(3, 2, 8, 5)).astype(np.float32)
    for size in (2, 3, 4):
        right = np.empty((3, 2, 8 // size, 5 // size), np.float32)
        for n, c, i, j in np.ndindex(right.shape):
            right[n, c, i, j] = max(x[n, c, size * i + u, size * j + v] for u, v in np.ndindex(size, size))
        expect(
            max_pool2d(x, size),
            right,
            "the maximum is over the two axes inside a window and no other",
            dtype=np.float32,
        )


@pool.unlocked
def reads_with_pool(max_pool2d):
    network, mnist = trained("lenet_5", seed=0), load_mnist()
    for layer in network.layers:
        if isinstance(layer, layers.MaxPool2d):
            layer.forward = lambda x, size=layer.size: max_pool2d(x, size)
    error = training.evaluate(network, mnist.test_images[:2000], mnist.test_labels[:2000])
    return f"The trained LeNet-5 with your max_pool2d errs in {error:.2%} of 2,000 test images"


def max_pool2d_backward(x, grad_y, size):  # [N, C, H, W], [N, C, H // size, W // size] -> [N, C, H, W]
    """Return the gradient of max pooling at its input: each window hands all of its gradient to its largest pixel.

    If several are the largest, the first of them takes it, row by row. Pixels in no window get 0.

    Examples
    --------
    >>> max_pool2d_backward(np.array([[[[1.0, 3.0], [3.0, 0.0]]]]), np.array([[[[6.0]]]]), 2).tolist()
    [[[[0.0, 6.0], [0.0, 0.0]]]]
    """
    layer = layers.MaxPool2d(size)
    layer.forward(x)
    return layer.backward(grad_y)


pool_backward = Exercise(
    max_pool2d_backward,
    section="4. The small layers, and a tie",
    difficulty=2,
    size="ten lines",
    task="H and W are at least size.",
    unlocks="LeNet-5, trained with your max_pool2d_backward",
)

FIRST = "among equals the first, row by row, takes all: argmax over the window as one axis of size * size"


@pool_backward.check
def to_the_largest(max_pool2d_backward):
    """Each window's gradient goes to its largest pixel, whatever the signs."""
    x = np.array([[[[1.0, 2.0, -1.0, -2.0], [4.0, 3.0, -4.0, -3.0]]]])
    likely = "place grad_y itself, at the place of the maximum in x; the others get 0"
    expect(max_pool2d_backward(x, np.array([[[[10.0, -20.0]]]]), 2), [[[[0, 0, -20, 0], [10, 0, 0, 0]]]], likely)


@pool_backward.check
def three_winners(max_pool2d_backward):
    """Of three equal largest pixels the first takes all, the chapter's tie."""
    x = np.array([[[[3.0, 3.0], [3.0, 1.0]]]])
    expect(max_pool2d_backward(x, np.array([[[[6.0]]]]), 2), [[[[6, 0], [0, 0]]]], FIRST)


@pool_backward.check
def first_is_row_by_row(max_pool2d_backward):
    """The upper right pixel comes before the lower left one."""
    x = np.array([[[[1.0, 3.0, 0.0, 0.0], [3.0, 3.0, 5.0, 5.0]]]])
    expect(max_pool2d_backward(x, np.array([[[[6.0, 7.0]]]]), 2), [[[[0, 6, 0, 0], [0, 0, 7, 0]]]], FIRST)


@pool_backward.check
def plain_background(max_pool2d_backward):
    """In a window of zeros the first pixel takes the gradient: it is not lost."""
    right = np.zeros((1, 2, 3, 6))
    right[0, :, 0, ::3] = [[1, 2], [3, 4]]
    expect(max_pool2d_backward(np.zeros((1, 2, 3, 6)), np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]]), 3), right, FIRST)


@pool_backward.check
def pixels_in_no_window(max_pool2d_backward):
    """Of 5 rows and 3 columns, the last of each is in no 2 x 2 window and gets 0; the answer has the shape of x."""
    x = np.arange(15.0).reshape(1, 1, 5, 3)
    right = np.zeros((1, 1, 5, 3))
    right[0, 0, [1, 3], 1] = [5, 7]
    expect(max_pool2d_backward(x, np.array([[[[5.0], [7.0]]]]), 2), right, "zeros of the shape of x, then the winners")


@pool_backward.check
def windows_of_one_pixel(max_pool2d_backward):
    """Windows of 1 x 1 hand everything back."""
    grad_y = np.arange(6.0).reshape(1, 1, 2, 3)
    expect(max_pool2d_backward(-grad_y, grad_y, 1), grad_y, "every pixel wins its own window")


@pool_backward.check
def every_window(max_pool2d_backward):
    """A batch full of ties, window by window."""
    rng = np.random.default_rng(5)
    for size, shape in ((2, (2, 3, 6, 5)), (3, (3, 2, 7, 9))):
        x, grad_y = _integers(rng, *shape), rng.normal(size=(*shape[:2], shape[2] // size, shape[3] // size))
        right = np.zeros(shape)
        for n, c, i, j in np.ndindex(grad_y.shape):
            pixels = [(size * i + u, size * j + v) for u in range(size) for v in range(size)]
            right[(n, c, *max(pixels, key=lambda place: x[(n, c, *place)]))] = grad_y[n, c, i, j]
        expect(max_pool2d_backward(x, grad_y, size), right, FIRST)


@pool_backward.unlocked
def trains_with_pool(max_pool2d_backward):
    network = lenet_5()
    _backward_with(network, layers.MaxPool2d, lambda layer, x, grad_y: max_pool2d_backward(x, grad_y, layer.size))
    return f"LeNet-5 with your max_pool2d_backward: {_error_of(network, images=2000)}"


def conv2d(x, weight, bias, *, stride=1, padding=0):  # [N, C, H, W], [O, C, k, k], [O] -> [N, O, H', W']
    """Return the convolution of images with square filters (not flipped: a cross-correlation).

        y[n, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] * x[n, c, s i + u - p, s j + v - p]

    x is zero outside of the image, s is the stride, p the padding, H' = (H + 2 p - k) // s + 1 and W' likewise.

    Examples
    --------
    >>> x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    >>> conv2d(x, np.array([[[[1.0, 0.0], [0.0, 10.0]]]]), np.array([100.0])).tolist()
    [[[[151.0, 162.0]]]]
    """
    O, C, k, _ = weight.shape
    layer = layers.Conv2d(C, O, k, stride=stride, padding=padding)
    layer.params = {"weight": weight, "bias": bias}
    return layer.forward(x)


conv = Exercise(
    conv2d,
    section="3. Convolution, twice",
    difficulty=3,
    size="ten lines",
    task="A call may take 5 s, and one check gives an image of four million pixels: four Python loops over images, "
    "filters and pixels are too slow, and so are the two over pixels of the chapter's conv2d_by_definition. Loops over "
    "the k * k places of a filter are few; np.lib.stride_tricks.sliding_window_view shows all windows without a copy.",
    unlocks="the feature maps of LeNet-5, drawn by your conv2d",
    seconds=5,
)


def _convolved(x, weight, bias, stride, padding):  # by the formula, one output at a time; exact for whole numbers
    (N, _, H, W), (O, _, k, _) = x.shape, weight.shape
    y = np.empty((N, O, (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1))
    for n, o, i, j in np.ndindex(y.shape):
        y[n, o, i, j] = bias[o]
        for u, v in np.ndindex(k, k):
            row, column = stride * i + u - padding, stride * j + v - padding
            if 0 <= row < H and 0 <= column < W:
                y[n, o, i, j] += weight[o, :, u, v] @ x[n, :, row, column]
    return y


def _convolves(student, shape, filters, kernel, likely, *, stride=1, padding=0):
    rng = np.random.default_rng([*shape, kernel])
    x, weight = _integers(rng, *shape), _integers(rng, filters, shape[1], kernel, kernel)
    bias = np.arange(1.0, filters + 1)
    options = {"stride": stride, "padding": padding}
    expect(student(x, weight, bias, **options), _convolved(x, weight, bias, stride, padding), likely)


@conv.check
def one_window(conv2d):
    """One image, one filter, one window: a dot product, plus the bias."""
    got = conv2d(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[[[1.0, 10.0], [100.0, 1000.0]]]]), np.array([0.5]))
    likely = "no filter is flipped or transposed: weight[u, v] meets x[i + u, j + v]; the bias is added once"
    expect(got, [[[[4321.5]]]], likely)


@conv.check
def slides(conv2d):
    """A filter of 2 x 2 fits into 2 x 4 pixels three times."""
    got = conv2d(np.array([[[[1.0, 2, 3, 4], [5, 6, 7, 8]]]]), np.array([[[[1.0, 0], [0, 10]]]]), np.array([0.0]))
    expect(got, [[[[61, 72, 83]]]], "H' = H - k + 1 and W' = W - k + 1; y is [N, O, H', W'], filters second")


@conv.check
def channels_and_filters(conv2d):
    """Channels are summed, each with its own part of the filter; each filter has its own bias."""
    x = np.array([[[[1.0, 2.0]], [[3.0, 4.0]]], [[[5.0, 6.0]], [[7.0, 8.0]]]])
    weight = np.array([[[[1.0]], [[10.0]]], [[[100.0]], [[0.0]]], [[[0.0]], [[-1.0]]]])
    right = [[[[31, 42]], [[101, 201]], [[2, 1]]], [[[75, 86]], [[501, 601]], [[-2, -3]]]]
    likely = "y is [N, O, H', W'], with the sum over C and bias[o] for every pixel of filter o"
    expect(conv2d(x, weight, np.array([0.0, 1.0, 5.0])), right, likely)


@conv.check
def padded(conv2d):
    """Padding is zeros on all four sides, for a filter that is larger than the image too."""
    likely = "np.pad by padding before and after, on H and W only; the bias is added in the border too"
    _convolves(conv2d, (1, 2, 3, 4), 2, 3, likely, padding=1)
    _convolves(conv2d, (2, 1, 1, 2), 2, 3, likely, padding=2)


@conv.check
def strides(conv2d):
    """A stride moves the window s rows and s columns, and what is left at the end does not count."""
    likely = "H' = (H + 2 p - k) // s + 1, windows at rows 0, s, 2 s, ..., and likewise columns"
    _convolves(conv2d, (1, 1, 7, 4), 1, 3, likely, stride=2)
    _convolves(conv2d, (2, 2, 5, 8), 3, 2, likely, stride=3)
    _convolves(conv2d, (2, 3, 4, 7), 2, 3, likely, stride=2, padding=1)


@conv.check
def smallest_and_largest_filters(conv2d):
    """Filters of one pixel, and as large as the image."""
    _convolves(conv2d, (2, 3, 4, 5), 4, 1, "one pixel: a matrix product over the channels")
    _convolves(conv2d, (3, 2, 4, 4), 2, 4, "as large as the image: one output for each filter, of shape (N, O, 1, 1)")
    _convolves(conv2d, (1, 1, 3, 4), 2, 1, "stride 2 with a filter of one pixel: every other pixel", stride=2)


@conv.check
def formula(conv2d):
    """Batches, channels, filters, odd sizes: each output by the formula."""
    _convolves(conv2d, (3, 2, 6, 9), 4, 3, "compare with the formula, one axis after the other")
    _convolves(conv2d, (2, 3, 9, 6), 2, 5, "compare with the formula, one axis after the other", padding=2)


@conv.check
def a_batch_of_digits(conv2d):
    """64 images of 28 x 28, 20 filters of 5 x 5: LeNet-5's first layer, in float32, and it stays float32."""
    rng = np.random.default_rng(6)
    x, weight = _integers(rng, 2, 1, 28, 28), _integers(rng, 20, 1, 5, 5)
    bias = np.arange(20.0)
    windows = np.array([x[:, :, u : u + 24, v : v + 24] for u in range(5) for v in range(5)])  # [25, 2, 1, 24, 24]
    right = np.tile(np.einsum("tnchw,ot->nohw", windows, weight.reshape(20, 25)) + bias[:, None, None], (32, 1, 1, 1))
    got = conv2d(np.tile(x, (32, 1, 1, 1)).astype(np.float32), weight.astype(np.float32), bias.astype(np.float32))
    expect(got, right, "np.zeros is float64 unless it is told x.dtype", dtype=np.float32)


@conv.check
def a_photograph(conv2d):
    """An image of 2,000 x 1,900 pixels within 5 s: no Python loop over pixels."""
    rows, columns = np.arange(2000, dtype=np.float32), np.arange(1900, dtype=np.float32)
    x = (rows[:, None] - 2 * columns).reshape(1, 1, 2000, 1900)  # a slope: its differences are known everywhere
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[0, 0, [0, 2], 1] = [-1, 1]  # x[i + 2] - x[i] = 2 down, and -4 across
    weight[1, 0, 1, [0, 2]] = [-1, 1]
    right = np.broadcast_to(np.reshape([2.0, -3.0], (1, 2, 1, 1)), (1, 2, 1998, 1898))
    expect(conv2d(x, weight, np.array([0, 1], np.float32)), right)


@conv.unlocked
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
    figure.suptitle(f"a 7 and its 20 feature maps; LeNet-5 with your conv2d errs in {error:.2%} of 2,000 test images")
    return figure


def conv2d_backward(
    x, weight, grad_y, *, stride=1, padding=0
):  # [N, C, H, W], [O, C, k, k], [N, O, H', W'] -> 3 arrays
    """Return the gradients of conv2d at its three arguments: (grad_x, grad_weight, grad_bias).

    y[n, o, i, j] holds weight[o, c, u, v] * x[n, c, s i + u - p, s j + v - p], so grad_y[n, o, i, j] times the one
    factor goes to the gradient of the other. Each answer has the shape of what it belongs to; grad_weight and grad_bias
    are sums over the images.

    Examples
    --------
    >>> x, weight = np.array([[[[1.0, 2.0, 3.0]]]]), np.array([[[[10.0]]]])
    >>> [gradient.tolist() for gradient in conv2d_backward(x, weight, np.array([[[[1.0, 0.0, 2.0]]]]))]
    [[[[[10.0, 0.0, 20.0]]]], [[[[7.0]]]], [3.0]]
    """
    O, C, k, _ = weight.shape
    layer = layers.Conv2d(C, O, k, stride=stride, padding=padding)
    layer.params = {"weight": weight, "bias": np.zeros(O, weight.dtype)}
    layer.forward(x)
    grad_x = layer.backward(grad_y)
    return grad_x, layer.grads["weight"], layer.grads["bias"]


conv_backward = Exercise(
    conv2d_backward,
    section="3. Convolution, twice",
    difficulty=3,
    size="fifteen lines",
    task="A call may take 5 s, and one check gives 128 digits and 20 filters: Python loops over images and filters and "
    "pixels are too slow. Loops over the k * k places of a filter are few.",
    unlocks="LeNet-5, trained with your conv2d_backward",
    seconds=5,
)

CONV = {
    "grad_x": "every window adds grad_y * weight to the pixels under it (+=, windows overlap), into zeros of the "
    "padded size; the padding is cut off at the end, and a pixel in no window has 0",
    "grad_weight": "the sum over images and windows of grad_y times the padded pixel under weight[u, v], no mean",
    "grad_bias": "the bias is added to every pixel of every image: the sum of grad_y over N, H' and W', shape (O,)",
}


def _handed_back(x, weight, grad_y, stride, padding):  # one output at a time, to the window under it
    H, W, k = *x.shape[2:], weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    grad_x, grad_weight = np.zeros(x.shape), np.zeros(weight.shape)
    for n, o, i, j in np.ndindex(grad_y.shape):
        window = np.s_[n, :, stride * i : stride * i + k, stride * j : stride * j + k]
        grad_x[window] += grad_y[n, o, i, j] * weight[o]
        grad_weight[o] += grad_y[n, o, i, j] * x[window]
    inside = grad_x[:, :, padding : padding + H, padding : padding + W]
    return {"grad_x": inside, "grad_weight": grad_weight, "grad_bias": grad_y.sum(axis=(0, 2, 3))}


def _hands_back(student, shape, filters, kernel, *, stride=1, padding=0):
    rng = np.random.default_rng([*shape, kernel])
    x, weight = _integers(rng, *shape), _integers(rng, filters, shape[1], kernel, kernel)
    outputs = [(size + 2 * padding - kernel) // stride + 1 for size in shape[2:]]
    grad_y = _integers(rng, shape[0], filters, *outputs)
    got = student(x, weight, grad_y, stride=stride, padding=padding)
    _expect_each(got, CONV, **_handed_back(x, weight, grad_y, stride, padding))


@conv_backward.check
def back_to_one_window(conv2d_backward):
    """One window: x and weight exchange places, each times grad_y."""
    x, weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), np.array([[[[5.0, 6.0], [7.0, 8.0]]]])
    got = conv2d_backward(x, weight, np.array([[[[10.0]]]]))
    right = {"grad_x": [[[[50, 60], [70, 80]]]], "grad_weight": [[[[10, 20], [30, 40]]]], "grad_bias": [10]}
    _expect_each(got, CONV, **right)


@conv_backward.check
def windows_overlap(conv2d_backward):
    """A pixel that two windows share gets from both, each through its own weight."""
    x, weight = np.array([[[[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]]]]), np.array([[[[1.0, 10.0], [0.0, 0.0]]]])
    got = conv2d_backward(x, weight, np.array([[[[1.0, 2.0]]]]))
    right = {"grad_x": [[[[1, 12, 20], [0, 0, 0]]]], "grad_weight": [[[[5, 10], [0, 0]]]], "grad_bias": [3]}
    _expect_each(got, CONV, **right)


@conv_backward.check
def images_channels_filters(conv2d_backward):
    """grad_x sums over the filters, grad_weight over the images."""
    _hands_back(conv2d_backward, (1, 2, 2, 3), 1, 2)
    _hands_back(conv2d_backward, (2, 1, 2, 3), 2, 2)
    _hands_back(conv2d_backward, (3, 2, 5, 4), 4, 3)
    _hands_back(conv2d_backward, (2, 3, 2, 6), 2, 2)


@conv_backward.check
def back_with_padding(conv2d_backward):
    """The padding takes part in the windows and is cut off again; without padding nothing is."""
    _hands_back(conv2d_backward, (1, 1, 3, 5), 1, 3, padding=1)
    _hands_back(conv2d_backward, (2, 2, 2, 3), 3, 3, padding=2)


@conv_backward.check
def back_with_stride(conv2d_backward):
    """Windows s pixels apart; pixels that none of them reaches get 0, at the end and between."""
    _hands_back(conv2d_backward, (1, 1, 6, 8), 1, 3, stride=2)
    _hands_back(conv2d_backward, (2, 2, 8, 6), 3, 2, stride=3)
    _hands_back(conv2d_backward, (2, 3, 6, 7), 2, 3, stride=2, padding=1)


@conv_backward.check
def moved_by_one_each(conv2d_backward):
    """Every number moved by 1: y is linear in each, so sum(y * grad_y) changes by exactly its gradient."""
    rng = np.random.default_rng(8)
    x, weight, bias, grad_y = (_integers(rng, *s) for s in ((2, 2, 4, 3), (3, 2, 2, 2), (3,), (2, 3, 3, 2)))
    right = _moved_by_one(lambda: np.sum(_convolved(x, weight, bias, 2, 1) * grad_y), x, weight, bias)
    _expect_each(conv2d_backward(x, weight, grad_y, stride=2, padding=1), CONV, **right)


@conv_backward.check
def back_through_smallest_and_largest(conv2d_backward):
    """Filters of one pixel, and as large as the image."""
    _hands_back(conv2d_backward, (3, 2, 3, 4), 4, 1)
    _hands_back(conv2d_backward, (2, 3, 4, 4), 2, 4)


@conv_backward.check
def a_batch_back(conv2d_backward):
    """128 images of 28 x 28, 20 filters of 5 x 5, within 5 s; float32 stays float32."""
    rng = np.random.default_rng(9)
    x, weight, grad_y = _integers(rng, 1, 1, 28, 28), _integers(rng, 20, 1, 5, 5), _integers(rng, 1, 20, 24, 24)
    right = _handed_back(x, weight, grad_y, 1, 0)
    right["grad_x"] = np.tile(right["grad_x"], (128, 1, 1, 1))
    right["grad_weight"], right["grad_bias"] = 128 * right["grad_weight"], 128 * right["grad_bias"]  # below 2^24: exact
    batch = [np.tile(a, (128, 1, 1, 1)).astype(np.float32) for a in (x, grad_y)]
    got = conv2d_backward(batch[0], weight.astype(np.float32), batch[1])
    _expect_each(got, "np.zeros is float64 unless it is told x.dtype", dtype=np.float32, **right)


@conv_backward.unlocked
def trains_with_conv(conv2d_backward):
    def backward(layer, x, grad_y):
        options = {"stride": layer.stride, "padding": layer.padding}
        x, grad_y = np.ascontiguousarray(x), np.ascontiguousarray(grad_y)  # faster than nnzip's views [H, C, W, N]
        answer = conv2d_backward(x, layer.params["weight"], grad_y, **options)
        grad_x, layer.grads["weight"], layer.grads["bias"] = answer
        return grad_x

    network = lenet_5()
    _backward_with(network, layers.Conv2d, backward)
    return f"LeNet-5 with your conv2d_backward: {_error_of(network, images=2000)}"


def sgd_momentum(weight, grad, velocity, rate, momentum):  # [...] three times, two numbers -> [...], [...]
    """Return (weight, velocity) after one step of gradient descent with momentum, as new arrays.

        velocity <- momentum velocity + grad        weight <- weight - rate velocity

    Examples
    --------
    >>> weight, velocity = sgd_momentum(np.array([1.0]), np.array([2.0]), np.array([4.0]), 0.25, 0.5)
    >>> weight.tolist(), velocity.tolist()
    ([0.0], [4.0])
    """
    optimizer, weights = training.SGD(rate, momentum=momentum), {"weight": weight.copy()}
    optimizer.state["weight"], optimizer.steps["weight"] = [velocity.copy()], 0
    optimizer.step(weights, {"weight": grad})
    return weights["weight"], optimizer.state["weight"][0]


sgd = Exercise(
    sgd_momentum,
    section="6. Train one",
    difficulty=1,
    size="two lines",
    unlocks="LeNet-300-100, trained with your sgd_momentum",
)

STEP = "velocity = momentum * velocity + grad, no rate and no 1 - momentum in it; then weight - rate * the new velocity"


@sgd.check
def first_step(sgd_momentum):
    """From rest, the velocity becomes the gradient and the weight goes down the slope."""
    got = sgd_momentum(np.array([1.0, 1.0]), np.array([2.0, -4.0]), np.zeros(2), 0.25, 0.5)
    _expect_each(got, STEP, weight=[0.5, 2], velocity=[2, -4])


@sgd.check
def gathers_speed(sgd_momentum):
    """The old velocity counts momentum times, and the step is made with the new one."""
    got = sgd_momentum(np.array([[10.0], [0.0]]), np.array([[1.0], [2.0]]), np.array([[8.0], [-8.0]]), 0.5, 0.25)
    _expect_each(got, STEP, weight=[[8.5], [0]], velocity=[[3], [0]])


@sgd.check
def coasts(sgd_momentum):
    """Without a gradient the weight goes on, slower."""
    _expect_each(
        sgd_momentum(np.array([1.0]), np.array([0.0]), np.array([4.0]), 0.5, 0.75), STEP, weight=[-0.5], velocity=[3]
    )


@sgd.check
def without_momentum(sgd_momentum):
    """With momentum 0 it is plain gradient descent."""
    got = sgd_momentum(np.array([3.0]), np.array([2.0]), np.array([100.0]), 0.5, 0.0)
    _expect_each(got, STEP, weight=[2], velocity=[2])


@sgd.check
def ten_steps(sgd_momentum):
    """Ten steps down the valley w^2 / 2, whose slope is w, in exact fractions."""
    weight, velocity = np.array([[1.0, -2.0, 0.5]]), np.zeros((1, 3))
    exact = [[Fraction(w), Fraction(0)] for w in (1, -2, Fraction(1, 2))]
    for _ in range(10):
        weight, velocity = sgd_momentum(weight, weight.copy(), velocity, 0.1, 0.9)
        for pair in exact:
            pair[1] = Fraction(9, 10) * pair[1] + pair[0]
            pair[0] -= Fraction(1, 10) * pair[1]
    right = {"weight": [[float(w) for w, _ in exact]], "velocity": [[float(v) for _, v in exact]]}
    _expect_each((weight, velocity), STEP, tolerance=1e-13, **right)


@sgd.check
def stays_in_float32(sgd_momentum):
    """float32 weights stay float32."""
    one = np.ones(2, np.float32)
    got = sgd_momentum(one, one, one, 0.5, 0.5)
    _expect_each(got, "no float64 array may enter", dtype=np.float32, weight=[0.25, 0.25], velocity=[1.5, 1.5])


@sgd.unlocked
def trains_with_sgd(sgd_momentum):
    class Yours(training.SGD):
        def update(self, weight, gradient, velocity, *, rate, t):
            weight[...], velocity[...] = sgd_momentum(weight, gradient, velocity, rate, self.momentum)

    return f"LeNet-300-100 with your sgd_momentum: {_error_of(lenet_300_100(), optimizer=Yours(0.05))}"
