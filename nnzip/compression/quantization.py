"""Round a whole network: its weights alone, or its weights and the activations that enter each layer (chapter 02).

The numbers are fake-quantized floats: float32 values that lie on the integer grid. Biases stay float, as every
toolkit keeps them (in 32 bits). Computing in integers is chapter 08's.
"""

from nnzip.checks import door, real
from nnzip.nn.layers import Conv2d, Layer, Linear
from nnzip.nn.network import check_network, weights_of
from nnzip.quantization import RangeObserver, choose_qparams, fake_quantize

BATCH = 250  # calibration images at a time


def quantize_weights(network, *, bits, per_channel=True, **options):
    """Return a copy whose weights are rounded to `bits` bits, 2 to 16.

    per_channel : a scale for each output neuron or filter (Krishnamoorthi 2018, section 3.2), or one for each array
    options : the rest of `choose_qparams`'s: method, symmetric, group_size in place of per_channel

    >>> import numpy as np
    >>> from nnzip.nn.network import lenet_300_100
    >>> rounded = quantize_weights(lenet_300_100(), bits=2, per_channel=False)
    >>> len(np.unique(rounded.parameters()["1.weight"]))
    3
    """
    check_network(network)
    rounded = network.copy()
    axis = 0 if per_channel and options.get("group_size") is None else None
    for weight in weights_of(rounded).values():
        weight[...] = fake_quantize(weight, choose_qparams(weight, bits=bits, axis=axis, **options))
    return rounded


def quantize_activations(network, calibration_images, *, bits, method="minmax"):
    """Return a copy that rounds the input of every Linear and Conv2d to `bits` bits, affine and per tensor.

    calibration_images : [N, C, H, W], training images, on which the ranges are seen (Jacob et al. 2018, section 3.1)
    method : as in `choose_qparams`, applied to a histogram of all the calibration images
    """
    check_plain(network)
    rounded = network.copy()
    for i, grid in activation_qparams(network, calibration_images, bits=bits, method=method).items():
        rounded.layers[i] = Rounded(rounded.layers[i], input=Grid(grid))
    return rounded


@door
def activation_qparams(network, calibration_images: real, *, bits, method="minmax"):
    """Return the affine grid for what enters each Linear and Conv2d: {index of the layer: QuantParams}."""
    check_network(network)
    observers = {i: RangeObserver("histogram") for i, layer in enumerate(network.layers) if has_weight(layer)}
    for start in range(0, len(calibration_images), BATCH):
        x = calibration_images[start : start + BATCH]
        for i, layer in enumerate(network.layers):
            if i in observers:
                observers[i].observe(x)
            x = layer.forward(x)
    return {i: seen.qparams(bits=bits, symmetric=False, method=method) for i, seen in observers.items()}


# Layers that round


class Rounded(Layer):
    """A layer whose weight and input are rounded before it computes: y = f(input.forward(x), weight.forward(w)).

    `params` hold the float weight, which the optimizer moves, and the steps that a rounding learns. The layer inside
    holds what it computed with last. A rounding has `forward(x)`, `backward(x, grad)`, `qparams` and `grads`, those of
    its own parameters.
    """

    def __init__(self, layer, *, weight=None, input=None):
        super().__init__()
        self.layer, self.params = layer, layer.params
        self.weight, self.input = weight or Identity(), input or Identity()

    def forward(self, x):
        self.seen["x"] = x
        return self.rounded().forward(self.input.forward(x))

    def rounded(self):
        """Round the weight as it is now; return the layer inside, which then holds nothing but the rounded one."""
        weight = self.weight.forward(self.params["weight"])
        self.layer.params = {"weight": weight, "bias": self.params["bias"]}
        return self.layer

    def backward(self, grad_y, *, input_gradient=True):
        wanted = input_gradient or "input_step" in self.params  # a learned step needs it in the first layer too
        grad_x = self.layer.backward(grad_y, input_gradient=wanted)
        grad_weight = self.weight.backward(self.params["weight"], self.layer.grads["weight"])
        grad_x = self.input.backward(self.seen["x"], grad_x) if wanted else None
        self.grads = {**self.layer.grads, "weight": grad_weight, **self.weight.grads, **self.input.grads}
        return grad_x if input_gradient else None

    def __repr__(self):
        return f"Rounded({self.layer})"


class Identity:
    """No rounding; and what the straight-through estimator takes every rounding for, on the way back."""

    def __init__(self):
        self.grads = {}  # of what a rounding learns

    def forward(self, x):
        return x

    def backward(self, x, grad):
        return grad


class Grid(Identity):
    """A grid that stays, with the identity's backward (Bengio et al. 2013, arXiv:1308.3432; chapter 09)."""

    def __init__(self, qparams):
        super().__init__()
        self.qparams = qparams

    def forward(self, x):
        return fake_quantize(x, self.qparams)


def round_weights_in_training(network, *, bits, per_channel=True):
    """Return a copy to be trained, whose layers compute with rounded weights and keep float ones beneath.

    The grids are those of least squared error, chosen once, here; `export_rounded` gives the network that is left when
    the training is over.

    >>> import numpy as np
    >>> from nnzip.nn.network import lenet_300_100
    >>> student = round_weights_in_training(lenet_300_100(), bits=2)
    >>> [len(np.unique(net.parameters()["5.weight"][0])) for net in (student, export_rounded(student))]
    [100, 3]
    """
    check_plain(network)
    student = network.copy()
    for i, layer in enumerate(student.layers):
        if has_weight(layer):
            grid = choose_qparams(layer.params["weight"], bits=bits, axis=0 if per_channel else None, method="mse")
            student.layers[i] = Rounded(layer, weight=Grid(grid))
    return student


def export_rounded(network):
    """Return a copy in which the rounded weights of each Rounded layer are the weights, and the float ones gone."""
    check_network(network)
    exported = network.copy()
    for i, layer in enumerate(exported.layers):
        if isinstance(layer, Rounded):
            plain, entering = layer.rounded(), layer.input
            exported.layers[i] = plain if type(entering) is Identity else Rounded(plain, input=Grid(entering.qparams))
    return exported


def has_weight(layer):
    """Tell whether a layer multiplies by weights, so that what enters it is worth rounding."""
    return isinstance(layer, Linear | Conv2d | Rounded)


def check_plain(network):
    """Raise TypeError unless what has weights is a Linear or Conv2d, with nothing wrapped around it."""
    check_network(network)
    for i, layer in enumerate(network.layers):
        if layer.params and not isinstance(layer, Linear | Conv2d):
            raise TypeError(f"layers with weights must be Linear or Conv2d, layer {i} is {layer}")
