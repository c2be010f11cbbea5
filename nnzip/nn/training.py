"""Loss, optimizers, schedules, `fit` and `evaluate`; `gradient_check` by finite differences (chapter 01)."""

import sys
import time

import numpy as np

from nnzip.checks import check_array, check_labels, door, number, positive, real, reals, same_shape, whole
from nnzip.distillation import log_softmax
from nnzip.nn.network import Network, check_network

penalty = number(0, np.inf, "[)")


@door
def cross_entropy(logits: reals(2), labels, indices=None):  # [N, classes], [N] -> value, [N, classes]
    """Return the mean of -log softmax(logits)[label], and its gradient (softmax - one_hot) / N.

    `fit` hands every loss the `indices` of the batch in the training set; this one needs none.

    >>> value, gradient = cross_entropy([[0.0, 0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[0.5, -0.5]])
    """
    labels = check_labels(labels, *logits.shape)
    rows, log_p = np.arange(len(labels)), log_softmax(logits)
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return float(-log_p[rows, labels].mean()), gradient / len(labels)


class Optimizer:
    """What SGD and Adam share: the rate, and penalties on weights (names that end in "weight"; biases go free).

    The penalties add l1 sum|w| + l2 / 2 sum w^2 to the loss, so l1 sign(w) + l2 w to the gradient.
    """

    remembers = ()  # names of the arrays that `update` goes on with; they have the weight's shape and start at zero

    @door
    def __init__(self, rate: positive, *, l1: penalty = 0.0, l2: penalty = 0.0):
        self.rate, self.l1, self.l2 = rate, l1, l2
        self.state, self.steps = {}, {}  # name of a parameter -> what is remembered for it, how many steps it has made

    def step(self, parameters, gradients, *, factor=1.0):
        """Change every parameter in place, at `factor` times the rate; the gradients are left as they are."""
        if missing := parameters.keys() - gradients.keys():
            raise ValueError(f"no gradient for {', '.join(sorted(missing))}: run backward first")
        for name, weight in parameters.items():
            gradient = _wide(gradients[name])
            same_shape(gradient, weight, (f"the gradient of {name}", name))
            if name.endswith("weight") and (self.l1 or self.l2):
                gradient = gradient + self.l1 * np.sign(weight) + self.l2 * _wide(weight)
            if name not in self.state or self.state[name][0].shape != weight.shape:
                self.state[name], self.steps[name] = [np.zeros_like(_wide(weight)) for _ in self.remembers], 0
            self.steps[name] += 1
            self.update(weight, gradient, *self.state[name], rate=self.rate * factor, t=self.steps[name])


def _wide(array):  # in float16 the square of a small gradient is 0
    array = np.asarray(array)
    return array.astype(np.result_type(array, np.float32), copy=False)


