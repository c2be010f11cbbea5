"""From codes to bytes and back: packed bits, Huffman's code, rANS, positions of what pruning left (chapter 12).

Whatever is decoded is exact. Of damaged data a decoder raises ValueError or returns wrong codes, as many as were asked
for, in no more time or memory than of good data. What learns as it goes is in `nnzip.adaptive_coding`.
"""

import heapq

import numpy as np

from nnzip.adaptive_coding import as_codes, decode_adaptive, decode_mask, encode_adaptive, encode_mask  # noqa: F401
from nnzip.checks import door, whole


def entropy(codes):  # int [...] -> float
    """Return the entropy of the codes' own frequencies, -sum p log2 p, in bits a symbol (Shannon 1948, section 6).

    >>> entropy([0, 0, 1, 2])
    1.5
    """
    _, counts = np.unique(codes, return_counts=True)
    p = counts / max(counts.sum(), 1)
    return float(abs(np.sum(p * np.log2(p))))


# Packed bits


@door
def pack_bits(codes, bits: whole(1, 8)):  # int [n] -> bytes
    """Write each code in `bits` bits, 1 to 8, one after the other, highest bit first; the last byte is filled with 0.

    >>> pack_bits([1, 2, 3], 4).hex()
    '1230'
    """
    codes = as_codes(codes, 1 << bits)
    return np.packbits(np.unpackbits(codes[:, None], axis=1)[:, 8 - bits :]).tobytes()


@door
def unpack_bits(data, bits: whole(1, 8), count: whole(0)):  # bytes -> uint8 [count]
    """Read `count` codes back that `pack_bits` has written.

    >>> unpack_bits(bytes.fromhex("1230"), 4, 3)
    array([1, 2, 3], dtype=uint8)
    """
    size = (count * bits + 7) // 8
    if len(data) != size:
        raise ValueError(f"{count} codes of {bits} bits take {size} bytes, got {len(data)}")
    ones = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
    return np.packbits(ones, axis=1)[:, 0] >> (8 - bits) if count else np.zeros(0, np.uint8)


# Huffman


def huffman_lengths(counts):  # int [symbols] -> uint8 [symbols]
    """Return how many bits Huffman's code gives each symbol: join the two rarest, again and again.

    Symbols that never occur get 0, a single one gets 1. Source: Huffman 1952, Minimum-redundancy codes.

    >>> huffman_lengths([5, 0, 1, 2]).tolist()
    [1, 0, 2, 2]
    """
    counts = [whole(0)(count, "a count") for count in counts]
    lengths = np.zeros(len(counts), np.uint8 if len(counts) <= 256 else np.uint16)
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts) if count]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, first, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, first, left + right))
    return lengths


def canonical_codes(lengths):  # int [symbols] -> list of str, "" for symbols that never occur
    """Return the code words of given lengths, counted upwards: shorter ones first, of one length by symbol.

    So lengths alone say the whole code. ValueError if no code has them: the sum of 2^-length is at most 1 (Kraft 1949).

    >>> canonical_codes([1, 0, 2, 2])
    ['0', '', '10', '11']
    """
    lengths = [whole(0)(length, "a length") for length in lengths]
    longest = max(lengths, default=0)
    if sum(1 << (longest - length) for length in lengths if length) > 1 << longest:
        raise ValueError(f"no code has words of these lengths: {lengths}")
    words, code, last = [""] * len(lengths), -1, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code = (code + 1) << (length - last)
        words[symbol], last = f"{code:0{length}b}", length
    return words


def huffman_encode(codes):  # int [n] -> uint8 [symbols], bytes
    """Return the lengths of the words, and the codes in them.

    >>> lengths, data = huffman_encode([0, 0, 3, 0, 2])
    >>> lengths.tolist(), data.hex()
    ([1, 0, 2, 2], '34')
    """
    codes = as_codes(codes, 256)
    lengths = huffman_lengths(np.bincount(codes))
    words = canonical_codes(lengths)
    text = "".join([words[code] for code in codes.tolist()])
    return lengths, np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tobytes()


