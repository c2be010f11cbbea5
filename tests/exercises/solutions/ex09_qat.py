"""One solution of each exercise of chapter 09, without nnzip: what the planted bugs are planted into."""

import numpy as np


def straight_through(x, qparams, grad_y):
    shape = [1] * x.ndim
    if qparams.axis is not None:
        shape[qparams.axis] = -1
    scale, zero_point = qparams.scale.reshape(shape), qparams.zero_point.reshape(shape)
    codes = np.rint(x / scale) + zero_point
    passes = (codes >= qparams.qmin) & (codes <= qparams.qmax)
    return np.where(passes, grad_y, 0)


def start_step(x, *, bits, signed, axis=None):
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    rows = np.abs(x).reshape(len(x), -1) if axis == 0 else np.abs(x).reshape(1, -1)
    mean = rows.mean(axis=1, dtype=np.float64)
    step = np.where(mean > 0, 2 * mean / np.sqrt(top), 1.0).astype(np.float32)
    return step if axis == 0 else step[0]


def learned_step_gradients(x, step, grad_y, *, bits, signed):
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    low = -high if signed else 0
    per_row = np.ndim(step) == 1
    v = x / np.reshape(step, (-1,) + (1,) * (x.ndim - 1))
    inside = (v > low) & (v < high)
    slope = np.where(inside, np.rint(v) - v, np.clip(v, low, high))
    return grad_y * inside, np.sum(grad_y * slope, axis=tuple(range(1, x.ndim)) if per_row else None)


def binary_connect_step(weight, grad, rate):
    weight = np.clip(weight - rate * grad, -1, 1)
    signs = np.where(weight < 0, -1, 1).astype(weight.dtype)
    scale = np.abs(weight).mean(axis=tuple(range(1, weight.ndim)), keepdims=True)
    return weight, scale * signs


def round_to_bfloat16(x):
    bits = x.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    kept = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), x, kept.view(np.float32))


def scaled_sgd_step(weights, grads, scale, good, *, rate, interval):
    if not all(np.isfinite(g).all() for g in grads):
        return weights, scale / 2, 0
    factor = np.float32(rate) / np.float32(scale)
    weights = [w - factor * g for w, g in zip(weights, grads, strict=True)]
    good += 1
    if good == interval:
        return weights, scale * 2, 0
    return weights, scale, good


def train_rounded_linear(x, target, weight, weight_step, input_step, *, weight_bits, input_bits, rate, iterations):
    n, features = x.shape
    w_top, x_top = 2 ** (weight_bits - 1) - 1, 2**input_bits - 1
    for _ in range(iterations):
        w_hat = np.rint(np.clip(weight / weight_step[:, None], -w_top, w_top)) * weight_step[:, None]
        x_hat = np.rint(np.clip(x / input_step, 0, x_top)) * input_step
        grad_y = (x_hat @ w_hat.T - target) / n
        grad_w, grad_ws = learned_step_gradients(weight, weight_step, grad_y.T @ x_hat, bits=weight_bits, signed=True)
        grad_xs = learned_step_gradients(x, input_step, grad_y @ w_hat, bits=input_bits, signed=False)[1]
        weight = weight - rate * grad_w
        weight_step = weight_step - rate * grad_ws / np.sqrt(features * w_top)
        input_step = input_step - rate * grad_xs / np.sqrt(features * x_top)
    return weight, weight_step, input_step


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "straight_through": {"codes = np.rint(x * (1 / scale)) + zero_point": "but for last places"},
    "start_step": {
        "mean = rows.mean(axis=1)": "but for last places",
        "mean = rows.mean(axis=1, dtype=np.float32)": "but for last places",
        "return step if axis == 0 else step[-1]": "there is one",
    },
    "binary_connect_step": {"return (weight, scale / signs)": "signs are 1 and -1"},
    "round_to_bfloat16": {
        "odd = bits >> np.uint32(16) & np.uint8(1)": "the other operand is wider",
        "odd = bits >> np.uint8(16) & np.uint32(1)": "the other operand is wider",
    },
    "scaled_sgd_step": {
        "weights = [w - factor * g for w, g in zip(weights, grads, strict=False)]": "there are as many",
    },
    "train_rounded_linear": {"x_hat = np.rint(np.clip(x / input_step, -1, x_top)) * input_step": "x is not negative"},
}
