"""The rounding, or pruning, that a layer's inputs ask for: second-order methods, arrays in and arrays out.

A layer y = x W^T whose weights move by D changes its outputs, in the mean over its inputs, by

    mean_n |D x_n|^2 = 1/2 sum over rows d of D: d H d^T        H = 2 mean_n x_n^T x_n

so that H, the Hessian, is all that has to be known of the inputs. Rounding to nearest makes every element of d small;
the methods here let the errors of a row cancel each other where inputs are correlated.

    pruned   obd_prune    the diagonal of H alone                    LeCun, Denker and Solla 1990
             obs_prune    the others make up for the one that goes   Hassibi and Stork 1993
             refit        the best weights under a given mask        least squares
    rounded  gptq         column by column, the rest makes up        Frantar et al. 2023, arXiv:2210.17323
             adaround     up or down, learned by gradient descent    Nagel et al. 2020, arXiv:2004.10568
             best_rounding   all 2^n ways up or down: the judge
             fit_scales      where to clip, so that the outputs gain most
"""

from dataclasses import replace

import numpy as np

from nnzip.checks import check_choice, check_integer, check_number, check_same_shape, real_array
from nnzip.pruning import obd, saliency_mask
from nnzip.quantization import QuantParams, dequantize, quantize

ORDERS = ("natural", "descending")
SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6)  # of `fit_scales`
GAMMA, ZETA = -0.1, 1.1  # the ends of the stretched sigmoid: it reaches 0 and 1
MOST_INPUTS = 16  # of `best_rounding`


def input_hessian(x, *, damping=0.01):  # [N, in] -> float64 [in, in]
    """Return H = 2 mean_n x_n^T x_n + damping * mean(diagonal) I.

    Parameters
    ----------
    x : float array (N, in), what enters the layer; of a convolution its windows, (N, in * kH * kW)
    damping : float >= 0, as in `damped`

    Examples
    --------
    >>> input_hessian([[1.0, 2.0], [3.0, 0.0]], damping=0.0)
    array([[10.,  2.],
           [ 2.,  4.]])
    """
    x = real_array(x, "x", ndim=2).astype(np.float64)
    return damped(2 / len(x) * (x.T @ x), damping)


def damped(hessian, damping=0.01):  # [in, in] -> float64 [in, in]
    """Return H + damping * mean(diagonal) I, which has an inverse.

    Without it H is singular where an input is always 0, where inputs repeat each other, and with fewer samples than
    inputs: some moves of the weights then cost nothing, and a method that divides by their cost makes them large.
    Damping charges for every move (Frantar et al. 2023, section 3.3, step 3). If H is all 0 it becomes damping * I.

    Examples
    --------
    >>> damped([[2.0, 0.0], [0.0, 0.0]], damping=0.01).tolist()
    [[2.01, 0.0], [0.0, 0.01]]
    """
    hessian = _check_hessian(hessian)
    damping = check_number(damping, "damping", 0, np.inf, open_high=True)
    return hessian + damping * (np.mean(np.diag(hessian)) or 1.0) * np.eye(len(hessian))


def output_error(weight, changed, hessian):  # [out, in], [out, in], [in, in] -> float
    """Return mean_n |(W' - W) x_n|^2 = 1/2 sum d H d^T: how far the layer's outputs move, H not damped.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [3.0, 0.0]])
    >>> output_error([[1.0, 1.0]], [[1.0, 0.5]], input_hessian(x, damping=0.0))
    0.5
    """
    weight, hessian = _check_layer(weight, hessian)
    changed = real_array(changed, "changed", ndim=2)
    check_same_shape(weight, changed, ("weight", "changed"))
    d = changed.astype(np.float64) - weight
    return float(np.sum(d @ hessian * d) / 2)


# ---------------------------------------------------------------- pruned


