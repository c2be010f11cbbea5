"""The rounding, or pruning, that a layer's inputs ask for: second-order methods, arrays in and arrays out (chapter 10).

A layer y = x W^T whose weights move by D changes its outputs, on average over its inputs, by

    mean_n |D x_n|^2 = 1/2 sum over rows d of D: d H d^T        H = 2 mean_n x_n^T x_n

so H, the Hessian, is all that has to be known of the inputs. Where inputs are correlated, the errors of a row's weights
can cancel each other.

    pruned   obd_prune    the diagonal of H alone                    LeCun, Denker and Solla 1990
             obs_prune    the others make up for the one that goes   Hassibi and Stork 1993
    rounded  gptq         column by column, the rest makes up        Frantar et al. 2023, arXiv:2210.17323
             adaround     up or down, learned by gradient descent    Nagel et al. 2020, arXiv:2004.10568
"""

from dataclasses import replace

import numpy as np

from nnzip.checks import door, number, one_of, real, reals, same_shape, unit, whole
from nnzip.pruning import obd, saliency_mask
from nnzip.quantization import QuantParams, aligned, dequantize

ORDERS = ("natural", "descending")
BLOCK = 128  # columns of `gptq` whose errors are collected together
SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6)  # of `fit_scales`
GAMMA, ZETA = -0.1, 1.1  # the ends of AdaRound's stretched sigmoid


def square(x, name):
    """Take a real matrix with as many rows as columns, as float64."""
    array = real(x, name, ndim=2).astype(np.float64, copy=False)
    if array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} must be square, (in, in), got {array.shape}")
    return array


@door
def input_hessian(x: reals(2), *, damping=0.01):  # [N, in] -> float64 [in, in]
    """Return H = 2 mean_n x_n^T x_n + damping * mean(diagonal) I.

    x is what enters the layer; of a convolution its windows, (N, in * kH * kW).

    >>> input_hessian([[1.0, 2.0], [3.0, 0.0]], damping=0.0)
    array([[10.,  2.],
           [ 2.,  4.]])
    """
    x = x.astype(np.float64)
    return damped(2 / len(x) * (x.T @ x), damping)


@door
def damped(hessian: square, damping: number(0, np.inf, "[)") = 0.01):  # [in, in] -> float64 [in, in]
    """Return H + damping * mean(diagonal) I, which has an inverse.

    H alone is singular where an input is always 0, where inputs repeat each other, and with fewer samples than inputs.
    If H is all 0 it becomes damping * I. Source: Frantar et al. 2023, section 3.3, step 3.
    """
    return hessian + damping * (np.mean(np.diag(hessian)) or 1.0) * np.eye(len(hessian))


@door
def output_error(weight: reals(2), changed: reals(2), hessian: square):  # [out, in], [out, in], [in, in] -> float
    """Return mean_n |(W' - W) x_n|^2 = 1/2 sum d H d^T: how far the layer's outputs move, H not damped.

    >>> output_error([[1.0, 1.0]], [[1.0, 0.5]], [[10.0, 2.0], [2.0, 4.0]])
    0.5
    """
    _meet(weight, hessian)
    same_shape(weight, changed, ("weight", "changed"))
    d = changed.astype(np.float64) - weight
    return float(np.sum(d @ hessian * d) / 2)


@door
def obd_prune(weight: reals(2), hessian: square, sparsity):  # [out, in], [in, in] -> [out, in]
    """Optimal Brain Damage: zero the weights of the smallest w^2 H_jj / 2, all rows together; the others stay.

    Source: LeCun, Denker and Solla 1990, section 2, with the layer's squared error in place of the network's loss.

    >>> obd_prune([[1.0, 2.0]], [[9.0, 0.0], [0.0, 1.0]], 0.5).tolist()
    [[1.0, 0.0]]
    """
    _meet(weight, hessian)
    saliency = obd(weight, np.broadcast_to(np.diag(hessian), weight.shape))
    return weight * saliency_mask(saliency, sparsity)


def obs_row(row, inverse, count):  # [in], [in, in] -> [in]
    """Do to one row what `obs_prune` does to all: zero `count` of its weights; `inverse` is H^-1."""
    row, inverse, left = row.copy(), inverse.copy(), np.ones(len(row), bool)
    for _ in range(count):
        cost = np.full(len(row), np.inf)
        cost[left] = row[left] ** 2 / np.diag(inverse)[left] / 2  # eq. 5
        p = cost.argmin()
        row -= row[p] / inverse[p, p] * inverse[p]
        inverse -= np.outer(inverse[p], inverse[p]) / inverse[p, p]  # one step of Gaussian elimination
        left[p] = False
        row[~left] = 0  # exactly
    return row


