"""Round a whole network: its weights alone, or its weights and the activations that enter each layer.

The numbers are fake-quantized floats: float32 values that lie on the integer grid. Biases stay float, as every
toolkit keeps them (in 32 bits). Computing in integers is chapter 08's.
"""

from nnzip.checks import check_integer, real_array
from nnzip.nn.layers import Conv2d, Linear
from nnzip.nn.network import check_network
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
    for name, weight in rounded.parameters().items():
        if name.endswith("weight"):
            qparams = choose_qparams(
                weight, bits=bits, symmetric=symmetric, axis=axis, group_size=group_size, method=method
            )
            weight[...] = fake_quantize(weight, qparams)
    return rounded


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
    return isinstance(layer, (Linear, Conv2d, RoundedInput))
