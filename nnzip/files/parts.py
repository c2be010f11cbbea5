"""The pieces of a .nnz file: numbers of any length, packed arrays, and what each byte is for (chapter 12)."""

import zlib
from typing import NamedTuple

import numpy as np

from nnzip.coding import decode, encode


class Part(NamedTuple):
    """How many bytes of a file serve one purpose of one tensor; "" is the file itself."""

    tensor: str
    purpose: str
    bytes: int


class Reader:
    """Read bytes piece by piece, never beyond their end, and keep account of what each piece was for."""

    def __init__(self, data):
        self.size, self.rest, self.tensor, self.parts = len(data), memoryview(data), "", {}

    def take(self, count, purpose):
        """Return so many bytes; ValueError where there are fewer."""
        if count > len(self.rest):
            raise ValueError(f"the file ends within the {purpose} of {self.tensor or 'the file'}")
        piece, self.rest = self.rest[:count], self.rest[count:]
        key = self.tensor, purpose
        self.parts[key] = self.parts.get(key, 0) + count
        return piece

    def varint(self, purpose="technique", most=1 << 48):
        """Return the whole number that `varint` has written; ValueError above `most`."""
        n = shift = 0
        while True:
            byte = self.take(1, purpose)[0]
            n |= (byte & 127) << shift
            shift += 7
            if n > most or shift > 63:
                raise ValueError(f"a number of the {purpose} of {self.tensor or 'the file'} is above {most}")
            if byte < 128:
                return n

    def end(self):
        """Raise ValueError where something is left."""
        if self.rest:
            raise ValueError(f"{len(self.rest)} bytes are left after its end")


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
    """Pack the bytes of each significance by themselves: a method, a length, and they as they are, by zlib or rANS."""
    packed = b""
    for plane in np.ascontiguousarray(array).view(np.uint8).reshape(-1, array.itemsize).T:
        raw = plane.tobytes()
        level = 6 if len(raw) < 1 << 16 else 1  # on exponents 6 takes six times as long, and loses to rANS
        options = [raw, zlib.compress(raw, level)]
        if len(options[1]) < len(raw):  # else the bytes are as good as random
            options.append(encode(plane, alphabet=256))
        method = min(range(len(options)), key=lambda i: len(options[i]))
        packed += bytes([method]) + varint(len(options[method])) + options[method]
    return packed


def unpack(data, count, dtype):  # bytes -> [count]
    """Return the numbers that `pack` was given; ValueError where the data are damaged."""
    planes, reader = np.empty((count, dtype.itemsize), np.uint8), Reader(data)
    for plane in planes.T:
        method, piece = reader.take(1, "floats")[0], reader.take(reader.varint(), "floats")
        if method == 1:
            piece = zlib.decompressobj().decompress(piece, count or 1)
        codes = decode(piece, count, alphabet=256) if method == 2 else np.frombuffer(piece, np.uint8)
        if len(codes) != count:
            raise ValueError(f"{len(codes)} bytes cannot be {count} numbers")
        plane[:] = codes
    reader.end()
    return planes.reshape(-1).view(dtype)
