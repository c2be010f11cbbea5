"""Products of int8 matrices: exact to the last bit, and about as fast as float32 ones (chapter 03).

    y[m, n] = sum_k (a[m, k] - a_zero_point) (b[k, n] - b_zero_point)

A code c stands for the number scale (c - zero_point), as in `nnzip.quantization`, so the product of the numbers is y
times both scales; `nnzip.requantization` has what follows. NumPy multiplies integers without BLAS, hundreds of times
slower than floats, and `int8 @ int8` stays int8 and wraps. But a float32 holds every integer up to 2^24: as long as no
partial sum can pass that, whatever the order of the additions, the float32 product of the codes *is* the integer
product. How far the sums of a column of b can get:

    128 sum_k |b[k, n]|                           a is int8, of either sign: every term may be positive
    255 max(sum of positives, sum of negatives)   a is uint8, never negative: only terms of one sign add up

Where that is too much for the whole depth K, K is split into blocks for which it is not, and the blocks are added as
integers. For a packed matrix, to be used often, the cuts come from its own codes; for one that is used once they hold
for any. Zero points come in afterwards. Multiplied out, the product is

    sum_k a b - a_zero_point sum_k b - b_zero_point sum_k (a - a_zero_point)

so zero points need the column sums of b and the row sums of a (Jacob et al. 2018, arXiv:1712.05877, eq. 7 and 8).
The CPU's own int8 instructions are in `nnzip.matmul_native`.
"""

from functools import cache, cached_property, partial
from itertools import pairwise

import numpy as np

from nnzip import matmul_native
from nnzip.checks import check_array, integers, one_of
from nnzip.requantization import fixed_point_multiplier, requantize, requantize_fixed_point  # noqa: F401, what follows

FLOAT32_EXACT = 2**24  # every integer up to it is a float32
INT32_MAX = 2**31 - 1
REACH = {np.dtype(np.int8): 128, np.dtype(np.uint8): 255}  # how far from 0 codes get


def int8_matmul_by_definition(a, b, a_zero_point=0, b_zero_point=0):  # [M, K], [K, N] -> int64 [M, N]
    """Return the product as its formula has it, in int64, which is exact and slow.

    >>> int8_matmul_by_definition(np.array([[100, 100]]), np.array([[100], [-28]]), a_zero_point=10)
    array([[6480]])
    """
    a = np.asarray(a, np.int64) - np.reshape(a_zero_point, (-1, 1))  # [M, K] - [M or 1, 1]
    b = np.asarray(b, np.int64) - np.reshape(b_zero_point, (1, -1))  # [K, N] - [1, N or 1]
    return a @ b


def matmul_as(a, b, dtype):  # [M, K], [K, N] -> dtype [M, N]
    """Return the product computed in one number type: in 8 bits or float16 it is wrong, in int32 right and slow.

    >>> a, b = np.full((1, 259), 255, np.uint8), np.full((259, 1), 255, np.uint8)
    >>> [matmul_as(a, b, dtype).item() for dtype in (np.int32, np.uint8, np.float16)]
    [16841475, 3, inf]
    >>> matmul_as(a, b, np.float32).item() == 16841475  # odd and above 2^24: there is no such float32
    False
    """
    with np.errstate(over="ignore"):
        return a.astype(dtype) @ b.astype(dtype)


def exact_depth(a_dtype, b):
    """Return the largest K for which the float32 product with b is exact, in any order of its additions.

    It is the number of leading rows of b, an array or a PackedMatrix, for which no partial sum can pass 2^24, for every
    a of that dtype.

    >>> exact_depth(np.int8, np.full((2000, 1), -128, np.int8))  # 2^24 / (128 * 128)
    1024
    >>> exact_depth(np.uint8, np.tile(np.array([[127], [-127]], np.int8), (1000, 1)))  # half of them are positive
    1036
    """
    a_dtype = np.dtype(one_of("int8", "uint8")(np.dtype(a_dtype).name, "a_dtype"))
    b = code_matrix(getattr(b, "codes", b), "b")
    sums = np.cumsum(np.abs(b, dtype=np.int64), axis=0)  # of the first rows, [K, N]
    if a_dtype == np.uint8:
        sums = (sums + np.abs(np.cumsum(b, axis=0, dtype=np.int64))) // 2  # of one sign alone
    reach = REACH[a_dtype] * sums.max(axis=1)
    return int(np.count_nonzero(reach <= FLOAT32_EXACT))  # sums only grow: those rows come first


