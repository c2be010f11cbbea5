"""The .nnz file: a whole network, or any named arrays, in as few bytes as the parts of this book make of them.

    "nnz", version 1, a byte for what it is (0: a network, 1: arrays)
    a network: its layers, a byte and a few small numbers each; then the weight and the bias of each
    arrays:    one after the other, name, dtype, shape and the tensor, so that only one is in memory; 0 ends them
    the CRC-32 of all that

A file is believed in nothing. Nothing in it is executed, its checksum is compared first, and every size it states is
held against the bytes that are there before any memory is taken.
"""

import math
import zlib
from contextlib import contextmanager

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import check_finite, one_of, whole
from nnzip.compression.hadamard import Rotation
from nnzip.files.parts import Part, Reader, varint
from nnzip.files.tensor_files import bits_dtype, errors_name
from nnzip.files.tensors import check_block, decode_tensor, find_levels, read_signs, read_tensor, room, tensor_to_bytes
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network, check_network

MAGIC = b"nnz\x01"
NETWORK, ARRAYS = 0, 1
LAYERS = (Linear, Conv2d, ReLU, MaxPool2d, Flatten, Rotation)  # a layer's number in the file is its place here
MOST_LAYERS = 4096


def save(network, path):
    """Write a network so that `load` returns the same one, bit for bit, in as few bytes as are found.

    What its weights are is seen in them: whole multiples of one scale, or of one for each neuron; a few shared values;
    zeros. Anything else is stored as the floats it is. So round, share and prune first; saving loses nothing, but for
    the sign of a zero.

    Parameters
    ----------
    network : Network of Linear, Conv2d, ReLU, MaxPool2d, Flatten and Rotation; `export_rounded` makes such a one after
        training through the rounding
    path : the file, which appears whole or not at all

    Returns the number of bytes. Raises TypeError for other layers, ValueError for NaN or infinity.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from nnzip.compression.quantization import quantize_weights
    >>> from nnzip.nn.zoo import trained
    >>> network = quantize_weights(trained("lenet_300_100"), bits=2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save(network, Path(folder) / "lenet.nnz")
    ...     same = load(Path(folder) / "lenet.nnz")
    >>> size, bool((same.parameters()["1.weight"] == network.parameters()["1.weight"]).all())
    (13208, True)
    """
    data = b"".join(data for _, _, data in _network_to_bytes(network))
    with atomic_write(path) as file:
        file.write(data + zlib.crc32(data).to_bytes(4, "little"))
    return len(data) + 4


def load(path):  # -> Network
    """Return the network of a .nnz file; its weights have the same bits as when it was saved.

    Raises FileNotFoundError, and ValueError, in one line, for a file that is damaged or holds no network. A file of n
    bytes is never believed to hold more than about 1,420 n weights.
    """
    with _opened(path, NETWORK) as reader:
        layers = _read_layers(reader)
        stored = list(_read_parameters(reader, layers))
        network = Network(layers)
        for (i, name), tensor in stored:
            array = decode_tensor(tensor, places=_places(layers, i, name))
            check_finite(array, f"{i}.{name}")
            layers[i].params[name][...] = array
        return network


def describe(path):  # -> list of Part
    """Return how many bytes of a .nnz file are for what; they add up to its size on disk.

    Purposes are the codes, the positions of what is not zero, codebooks, scales, signs of a rotation, floats as they
    are, names, "technique" (which one, with its lengths and numbers), "header" and "checksum". Nothing is decoded.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save(Network([Linear(2, 3)]), Path(folder) / "small.nnz")
    ...     parts = describe(Path(folder) / "small.nnz")
    >>> size, sum(part.bytes for part in parts)
    (45, 45)
    >>> parts[2]
    Part(tensor='0.weight', purpose='floats', bytes=24)
    """
    with _opened(path) as reader:
        if reader.kind == NETWORK:
            for _ in _read_parameters(reader, _read_layers(reader)):
                pass
        else:
            for _ in _read_arrays(reader):
                pass
    return [Part(tensor, purpose, count) for (tensor, purpose), count in reader.parts.items()]


# A network


