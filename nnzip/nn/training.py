"""Loss, optimizers, schedules, `fit` and `evaluate`; `gradient_check` holds a backward pass to finite differences."""

import copy
import sys
import time

import numpy as np

from nnzip.checks import (
    check_choice,
    check_integer,
    check_labels,
    check_ndim,
    check_number,
    check_same_shape,
    real_array,
)
from nnzip.distillation import log_softmax
from nnzip.nn.network import check_network


def cross_entropy(logits, labels, indices=None):  # [N, classes], [N] -> value, [N, classes]
    """Return the mean of -log softmax(logits)[label], and its gradient (softmax - one_hot) / N.

    Parameters
    ----------
    logits : float array (N, classes)
    labels : int array (N,), each in [0, classes)
    indices : ignored
        `fit` hands every loss the positions of the batch in the training set; this one needs none.

    Raises
    ------
    ValueError, TypeError
        For labels that are not one class number per row.

    Examples
    --------
    >>> value, gradient = cross_entropy([[0.0, 0.0]], [1])
    >>> round(value, 4), gradient.tolist()
    (0.6931, [[0.5, -0.5]])
    """
    logits = real_array(logits, "logits", ndim=2)
    labels = check_labels(labels, logits.shape)
    rows, log_p = np.arange(len(labels)), log_softmax(logits)
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return float(-log_p[rows, labels].mean()), gradient / len(labels)


class Optimizer:
    """What SGD and Adam share: the rate, and penalties on weights (names that end in "weight"; biases go free).

    The penalties add l1 sum|w| + l2 / 2 sum w^2 to the loss, so l1 sign(w) + l2 w to the gradient.
    """

    def __init__(self, rate, *, l1=0.0, l2=0.0):
        self.rate = check_number(rate, "rate", 0, np.inf, open_low=True, open_high=True)
        self.l1 = check_number(l1, "l1", 0, np.inf, open_high=True)
        self.l2 = check_number(l2, "l2", 0, np.inf, open_high=True)
        self.state = {}
        self.steps = {}

    def step(self, parameters, gradients, *, factor=1.0):
        """Change every parameter in place, at `factor` times the rate; the gradients are left as they are."""
        if missing := parameters.keys() - gradients.keys():
            raise ValueError(f"no gradient for {', '.join(sorted(missing))}: run backward first")
        for name, parameter in parameters.items():
            gradient = np.asarray(gradients[name])
            check_same_shape(gradient, parameter, (f"the gradient of {name}", name))
            if name.endswith("weight") and (self.l1 or self.l2):
                gradient = gradient + self.l1 * np.sign(parameter) + self.l2 * parameter
            self._update(name, parameter, gradient, self.rate * factor)

    def _remember(self, name, parameter, count):
        """Return `count` arrays like the parameter that start at zero and last as long as the optimizer."""
        if name not in self.state or self.state[name][0].shape != parameter.shape:
            self.state[name] = [np.zeros_like(parameter) for _ in range(count)]
            self.steps[name] = 0
        self.steps[name] += 1
        return self.state[name]


