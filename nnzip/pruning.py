"""Which weights may go: masks (True = kept), the saliencies that rank weights, and schedules of sparsity.

A saliency is an array like the weights that says what is lost if each one goes. A mask removes the smallest:

    saliency_mask(obd(w, h), 0.9)            of any saliency, exactly round(0.9 * size) weights
    magnitude_mask(w, 0.9)                   of |w|

`n_m_mask` and `block_mask` rank by |w| too; given a saliency instead of the weights, they rank by that.
"""

import numpy as np

from nnzip.checks import check_integer, check_number, check_same_shape, real_array


def threshold_mask(w, threshold):  # [...] -> bool [...]
    """Keep the weights with |w| > threshold; a weight on the threshold is pruned.

    Parameters
    ----------
    w : float array
    threshold : float >= 0, on the scale of the weights

    Raises ValueError or TypeError for a negative threshold or weights that are not finite numbers.

    Examples
    --------
    >>> threshold_mask([-0.5, 0.1, 0.25, 0.3], 0.25).tolist()
    [True, False, False, True]
    """
    threshold = check_number(threshold, "threshold", 0, np.inf, open_high=True)
    return np.abs(real_array(w, "w")) > threshold


def saliency_mask(saliency, sparsity):  # [...] -> bool [...]
    """Prune the smallest saliencies: exactly round(sparsity * size) of them, of equal ones the first.

    Parameters
    ----------
    saliency : float array
    sparsity : float in [0, 1], the fraction that is pruned

    Raises ValueError or TypeError for a sparsity outside [0, 1] or saliencies that are not finite numbers.

    Examples
    --------
    >>> saliency_mask([3.0, 1.0, 1.0, 2.0], 0.25).tolist()
    [True, False, True, True]
    """
    saliency = real_array(saliency, "saliency")
    pruned = round(check_number(sparsity, "sparsity", 0, 1) * saliency.size)
    if pruned == 0:
        return np.ones(saliency.shape, bool)
    last = np.partition(saliency, pruned - 1, axis=None)[pruned - 1]  # the largest that is pruned, without a whole sort
    mask = saliency.ravel() >= last
    mask[np.flatnonzero(saliency == last)[: pruned - np.count_nonzero(~mask)]] = False
    return mask.reshape(saliency.shape)


def magnitude_mask(w, sparsity):  # [...] -> bool [...]
    """Prune the smallest magnitudes: exactly round(sparsity * size) weights, of equal ones the first.

    Parameters and errors are those of `saliency_mask`, of which it is the best known case (Han et al. 2015, Learning
    both Weights and Connections, arXiv:1506.02626, section 3).

    Examples
    --------
    >>> magnitude_mask([-0.5, 0.1, 0.25, 0.3], 0.5).tolist()
    [True, False, False, True]
    """
    return saliency_mask(magnitude(w), sparsity)


def global_masks(saliencies, sparsity):  # dict or list of [...] -> the same of bool [...]
    """Prune the smallest saliencies of all arrays together, so that each array gets the sparsity it can bear.

    Parameters
    ----------
    saliencies : dict or list of float arrays, on one scale
    sparsity : float in [0, 1], of all elements together; exact as in `saliency_mask`

    Examples
    --------
    >>> [mask.tolist() for mask in global_masks([[1.0, 2.0], [3.0, 4.0]], 0.5)]
    [[False, False], [True, True]]
    """
    if not isinstance(saliencies, dict | list | tuple) or len(saliencies) == 0:
        raise TypeError(f"saliencies must be a dict or a list of arrays and not empty, got {saliencies!r:.60}")
    named = saliencies if isinstance(saliencies, dict) else dict(enumerate(saliencies))
    arrays = {name: real_array(array, f"saliencies[{name!r}]") for name, array in named.items()}
    together = saliency_mask(np.concatenate([array.ravel() for array in arrays.values()]), sparsity)
    ends = np.cumsum([array.size for array in arrays.values()])[:-1]
    parts = zip(arrays.items(), np.split(together, ends), strict=True)
    masks = {name: part.reshape(array.shape) for (name, array), part in parts}
    return masks if isinstance(saliencies, dict) else list(masks.values())


