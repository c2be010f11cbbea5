"""Products of int8 matrices: exact to the last bit, and about as fast as float32 ones.

    y[m, n] = sum_k (a[m, k] - a_zero_point) (b[k, n] - b_zero_point)

NumPy multiplies integers without BLAS, hundreds of times slower than floats, and `int8 @ int8` stays int8 and wraps.
But a float32 holds every integer up to 2^24: as long as no partial sum can pass that, whatever the order of the
additions, the float32 product of the codes *is* the integer product. How far a sum can get depends on the weights:

    128 sum_k |b[k, n]|                           for int8 inputs, which lie in [-128, 127]
    255 max(sum of positives, sum of negatives)   for uint8 inputs, which lie in [0, 255]

Where a column is too large for the whole depth K, K is split into blocks that are not, and the blocks are added as
integers. Zero points never touch the codes: they come in afterwards, by the row and the column sums (Jacob et al. 2018,
arXiv:1712.05877, equations 7 and 8). With the optional package numkong the CPU's int8 instructions do the same
without floats. What follows such a product, the way back to 8 bits, is in `nnzip.requantization`.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from itertools import pairwise

import numpy as np

from nnzip.checks import check_choice, check_ndim, check_not_empty
from nnzip.requantization import fixed_point_multiplier, requantize, requantize_fixed_point  # noqa: F401

BACKENDS = ("auto", "numpy", "numkong")
FLOAT32_EXACT = 2**24  # every integer up to it is a float32
INT32_MAX = 2**31 - 1
ROOM = 2**22  # elements of a that are floats at a time: 16 MB, as one large product beats several
SMALL = 2**25  # multiplications below which a second thread does not pay
LARGE = 2**23  # multiplications from which it matters who does them
DEEP = 128  # K from which numkong can pay: it adds up along K, and each sum has a cost of its own
ENOUGH = 0.02  # seconds of trying
FEW = 8  # rows: then reading b is most of the work, and codes are a quarter of floats


def int8_matmul_by_definition(a, b, a_zero_point=0, b_zero_point=0):  # [M, K], [K, N] -> int64 [M, N]
    """Return the product as its formula has it, in int64, which is exact and slow.

    Examples
    --------
    >>> int8_matmul_by_definition(np.array([[100, 100]]), np.array([[100], [-28]]), a_zero_point=10)
    array([[6480]])
    """
    a = np.asarray(a, np.int64) - np.reshape(a_zero_point, (-1, 1))  # [M, K] - [M or 1, 1]
    b = np.asarray(b, np.int64) - np.reshape(b_zero_point, (1, -1))  # [K, N] - [1, N or 1]
    return a @ b


def matmul_as(a, b, dtype):  # [M, K], [K, N] -> dtype [M, N]
    """Return the product computed in one number type: the ways to go wrong, and the slow way that is right.

    Examples
    --------
    >>> a, b = np.full((1, 259), 255, np.uint8), np.full((259, 1), 255, np.uint8)
    >>> matmul_as(a, b, np.int32).item()  # right, but without BLAS
    16841475
    >>> matmul_as(a, b, np.uint8).item()  # what `a @ b` is: the sum modulo 256
    3
    >>> matmul_as(a, b, np.float16).item()  # ends at 65504
    inf
    >>> matmul_as(a, b, np.float32).item() == 16841475  # odd and above 2^24: there is no such float32
    False
    """
    with np.errstate(over="ignore"):
        return a.astype(dtype) @ b.astype(dtype)


def int8_matmul(
    a, b, *, a_zero_point=0, b_zero_point=0, out=None, out_dtype=np.int32, backend="auto"
):  # [M, K], [K, N] -> [M, N]
    """Return the exact product of two matrices of 8-bit codes.

        y[m, n] = sum_k (a[m, k] - a_zero_point) (b[k, n] - b_zero_point)
                = (a @ b)[m, n] - a_zero_point sum_k b[k, n] - b_zero_point sum_k (a[m, k] - a_zero_point)

    Parameters
    ----------
    a : (M, K), int8 or uint8
    b : (K, N), int8 or uint8, or a PackedMatrix, which is faster from the second use on
    a_zero_point : an integer that a's dtype holds, or (M,) of them
    b_zero_point : an integer that b's dtype holds, or (N,) of them
    out : an array of shape (M, N) and out_dtype for the result, apart from a and b in memory
    out_dtype : np.int32 or np.int64
    backend : "numpy"; "numkong", the CPU's int8 instructions; "auto", numkong for large products if it is installed and
        was faster on this machine, which a process tries once. The result is the same. Sums that might pass int32 are
        always NumPy's.

    Returns the array of out_dtype. TypeError or ValueError for anything not as above; OverflowError if the result does
    not fit int32, which nothing below K = 33,026 can do (65,794 with one int8 matrix, 131,072 with two, without zero
    points); ImportError if backend="numkong" cannot be had. Source: Jacob et al. 2018, arXiv:1712.05877,
    equations 4, 7 and 8.

    Examples
    --------
    >>> a, b = np.array([[255, 1]], np.uint8), np.array([[-128], [127]], np.int8)
    >>> int8_matmul(a, b)
    array([[-32513]], dtype=int32)
    >>> int8_matmul(a, pack(b), a_zero_point=1)
    array([[-32512]], dtype=int32)
    """
    packed = isinstance(b, PackedMatrix)
    a, right = _codes(a, "a"), b if packed else PackedMatrix(_codes(b, "b"))
    (M, K), N = a.shape, right.shape[1]
    if right.shape[0] != K:
        raise ValueError(f"a and b must meet in K, got shapes {a.shape} and {right.shape}")
    a_zero_point = _zero_point(a_zero_point, "a_zero_point", a.dtype, M)[:, None]  # [M or 1, 1]
    b_zero_point = _zero_point(b_zero_point, "b_zero_point", right.dtype, N)  # [N or 1]
    out = _room(out, out_dtype, (M, N), a, right.codes)
    native = _choose_backend(backend, packed, M, K, N)

    dtype = np.dtype(np.int32)
    if K * 255 * 255 > INT32_MAX:  # otherwise no zero point leads out of int32
        bound = K * _reach(a.dtype, a_zero_point) * _reach(right.dtype, b_zero_point)
        dtype = np.dtype(np.int32 if bound <= INT32_MAX else np.int64)
    total = out if out.dtype == dtype and out.flags.c_contiguous else np.empty((M, N), dtype)
    if native and dtype == np.int32:
        a, a_zero_point = _as_dtype(a, a_zero_point, right.dtype)
        _native_product(native, a, right, total)
    elif _float32_is_exact():
        _float_product(a, right, packed, total)
    else:
        total[...] = matmul_as(a, right.codes, dtype)
    _subtract_zero_points(total, a, a_zero_point, right, b_zero_point)
    return _deliver(total, out, K)


class PackedMatrix:
    """A weight matrix for many products; made by `pack`.

    What a product needs besides the codes is computed at its first use and kept: the float32 copy, the column sums, the
    blocks of K within which float32 is exact, numkong's layout.
    """

    def __init__(self, codes):
        self.codes, self.shape, self.dtype = codes, codes.shape, codes.dtype
        self._edges = {}

    def __repr__(self):
        return f"PackedMatrix(shape={self.shape}, dtype={self.dtype})"

    @cached_property
    def floats(self):  # [K, N]
        return self.codes.astype(np.float32)

    @cached_property
    def column_sums(self):  # [N]
        return self.codes.sum(axis=0, dtype=np.int64)

    @cached_property
    def native(self):
        """The codes as numkong has them: transposed, sixteen rows at a time to stay in cache."""
        transposed = self.codes.T  # [N, K]
        if not transposed.flags.c_contiguous:
            transposed = np.empty(transposed.shape, self.dtype)
            for start in range(0, self.shape[0], 16):
                transposed[:, start : start + 16] = self.codes[start : start + 16].T
        return _numkong()[0].dots_pack(transposed)

    def edges(self, a_dtype):
        """Return 0, ..., K: between two neighbours float32 sums are exact for every a of that dtype."""
        if a_dtype not in self._edges:
            self._edges[a_dtype] = _exact_edges(a_dtype, self.codes)
        return self._edges[a_dtype]


def pack(b):  # [K, N] -> PackedMatrix
    """Prepare an int8 or uint8 matrix for many products; the codes are copied.

    Raises TypeError or ValueError as `int8_matmul` does.

    Examples
    --------
    >>> pack(np.zeros((784, 300), np.int8))
    PackedMatrix(shape=(784, 300), dtype=int8)
    """
    codes = np.array(_codes(b, "b"), order="C")
    codes.setflags(write=False)
    return PackedMatrix(codes)


def exact_depth(a_dtype, b):
    """Return up to which K the float32 product with b is exact, in any order of its additions.

    It is the number of leading rows of b for which no partial sum can pass 2^24, for every a of that dtype: in every
    column 128 sum |b| (int8), or 255 times the larger of the positive and the negative sum (uint8), is at most that.

    Parameters
    ----------
    a_dtype : int8 or uint8
    b : (K, N), int8 or uint8, or a PackedMatrix

    Raises TypeError or ValueError for other matrices or dtypes.

    Examples
    --------
    >>> exact_depth(np.int8, np.full((2000, 1), -128, np.int8))  # 2^24 / (128 * 128)
    1024
    >>> exact_depth(np.uint8, np.tile(np.array([[127], [-127]], np.int8), (1000, 1)))  # signs that cancel count half
    1036
    """
    a_dtype = np.dtype(a_dtype)
    _check_dtype(a_dtype, "a_dtype")
    right = b if isinstance(b, PackedMatrix) else PackedMatrix(_codes(b, "b"))
    return right.edges(a_dtype)[1]


def _exact_edges(a_dtype, codes):  # [K, N] -> 0, ..., K
    K, N = codes.shape
    edges, row = [0], 0
    positive = negative = np.zeros(N, np.int32)
    while row < K:
        block = codes[row : row + 256].astype(np.int32)
        positive = positive + np.cumsum(np.maximum(block, 0), axis=0, dtype=np.int32)  # [N] -> [rows, N]
        negative = negative + np.cumsum(np.maximum(-block, 0), axis=0, dtype=np.int32)
        reach = 128 * (positive + negative) if a_dtype == np.int8 else 255 * np.maximum(positive, negative)
        fitting = np.count_nonzero(reach.max(axis=1) <= FLOAT32_EXACT)  # the first rows: sums only grow
        row += int(fitting)
        positive, negative = positive[-1], negative[-1]
        if fitting < len(block):
            edges.append(row)
            positive = negative = np.zeros(N, np.int32)
    return edges if edges[-1] == K else [*edges, K]


# NumPy


def _float_product(a, right, packed, total):  # [M, K], [K, N] -> into total [M, N], int32 or int64
    (M, K), N = a.shape, right.shape[1]
    edges = right.edges(a.dtype) if packed else _worst_case_edges(a.dtype, right.dtype, M, K, N)
    depth = max(stop - start for start, stop in pairwise(edges))
    rows = min(M, max(1, ROOM // max(depth, N)))
    left_room = np.empty((rows, depth), np.float32)
    room = np.empty((rows, N), np.float32) if len(edges) > 2 or total.dtype != np.int32 else None
    for start, stop in pairwise(edges):
        b_floats = right.floats[start:stop] if packed else right.codes[start:stop].astype(np.float32)
        for top in range(0, M, rows):
            part = total[top : top + rows]  # [rows, N]
            left = left_room[: len(part), : stop - start]
            np.copyto(left, a[top : top + rows, start:stop])
            in_place = start == 0 and total.dtype == np.int32  # floats first, in the memory of their integers
            floats = np.matmul(left, b_floats, out=part.view(np.float32) if in_place else room[: len(part)])
            integers = floats.view(np.int32)
            integers.reshape(-1)[:] = floats.reshape(-1)  # flat, so that NumPy needs no copy of the overlap
            if start > 0:
                part += integers
            elif not in_place:
                part[:] = integers


def _worst_case_edges(a_dtype, b_dtype, M, K, N):
    """Return edges for any codes; for few rows also such that a block of b stays in cache as it is converted."""
    depth = FLOAT32_EXACT // (_reach(a_dtype, np.int64(0)) * _reach(b_dtype, np.int64(0)))
    if M <= 8:
        depth = min(depth, max(16, 2**18 // N))
    return [*range(0, K, depth), K]


@cache
def _float32_is_exact():
    """Whether this machine's BLAS adds products of codes up to 2^24 as the certificate assumes; tried once."""
    for M, K, low, high in ((1, 258, 0, 255), (65, 258, 0, 255), (1, 1024, -128, 127), (65, 1024, -128, 127)):
        a = np.where(np.arange(M * K).reshape(M, K) % 7, high, low).astype(np.float32)
        a[0] = low or high  # the largest sum of all
        b = np.where(np.arange(K)[:, None] % np.arange(2, 67) == 1, low, high - 1).astype(np.float32)
        b[:, 0] = low or high
        if not np.array_equal(a @ b, a.astype(np.int64) @ b.astype(np.int64)):
            return False
    return True


