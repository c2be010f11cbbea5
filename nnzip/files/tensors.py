"""One tensor of a .nnz file: a byte for its technique, and then, for each part of it, a number and bytes (chapter 12).

    part        the number         the bytes                  a tensor has it
    signs       block size         a bit for each input       that was rotated along axis 1
    range       -lowest level      the highest level          whose levels are whole numbers
    codebook    how many levels    floats                     whose levels are these floats
    scales      how many           floats                     that has a scale for each run of so many weights
    positions   how many bytes     a mask, coded              of which only what is not zero follows
    codes       how many bytes     levels by number, coded    of levels
    floats      how many bytes     numbers, packed            without levels

A value is level[code] * scale of its group, then rotated back. Codes and positions are learned as they go,
`nnzip.adaptive_coding`, as long as they are few; more codes are coded by rANS, `nnzip.coding`, and more positions, or
those of numbers that are packed, are packed too. Numbers alone, not packed, stand without how many they are.
"""

import math
from typing import NamedTuple

import numpy as np

from nnzip.checks import FLOAT32_MAX
from nnzip.coding import capacity, decode, decode_adaptive, decode_mask, encode, encode_adaptive, encode_mask
from nnzip.files.parts import pack, unpack, varint
from nnzip.files.tensor_files import Stored, bits_dtype, from_bits, to_bits
from nnzip.hadamard import largest_block, unrotate

PARTS = {"signs": 32, "range": 1, "codebook": 2, "scales": 8, "positions": 16}  # a bit of the technique, in this order
CODED, HALF, PACKED = 1 | 2, 4, 64  # HALF: floats are stored as float16, which holds them exactly
LEARNED_PLACES, LEARNED_CODES = 1 << 20, 1 << 16  # more would take too long: microseconds for each
LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": FLOAT32_MAX, "float64": FLOAT32_MAX}
BLOCK = 1 << 20  # numbers that are worked on together


class Coded(NamedTuple):
    """A tensor as codes: levels[codes] * scales of their groups, then rotated back."""

    codes: np.ndarray  # whole numbers [size]
    levels: range | np.ndarray  # float32 [k], rising
    scales: np.ndarray | None = None  # float32 [groups], each for size / groups neighbours
    signs: np.ndarray | None = None  # int8 [n], of a rotation along axis 1 in blocks of `largest_block(n)`

    def restored(self, shape, dtype="float32"):  # -> [shape], bfloat16 as float32
        """Return what comes back of it, in the type of the tensor and within its range."""
        values = np.array(self.levels, np.float32)[self.codes]
        if self.scales is not None:
            rows = values.reshape(len(self.scales), -1)
            with np.errstate(over="ignore"):
                rows *= self.scales[:, None]
        values = values.reshape(shape)
        if self.signs is not None:
            values = turn(unrotate, values, self.signs)
        np.clip(values, -LARGEST[dtype], LARGEST[dtype], out=values)  # rounding up may lead beyond
        return from_bits(to_bits(values, dtype), dtype)


