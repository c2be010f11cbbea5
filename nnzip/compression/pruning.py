"""Prune a whole network: once by a criterion, step by step with retraining, or back to its first weights (chapter 05).

What is pruned are weights; biases, a hundredth of them, stay. The arrays keep their shapes and their bytes, zeros in
place. The last functions take whole neurons and filters out for real, with their rows, columns and biases.
"""

from itertools import pairwise

import numpy as np

from nnzip.checks import check_labels, door, number, one_of, real, same_shape, unit, whole
from nnzip.distillation import softmax
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU, rows_of
from nnzip.nn.network import check_network, weights_of
from nnzip.nn.training import SGD, cosine_decay, cross_entropy, fit, random_shift
from nnzip.pruning import activation, gauss_newton_diag, global_masks, magnitude, obd, saliency_mask, stability, taylor

CRITERIA = ("magnitude", "random", "taylor", "activation", "stability", "obd")
SCOPES = ("layer", "network")
BATCH = 50  # images at a time: enough for BLAS, few enough for a convolution's windows and gradients


def prune_network(network, sparsity, *, criterion="magnitude", scope="layer", data=None, seed=0):
    """Return a copy without the weights of the smallest saliency, a fraction `sparsity` of all.

    criterion : one of `CRITERIA`, see `saliencies`
    scope : "layer", every layer gets this sparsity, or "network", the smallest of all layers together
    data : (images, labels, ...), a thousand training images or so; for all criteria but "magnitude" and "random"
    seed : of "random"

    >>> from nnzip.nn.network import lenet_300_100
    >>> weight = prune_network(lenet_300_100(), 0.9).parameters()["5.weight"]
    >>> int((weight == 0).sum()), weight.size
    (900, 1000)
    """
    masks = pruning_masks(network, sparsity, criterion=criterion, scope=scope, data=data, seed=seed)
    return apply_masks(network, masks)


@door
def pruning_masks(
    network, sparsity: unit, *, criterion="magnitude", scope: one_of(*SCOPES) = "layer", data=None, seed=0
):
    """Return the masks of `prune_network` by the names of the weights, as `fit` takes them."""
    scores = saliencies(network, criterion, data=data, seed=seed)
    if scope == "network":
        return global_masks(scores, sparsity)
    return {name: saliency_mask(score, sparsity) for name, score in scores.items()}


def apply_masks(network, masks):
    """Return a copy with zeros where the masks, a dict of bool arrays by name, are False."""
    check_network(network)
    pruned = network.copy()
    parameters = pruned.parameters()
    for name, mask in masks.items():
        weight = parameters[one_of(*parameters)(name, "a mask's name")]
        same_shape(np.asarray(mask), weight, ("the mask", name))
        weight *= mask
    return pruned


def masks_of(network):
    """Return the masks under which a pruned network stays as it is: its weights that are not zero."""
    return {name: weight != 0 for name, weight in weights_of(network).items()}


def sparsity_of(network):
    """Return the fraction of all weights, biases not counted, that are zero."""
    weights = weights_of(network).values()
    return float(sum(np.count_nonzero(w == 0) for w in weights) / sum(w.size for w in weights))


def lottery_ticket(trained, initial, sparsity, *, scope="layer"):
    """Return the initial weights under the mask of the trained ones, and the masks to train them with.

    `trained` is the network `initial` after its training. Source: Frankle and Carbin 2019 (arXiv:1803.03635), section
    1: the ticket is this network; a random reinitialization under the same masks is what it is compared with.
    """
    masks = pruning_masks(trained, sparsity, scope=scope)
    return apply_masks(initial, masks), masks


@door
def gradual_pruning(
    network, data, *, sparsities, epochs_each, rate, l2=0.0, scope: one_of(*SCOPES) = "network", seed=0, progress=False
):
    """Prune to one sparsity after the other and retrain each time; give each (sparsity, network) as it comes.

    One pass costs one training and gives a whole curve. Masks only grow: what was pruned is zero, so it is the first
    to be pruned again. The criterion is magnitude. Source: Han et al. 2015 (arXiv:1506.02626), section 3.

    sparsities : rising; the values of a schedule, for example
    epochs_each : a number of epochs, or a list with one for each sparsity
    rate, l2 : of SGD with momentum 0.9, whose rate falls as a cosine at each sparsity; batches of 128 shifted images
    """
    sparsities = [unit(sparsity, "a sparsity") for sparsity in sparsities]
    epochs = [epochs_each] * len(sparsities) if np.ndim(epochs_each) == 0 else epochs_each
    epochs = [whole(1)(count, "epochs") for count in epochs]
    if len(epochs) != len(sparsities) or sparsities != sorted(sparsities):
        raise ValueError(f"sparsities must rise, with epochs for each, got {sparsities} and {epochs}")
    recipe = {"batch_size": 128, "schedule": cosine_decay, "augment": random_shift, "progress": progress}
    for stage, (sparsity, count) in enumerate(zip(sparsities, epochs, strict=True)):
        masks = pruning_masks(network, sparsity, scope=scope)
        network = apply_masks(network, masks)
        fit(network, data, epochs=count, optimizer=SGD(rate, l2=l2), masks=masks, seed=[seed, stage], **recipe)
        yield sparsity, network.copy()


