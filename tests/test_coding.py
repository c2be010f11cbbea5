"""Codes to bytes and back: exact for every input, as short as theory allows, and unmoved by damaged data."""

import itertools
import math

import numpy as np
import pytest

from nnzip import adaptive_coding
from nnzip.adaptive_coding import Decoder, Encoder, _ways
from nnzip.coding import (
    canonical_codes,
    capacity,
    decode,
    decode_adaptive,
    decode_mask,
    encode,
    encode_adaptive,
    encode_mask,
    entropy,
    huffman_decode,
    huffman_encode,
    huffman_lengths,
    mask_from_steps,
    pack_bits,
    relative_index,
    unpack_bits,
)


def skewed(count, alphabet, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(alphabet, 0.5))
    return rng.choice(alphabet, count, p=p).astype(np.uint8)


def ideal_bytes(codes):
    """Count bits from the frequencies alone, without the code under test."""
    counts = [int(np.sum(codes == symbol)) for symbol in set(codes.tolist())]
    return sum(-count * math.log2(count / len(codes)) for count in counts) / 8


CASES = {
    "empty": (np.zeros(0, np.uint8), 3),
    "one symbol": (np.array([2]), 3),
    "all equal": (np.full(10_000, 1), 2),
    "all equal, the last": (np.full(3000, 255), 256),
    "two": (skewed(5000, 2), 2),
    "a rare one": (np.array([0] * 9999 + [4]), 5),
    "sixteen": (skewed(2049, 16), 16),
    "bytes": (skewed(20_000, 256), 256),
    "2^20": (skewed(1 << 20, 7), 7),
}


# Packed bits, entropy


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_packed_bits_are_the_binary_digits_one_after_the_other(bits, count):
    codes = np.random.default_rng(bits).integers(0, 2**bits, count)
    text = "".join(f"{code:0{bits}b}" for code in codes)
    data = pack_bits(codes, bits)
    assert data == int(text.ljust(8 * len(data), "0") or "0", 2).to_bytes((len(text) + 7) // 8)
    np.testing.assert_array_equal(unpack_bits(data, bits, count), codes)


def test_packed_bits_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="codes must be from 0 to 3, got 0 to 4"):
        pack_bits([0, 4], 2)
    with pytest.raises(ValueError, match="3 codes of 4 bits take 2 bytes, got 1"):
        unpack_bits(b"a", 4, 3)


# Huffman


@pytest.mark.parametrize(("codes", "alphabet"), [case for name, case in CASES.items() if name != "2^20"])
def test_huffman_comes_back(codes, alphabet):
    lengths, data = huffman_encode(codes)
    np.testing.assert_array_equal(huffman_decode(lengths, data, len(codes)), codes)
    assert len(data) <= ideal_bytes(codes) + len(codes) / 8 + 1  # less than a bit too many for each


def test_huffmans_longest_word_is_as_long_as_it_has_to_be():
    counts = [1, 1]
    while len(counts) < 300:
        counts.append(sum(counts[-2:]))  # Fibonacci's numbers: each symbol joins all before it
    lengths = huffman_lengths(counts)
    assert lengths.tolist() == [299, *range(299, 0, -1)]
    words = canonical_codes(lengths)
    assert len(words[0]) == 299 and len(set(words)) == 300


def test_huffman_refuses_what_no_code_has():
    with pytest.raises(ValueError, match=r"no code has words of these lengths: \[1, 1, 1\]"):
        huffman_decode([1, 1, 1], b"a", 3)
    lengths, data = huffman_encode([0, 1, 2, 0, 1])
    with pytest.raises(ValueError, match="the data hold 0 symbols, 5 were asked for"):
        huffman_decode(lengths, b"", 5)
    with pytest.raises(ValueError, match="9 were asked for"):
        huffman_decode(lengths, data[:1], 9)


# rANS


