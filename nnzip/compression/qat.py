"""Train through the rounding: the straight-through estimator, learned step sizes, binary weights (chapter 09).

    forward    y = f(x_hat, w_hat), with x_hat and w_hat on their grids
    backward   dL/dw = dL/dw_hat where the rounding did not clip, 0 where it did        (rounding has slope 0 or none)

The optimizer moves float weights; what is left after the training are their rounded values. Weights have the library's
narrow symmetric grid, 2^bits - 1 codes (two bits: -1, 0, 1), with a step for each output neuron or filter. Inputs have
one step and the codes 0 .. 2^bits - 1 where none was negative on the calibration images (pixels, ReLU's outputs), else
the narrow symmetric ones: LeNet-5's convolutions have no ReLU after them. First and last layer are no exception.
"""

from functools import partial

import numpy as np

from nnzip.calibration import code_range
from nnzip.checks import FLOAT32_MAX, door, one_of, real, reals, same_shape, whole, wide
from nnzip.codebooks import binary
from nnzip.compression.distillation import distill
from nnzip.compression.pruning import masks_of
from nnzip.compression.quantization import Grid, Identity, Rounded, activation_qparams, check_plain, export_rounded
from nnzip.nn.training import SGD, cosine_decay, fit
from nnzip.quantization import FLOAT32_TINY, QuantParams, aligned, choose_qparams

CALIBRATION_IMAGES = 1000
BITS, METHOD = whole(2, 16), one_of("straight_through", "learned_step", "binary")

# Arrays in, arrays out


@door
def straight_through(x: real, qparams, grad_y: real):  # [...], QuantParams, [...] -> [...]
    """Return the gradient at x of y = fake_quantize(x, qparams), as if the rounding were the identity.

        dL/dx = dL/dy    where qmin <= round(x / scale) + zero_point <= qmax, else 0

    It is the true gradient of clip(x, lo, hi), with lo and hi half a step outside of the grid's ends. Bengio et al.
    2013 (arXiv:1308.3432), section 2.3; with the clipping, PyTorch's `fake_quantize_per_tensor_affine`.

    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=2, signed=True, narrow=True)
    >>> straight_through([-2.0, -1.4, 0.3, 9.0], grid, [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 2.0, 3.0, 0.0]
    """
    same_shape(x, grad_y, ("x", "grad_y"))
    values, scale, zero_point = aligned(x, qparams)
    with np.errstate(over="ignore"):  # what is beyond a float is clipped too
        steps = np.rint(values / scale)
    codes = steps + zero_point.astype(steps.dtype)
    passes = (codes >= qparams.qmin) & (codes <= qparams.qmax)
    return grad_y * passes.reshape(x.shape)


@door
def learned_step(x: wide, step: reals(0, 1), *, bits: BITS, signed):  # [...], () or [C] -> [...]
    """Return x on a grid whose step is trained: round(clip(x / step, -Qn, Qp)) step, rounded half to even.

    Qp = Qn = 2^(bits-1) - 1 signed, Qn = 0 and Qp = 2^bits - 1 unsigned; one step for all, or one for each index of the
    first axis. Esser et al. 2020 (arXiv:1902.08153), eqs. 1 and 2, where the signed grid has one code more.

    >>> learned_step([-0.9, 0.2, 0.3, 7.0], 0.5, bits=3, signed=True).tolist()
    [-1.0, 0.0, 0.5, 1.5]
    """
    low, high = code_range(bits, signed, narrow=True)
    step = _fitting(step, x, high)
    with np.errstate(over="ignore"):  # what is beyond a float is clipped too
        return np.rint(np.clip(x / step, low, high)) * step