# numkong


def _choose_backend(backend, packed, M, K, N):
    """Return the module numkong if it is to be used, else None."""
    may_pay = M * K * N >= LARGE and K >= DEEP and (packed or M >= 256)  # unpacked, b has to be transposed
    if check_choice(backend, "backend", BACKENDS) == "numpy" or (backend == "auto" and not may_pay):
        return None
    numkong, trouble = _numkong()
    if backend == "numkong" and numkong is None:
        raise ImportError(f'backend="numkong" cannot be used: {trouble}')
    return numkong if numkong and (backend == "numkong" or _numkong_is_faster(M <= FEW)) else None


@cache
def _numkong_is_faster(few_rows):
    """Multiply by both, and tell whether numkong was the faster: without VNNI or AMX it often is not. Some 10 ms."""
    M, K, N = (1, 1024, 1024) if few_rows else (256, 512, 256)
    a, b = np.ones((M, K), np.int8), pack(np.ones((K, N), np.int8))
    least = dict.fromkeys(("numkong", "numpy"), np.inf)
    begun = time.perf_counter()
    for turn in range(5):  # the best of each: the first turn wakes threads up and packs
        if turn > 1 and time.perf_counter() - begun > ENOUGH:
            break
        for backend in least:
            start = time.perf_counter()
            int8_matmul(a, b, backend=backend)
            least[backend] = min(least[backend], time.perf_counter() - start)
    return least["numkong"] < least["numpy"]