def _network_to_bytes(network):  # -> iterator of (tensor, purpose, bytes)
    check_network(network)
    layers = network.layers
    whole(1, MOST_LAYERS)(len(layers), "the number of layers")
    yield "", "header", MAGIC + bytes([NETWORK]) + varint(len(layers))
    for i, layer in enumerate(layers):
        if type(layer) not in LAYERS:
            allowed = ", ".join(kind.__name__ for kind in LAYERS)
            raise TypeError(f"layer {i}, {layer}, cannot be saved: allowed are {allowed}; see export_rounded")
        yield "", "header", bytes([LAYERS.index(type(layer))]) + b"".join(map(varint, _numbers(layer)))
        if isinstance(layer, Rotation):
            check_block(len(layer.signs), layer.block_size)
            yield f"{i}.signs", "signs", np.packbits(layer.signs < 0).tobytes()
    for name, array in network.parameters().items():
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32 to be saved, got {array.dtype}")
        check_finite(array, name)
        array = array + np.float32(0)  # a pruned weight may be -0.0, and is stored as 0
        i, leaf = name.split(".")
        places = _places(layers, int(i), leaf)
        parts = tensor_to_bytes(array, find_levels(array), places=places, packed=False)  # chapter 12 counts raw floats
        yield from ((name, *part) for part in parts)


def _numbers(layer):  # what a layer is made with
    match layer:
        case Linear():
            return layer.in_features, layer.out_features
        case Conv2d():
            return layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
        case MaxPool2d():
            return (layer.size,)
        case Rotation():
            return len(layer.signs), layer.block_size
    return ()


def _read_layers(reader):  # -> list of layers, their weights not read yet
    made, weights = [], 0
    for i in range(reader.varint("header", MOST_LAYERS)):
        kind = reader.take(1, "header")[0]
        if kind >= len(LAYERS):
            raise ValueError(f"layer {i} is of kind {kind}, there are {len(LAYERS)}")
        count = (2, 5, 0, 1, 0, 2)[kind]
        numbers = [reader.varint("header", 1 << 31) for _ in range(count)]
        weights += math.prod(numbers[:2]) * (numbers[2] ** 2 if count == 5 else 1) + numbers[1] if kind < 2 else 0
        if weights > room(reader.size) + 4096 * i:
            raise ValueError(f"a network of {weights} weights cannot come from {reader.size} bytes")
        if LAYERS[kind] is Rotation:
            reader.tensor = f"{i}.signs"
            numbers = [read_signs(reader, *numbers), numbers[1]]
            reader.tensor = ""
        made.append((LAYERS[kind], numbers))
    return [_make(kind, numbers) for kind, numbers in made]


def _make(kind, numbers):
    if kind is Rotation:
        return Rotation(numbers[0], block_size=numbers[1])
    if kind is Conv2d:
        return Conv2d(*numbers[:3], stride=numbers[3], padding=numbers[4], rng=0)
    return kind(*numbers, rng=0) if kind is Linear else kind(*numbers)


def _read_parameters(reader, layers):  # -> iterator of ((index of the layer, name), Packed)
    for i, layer in enumerate(layers):
        for name, array in layer.params.items():
            reader.tensor = f"{i}.{name}"
            stored = read_tensor(reader, array.shape)
            if stored.signs is not None:
                raise ValueError(f"{reader.tensor} is rotated, which is for a layer of its own in a network")
            yield (i, name), stored
    reader.tensor = ""