def exact_edges(a_dtype, b):  # [K, N] -> [0, ..., K]
    """Return where to cut K so that each block of rows is exact on its own, and as long as possible up to 4,096.

    >>> exact_edges(np.int8, np.full((2500, 1), -128, np.int8))
    [0, 1024, 2048, 2500]
    """
    edges = [0]
    while edges[-1] < len(b):
        edges.append(edges[-1] + exact_depth(a_dtype, b[edges[-1] : edges[-1] + 4096]))
    return edges


def product_in_blocks(a, b, edges, dtype=np.int64):  # codes [M, K], codes or their floats [K, N] -> dtype [M, N]
    """Return the exact product, float32 products of blocks of K added as integers; the edges are `exact_edges`.

    >>> a, b = np.full((1, 2500), -128, np.int8), np.full((2500, 1), -128, np.int8)
    >>> product_in_blocks(a, b, exact_edges(a.dtype, b)).item() == 2500 * 128 * 128
    True
    """
    total = 0
    for start, stop in pairwise(edges):
        floats = a[:, start:stop].astype(np.float32) @ b[start:stop].astype(np.float32, copy=False)
        total += floats.astype(dtype)
    return total


def subtract_zero_points(total, a, a_zero_point, column_sums, b_zero_point):  # [M, N], [M, K], [N]
    """Subtract the zero points' terms from total = a @ b, in place; zero points of shapes (M or 1, 1) and (N or 1,)."""
    total -= (a_zero_point * column_sums).astype(total.dtype)  # [M or 1, N]
    if b_zero_point.any():
        row_sums = a.sum(axis=1, dtype=np.int64, keepdims=True) - a.shape[1] * a_zero_point  # sum_k (a - z_a), [M, 1]
        total -= (row_sums * b_zero_point).astype(total.dtype)  # [M, N]


class PackedMatrix:
    """A weight matrix and what products with it need besides the codes, each computed at its first use."""

    def __init__(self, codes):
        self.codes, self.shape, self._edges = codes, codes.shape, {}

    def __reduce__(self):  # copies and pickles carry the codes alone: numkong's form has no copy
        return PackedMatrix, (self.codes,)

    @cached_property
    def floats(self):  # [K, N]
        return self.codes.astype(np.float32)

    @cached_property
    def column_sums(self):  # [N]
        return self.codes.sum(axis=0, dtype=np.int64)

    @cached_property
    def native(self):  # as numkong has it
        return matmul_native.packed(self.codes)

    def edges(self, a_dtype):
        if a_dtype not in self._edges:
            self._edges[a_dtype] = exact_edges(a_dtype, self.codes)
        return self._edges[a_dtype]


def pack(b):  # [K, N] -> PackedMatrix
    """Prepare an int8 or uint8 matrix for many products; the codes are copied.

    >>> pack(np.zeros((784, 300), np.int8)).shape
    (784, 300)
    """
    return PackedMatrix(code_matrix(b, "b").copy(order="C"))


