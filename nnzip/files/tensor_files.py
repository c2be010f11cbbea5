"""Files of named arrays, .npz and .safetensors: both are {name: Stored}, read and written one array at a time.

Nothing that a file says is believed: names, types and shapes are read and checked first, numbers only when they are
asked for, and no file can run code. In memory is one array, and for .safetensors not even that: it is a view of the
file. NumPy knows neither bfloat16, read as float32, whose upper half it is, nor 8-bit floats, read as their bits.
"""

import json
import math
import mmap
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import one_of

DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "bfloat16": "BF16"}  # and their code in .safetensors
DTYPES |= {f"{kind}int{bits}": f"{kind or 'i'}{bits}".upper() for kind in ("", "u") for bits in (64, 32, 16, 8)}
DTYPES |= {"bool": "BOOL", "f8_e4m3": "F8_E4M3", "f8_e5m2": "F8_E5M2", "f8_e8m0": "F8_E8M0", "metadata": None}
CODES = {code: dtype for dtype, code in DTYPES.items() if code}
BITS = {"bfloat16": "uint16", "f8_e4m3": "uint8", "f8_e5m2": "uint8", "f8_e8m0": "uint8", "metadata": "uint8"}
LARGEST_HEADER = 100_000_000  # bytes, as the safetensors package has it
METADATA = "__metadata__"  # of .safetensors, text by text; no name of a tensor


class Stored(NamedTuple):
    """A tensor in a file, its numbers not read yet."""

    shape: tuple
    dtype: str
    read: Callable  # () -> array; () -> dict for metadata


def bits_dtype(dtype):  # -> np.dtype
    """Return the type as which numbers lie in a file: "bfloat16" as uint16, others little-endian as they are."""
    return np.dtype(BITS.get(dtype, dtype)).newbyteorder("<")


def tensor_bytes(shape, dtype):
    """Return how many bytes a tensor takes as it is."""
    return math.prod(shape) * bits_dtype(dtype).itemsize


def to_bits(array, dtype):  # what Stored.read gives -> array of bits_dtype(dtype)
    """Return the numbers, or the metadata as JSON, as they lie in a file."""
    if dtype == "metadata":
        return np.frombuffer(json.dumps(array).encode(), np.uint8)
    if dtype == "bfloat16":  # the upper half of the nearest float that has no lower one; a tie goes to the even
        bits = np.asarray(array, np.float32).view(np.uint32)
        array = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.asarray(array, bits_dtype(dtype))


def from_bits(bits, dtype):
    """Undo `to_bits`."""
    if dtype == "metadata":
        return json.loads(bits.tobytes())
    return (bits.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else bits


# Open and write


def suffix_of(path):
    """Return ".npz" or ".safetensors"; ValueError for a file of another name."""
    return one_of(".npz", ".safetensors")(Path(path).suffix.lower(), "the suffix of a file of arrays")


def open_tensors(path):
    """Open a .npz file, in its own order, or a .safetensors file, in the order of its data: see `opened`."""
    return opened(path, _in_npz if suffix_of(path) == ".npz" else _in_safetensors)


@contextmanager
def opened(path, found_in):
    """Give {name: Stored}, as `found_in` finds it in an open file, while the block runs.

    Raises FileNotFoundError, and for a damaged file ValueError in one line that names it, also when an array is read.
    """
    with open(path, "rb") as file:
        stored = errors_name(path)(found_in)(file)
        yield {name: tensor._replace(read=errors_name(path)(tensor.read)) for name, tensor in stored.items()}


def mapped(file):  # -> memoryview
    """Return the bytes of an open file, in memory only once they are looked at."""
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if file.seek(0, 2) else b"")


@contextmanager
def errors_name(path):
    """Turn whatever goes wrong with a file's content into one ValueError that names the file; a decorator too."""
    try:
        yield
    except Exception as error:  # zipfile, zlib, json and NumPy have a dozen types for "damaged" between them
        start = f"{path} cannot be loaded: "
        reason = str(error).removeprefix(start).partition("\n")[0] or type(error).__name__
        raise ValueError(start + reason) from error


def write_tensors(path, tensors):
    """Write {name: Stored} to a .npz or .safetensors file, which appears whole or not at all.

    In .npz bfloat16 goes as float32, 8-bit floats as their bits, and there is no place for metadata.
    """
    write = _write_npz if suffix_of(path) == ".npz" else _write_safetensors
    with atomic_write(path) as file:
        write(file, tensors)


# .npz


def _in_npz(file):  # -> {name: Stored}
    archive = zipfile.ZipFile(file)
    stored = {info.filename.removesuffix(".npy"): _stored_npy(archive, info) for info in archive.infolist()}
    if len(stored) < len(archive.infolist()):
        raise ValueError("two of its arrays have one name")
    return stored


def _stored_npy(archive, info):
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed by method {info.compress_type}, which np.savez never uses")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):  # later ones hold headers of up to 4 GiB, which plain arrays never need
            raise ValueError(f"{member.name} is of .npy version {version}, and only (1, 0) is read")
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)

    def read():
        with archive.open(info) as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):  # at the end, where the checksum is compared
                raise ValueError(f"{info.filename} holds more than its {array.nbytes} bytes")
            return array

    return Stored(shape, dtype.name, read)


def _write_npz(file, tensors):
    with zipfile.ZipFile(file, "w") as archive:
        for name, tensor in tensors.items():
            if tensor.dtype == "metadata":
                continue
            if "\0" in name:
                raise ValueError(f"the name {name!r} ends at its first NUL in a .npz file")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(tensor.read()), version=(1, 0), allow_pickle=False)


# .safetensors (https://github.com/huggingface/safetensors): 8 bytes of length, a header in JSON, the numbers


def _in_safetensors(file):  # -> {name: Stored}
    data = mapped(file)
    length = int.from_bytes(data[:8], "little")
    if length > min(LARGEST_HEADER, len(data) - 8):
        raise ValueError(f"its header cannot have {length} bytes")
    header, data = json.loads(bytes(data[8 : 8 + length])), data[8 + length :]
    metadata = header.pop(METADATA, None)
    end, stored = 0, {}
    for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
        stored[name], end = _view(data, name, end, **header[name])
    if end != len(data):
        raise ValueError(f"its tensors end at {end}, and there are {len(data)} bytes")
    if metadata:
        stored[METADATA] = Stored(to_bits(metadata, "metadata").shape, "metadata", lambda: metadata)
    return stored


def _view(data, name, start, dtype, shape, data_offsets):  # -> Stored, where it ends
    dtype = CODES[one_of(*CODES)(dtype, f"the dtype of {name}")]
    stop = start + tensor_bytes(shape, dtype)
    if not all(type(n) is int and n >= 0 for n in shape) or data_offsets != [start, stop] or stop > len(data):
        raise ValueError(f"{name} of shape {shape} lies at {data_offsets}, and there are {len(data)} bytes")

    def read():
        return from_bits(np.frombuffer(data[start:stop], bits_dtype(dtype)).reshape(shape), dtype)

    return Stored(tuple(shape), dtype, read), stop


def _write_safetensors(file, tensors):
    header, start = {}, 0
    for name, (shape, dtype, read) in tensors.items():
        if dtype == "metadata":
            header[METADATA] = read()
        elif name == METADATA:
            raise ValueError(f"no tensor of a .safetensors file can be named {METADATA}")
        else:
            stop = start + tensor_bytes(shape, dtype)
            header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [start, stop]}
            start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, dtype, read in tensors.values():
        if dtype != "metadata":
            file.write(np.ascontiguousarray(to_bits(read(), dtype)).data)
