"""One tensor of a .nnz file: a technique, and the bytes that it takes.

Everything but a plain float is a code, the index of a level, with or without a scale:

    value = level[code] * scale of its group        levels: whole numbers from low to high, or a codebook of floats

The codes of the weights that are not zero come after the mask of their positions, if that is shorter. Few of them go
through the coder that learns, `nnzip.adaptive_coding`; many through rANS, `nnzip.coding`. Of plain
numbers the bytes of each significance are packed by themselves, where that is shorter.
"""

import math
from typing import NamedTuple

import numpy as np

from nnzip.coding import capacity, decode, decode_adaptive, decode_mask, encode, encode_adaptive, encode_mask
from nnzip.files.parts import pack, unpack, varint
from nnzip.hadamard import LARGEST_FACTOR, factors

PLAIN, RANGE, CODEBOOK = range(3)  # in the two lowest bits of a technique; then flags
HALF, SCALED, SPARSE, ROTATED, RANS, PACKED = 4, 8, 16, 32, 64, 128
# HALF: floats are stored as float16, which holds them exactly; RANS: of codes, or of the positions of plain numbers
PLACES = 1 << 20  # as many positions at most are worth the coder that learns, which takes microseconds for each
FILLING = ("positions", "codes", "floats")
LEARNED = 1 << 16  # and as many codes


class Coded(NamedTuple):
    """A tensor as codes: float32 [size] = levels[codes] * scales of their groups, then rotated back."""

    codes: np.ndarray  # uint8 [size]
    levels: range | np.ndarray  # float32 [k], rising
    scales: np.ndarray | None = None  # float32 [groups], each for size / groups neighbours
    signs: np.ndarray | None = None  # int8 [n], of a rotation along axis 1
    block_size: int = 0

    def values(self):  # -> float32 [size], in the basis of the codes
        values = np.array(self.levels, np.float32)[self.codes]
        return values if self.scales is None else scaled(values, self.scales)


# Lossless: the levels that an array already has


