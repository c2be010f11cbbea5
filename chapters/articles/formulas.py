"""The formulas and the code of the articles, literally, each under a name of our own: a3_4_2_width is A3 4.2's.

Many are wrong, on purpose: `articles.findings` says what each gives, and where the book has it right. A few run what
is only said in words.
"""

import math

import numpy as np

from nnzip.hadamard import hadamard_transform


def a0_3_1_reordered(x, w1, w2):  # outputs, and those with the hidden neurons in reverse
    return tuple(
        np.maximum(x @ w1[order].T, 0) @ w2[:, order].T
        for order in (slice(None), slice(None, None, -1))
    )


def a0_3_2_2_hadamard(w):  # numbers that are not 0: W, W H, three diagonals in W's place
    return np.count_nonzero(w), np.count_nonzero(hadamard_transform(w)), 3 * len(w)


def a0_4_1(theta, q, r):
    return np.round(theta / q) * r


def a0_4_2(theta, a, q, r):
    return a + np.round((theta - a) / q) * r


def a0_5_2_input(images, weight):  # Keras' Dense is x @ weight, with weight [in, out]
    return np.asarray(images) @ np.asarray(weight)


def a0_5_2_sparsity(step):  # linear, 10 % at step 1,000, 30 % at step 10,000
    return 0.1 + (0.3 - 0.1) * (step - 1000) / (10_000 - 1000)


def a0_8_2_update(weight, change):  # in float16 alone, without a float32 master weight
    return float(np.float16(weight) - np.float16(change))


def a1_2_bytes(count):  # of float32 weights, and of their int8 codes
    return np.zeros(count, np.float32).nbytes, np.zeros(count, np.int8).nbytes


def a1_4_1(w, b):
    return np.round(np.asarray(w) / 2**b) * 2**b


def a1_4_2(w, w_q):
    return w - w_q


def a2_2_2_sureness(means, spreads):  # of each weight, seen often: the smallest goes first
    return np.abs(means) / spreads


def a2_3_1(x, lowest, span, maxrange, minrange):  # span: the article's "range"
    return np.floor((np.asarray(x) - lowest) / span * maxrange + minrange)


def a2_3_2(x, threshold):
    return np.where(np.abs(x) > threshold, x, 0)


def a2_4_1_clamp(parameters):  # repaired: the minimum over all arrays, the arrays whole
    lowest = min(np.min(w) for w in parameters.values())
    return {name: np.clip(w - lowest, 0, 255) for name, w in parameters.items()}


def a2_4_2_small_spread(parameters, threshold=0.01):  # torch's std divides by n - 1
    return {name: w * (np.std(w, ddof=1) >= threshold) for name, w in parameters.items()}


def a3_4_1_smaller(w, theta):  # what is kept, a row less; without | |, as printed: fails too
    w = np.asarray(w)
    return w[np.abs(w) > theta].reshape(len(w) - 1, -1)


def a3_4_1_levels(a, b, w):
    return a + (b - a) / (2**w - 1) * np.arange(2**w)


def a3_4_2_threshold(n):  # the two sides of its equation
    return sum(1 / i for i in range(1, n + 1)) / n, math.log(n) / n


def a3_4_2_prune(w, theta):  # sign(W >= theta), where sign(x) is 1 for x >= 0, else 0
    condition = np.asarray(w) >= theta
    return np.asarray(w) * np.where(condition.astype(int) >= 0, 1, 0)


def a3_4_2_width(a, b):
    return math.ceil(math.log2((b - a) / (b - a + 1)))


def a3_4_2_quantize(w, a, b, bits):
    return np.round((np.asarray(w) - a) / (b - a) * (2**bits - 1))


def a3_4_3_sort(w):
    return np.sort(np.ravel(w))


def a3_4_3_prune(w, theta):  # the other way to read 4.2: W where W >= theta
    return np.asarray(w) * (np.asarray(w) >= theta)


def a3_5_2_prune(w, theta):
    flat, kept = np.ravel(w), np.array(w)
    order = np.argsort(flat)
    kept[order[int(theta * len(flat)) :], :] = 0
    return kept


def a3_5_2_quantize(w, bits):
    w = np.asarray(w)
    low, high = w.min(), w.max()
    return np.round((w - low) / (high - low) * (2**bits - 1)) * (high - low) + low


def a4_3_1(x, b):  # weights in 3.1.1, activations in 3.1.2, the loss in 3.1.3
    return math.floor(x * 2**b + 0.5)


def a4_3_1_slope(loss, b, h=1e-6):  # of the quantized loss, by a central difference
    return (a4_3_1(loss + h, b) - a4_3_1(loss - h, b)) / (2 * h)


def a4_4_1(values):  # -> normalized, codes, values again
    normalized = [x / max(values) for x in values]
    codes = [np.floor(x * 2**8 + 0.5) for x in normalized]
    return normalized, codes, [code / 2**8 for code in codes]


def a4_4_2_parameters(state):  # what the optimizer is given: a dict of arrays, not a model
    return state.parameters()
