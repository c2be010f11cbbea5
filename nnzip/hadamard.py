"""Hadamard matrices, and the rotations they give: +1 and -1 only, every row orthogonal to every other (chapter 04).

    H H^T = n I         so that  H / sqrt(n)  is orthogonal: it turns vectors and keeps lengths and angles

A rotation (any orthogonal map is called one here) mixes each number into all the others: a vector with one large entry
becomes one whose entries are all of like magnitude, which a uniform grid rounds best. H makes of a constant vector one
with a single large entry, so random signs come first, D on the diagonal: R = D H / sqrt(n). Inputs and weights that are
rotated alike have the same products, (x R) (w R)^T = x w^T.

`transform_by_definition` and `transform_by_butterfly` say what is computed; `hadamard_transform` computes it fast, as a
few matrix products: more arithmetic than the butterfly, less reading and writing of memory.
"""

import math
from functools import lru_cache, reduce

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nnzip.checks import check_finite, door, real, whole

# The matrices


def hadamard_matrix(n):  # -> int8 [n, n]
    """Return a Hadamard matrix of order n: entries +1 and -1, H H^T = n I.

    Powers of two are Sylvester's (1867), H_2n = [[H, H], [H, -H]]. Others are Paley's (1933) over a field of q
    elements, q a prime or the square of one: I, n = q + 1 for q = 3 (mod 4); II, n = 2 (q + 1) for q = 1 (mod 4). The
    rest are Kronecker products of these; other orders, such as 92, are not made here. Paley I is not symmetric, so the
    way back is H^T and not H.

    >>> hadamard_matrix(4)
    array([[ 1,  1,  1,  1],
           [ 1, -1,  1, -1],
           [ 1,  1, -1, -1],
           [ 1, -1, -1,  1]], dtype=int8)
    """
    return reduce(np.kron, map(_small_matrix, factors(n)))


@door
def factors(n: whole(1)):  # -> (int, ...)
    """Return the orders of the small matrices whose Kronecker product is `hadamard_matrix(n)`.

    >>> factors(8), factors(784), factors(800)
    ((2, 2, 2), (28, 28), (20, 20, 2))
    """
    if not _factors(n):
        below = next(m for m in range(n - 1, 0, -1) if _factors(m))
        above = next(m for m in range(n + 1, 2 * n) if _factors(m))
        raise ValueError(f"no Hadamard matrix of order {n} is known here; the nearest orders are {below} and {above}")
    return _factors(n)


def additions(n):  # -> int
    """Return how many additions one vector takes, factor by factor: n (f - 1) for each factor f, n log2 n for 2^k.

    >>> additions(1024), additions(784)
    (10240, 42336)
    """
    return n * sum(f - 1 for f in factors(n))


