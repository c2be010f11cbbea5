"""What goes through the pipe between a grader and a student's process: numbers, never code.

A message is the bytes of its structure, as JSON, and those of its arrays, each in its order of memory.
"""

import io
import json
import struct

import numpy as np

from nnzip.quantization import QuantParams

QPARAMS = ("scale", "zero_point", "bits", "signed", "narrow", "axis", "group_size")
TEXT, NUMBERS = 2**20, 2**27  # bytes that a message may have: of its structure, and of its arrays
FRAME = struct.Struct("<QQ")  # before each message: the bytes of the two


def message(value):
    """Return the bytes of numbers, text, arrays, grids, and lists, tuples and dicts of them; TypeError for the rest."""
    arrays = []
    text = json.dumps(_plain(value, arrays)).encode()
    data = b"".join(array.tobytes(order="A") for array in arrays)
    if len(text) > TEXT or len(data) > NUMBERS:
        raise ValueError(f"an answer of {len(text) + len(data):,} bytes is too large")
    return FRAME.pack(len(text), len(data)) + text + data


def write(stream, data):
    """Send a message off."""
    stream.write(data)
    stream.flush()


def read(stream):
    """Read a message from a binary stream; ValueError or EOFError for anything else."""
    text, numbers = FRAME.unpack(_exactly(stream, FRAME.size))
    if text > TEXT or numbers > NUMBERS:
        raise ValueError(f"gave an answer of {text + numbers:,} bytes, which is too large")
    tree = json.loads(_exactly(stream, text))
    return _restored(tree, io.BytesIO(_exactly(stream, numbers)))


def _exactly(stream, count):
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def _plain(value, arrays):
    match value:
        case None | bool() | str():
            return value
        case np.ndarray() | np.generic() if value.dtype.kind in "biufc":
            array = np.asarray(value)
            arrays.append(array)
            by_columns = array.flags.fnc
            return {"array": [array.dtype.str, list(array.shape), isinstance(value, np.generic), by_columns]}
        case int() | float():
            return value
        case QuantParams():
            return {"qparams": [_plain(getattr(value, name), arrays) for name in QPARAMS]}
        case dict():
            return {"dict": [_plain(list(item), arrays) for item in value.items()]}
        case list() | tuple():
            return {"tuple" if isinstance(value, tuple) else "list": [_plain(item, arrays) for item in value]}
    raise TypeError(f"a {type(value).__name__} is no answer here: numbers, arrays, grids, or lists of them")


def _restored(tree, data):
    if not isinstance(tree, dict):
        return tree
    (kind, inside), *_ = tree.items()
    if kind == "array":
        dtype, shape, is_scalar, by_columns = np.dtype(inside[0]), tuple(inside[1]), *inside[2:]
        if dtype.kind not in "biufc":
            raise ValueError(f"gave an array of {dtype}")
        flat = np.frombuffer(_exactly(data, dtype.itemsize * int(np.prod(shape))), dtype).copy()
        array = flat.reshape(shape, order="F" if by_columns else "C")
        return array[()] if is_scalar else array
    items = [_restored(item, data) for item in inside]
    match kind:
        case "qparams":
            return QuantParams(*items)
        case "tuple":
            return tuple(items)
        case "dict":
            return dict(items)
    return items