def obd_prune(weight, hessian, sparsity):  # [out, in], [in, in], -> [out, in]
    """Optimal Brain Damage: zero the weights of the smallest w^2 H_jj / 2, all rows together; the others stay.

    Parameters
    ----------
    weight : float array (out, in)
    hessian : float array (in, in)
    sparsity : float in [0, 1]

    Source: LeCun, Denker and Solla 1990, section 2, of the layer's own squared error in place of the network's loss.

    Examples
    --------
    >>> obd_prune([[1.0, 2.0]], [[9.0, 0.0], [0.0, 1.0]], 0.5).tolist()
    [[1.0, 0.0]]
    """
    weight, hessian = _check_layer(weight, hessian)
    saliency = obd(weight, np.broadcast_to(np.diag(hessian), weight.shape))
    return weight * saliency_mask(saliency, sparsity)


def obs_prune(weight, hessian, sparsity):  # [out, in], [in, in] -> [out, in]
    """Optimal Brain Surgeon: of each row, zero the weight that costs least, let the others make up for it, and again.

        cost of w_p = w_p^2 / (2 [H^-1]_pp)        w <- w - w_p / [H^-1]_pp [H^-1]_p

    and H^-1 without row and column p is the inverse that is left. The cost is of the best move that makes w_p zero.
    Every row loses round(sparsity * in) weights; a row takes O(in^3), so this is for small layers. `obs_saliency` and
    `refit` do it in one step, for large ones.

    Parameters and errors are those of `obd_prune`; ValueError also if H has no inverse. Sources: Hassibi and Stork
    1993, eq. 5; Frantar and Alistarh 2022 (Optimal Brain Compression, arXiv:2208.11580), section 4, Algorithm 1.

    Examples
    --------
    >>> obs_prune([[1.0, 1.1]], [[1.0, 0.9], [0.9, 1.0]], 0.5).round(3).tolist()
    [[0.0, 2.0]]
    """
    weight, hessian = _check_layer(weight, hessian)
    count = round(check_number(sparsity, "sparsity", 0, 1) * weight.shape[1])
    inverse = _inverse(hessian)
    return np.stack([_surgeon(row, inverse.copy(), count) for row in weight.astype(np.float64)]).astype(weight.dtype)


def _surgeon(row, inverse, count):  # [in], [in, in] -> [in]
    row, left = row.copy(), np.ones(len(row), bool)
    for _ in range(count):
        diagonal = np.diag(inverse)
        cost = np.full(len(row), np.inf)
        cost[left] = row[left] ** 2 / diagonal[left] / 2  # eq. 5
        p = cost.argmin()
        row -= row[p] / inverse[p, p] * inverse[p]
        inverse -= np.outer(inverse[p], inverse[p]) / inverse[p, p]  # one step of Gaussian elimination
        left[p] = False
        row[~left] = 0  # exactly
    return row


def obs_saliency(weight, hessian):  # [out, in], [in, in] -> [out, in]
    """Return w^2 / (2 [H^-1]_jj): what it costs to zero one weight if all others make up for it.

    Examples
    --------
    >>> obs_saliency([[1.0, 3.0]], [[4.0, 0.0], [0.0, 2.0]]).tolist()
    [[2.0, 9.0]]
    """
    weight, hessian = _check_layer(weight, hessian)
    return weight**2 / (2 * np.diag(_inverse(hessian)))


def refit(weight, mask, hessian):  # [out, in], bool [out, in], [in, in] -> [out, in]
    """Return the weights under a mask that change the layer's outputs least: least squares, for each row

        w'_S = w_S + H_SS^-1 H_SP w_P        S kept, P pruned

    Parameters
    ----------
    mask : bool array (out, in), True = kept; other parameters and errors as in `obs_prune`

    Examples
    --------
    >>> refit([[1.0, 1.1]], [[False, True]], [[1.0, 0.9], [0.9, 1.0]]).tolist()
    [[0.0, 2.0]]
    """
    weight, hessian = _check_layer(weight, hessian)
    mask = np.asarray(mask)
    check_same_shape(weight, mask, ("weight", "mask"))
    if mask.dtype != bool:
        raise TypeError(f"mask must be bool, got {mask.dtype}")
    _cholesky(hessian)  # then every part of it has an inverse, too
    fitted = np.where(mask, weight, 0).astype(np.float64)
    for row, kept, out in zip(weight, mask, fitted, strict=True):
        out[kept] += np.linalg.solve(hessian[np.ix_(kept, kept)], hessian[np.ix_(kept, ~kept)] @ row[~kept])
    return fitted.astype(weight.dtype)


