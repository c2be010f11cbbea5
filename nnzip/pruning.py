"""Which weights may go: masks (True = kept), the saliencies that rank weights, and schedules of sparsity.

A saliency is an array like the weights that says what is lost if each one goes. A mask removes the smallest:

    saliency_mask(obd(w, h), 0.9)            of any saliency, exactly round(0.9 * size) weights
    magnitude_mask(w, 0.9)                   of |w|
    saliency_mask(rng.random(w.shape), 0.9)  at random: what every saliency must beat

`n_m_mask` and `block_mask` rank by |w|, or by a saliency that is given in place of the weights.
"""

import numpy as np

from nnzip.checks import door, number, positive, real, reals, same_shape, unit, whole


@door
def threshold_mask(w: real, threshold: number(0, np.inf, "[)")):  # [...] -> bool [...]
    """Keep the weights with |w| > threshold; a weight on the threshold is pruned.

    >>> threshold_mask([-0.5, 0.1, 0.25, 0.3], 0.25).tolist()
    [True, False, False, True]
    """
    return np.abs(w) > threshold


@door
def saliency_mask(saliency: real, sparsity: unit):  # [...] -> bool [...]
    """Prune the smallest saliencies, a fraction `sparsity`: exactly round(sparsity * size), of equal ones the first.

    >>> saliency_mask([3.0, 1.0, 1.0, 2.0], 0.25).tolist()
    [True, False, True, True]
    """
    pruned = round(sparsity * saliency.size)
    if pruned == 0:
        return np.ones(saliency.shape, bool)
    last = np.partition(saliency, pruned - 1, axis=None)[pruned - 1]  # the largest that is pruned, without a whole sort
    mask = saliency.ravel() >= last
    mask[np.flatnonzero(saliency == last)[: pruned - np.count_nonzero(~mask)]] = False
    return mask.reshape(saliency.shape)


def magnitude_mask(w, sparsity):  # [...] -> bool [...]
    """Prune the smallest magnitudes: `saliency_mask` of |w| (Han et al. 2015, arXiv:1506.02626, section 3).

    >>> magnitude_mask([-0.5, 0.1, 0.25, 0.3], 0.5).tolist()
    [True, False, False, True]
    """
    return saliency_mask(magnitude(w), sparsity)


def global_masks(saliencies, sparsity):  # dict or list of [...] -> the same of bool [...]
    """Prune the smallest saliencies of all arrays together, so that each array gets the sparsity it can bear.

    >>> [mask.tolist() for mask in global_masks([[1.0, 2.0], [3.0, 4.0]], 0.5)]
    [[False, False], [True, True]]
    """
    if not isinstance(saliencies, dict):
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
    if isinstance(ws, dict):
        return global_masks({name: magnitude(w) for name, w in ws.items()}, sparsity)
    return global_masks([magnitude(w) for w in ws], sparsity)


