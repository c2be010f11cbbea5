"""One solution of each exercise of chapter 05, without nnzip: what the planted bugs are planted into."""

import numpy as np


def threshold_mask(w, threshold):
    return np.abs(w) > threshold


def magnitude_mask(w, sparsity):
    pruned = round(sparsity * w.size)
    order = np.argsort(np.abs(w).ravel(), kind="stable")
    mask = np.ones(w.size, bool)
    mask[order[:pruned]] = False
    return mask.reshape(w.shape)


def global_magnitude_masks(ws, sparsity):
    arrays = list(ws.values()) if isinstance(ws, dict) else ws
    flat = np.concatenate([np.abs(w).ravel() for w in arrays])
    kept = np.ones(flat.size, bool)
    kept[np.argsort(flat, kind="stable")[: round(sparsity * flat.size)]] = False
    masks, start = [], 0
    for w in arrays:
        masks.append(kept[start : start + w.size].reshape(w.shape))
        start += w.size
    return dict(zip(ws, masks, strict=True)) if isinstance(ws, dict) else masks


def activation(w, x):
    norms = np.sqrt(np.sum(x.astype(np.float64) ** 2, axis=0))
    return np.abs(w) * norms


def n_m_mask(w, n, m):
    groups = np.abs(w).reshape(-1, m)
    order = np.argsort(groups, axis=1, kind="stable")
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, order[:, m - n :], True, axis=1)
    return mask.reshape(w.shape)


def block_mask(w, sparsity, *, block_size):
    shape = [part for n, size in zip(w.shape, block_size, strict=True) for part in (n // size, size)]
    inside = tuple(range(1, 2 * w.ndim, 2))
    norms = np.sqrt(np.sum(w.astype(np.float64).reshape(shape) ** 2, axis=inside))
    kept = np.ones(norms.size, bool)
    kept[np.argsort(norms.ravel(), kind="stable")[: round(sparsity * norms.size)]] = False
    mask = kept.reshape(norms.shape)
    for axis, size in enumerate(block_size):
        mask = np.repeat(mask, size, axis=axis)
    return mask


def polynomial_schedule(step, *, begin_step, end_step, initial_sparsity=0.0, final_sparsity, power=3):
    if step < begin_step:
        return 0.0
    done = min(1.0, (step - begin_step) / (end_step - begin_step))
    return final_sparsity + (initial_sparsity - final_sparsity) * (1 - done) ** power


def masked_sgd_step(weight, grad, velocity, mask, rate, momentum):
    velocity = (momentum * velocity + grad) * mask
    return (weight - rate * velocity) * mask, velocity


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "global_magnitude_masks": {
        "return dict(zip(ws, masks, strict=False)) if isinstance(ws, dict) else masks": "there are as many",
    },
    "n_m_mask": {"order = np.argsort(groups, kind='stable')": "groups have two axes"},
    "block_mask": {
        "shape = [part for n, size in zip(w.shape, block_size, strict=False) for part in (n // size, size)]": "as many",
        "norms = np.sum(w.astype(np.float64).reshape(shape) ** 2, axis=inside)": "squares are ranked alike",
        "norms = np.abs(np.sum(w.astype(np.float64).reshape(shape) ** 2, axis=inside))": "squares are ranked alike",
        "norms = np.sqrt(np.mean(w.astype(np.float64).reshape(shape) ** 2, axis=inside))": "all blocks are as large",
    },
}