@cache
def _numkong():
    """Return (numkong, "") if it is there, new enough and exact on this machine, else (None, why not)."""
    try:
        import numkong
    except Exception as error:  # it loads machine code: whatever goes wrong, NumPy takes over
        return None, f"the import fails ({error}); `pip install numkong` installs it"
    name = f"numkong {getattr(numkong, '__version__', '')}"
    missing = [f for f in ("dots_pack", "dots_packed", "from_dlpack") if not hasattr(numkong, f)]
    if missing:
        return None, f"{name} is too old, it has no {missing[0]}; `pip install --upgrade numkong`"
    try:
        wrong = [dtype for dtype in ("int8", "uint8") if not _native_is_exact(numkong, np.iinfo(dtype))]
    except Exception as error:
        return None, f"{name} fails on this machine: {error}"
    return (None, f"{name} gives wrong {wrong[0]} products on this machine") if wrong else (numkong, "")


def _native_is_exact(numkong, codes):  # codes: the iinfo of int8 or uint8
    pattern = np.array([codes.min, codes.max, 1, codes.max - 1, codes.max, codes.min, codes.min])
    a = np.resize(pattern, (5, 515)).astype(codes.dtype)
    a[0], a[1] = codes.min, codes.max
    total = np.empty((5, 5), np.int32)
    packed = numkong.dots_pack(a)
    numkong.dots_packed(a, packed, out=numkong.from_dlpack(total.view(f"{codes.dtype.kind}4")))
    return np.array_equal(total, int8_matmul_by_definition(a, a.T))


