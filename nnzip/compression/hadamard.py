"""Rotate a whole network: every layer computes the same, in a basis in which its weights have no outliers (chapter 04).

    y = x W^T = (x R) (W R)^T        R = D H / sqrt(n), orthogonal

W R is made once, x R for every image, by a layer of its own in front: what rounds weights or inputs then sees them
rotated. (Chee et al. 2023, QuIP, arXiv:2307.13304; Ashkboos et al. 2024, QuaRot, arXiv:2404.00456; both section 4.)
"""

from itertools import pairwise

import numpy as np

from nnzip.checks import door, whole
from nnzip.compression.quantization import has_weight
from nnzip.hadamard import additions, largest_block, random_signs, rotate, unrotate
from nnzip.nn.layers import Conv2d, Layer, Linear
from nnzip.nn.network import Network, check_network


@door
def rotate_network(network, *, seed: whole(0) = 0):
    """Return a copy with a Rotation before each Linear and Conv2d and with their weights rotated: the outputs stay.

    A Linear is rotated along its inputs; a Conv2d along its input channels, at every place and tap alike, since a
    convolution is a sum over them; both in blocks of `largest_block`. Where that is 1, the layer is left as it is.

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
    block_size : as in `rotate`; without it, `largest_block(n)`
    """

    def __init__(self, signs, *, block_size=None):
        super().__init__()
        self.signs = np.asarray(signs)
        self.block_size = largest_block(len(self.signs)) if block_size is None else block_size

    def forward(self, x):  # [N, n, ...] -> [N, n, ...]
        return self._turned(rotate, x)

    def backward(self, grad_y, *, input_gradient=True):  # the transpose is the way back
        return self._turned(unrotate, grad_y) if input_gradient else None

    def _turned(self, turn, x):
        if np.ndim(x) == 2:
            return turn(x, self.signs, block_size=self.block_size)
        # [H, C, W, N] in memory, as the layers beside it have it
        return turn(x.transpose(2, 1, 3, 0), self.signs, axis=1, block_size=self.block_size).transpose(3, 1, 0, 2)

    def rotated_weight(self, weight, turn=rotate):  # [out, n, ...] -> float64, for the same weights on every CPU
        return turn(weight.astype(np.float64), self.signs, axis=1, block_size=self.block_size)

    def __repr__(self):
        blocks = f", block_size={self.block_size}" if self.block_size != len(self.signs) else ""
        return f"Rotation({len(self.signs)}{blocks})"


def unrotate_network(network):
    """Return a copy without its Rotations, each multiplied into the weights that follow it: the outputs stay.

    So a network that was rounded in the rotated basis is measured faster; its weights then lie on no grid.
    """
    check_network(network)
    old = network.copy().layers
    for i, (rotation, layer) in enumerate(pairwise([*old, None])):
        if isinstance(rotation, Rotation):
            if not isinstance(layer, Linear | Conv2d):
                raise ValueError(f"layer {i} cannot be multiplied into a Linear or Conv2d, what follows it is {layer}")
            layer.params["weight"][...] = rotation.rotated_weight(layer.params["weight"], unrotate)
    return Network([layer for layer in old if not isinstance(layer, Rotation)])


def extra_additions(network, *, image_shape=(1, 28, 28)):
    """Count, for one image, the additions that the rotations cost, at each place; the rest costs what `costs` says.

    >>> from nnzip.nn.network import lenet_300_100
    >>> extra_additions(rotate_network(lenet_300_100()))
    141936
    """
    check_network(network)
    x, total = np.zeros((1, *image_shape), np.float32), 0
    for layer in network.layers:
        if isinstance(layer, Rotation):
            total += x.size // layer.block_size * additions(layer.block_size)
        x = layer.forward(x)
    return total