def global_magnitude_masks(ws, sparsity):  # dict or list of [...] -> the same of bool [...]
    """Prune the smallest magnitudes of all layers together: `global_masks` of |w|.

    Examples
    --------
    >>> masks = global_magnitude_masks({"0.weight": [-5.0, 6.0], "2.weight": [0.1, -0.2]}, 0.5)
    >>> masks["0.weight"].tolist(), masks["2.weight"].tolist()
    ([True, True], [False, False])
    """
    if isinstance(ws, dict):
        return global_masks({name: magnitude(w) for name, w in ws.items()}, sparsity)
    return global_masks([magnitude(w) for w in ws] if isinstance(ws, list | tuple) else ws, sparsity)


def random_mask(w, sparsity, *, seed):  # [...] -> bool [...]
    """Prune at random: what every criterion must beat. The seed is an integer or a numpy Generator.

    Examples
    --------
    >>> int(random_mask(np.ones((4, 5)), 0.75, seed=0).sum())
    5
    """
    w = real_array(w, "w")
    order = np.random.default_rng(seed).permutation(w.size)
    return saliency_mask(order.reshape(w.shape), sparsity)


def n_m_mask(w, n, m):  # [out, ...] -> bool [out, ...]
    """Keep the n largest of every m consecutive weights of a row, of equal ones the last.

    Parameters
    ----------
    w : float array whose rows m divides; a convolution weight (out, in, kH, kW) has rows of in * kH * kW
    n, m : int, 0 <= n <= m, m >= 1

    Raises ValueError or TypeError for other n and m. Source: Mishra et al. 2021 (arXiv:2104.08378), section 2: 2:4 is
    what a GPU's sparse tensor cores multiply.

    Examples
    --------
    >>> n_m_mask([[1.0, -4.0, 3.0, 2.0, 0.0, 0.0, 0.0, 5.0]], 2, 4).tolist()
    [[False, True, True, False, False, False, True, True]]
    """
    w = real_array(w, "w")
    m = check_integer(m, "m", 1)
    n = check_integer(n, "n", 0, m)
    rows = w.reshape(len(w), -1) if w.ndim > 1 else w.reshape(1, -1)
    if rows.shape[1] % m:
        raise ValueError(f"m must divide the rows, which have {rows.shape[1]} weights, got {m}")
    groups = np.abs(rows).reshape(-1, m)
    rank = np.argsort(np.argsort(groups, axis=1, kind="stable"), axis=1)  # 0 for the smallest of its group
    return (rank >= m - n).reshape(w.shape)


