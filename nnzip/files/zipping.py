"""zip and unzip: named arrays of any model in, a .nnz file out, one tensor at a time, and back.

Tensors are independent. Each is pruned, rotated and rounded as its options say, or to the fewest bits that reach an
error, or a size; its bytes are written, and it is forgotten. So a checkpoint larger than memory passes in a few times
the memory of its largest tensor.
"""

import math
import sys
import time
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import check_choice, check_integer, check_number
from nnzip.codebooks import assign, kmeans
from nnzip.coding import entropy
from nnzip.files.archive import holds_network, load, reading_arrays, writing_arrays
from nnzip.files.tensor_files import (
    SUFFIXES,
    from_bfloat16,
    item_size,
    open_tensors,
    to_bfloat16,
    write_npz,
    write_safetensors,
)
from nnzip.files.tensors import PLAIN, Coded, decode_tensor, find_levels, scaled, tensor_to_bytes
from nnzip.hadamard import largest_block, random_signs, rotate, unrotate
from nnzip.jobs import check_executor
from nnzip.quantization import FLOAT32_MAX, choose_qparams, quantize

BLOCK = 1 << 20  # numbers that are worked on together
SAMPLE = 1 << 20  # numbers that a codebook is fitted to
FLOATS = ("float32", "float16", "float64", "bfloat16")
UNITS = {"kB": 1000, "MB": 1000**2, "GB": 1000**3, "B": 1}


@dataclass(frozen=True)
class Options:
    """What shall become of a tensor; without any, it stays as it is, to the bit.

    Parameters
    ----------
    bits : 2 to 8, of a symmetric grid with a scale for each output; with `codebook`, of k-means' 2^bits shared values
    sparsity : the fraction of the smallest magnitudes that become 0
    rotate : by random signs and Hadamard along axis 1 first
    error : in dB, the SQNR to be reached, by the fewest bits that do; or the tensor stays as it is
    size : in bytes, to be kept to, by the most bits that do, and at 3 bits by the least sparsity
    """

    bits: int | None = None
    sparsity: float = 0.0
    rotate: bool = False
    error: float | None = None
    size: float | None = None
    codebook: bool = False

    def __post_init__(self):
        if self.bits is not None:
            check_integer(self.bits, "bits", 2, 8)
        check_number(self.sparsity, "sparsity", 0, 1)
        targets = sum(target is not None for target in (self.bits, self.error, self.size))
        if targets > 1:
            raise ValueError("of bits, error and size only one can be asked for")
        if targets == 0 and (self.rotate or self.codebook):
            raise ValueError("rotate and codebook need bits, an error or a size")


class Row(NamedTuple):
    """The report on a tensor; the error in dB, infinite if nothing is lost."""

    name: str
    shape: tuple
    technique: str
    before: int
    after: int
    sqnr: float
    seconds: float


# One tensor


def compress(array, options):  # float [...] -> array (as it is, or pruned), Coded or None, what was done, SQNR in dB
    """Return a tensor as codes, by its options, and what is lost."""
    if array.dtype.kind != "f" or not array.size or options == Options() or not _finite(array):
        return array, _few_values(array), "as it is", math.inf
    with np.errstate(over="ignore"):  # infinite beyond float32, where there are no codes
        w, signs, block_size = _rotated(array) if options.rotate else (np.asarray(array, np.float32), None, 0)
    if not _finite(w):
        return array, None, "as it is", math.inf

    def attempt(bits, sparsity):
        if bits is None:  # what is kept stays as it is, in its own precision
            pruned = _pruned(array, sparsity)
            return pruned, None, _told(bits, sparsity, options), _sqnr(array, pruned)
        pruned = _pruned(w, sparsity)
        coded = _coded(pruned, bits, options.codebook)._replace(signs=signs, block_size=block_size)
        return array, coded, _told(bits, sparsity, options) + ", rotated" * (signs is not None), _sqnr(w, coded)

    if options.error is not None:
        tried = (attempt(bits, options.sparsity) for bits in range(2, 9))
        return next((found for found in tried if found[-1] >= options.error), (array, None, "as it is", math.inf))
    if options.size is not None:
        return _within_size(attempt, options)
    return attempt(options.bits, options.sparsity)


def _within_size(attempt, options):
    """Take the most bits that fit, or three and the least sparsity, by bisection on the entropy; all zero at last."""
    for bits in range(8, 2, -1):
        found = attempt(bits, options.sparsity)
        if _estimate(found[1]) <= options.size and _size(found) <= options.size:
            return found
    low, high = options.sparsity, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if _estimate(attempt(3, middle)[1]) <= options.size else (middle, high)
    while _size(found := attempt(3, high)) > options.size and high < 1:
        high = min(1.0, high + 0.1 * (1 - high) + 1e-4)
    return found


def _few_values(array):  # -> Coded or None, without loss
    if array.dtype != np.float32 or array.ndim == 0 or not array.size or len(np.unique(array.ravel()[:4096])) > 256:
        return None
    return find_levels(array) if _finite(array) else None


