"""zip and unzip: named arrays of any model in, a .nnz file out, one tensor at a time, and back (chapter 12).

Tensors are independent. Each is rotated, pruned and rounded as its options say, or to the fewest bits that reach an
error; its bytes are written, and it is forgotten. So a checkpoint larger than memory passes in a few times the memory
of its largest tensor. What is reported of a tensor is measured on what comes back, in the type that comes back; what
cannot be done to it leaves it as it is, to the bit.
"""

import math
import os
import sys
import time
from contextlib import nullcontext
from fnmatch import fnmatchcase
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnzip.checks import FLOAT32_MAX, one_of
from nnzip.codebooks import assign, kmeans
from nnzip.files.archive import check_array, open_arrays, writing_arrays
from nnzip.files.state_dict import stored_parameters
from nnzip.files.tensor_files import open_tensors, tensor_bytes, to_bits, write_tensors
from nnzip.files.tensors import BLOCK, LARGEST, Coded, find_levels, tensor_to_bytes, turn
from nnzip.files.zip_options import Options
from nnzip.hadamard import largest_block, random_signs, rotate
from nnzip.nn import zoo
from nnzip.pruning import magnitude_mask
from nnzip.quantization import FLOAT32_TINY, choose_qparams, quantize

SAMPLE = 1 << 20  # numbers that a codebook is fitted to
AS_IT_IS = Options()


class Row(NamedTuple):
    """The report on a tensor, of what comes back: the SQNR in dB, infinite if nothing is lost."""

    name: str
    shape: tuple
    technique: str
    before: int
    after: int
    sqnr: float
    seconds: float


# One tensor


def compress(array, dtype, options):  # [...], "float32" -> bytes, what was done, SQNR in dB
    """Return a tensor's bytes by its options; where these cannot be kept, or save nothing, the tensor's own."""

    def as_it_is(why=""):
        return _lossless(array, dtype), f"as it is{why}", math.inf

    if options == AS_IT_IS or dtype not in LARGEST or not array.size:
        return as_it_is()
    largest = _largest(array)
    if not math.isfinite(largest):
        return as_it_is(": not finite")
    if options.bits is None and options.error is None:
        pruned = _pruned(array, options.sparsity)
        return _lossless(pruned, dtype), "float" + _zeros(pruned), _sqnr(array, pruned)
    if largest and not FLOAT32_TINY <= largest <= FLOAT32_MAX:  # too large for it, or all too small
        return as_it_is(": float32 cannot hold it")
    w = array.astype(np.float32, copy=False)
    w, signs = _rotated(w) if options.rotate else (w, None)
    w = _pruned(w, options.sparsity)
    for bits in [options.bits] if options.bits else range(2, 9):
        coded = (_shared if options.codebook else _on_a_grid)(w, bits)._replace(signs=signs)
        back = coded.restored(array.shape, dtype)
        sqnr, zeros = _sqnr(array, back), _zeros(back) if options.sparsity else ""
        del back  # which is as large as the tensor
        if options.error is None or sqnr >= options.error:
            data = tensor_to_bytes(array, coded)
            if len(data) >= tensor_bytes(array.shape, dtype):
                return as_it_is(f": {bits} bits save nothing")
            grid = f"{2**bits} shared" if options.codebook else f"{bits} bits"
            return data, grid + (zeros if signs is None else ", rotated"), sqnr
    return as_it_is(f": 8 bits miss {options.error:g} dB")


def _lossless(array, dtype):  # -> bytes
    bits = to_bits(array, dtype)
    few = dtype in LARGEST and array.ndim and array.size and len(np.unique(array.ravel()[:4096])) <= 256
    if few and _largest(array) <= FLOAT32_MAX:  # neither NaN nor infinity
        coded = find_levels(array)
        if coded and to_bits(coded.restored(array.shape, dtype), dtype).tobytes() == bits.tobytes():
            return tensor_to_bytes(array, coded)
    return tensor_to_bytes(bits)


def _largest(array):  # -> the largest magnitude; NaN if there is one
    return max(float(array.max()), -float(array.min()))


def _rotated(w):  # float32 [...] -> the same, and the signs; None where there is nothing to mix
    if w.ndim > 1 and largest_block(w.shape[1]) > 1:
        signs = random_signs(w.shape[1], seed=0)
        turned = turn(rotate, w, signs)
        if np.isfinite(turned).all():  # else it is beyond float32 when it is turned
            return turned, signs
    return w, None


def _pruned(w, sparsity):
    return np.where(magnitude_mask(w, sparsity), w, w.dtype.type(0)) if sparsity else w


def _zeros(values):
    return f", {np.count_nonzero(values == 0) / values.size:.1%} zero"


def _on_a_grid(w, bits):  # -> Coded
    rows, highest = w.reshape(len(w) if w.ndim > 1 else 1, -1), 2 ** (bits - 1) - 1  # a vector is one row
    grid = choose_qparams(rows, bits=bits, axis=0)
    codes = (quantize(rows, grid) + highest).astype(np.uint8)
    return Coded(codes.ravel(), range(-highest, highest + 1), grid.scale)


