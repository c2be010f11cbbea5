"""Train in 16 bits: what float16 and bfloat16 leave of a training step, masters, and loss scaling (chapter 09b).

Of float32's 8 bits of exponent and 23 of fraction float16 has 5 and 10, and holds 6e-8 to 65504; bfloat16 has 8 and 7.

Micikevicius et al. 2018 (arXiv:1710.03740): weights, activations and gradients in float16, sums in float32; a float32
master of every weight takes the update; and the loss times S, so that small gradients stay above what float16 holds,
the gradients divided by S again in float32. The numbers are floats rounded to the format, computed with in float32.
"""

import copy

import numpy as np

from nnzip.checks import door, number, one_of, whole
from nnzip.compression.quantization import check_plain
from nnzip.nn.network import Network
from nnzip.nn.training import SGD, cosine_decay, cross_entropy, fit

FORMATS = {"float16": (-14, 10, 65504.0), "bfloat16": (-126, 7, np.inf)}  # least exponent, bits of fraction, largest
SCALES = (2.0**-126, 2.0**127)  # of a loss


def round_to_float(x, format):  # [...] -> float32 [...]
    """Return x rounded to the nearest number of a 16-bit format, a tie to the even fraction, still as float32.

        round(x / step) step        step = 2^(exponent of x - bits of the fraction)

    step is a power of two, so both are exact. Where the format has no smaller exponent, the step stays: below 2^-14
    float16's numbers are multiples of 2^-24. Above 65504 it has infinity. NaN stays (IEEE 754-2019, section 4.3.1).
    NumPy's own float16 takes up to thirty times longer where numbers underflow.

    >>> round_to_float([1 + 2**-8, 1 + 3 * 2**-8, 1e-8, 1e5], "bfloat16").tolist()
    [1.0, 1.015625, 1.0011717677116394e-08, 99840.0]
    >>> round_to_float([1e-8, 1e5], "float16").tolist()
    [0.0, inf]
    """
    x = np.asarray(x)
    if x.dtype.kind not in "iuf":
        raise TypeError(f"x must hold real numbers, got dtype {x.dtype}")
    least, fraction, largest = FORMATS[one_of(*FORMATS)(format, "format")]
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(np.float32, order="K")
        exponent = np.maximum(np.frexp(x)[1] - 1, least)
        step = np.ldexp(np.float32(1), exponent - fraction)
        rounded = np.rint(x / step) * step
    return np.where(np.abs(rounded) > largest, np.copysign(np.float32(np.inf), x), rounded)


class LossScale:
    """The factor S of the loss: half after an overflow, twice after `interval` steps without one (in practice 2,000).

    It stays a normal float32; without an interval it stays as it is.

    >>> loss_scale = LossScale(1024.0, interval=2)
    >>> for overflow in (True, False, False):
    ...     loss_scale.update(overflow)
    >>> loss_scale.scale, loss_scale.skipped
    (1024.0, 1)
    """

    @door
    def __init__(self, scale: number(*SCALES) = 2.0**16, *, interval=None):
        self.scale, self.interval = scale, None if interval is None else whole(1)(interval, "interval")
        self.good, self.skipped = 0, 0

    def update(self, overflow):
        """Take note of a step: whether any of its gradients was infinite or NaN, so that it was skipped."""
        self.skipped += bool(overflow)
        self.good += 1
        if self.interval is not None and (overflow or self.good == self.interval):
            self.scale = min(max(self.scale * (0.5 if overflow else 2.0), SCALES[0]), SCALES[1])
            self.good = 0


class RoundedArithmetic:
    """A layer in a 16-bit format: weights, bias, input, output and every gradient rounded.

    `params` are the masters, those of the layer that is given; what computes is a copy of it with the rounded ones.
    """

    def __init__(self, layer, format):
        self.layer, self.format, self.params, self.grads = copy.copy(layer), format, layer.params, {}

    def forward(self, x):
        self.layer.params = {name: self.round(array) for name, array in self.params.items()}
        return self.round(self.layer.forward(self.round(x)))

    def backward(self, grad_y, *, input_gradient=True):
        grad_x = self.layer.backward(self.round(grad_y), input_gradient=input_gradient)
        self.grads = {name: self.round(array) for name, array in self.layer.grads.items()}
        return self.round(grad_x) if input_gradient else None

    def round(self, array):
        return round_to_float(array, self.format)


class ScaledSGD(SGD):
    """SGD that divides the gradients by the loss scale, in float32, and skips the step if one of them overflowed.

    Without masters every weight is rounded to the format after the step, as if no float32 copy were kept.
    """

    def __init__(self, rate, loss_scale, *, format, masters=True, **options):
        super().__init__(rate, **options)
        self.loss_scale, self.format, self.masters = loss_scale, format, masters

    def step(self, parameters, gradients, *, factor=1.0):
        overflow = not all(np.isfinite(gradient).all() for gradient in gradients.values())
        if not overflow:
            unscaled = {name: gradient / np.float32(self.loss_scale.scale) for name, gradient in gradients.items()}
            super().step(parameters, unscaled, factor=factor)
            if not self.masters:
                for parameter in parameters.values():
                    parameter[...] = round_to_float(parameter, self.format)
        self.loss_scale.update(overflow)


@np.errstate(over="ignore", invalid="ignore")  # what is infinite in the format is refused as diverged
def train_low_precision(network, data, *, format, rate, loss_scale=None, masters=True, **options):
    """Train the network in place with 16-bit arithmetic around every layer with weights; return the history of `fit`.

    Its float32 weights are the masters. The loss is computed in float32 (Micikevicius et al. 2018, section 3.3).

    loss_scale : LossScale, which counts the steps that were skipped; None is S = 1
    rate : of SGD with momentum 0.9, both float32; it falls as a cosine
    options : the rest of `fit`'s: epochs, batch_size (128), augment, seed, progress
    """
    check_plain(network)
    loss_scale = LossScale(1.0) if loss_scale is None else loss_scale
    optimizer = ScaledSGD(rate, loss_scale, format=format, masters=masters)
    twin = Network([RoundedArithmetic(layer, format) if layer.params else layer for layer in network.layers])

    def scaled_loss(logits, labels, indices):
        value, grad = cross_entropy(logits, labels)
        return value, grad * np.float32(loss_scale.scale)

    recipe = {"batch_size": 128, "schedule": cosine_decay, **options}
    return fit(twin, data, loss=scaled_loss, optimizer=optimizer, **recipe)
