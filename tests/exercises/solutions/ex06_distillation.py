"""One solution of each exercise of chapter 06, without nnzip: what the planted bugs are planted into."""

import numpy as np


def softmax(logits, *, temperature=1.0):
    z = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    weights = np.exp(z)
    return weights / weights.sum(axis=-1, keepdims=True)


def log_softmax(logits, *, temperature=1.0):
    z = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def kl_divergence(teacher_logits, student_logits, *, temperature=1.0):
    log_p = log_softmax(teacher_logits, temperature=temperature)
    log_q = log_softmax(student_logits, temperature=temperature)
    p, q = np.exp(log_p), np.exp(log_q)
    value = np.sum(p * (log_p - log_q)) / len(p)
    return value, ((q - p) / (temperature * len(p))).astype(student_logits.dtype)


def distillation_loss(student_logits, teacher_logits, labels, *, temperature=4.0, alpha=0.5):
    N, rows = len(labels), np.arange(len(labels))
    soft, soft_gradient = kl_divergence(teacher_logits, student_logits, temperature=temperature)
    log_q = log_softmax(student_logits)
    hard = -np.mean(log_q[rows, labels])
    hard_gradient = np.exp(log_q)
    hard_gradient[rows, labels] -= 1
    hard_gradient = hard_gradient / N
    loss = alpha * temperature**2 * soft + (1 - alpha) * hard
    return loss, alpha * temperature**2 * soft_gradient + (1 - alpha) * hard_gradient


def hint_loss(student_features, teacher_features):
    difference = (student_features - teacher_features).astype(student_features.dtype)
    return np.sum(difference**2) / (2 * len(difference)), difference / len(difference)


def attention(maps):
    squares = np.sum(maps**2, axis=1)
    norm = np.sqrt(np.sum(squares**2, axis=(1, 2), keepdims=True))
    norm = np.where(norm > 0, norm, 1).astype(maps.dtype)
    return squares / norm, norm


def attention_loss(student_maps, teacher_maps):
    a, norm = attention(student_maps)
    error = (a - attention(teacher_maps)[0]).astype(a.dtype)
    along = np.sum(error * a, axis=(1, 2), keepdims=True) * a
    by_squares = (error - along) / norm / len(a)
    value = np.sum(error**2) / (2 * len(a))
    return value, 2 * student_maps * by_squares[:, None]


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "attention_loss": {
        "along = np.sum(error * a, axis=(2, 1), keepdims=True) * a": "the same two axes",
        "norm = np.sqrt(np.sum(squares ** 2, axis=(2, 1), keepdims=True))": "the same two axes",
        "norm = np.where(norm > 0, norm, 1)": "the gradient is made float32 by the error",
        "norm = np.where(norm > 0, norm, 2).astype(maps.dtype)": "0 divided by anything",
    },
}