@lru_cache(maxsize=4096)
def _factors(n):
    """Return the factors of least sum, which is the work, or None: each is 1, 2 or one of Paley's orders."""
    found = [(n,)] if n <= 2 or _paley(n) else []
    for d in _divisors(n)[1:-1]:
        if _factors(d) and _factors(n // d):
            found.append(tuple(sorted(_factors(d) + _factors(n // d), reverse=True)))
    return min(found, key=lambda orders: (sum(orders), orders), default=None)  # (2, 2) comes before (4,)


def _paley(n):  # -> (q, p) or None
    """Return the field from which Paley I, q = n - 1, or II, q = n / 2 - 1, makes order n: q = p or p^2, p a prime."""
    for q, rest in ((n - 1, 3), (n // 2 - 1, 1)):
        p = math.isqrt(q) if math.isqrt(q) ** 2 == q else q
        if n % 4 == 0 and q % 4 == rest and _divisors(p) == [1, p]:
            return q, p
    return None


def _divisors(n):
    low = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*low, *(n // d for d in low)})


def _small_matrix(n):  # -> int8 [n, n]
    """Return the matrix of order 1 or 2, or Paley's.

    C C^T = q I, as sum_v chi(v) chi(v + c) = -1 for every c but 0, and the ones add 1.
    I: -1 is no square, so C^T = -C and (C + I) (C + I)^T = q I + C + C^T + I = (q + 1) I.
    II: C^T = C. With A = [[1, 1], [1, -1]] and B = [[1, -1], [-1, -1]], A B^T + B A^T = 0, so that C kron A + I kron B
    times its transpose is q I kron A A^T + I kron B B^T = 2 (q + 1) I.
    """
    if n <= 2:
        return np.array([[1, 1], [1, -1]], np.int8)[:n, :n]
    q, p = _paley(n)
    C = np.ones((q + 1, q + 1), np.int8)
    C[0, 0], C[1:, 1:] = 0, _quadratic_characters(q, p)  # a row and a column of ones around Q
    one = np.eye(q + 1, dtype=np.int8)
    if q == n - 1:
        C[1:, 0] = -1
        return C + one
    return np.kron(C, _small_matrix(2)) + np.kron(one, np.array([[1, -1], [-1, -1]], np.int8))


def _quadratic_characters(q, p):  # -> int8 [q, q]
    """Return Q[u, v] = chi(u - v): +1 if the difference is a square of the field of q elements, -1 if not, 0 for 0.

    For a prime p the field is the integers modulo p. That of p^2 elements (orders 52 and 100 need it) has the elements
    a + b t of index a + p b, where t^2 = g, no square modulo p: (a + b t)^2 = a^2 + g b^2 + 2 a b t. For p, b is 0.
    """
    b, a = np.divmod(np.arange(q), p)
    g = min(set(range(1, p)) - {c * c % p for c in range(p)})
    chi = np.full(q, -1, np.int8)
    chi[(a * a + g * b * b) % p + p * (2 * a * b % p)] = 1
    chi[0] = 0
    return chi[np.subtract.outer(a, a) % p + p * (np.subtract.outer(b, b) % p)]


# The transform


def transform_by_definition(x, *, inverse=False):  # [..., n] -> [..., n]
    """Return x H / sqrt(n), or x H^T / sqrt(n), as it is written: n^2 multiplications a vector."""
    n = np.shape(x)[-1]
    H = hadamard_matrix(n)
    return x @ (H.T if inverse else H) / np.sqrt(n)


@door
def transform_by_butterfly(x: real):  # [..., n] -> [..., n], n a power of two
    """Return x H / sqrt(n) in log2 n passes of sums and differences, as textbooks have it (Shanks 1969).

    >>> transform_by_butterfly([1.0, 2.0, 3.0, 6.0])
    array([ 6., -2., -3.,  1.])
    """
    n = x.shape[-1]
    half = 1
    while half < n:
        pairs = x.reshape(*x.shape[:-1], n // (2 * half), 2, half)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
        half *= 2
    return x / x.dtype.type(np.sqrt(n))


def kronecker_product(x, matrices, out):  # [R, n, after], a few [m, m] whose orders multiply to n -> out [R, n, after]
    """Multiply x along its middle axis by the Kronecker product of the matrices, which is never made.

        x (A kron B) = A^T X B        the vector x written as a matrix X, a row for each row of A

    The last matrix is the first (Fino and Algazi 1976), and a factor that is done counts as "after" for the next one.
    """
    after = x.shape[2]  # how far apart in memory the neighbours along the axis are
    for i, matrix in reversed(list(enumerate(matrices))):
        if after == 1:  # X B
            shape = -1, len(matrix)
            left, right = x.reshape(shape), matrix
        else:  # A^T X
            shape = -1, len(matrix), after
            left, right = matrix.T, x.reshape(shape)
        into = out.reshape(shape) if i == 0 else None
        x = np.matmul(left, right, out=into, casting="same_kind")  # float16 only in out
        after *= len(matrix)
    return out


CHUNK = 2**15  # numbers that are transformed together: few enough that they stay in cache from factor to factor
PASS = 60  # one more pass over the numbers takes as long as so many multiplications of each (measured)


def vectors(x, name):
    """Take a `real` array, but leave it to `hadamard_transform` to find NaN in what comes out: two passes less."""
    return x if type(x) is np.ndarray and x.dtype.kind == "f" and x.size else real(x, name)


@door
def hadamard_transform(x: vectors, *, axis=-1, inverse=False, block_size=None):  # [..., n, ...] -> [..., n, ...]
    """Return x H / sqrt(n) along an axis: an orthonormal transform, which keeps norms and inner products.

    With `inverse` it multiplies by H^T: the way back. With `block_size` each run of n = block_size neighbours is
    transformed by itself; it divides the length, as `largest_block` does. ValueError if a sum overflows.

    >>> hadamard_transform([8.0, 0.0, 0.0, 0.0])
    array([4., 4., 4., 4.])
    """
    axis = normalize_axis_index(axis, x.ndim)
    n = x.shape[axis] if block_size is None else block_size
    if n < 1 or x.shape[axis] % n:
        raise ValueError(f"block_size must divide the length {x.shape[axis]}, got {n}")
    rows = x.reshape(-1, n, math.prod(x.shape[axis + 1 :]))  # [before, n, after]
    matrices = [matrix.T if inverse else matrix for matrix in _matrices(n, x.dtype)]
    y = np.empty(rows.shape, x.dtype)
    count = max(1, CHUNK // rows[0].size)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        for start in range(0, len(rows), count):
            chunk = kronecker_product(rows[start : start + count], matrices, out=y[start : start + count])
            if not (math.isfinite(np.vdot(chunk, chunk)) or np.isfinite(chunk).all()):  # one sum is the faster test
                check_finite(x)
                raise ValueError(f"x is too large to be summed in {x.dtype}, got magnitudes up to {np.abs(x).max()}")
    return y.reshape(x.shape)


@lru_cache(maxsize=64)
def _matrices(n, dtype):
    """Return a few matrices, each orthogonal, whose Kronecker product is H / sqrt(n), in at least float32."""
    groups = [reduce(np.kron, map(_small_matrix, orders)) for orders in _passes(factors(n))]
    return [(H / math.sqrt(len(H))).astype(np.result_type(dtype, np.float32)) for H in groups]


@lru_cache
def _passes(orders):  # (2, 2, 2, 2, 2, 2, 2) -> ((2, 2, 2), (2, 2, 2, 2)), which multiplies by orders 8 and 16
    """Group neighbouring orders so that all passes together cost least: each costs `PASS`, and its order."""
    if not orders:
        return ()
    ways = ((orders[:k], *_passes(orders[k:])) for k in range(1, len(orders) + 1))
    return min(ways, key=lambda groups: sum(math.prod(group) + PASS for group in groups))


# Rotations

LARGEST_FACTOR = 512  # takes 15 ns a number, where order 4,096 takes 6 and a factor of 2,732 takes 200 (measured)


@door
def largest_block(n: whole(1)):  # -> int
    """Return the largest order that divides n and has no factor above 512: the entries that a rotation mixes.

    Within a factor nothing is saved: 5,504 is an order, but takes 5,503 additions an entry.

    >>> largest_block(784), largest_block(92), largest_block(25), largest_block(11_008)
    (784, 4, 1, 256)
    """
    return max(d for d in _divisors(n) if _factors(d) and max(_factors(d)) <= LARGEST_FACTOR)


@door
def random_signs(n: whole(1), *, seed):  # -> int8 [n]
    """Return n independent signs, +1 and -1 equally likely.

    With them no fixed pattern is likely to be gathered into one entry (Ailon and Chazelle 2006, section 2; Tseng et al.
    2024, QuIP#, arXiv:2402.04396, section 3).
    """
    return 2 * np.random.default_rng(seed).integers(0, 2, n, np.int8) - 1


@door
def rotate(x: vectors, signs, *, axis=-1, block_size=None):  # [..., n, ...], [n] -> [..., n, ...]
    """Return x D H / sqrt(n), D the diagonal matrix of signs: a random rotation of every vector along the axis.

    With `block_size` there is an H of that order for each block; signs are still n.

    >>> rotate([0.0, 8.0, 0.0, 0.0], [1, -1, -1, 1])
    array([-4.,  4., -4.,  4.])
    """
    return hadamard_transform(x * _along(signs, x, axis), axis=axis, block_size=block_size)


@door
def unrotate(x: vectors, signs, *, axis=-1, block_size=None):  # [..., n, ...], [n] -> [..., n, ...]
    """Return x H^T D / sqrt(n), which undoes `rotate`.

    >>> unrotate([-4.0, 4.0, -4.0, 4.0], [1, -1, -1, 1])
    array([ 0.,  8., -0.,  0.])
    """
    return hadamard_transform(x, axis=axis, inverse=True, block_size=block_size) * _along(signs, x, axis)


def _along(signs, x, axis):  # [n] -> [n, 1, ...], as many axes as x has from the axis on
    axis, signs = normalize_axis_index(axis, x.ndim), np.asarray(signs)
    if signs.shape != (x.shape[axis],) or not np.all((signs == 1) | (signs == -1)):
        raise ValueError(f"signs must be {x.shape[axis]} times +1 or -1, got shape {signs.shape}")
    return signs.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1 - axis))


@door
def incoherence(x: real):  # [...] -> float
    """Return max|x| sqrt(size) / norm, the largest magnitude over the root mean square: 1 if all magnitudes are equal.

    It is sqrt(size) for a single spike, and 0 for zeros. A symmetric grid of b bits has an SQNR of about
    10 log10(12 (2^(b-1) - 1)^2 / incoherence^2) dB, so halving it is worth one bit (Chee et al. 2023, QuIP,
    arXiv:2307.13304, definition 1).

    >>> incoherence([3.0, -3.0, 3.0, 3.0]), incoherence([8.0, 0.0, 0.0, 0.0])
    (1.0, 2.0)
    """
    largest = float(np.abs(x).max())
    if largest == 0:
        return 0.0
    return 1 / math.sqrt(np.mean((x / largest) ** 2, dtype=np.float64))  # divided first: squares may overflow
