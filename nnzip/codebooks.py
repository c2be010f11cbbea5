"""Codebooks: a weight as the number of one of k values, and the k values wherever they serve best.

    code = argmin_j |x - c_j|        assign        (a tie goes to the lower)
    x_hat = c_code                   look_up

A codebook is a sorted array of values. `kmeans` and `optimal_codebook` fit one to the numbers; powers of two, NF4,
binary and ternary ones follow a rule. A weight then takes log2(k) bits, and the codebook 32 k bits once.
Gong et al. 2014 (arXiv:1412.6115), section 3; Han et al. 2016, Deep Compression (arXiv:1510.00149), section 3.
"""

import numpy as np

from nnzip.checks import check_choice, check_finite, check_integer, check_not_empty, check_same_shape, real_array

INITS = ("linear", "density", "k-means++")
LARGEST = 256  # values in a codebook: codes are uint8

NF4 = np.array(  # quantiles of a normal distribution over [-1, 1], and a 0: Dettmers et al. 2023, appendix E
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
        *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
        *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    np.float32,
)
NF4.setflags(write=False)


# Codes and values


def assign(x, codebook):  # [...], [k] -> uint8 [...]
    """Return the code of the nearest value for every number; a tie goes to the lower.

    Parameters
    ----------
    x : real numbers, any shape
    codebook : ascending array (k,), 1 to 256 values; or (len(x), k), one for each index of the first axis

    Raises ValueError or TypeError for numbers that are not finite, and a codebook that does not fit or ascend.

    Examples
    --------
    >>> assign([-1.0, 0.1, 0.5, 7.0], [0.0, 1.0, 2.0])
    array([0, 0, 0, 2], dtype=uint8)
    """
    x, codebook = real_array(x), _check_codebook(codebook)
    if np.any(np.diff(codebook) < 0):
        raise ValueError(f"a codebook must ascend, got {np.array2string(codebook, threshold=8)}")
    if codebook.ndim == 2:
        _check_rows(codebook, x)
        return np.array([assign(row, own) for row, own in zip(x, codebook, strict=True)])
    codes = np.zeros(x.shape, np.uint8)
    for border in _borders(codebook, x.dtype):  # faster than a binary search for each number, up to 128 values or so
        codes += x > border
    return codes


def look_up(codes, codebook):  # integers [...], [k] -> float32 [...]
    """Return the values that codes stand for, in float32.

    The codebook is one as in `assign`, but in any order: values that are trained may pass each other. Raises ValueError
    or TypeError for codes that are not integers or not in it.

    Examples
    --------
    >>> look_up([[2, 0], [0, 1]], [-0.5, 0.0, 0.5])
    array([[ 0.5, -0.5],
           [-0.5,  0. ]], dtype=float32)
    """
    codebook = _check_codebook(codebook).astype(np.float32)
    codes = _check_codes(codes, codebook.shape[-1])
    if codebook.ndim == 1:
        return codebook[codes]
    _check_rows(codebook, codes)
    return np.take_along_axis(codebook, codes.reshape(len(codes), -1).astype(np.intp), axis=1).reshape(codes.shape)


def sum_by_cluster(grad, codes, k):  # [...], integers [...] -> [k]
    """Return the gradient of every shared value: the sum over the weights that share it, 0 where none does.

        dL/dc_j = sum over all i with code_i = j of dL/dw_i

    Parameters
    ----------
    grad : float array, the gradient by each weight as if it were free
    codes : integers in [0, k), of the same shape
    k : int, 1 to 256

    Summed in float64. Raises ValueError or TypeError for codes that do not fit. Source: Han et al. 2016
    (arXiv:1510.00149), eq. 3.

    Examples
    --------
    >>> sum_by_cluster([[1.0, 2.0], [3.0, 4.0]], [[0, 2], [2, 0]], 3)
    array([5., 0., 5.])
    """
    grad, k = real_array(grad, "grad"), check_integer(k, "k", 1, LARGEST)
    codes = _check_codes(codes, k)
    check_same_shape(grad, codes, ("grad", "codes"))
    return np.bincount(codes.ravel(), weights=grad.ravel(), minlength=k).astype(grad.dtype)


def _borders(codebook, dtype):  # [k] -> [k - 1]
    """Return the midpoints, rounded down to a float that numbers of this dtype can be compared with as they are."""
    middle = codebook[:-1] / 2 + codebook[1:] / 2
    if dtype.itemsize >= 8:
        return middle
    with np.errstate(over="ignore"):  # below the lowest number there is -infinity, which is a border too
        border = middle.astype(dtype)
        return np.where(border > middle, np.nextafter(border, dtype.type(-np.inf)), border)


# Codebooks that are fitted