def decode_one_lane(data, count, alphabet):
    """Read the data of a single lane symbol by symbol, as Duda's formula says it, in Python's integers."""
    freq = np.frombuffer(data, "<u2", alphabet).astype(int)
    below = np.cumsum(freq) - freq
    state = int.from_bytes(data[2 * alphabet : 2 * alphabet + 4], "little")
    words, codes = list(np.frombuffer(data, "<u2", offset=2 * alphabet + 4)), []
    for _ in range(count):
        slot = state % 4096
        symbol = next(s for s in range(alphabet) if below[s] <= slot < below[s] + freq[s])
        state = int(freq[symbol]) * (state // 4096) + slot - int(below[symbol])
        if state < 65536:
            state = state * 65536 + int(words.pop(0))
        codes.append(symbol)
    return codes


def test_a_single_lane_is_what_the_formula_says():
    codes = skewed(1000, 6)
    assert decode_one_lane(encode(codes, alphabet=6), 1000, 6) == codes.tolist()


@pytest.mark.parametrize("name", CASES)
def test_rans_comes_back_and_is_near_the_entropy(name):
    codes, alphabet = CASES[name]
    data = encode(codes, alphabet=alphabet)
    back = decode(data, len(codes), alphabet=alphabet)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, codes)
    lanes = 4 + 4 * (len(codes) // 1024)
    floor = len(codes) * math.log2(4096 / 4080) / 8  # what no symbol is cheaper than
    assert len(data) <= 2 * alphabet + lanes + 1.02 * max(ideal_bytes(codes), floor) + 8


def test_no_data_hold_more_than_the_capacity():
    codes = np.zeros(1 << 20, np.uint8)
    data = encode(codes, alphabet=2)
    assert np.frombuffer(data, "<u2", 2).max() == 4080  # else a byte could hold more
    assert len(codes) <= capacity(len(data))
    with pytest.raises(ValueError, match="4 bytes cannot be 1000000000000 codes of an alphabet of 2"):
        decode(bytes(4), 10**12, alphabet=2)


def test_damaged_rans_is_refused_or_gives_as_many_codes():
    codes = skewed(5000, 5)
    data = encode(codes, alphabet=5)
    refused = 0
    places = range(0, len(data), 47)
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        try:
            assert decode(bytes(damaged), 5000, alphabet=5).shape == (5000,)
        except ValueError:
            refused += 1
    assert refused > 0.98 * len(places)  # every lane must end where it began
    for end in range(0, len(data), 401):
        with pytest.raises(ValueError):
            decode(data[:end], 5000, alphabet=5)


# Steps


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
@pytest.mark.parametrize("density", [0.0, 0.01, 0.3, 1.0])
def test_relative_index_comes_back(bits, density):
    mask = np.random.default_rng(0).random((30, 100)) < density
    steps, kept = relative_index(mask, bits=bits)
    assert steps.max(initial=0) < 2**bits and kept.sum() == mask.sum()
    np.testing.assert_array_equal(mask_from_steps(steps, kept, mask.shape), mask)


def test_steps_beyond_the_weights_are_refused():
    with pytest.raises(ValueError, match="beyond the 1 weights"):
        mask_from_steps([3], [True], (1,))
    with pytest.raises(ValueError, match="beyond the 9 weights"):
        mask_from_steps([-1], [True], (9,))


# The coder that learns


@pytest.mark.parametrize("seed", range(8))
def test_the_arithmetic_coder_spends_what_the_probabilities_say(seed):
    rng = np.random.default_rng(seed)
    p = rng.choice([1, 2, 300, 20_000, 65_000, 65_535], 3000)
    bits = (rng.random(3000) * 65536 < p).astype(int).tolist()
    encoder = Encoder()
    for chance, bit in zip(p.tolist(), bits, strict=True):
        encoder.code(chance, bit)
    data = encoder.finish()
    spent = sum(-math.log2(c / 65536 if bit else 1 - c / 65536) for c, bit in zip(p.tolist(), bits, strict=True)) / 8
    assert len(data) <= 1.01 * spent + 2
    decoder = Decoder(data)
    assert [decoder.code(chance) for chance in p.tolist()] == bits


def test_a_carry_runs_through_bytes_of_255():
    encoder = Encoder()
    encoder.out, encoder.low = [7, 255, 255], 1 << 32
    assert encoder.finish() == bytes([8])  # and zeros, which are not written


def test_tables_are_what_their_names_say():
    for n in [*range(1, 300), 4095, 4096, 10**6 + 7, 1 << 47]:
        assert -1.6 < adaptive_coding.log2(n) - 256 * math.log2(n) <= 0.01
    for i, p in enumerate(adaptive_coding.SQUASH):
        exact = 65536 / (1 + 2 ** (-(i - adaptive_coding.REACH) / 256))
        assert 0 <= min(max(exact, 1), 65535) - p < 1
        assert abs(exact - round(exact)) > 1e-5 or exact == 32768  # every machine rounds it to the same integer
    values = np.array([1, 2, 3, 1000, (1 << 24) - 1, 1 << 40])
    assert adaptive_coding._log2_array(values).tolist() == [adaptive_coding.log2(int(v)) for v in values]


MASKS = {
    "empty": np.zeros((0, 4), bool),
    "the last": np.arange(60).reshape(4, 15) == 59,
    "filters": np.random.default_rng(2).random((6, 4, 5, 5)) < 0.3,
    "images": np.random.default_rng(3).random((9, 1, 12, 13)) < 0.1,
    "five axes": np.random.default_rng(4).random((3, 2, 3, 2, 3)) < 0.5,
}


def test_masks_of_every_shape_come_back():
    rng = np.random.default_rng(0)
    shapes = [shape for axes in range(6) for shape in itertools.product((0, 1, 2, 5), repeat=axes)]
    random = [rng.random(shape) < rng.choice([0, 0.2, 0.6, 1]) for shape in shapes]
    for mask in [*MASKS.values(), *random]:
        back = decode_mask(encode_mask(mask), mask.shape)
        assert back.dtype == bool and np.array_equal(back, mask)


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_000), (16_000,), (9_000, 2), (2_000, 3, 2, 2)])
def test_a_mask_of_any_shape_is_coded_in_a_few_rows_or_in_long_ones(shape):  # each row costs as much as 150 places
    ways = _ways(shape)
    assert ways
    for arranged, axes in ways.values():
        rows, *rest = np.array(arranged)[list(axes)]
        assert rows <= 1000 or np.prod(rest) >= 32
    mask = np.random.default_rng(0).random(shape) < 0.01
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), shape), mask)