@door
def obs_prune(weight: reals(2), hessian: square, sparsity: unit):  # [out, in], [in, in] -> [out, in]
    """Optimal Brain Surgeon: of each row, zero the weight that costs least, let the others make up for it, and again.

        cost of w_p = w_p^2 / (2 [H^-1]_pp)        w <- w - w_p / [H^-1]_pp [H^-1]_p

    and H^-1 without row and column p is the inverse that is left. Every row loses round(sparsity * in) weights and
    takes O(in^3). ValueError if H has no inverse. Sources: Hassibi and Stork 1993, eq. 5; Frantar and Alistarh 2022
    (arXiv:2208.11580), Algorithm 1.

    >>> obs_prune([[1.0, 1.1]], [[1.0, 0.9], [0.9, 1.0]], 0.5).round(3).tolist()
    [[0.0, 2.0]]
    """
    inverse, count = _inverse(weight, hessian), round(sparsity * weight.shape[1])
    return np.stack([obs_row(row, inverse, count) for row in weight.astype(np.float64)]).astype(weight.dtype)


@door
def obs_saliency(weight: reals(2), hessian: square):  # [out, in], [in, in] -> [out, in]
    """Return w^2 / (2 [H^-1]_jj): what it costs to zero one weight if all others make up for it."""
    return weight.astype(np.float64) ** 2 / (2 * np.diag(_inverse(weight, hessian)))


@door
def refit(weight: reals(2), mask, hessian: square):  # [out, in], bool [out, in], [in, in] -> [out, in]
    """Return the weights under a mask that change the layer's outputs least: least squares, for each row

        w'_S = w_S + H_SS^-1 H_SP w_P        S kept (True), P pruned

    >>> refit([[1.0, 1.1]], [[False, True]], [[1.0, 0.9], [0.9, 1.0]]).tolist()
    [[0.0, 2.0]]
    """
    _meet(weight, hessian)
    mask = _kept(mask, weight)
    _cholesky(hessian)  # then every part of it has an inverse, too
    fitted = np.where(mask, weight, 0).astype(np.float64)
    for row, kept, out in zip(weight, mask, fitted, strict=True):
        out[kept] += np.linalg.solve(hessian[np.ix_(kept, kept)], hessian[np.ix_(kept, ~kept)] @ row[~kept])
    return fitted.astype(weight.dtype)


@door
def gptq_by_definition(weight: reals(2), hessian: square, qparams):  # [out, in], [in, in] -> float32 [out, in]
    """Return what `gptq` does as Optimal Brain Surgeon says it: fix a weight, move all others that are left.

        w <- w - (w_k - w^_k) / [H^-1]_kk [H^-1]_k        and H^-1 without row and column k is what is left

    Source: Frantar et al. 2023, eq. 2 and 3, for all rows in one order (section 3.3, step 1).
    """
    scale, zero_point = _per_weight(weight, hessian, qparams)
    left, inverse = weight.astype(np.float64), _inverse(weight, hessian)
    steps = np.empty(weight.shape, np.int32)
    for k in range(weight.shape[1]):
        steps[:, k] = _steps(left[:, k], scale[:, k], zero_point[:, k], qparams)
        error = (left[:, k] - steps[:, k] * scale[:, k].astype(np.float64)) / inverse[k, k]
        left -= np.outer(error, inverse[k])
        inverse -= np.outer(inverse[k], inverse[k]) / inverse[k, k]
        inverse[k] = inverse[:, k] = 0  # exactly: what is fixed takes no part any more
    return dequantize(steps + zero_point, qparams)


