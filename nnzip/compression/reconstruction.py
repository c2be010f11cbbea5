"""Second-order rounding and pruning of a whole network, and the scalings and biases that help it: nothing is trained.

One layer after the other: the calibration images go through the layers that are changed already, so that each layer
sees the inputs that it will get, errors and all. Its Hessian is of these inputs. It makes up for its own rounding and,
with targets="float", for that of the layers before.

For the Hadamard rotation in front: `reconstruct_weights(rotate_network(network), ...)`; what is rounded are then the
rotated weights, and the Hessian is that of the rotated inputs.
"""

from functools import partial
from itertools import pairwise

import numpy as np

from nnzip.checks import check_choice, check_integer, check_number, real_array
from nnzip.compression.quantization import check_plain, has_weight
from nnzip.equalization import bias_correction, equalize, smoothquant_scales
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, windows
from nnzip.nn.network import check_network
from nnzip.pruning import saliency_mask
from nnzip.quantization import choose_qparams, fake_quantize
from nnzip.reconstruction import adaround, damped, fit_scales, gptq, input_hessian, obd_prune, obs_saliency, refit

ROUNDERS = {  # (weight, hessian, qparams) -> rounded weight
    "nearest": lambda weight, hessian, qparams: fake_quantize(weight, qparams),
    "gptq": partial(gptq, order="descending"),
    "adaround": lambda weight, *rest, **options: adaround(weight.astype(np.float32), *rest, **options),
}
PRUNED = ("obd", "obs")
TARGETS = ("rounded", "float")
BATCH = 64  # images at a time: the windows of a convolution are many
WINDOWS = 16_384  # of a convolution, from the first images: neighbours are so alike that more of them say little


def reconstruct_weights(
    network, images, *, bits, method="gptq", per_channel=True, group_size=None, clip=True, targets="float",
    damping=0.1, **options,
):  # fmt: skip
    """Return a copy whose weights are rounded to `bits` bits so that each layer's outputs stay as they were.

    By "gptq" and "nearest", weights that are zero, of a pruned network, stay zero.

    Parameters
    ----------
    network : Network of Linear, Conv2d and layers without weights
    images : float array (N, C, H, W), training images, a thousand or so
    bits, per_channel, group_size : as in `quantize_weights`; the weights of a convolution are rows of in * kH * kW
    method : "nearest", "gptq" or "adaround"
    clip : bool
        Shrink the scales by `fit_scales` (for "adaround" with `gptq` as the judge), or leave each at max|w|'s.
    targets : "float" or "rounded"
        What a layer is to give: what the float network gives there, or what its float weights make of the inputs that
        come from the rounded layers before, as the papers on GPTQ have it.
    damping : float >= 0, of the Hessian; 0.1 and not the usual 0.01, for a thousand images are few for 800 inputs
    options : of `gptq` (its order is descending if not said) or `adaround` (iterations, ...)

    Examples
    --------
    >>> from nnzip.nn.network import lenet_300_100
    >>> images = np.random.default_rng(0).random((50, 1, 28, 28), np.float32)
    >>> rounded = reconstruct_weights(lenet_300_100(), images, bits=3)
    >>> len(np.unique(rounded.parameters()["5.weight"][0]))
    7
    """
    check_choice(method, "method", ROUNDERS)
    check_choice(clip, "clip", (True, False))
    axis = 0 if per_channel and group_size is None else None
    rounder = partial(ROUNDERS[method], **options)
    judge = ROUNDERS["gptq"] if method == "adaround" else rounder

    def change(weight, target, hessian):
        target, hessian = weight if method == "nearest" else target, damped(hessian, damping)
        kept = {"mask": weight != 0} if method == "gptq" else {}
        grid = choose_qparams(weight, bits=bits, axis=axis, group_size=group_size)
        grid = fit_scales(target, hessian, grid, rounder=partial(judge, **kept)) if clip else grid
        return rounder(target, hessian, grid, **kept)

    return _layer_by_layer(network, images, change, targets, damping)


def reconstruct_pruned(network, images, sparsity, *, method="obs", targets="float", damping=0.1):
    """Return a copy with a fraction `sparsity` of each layer's weights zero, chosen by their second-order saliency.

    Parameters
    ----------
    network, images, targets, damping : as in `reconstruct_weights`
    sparsity : float in [0, 1]
    method : "obd", by the diagonal of the Hessian, the rest stays; "obs", by the diagonal of its inverse, the rest is
        fitted again by least squares (all at once, where `obs_prune` goes one by one)
    """
    check_choice(method, "method", PRUNED)
    check_number(sparsity, "sparsity", 0, 1)

    def change(weight, target, hessian):
        if method == "obd":
            return obd_prune(weight, hessian, sparsity)
        hessian = damped(hessian, damping)
        return refit(target, saliency_mask(obs_saliency(target, hessian), sparsity), hessian)

    return _layer_by_layer(network, images, change, targets, damping)


