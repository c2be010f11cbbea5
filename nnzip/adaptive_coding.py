"""The coder that learns as it goes: positions and values of the few thousand weights of a pruned network (chapter 12).

An arithmetic coder spends -log2 p bits on what was given the probability p. The model that gives p counts what has
been coded so far, and the decoder, which has decoded just that, counts the same: no table is stored. Both run the same
lines: `coder.code(p, bit)` writes the bit, or reads it and ignores what it was given. All arithmetic is in integers, so
that every machine decodes the same: probabilities in 1/2^16, logarithms to base 2 in 1/256.
"""

import math
from itertools import chain, islice, repeat

import numpy as np

from nnzip.checks import door, integers, one_of, whole

ONE = 1 << 16  # the probability 1


class Encoder:
    """Narrow an interval of 32-bit numbers bit by bit; its leading bytes are written as soon as they are known.

    Source: Martin 1979, Range encoding; Rissanen and Langdon 1979 for the carry.

    >>> encoder = Encoder()
    >>> _ = [encoder.code(60_000, bit) for bit in [1] * 100 + [0]]  # 100 times 0.13 bits, and 3.6
    >>> len(encoder.finish())
    2
    """

    def __init__(self):
        self.low, self.range, self.out = 0, 0xFFFFFFFF, []

    def code(self, p, bit):  # p of a 1, in 1/2^16, from 1 to 2^16 - 1
        bound = (self.range >> 16) * p
        if bit:
            self.range = bound
        else:
            self.low += bound
            self.range -= bound
        while self.range < 1 << 24:
            self.out.append(self.low >> 24)  # a digit to base 256, and a carry into the digit before
            self.low, self.range = (self.low & 0xFFFFFF) << 8, self.range << 8
        return bit

    def finish(self):  # -> bytes; zeros at the end are not written, the decoder reads zeros there
        last = self.low + self.range - 1
        value = next(last >> zeros << zeros for zeros in range(32, -1, -1) if last >> zeros << zeros >= self.low)
        digits, carries = bytes(d & 255 for d in self.out), bytes(d >> 8 for d in self.out)
        value += (int.from_bytes(digits) + (int.from_bytes(carries) << 8)) << 32
        return value.to_bytes(len(digits) + 4).rstrip(b"\0")


class Decoder:
    """Read the bits back; beyond the end of the data there are zeros."""

    def __init__(self, data):
        self.rest = chain(data, repeat(0))
        self.range, self.value = 0xFFFFFFFF, int.from_bytes(islice(self.rest, 4))

    def code(self, p, bit=None):
        bound = (self.range >> 16) * p
        bit = int(self.value < bound)
        if bit:
            self.range = bound
        else:
            self.value -= bound
            self.range -= bound
        while self.range < 1 << 24:
            self.value, self.range = self.value << 8 | next(self.rest), self.range << 8
        return bit


# Positions

NEAR = [(0, -1, 1), (-1, 0, 2), (-1, -1, 4), (-1, 1, 8)]  # (down, right, what it adds to the pattern of the place)
FAR = [(0, -2, 16), (-2, 0, 16), (-2, -1, 16), (-2, 1, 16), (-1, -2, 16), (-1, 2, 16)]
PATTERNS = 16 + 16 * len(FAR)


def encode_mask(mask):  # bool [out, ...] -> bytes
    """Code which weights are kept, in far fewer bits than independent positions would take.

    A mask of four dimensions (out, in, H, W) has neighbours, the places of a filter, or of an image that a Linear
    reads. Also tried are inputs and outputs exchanged and, for a small one, a matrix without neighbours; the first byte
    says which was the shortest.

    >>> mask = np.zeros((100, 20), bool)
    >>> mask[::2, 3:5] = True
    >>> data = encode_mask(mask)
    >>> len(data), bool(np.all(decode_mask(data, (100, 20)) == mask))
    (33, True)
    """
    mask, coded = np.asarray(mask, bool), []
    if not mask.any():
        return b""
    for way, (shape, axes) in _ways(mask.shape).items():
        encoder, bits = Encoder(), mask.reshape(shape).transpose(axes)
        MaskModel(*bits.shape[2:]).run(encoder, bits)
        coded.append(bytes([way]) + encoder.finish())
    return min(coded, key=len)


def decode_mask(data, shape):  # bytes -> bool [shape]
    """Return the mask that `encode_mask` was given; ValueError for a first byte that it never writes."""
    mask = np.zeros(shape, bool)
    if not data or mask.size == 0:
        return mask
    ways = _ways(shape)
    arranged, axes = ways[one_of(*ways)(data[0], "the first byte of a mask")]
    bits = mask.reshape(arranged).transpose(axes)
    return MaskModel(*bits.shape[2:]).run(Decoder(data[1:]), bits).transpose(axes).reshape(shape)


