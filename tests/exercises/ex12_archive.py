"""Chapter 12: the exercises and what grades them."""

import itertools
from fractions import Fraction

import numpy as np

from nnzip import coding as reference
from nnzip.book.grading import Exercise, any_shape, exercise, expect, given
from nnzip.nn.network import weights_of
from nnzip.nn.zoo import trained
from nnzip.quantization import choose_qparams, quantize


@exercise(section="3. Packed bits", difficulty=2, size="three lines")
def pack_bits(codes, bits):  # int [n] -> uint8 [ceil(n * bits / 8)]
    """Return the bytes of codes of `bits` bits each, 1 to 8, one after the other.

    The highest bit of a code comes first. Codes go on across the borders of bytes; what is left of the last byte is 0.

    >>> pack_bits(np.array([1, 2, 3]), 4)  # 0001 0010 0011 0000
    array([18, 48], dtype=uint8)
    """
    return np.frombuffer(reference.pack_bits(codes, bits), np.uint8)


pack_bits.case(
    "Codes of 3 bits: 101 110 01|1 111 000|0, the third lies in two bytes.",
    np.array([5, 6, 3, 7, 0]),
    3,
    gives=[0b10111001, 0b11110000],
    dtype=np.uint8,
    likely="join the bits of all codes, the highest first, then make bytes; what is left of the last byte is 0",
)


@pack_bits.draw("no codes are no bytes; a last byte that is not full is filled with zeros at its end", dtype=True)
def any_codes(rng):
    """Codes of every width, as many as fill their bytes or not, or none."""
    bits = int(rng.integers(1, 9))
    return given(
        rng.integers(0, 2**bits, rng.choice([0, rng.integers(50)])).astype(rng.choice(["uint8", "int64"])), bits
    )


@pack_bits.check
def a_million(pack_bits):
    """A million codes of 5 bits, a repeated pattern of eight codes: 5 bytes each time."""
    codes = np.tile(np.arange(8, dtype=np.uint8), 125_000)
    right = [0b00000000, 0b01000100, 0b00110010, 0b00010100, 0b11000111]
    expect(pack_bits(codes, 5), np.tile(right, 125_000), "no loop over codes: np.unpackbits and np.packbits")


@exercise(section="5. Entropy", difficulty=1, size="three lines")
def entropy(codes):  # int [...] -> float
    """Return the entropy of the codes' own frequencies, in bits a symbol.

        H = -sum over the symbols that occur of p log2 p        p = how often it occurs / how many codes there are

    >>> entropy(np.array([0, 0, 1, 2]))
    1.5
    """
    return reference.entropy(codes)


entropy.case(
    "Of four codes two are equal: 1/2 * 1 + 1/4 * 2 + 1/4 * 2 bits.",
    np.array([[-3, 50], [-3, 400]]),
    gives=1.5,
    tolerance=1e-12,
    likely="each symbol's -log2 p counts p times, p of all four codes; np.unique counts any integers",
)
entropy.case(
    "One symbol alone takes no bits.",
    np.full(5, 7),
    gives=0.0,
    tolerance=1e-12,
    likely="NaN comes from log2(0): symbols that do not occur are left out",
)


@entropy.draw("the logarithm to base 2, in bits a symbol and not of the whole array", ulps=100)
def any_symbols(rng):
    """Arrays of one to four axes of few or many symbols, negative ones too, some much more frequent than others."""
    shape = any_shape(rng)
    return given((rng.normal(size=shape) ** 3 * rng.choice([1, 10, 1000])).astype(int))


huffman_lengths = Exercise(
    reference.huffman_lengths,
    section="4. Huffman",
    difficulty=2,
    size="ten lines",
    task="Any lengths of least cost will do: where counts are equal there are several. Counts are a list or an array.",
)


def _cost(counts, lengths):
    return int(np.sum(np.asarray(counts) * np.asarray(lengths, int)))


def _least_cost(counts):
    """Try every sequence of joins: slow, and right."""
    if len(counts) < 2:
        return 0
    found = []
    for i, j in itertools.combinations(range(len(counts)), 2):
        others = [count for k, count in enumerate(counts) if k not in (i, j)]
        found.append(counts[i] + counts[j] + _least_cost([*others, counts[i] + counts[j]]))
    return min(found)


huffman_lengths.case(
    "Counts 8, 4, 2, 1, 1: a chain, each joined with all that are rarer.",
    [8, 4, 2, 1, 1],
    gives=[1, 2, 3, 4, 4],
    likely="join the two rarest, a bit more for each of their symbols; their sum goes back among the others",
)
huffman_lengths.case(
    "Four equal counts: two bits for each, no chain; a count of 0 gets no word and makes none longer.",
    [3, 0, 3, 3, 3],
    gives=[2, 0, 2, 2, 2],
    likely="after the first join the two rarest are the other two",
)
huffman_lengths.case("A single symbol gets one bit: no bits at all could not be counted.", [0, 7], gives=[0, 1])
huffman_lengths.case("No symbol that occurs: zeros only.", [0, 0], gives=[0, 0], likely="the heap may be empty")


