"""Train through the rounding: the straight-through estimator, learned step sizes, binary weights.

    forward    y = f(x_hat, w_hat), with x_hat and w_hat on their grids
    backward   dL/dw = dL/dw_hat where the rounding did not clip, 0 where it did        (rounding has slope 0 or none)

The optimizer moves float weights; what is left after the training are their rounded values. Weights have the library's
narrow symmetric grid, 2^bits - 1 codes (two bits: -1, 0, 1), with a step for each output neuron or filter. Inputs have
one step and the codes 0 .. 2^bits - 1 where none was negative on the calibration images (pixels, ReLU's outputs), else
the narrow symmetric ones: LeNet-5's convolutions have no ReLU after them. First and last layer are no exception.
"""

import numpy as np

from nnzip.calibration import broadcast_shapes
from nnzip.checks import check_choice, check_integer, check_same_shape, real_array
from nnzip.codebooks import binary
from nnzip.compression.distillation import distill
from nnzip.compression.pruning import masks_of
from nnzip.compression.quantization import RoundedInput, RoundedWeight, activation_qparams, check_plain, export_rounded
from nnzip.nn.network import check_network
from nnzip.nn.training import SGD, cosine_decay, fit, random_shift
from nnzip.quantization import FLOAT32_MAX, FLOAT32_TINY, QuantParams, choose_qparams

METHODS = ("straight_through", "learned_step", "binary")
CALIBRATION_IMAGES = 1000

# ---------------------------------------------------------------- arrays in, arrays out


def straight_through(x, qparams, grad_y):  # [...], QuantParams, [...] -> [...]
    """Return the gradient at x of y = fake_quantize(x, qparams), as if the rounding were the identity.

        dL/dx = dL/dy    where qmin <= round(x / scale) + zero_point <= qmax, else 0

    It is the true gradient of clip(x, lo, hi), with lo and hi half a step outside of the grid's ends.

    Parameters
    ----------
    x, grad_y : float arrays of one shape
    qparams : QuantParams that fit x

    Raises ValueError or TypeError for arrays that are not finite or do not fit. Sources: Bengio et al. 2013
    (arXiv:1308.3432), section 2.3; with the clipping, PyTorch's `fake_quantize_per_tensor_affine`.

    Examples
    --------
    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=2, signed=True, narrow=True)
    >>> straight_through([-2.0, -1.4, 0.3, 9.0], grid, [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 2.0, 3.0, 0.0]
    """
    x, grad_y = _same(x, grad_y)
    if not isinstance(qparams, QuantParams):
        raise TypeError(f"qparams must be QuantParams, got {type(qparams).__name__}")
    view, wanted, spread = broadcast_shapes(x.shape, qparams.axis, qparams.group_size)
    if qparams.scale.shape != wanted:
        raise ValueError(f"shape {x.shape} needs scales of shape {wanted}, got {qparams.scale.shape}")
    scale, zero_point = qparams.scale.reshape(spread), qparams.zero_point.reshape(spread)
    with np.errstate(over="ignore"):  # what is beyond a float is clipped too
        codes = np.rint(x.reshape(view) / scale) + zero_point.astype(x.dtype)
    passes = (codes >= qparams.qmin) & (codes <= qparams.qmax)
    return grad_y * passes.reshape(x.shape)


def learned_step(x, step, *, bits, signed):  # [...], () or [C] -> [...]
    """Return x on a grid whose step is trained: round(clip(x / step, -Qn, Qp)) step, rounded half to even.

    Qp = Qn = 2^(bits-1) - 1 signed, the narrow symmetric grid; Qn = 0 and Qp = 2^bits - 1 unsigned.

    Parameters
    ----------
    x : float array
    step : positive, one for all or one for each index of the first axis
    bits : 2 to 16

    Raises ValueError or TypeError for anything else. Source: Esser et al. 2020 (arXiv:1902.08153), eqs. 1 and 2, where
    the signed grid has one code more.

    Examples
    --------
    >>> learned_step([-0.9, 0.2, 0.3, 7.0], 0.5, bits=3, signed=True).tolist()
    [-1.0, 0.0, 0.5, 1.5]
    """
    x, step, qmin, qmax = _on_grid(x, step, bits, signed)
    return np.rint(_clipped_ratio(x, step, qmin, qmax)) * step


