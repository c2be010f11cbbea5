"""Bugs planted into the solutions of chapter 07: what it is, the text of the function, and what takes its place."""

BUGS = {
    "lloyd": [
        ("does not sort", "x = np.sort(x)", "pass"),
        ("one iteration only", "range(iterations)", "range(min(iterations, 1))"),
        (
            "a pass over the numbers",
            "means = np.diff(sums[ends]) / np.maximum(counts, 1)",
            "codes = np.searchsorted(borders, x)\n"
            "        means = [x[codes == j].sum(dtype=np.float64) / max(n, 1) for j, n in "
            "enumerate(counts)]",
        ),
    ],
    "optimal_codebook": [
        (
            "even ranks",
            "found = n, []",
            "found = n, []\n    return np.array([p.mean() for p in np.array_split(np.sort(x.ravel()), k)], np.float32)",
        ),
        ("float64", "np.array(found[::-1], np.float32)", "np.array(found[::-1])"),
        (
            "Lloyd from even steps",
            "found = n, []",
            "found = n, np.linspace(x.min(), x.max(), k)\n"
            "    for _ in range(300):\n"
            "        near = np.abs(x.ravel()[:, None] - found).argmin(1)\n"
            "        found = np.array([x.ravel()[near == m].mean() if m in near else found[m] for "
            "m in range(k)])\n"
            "    return found.astype(np.float32)",
        ),
    ],
    "sum_by_cluster": [
        (
            "sums in float32",
            "sums = np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k)",
            "sums = np.zeros(k, grad.dtype)\n    np.add.at(sums, codes.ravel(), grad.ravel())",
        )
    ],
}
