"""Bugs planted into the solutions of chapter 04: what it is, the text of the function, and what takes its place."""

BUGS = {
    "sylvester_matrix": [("takes even numbers", "n & (n - 1)", "n % 2 and n > 1")],
    "paley_matrix": [("takes 1 modulo 4", "q % 4 != 3", "q % 2 != 1")],
    "incoherence": [
        ("squares before it divides", "1 / np.sqrt(np.mean((x / largest) ** 2))", "largest / np.sqrt(np.mean(x**2))")
    ],
    "fast_hadamard": [
        (
            "fills with zeros to the next power of two",
            '        raise ValueError(f"{n} is no power of two")\n',
            "        return x\n",
        ),
        (
            "a matrix, out of a table of n x n x n",
            "    half = 1\n",
            "    i = np.arange(n)\n"
            "    bits = np.empty((n, n, n), int)\n"
            "    bits[...] = (i[:, None, None] & i[:, None]) >> i & 1\n"
            "    H = 1 - 2 * (np.sum(bits, axis=-1) % 2)\n"
            "    y = sum(y[..., k, None] * H[k].astype(dtype) for k in range(n))\n"
            "    half = n\n",
        ),
    ],
}
