"""Chapter 12: the exercises and what grades them."""

import itertools
from fractions import Fraction

import numpy as np

from nnzip import coding as reference
from nnzip.book.grading import Exercise, expect
from nnzip.codebooks import assign, kmeans
from nnzip.compression.pruning import prune_network
from nnzip.nn.network import weights_of
from nnzip.nn.zoo import trained
from nnzip.quantization import choose_qparams, quantize


def pack_bits(codes, bits):  # int [n] -> uint8 [ceil(n * bits / 8)]
    """Return the bytes of codes of `bits` bits each, 1 to 8, one after the other.

    The highest bit of a code comes first. Codes go on across the borders of bytes; what is left of the last byte is 0.

    Examples
    --------
    >>> pack_bits(np.array([1, 2, 3]), 4)  # 0001 0010 0011 0000
    array([18, 48], dtype=uint8)
    """
    return np.frombuffer(reference.pack_bits(codes, bits), np.uint8)


packed = Exercise(
    pack_bits,
    section="3. Packed bits",
    difficulty=2,
    size="three lines",
    unlocks="the weights of a trained network in your bytes, read back by the book",
)


@packed.check
def whole_bytes(pack_bits):
    """Codes of 8 bits are bytes already."""
    likely = "code after code, the highest bit of each first; uint8, and no byte too many"
    expect(pack_bits(np.array([7, 0, 255]), 8), [7, 0, 255], likely, dtype=np.uint8)


@packed.check
def two_in_a_byte(pack_bits):
    """Of two codes of 4 bits the first takes the upper half: 0001 0010."""
    likely = "both fit one byte: join the bits of all codes first, then make bytes"
    expect(pack_bits(np.array([1, 2]), 4), [0b0001_0010], likely, dtype=np.uint8)


@packed.check
def across_the_border(pack_bits):
    """Codes of 3 bits: 101 110 01|1 111 000|0, the third lies in two bytes."""
    right = [0b10111001, 0b11110000]
    expect(
        pack_bits(np.array([5, 6, 3, 7, 0]), 3),
        right,
        "a code may begin in one byte and end in the next; what is left of the last byte is 0",
    )


@packed.check
def the_rest_is_zero(pack_bits):
    """A last byte that is not full is filled with zeros at its end."""
    expect(pack_bits(np.array([3]), 2), [0b1100_0000], "0000 0011 would be another code: fill from the right")
    expect(pack_bits(np.ones(9, int), 1), [255, 128], "nine bits take two bytes")


@packed.check
def against_text(pack_bits):
    """Every width, against the same bits written as text; not as many codes as fill their bytes."""
    for bits in range(1, 9):
        codes = np.random.default_rng(bits).integers(0, 2**bits, 45)
        text = "".join(format(code, f"0{bits}b") for code in codes)
        text += "0" * (-len(text) % 8)
        right = [int(text[i : i + 8], 2) for i in range(0, len(text), 8)]
        expect(pack_bits(codes, bits), right, dtype=np.uint8)


@packed.check
def nothing(pack_bits):
    """No codes are no bytes."""
    expect(pack_bits(np.zeros(0, int), 5), np.zeros(0), "an empty array, not [0]")


@packed.check
def a_million(pack_bits):
    """A million codes of 5 bits, a repeated pattern of eight codes: 5 bytes each time."""
    codes = np.tile(np.arange(8, dtype=np.uint8), 125_000)
    right = [0b00000000, 0b01000100, 0b00110010, 0b00010100, 0b11000111]
    expect(pack_bits(codes, 5), np.tile(right, 125_000), "no loop over codes: np.unpackbits and np.packbits")


@packed.unlocked
def packs(pack_bits):
    lines = ["LeNet-300-100, symmetric grids, a scale for each neuron, in your bytes:"]
    for bits in (8, 4, 3, 2):
        size = same = total = 0
        for weight in weights_of(trained("lenet_300_100")).values():
            codes = (
                quantize(weight, choose_qparams(weight, bits=bits, axis=0)).ravel().astype(int) + 2 ** (bits - 1) - 1
            )
            data = np.asarray(pack_bits(codes.astype(np.uint8), bits), np.uint8).tobytes()
            back = reference.unpack_bits(data, bits, codes.size)
            size, same, total = size + len(data), same + np.count_nonzero(back == codes), total + codes.size
        lines.append(
            f"  {bits} bits: {size:>7,} bytes, {32 / bits:.1f} times fewer; {same / total:.0%} come back right"
        )
    return "\n".join(lines)


