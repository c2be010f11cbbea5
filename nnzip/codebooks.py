"""Codebooks: a weight as the number of one of k values, and the k values wherever they serve best (chapter 07).

    code = argmin_j |x - c_j|        assign        (a tie goes to the lower)
    x_hat = c_code                   look_up

A codebook is a sorted array of values, fitted to the numbers (`kmeans`, `optimal_codebook`) or made by a rule (powers
of two, NF4, binary, ternary). A weight then takes log2(k) bits, and the codebook 32 k bits once.
Gong et al. 2014 (arXiv:1412.6115), section 3; Han et al. 2016, Deep Compression (arXiv:1510.00149), section 3.
"""

import numpy as np

from nnzip.checks import door, integers, one_of, real, real32, reals, same_shape, whole

INITS = ("linear", "density", "k-means++")
LARGEST = 256  # values in a codebook: codes are uint8
k_values = whole(1, LARGEST)

NF4 = np.array(  # quantiles of a normal distribution over [-1, 1], and a 0: Dettmers et al. 2023, appendix E
    [
        [-1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.091050036, 0],
        [0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1],
    ],
    np.float32,
).ravel()
NF4.setflags(write=False)


# Codes and values


@door
def assign(x: real, codebook: reals(1, 2)):  # [...], [k] or [len(x), k] -> uint8 [...]
    """Return the code of the nearest value for every number: how many borders lie below it. A tie goes to the lower.

    The codebook ascends and has 1 to 256 values; one of two dimensions has a row for each index of the first axis.

    >>> assign([-1.0, 0.1, 0.5, 7.0], [0.0, 1.0, 2.0])
    array([0, 0, 0, 2], dtype=uint8)
    """
    check_codebook(codebook, x)
    if np.any(codebook[..., 1:] < codebook[..., :-1]):
        raise ValueError(f"a codebook must ascend, got {np.array2string(codebook, threshold=8)}")
    if codebook.ndim == 1:
        return borders_below(x, borders(codebook, x.dtype))
    return np.array([borders_below(row, borders(own, x.dtype)) for row, own in zip(x, codebook, strict=True)])


def borders_below(x, borders):  # [...], [k - 1] -> uint8 [...]
    """Return how many of the borders are below each number: the code of its nearest value."""
    codes = np.zeros(x.shape, np.uint8)
    for border in borders:  # faster than a binary search for each number, up to 128 values or so
        codes += x > border
    return codes


@door
def look_up(codes, codebook: reals(1, 2)):  # integers [...], [k] or [len(codes), k] -> float32 [...]
    """Return the values that codes stand for, in float32.

    The codebook is one as in `assign`, but in any order: values that are trained may pass each other.

    >>> look_up([[2, 0], [0, 1]], [-0.5, 0.0, 0.5])
    array([[ 0.5, -0.5],
           [-0.5,  0. ]], dtype=float32)
    """
    codes, codebook = integers(codes, "codes", 0, codebook.shape[-1] - 1), codebook.astype(np.float32)
    check_codebook(codebook, codes)
    if codebook.ndim == 1:
        return codebook[codes]
    return np.array([own[row] for row, own in zip(codes, codebook, strict=True)])


@door
def sum_by_cluster(grad: real, codes, k: k_values):  # [...], integers [...] -> [k]
    """Return the gradient of every shared value: the sum over the weights that share it, 0 where none does.

        dL/dc_j = sum over all i with code_i = j of dL/dw_i

    Summed in float64. Source: Han et al. 2016 (arXiv:1510.00149), eq. 3.

    >>> sum_by_cluster([[1.0, 2.0], [3.0, 4.0]], [[0, 2], [2, 0]], 3)
    array([5., 0., 5.])
    """
    codes = integers(codes, "codes", 0, k - 1)
    same_shape(grad, codes, ("grad", "codes"))
    return np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k).astype(np.result_type(grad, np.float32))


def borders(codebook, dtype):  # [k] -> [k - 1]
    """Return the midpoints, rounded down to a float that numbers of this dtype can be compared with as they are."""
    codebook = np.asarray(codebook, np.float64)
    middle = codebook[:-1] / 2 + codebook[1:] / 2
    with np.errstate(over="ignore"):  # below the lowest number there is -infinity, which is a border too
        border = middle.astype(dtype)
        return np.where(border > middle, np.nextafter(border, dtype.type(-np.inf)), border)


def check_codebook(codebook, x):
    """Refuse too many values, and a codebook for each row of another number of rows."""
    if codebook.shape[-1] > LARGEST:
        raise ValueError(f"a codebook has at most {LARGEST} values, got shape {codebook.shape}")
    if codebook.ndim == 2 and x.shape[:1] != codebook.shape[:1]:
        raise ValueError(f"there must be a codebook for each row of an array of shape {x.shape}, got {len(codebook)}")


# Codebooks that are fitted


