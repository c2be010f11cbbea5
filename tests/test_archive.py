"""The .nnz file: what is loaded is what was saved, every byte is accounted for, and no file does any harm."""

import os
import re
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from nnzip.checks import FLOAT32_MAX
from nnzip.coding import encode
from nnzip.compression.hadamard import Rotation, rotate_network
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import quantize_activations, quantize_weights, round_weights_in_training
from nnzip.files import tensors
from nnzip.files.archive import describe, load, open_arrays, save, writing_arrays
from nnzip.files.parts import Part, varint
from nnzip.files.tensor_files import BITS, DTYPES, to_bits
from nnzip.files.tensors import find_levels, tensor_to_bytes
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.nn.zoo import trained


def small(seed=0):
    rng = np.random.default_rng(seed)
    layers = [Conv2d(1, 4, 3, padding=1, rng=rng), MaxPool2d(2), Conv2d(4, 6, 3, stride=2, rng=rng), Flatten()]
    network = Network([*layers, Linear(24, 12, rng=rng), ReLU(), Linear(12, 3, rng=rng)])
    for name, array in network.parameters().items():
        if name.endswith("bias"):
            array[...] = rng.normal(size=array.shape)
    return network


def shared(network, k=5):
    """Give each layer k values of its own, some of them 0."""
    network = network.copy()
    for array in network.parameters().values():
        values = np.random.default_rng(array.size).normal(size=k).astype(np.float32)
        values[1] = 0
        array[...] = values[np.abs(array[..., None] - values).argmin(axis=-1)]
    return network


def changed(network, function):
    network = network.copy()
    for array in network.parameters().values():
        array[...] = function(array)
    return network