# What each criterion needs to know


@door
def saliencies(network, criterion: one_of(*CRITERIA), *, data=None, seed: whole(0) = 0):
    """Return the saliency of every weight by a criterion, as in `nnzip.pruning`: {name: array of the weight's shape}.

    "taylor" is the mean over batches of 50 of |w times the gradient of the cross-entropy|; "obd" has the diagonal
    Hessian of the same loss, "stability" the Jacobian of the logits.
    """
    weights, rng = weights_of(network), np.random.default_rng(seed)
    if criterion == "magnitude":
        return {name: magnitude(weight) for name, weight in weights.items()}
    if criterion == "random":
        return {name: rng.random(weight.shape) for name, weight in weights.items()}
    if not isinstance(data, tuple | list) or len(data) < 2:
        raise ValueError(f"criterion {criterion!r} needs data=(images, labels)")
    images = real(data[0], "images")
    labels = check_labels(data[1], len(images))
    network, totals = network.copy(), dict.fromkeys(weights, 0)  # the copy remembers the batches, not the network
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        for name, score in _of_batch(network, criterion, batch, labels[start : start + BATCH]).items():
            totals[name] = totals[name] + len(batch) / len(images) * score
    return {name: np.sqrt(total) for name, total in totals.items()} if criterion == "activation" else totals


def _of_batch(network, criterion, images, labels):
    weights = weights_of(network)
    if criterion == "taylor":
        network.backward(cross_entropy(network.forward(images), labels)[1])
        gradients = network.gradients()
        return {name: taylor(weight, gradients[name]) for name, weight in weights.items()}
    if criterion == "obd":
        hessian = hessian_diagonals(network, images)
        return {name: obd(weight, hessian[name]) for name, weight in weights.items()}
    inputs, logits = _inputs_and_logits(network, images)
    if criterion == "activation":  # squared, so that batches add up
        rows = {name: x.reshape(-1, x.shape[-1]) for name, x in inputs.items()}
        return {name: activation(weight, rows[name]) ** 2 / len(images) for name, weight in weights.items()}
    jacobian = np.eye(logits.shape[1], dtype=logits.dtype)[:, None] + np.zeros_like(logits)  # [C, N, C]
    responses = _responses(network, jacobian)
    return {name: stability(weight, inputs[name], responses[name]) for name, weight in weights.items()}


def hessian_diagonals(network, images, *, temperature=1.0):
    """Return the diagonal of the Hessian of T^2 times the mean cross-entropy at temperature T by every weight.

    The second derivative by the logits, diag(p) - p p^T with p = softmax(logits / T), needs no labels. It is
    sum_c p_c (e_c - p) (e_c - p)^T; each of these vectors goes back through the network once. Returned is {name: array
    of the weight's shape}.
    """
    check_network(network)
    inputs, logits = _inputs_and_logits(network, images)
    p = softmax(logits, temperature=temperature)
    vectors = np.sqrt(p.T)[:, :, None] * (np.eye(p.shape[1], dtype=p.dtype)[:, None] - p)  # [C, N, C]
    weights, responses = weights_of(network), _responses(network, vectors)
    return {name: gauss_newton_diag(x, responses[name]).reshape(weights[name].shape) for name, x in inputs.items()}


def _inputs_and_logits(network, images):  # -> {name: [N, in] or, of a convolution, [N, places, in]}, [N, classes]
    x, inputs = images, {}
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Linear | Conv2d):
            inputs[f"{i}.weight"] = rows_of(layer, x)
        elif layer.params:
            raise TypeError(f"a criterion that looks at inputs needs Linear and Conv2d, layer {i} is {layer}")
        x = layer.forward(x)
    return inputs, x


def _responses(network, vectors):  # [C, N, classes] -> {name: [C, N, out] or, of a convolution, [C, N, places, out]}
    """Send each vector at the logits back; return what comes to the output of each layer with weights."""
    found = {i: [] for i, layer in enumerate(network.layers) if layer.params}
    first = min(found)
    for grad in vectors:
        for i in reversed(range(first, len(network.layers))):
            if i in found:
                found[i].append(grad if grad.ndim == 2 else grad.reshape(*grad.shape[:2], -1).transpose(0, 2, 1))
            grad = network.layers[i].backward(grad, input_gradient=i > first)
    return {f"{i}.weight": np.stack(parts) for i, parts in found.items()}


# Whole units: neurons and filters