@door
def learned_step_gradients(x: wide, step: reals(0, 1), grad_y: real, *, bits: BITS, signed):
    """Return the gradients of `learned_step` at x and at the step, with v = x / step:

        dy/dx    = 1 inside, -Qn < v < Qp, else 0
        dy/dstep = round(v) - v inside, -Qn below, Qp above; times dL/dy, and summed over all that share the step

    They are those of step (clip(v) + r), where r = round(clip(v)) - clip(v) is held at what it is now. Esser et al.
    2020, eqs. 3 and 5.

    >>> grad_x, grad_step = learned_step_gradients([0.2, 7.0], 0.5, [1.0, 1.0], bits=3, signed=True)
    >>> grad_x.tolist(), float(grad_step.round(6))  # (0 - 0.4) + 3
    ([1.0, 0.0], 2.6)
    """
    same_shape(x, grad_y, ("x", "grad_y"))
    low, high = code_range(bits, signed, narrow=True)
    step = _fitting(step, x, high)
    with np.errstate(over="ignore"):
        v = np.clip(x / step, low, high)
    inside = (v > low) & (v < high)
    per_element = grad_y * (np.rint(v) - v * inside)  # eq. 3
    return grad_y * inside, per_element.sum(axis=tuple(range(1, x.ndim)) if step.ndim else None)


@door
def step_gradient_scale(count: whole(1), *, bits: BITS, signed):
    """Return 1 / sqrt(count Qp), by which a step's gradient is multiplied so that it moves no faster than a weight.

    count : weights that share the step, or numbers in one image's activation (Esser et al. 2020, section 2.2)
    """
    return 1 / np.sqrt(count * code_range(bits, signed, narrow=True)[1])


@door
def start_step(x: real, *, bits: BITS, signed, axis: one_of(None, 0) = None):  # [C, ...] -> float32 () or [C]
    """Return the step to start with, 2 mean|x| / sqrt(Qp) (Esser et al. 2020, section 2.1); 1 where all is 0."""
    mean = np.abs(x).mean(axis=None if axis is None else tuple(range(1, x.ndim)), dtype=np.float64)
    step = 2 * mean / np.sqrt(code_range(bits, signed, narrow=True)[1])
    return np.asarray(np.where(step > FLOAT32_TINY, step, 1.0), np.float32)


def _fitting(step, x, high):  # () or [C], [C, ...] -> the step in the precision of x, and so that it broadcasts over x
    if step.ndim and step.shape != x.shape[:1]:
        raise ValueError(f"step must have shape () or {x.shape[:1]} for x of shape {x.shape}, got {step.shape}")
    if float(step.min()) < FLOAT32_TINY or float(step.max()) > FLOAT32_MAX / high:
        allowed = f"from {FLOAT32_TINY:.3g} to {FLOAT32_MAX / high:.3g}, so that codes are finite"
        raise ValueError(f"step must be positive, {allowed}, got {step.min()} to {step.max()}")
    return step.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) if step.ndim else step.astype(x.dtype)


# Roundings of a `Rounded` layer


class ClippedGrid(Grid):
    """A grid that stays, trained by the clipped straight-through estimator."""

    def backward(self, x, grad):
        return straight_through(x, self.qparams, grad)


class LearnedStep(Identity):
    """A grid whose step is trained, as one of the layer's `params`: "weight_step" or "input_step"."""

    def __init__(self, params, name, begin, *, bits, signed, axis=None):  # begin: what gives the first step
        super().__init__()
        self.params, self.name, self.grid = params, name, {"bits": bits, "signed": signed}
        params[name] = start_step(begin, axis=axis, **self.grid)

    @property
    def step(self):
        step = self.params[self.name]
        return np.maximum(step, FLOAT32_TINY, out=step)  # an update that is too large may have passed 0

    @property
    def qparams(self):  # of inputs, whose step is one for all
        return QuantParams(self.step, 0, **self.grid, narrow=self.grid["signed"])

    def forward(self, x):
        return learned_step(x, self.step, **self.grid)

    def backward(self, x, grad):
        grad_x, grad_step = learned_step_gradients(x, self.step, grad, **self.grid)
        self.grads[self.name] = grad_step * step_gradient_scale(x[0].size, **self.grid)
        return grad_x


