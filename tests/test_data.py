"""MNIST is the published MNIST, and load_idx reads every good IDX file and refuses every bad one."""

import gzip
import hashlib
import itertools
import math
import struct

import numpy as np
import pytest

from nnzip.data import load_idx, load_mnist
from nnzip.data.mnist import FILE, raw_mnist

# The uncompressed files of the original page, by md5.
PUBLISHED_MD5 = {
    "train_images": "6bbc9ace898e44ae57da46a324031adb",
    "train_labels": "a25bea736e30d166cdddb491f175f624",
    "test_images": "2646ac647ad5339dbf082846283269ea",
    "test_labels": "27ae3e4e09519cfbb04c329615203637",
}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

# type code: (letter of struct, NumPy's dtype, values at the ends of the range)
TYPES = {
    0x08: ("B", np.uint8, (0, 255, 128)),
    0x09: ("b", np.int8, (-128, 127, -1)),
    0x0B: ("h", np.int16, (-32768, 32767, 258)),
    0x0C: ("i", np.int32, (-(2**31), 2**31 - 1, 66051)),
    0x0D: ("f", np.float32, (-0.5, 3.0, math.inf)),
    0x0E: ("d", np.float64, (0.1, -1e300, math.nan)),
}


def idx_bytes(code, dimensions, values):
    """The independent writer: IDX as its specification describes it, with struct alone."""
    header = struct.pack(f">BBBB{len(dimensions)}I", 0, 0, code, len(dimensions), *dimensions)
    return header + struct.pack(f">{len(values)}{TYPES[code][0]}", *values)


def write(folder, content, name="file"):
    path = folder / name
    path.write_bytes(content)
    return path


LABELS = idx_bytes(0x08, [5], [5, 0, 4, 1, 9])
CUBE = idx_bytes(0x0C, [2, 3, 2], range(12))


# ---------------------------------------------------------------- MNIST


@pytest.mark.parametrize("name", PUBLISHED_MD5)
def test_the_embedded_arrays_are_the_published_files(name):
    with np.load(FILE, allow_pickle=False) as npz:
        array = npz[name]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    digest = hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == PUBLISHED_MD5[name]


def test_images_are_raw_over_255_in_float32_and_labels_are_those_of_the_literature():
    mnist, grey = load_mnist(), (np.arange(256) / 255.0).astype(np.float32)
    assert np.array_equal(np.rint(grey * 255), np.arange(256))
    with np.load(FILE, allow_pickle=False) as npz:
        for images, labels, part in ((*mnist[:2], "train"), (*mnist[2:], "test")):
            assert images.dtype == np.float32 and labels.dtype == np.int64 and len(images) == len(labels)
            assert np.array_equal(images[::7], grey[npz[f"{part}_images"][::7]][:, None])
    assert np.bincount(mnist.train_labels).tolist() == TRAIN_COUNTS
    assert np.bincount(mnist.test_labels).tolist() == TEST_COUNTS
    assert not any(np.shares_memory(one, raw) for one in mnist for raw in raw_mnist().values())


# ---------------------------------------------------------------- good IDX files


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("code", TYPES, ids=hex)
def test_every_type_and_rank_comes_back(tmp_path, code, rank, pack):
    dimensions = (2, 3, 4, 5)[:rank]
    _, dtype, ends = TYPES[code]
    values = list(itertools.islice(itertools.cycle(ends), math.prod(dimensions)))
    array = load_idx(write(tmp_path, pack(idx_bytes(code, dimensions, values))))
    assert array.dtype == dtype and array.dtype.isnative and array.shape == dimensions
    assert np.array_equal(array.ravel(), np.array(values, dtype), equal_nan=code == 0x0E)


def test_gzip_is_seen_from_the_content_and_not_from_the_name(tmp_path):
    for name, content in (("plain.gz", LABELS), ("packed.idx", gzip.compress(LABELS))):
        assert load_idx(write(tmp_path, content, name)).tolist() == [5, 0, 4, 1, 9]


# ---------------------------------------------------------------- bad IDX files

DAMAGED = {
    "empty file": (b"", "buffer of at least 4 bytes"),
    "another format": (b"PK\3\4" + bytes(50), "begins with 50 4b 03 04, not with 00 00, a type and a rank"),
    "unknown type": (bytes([0, 0, 0x0A, 1, 0, 0, 0, 1, 7]), "begins with 00 00 0a 01"),
    "a byte long": (LABELS + b"\0", "5 bytes, and holds 6"),
    "an empty array": (idx_bytes(0x08, [0, 28, 28], []), r"shape \(0, 28, 28\)"),
    "65 dimensions": (idx_bytes(0x08, [1] * 65, [7]), "dimension"),
    "a product of 0 modulo 2^64": (idx_bytes(0x08, [2**31, 2**31, 4], []), "promises shape"),
    "gzip with a wrong checksum": (gzip.compress(CUBE)[:-8] + bytes(8), "CRC"),
    "gzip of unknown method": (b"\x1f\x8b\x07" + bytes(20), "method"),
    "gzip with a bad stream": (gzip.compress(CUBE)[:10] + b"\xff" * 30, "invalid"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_value_error_that_names_it(tmp_path, damage):
    content, reason = DAMAGED[damage]
    with pytest.raises(ValueError, match=reason) as raised:
        load_idx(write(tmp_path, content, "damaged.idx"))
    assert "damaged.idx" in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for content in (CUBE, gzip.compress(CUBE)):
        for length in range(len(content)):
            with pytest.raises(ValueError, match="cut"):
                load_idx(write(tmp_path, content[:length], "cut"))