@door
def n_m_mask(w: real, n, m: whole(1)):  # [out, ...] -> bool [out, ...]
    """Keep the n largest of every m consecutive weights of a row, of equal ones the last.

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
    rank = np.argsort(np.argsort(groups, axis=1, kind="stable"), axis=1)  # 0 for the smallest of its group
    return (rank >= m - n).reshape(w.shape)


@door
def block_mask(w: real, sparsity, *, block_size):  # [...] -> bool [...]
    """Prune whole blocks, those of the smallest L2 norm: exactly round(sparsity * blocks) of them.

    block_size has a number for each dimension of w, which it must divide: (1, 8) are runs of a row, (1, in) neurons,
    (1, in, kH, kW) filters.

    Li et al. 2017 (arXiv:1608.08710) take filters' L1 norms, Narang et al. 2017 (arXiv:1711.02782) largest weights.

    >>> block_mask([[1.0, 1.0, 5.0, 0.0], [1.0, 1.0, 0.0, 0.0]], 0.5, block_size=(2, 2)).tolist()
    [[False, False, True, True], [False, False, True, True]]
    """
    if not isinstance(block_size, tuple | list) or len(block_size) != w.ndim:
        raise ValueError(f"block_size must have {w.ndim} numbers, one a dimension of {w.shape}, got {block_size!r}")
    sizes = [whole(1)(size, "block_size") for size in block_size]
    if any(n % size for n, size in zip(w.shape, sizes, strict=True)):
        raise ValueError(f"block_size must divide the shape {w.shape}, got {tuple(block_size)}")
    split = [part for n, size in zip(w.shape, sizes, strict=True) for part in (n // size, size)]
    largest = np.abs(w).max() or 1.0  # so that no square is too large or too small for a float
    inside = tuple(range(1, 2 * w.ndim, 2))
    norms = np.sum((w.reshape(split) / largest) ** 2, axis=inside, dtype=np.float64, keepdims=True)
    return np.broadcast_to(saliency_mask(norms, sparsity), split).reshape(w.shape).copy()


# Saliencies


@door
def magnitude(w: real):  # [...] -> [...]
    """Return |w|: what is lost if every input counts the same.

    >>> magnitude([-2.0, 1.0]).tolist()
    [2.0, 1.0]
    """
    return np.abs(w)


@door
def taylor(w: real, grad: real):  # [...], [...] -> [...]
    """Return |w grad|: how much the loss changes if w goes, to first order.

    Molchanov et al. 2017 (arXiv:1611.06440), section 2.2, for activations, and 2019 (arXiv:1906.10771) for weights,
    where it is squared.

    >>> taylor([1.0, -2.0], [0.5, 3.0]).tolist()
    [0.5, 6.0]
    """
    same_shape(w, grad, ("w", "grad"))
    return np.abs(w * grad)


@door
def activation(w: reals(2, 4), x: reals(2)):  # [out, in], [N, in] -> [out, in]
    """Return |w_ij| ||x_j||, the weight times the L2 norm of the input it meets over N samples.

    Of a convolution x are its windows, (N, in * kH * kW). Wanda, Sun et al. 2023 (arXiv:2306.11695), eq. 1. Squared,
    it is the change of the layer's own output.

    >>> activation([[1.0, -1.0]], [[3.0, 0.0], [4.0, 0.5]]).tolist()
    [[5.0, 0.5]]
    """
    _check_inputs(w, x)
    norms = np.sqrt(np.einsum("ni,ni->i", x, x, dtype=np.float64))
    return (np.abs(w).reshape(len(w), -1) * norms).reshape(w.shape).astype(w.dtype)


@door
def stability(w: reals(2, 4), x: reals(2, 3), jacobian):  # [out, in], [N, in], [C, N, out] -> [out, in]
    """Return how much the network's C outputs move when w is perturbed by a share of itself.

    If w becomes w (1 + e) with E e = 0 and E e^2 = 1, output c moves by w e dz_c/dw, to first order. The saliency is
    the expected squared move, w^2 mean_n sum_c (dz_c/dw)^2. For the last layer, whose Jacobian is the identity, it is
    the square of `activation` over N. (Tartaglione et al. 2018, arXiv:1810.11764)

    >>> stability([[2.0, 2.0]], [[1.0, 3.0]], [[[0.5]]]).tolist()
    [[1.0, 9.0]]
    """
    _check_inputs(w, x)
    return (w.astype(np.float64) ** 2 * gauss_newton_diag(x, jacobian).reshape(w.shape)).astype(w.dtype)


@door
def obd(w: real, hessian_diag: real):  # [...], [...] -> [...]
    """Return w^2 h / 2: how much the loss rises if w goes, to second order, where its gradient is 0.

    h is the second derivative of the loss by each weight (LeCun, Denker and Solla 1990, Optimal Brain Damage).

    >>> obd([1.0, -2.0], [0.5, 3.0]).tolist()
    [0.25, 6.0]
    """
    same_shape(w, hessian_diag, ("w", "hessian_diag"))
    return 0.5 * w**2 * hessian_diag


@door
def gauss_newton_diag(x: reals(2, 3), responses: real):  # [N, in], [C, N, out] -> [out, in]
    """Return the diagonal of the Gauss-Newton matrix for the weights of a layer y = x W^T:

        h_ij = mean_n sum_c (r_cni x_nj)^2

    Of a convolution x is (N, P, in) and responses (C, N, P, out), for its P places. The responses are vectors with
    sum_c r_cn r_cn^T = dz_n/dy_n^T H_n dz_n/dy_n, H_n the second derivative of the loss by the outputs z_n; with the
    Jacobian itself H is the identity. In a network of ReLUs every output is a linear function of one weight, piece by
    piece, so that this diagonal is the Hessian's, exactly (LeCun et al. 1990, section 3).

    >>> gauss_newton_diag([[1.0, 2.0], [3.0, 0.0]], [[[1.0], [1.0]]]).tolist()
    [[5.0, 2.0]]
    """
    if responses.ndim != x.ndim + 1 or responses.shape[1:-1] != x.shape[:-1]:
        wanted = ", ".join(["C", *map(str, x.shape[:-1]), "out"])
        raise ValueError(f"responses must have shape ({wanted}) for x of shape {x.shape}, got {responses.shape}")
    if x.ndim == 2:  # of each sample the gradient is an outer product, so its square is one, too
        return np.sum(responses.astype(np.float64) ** 2, axis=0).T @ x.astype(np.float64) ** 2 / len(x)
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

    From s_i at begin_step, t_0, to s_f at end_step, t_1, and from there on; before t_0 nothing is pruned. Zhu and Gupta
    2017 (arXiv:1710.01878), eq. 1, with power 3.

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
