"""Bugs planted into the solutions of chapter 07: what it is, the text of the function, and what takes its place."""

BUGS = {
    "assign": [
        ("a tie goes to the upper", 'side="left"', 'side="right"'),
        ("the borders are the values", "(codebook[:-1] + codebook[1:]) / 2", "codebook[1:]"),
        ("int64", ".astype(np.uint8)", ""),
        ("looks among the values", "np.searchsorted(borders, x,", "np.searchsorted(codebook, x,"),
        (
            "even steps",
            "(codebook[:-1] + codebook[1:]) / 2",
            "np.linspace(codebook[0], codebook[-1], len(codebook) + 1)[1:-1]",
        ),
        ("loses the shape", "np.searchsorted(borders, x,", "np.searchsorted(borders, x.ravel(),"),
        ("gives the value", ".astype(np.uint8)", ".astype(np.uint8) * 0 + codebook[np.searchsorted(borders, x)]"),
    ],
    "lloyd": [
        ("does not sort", "x = np.sort(x)", "pass"),
        ("an empty cluster is 0", "np.where(counts > 0, means, values)", "means"),
        ("a tie counts for the upper", 'side="right"', 'side="left"'),
        ("sums in float32", "np.cumsum(x, dtype=np.float64)", "np.cumsum(x)"),
        ("one iteration only", "range(iterations)", "range(min(iterations, 1))"),
        ("one iteration too many", "range(iterations)", "range(iterations + 1)"),
        ("borders are the values", "(values[:-1] + values[1:]) / 2", "values[1:]"),
        (
            "a prefix sum short",
            "np.concatenate([[0.0], np.cumsum(x, dtype=np.float64)])",
            "np.append(np.cumsum(x, dtype=np.float64), 0.0)",
        ),
        ("borders of the start", "borders = (values[:-1] + values[1:]) / 2", "borders = (start[:-1] + start[1:]) / 2"),
        (
            "a pass over the numbers",
            "means = np.diff(sums[ends]) / np.maximum(counts, 1)",
            "codes = np.searchsorted(borders, x)\n"
            "        means = [x[codes == j].sum(dtype=np.float64) / max(n, 1) for j, n in enumerate(counts)]",
        ),
        (
            "the middle of the cluster",
            "means = np.diff(sums[ends]) / np.maximum(counts, 1)",
            "means = (x[ends[:-1] - (ends[:-1] == len(x))] + x[ends[1:] - 1]) / 2",
        ),
    ],
    "optimal_codebook": [
        (
            "counts forgotten",
            "[counts, counts * (values - shift), counts * (values - shift) ** 2]",
            "[np.ones(n), values - shift, (values - shift) ** 2]",
        ),
        (
            "even ranks",
            "found = n, []",
            "found = n, []\n    return np.array([p.mean() for p in np.array_split(np.sort(x.ravel()), k)], np.float32)",
        ),
        ("greedy: the last cluster first", "tried = errors[i] + q[j]", "tried = q[j]"),
        ("no square of the sum", "(s[j] - s[i]) ** 2 / (c[j] - c[i])", "(s[j] - s[i]) / (c[j] - c[i])"),
        ("the count forgotten in the cost", "(s[j] - s[i]) ** 2 / (c[j] - c[i])", "(s[j] - s[i]) ** 2"),
        (
            "variance for squared error",
            "q[j] - q[i] - (s[j] - s[i]) ** 2 / (c[j] - c[i])",
            "(q[j] - q[i]) / (c[j] - c[i]) - ((s[j] - s[i]) / (c[j] - c[i])) ** 2",
        ),
        ("descending", "found[::-1]", "found"),
        ("one value short", "range(k)", "range(k - 1)"),
        ("float64", "np.array(found[::-1], np.float32)", "np.array(found[::-1])"),
        ("zeros for values to spare", "np.full(k - n, values[-1])", "np.zeros(k - n)"),
        ("forgets the shift", "found.append(shift + ", "found.append("),
        (
            "Lloyd from even steps",
            "found = n, []",
            "found = n, np.linspace(x.min(), x.max(), k)\n"
            "    for _ in range(300):\n"
            "        near = np.abs(x.ravel()[:, None] - found).argmin(1)\n"
            "        found = np.array([x.ravel()[near == m].mean() if m in near else found[m] for m in range(k)])\n"
            "    return found.astype(np.float32)",
        ),
    ],
    "power_of_two_codebook": [
        ("the power below", "top += 1", "pass"),
        ("the power above", "largest >= 1.5 * 2**top", "largest > 2**top"),
        ("nearest by logarithm", "largest >= 1.5 * 2**top", "largest >= 2**0.5 * 2**top"),
        ("a tie goes down", "largest >= 1.5 * 2**top", "largest > 1.5 * 2**top"),
        ("maximum, not magnitude", "np.max(np.abs(x))", "np.max(x)"),
        ("one exponent too many", "2 ** (bits - 1) - 1)", "2 ** (bits - 1))"),
        ("as many as codes", "2 ** (bits - 1) - 1)", "2**bits - 1)"),
        ("no zero", "[0.0], ", ""),
        ("not ascending", "powers[::-1]", "powers"),
        ("zeros have no logarithm", " or 1.0", ""),
        ("exponents of e", "2.0 ** (top", "np.e ** (top"),
        ("float64", ".astype(np.float32)", ""),
    ],
    "ternary": [
        ("threshold of one half", "0.7 * rows", "0.5 * rows"),
        ("the mean is the threshold", "0.7 * rows", "rows"),
        ("mean of all", "np.sum(rows * large, axis=1) / np.sum(large, axis=1)", "rows.mean(axis=1)"),
        ("divides by all", "np.sum(large, axis=1)", "rows.shape[1]"),
        ("values for magnitudes", "np.abs(w)", "w"),
        ("threshold of the whole", "rows.mean(axis=1, keepdims=True)", "rows.mean()"),
        ("a row of zeros is NaN", "rows >= 0.7", "rows > 0.7"),
        (
            "axis the other way round",
            "sizes.reshape(len(w), -1) if axis == 0",
            "sizes.reshape(len(w), -1).T if axis == 0",
        ),
        (
            "always a codebook for each row",
            "if axis == 0 else sizes.reshape(1, -1)",
            "if w.ndim > 1 else sizes.reshape(1, -1)",
        ),
        ("the largest", "np.sum(rows * large, axis=1) / np.sum(large, axis=1)", "rows.max(axis=1)"),
        ("the threshold itself", "np.sum(rows * large, axis=1) / np.sum(large, axis=1)", "0.7 * rows.mean(axis=1)"),
        ("float64", ".astype(np.float32)", ""),
    ],
    "sum_by_cluster": [
        ("the mean", "minlength=k)", "minlength=k) / np.maximum(np.bincount(codes.ravel(), minlength=k), 1)"),
        ("stops at the largest code", ", minlength=k", ""),
        (
            "adds each code once",
            "sums = np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k)",
            "sums = np.zeros(k)\n    sums[codes.ravel()] += grad.ravel()",
        ),
        ("one of them transposed", "weights=grad.ravel()", "weights=grad.T.ravel()"),
        ("magnitudes", "weights=grad.ravel()", "weights=np.abs(grad.ravel())"),
        ("counts", "weights=grad.ravel(), ", ""),
        ("float64", ".astype(grad.dtype)", ""),
        (
            "sums in float32",
            "sums = np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k)",
            "sums = np.zeros(k, grad.dtype)\n    np.add.at(sums, codes.ravel(), grad.ravel())",
        ),
    ],
}