def entropy(codes):  # int [...] -> float
    """Return the entropy of the codes' own frequencies, in bits a symbol.

        H = -sum over the symbols that occur of p log2 p        p = how often it occurs / how many codes there are

    Examples
    --------
    >>> entropy(np.array([0, 0, 1, 2]))
    1.5
    """
    return reference.entropy(codes)


bits_a_symbol = Exercise(
    entropy,
    section="5. Entropy",
    difficulty=1,
    size="three lines",
    unlocks="what an ideal coder would need for the codes of a trained network",
)


@bits_a_symbol.check
def by_hand(entropy):
    """Of four codes two are equal: 1/2 * 1 + 1/4 * 2 + 1/4 * 2 bits."""
    likely = "each symbol's -log2 p counts p times, with the logarithm to base 2 and p of all four codes"
    expect(entropy(np.array([0, 0, 1, 2])), 1.5, likely, tolerance=1e-12)


@bits_a_symbol.check
def all_alike(entropy):
    """2^b codes, equally often, take b bits; one alone takes none."""
    for bits in (1, 3, 8):
        expect(entropy(np.tile(np.arange(2**bits), 3)), bits, tolerance=1e-12)
    expect(entropy(np.full(5, 7)), 0.0, "log2(1) is 0; symbols that do not occur are left out", tolerance=1e-12)


@bits_a_symbol.check
def missing_symbols(entropy):
    """Symbols that do not occur add nothing: 0 log 0 is 0."""
    expect(
        entropy(np.array([9, 2, 9, 2])), 1.0, "NaN comes from log2(0): leave out the counts that are 0", tolerance=1e-12
    )


@bits_a_symbol.check
def names_do_not_matter(entropy):
    """Only frequencies count: other numbers, negative ones too, in another order, in a matrix."""
    expect(entropy(np.array([[-3, 50], [-3, 400]])), 1.5, "np.unique counts any integers", tolerance=1e-12)


@bits_a_symbol.check
def uneven(entropy):
    """Nine zeros and a one: log2 10 - 0.9 log2 9 bits, 0.47."""
    right = float(np.log2(10) - 0.9 * np.log2(9))
    expect(entropy(np.array([0] * 9 + [1])), right, "broken bits count: nothing is rounded", tolerance=1e-12)


@bits_a_symbol.check
def a_number(entropy):
    """The answer is one number, in bits a symbol and not of the whole array."""
    expect(entropy(np.tile([0, 1, 2, 3], 1000)), 2.0, "divide by the number of codes", tolerance=1e-12)


@bits_a_symbol.unlocked
def measures(entropy):
    lines = ["LeNet-300-100, first layer: bits a weight that an ideal coder needs, by your function"]
    weight = trained("lenet_300_100").parameters()["1.weight"]
    for bits in (8, 4, 3, 2):
        neuron = quantize(weight, choose_qparams(weight, bits=bits, axis=0))
        layer = quantize(weight, choose_qparams(weight, bits=bits))
        means = assign(weight, kmeans(weight, 2**bits, init="k-means++"))
        cells = (
            f"{name} {entropy(codes):.2f}"
            for name, codes in (("a scale a neuron", neuron), ("one scale", layer), ("k-means", means))
        )
        lines.append(f"  {bits} bits: {', '.join(cells)}")
    return "\n".join(lines)


lengths_of = Exercise(
    reference.huffman_lengths,
    section="4. Huffman",
    difficulty=2,
    size="ten lines",
    task="Any lengths of least cost will do: where counts are equal there are several. Counts are a list or an array.",
    unlocks="the weights of a trained network through your Huffman code",
)


def _cost(counts, lengths):
    return int(np.sum(np.asarray(counts) * np.asarray(lengths, int)))


def _least_cost(counts):
    """Try every sequence of joins: slow, and right."""
    if len(counts) == 1:
        return 0
    pairs = itertools.combinations(range(len(counts)), 2)
    return min(
        counts[i]
        + counts[j]
        + _least_cost([c for k, c in enumerate(counts) if k not in (i, j)] + [counts[i] + counts[j]])
        for i, j in pairs
    )


@lengths_of.check
def shorter_for_the_frequent(huffman_lengths):
    """Counts 5, 1, 2: one bit for the first, two for the others."""
    expect(huffman_lengths([5, 1, 2]), [1, 2, 2], "join the two rarest; each of their symbols gets a bit more")