def _shared(w, bits):  # -> Coded
    kept = w[w != 0]
    step = -(-kept.size // SAMPLE) or 1
    zeros = np.zeros(int(kept.size < w.size), np.float32)  # a value of its own, if it is needed
    values = kmeans(kept[::step], 2**bits - len(zeros), init="k-means++") if kept.size else kept
    levels = np.unique(np.append(values, zeros))
    return Coded(assign(w, levels).ravel(), levels)


def _sqnr(array, back):  # [...], [...] -> dB
    signal = noise = -math.inf
    count = -(-array.size // BLOCK)
    for x, y in zip(np.array_split(array.ravel(), count), np.array_split(back.ravel(), count), strict=True):
        signal = np.logaddexp(signal, _log_power(x))
        noise = np.logaddexp(noise, _log_power(np.subtract(x, y, dtype=np.float64)))
    return float(10 / math.log(10) * (signal - noise)) if noise > -math.inf else math.inf


def _log_power(x):  # [n] -> ln of the sum of the squares, which may be beyond float64, or too small for it
    largest = _largest(x)
    if largest == 0:
        return -math.inf
    scaled = np.divide(x, largest, dtype=np.float64)
    return 2 * math.log(largest) + math.log(scaled @ scaled)


# All tensors


def zip_arrays(source, path, *, options=AS_IT_IS, per_tensor=(), executor=None, progress=True):
    """Write the arrays of a file, or of a trained network, to a .nnz file; return a Row for each.

    `source` is a .npz or .safetensors file, or "lenet_5:0", a network of `nnzip.nn.zoo` and its seed; `path` appears
    whole or not at all. `options` are those of every float array of two dimensions or more; others stay as they are,
    unless `per_tensor`, a list of (pattern, Options) such as ("conv*", Options(bits=8)), names them: the first that
    matches counts. Tensors are mapped over `executor`, a concurrent.futures.Executor.

    Raises ValueError, TypeError or OSError for files and options that cannot be, before anything is computed.
    """
    if Path(path).exists() and Path(source).exists() and os.path.samefile(source, path):
        raise ValueError(f"{path} is what is zipped, and cannot be what is written too")
    with _opened(source) as arrays:
        for name, stored in arrays.items():
            check_array(name, stored.dtype, stored.shape)
        weights = [name for name, (shape, dtype, _) in arrays.items() if dtype in LARGEST and len(shape) > 1]
        chosen, rows = dict.fromkeys(arrays, AS_IT_IS) | dict.fromkeys(weights, options), []
        for pattern, own in reversed(per_tensor):
            named = [name for name in arrays if name == pattern or fnmatchcase(name, pattern)]  # brackets may be meant
            if not named:
                raise ValueError(f"no tensor matches {pattern!r}; there are {', '.join(list(arrays)[:40])}")
            chosen |= dict.fromkeys(named, own)
        with writing_arrays(path) as add:
            zipped = _zipped(arrays, chosen) if executor is None else _zipped_by(executor, source, chosen)
            for dtype, data, row in zipped:
                add(row.name, dtype, row.shape, data)
                rows.append(row)
                if progress:
                    done = f"{len(rows)}/{len(chosen)}  {row.name}"
                    print(f"{done}: {row.before:,} to {row.after:,} bytes", file=sys.stderr)
    return rows


def _opened(source):  # -> context of {name: Stored}
    name, _, seed = str(source).partition(":")
    if name not in zoo.BUILD:
        return open_tensors(source)
    one_of(*map(str, zoo.SEEDS))(seed or "0", f"the seed of {name}")
    return nullcontext(stored_parameters(zoo.trained(name, seed=int(seed or 0))))


def _zipped(arrays, chosen):  # {name: Stored}, {name: Options} -> iterator of (dtype, bytes, Row)
    for name, options in chosen.items():
        start, (shape, dtype, read) = time.perf_counter(), arrays[name]
        data, told, sqnr = compress(read(), dtype, options)
        before, seconds = tensor_bytes(shape, dtype), time.perf_counter() - start
        yield dtype, data, Row(name, shape, told, before, len(data), sqnr, seconds)


def _zipped_by(executor, source, chosen):  # the same, in some 32 jobs: each opens the file anew
    step = -(-len(chosen) // 32) or 1
    jobs = [dict(islice(chosen.items(), start, start + step)) for start in range(0, len(chosen), step)]
    return chain.from_iterable(executor.map(_zip_job, [str(source)] * len(jobs), jobs))


def _zip_job(source, chosen):
    with _opened(source) as arrays:
        return list(_zipped(arrays, chosen))


def unzip_arrays(path, output):
    """Write the arrays of a .nnz file to a .npz or .safetensors file, as `output` ends; return their names.

    A network that `save` has written gives its parameters, a rotated one those of `unrotate_network`.
    """
    with open_arrays(path) as arrays:
        write_tensors(output, arrays)
        return [name for name, stored in arrays.items() if stored.dtype != "metadata"]


def report(rows, size):  # list of Row, int -> str
    """Return the table of what became of every tensor; the last line is the file's."""
    names = [row.name.encode("unicode_escape").decode() for row in rows]  # a name may hold a newline
    wide = max(map(len, [*names, "the file"]))
    how = max(len(row.technique) for row in rows) if rows else 9
    lines = [f"{'tensor':<{wide}} {'technique':<{how}} {'bytes':>13} {'ratio':>7} {'SQNR dB':>8} {'s':>6}"]
    for name, row in zip(names, rows, strict=True):
        start = f"{name:<{wide}} {row.technique:<{how}} {row.after:>13,} {row.before / max(1, row.after):>7.1f}"
        lines.append(f"{start} {row.sqnr:>8.1f} {row.seconds:>6.2f}")
    ratio = sum(row.before for row in rows) / size
    return "\n".join([*lines, f"{'the file':<{wide}} {'':<{how}} {size:>13,} {ratio:>7.1f}"])
