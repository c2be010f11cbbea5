"""One solution of each exercise of chapter 07, without nnzip: what the planted bugs are planted into."""

import numpy as np


def assign(x, codebook):
    borders = (codebook[:-1] + codebook[1:]) / 2
    return np.searchsorted(borders, x).astype(np.uint8)


def lloyd(x, start, *, iterations):
    x = np.sort(x)
    sums = np.concatenate([[0.0], np.cumsum(x, dtype=np.float64)])
    values = start.astype(np.float64)
    for _ in range(iterations):
        borders = (values[:-1] + values[1:]) / 2
        ends = np.concatenate([[0], np.searchsorted(x, borders, side="right"), [len(x)]])
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        values = np.where(counts > 0, means, values)
    return values


def optimal_codebook(x, k):
    values, counts = np.unique(x.astype(np.float64), return_counts=True)
    n, middle = len(values), values.mean()
    if n <= k:
        return np.concatenate([values, np.full(k - n, values[-1])]).astype(np.float32)
    count = np.append(0, np.cumsum(counts))
    total = np.append(0, np.cumsum(counts * (values - middle)))
    gains, starts = [0] + [-np.inf] * n, []  # of the first j values in so many groups: the sum of total^2 / count
    for _ in range(k):
        tried = [
            [gains[i] + (total[j] - total[i]) ** 2 / (count[j] - count[i]) for i in range(j)] for j in range(1, n + 1)
        ]
        starts.append([None] + [int(np.argmax(row)) for row in tried])
        gains = [-np.inf] + [max(row) for row in tried]
    j, found = n, []
    for start in starts[::-1]:
        i = start[j]
        found.append(middle + (total[j] - total[i]) / (count[j] - count[i]))
        j = i
    return np.array(found[::-1], np.float32)


def power_of_two_codebook(x, *, bits):
    largest = float(np.max(np.abs(x))) or 1.0
    top = np.floor(np.log2(largest))
    if largest >= 1.5 * 2**top:
        top += 1
    powers = 2.0 ** (top - np.arange(2 ** (bits - 1) - 1))
    return np.concatenate([-powers, [0.0], powers[::-1]]).astype(np.float32)


def ternary(w, *, axis=None):
    sizes = np.abs(w.astype(np.float64))
    rows = sizes.reshape(len(w), -1) if axis == 0 else sizes.reshape(1, -1)
    large = rows >= 0.7 * rows.mean(axis=1, keepdims=True)
    a = np.sum(rows * large, axis=1) / np.sum(large, axis=1)
    books = np.stack([-a, 0 * a, a], axis=1).astype(np.float32)
    return books if axis == 0 else books[0]


def sum_by_cluster(grad, codes, k):
    sums = np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k)
    return sums.astype(grad.dtype)


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "lloyd": {
        "values = start": "it is not changed in place",
        "means = np.diff(sums[ends]) / np.maximum(counts, 0)": "0 / 0 is not used",
    },
    "optimal_codebook": {
        "values, counts = np.unique(x, return_counts=True)": "but for last places",
        "values, counts = np.unique(x.astype(np.float32), return_counts=True)": "but for last places",
        "n, middle = (len(values), values.sum())": "any middle will do, but for last places",
        "if n < k:": "n groups of n values are found too",
        "gains, starts = ([1] + [-np.inf] * n, [])": "all gains grow alike",
        "gains, starts = ([-1] + [-np.inf] * n, [])": "all gains fall alike",
    },
    "ternary": {
        "sizes = np.abs(w)": "but for last places",
        "sizes = np.abs(w.astype(np.float32))": "but for last places",
        "return books if axis == 0 else books[-1]": "there is one",
    },
}
