"""Bugs planted into the solutions of chapter 12: what it is, the text of the function, and what takes its place."""

BUGS = {
    "pack_bits": [
        ("lowest bit first", "np.arange(bits - 1, -1, -1)", "np.arange(bits)"),
        ("a byte for each code", "np.packbits(ones.astype(np.uint8).ravel())", "np.asarray(codes, np.uint8)"),
        (
            "each code in bytes of its own",
            "np.packbits(ones.astype(np.uint8).ravel())",
            "np.packbits(ones.astype(np.uint8), axis=1).ravel()",
        ),
        ("bits of all codes, plane by plane", "ones.astype(np.uint8).ravel()", "ones.astype(np.uint8).T.ravel()"),
        (
            "bytes filled from the left",
            "ones.astype(np.uint8).ravel()",
            "np.pad(ones.astype(np.uint8).ravel(), (-ones.size % 8, 0))",
        ),
        ("little-endian bytes", "ones.astype(np.uint8).ravel()", "ones.astype(np.uint8).ravel(), bitorder='little'"),
        (
            "the last byte cut off",
            "np.packbits(ones.astype(np.uint8).ravel())",
            "np.packbits(ones.astype(np.uint8).ravel()[: ones.size // 8 * 8])",
        ),
        (
            "a byte more than there are bits for",
            "np.packbits(ones.astype(np.uint8).ravel())",
            "np.packbits(np.append(ones.astype(np.uint8).ravel(), np.zeros(8 - ones.size % 8, np.uint8)))",
        ),
        (
            "64-bit integers",
            "np.packbits(ones.astype(np.uint8).ravel())",
            "np.packbits(ones.astype(np.uint8).ravel()).astype(np.int64)",
        ),
    ],
    "entropy": [
        ("natural logarithm", "np.log2", "np.log"),
        (
            "counts every value up to the largest",
            "_, counts = np.unique(codes, return_counts=True)",
            "counts = np.bincount(np.abs(codes).ravel())",
        ),
        ("wrong sign", "-np.log2(p)", "np.log2(p)"),
        ("the mean over the symbols", "np.sum(p * -np.log2(p))", "np.mean(-np.log2(p))"),
        ("bits of the whole array", "np.sum(p * -np.log2(p))", "np.sum(counts * -np.log2(p))"),
        ("logarithm of the number of symbols", "np.sum(p * -np.log2(p))", "np.log2(len(p))"),
        ("frequencies over the number of symbols", "counts / counts.sum()", "counts / len(counts)"),
        ("a small number inside the logarithm", "-np.log2(p)", "-np.log2(p + 1e-6)"),
        ("rounded up to whole bits", "-np.log2(p)", "np.ceil(-np.log2(p))"),
        ("of the rows", "np.unique(codes, return_counts=True)", "np.unique(codes, return_counts=True, axis=0)"),
    ],
    "huffman_lengths": [
        (
            "joins the two most frequent",
            "groups.sort(key=lambda group: group[0])",
            "groups.sort(key=lambda group: -group[0])",
        ),
        (
            "never sorts again",
            "groups.sort(key=lambda group: group[0])",
            "groups.sort(key=lambda group: group[0]) if lengths.sum() == 0 else None",
        ),
        ("a chain", "groups = [*groups[2:], (a + b, left + right)]", "groups = [(-1, left + right), *groups[2:]]"),
        ("zeros get words", " if count > 0", ""),
        ("one symbol gets nothing", "lengths[groups[0][1]] = 1", "pass"),
        ("the joined one has the larger count", "(a + b, left + right)", "(max(a, b), left + right)"),
        ("only one side grows", "lengths[left + right] += 1", "lengths[right] += 1"),
        (
            "Shannon's lengths, rounded up",
            "    lengths = np.zeros(len(counts), int)",
            "    total = sum(counts)\n"
            "    return np.array([max(1, int(np.ceil(np.log2(total / c)))) if c else 0 for c in counts])\n"
            "    lengths = None",
        ),
        (
            "all words equally long",
            "    lengths = np.zeros(len(counts), int)",
            "    used = np.asarray(counts) > 0\n"
            "    return np.where(used, max(1, int(np.ceil(np.log2(max(1, used.sum()))))), 0)\n"
            "    lengths = None",
        ),
        ("in the order of the counts", "return lengths", "return np.sort(lengths)"),
        ("at most 16 bits", "return lengths", "return np.minimum(lengths, 16)"),
    ],
    "canonical_words": [
        ("does not append zeros", "(word + 1) << (length - last)", "word + 1"),
        ("appends before it counts", "(word + 1) << (length - last)", "(word << (length - last)) + 1"),
        ("appends one zero at most", "(length - last)", "min(1, length - last)"),
        (
            "in the order of the symbols alone",
            "sorted((int(length), symbol) for symbol, length in enumerate(lengths) if length)",
            "((int(length), symbol) for symbol, length in enumerate(lengths) if length and length >= last)",
        ),
        (
            "longest first",
            "for symbol, length in enumerate(lengths) if length)",
            "for symbol, length in enumerate(lengths) if length)[::-1]",
        ),
        ("begins at one", "word, last = -1, 0", "word, last = 0, 0"),
        ("gives words to symbols without one", " if length)", ")"),
        ("zeros for symbols without a word", "np.full(len(lengths), -1, np.int64)", "np.zeros(len(lengths), np.int64)"),
        ("words of 32 bits", "np.int64", "np.int32"),
        ("of one length, backwards", "(int(length), symbol)", "(int(length), -symbol)"),
    ],
    "relative_index": [
        ("differences of places", "np.diff(places, prepend=-1) - 1", "np.diff(places, prepend=-1)"),
        ("begins at place 0", "prepend=-1", "prepend=0"),
        ("a filler covers only its zeros", "gaps // span", "gaps // (span - 1)"),
        ("2^bits as a step", "span = 2**bits", "span = 2**bits + 1"),
        ("a step more than there are", "span = 2**bits", "span = 2**bits - 1"),
        ("no fillers", "gaps // span", "gaps * 0"),
        ("fillers are zeros of step 0", "np.full(total, span - 1, np.uint8)", "np.zeros(total, np.uint8)"),
        ("fillers count as weights", "np.zeros(total, bool)", "np.ones(total, bool)"),
        ("one filler at most", "gaps // span", "np.minimum(gaps // span, 1)"),
        ("fillers after the weight", "np.cumsum(fillers + 1) - 1", "np.cumsum(fillers + 1) - 1 - fillers"),
        ("signed bytes", "np.full(total, span - 1, np.uint8)", "np.full(total, (span - 1) % 128, np.int8)"),
        ("by columns", "np.flatnonzero(mask)", "np.flatnonzero(np.asarray(mask).T)"),
        ("fails on nothing", " if len(ends) else 0", ""),
    ],
    "sparse_bytes": [
        ("fillers cost no codes", "(count * code_bits + 7) // 8", "(len(gaps) * code_bits + 7) // 8"),
        ("fillers cost no steps", "(count * step_bits + 7) // 8", "(len(gaps) * step_bits + 7) // 8"),
        ("rounds down", "(count * code_bits + 7) // 8", "count * code_bits // 8"),
        ("no value for fillers", " + (fillers > 0)", ""),
        ("always a value for zero", " + (fillers > 0)", " + 1"),
        ("the whole codebook of 2^bits", "4 * values", "4 * 2**code_bits"),
        ("zeros among the values", "weight[weight != 0]", "weight"),
        ("values counted without sign", "np.unique(weight[weight != 0])", "np.unique(np.abs(weight[weight != 0]))"),
        ("a codebook of float16", "4 * values", "2 * values"),
        ("does not refuse", "if values > 2**code_bits", "if False"),
        ("refuses a full codebook", "values > 2**code_bits", "values >= 2**code_bits"),
        ("steps of one row only", "np.flatnonzero(weight)", "np.nonzero(weight)[-1]"),
        ("bits for bytes", "(count * step_bits + 7) // 8", "count * step_bits"),
    ],
}
