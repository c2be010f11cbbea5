"""Who gets how many bits: what each piece loses at every width, what it takes, and the best exchange (chapter 11).

    minimize  sum_i costs[i, choice_i]     such that     sum_i sizes[i, choice_i] <= budget

A piece is a layer, a row of its weight (what one neuron or filter reads) or a column (what one input is multiplied
by). Bytes are counted, not written: packed codes, a float32 for each scale and bias, half a byte for a piece's width.
"""

import math
from typing import NamedTuple

import numpy as np

from nnzip.checks import door, integers, one_of, positive, real, reals, same_shape, whole
from nnzip.compression.pruning import hessian_diagonals
from nnzip.compression.quantization import quantize_weights
from nnzip.distillation import kl_divergence
from nnzip.nn.network import check_network, weights_of
from nnzip.pruning import magnitude_mask
from nnzip.quantization import choose_qparams, fake_quantize, qparams_from_range

BITS = (0, 2, 3, 4, 5, 6, 7, 8)  # 0: all weights of the piece are zero, and it needs no scale
PIECES = {"layer": 0, "row": 0, "column": 1}  # and along which axis of a weight [out, in] the scales are
CLIPS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # parts of the largest weight that a grid may end at
TRIED = ("row", "column")  # by `mixed_precision`
MOST_CHOICES = 1 << 27  # bytes of the table of dynamic programming
HESSIAN_IMAGES = 250  # of the calibration images: second derivatives cost ten backward passes


@door
def lagrangian(costs: reals(2), sizes, budget: whole(0)):  # [P, K], int [P, K], int -> int [P]
    """Choose for every piece the least cost + price * size, at the lowest price that keeps to the budget.

    P pieces have K options each, whose costs and sizes add up; returned is the number of each piece's option. It is the
    best choice for the size that it takes, which may be below the budget (Shoham and Gersho 1988). ValueError if
    nothing fits, with the least that would.

    >>> lagrangian([[9, 4, 1], [5, 3.5, 0]], [[1, 2, 3], [1, 2, 3]], 5).tolist()
    [2, 0]
    """
    costs, sizes = _fitting(costs, sizes, budget)
    pieces = np.arange(len(costs))

    def at(price):  # of two options that are equally good the smaller
        return np.lexsort((sizes, costs + price * sizes))[:, 0]

    def fits(price):
        return sizes[pieces, at(price)].sum() <= budget

    if fits(0.0):
        return at(0.0)
    low, high = 0.0, 1.0
    while not fits(high):
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until no number is between them
        low, high = (low, middle) if fits(middle) else (middle, high)
    return at(high)


@door
def dynamic(costs: reals(2), sizes, budget: whole(0)):  # [P, K], int [P, K], int -> int [P]
    """Choose the best of all, by a table of pieces x budget; arguments and errors are those of `lagrangian`.

        best[s] = min over k of best[s - sizes[i, k]] + costs[i, k]      of the first i pieces, in s or less

    ValueError, too, where the table would be too large.

    >>> dynamic([[9, 4, 1], [5, 3.5, 0]], [[1, 2, 3], [1, 2, 3]], 5).tolist()
    [1, 2]
    """
    costs, sizes = _fitting(costs, sizes, budget)
    least = sizes.min(axis=1, keepdims=True)
    extra = sizes - least  # what options take beyond the smallest
    unit = max(int(np.gcd.reduce(extra, axis=None)), 1)  # which divides them all
    extra, left = extra // unit, min(budget - int(least.sum()), int(extra.max(axis=1).sum())) // unit
    if len(costs) * (left + 1) > MOST_CHOICES:
        raise ValueError(f"{len(costs)} pieces x {left + 1} sizes are too many for a table of {MOST_CHOICES} bytes")
    best = np.zeros(left + 1)  # best[s]: the least cost of the pieces so far in s or less
    chosen = np.zeros((len(costs), left + 1), np.min_scalar_type(costs.shape[1]))
    for i, (cost, size) in enumerate(zip(costs, extra, strict=True)):
        before, best = best, np.full(left + 1, np.inf)
        for k in np.flatnonzero(size <= left):
            total = before[: left + 1 - size[k]] + cost[k]
            better = total < best[size[k] :]
            best[size[k] :][better] = total[better]
            chosen[i, size[k] :][better] = k
    choice = np.zeros(len(costs), np.int64)
    for i in reversed(range(len(costs))):
        choice[i] = chosen[i, left]
        left -= extra[i, choice[i]]
    return choice


