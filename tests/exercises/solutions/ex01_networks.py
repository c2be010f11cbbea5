"""One solution of each exercise of chapter 01, without nnzip: what the planted bugs are planted into."""

import numpy as np


def relu_backward(x, grad_y):
    return grad_y * (x > 0)


def linear_backward(x, weight, grad_y):
    grad_x = grad_y @ weight
    grad_weight = grad_y.T @ x
    grad_bias = grad_y.sum(axis=0)
    return grad_x, grad_weight, grad_bias


def cross_entropy(logits, labels):
    N, rows = len(logits), np.arange(len(logits))
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    gradient = np.exp(log_p)
    gradient[rows, labels] -= 1
    return -log_p[rows, labels].mean(), gradient / N


def numerical_gradient(weight, x, labels, *, epsilon=1e-6):
    weight = weight.astype(np.float64)
    slopes = np.zeros(weight.shape)
    for index in np.ndindex(weight.shape):
        value = weight[index]
        weight[index] = value + epsilon
        above = cross_entropy(x @ weight.T, labels)[0]
        weight[index] = value - epsilon
        below = cross_entropy(x @ weight.T, labels)[0]
        weight[index] = value
        slopes[index] = (above - below) / (2 * epsilon)
    return slopes


def max_pool2d(x, size):
    N, C, H, W = x.shape
    H_out, W_out = H // size, W // size
    windows = x[:, :, : H_out * size, : W_out * size].reshape(N, C, H_out, size, W_out, size)
    return windows.max(axis=(3, 5))


def max_pool2d_backward(x, grad_y, size):
    N, C, H_out, W_out = grad_y.shape
    whole = x[:, :, : H_out * size, : W_out * size]
    windows = whole.reshape(N, C, H_out, size, W_out, size).transpose(0, 1, 2, 4, 3, 5)
    windows = windows.reshape(N, C, H_out, W_out, size * size)
    grad = np.where(np.arange(size * size) == windows.argmax(axis=-1)[..., None], grad_y[..., None], 0)
    grad = grad.reshape(N, C, H_out, W_out, size, size).transpose(0, 1, 2, 4, 3, 5)
    grad_x = np.zeros(x.shape, grad_y.dtype)
    grad_x[:, :, : H_out * size, : W_out * size] = grad.reshape(whole.shape)
    return grad_x


def windows_of(x, k, stride, padding):
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))[:, :, ::stride, ::stride]


def conv2d(x, weight, bias, *, stride=1, padding=0):
    k = weight.shape[-1]
    windows = windows_of(x, k, stride, padding)
    y = np.tensordot(windows, weight, ((1, 4, 5), (1, 2, 3))) + bias
    return y.transpose(0, 3, 1, 2)


def conv2d_backward(x, weight, grad_y, *, stride=1, padding=0):
    (N, C, H, W), k = x.shape, weight.shape[-1]
    windows = windows_of(x, k, stride, padding)
    grad_weight = np.tensordot(grad_y, windows, ((0, 2, 3), (0, 2, 3)))
    grad_bias = grad_y.sum(axis=(0, 2, 3))
    grad_x = np.zeros((N, C, H + 2 * padding, W + 2 * padding), x.dtype)
    H_out, W_out = grad_y.shape[2:]
    for u in range(k):
        for v in range(k):
            part = np.tensordot(grad_y, weight[:, :, u, v], (1, 0)).transpose(0, 3, 1, 2)
            grad_x[:, :, u : u + stride * H_out : stride, v : v + stride * W_out : stride] += part
    return grad_x[:, :, padding : padding + H, padding : padding + W], grad_weight, grad_bias


def sgd_momentum(weight, grad, velocity, rate, momentum):
    velocity = momentum * velocity + grad
    return weight - rate * velocity, velocity


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "numerical_gradient": {"slopes = np.ones(weight.shape)": "every place is filled"},
    "max_pool2d": {"return windows.max(axis=(5, 3))": "the same two axes"},
    "conv2d_backward": {
        "grad_x = np.zeros((N, C, H + 3 * padding, W + 2 * padding), x.dtype)": "what is too much is cut off",
        "grad_x = np.zeros((N, C, H + 2 * padding, W + 3 * padding), x.dtype)": "what is too much is cut off",
    },
}