NETWORKS = {
    "floats": small,
    "half precision": lambda: changed(Network([Flatten(), Linear(4, 2, rng=0)]), np.float16),
    "pruned floats": lambda: prune_network(small(), 0.8),
    "4 bits a neuron": lambda: quantize_weights(small(), bits=4),
    "8 bits a layer": lambda: quantize_weights(small(), bits=8, per_channel=False),
    "an affine grid": lambda: quantize_weights(small(), bits=5, per_channel=False, symmetric=False),
    "groups": lambda: quantize_weights(small(), bits=4, group_size=3),
    "rotated, 4 bits": lambda: quantize_weights(rotate_network(small()), bits=4),
    "pruned, shared": lambda: shared(prune_network(small(), 0.7)),
    "pruned to nothing": lambda: changed(small(), np.zeros_like),
    "shared": lambda: shared(small()),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.nnz"


def bits_of(network):
    return {name: (array + np.float32(0)).tobytes() for name, array in network.parameters().items()}


# What comes back


def read_all(path):
    with open_arrays(path) as arrays:
        return {name: stored.read() for name, stored in arrays.items()}


def test_the_network_that_is_loaded_gives_the_same_bits_and_every_byte_is_accounted_for(network, path):
    size = save(network, path)
    loaded = load(path)
    assert repr(loaded) == repr(network)
    assert bits_of(loaded) == bits_of(network)
    shape = (8, 1, 2, 2) if len(network.layers) == 2 else (8, 1, 11, 11)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert loaded.forward(x).tobytes() == network.forward(x).tobytes()
    parts = describe(path)
    assert sum(part.bytes for part in parts) == size == path.stat().st_size
    assert len({(part.tensor, part.purpose) for part in parts}) == len(parts)
    assert {part.tensor for part in parts if part.purpose == "technique"} == network.parameters().keys()


def test_a_small_file_byte_by_byte(path):
    network = Network([Linear(2, 1)])
    network.parameters()["0.weight"][...] = [[1.5, -0.1]]
    save(network, path)
    data = path.read_bytes()
    weight, bias = np.array([1.5, -0.1], "<f4").tobytes(), np.zeros(1, "<f2").tobytes()
    assert data[:-4] == b"nnz\x01\x00" + b"\x01" + b"\x00\x02\x01" + b"\x00" + weight + b"\x04" + bias
    assert data[-4:] == zlib.crc32(data[:-4]).to_bytes(4, "little")
    assert describe(path) == [
        Part("", "header", 9),
        Part("0.weight", "technique", 1),
        Part("0.weight", "floats", 8),
        Part("0.bias", "technique", 1),
        Part("0.bias", "floats", 2),
        Part("", "checksum", 4),
    ]


def test_a_pruned_and_shared_lenet_5_has_less_than_200_bytes_of_overhead(path):
    network = shared(prune_network(trained("lenet_5"), 0.99, scope="network"), k=9)
    size, floats = save(network, path), sum(array.nbytes for array in network.parameters().values())
    parts = describe(path)
    assert sum(part.bytes for part in parts if part.purpose in ("header", "technique", "checksum")) < 200
    kept = sum(np.count_nonzero(array) for array in network.parameters().values())
    assert size < kept * 10 / 8 + 500 < floats / 100  # positions and values together: 10 bits for each


def test_negative_zeros_of_a_pruned_network_take_no_room(path):
    network = Network([Linear(100, 60, rng=0)])
    floats = save(network, path)
    network = prune_network(network, 0.9)
    size = save(network, path)
    for array in network.parameters().values():
        array[array == 0] = -0.0
    assert save(network, path) == size < 0.2 * floats


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5"])
def test_a_committed_file_is_byte_for_byte_what_the_writer_makes_of_its_network(name, path):
    """Which are learned with the places that the inputs of a Linear have in their image."""
    committed = Path(__file__).parent.parent / f"figures/12_{name}.nnz"
    save(load(committed), path)
    assert path.read_bytes() == committed.read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_levels_are_found_whatever_the_scale(seed):
    rng = np.random.default_rng(seed)
    scales = np.exp(rng.normal(0, 20, (7, 1))).astype(np.float32)
    steps = rng.integers(-100, 101, (7, 300)).astype(np.float32)
    coded = find_levels(steps * scales)
    assert isinstance(coded.levels, range)
    assert len(coded.scales) == 7
    one = find_levels(steps * scales[0])
    assert len(one.scales) == 1
    assert len(tensor_to_bytes(steps * scales[0], one)) < steps.size + 700


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("small", [0, 1e-45, 1.1, FLOAT32_MAX / 254, 0.999 * FLOAT32_MAX])
@pytest.mark.parametrize("large", [1e-45, 1.5e-38, 3.4e38, FLOAT32_MAX])
def test_levels_of_the_largest_and_the_smallest_floats_are_found_without_a_warning(small, large):
    array = np.array([[small, -small, large, 0, -large, large] * 20], np.float32)
    coded = find_levels(array)
    np.testing.assert_array_equal(coded.restored(array.shape), array)


def test_numbers_that_are_no_multiples_stay_floats():
    assert find_levels(np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)) is None
    assert isinstance(find_levels(np.resize(np.float32([0.1, 0.27, -3.3]), (40, 2))).levels, np.ndarray)


@pytest.mark.parametrize("name", ["a", "", "layer.0/weight", "重み"])
@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != "metadata"])
def test_arrays_come_back(name, dtype, path):
    kind = BITS.get(dtype, dtype)
    arrays = [np.array(5, kind), np.zeros((0, 3), kind), np.arange(300).reshape(20, 5, 3).astype(kind)]
    with writing_arrays(path) as add:
        for i, array in enumerate(arrays):
            add(f"{name}{i}", dtype, array.shape, tensor_to_bytes(array))
    with open_arrays(path) as back:
        assert list(back) == [f"{name}{i}" for i in range(3)]
        for array, stored in reversed(list(zip(arrays, back.values(), strict=True))):  # in any order
            assert (stored.dtype, stored.shape) == (dtype, array.shape)
            np.testing.assert_array_equal(to_bits(stored.read(), dtype), array)
    assert sum(part.bytes for part in describe(path)) == path.stat().st_size


