"""MNIST is the published MNIST, and load_idx reads every good IDX file and refuses every bad one."""

import gzip
import hashlib
import itertools
import math
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from nnzip.data import build_mnist, load_idx, load_mnist
from nnzip.data.mnist import FILE, SOURCES

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


@pytest.fixture(scope="module")
def mnist():
    return load_mnist()


@pytest.mark.parametrize("name", PUBLISHED_MD5)
def test_the_embedded_arrays_are_the_published_files(name):
    with np.load(FILE, allow_pickle=False) as npz:
        array = npz[name]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    digest = hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == PUBLISHED_MD5[name]


def test_shapes_dtypes_and_ranges(mnist):
    for images, labels, count in ((*mnist[:2], 60_000), (*mnist[2:], 10_000)):
        assert images.shape == (count, 1, 28, 28) and images.dtype == np.float32 and images.flags.c_contiguous
        assert images.min() == 0 and images.max() == 1
        assert labels.shape == (count,) and labels.dtype == np.int64


def test_label_counts_are_those_of_the_literature(mnist):
    assert np.bincount(mnist.train_labels).tolist() == TRAIN_COUNTS
    assert np.bincount(mnist.test_labels).tolist() == TEST_COUNTS


def test_the_raw_pixels_come_back_exactly(mnist):
    with np.load(FILE, allow_pickle=False) as npz:
        assert np.array_equal(np.rint(mnist.test_images * 255)[:, 0], npz["test_images"])
        raw = npz["train_images"]
    for part in (slice(start, start + 10_000) for start in range(0, 60_000, 10_000)):  # all at once takes 400 MB
        assert np.array_equal(np.rint(mnist.train_images[part] * 255)[:, 0], raw[part])


def test_every_pixel_value_is_the_float32_nearest_to_raw_over_255(mnist):
    values = np.unique(mnist.train_images)
    assert np.array_equal(values, (np.arange(256) / 255.0).astype(np.float32))


def test_the_first_training_image_is_a_five(mnist):
    assert mnist.train_labels[0] == 5
    ink = mnist.train_images[0, 0] > 0.5
    left, right = ink[:, :14], ink[:, 14:]
    assert right[5:8].sum() > left[5:8].sum()  # the flag at the top goes right,
    assert left[8:12].sum() > right[8:12].sum()  # the stem below it is left,
    assert right[13:18].sum() > left[13:18].sum()  # and the belly is right


def test_a_caller_cannot_spoil_the_next_callers_data():
    spoiled = load_mnist()
    for array in spoiled:
        array[:] = 7
    fresh = load_mnist()
    assert fresh.train_images.max() == 1 and fresh.test_images.max() == 1
    assert fresh.train_labels[0] == 5 and fresh.test_labels[0] == 7 and fresh.test_labels[1] == 2


def write_small_mnist(folder):
    """The first 20 images and labels of each part, as the four gzipped IDX files."""
    with np.load(FILE, allow_pickle=False) as npz:
        small = {name: npz[name][:20] for name in SOURCES}
    for name, array in small.items():
        (folder / SOURCES[name]).write_bytes(gzip.compress(idx_bytes(0x08, array.shape, array.ravel().tolist())))
    return small


def test_build_mnist_packs_the_four_files_the_same_way_each_time(tmp_path):
    small = write_small_mnist(tmp_path)
    first, second = tmp_path / "first.npz", tmp_path / "second.npz"
    build_mnist(tmp_path, first)
    build_mnist(tmp_path, second)
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:  # no clock in the file
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(first, allow_pickle=False) as npz:
        assert list(npz) == list(SOURCES)
        assert all(np.array_equal(npz[name], small[name]) and npz[name].dtype == np.uint8 for name in SOURCES)


def test_build_mnist_leaves_nothing_behind_when_a_source_is_bad(tmp_path):
    write_small_mnist(tmp_path)
    write(tmp_path, gzip.compress(LABELS[:-1]), SOURCES["test_labels"])
    with pytest.raises(ValueError, match="t10k-labels"):
        build_mnist(tmp_path, tmp_path / "mnist.npz")
    (tmp_path / SOURCES["test_labels"]).unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels"):
        build_mnist(tmp_path, tmp_path / "mnist.npz")
    assert not list(tmp_path.glob("*.npz")) and not list(tmp_path.glob(".*"))


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


def test_the_last_dimension_runs_fastest(tmp_path):
    array = load_idx(write(tmp_path, CUBE))
    assert array.tolist() == [[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]]]


def test_gzip_is_seen_from_the_content_and_not_from_the_name(tmp_path):
    for name, content in (("plain.gz", LABELS), ("packed.idx", gzip.compress(LABELS))):
        assert load_idx(write(tmp_path, content, name)).tolist() == [5, 0, 4, 1, 9]