@lengths_of.check
def joins_again(huffman_lengths):
    """Counts 8, 4, 2, 1, 1: a chain, each joined with all that are rarer."""
    likely = "what was joined goes back among the others, with the sum of the counts"
    expect(huffman_lengths([8, 4, 2, 1, 1]), [1, 2, 3, 4, 4], likely)


@lengths_of.check
def two_pairs(huffman_lengths):
    """Four equal counts: two bits for each, no chain."""
    expect(huffman_lengths([3, 3, 3, 3]), [2, 2, 2, 2], "after the first join the two rarest are the other two")


@lengths_of.check
def in_the_order_of_the_symbols(huffman_lengths):
    """The lengths stand where the symbols stand."""
    expect(huffman_lengths([1, 9, 1, 30]), [3, 2, 3, 1], "keep the number of a symbol with its count")


@lengths_of.check
def symbols_that_never_occur(huffman_lengths):
    """A count of 0 gets no word, and makes none longer."""
    expect(huffman_lengths([5, 0, 1, 0, 2]), [1, 0, 2, 0, 2], "leave zeros out of the joining; their length is 0")


@lengths_of.check
def one_symbol(huffman_lengths):
    """A single symbol gets one bit: nothing can be joined, and no bits at all could not be counted."""
    expect(huffman_lengths([0, 7]), [0, 1])


@lengths_of.check
def never_empty_handed(huffman_lengths):
    """No symbols, or none that occurs: zeros only."""
    expect(huffman_lengths([0, 0]), [0, 0], "the heap may be empty")


@lengths_of.check
def a_code_exists(huffman_lengths):
    """The sum of 2^-length is exactly 1 (Kraft): no word is wasted, and no word begins another."""
    for seed in range(20):
        counts = np.random.default_rng(seed).integers(0, 50, 9)
        lengths = np.asarray(huffman_lengths(counts), int)
        kraft = sum(Fraction(1, 2 ** int(length)) for length in lengths if length)
        expect([float(kraft), *(lengths > 0)], [1.0, *(counts > 0)], "first the sum of 2^-length, then who has a word")


@lengths_of.check
def nothing_is_shorter(huffman_lengths):
    """The cost, sum of count times length, is the least of all trees, tried one by one."""
    for seed in range(8):
        counts = np.random.default_rng(seed).integers(1, 20, 6).tolist()
        expect(
            _cost(counts, huffman_lengths(counts)), _least_cost(counts), "the cost; always the two rarest are joined"
        )


@lengths_of.check
def very_uneven(huffman_lengths):
    """Fibonacci's numbers give the longest words: 25 symbols, 24 bits."""
    counts = [1, 1]
    while len(counts) < 25:
        counts.append(counts[-1] + counts[-2])
    right = _cost(counts, [24, *range(24, 0, -1)])
    expect(_cost(counts, huffman_lengths(counts)), right, "the cost; a limit on the length makes it longer")


@lengths_of.unlocked
def codes_with(huffman_lengths):
    lines = ["LeNet-300-100, all weights, one scale a layer, by your Huffman code:"]
    for bits in (8, 4, 3, 2):
        size, ideal = 0, 0.0
        for weight in weights_of(trained("lenet_300_100")).values():
            codes = quantize(weight, choose_qparams(weight, bits=bits)).ravel().astype(int) + 128
            counts = np.bincount(codes)
            size += _cost(counts, huffman_lengths(counts)) / 8
            ideal += reference.entropy(codes) * codes.size / 8
        lines.append(
            f"  {bits} bits: packed {266_200 * bits // 8:>7,} bytes, Huffman {size:>9,.0f}, entropy {ideal:>9,.0f}"
        )
    return "\n".join(lines)


def canonical_words(lengths):  # int [symbols] -> int64 [symbols]
    """Return the code words of given lengths as integers, of the canonical code; -1 for symbols without a word.

    Words are counted upwards, shorter ones first, those of one length in the order of the symbols: the first is 0, and
    each next one is the last one plus 1, with zeros appended up to its own length.

    Examples
    --------
    >>> canonical_words(np.array([1, 0, 2, 2]))  # '0', '', '10', '11'
    array([ 0, -1,  2,  3])
    """
    return np.array([int(word, 2) if word else -1 for word in reference.canonical_codes(lengths)], np.int64)


words = Exercise(
    canonical_words,
    section="4. Huffman",
    difficulty=2,
    size="six lines",
    task="Graded with lengths that a code has.",
    unlocks="the weights of a trained layer, written in your words and read back by the book",
)


