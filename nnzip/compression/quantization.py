"""Round a whole network: its weights alone, or its weights and the activations that enter each layer.

The numbers are fake-quantized floats: float32 values that lie on the integer grid. Biases stay float, as every
toolkit keeps them (in 32 bits). Computing in integers is chapter 08's.
"""

from nnzip.checks import check_integer, real_array
from nnzip.nn.layers import Conv2d, Linear
from nnzip.nn.network import check_network, weights_of
from nnzip.quantization import RangeObserver, choose_qparams, fake_quantize


class RoundedInput:
    """A layer whose input is rounded to a grid first; its parameters are the inner layer's own.

    Backward takes the rounding for the identity (the straight-through estimator, chapter 09).
    """

    def __init__(self, layer, qparams):
        self.layer, self.qparams = layer, qparams

    params = property(lambda self: self.layer.params)
    grads = property(lambda self: self.layer.grads)

    def forward(self, x):
        return self.layer.forward(fake_quantize(x, self.qparams))

    def backward(self, grad_y, *, input_gradient=True):
        return self.layer.backward(grad_y, input_gradient=input_gradient)

    def __repr__(self):
        return f"RoundedInput({self.layer}, bits={self.qparams.bits})"


class RoundedWeight:
    """A layer that computes with its weight rounded to a grid, and is trained through the rounding.

    Its `params` hold the float weight, which the optimizer moves. Backward gives it the gradient at the rounded one,
    as if the rounding were the identity: the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).
    """

    def __init__(self, layer, qparams):
        self.layer, self.qparams, self.params = layer, qparams, layer.params

    grads = property(lambda self: self.layer.grads)

    def rounded(self):
        """Round the weight as it is now; return the layer inside, which holds nothing but rounded weights."""
        weight = fake_quantize(self.params["weight"], self.qparams)
        self.layer.params = {**self.params, "weight": weight}
        return self.layer

    def forward(self, x):
        return self.rounded().forward(x)

    def backward(self, grad_y, *, input_gradient=True):
        return self.layer.backward(grad_y, input_gradient=input_gradient)

    def __repr__(self):
        return f"RoundedWeight({self.layer}, bits={self.qparams.bits})"


def quantize_weights(network, *, bits, per_channel=True, group_size=None, symmetric=True, method="minmax"):
    """Return a copy whose weights are rounded to `bits` bits.

    Parameters
    ----------
    bits : int, 2 to 16
    per_channel : bool
        A scale for each output neuron or filter (Krishnamoorthi 2018, section 3.2), or one for each weight array.
    group_size : int, optional
        A scale for every so many consecutive weights of a row, instead.
    symmetric, method : as in `choose_qparams`

    Examples
    --------
    >>> import numpy as np
    >>> from nnzip.nn.network import lenet_300_100
    >>> rounded = quantize_weights(lenet_300_100(), bits=2, per_channel=False)
    >>> len(np.unique(rounded.parameters()["1.weight"]))
    3
    """
    check_network(network)
    rounded = network.copy()
    axis = 0 if per_channel and group_size is None else None
    for weight in weights_of(rounded).values():
        qparams = choose_qparams(
            weight, bits=bits, symmetric=symmetric, axis=axis, group_size=group_size, method=method
        )
        weight[...] = fake_quantize(weight, qparams)
    return rounded


def round_weights_in_training(network, *, bits, per_channel=True, method="mse"):
    """Return a copy to be trained, whose layers compute with rounded weights and keep float ones beneath.

    The grids are chosen once, here; `export_rounded` gives the network that is left when the training is over.

    Parameters
    ----------
    bits, per_channel : as in `quantize_weights`
    method : as in `choose_qparams`; few bits start better from "mse" than from "minmax"

    Examples
    --------
    >>> import numpy as np
    >>> from nnzip.nn.network import lenet_300_100
    >>> student = round_weights_in_training(lenet_300_100(), bits=2)
    >>> [len(np.unique(net.parameters()["5.weight"][0])) for net in (student, export_rounded(student))]
    [100, 3]
    """
    check_network(network)
    if any(isinstance(_innermost(layer), RoundedWeight) for layer in network.layers):
        raise ValueError("the weights of this network are rounded in training already")

    def wrap(layer):
        axis = 0 if per_channel else None
        return RoundedWeight(layer, choose_qparams(layer.params["weight"], bits=bits, axis=axis, method=method))

    wrapped = network.copy()
    wrapped.layers = [_replaced(layer, wrap) if has_weight(layer) else layer for layer in wrapped.layers]
    return wrapped


def export_rounded(network):
    """Return a copy in which the rounded weights of each RoundedWeight are the weights, and the float ones gone."""
    check_network(network)
    rounded = network.copy()
    rounded.layers = [
        _replaced(layer, lambda inner: inner.rounded()) if isinstance(_innermost(layer), RoundedWeight) else layer
        for layer in rounded.layers
    ]
    return rounded


def _innermost(layer):
    return _innermost(layer.layer) if isinstance(layer, RoundedInput) else layer


def _replaced(layer, change):  # what has its input rounded keeps that
    if isinstance(layer, RoundedInput):
        return RoundedInput(_replaced(layer.layer, change), layer.qparams)
    return change(layer)


def quantize_activations(network, calibration_images, *, bits, method="minmax", batch_size=250):
    """Return a copy that rounds the input of every Linear and Conv2d to `bits` bits, affine and per tensor.

    Parameters
    ----------
    calibration_images : float array (N, C, H, W)
        Training images; the ranges of the activations are seen on them (Jacob et al. 2018, section 3.1).
    method : as in `choose_qparams`, applied to a histogram of all the calibration batches
    """
    qparams = activation_qparams(network, calibration_images, bits=bits, method=method, batch_size=batch_size)
    rounded = network.copy()
    for i, grid in qparams.items():
        rounded.layers[i] = RoundedInput(rounded.layers[i], grid)
    return rounded


def activation_qparams(network, calibration_images, *, bits, method="minmax", batch_size=250):
    """Return the affine grid for what enters each Linear and Conv2d: {index of the layer: QuantParams}."""
    check_network(network)
    images = real_array(calibration_images, "calibration_images")
    check_integer(batch_size, "batch_size", 1)
    observers = {i: RangeObserver("histogram") for i, layer in enumerate(network.layers) if has_weight(layer)}
    for start in range(0, len(images), batch_size):
        x = images[start : start + batch_size]
        for i, layer in enumerate(network.layers):
            if i in observers:
                observers[i].observe(x)
            x = layer.forward(x)
    return {i: seen.qparams(bits=bits, symmetric=False, method=method) for i, seen in observers.items()}


def has_weight(layer):
    """Tell whether a layer multiplies by weights, so that what enters it is worth rounding."""
    return isinstance(layer, (Linear, Conv2d, RoundedInput, RoundedWeight))


def check_plain(network):
    """Raise TypeError unless what has weights is a Linear or Conv2d, with nothing wrapped around it."""
    check_network(network)
    for i, layer in enumerate(network.layers):
        if layer.params and not isinstance(layer, Linear | Conv2d):
            raise TypeError(f"layers with weights must be Linear or Conv2d, layer {i} is {layer}")
