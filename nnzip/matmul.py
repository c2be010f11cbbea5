"""Products of int8 matrices: exact to the last bit, and about as fast as float32 ones.

    y[m, n] = sum_k (a[m, k] - a_zero_point) (b[k, n] - b_zero_point)

NumPy multiplies integers without BLAS, hundreds of times slower than floats, and `int8 @ int8` stays int8 and wraps.
But a float32 holds every integer up to 2^24: as long as no partial sum can pass that, whatever the order of the
additions, the float32 product of the codes *is* the integer product. How far a sum can get depends on the weights:

    128 sum_k |b[k, n]|                           for int8 inputs, which lie in [-128, 127]
    255 max(sum of positives, sum of negatives)   for uint8 inputs, which lie in [0, 255]

Where a column is too large for the whole depth K, K is split into blocks that are not, and the blocks are added as
integers. Zero points never touch the codes: they come in afterwards, by the row and the column sums (Jacob et al. 2018,
arXiv:1712.05877, equations 7 and 8). The CPU's own int8 instructions are in `nnzip.matmul_native`.
"""

from functools import cache, cached_property
from itertools import pairwise

import numpy as np

from nnzip import matmul_native
from nnzip.checks import check_ndim, check_not_empty, integers, one_of
from nnzip.requantization import fixed_point_multiplier, requantize, requantize_fixed_point  # noqa: F401

FLOAT32_EXACT = 2**24  # every integer up to it is a float32
INT32_MAX = 2**31 - 1


def int8_matmul_by_definition(a, b, a_zero_point=0, b_zero_point=0):  # [M, K], [K, N] -> int64 [M, N]
    """Return the product as its formula has it, in int64, which is exact and slow.

    >>> int8_matmul_by_definition(np.array([[100, 100]]), np.array([[100], [-28]]), a_zero_point=10)
    array([[6480]])
    """
    a = np.asarray(a, np.int64) - np.reshape(a_zero_point, (-1, 1))  # [M, K] - [M or 1, 1]
    b = np.asarray(b, np.int64) - np.reshape(b_zero_point, (1, -1))  # [K, N] - [1, N or 1]
    return a @ b


def matmul_as(a, b, dtype):  # [M, K], [K, N] -> dtype [M, N]
    """Return the product computed in one number type: the ways to go wrong, and the slow way that is right.

    >>> a, b = np.full((1, 259), 255, np.uint8), np.full((259, 1), 255, np.uint8)
    >>> [matmul_as(a, b, dtype).item() for dtype in (np.int32, np.uint8, np.float16)]
    [16841475, 3, inf]
    >>> matmul_as(a, b, np.float32).item() == 16841475  # odd and above 2^24: there is no such float32
    False
    """
    with np.errstate(over="ignore"):
        return a.astype(dtype) @ b.astype(dtype)