def lloyd_by_definition(x, centroids):  # [...], [k] -> [k]
    """Return the centroids after one iteration of k-means: each becomes the mean of the numbers nearest to it."""
    x, codes = np.asarray(x), assign(x, centroids)
    return np.array([x[codes == j].mean() if np.any(codes == j) else old for j, old in enumerate(centroids)])


def lloyd(values, centroids, iterations):  # sorted [n], ascending float64 [k] -> float64 [k]
    """Return the centroids after so many iterations of `lloyd_by_definition`, or fewer when they stay.

    The clusters of numbers on a line are intervals. So an iteration is k - 1 binary searches for the borders, and as
    many differences of prefix sums. A centroid without numbers stays where it is.
    """
    sums = np.append(0.0, np.cumsum(values, dtype=np.float64))  # in float32 a long sum drowns small weights
    for _ in range(iterations):
        before, edges = centroids, np.searchsorted(values, borders(centroids, values.dtype), side="right")
        ends = np.concatenate([[0], edges, [len(values)]])
        counts = np.diff(ends)
        centroids = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), centroids)
        if np.array_equal(centroids, before):
            break
    return centroids


@door
def kmeans(x: real32, k: k_values, *, init: one_of(*INITS) = "linear", iterations: whole(0) = 50, seed=0):
    """Fit k values to numbers by Lloyd's iteration, as float32 [k].

    It starts with even steps from the smallest number to the largest, "linear"; with even steps in rank, the quantiles
    (i + 1/2) / k, "density"; or with numbers drawn, each with a probability that grows with its squared distance from
    those before, "k-means++" (Arthur and Vassilvitskii 2007, section 2.2), by an int or a Generator, `seed`. Sources:
    Lloyd 1982, Least squares quantization in PCM, section III; Han et al. 2016 (arXiv:1510.00149), section 3.

    >>> kmeans([0.0, 1.0, 10.0, 12.0], 2)
    array([ 0.5, 11. ], dtype=float32)
    """
    values = np.sort(x, axis=None)
    return lloyd(values, _starts(values, k, init, seed), iterations).astype(np.float32)


def _starts(values, k, init, seed):  # sorted [n] -> ascending float64 [k]
    if init == "linear":
        return np.linspace(float(values[0]), float(values[-1]), k)
    if init == "density":
        return values[((np.arange(k) + 0.5) / k * len(values)).astype(np.intp)].astype(np.float64)
    rng = np.random.default_rng(seed)
    chosen, squares = [float(values[rng.integers(len(values))])], np.full(len(values), np.inf)
    while len(chosen) < k:
        squares = np.minimum(squares, np.subtract(values, chosen[-1], dtype=np.float64) ** 2)
        heap = np.cumsum(squares)  # all zero where there are fewer distinct numbers than values: then any will do
        chosen.append(float(values[min(np.searchsorted(heap, rng.random() * heap[-1], "right"), len(values) - 1)]))
    return np.sort(chosen)


@door
def optimal_codebook_by_definition(x: real32, k: k_values):  # [...] -> float32 [k]
    """Return the k values of least squared error, by the plain dynamic programme: every start i of the last cluster.

        E(j, m) = min over i < j of E(i, m - 1) + cost(i, j)

    is the least error of the j smallest numbers in at most m clusters, cost(i, j) that of the i-th to the j-th in one.
    """

    def added(found, cluster):  # (error, means) and the numbers of one cluster more
        return found[0] + np.sum((cluster - cluster.mean()) ** 2), [*found[1], cluster.mean()]

    x = np.sort(x, axis=None).astype(np.float64)
    best = [(0.0, [])] + [(np.inf, [])] * len(x)  # for every j
    for _ in range(k):
        best[1:] = [min(added(best[i], x[i:j]) for i in range(j)) for j in range(1, len(x) + 1)]
    means = best[-1][1]
    return np.array(means + means[-1:] * (k - len(means)), np.float32)


@door
def optimal_codebook(x: real32, k: k_values):  # [...] -> float32 [k]
    """Return the k values of least squared error: what every other codebook is judged by.

    The last cluster's best start i grows with j: once it is known for a j, it bounds the search on both sides. So a row
    E(., m) of `optimal_codebook_by_definition` takes n log n steps. Where there are fewer numbers than values, the
    largest is repeated. Sources: Wang and Song 2011, Ckmeans.1d.dp; Gronlund et al. 2017 (arXiv:1701.07204).

    >>> optimal_codebook([0.0, 1.0, 10.0, 12.0, 30.0], 3)
    array([ 0.5, 11. , 30. ], dtype=float32)
    """
    values, counts = np.unique(x.astype(np.float64), return_counts=True)
    n = len(values)
    if n <= k:
        return np.pad(values, (0, k - n), mode="edge").astype(np.float32)
    center = np.average(values, weights=counts)  # squares of large numbers would swallow their differences
    powers = [counts, counts * (values - center), counts * (values - center) ** 2]
    sums = np.pad(np.cumsum(powers, axis=1), ((0, 0), (1, 0)))  # [3, n + 1]
    errors, starts = np.append(0.0, np.full(n, np.inf)), []  # E(., 0) [n + 1]
    for _ in range(k):
        errors, start = _one_cluster_more(errors, *sums)
        starts.append(start)
    edges = [n]
    for start in reversed(starts):
        edges.insert(0, start[edges[0]])
    return (center + np.diff(sums[1, edges]) / np.diff(sums[0, edges])).astype(np.float32)