@door
def strongest_units(network, sparsity: number(0, 1, "[)")):
    """Return which units of each layer but the last to keep, by their L2 norms: {index of the layer: bool [units]}.

    Li et al. 2017 (arXiv:1608.08710), section 3.1, take the L1 norm.

    >>> from nnzip.nn.network import lenet_300_100
    >>> {i: int(kept.sum()) for i, kept in strongest_units(lenet_300_100(), 0.5).items()}
    {1: 150, 3: 50}
    """
    weights = {i: network.layers[i].params["weight"] for i, _ in _neighbours(network)}
    norms = {i: np.linalg.norm(w.reshape(len(w), -1).astype(np.float64), axis=1) for i, w in weights.items()}
    return {i: saliency_mask(norm, sparsity) for i, norm in norms.items()}


def mask_units(network, kept):
    """Return a copy with zero weights and biases for the units that are not kept.

    `kept` is as from `strongest_units`; the units of a layer without an entry stay.
    """
    kept, masked = _checked_units(network, kept), network.copy()
    for i, units in kept.items():
        for array in masked.layers[i].params.values():
            array[~units] = 0
    return masked


def remove_units(network, kept):
    """Return the smaller network that gives what `mask_units` gives, up to the rounding of float32.

    >>> from nnzip.nn.network import lenet_300_100
    >>> remove_units(lenet_300_100(), {1: np.arange(300) < 200})
    Network([Flatten(), Linear(784, 200), ReLU(), Linear(200, 100), ReLU(), Linear(100, 10)])
    """
    kept, smaller = _checked_units(network, kept), network.copy()
    readers = dict(_neighbours(network))
    for i, units in kept.items():
        weight, bias = smaller.layers[i].params.values()
        smaller.layers[i] = _like(smaller.layers[i], weight[units], bias[units])
        reader = smaller.layers[readers[i]]
        columns = _columns(reader, len(units))[:, units]  # [out, units, weights of each]
        shape = (len(columns), -1, *reader.params["weight"].shape[2:])
        smaller.layers[readers[i]] = _like(reader, columns.reshape(shape), reader.params["bias"])
    return smaller


def remove_dead_units(network):
    """Return the network without the units that weight pruning left dead; what it gives stays, up to rounding.

    Dead is a unit whose weights are all zero, or that the next layer does not read. The first kind gives a constant,
    what the layers in between make of its bias, which is added to the next layer's bias; before a padded convolution,
    which reads zeros beside it, it stays unless the constant is 0. One unit of each layer always stays.

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


def _alive(network, i, reader):  # -> bool [units]
    """Tell which units give no constant and are read; the first one, where there is none.

    The constants move into the bias of the layer that reads them, in place; these units then give 0.
    """
    (weight, bias), layer = network.layers[i].params.values(), network.layers[reader]
    columns, relu = _columns(layer, len(weight)), any(isinstance(part, ReLU) for part in network.layers[i:reader])
    gives = np.maximum(bias, 0) if relu else bias  # without inputs
    constant = ~weight.reshape(len(weight), -1).any(axis=1) & ((gives == 0) | (getattr(layer, "padding", 0) == 0))
    moved = columns.sum(axis=2, dtype=np.float64)[:, constant] @ gives[constant]
    layer.params["bias"] += moved.astype(bias.dtype)
    bias[constant] = 0
    alive = ~constant & columns.any(axis=(0, 2))
    alive[0] |= not alive.any()
    return alive


def _columns(layer, units):  # -> [out, units, weights of each]; the places of a channel lie side by side
    weight = layer.params["weight"]
    return weight.reshape(len(weight), units, -1)


def _like(layer, weight, bias):
    """Return a layer of the same kind with these parameters."""
    sizes = weight.shape[1], len(weight)
    if isinstance(layer, Linear):
        new = Linear(*sizes)
    else:
        new = Conv2d(*sizes, layer.kernel_size, stride=layer.stride, padding=layer.padding)
    new.params["weight"][...], new.params["bias"][...] = weight, bias
    return new


def _neighbours(network):  # -> [(index of a layer with weights, index of the one that reads it)]
    check_network(network)
    for i, layer in enumerate(network.layers):
        if type(layer) not in (Linear, Conv2d, ReLU, MaxPool2d, Flatten):
            raise TypeError(f"layer {i} must be Linear, Conv2d, ReLU, MaxPool2d or Flatten to be made smaller: {layer}")
    return list(pairwise(i for i, layer in enumerate(network.layers) if layer.params))


def _checked_units(network, kept):  # -> {index of a layer: bool [units]}
    inner, checked = [i for i, _ in _neighbours(network)], {}
    for i, units in kept.items():
        count = len(network.layers[one_of(*inner)(i, "a layer of kept")].params["bias"])
        checked[i] = units = np.asarray(units)
        if units.dtype != bool or units.shape != (count,) or not units.any():
            raise ValueError(f"kept[{i}] must be {count} bools, at least one True, got {units.dtype} {units.shape}")
    return checked
