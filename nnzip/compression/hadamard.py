"""Rotate a whole network: every layer computes the same, in a basis in which its weights have no outliers.

    y = x W^T = (x R) (W R)^T        R = D H / sqrt(n), orthogonal

W R is made once, offline. x R is made for every image, by a layer of its own in front: what rounds the weights or the
inputs of the layer then sees them rotated. (Chee et al. 2023, QuIP, arXiv:2307.13304, section 4; Ashkboos et al. 2024,
QuaRot, arXiv:2404.00456, section 4.)
"""

from collections import namedtuple
from itertools import pairwise

import numpy as np

from nnzip.checks import check_ndim, door, whole
from nnzip.compression.quantization import has_weight
from nnzip.hadamard import additions, largest_block, random_signs, rotate, unrotate
from nnzip.nn.layers import Conv2d, Layer, Linear
from nnzip.nn.network import Network, check_network


@door
def rotate_network(network, *, seed: whole(0) = 0):
    """Return a copy with a Rotation before each Linear and Conv2d and with their weights rotated: the outputs stay.

    A Linear is rotated along its inputs; a Conv2d along its input channels, at every place and tap alike, since a
    convolution is a sum over them. Where no order is that number, blocks of the largest order that divides it are
    rotated; if that is 1, the layer is left as it is.

    >>> from nnzip.nn.network import lenet_5
    >>> [layer for layer in rotate_network(lenet_5()).layers if isinstance(layer, Rotation)]
    [Rotation(20), Rotation(800), Rotation(500)]
    """
    check_network(network)
    layers = []
    for i, layer in enumerate(network.copy().layers):
        if has_weight(layer):
            if not isinstance(layer, Linear | Conv2d):
                raise ValueError(f"layer {i} rounds already, rotate before rounding: {layer}")
            weight = layer.params["weight"]
            n = weight.shape[1]
            if largest_block(n) > 1:
                layers.append(Rotation(random_signs(n, seed=(seed, i))))
                weight[...] = layers[-1].rotated_weight(weight)
        layers.append(layer)
    return Network(layers)


class Rotation(Layer):
    """Rotate what comes along its features or channels, axis 1; it has no parameters to learn.

    signs : [n], as from `random_signs`
    block_size : as in `rotate`; without it, the largest order that divides n
    """

    def __init__(self, signs, *, block_size=None):
        super().__init__()
        self.signs = np.asarray(signs)
        check_ndim(self.signs, "signs", 1)
        self.block_size = largest_block(len(self.signs)) if block_size is None else block_size

    def forward(self, x):  # [N, n, ...] -> [N, n, ...]
        return self._along_features(rotate, x)

    def backward(self, grad_y, *, input_gradient=True):  # the transpose is the way back
        return self._along_features(unrotate, grad_y) if input_gradient else None

    def rotated_weight(self, weight):  # [out, n, ...] -> float64 [out, n, ...]
        return rotate(weight.astype(np.float64), self.signs, axis=1, block_size=self.block_size)

    def unrotated_weight(self, weight):  # in float64, so that the weights are the same on every CPU
        return unrotate(weight.astype(np.float64), self.signs, axis=1, block_size=self.block_size)

    def _along_features(self, turn, x):
        check_ndim(np.asarray(x), f"the input of {self}", (2, 4))
        if np.ndim(x) == 2:
            return turn(x, self.signs, block_size=self.block_size)
        # [H, C, W, N] in memory, as the layers beside it have it
        return turn(x.transpose(2, 1, 3, 0), self.signs, axis=1, block_size=self.block_size).transpose(3, 1, 0, 2)

    def __repr__(self):
        blocks = f", block_size={self.block_size}" if self.block_size != len(self.signs) else ""
        return f"Rotation({len(self.signs)}{blocks})"


def unrotate_network(network):
    """Return a copy without its Rotations, each multiplied into the weights that follow it: the outputs stay.

    So a network that was rounded or pruned in the rotated basis is measured without rotating every image. It is not
    what a device would run: these weights lie on no grid.
    """
    check_network(network)
    old = network.copy().layers
    for i, (rotation, layer) in enumerate(pairwise([*old, None])):
        if isinstance(rotation, Rotation):
            if not isinstance(layer, Linear | Conv2d):
                raise ValueError(f"layer {i} cannot be multiplied into a Linear or Conv2d, what follows it is {layer}")
            layer.params["weight"][...] = rotation.unrotated_weight(layer.params["weight"])
    return Network([layer for layer in old if not isinstance(layer, Rotation)])


Operations = namedtuple("Operations", "additions multiplications")


def extra_operations(network, *, image_shape=(1, 28, 28)):
    """Count, for one image, the additions that the online rotations cost, and the multiplications of all layers.

    A convolution's input is rotated at each of its places.

    >>> from nnzip.nn.network import lenet_300_100
    >>> extra_operations(rotate_network(lenet_300_100()))
    Operations(additions=141936, multiplications=266200)
    """
    check_network(network)
    x = np.zeros((1, *image_shape), np.float32)
    extra = products = 0
    for layer in network.layers:
        y = layer.forward(x)
        if isinstance(layer, Rotation):
            extra += x.size // layer.block_size * additions(layer.block_size)
        elif has_weight(layer):
            products += layer.params["weight"].size * (1 if isinstance(layer, Linear) else y[0, 0].size)
        x = y
    return Operations(extra, products)