def block_mask(w, sparsity, *, block_size):  # [...] -> bool [...]
    """Prune whole blocks, those of the smallest L2 norm: exactly round(sparsity * blocks) of them.

    Parameters
    ----------
    w : float array
    sparsity : float in [0, 1], the fraction of blocks that is pruned
    block_size : tuple with an int for each dimension of w, which it must divide: (1, 8) are runs of a row,
        (1, in) neurons, (1, in, kH, kW) filters

    Raises ValueError or TypeError for blocks that do not fit. Source: Li et al. 2017 (arXiv:1608.08710) for filters,
    by their L1 norm; Narang et al. 2017 (arXiv:1711.02782) for blocks, by their largest weight.

    Examples
    --------
    >>> block_mask([[1.0, 1.0, 5.0, 0.0], [1.0, 1.0, 0.0, 0.0]], 0.5, block_size=(2, 2)).tolist()
    [[False, False, True, True], [False, False, True, True]]
    """
    w = real_array(w, "w")
    if not isinstance(block_size, tuple | list) or len(block_size) != w.ndim:
        raise ValueError(f"block_size must have {w.ndim} numbers, one a dimension of {w.shape}, got {block_size!r}")
    sizes = [check_integer(size, "block_size", 1) for size in block_size]
    if any(n % size for n, size in zip(w.shape, sizes, strict=True)):
        raise ValueError(f"block_size must divide the shape {w.shape}, got {tuple(block_size)}")
    split = [part for n, size in zip(w.shape, sizes, strict=True) for part in (n // size, size)]
    inside = tuple(range(1, 2 * w.ndim, 2))
    unit = np.abs(w).max() or 1.0  # so that no square is too large or too small for a float
    norms = np.sum((w.reshape(split) / unit) ** 2, axis=inside, dtype=np.float64, keepdims=True)
    return np.broadcast_to(saliency_mask(norms, sparsity), split).reshape(w.shape).copy()


# Saliencies


def magnitude(w):  # [...] -> [...]
    """Return |w|: what is lost if every input counts the same.

    Examples
    --------
    >>> magnitude([-2.0, 1.0]).tolist()
    [2.0, 1.0]
    """
    return np.abs(real_array(w, "w"))


def taylor(w, grad):  # [...], [...] -> [...]
    """Return |w grad|: how much the loss changes if w goes, to first order.

    Parameters
    ----------
    w, grad : float arrays of one shape; the gradient of the loss over some images

    Source: Molchanov et al. 2017 (arXiv:1611.06440), section 2.2, for activations, and 2019 (arXiv:1906.10771) for
    weights, where it is squared.

    Examples
    --------
    >>> taylor([1.0, -2.0], [0.5, 3.0]).tolist()
    [0.5, 6.0]
    """
    w, grad = real_array(w, "w"), real_array(grad, "grad")
    check_same_shape(w, grad, ("w", "grad"))
    return np.abs(w * grad)


def activation(w, x):  # [out, in], [N, in] -> [out, in]
    """Return |w_ij| ||x_j||, the weight times the L2 norm of the input it meets over N samples.

    Parameters
    ----------
    w : float array (out, in), or (out, in, kH, kW)
    x : float array (N, in); for a convolution its windows, (N, in * kH * kW)

    Source: Wanda, Sun et al. 2023 (arXiv:2306.11695), eq. 1. Squared, it is the change of the layer's own output.

    Examples
    --------
    >>> activation([[1.0, -1.0]], [[3.0, 0.0], [4.0, 0.5]]).tolist()
    [[5.0, 0.5]]
    """
    w = real_array(w, "w", ndim=(2, 4))
    x = _inputs(x, w, 2)
    norms = np.sqrt(np.einsum("ni,ni->i", x, x, dtype=np.float64))
    return (np.abs(w).reshape(len(w), -1) * norms).reshape(w.shape).astype(w.dtype)


def stability(w, x, jacobian):  # [out, in], [N, in], [C, N, out] -> [out, in]
    """Return how much the network's C outputs move when w is perturbed by a share of itself.

    If w becomes w (1 + e) with E e = 0 and E e^2 = 1, output c moves by w e dz_c/dw, to first order. The saliency is
    the expected squared move, w^2 mean_n sum_c (dz_c/dw)^2: `gauss_newton_diag` of the Jacobian, times w^2.

    Parameters
    ----------
    w, x : as in `activation`
    jacobian : float array (C, N, out), the derivative of output c by what the layer gives for sample n

    For the last layer, whose Jacobian is the identity, it is the square of `activation` over N. Sensitivity of the
    outputs as a criterion: Tartaglione et al. 2018 (arXiv:1810.11764).

    Examples
    --------
    >>> stability([[2.0, 2.0]], [[1.0, 3.0]], [[[0.5]]]).tolist()
    [[1.0, 9.0]]
    """
    w = real_array(w, "w", ndim=(2, 4))
    h = gauss_newton_diag(_inputs(x, w, (2, 3)), jacobian)
    return (w.astype(np.float64) ** 2 * h.reshape(w.shape)).astype(w.dtype)


def obd(w, hessian_diag):  # [...], [...] -> [...]
    """Return w^2 h / 2: how much the loss rises if w goes, to second order, where its gradient is 0.

    Parameters
    ----------
    w, hessian_diag : float arrays of one shape; h is the second derivative of the loss by each weight

    Source: LeCun, Denker and Solla 1990, Optimal Brain Damage, section 2.

    Examples
    --------
    >>> obd([1.0, -2.0], [0.5, 3.0]).tolist()
    [0.25, 6.0]
    """
    w, h = real_array(w, "w"), real_array(hessian_diag, "hessian_diag")
    check_same_shape(w, h, ("w", "hessian_diag"))
    return 0.5 * w**2 * h


def gauss_newton_diag(x, responses):  # [N, in], [C, N, out] -> [out, in]
    """Return the diagonal of the Gauss-Newton matrix for the weights of a layer y = x W^T:

        h_ij = mean_n sum_c (r_cni x_nj)^2

    Parameters
    ----------
    x : float array (N, in), what enters the layer; (N, P, in) for a weight that serves P places (convolution)
    responses : float array (C, N, out), or (C, N, P, out)
        Vectors with sum_c r_cn r_cn^T = dz_n/dy_n^T H_n dz_n/dy_n, H_n the second derivative of the loss by the outputs
        z_n. With the Jacobian itself H is the identity.

    In a network of ReLUs every output is a linear function of one weight, piece by piece, so that this diagonal is the
    Hessian's, exactly. LeCun et al. 1990, section 3, get an approximation of it in one backward pass.

    Examples
    --------
    >>> gauss_newton_diag([[1.0, 2.0], [3.0, 0.0]], [[[1.0], [1.0]]]).tolist()
    [[5.0, 2.0]]
    """
    x, responses = real_array(x, "x", ndim=(2, 3)), real_array(responses, "responses")
    if responses.ndim != x.ndim + 1 or responses.shape[1:-1] != x.shape[:-1]:
        wanted = ", ".join(["C", *map(str, x.shape[:-1]), "out"])
        raise ValueError(f"responses must have shape ({wanted}) for x of shape {x.shape}, got {responses.shape}")
    if x.ndim == 2:  # of each sample the gradient is an outer product, so its square is one, too
        return np.sum(responses.astype(np.float64) ** 2, axis=0).T @ x.astype(np.float64) ** 2 / len(x)
    gradients = (response.transpose(0, 2, 1) @ x for response in responses)  # each [N, out, P] @ [N, P, in]
    return sum(np.sum(gradient.astype(np.float64) ** 2, axis=0) for gradient in gradients) / len(x)


def _inputs(x, w, ndim):
    """Return x as an array whose last axis has an element for each weight of a row of w."""
    x = real_array(x, "x", ndim=ndim)
    if x.shape[-1] != w[0].size:
        raise ValueError(f"x must end in {w[0].size} inputs, as many as a row of w has weights, got shape {x.shape}")
    return x


# Schedules


def constant_schedule(step, *, sparsity, begin_step=0):
    """Return the sparsity from `begin_step` on, 0 before: one-shot pruning, then retraining.

    Examples
    --------
    >>> [constant_schedule(step, sparsity=0.5, begin_step=100) for step in (99, 100, 10_000)]
    [0.0, 0.5, 0.5]
    """
    begin_step = check_integer(begin_step, "begin_step", 0)
    sparsity = check_number(sparsity, "sparsity", 0, 1)
    return sparsity if check_integer(step, "step", 0) >= begin_step else 0.0


def polynomial_schedule(step, *, begin_step, end_step, initial_sparsity=0.0, final_sparsity, power=3):
    """Return s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^power: fast while there are many weights, then slowly.

    Parameters
    ----------
    step, begin_step, end_step : int, t, t_0 and t_1, in optimizer steps; t_0 < t_1
    initial_sparsity, final_sparsity : float in [0, 1], s_i at t_0 and s_f from t_1 on; before t_0 nothing is pruned
    power : float > 0; 3 is the paper's

    Source: Zhu and Gupta 2017 (arXiv:1710.01878), eq. 1.

    Examples
    --------
    >>> [polynomial_schedule(t, begin_step=0, end_step=100, final_sparsity=1.0) for t in (0, 50, 100)]
    [0.0, 0.875, 1.0]
    """
    step, begin_step = check_integer(step, "step", 0), check_integer(begin_step, "begin_step", 0)
    end_step = check_integer(end_step, "end_step", begin_step + 1)
    start = check_number(initial_sparsity, "initial_sparsity", 0, 1)
    end = check_number(final_sparsity, "final_sparsity", 0, 1)
    power = check_number(power, "power", 0, np.inf, open_low=True, open_high=True)
    left = 1 - min(1.0, (step - begin_step) / (end_step - begin_step))
    return end + (start - end) * left**power if step >= begin_step else 0.0


def linear_schedule(step, *, begin_step, end_step, initial_sparsity=0.0, final_sparsity):
    """Return the sparsity that rises in a line: `polynomial_schedule` of power 1.

    Examples
    --------
    >>> asked = {"begin_step": 1000, "end_step": 10_000, "initial_sparsity": 0.1, "final_sparsity": 0.3}
    >>> [round(linear_schedule(step, **asked), 3) for step in (999, 1000, 9375, 10_000)]
    [0.0, 0.1, 0.286, 0.3]
    """
    ends = {"initial_sparsity": initial_sparsity, "final_sparsity": final_sparsity}
    return polynomial_schedule(step, begin_step=begin_step, end_step=end_step, **ends, power=1)
