"""One solution of each exercise of chapter 10, without nnzip: what the planted bugs are planted into."""

import itertools

import numpy as np


def input_hessian(x, *, damping=0.01):
    x = x.astype(np.float64)
    hessian = 2 * (x.T @ x) / len(x)
    extra = damping * np.trace(hessian) / len(hessian)
    return hessian + extra * np.eye(x.shape[1])


def obs_prune(weight, hessian, sparsity):
    count = round(sparsity * weight.shape[1])
    pruned = weight.astype(np.float64)
    for row in pruned:
        inverse, left = np.linalg.inv(hessian), np.ones(len(row), bool)
        for _ in range(count):
            places = np.flatnonzero(left)
            p = places[np.argmin(row[places] ** 2 / np.diag(inverse)[places])]
            row -= row[p] / inverse[p, p] * inverse[p]
            inverse -= np.outer(inverse[p], inverse[p]) / inverse[p, p]
            left[p] = False
            row[~left] = 0.0
    return pruned.astype(weight.dtype)


def gptq(weight, hessian, qparams):
    w, inverse = weight.astype(np.float64), np.linalg.inv(hessian)
    scale, zero = qparams.scale, qparams.zero_point
    rounded = np.zeros(w.shape)
    for k in range(w.shape[1]):
        codes = np.clip(np.rint(w[:, k] / scale) + zero, qparams.qmin, qparams.qmax)
        rounded[:, k] = (codes - zero) * scale
        error = (w[:, k] - rounded[:, k]) / inverse[k, k]
        w -= np.outer(error, inverse[k])
        inverse -= np.outer(inverse[k], inverse[k]) / inverse[k, k]
        inverse[k] = 0.0
    return rounded.astype(np.float32)


def soft_rounding_loss(v, target, hessian, *, strength, beta):
    sigmoid = 1 / (1 + np.exp(-v))
    stretched = 1.2 * sigmoid - 0.1
    h = np.clip(stretched, 0.0, 1.0)
    slope = 1.2 * sigmoid * (1 - sigmoid) * (stretched == h)
    d = np.floor(target) + h - target
    u = 2 * h - 1
    value = 0.5 * np.sum(d @ hessian * d) + strength * np.sum(1 - np.abs(u) ** beta)
    grad = d @ hessian - strength * 2 * beta * np.abs(u) ** (beta - 1) * np.sign(u)
    return value, grad * slope


def best_rounding(weight, hessian, qparams):
    scale = np.broadcast_to(qparams.scale, len(weight))
    zero = np.broadcast_to(qparams.zero_point, len(weight))
    ups = np.array(list(itertools.product((0, 1), repeat=weight.shape[1])))
    best = np.zeros(weight.shape)
    for i, row in enumerate(weight):
        codes = np.clip(np.floor(row / scale[i]) + ups + zero[i], qparams.qmin, qparams.qmax)
        ways = (codes - zero[i]) * scale[i]
        d = ways - row
        best[i] = ways[np.argmin(np.einsum("wi,ij,wj->w", d, hessian, d))]
    return best.astype(np.float32)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "gptq": {
        "w, inverse = (weight.astype(np.float32), np.linalg.inv(hessian))": "but for last places",
        "rounded = np.ones(w.shape)": "every place is filled",
        "codes = np.clip(np.rint(w[:, k] * (1 / scale)) + zero, qparams.qmin, qparams.qmax)": "but for last places",
        "return rounded": "the task leaves the dtype open",
    },
    "best_rounding": {
        "ups = np.array(list(itertools.product((1, 0), repeat=weight.shape[1])))": "the ways in another order",
        "best = np.ones(weight.shape)": "every place is filled",
        "codes = np.clip(np.floor(row * (1 / scale[i])) + ups + zero[i], qparams.qmin, qparams.qmax)": "last places",
    },
}
