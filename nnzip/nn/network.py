"""Network: a list of layers; the two networks of the book, LeNet-300-100 and the Caffe LeNet-5 (chapter 01)."""

import copy
from typing import NamedTuple

import numpy as np

from nnzip.checks import door, real, real32, same_shape, whole
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU


class Network:
    """Layers one after the other: anything with `forward`, `backward`, `params` and `grads`, as those of `layers`.

    >>> network = Network([Flatten(), Linear(784, 10)])
    >>> {name: array.shape for name, array in network.parameters().items()}
    {'1.weight': (10, 784), '1.bias': (10,)}
    """

    def __init__(self, layers):
        self.layers = list(layers)
        if not self.layers:
            raise ValueError("a Network needs at least one layer, got an empty list")
        for i, layer in enumerate(self.layers):
            if isinstance(layer, type) or not hasattr(layer, "forward"):
                raise TypeError(f"layer {i} must be a layer such as ReLU(), got {layer!r}")
            if any(layer is other for other in self.layers[:i]):  # a layer remembers one forward pass
                raise ValueError(f"layer {i} is in the network already; each place needs its own, got {layer}")

    def forward(self, x):  # [N, ...] -> logits [N, classes]
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad_logits, *, input_gradient=False):
        """Fill every layer's `grads`; go on to the gradient at the input, and return it, only if asked."""
        stop = 0 if input_gradient else next((i for i, layer in enumerate(self.layers) if layer.params), 0)
        grad = grad_logits
        for i in reversed(range(stop, len(self.layers))):
            grad = self.layers[i].backward(grad, input_gradient=input_gradient or i > stop)
        return grad if input_gradient else None

    @door
    def logits(self, images, *, batch_size: whole(1) = 250):  # [N, ...] -> [N, classes]
        """Return what `forward` makes of many images, a batch at a time; ValueError where that is not finite."""
        images = np.asarray(images)
        if images.dtype.kind != "f":  # raw pixels, which training never saw
            raise TypeError(f"images must be floats, got dtype {images.dtype}")
        images = real(images, "images")
        with np.errstate(over="ignore", invalid="ignore"):  # refused below, as what the network gives
            parts = [self.forward(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
        return real(np.concatenate(parts), "logits", ndim=2)

    def predict(self, images, *, batch_size=250):  # [N, C, H, W] -> class of each image, int64 [N]
        return self.logits(images, batch_size=batch_size).argmax(axis=1)

    def parameters(self):
        """Return the live arrays under PyTorch's names: {"0.weight": ..., "0.bias": ..., "2.weight": ...}."""
        return {f"{i}.{key}": array for i, layer in enumerate(self.layers) for key, array in layer.params.items()}

    def gradients(self):
        """Return the gradients of the last backward pass under the names of `parameters`."""
        return {f"{i}.{key}": array for i, layer in enumerate(self.layers) for key, array in layer.grads.items()}

    def load_parameters(self, values):
        """Copy named arrays into the network's own; if a name, a shape or a number does not fit, nothing is changed."""
        own = self.parameters()
        if values.keys() != own.keys():
            missing, unknown = sorted(own.keys() - values.keys()), sorted(values.keys() - own.keys())
            raise ValueError(f"parameters do not match the network: missing {missing}, unknown {unknown}")
        values = {name: real32(values[name], name) for name in own}
        for name, array in own.items():
            same_shape(values[name], array, (name, "the network's"))
        for name, array in own.items():
            array[...] = values[name]

    def copy(self):
        """Return an independent copy."""
        return copy.deepcopy(self)

    def __repr__(self):
        return f"Network([{', '.join(map(repr, self.layers))}])"


def check_network(network):
    """Raise TypeError for what is no network: its name, its parameters, one layer."""
    if not hasattr(network, "predict"):
        raise TypeError(f"network must be a Network, got {type(network).__name__}")


def weights_of(network):
    """Return the live weights of a network by name, without its biases."""
    check_network(network)
    return {name: array for name, array in network.parameters().items() if name.endswith("weight")}


class Cost(NamedTuple):
    """What one image costs a layer: multiply-adds, and bytes of weights and of activations."""

    multiply_adds: int  # those with a weight that is not zero
    weight_bytes: float
    activation_bytes: float  # its input and its output, which are held at the same time

    @property
    def moved_bytes(self):  # each weight and each activation once
        return self.weight_bytes + self.activation_bytes


def costs(network, shape=(1, 28, 28), *, weight_bits=32, activation_bits=32):  # -> {"0.Conv2d": Cost, ...}
    """Return what one image costs each layer of a network; of layers that work in place, such as ReLU, nothing.

    A weight is used once for each place of the output: a convolution has one for each pixel, a Linear one.
    """
    x, found = np.zeros((1, *shape), np.float32), {}
    for i, layer in enumerate(network.layers):
        y = layer.forward(x)
        weight = layer.params.get("weight", np.zeros((1, 0)))
        places = y.size // len(weight)
        if weight.size or x.size != y.size:
            activations = (x.size + y.size) * activation_bits / 8
            multiply_adds = np.count_nonzero(weight) * places
            found[f"{i}.{type(layer).__name__}"] = Cost(multiply_adds, weight.size * weight_bits / 8, activations)
        x = y
    return found


def lenet_300_100(*, seed=0):
    """Return LeNet-300-100 (LeCun et al. 1998), the MLP 784-300-100-10: 266,610 weights and biases.

    >>> sum(array.size for array in lenet_300_100().parameters().values())
    266610
    """
    rng = np.random.default_rng(seed)
    hidden = [Linear(784, 300, rng=rng), ReLU(), Linear(300, 100, rng=rng), ReLU()]
    return Network([Flatten(), *hidden, Linear(100, 10, rng=rng)])


def lenet_5(*, seed=0):
    """Return the Caffe LeNet-5, the network that compression papers measure on: 431,080 weights and biases.

    It is not LeCun's of 1998: 20 and 50 filters of 5 x 5, 2 x 2 max pooling, no ReLU after the convolutions, then 500
    neurons with ReLU and 10 outputs (Jia et al. 2014; Han et al. 2015, table 4).

    >>> sum(array.size for array in lenet_5().parameters().values())
    431080
    """
    rng = np.random.default_rng(seed)
    return Network(
        [
            Conv2d(1, 20, 5, rng=rng),  # [N, 1, 28, 28] -> [N, 20, 24, 24]
            MaxPool2d(2),  # [N, 20, 12, 12]
            Conv2d(20, 50, 5, rng=rng),  # [N, 50, 8, 8]
            MaxPool2d(2),  # [N, 50, 4, 4]
            Flatten(),
            Linear(800, 500, rng=rng),
            ReLU(),
            Linear(500, 10, rng=rng),
        ]
    )