def exact_depth(a_dtype, b):
    """Return up to which K the float32 product with b is exact, in any order of its additions.

    It is the number of leading rows of b for which no partial sum can pass 2^24, for every a of that dtype: in every
    column 128 sum |b| (int8), or 255 times the larger of the positive and the negative sum (uint8), is at most that.

    >>> exact_depth(np.int8, np.full((2000, 1), -128, np.int8))  # 2^24 / (128 * 128)
    1024
    >>> exact_depth(np.uint8, np.tile(np.array([[127], [-127]], np.int8), (1000, 1)))  # signs that cancel count half
    1036
    """
    a_dtype = check_code_dtype(np.dtype(a_dtype), "a_dtype")
    b = code_matrix(getattr(b, "codes", b), "b")
    wide = np.int32 if len(b) < 2**23 else np.int64  # 255 * 2^23 < 2^31
    positive = np.cumsum(np.maximum(b, 0), axis=0, dtype=wide)  # of the first rows, [K, N]
    negative = positive - np.cumsum(b, axis=0, dtype=wide)
    most, sums = (128, positive + negative) if a_dtype == np.int8 else (255, np.maximum(positive, negative))
    return int(np.count_nonzero(sums.max(axis=1) <= FLOAT32_EXACT // most))  # sums only grow: those rows come first


def exact_edges(a_dtype, b):  # [K, N] -> [0, ..., K]
    """Return where to cut K so that each block of rows is exact by itself, and as deep as it can be.

    >>> exact_edges(np.int8, np.full((2500, 1), -128, np.int8))
    [0, 1024, 2048, 2500]
    """
    edges, ahead = [0], 1024  # how many rows are looked at
    while edges[-1] < len(b):
        depth = exact_depth(a_dtype, b[edges[-1] : edges[-1] + ahead])
        if depth < ahead:
            edges.append(edges[-1] + depth)
        else:
            ahead *= 2  # all of them fit, and more may
    return edges


def product_in_blocks(a, b, edges):  # codes [M, K], [K, N]; [0, ..., K] -> int64 [M, N]
    """Return the exact product: float32 products of blocks of K, added as integers. The edges are `exact_edges`.

    >>> a, b = np.full((1, 2500), -128, np.int8), np.full((2500, 1), -128, np.int8)
    >>> product_in_blocks(a, b, exact_edges(a.dtype, b)).item() == 2500 * 128 * 128
    True
    """
    total = 0
    for start, stop in pairwise(edges):
        floats = a[:, start:stop].astype(np.float32) @ b[start:stop].astype(np.float32)
        total += floats.astype(np.int64)
    return total


def subtract_zero_points(total, a, a_zero_point, column_sums, b_zero_point):  # [M, N], [M, K], [N]
    """Take the zero points' share off total = a @ b, in place. They have shapes (M or 1, 1) and (N or 1,).

    In int32 a step on the way may wrap; the end does not if it fits.
    """
    total -= (a_zero_point * column_sums).astype(total.dtype)  # [M or 1, N]
    if b_zero_point.any():
        row_sums = a.sum(axis=1, dtype=np.int64, keepdims=True) - a.shape[1] * a_zero_point  # sum_k (a - z_a), [M, 1]
        total -= (row_sums * b_zero_point).astype(total.dtype)  # [M, N]


class PackedMatrix:
    """A weight matrix for many products, made by `pack`. What a product needs besides the codes is computed once."""

    def __init__(self, codes):
        self.codes, self.shape, self.dtype, self._edges = codes, codes.shape, codes.dtype, {}

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
    codes = np.array(code_matrix(b, "b"), order="C")
    codes.setflags(write=False)
    return PackedMatrix(codes)


def int8_matmul(a, b, *, a_zero_point=0, b_zero_point=0, out_dtype=np.int32, backend="auto"):  # -> [M, N]
    """Return the exact product of two matrices of 8-bit codes.

        y[m, n] = (a @ b)[m, n] - a_zero_point sum_k b[k, n] - b_zero_point sum_k (a[m, k] - a_zero_point)

    a, b : (M, K) and (K, N), int8 or uint8; b may be a PackedMatrix, which is faster from the second use on
    a_zero_point, b_zero_point : an integer that the codes' dtype holds, or one for each of the M rows, the N columns
    out_dtype : np.int32, or np.int64 for sums beyond it, which are an OverflowError otherwise; that takes a K of at
        least 33,026 (65,794 with one int8 matrix, 131,072 with two, without zero points)
    backend : "numpy"; "numkong", the CPU's int8 instructions, for sums that fit int32; "auto", numkong for large
        products if it is installed and was faster on this machine, which a process tries once

    >>> a, b = np.array([[255, 1]], np.uint8), np.array([[-128], [127]], np.int8)
    >>> int8_matmul(a, b)
    array([[-32513]], dtype=int32)
    >>> int8_matmul(a, pack(b), a_zero_point=1)
    array([[-32512]], dtype=int32)
    """
    a, right = code_matrix(a, "a"), b if isinstance(b, PackedMatrix) else PackedMatrix(code_matrix(b, "b"))
    (M, K), N = a.shape, right.shape[1]
    if right.shape[0] != K:
        raise ValueError(f"a and b must meet in K, got shapes {a.shape} and {right.shape}")
    a_zero_point = _zero_points(a_zero_point, "a_zero_point", np.iinfo(a.dtype), M)[:, None]  # [M or 1, 1]
    b_zero_point = _zero_points(b_zero_point, "b_zero_point", np.iinfo(right.dtype), N)  # [N or 1]
    out_dtype = np.dtype(one_of("int32", "int64")(np.dtype(out_dtype).name, "out_dtype"))
    native = matmul_native.chosen(backend, M, K, N, packed=right is b)

    fits = K * 255 * 255 <= INT32_MAX  # whatever the codes and the zero points
    if native and fits:
        total = matmul_native.product(a, right.native)
    elif float32_is_exact():
        total = _float_product(a, right, right is b, np.int32 if fits else np.int64)
    else:
        total = matmul_as(a, right.codes, np.int64)
    if a_zero_point.any() or b_zero_point.any():
        subtract_zero_points(total, a, a_zero_point, right.column_sums, b_zero_point)
    if out_dtype == np.int32 and total.dtype == np.int64 and max(total.max(), -1 - total.min()) > INT32_MAX:
        raise OverflowError(f"a sum over K = {K} is beyond the bound of int32, 2147483647: use out_dtype=np.int64")
    return total.astype(out_dtype, copy=False)


def _float_product(a, right, packed, dtype):  # codes [M, K], PackedMatrix [K, N] -> dtype [M, N]
    """Do what `product_in_blocks` does, with less memory to fill: a third of the time at K = 512.

    The floats of a block become int32 in their own memory, read and written in the same order.
    """
    edges, b = right.edges(a.dtype) if packed else _any_edges(a, right), right.floats if packed else right.codes
    total = None
    for start, stop in pairwise(edges):
        floats = a[:, start:stop].astype(np.float32) @ b[start:stop].astype(np.float32, copy=False)
        integers = floats.view(np.int32)
        integers.reshape(-1)[:] = floats.reshape(-1)  # flat, so that NumPy needs no copy of the overlap
        total = integers.astype(dtype, copy=False) if total is None else np.add(total, integers, out=total)
    return total


def _any_edges(a, b):
    """Return edges that are exact for any codes: for a matrix that is used once, its own cost as much as the product.

    With few rows the blocks are so small that each stays in cache from its conversion to its product.
    """
    reach = {"int8": 128, "uint8": 255}  # how far from 0 codes get
    depth = FLOAT32_EXACT // (reach[a.dtype.name] * reach[b.dtype.name])
    if len(a) <= 8:
        depth = min(depth, max(16, 2**18 // b.shape[1]))
    return [*range(0, len(b.codes), depth), len(b.codes)]


@cache
def float32_is_exact():
    """Tell whether this machine's BLAS adds products of codes up to 2^24 as `exact_depth` assumes; tried once."""
    for M, K, low, high in ((1, 258, 0, 255), (65, 258, 0, 255), (1, 1024, -128, 127), (65, 1024, -128, 127)):
        a = np.where(np.arange(M * K).reshape(M, K) % 7, high, low).astype(np.float32)
        a[0] = low or high  # the largest sum of all
        b = np.where(np.arange(K)[:, None] % np.arange(2, 67) == 1, low, high - 1).astype(np.float32)
        b[:, 0] = low or high
        if not np.array_equal(a @ b, a.astype(np.int64) @ b.astype(np.int64)):
            return False
    return True


def code_matrix(x, name):
    array = np.asarray(x)
    check_code_dtype(array.dtype, name)
    check_ndim(array, name, 2)
    check_not_empty(array, name)
    return array


def check_code_dtype(dtype, name):
    if dtype not in (np.int8, np.uint8):
        raise TypeError(f"{name} must be int8 or uint8, got {dtype}")
    return dtype


def _zero_points(values, name, codes, length):  # -> int64 [length or 1]
    array = integers(values, name, codes.min, codes.max)
    if array.shape not in ((), (1,), (length,)):
        raise ValueError(f"{name} must be one number or have shape ({length},), got shape {array.shape}")
    return array.astype(np.int64).reshape(-1)