@huffman_lengths.check
def nothing_is_shorter(huffman_lengths, rng):
    """The words are those of a code, sum 2^-length = 1 (Kraft), and their cost, count times length, is the least."""
    for _ in range(12):
        counts = rng.integers(0, 20, 6)
        counts = counts if rng.random() < 0.5 else counts.tolist()
        lengths = np.asarray(huffman_lengths(counts), int)
        expect(np.shape(lengths), (6,), "a length for each symbol")
        occurring = [int(count) for count in counts if count]
        words = [int(length) for length, count in zip(lengths, counts, strict=True) if count]
        if len(occurring) > 1:
            expect(float(sum(Fraction(1, 2**n) for n in words)), 1.0, "the sum of 2^-length")
            expect(_cost(counts, lengths), _least_cost(occurring), "the cost; always the two rarest are joined")


@huffman_lengths.check
def very_uneven(huffman_lengths):
    """Fibonacci's numbers give the longest words: 25 symbols, 24 bits."""
    counts = [1, 1]
    while len(counts) < 25:
        counts.append(counts[-1] + counts[-2])
    right = _cost(counts, [24, *range(24, 0, -1)])
    expect(_cost(counts, huffman_lengths(counts)), right, "the cost; a limit on the length makes it longer")


@huffman_lengths.unlocked("the weights of a trained network through your Huffman code")
def codes_with(huffman_lengths):
    lines = ["LeNet-300-100, all weights, one scale a layer, by your Huffman code:"]
    for bits in (8, 4, 3, 2):
        size, ideal = 0, 0.0
        for weight in weights_of(trained("lenet_300_100")).values():
            codes = quantize(weight, choose_qparams(weight, bits=bits)).ravel().astype(int) + 128
            counts = np.bincount(codes)
            size += _cost(counts, huffman_lengths(counts)) / 8
            ideal += reference.entropy(codes) * codes.size / 8
        packed = 266_200 * bits // 8
        lines.append(f"  {bits} bits: packed {packed:>7,} bytes, Huffman {size:>9,.0f}, entropy {ideal:>9,.0f}")
    return "\n".join(lines)


@exercise(
    section="4. Huffman", difficulty=2, size="six lines", task="Graded with lengths that a code has, up to 41 bits."
)
def canonical_words(lengths):  # int [symbols] -> int64 [symbols]
    """Return the code words of given lengths as integers, of the canonical code; -1 for symbols without a word.

    Words are counted upwards, shorter ones first, those of one length in the order of the symbols: the first is 0, and
    each next one is the last one plus 1, with zeros appended up to its own length.

    >>> canonical_words(np.array([1, 0, 2, 2]))  # '0', '', '10', '11'
    array([ 0, -1,  2,  3])
    """
    return np.array([int(word, 2) if word else -1 for word in reference.canonical_codes(lengths)], np.int64)


canonical_words.case(
    "Lengths 3, 1, 3, 2: the words 110, 0, 111, 10.",
    np.array([3, 1, 3, 2]),
    gives=[0b110, 0b0, 0b111, 0b10],
    likely="sort by length, then by symbol; append as many zeros as the length grows by",
)


canonical_words.case(
    "From one bit to four at once: 0, then 1 with three zeros.", np.array([4, 0, 1, 4]), gives=[0b1000, -1, 0, 0b1001]
)


@canonical_words.draw("sort with kind='stable'; skip length 0 before counting; more than 31 bits need int64")
def lengths_of_a_code(rng):
    """Many equal lengths, in any order, or a chain up to 41 bits, some symbols without a word."""
    lengths = [0]
    if rng.random() < 0.3:
        lengths = [*range(1, 41), 40]
    for _ in range(0 if len(lengths) > 1 else rng.integers(1, 80)):
        split = lengths.pop(rng.integers(len(lengths)) if rng.random() < 0.3 else int(np.argmin(lengths)))
        lengths += [split + 1, split + 1]
    return given(rng.permutation([*lengths, *[0] * rng.integers(3)]))


relative_index = Exercise(
    reference.relative_index, section="6. Positions", difficulty=2, size="seven lines", parts=("steps", "kept")
)

relative_index.case(
    "A step is how many zeros a weight has before it, back to the last weight.",
    np.array([0, 1, 0, 0, 1, 1, 0], bool),
    bits=3,
    gives=([1, 2, 0], [True, True, True]),
    likely="two weights side by side have the step 0; prepend the place -1; zeros after the last weight cost nothing",
)
relative_index.case(
    "Ten zeros are too many for 3 bits: seven, a filler, which is a zero itself, and two more.",
    np.isin(np.arange(16), [1, 4, 15]),
    bits=3,
    gives=([1, 2, 7, 2], [True, True, False, True]),
    likely="a filler covers 7 zeros before it and its own place, 2^bits in all",
)
relative_index.case(
    "Without weights no steps.", np.zeros(50, bool), bits=4, gives=(np.zeros(0), np.zeros(0)), likely="two empty arrays"
)