def _finite(array):
    return all(np.isfinite(rows).all() for rows in _blocks(array))


def _blocks(array):  # -> its rows, as many at a time as make about BLOCK numbers
    rows = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
    count = max(1, BLOCK // rows.shape[1])
    return (rows[start : start + count] for start in range(0, len(rows), count))


def _rotated(array):  # -> float32 [...], signs and block size, or None and 0 where there is nothing to mix
    block_size = largest_block(array.shape[1]) if array.ndim > 1 else 1
    w = np.array(array, np.float32, order="C")
    if block_size == 1 or not _finite(w):
        return w, None, 0
    signs = random_signs(array.shape[1], seed=0)
    turn(rotate, w, signs, block_size)
    return w, signs, block_size


def turn(function, w, signs, block_size):  # rotates or rotates back, in place
    count = max(1, BLOCK // w[0].size)
    for start in range(0, len(w), count):
        rows = w[start : start + count]
        with np.errstate(over="ignore"):  # infinite beyond float32: the caller sees to that
            rows[...] = function(rows.astype(np.float64), signs, axis=1, block_size=block_size)


def _pruned(w, sparsity):  # -> [...] whose smallest magnitudes are 0
    count = round(sparsity * w.size)
    if count == 0:
        return w
    magnitudes = np.abs(w).ravel()
    threshold = np.partition(magnitudes, count - 1)[count - 1]
    return np.where(np.abs(w) > threshold, w, w.dtype.type(0))


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


def _sqnr(w, coded):  # float32 [...], Coded or array -> dB
    signal = noise = 0.0
    rows_of = _blocks(w)
    scales = coded.scales if isinstance(coded, Coded) else None
    start = group = 0
    for rows in rows_of:
        stop = start + rows.size
        if isinstance(coded, Coded):
            values = np.array(coded.levels, np.float32)[coded.codes[start:stop]]
            if scales is not None:
                values = scaled(values, scales[group : group + len(rows)])
        else:
            values = coded.ravel()[start:stop]
        start, group = stop, group + len(rows)
        signal += float(np.sum(rows.astype(np.float64) ** 2))
        noise += float(np.sum((rows.ravel() - values).astype(np.float64) ** 2))
    return math.inf if noise == 0 else -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def _estimate(coded):  # bytes, a little too few
    return entropy(coded.codes) * coded.codes.size / 8 + (0 if coded.scales is None else 4 * len(coded.scales))


def _size(found):
    return sum(len(data) for _, data in tensor_to_bytes(*found[:2]))


def _told(bits, sparsity, options):
    grid = f"{2**bits} shared" if options.codebook and bits else f"{bits} bits" if bits else "float"
    return grid + f", {sparsity:.1%} zero" * (sparsity > 0)


# All tensors


def zip_arrays(source, path, *, options=Options(), per_tensor=(), executor=None, progress=True):
    """Write the arrays of a file, or of a trained network, to a .nnz file; return a Row for each.

    Parameters
    ----------
    source : a .npz or .safetensors file, or "lenet_5:0", a network of `nnzip.nn.zoo` and its seed
    path : the .nnz file, which appears whole or not at all
    options : Options for every float array of two dimensions or more; others stay as they are, unless they are named.
        Its size is the whole file's: what is left of it beside the others is shared out by their numbers of elements.
    per_tensor : list of (pattern, Options), such as ("conv*", Options(bits=8)); the first that matches a name counts
    executor : concurrent.futures.Executor, optional, over which the tensors are mapped

    Raises ValueError, TypeError or OSError for files and options that cannot be.
    """
    check_executor(executor)
    with open_tensors(source) as arrays:
        chosen = _shared_out({name: (a.shape, a.dtype) for name, a in arrays.items()}, options, per_tensor)
    rows, work = [], partial(_zip_one, str(source))
    with writing_arrays(path) as add:
        done = (executor.map if executor else map)(work, chosen, chosen.values())
        for i, (dtype, parts, row) in enumerate(done, 1):
            add(row.name, dtype, row.shape, parts)
            rows.append(row)
            if progress:
                print(f"{i}/{len(chosen)}  {row.name}: {row.before:,} to {row.after:,} bytes", file=sys.stderr)
    return rows


def _zip_one(source, name, options):  # -> dtype, parts, Row
    start = time.perf_counter()
    with open_tensors(source) as arrays:
        stored, array = arrays[name], arrays[name].read()
    array, coded, told, sqnr = compress(array, options)
    if coded is None and stored.dtype == "bfloat16":
        array = to_bfloat16(array)  # exact: it was
    parts = tensor_to_bytes(array, coded)
    before, after = math.prod(stored.shape) * item_size(stored.dtype), sum(len(data) for _, data in parts)
    return stored.dtype, parts, Row(name, stored.shape, told, before, after, sqnr, time.perf_counter() - start)


def _shared_out(arrays, options, per_tensor):  # {name: (shape, dtype)} -> {name: Options}
    chosen = {name: _options_for(name, *kind, options, per_tensor) for name, kind in arrays.items()}
    sharing = [name for name in arrays if chosen[name] is options and options.size is not None]
    if sharing:
        sizes = {name: math.prod(shape) for name, (shape, _) in arrays.items()}
        headers = sum(len(name.encode()) + 16 + 4 * len(shape) for name, (shape, _) in arrays.items())
        rest = sum(sizes[name] * item_size(arrays[name][1]) for name in arrays if name not in sharing)
        left = options.size - headers - rest
        if left <= 0:
            raise ValueError(f"size {options.size:.0f} is less than the {headers + rest} bytes of what stays as it is")
        total = sum(sizes[name] for name in sharing)
        chosen |= {name: replace(options, size=left * sizes[name] / total) for name in sharing}
    return chosen


def _options_for(name, shape, dtype, options, per_tensor):
    for pattern, own in per_tensor:
        if fnmatchcase(name, pattern):
            return own
    return options if dtype in FLOATS and len(shape) > 1 and math.prod(shape) else Options()


def unzip_arrays(path, output):
    """Write the arrays of a .nnz file to a .npz or .safetensors file, as `output` ends; return {name: (dtype, shape)}.

    A network that `save` has written gives its parameters. To .npz bfloat16 goes as float32.
    """
    suffix = check_choice(Path(output).suffix.lower(), "the suffix of what is unzipped to", SUFFIXES)
    shapes, arrays = _contents(path)
    with atomic_write(output) as file:
        (write_npz if suffix == ".npz" else write_safetensors)(file, shapes, arrays)
    return shapes


def _contents(path):  # -> {name: (dtype, shape)}, iterator of (name, dtype, array)
    if holds_network(path):
        parameters = load(path).parameters()
        arrays = [(name, "float32", array) for name, array in parameters.items()]
        return {name: ("float32", array.shape) for name, array in parameters.items()}, iter(arrays)
    shapes = {name: (dtype, stored.shape) for name, dtype, stored in reading_arrays(path)}
    return shapes, ((name, dtype, _decoded(dtype, stored)) for name, dtype, stored in reading_arrays(path))


def _decoded(dtype, stored):
    if stored.technique & 3 == PLAIN:
        array = decode_tensor(stored, dtype="uint16" if dtype == "bfloat16" else dtype)
        return from_bfloat16(array) if dtype == "bfloat16" else array
    array = decode_tensor(stored)
    if stored.signs is not None:
        turn(unrotate, array, stored.signs, stored.block_size)
        np.clip(array, -FLOAT32_MAX, FLOAT32_MAX, out=array)  # rounded up, the largest floats may lie beyond
    return array if dtype == "bfloat16" else array.astype(dtype, copy=False)


# The command line


def parse_options(text):  # "bits:4,sparsity:0.9,rotate" -> Options
    """Read options as they follow a pattern on the command line; "plain" is none of them.

    Examples
    --------
    >>> parse_options("error:30dB,rotate")
    Options(bits=None, sparsity=0.0, rotate=True, error=30.0, size=None, codebook=False)
    """
    given = {}
    for word in [] if text == "plain" else text.split(","):
        key, _, value = word.partition(":")
        check_choice(key, "an option", Options.__dataclass_fields__)
        given[key] = {"bits": int, "sparsity": float, "error": decibels, "size": byte_count}.get(key, lambda _: True)(
            value
        )
    return Options(**given)


def parse_pattern(text):  # "conv*=bits:8" -> "conv*", Options(bits=8)
    pattern, equals, options = text.rpartition("=")
    if not equals:
        raise ValueError(f"what is asked of some tensors must be PATTERN=OPTIONS, got {text!r}")
    return pattern, parse_options(options)


def decibels(text):  # "30dB" or "30" -> 30.0
    return float(text.removesuffix("dB"))


def byte_count(text):  # "100kB" -> 100000.0
    unit = next((unit for unit in UNITS if text.endswith(unit)), "")
    return float(text.removesuffix(unit)) * UNITS.get(unit, 1)


def report(rows, size):  # list of Row, int -> str
    """Return the table of what became of every tensor; the last line is the file's."""
    before = sum(row.before for row in rows)
    lines = [f"{'tensor':<32} {'technique':<32} {'bytes':>13} {'ratio':>7} {'SQNR dB':>8} {'s':>6}"]
    for row in rows:
        ratio = f"{row.before / max(1, row.after):.1f}"
        lines.append(
            f"{row.name:<32} {row.technique:<32} {row.after:>13,} {ratio:>7} {row.sqnr:>8.1f} {row.seconds:>6.2f}"
        )
    return "\n".join([*lines, f"{'the file':<32} {'':<32} {size:>13,} {before / size:>7.1f}"])
