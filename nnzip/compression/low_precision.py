"""Train in 16 bits: what float16 and bfloat16 leave of a training step, float32 masters, and loss scaling.

    format      sign exponent fraction   largest    smallest normal   smallest
    float32        1        8       23   3.4e38     1.2e-38           1.4e-45
    float16        1        5       10   65504      6.1e-05           6.0e-08
    bfloat16       1        8        7   3.4e38     1.2e-38           9.2e-41

Micikevicius et al. 2018 (arXiv:1710.03740): weights, activations and gradients in float16, sums in float32; a float32
master of every weight takes the update; and the loss times S, so that small gradients stay above what float16 holds,
the gradients divided by S again in float32. The numbers are floats rounded to the format, computed with in float32.
"""

import numpy as np

from nnzip.checks import check_choice, check_integer, check_number
from nnzip.compression.quantization import check_plain
from nnzip.nn.training import SGD, cosine_decay, cross_entropy, fit, random_shift

FORMATS = ("float16", "bfloat16")
SCALES = (2.0**-126, 2.0**127)  # of a loss


def round_to_float(x, format):  # [...] -> float32 [...]
    """Return x rounded to the nearest number of a 16-bit format, a tie to the even fraction, still as float32.

    Both formats drop the last bits of a float32's fraction, 16 or 13. Adding half of what these bits can hold, and the
    last bit that is kept, which decides a tie, carries into the kept bits exactly where rounding goes up, and into the
    exponent too. float16 has fewer exponents: below 2^-14 its numbers are multiples of 2^-24, above 65504 is infinity.

    Parameters
    ----------
    x : real numbers, taken as float32; infinity and NaN stay what they are, as hardware has it
    format : "float16" or "bfloat16"; what is too large for it becomes infinity

    Raises TypeError or ValueError for anything else. Source: IEEE 754-2019, section 4.3.1. It agrees with NumPy's
    float16, whose conversion takes up to thirty times longer where numbers underflow.

    Examples
    --------
    >>> round_to_float([1 + 2**-8, 1 + 3 * 2**-8, 1e-8, 1e5], "bfloat16").tolist()
    [1.0, 1.015625, 1.0011717677116394e-08, 99840.0]
    >>> round_to_float([1e-8, 1e5], "float16").tolist()
    [0.0, inf]
    """
    dropped = {"float16": 13, "bfloat16": 16}[check_choice(format, "format", FORMATS)]
    x = np.asarray(x)
    if x.dtype.kind not in "iuf":
        raise TypeError(f"x must hold real numbers, got dtype {x.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(np.float32, order="K")
        bits = x.view(np.uint32)
        half = np.uint32(2 ** (dropped - 1) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
        rounded = ((bits + half) & ~np.uint32(2**dropped - 1)).view(np.float32)
        if format == "float16":
            rounded = np.where(np.abs(x) < 2.0**-14, np.rint(x * np.float32(2**24)) / np.float32(2**24), rounded)
            rounded = np.where(np.abs(rounded) > 65504, np.copysign(np.float32(np.inf), x), rounded)
    return np.where(np.isnan(x), x, rounded)  # a NaN's fraction might carry into its sign


class LossScale:
    """The factor S of the loss, and with `interval` its adjustment: half after an overflow, twice after a good run.

    Parameters
    ----------
    scale : float > 0, S at the start; it stays a normal float32
    interval : int, how many steps without overflow double it (2,000 in practice); None, it stays (static)

    Source: Micikevicius et al. 2018, section 3.2; the dynamic one as in PyTorch's GradScaler.

    Examples
    --------
    >>> loss_scale = LossScale(1024.0, interval=2)
    >>> for overflow in (True, False, False):
    ...     loss_scale.update(overflow)
    >>> loss_scale.scale, loss_scale.skipped
    (1024.0, 1)
    """

    def __init__(self, scale=2.0**16, *, interval=None):
        self.scale = check_number(scale, "scale", *SCALES)
        self.interval = None if interval is None else check_integer(interval, "interval", 1)
        self.good, self.skipped = 0, 0

    def update(self, overflow):
        """Take note of a step: whether any of its gradients was infinite or NaN, so that it was skipped."""
        self.skipped += bool(overflow)
        self.good += 1
        if self.interval is not None and (overflow or self.good == self.interval):
            self.scale = min(max(self.scale * (0.5 if overflow else 2.0), SCALES[0]), SCALES[1])
            self.good = 0


class RoundedArithmetic:
    """A layer in a 16-bit format: weights, bias, input, output and every gradient rounded; `params` are the masters."""

    def __init__(self, layer, format):
        self.layer, self.format, self.params = layer, check_choice(format, "format", FORMATS), layer.params

    grads = property(lambda self: self.layer.grads)

    def forward(self, x):
        self.layer.params = {name: self._round(array) for name, array in self.params.items()}
        return self._round(self.layer.forward(self._round(x)))

    def backward(self, grad_y, *, input_gradient=True):
        grad_x = self.layer.backward(self._round(grad_y), input_gradient=input_gradient)
        self.layer.grads.update({name: self._round(array) for name, array in self.grads.items()})
        return self._round(grad_x) if input_gradient else None

    def _round(self, array):
        return round_to_float(array, self.format)


class ScaledSGD(SGD):
    """SGD that divides the gradients by the loss scale, in float32, and skips the step if one of them overflowed.

    masters : False rounds every weight to the format after the step, as if no float32 copy were kept
    """

    def __init__(self, rate, loss_scale, *, format, masters=True, **options):
        super().__init__(rate, **options)
        self.loss_scale, self.masters = _check_scale(loss_scale), check_choice(masters, "masters", (True, False))
        self.format = check_choice(format, "format", FORMATS)

    def step(self, parameters, gradients, *, factor=1.0):
        overflow = not all(np.isfinite(gradient).all() for gradient in gradients.values())
        if not overflow:
            unscaled = {name: gradient / np.float32(self.loss_scale.scale) for name, gradient in gradients.items()}
            super().step(parameters, unscaled, factor=factor)
            if not self.masters:
                for parameter in parameters.values():
                    parameter[...] = round_to_float(parameter, self.format)
        self.loss_scale.update(overflow)


def _check_scale(loss_scale):
    if not isinstance(loss_scale, LossScale):
        raise TypeError(f"loss_scale must be a LossScale, got {loss_scale!r}")
    return loss_scale


def train_low_precision(
    network,
    data,
    *,
    format,
    epochs,
    rate,
    loss_scale=None,
    masters=True,
    batch_size=128,
    schedule=cosine_decay,
    augment=random_shift,
    seed=0,
    progress=True,
):
    """Train the network in place with 16-bit arithmetic around every layer with weights; return the history of `fit`.

    Parameters
    ----------
    network : Network; its float32 weights are the masters
    format : "float16" or "bfloat16"
    loss_scale : LossScale, which counts the steps that were skipped; None is S = 1
    masters : False keeps the weights themselves in the format
    data, epochs, batch_size, schedule, augment, seed, progress : as in `fit`
    rate : of SGD with momentum 0.9, whose momentum is float32

    The loss, softmax included, is computed in float32 (Micikevicius et al. 2018, section 3.3). Raises ValueError or
    TypeError for what `fit` refuses.
    """
    check_plain(network)
    loss_scale = LossScale(1.0) if loss_scale is None else _check_scale(loss_scale)
    twin = type(network)([RoundedArithmetic(layer, format) if layer.params else layer for layer in network.layers])

    def scaled_loss(logits, labels, indices):
        value, grad = cross_entropy(logits, labels)
        return value, grad * np.float32(loss_scale.scale)

    optimizer = ScaledSGD(rate, loss_scale, format=format, masters=masters)
    recipe = {"epochs": epochs, "batch_size": batch_size, "schedule": schedule, "augment": augment}
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is infinite in the format is refused as diverged
            return fit(twin, data, loss=scaled_loss, optimizer=optimizer, **recipe, seed=seed, progress=progress)
    finally:
        for layer in twin.layers:
            if isinstance(layer, RoundedArithmetic):
                layer.layer.params = layer.params  # the masters, where the rounded ones were