@words.check
def counted_upwards(canonical_words):
    """Lengths 1, 2, 2: the words 0, 10, 11."""
    expect(canonical_words(np.array([1, 2, 2])), [0b0, 0b10, 0b11], "0 + 1 is 1, with a zero appended 10")


@words.check
def shorter_first(canonical_words):
    """Lengths 3, 1, 3, 2: the words 110, 0, 111, 10."""
    expect(canonical_words(np.array([3, 1, 3, 2])), [0b110, 0b0, 0b111, 0b10], "sort by length, then by symbol")


@words.check
def equal_lengths(canonical_words):
    """Four words of two bits are 0, 1, 2, 3, in the order of the symbols."""
    expect(canonical_words(np.array([2, 2, 2, 2])), [0, 1, 2, 3])


@words.check
def a_jump(canonical_words):
    """From one bit to four at once: 0, then 1 with three zeros appended."""
    expect(canonical_words(np.array([4, 1, 4])), [0b1000, 0, 0b1001], "append as many zeros as the length grows by")


@words.check
def without_a_word(canonical_words):
    """Length 0 has no word and takes none from the others."""
    expect(canonical_words(np.array([0, 2, 0, 1, 2])), [-1, 0b10, -1, 0b0, 0b11], "skip them before counting")


@words.check
def one_word(canonical_words):
    """A single word of one bit is 0."""
    expect(canonical_words(np.array([0, 0, 1])), [-1, -1, 0], "start so that the first word is 0")


@words.check
def no_word_begins_another(canonical_words):
    """Read bit by bit, a word is complete as soon as it is one."""
    lengths = np.array([5, 2, 3, 5, 2, 4, 3])
    got = canonical_words(lengths)
    expect(np.size(got), 7, "a word for each length")
    texts = [format(int(word), f"0{length}b") for word, length in zip(got, lengths, strict=True)]
    clash = sum(a != b and b.startswith(a) for a in texts for b in texts)
    twice = len(texts) - len(set(texts))
    expect([clash, twice], [0, 0], "how many words begin another, and how many are there twice")


@words.check
def long_words(canonical_words):
    """Words of 40 bits are larger than int32."""
    lengths = np.array([*range(1, 40), 40, 40])
    right = [2**n - 2 for n in range(1, 40)] + [2**40 - 2, 2**40 - 1]
    expect(canonical_words(lengths), right, "count in Python's int or in int64")


@words.unlocked
def writes(canonical_words):
    weight = trained("lenet_300_100").parameters()["5.weight"]
    codes = (quantize(weight, choose_qparams(weight, bits=4)).ravel() + 7).astype(np.uint8)
    lengths = reference.huffman_lengths(np.bincount(codes))
    own = canonical_words(lengths)
    texts = [format(int(word), f"0{length}b") if length else "" for word, length in zip(own, lengths, strict=True)]
    bits = np.frombuffer("".join(texts[code] for code in codes).encode(), np.uint8) - 48
    back = reference.huffman_decode(lengths, np.packbits(bits).tobytes(), codes.size)
    lines = [
        f"The last layer of LeNet-300-100 at 4 bits: {codes.size} codes in {len(np.packbits(bits))} bytes (packed: 500)"
    ]
    lines += [
        f"  code {code:>2}: {np.count_nonzero(codes == code):>4} times, word {texts[code]}" for code in np.unique(codes)
    ]
    return "\n".join([*lines, f"  read back by the book: {np.mean(back == codes):.0%} right"])


steps_of = Exercise(
    reference.relative_index,
    section="6. Positions",
    difficulty=2,
    size="seven lines",
    unlocks="how many bits a position costs in a pruned network, by your steps",
)


@steps_of.check
def zeros_before(relative_index):
    """A step is how many zeros a weight has before it, back to the last weight."""
    mask = np.array([0, 1, 0, 0, 1, 1, 0], bool)
    likely = "two weights side by side have the step 0: no difference of places, one less"
    expect(relative_index(mask, bits=3), ([1, 2, 0], [True, True, True]), likely)


@steps_of.check
def the_first_place(relative_index):
    """A weight in the very first place has no zeros before it."""
    expect(relative_index(np.array([1, 0, 1], bool), bits=2), ([0, 1], [True, True]), "prepend the place -1 and not 0")


