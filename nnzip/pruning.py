"""Which weights may go: masks (True = kept), the saliencies that rank weights, and schedules of sparsity (chapter 05).

A saliency is an array like the weights that says how much is lost if each one becomes 0. A mask is False for the
smallest, and w * mask is the pruned weight:

    saliency_mask(obd(w, h), 0.9)            by any saliency, exactly round(0.9 * size) weights
    magnitude_mask(w, 0.9)                   by |w|, good where all inputs have about the same size
    saliency_mask(rng.random(w.shape), 0.9)  at random: what every saliency must beat

`activation` asks how far the layer's output moves, `taylor` how far the loss does. At a minimum its gradient is 0, and
the next term of its Taylor series is w^2 h / 2: `obd`, with h from `gauss_newton_diag`. `stability` is the same for the
network's outputs in the place of a loss. `block_mask` takes the square root of a loss, as np.sqrt(obd(w, h)), in the
place of weights: then the losses of a block add up.
"""

import numpy as np

from nnzip.checks import door, number, positive, real, reals, same_shape, unit, whole, wide


@door
def threshold_mask(w: real, threshold: number(0, np.inf, "[)")):  # [...] -> bool [...]
    """Keep the weights with |w| > threshold; a weight on the threshold is pruned.

    >>> threshold_mask([-0.5, 0.1, 0.25, 0.3], 0.25).tolist()
    [True, False, False, True]
    """
    return np.abs(w) > threshold


@door
def saliency_mask(saliency: real, sparsity: unit):  # [...] -> bool [...]
    """Prune the smallest saliencies, exactly round(sparsity * size) of them; among equal ones the first go first.

    >>> saliency_mask([3.0, 1.0, 1.0, 2.0], 0.25).tolist()
    [True, False, True, True]
    """
    pruned = round(sparsity * saliency.size)
    if pruned == 0:
        return np.ones(saliency.shape, bool)
    last = np.partition(saliency, pruned - 1, axis=None)[pruned - 1]  # the largest that is pruned, without a whole sort
    mask = saliency.ravel() >= last
    ties = pruned - np.count_nonzero(~mask)  # how many of those that equal it go too
    mask[np.flatnonzero(saliency == last)[:ties]] = False
    return mask.reshape(saliency.shape)


def magnitude_mask(w, sparsity):  # [...] -> bool [...]
    """Prune the smallest magnitudes: `saliency_mask` of |w| (Han et al. 2015, arXiv:1506.02626, section 3).

    >>> magnitude_mask([-0.5, 0.1, 0.25, 0.3], 0.5).tolist()
    [True, False, False, True]
    """
    return saliency_mask(magnitude(w), sparsity)


def global_masks(saliencies, sparsity):  # dict or list of [...] -> the same of bool [...]
    """Prune the smallest saliencies of all arrays together, so that arrays get different sparsities.

    A layer whose weights are small beside the others' may lose all of them.

    >>> [mask.tolist() for mask in global_masks([[1.0, 2.0], [3.0, 4.0]], 0.5)]
    [[False, False], [True, True]]
    """
    if not isinstance(saliencies, dict):  # a list is a dict whose names are 0, 1, ...
        return list(global_masks(dict(enumerate(saliencies)), sparsity).values())
    arrays = {name: real(array, f"saliencies[{name!r}]") for name, array in saliencies.items()}
    together = saliency_mask(np.concatenate([array.ravel() for array in arrays.values()]), sparsity)
    parts = np.split(together, np.cumsum([array.size for array in arrays.values()])[:-1])
    return {name: part.reshape(arrays[name].shape) for name, part in zip(arrays, parts, strict=True)}


def global_magnitude_masks(ws, sparsity):  # dict or list of [...] -> the same of bool [...]
    """Prune the smallest magnitudes of all layers together: `global_masks` of |w|.

    >>> masks = global_magnitude_masks({"0.weight": [-5.0, 6.0], "2.weight": [0.1, -0.2]}, 0.5)
    >>> masks["0.weight"].tolist(), masks["2.weight"].tolist()
    ([True, True], [False, False])
    """
    magnitudes = {name: magnitude(w) for name, w in ws.items()} if isinstance(ws, dict) else map(magnitude, ws)
    return global_masks(magnitudes, sparsity)