def _as_dtype(a, zero_point, dtype):
    """Return a and its zero point, both moved by 128 if a is not of that dtype: their difference stays the same."""
    if a.dtype == dtype:
        return a, zero_point
    return (a.view(np.uint8) ^ 128).view(dtype), zero_point + (128 if dtype == np.uint8 else -128)


def _native_product(numkong, a, right, total):  # [M, K], [K, N], of one dtype -> into total [M, N], int32
    (M, K), N = a.shape, right.shape[1]
    a, packed = np.ascontiguousarray(a), right.native
    out = numkong.from_dlpack(total.view(np.uint32) if right.dtype == np.uint8 else total)
    pool, threads = _pool(os.getpid())
    share = -(-M // threads) if M * K * N >= SMALL else M  # rows for each thread

    def rows(start):
        numkong.dots_packed(a, packed, out=out, start_row=start, end_row=min(start + share, M))

    others = [pool.submit(rows, start) for start in range(share, M, share)]
    rows(0)
    for other in others:
        other.result()


@cache
def _pool(process):  # one for each process, as threads do not survive a fork
    """Return threads to share, and how many to use with the one that calls; none starts before it is needed."""
    threads = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return ThreadPoolExecutor(max(1, threads - 1)), threads


# What goes in and what comes out


def _subtract_zero_points(total, a, a_zero_point, right, b_zero_point):
    """Take the zero points' share off a @ b; int32 wraps on the way at most, and the end is certain to fit."""
    if a_zero_point.any():
        total -= (a_zero_point * right.column_sums).astype(total.dtype)  # [M or 1, N]
    if b_zero_point.any():
        row_sums = a.sum(axis=1, dtype=np.int64, keepdims=True) - a.shape[1] * a_zero_point  # [M, 1]
        total -= (row_sums * b_zero_point).astype(total.dtype)  # [M, N or 1]


def _deliver(total, out, K):
    if out.dtype == np.int32 and total.dtype == np.int64:
        farthest = max(int(total.max()), -1 - int(total.min()))  # -2^31 still fits
        if farthest > INT32_MAX:
            raise OverflowError(f"a sum over K = {K} is beyond the bound of int32, 2147483647: use out_dtype=np.int64")
    if total is not out:
        out[...] = total
    return out


def _reach(dtype, zero_point):
    """Return how far from 0 codes get, as they are and with their zero point subtracted."""
    codes = np.iinfo(dtype)
    return int(max(-codes.min, codes.max, codes.max - zero_point.min(), zero_point.max() - codes.min))


def _room(out, out_dtype, shape, *inputs):
    dtype = np.dtype(out_dtype)
    if dtype not in (np.int32, np.int64):
        raise ValueError(f"out_dtype must be int32 or int64, got {dtype}")
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray) or out.dtype != dtype or out.shape != shape or not out.flags.writeable:
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"out must be a writeable array of dtype {dtype} and shape {shape}, got {got}")
    if any(np.may_share_memory(out, array) for array in inputs):
        raise ValueError("out must not share memory with a or b")
    return out


def _codes(x, name):
    array = np.asarray(x)
    _check_dtype(array.dtype, name)
    check_ndim(array, name, 2)
    check_not_empty(array, name)
    return array


def _check_dtype(dtype, name):
    if dtype not in (np.int8, np.uint8):
        raise TypeError(f"{name} must be int8 or uint8, got {dtype}")


def _zero_point(value, name, dtype, length):  # -> int64 [length or 1]
    array, codes = np.asarray(value), np.iinfo(dtype)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer or integers, got {value!r}")
    if array.shape not in ((), (1,), (length,)):
        raise ValueError(f"{name} must be one number or have shape ({length},), got shape {array.shape}")
    low, high = (array.min(), array.max()) if array.ndim else (array.item(), array.item())
    if low < codes.min or high > codes.max:
        raise ValueError(f"{name} must be from {codes.min} to {codes.max} for {dtype} codes, got {value}")
    return array.astype(np.int64).reshape(-1)