def huffman_decode(lengths, data, count):  # uint8 [symbols], bytes -> uint8 [count]
    """Read bit after bit until a word is complete; ValueError if the data end before `count` symbols."""
    symbol_of = {word: symbol for symbol, word in enumerate(canonical_codes(lengths)) if word}
    codes, word = [], ""
    for bit in np.unpackbits(np.frombuffer(data, np.uint8)).tolist() if count else ():
        word += "01"[bit]
        if word in symbol_of:
            codes.append(symbol_of[word])
            word = ""
        if len(codes) == count or len(word) > 255:
            break
    if len(codes) != count:
        raise ValueError(f"the data hold {len(codes)} symbols, {count} were asked for")
    return np.array(codes, np.uint8)


# rANS

PRECISION = 12  # bits of a stored frequency
TOTAL = 1 << PRECISION
MOST = TOTAL - 16  # the highest frequency: so a byte holds at most 1,420 symbols, and no small file a huge array
LOW = 1 << 16  # a lane's state is at least this, and below 2^32
LANES = 1 << 13


@door
def encode(codes, *, alphabet: whole(2, 256)):  # int [n] in [0, alphabet) -> bytes
    """Code each symbol in about -log2 p bits, p its frequency, which is stored: fast, for large arrays.

    rANS: let f of 2^12 be a symbol's frequency, and c the sum of the frequencies of the symbols below it. Then the
    state x becomes 2^12 (x // f) + x mod f + c, and the decoder goes the same way back. A state that grows beyond 32
    bits gives 16 of them to the data. Each of L states, the lanes, codes every L-th symbol, from the array's end. A
    symbol of the alphabet costs 2 bytes. Duda 2013 (arXiv:1311.2540), section 3; Giesen 2014 (arXiv:1402.3392), lanes.

    >>> codes = np.arange(100_000) % 7 // 3
    >>> len(encode(codes, alphabet=3)), round(entropy(codes) * 100_000 / 8)
    (18430, 18110)
    """
    codes = as_codes(codes, alphabet)
    if codes.size == 0:
        return b""
    freq = _frequencies(np.bincount(codes, minlength=alphabet))
    sizes, below = freq.astype(np.uint32), (np.cumsum(freq) - freq).astype(np.uint32)
    limit = (freq << (32 - PRECISION)).astype(np.uint32)
    state, words = np.full(_lanes(codes.size), LOW, np.uint32), []
    for start in range((codes.size - 1) // len(state) * len(state), -1, -len(state)):
        row = codes[start : start + len(state)].astype(np.intp)  # NumPy's own type for places is looked up fastest
        x, f = state[: len(row)], sizes[row]
        over = np.flatnonzero(x >= limit[row])
        words.append(x[over].astype("<u2"))  # the lower 16 bits
        x[over] >>= 16
        x += (TOTAL - f) * (x // f) + below[row]  # 2^12 q + x - f q + c
    parts = [freq.astype("<u2"), state.astype("<u4"), *words[::-1]]
    return b"".join(part.tobytes() for part in parts)


@door
def decode(data, count: whole(0), *, alphabet: whole(2, 256)):  # bytes -> uint8 [count]
    """Return the codes that `encode` was given; ValueError if it never returns these data for so many codes."""
    lanes = _lanes(count)
    start = 2 * alphabet + 4 * lanes if count else 0  # of the words; nothing at all is stored of no codes
    if count > capacity(len(data)) or (len(data) - start) % 2 or len(data) < start or (data and not count):
        raise ValueError(f"{len(data)} bytes cannot be {count} codes of an alphabet of {alphabet}")
    codes = np.empty(count, np.uint8)
    if count == 0:
        return codes
    freq = np.frombuffer(data, "<u2", alphabet).astype(np.int64)
    if freq.sum() != TOTAL or freq.max() > MOST:
        raise ValueError("the stored frequencies are damaged")
    symbol = np.repeat(np.arange(alphabet, dtype=np.uint8), freq)  # of each of the 2^12 slots
    factor = freq[symbol].astype(np.uint32)
    offset = (np.arange(TOTAL) - (np.cumsum(freq) - freq)[symbol]).astype(np.uint32)
    state = np.frombuffer(data, "<u4", lanes, 2 * alphabet).astype(np.uint32)
    words, used = np.frombuffer(data, "<u2", offset=start), 0
    for begin in range(0, count, lanes):
        x = state[: count - begin]
        slot = (x & (TOTAL - 1)).astype(np.intp)
        np.take(symbol, slot, out=codes[begin : begin + lanes])
        x[:] = factor[slot] * (x >> PRECISION) + offset[slot]
        under = np.flatnonzero(x < LOW)
        new = words[used : used + len(under)]
        if len(new) < len(under):
            raise ValueError("the data end too early")
        x[under] = x[under] << 16 | new
        used += len(under)
    if used != len(words) or np.any(state != LOW):
        raise ValueError("the data do not end where the codes do")
    return codes


def capacity(size):
    """Return how many symbols `size` bytes of `encode` hold at most: none costs less than log2(4096 / 4080) bits."""
    return 1420 * size


def _lanes(count):  # 4 bytes each, so not too many; and many make each step of NumPy worth its call
    return min(LANES, 1 + count // 1024)


def _frequencies(counts):  # int [alphabet] -> int64 [alphabet] of the sum 2^12
    """Return frequencies in proportion to the counts, none that occurs below 1 and none above MOST."""
    freq = np.minimum(np.maximum(counts * TOTAL // counts.sum(), counts > 0), MOST)
    while left := TOTAL - freq.sum():
        largest = np.argmax(freq if left < 0 else np.where(freq < MOST, freq, -1))  # which changes least
        freq[largest] = np.clip(freq[largest] + left, freq[largest] - freq[largest] // 2, MOST)
    return freq


# Positions by steps


@door
def relative_index(mask, *, bits: whole(1, 8)):  # bool [...] -> uint8 [steps], bool [steps]
    """Return how many zeros each kept weight has before it, at most 2^bits - 1; longer runs take fillers.

    A filler is a zero that is stored as if it were kept. Returned are the steps, of `bits` bits each, and which of them
    are weights. Source: Han et al. 2016, Deep Compression (arXiv:1510.00149), section 2 and figure 2.

    >>> mask = np.zeros(16, bool)
    >>> mask[[1, 4, 15]] = True
    >>> steps, kept = relative_index(mask, bits=3)
    >>> steps.tolist(), kept.tolist()
    ([1, 2, 7, 2], [True, True, False, True])
    """
    span = 1 << bits
    gaps = np.diff(np.flatnonzero(mask), prepend=-1) - 1
    ends = np.cumsum(gaps // span + 1) - 1  # the place of each weight among the steps
    kept = np.zeros(ends[-1] + 1 if len(ends) else 0, bool)
    kept[ends] = True
    steps = np.full(len(kept), span - 1, np.uint8)
    steps[ends] = gaps % span
    return steps, kept


def mask_from_steps(steps, kept, shape):  # uint8 [steps], bool [steps] -> bool [shape]
    """Return the mask that `relative_index` was given.

    >>> mask_from_steps([1, 2, 7, 2], [True, True, False, True], (16,)).nonzero()[0].tolist()
    [1, 4, 15]
    """
    mask = np.zeros(shape, bool)
    places = np.cumsum(np.asarray(steps, np.int64) + 1)[np.asarray(kept, bool)] - 1
    if len(places) and (places.min() < 0 or places.max() >= mask.size):
        raise ValueError(f"the steps lead to {places}, beyond the {mask.size} weights of shape {mask.shape}")
    mask.flat[places] = True
    return mask