class SGD(Optimizer):
    """Gradient descent with momentum: v <- momentum v + gradient, w <- w - rate v (PyTorch's form of Polyak's).

    >>> weights = {"0.weight": np.array([1.0])}
    >>> SGD(0.1).step(weights, {"0.weight": np.array([2.0])})
    >>> weights["0.weight"].tolist()
    [0.8]
    """

    remembers = ("velocity",)

    @door
    def __init__(self, rate, *, momentum: number(0, 1, "[)") = 0.9, l1=0.0, l2=0.0):
        super().__init__(rate, l1=l1, l2=l2)
        self.momentum = momentum

    def update(self, weight, gradient, velocity, *, rate, t):  # weight and velocity change in place
        velocity *= self.momentum
        velocity += gradient
        weight -= (rate * velocity).astype(weight.dtype, copy=False)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1): the mean of the gradient over the root of the mean of its square."""

    remembers = ("mean", "square")
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def update(self, weight, gradient, mean, square, *, rate, t):  # 1 - beta^t: both began at zero, t steps ago
        mean *= self.beta1
        mean += (1 - self.beta1) * gradient
        square *= self.beta2
        square += (1 - self.beta2) * gradient**2
        change = mean / (np.sqrt(square / (1 - self.beta2**t)) + self.epsilon)
        weight -= (rate / (1 - self.beta1**t) * change).astype(weight.dtype, copy=False)


def linear_decay(progress):
    """Return 1 - progress: the rate falls to 0 in a line."""
    return 1.0 - progress


def cosine_decay(progress):
    """Return (1 + cos(pi progress)) / 2: slow, fast, slow (Loshchilov and Hutter 2017, eq. 5)."""
    return 0.5 * (1 + np.cos(np.pi * progress))


def random_shift(images, rng):  # [N, C, H, W] -> [N, C, H, W]
    """Move each image by up to 2 rows and 2 columns, drawn anew for each; zeros move in."""
    down, right = 2 - rng.integers(0, 5, (2, len(images)))
    return shifted(images, down, right)


def shifted(images, down, right):  # [N, C, H, W], int or [N], int or [N] -> [N, C, H, W]
    """Move images, or each by its own numbers, so many rows down and columns to the right; zeros move in.

    >>> shifted(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), 1, -1).tolist()
    [[[[0.0, 0.0], [2.0, 0.0]]]]
    """
    images = np.asarray(images)
    check_array(images, "images", 4)
    N, C, H, W = images.shape
    p = int(np.abs([down, right]).max(initial=0))
    padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))  # [N, C, 2p + 1, 2p + 1, H, W]
    return windows[np.arange(N), :, p - down, p - right]


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused as diverged
def training_step(network, images, labels, indices, optimizer, loss=cross_entropy, factor=1.0, masks=None):
    """Forward, loss, backward, update, masks: return the loss and the logits before the update."""
    logits = network.forward(images)
    value, grad_logits = loss(logits, labels, indices) if np.isfinite(logits).all() else (np.inf, None)
    if not np.isfinite(value):
        rate = optimizer.rate * factor
        raise ValueError(f"the loss is {value}: the training diverged, try a smaller rate than {rate}")
    network.backward(grad_logits)
    parameters, gradients = network.parameters(), network.gradients()
    for name, mask in (masks or {}).items():
        gradients[name] *= mask  # the momentum of a pruned weight stays zero ...
    optimizer.step(parameters, gradients, factor=factor)
    for name, mask in (masks or {}).items():
        parameters[name] *= mask  # ... and so does the weight, whatever the optimizer remembered
    return value, logits


@door
def fit(
    network,
    data,
    *,
    epochs: whole(1),
    batch_size: whole(1),
    optimizer,
    loss=cross_entropy,
    schedule=lambda progress: 1.0,
    augment=None,
    masks=None,
    seed=0,
    progress=False,
):
    """Train the network in place and return what happened in each epoch, a dict for each.

    Its entries: epoch, loss, train_error, test_error (fractions; None without test data), rate, seconds.

    data : (images, labels) or (images, labels, test_images, test_labels), as `load_mnist()`; the test error is measured
        after every epoch, to be watched and never chosen by
    epochs, batch_size : every image is used once in an epoch, in a new random order; the last batch may be smaller
    loss : function (logits, labels, indices) -> (value, grad_logits); `indices` are the positions of the batch in the
        training set, where a teacher's logits can be looked up
    schedule : function of the part of the training that is done, 0 to 1 -> factor of the rate
    augment : function (images, rng) -> images, such as `random_shift`
    masks : dict of bool arrays under names of `network.parameters()`, True = kept; weights outside are zero from the
        first step to the last, and so is their momentum
    seed : of the order of the images and of `augment`

    Raises ValueError when the training diverges.
    """
    images, labels, *test = _checked_data(network, data)
    masks = _masked_from_the_start(masks or {}, network.parameters(), optimizer)
    rng, start, history = np.random.default_rng(seed), time.perf_counter(), []
    step, steps = 0, epochs * -(-len(images) // batch_size)
    for epoch in range(1, epochs + 1):
        total, wrong, order = 0.0, 0, rng.permutation(len(images))
        for indices in np.split(order, range(batch_size, len(order), batch_size)):
            batch = images[indices] if augment is None else augment(images[indices], rng)
            factor = schedule(step / steps)
            value, logits = training_step(network, batch, labels[indices], indices, optimizer, loss, factor, masks)
            total += value * len(indices)
            wrong += int(np.count_nonzero(logits.argmax(axis=1) != labels[indices]))
            step += 1
        record = {
            "epoch": epoch,
            "loss": total / len(images),
            "train_error": wrong / len(images),
            "test_error": evaluate(network, *test) if test else None,
            "rate": optimizer.rate * factor,
            "seconds": time.perf_counter() - start,
        }
        history.append(record)
        if progress:
            _report(record, epochs)
    return history


def evaluate(network, images, labels):
    """Return the error of the network, the fraction of images whose largest logit is not at the label."""
    check_network(network)
    labels = check_labels(labels, len(images))
    return float(np.mean(network.predict(images) != labels))


@door
def gradient_check(layer, x: real):  # a layer or a Network, and an input that fits it -> float
    """Return the largest relative error of `backward` against central differences, on a float64 copy.

    The scalar that is differentiated is sum(y * r) with r drawn once, so every output counts. Of each pair of
    gradients a and n the error is |a - n| / max(|a|, |n|), where entries below a thousandth of their array's largest
    are measured against that, since differences cannot resolve them. Every element of x is moved twice.

    >>> from nnzip.nn.layers import Linear
    >>> gradient_check(Linear(4, 3), np.random.default_rng(0).normal(size=(2, 4))) < 1e-6
    True
    """
    network = (layer if isinstance(layer, Network) else Network([layer])).copy()
    x = x.astype(np.float64)
    for part in network.layers:
        part.params.update({name: array.astype(np.float64) for name, array in part.params.items()})
    rng = np.random.default_rng([0, 1])  # not default_rng(0), which may have drawn x: r = x hides a transposition
    direction = rng.normal(size=network.forward(x).shape)
    gradients = {"x": network.backward(direction, input_gradient=True), **network.gradients()}
    errors = []
    for name, array in {"x": x, **network.parameters()}.items():
        same_shape(gradients[name], array, (f"the gradient of {name}", name))  # else (1, n) would pass for (n,)
        numeric = _central_differences(lambda: np.sum(network.forward(x) * direction), array)
        size = np.maximum(np.abs(gradients[name]), np.abs(numeric))
        errors.append(np.max(np.abs(gradients[name] - numeric) / np.maximum(size, 1e-3 * size.max() + 1e-300)))
    return float(np.max(errors))  # NaN stays NaN, where the built-in max may drop it


def _central_differences(function, array, epsilon=1e-6):
    """Return (f(a + e) - f(a - e)) / 2e for every element, which is moved in place and put back."""
    slope = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + epsilon
        above = function()
        array[index] = value - epsilon
        slope[index] = (above - function()) / (2 * epsilon)
        array[index] = value
    return slope


def _checked_data(network, data):  # -> [images, labels], and those of the test set behind them, if there is one
    if len(data) not in (2, 4):
        raise ValueError(f"data must be images and labels, with or without those of a test set, got {len(data)} arrays")
    checked = []
    for images, labels, name in zip(data[::2], data[1::2], ("images", "test images"), strict=False):
        images = real(images, name)
        checked += [images, check_labels(labels, len(images), network.forward(images[:1]).shape[1])]
    return checked


def _masked_from_the_start(masks, parameters, optimizer):
    """Return the masks in the memory order of their weights, which become zero outside of them, with their momentum."""
    held = {}
    for name, mask in masks.items():
        weight, mask = parameters[name], np.asarray(mask)
        if mask.dtype != bool:  # an array of integers would be taken for indices
            raise TypeError(f"the mask of {name} must be bool, got {mask.dtype}")
        same_shape(mask, weight, (f"the mask of {name}", name))
        held[name] = np.full_like(weight, mask, dtype=bool)
    for name, mask in held.items():
        for array in (parameters[name], *optimizer.state.get(name, ())):
            if array.shape == mask.shape:  # the optimizer may have trained another network before
                array[~mask] = 0
    return held


def _report(record, epochs):
    epoch, loss, train_error, test_error, rate, seconds = record.values()
    test = "" if test_error is None else f"  test error {test_error:7.2%}"
    line = f"epoch {epoch:3}/{epochs}  loss {loss:.4f}  train error {train_error:7.2%}{test}  rate {rate:.2e}"
    print(f"{line}  {seconds / epoch * (epochs - epoch):4.0f} s left", file=sys.stderr, flush=True)
