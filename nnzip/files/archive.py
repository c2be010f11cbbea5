"""The .nnz file: a whole network, or any named arrays, in as few bytes as this book makes of them (chapter 12).

    "nnz", version 1, a byte for what it is (0: a network, 1: arrays)
    a network: its layers, a byte and a few small numbers each; then the weight and the bias of each
    arrays:    one after the other, name, dtype, shape and the tensor, so that only one is in memory; 0 ends them
    the CRC-32 of all that

Nothing that a file says is believed, and nothing in it is executed: its checksum is compared first, and every size it
states is held against the bytes that are there before any memory is taken.
"""

import math
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import check_finite, one_of, whole
from nnzip.compression.hadamard import Rotation, unrotate_network
from nnzip.files.parts import Part, Reader, varint
from nnzip.files.state_dict import stored_parameters
from nnzip.files.tensor_files import DTYPES, errors_name, mapped, opened
from nnzip.files.tensors import check_block, find_levels, read_tensor, room, signs_from_bytes, tensor_to_bytes
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network, check_network

MAGIC = b"nnz\x01"
RESIDUE = zlib.crc32(zlib.crc32(b"").to_bytes(4, "little"))  # the CRC-32 of whatever ends with its own CRC-32
NETWORK, ARRAYS = 0, 1
LAYERS = {  # and the numbers that each is made with; a layer's own number in the file is its place here
    Linear: ("in_features", "out_features"),
    Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding"),
    ReLU: (),
    MaxPool2d: ("size",),
    Flatten: (),
    Rotation: ("inputs", "block_size"),  # and a bit for each sign
}
MOST_LAYERS = 4096
LONGEST_NAME, MOST_DIMENSIONS = (1 << 16) - 5, 32  # in bytes; with ".npy" it is the longest name in a .npz file


def save(network, path):
    """Write a network so that `load` returns the same one, bit for bit, in as few bytes as are found.

    What its weights are is seen in them: whole multiples of one scale, or of one for each neuron; a few shared values;
    zeros. Anything else is stored as the floats it is. So round, share and prune first; saving loses nothing, but for
    the sign of a zero.

    network : of Linear, Conv2d, ReLU, MaxPool2d, Flatten and Rotation; `export_rounded` makes such a one after training
        through the rounding
    path : the file, which appears whole or not at all

    Returns the number of bytes. Raises TypeError for other layers, ValueError for NaN or infinity.

    >>> import tempfile
    >>> from nnzip.nn.zoo import trained
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save(trained("lenet_300_100"), Path(folder) / "lenet.nnz")
    ...     load(Path(folder) / "lenet.nnz").layers[1], size
    (Linear(784, 300), 1066471)
    """
    check_network(network)
    layers = network.layers
    with _writing(path, NETWORK) as write:
        write(varint(whole(1, MOST_LAYERS)(len(layers), "the number of layers")))
        for i, layer in enumerate(layers):
            write(_layer_to_bytes(i, layer))
        for name, array in network.parameters().items():
            if array.dtype != np.float32:
                raise TypeError(f"{name} must be float32 to be saved, got {array.dtype}")
            check_finite(array, name)
            array = array + np.float32(0)  # a pruned weight may be -0.0, and is stored as 0
            places = _places(layers, name)
            write(tensor_to_bytes(array, find_levels(array), places=places, packed=False))  # chapter 12 counts floats
    return Path(path).stat().st_size


def load(path):  # -> Network
    """Return the network of a .nnz file; its weights have the same bits as when it was saved.

    Raises FileNotFoundError, and ValueError, in one line, for a file that is damaged or holds no network. A file of n
    bytes is never believed to hold more than about 1,420 n weights.
    """
    with open(path, "rb") as file, errors_name(path):
        _, layers, stored = _contents(file)
        if layers is None:
            raise ValueError("it holds named arrays, not a network")
        return _network(layers, stored)


def describe(path):  # -> list of Part
    """Return how many bytes of a .nnz file are for what; they add up to its size on disk. Nothing is decoded.

    Purposes are the parts of a tensor, "technique" (which one, and its numbers), "name", "header" and "checksum".

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save(Network([Linear(2, 3)]), Path(folder) / "small.nnz")
    ...     parts = describe(Path(folder) / "small.nnz")
    >>> size, sum(part.bytes for part in parts), parts[2]
    (45, 45, Part(tensor='0.weight', purpose='floats', bytes=24))
    """
    with open(path, "rb") as file, errors_name(path):
        reader, _, _ = _contents(file)
        return [Part(*whose, count) for whose, count in {**reader.parts, ("", "checksum"): 4}.items()]


# The file


def _contents(file):  # -> Reader at the end, layers of a network or None, {name: Stored}
    """Go through a whole open file; what it holds is decoded when it is asked for."""
    data = mapped(file)
    if len(data) < 9 or data[:4] != MAGIC or data[4] not in (NETWORK, ARRAYS):
        raise ValueError("it is no .nnz file of version 1")
    if zlib.crc32(data) != RESIDUE:
        raise ValueError("its checksum is wrong: the file is damaged")
    reader, layers, stored = Reader(data[:-4]), None, {}
    if reader.take(5, "header")[4] == NETWORK:
        layers = _read_layers(reader)
        heads = [(f"{i}.{k}", "float32", a.shape) for i, layer in enumerate(layers) for k, a in layer.params.items()]
    else:
        heads = _read_heads(reader)
    for name, dtype, shape in heads:
        if name in stored:
            raise ValueError(f"there are two arrays {name!r}")
        stored[name] = read_tensor(reader, name, dtype, shape, places=_places(layers, name))
    if reader.rest:
        raise ValueError(f"{len(reader.rest)} bytes are left after its end")
    return reader, layers, stored