def kmeans(x, k, *, init="linear", iterations=50, seed=0):  # [...] -> float32 [k]
    """Fit k values to numbers by Lloyd's iteration: each value becomes the mean of the numbers nearest to it.

    The clusters of numbers on a line are intervals. So the numbers are sorted and summed up once, and an iteration is
    k - 1 binary searches for the borders, halfway between the values, and as many differences of prefix sums. It
    ends early when no border moves. A value without numbers stays where it is.

    Parameters
    ----------
    x : real numbers, any shape, in the range of float32
    k : int, 1 to 256
    init : "linear", even steps from the smallest number to the largest; "density", even steps in rank, the quantiles
        (i + 1/2) / k; "k-means++", numbers drawn one after the other, each with a probability that grows with its
        squared distance from those before (Arthur and Vassilvitskii 2007, section 2.2)
    iterations : int >= 0, at most so many
    seed : int or numpy Generator, of "k-means++"

    Raises ValueError or TypeError for anything else. Sources: Lloyd 1982, Least squares quantization in PCM, section
    III; Han et al. 2016 (arXiv:1510.00149), sections 3.1 and 3.2.

    Examples
    --------
    >>> kmeans([0.0, 1.0, 10.0, 12.0], 2)
    array([ 0.5, 11. ], dtype=float32)
    """
    values, k = np.sort(_within_float32(x), axis=None), check_integer(k, "k", 1, LARGEST)
    check_choice(init, "init", INITS)
    iterations = check_integer(iterations, "iterations", 0)
    return _lloyd(values, _starts(values, k, init, seed), iterations).astype(np.float32)


def _lloyd(values, centroids, iterations):  # sorted [n], ascending [k] -> float64 [k]
    sums = np.zeros(len(values) + 1)  # float64: in float32 a long sum drowns small weights
    np.cumsum(values, dtype=np.float64, out=sums[1:])
    edges = None
    for _ in range(iterations):
        before, edges = edges, np.searchsorted(values, _borders(centroids, values.dtype), side="right")
        if before is not None and np.array_equal(before, edges):
            break
        ends = np.concatenate([[0], edges, [len(values)]])
        counts = np.diff(ends)
        centroids = np.where(counts > 0, np.diff(sums[ends]) / np.maximum(counts, 1), centroids)
    return centroids


def lloyd_by_definition(x, centroids):  # [...], [k] -> [k]
    """Return the centroids after one iteration of k-means, as the definition has it: the plain form of `kmeans`."""
    x, codes = np.asarray(x), assign(x, centroids)
    return np.array([x[codes == j].mean() if np.any(codes == j) else c for j, c in enumerate(centroids)])


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


def optimal_codebook(x, k):  # [...] -> float32 [k]
    """Return the k values of least squared error, by dynamic programming: what every other codebook is judged by.

        E(j, m) = min over i < j of E(i, m - 1) + cost(i, j)

    is the least error of the j smallest numbers in m clusters; the last cluster begins at i. The best i grows with j:
    once it is known for a j, it bounds the search on both sides. So a row of E takes about n log n steps.

    Parameters
    ----------
    x : real numbers, any shape, in the range of float32
    k : int, 1 to 256; where there are fewer distinct numbers, the largest is repeated

    Time grows with k n log n for n distinct numbers, memory with k n: seconds for 235,200 numbers, 16 values. Exact
    but for float64 rounding of the errors. Raises ValueError or TypeError as `kmeans` does. Sources: Wang and Song
    2011, Ckmeans.1d.dp; Gronlund et al. 2017 (arXiv:1701.07204), section 2.1.

    Examples
    --------
    >>> optimal_codebook([0.0, 1.0, 10.0, 12.0, 30.0], 3)
    array([ 0.5, 11. , 30. ], dtype=float32)
    """
    values, counts = np.unique(_within_float32(x).astype(np.float64), return_counts=True)
    n, k = len(values), check_integer(k, "k", 1, LARGEST)
    if n <= k:
        return np.pad(values, (0, k - n), mode="edge").astype(np.float32)
    center = np.average(values, weights=counts)  # squares of large numbers would swallow their differences
    powers = [counts, counts * (values - center), counts * (values - center) ** 2]
    sums = np.stack([np.concatenate([[0.0], np.cumsum(power)]) for power in powers])  # [3, n + 1]
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
    found, best = np.full(n + 1, np.inf), np.zeros(n + 1, np.int32)
    step = 1 << n.bit_length() - 1
    while step:
        j = np.arange(step, n + 1, 2 * step)  # every multiple of 2 step has been found before
        low, high = best[j - step], np.where(j + step <= n, best[np.minimum(j + step, n)], n)
        lengths = np.minimum(high, j - 1) - low + 1
        first = np.cumsum(lengths) - lengths
        i = np.arange(lengths.sum()) + np.repeat(low - first, lengths)  # low to high for each j
        total = np.repeat(totals[j], lengths) - totals[i]
        tried = without_last[i] - total * total / (np.repeat(counts[j], lengths) - counts[i])
        least = np.minimum.reduceat(tried, first)
        hits = np.flatnonzero(tried == np.repeat(least, lengths))
        found[j], best[j] = squares[j] + least, i[hits[np.searchsorted(hits, first)]]  # of equal ones the first
        step //= 2
    return found, best