def learned_step_gradients(x, step, grad_y, *, bits, signed):  # [...], () or [C], [...] -> [...], () or [C]
    """Return the gradients of `learned_step` at x and at the step, with v = x / step:

        dy/dx    = 1 inside, -Qn < v < Qp, else 0
        dy/dstep = round(v) - v inside, -Qn below, Qp above; times dL/dy, and summed over all that share the step

    They are those of step (clip(v) + r), where r = round(clip(v)) - clip(v) is held at what it is now. Parameters and
    errors are those of `learned_step`. Source: Esser et al. 2020, eqs. 3 and 5.

    Examples
    --------
    >>> grad_x, grad_step = learned_step_gradients([0.2, 7.0], 0.5, [1.0, 1.0], bits=3, signed=True)
    >>> grad_x.tolist(), float(grad_step.round(6))  # (0 - 0.4) + 3
    ([1.0, 0.0], 2.6)
    """
    x, grad_y = _same(x, grad_y)
    x, step, qmin, qmax = _on_grid(x, step, bits, signed)
    v = _clipped_ratio(x, step, qmin, qmax)
    inside = (v > qmin) & (v < qmax)
    per_element = grad_y * (np.rint(v) - v * inside)  # eq. 3
    axes = tuple(range(1, x.ndim)) if step.ndim else None
    return grad_y * inside, per_element.sum(axis=axes)


def step_gradient_scale(count, *, bits, signed):
    """Return 1 / sqrt(count Qp), by which a step's gradient is multiplied so that it moves no faster than a weight.

    count : weights that share the step, or numbers in one image's activation (Esser et al. 2020, section 2.2)
    """
    return 1 / np.sqrt(check_integer(count, "count", 1) * _code_range(bits, signed)[1])


def start_step(x, *, bits, signed, axis=None):  # [C, ...] -> float32 () or [C]
    """Return the step to start with, 2 mean|x| / sqrt(Qp) (Esser et al. 2020, section 2.1); 1 where all is 0.

    axis : None, one step for all; 0, one for each index of the first axis
    """
    x = real_array(x)
    rest = tuple(range(1, x.ndim)) if check_choice(axis, "axis", (None, 0)) == 0 else None
    mean = np.abs(x).mean(axis=rest, dtype=np.float64)
    step = 2 * mean / np.sqrt(_code_range(bits, signed)[1])
    return np.asarray(np.where(step > FLOAT32_TINY, step, 1.0), np.float32)


def _clipped_ratio(x, step, qmin, qmax):
    with np.errstate(over="ignore"):
        return np.clip(x / step, qmin, qmax)


def _code_range(bits, signed):
    check_integer(bits, "bits", 2, 16)
    if check_choice(signed, "signed", (True, False)):
        return -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _on_grid(x, step, bits, signed):  # -> x, the step so that it broadcasts over x, the ends of the codes
    x, step, (qmin, qmax) = real_array(x), real_array(step, "step", ndim=(0, 1)), _code_range(bits, signed)
    x = x.astype(np.promote_types(x.dtype, np.float32), copy=False)  # a step may be nothing in float16
    if step.ndim and step.shape != x.shape[:1]:
        raise ValueError(f"step must have shape () or {x.shape[:1]} for x of shape {x.shape}, got {step.shape}")
    if float(step.min()) < FLOAT32_TINY:  # which float16 does not have
        raise ValueError(f"step must be positive, at least {FLOAT32_TINY:.3g}, got {step.min()}")
    if float(step.max()) > FLOAT32_MAX / qmax:
        raise ValueError(f"step must be at most {FLOAT32_MAX / qmax:.3g}, so that codes are finite, got {step.max()}")
    step = step.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) if step.ndim else step.astype(x.dtype)
    return x, step, qmin, qmax


def _same(x, grad_y):
    x, grad_y = real_array(x), real_array(grad_y, "grad_y")
    check_same_shape(x, grad_y, ("x", "grad_y"))
    return x, grad_y


# ---------------------------------------------------------------- layers


class ClippedWeight(RoundedWeight):
    """A layer whose weight is rounded to a grid that stays, and trained by the clipped straight-through estimator."""

    def backward(self, grad_y, *, input_gradient=True):
        grad_x = super().backward(grad_y, input_gradient=input_gradient)
        self.grads["weight"] = straight_through(self.params["weight"], self.qparams, self.grads["weight"])
        return grad_x