@pytest.mark.parametrize("size", [100, 101, 1000, 1001])
@pytest.mark.parametrize("what", ["codes", "codes, sparse", "floats, sparse"])
def test_either_coder_gives_back_what_it_was_given(what, size, path, monkeypatch):
    """As many codes and positions as the coder that learns takes, and one more, which are coded as many."""
    monkeypatch.setattr(tensors, "LEARNED_CODES", 100)
    monkeypatch.setattr(tensors, "LEARNED_PLACES", 1000)
    rng = np.random.default_rng(size)
    array = (rng.integers(-3, 4, size) if "codes" in what else rng.normal(size=size)).astype(np.float32)
    if "sparse" in what:
        array[rng.random(size) < 0.8] = 0
    coded = find_levels(array[None]) if "codes" in what else None
    with writing_arrays(path) as add:
        add("a", "float32", array.shape, tensor_to_bytes(array, coded, packed=False))
    np.testing.assert_array_equal(read_all(path)["a"], array)


def test_what_is_learned_well_is_filled_up_to_what_a_reader_believes(path):
    array = np.zeros((300, 1000), np.float32)
    array[7, 7] = 0.5
    data = tensor_to_bytes(array, find_levels(array))
    assert 300_000 / 1420 <= len(data) < 300_000 / 1420 + 20
    with writing_arrays(path) as add:
        add("a", "float32", array.shape, data)
    np.testing.assert_array_equal(read_all(path)["a"], array)


def test_so_few_floats_are_kept_that_a_reader_would_not_believe_it(path):
    array = np.zeros((300, 1000))
    array[7, 7] = -0.0
    with writing_arrays(path) as add:
        add("a", "float64", array.shape, tensor_to_bytes(array))
    assert read_all(path)["a"].tobytes() == array.tobytes()


# What is refused


def test_layers_that_are_not_known_are_refused(path):
    images = np.zeros((10, 1, 11, 11), np.float32)
    for network in (quantize_activations(small(), images, bits=8), round_weights_in_training(small(), bits=4)):
        with pytest.raises(TypeError, match=r"layer 0, Rounded.* cannot be saved: allowed are Linear.*export_rounded"):
            save(network, path)
    with pytest.raises(TypeError, match="network must be a Network, got int"):
        save(1, path)
    assert not path.exists()


def test_a_network_of_too_many_layers_is_not_saved(path):
    with pytest.raises(ValueError, match="the number of layers must be from 1 to 4096, got 4097"):
        save(Network([ReLU() for _ in range(4097)]), path)


