"""Layers with inputs that fit them, for every test that runs over all layers; directional derivatives to judge them."""

import numpy as np

from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network

# in and out channels, kernel, stride, padding, then the shape of the input without its channels: N, H, W
CONVOLUTIONS = {
    "one_pixel": (1, 1, 1, 1, 0, (1, 1, 1)),
    "not_square": (1, 2, 3, 1, 0, (2, 5, 7)),
    "stride_and_padding": (2, 3, 3, 2, 1, (2, 7, 6)),
    "stride_over_kernel": (3, 2, 2, 3, 0, (1, 8, 5)),
    "stride_over_kernel_leftover": (2, 2, 1, 3, 0, (2, 6, 8)),
    "kernel_over_stride": (2, 2, 5, 2, 0, (3, 9, 12)),
    "stride_leaves_pixels_out": (2, 1, 3, 2, 0, (3, 8, 8)),
    "stride_is_kernel": (1, 3, 2, 2, 0, (2, 4, 6)),
    "kernel_over_image": (2, 2, 5, 1, 2, (1, 4, 3)),
    "kernel_is_padded_image": (2, 3, 4, 1, 1, (2, 2, 2)),
    "padding_over_kernel": (2, 2, 3, 1, 4, (1, 2, 3)),
    "all_at_once": (2, 3, 4, 3, 1, (2, 9, 7)),
    "one_row": (2, 2, 1, 1, 0, (4, 1, 6)),
}
POOLINGS = {
    "size_1": (1, (2, 3, 4, 5)),
    "size_2": (2, (2, 2, 4, 6)),
    "size_2_leftover": (2, (1, 2, 5, 7)),
    "size_3": (3, (2, 1, 6, 9)),
    "size_3_leftover_both": (3, (2, 2, 7, 8)),
    "size_3_leftover_rows": (3, (1, 1, 5, 3)),
    "size_4_one_window": (4, (3, 2, 4, 7)),
}


def convolution(name):
    """Return a layer and the shape of its input."""
    C, filters, k, stride, padding, (N, H, W) = CONVOLUTIONS[name]
    layer = Conv2d(C, filters, k, stride=stride, padding=padding, rng=np.random.default_rng(0))
    return with_biases(layer), (N, C, H, W)


def random_convolution(seed):
    rng = np.random.default_rng(seed)
    C, filters, k, stride, N = rng.integers(1, 5, 5).tolist()
    padding = int(rng.integers(0, 3))
    H, W = rng.integers(max(1, k - 2 * padding), 10, 2).tolist()
    return with_biases(Conv2d(C, filters, k, stride=stride, padding=padding, rng=rng)), (N, C, H, W)


def with_biases(layer):
    """Give a layer, or those of a network, biases that are not zero, as training would."""
    rng = np.random.default_rng(1)
    for part in getattr(layer, "layers", [layer]):
        if part.params:
            part.params["bias"][...] = rng.normal(size=part.params["bias"].shape)
    return layer


def _cases():
    rng = np.random.default_rng(2)
    yield "linear", with_biases(Linear(4, 3, rng=rng)), (5, 4)
    yield "linear_batch_1", with_biases(Linear(7, 2, rng=rng)), (1, 7)
    yield "linear_1_to_1", with_biases(Linear(1, 1, rng=rng)), (3, 1)
    yield "relu_matrix", ReLU(), (4, 5)
    yield "relu_images", ReLU(), (2, 3, 4, 5)
    yield "flatten_images", Flatten(), (2, 3, 4, 5)
    yield "flatten_matrix", Flatten(), (3, 4)
    for name in CONVOLUTIONS:
        yield f"conv_{name}", *convolution(name)
    for seed in range(8):
        yield f"conv_random_{seed}", *random_convolution(seed)
    for name, (size, shape) in POOLINGS.items():
        yield f"pool_{name}", MaxPool2d(size), shape


CASES = {name: (layer, shape) for name, layer, shape in _cases()}
SHORT = [  # one of each kind, where the layer's arithmetic is not the question
    "linear", "relu_images", "flatten_images", "conv_stride_and_padding", "conv_random_3", "pool_size_3_leftover_both",
]  # fmt: skip


def case(name):
    """Return a fresh copy of a layer (no state of another test) and a float64 input."""
    layer, shape = CASES[name]
    return Network([layer]).copy().layers[0], np.random.default_rng(3).normal(size=shape)


def in_float64(network):
    """Let a network hold its weights in float64, so that differences can be taken."""
    for layer in network.layers:
        layer.params = {name: array.astype(np.float64) for name, array in layer.params.items()}
    return network


def tiny_cnn(seed=0):
    """Every kind of layer in one network that takes [N, 2, 9, 8] and gives 3 logits."""
    rng = np.random.default_rng(seed)
    layers = [
        Conv2d(2, 3, 3, padding=1, rng=rng),
        MaxPool2d(2),
        ReLU(),
        Conv2d(3, 4, 2, stride=2, rng=rng),
        Flatten(),
        Linear(16, 5, rng=rng),
        ReLU(),
        Linear(5, 3, rng=rng),
    ]
    return with_biases(Network(layers))


def slope(function, array, direction, epsilon=1e-6):
    """Return the derivative of a function of one array along a direction, by central differences."""
    return (function(array + epsilon * direction) - function(array - epsilon * direction)) / (2 * epsilon)