class Binary(Identity):
    """The signs of a weight times their mean magnitude, one for each output; the float weight is kept in [-1, 1].

    BinaryConnect (Courbariaux et al. 2015, arXiv:1511.00363, algorithm 1), with the scale of XNOR-Net (Rastegari et al.
    2016, arXiv:1603.05279, eq. 6).
    """

    def forward(self, weight):
        np.clip(weight, -1, 1, out=weight)
        scale, signs = binary(weight, axis=0)
        return (signs * scale.reshape(-1, *(1,) * (weight.ndim - 1))).astype(weight.dtype, copy=False)


# Networks


@door
def rounded_in_training(
    network, images: reals(2, 4), *, weight_bits, activation_bits=None, method: METHOD = "learned_step"
):
    """Return a copy to be trained through the rounding; `export_rounded` gives what is left of it afterwards.

    images : training images that the grids of the activations begin with
    weight_bits, activation_bits : 2 to 16, weights of "binary" 1; None leaves what enters every layer float
    method : "learned_step"; "straight_through", grids of least squared error that stay; "binary", whose activations
        have learned steps

    >>> from nnzip.nn.network import lenet_300_100
    >>> images = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    >>> student = rounded_in_training(lenet_300_100(), images, weight_bits=2, activation_bits=4)
    >>> {name: array.shape for name, array in student.parameters().items() if name.startswith("5")}
    {'5.weight': (10, 100), '5.bias': (10,), '5.weight_step': (10,), '5.input_step': ()}
    >>> len(np.unique(export_rounded(student).parameters()["5.weight"][0]))
    3
    """
    allowed = whole(1, 1) if method == "binary" else BITS
    allowed(weight_bits, f"weight_bits (of {method!r})")
    check_plain(network)
    fixed, rounds_inputs = method == "straight_through", activation_bits is not None
    grids = activation_qparams(network, images, bits=activation_bits, method="mse") if fixed and rounds_inputs else {}
    student, x = network.copy(), images
    for i, layer in enumerate(student.layers):
        if params := layer.params:
            entering, w = None, params["weight"]
            if fixed:
                weight = ClippedGrid(choose_qparams(w, bits=weight_bits, axis=0, method="mse"))
            elif method == "binary":
                weight = Binary()
            else:
                weight = LearnedStep(params, "weight_step", w, bits=weight_bits, signed=True, axis=0)
            if rounds_inputs and fixed:
                entering = ClippedGrid(grids[i])
            elif rounds_inputs:
                entering = LearnedStep(params, "input_step", x, bits=activation_bits, signed=bool(np.min(x) < 0))
            student.layers[i] = Rounded(layer, weight=weight, input=entering)
        x = network.layers[i].forward(x)
    return student


def train_quantized(
    network, data, *, weight_bits, activation_bits=None, method="learned_step", rate, teacher=None, **options
):
    """Return a trained network trained on with its weights, and what enters each layer, rounded in every forward pass.

    Weights that are zero, of a pruned network, stay zero. The layers that come back are plain, their weights on their
    grids; with `activation_bits` each inside a Rounded.

    weight_bits, activation_bits, method : as in `rounded_in_training`
    rate : of SGD with momentum 0.9; it falls as a cosine
    teacher : Network, optional; then trained by distillation (Mishra and Marr 2018, arXiv:1711.05852)
    options : the rest of `fit`'s and `distill`'s: epochs, batch_size (128), augment, seed, progress, temperature, alpha
    """
    masks = {name: mask for name, mask in masks_of(network).items() if not mask.all()}
    if masks and method == "binary":
        raise ValueError(f"binary weights are never zero, but the network has zeros in {', '.join(masks)}")
    grids = {"weight_bits": weight_bits, "activation_bits": activation_bits, "method": method}
    student = rounded_in_training(network, data[0][:CALIBRATION_IMAGES], **grids)
    train = fit if teacher is None else partial(distill, teacher=teacher)
    options = {"batch_size": 128, **options}
    train(student, data=data, optimizer=SGD(rate), schedule=cosine_decay, masks=masks, **options)
    return export_rounded(student)