# ---------------------------------------------------------------- rounded


def gptq(weight, hessian, qparams, *, block_size=128, order="natural", mask=None):
    """Round column after column, each after it has made up for what the columns before it got wrong.

        H = R R^T, R upper triangular        column k <- round(w_k + sum_{i<k} (w_i - w^_i) R_ik / R_kk)

    The error of the outputs is |d R|^2 / 2, d = w^ - w; its k-th term is the last one that column k can still make
    small, once the columns before k are fixed. The paper writes the same with the Cholesky factor of the inverse,
    H^-1 = U^T U, U = R^-1, and pushes each error on at once (`gptq_by_definition`); here it is collected when the
    column's turn comes: for each block of columns one matrix product, and no inverse.

    Parameters
    ----------
    weight : float array (out, in); the products are computed in its precision, the factor R in float64
    hessian : float array (in, in), positive definite, as `input_hessian` gives it with damping
    qparams : QuantParams of the weight: per tensor, axis or group_size; the scales stay as they are
    block_size : int, columns whose errors are collected together; it changes the speed, not the result
    order : "natural", the first input first, or "descending": the largest H_jj first, while there are still many
        columns that can make up for it
    mask : bool array (out, in), optional: where it is False the weight becomes zero, and the others make up for that
        too (Frantar and Alistarh 2023, SparseGPT, arXiv:2301.00774, section 3.4)

    Returns
    -------
    float32 (out, in), on the grid: `quantize` gives its codes

    Raises ValueError if H is not positive definite, saying what to do, and for shapes that do not meet. Source: Frantar
    et al. 2023, section 3.3 and Algorithm 1; the form used here is the one of Chen et al. 2025 (arXiv:2507.18553),
    Babai's nearest plane.

    Examples
    --------
    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> gptq([[0.4, 0.4]], [[2.0, 1.9], [1.9, 2.0]], grid).tolist()  # to nearest, both would become 0
    [[0.0, 1.0]]
    """
    weight, hessian = _check_layer(weight, hessian)
    check_integer(block_size, "block_size", 1)
    scale, zero_point = _per_weight(qparams, weight.shape)
    mask = np.ones(weight.shape, bool) if mask is None else np.asarray(mask, bool)
    check_same_shape(weight, mask, ("weight", "mask"))
    columns = np.arange(weight.shape[1])
    if check_choice(order, "order", ORDERS) == "descending":
        columns = np.argsort(-np.diag(hessian), kind="stable")
        weight, scale, zero_point, mask = (array[:, columns] for array in (weight, scale, zero_point, mask))
        hessian = hessian[np.ix_(columns, columns)]
    factor = _cholesky(hessian[::-1, ::-1])[::-1, ::-1]  # R, in float64
    push = (factor / np.diag(factor)).astype(weight.dtype)  # R_ik / R_kk
    steps = np.empty(weight.shape, np.int32)
    missing = np.zeros(weight.shape, weight.dtype, order="F")  # w - w^, a column at a time
    for start in range(0, len(columns), block_size):
        block = slice(start, start + block_size)
        target = np.asfortranarray(weight[:, block] + missing[:, :start] @ push[:start, block])
        for k in range(target.shape[1]):
            j = start + k
            value = target[:, k] + missing[:, start:j] @ push[start:j, j]
            steps[:, j] = _steps(value, scale[:, j], zero_point[:, j], qparams) * mask[:, j]
            missing[:, j] = weight[:, j] - steps[:, j] * scale[:, j]
    steps += zero_point
    return dequantize(steps[:, np.argsort(columns)], qparams)