def find_levels(array):  # float32 [...] -> Coded or None
    """Return an array of few values as codes, exactly: multiples of a scale, or of one a row, or a codebook.

    None if it has more than 256 values, or levels would take more bytes than they save. A negative zero becomes zero.

    Examples
    --------
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


# To bytes


def tensor_to_bytes(array, coded=None, *, places=None, packed=True):  # -> list of (purpose, bytes)
    """Return the bytes of a tensor, by purpose, in the order in which they are written: the shortest way there is.

    `coded` takes the place of the array's own numbers, which are packed or as they are. `places` is a shape (out, in,
    H, W) in which the weights of a Linear are neighbours.
    """
    shape = places or array.shape
    options = _coded_options(coded, shape) if coded else _plain_options(array, shape, packed)
    fitting = [parts for parts in options if array.size <= room(_filling(parts))]
    if not fitting:  # of so few bytes so many numbers are never read, and rANS takes more
        return _coded_to_bytes(coded, shape, False, True)
    return min(fitting, key=lambda parts: sum(len(data) for _, data in parts))


def _filling(parts):
    return sum(len(data) for purpose, data in parts if purpose in FILLING)


def room(size):
    """Return how many weights a tensor may have that so many bytes are read for: a small file never asks for much."""
    return max(4096, capacity(size))


def _plain_options(array, shape, packed):  # -> iterator of lists of parts: raw, packed, without the zeros
    half = array.dtype == np.float32 and _fits_half(array)
    numbers = array.astype("<f2" if half else array.dtype.newbyteorder("<"), copy=False)
    flags = PLAIN | HALF * half | PACKED * packed
    yield [("technique", bytes([flags & ~PACKED])), ("floats", numbers.tobytes())]
    if packed:
        yield [("technique", bytes([flags])), *_with_length("floats", pack(numbers))]
    kept = (array != 0) | np.signbit(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    if array.ndim and np.count_nonzero(kept) < 15 / 16 * array.size:
        rans = array.size > PLACES
        positions = encode(kept.view(np.uint8), alphabet=2) if rans else encode_mask(kept.reshape(shape))
        parts = [("technique", bytes([flags | SPARSE | RANS * rans])), *_with_length("positions", positions)]
        yield [*parts, *_with_length("floats", pack(numbers[kept]) if packed else numbers[kept].tobytes())]


def _coded_options(coded, shape):  # -> iterator of lists of parts: all codes, or those of what is not zero
    size, zeros = coded.codes.size, np.count_nonzero(coded.codes == _zero(coded.levels))
    worth = zeros > size / 16 and size <= PLACES and size - zeros <= LEARNED
    if not (worth and zeros > size / 2 and size > 4096):  # then it is the shorter by far
        yield _coded_to_bytes(coded, shape, False, size > PLACES)
    if worth:
        yield _coded_to_bytes(coded, shape, True, False)


def _coded_to_bytes(coded, places, sparse, rans):
    codes, levels, zero = coded.codes, coded.levels, _zero(coded.levels)
    mask = (codes != zero if sparse else np.ones(codes.size, bool)).reshape(places)
    if sparse:
        kept = codes[codes != zero]
        codes, levels = kept - (kept > zero), _without(levels, zero)
    rans = rans or codes.size > LEARNED
    floats = [a for a in (coded.scales, None if isinstance(levels, range) else levels) if a is not None]
    half = all(map(_fits_half, floats))
    flags = HALF * half | SCALED * (coded.scales is not None) | SPARSE * sparse | RANS * rans
    kind = RANGE if isinstance(coded.levels, range) else CODEBOOK
    parts = [("technique", bytes([kind | flags | ROTATED * (coded.signs is not None)]))]
    if coded.signs is not None:
        parts += [("technique", varint(coded.block_size)), ("signs", np.packbits(coded.signs < 0).tobytes())]
    if kind == RANGE:
        parts.append(("technique", varint(-coded.levels.start) + varint(coded.levels.stop - 1)))
    else:
        parts += [("technique", varint(len(levels))), ("codebook", _floats(levels, half))]
    if coded.scales is not None:
        parts += [("technique", varint(len(coded.scales))), ("scales", _floats(coded.scales, half))]
    if sparse:
        parts += _with_length("positions", encode_mask(mask))
    if rans:
        return parts + _with_length("codes", encode(codes, alphabet=max(2, len(levels))))
    data = encode_adaptive(codes, alphabet=max(1, len(levels)), mask=mask, middle=_middle(levels))
    return parts + _with_length("codes", data)


def _zero(levels):  # -> the code of 0, or one that is never used
    where = np.flatnonzero(np.asarray(levels) == 0)
    return int(where[0]) if len(where) else 256


def _without(levels, zero):
    return np.delete(np.asarray(levels, np.float32), zero) if zero < 256 else levels


def _middle(levels):
    negative = int(np.count_nonzero(np.asarray(levels) < 0))
    return negative if 0 < negative < len(levels) else None


def _fits_half(array):
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float16).astype(np.float32), array)


def _floats(array, half):
    return np.asarray(array).astype("<f2" if half else "<f4").tobytes()


def _with_length(purpose, data):
    return [("technique", varint(len(data))), (purpose, data)]


# From bytes


class Packed(NamedTuple):
    """A tensor as it lies in a file, nothing of it decoded yet."""

    shape: tuple
    technique: int
    levels: range | np.ndarray = ()
    scales: np.ndarray | None = None
    signs: np.ndarray | None = None
    block_size: int = 0
    positions: bytes = b""
    data: bytes = b""  # floats or codes

    @property
    def is_plain(self):
        return self.technique & 3 == PLAIN


def read_tensor(reader, shape, itemsize=4):  # -> Packed
    """Read a tensor's bytes; a shape that so few bytes cannot fill is a ValueError, before anything is allocated."""
    technique, size = reader.take(1, "technique")[0], math.prod(shape)
    kind, sparse, rans = technique & 3, technique & SPARSE, technique & RANS
    if kind == PLAIN and not technique & ~HALF:
        return Packed(shape, technique, data=reader.take(size * (2 if technique & HALF else itemsize), "floats"))
    flags = HALF | SPARSE | RANS | (SCALED | ROTATED if kind != PLAIN else PACKED)
    if kind > CODEBOOK or technique & ~(flags | kind) or size == 0 or (technique & ROTATED and len(shape) < 2):
        raise ValueError(f"{reader.tensor} of shape {shape} has technique {technique}, which is not known")
    numbers = _read_numbers(reader, shape, technique) if kind != PLAIN else {}
    positions = reader.with_length("positions") if sparse else b""
    data = reader.with_length("codes" if kind != PLAIN else "floats")
    learned = (sparse and (kind != PLAIN or not rans)) or (kind != PLAIN and not rans)
    if size > room(len(positions) + len(data)) or (learned and size > PLACES):
        raise ValueError(f"{reader.tensor} of shape {shape} cannot come from {len(positions) + len(data)} bytes")
    return Packed(shape, technique, **numbers, positions=positions, data=data)