@contextmanager
def _writing(path, kind):
    """Give a function that writes bytes; what is around them is written here, and the file is whole or not there."""
    with atomic_write(path) as file:
        checksum = 0

        def write(data):
            nonlocal checksum
            checksum = zlib.crc32(data, checksum)
            file.write(data)

        write(MAGIC + bytes([kind]))
        yield write
        file.write(checksum.to_bytes(4, "little"))


# A network


def _layer_to_bytes(i, layer):
    if type(layer) not in LAYERS:
        allowed = ", ".join(kind.__name__ for kind in LAYERS)
        raise TypeError(f"layer {i}, {layer}, cannot be saved: allowed are {allowed}; see export_rounded")
    kind = bytes([list(LAYERS).index(type(layer))])
    if isinstance(layer, Rotation):
        check_block(len(layer.signs), layer.block_size)
        return kind + varint(len(layer.signs)) + varint(layer.block_size) + np.packbits(layer.signs < 0).tobytes()
    return kind + b"".join(varint(getattr(layer, name)) for name in LAYERS[type(layer)])


def _read_layers(reader):
    layers, weights = [], 0
    for i in range(reader.varint("header", most=MOST_LAYERS)):
        number = reader.take(1, "header")[0]
        if number >= len(LAYERS):
            raise ValueError(f"layer {i} is of kind {number}, there are {len(LAYERS)}")
        kind, names = list(LAYERS.items())[number]
        given = {name: reader.varint("header", most=1 << 31) for name in names}
        if kind is Rotation:
            n, block_size = given.values()
            given = {"signs": signs_from_bytes(reader.take(-(-n // 8), "signs", f"{i}.signs"), n, block_size)}
        elif kind in (Linear, Conv2d):
            inputs, outputs, *window = given.values()
            weights += outputs * (inputs * (window[0] ** 2 if window else 1) + 1)
        if weights > room(reader.size) + 4096 * i:
            raise ValueError(f"a network of {weights} weights cannot come from {reader.size} bytes")
        layers.append(kind(**given))
    return layers


def _network(layers, stored):
    network = Network(layers)
    network.load_parameters({name: tensor.read() for name, tensor in stored.items()})
    return network


def _places(layers, name):  # "5.weight" -> (out, channels, side, side), or None
    """Return how the inputs of a Linear lie in the image, square, that the layers before it give."""
    i, _, leaf = name.partition(".")
    if not layers or leaf != "weight" or not isinstance(layers[int(i)], Linear):
        return None
    layer, before = layers[int(i)], reversed(layers[: int(i)])
    last = next((own for own in before if isinstance(own, Linear | Rotation | Conv2d)), None)
    if isinstance(last, Linear | Rotation):
        return None  # mixed, they have no places any more
    channels = last.out_channels if last else 1
    side = math.isqrt(layer.in_features // channels)
    return (layer.out_features, channels, side, side) if channels * side**2 == layer.in_features else None


# Named arrays


@contextmanager
def writing_arrays(path):
    """Give a function add(name, dtype, shape, data) that writes one array, `data` as `tensor_to_bytes` makes them.

    The file appears at `path` when the block ends. Only what is added is in memory.
    """
    with _writing(path, ARRAYS) as write:

        def add(name, dtype, shape, data):
            encoded = name.encode()
            write(varint(len(encoded) + 1) + encoded + bytes([list(DTYPES).index(dtype)]))
            write(b"".join(map(varint, [len(shape), *shape])) + data)

        yield add
        write(b"\0")


def check_array(name, dtype, shape):
    """Raise ValueError for an array that a file cannot hold: its type, its name or its number of dimensions."""
    one_of(*DTYPES)(dtype, f"the dtype of {name!r:.60}")
    whole(0, LONGEST_NAME)(len(name.encode()), f"the length of the name {name!r:.60} in bytes")
    whole(0, MOST_DIMENSIONS)(len(shape), f"the number of dimensions of {name!r:.60}")
    whole(0, 1 << 48)(max(shape, default=0), f"a dimension of {name!r:.60}")


def open_arrays(path):
    """Open a .nnz file, its arrays in their order or the parameters of its network, not rotated: see `opened`."""

    def found_in(file):
        _, layers, stored = _contents(file)
        return stored if layers is None else stored_parameters(unrotate_network(_network(layers, stored)))

    return opened(path, found_in)


def _read_heads(reader):  # -> iterator of (name, dtype, shape)
    while length := reader.varint("header", most=LONGEST_NAME + 1):
        name = str(reader.take(length - 1, "name"), "utf-8")
        number = reader.take(1, "header")[0]
        if number >= len(DTYPES):
            raise ValueError(f"{name!r} has a dtype of number {number}, there are {len(DTYPES)}")
        dimensions = reader.varint("technique", name, most=MOST_DIMENSIONS)
        yield name, list(DTYPES)[number], tuple(reader.varint("technique", name) for _ in range(dimensions))
