"""One solution of each exercise of chapter 08, without nnzip: what the planted bugs are planted into."""

import numpy as np


def integer_bias(bias, input_scale, weight_scale):
    steps = np.rint(bias / (np.float64(input_scale) * weight_scale))
    return np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32)


def folded_multiplier(input_scale, weight_scale, output_scale):
    return (input_scale * weight_scale) / output_scale


def fold_zero_point(bias, weight, zero_point):
    sums = weight.reshape(len(weight), -1).sum(axis=1)
    return (bias - int(zero_point) * sums).astype(np.int32)


def integer_linear(codes, weight, bias, multiplier, input_zero_point, output_zero_point):
    x = codes.astype(np.int32) - input_zero_point
    acc = x @ weight.T + bias
    steps = np.rint(acc.astype(np.float32) * multiplier) + output_zero_point
    return np.clip(steps, 0, 255).astype(np.uint8)


def integer_relu(codes, zero_point):
    return np.maximum(codes, np.uint8(zero_point))


def integer_max_pool(codes, size):
    N, C, H, W = codes.shape
    rows, columns = H // size, W // size
    inside = codes[:, :, : rows * size, : columns * size]
    return inside.reshape(N, C, rows, size, columns, size).max(axis=(3, 5))


def integer_conv2d(codes, weight, bias, multiplier, input_zero_point, output_zero_point, *, stride=1, padding=0):
    O, C, k, _ = weight.shape
    border = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    x = np.pad(codes.astype(np.int32), border, constant_values=input_zero_point) - input_zero_point
    rows, columns = (x.shape[2] - k) // stride + 1, (x.shape[3] - k) // stride + 1
    acc = np.zeros((len(x), rows, columns, O), np.int32)
    for u in range(k):
        for v in range(k):
            window = x[:, :, u : u + stride * rows : stride, v : v + stride * columns : stride]
            part = window[:, :, :rows, :columns].transpose(0, 2, 3, 1) @ weight[:, :, u, v].T
            acc += part
    acc = acc + bias
    steps = np.rint(acc.astype(np.float32) * multiplier) + output_zero_point
    return np.clip(steps, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "integer_bias": {
        "steps = np.rint(bias * (1 / (np.float64(input_scale) * weight_scale)))": "but for last places",
        "return np.clip(steps, -3 ** 31, 2 ** 31 - 1).astype(np.int32)": "what is below int32 is cast to its end",
        "return np.clip(steps, -2 ** 32, 2 ** 31 - 1).astype(np.int32)": "what is below int32 is cast to its end",
    },
    "integer_max_pool": {
        "return inside.reshape(N, C, rows, size, columns, size).max(axis=(5, 3))": "the same two axes",
    },
}