# Codebooks by rule


def power_of_two_codebook(x, *, bits):  # [...] -> float32 [2^bits - 1]
    """Return 0 and the powers of two, of both signs, from the one nearest to max|x| downward: products are shifts.

    Parameters
    ----------
    x : real numbers, any shape, in the range of float32; only their largest magnitude counts
    bits : int, 2 to 8; there are 2^(bits-1) - 1 exponents

    Of two equally near powers the larger is taken; for zeros only, 1. Raises ValueError or TypeError for anything
    else. Source: Zhou et al. 2017, INQ (arXiv:1702.03044), eqs. 1 to 3. Miyashita et al. 2016 (arXiv:1603.01025) for
    activations too.

    Examples
    --------
    >>> power_of_two_codebook([0.9, -0.1], bits=3)
    array([-1.  , -0.5 , -0.25,  0.  ,  0.25,  0.5 ,  1.  ], dtype=float32)
    """
    bits = check_integer(bits, "bits", 2, 8)
    fraction, exponent = np.frexp(np.abs(_within_float32(x)).max().astype(np.float64) or 1.0)  # [0.5, 1) times 2^e
    top = min(exponent - (fraction < 0.75), 127)  # the last power of two in float32
    powers = np.ldexp(1.0, top - np.arange(2 ** (bits - 1) - 1))
    return np.concatenate([-powers, [0.0], powers[::-1]]).astype(np.float32)


def binary(w, *, axis=None):  # [C, ...] -> float32 () or [C], int8 [C, ...]
    """Return the scale and the signs of one-bit weights: scale = mean|w|, which has the least squared error.

    Parameters
    ----------
    w : float array, in the range of float32
    axis : None, one scale for all; 0, one for each index of the first axis

    The sign of 0 is +1: there is no third code. Raises ValueError or TypeError for anything else. Sources:
    Courbariaux et al. 2015, BinaryConnect (arXiv:1511.00363), without a scale; Rastegari et al. 2016, XNOR-Net
    (arXiv:1603.05279), eq. 6.

    Examples
    --------
    >>> scale, signs = binary([0.5, -0.25, 0.0, 1.25])
    >>> float(scale), signs.tolist()
    (0.5, [1, -1, 1, 1])
    """
    w, rows = _rows(w, axis)
    scale = np.abs(rows).mean(axis=1, dtype=np.float64).astype(np.float32)
    return scale if axis == 0 else scale[0], np.where(w < 0, -1, 1).astype(np.int8)


def ternary(w, *, axis=None):  # [C, ...] -> float32 [3] or [C, 3]
    """Return the codebook (-a, 0, a) of ternary weights: a is the mean of the magnitudes above 0.7 mean|w|.

    Parameters and errors are those of `binary`. `assign` puts the border at a / 2, where the nearest value changes, and
    not at the threshold. Source: Li and Liu 2016 (arXiv:1605.04711), eqs. 5 and 6.

    Examples
    --------
    >>> ternary([0.0, 0.1, -0.1, 1.0, -2.0])
    array([-1.5,  0. ,  1.5], dtype=float32)
    """
    _, rows = _rows(w, axis)
    sizes = np.abs(rows).astype(np.float64)
    large = sizes >= 0.7 * sizes.mean(axis=1, keepdims=True)  # >=, so that a row of zeros has some
    a = np.sum(sizes, axis=1, where=large) / large.sum(axis=1)
    codebooks = np.stack([-a, 0 * a, a], axis=1).astype(np.float32)
    return codebooks if axis == 0 else codebooks[0]


# What arguments must be


def _within_float32(x, name="x"):
    x = real_array(x, name)
    with np.errstate(over="ignore"):
        check_finite(np.array([x.min(), x.max()]).astype(np.float32), f"{name} as float32")
    return x


def _rows(w, axis):  # [C, ...] -> the same, [C or 1, n]
    check_choice(axis, "axis", (None, 0))
    w = _within_float32(w, "w")
    return w, w.reshape(len(w) if axis == 0 else 1, -1)


def _check_codebook(codebook):
    codebook = real_array(codebook, "codebook", ndim=(1, 2)).astype(np.float64)
    if codebook.shape[-1] > LARGEST:
        raise ValueError(f"a codebook has at most {LARGEST} values, got shape {codebook.shape}")
    return codebook


def _check_codes(codes, k):
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise TypeError(f"codes must be integers, got dtype {codes.dtype}")
    check_not_empty(codes, "codes")
    if codes.min() < 0 or codes.max() >= k:
        raise ValueError(f"codes must be in [0, {k - 1}], got {codes.min()} to {codes.max()}")
    return codes


def _check_rows(codebook, x):
    if x.shape[:1] != codebook.shape[:1]:
        raise ValueError(f"there must be a codebook for each row of an array of shape {x.shape}, got {len(codebook)}")
