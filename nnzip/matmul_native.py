"""The CPU's int8 instructions for `nnzip.matmul`, by the optional numkong: the same integers, faster (chapter 03)."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from timeit import repeat

import numpy as np

from nnzip.checks import one_of

SMALL = 2**26  # multiplications below which a second thread does not pay
LARGE = 2**20  # multiplications from which it matters who does them
DEEP = 128  # K from which numkong can pay: it adds up along K, and each sum has a cost of its own
FEW = 8  # rows: then reading b is most of the work, and codes are a quarter of floats


def chosen(backend, M, K, N, *, packed):
    """Tell whether numkong is to multiply [M, K] by [K, N]; ImportError if it is asked for and cannot."""
    may_pay = M * K * N >= LARGE and K >= DEEP and (packed or M >= 256)  # unpacked, b has to be transposed
    if one_of("auto", "numpy", "numkong")(backend, "backend") == "numpy" or (backend == "auto" and not may_pay):
        return False
    if backend == "numkong" and _trouble():
        raise ImportError(f'backend="numkong" cannot be used: {_trouble()}')
    return not _trouble() and (backend == "numkong" or _numkong_is_faster(M <= FEW))


def packed(codes):  # [K, N] -> the matrix as numkong multiplies by it
    """Transpose the codes for numkong, sixteen rows at a time to stay in cache."""
    import numkong

    transposed = np.empty(codes.shape[::-1], codes.dtype)
    for start in range(0, len(codes), 16):
        transposed[:, start : start + 16] = codes[start : start + 16].T
    return numkong.dots_pack(transposed)


def product(a, matrix, N):  # codes [M, K], `packed` [K, N] of the same dtype -> int32 [M, N]
    """Return the product, whose sums fit int32; the rows of a large one are shared among threads."""
    import numkong

    a, total = np.ascontiguousarray(a), np.empty((len(a), N), np.int32)
    pool, threads = _pool(os.getpid())
    out = numkong.from_dlpack(total.view(np.uint32) if a.dtype == np.uint8 else total)
    share = -(-len(a) // threads) if a.size * N >= SMALL else len(a)  # rows for each thread

    def rows(start):
        numkong.dots_packed(a, matrix, out=out, start_row=start, end_row=min(start + share, len(a)))

    others = [pool.submit(rows, start) for start in range(share, len(a), share)]
    rows(0)
    for other in others:
        other.result()
    return total


@cache
def _numkong_is_faster(few_rows):
    """Multiply by both, and tell whether numkong was the faster: without VNNI or AMX it often is not. Some 10 ms."""
    M, K, N = (1, 1024, 1024) if few_rows else (256, 512, 256)
    a, b = np.ones((M, K), np.int8), np.ones((K, N), np.int8)
    native, floats = packed(b), b.astype(np.float32)
    ways = (lambda: product(a, native, N), lambda: (a.astype(np.float32) @ floats).astype(np.int32))
    numkong, numpy = (min(repeat(way, number=1, repeat=3)) for way in ways)  # the first turn wakes threads up
    return numkong < numpy


@cache
def _trouble():
    """Return why numkong cannot be used, or "": it is there, new enough and exact on this machine."""
    try:
        for dtype in (np.int8, np.uint8):
            if not is_exact(lambda a, b: product(a, packed(b), b.shape[1]), dtype, 515):
                raise ArithmeticError(f"numkong gives wrong {dtype.__name__} products on this machine")
    except Exception as error:  # it loads machine code: whatever goes wrong, NumPy takes over
        return f"{error}; `pip install --upgrade numkong` may help"
    return ""


def is_exact(multiply, dtype, K):
    """Try multiply(a, b) on codes at the ends of their range: of one row and many, one more than a block of 64."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    a = np.resize(np.array([low] + 6 * [high], dtype), (65, K))
    b = np.resize(np.array([high] + 10 * [low], dtype), (K, 65))
    a[0] = b[:, 0] = low or high  # their product is the largest there is
    exact = a.astype(np.int64) @ b.astype(np.int64)
    return np.array_equal(multiply(a, b), exact) and np.array_equal(multiply(a[:1], b), exact[:1])


@cache
def _pool(process):  # one for each process, as threads do not survive a fork
    """Return threads to share, and how many to use with the one that calls."""
    threads = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return ThreadPoolExecutor(max(1, threads - 1)), threads
