"""The pieces of a .nnz file: numbers of any length, packed arrays, and what each byte is for (chapter 12)."""

import zlib
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """How many bytes of a file serve one purpose of one tensor; "" is the file itself."""

    tensor: str
    purpose: str
    bytes: int


class Reader:
    """Read bytes piece by piece, never beyond their end, and keep account of what each piece was for."""

    def __init__(self, data):
        self.size, self.rest, self.parts = len(data), memoryview(data), {}

    def take(self, count, purpose, tensor=""):
        """Return so many bytes; ValueError where there are fewer."""
        if count > len(self.rest):
            raise ValueError(f"the file ends within the {purpose} of {tensor or 'the file'}")
        piece, self.rest = self.rest[:count], self.rest[count:]
        self.parts[tensor, purpose] = self.parts.get((tensor, purpose), 0) + count
        return piece

    def varint(self, purpose, tensor="", *, most=1 << 48):
        """Return the whole number that `varint` has written; ValueError above `most`."""
        n = shift = 0
        while True:
            byte = self.take(1, purpose, tensor)[0]
            n |= (byte & 127) << shift
            shift += 7
            if n > most or shift > 63:
                raise ValueError(f"a number of the {purpose} of {tensor or 'the file'} is above {most}")
            if byte < 128:
                return n


def varint(n):  # int >= 0 -> bytes
    """Return a whole number in 7 bits a byte, the lowest first (LEB128): the eighth says that more follow.

    >>> varint(5).hex(), varint(300).hex()
    ('05', 'ac02')
    """
    data = bytearray()
    while n > 127:
        data.append(n & 127 | 128)
        n >>= 7
    return bytes([*data, n])


def pack(array):  # [...] -> bytes
    """Deflate the bytes of each significance by themselves, looking for runs or for any repetition: what is shorter."""
    planes = np.ascontiguousarray(array).reshape(-1, 1).view(np.uint8).T

    def deflated(strategy):
        coder = zlib.compressobj(1, strategy=strategy)  # on floats 6 takes three times as long, for the same
        pieces = [coder.compress(plane.tobytes()) + coder.flush(zlib.Z_BLOCK) for plane in planes]
        return b"".join(pieces) + coder.flush()

    return min(map(deflated, (zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY)), key=len)


def unpack(data, count, dtype):  # bytes -> [count]
    """Return the numbers that `pack` was given; ValueError where the data are damaged."""
    decoder, size = zlib.decompressobj(), count * dtype.itemsize
    planes = decoder.decompress(data, size + 1)
    if len(planes) != size or not decoder.eof or decoder.unused_data:
        raise ValueError(f"{len(data)} bytes cannot be {count} numbers")
    return np.frombuffer(planes, np.uint8).reshape(dtype.itemsize, count).T.copy().view(dtype).ravel()
