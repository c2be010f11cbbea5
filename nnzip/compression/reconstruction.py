"""Second-order rounding and pruning of a whole network, scales and biases that help: nothing is trained (chapter 10).

The calibration images go through the layers that are changed already, so that each layer sees the inputs that it will
get, errors and all, and can make up for the layers before. With a Hadamard rotation in front of every layer:
`reconstruct_weights(rotate_network(network), ...)`.
"""

from functools import partial
from itertools import pairwise

import numpy as np

from nnzip.checks import door, one_of, reals, unit
from nnzip.compression.quantization import check_plain, has_weight
from nnzip.equalization import bias_correction, equalize, smoothquant_scales
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, rows_of
from nnzip.nn.network import check_network
from nnzip.pruning import saliency_mask
from nnzip.quantization import choose_qparams, fake_quantize
from nnzip.reconstruction import adaround, damped, fit_scales, gptq, input_hessian, obd_prune, obs_saliency, refit

DAMPING = 0.1  # of the Hessian; not the usual 0.01, for a thousand images are few for 800 inputs
SWEEPS = 20  # of `equalize_network`: a layer between two pairs settles quickly
BATCH = 64  # images at a time: the windows of a convolution are many
WINDOWS = 16_384  # of a convolution, from the first images: neighbours are so alike that more of them say little
ROUNDERS = {  # (weight, hessian, qparams) -> rounded weight
    "nearest": lambda weight, hessian, qparams: fake_quantize(weight, qparams),
    "gptq": partial(gptq, order="descending"),
    "adaround": lambda weight, *rest, **options: adaround(weight.astype(np.float32), *rest, **options),
}


def layer_by_layer(network, images, change):
    """Return a copy with change(weight, target, hessian) -> weight, all (out, in), done to each layer in turn.

    target = W + (W (X - X^)^T X^) H^-1 is the weight that comes nearest to the float network's outputs W X from the
    inputs X^ that the changed layers give. (The papers on GPTQ have W itself.)
    """
    check_plain(network)
    changed = network.copy()
    x = x_hat = images
    for layer, new in zip(network.copy().layers, changed.layers, strict=True):
        y = _forward(layer, x)  # first: it refuses images that do not fit
        if isinstance(layer, Linear | Conv2d):
            weight = layer.params["weight"].reshape(len(layer.params["weight"]), -1).astype(np.float64)
            hessian, crossed = _moments(layer, x, x_hat)
            target = weight + np.linalg.solve(damped(hessian, DAMPING), (weight @ crossed).T).T
            new.params["weight"][...] = change(weight, target, hessian).reshape(layer.params["weight"].shape)
        x, x_hat = y, _forward(new, x_hat)
    return changed


@door
def reconstruct_weights(
    network, images: reals(2, 4), *, bits, method: one_of(*ROUNDERS) = "gptq", clip=True, **options
):
    """Return a copy whose weights are rounded to `bits` bits so that each layer's outputs stay as they were.

    Each output neuron or filter has its scale. Of a pruned network the zeros stay, by "gptq" and "nearest".

    images : training images (N, C, H, W), a thousand or so
    clip : whether the scales shrink by `fit_scales` (for "adaround" with `gptq` as the judge)
    options : of `gptq` (its order is descending if not said) or `adaround`

    >>> from nnzip.nn.network import lenet_300_100
    >>> images = np.random.default_rng(0).random((50, 1, 28, 28), np.float32)
    >>> rounded = reconstruct_weights(lenet_300_100(), images, bits=3)
    >>> len(np.unique(rounded.parameters()["5.weight"][0]))
    7
    """
    rounder = partial(ROUNDERS[method], **options)
    judge = ROUNDERS["gptq"] if method == "adaround" else rounder

    def change(weight, target, hessian):
        target, hessian = weight if method == "nearest" else target, damped(hessian, DAMPING)
        kept = {"mask": weight != 0} if method == "gptq" else {}
        grid = choose_qparams(weight, bits=bits, axis=0)
        grid = fit_scales(target, hessian, grid, rounder=partial(judge, **kept)) if clip else grid
        return rounder(target, hessian, grid, **kept)

    return layer_by_layer(network, images, change)