def gptq_by_definition(weight, hessian, qparams):  # [out, in], [in, in] -> float32 [out, in]
    """Return what `gptq` does as Optimal Brain Surgeon says it: fix a weight, move all others that are left.

        w <- w - (w_k - w^_k) / [H^-1]_kk [H^-1]_k        and H^-1 without row and column k is what is left

    Source: Frantar et al. 2023, eq. 2 and 3, for all rows in one order (section 3.3, step 1).
    """
    weight, hessian = _check_layer(weight, hessian)
    scale, zero_point = _per_weight(qparams, weight.shape)
    left, inverse = weight.astype(np.float64), _inverse(hessian)
    steps = np.empty(weight.shape, np.int32)
    for k in range(weight.shape[1]):
        steps[:, k] = _steps(left[:, k], scale[:, k], zero_point[:, k], qparams)
        error = (left[:, k] - steps[:, k] * scale[:, k].astype(np.float64)) / inverse[k, k]
        left -= np.outer(error, inverse[k])
        inverse -= np.outer(inverse[k], inverse[k]) / inverse[k, k]
        inverse[k] = inverse[:, k] = 0  # exactly: what is fixed takes no part any more
    return dequantize(steps + zero_point, qparams)


def fit_scales(weight, hessian, qparams, *, shrinks=SHRINKS, rounder=gptq):  # [out, in], [in, in] -> QuantParams
    """Return the grid with its scales shrunk to where the rounded layer's outputs err least.

    Clipping the largest weights makes the steps of all others finer. Each row chooses for itself among `shrinks` (its
    groups together); one scale for all is chosen for the sum of the rows.

    Parameters
    ----------
    weight, hessian, qparams : as in `gptq`
    shrinks : floats > 0
    rounder : function (weight, hessian, qparams) -> rounded weight, the one that will be used

    Examples
    --------
    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=2, signed=True, narrow=True)
    >>> fit_scales([[1.0, 0.6, -0.6, 0.5]], np.eye(4), grid).scale.tolist()
    0.699999988079071
    """
    weight, hessian = _check_layer(weight, hessian)
    _per_weight(qparams, weight.shape)
    if qparams.axis is not None and qparams.axis % 2:
        raise ValueError(f"qparams must have a scale for each row or group, or one for all, got axis={qparams.axis}")
    if np.ndim(shrinks) != 1 or len(shrinks) == 0:
        raise ValueError(f"shrinks must be a list of numbers and not empty, got {shrinks!r}")
    shrinks = [check_number(shrink, "a shrink", 0, np.inf, open_low=True) for shrink in shrinks]
    grids = [replace(qparams, scale=qparams.scale * np.float32(shrink)) for shrink in shrinks]
    moves = [rounder(weight, hessian, grid) - weight for grid in grids]
    errors = np.stack([np.sum(d @ hessian * d, axis=1) for d in moves])  # [shrinks, out]
    if qparams.scale.ndim == 0:
        return grids[np.argmin(errors.sum(axis=1))]
    chosen = np.array(shrinks, np.float32)[np.argmin(errors, axis=0)]
    return replace(qparams, scale=qparams.scale * chosen.reshape(-1, *[1] * (qparams.scale.ndim - 1)))