@door
def n_m_mask(w: real, n, m: whole(1)):  # [out, ...] -> bool [out, ...]
    """Keep the n largest of every m consecutive weights of a row; of equal ones the last are kept.

    A convolution weight (out, in, kH, kW) has rows of in * kH * kW. 2:4 is what a GPU's sparse tensor cores multiply
    (Mishra et al. 2021, arXiv:2104.08378, section 2).

    >>> n_m_mask([[1.0, -4.0, 3.0, 2.0, 0.0, 0.0, 0.0, 5.0]], 2, 4).tolist()
    [[False, True, True, False, False, False, True, True]]
    """
    n = whole(0, m)(n, "n")
    rows = w.reshape(len(w), -1) if w.ndim > 1 else w.reshape(1, -1)
    if rows.shape[1] % m:
        raise ValueError(f"m must divide the rows, which have {rows.shape[1]} weights, got {m}")
    groups = np.abs(rows).reshape(-1, m)
    order = np.argsort(groups, axis=1, kind="stable")  # which comes first, second, ...
    rank = np.argsort(order, axis=1)  # its inverse: 0 for the smallest of its group
    return (rank >= m - n).reshape(w.shape)


@door
def block_mask(w: real, sparsity, *, block_size):  # [...] -> bool [...]
    """Prune whole blocks, those of the smallest L2 norm: exactly round(sparsity * blocks) of them.

    block_size has a number for each dimension of w, which it must divide: (1, 8) takes 8 neighbours of a row together,
    (1, in) a whole neuron, (1, in, kH, kW) a whole filter. Li et al. 2017 (arXiv:1608.08710) rank filters by the L1
    norm, Narang et al. 2017 (arXiv:1711.02782) blocks by their largest weight.

    >>> block_mask([[1.0, 1.0, 5.0, 0.0], [1.0, 1.0, 0.0, 0.0]], 0.5, block_size=(2, 2)).tolist()
    [[False, False, True, True], [False, False, True, True]]
    """
    if not isinstance(block_size, tuple | list) or len(block_size) != w.ndim:
        raise ValueError(f"block_size must have {w.ndim} numbers, one a dimension of {w.shape}, got {block_size!r}")
    sizes = [whole(1)(size, "block_size") for size in block_size]
    if any(n % size for n, size in zip(w.shape, sizes, strict=True)):
        raise ValueError(f"block_size must divide the shape {w.shape}, got {tuple(block_size)}")
    # (out, in) becomes (out / b, b, in / c, c): the block's place and the place inside it, for each dimension
    split = [part for n, size in zip(w.shape, sizes, strict=True) for part in (n // size, size)]
    inside = tuple(range(1, 2 * w.ndim, 2))
    largest = float(np.abs(w).max()) or 1.0  # so that no square is too large for a float
    squared_norms = np.sum((w.reshape(split).astype(np.float64) / largest) ** 2, axis=inside, keepdims=True)
    return np.broadcast_to(saliency_mask(squared_norms, sparsity), split).reshape(w.shape).copy()


# Saliencies


@door
def magnitude(w: real):  # [...] -> [...]
    """Return |w|: what is lost if every input counts the same.

    >>> magnitude([-2.0, 1.0]).tolist()
    [2.0, 1.0]
    """
    return np.abs(w)


@door
def taylor(w: wide, grad: wide):  # [...], [...] -> [...]
    """Return |w grad|, the size of the loss's change if w becomes 0, to first order; grad is that of the mean loss.

    Molchanov et al. 2017 (arXiv:1611.06440), section 2.2, for activations; 2019 (arXiv:1906.10771) its square, for
    weights.

    >>> taylor([1.0, -2.0], [0.5, 3.0]).tolist()
    [0.5, 6.0]
    """
    same_shape(w, grad, ("w", "grad"))
    return np.abs(w * grad)


@door
def activation(w: reals(2, 4), x: reals(2)):  # [out, in], [N, in] -> [out, in]
    """Return |w_ij| ||x_j||, the weight times the L2 norm of the input it meets in N samples.

    Its square is how far the layer's own outputs move if w goes, summed over the samples. For a convolution x holds its
    windows, (N, in * kH * kW). Wanda, Sun et al. 2023 (arXiv:2306.11695), eq. 1.

    >>> activation([[1.0, -1.0]], [[3.0, 0.0], [4.0, 0.5]]).tolist()
    [[5.0, 0.5]]
    """
    _check_inputs(w, x)
    norms = np.sqrt(np.einsum("ni,ni->i", x, x, dtype=np.float64))
    return (np.abs(w).reshape(len(w), -1) * norms).reshape(w.shape).astype(np.result_type(w, np.float32))


@door
def stability(w: reals(2, 4), x: reals(2, 3), jacobian):  # [out, in], [N, in], [C, N, out] -> [out, in]
    """Return mean_n sum_c (w dz_c/dw)^2: how far the network's C outputs z move, squared and to first order, if w goes.

    That is w^2 times `gauss_newton_diag` of the Jacobian, and for the last layer, whose Jacobian is the identity,
    activation(w, x)^2 / N. (Tartaglione et al. 2018, arXiv:1810.11764)

    >>> stability([[2.0, 2.0]], [[1.0, 3.0]], [[[0.5]]]).tolist()
    [[1.0, 9.0]]
    """
    _check_inputs(w, x)
    moves = w.astype(np.float64) ** 2 * gauss_newton_diag(x, jacobian).reshape(w.shape)
    return moves.astype(np.result_type(w, np.float32))


@door
def obd(w: wide, hessian_diag: wide):  # [...], [...] -> [...]
    """Return w^2 h / 2: how much the loss rises if w goes, to second order, where its gradient is 0.

    h is the second derivative of the loss by each weight (LeCun, Denker and Solla 1990, Optimal Brain Damage).

    >>> obd([1.0, -2.0], [0.5, 3.0]).tolist()
    [0.25, 6.0]
    """
    same_shape(w, hessian_diag, ("w", "hessian_diag"))
    return 0.5 * w**2 * hessian_diag


@door
def gauss_newton_diag(x: reals(2, 3), responses: real):  # [N, in], [C, N, out] -> [out, in]
    """Return the diagonal of the Gauss-Newton matrix for the weights of a layer y = x W^T, the h of `obd`:

        h_ij = mean_n sum_c (r_cni x_nj)^2                    for a convolution: mean_n sum_c (sum_p r_cnpi x_npj)^2

    With z the network's outputs it is the second derivative (dz/dw)^T (d2 loss/dz2) (dz/dw) + sum_c dloss/dz_c
    d2z_c/dw2 without its second term, which is 0 in a network of ReLUs, where z is piecewise linear in one weight. With
    d2 loss/dz2 = S^T S the responses are r = S dz/dy: the Jacobian for the loss |z|^2 / 2; for the cross-entropy
    `nnzip.compression.pruning.hessian_diagonals` has them. A convolution of P places has x (N, P, in) and responses
    (C, N, P, out).

    >>> gauss_newton_diag([[1.0, 2.0], [3.0, 1.0]], [[[1.0], [2.0]], [[1.0], [0.0]]]).tolist()
    [[19.0, 6.0]]
    >>> gauss_newton_diag([[[1.0], [1.0]]], [[[[1.0], [-1.0]]]]).tolist()  # two places, whose gradients cancel
    [[0.0]]
    """
    if responses.ndim != x.ndim + 1 or responses.shape[1:-1] != x.shape[:-1]:
        wanted = ", ".join(["C", *map(str, x.shape[:-1]), "out"])
        raise ValueError(f"responses must have shape ({wanted}) for x of shape {x.shape}, got {responses.shape}")
    if x.ndim == 2:  # each gradient is an outer product, so its square is the outer product of the squares
        squares = np.sum(responses.astype(np.float64) ** 2, axis=0)  # [N, out]
        return squares.T @ (x.astype(np.float64) ** 2) / len(x)
    x = x.astype(np.result_type(x, np.float32), copy=False)  # in float16 the products may be infinite
    gradients = (response.transpose(0, 2, 1) @ x for response in responses)  # each [N, out, P] @ [N, P, in]
    return sum(np.sum(gradient.astype(np.float64) ** 2, axis=0) for gradient in gradients) / len(x)


def _check_inputs(w, x):
    if x.shape[-1] != w[0].size:
        raise ValueError(f"x must end in {w[0].size} inputs, as many as a row of w has weights, got shape {x.shape}")


# Schedules


@door
def polynomial_schedule(
    step: whole(0), *, begin_step: whole(0), end_step, initial_sparsity: unit = 0.0, final_sparsity: unit,
    power: positive = 3,
):  # fmt: skip
    """Return s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^power: fast while there are many weights, then slowly.

    s_i at t_0 = begin_step, s_f at t_1 = end_step and after it; before t_0 it is 0. Zhu and Gupta 2017
    (arXiv:1710.01878), eq. 1, with power 3.

    >>> [polynomial_schedule(t, begin_step=0, end_step=100, final_sparsity=1.0) for t in (0, 50, 100)]
    [0.0, 0.875, 1.0]
    """
    end_step = whole(begin_step + 1)(end_step, "end_step")
    left = 1 - min(1.0, (step - begin_step) / (end_step - begin_step))
    return final_sparsity + (initial_sparsity - final_sparsity) * left**power if step >= begin_step else 0.0


def linear_schedule(step, *, begin_step, end_step, initial_sparsity=0.0, final_sparsity):
    """Return the sparsity that rises in a line: `polynomial_schedule` of power 1.

    >>> [linear_schedule(step, begin_step=0, end_step=100, final_sparsity=1.0) for step in (0, 50, 100)]
    [0.0, 0.5, 1.0]
    """
    ends = {"initial_sparsity": initial_sparsity, "final_sparsity": final_sparsity}
    return polynomial_schedule(step, begin_step=begin_step, end_step=end_step, **ends, power=1)