class ClippedInput(RoundedInput):
    """A layer whose input is rounded to a grid that stays; where it was clipped no gradient goes back."""

    def forward(self, x):
        self._x = x
        return super().forward(x)

    def backward(self, grad_y, *, input_gradient=True):
        grad = super().backward(grad_y, input_gradient=input_gradient)
        return straight_through(self._x, self.qparams, grad) if input_gradient else None

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_x"}


class LearnedStepWeight(RoundedWeight):
    """A layer whose weight is rounded with steps that are trained with it: "weight_step", one for each output."""

    def __init__(self, layer, *, bits):
        self.layer, self.bits, self.params = layer, bits, layer.params
        self.params["weight_step"] = start_step(self.params["weight"], bits=bits, signed=True, axis=0)

    def rounded(self):
        weight, step = self.params["weight"], _kept_positive(self.params["weight_step"])
        self.layer.params = {
            "weight": learned_step(weight, step, bits=self.bits, signed=True),
            "bias": self.params["bias"],
        }
        return self.layer

    def backward(self, grad_y, *, input_gradient=True):
        grad_x = super().backward(grad_y, input_gradient=input_gradient)
        weight, step, grid = self.params["weight"], self.params["weight_step"], {"bits": self.bits, "signed": True}
        self.grads["weight"], grad_step = learned_step_gradients(weight, step, self.grads["weight"], **grid)
        self.grads["weight_step"] = grad_step * step_gradient_scale(weight[0].size, **grid)
        return grad_x

    def __repr__(self):
        return f"LearnedStepWeight({self.layer}, bits={self.bits})"


class LearnedStepInput(RoundedInput):
    """A layer whose input is rounded with a step that is trained: "input_step", one for all.

    x : float array, an input that the first step is taken from; where it is nowhere negative, the codes are unsigned
    """

    def __init__(self, layer, x, *, bits):
        self.layer, self.bits, self.signed = layer, bits, bool(np.min(x) < 0)
        layer.params["input_step"] = start_step(x, bits=bits, signed=self.signed)

    @property
    def qparams(self):
        step = _kept_positive(self.params["input_step"])
        return QuantParams(step, 0, self.bits, self.signed, narrow=self.signed)

    def forward(self, x):
        self._x, step = x, _kept_positive(self.params["input_step"])
        return self.layer.forward(learned_step(x, step, bits=self.bits, signed=self.signed))

    def backward(self, grad_y, *, input_gradient=True):
        grad = self.layer.backward(grad_y)  # the step needs it even where nothing comes before
        grid = {"bits": self.bits, "signed": self.signed}
        grad_x, grad_step = learned_step_gradients(self._x, self.params["input_step"], grad, **grid)
        self.grads["input_step"] = grad_step * step_gradient_scale(self._x[0].size, **grid)
        return grad_x if input_gradient else None

    __getstate__ = ClippedInput.__getstate__


class BinaryWeight(RoundedWeight):
    """A layer that computes with the signs of its weight times their mean magnitude, one for each output.

    The float weights get the gradient at the binary ones and are kept in [-1, 1]: BinaryConnect (Courbariaux et al.
    2015, arXiv:1511.00363, algorithm 1), with the scale of XNOR-Net (Rastegari et al. 2016, arXiv:1603.05279, eq. 6).
    """

    def __init__(self, layer):
        self.layer, self.params = layer, layer.params

    def rounded(self):
        weight = self.params["weight"]
        np.clip(weight, -1, 1, out=weight)
        scale, signs = binary(weight, axis=0)
        scaled = signs * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        self.layer.params = {"weight": scaled.astype(weight.dtype, copy=False), "bias": self.params["bias"]}
        return self.layer

    def __repr__(self):
        return f"BinaryWeight({self.layer})"


def _kept_positive(step):
    return np.maximum(step, FLOAT32_TINY, out=step)  # an update that is too large may have passed 0


# ---------------------------------------------------------------- networks