def adaround(weight, hessian, qparams, *, iterations=500, rate=0.05, strength=1.0, beta=(20.0, 2.0), warmup=0.2):
    """Learn for every weight whether it is rounded up or down, all rows at once, by gradient descent.

        w^ = s clip(floor(w / s) + h(V), qmin, qmax)        h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
        minimize 1/2 sum d H d^T / u + strength sum 1 - |2 h(V) - 1|^beta

    u, the mean of s^2 H_jj over a row, makes the two terms comparable. V starts where h(V) is the fraction of w / s.
    The second term, absent during the warmup, drives each h to 0 or 1, all the more as beta falls in a straight line.
    The inputs come in through H alone, so that a step costs the same for any number of them.

    Parameters
    ----------
    weight, hessian, qparams : as in `gptq`; H needs no damping; computed in the precision of the weight,
        float32 at least
    iterations, rate : int, float > 0; steps of Adam and their size
    strength : float >= 0, lambda
    beta : (first, last), above 1
    warmup : float in [0, 1), the fraction of the iterations before the second term comes in

    Returns
    -------
    float32 (out, in), on the grid

    Source: Nagel et al. 2020, eq. 21 to 25.

    Examples
    --------
    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> sum(adaround([[0.4, 0.45]], [[2.0, 1.9], [1.9, 2.0]], grid)[0].tolist())  # together they are nearly 1
    1.0
    """
    weight, hessian = _check_layer(weight, hessian)
    iterations = check_integer(iterations, "iterations", 1)
    rate = check_number(rate, "rate", 0, np.inf, open_low=True, open_high=True)
    strength = check_number(strength, "strength", 0, np.inf, open_high=True)
    if not isinstance(beta, tuple | list) or len(beta) != 2:
        raise ValueError(f"beta must be (first, last), got {beta!r}")
    begin, end = (check_number(b, "beta", 1, np.inf, open_low=True, open_high=True) for b in beta)
    waiting = check_number(warmup, "warmup", 0, 1, open_high=True) * iterations
    dtype = np.promote_types(weight.dtype, np.float32)  # in float16 the fraction can be 1 - 0
    layer = [array.astype(dtype) for array in _in_steps(weight, hessian, qparams)]
    p = (layer[0] - np.floor(layer[0]) - GAMMA) / (ZETA - GAMMA)
    v = np.log(p / (1 - p))  # h(v) is the fraction
    mean, square = np.zeros_like(v), np.zeros_like(v)
    for t in range(iterations):
        after = max(0.0, (t - waiting) / (iterations - waiting))
        grad = adaround_loss(v, *layer, strength if t >= waiting else 0.0, begin + (end - begin) * after)[1]
        mean += 0.1 * (grad - mean)  # Adam
        square += 0.001 * (grad**2 - square)
        v -= rate * mean / (1 - 0.9 ** (t + 1)) / (np.sqrt(square / (1 - 0.999 ** (t + 1))) + 1e-8)
    up = _rectified_sigmoid(v)[0] >= 0.5
    _, zero_point = _per_weight(qparams, weight.shape)
    return dequantize(np.clip(np.floor(layer[0]) + up, *layer[3:]).astype(np.int32) + zero_point, qparams)


def adaround_loss(v, target, share, hessian, low, high, strength, beta):
    """Return the value of AdaRound's loss, and its gradient by v, for weights counted in steps of the grid.

    target [out, in] is w / s, share [out, in] s over the root mean square of s in its row, hessian [in, in] H over the
    mean of its diagonal, low and high [out, in] the ends of the grid in steps from 0.
    """
    h, slope = _rectified_sigmoid(v)
    position = np.floor(target) + h
    d = (np.clip(position, low, high) - target) * share
    pull = d @ hessian
    u = 2 * h - 1  # from -1, down, to 1, up
    distance = np.abs(u)
    value = np.sum(d * pull) / 2
    grad = pull * share * ((position >= low) & (position <= high))
    if strength:
        power = distance ** (beta - 1)
        value += strength * np.sum(1 - power * distance)
        grad -= 2 * strength * beta * power * np.sign(u)
    return float(value), grad * slope