def int8_matmul(a, b, *, a_zero_point=0, b_zero_point=0, out_dtype=np.int32, backend="auto"):  # -> [M, N]
    """Return the exact product of two matrices of 8-bit codes, as `int8_matmul_by_definition` has it.

    a, b : (M, K) and (K, N), int8 or uint8; b may be a PackedMatrix, which is faster from the second use on
    a_zero_point, b_zero_point : an integer that the codes' dtype holds, or one for each of the M rows, the N columns
    out_dtype : np.int32, an OverflowError where a sum does not fit (never up to K = 33,025); np.int64
    backend : "numpy"; "numkong", the CPU's int8 instructions, up to that K; "auto", numkong for large products if it
        is installed and faster on this machine, which each process measures once

    >>> a, b = np.array([[255, 1]], np.uint8), np.array([[-128], [127]], np.int8)
    >>> int8_matmul(a, b)
    array([[-32513]], dtype=int32)
    >>> int8_matmul(a, pack(b), a_zero_point=1)
    array([[-32512]], dtype=int32)
    """
    a, is_packed = code_matrix(a, "a"), isinstance(b, PackedMatrix)
    right = b if is_packed else PackedMatrix(code_matrix(b, "b"))  # for this use alone
    (M, K), N = a.shape, right.shape[1]
    if right.shape[0] != K:
        raise ValueError(f"a and b must meet in K, got shapes {a.shape} and {right.shape}")
    a_zero_point = _zero_points(a_zero_point, "a_zero_point", a.dtype, M)[:, None]  # [M or 1, 1]
    b_zero_point = _zero_points(b_zero_point, "b_zero_point", right.codes.dtype, N)  # [N or 1]
    out_dtype = one_of(np.dtype(np.int32), np.dtype(np.int64))(np.dtype(out_dtype), "out_dtype")
    native = matmul_native.chosen(backend, M, K, N, packed=is_packed)

    fits = K * 255 * 255 <= INT32_MAX  # whatever the codes and the zero points
    if native and fits:
        if a.dtype != right.codes.dtype:  # it wants one dtype: codes and zero points move by 128, the same numbers
            a_zero_point = a_zero_point + (128 if a.dtype == np.int8 else -128)
            a = (a.view(np.uint8) ^ 128).view(right.codes.dtype)
        total = matmul_native.product(a, right.native, N)
    elif not float32_is_exact():
        total = matmul_as(a, right.codes, np.int64)
    elif is_packed:
        total = product_in_blocks(a, right.floats, right.edges(a.dtype), np.int32 if fits else np.int64)
    else:
        depth = FLOAT32_EXACT // (REACH[a.dtype] * REACH[right.codes.dtype])
        if M <= 8:  # then converting b is most of the work, and blocks of a megabyte stay in cache
            depth = min(depth, max(16, 2**18 // N))
        total = product_in_blocks(a, right.codes, [*range(0, K, depth), K], np.int32 if fits else np.int64)
    if a_zero_point.any() or b_zero_point.any():
        subtract_zero_points(total, a, a_zero_point, right.column_sums, b_zero_point)
    if out_dtype == np.int32 and not fits and (total.max() > INT32_MAX or total.min() < -INT32_MAX - 1):
        raise OverflowError(f"a sum over K = {K} is beyond the bound of int32, 2147483647: use out_dtype=np.int64")
    return total.astype(out_dtype, copy=False)


@cache
def float32_is_exact():
    """Try whether this machine's BLAS is as exact as `exact_depth` assumes; one that adds in fewer bits would fail."""
    cases = (np.uint8, 258), (np.int8, 1024)  # K for which the sums come near 2^24, or reach it
    return all(matmul_native.is_exact(partial(matmul_as, dtype=np.float32), dtype, K) for dtype, K in cases)


def code_matrix(x, name):  # [M, K]
    """Return a matrix of int8 or uint8 codes as an array; TypeError for another type, ValueError for another shape."""
    array = np.asarray(x)
    if array.dtype not in REACH:
        raise TypeError(f"{name} must be int8 or uint8, got {array.dtype}")
    check_array(array, name, 2)
    return array


def _zero_points(values, name, dtype, length):  # -> int64 [length or 1]
    if type(values) is int and values == 0:  # the default; an array's checks take as long as a small product
        return np.zeros(1, np.int64)
    array = integers(values, name, np.iinfo(dtype).min, np.iinfo(dtype).max)
    if array.shape not in ((), (1,), (length,)):
        raise ValueError(f"{name} must be one number or have shape ({length},), got shape {array.shape}")
    return array.astype(np.int64).reshape(-1)