def turn(function, w, signs):  # [out, n, ...] -> float32 [out, n, ...]
    """Rotate, or unrotate, a tensor along axis 1, in float64; what float32 cannot hold is infinite."""
    turned, count, block_size = np.empty(w.shape, np.float32), max(1, BLOCK // w[0].size), largest_block(len(signs))
    for start in range(0, len(w), count):
        rows = slice(start, start + count)
        with np.errstate(over="ignore"):
            turned[rows] = function(w[rows].astype(np.float64), signs, axis=1, block_size=block_size)
    return turned


# Lossless: the levels that an array already has


def find_levels(array):  # float32 [...] -> Coded or None
    """Return an array of few values as codes, exactly: multiples of a scale, or of one a row, or a codebook.

    None if it has more than 256 values, or levels would take more bytes than they save. A negative zero becomes zero.

    >>> coded = find_levels(np.array([[0.5, -1.0, 0.0, 1.5]], np.float32))
    >>> coded.levels, coded.scales.tolist(), coded.codes.tolist()
    (range(-2, 4), [0.5], [3, 0, 2, 5])
    """
    array = np.asarray(array, np.float32) + np.float32(0)
    values, rows = np.unique(array), array.reshape(len(array), -1)
    scales = np.array([_scale_of(values)])
    if not scales.all() and len(rows) < len(values):
        scales = np.array([_scale_of(np.unique(row)) for row in rows])
    if scales.all():
        steps = np.rint(array.reshape(len(scales), -1) / scales[:, None]).astype(np.int64).ravel()
        low, high = min(0, int(steps.min())), max(0, int(steps.max()))
        cost = array.size * math.log2(high - low + 1) / 8 + 4 * len(scales) + 6
        if high - low < 256 and cost < 4 * array.size:
            return Coded((steps - low).astype(np.uint8), range(low, high + 1), scales)
    if len(values) > 256 or 2 * len(values) > array.size:
        return None
    return Coded(np.searchsorted(values, array).astype(np.uint8).ravel(), values)


def _scale_of(values):  # float32 [n], unique -> float32, of which all are multiples, up to 255; or 0
    largest = np.abs(values).max()
    if largest == 0:
        return np.float32(1)
    if len(values) > 256 or not np.isfinite(largest):
        return np.float32(0)
    multiples = np.arange(1, 256)[:, None]
    quotients = values / largest * multiples.astype(np.float64)
    fits = np.abs(quotients - np.rint(quotients)).max(axis=1) < 1e-4
    for m in multiples[fits, 0]:
        steps = np.rint(quotients[m - 1]).astype(np.float32)
        scale = np.float32(largest / m)
        with np.errstate(over="ignore"):  # beyond float32 is infinity: no scale, and as a product no value, all finite
            for near in (scale, *(np.nextafter(scale, np.float32(end)) for end in (0, np.inf))):
                if 0 < near < np.inf and np.array_equal(steps * near, values):
                    return near
    return np.float32(0)


# To bytes: the shortest way there is


def tensor_to_bytes(array, coded=None, *, places=None, packed=True):
    """Return the bytes of a tensor, of `coded` in the place of its own numbers, if given.

    places : a shape (out, in, H, W) in which the weights of a Linear are neighbours
    packed : whether its own numbers are, where that is shorter
    """
    shape = places or array.shape
    return min(_coded_options(coded, shape) if coded else _plain_options(array, shape, packed), key=len)


def room(size):
    """Return how many weights a tensor may have that so many bytes are read for: a small file never asks for much."""
    return max(4096, capacity(size))


def _plain_options(array, shape, packed):  # -> iterator of bytes: raw, packed, without the zeros
    half = array.dtype == np.float32 and _fits_half(array)
    numbers = array.astype("<f2" if half else array.dtype.newbyteorder("<"), order="C", copy=False).ravel()
    yield bytes([HALF * half]) + numbers.tobytes()
    flags, write = HALF * half | PACKED * packed, pack if packed else np.ndarray.tobytes
    if packed:
        yield _joined(flags, floats=pack(numbers))
    kept = numbers.view(f"u{numbers.itemsize}") != 0  # whatever its type, 0 is no bit set; -0.0 is kept
    if np.count_nonzero(kept) < 15 / 16 * kept.size:
        learned = not packed and kept.size <= LEARNED_PLACES
        positions = encode_mask(kept.reshape(shape)) if learned else pack(np.packbits(kept))
        floats = write(numbers[kept])
        if kept.size <= room(len(positions) + len(floats)):
            yield _joined(flags, positions=positions, floats=floats)


def _coded_options(coded, shape):  # -> iterator of bytes: all codes, or those of what is not zero
    kept = (np.asarray(coded.levels) != 0)[coded.codes].reshape(shape)
    size, count = kept.size, np.count_nonzero(kept)
    worth = count < 15 / 16 * size and size <= LEARNED_PLACES and count <= LEARNED_CODES
    if not (worth and count < size / 2 and size > 4096):  # then it is the shorter by far
        yield _coded_to_bytes(coded, np.ones(shape, bool))
    if worth:
        yield _coded_to_bytes(coded, kept, positions=encode_mask(kept))


def _coded_to_bytes(coded, kept, **positions):
    levels, codes, numbered = np.asarray(coded.levels, np.float32), coded.codes, {}
    if positions:  # codes and levels without 0
        own = levels != 0
        levels, codes = levels[own], (np.cumsum(own) - 1)[codes[kept.ravel()]]
    floats = {} if coded.scales is None else {"scales": coded.scales}
    if isinstance(coded.levels, range):
        numbered["range"] = -coded.levels.start, bytes([coded.levels.stop - 1])
    else:
        floats["codebook"] = levels
    half = all(map(_fits_half, floats.values()))
    for purpose, array in floats.items():
        numbered[purpose] = len(array), array.astype("<f2" if half else "<f4").tobytes()
    if coded.signs is not None:
        numbered["signs"] = largest_block(len(coded.signs)), np.packbits(coded.signs < 0).tobytes()
    write, _, options = _coder(len(codes), levels, kept)
    data = write(codes, **options)
    if kept.size > 4096:  # what is learned well takes less than `room` asks for; a decoder reads zeros after the end
        data = data.ljust(-(-kept.size // capacity(1)) - len(positions.get("positions", b"")), b"\0")
    return _joined(HALF * half, numbered, codes=data, **positions)


def _joined(flags, numbered=(), **others):  # {purpose: (number, bytes)}; the others are numbered by their length
    parts = dict(numbered) | {purpose: (len(data), data) for purpose, data in others.items()}
    technique = flags | sum(PARTS.get(purpose, 0) for purpose in parts)
    inside = [parts[purpose] for purpose in (*PARTS, "codes", "floats") if purpose in parts]
    return bytes([technique]) + b"".join(varint(number) + data for number, data in inside)


def _fits_half(array):
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float16).astype(np.float32), array)


def _coder(count, levels, mask):  # -> what encodes so many codes, what decodes them, and the options of both
    if count > LEARNED_CODES:
        return encode, decode, {"alphabet": max(2, len(levels))}
    negative = int(np.count_nonzero(levels < 0))
    middle = negative if 0 < negative < len(levels) else None
    return encode_adaptive, decode_adaptive, {"alphabet": max(1, len(levels)), "mask": mask, "middle": middle}


# From bytes


def read_tensor(reader, name, dtype, shape, *, places=None):  # -> Stored
    """Read a tensor's bytes; a shape that so few bytes cannot fill is a ValueError, before anything is allocated."""
    technique, size = reader.take(1, "technique", name)[0], math.prod(shape)
    plain, coded = technique in (0, HALF), technique & CODED
    known = HALF | PARTS["positions"] | (coded | PARTS["scales"] | PARTS["signs"] if coded else PACKED)
    unfit = coded == CODED or technique & ~known or not size or (technique & PARTS["signs"] and len(shape) < 2)
    if not plain and (unfit or (coded and dtype not in LARGEST)):
        raise ValueError(f"{name}, {dtype} of shape {shape}, has technique {technique}, which is not known")
    floats, parts = np.dtype("<f2" if technique & HALF else "<f4" if coded else bits_dtype(dtype)), {}
    for purpose in [*(part for part, bit in PARTS.items() if technique & bit), "codes" if coded else "floats"]:
        number = size * floats.itemsize if plain else reader.varint("technique", name)
        if purpose == "signs":
            parts[purpose] = signs_from_bytes(reader.take(-(-shape[1] // 8), purpose, name), shape[1], number)
        elif purpose == "range":
            parts["codebook"] = np.arange(-min(number, 256), reader.take(1, "technique", name)[0] + 1)
        elif purpose in ("codebook", "scales"):
            parts[purpose] = np.frombuffer(reader.take(number * floats.itemsize, purpose, name), floats)
            if not np.isfinite(parts[purpose]).all():
                raise ValueError(f"the {purpose} of {name} are not all finite")
        else:
            parts[purpose] = reader.take(number, purpose, name)
    filling = sum(len(parts.get(purpose, b"")) for purpose in ("positions", "codes", "floats"))
    if size > room(filling):
        raise ValueError(f"{name} of shape {shape} cannot come from {filling} bytes")

    def read():  # -> [shape], bfloat16 as float32; of a rotated tensor in its own basis
        kept = _read_mask(parts.get("positions"), places or shape, technique & PACKED)
        if coded:
            return _read_codes(name, parts, kept).restored(shape, dtype)
        values = np.zeros(kept.size, bits_dtype(dtype))
        values[kept.ravel()] = _read_floats(parts["floats"], np.count_nonzero(kept), floats, technique & PACKED)
        return from_bits(values.reshape(shape), dtype)

    return Stored(shape, dtype, read)


def _read_mask(data, shape, packed):  # bytes, or None if all are kept -> bool [shape]
    size = math.prod(shape)
    if data is None:
        return np.ones(shape, bool)
    if size <= LEARNED_PLACES and not packed:
        return decode_mask(bytes(data), shape)
    return np.unpackbits(unpack(data, -(-size // 8), np.dtype(np.uint8)), count=size).reshape(shape) != 0


def _read_floats(data, count, dtype, packed):  # bytes -> [count]
    numbers = unpack(data, count, dtype) if packed else np.frombuffer(data, dtype)
    if len(numbers) != count:
        raise ValueError(f"{len(data)} bytes cannot be {count} floats")
    return numbers


def _read_codes(name, parts, kept):  # -> Coded, 0 as the last of its levels
    levels, scales, count = parts["codebook"], parts.get("scales"), np.count_nonzero(kept)
    levels = levels[levels != 0] if "positions" in parts else levels
    if len(levels) > 256 or np.any(levels[1:] <= levels[:-1]):  # a difference may be beyond float32
        raise ValueError(f"the levels of {name} do not rise, or are more than 256")
    if scales is not None and (not len(scales) or kept.size % len(scales)):
        raise ValueError(f"{name} has {len(scales)} scales for {kept.size} weights")
    _, read, options = _coder(count, levels, kept)
    own = read(bytes(parts["codes"]), count, **options)
    if count and own.max() >= len(levels):
        raise ValueError(f"a code of {name} is {own.max()}, and there are {len(levels)} levels")
    codes = np.full(kept.size, len(levels), np.int16)
    codes[kept.ravel()] = own
    return Coded(codes, np.append(levels, 0), scales, parts.get("signs"))


# The signs of a rotation


def signs_from_bytes(data, n, block_size):  # bytes -> int8 [n]
    """Return +1 for a bit that is 0, and -1 for one that is 1."""
    check_block(n, block_size)
    return 1 - 2 * np.unpackbits(np.frombuffer(data, np.uint8), count=n).astype(np.int8)


def check_block(n, block_size):
    """Raise ValueError for other blocks than those of every rotation here: a large one is a matrix of so many rows."""
    if block_size != largest_block(n):
        raise ValueError(f"{n} inputs are rotated in blocks of {largest_block(n)}, got {block_size}")
