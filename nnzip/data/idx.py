"""IDX, the file format of MNIST: a type, a list of dimensions, then the numbers, big-endian.

    00 00 | type | rank | rank dimensions, 4 bytes each | the numbers, last dimension fastest

A file is believed in nothing: no byte is read that its header did not promise, save one, to see that it ends there.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from nnzip.checks import check_integer

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_RANK = 64  # of a NumPy array
CHUNK = 1 << 20


def load_idx(path, *, max_bytes=2 << 30):
    """Read an IDX file, plain or gzipped, such as those of MNIST, Fashion-MNIST, KMNIST and EMNIST.

    Whether it is gzipped is seen from its first bytes, not from its name. The numbers are given as they stand:
    images are 0 to 255, floats may be NaN.

    Parameters
    ----------
    path : str or os.PathLike
    max_bytes : int
        The largest array that is read; a file whose header promises more is refused unread.

    Returns
    -------
    array of the file's shape, in native byte order: uint8, int8, int16, int32, float32 or float64

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is not IDX, damaged, empty, shorter or longer than its header says, or larger than `max_bytes`.

    Source: http://yann.lecun.com/exdb/mnist/ ("the IDX file format", at the end of the page)

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels"
    ...     _ = path.write_bytes(bytes([0, 0, 0x08, 1]) + bytes([0, 0, 0, 3]) + bytes([5, 0, 4]))
    ...     load_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    path = Path(path)
    max_bytes = check_integer(max_bytes, "max_bytes", 1)
    with path.open("rb") as file:
        stream = gzip.GzipFile(fileobj=file) if file.peek(2)[:2] == b"\x1f\x8b" else file
        try:
            return read_idx(stream, max_bytes)
        except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is not a whole IDX file: {error}") from error


def read_idx(stream, max_bytes):
    dtype, shape = read_header(stream)
    size = math.prod(shape) * dtype.itemsize  # Python integers: no product overflows
    if not 0 < size <= max_bytes:
        raise ValueError(f"it promises shape {shape} of {dtype.name}, {size} bytes; allowed are 1 to {max_bytes}")
    data = read_at_most(stream, size + 1)  # the end of a gzip stream, where its checksum stands, is seen too
    if len(data) != size:
        held = f"more than {size}" if len(data) > size else f"only {len(data)}"
        raise ValueError(f"it promises shape {shape} of {dtype.name}, {size} bytes, and holds {held}")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def read_header(stream):  # -> dtype, shape
    magic = read_at_most(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(f"it begins with {magic.hex(' ') or 'nothing'}, not with 00 00, a type and a rank")
    code, rank = magic[2:]
    if code not in TYPES:
        raise ValueError(f"its type is 0x{code:02x}; allowed are {', '.join(f'0x{t:02x}' for t in TYPES)}")
    if rank > MAX_RANK:
        raise ValueError(f"its rank is {rank}; allowed are 0 to {MAX_RANK}")
    dimensions = read_at_most(stream, 4 * rank)
    if len(dimensions) < 4 * rank:
        raise ValueError(f"it ends within its header, after {len(dimensions)} of {4 * rank} bytes of dimensions")
    return np.dtype(TYPES[code]), struct.unpack(f">{rank}I", dimensions)


def read_at_most(stream, size):  # in chunks: one read(size) would allocate all that a false header promises
    data = bytearray()
    while len(data) < size and (chunk := stream.read(min(CHUNK, size - len(data)))):
        data += chunk
    return data
