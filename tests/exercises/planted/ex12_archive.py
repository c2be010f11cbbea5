"""Bugs planted into the solutions of chapter 12: what it is, the text of the function, and what takes its place."""

BUGS = {
    "entropy": [("rounded up to whole bits", "-np.log2(p)", "np.ceil(-np.log2(p))")],
    "huffman_lengths": [
        (
            "Shannon's lengths, rounded up",
            "    lengths = np.zeros(len(counts), int)",
            "    total = sum(counts)\n"
            "    return np.array([max(1, int(np.ceil(np.log2(total / c)))) if c else 0 for c in "
            "counts])\n"
            "    lengths = None",
        ),
        ("at most 16 bits", "return lengths", "return np.minimum(lengths, 16)"),
    ],
    "canonical_words": [("appends one zero at most", "(length - last)", "min(1, length - last)")],
    "relative_index": [("a filler covers only its zeros", "gaps // span", "gaps // (span - 1)")],
}