@steps_of.check
def a_filler(relative_index):
    """Steps of 3 bits go up to 7. Ten zeros: seven, a filler, which is a zero itself, and two more."""
    mask = np.zeros(16, bool)
    mask[[1, 4, 15]] = True
    likely = "a filler stands in a place: it covers 7 zeros before it and its own, 2^bits in all"
    expect(relative_index(mask, bits=3), ([1, 2, 7, 2], [True, True, False, True]), likely)


@steps_of.check
def at_the_border(relative_index):
    """2^bits - 1 zeros need no filler, 2^bits do."""
    for zeros, right in (
        (3, ([3], [True])),
        (4, ([3, 0], [False, True])),
        (7, ([3, 3], [False, True])),
        (8, ([3, 3, 0], [False, False, True])),
    ):
        mask = np.arange(zeros + 1) == zeros
        expect(relative_index(mask, bits=2), right, "q fillers for zeros // 2^bits, the step is what is left")


@steps_of.check
def several_fillers(relative_index):
    """A long run takes as many fillers as it needs, in their right places among the others."""
    mask = np.zeros(30, bool)
    mask[[0, 13, 14, 29]] = True
    right = [0, 3, 3, 3, 0, 0, 3, 3, 3, 2]
    kept = [True, False, False, False, True, True, False, False, False, True]
    expect(relative_index(mask, bits=2), (right, kept), "fillers come before the weight that they lead to")


@steps_of.check
def the_end(relative_index):
    """Zeros after the last weight cost nothing; a mask without weights has no steps."""
    expect(relative_index(np.array([1, *[0] * 100], bool), bits=2), ([0], [True]), "no fillers after the last weight")
    empty = relative_index(np.zeros(50, bool), bits=4)
    expect(empty, (np.zeros(0), np.zeros(0)), "two empty arrays")


@steps_of.check
def row_after_row(relative_index):
    """A matrix is read row after row, as it lies in memory; the step goes on from row to row."""
    mask = np.zeros((3, 5), bool)
    mask[0, 3] = mask[2, 1] = True
    expect(relative_index(mask, bits=4), ([3, 7], [True, True]), "ravel the mask")
    expect(relative_index(mask.T, bits=4), ([5, 3], [True, True]), "by rows, also of a transposed mask")


@steps_of.check
def dtypes(relative_index):
    """The steps are uint8, what is a weight is bool; 8 bits go up to 255."""
    mask = np.zeros(600, bool)
    mask[[255, 599]] = True
    steps, kept = relative_index(mask, bits=8)
    expect(steps, [255, 255, 87], dtype=np.uint8)
    expect(kept, [True, False, True], dtype=bool)


@steps_of.check
def large(relative_index):
    """400,000 places, every 50th kept, steps of 5 bits: a filler before each weight."""
    mask = np.zeros(400_000, bool)
    mask[49::50] = True
    steps, kept = relative_index(mask, bits=5)
    expect(steps, np.tile([31, 17], 8000), "no loop over places: np.flatnonzero and np.diff")
    expect(kept, np.tile([False, True], 8000))


@steps_of.unlocked
def positions(relative_index):
    lines = ["LeNet-300-100, first layer, pruned: bits a position by your steps; a filler also costs a value of 4 bits"]
    for sparsity in (0.8, 0.9, 0.95, 0.99):
        mask = prune_network(trained("lenet_300_100"), sparsity, scope="network").parameters()["1.weight"] != 0
        costs = []
        for bits in (2, 3, 4, 5, 6, 8):
            steps, kept = relative_index(mask, bits=bits)
            costs.append(((bits + 4) * len(steps) - 4 * mask.sum()) / mask.sum())
        shown = ", ".join(f"{bits}: {cost:.1f}" for bits, cost in zip((2, 3, 4, 5, 6, 8), costs, strict=True))
        lines.append(f"  {sparsity:.0%} zero, steps of so many bits: {shown}")
    return "\n".join(lines)