def test_a_path_may_be_a_string_and_the_array_is_the_callers_own(tmp_path):
    path = write(tmp_path, LABELS)
    load_idx(str(path))[:] = 0
    assert load_idx(path).tolist() == [5, 0, 4, 1, 9]


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1])  # at the edge of the chunks it is read in
def test_sizes_around_a_chunk(tmp_path, size):
    content = bytes([0, 0, 0x08, 1]) + struct.pack(">I", size) + bytes(range(256)) * (size // 256 + 1)
    array = load_idx(write(tmp_path, content[: 8 + size]))
    assert array.size == size and np.array_equal(array, np.arange(size, dtype=np.uint64).astype(np.uint8))


def test_a_scalar_and_64_dimensions_are_ranks_too(tmp_path):
    assert load_idx(write(tmp_path, idx_bytes(0x0D, [], [0.5]))).shape == ()
    assert load_idx(write(tmp_path, idx_bytes(0x08, [1] * 64, [7]))).shape == (1,) * 64


# ---------------------------------------------------------------- bad IDX files

HUGE = 2**32 - 1
DAMAGED = {
    "empty file": (b"", "begins with nothing"),
    "one byte": (b"\0", "begins with 00"),
    "another format": (b"PK\3\4" + bytes(50), "begins with 50 4b"),
    "unknown type": (bytes([0, 0, 0x0A, 1, 0, 0, 0, 1, 7]), "type is 0x0a"),
    "no dimensions": (LABELS[:4], "within its header, after 0 of 4"),
    "half a dimension": (CUBE[:10], "within its header, after 6 of 12"),
    "no data": (LABELS[:8], r"shape \(5,\) of uint8, 5 bytes, and holds only 0"),
    "a byte short": (CUBE[:-1], "48 bytes, and holds only 47"),
    "a byte long": (LABELS + b"\0", "5 bytes, and holds more"),
    "an empty array": (idx_bytes(0x08, [0, 28, 28], []), r"shape \(0, 28, 28\)"),
    "empty and huge": (idx_bytes(0x08, [0] + [HUGE] * 40, []), "0 bytes"),
    "65 dimensions": (idx_bytes(0x08, [1] * 65, [7]), "rank is 65"),
    "a product over 64 bits": (idx_bytes(0x0E, [HUGE] * 3, [1.0]), "promises shape"),
    "a product of 0 modulo 2^64": (idx_bytes(0x08, [2**31, 2**31, 4], [1]), "promises shape"),
    "rank 255": (idx_bytes(0x08, [HUGE] * 255, []), "rank is 255"),
    "over max_bytes": (idx_bytes(0x08, [2, 2**30 + 1], [1]), "allowed are 1 to 2147483648"),
    "gzip without its end": (gzip.compress(CUBE)[:-9], "end"),
    "gzip without its checksum": (gzip.compress(CUBE)[:-8], "end"),
    "gzip with a wrong checksum": (gzip.compress(CUBE)[:-8] + bytes(8), "CRC"),
    "gzip of a longer file": (gzip.compress(CUBE + b"\0"), "48 bytes, and holds more"),
    "gzip of a shorter file": (gzip.compress(CUBE[:-4]), "only 44"),
    "gzip magic alone": (b"\x1f\x8b", "end"),
    "gzip of unknown method": (b"\x1f\x8b\x07" + bytes(20), "method"),
    "gzip with rubbish behind it": (gzip.compress(CUBE) + b"rubbish", "gzip"),
    "gzip in gzip": (gzip.compress(gzip.compress(CUBE)), "begins with 1f 8b"),
    "gzip with a bad stream": (gzip.compress(CUBE)[:10] + b"\xff" * 30, "invalid"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_value_error_that_names_it(tmp_path, damage):
    content, reason = DAMAGED[damage]
    with pytest.raises(ValueError, match=reason) as raised:
        load_idx(write(tmp_path, content, "damaged.idx"))
    assert "damaged.idx" in str(raised.value) and "\n" not in str(raised.value)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_idx(tmp_path / "none.idx")


@pytest.mark.parametrize("path", [0, None, b"bytes"])
def test_a_path_is_a_path(path):  # 0 would otherwise be opened, as standard input
    with pytest.raises(TypeError):
        load_idx(path)


def test_max_bytes_is_the_size_of_the_array(tmp_path):
    path = write(tmp_path, CUBE)
    assert load_idx(path, max_bytes=48).size == 12
    with pytest.raises(ValueError, match="48 bytes; allowed are 1 to 47"):
        load_idx(path, max_bytes=47)
    for wrong, error in ((0, ValueError), (48.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="max_bytes"):
            load_idx(path, max_bytes=wrong)


@pytest.mark.parametrize("promise", [10, 2_000_000_000], ids=["promises 10 bytes", "promises 2 GB"])
@pytest.mark.parametrize("bomb", [False, True], ids=["plain", "gzip bomb"])
def test_memory_is_bounded_by_what_is_promised_and_by_what_is_there(tmp_path, promise, bomb):
    head = bytes([0, 0, 0x08, 1]) + struct.pack(">I", promise)
    if bomb:  # 64 MB of zeros in 64 kB; enough to break the first promise, far too little for the second
        content, limit = gzip.compress(head + bytes(64 << 20)), 4 << 20 if promise == 10 else 160 << 20
    else:
        content, limit = head + bytes(100), 4 << 20
    path = write(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="promises"):
            load_idx(path)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_no_flipped_or_missing_byte_gives_anything_but_an_array_or_a_value_error(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "fuzz"
    floats, shorts = idx_bytes(0x0D, [2, 2], [0.5] * 4), idx_bytes(0x0B, [10, 20], range(200))
    good = [LABELS, CUBE, floats, gzip.compress(CUBE), gzip.compress(shorts)]
    refused = 0
    for turn in range(600):
        content = bytearray(good[turn % len(good)])
        for _ in range(rng.integers(0, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        if rng.random() < 0.5:
            content = content[: rng.integers(len(content) + 1)]
        path.write_bytes(content)
        try:
            assert load_idx(path).nbytes <= len(shorts)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert 300 < refused < 600


def test_a_file_cut_anywhere_is_refused(tmp_path):
    for content in (CUBE, gzip.compress(CUBE)):
        for length in range(len(content)):
            with pytest.raises(ValueError, match="cut"):
                load_idx(write(tmp_path, content[:length], "cut"))
