"""Take neurons and filters out for real: the network that is left is dense, smaller, faster, and no mask is needed.

A unit is a neuron of a Linear or a filter of a Conv2d: a row of a weight, an element of a bias, and the columns of the
next layer that read it. A unit that is removed gives 0: its bias goes with its weights. (A neuron whose weights alone
are zero still gives relu(bias); `remove_dead_units` puts that constant into the next layer's bias.)
"""

from itertools import pairwise

import numpy as np

from nnzip.checks import check_choice, check_ndim, check_number
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import check_network
from nnzip.pruning import saliency_mask


def unit_norms(network):
    """Return the L2 norm of every unit's weights: {index of the layer: float64 [units]}, without the last layer.

    Source: Li et al. 2017 (arXiv:1608.08710), section 3.1, who take the L1 norm.

    Examples
    --------
    >>> from nnzip.nn.network import lenet_5
    >>> {i: norms.shape for i, norms in unit_norms(lenet_5()).items()}
    {0: (20,), 2: (50,), 5: (500,)}
    """
    weights = {i: network.layers[i].params["weight"] for i, _ in _neighbours(network)}
    return {i: np.sqrt(np.sum(w.astype(np.float64) ** 2, axis=tuple(range(1, w.ndim)))) for i, w in weights.items()}


def strongest_units(network, sparsity):
    """Return which units of each layer to keep, by their norms: {index of the layer: bool [units]}.

    Examples
    --------
    >>> from nnzip.nn.network import lenet_300_100
    >>> {i: int(kept.sum()) for i, kept in strongest_units(lenet_300_100(), 0.5).items()}
    {1: 150, 3: 50}
    """
    check_number(sparsity, "sparsity", 0, 1, open_high=True)
    return {i: saliency_mask(norms, sparsity) for i, norms in unit_norms(network).items()}


def mask_units(network, kept):
    """Return a copy of the same shapes in which the units that are not kept have zero weights and bias.

    `kept` is a dict {index of a layer: bool [units]}, as `strongest_units` returns it; layers without an entry stay.
    """
    kept, masked = _check_kept(network, kept), network.copy()
    for i, units in kept.items():
        for array in masked.layers[i].params.values():
            array[~units] = 0
    return masked


def remove_units(network, kept):
    """Return the smaller network that gives what `mask_units` gives, up to the rounding of float32.

    Examples
    --------
    >>> from nnzip.nn.network import lenet_5
    >>> remove_units(lenet_5(), {2: np.arange(50) < 30})
    Network([Conv2d(1, 20, 5), MaxPool2d(2), Conv2d(20, 30, 5), MaxPool2d(2), Flatten(), Linear(480, 500), ReLU(), \
Linear(500, 10)])
    """
    kept, smaller = _check_kept(network, kept), network.copy()
    readers = dict(_neighbours(network))
    for i, units in kept.items():
        weight, bias = smaller.layers[i].params.values()
        smaller.layers[i] = _like(smaller.layers[i], weight[units], bias[units])
        reader = smaller.layers[readers[i]]
        columns = _columns(reader.params["weight"], len(units))[:, units]  # [out, units, weights of each]
        shape = (len(columns), -1, *reader.params["weight"].shape[2:])
        smaller.layers[readers[i]] = _like(reader, columns.reshape(shape), reader.params["bias"])
    return smaller


def remove_dead_units(network):
    """Return the network without the units that weight pruning left dead; what it gives stays, up to rounding.

    Dead is a unit whose weights are all zero, or that the next layer does not read. The first kind gives a constant,
    what the layers in between make of its bias, which is added to the next layer's bias; before a padded convolution,
    which reads zeros beside it, it stays unless the constant is 0. One unit of each layer always stays.

    Examples
    --------
    >>> from nnzip.nn.network import lenet_300_100
    >>> network = lenet_300_100()
    >>> network.parameters()["1.weight"][:200] = 0
    >>> remove_dead_units(network)
    Network([Flatten(), Linear(784, 100), ReLU(), Linear(100, 100), ReLU(), Linear(100, 10)])
    """
    neighbours, smaller = _neighbours(network), network.copy()
    while True:
        kept = {i: _alive(smaller, i, reader) for i, reader in neighbours}
        if all(units.all() for units in kept.values()):
            return smaller
        smaller = remove_units(smaller, kept)


def _alive(network, i, reader):  # -> bool [units]; constants move into the reader's bias
    (weight, bias), layer = network.layers[i].params.values(), network.layers[reader]
    columns = _columns(layer.params["weight"], len(weight)).astype(np.float64)
    rows = weight.reshape(len(weight), -1)
    gives = np.maximum(bias, 0) if any(isinstance(part, ReLU) for part in network.layers[i:reader]) else bias
    constant = ~rows.any(axis=1) & ((gives == 0) | (getattr(layer, "padding", 0) == 0))
    layer.params["bias"] += (columns.sum(axis=2)[:, constant] @ gives[constant]).astype(bias.dtype)
    bias[constant] = 0
    alive = ~constant & columns.any(axis=(0, 2))
    alive[0] |= not alive.any()
    return alive


def _columns(weight, units):  # -> [out, units, weights of each]; the places of a channel lie side by side
    return weight.reshape(len(weight), units, -1)


def _like(layer, weight, bias):
    """Return a layer of the same kind with these parameters."""
    if isinstance(layer, Linear):
        new = Linear(weight.shape[1], weight.shape[0], rng=0)
    else:
        new = Conv2d(weight.shape[1], len(weight), layer.kernel_size, stride=layer.stride, padding=layer.padding, rng=0)
    new.params["weight"][...], new.params["bias"][...] = weight, bias
    return new


def _neighbours(network):  # -> [(index of a layer with weights, index of the one that reads it)]
    check_network(network)
    for i, layer in enumerate(network.layers):
        if type(layer) not in (Linear, Conv2d, ReLU, MaxPool2d, Flatten):
            allowed = "allowed are Linear, Conv2d, ReLU, MaxPool2d, Flatten"
            raise TypeError(f"layer {i}, {layer}, cannot be made smaller: {allowed}")
    weighted = [i for i, layer in enumerate(network.layers) if layer.params]
    return list(pairwise(weighted))


def _check_kept(network, kept):
    inner = [i for i, _ in _neighbours(network)]
    if not isinstance(kept, dict):
        raise TypeError(f"kept must be a dict of bool arrays by the index of a layer, got {type(kept).__name__}")
    checked = {}
    for i, units in kept.items():
        check_choice(i, "a layer of kept", inner)
        checked[i] = units = np.asarray(units)
        check_ndim(units, f"kept[{i}]", 1)
        count = len(network.layers[i].params["bias"])
        if units.dtype != bool or len(units) != count or not units.any():
            raise ValueError(f"kept[{i}] must be {count} bools, at least one True, got {units.dtype} {units.shape}")
    return checked
