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
    numkong, trouble = _numkong()
    if backend == "numkong" and numkong is None:
        raise ImportError(f'backend="numkong" cannot be used: {trouble}')
    return numkong is not None and (backend == "numkong" or _numkong_is_faster(M <= FEW))


def packed(codes):  # [K, N] -> the matrix as numkong multiplies by it
    """Transpose the codes for numkong, sixteen rows at a time to stay in cache."""
    transposed = np.empty(codes.shape[::-1], codes.dtype)
    for start in range(0, len(codes), 16):
        transposed[:, start : start + 16] = codes[start : start + 16].T
    return _numkong()[0].dots_pack(transposed)


def product(a, matrix, N):  # codes [M, K], `packed` [K, N] of the same dtype -> int32 [M, N]
    """Return the product, whose sums fit int32; the rows of a large one are shared among threads."""
    a, total = np.ascontiguousarray(a), np.empty((len(a), N), np.int32)
    numkong, (pool, threads) = _numkong()[0], _pool(os.getpid())
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
def _numkong():
    """Return (numkong, "") if it is there, new enough and exact on this machine, else (None, why not)."""
    try:
        import numkong

        for dtype in (np.int8, np.uint8):
            _check_exact(numkong, np.iinfo(dtype))
    except Exception as error:  # it loads machine code: whatever goes wrong, NumPy takes over
        return None, f"{error}; `pip install --upgrade numkong` may help"
    return numkong, ""


def _check_exact(numkong, codes):  # codes: the iinfo of int8 or uint8
    ends = [codes.min, codes.max, 1, codes.max - 1, codes.max, codes.min, codes.min]
    a = np.resize(np.array(ends, codes.dtype), (5, 515))
    a[0], a[1] = codes.min, codes.max
    total = np.empty((5, 5), np.int32)
    right = numkong.dots_pack(a)
    numkong.dots_packed(a, right, out=numkong.from_dlpack(total.view(f"{codes.dtype.kind}4")))
    if not np.array_equal(total, a.astype(np.int64) @ a.T.astype(np.int64)):
        raise ArithmeticError(f"numkong gives wrong {codes.dtype} products on this machine")


@cache
def _pool(process):  # one for each process, as threads do not survive a fork
    """Return threads to share, and how many to use with the one that calls."""
    threads = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    return ThreadPoolExecutor(max(1, threads - 1)), threads