def _read_numbers(reader, shape, technique):  # -> what turns codes into weights: signs, levels, scales
    numbers, half = {}, technique & HALF
    if technique & ROTATED:
        numbers["block_size"] = reader.varint()
        numbers["signs"] = read_signs(reader, shape[1], numbers["block_size"])
    if technique & 3 == RANGE:
        levels = range(-reader.varint(most=255), reader.varint(most=255) + 1)
    else:
        levels = reader.floats(reader.varint(most=256), half, "codebook")
    rising = np.asarray(levels)
    if len(levels) > 256 or np.any(rising[1:] <= rising[:-1]):  # a difference may be beyond float32
        raise ValueError(f"the levels of {reader.tensor} do not rise, or are more than 256")
    if technique & SCALED:
        groups = reader.varint()
        if groups == 0 or math.prod(shape) % groups:
            raise ValueError(f"{reader.tensor} has {groups} scales for {math.prod(shape)} weights")
        numbers["scales"] = reader.floats(groups, half, "scales")
    return {**numbers, "levels": levels}


def read_signs(reader, n, block_size):  # -> int8 [n]
    data = reader.take((n + 7) // 8, "signs")
    check_block(n, block_size)
    return 1 - 2 * np.unpackbits(np.frombuffer(data, np.uint8), count=n).astype(np.int8)


def check_block(n, block_size):
    """Raise ValueError for a rotation that `largest_block` never gives: a large factor is a matrix of so many rows."""
    if not 1 <= block_size <= n or n % block_size:
        raise ValueError(f"{n} inputs cannot be rotated in blocks of {block_size}")
    if max(factors(block_size)) > LARGEST_FACTOR:  # which also refuses an order that no matrix is known of
        raise ValueError(f"{n} inputs cannot be rotated in blocks of {block_size}: a factor is above {LARGEST_FACTOR}")


def decode_tensor(packed, *, places=None, dtype="float32"):  # -> array [shape]
    """Return the numbers of a tensor, in the basis in which they are stored: a rotation is not undone here."""
    shape, technique = packed.shape, packed.technique
    kept = _decoded_mask(packed, places or shape) if technique & SPARSE else None
    count = math.prod(shape) if kept is None else int(np.count_nonzero(kept))
    if not packed.is_plain:
        dtype, numbers = np.float32, _decode_codes(packed, count, kept, places or shape)
    else:
        stored_as = np.dtype("<f2") if technique & HALF else np.dtype(dtype).newbyteorder("<")
        numbers = unpack(packed.data, count, stored_as) if technique & PACKED else np.frombuffer(packed.data, stored_as)
        if len(numbers) != count:
            raise ValueError(f"{len(packed.data)} bytes cannot be {count} floats")
    if kept is None:
        values = numbers.astype(dtype).reshape(shape)
    else:
        values = np.zeros(shape, dtype)
        values[kept] = numbers
    return values if packed.scales is None else scaled(values.ravel(), packed.scales).reshape(shape)


def _decoded_mask(packed, places):  # -> bool [shape]
    if packed.is_plain and packed.technique & RANS:
        mask = decode(packed.positions, math.prod(packed.shape), alphabet=2)
    else:
        mask = decode_mask(packed.positions, places)
    return mask.reshape(packed.shape) != 0


def _decode_codes(packed, count, mask, places):  # -> float32 [count]
    levels = np.array(packed.levels, np.float32)
    if mask is not None and isinstance(packed.levels, range):
        levels = levels[levels != 0]
    if count and (len(levels) == 0 or (count > LEARNED and not packed.technique & RANS)):
        raise ValueError(f"{count} weights cannot come from {len(levels)} levels and {len(packed.data)} bytes")
    if packed.technique & RANS:
        codes = decode(packed.data, count, alphabet=max(2, len(levels)))
    else:
        mask = np.ones(places, bool) if mask is None else mask.reshape(places)
        codes = decode_adaptive(packed.data, count, alphabet=max(1, len(levels)), mask=mask, middle=_middle(levels))
    if count and codes.max() >= len(levels):
        raise ValueError(f"a code is {codes.max()}, and there are {len(levels)} levels")
    return levels[codes]


def scaled(values, scales):  # float32 [size], float32 [groups] -> float32 [size], in place
    with np.errstate(over="ignore"):  # a damaged file may hold any scale
        rows = values.reshape(len(scales), -1)
        rows *= scales[:, None]
    return values