def rounded_in_training(network, images, *, weight_bits, activation_bits=None, method="learned_step"):
    """Return a copy to be trained through the rounding; `export_rounded` gives what is left of it afterwards.

    Parameters
    ----------
    network : Network whose layers with weights are Linear and Conv2d
    images : float array, training images that the grids of the activations begin with
    weight_bits : 2 to 16; of "binary", 1
    activation_bits : 2 to 16, of what enters every layer with weights; None leaves it float
    method : "learned_step"; "straight_through", grids of least squared error that stay; "binary", whose activations
        have learned steps

    Examples
    --------
    >>> from nnzip.nn.network import lenet_300_100
    >>> images = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    >>> student = rounded_in_training(lenet_300_100(), images, weight_bits=2, activation_bits=4)
    >>> {name: array.shape for name, array in student.parameters().items() if name.startswith("5")}
    {'5.weight': (10, 100), '5.bias': (10,), '5.weight_step': (10,), '5.input_step': ()}
    >>> len(np.unique(export_rounded(student).parameters()["5.weight"][0]))
    3
    """
    check_choice(method, "method", METHODS)
    low, high = (1, 1) if method == "binary" else (2, 16)
    check_integer(weight_bits, f"weight_bits (of {method!r})", low, high)
    check_plain(network)
    student, x = network.copy(), real_array(images, "images", ndim=(2, 4))
    fixed = method == "straight_through" and activation_bits is not None
    grids = activation_qparams(network, x, bits=activation_bits, method="mse") if fixed else {}
    for i, layer in enumerate(network.layers):
        if layer.params:
            student.layers[i] = _wrapped(student.layers[i], x, grids.get(i), weight_bits, activation_bits, method)
        x = layer.forward(x)
    return student


def _wrapped(layer, x, grid, weight_bits, activation_bits, method):
    if method == "straight_through":
        qparams = choose_qparams(layer.params["weight"], bits=weight_bits, axis=0, method="mse")
        layer = ClippedWeight(layer, qparams)
        return layer if grid is None else ClippedInput(layer, grid)
    layer = BinaryWeight(layer) if method == "binary" else LearnedStepWeight(layer, bits=weight_bits)
    return layer if activation_bits is None else LearnedStepInput(layer, x, bits=activation_bits)


def train_quantized(
    network,
    data,
    *,
    weight_bits,
    activation_bits=None,
    method="learned_step",
    epochs,
    rate,
    l2=0.0,
    batch_size=128,
    augment=random_shift,
    teacher=None,
    temperature=4.0,
    alpha=0.9,
    seed=0,
    progress=True,
):
    """Return the network trained on with its weights, and what enters each layer, rounded in every forward pass.

    It is best begun with a trained network. Weights that are zero, of a pruned one, stay zero. The network that is
    given is not changed.

    Parameters
    ----------
    network, weight_bits, activation_bits, method : as in `rounded_in_training`; every layer, first and last included
    data, epochs, batch_size, augment, seed, progress : as in `fit`
    rate, l2 : of SGD with momentum 0.9, whose rate falls as a cosine; l2 on the float weights beneath
    teacher : Network, optional; then trained by distillation, with temperature and alpha as in `distill`

    Returns
    -------
    Network of plain layers whose weights are on their grids; with `activation_bits` each inside a RoundedInput

    Raises ValueError or TypeError for what `fit` and `distill` refuse, and for binary weights of a pruned network.
    Sources: those of the layers; with a teacher, Mishra and Marr 2018 (arXiv:1711.05852).
    """
    check_network(network)
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        given = f"{type(data).__name__} of {len(data)}" if hasattr(data, "__len__") else repr(data)
        raise ValueError(f"data must be a tuple of images and labels, with or without those of a test set, got {given}")
    masks = {name: mask for name, mask in masks_of(network).items() if not mask.all()}
    if masks and method == "binary":
        raise ValueError(f"binary weights are never zero, but the network has zeros in {', '.join(masks)}")
    grids = {"weight_bits": weight_bits, "activation_bits": activation_bits, "method": method}
    student = rounded_in_training(network, real_array(data[0], "images", ndim=(2, 4))[:CALIBRATION_IMAGES], **grids)
    recipe = {"epochs": epochs, "batch_size": batch_size, "optimizer": SGD(rate, l2=l2), "schedule": cosine_decay}
    recipe |= {"augment": augment, "masks": masks, "seed": seed, "progress": progress}
    if teacher is None:
        fit(student, data, **recipe)
    else:
        distill(student, teacher, data, temperature=temperature, alpha=alpha, **recipe)
    return export_rounded(student)