def _ways(shape):  # -> {number: (shape (O, C, H, W), the order of its axes)}
    O, C, *places = shape if len(shape) > 1 else (1, *shape, 1)[:2]
    H, W = places if len(places) == 2 else (1, math.prod(places))
    ways = {}
    if O <= 1000 or C * H * W >= 32:  # a row takes as long as 150 places: many short ones would take most of the time
        ways[0] = (O, C, H, W), (0, 1, 2, 3)
    if (C > 1 or not ways) and (C <= 1000 or O * H * W >= 32):
        ways[1] = (O, C, H, W), (1, 0, 2, 3)
    if H * W > 1 and math.prod(shape) <= 4096:
        ways[2] = (O, C * H * W, 1, 1), (0, 1, 2, 3)
    return ways


class MaskModel:
    """The probability that a weight is kept, from four sides:

        log odds = w0 column + w1 all + w2 log2 (row) + w3 log2 (pattern)

    column: how often its input was kept by the outputs before, and the neighbours of that input, and everything;
    all: how often anything was; row: how many this output has kept so far, over how many were expected; pattern: the
    same for all places that have the same of their ten neighbours kept. The w are learned by gradient descent on the
    bits that are spent (Mahoney 2005, Adaptive weighing of context models).
    """

    def __init__(self, H, W):
        self.weights = [3 << 30, 5 << 28, 1 << 32, 1 << 32]  # in 1/2^32: 0.75, 0.31, 1, 1
        self.kept = [2 << 16] * PATTERNS  # how many were kept in each pattern, in 1/2^16 as all that is summed up
        self.expected = [2 << 16] * PATTERNS
        self.followers = _followers(H, W)

    def run(self, coder, mask):  # bool [O, C, H, W] -> the same, or what the decoder reads
        """Code row after row."""
        bits = np.zeros(mask.shape, bool)
        counts = np.zeros(mask.shape[1:], np.int64)
        for o, row in enumerate(mask):
            total = ((1 + int(counts.sum())) << 24) // (2 + o * counts.size)
            near = ((_around(counts) << 24) + 8 * total) // (o * _around(np.ones_like(counts[:1])) + 8)
            rate = np.clip(((counts << 24) + 8 * near) // (o + 8), 1, (1 << 24) - 1)
            columns = (_log2_array(rate) - _log2_array((1 << 24) - rate)).ravel().tolist()
            places = self._row(coder, row.ravel().tolist(), columns, log2(total) - log2((1 << 24) - total))
            bits[o].reshape(-1)[places] = True
            counts += bits[o]
        return bits

    def _row(self, coder, row, columns, average):
        """Code one row, place by place, and return the places that are kept."""
        code, followers = coder.code, self.followers
        w0, w1, w2, w3 = self.weights
        ratios = [log2(k) - log2(e) for k, e in zip(self.kept, self.expected, strict=True)]
        patterns, places = [0] * len(columns), []
        kept = expected = ONE
        log2_kept = log2(kept)
        for j, column in enumerate(columns):
            pattern = patterns[j]
            of_row, of_pattern = log2_kept - log2(expected), ratios[pattern]
            odds = (w0 * column + w1 * average + w2 * of_row + w3 * of_pattern) >> 32
            p = SQUASH[REACH + max(-REACH, min(REACH, odds))]
            bit = code(p, row[j])
            error = ONE - p if bit else -p
            w0, w1 = w0 + error * column, w1 + error * average
            w2, w3 = w2 + error * of_row, w3 + error * of_pattern
            expected += p * expected // kept  # what is expected without the row's own part in p
            self.expected[pattern] += p * self.expected[pattern] // self.kept[pattern]
            if bit:
                places.append(j)
                kept += ONE
                log2_kept = log2(kept)
                self.kept[pattern] += ONE
                for step, adds in followers[j % len(followers)]:
                    patterns[j + step] += adds
        self.weights = [w0, w1, w2, w3]
        return places


def _followers(H, W):  # -> for each place of [H, W], what it adds to the patterns of those that come after it
    return [
        [(-down * W - across, adds) for down, across, adds in NEAR + FAR if y - down < H and 0 <= x - across < W]
        for y in range(H)
        for x in range(W)
    ]


def _around(counts):  # int [C, H, W] -> the sum of each place's eight neighbours
    C, H, W = counts.shape
    padded = np.pad(counts, ((0, 0), (1, 1), (1, 1)))
    return sum(padded[:, i : i + H, j : j + W] for i in range(3) for j in range(3)) - counts


# Values


# int [n] in [0, alphabet), bool [out, ...] with n kept -> bytes
@door
def encode_adaptive(codes, *, alphabet: whole(1, 256), mask=None, middle=None):
    """Code each symbol by the counts so far, as decisions between halves of what is left of the alphabet.

    With a mask, which the decoder must know, the codes belong to its kept places, in their order. The first decision,
    for a sorted codebook the sign, then looks at those of its neighbours, or of the last one in its row: weights side
    by side have one sign more often than not. It divides at `middle`, 1 to alphabet - 1: the number of negative values,
    or halfway without it.

    >>> codes = [0, 1] * 4000 + [2]
    >>> data = encode_adaptive(codes, alphabet=3)
    >>> len(data), bool(np.all(decode_adaptive(data, len(codes), alphabet=3) == codes))
    (1004, True)
    """
    encoder = Encoder()
    _run_values(encoder, as_codes(codes, alphabet).tolist(), alphabet, mask, middle)
    return encoder.finish()


@door
def decode_adaptive(data, count, *, alphabet: whole(1, 256), mask=None, middle=None):  # bytes -> uint8 [count]
    """Return the codes that `encode_adaptive` was given; other data give other codes."""
    return np.array(_run_values(Decoder(data), [0] * count, alphabet, mask, middle), np.uint8)


def _run_values(coder, codes, alphabet, mask, middle):
    """Code the symbols; return them, or what the decoder reads."""
    mask = np.ones((len(codes), 1)) if mask is None else mask  # then each has a row for itself
    near, before = _neighbours(np.asarray(mask, bool), len(codes))
    middle = (alphabet + 1) // 2 if middle is None else whole(1, max(1, alphabet - 1))(middle, "middle")
    nodes, out, upper = {}, [], [0] * (len(codes) + 1)  # upper: 1 or -1 for each code so far, and 0 for place -1
    for i, symbol in enumerate(codes):
        context = max(-2, min(2, sum(upper[j] for j in near[i]))) or 4 * upper[before[i]]
        low, high = 0, alphabet
        while high - low > 1:
            split = middle if high - low == alphabet else (low + high + 1) // 2
            node = nodes.setdefault((low, high, context), [1, 2])  # ones and all, both doubled, from 1/2 on
            bit = coder.code(max(1, (node[0] << 16) // node[1]), symbol >= split)
            node[0] += 2 * bit
            node[1] += 2
            low, high = (split, high) if bit else (low, split)
            context = 0
        upper[i] = 1 if low >= middle else -1
        out.append(low)
    return out


def _neighbours(mask, count):
    """Return for each kept place those of NEAR that are kept too, and the one before in its row; -1 for none."""
    O, C, H, W = next(iter(_ways(mask.shape).values()))[0]
    kept = mask.reshape(O, C, H, W)
    number = np.full((O, C, H + 1, W + 2), -1)
    number[:, :, 1:, 1:-1][kept] = np.arange(count)
    o, c, y, x = np.nonzero(kept)
    near = [number[o, c, y + 1 + down, x + 1 + right] for down, right, _ in NEAR]
    last = np.arange(count) - 1
    last[np.diff(o, prepend=-1) != 0] = -1
    return np.stack(near, axis=1).tolist(), last.tolist()


# Integers


def log2(n):
    """Return 256 log2 of the leading 12 bits of n, rounded down."""
    length = n.bit_length()
    return (length << 8) + LOG2[n << 12 >> length]


def _log2_array(x):  # int64 [...] below 2^53 -> int64 [...], as log2
    fraction, length = np.frexp(x)  # exact
    return (length.astype(np.int64) << 8) + LOG2_ARRAY[(fraction * 4096).astype(np.int64)]


# 256 log2(m / 2^12), rounded down: m^256 has as many bits as 256 log2(m) says
LOG2 = [0] * 2048 + [(m**256).bit_length() - 1 - 256 * 12 for m in range(2048, 4096)]
LOG2_ARRAY = np.array(LOG2)
REACH = 16 * 256  # log odds up to 16 bits: the least probability is 2^-16
# 2^16 / (1 + 2^-(x / 256)), neither 0 nor 2^16; none is within 1e-5 of a whole number, so every machine rounds alike
SQUASH = [min(max(int(ONE / (1 + 2 ** (-x / 256))), 1), ONE - 1) for x in range(-REACH, REACH + 1)]


def as_codes(codes, alphabet):
    """Return codes as flat uint8, none of them where there are none; they must be integers in [0, alphabet)."""
    codes = np.asarray(codes)
    return (integers(codes, "codes", 0, alphabet - 1) if codes.size else codes).astype(np.uint8).ravel()
