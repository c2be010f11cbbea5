"""Files of many named arrays, .npz and .safetensors, read and written one array at a time.

What is in memory is one array, and for .safetensors not even that: it is a view of the file. bfloat16, which NumPy does
not know, is read as float32, whose upper half it is; only .safetensors can be written with it.
"""

import json
import math
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nnzip.checks import check_choice
from nnzip.files.state_dict import Stored, errors_name, open_npz
from nnzip.nn import zoo

SUFFIXES = (".npz", ".safetensors")
CODES = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "BOOL": "bool"}
CODES |= {f"{sign}{bits}": f"{kind}int{bits}" for sign, kind in (("I", ""), ("U", "u")) for bits in (8, 16, 32, 64)}
LARGEST_HEADER = 100_000_000  # bytes, as the safetensors package has it


def item_size(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


@contextmanager
def open_tensors(source):  # -> {name: Stored}, whose `read()` gives the array
    """Open a file, or a trained network such as "lenet_5:0".

    Raises FileNotFoundError, or ValueError in one line for what is neither, or damaged.
    """
    name, _, seed = str(source).partition(":")
    if name in zoo.BUILD:
        check_choice(seed or "0", f"the seed of {name}", map(str, zoo.SEEDS))
        arrays = zoo.trained(name, seed=int(seed or 0)).parameters()
        yield {key: Stored(array.shape, array.dtype.name, lambda array=array: array) for key, array in arrays.items()}
        return
    suffix = check_choice(Path(source).suffix.lower(), "the suffix of what is zipped", SUFFIXES)
    open(source, "rb").close()  # a missing file says so itself
    with errors_name(source), (open_npz if suffix == ".npz" else open_safetensors)(source) as stored:
        yield stored


@contextmanager
def open_safetensors(path):  # -> {name: Stored} in the order of the data
    size = Path(path).stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(LARGEST_HEADER, size - 8):
            raise ValueError(f"its header cannot have {length} bytes")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", 8 + length) if size > 8 + length else np.zeros(0, np.uint8)
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    yield {name: _view(data, name, **header[name]) for name in order}


def _view(data, name, dtype, shape, data_offsets):
    start, stop = data_offsets
    dtype = CODES[check_choice(dtype, f"the dtype of {name}", CODES)]
    if not all(isinstance(n, int) and n >= 0 for n in (start, stop, *shape)) or stop > len(data):
        raise ValueError(f"{name} of shape {shape} lies at {data_offsets}, and there are {len(data)} bytes")
    if stop - start != math.prod(shape) * item_size(dtype):
        raise ValueError(f"{name} of shape {shape} has {stop - start} bytes")

    def read():
        if dtype == "bfloat16":
            return from_bfloat16(data[start:stop].view("<u2")).reshape(shape)
        return data[start:stop].view(np.dtype(dtype).newbyteorder("<")).reshape(shape)

    return Stored(tuple(shape), dtype, read)


def from_bfloat16(bits):  # uint16 [...] -> float32 [...]
    return (bits.astype(np.uint32) << 16).view(np.float32)


def to_bfloat16(array):  # float32 [...] -> uint16 [...], to the nearest, a tie to even
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype("<u2")


def write_npz(file, shapes, arrays):  # file, {name: (dtype, shape)}, iterator of (name, dtype, array)
    with zipfile.ZipFile(file, "w") as archive:
        for name, _, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), version=(1, 0), allow_pickle=False)


def write_safetensors(file, shapes, arrays):
    code_of, header, start = {dtype: code for code, dtype in CODES.items()}, {}, 0
    for name, (dtype, shape) in shapes.items():
        stop = start + math.prod(shape) * item_size(dtype)
        header[name] = {"dtype": code_of[dtype], "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, dtype, array in arrays:
        array = to_bfloat16(array) if dtype == "bfloat16" else array.astype(array.dtype.newbyteorder("<"), copy=False)
        file.write(np.ascontiguousarray(array).data)
