"""Right answers in other styles: loops, einsum, recursion, FFT, Cholesky, np.add.at, other ties where open.

Each function that is named after an exercise, with a number behind it, is one of them.
"""

import functools
import heapq
import itertools
import math
import re
from collections import Counter
from fractions import Fraction

import numpy as np

from nnzip.quantization import QuantParams

# 01


def relu_backward_v1(x, grad_y):
    grad = grad_y.copy()
    grad[x <= 0] = 0
    return grad


def relu_backward_v2(x, grad_y):
    return np.where(np.sign(x) == 1, grad_y, np.zeros_like(grad_y))


def linear_backward_v1(x, weight, grad_y):
    return np.einsum("no,oi->ni", grad_y, weight), np.einsum("no,ni->oi", grad_y, x), np.einsum("no->o", grad_y)


def linear_backward_v2(x, weight, grad_y):
    grad_x, grad_weight, grad_bias = np.zeros_like(x), np.zeros_like(weight), np.zeros(len(weight), x.dtype)
    for row, grad_row, out in zip(x, grad_y, grad_x, strict=True):
        grad_weight += np.outer(grad_row, row)
        grad_bias += grad_row
        out += grad_row @ weight
    return [grad_x, grad_weight, grad_bias][0], grad_weight, grad_bias


def cross_entropy_v1(logits, labels):
    log_z = np.logaddexp.reduce(logits, axis=1)
    one_hot = np.eye(logits.shape[1])[labels]
    value = np.mean(log_z - np.sum(np.where(one_hot, logits, 0), axis=1))
    return value, (np.exp(logits - log_z[:, None]) - one_hot) / len(logits)


