"""One solution of each exercise of chapter 12, without nnzip: what the planted bugs are planted into."""

import numpy as np


def pack_bits(codes, bits):
    ones = (codes[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones)


def entropy(codes):
    _, counts = np.unique(codes, return_counts=True)
    p = counts / counts.sum()
    return float(np.sum(p * -np.log2(p)))


def huffman_lengths(counts):
    lengths = np.zeros(len(counts), int)
    groups = [(count, [symbol]) for symbol, count in enumerate(counts) if count > 0]
    if len(groups) == 1:
        lengths[groups[0][1]] = 1
    while len(groups) > 1:
        groups.sort()
        (a, left), (b, right) = groups[:2]
        lengths[left + right] += 1
        groups = [*groups[2:], (a + b, left + right)]
    return lengths


def canonical_words(lengths):
    words = np.full(len(lengths), -1, np.int64)
    word, last = -1, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        word = (word + 1) << (length - last)
        words[symbol], last = word, length
    return words


def relative_index(mask, *, bits):
    span = 2**bits
    places = np.flatnonzero(mask)
    gaps = np.diff(places, prepend=-1) - 1
    fillers = gaps // span
    ends = np.cumsum(fillers + 1) - 1
    total = int(ends[-1]) + 1 if len(ends) else 0
    steps, kept = np.full(total, span - 1, np.uint8), np.zeros(total, bool)
    steps[ends], kept[ends] = gaps % span, True
    return steps, kept


def sparse_bytes(weight, *, code_bits, step_bits):
    span = 2**step_bits
    gaps = np.diff(np.flatnonzero(weight), prepend=-1) - 1
    fillers = int(np.sum(gaps // span))
    count = len(gaps) + fillers
    values = len(np.unique(weight[weight != 0])) + (fillers > 0)
    if values > 2**code_bits:
        raise ValueError(f"{values} values in {code_bits} bits")
    return (count * step_bits + 7) // 8, (count * code_bits + 7) // 8, 4 * values


RIGHT = {  # changes by rule (tests/mutants.py) after which a function is still right: {function: {statement: why}}
    "huffman_lengths": {"lengths[groups[-1][1]] = 1": "there is one group"},
    "canonical_words": {
        "word, last = (-1, 1)": "the first word is 0, with as many zeros as it is long",
        "word, last = (-1, -1)": "the first word is 0, with as many zeros as it is long",
    },
}
