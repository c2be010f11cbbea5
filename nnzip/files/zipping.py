"""zip and unzip: named arrays of any model in, a .nnz file out, one tensor at a time, and back.

Tensors are independent. Each is rotated, pruned and rounded as its options say, or to the fewest bits that reach an
error; its bytes are written, and it is forgotten. So a checkpoint larger than memory passes in a few times the memory
of its largest tensor. What is reported of a tensor is measured on what comes back, in the type that comes back; what
cannot be done to it leaves it as it is, to the bit.
"""

import json
import math
import os
import sys
import time
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import FLOAT32_MAX, one_of
from nnzip.codebooks import assign, kmeans
from nnzip.compression.hadamard import unrotate_network
from nnzip.files.archive import check_array, holds_network, load, reading_arrays, writing_arrays
from nnzip.files.tensor_files import (
    BITS,
    Stored,
    errors_name,
    from_bfloat16,
    open_tensors,
    tensor_bytes,
    to_bfloat16,
    write_npz,
    write_safetensors,
)
from nnzip.files.tensors import Coded, decode_tensor, find_levels, tensor_to_bytes
from nnzip.files.zip_options import Options
from nnzip.hadamard import largest_block, random_signs, rotate, unrotate
from nnzip.nn import zoo
from nnzip.pruning import magnitude_mask
from nnzip.quantization import choose_qparams, quantize

BLOCK = 1 << 20  # numbers that are worked on together
SAMPLE = 1 << 20  # numbers that a codebook is fitted to
FLOAT32_TINY = float(np.finfo(np.float32).tiny)
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": FLOAT32_MAX, "float64": FLOAT32_MAX}
FLOATS = tuple(LARGEST)
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


def compress(array, dtype, options):  # [...], "float32" -> parts of bytes, what was done, SQNR in dB
    """Return a tensor's bytes by its options; where these cannot be kept, or save nothing, the tensor's own."""

    def as_it_is(why=""):
        return _lossless(array, dtype), f"as it is{why}", math.inf

    if options == AS_IT_IS or dtype not in FLOATS or not array.size:
        return as_it_is()
    if not _all(np.isfinite, array):
        return as_it_is(": not finite")
    if options.bits is None and options.error is None:
        pruned = _pruned(array, options.sparsity)
        return _lossless(pruned, dtype), _told("float", pruned), _sqnr(array, pruned)
    if not _all(_within_float32, array):
        return as_it_is(": float32 cannot hold it")
    w, turned = _rotated(array) if options.rotate else (array.astype(np.float32, copy=False), {})
    w = _pruned(w, options.sparsity)
    for bits in [options.bits] if options.bits else range(2, 9):
        coded = _coded(w, bits, options.codebook)._replace(**turned)
        sqnr = _sqnr(array, restored(coded.values().reshape(array.shape), dtype, **turned))
        if options.error is None or sqnr >= options.error:
            parts = tensor_to_bytes(array, coded)
            if _size(parts) >= tensor_bytes(array.shape, dtype):
                return as_it_is(f": {bits} bits save nothing")
            grid = f"{2**bits} shared" if options.codebook else f"{bits} bits"
            zeros = _told("", coded.values()) if options.sparsity and not turned else ""
            return parts, grid + zeros + ", rotated" * bool(turned), sqnr
    return as_it_is(f": 8 bits miss {options.error:g} dB")


def restored(values, dtype, signs=None, block_size=0):  # float32 [...], in the basis of the codes -> [...]
    """Return what comes back of decoded values: turned back, in the type of the tensor, within its range."""
    if signs is not None:
        _turn(unrotate, values, signs, block_size)
    np.clip(values, -LARGEST[dtype], LARGEST[dtype], out=values)  # rounding up may lead beyond, and float32 computes
    return from_bfloat16(to_bfloat16(values)) if dtype == "bfloat16" else values.astype(dtype, copy=False)


def _lossless(array, dtype):  # -> parts of bytes
    few = dtype in FLOATS and array.ndim and array.size and len(np.unique(array.ravel()[:4096])) <= 256
    if few and _all(np.isfinite, array) and _all(_within_float32, array):
        coded = find_levels(array)
        if coded and _same_bits(restored(coded.values().reshape(array.shape), dtype), array):
            return tensor_to_bytes(array, coded)
    return tensor_to_bytes(to_bfloat16(array) if dtype == "bfloat16" else array)


def _same_bits(a, b):
    return a.astype(a.dtype.newbyteorder("<")).tobytes() == b.astype(b.dtype.newbyteorder("<")).tobytes()