def _places(layers, i, name):  # -> (out, channels, side, side), or None
    """Return how the inputs of a Linear lie in the image, square, that the layers before it give."""
    layer, channels = layers[i], 1
    if name == "bias" or not isinstance(layer, Linear):
        return None
    for before in reversed(layers[:i]):
        if isinstance(before, Linear | Rotation):
            return None
        if isinstance(before, Conv2d):
            channels = before.out_channels
            break
    side = math.isqrt(layer.in_features // channels)
    return (layer.out_features, channels, side, side) if channels * side**2 == layer.in_features else None


# Named arrays

DTYPES = ("float32", "float16", "float64", "bfloat16", "int64", "int32", "int16", "int8")
DTYPES += ("uint64", "uint32", "uint16", "uint8", "bool")
DTYPES += ("f8_e4m3", "f8_e5m2", "f8_e8m0", "metadata")
LONGEST_NAME, MOST_DIMENSIONS = (1 << 16) - 1, 32


@contextmanager
def writing_arrays(path):
    """Give a function add(name, dtype, shape, parts) that writes one array, `parts` as `tensor_to_bytes` makes them.

    The file appears at `path` when the block ends. Only what is added is in memory.
    """
    with atomic_write(path) as file:
        checksum = 0

        def write(data):
            nonlocal checksum
            checksum = zlib.crc32(data, checksum)
            file.write(data)

        def add(name, dtype, shape, parts):
            check_array(name, dtype, shape)
            encoded = name.encode()
            write(varint(len(encoded) + 1) + encoded + bytes([DTYPES.index(dtype)]))
            write(b"".join(map(varint, [len(shape), *shape])) + b"".join(data for _, data in parts))

        write(MAGIC + bytes([ARRAYS]))
        yield add
        write(b"\0")
        file.write(checksum.to_bytes(4, "little"))


def check_array(name, dtype, shape):
    """Raise ValueError for an array that a file cannot hold: its type, its name or its number of dimensions."""
    one_of(*DTYPES)(dtype, f"the dtype of {name!r:.60}")
    whole(0, LONGEST_NAME)(len(name.encode()), f"the length of the name {name!r:.60} in bytes")
    whole(0, MOST_DIMENSIONS)(len(shape), f"the number of dimensions of {name!r:.60}")
    whole(0, 1 << 48)(max(shape, default=0), f"a dimension of {name!r:.60}")


def reading_arrays(path):  # -> iterator of (name, dtype, Packed)
    """Give the arrays of a file one after the other, as they lie in it; `decode_tensor` makes numbers of them.

    Raises ValueError, in one line, where the file is damaged or holds a network.
    """
    with _opened(path, ARRAYS) as reader:
        yield from _read_arrays(reader)


def holds_network(path):
    """Tell whether a file begins as one that `save` has written."""
    with open(path, "rb") as file:
        return file.read(5) == MAGIC + bytes([NETWORK])


def _read_arrays(reader):
    seen = set()
    while length := reader.varint("header", LONGEST_NAME + 1):
        name = reader.take(length - 1, "name").decode()
        if name in seen:
            raise ValueError(f"there are two arrays {name!r}")
        seen.add(name)
        dtype = reader.take(1, "header")[0]
        if dtype >= len(DTYPES):
            raise ValueError(f"{name!r} has a dtype of number {dtype}, there are {len(DTYPES)}")
        reader.tensor = name
        shape = tuple(reader.varint() for _ in range(reader.varint(most=MOST_DIMENSIONS)))
        yield name, DTYPES[dtype], read_tensor(reader, shape, bits_dtype(DTYPES[dtype]).itemsize)
        reader.tensor = ""


# The file


@contextmanager
def _opened(path, kind=None):
    """Give a Reader past the first bytes of a file whose checksum is right, and see that all of it is read."""
    with open(path, "rb") as file, errors_name(path):
        size = file.seek(0, 2)
        file.seek(0)
        reader = Reader(file, size)
        start = reader.take(5, "header") if size >= 9 else b""
        if start[:4] != MAGIC or start[4] not in (NETWORK, ARRAYS):
            raise ValueError("it is no .nnz file of version 1")
        if kind not in (None, start[4]):
            raise ValueError(f"it holds {('a network', 'named arrays')[start[4]]}, not {('a network', 'arrays')[kind]}")
        _check_sum(file, size)
        reader.left, reader.kind = size - 9, start[4]
        yield reader
        if reader.left:
            raise ValueError(f"{reader.left} bytes are left after its end")
        reader.parts["", "checksum"] = 4


def _check_sum(file, size):
    """Compare the last four bytes with the CRC-32 of the rest, and go back to where the content begins."""
    file.seek(0)
    checksum, left = 0, size - 4
    while left:
        piece = file.read(min(left, 1 << 20))
        if not piece:
            raise ValueError("the file became shorter while it was read")
        checksum, left = zlib.crc32(piece, checksum), left - len(piece)
    if checksum.to_bytes(4, "little") != file.read(4):
        raise ValueError("its checksum is wrong: the file is damaged")
    file.seek(5)
