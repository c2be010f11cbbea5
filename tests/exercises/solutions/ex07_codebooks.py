"""One solution of each exercise of chapter 07, without nnzip: what the planted bugs are planted into."""

import numpy as np


def assign(x, codebook):
    borders = (codebook[:-1] + codebook[1:]) / 2
    return np.searchsorted(borders, x, side="left").astype(np.uint8)


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
    n = len(values)
    if n <= k:
        return np.concatenate([values, np.full(k - n, values[-1])]).astype(np.float32)
    shift = values.mean()
    powers = [counts, counts * (values - shift), counts * (values - shift) ** 2]
    c, s, q = (np.concatenate([[0.0], np.cumsum(p)]) for p in powers)
    errors, starts = np.full(n + 1, np.inf), []
    errors[0] = 0.0
    for _ in range(k):
        row, start = np.full(n + 1, np.inf), np.zeros(n + 1, int)
        for j in range(1, n + 1):
            i = np.arange(j)
            tried = errors[i] + q[j] - q[i] - (s[j] - s[i]) ** 2 / (c[j] - c[i])
            start[j] = tried.argmin()
            row[j] = tried.min()
        errors = row
        starts.append(start)
    j, found = n, []
    for start in reversed(starts):
        i = start[j]
        found.append(shift + (s[j] - s[i]) / (c[j] - c[i]))
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
    sizes = np.abs(w).astype(np.float64)
    rows = sizes.reshape(len(w), -1) if axis == 0 else sizes.reshape(1, -1)
    large = rows >= 0.7 * rows.mean(axis=1, keepdims=True)
    a = np.sum(rows * large, axis=1) / np.sum(large, axis=1)
    books = np.stack([-a, 0 * a, a], axis=1).astype(np.float32)
    return books if axis == 0 else books[0]


def sum_by_cluster(grad, codes, k):
    sums = np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k)
    return sums.astype(grad.dtype)