def best_rounding(weight, hessian, qparams):  # [out, in], [in, in] -> float32 [out, in]
    """Return the best of all 2^in ways to round each row's weights up or down: the judge, for 16 inputs or fewer.

    Parameters and errors are those of `adaround`. `gptq` may do better still: it also moves a weight by whole steps.

    Examples
    --------
    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> best_rounding([[0.4, 0.45]], [[2.0, 1.9], [1.9, 2.0]], grid).tolist()
    [[0.0, 1.0]]
    """
    weight, hessian = _check_layer(weight, hessian)
    n = check_integer(weight.shape[1], "the number of inputs", 1, MOST_INPUTS)
    scale, zero_point = _per_weight(qparams, weight.shape)
    up = (np.arange(2**n)[:, None] >> np.arange(n)) & 1  # [2^n, n], every choice
    target, _, _, low, high = _in_steps(weight, hessian, qparams)
    best = np.empty(weight.shape, np.int32)
    for i, row in enumerate(target):
        steps = np.clip(np.floor(row) + up, low[i], high[i])
        d = (steps - row) * scale[i]
        best[i] = steps[np.argmin(np.einsum("ij,ij->i", d @ hessian, d))]
    return dequantize(best + zero_point, qparams)


# ---------------------------------------------------------------- shared


def _in_steps(weight, hessian, qparams):  # -> what `adaround_loss` takes after v
    scale, zero_point = _per_weight(qparams, weight.shape)
    low, high = qparams.qmin - zero_point, qparams.qmax - zero_point
    scale = scale.astype(np.float64)
    target = np.clip(weight / scale, low - 1.0, high + 1.0)  # what is clipped anyway need not be large
    share = scale / np.sqrt(np.mean(scale**2, axis=1, keepdims=True))
    return target, share, hessian / (np.mean(np.diag(hessian)) or 1.0), low, high


def _rectified_sigmoid(v):  # -> h(v), dh/dv (eq. 23)
    sigmoid = 1 / (1 + np.exp(-v))
    h = (ZETA - GAMMA) * sigmoid + GAMMA
    inside = (h > 0) & (h < 1)
    return np.clip(h, 0, 1), (ZETA - GAMMA) * sigmoid * (1 - sigmoid) * inside


def _steps(value, scale, zero_point, qparams):  # [out] -> int32 steps from the zero point, those of `quantize`
    with np.errstate(over="ignore"):  # what is beyond a float is clipped too
        steps = np.rint(value / scale)
    return np.clip(steps, qparams.qmin - zero_point, qparams.qmax - zero_point).astype(np.int32)


def _per_weight(qparams, shape):  # -> scale, zero_point, of every weight: views, as far as they can be
    if not isinstance(qparams, QuantParams):
        raise TypeError(f"qparams must be QuantParams, got {type(qparams).__name__}")
    quantize(np.zeros(shape, np.float32), qparams)  # refuses what does not fit
    scale, zero_point = qparams.scale, qparams.zero_point
    if qparams.group_size is not None:
        return np.repeat(scale, qparams.group_size, axis=1), np.repeat(zero_point, qparams.group_size, axis=1)
    if qparams.axis is not None and qparams.axis % 2 == 0:
        scale, zero_point = scale[:, None], zero_point[:, None]
    return np.broadcast_to(scale, shape), np.broadcast_to(zero_point, shape)


def _check_layer(weight, hessian):
    weight = real_array(weight, "weight", ndim=2)
    hessian = _check_hessian(hessian)
    if len(hessian) != weight.shape[1]:
        raise ValueError(
            f"hessian must be ({weight.shape[1]}, {weight.shape[1]}) for a weight of shape {weight.shape}"
            f" (out, in), got {hessian.shape}"
        )
    return weight, hessian


def _check_hessian(hessian):
    hessian = real_array(hessian, "hessian", ndim=2).astype(np.float64, copy=False)
    if hessian.shape[0] != hessian.shape[1]:
        raise ValueError(f"hessian must be square, (in, in), got {hessian.shape}")
    return hessian


def _cholesky(hessian):  # -> lower triangular
    try:
        return np.linalg.cholesky(hessian)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"hessian {hessian.shape} is not positive definite: inputs that are always 0, that repeat each other or are"
            " more than the samples make it singular; damp it, input_hessian(x, damping=0.01) or damped(hessian, 0.01)"
        ) from None


def _inverse(hessian):
    _cholesky(hessian)
    return np.linalg.inv(hessian)
