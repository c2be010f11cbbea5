"""MNIST, embedded: 70,000 handwritten digits with their labels, and no download (chapter 01)."""

import gzip
import math
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

FILE = Path(__file__).with_name("mnist.npz")  # np.savez_compressed of what load_idx reads from the four files
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Mnist(NamedTuple):
    """What `load_mnist` returns."""

    train_images: np.ndarray  # [60000, 1, 28, 28] float32 in [0, 1]
    train_labels: np.ndarray  # [60000] int64 in 0..9
    test_images: np.ndarray  # [10000, 1, 28, 28] float32 in [0, 1]
    test_labels: np.ndarray  # [10000] int64 in 0..9


def load_mnist():
    """Return MNIST: images as raw / 255 and never standardized, so that rint(255 * image) is the raw pixel.

    The arrays are new at every call (220 MB). Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied
    to Document Recognition", 1998; nnzip/data/LICENSE says whose data it is.

    >>> data = load_mnist()
    >>> data.train_images.shape, data.train_images.dtype, data.train_labels[:5].tolist()
    ((60000, 1, 28, 28), dtype('float32'), [5, 0, 4, 1, 9])
    """
    images = {name: scale(raw_mnist()[name]) for name in ("train_images", "test_images")}
    labels = {name: raw_mnist()[name].astype(np.int64) for name in ("train_labels", "test_labels")}
    return Mnist(**images, **labels)


def scale(pixels):  # [N, 28, 28] uint8 -> [N, 1, 28, 28] float32
    """Return pixels as floats from 0 to 1, in one channel."""
    return pixels[:, None] / np.float32(255)


@cache
def raw_mnist():  # -> {name: uint8 array}
    """Read the file once; its arrays are shared by all callers, so never handed out as they are."""
    with np.load(FILE, allow_pickle=False) as npz:
        return dict(npz)


def load_idx(path):
    """Read an IDX file, plain or gzipped, such as those of MNIST, Fashion-MNIST, KMNIST and EMNIST.

        00 00 | type | rank | rank dimensions, 4 bytes each | the numbers, last dimension fastest, all big-endian

    Raises ValueError for a file that is something else, damaged, empty, or shorter or longer than its header says.
    Source: http://yann.lecun.com/exdb/mnist/ ("the IDX file format", at the end of the page).
    """
    data = Path(path).read_bytes()
    try:
        if data[:2] == b"\x1f\x8b":  # whatever its name is
            data = gzip.decompress(data)
        zeros, code, rank = struct.unpack_from(">HBB", data)
        if zeros or code not in TYPES:
            raise ValueError(f"it begins with {data[:4].hex(' ')}, not with 00 00, a type and a rank")
        shape, start, dtype = struct.unpack_from(f">{rank}I", data, 4), 4 + 4 * rank, np.dtype(TYPES[code])
        size, held = math.prod(shape) * dtype.itemsize, len(data) - start
        if not 0 < size == held:
            raise ValueError(f"it promises shape {shape} of {dtype.name}, {size} bytes, and holds {held}")
        return np.frombuffer(data, dtype, offset=start).astype(dtype.newbyteorder("=")).reshape(shape)
    except (ValueError, EOFError, struct.error, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole IDX file: {error}") from error