@door
def reconstruct_pruned(network, images: reals(2, 4), sparsity: unit, *, method: one_of("obs", "obd") = "obs"):
    """Return a copy with a part `sparsity` of each layer's weights zero, chosen by their second-order saliency.

    By "obd" the rest stays, by "obs" it is fitted again by least squares (at once, where `obs_prune` goes one by one).
    """

    def change(weight, target, hessian):
        if method == "obd":
            return obd_prune(weight, hessian, sparsity)
        hessian = damped(hessian, DAMPING)
        return refit(target, saliency_mask(obs_saliency(target, hessian), sparsity), hessian)

    return layer_by_layer(network, images, change)


def _forward(layer, x):
    return np.concatenate([layer.forward(x[i : i + BATCH]) for i in range(0, len(x), BATCH)])


def _moments(layer, x, x_hat):  # -> 2 mean x^_n^T x^_n and 2 mean (x_n - x^_n)^T x^_n, each [in, in]
    if isinstance(layer, Conv2d):
        images = max(BATCH, WINDOWS // rows_of(layer, x[:1]).shape[1])
        x, x_hat = x[:images], x_hat[:images]
    hessian = crossed = 0.0
    for start in range(0, len(x), BATCH):
        rows = (rows_of(layer, array[start : start + BATCH]) for array in (x, x_hat))
        part, part_hat = (array.reshape(-1, array.shape[-1]).astype(np.float64) for array in rows)
        share = len(x[start : start + BATCH]) / len(x)
        hessian = hessian + share * input_hessian(part_hat, damping=0.0)
        crossed = crossed + share * 2 / len(part) * ((part - part_hat).T @ part_hat)
    return hessian, crossed


def equalize_network(network):
    """Return a copy in which neighbouring layers have channels of like size; it computes the same.

    Every pair of Linear or Conv2d with nothing but ReLU, max pooling and Flatten between is equalized (Nagel et al.
    2019, section 4.1).
    """
    pairs, equal = _pairs(network), network.copy()
    for i, j in SWEEPS * pairs:
        first, second = equal.layers[i].params, equal.layers[j].params
        scaled = equalize(first["weight"], first["bias"], second["weight"])
        first["weight"][...], first["bias"][...], second["weight"][...] = scaled
    return equal


@door
def smooth_network(network, images: reals(2, 4)):
    """Return a copy whose hidden activations have their outlying channels moved into the weights; it computes the same.

    The scales of `smoothquant_scales`, on training images (N, C, H, W), divide the rows of the layer before; the images
    themselves are not scaled.
    """
    pairs, smooth, seen = _pairs(network), network.copy(), [images]  # seen[i] enters layer i
    for layer in network.copy().layers:
        seen.append(_forward(layer, seen[-1]))
    for i, j in reversed(pairs):  # from the back: a layer's rows are final before its columns are looked at
        first, second = smooth.layers[i].params, smooth.layers[j].params
        channels = len(first["weight"])
        columns = second["weight"].reshape(len(second["weight"]), channels, -1, 1)  # [out, C, places, 1]
        scales = smoothquant_scales(seen[j].reshape(len(images), channels, -1), columns)
        first["weight"][...] /= scales.reshape(-1, *[1] * (first["weight"].ndim - 1))
        first["bias"] /= scales
        second["weight"][...] = (columns * scales[:, None, None]).reshape(second["weight"].shape)
    return smooth


@door
def correct_biases(network, rounded, images: reals(2, 4)):
    """Return a copy of the rounded network whose biases take out the mean error of each layer's outputs, in turn.

    rounded is made of the float network, and its activations may be rounded, too. The means are over training images
    (N, C, H, W). See `nnzip.equalization.bias_correction`.
    """
    check_network(network)
    check_network(rounded)
    shapes = [[(name, array.shape) for name, array in net.parameters().items()] for net in (network, rounded)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"rounded must have the layers of network {network}, got {rounded}")
    corrected, x, x_hat = rounded.copy(), images, images
    for layer, new in zip(network.copy().layers, corrected.layers, strict=True):
        x, before = _forward(layer, x), x_hat
        x_hat = _forward(new, before)
        if has_weight(layer):
            new.params["bias"][...] = bias_correction(new.params["bias"], x, x_hat)
            x_hat = _forward(new, before)
    return corrected


def _pairs(network):  # -> [(i, j)], layers with weights and nothing between that a positive scale does not pass through
    check_plain(network)
    weighted = [i for i, layer in enumerate(network.layers) if has_weight(layer)]
    between = ReLU | MaxPool2d | Flatten
    return [(i, j) for i, j in pairwise(weighted) if all(isinstance(x, between) for x in network.layers[i + 1 : j])]