@door
def gptq(
    weight: reals(2), hessian: square, qparams, *, order: one_of(*ORDERS) = "natural", mask=None
):  # [out, in], [in, in] -> float32 [out, in], on the grid
    """Round column after column, each after it has made up for what the columns before it got wrong.

        H = R R^T, R upper triangular        column k <- round(w_k + sum_{i<k} (w_i - w^_i) R_ik / R_kk)

    hessian : positive definite, as `input_hessian` gives it with damping
    order : "natural", the first input first, or "descending", the largest H_jj first
    mask : bool (out, in), optional: where it is False the weight becomes zero, and the others make up for that too

    The products are in the weight's precision. Sources: Frantar et al. 2023, Algorithm 1, in the form of Chen et al.
    2025 (arXiv:2507.18553); for the mask SparseGPT, Frantar and Alistarh 2023 (arXiv:2301.00774), section 3.4.

    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> gptq([[0.4, 0.4]], [[2.0, 1.9], [1.9, 2.0]], grid).tolist()  # to nearest, both would become 0
    [[0.0, 1.0]]
    """
    scale, zero_point = _per_weight(weight, hessian, qparams)
    columns = np.arange(len(hessian)) if order == "natural" else np.argsort(-np.diag(hessian), kind="stable")
    R = _cholesky(hessian[np.ix_(columns, columns)][::-1, ::-1])[::-1, ::-1]
    push = (R / np.diag(R)).T.astype(weight.dtype)  # R_ik / R_kk at [k, i]
    kept = np.ones(weight.shape, bool) if mask is None else _kept(mask, weight)
    weight, scale, zero_point, kept = (array.T[columns] for array in (weight, scale, zero_point, kept))  # [in, out]
    steps, missing = np.zeros(weight.shape, np.int32), np.zeros_like(weight)  # missing: w - w^
    for start in range(0, len(columns), BLOCK):
        block = slice(start, start + BLOCK)
        targets = weight[block] + push[block, :start] @ missing[:start]
        for k, target in enumerate(targets, start):
            value = target + push[k, start:k] @ missing[start:k]
            steps[k] = _steps(value, scale[k], zero_point[k], qparams) * kept[k]
            missing[k] = weight[k] - steps[k] * scale[k]
    return dequantize((steps + zero_point)[np.argsort(columns)].T, qparams)


@door
def fit_scales(weight: reals(2), hessian: square, qparams, *, rounder=gptq) -> QuantParams:  # [out, in], [in, in]
    """Return the grid with its scales shrunk to where the rounded layer's outputs err least.

    Each row chooses among `SHRINKS` for all its groups; one scale for all is chosen for the sum of the rows. rounder is
    the function (weight, hessian, qparams) -> rounded weight that will be used.

    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=2, signed=True, narrow=True)
    >>> fit_scales([[1.0, 0.6, -0.6, 0.5]], np.eye(4), grid).scale.tolist()
    0.699999988079071
    """
    _per_weight(weight, hessian, qparams)
    if qparams.axis is not None and qparams.axis % 2:
        raise ValueError(f"qparams must have a scale for each row or group, or one for all, got axis={qparams.axis}")
    grids = [replace(qparams, scale=qparams.scale * np.float32(shrink)) for shrink in SHRINKS]
    moves = [rounder(weight, hessian, grid) - weight for grid in grids]
    errors = np.stack([np.sum(d @ hessian * d, axis=1) for d in moves])  # [shrinks, out]
    if qparams.scale.ndim == 0:
        return grids[np.argmin(errors.sum(axis=1))]
    chosen = np.array(SHRINKS, np.float32)[np.argmin(errors, axis=0)]
    return replace(qparams, scale=qparams.scale * chosen.reshape(-1, *[1] * (qparams.scale.ndim - 1)))


def rectified_sigmoid(v):  # [...] -> [...], [...]
    """Return h(v) = clip(1.2 sigmoid(v) - 0.1, 0, 1) and dh/dv (Nagel et al. 2020, eq. 23)."""
    sigmoid = 1 / (1 + np.exp(-v))
    h = (ZETA - GAMMA) * sigmoid + GAMMA
    return np.clip(h, 0, 1), (ZETA - GAMMA) * sigmoid * (1 - sigmoid) * ((h > 0) & (h < 1))


def adaround_loss(v, target, share, hessian, low, high, strength, beta):  # [out, in], hessian [in, in]
    """Return the value of AdaRound's loss, and its gradient by v, for weights counted in steps of the grid.

    target is w / s, share s over its row's root mean square, hessian H over its diagonal's mean, low to high the grid.
    """
    h, slope = rectified_sigmoid(v)
    position = np.floor(target) + h
    d = (np.clip(position, low, high) - target) * share
    pull = d @ hessian
    value = np.sum(d * pull) / 2
    grad = pull * share * ((position >= low) & (position <= high))
    if strength:
        u = 2 * h - 1  # from -1, down, to 1, up
        power = np.abs(u) ** (beta - 1)
        value += strength * np.sum(1 - power * np.abs(u))
        grad -= 2 * strength * beta * power * np.sign(u)
    return float(value), grad * slope