def cross_entropy_v2(logits, labels):
    total, gradient = 0.0, np.zeros(logits.shape)
    for i, (row, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        top = max(row)
        weights = [math.exp(z - top) for z in row]
        total += math.log(sum(weights)) - (row[label] - top)
        gradient[i] = [w / sum(weights) for w in weights]
        gradient[i, label] -= 1
    return total / len(logits), gradient / len(logits)


def cross_entropy_v3(logits, labels):
    log_p, rows = log_softmax_v2(logits), np.arange(len(labels))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / len(labels)


def numerical_gradient_v1(weight, x, labels, *, epsilon=1e-6):
    def loss(w):
        logits = x @ w.T
        return np.mean(np.logaddexp.reduce(logits, axis=1) - logits[range(len(x)), labels])

    weight = np.array(weight, float)
    steps = np.eye(weight.size).reshape(-1, *weight.shape) * epsilon
    return np.array([(loss(weight + s) - loss(weight - s)) / (2 * epsilon) for s in steps]).reshape(weight.shape)


def max_pool2d_v1(x, size):
    parts = [x[:, :, i : x.shape[2] // size * size : size, j : x.shape[3] // size * size : size]
             for i in range(size) for j in range(size)]  # fmt: skip
    return functools.reduce(np.maximum, parts)


def max_pool2d_v2(x, size):
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    return view[:, :, ::size, ::size].max(axis=(-1, -2))


def max_pool2d_backward_v1(x, grad_y, size):
    grad_x = np.zeros(x.shape, grad_y.dtype)
    for n, c, i, j in np.ndindex(grad_y.shape):
        window = x[n, c, size * i : size * (i + 1), size * j : size * (j + 1)]
        u, v = np.unravel_index(np.argmax(window), window.shape)
        grad_x[n, c, size * i + u, size * j + v] = grad_y[n, c, i, j]
    return grad_x


def conv2d_v1(x, weight, bias, *, stride=1, padding=0):  # by the Fourier transform
    k = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    shape = x.shape[2] + k - 1, x.shape[3] + k - 1
    spectrum = np.einsum("ncij,ocij->noij", np.fft.rfft2(x, shape), np.fft.rfft2(weight[:, :, ::-1, ::-1], shape))
    full = np.fft.irfft2(spectrum, shape)[:, :, k - 1 : x.shape[2], k - 1 : x.shape[3]]
    return (full[:, :, ::stride, ::stride] + bias[:, None, None]).astype(x.dtype)


def conv2d_v2(x, weight, bias, *, stride=1, padding=0):  # im2col
    (N, C, H, W), (O, _, k, _) = x.shape, weight.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    i = np.repeat(np.arange(k), k)[:, None] + stride * np.repeat(np.arange(rows), columns)
    j = np.tile(np.arange(k), k)[:, None] + stride * np.tile(np.arange(columns), rows)
    patches = x[:, :, i, j].reshape(N, C * k * k, rows * columns)
    return (weight.reshape(O, -1) @ patches + bias[:, None]).reshape(N, O, rows, columns)


def conv2d_v3(x, weight, bias, *, stride=1, padding=0):  # place by place of the filter
    (N, _, H, W), (O, _, k, _) = x.shape, weight.shape
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = (H + 2 * padding - k) // stride + 1, (W + 2 * padding - k) // stride + 1
    y = np.zeros((N, O, rows, columns), x.dtype) + bias[:, None, None]
    for u, v in itertools.product(range(k), repeat=2):
        seen = x[:, :, u : u + stride * (rows - 1) + 1 : stride, v : v + stride * (columns - 1) + 1 : stride]
        y += np.einsum("ncij,oc->noij", seen, weight[:, :, u, v])
    return y


def conv2d_backward_v1(x, weight, grad_y, *, stride=1, padding=0):  # col2im by np.add.at
    (N, C, H, W), (O, _, k, _) = x.shape, weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = grad_y.shape[2:]
    i = np.repeat(np.arange(k), k)[:, None] + stride * np.repeat(np.arange(rows), columns)
    j = np.tile(np.arange(k), k)[:, None] + stride * np.tile(np.arange(columns), rows)
    flat = grad_y.reshape(N, O, -1)
    grad_weight = np.einsum("nop,nckp->ock", flat, padded[:, :, i, j]).reshape(weight.shape)
    grad_x = np.zeros_like(padded)
    columns_of_x = np.einsum("nop,ock->nckp", flat, weight.reshape(O, C, k * k))
    np.add.at(grad_x, (slice(None), slice(None), i, j), columns_of_x)
    return grad_x[:, :, padding : padding + H, padding : padding + W], grad_weight, flat.sum(axis=(0, 2))


def sgd_momentum_v1(weight, grad, velocity, rate, momentum):
    new = np.add(np.multiply(velocity, momentum), grad)
    return np.subtract(weight, np.multiply(new, rate)), new


# 02


def shaped(values, axis, ndim):
    return values if axis is None else np.expand_dims(values, [a for a in range(ndim) if a != axis % ndim])


def dequantize_v1(codes, qparams):
    scale, zero = (shaped(v, qparams.axis, codes.ndim) for v in (qparams.scale, qparams.zero_point))
    return ((codes.astype(np.float64) - zero) * scale).astype(np.float32)


def dequantize_v2(codes, qparams):
    moved = np.moveaxis(codes, qparams.axis or 0, -1).astype(np.int64)
    return np.moveaxis(np.float32(moved - qparams.zero_point) * qparams.scale, -1, qparams.axis or 0)


def quantize_v1(x, qparams):
    scale, zero = (shaped(v, qparams.axis, x.ndim) for v in (qparams.scale, qparams.zero_point))
    codes = np.around(np.divide(x, scale)) + zero
    return np.minimum(np.maximum(codes, qparams.qmin), qparams.qmax).astype(qparams.dtype)


def quantize_v2(x, qparams):
    steps = np.moveaxis(x, qparams.axis or 0, -1) / qparams.scale
    codes = np.where(np.isfinite(steps), np.rint(steps), steps) + qparams.zero_point
    return np.moveaxis(np.clip(codes, qparams.qmin, qparams.qmax), -1, qparams.axis or 0).astype(qparams.dtype)


def sqnr_db_v1(x, x_hat):
    noise = np.linalg.norm(x.astype(float).ravel() - x_hat.astype(float).ravel())
    return float("inf") if noise == 0 else 20 * np.log10(np.linalg.norm(x.astype(float).ravel()) / noise)


def sqnr_db_v2(x, x_hat):
    x, x_hat = np.float64(x), np.float64(x_hat)
    if np.array_equal(x, x_hat):
        return np.inf
    return 10 * (np.log10(np.mean(np.square(x))) - np.log10(np.mean(np.square(x - x_hat))))


def range_to_grid_v1(lo, hi, *, bits=8):
    low, high = sorted([min(lo, 0.0), max(hi, 0.0)])
    scale = (high - low) / (2**bits - 1) or 1.0
    return QuantParams(np.float32(scale), int(np.rint(-low / scale)), bits=bits, signed=False)


def symmetric_scales_v1(x, *, bits=8, axis=0):
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    largest = np.maximum(x.max(axis=others), -x.min(axis=others))
    return np.array([m / (2 ** (bits - 1) - 1) if m else 1 for m in largest], np.float32)


def round_to_integer_v1(x, rounding="half_even", *, rng=None):
    whole = np.floor(x)
    part = x - whole
    if rounding == "stochastic":
        return whole + np.random.default_rng(rng).binomial(1, part)
    up = {"half_even": (part > 0.5) | ((part == 0.5) & (whole % 2 == 1)), "half_up": part >= 0.5}
    up["half_away"] = (part > 0.5) | ((part == 0.5) & (x > 0))
    return whole + up[rounding]


# 03


def int8_matmul_v1(a, b, *, a_zero_point=0, b_zero_point=0):
    a, b = a.astype(np.int64), b.astype(np.int64)
    za, zb = np.asarray(a_zero_point, np.int64), np.asarray(b_zero_point, np.int64)
    za = za[:, None] if za.ndim else za
    return np.einsum("mk,kn->mn", a - za, b - zb).astype(np.int32)


def int8_matmul_v2(a, b, *, a_zero_point=0, b_zero_point=0):  # multiplied out
    a, b = np.int64(a), np.int64(b)
    za, zb = np.reshape(np.int64(a_zero_point), (-1, 1)), np.reshape(np.int64(b_zero_point), (1, -1))
    y = a @ b - za * b.sum(axis=0) - a.sum(axis=1, keepdims=True) * zb + a.shape[1] * za * zb
    return y.astype(np.int32)


def exact_depth_v1(a_dtype, b):
    for k in range(1, len(b) + 1):
        part = b[:k].astype(np.int64)
        up, down = np.where(part > 0, part, 0).sum(0), -np.where(part < 0, part, 0).sum(0)
        worst = 128 * (up + down) if a_dtype == "int8" else 255 * np.maximum(up, down)
        if worst.max() > 2**24:
            return k - 1
    return len(b)


def fast_int8_matmul_v1(a, b):
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int32)


def fast_int8_matmul_v2(a, b):
    edges = [*range(0, a.shape[1], 200), a.shape[1]]
    parts = (np.float32(a[:, i:j]) @ np.float32(b[i:j]) for i, j in itertools.pairwise(edges))
    return sum(np.int32(part) for part in parts)


def requantize_v1(acc, multiplier, zero_point, *, out_dtype):
    steps = np.round(np.multiply(acc.astype("f4"), np.float32(multiplier), dtype=np.float32))
    info = np.iinfo(out_dtype)
    return np.maximum(np.minimum(steps.astype(np.float64) + zero_point, info.max), info.min).astype(out_dtype)


def fixed_point_multiplier_v1(m):  # by logarithms, number by number
    def one(value):
        shift = -math.floor(math.log2(value)) - 1
        while value * 2.0**shift >= 1:
            shift -= 1
        while value * 2.0**shift < 0.5:
            shift += 1
        m0 = round(value * 2.0 ** (shift + 31))
        return (m0, shift) if m0 < 2**31 else (m0 // 2, shift - 1)

    if np.ndim(m) == 0:
        return one(float(m))
    pairs = np.array([one(float(v)) for v in np.ravel(m)]).reshape(*np.shape(m), 2)
    return pairs[..., 0].astype(np.int32), pairs[..., 1].astype(np.int32)


def requantize_fixed_point_v1(acc, m0, shift, zero_point, *, out_dtype):  # in Python's integers
    info, out = np.iinfo(out_dtype), np.empty(acc.shape, out_dtype)
    for place, total in np.ndenumerate(acc):
        m, s = (int(np.broadcast_to(v, acc.shape)[place]) for v in (m0, shift))
        high = min(max(int(total) << max(-s, 0), -(2**31)), 2**31 - 1) * m + 2**30 >> 31
        half = 1 << s - 1 if s > 0 else 0
        steps = (abs(high) + half >> max(s, 0)) * (1 if high > 0 else -1)
        out[place] = min(max(steps + zero_point, info.min), info.max)
    return out


# 04


def sylvester_matrix_v1(n):
    if n <= 0 or math.log2(n) % 1:
        raise ValueError("no power of two")
    return functools.reduce(np.kron, [np.array([[1, 1], [1, -1]])] * int(math.log2(n)), np.array([[1]]))


def sylvester_matrix_v2(n):
    if n < 1 or bin(n).count("1") != 1:
        raise ValueError("no power of two")
    return np.array([[1 - 2 * ((i & j).bit_count() % 2) for j in range(n)] for i in range(n)], np.int8)


def paley_matrix_v1(q):  # by Euler's criterion, rows negated
    if q % 4 != 3 or q < 0 or any(q % d == 0 for d in range(2, q)):
        raise ValueError("no such prime")
    chi = [0] + [1 if pow(d, (q - 1) // 2, q) == 1 else -1 for d in range(1, q)]
    H = [[1] + [1] * q] + [[-1] + [chi[(a - b) % q] + (a == b) for b in range(q)] for a in range(q)]
    return -np.array(H)


def incoherence_v1(x):
    x = np.abs(np.float64(x)).ravel()
    return 0.0 if not x.any() else float(np.sqrt(x.size) / np.linalg.norm(x / x.max()))


def fast_hadamard_v1(x, *, axis=-1):  # by recursion
    x = np.moveaxis(x if x.dtype.kind == "f" else x.astype(float), axis, 0)
    if len(x) < 1 or len(x) & (len(x) - 1):
        raise ValueError("no power of two")

    def transform(v):
        if len(v) == 1:
            return v
        top, bottom = transform(v[: len(v) // 2]), transform(v[len(v) // 2 :])
        return np.concatenate([top + bottom, top - bottom])

    return np.moveaxis((transform(x) / math.sqrt(len(x))).astype(x.dtype), 0, axis)


def rotate_v1(x, signs, *, axis=-1):
    x = np.moveaxis(x if x.dtype.kind == "f" else x.astype(float), axis, -1)
    H = sylvester_matrix_v1(x.shape[-1]) / np.sqrt(x.shape[-1])
    return np.moveaxis((x * signs @ H).astype(x.dtype), -1, axis)


def unrotate_v1(x, signs, *, axis=-1):
    x = np.moveaxis(x if x.dtype.kind == "f" else x.astype(float), axis, -1)
    R = np.diag(signs.astype(float)) @ sylvester_matrix_v1(len(signs)) / np.sqrt(len(signs))
    return np.moveaxis((x @ R.T).astype(x.dtype), -1, axis)


def rotated_weight_v1(weight, signs):
    R = np.diag(signs.astype(float)) @ sylvester_matrix_v1(len(signs)) / np.sqrt(len(signs))
    return np.einsum("on...,nm->om...", weight, R)


def quantize_rotated_v1(weight, signs, *, bits=4):
    R = signs[:, None] * sylvester_matrix_v1(len(signs)) / np.sqrt(len(signs))
    turned = weight @ R
    step = (np.abs(turned).max() or 1.0) / (2 ** (bits - 1) - 1)
    return np.round(turned / step) * step @ R.T


# 05


def threshold_mask_v1(w, threshold):
    return ~((-threshold <= w) & (w <= threshold))


def magnitude_mask_v1(w, sparsity):
    ranks = np.empty(w.size, int)
    ranks[np.argsort(np.abs(w), axis=None, kind="mergesort")] = np.arange(w.size)
    return (ranks >= round(sparsity * w.size)).reshape(w.shape)


def magnitude_mask_v2(w, sparsity):
    order = sorted(range(w.size), key=lambda i: abs(w.ravel()[i]))
    mask = np.full(w.shape, True)
    mask.flat[order[: round(sparsity * w.size)]] = False
    return mask


def global_magnitude_masks_v1(ws, sparsity):
    named = ws if isinstance(ws, dict) else dict(enumerate(ws))
    places = sorted(((abs(v), i, j) for i, w in enumerate(named.values()) for j, v in enumerate(w.ravel())))
    gone = {(i, j) for _, i, j in places[: round(sparsity * len(places))]}
    masks = {
        name: np.array([(i, j) not in gone for j in range(w.size)], bool).reshape(w.shape)
        for i, (name, w) in enumerate(named.items())
    }
    return masks if isinstance(ws, dict) else [masks[i] for i in range(len(ws))]


def activation_v1(w, x):
    return np.abs(w) * np.linalg.norm(x.astype(np.float64), axis=0)[None, :]


def n_m_mask_v1(w, n, m):
    mask = np.zeros(w.size, bool)
    flat = np.abs(w).ravel()
    for start in range(0, w.size, m):
        best = sorted(range(start, start + m), key=lambda i: (flat[i], i))[m - n :]
        mask[best] = True
    return mask.reshape(w.shape)


def block_mask_v1(w, sparsity, *, block_size):
    counts = [n // size for n, size in zip(w.shape, block_size, strict=True)]
    corners = list(np.ndindex(*counts))
    areas = [tuple(slice(i * s, (i + 1) * s) for i, s in zip(corner, block_size, strict=True)) for corner in corners]
    norms = [float(np.sum(np.float64(w[area]) ** 2)) for area in areas]
    mask = np.ones(w.shape, bool)
    for i in sorted(range(len(norms)), key=lambda i: (norms[i], i))[: round(sparsity * len(norms))]:
        mask[areas[i]] = False
    return mask


def polynomial_schedule_v1(step, *, begin_step, end_step, initial_sparsity=0.0, final_sparsity, power=3):
    if step < begin_step:
        return 0
    left = max(end_step - step, 0) / (end_step - begin_step)
    return initial_sparsity * left**power + final_sparsity * (1 - left**power)


def masked_sgd_step_v1(weight, grad, velocity, mask, rate, momentum):
    velocity = np.where(mask, momentum * velocity + grad, np.zeros_like(weight))
    return np.where(mask, weight - rate * velocity, np.zeros_like(weight)), velocity


# 06


def softmax_v1(logits, *, temperature=1.0):
    z = np.float64(logits) / temperature
    return np.exp(z - np.logaddexp.reduce(z, axis=-1, keepdims=True)).astype(logits.dtype)


def softmax_v2(logits, *, temperature=1.0):  # as textbooks have it: divided first, in the dtype of the logits
    z = logits / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax_v1(logits, *, temperature=1.0):
    z = np.float64(logits) / temperature
    return (z - np.logaddexp.reduce(z, axis=-1)[..., None]).astype(logits.dtype)


def log_softmax_v2(logits, *, temperature=1.0):
    z = logits / temperature
    top = z.max(axis=-1, keepdims=True)
    return z - (top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True)))


def kl_divergence_v1(teacher_logits, student_logits, *, temperature=1.0):
    log_p, log_q = (log_softmax_v1(np.float64(z), temperature=temperature) for z in (teacher_logits, student_logits))
    p = np.exp(log_p)
    value = np.einsum("nc,nc->", p, log_p - log_q) / len(p)
    return float(value), ((np.exp(log_q) - p) / temperature / len(p)).astype(student_logits.dtype)


def kl_divergence_v2(teacher_logits, student_logits, *, temperature=1.0):
    log_p, log_q = (log_softmax_v2(z, temperature=temperature) for z in (teacher_logits, student_logits))
    p, q = np.exp(log_p), np.exp(log_q)
    gradient = (q - p) / (temperature * len(p))
    return np.sum(p * (log_p - log_q), axis=1).mean(), gradient.astype(student_logits.dtype)


def distillation_loss_v2(student_logits, teacher_logits, labels, *, temperature=4.0, alpha=0.5):
    soft, soft_grad = kl_divergence_v2(teacher_logits, student_logits, temperature=temperature)
    hard, hard_grad = cross_entropy_v3(student_logits, labels)
    value = alpha * temperature**2 * soft + (1 - alpha) * hard
    gradient = alpha * temperature**2 * soft_grad + (1 - alpha) * hard_grad
    return value, gradient.astype(student_logits.dtype)


def distillation_loss_v1(student_logits, teacher_logits, labels, *, temperature=4.0, alpha=0.5):
    soft, soft_grad = kl_divergence_v1(teacher_logits, student_logits.astype(float), temperature=temperature)
    hard, hard_grad = cross_entropy_v1(student_logits.astype(float), labels)
    loss = alpha * temperature**2 * soft + (1 - alpha) * hard
    return loss, (alpha * temperature**2 * soft_grad + (1 - alpha) * hard_grad).astype(student_logits.dtype)


def hint_loss_v1(student_features, teacher_features):  # as its docstring writes it
    d = student_features - teacher_features
    return 0.5 * np.linalg.norm(d) ** 2 / len(d), (d / len(d)).astype(student_features.dtype)


def hint_loss_v2(student_features, teacher_features):
    values = [np.sum((s - t) ** 2) / 2 for s, t in zip(student_features, teacher_features, strict=True)]
    return np.mean(values), ((student_features - teacher_features) / len(values)).astype(student_features.dtype)


def attention_loss_v1(student_maps, teacher_maps):  # image by image
    total, gradient = 0.0, np.zeros_like(student_maps)
    for n, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True)):
        q_s, q_t = np.sum(s**2, axis=0), np.sum(t**2, axis=0)
        size = np.linalg.norm(q_s) or 1.0
        a_s, a_t = q_s / size, q_t / (np.linalg.norm(q_t) or 1.0)
        error = a_s - a_t
        total += np.vdot(error, error)
        gradient[n] = 2 * s * (error - np.vdot(error, a_s) * a_s) / size / len(student_maps)
    return total / 2 / len(student_maps), gradient


# 07


def assign_v1(x, codebook):
    return np.abs(x[..., None] - codebook).argmin(axis=-1).astype(np.uint8)


def assign_v2(x, codebook):
    return np.sum(x[..., None] > (codebook[1:] + codebook[:-1]) / 2, axis=-1, dtype=np.uint8)


def lloyd_v1(x, start, *, iterations):  # by np.add.reduceat on the sorted numbers
    x, values = np.sort(x.astype(float)), start.astype(float)
    total = np.insert(np.cumsum(x), 0, 0)
    for _ in range(iterations):
        edges = np.searchsorted(x, (values[1:] + values[:-1]) / 2, side="right").tolist()
        pairs = list(itertools.pairwise([0, *edges, len(x)]))
        values = np.array(
            [(total[j] - total[i]) / (j - i) if j > i else v for (i, j), v in zip(pairs, values, strict=True)]
        )
    return values


def optimal_codebook_v1(x, k):  # by recursion
    x = np.sort(x.ravel().astype(float))
    sums, squares = np.insert(np.cumsum(x - x[0]), 0, 0), np.insert(np.cumsum((x - x[0]) ** 2), 0, 0)

    @functools.cache
    def best(j, groups):  # of the first j numbers -> the least squared error, the ends of the groups
        if j == 0 or groups == 0:
            return (0.0 if j == 0 else math.inf), ()
        i = np.arange(j)
        costs = (squares[j] - squares[i]) - (sums[j] - sums[i]) ** 2 / (j - i)
        ways = [best(start, groups - 1)[0] + cost for start, cost in enumerate(costs.tolist())]
        start = int(np.argmin(ways))
        return ways[start], (*best(start, groups - 1)[1], j)

    ends = best(len(x), k)[1]
    values = [x[i:j].mean() for i, j in itertools.pairwise((0, *ends))]
    return np.float32(values + [values[-1]] * (k - len(values)))


def power_of_two_codebook_v1(x, *, bits):
    largest = Fraction(float(np.abs(x).max())) or Fraction(1)
    e = 0
    while Fraction(3, 2) * Fraction(2) ** e <= largest:
        e += 1
    while Fraction(3, 4) * Fraction(2) ** e > largest:
        e -= 1
    powers = [2.0 ** (e - i) for i in range(2 ** (bits - 1) - 1)]
    return np.float32(sorted([*powers, 0.0, *(-p for p in powers)]))


def ternary_v1(w, *, axis=None):
    if axis == 0:
        return np.stack([ternary_v1(row) for row in w])
    size = np.abs(w.astype(float))
    large = size[size >= 0.7 * size.mean()]
    a = large.mean() if large.size else 0.0
    return np.float32([-a, 0, a])


def sum_by_cluster_v1(grad, codes, k):
    total = np.zeros(k)
    np.add.at(total, codes, grad.astype(float))
    return total.astype(grad.dtype)


def sum_by_cluster_v2(grad, codes, k):
    return np.array([np.sum(grad[codes == j], dtype=float) for j in range(k)], grad.dtype)


# 08


def integer_bias_v1(bias, input_scale, weight_scale):
    step = np.multiply(input_scale, weight_scale, dtype=np.float64)
    info = np.iinfo(np.int32)
    return np.round(np.float64(bias) / step).clip(info.min, info.max).astype("i4")


def folded_multiplier_v1(input_scale, weight_scale, output_scale):
    product = (np.float64(input_scale) * np.float64(weight_scale)).astype(np.float32)
    return (product.astype(np.float64) / float(output_scale)).astype(np.float32)


def fold_zero_point_v1(bias, weight, zero_point):
    return np.array([b - int(zero_point) * int(np.sum(w, dtype=int)) for b, w in zip(bias, weight, strict=True)], "i4")


def integer_linear_v1(codes, weight, bias, multiplier, input_zero_point, output_zero_point):
    acc = (codes.astype(float) - input_zero_point) @ weight.T.astype(float) + bias  # exact: below 2^53
    steps = np.round(np.float32(acc) * np.float32(multiplier)) + output_zero_point
    return np.minimum(np.maximum(steps, 0), 255).astype(np.uint8)


def integer_relu_v1(codes, zero_point):
    return np.where(codes < zero_point, np.full_like(codes, zero_point), codes)


def integer_max_pool_v1(codes, size):
    return max_pool2d_v1(codes, size)


def integer_conv2d_v1(codes, weight, bias, multiplier, input_zero_point, output_zero_point, *, stride=1, padding=0):
    x = np.float64(codes) - input_zero_point
    acc = conv2d_v2(x, np.float64(weight), np.float64(bias), stride=stride, padding=padding)
    steps = np.rint(np.float32(acc) * multiplier[:, None, None]) + output_zero_point
    return np.clip(steps, 0, 255).astype(np.uint8)


# 09


def straight_through_v1(x, qparams, grad_y):
    scale, zero = (shaped(v, qparams.axis, x.ndim) for v in (qparams.scale, qparams.zero_point))
    codes = np.round(x / scale) + zero
    return grad_y * (np.clip(codes, qparams.qmin, qparams.qmax) == codes)


def start_step_v1(x, *, bits, signed, axis=None):
    if axis == 0:
        return np.array([start_step_v1(row, bits=bits, signed=signed) for row in x], np.float32)
    mean = np.mean(np.abs(np.float64(x)))
    return np.float32(2 * mean / (2 ** (bits - signed) - 1) ** 0.5 if mean else 1.0)


def learned_step_gradients_v1(x, step, grad_y, *, bits, signed):
    if np.ndim(step):
        pairs = [learned_step_gradients_v1(*p, bits=bits, signed=signed) for p in zip(x, step, grad_y, strict=True)]
        return np.stack([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    top = 2 ** (bits - signed) - 1
    low = -top if signed else 0
    v = x / step
    slope = np.select([v <= low, v >= top], [low, top], np.rint(v) - v)
    return np.where((v > low) & (v < top), grad_y, 0), np.vdot(grad_y, slope)


def binary_connect_step_v1(weight, grad, rate):
    w = np.maximum(np.minimum(weight - np.float32(rate) * grad, 1), -1)
    b = np.stack([np.copysign(np.mean(np.abs(row)), np.where(row < 0, -1, 1)) for row in w])
    return w, b.astype(w.dtype)


def round_to_bfloat16_v1(x):
    bits = x.view(np.uint32).astype(np.uint64)
    low, high = bits & 0xFFFF, bits >> 16
    up = (low > 0x8000) | ((low == 0x8000) & (high % 2 == 1))
    return np.where(np.isnan(x), x, ((high + up) << 16).astype(np.uint32).view(np.float32))


def scaled_sgd_step_v1(weights, grads, scale, good, *, rate, interval):
    if any(not np.isfinite(g).all() for g in grads):
        return list(weights), scale * 0.5, 0
    moved = [
        w - np.float32(rate) * (g.astype(np.float32) / np.float32(scale)) for w, g in zip(weights, grads, strict=True)
    ]
    return (moved, 2 * scale, 0) if good + 1 == interval else (moved, scale, good + 1)


def train_rounded_linear_v1(x, target, weight, weight_step, input_step, *, weight_bits, input_bits, rate, iterations):
    top, x_top, inputs = 2 ** (weight_bits - 1) - 1, 2**input_bits - 1, x.shape[1]
    w, s, t = weight.copy(), weight_step.copy(), float(input_step)
    for _ in range(iterations):
        v, u = w / s[:, None], x / t
        w_hat, x_hat = np.rint(v.clip(-top, top)) * s[:, None], np.rint(u.clip(0, x_top)) * t
        error = (np.einsum("ni,oi->no", x_hat, w_hat) - target) / len(x)
        at_w, at_x = np.einsum("no,ni->oi", error, x_hat), np.einsum("no,oi->ni", error, w_hat)
        slope_w = np.select([v <= -top, v >= top], [-top, top], np.rint(v) - v)
        slope_x = np.select([u <= 0, u >= x_top], [0, x_top], np.rint(u) - u)
        w = w - rate * at_w * (np.abs(v) < top)
        s = s - rate * np.sum(at_w * slope_w, axis=1) / math.sqrt(inputs * top)
        t = t - rate * np.sum(at_x * slope_x) / math.sqrt(inputs * x_top)
    return w, s, t


# 10


def input_hessian_v1(x, *, damping=0.01):
    H = 2 * np.mean([np.outer(row, row) for row in np.float64(x)], axis=0)
    H.flat[:: len(H) + 1] += damping * np.mean(np.diag(H))
    return H


def obs_prune_v1(weight, hessian, sparsity):  # each step solved anew
    out = np.zeros_like(weight)
    for i, w in enumerate(np.float64(weight)):
        row, zeros = w.copy(), []
        for _ in range(round(sparsity * len(w))):
            left = [p for p in range(len(w)) if p not in zeros]
            inverse = np.linalg.inv(hessian[np.ix_(left, left)])
            p = int(np.argmin(row[left] ** 2 / np.diag(inverse)))
            row[left] -= row[left[p]] / inverse[p, p] * inverse[p]
            zeros.append(left[p])
            row[zeros] = 0
        out[i] = row
    return out


def gptq_v1(weight, hessian, qparams):  # by Cholesky factors
    U = np.linalg.cholesky(np.linalg.inv(hessian)).T
    w, scale, zero = np.array(weight, float), np.float64(qparams.scale), qparams.zero_point
    for k in range(w.shape[1]):
        codes = np.clip(np.rint(w[:, k] / scale) + zero, qparams.qmin, qparams.qmax)
        rounded = (codes - zero) * scale
        w[:, k + 1 :] -= np.outer((w[:, k] - rounded) / U[k, k], U[k, k + 1 :])
        w[:, k] = rounded
    return w


def soft_rounding_loss_v1(v, target, hessian, *, strength, beta):
    s = 0.5 * (1 + np.tanh(v / 2))
    h = np.minimum(np.maximum(1.2 * s - 0.1, 0), 1)
    d, u = np.floor(target) + h - target, 2 * h - 1
    loss = sum(row @ hessian @ row for row in d) / 2 + strength * (u.size - np.sum(np.abs(u) ** beta))
    at_h = d @ hessian - 2 * strength * beta * np.sign(u) * np.abs(u) ** (beta - 1)
    return loss, np.where((h > 0) & (h < 1), at_h * 1.2 * s * (1 - s), 0)


def best_rounding_v1(weight, hessian, qparams):
    out = np.zeros(weight.shape, np.float32)
    for i, row in enumerate(np.float64(weight)):
        scale, zero = (float(np.broadcast_to(v, len(weight))[i]) for v in (qparams.scale, qparams.zero_point))
        below = [math.floor(w / scale) + zero for w in row]
        ends = [sorted({min(max(code, qparams.qmin), qparams.qmax) for code in (b, b + 1)}) for b in below]
        ways = [(np.array(way) - zero) * scale for way in itertools.product(*ends)]
        out[i] = min(ways, key=lambda way, row=row: (way - row) @ hessian @ (way - row))
    return out


def equalize_v1(weight, bias, next_weight):
    weight, bias, following = weight.copy(), bias.copy(), next_weight.copy()
    columns = following.reshape(len(following), len(weight), -1)
    for i in range(len(weight)):
        r, read = np.abs(weight[i]).max(), np.abs(columns[:, i]).max()
        if r and read:
            s = np.sqrt(r / read)
            weight[i] /= s
            bias[i] /= s
            columns[:, i] *= s
    return weight, bias, following


def bias_correction_v1(bias, y, y_hat):
    axes = tuple(a for a in range(y.ndim) if a != 1)
    return (bias - (np.float64(y_hat) - np.float64(y)).mean(axis=axes)).astype(bias.dtype)


# 11


def average_bits_v1(weights, bits, scales):
    total = 0
    for n, b, s in zip(weights.tolist(), bits.tolist(), scales.tolist(), strict=True):
        total += math.ceil((n * b + (32 * s if b else 0) + 4) / 8)
    return 8 * total / sum(weights.tolist())


def column_costs_v1(weight, hessian, bits):
    costs = np.zeros((weight.shape[1], len(bits)))
    for j, k in np.ndindex(costs.shape):
        w, m = np.float64(weight[:, j]), 2 ** (int(bits[k]) - 1) - 1 if bits[k] else 0
        s = np.abs(w).max() / m if m else 0.0
        rounded = np.round(w / s) * s if s else 0 * w
        costs[j, k] = np.sum(hessian[:, j] * (w - rounded) ** 2) / 2
    return costs


def cheapest_at_v1(costs, sizes, price):
    order = np.lexsort((sizes, costs + price * sizes), axis=1)
    return order[:, 0]


def lagrangian_v1(costs, sizes, budget):  # from the largest down, the exchange that costs least a byte first
    choice = cheapest_at_v1(costs, sizes, 0.0)
    while sizes[range(len(costs)), choice].sum() > budget:
        ways = [
            ((costs[i, k] - costs[i, choice[i]]) / (sizes[i, choice[i]] - sizes[i, k]), sizes[i, k], i, k)
            for i, k in np.ndindex(costs.shape)
            if sizes[i, k] < sizes[i, choice[i]]
        ]
        _, _, i, k = min(ways)
        choice[i] = k
    return choice


def best_allocation_v1(costs, sizes, budget):
    @functools.cache
    def best(i, left):
        if i == len(costs):
            return 0.0, ()
        ways = [(k, best(i + 1, left - int(sizes[i, k]))) for k in range(costs.shape[1]) if sizes[i, k] <= left]
        return min(((costs[i, k] + rest[0], (k, *rest[1])) for k, rest in ways if rest), default=None)

    found = best(0, min(int(budget), int(sizes.max(axis=1).sum())))
    if found is None:
        raise ValueError("nothing fits")
    return np.array(found[1])


def pareto_front_v1(points):
    rows = sorted(range(len(points)), key=lambda i: (*points[i], i))
    front, least = [], math.inf
    for _, group in itertools.groupby(rows, key=lambda i: tuple(points[i])):
        group = list(group)
        if points[group[0]][1] < least:
            least = points[group[0]][1]
            front += group
    return np.array(front)


def jobs_left_v1(jobs, log, head):
    if log and not log.endswith("\n") and "\n" not in log and not head.startswith(log):
        raise ValueError("another head")
    lines = log.split("\n")[:-1]
    if lines and lines[0] != head:
        raise ValueError("another head")
    done = set()
    for line in lines[1:]:
        found = re.fullmatch(r'\{"job": (.*?), "result": .*\}', line)
        if not found or line.count("{") != line.count("}"):
            raise ValueError("damaged")
        done.add(found[1])
    return np.array([i for i, job in enumerate(jobs) if job not in done and job not in jobs[:i]], int)


# 12


def pack_bits_v1(codes, bits):  # one long number
    length = -(-len(codes) * bits // 8)
    text = "".join(f"{code:0{bits}b}" for code in codes.tolist()).ljust(8 * length, "0")
    return np.frombuffer(int(text or "0", 2).to_bytes(length, "big"), np.uint8)


def pack_bits_v2(codes, bits):
    text = np.unpackbits(codes.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(text.ravel())


def entropy_v1(codes):
    counts = Counter(codes.ravel().tolist())
    return math.log2(codes.size) - sum(n * math.log2(n) for n in counts.values()) / codes.size


def huffman_lengths_v1(counts):  # a tree on a heap, then its depths by recursion
    heap = [(int(n), i, i) for i, n in enumerate(counts) if n]
    heapq.heapify(heap)
    tick, lengths = len(counts), [0] * len(counts)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        tick += 1  # of equal counts the older goes first
        heapq.heappush(heap, (a[0] + b[0], tick, (a[2], b[2])))

    def descend(tree, depth):
        if isinstance(tree, tuple):
            descend(tree[0], depth + 1)
            descend(tree[1], depth + 1)
        else:
            lengths[tree] = max(depth, 1)

    if heap:
        descend(heap[0][2], 0)
    return np.array(lengths)


def canonical_words_v1(lengths):  # RFC 1951
    counts = np.bincount(lengths, minlength=2)
    counts[0] = 0
    code, following = 0, {}
    for bits in range(1, len(counts)):
        code = (code + int(counts[bits - 1])) << 1
        following[bits] = code
    words = []
    for length in lengths.tolist():
        words.append(following[length] if length else -1)
        following[length] = following.get(length, 0) + 1
    return np.array(words, np.int64)


def relative_index_v1(mask, *, bits):  # one after the other
    steps, kept, last = [], [], -1
    for place in np.flatnonzero(mask).tolist():
        fillers, rest = divmod(place - last - 1, 2**bits)
        steps += [2**bits - 1] * fillers + [rest]
        kept += [False] * fillers + [True]
        last = place
    return np.array(steps, np.uint8), np.array(kept, bool)


def sparse_bytes_v1(weight, *, code_bits, step_bits):
    steps, kept = relative_index_v1(weight != 0, bits=step_bits)
    values = {float(v) for v in weight.ravel() if v} | ({0.0} if not kept.all() else set())
    if len(values) > 1 << code_bits:
        raise ValueError("too many values")
    return math.ceil(len(steps) * step_bits / 8), math.ceil(len(steps) * code_bits / 8), 4 * len(values)