def test_masks_without_pattern_cost_their_entropy_and_patterns_far_less():
    rng = np.random.default_rng(0)
    independent = rng.random((60, 300)) < 0.03
    ideal = entropy(independent) * independent.size / 8
    assert len(encode_mask(independent)) < 1.08 * ideal
    p = 0.1 * rng.permutation(400) / 200 * rng.random((100, 1)) ** 4  # of its own for every row and every column
    mask = rng.random((100, 400)) < p
    known = -np.log2(np.where(mask, p, 1 - p)).sum() / 8  # with all 500 rates known beforehand
    assert known < len(encode_mask(mask)) < 1.15 * known < 0.99 * entropy(mask) * mask.size / 8
    spots = np.zeros((60, 1, 15, 15), bool)
    for o, (y, x) in enumerate(rng.integers(0, 12, (60, 2))):
        spots[o, 0, y : y + 3, x : x + 3] = True
    assert len(encode_mask(spots)) < 0.7 * len(encode_mask(spots.reshape(60, 225)))


def test_random_data_are_some_mask_or_refused():
    rng = np.random.default_rng(0)
    for _ in range(50):
        try:
            assert decode_mask(rng.bytes(20), (8, 3, 4, 4)).shape == (8, 3, 4, 4)
        except ValueError as error:
            assert "the first byte of a mask must be one of 0, 1, 2" in str(error)


@pytest.mark.parametrize("alphabet", [1, 2, 3, 6, 16, 256])
@pytest.mark.parametrize("name", MASKS)
def test_values_come_back(alphabet, name):
    codes = skewed(int(MASKS[name].sum()), alphabet, seed=alphabet)
    for options in ({}, {"mask": MASKS[name], "middle": alphabet // 3 or None}):
        data = encode_adaptive(codes, alphabet=alphabet, **options)
        np.testing.assert_array_equal(decode_adaptive(data, len(codes), alphabet=alphabet, **options), codes)


def test_values_cost_their_entropy_and_less_where_neighbours_agree():
    codes = skewed(8000, 8)
    assert len(encode_adaptive(codes, alphabet=8)) < 1.01 * ideal_bytes(codes) + 20
    signs = np.kron(np.random.default_rng(0).integers(0, 2, (40, 1, 5, 5)), np.ones((2, 2))).astype(np.uint8)
    mask = np.ones(signs.shape, bool)
    assert len(encode_adaptive(signs.ravel(), alphabet=2, mask=mask)) < 0.8 * signs.size / 8


def test_more_of_one_value_than_counters_hold_in_16_bits():
    codes = [0] * 70_000 + [1]
    data = encode_adaptive(codes, alphabet=2)
    assert decode_adaptive(data, len(codes), alphabet=2)[-2:].tolist() == [0, 1]