@door
def adaround(weight: reals(2), hessian: square, qparams, *, iterations: whole(1) = 500):
    """Learn for every weight whether it is rounded up or down, all rows at once, by gradient descent.

        w^ = s clip(floor(w / s) + h(V), qmin, qmax)        h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
        minimize 1/2 sum d H d^T / u + sum 1 - |2 h(V) - 1|^beta

    u is the mean of s^2 H_jj over a row. The second term, absent during the first fifth of the iterations, drives each
    h to 0 or 1, all the more as beta falls in a straight line from 20 to 2. The steps are Adam's, in the precision of
    the weight, float32 at least. H needs no damping. Source: Nagel et al. 2020, eq. 21 to 25.

    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> sum(adaround([[0.4, 0.45]], [[2.0, 1.9], [1.9, 2.0]], grid)[0].tolist())  # together they are nearly 1
    1.0
    """
    scale, zero_point = (array.astype(np.float64) for array in _per_weight(weight, hessian, qparams))
    low, high = qparams.qmin - zero_point, qparams.qmax - zero_point
    target = np.clip(weight / scale, low - 1, high + 1)  # what is clipped anyway need not be large
    share = scale / np.sqrt(np.mean(scale**2, axis=1, keepdims=True))
    unit_hessian = hessian / (np.mean(np.diag(hessian)) or 1.0)
    dtype = np.promote_types(weight.dtype, np.float32)  # in float16 the fraction can be 1 - 0
    target, share, h, low, high = (array.astype(dtype) for array in (target, share, unit_hessian, low, high))
    p = (target - np.floor(target) - GAMMA) / (ZETA - GAMMA)
    v = np.log(p / (1 - p))  # h(v) is the fraction
    mean, square_mean, begin = np.zeros_like(v), np.zeros_like(v), 0.2 * iterations
    for t in range(iterations):
        beta = 20 - 18 * max(0.0, (t - begin) / (iterations - begin))
        _, grad = adaround_loss(v, target, share, h, low, high, 1.0 if t >= begin else 0.0, beta)
        mean += 0.1 * (grad - mean)  # Adam
        square_mean += 0.001 * (grad**2 - square_mean)
        v -= 0.05 * mean / (1 - 0.9 ** (t + 1)) / (np.sqrt(square_mean / (1 - 0.999 ** (t + 1))) + 1e-8)
    steps = np.clip(np.floor(target) + (v >= 0), low, high)
    return dequantize((steps + zero_point).astype(np.int32), qparams)


@door
def best_rounding(weight: reals(2), hessian: square, qparams):  # [out, in], [in, in] -> float32 [out, in]
    """Return the best of all 2^in ways to round each row's weights up or down: the judge, for 16 inputs or fewer.

    >>> grid = QuantParams(scale=1.0, zero_point=0, bits=4, signed=True)
    >>> best_rounding([[0.4, 0.45]], [[2.0, 1.9], [1.9, 2.0]], grid).tolist()
    [[0.0, 1.0]]
    """
    n = whole(1, 16)(weight.shape[1], "the number of inputs")
    scale, zero_point = (array.astype(np.float64) for array in _per_weight(weight, hessian, qparams))
    up = (np.arange(2**n)[:, None] >> np.arange(n)) & 1  # [2^n, n], every choice
    best = np.empty(weight.shape, np.int32)
    for i, row in enumerate(weight):
        codes = np.clip(np.floor(row / scale[i]) + zero_point[i] + up, qparams.qmin, qparams.qmax)
        d = (codes - zero_point[i]) * scale[i] - row
        best[i] = codes[np.argmin(np.einsum("ij,ij->i", d @ hessian, d))]
    return dequantize(best, qparams)


def _steps(value, scale, zero_point, qparams):  # [out] -> int32 steps from the zero point, those of `quantize`
    with np.errstate(over="ignore"):  # what is beyond a float is clipped too
        steps = np.rint(value / scale)
    return np.clip(steps, qparams.qmin - zero_point, qparams.qmax - zero_point).astype(np.int32)


def _per_weight(weight, hessian, qparams):  # -> scale, zero_point, of every weight: views, as far as they can be
    _meet(weight, hessian)
    view, *grid = aligned(weight, qparams)
    return [np.broadcast_to(array, view.shape).reshape(weight.shape) for array in grid]


def _kept(mask, weight):
    mask = np.asarray(mask)
    same_shape(weight, mask, ("weight", "mask"))
    if mask.dtype != bool:
        raise TypeError(f"mask must be bool, got {mask.dtype}")
    return mask


def _meet(weight, hessian):
    if len(hessian) != weight.shape[1]:
        raise ValueError(f"hessian must be (in, in), got {hessian.shape} for a weight (out, in) of {weight.shape}")


def _cholesky(hessian):  # -> lower triangular
    try:
        return np.linalg.cholesky(hessian)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"hessian {hessian.shape} is not positive definite: inputs that are always 0, that repeat each other or are"
            " more than the samples make it singular; damp it, input_hessian(x, damping=0.01) or damped(hessian, 0.01)"
        ) from None


def _inverse(weight, hessian):
    _meet(weight, hessian)
    _cholesky(hessian)
    return np.linalg.inv(hessian)