def test_nan_and_other_types_are_refused_and_the_old_file_stays(path):
    network = small()
    save(network, path)
    before = path.read_bytes()
    network.parameters()["4.weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"4.weight must be finite, got nan"):
        save(network, path)
    network.layers[4].params["weight"] = np.zeros((12, 24))
    with pytest.raises(TypeError, match=r"4.weight must be float32 to be saved, got float64"):
        save(network, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def sealed(content):
    return content + zlib.crc32(content).to_bytes(4, "little")


START = b"nnz\x01\x00"
REST = b"\x00\x04" + bytes(4)  # no codes, and the two biases
HOSTILE = {
    "empty": (b"", "it is no .nnz file of version 1"),
    "another format": (b"PK\x03\x04" + bytes(20), "it is no .nnz file of version 1"),
    "a later version": (sealed(b"nnz\x02\x00\x00"), "it is no .nnz file of version 1"),
    "a wrong checksum": (START + bytes(8), "its checksum is wrong"),
    "no layers": (sealed(START + b"\x00"), "a Network needs at least one layer"),
    "arrays": (sealed(b"nnz\x01\x01\x00"), "it holds named arrays, not a network"),
    "something after the end": (sealed(START + b"\x01\x02\x00"), "1 bytes are left after its end"),
    "an unknown layer": (sealed(START + b"\x01\x09"), "layer 0 is of kind 9"),
    "a billion layers": (sealed(START + varint(10**9)), "a number of the header of the file is above 4096"),
    "a huge layer": (sealed(START + b"\x01\x00" + varint(1 << 31) * 2), "cannot come from"),
    "a layer of 2^31 biases": (sealed(START + b"\x01\x00\x00" + varint(1 << 31)), "cannot come from"),
    "huge filters": (sealed(START + b"\x01\x01\x01\x01" + varint(1 << 31) + b"\x01\x00"), "cannot come from"),
    "an endless number": (sealed(START + b"\x80" * 1000), "the file ends|is above"),
    "a huge rotation": (sealed(START + b"\x01\x05" + varint(1 << 31) * 2), "the file ends within the signs"),
    "a rotation of nothing in huge blocks": (
        sealed(START + b"\x01\x05\x00" + varint(2_095_133_040)),
        "n must be at least 1, got 0",
    ),
    "a rotation of no order": (sealed(START + b"\x01\x05\x06\x06\x00"), "6 inputs are rotated in blocks of 2, got 6"),
    "blocks that do not fit": (sealed(START + b"\x01\x05\x08\x03\x00"), "8 inputs are rotated in blocks of 8, got 3"),
    "a matrix of 5,504 rows": (
        sealed(START + b"\x01\x05" + varint(5504) * 2 + bytes(688)),
        "5504 inputs are rotated in blocks of 128, got 5504",
    ),
    "too short": (sealed(START + b"\x01\x00\x01\x01\x00\x00\x00"), "the file ends within the floats of 0.weight"),
    "no technique": (sealed(START + b"\x01\x00\x01\x01\x03"), "technique 3, which is not known"),
    "levels that fall": (
        sealed(START + b"\x01\x00\x02\x02\x06\x02" + np.array([2, 1], "<f2").tobytes() + REST),
        "do not rise",
    ),
    "a codebook of NaN": (sealed(START + b"\x01\x00\x02\x02\x06\x01" + b"\xff\xff" + REST), "not all finite"),
    "too many levels": (sealed(START + b"\x01\x00\x02\x02\x01" + varint(255) + b"\xff" + REST), "are more than 256"),
    "a huge range": (sealed(START + b"\x01\x00\x02\x02\x01" + varint(1 << 28) + b"\x01" + REST), "more than 256"),
    "a weight of NaN": (
        sealed(START + b"\x01\x00\x01\x01\x04\xff\xff\x04\x00\x00"),
        "0.weight must be finite, got nan",
    ),
    "scales for nobody": (
        sealed(START + b"\x01\x00\x02\x02\x0d\x01\x01\x03" + bytes(6) + REST),
        "0.weight has 3 scales for 4 weights",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line_and_cheaply(name, path):
    content, message = HOSTILE[name]
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert re.fullmatch(r".*network.nnz cannot be loaded: .*", str(caught.value))


def test_a_file_that_ends_anywhere_is_refused(path):
    save(NETWORKS["pruned, shared"](), path)
    data = path.read_bytes()[:-4]
    for end in range(len(data)):
        path.write_bytes(sealed(data[:end]))
        for reader in (load, describe):
            with pytest.raises(ValueError, match="cannot be loaded"):
                reader(path)


def test_a_missing_file_says_so(path):
    with pytest.raises(FileNotFoundError):
        load(path)


ARRAY = varint(2) + b"a\x00"  # "a", of float32; then come its shape and the tensor
CODES = encode(np.arange(70_000) % 2, alphabet=2)
HOSTILE_ARRAYS = {
    "a code of a is 1, and there are 1 levels": [
        *(ARRAY, b"\x01", varint(70_000)),
        *(b"\x06\x01\x00\x3e", varint(len(CODES)), CODES),
    ],
    "5504 inputs are rotated in blocks of 128, got 5504": [
        *(ARRAY, b"\x02\x01", varint(5504)),
        *(b"\x21", varint(5504), bytes(688), b"\x01\x01\x04", bytes(4)),
    ],
    "there are two arrays 'a'": 2 * [ARRAY, b"\x00", bytes(5)],
}


@pytest.mark.parametrize("message", HOSTILE_ARRAYS)
def test_hostile_arrays_are_refused(message, path):
    path.write_bytes(sealed(b"".join([b"nnz\x01\x01", *HOSTILE_ARRAYS[message], b"\x00"])))
    with pytest.raises(ValueError, match=message):
        read_all(path)


@pytest.mark.parametrize("technique", [b"\x10\x00\x00", b"\x11\x01\x01\x00\x00", b"\x01\x01\x01\x00"])
def test_few_bytes_are_never_many_weights(path, technique):
    path.write_bytes(sealed(b"nnz\x01\x01" + ARRAY + b"\x01" + varint(4096) + technique + b"\x00"))
    assert read_all(path)["a"].shape == (4096,)
    path.write_bytes(sealed(b"nnz\x01\x01" + ARRAY + b"\x01" + varint(4097) + technique + b"\x00"))
    with pytest.raises(ValueError, match=r"a of shape \(4097,\) cannot come from 0 bytes"):
        read_all(path)


def test_what_could_not_be_loaded_is_not_saved(path):
    network = Network([Flatten(), Rotation(np.ones(5504, np.int8), block_size=5504), Linear(5504, 2, rng=0)])
    with pytest.raises(ValueError, match="5504 inputs are rotated in blocks of 128, got 5504"):
        save(network, path)
    assert not path.exists()


# Mutations


def whole_files(tmp_path):
    """Write every kind of file there is, and return their contents without the checksum."""
    contents = []
    for i, make in enumerate(NETWORKS.values()):
        save(make(), tmp_path / f"{i}.nnz")
        contents.append((tmp_path / f"{i}.nnz").read_bytes()[:-4])
    rng = np.random.default_rng(0)
    with writing_arrays(tmp_path / "arrays.nnz") as add:
        for dtype in ("float32", "float16", "float64", "int8"):
            array = (rng.normal(size=(6, 4, 3)) * (rng.random((6, 4, 3)) < 0.5) * 9).astype(dtype)
            add(f"a.{dtype}", dtype, array.shape, tensor_to_bytes(array))
        w = quantize_weights(small(), bits=3).parameters()["4.weight"]
        coded = find_levels(w)._replace(signs=np.resize(np.int8([1, -1, 1]), 24))
        add("rotated", "float32", w.shape, tensor_to_bytes(w, coded))
    return [*contents, (tmp_path / "arrays.nnz").read_bytes()[:-4]]


def mutated(content, rng):
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(0, len(data)))
        if rng.random() < 0.5:  # where the sizes are
            place = min(place, int(rng.integers(0, 60)))
        stop = min(len(data), place + int(rng.integers(1, 9)))
        match rng.integers(0, 6):
            case 0 | 1:
                data[place] ^= 1 << int(rng.integers(0, 8))
            case 2:
                data[place] = int(rng.integers(0, 256))
            case 3:
                del data[place:stop]
            case 4:
                data[place:place] = data[place:stop]
            case 5:
                data[place:stop] = b"\xff" * (stop - place)
        data = data or bytearray(b"\0")
    data[:5] = content[:5] if rng.random() < 0.95 else data[:5]
    return bytes(data)


def test_mutated_files_are_refused_or_read(tmp_path, all_mutated):
    """Checksums are made to fit, so that what lies behind them is tried; a file takes no more than its share."""
    rng, contents, path = np.random.default_rng(0), whole_files(tmp_path), tmp_path / "mutated.nnz"
    read = 0
    for i in range(20_000 if all_mutated else 150):
        data = mutated(contents[i % len(contents)], rng)
        path.write_bytes(sealed(data) if i % 20 else data + bytes(4))
        if i % 10 == 0:  # it is slow
            tracemalloc.start()
        try:
            sizes = [part.bytes for part in describe(path)]
            assert sum(sizes) == path.stat().st_size
            if data[4] == 0:
                load(path)
            else:
                read_all(path)
            read += 1
        except ValueError as error:
            assert "\n" not in str(error)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2_000_000 + 40 * 1420 * len(data), f"mutation {i} took {peak} bytes"
    assert 0 < read < i  # some mutations only change numbers