class SGD(Optimizer):
    """Gradient descent with momentum: v <- momentum v + gradient, w <- w - rate v (PyTorch's form of Polyak's)

    Examples
    --------
    >>> weights = {"0.weight": np.array([1.0])}
    >>> SGD(0.1).step(weights, {"0.weight": np.array([2.0])})
    >>> weights["0.weight"].tolist()
    [0.8]
    """

    def __init__(self, rate, *, momentum=0.9, l1=0.0, l2=0.0):
        super().__init__(rate, l1=l1, l2=l2)
        self.momentum = check_number(momentum, "momentum", 0, 1, open_high=True)

    def _update(self, name, parameter, gradient, rate):
        velocity, change = self._remember(name, parameter, 2)
        velocity *= self.momentum
        velocity += gradient
        np.multiply(velocity, rate, out=change)
        parameter -= change


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1): the mean of the gradient over the root of the mean of its square.

    Examples
    --------
    >>> weights = {"0.weight": np.array([1.0])}
    >>> Adam(0.1).step(weights, {"0.weight": np.array([2.0])})
    >>> weights["0.weight"].round(6).tolist()
    [0.9]
    """

    def __init__(self, rate, *, beta1=0.9, beta2=0.999, epsilon=1e-8, l1=0.0, l2=0.0):
        super().__init__(rate, l1=l1, l2=l2)
        self.beta1 = check_number(beta1, "beta1", 0, 1, open_high=True)
        self.beta2 = check_number(beta2, "beta2", 0, 1, open_high=True)
        self.epsilon = check_number(epsilon, "epsilon", 0, 1, open_low=True)

    def _update(self, name, parameter, gradient, rate):
        mean, square, scratch, change = self._remember(name, parameter, 4)
        t = self.steps[name]
        mean *= self.beta1
        mean += np.multiply(gradient, 1 - self.beta1, out=scratch)
        square *= self.beta2
        np.multiply(gradient, gradient, out=scratch)
        square += np.multiply(scratch, 1 - self.beta2, out=scratch)
        np.sqrt(np.divide(square, 1 - self.beta2**t, out=scratch), out=scratch)
        scratch += self.epsilon
        np.divide(mean, scratch, out=change)
        parameter -= np.multiply(change, rate / (1 - self.beta1**t), out=change)


def constant_rate(progress):
    """Return 1: the rate stays."""
    return 1.0


def linear_decay(progress):
    """Return 1 - progress: the rate falls to 0 in a line."""
    return 1.0 - progress


def cosine_decay(progress):
    """Return (1 + cos(pi progress)) / 2: slow, fast, slow (Loshchilov and Hutter 2017, eq. 5)."""
    return 0.5 * (1 + np.cos(np.pi * progress))


def step_decay(progress):
    """Return 1, from half of the training on 0.1, from three quarters on 0.01 (the usual drops of He et al. 2016)."""
    return 1.0 if progress < 0.5 else 0.1 if progress < 0.75 else 0.01


def random_shift(images, rng, *, pixels=2):  # [N, C, H, W] -> [N, C, H, W]
    """Move each image by up to `pixels` rows and columns, drawn anew for each; zeros move in."""
    images = np.asarray(images)
    check_ndim(images, "images", 4)
    check_integer(pixels, "pixels", 0)
    down, right = pixels - rng.integers(0, 2 * pixels + 1, (2, len(images)))
    return shifted(images, down, right)


def shifted(images, down, right):  # [N, C, H, W], int or [N], int or [N] -> [N, C, H, W]
    """Move images, or each by its own numbers, so many rows down and columns to the right; zeros move in.

    >>> shifted(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), 1, -1).tolist()
    [[[[0.0, 0.0], [2.0, 0.0]]]]
    """
    N, C, H, W = images.shape
    p = int(np.abs([down, right]).max(initial=0))
    padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(2, 3))  # [N, C, 2p + 1, 2p + 1, H, W]
    return windows[np.arange(N), :, p - down, p - right]


def fit(
    network,
    data,
    *,
    epochs,
    batch_size,
    optimizer,
    loss=cross_entropy,
    schedule=constant_rate,
    augment=None,
    masks=None,
    seed=0,
    progress=True,
):
    """Train the network in place and return what happened in each epoch.

    Parameters
    ----------
    data : (images, labels) or (images, labels, test_images, test_labels), as `load_mnist()`
        With test data, its error is measured after every epoch, to be watched and never chosen by.
    epochs, batch_size : int
        Every image is used once in an epoch, in a new random order; the last batch may be smaller.
    optimizer : SGD or Adam
    loss : function (logits, labels, indices) -> (value, grad_logits)
        `indices` are the positions of the batch in the training set (where a teacher's logits can be looked up).
    schedule : function of the part of the training that is done, 0 to 1 -> factor of the rate
    augment : function (images, rng) -> images, such as `random_shift`
    masks : dict of bool arrays under names of `network.parameters()`, True = kept
        Weights outside are zero from the first step to the last, and so is their momentum.
    seed : int
        Of the order of the images and of `augment`.
    progress : bool
        Print a line an epoch to standard error.

    Returns
    -------
    list of dicts with epoch, loss, train_error, test_error (fractions; None without test data), rate, seconds

    Raises
    ------
    ValueError
        If images, labels, masks or their shapes do not fit, or when the training diverges.
    """
    check_network(network)
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be one such as SGD(0.1), got {optimizer!r}")
    if len(data) not in (2, 4):
        raise ValueError(f"data must be images and labels, with or without those of a test set, got {len(data)} arrays")
    images, labels, *test = data
    images = real_array(images, "images")
    labels = check_images_and_labels(images, labels)
    classes = network.forward(images[:1]).shape[1]
    check_labels(labels, (len(images), classes))
    if test:
        test[0] = real_array(test[0], "test images")
        check_labels(check_images_and_labels(*test), (len(test[0]), classes))
    epochs = check_integer(epochs, "epochs", 1)
    batch_size = check_integer(batch_size, "batch_size", 1)
    masks = _check_masks(masks, network.parameters())
    rng = np.random.default_rng(seed)
    steps, step, history, start = epochs * -(-len(images) // batch_size), 0, [], time.perf_counter()
    for name, mask in masks.items():
        for array in (network.parameters()[name], *optimizer.state.get(name, ())):  # it may come with momentum
            if array.shape == mask.shape:
                array[~mask] = 0
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(images))
        total, wrong = 0.0, 0
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


@np.errstate(over="ignore", invalid="ignore")  # what overflows is refused as diverged
def training_step(network, images, labels, indices, optimizer, loss=cross_entropy, factor=1.0, masks=None):
    """Forward, loss, backward, update, masks: return the loss and the logits before the update."""
    logits = network.forward(images)
    value, grad_logits = loss(logits, labels, indices) if np.isfinite(logits).all() else (np.inf, None)
    if not np.isfinite(value):
        raise ValueError(
            f"the loss is {value}: the training diverged, try a smaller rate than {optimizer.rate * factor}"
        )
    network.backward(grad_logits)
    parameters, gradients = network.parameters(), network.gradients()
    for name, mask in (masks or {}).items():
        gradients[name] *= mask  # the momentum of a pruned weight stays zero ...
    optimizer.step(parameters, gradients, factor=factor)
    for name, mask in (masks or {}).items():
        parameters[name] *= mask  # ... and so does the weight, whatever the optimizer remembered
    return value, logits


def evaluate(network, images, labels):
    """Return the error of the network, the fraction of images whose largest logit is not at the label."""
    check_network(network)
    images = np.asarray(images)
    labels = check_images_and_labels(images, labels)
    return float(np.mean(network.predict(images) != labels))


def gradient_check(layer, x, *, epsilon=1e-6, seed=0):
    """Return the largest relative error of `backward` against central differences, on a float64 copy.

    The scalar that is differentiated is sum(y * r) with r drawn once, so every output counts. Of each pair of
    gradients a and n the error is |a - n| / max(|a|, |n|), where entries below a thousandth of their array's largest
    are measured against that, since differences cannot resolve them.

    Parameters
    ----------
    layer : a layer or a Network
        It is not changed.
    x : float array
        Its input; few elements, since every one is moved twice.

    Examples
    --------
    >>> from nnzip.nn.layers import Linear
    >>> gradient_check(Linear(4, 3), np.random.default_rng(0).normal(size=(2, 4))) < 1e-6
    True
    """
    check_number(epsilon, "epsilon", 0, 1, open_low=True)
    layer = copy.deepcopy(layer)
    for part in getattr(layer, "layers", [layer]):
        part.params.update({name: array.astype(np.float64) for name, array in part.params.items()})
    params = layer.parameters() if hasattr(layer, "parameters") else layer.params
    x = real_array(x).astype(np.float64)
    rng = np.random.default_rng([seed, 1])  # not default_rng(seed), which may have drawn x: r = x hides a transposition
    direction = rng.normal(size=layer.forward(x).shape)
    gradients = {"x": layer.backward(direction, input_gradient=True)}
    gradients |= layer.gradients() if hasattr(layer, "gradients") else layer.grads
    errors = []
    for name, array in {"x": x, **params}.items():
        check_same_shape(gradients[name], array, (f"the gradient of {name}", name))  # else (1, n) would pass for (n,)
        numeric = _central_differences(lambda: np.sum(layer.forward(x) * direction), array, epsilon)
        errors.append(_relative_error(gradients[name], numeric))
    return float(np.max(errors))  # NaN stays NaN, where the built-in max may drop it


def _central_differences(function, array, epsilon):
    """Return (f(a + e) - f(a - e)) / 2e for every element; the array is moved in place and put back."""
    slope = np.empty(array.shape)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + epsilon
        above = function()
        array[index] = value - epsilon
        slope[index] = (above - function()) / (2 * epsilon)
        array[index] = value
    return slope


def _relative_error(a, b):
    scale = max(np.abs(a).max(), np.abs(b).max())
    return float((np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-3 * scale + 1e-300)).max())


def check_images_and_labels(images, labels):
    """Return `labels` as an integer array, one for each image."""
    labels = np.asarray(labels)
    check_ndim(labels, "labels", 1)
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"images and labels must be equally many and not none, got {images.shape} and {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got dtype {labels.dtype}")
    return labels


def _check_masks(masks, parameters):
    if not isinstance(masks, dict | None):
        raise TypeError(f"masks must be a dict of bool arrays by name, got {type(masks).__name__}")
    held = {}
    for name, mask in (masks or {}).items():
        check_choice(name, "a mask's name", parameters)
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != parameters[name].shape:
            raise ValueError(
                f"the mask of {name} must be bool of shape {parameters[name].shape}, "
                f"got {mask.dtype} of shape {mask.shape}"
            )
        held[name] = np.empty_like(parameters[name], dtype=bool)  # in the memory order of the weights
        held[name][...] = mask
    return held


def _report(record, epochs):
    test = "" if record["test_error"] is None else f"  test error {record['test_error']:7.2%}"
    left = record["seconds"] / record["epoch"] * (epochs - record["epoch"])
    print(
        f"epoch {record['epoch']:3}/{epochs}  loss {record['loss']:.4f}  train error {record['train_error']:7.2%}{test}"
        f"  rate {record['rate']:.2e}  {left:4.0f} s left",
        file=sys.stderr,
        flush=True,
    )