@door
def allocate(costs, sizes, budget, *, method: one_of("lagrangian", "dynamic") = "lagrangian"):
    """Choose an option for every piece, for the least sum of costs that fits a budget: by `lagrangian` or `dynamic`."""
    return (dynamic if method == "dynamic" else lagrangian)(costs, sizes, budget)


def _fitting(costs, sizes, budget):  # -> costs in float64, sizes in int64
    sizes = integers(sizes, "sizes", 0, 1 << 40).astype(np.int64)  # whose sums fit
    same_shape(costs, sizes, ("costs", "sizes"))
    if budget < (least := int(sizes.min(axis=1).sum())):
        raise ValueError(f"budget must be at least {least}, which the smallest options take together, got {budget}")
    return costs.astype(np.float64), sizes


@door
def sensitivities(network, images: real, options):
    """Return what each layer costs if it alone is compressed: how far what the network says moves.

        costs[i, k] = mean over the images of KL(network || network with layer i compressed by option k)

    Training images (N, C, H, W), options (bits, sparsity) as in `compress_weight` -> [layers, options], in nats.
    Source: Cai et al. 2020, ZeroQ (arXiv:2001.00281).
    """
    changed, costs = network.copy(), []
    said = changed.logits(images)
    for weight in weights_of(changed).values():
        before, own = weight.copy(), []
        for bits, sparsity in options:
            weight[...] = compress_weight(before, bits, sparsity)
            own.append(kl_divergence(said, changed.logits(images))[0])
        weight[...] = before
        costs.append(own)
    return np.array(costs)


def compress_weight(weight, bits, sparsity):  # [out, ...] -> float32 [out, ...]
    """Prune the smallest weights of a layer, then round the others, with a scale for each row; bits None: do not."""
    weight = weight * magnitude_mask(weight, sparsity)
    return weight if bits is None else fake_quantize(weight, choose_qparams(weight, bits=bits, axis=0))


def best_grid(weight, hessian, bits, axis):  # [out, in], [out, in] -> [out, in], its cost for each index of the axis
    """Return the rounded weight of least cost 1/2 sum h (w - w^)^2, each row or column with its own grid of `CLIPS`."""
    largest, tried = np.abs(weight).max(axis=1 - axis), [np.zeros_like(weight)]
    if bits:
        grids = (qparams_from_range(-clip * largest, clip * largest, bits=bits, axis=axis) for clip in CLIPS)
        tried = [fake_quantize(weight, grid) for grid in grids]
    costs = [0.5 * np.sum(hessian * (weight - w) ** 2, axis=1 - axis, dtype=np.float64) for w in tried]
    return np.choose(np.expand_dims(np.argmin(costs, axis=0), 1 - axis), tried), np.min(costs, axis=0)


def piece_bytes(weights, bits, *, scales=1):
    """Return the bytes of a piece: packed codes, scales of 4 bytes, 4 bits for its width; of no bits: the width alone.

    >>> piece_bytes(300, 3), piece_bytes(300, 0)  # 900 + 32 + 4 bits; 4 bits
    (117, 1)
    """
    return math.ceil((weights * bits + 32 * scales * (bits > 0) + 4) / 8)


@door
def uniform_bytes(network, bits: whole(2, 16)):
    """Return the bytes of a network with one width for all weights and a scale for each row, biases included."""
    layers = weights_of(network).values()
    return sum(piece_bytes(weight.size, bits, scales=len(weight)) for weight in layers) + _bias_bytes(network)


def _bias_bytes(network):
    return 4 * sum(array.size for name, array in network.parameters().items() if not name.endswith("weight"))