def _one_cluster_more(errors, counts, totals, squares):  # E(., m - 1) and prefix sums [n + 1] -> E(., m), the best i
    """Halve the steps between the j whose best i are known; cost(i, j) = sum x^2 - (sum x)^2 / count."""
    n, without_last = len(errors) - 1, errors - squares
    step = 1 << n.bit_length()
    found, best = np.full(n + 1, np.inf), np.full(step + 1, n, np.int32)
    best[0] = 0
    while step := step // 2:
        j = np.arange(step, n + 1, 2 * step)  # every multiple of 2 step has been found before
        low, high = best[j - step], np.minimum(best[j + step], j - 1)
        lengths = high - low + 1
        first = np.cumsum(lengths) - lengths
        i = np.arange(lengths.sum()) + np.repeat(low - first, lengths)  # low to high for each j
        total = np.repeat(totals[j], lengths) - totals[i]
        tried = without_last[i] - total * total / (np.repeat(counts[j], lengths) - counts[i])
        least = np.minimum.reduceat(tried, first)
        hits = np.flatnonzero(tried == np.repeat(least, lengths))
        found[j], best[j] = squares[j] + least, i[hits[np.searchsorted(hits, first)]]  # of equal ones the first
    return found, best


# Codebooks by rule


@door
def power_of_two_codebook(x: real32, *, bits: whole(2, 8)):  # [...] -> float32 [2^bits - 1]
    """Return 0 and the powers of two, of both signs, from the one nearest to max|x| downward: products are shifts.

    There are 2^(bits-1) - 1 exponents. Of two equally near powers the larger is taken; for zeros only, 1. Sources:
    Zhou et al. 2017, INQ (arXiv:1702.03044), eqs. 1 to 3; Miyashita et al. 2016 (arXiv:1603.01025) for activations too.

    >>> power_of_two_codebook([0.9, -0.1], bits=3)
    array([-1.  , -0.5 , -0.25,  0.  ,  0.25,  0.5 ,  1.  ], dtype=float32)
    """
    fraction, exponent = np.frexp(np.abs(x).max().astype(np.float64) or 1.0)  # [0.5, 1) times 2^e
    top = min(exponent - (fraction < 0.75), 127)  # the last power of two in float32
    powers = np.ldexp(1.0, top - np.arange(2 ** (bits - 1) - 1))
    return np.concatenate([-powers, [0.0], powers[::-1]]).astype(np.float32)


@door
def binary(w: real32, *, axis: one_of(None, 0) = None):  # [C, ...] -> float32 () or [C], int8 [C, ...]
    """Return the scale and the signs of one-bit weights: scale = mean|w|, which has the least squared error.

    One scale for all, or with axis=0 one for each index of the first axis. The sign of 0 is +1: there is no third code.
    Sources: Courbariaux et al. 2015, BinaryConnect (arXiv:1511.00363), without a scale; Rastegari et al. 2016, XNOR-Net
    (arXiv:1603.05279), eq. 6.

    >>> scale, signs = binary([0.5, -0.25, 0.0, 1.25])
    >>> float(scale), signs.tolist()
    (0.5, [1, -1, 1, 1])
    """
    rows = np.abs(w).reshape(1 if axis is None else len(w), -1)
    scale = rows.mean(axis=1, dtype=np.float64).astype(np.float32)
    return scale if axis == 0 else scale[0], np.where(w < 0, -1, 1).astype(np.int8)


@door
def ternary(w: real32, *, axis: one_of(None, 0) = None):  # [C, ...] -> float32 [3] or [C, 3]
    """Return the codebook (-a, 0, a) of ternary weights: a is the mean of the magnitudes above 0.7 mean|w|.

    `axis` is that of `binary`. `assign` puts the border at a / 2, where the nearest value changes, and not at the
    threshold. Source: Li and Liu 2016 (arXiv:1605.04711), eqs. 5 and 6.

    >>> ternary([0.0, 0.1, -0.1, 1.0, -2.0])
    array([-1.5,  0. ,  1.5], dtype=float32)
    """
    sizes = np.abs(w).reshape(1 if axis is None else len(w), -1).astype(np.float64)
    large = sizes >= 0.7 * sizes.mean(axis=1, keepdims=True)  # >=, so that a row of zeros has some
    a = np.sum(sizes, axis=1, where=large) / large.sum(axis=1)
    codebooks = np.stack([-a, 0 * a, a], axis=1).astype(np.float32)
    return codebooks if axis == 0 else codebooks[0]