def _within_float32(rows):  # neither too large for it nor, unless they are 0, all too small
    largest = float(np.abs(rows).max())
    return largest == 0 or FLOAT32_TINY <= largest <= LARGEST["float32"]


def _size(parts):
    return sum(len(data) for _, data in parts)


def _all(true_of, array):
    return all(np.all(true_of(rows)) for rows in _blocks(array))


def _blocks(array):  # -> its rows, as many at a time as make about BLOCK numbers
    rows = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
    count = max(1, BLOCK // rows.shape[1])
    return (rows[start : start + count] for start in range(0, len(rows), count))


def _rotated(array):  # -> float32 [...], {"signs": ..., "block_size": ...}; {} where there is nothing to mix
    block_size = largest_block(array.shape[1]) if array.ndim > 1 else 1
    w = np.array(array, np.float32, order="C")
    if block_size == 1:
        return w, {}
    signs = random_signs(array.shape[1], seed=0)
    _turn(rotate, w, signs, block_size)
    if not _all(np.isfinite, w):  # beyond float32 when it is turned
        return np.array(array, np.float32, order="C"), {}
    return w, {"signs": signs, "block_size": block_size}


def _turn(function, w, signs, block_size):  # rotates or rotates back, in place
    count = max(1, BLOCK // w[0].size)
    for start in range(0, len(w), count):
        rows = w[start : start + count]
        with np.errstate(over="ignore"):  # infinite beyond float32: the caller sees to that
            rows[...] = function(rows.astype(np.float64), signs, axis=1, block_size=block_size)


def _pruned(w, sparsity):
    return np.where(magnitude_mask(w, sparsity), w, w.dtype.type(0)) if sparsity else w


def _coded(w, bits, codebook):
    if codebook:
        kept = w[w != 0]
        step = -(-kept.size // SAMPLE) or 1
        zero = kept.size < w.size
        values = kmeans(kept[::step], 2**bits - zero, init="k-means++") if kept.size else np.zeros(0, np.float32)
        levels = np.unique(np.append(values, np.float32(0)) if zero else values)
        return Coded(np.concatenate([assign(rows, levels).ravel() for rows in _blocks(w)]), levels)
    grids, codes, highest = [], [], 2 ** (bits - 1) - 1
    for rows in _blocks(w):
        grids.append(choose_qparams(rows, bits=bits, axis=0))
        codes.append((quantize(rows, grids[-1]) + highest).astype(np.uint8).ravel())
    scales = np.concatenate([grid.scale for grid in grids])
    return Coded(np.concatenate(codes), range(-highest, highest + 1), scales)


def _sqnr(array, back):  # [...], [...] -> dB
    noise = _power_db(lambda: map(partial(np.subtract, dtype=np.float64), _blocks(array), _blocks(back)))
    return math.inf if noise == -math.inf else _power_db(lambda: _blocks(array)) - noise


def _power_db(blocks):  # () -> iterator of [...] -> dB of the sum of their squares, none of which is infinite, or 0
    largest = max(float(np.abs(rows).max()) for rows in blocks())
    if largest == 0:
        return -math.inf
    total = sum(float(np.sum(np.divide(rows, largest, dtype=np.float64) ** 2)) for rows in blocks())
    return 20 * math.log10(largest) + 10 * math.log10(total)


def _told(start, values):
    return f"{start}, {np.count_nonzero(values == 0) / values.size:.1%} zero"


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
        for pattern, _ in per_tensor:
            if not any(_matches(name, pattern) for name in arrays):
                raise ValueError(f"no tensor matches {pattern!r}; there are {', '.join(list(arrays)[:40])}")
        chosen = {name: _options_for(name, stored, options, per_tensor) for name, stored in arrays.items()}
        rows = []
        with writing_arrays(path) as add:
            for dtype, parts, row in _mapped(source, arrays, chosen, executor):
                add(row.name, dtype, row.shape, parts)
                rows.append(row)
                if progress:
                    print(
                        f"{len(rows)}/{len(chosen)}  {row.name}: {row.before:,} to {row.after:,} bytes", file=sys.stderr
                    )
    return rows


@contextmanager
def _opened(source):  # -> {name: Stored}
    name, _, seed = str(source).partition(":")
    if name not in zoo.BUILD:
        with open_tensors(source) as arrays:
            yield arrays
        return
    one_of(*map(str, zoo.SEEDS))(seed or "0", f"the seed of {name}")
    arrays = zoo.trained(name, seed=int(seed or 0)).parameters()
    yield {key: Stored(array.shape, array.dtype.name, lambda array=array: array) for key, array in arrays.items()}


def _matches(name, pattern):
    return name == pattern or fnmatchcase(name, pattern)  # brackets of a name are no pattern


def _options_for(name, stored, options, per_tensor):
    for pattern, own in per_tensor:
        if _matches(name, pattern):
            return own
    return options if stored.dtype in FLOATS and len(stored.shape) > 1 and math.prod(stored.shape) else AS_IT_IS


def _mapped(source, arrays, chosen, executor):  # -> iterator of (dtype, parts, Row)
    if executor is None:
        return (_zip_one(arrays[name], name, options) for name, options in chosen.items())
    names = list(chosen)
    step = -(-len(names) // 32) or 1  # each job opens the file anew
    jobs = [{name: chosen[name] for name in names[start : start + step]} for start in range(0, len(names), step)]
    return chain.from_iterable(executor.map(_zip_some, [str(source)] * len(jobs), jobs))


def _zip_some(source, chosen):
    with _opened(source) as arrays:
        return [_zip_one(arrays[name], name, options) for name, options in chosen.items()]


def _zip_one(stored, name, options):  # -> dtype, parts, Row
    start = time.perf_counter()
    parts, told, sqnr = compress(stored.read(), stored.dtype, options)
    before, after = tensor_bytes(stored.shape, stored.dtype), _size(parts)
    return stored.dtype, parts, Row(name, stored.shape, told, before, after, sqnr, time.perf_counter() - start)


def unzip_arrays(path, output):
    """Write the arrays of a .nnz file to a .npz or .safetensors file, as `output` ends; return {name: (dtype, shape)}.

    A network that `save` has written gives its parameters, a rotated one those of `unrotate_network`. In .npz bfloat16
    goes as float32, 8-bit floats as their bits, and there is no place for the metadata of .safetensors.
    """
    suffix = one_of(".npz", ".safetensors")(Path(output).suffix.lower(), "the suffix of what is unzipped to")
    shapes, arrays, metadata = _contents(path)
    with atomic_write(output) as file:
        if suffix == ".npz":
            write_npz(file, arrays)
        else:
            write_safetensors(file, shapes, arrays, metadata)
    return shapes


def _contents(path):  # -> {name: (dtype, shape)}, iterator of (name, dtype, array), metadata
    if holds_network(path):
        parameters = unrotate_network(load(path)).parameters()
        arrays = ((name, "float32", array) for name, array in parameters.items())
        return {name: ("float32", array.shape) for name, array in parameters.items()}, arrays, None
    shapes, metadata = {}, None
    for name, dtype, packed in reading_arrays(path):
        if dtype == "metadata":
            with errors_name(path):
                metadata = json.loads(decode_tensor(packed, dtype="uint8").tobytes())
        else:
            shapes[name] = dtype, packed.shape
    return shapes, _all_decoded(path), metadata


def _all_decoded(path):  # -> iterator of (name, dtype, array)
    for name, dtype, packed in reading_arrays(path):
        if dtype != "metadata":
            with errors_name(path):
                array = _decoded(dtype, packed)
            yield name, dtype, array


def _decoded(dtype, packed):
    if packed.is_plain:
        array = decode_tensor(packed, dtype=BITS.get(dtype, dtype))
        return from_bfloat16(array) if dtype == "bfloat16" else array
    if dtype not in FLOATS:
        raise ValueError(f"{dtype} has no levels")
    return restored(decode_tensor(packed), dtype, packed.signs, packed.block_size)


def report(rows, size):  # list of Row, int -> str
    """Return the table of what became of every tensor; the last line is the file's."""
    names = [row.name.encode("unicode_escape").decode() for row in rows]  # a name may hold a newline
    wide = max(map(len, [*names, "the file"]))
    how = max(len(row.technique) for row in rows) if rows else 9
    lines = [f"{'tensor':<{wide}} {'technique':<{how}} {'bytes':>13} {'ratio':>7} {'SQNR dB':>8} {'s':>6}"]
    for name, row in zip(names, rows, strict=True):
        ratio = f"{row.before / max(1, row.after):.1f}"
        lines.append(
            f"{name:<{wide}} {row.technique:<{how}} {row.after:>13,} {ratio:>7} {row.sqnr:>8.1f} {row.seconds:>6.2f}"
        )
    before = sum(row.before for row in rows)
    return "\n".join([*lines, f"{'the file':<{wide}} {'':<{how}} {size:>13,} {before / size:>7.1f}"])