class Menu(NamedTuple):
    """What every piece of a network may have: its cost and bytes at each width, and the weights that come of it."""

    costs: np.ndarray  # [P, K]
    sizes: np.ndarray  # [P, K], in bytes
    weights: dict  # {name: float32 [K, out, in]}
    pieces: str

    def served(self, network, choice):
        """Return a copy of the network with the weights that a choice (P,) of options gives."""
        rounded, left = network.copy(), np.asarray(choice)
        for name, weight in weights_of(rounded).items():
            _, out, inputs = self.weights[name].shape
            shape = {"layer": (1, 1), "row": (out, 1), "column": (1, inputs)}[self.pieces]
            own, left = np.split(left, [math.prod(shape)])
            weight[...] = np.choose(own.reshape(shape), self.weights[name]).reshape(weight.shape)
        return rounded


@door
def menu(network, hessian, *, pieces: one_of(*PIECES)):
    """Work out every piece's cost at every width of `BITS`, from second derivatives, and its bytes.

        cost = 1/2 sum_i h_ii (w_i - w_hat_i)^2

    hessian : {name: array of the weight's shape}, as `hessians` returns it
    pieces : "layer", with a scale for each row; "row" or "column", each with a scale of its own

    Sources: LeCun et al. 1990, Optimal Brain Damage, section 2; Dong et al. 2020, HAWQ-V2 (arXiv:1911.03852), eq. 2.11.
    """
    widths = [b for b in BITS if b or pieces != "layer"]
    axis, costs, sizes, options = PIECES[pieces], [], [], {}
    for name, weight in weights_of(network).items():
        h = real(hessian.get(name), f"hessian[{name!r}]")
        same_shape(h, weight, ("hessian", name))
        w, h = (array.reshape(len(weight), -1) for array in (weight, h))
        found = [best_grid(w, h, b, axis) for b in widths]
        options[name], cost = map(np.stack, zip(*found, strict=True))  # [K, out, in], [K, out or in]
        count, scales = w.shape[1 - axis], 1
        if pieces == "layer":
            cost, count, scales = cost.sum(axis=1, keepdims=True), w.size, len(w)
        costs.extend(cost.T)
        sizes += len(cost.T) * [[piece_bytes(count, b, scales=scales) for b in widths]]
    return Menu(np.array(costs), np.array(sizes), options, pieces)


@door
def hessians(network, images: reals(2, 4), *, temperature: positive = 4.0):
    """Return the second derivative by every weight of T^2 KL(network || changed network): {name: array of its shape}.

    At T = 1 only the few images count that the network is not sure of. Used are the first 250 training images.
    """
    return hessian_diagonals(network.copy(), images[:HESSIAN_IMAGES], temperature=temperature)


@door
def mixed_precision(network, images: reals(2, 4), *, bits=None, budget=None):
    """Return a copy whose weights are rounded, each piece to the width that pays best, within a budget of bytes.

    Rows are tried as pieces, columns, and the widest uniform grids that fit, by "minmax" and "mse". What is returned
    has the least KL divergence from the network on the images: it is never worse than uniform there.

    images : training images (N, C, H, W), a thousand or so
    bits : 2 to 16; the budget is what this width takes for all weights (`uniform_bytes`)
    budget : in its place: bytes, biases included; ValueError if it is too small, with the least that is not
    """
    check_network(network)
    if (bits is None) == (budget is None):
        raise ValueError(f"give bits or budget, one of them, got bits={bits} and budget={budget}")
    budget = uniform_bytes(network, bits) if budget is None else whole(0)(budget, "budget")
    hessian, biases, tried = hessians(network, images), _bias_bytes(network), []
    for kind in TRIED:
        offered = menu(network, hessian, pieces=kind)
        if budget < (least := int(offered.sizes.min(axis=1).sum()) + biases):
            raise ValueError(f"budget must be at least {least} bytes for the pieces and biases, got {budget}")
        tried.append(offered.served(network, allocate(offered.costs, offered.sizes, budget - biases)))
    widest = max((b for b in range(2, 17) if uniform_bytes(network, b) <= budget), default=None)
    if widest:
        tried += [quantize_weights(network, bits=widest, method=method) for method in ("minmax", "mse")]
    said = network.copy().logits(images)
    return min(tried, key=lambda rounded: kl_divergence(said, rounded.logits(images))[0])