def _layer_by_layer(network, images, change, targets, damping):
    """Return a copy with change(weight, target, hessian) -> weight, all (out, in), done to each layer in turn."""
    check_plain(network)
    check_choice(targets, "targets", TARGETS)
    changed = network.copy()
    x = x_hat = real_array(images, "images", ndim=(2, 4))
    for layer, new in zip(network.copy().layers, changed.layers, strict=True):
        y = _forward(layer, x)  # first: it refuses images that do not fit
        if isinstance(layer, Linear | Conv2d):
            weight = layer.params["weight"]
            rows = weight.reshape(len(weight), -1).astype(np.float64)
            hessian, crossed = _moments(layer, x, x_hat)
            target = rows
            if targets == "float":  # rows x^T is what is wanted; in least squares, with inputs x^
                target = rows + np.linalg.solve(damped(hessian, damping), (rows @ crossed).T).T
            new.params["weight"][...] = change(rows, target, hessian).reshape(weight.shape)
        x, x_hat = y, _forward(new, x_hat)
    return changed


def _forward(layer, x):
    return np.concatenate([layer.forward(x[i : i + BATCH]) for i in range(0, len(x), BATCH)])


def _moments(layer, x, x_hat):  # -> 2 mean x^_n^T x^_n and 2 mean (x_n - x^_n)^T x^_n, each [in, in]
    if isinstance(layer, Conv2d):
        places = windows(x[:1], layer.kernel_size, stride=layer.stride, padding=layer.padding).shape[1]
        x, x_hat = (array[: max(BATCH, WINDOWS // places)] for array in (x, x_hat))
    hessian = crossed = 0.0
    for start in range(0, len(x), BATCH):
        part, part_hat = (_rows(layer, array[start : start + BATCH]) for array in (x, x_hat))
        share = len(x[start : start + BATCH]) / len(x)
        hessian = hessian + share * input_hessian(part_hat, damping=0.0)
        crossed = crossed + share * 2 / len(part) * ((part - part_hat).T @ part_hat)
    return hessian, crossed


def _rows(layer, x):  # -> float64 [N, in], of a convolution its windows
    rows = x if isinstance(layer, Linear) else windows(x, layer.kernel_size, stride=layer.stride, padding=layer.padding)
    return rows.reshape(-1, rows.shape[-1]).astype(np.float64)


# ---------------------------------------------------------------- scales and biases


def equalize_network(network, *, sweeps=20):
    """Return a copy in which neighbouring layers have channels of like size, so that one scale serves each: it computes
    the same.

    Every pair of Linear or Conv2d with nothing but ReLU, max pooling and Flatten between is equalized, pair after pair,
    `sweeps` times: a layer between two pairs settles quickly (Nagel et al. 2019, section 4.1).
    """
    check_plain(network)
    equal = network.copy()
    for _ in range(check_integer(sweeps, "sweeps", 1)):
        for i, j in _pairs(equal):
            first, second = equal.layers[i].params, equal.layers[j].params
            scaled = equalize(first["weight"], first["bias"], second["weight"])
            for array, new in zip((first["weight"], first["bias"], second["weight"]), scaled, strict=True):
                array[...] = new
    return equal


def smooth_network(network, images, *, alpha=0.5):
    """Return a copy whose hidden activations have their outlying channels moved into the weights: it computes the same.

    The scales of `smoothquant_scales` divide the rows of the layer before; the images themselves are not scaled.

    Parameters
    ----------
    images : float array (N, C, H, W), training images: the largest activations are seen on them
    alpha : as in `smoothquant_scales`
    """
    check_plain(network)
    smooth, x, seen = network.copy(), real_array(images, "images", ndim=(2, 4)), {}
    for i, layer in enumerate(network.copy().layers):
        seen[i], x = x, _forward(layer, x)
    for i, j in reversed(_pairs(smooth)):  # from the back: a layer's rows are final before its columns are looked at
        first, second = smooth.layers[i].params, smooth.layers[j].params
        channels = len(first["weight"])
        columns = second["weight"].reshape(len(second["weight"]), channels, -1, 1)  # [out, C, places, 1]
        inputs = seen[j].reshape(len(x), channels, -1)
        scales = smoothquant_scales(inputs, columns, alpha=alpha)
        first["weight"][...] /= scales.reshape(-1, *[1] * (first["weight"].ndim - 1))
        first["bias"] /= scales
        second["weight"][...] = (columns * scales[:, None, None]).reshape(second["weight"].shape)
    return smooth


def correct_biases(network, rounded, images):
    """Return a copy of the rounded network whose biases take out the mean error of each layer's outputs, in turn.

    Parameters
    ----------
    network : Network, the float one
    rounded : Network made of it, with the same layers; activations may be rounded, too
    images : float array (N, C, H, W), training images

    See `nnzip.equalization.bias_correction`.
    """
    check_network(network)
    check_network(rounded)
    shapes = [{name: array.shape for name, array in net.parameters().items()} for net in (network, rounded)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"rounded must have the layers of network {network}, got {rounded}")
    corrected = rounded.copy()
    x = x_hat = real_array(images, "images", ndim=(2, 4))
    for layer, new in zip(network.copy().layers, corrected.layers, strict=True):
        x, x_hat = _forward(layer, x), _forward(new, x_hat_in := x_hat)
        if has_weight(layer):
            new.params["bias"][...] = bias_correction(new.params["bias"], x, x_hat)
            x_hat = _forward(new, x_hat_in)
    return corrected


def _pairs(network):  # -> [(i, j)], layers with weights and nothing between that a positive scale does not pass through
    check_plain(network)
    weighted = [i for i, layer in enumerate(network.layers) if has_weight(layer)]
    between = ReLU | MaxPool2d | Flatten
    return [(i, j) for i, j in pairwise(weighted) if all(isinstance(x, between) for x in network.layers[i + 1 : j])]