def sparse_bytes(weight, *, code_bits, step_bits):  # [out, in] -> (int, int, int)
    """Return how many bytes a pruned layer takes in Deep Compression's format: steps, codes, codebook.

    Each kept weight has a step of `step_bits` bits (see `relative_index`) and a code of `code_bits` bits, each filler
    too. The codebook has float32 values, as many as different ones are kept, and one more, 0, if there are fillers.
    Steps and codes are packed, each in whole bytes.

    Raises ValueError if so many values are more than `code_bits` bits can name.

    Examples
    --------
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


account = Exercise(
    sparse_bytes,
    section="7. The file, every byte",
    difficulty=2,
    size="eight lines",
    unlocks="Deep Compression's own accounting of a pruned network, beside the bytes of the book's file",
)


def _layer(shape, places, values):
    weight = np.zeros(shape, np.float32)
    weight.flat[list(places)] = values
    return weight


@account.check
def without_fillers(sparse_bytes):
    """Four weights in two values, short ways between them: 4 steps of 4 bits, 4 codes of 1 bit, 2 floats."""
    weight = _layer((2, 8), (0, 3, 4, 12), (0.5, -1, 0.5, 0.5))
    expect(sparse_bytes(weight, code_bits=1, step_bits=4), [2, 1, 8], "bits are divided by 8, floats take 4 bytes")


@account.check
def fillers_have_codes(sparse_bytes):
    """A filler takes a step and a code, and 0 becomes a value."""
    weight = _layer((4, 8), (1, 30), (0.5, 0.25))
    likely = "from place 1 to 30 are 28 zeros, steps of 2 bits: 7 fillers; with 2 weights 9 steps and 9 codes, 3 values"
    expect(sparse_bytes(weight, code_bits=2, step_bits=2), [3, 3, 12], likely)


@account.check
def rounded_up(sparse_bytes):
    """The last byte is a whole one, for the steps and for the codes: 3 times 3 bits are 2 bytes."""
    weight = _layer((1, 9), (0, 4, 8), (1, 2, 3))
    expect(sparse_bytes(weight, code_bits=3, step_bits=3), [2, 2, 12], "round up, each for itself")


@account.check
def equal_values_once(sparse_bytes):
    """A codebook has each value once, whatever its sign is a value of its own."""
    weight = _layer((5, 20), range(0, 100, 2), [0.5, -0.5] * 25)
    expect(sparse_bytes(weight, code_bits=1, step_bits=1), [7, 7, 8], "np.unique of what is kept, zeros left out")


@account.check
def too_many_values(sparse_bytes):
    """17 values do not fit 4 bits; 16 and a filler's 0 do not either."""
    weight = _layer((1, 20), range(17), range(1, 18))
    sparse_bytes.must_raise(["ValueError"], weight, code_bits=4, step_bits=4, likely="count the values")
    weight = _layer((1, 60), [*range(15), 59], range(1, 17))
    sparse_bytes.must_raise(["ValueError"], weight, code_bits=4, step_bits=4, likely="fillers need a code for 0")
    expect(sparse_bytes(weight, code_bits=4, step_bits=6), [12, 8, 64], "16 values and no filler: 4 bits are enough")


@account.check
def nothing_kept(sparse_bytes):
    """A layer of zeros takes no bytes."""
    expect(sparse_bytes(np.zeros((3, 4), np.float32), code_bits=2, step_bits=3), [0, 0, 0], "no weights, no fillers")


@account.check
def nothing_pruned(sparse_bytes):
    """A full layer has steps of 0 only, and they cost what all steps cost."""
    weight = np.ones((8, 3), np.float32)
    expect(sparse_bytes(weight, code_bits=2, step_bits=5), [15, 6, 4], "24 steps of 5 bits, 24 codes, one value")


@account.check
def a_convolution(sparse_bytes):
    """Filters are read in the order of memory; places go on over all axes."""
    weight = _layer((2, 2, 3, 3), (0, 35), (1, -1))
    expect(sparse_bytes(weight, code_bits=2, step_bits=4), [2, 1, 12], "34 zeros between them: 2 fillers of 16")


@account.unlocked
def accounts(sparse_bytes):
    lines = ["LeNet-300-100, 90 % zero, 15 values a layer: your account of Deep Compression's format, in bytes"]
    total = 0
    for name, weight in weights_of(prune_network(trained("lenet_300_100"), 0.9, scope="network")).items():
        kept = weight[weight != 0]
        values = kmeans(kept, 15, init="k-means++")
        weight[weight != 0] = values[assign(kept, values)]
        parts = [int(part) for part in sparse_bytes(weight, code_bits=4, step_bits=5)]
        total += sum(parts)
        codes = len(reference.encode_adaptive(assign(kept, values), alphabet=15, mask=weight != 0))
        lines.append(f"  {name}: steps {parts[0]:,}, codes {parts[1]:,}, codebook {parts[2]}")
        lines.append(f"    by the book's coders {len(reference.encode_mask(weight != 0)):,}, {codes:,}, 60")
    return "\n".join([*lines, f"  {total:,} bytes in all, {4 * 266_200 / total:.0f} times fewer than float32"])