@relative_index.draw("fillers come before the weight that they lead to; ravel a matrix row after row", dtype=True)
def any_mask(rng):
    """Masks of one to four axes, in any order of memory, with short or long runs of zeros, and steps of 1 to 8 bits."""
    mask = rng.random(any_shape(rng, most=int(rng.choice([6, 12])))) < rng.choice([0.01, 0.1, 0.7])
    return given(np.asarray(mask, order=rng.choice(["C", "F"])), bits=int(rng.integers(1, 9)))


@relative_index.check
def large(relative_index):
    """400,000 places, every 50th kept, steps of 5 bits: a filler before each weight."""
    steps, kept = relative_index(np.arange(400_000) % 50 == 49, bits=5)
    expect(steps, np.tile([31, 17], 8000), "no loop over places: np.flatnonzero and np.diff")
    expect(kept, np.tile([False, True], 8000))


@exercise(section="7. The file, every byte", difficulty=2, size="eight lines", parts=("steps", "codes", "codebook"))
def sparse_bytes(weight, *, code_bits, step_bits):  # [...] -> (int, int, int)
    """Return how many bytes a pruned layer takes in Deep Compression's format: steps, codes, codebook.

    Each kept weight has a step of `step_bits` bits (see `relative_index`) and a code of `code_bits` bits, each filler
    too. The codebook has float32 values, as many as different ones are kept, and one more, 0, if there are fillers.
    Steps and codes are packed, each in whole bytes.

    Raises ValueError if so many values are more than `code_bits` bits can name.

    >>> weight = np.zeros((2, 8), np.float32)
    >>> weight[0, 1] = weight[0, 4] = 0.5
    >>> weight[1, 7] = -0.5
    >>> sparse_bytes(weight, code_bits=2, step_bits=3)  # 4 steps, 4 codes, the values 0.5, -0.5 and 0
    (2, 1, 12)
    """
    _, kept = reference.relative_index(weight != 0, bits=step_bits)
    values = len(np.unique(weight[weight != 0])) + (not kept.all())
    if values > 2**code_bits:
        raise ValueError(f"{values} values cannot be named by {code_bits} bits")
    return -(-len(kept) * step_bits // 8), -(-len(kept) * code_bits // 8), 4 * values


sparse_bytes.case(
    "Four weights in two values, short ways between them: 4 steps of 3 bits, 4 codes of 1 bit, 2 floats.",
    np.float32([[0.5, 0, 0, -1, 0.5, 0, 0, 0], [0, 0, 0, 0, 0.5, 0, 0, 0]]),
    code_bits=1,
    step_bits=3,
    gives=(2, 1, 8),
    likely="bits are divided by 8 and rounded up, floats take 4 bytes, equal values stand once in the codebook",
)
sparse_bytes.case(
    "A filler takes a step and a code, and 0 becomes a value.",
    np.where(np.arange(32) == 1, 0.5, np.where(np.arange(32) == 30, 0.25, 0)).reshape(4, 8),
    code_bits=2,
    step_bits=2,
    gives=(3, 3, 12),
    likely="from place 1 to 30 are 28 zeros, steps of 2 bits: 7 fillers; with 2 weights 9 steps and 9 codes, 3 values",
)
sparse_bytes.case(
    "One filler: three steps of 3 bits take two bytes, three codes of 3 bits too, and 0 is a value.",
    np.float32([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
    code_bits=3,
    step_bits=3,
    gives=(2, 2, 12),
    likely="round up, each for itself",
)
sparse_bytes.refuses(
    "17 values do not fit 4 bits.", np.arange(1.0, 18.0), code_bits=4, step_bits=4, likely="count the values"
)
sparse_bytes.refuses(
    "16 values and a filler's 0 do not fit 4 bits.",
    np.array([*range(1, 16), *[0] * 40, 16.0]),
    code_bits=4,
    step_bits=4,
    likely="fillers need a code for 0",
)
sparse_bytes.case("16 values fit 4 bits.", np.arange(1.0, 17.0), code_bits=4, step_bits=6, gives=(12, 8, 64))


@sparse_bytes.draw("places go on over all axes, in the order of memory; a layer of zeros takes no bytes")
def any_layer(rng):
    """Layers of one to four axes with few values, full, pruned or empty, and fillers or none."""
    shape = any_shape(rng, most=9)
    mask = rng.random(shape) < rng.choice([0, 0.02, 0.3, 1])
    return given(
        mask * rng.choice([-0.5, 0.5, 0.25], shape),
        code_bits=int(rng.integers(2, 9)),
        step_bits=int(rng.integers(1, 9)),
    )
