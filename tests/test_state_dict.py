"""Weights through files: round trips, names matched to layers, bad files refused and the network untouched."""

import io
import itertools
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from contextlib import nullcontext

import numpy as np
import pytest

from nnzip.atomic import atomic_write
from nnzip.files.state_dict import load_state_dict, match_names, save_state_dict
from nnzip.nn.layers import Conv2d, Flatten, Linear, ReLU
from nnzip.nn.network import Network, lenet_5, lenet_300_100


def small(seed=0):
    """Three layers of different shapes and a fourth of the third's: 1.weight, 3.weight, 5.weight, 7.weight."""
    rng = np.random.default_rng(seed)
    sizes = [(4, 3), (3, 5), (5, 5), (5, 5)]
    linears = [Linear(*size, rng=rng) for size in sizes]
    network = Network([Flatten(), *itertools.chain(*([layer, ReLU()] for layer in linears))])
    for array in network.parameters().values():
        array[...] = rng.normal(size=array.shape)  # biases too, which start at 0
    return network


def weights(network):
    return {name: array.copy() for name, array in network.parameters().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def renamed(tensors, prefixes):
    """The tensors of a model whose layers are called `prefixes`, in this order."""
    ours = list(dict.fromkeys(name.split(".")[0] for name in tensors))
    new = dict(zip(ours, prefixes, strict=True))
    return {f"{new[name.split('.')[0]]}.{name.split('.')[1]}": array for name, array in tensors.items()}


def shapes(tensors):
    return {name: array.shape for name, array in tensors.items()}


def npy(header, data=b"", version=1):
    header = header.encode("latin1") + b"\n"
    return b"\x93NUMPY" + struct.pack("<BBH" if version == 1 else "<BBI", version, 0, len(header)) + header + data


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


# ---------------------------------------------------------------- what should work


SUFFIXES = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])


@SUFFIXES
@pytest.mark.parametrize("make", [small, lenet_300_100, lenet_5])
def test_what_is_saved_is_what_is_loaded_bit_for_bit(tmp_path, make, suffix):
    saved, loaded, path = make(seed=1), make(seed=2), tmp_path / f"net{suffix}"
    save_state_dict(saved, path)
    assert load_state_dict(loaded, path) is None
    assert same(weights(saved), weights(loaded)) and os.listdir(tmp_path) == [path.name]
    path.write_bytes(bytes(path.stat().st_size))  # what was loaded outlives its file
    assert same(weights(saved), weights(loaded))


def test_the_file_is_a_plain_npz_of_float32_and_takes_the_place_of_another(tmp_path):
    network, path = small(), tmp_path / "net.NPZ"
    save_state_dict(network, str(path))
    first = path.read_bytes()
    with np.load(path, allow_pickle=False) as npz:
        assert list(npz) == list(network.parameters())
        assert same(dict(npz), weights(network)) and all(npz[name].dtype == np.float32 for name in npz)
    save_state_dict(small(seed=1), path)
    save_state_dict(network, path)
    assert path.read_bytes() == first and os.listdir(tmp_path) == ["net.NPZ"]


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4", ">f8"])
def test_other_floats_are_rounded_to_float32_in_whatever_order_they_lie(tmp_path, dtype, write):
    source, network = weights(small(seed=1)), small()
    write(tmp_path / "net.npz", **{name: np.asfortranarray(array, dtype) for name, array in source.items()})
    load_state_dict(network, tmp_path / "net.npz")
    assert same(weights(network), {name: array.astype(dtype).astype(np.float32) for name, array in source.items()})


@SUFFIXES
def test_a_network_whose_arrays_are_not_contiguous_is_saved_by_value(tmp_path, suffix):
    saved, loaded = Network([Linear(3, 4)]), Network([Linear(3, 4)])
    saved.layers[0].params["weight"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    save_state_dict(saved, tmp_path / f"net{suffix}")
    load_state_dict(loaded, tmp_path / f"net{suffix}")
    assert same(weights(saved), weights(loaded))


def test_the_weights_are_copied_into_the_arrays_that_the_network_has(tmp_path):
    network = small()
    save_state_dict(small(seed=1), tmp_path / "net.npz")
    arrays = network.parameters()
    load_state_dict(network, tmp_path / "net.npz")
    assert all(array is arrays[name] for name, array in network.parameters().items())


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "prefixes",
    [
        ["0", "2", "4", "6"],  # an nn.Sequential without the Flatten
        ["fc1", "fc2", "fc3", "fc4"],
        ["stem", "zeta", "up", "down"],  # not in alphabetical order: an npz file keeps the model's
        ["net.body.0", "net.body.3", "net.body.6", "head"],
    ],
)
def test_other_names_are_matched_in_the_order_of_an_npz_file(tmp_path, prefixes):
    source, network = weights(small(seed=1)), small()
    theirs = renamed(source, prefixes)
    bias_first = dict(sorted(theirs.items(), key=lambda item: (prefixes.index(item[0].rpartition(".")[0]), item[0])))
    for arrays in (theirs, bias_first):
        np.savez(tmp_path / "net.npz", **arrays)
        load_state_dict(network, tmp_path / "net.npz")
        assert same(weights(network), source)


def test_like_layers_in_an_order_that_is_not_the_networks_are_refused(tmp_path):
    backwards = dict(reversed(renamed(weights(small(seed=1)), "dcba").items()))
    np.savez(tmp_path / "net.npz", **backwards)
    refused(tmp_path / "net.npz", "do not fit")


def test_a_bare_layer_has_names_without_a_prefix(tmp_path):
    network = Network([Linear(3, 2)])
    np.savez(tmp_path / "net.npz", weight=np.ones((2, 3)), bias=np.full(2, 0.5))
    load_state_dict(network, tmp_path / "net.npz")
    assert network.forward(np.ones((1, 3), np.float32)).tolist() == [[3.5, 3.5]]


def test_any_order_is_matched_by_shape_when_no_two_layers_are_alike():
    wanted = shapes(weights(lenet_5()))
    layers = ["0", "2", "5", "7"]
    for order in itertools.permutations(layers):
        names = {f"{prefix}.{leaf}": f"m{i}.{leaf}" for i, prefix in enumerate(order) for leaf in ("weight", "bias")}
        found = {new: wanted[old] for old, new in names.items()}
        for ordered in (True, False):
            assert match_names(found, wanted, ordered=ordered) == names


def test_without_an_order_like_layers_are_told_apart_by_number_only():
    wanted = shapes(weights(small()))

    def match(*prefixes):
        found = shapes(renamed(weights(small()), prefixes))
        return match_names(found, wanted, ordered=False)

    assert match("in", "mid", "fc2", "fc10")["5.weight"] == "fc2.weight"
    assert match("in", "mid", "fc2", "fc10")["7.bias"] == "fc10.bias"
    for unknown in (("a", "b", "c", "d"), ("fc1", "fc2", "fc3", "head"), ("a", "b", "up", "down")):
        with pytest.raises(ValueError, match="do not fit"):
            match(*unknown)


def test_equal_names_with_other_shapes_are_never_rearranged():
    wanted = {"0.weight": (2, 3), "1.weight": (3, 2)}
    with pytest.raises(ValueError, match="do not fit"):
        match_names({"0.weight": (3, 2), "1.weight": (2, 3)}, wanted, ordered=True)


# ---------------------------------------------------------------- what should be refused


def refused(path, match, network=None, error=ValueError):
    """Loading gives one line that names the file, and the network stays as it was."""
    network = network or small()
    before = weights(network)
    with pytest.raises(error, match=match) as raised:
        load_state_dict(network, path)
    assert same(weights(network), before)
    assert str(raised.value).count(path.name) == 1 and "\n" not in str(raised.value)
    return str(raised.value)


def changed(name, array):
    return weights(small(seed=1)) | {name: np.asarray(array)}


BAD_TENSORS = {
    "missing": ({"1.weight": np.ones((3, 4))}, "do not fit"),
    "none at all": ({}, "it has nothing; the network wants"),
    "extra": (changed("9.weight", np.ones(3)), r"9.weight \(3,\)"),
    "another shape": (changed("3.weight", np.ones((3, 5))), r"3.weight \(3, 5\).*wants.*3.weight \(5, 3\)"),
    "another rank": (changed("3.weight", np.ones((5, 3, 1))), "do not fit"),
    "integers": (changed("3.weight", np.ones((5, 3), np.int64)), "3.weight holds int64"),
    "codes": (changed("3.weight", np.ones((5, 3), np.int8)), "3.weight holds int8"),
    "booleans": (changed("3.weight", np.ones((5, 3), bool)), "3.weight holds bool"),
    "complex numbers": (changed("3.weight", np.ones((5, 3), complex)), "3.weight holds complex128"),
    "strings": (changed("3.weight", np.full((5, 3), "one")), "3.weight holds str"),
    "records": (changed("3.weight", np.ones((5, 3), "f4,f4")), "3.weight holds void"),
    "NaN": (changed("3.bias", [1, 2, np.nan, 4, 5]), "3.bias must be finite, got nan"),
    "infinity": (changed("3.bias", [1, 2, 3, -np.inf, 5]), "3.bias must be finite, got -inf"),
    "over float32": (changed("3.bias", [1, 2, 3, 4, 1e39]), "3.bias must be within float32's range"),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_tensors_that_do_not_fit(tmp_path, what):
    tensors, match = BAD_TENSORS[what]
    np.savez(tmp_path / "bad.npz", **tensors)
    refused(tmp_path / "bad.npz", match)


def test_the_message_lists_both_sides_up_to_forty(tmp_path):
    np.savez(tmp_path / "bad.npz", **{"conv1.weight": np.ones((6, 1, 5, 5)), "conv1.bias": np.ones(6)})
    message = refused(tmp_path / "bad.npz", "do not fit", Network([Conv2d(1, 20, 5)]))
    assert "it has conv1.weight (6, 1, 5, 5), conv1.bias (6,); the network wants 0.weight (20, 1, 5, 5)" in message
    np.savez(tmp_path / "bad.npz", **{f"{i}.weight": np.ones(1) for i in range(1000)})
    assert len(refused(tmp_path / "bad.npz", "and 960 more")) < 2000


class Bomb:
    def __reduce__(self):
        return os.abort, ()


def test_pickles_are_never_opened(tmp_path):
    objects = np.array([Bomb()] * 15, dtype=object).reshape(5, 3)
    np.savez(tmp_path / "objects.npz", **changed("3.weight", objects))
    refused(tmp_path / "objects.npz", "3.weight holds object")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "pickle.npz", "zip")
    write_zip(tmp_path / "torch.npz", {"archive/data.pkl": pickle.dumps(Bomb()), "archive/version": b"3"})
    refused(tmp_path / "torch.npz", "magic string")  # what torch.save writes is a zip of pickles


def good_members():
    buffer = io.BytesIO()
    np.savez(buffer, **weights(small(seed=1)))
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


FLOATS = "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }"
BAD_MEMBERS = {
    "not an array": (b"hello there", "magic string"),
    "empty": (b"", "magic"),
    "header alone": (npy(FLOATS), "expected 60 bytes got 0"),
    "a byte short": (npy(FLOATS, bytes(59)), "expected 60 bytes got 59"),
    "a byte long": (npy(FLOATS, bytes(61)), "holds more than its 60 bytes"),
    "a shape of 4 TB": (npy(FLOATS.replace("(5, 3)", f"({2**40},)")), "do not fit"),
    "a shape beyond 64 bits": (npy(FLOATS.replace("(5, 3)", f"({2**70}, 3)")), "do not fit"),
    "a negative shape": (npy(FLOATS.replace("5", "-5")), "do not fit"),
    "code for a header": (npy("__import__('os').abort()"), "malformed"),
    "half a header": (npy(FLOATS)[:30], "EOF"),
    "a long header": (npy(FLOATS + " " * 20000), "Header info length"),
    "a deep header": (npy("(" * 4000 + ")" * 4000), "cannot be loaded"),
    "a deep sign": (npy("-" * 9000 + "1"), "cannot be loaded"),
    "version 2": (npy(FLOATS, bytes(60), version=2), r"version \(2, 0\)"),
    "version 9": (npy(FLOATS, bytes(60), version=9), "version"),
}


@pytest.mark.parametrize("what", BAD_MEMBERS)
def test_a_member_that_is_no_good_array(tmp_path, what):
    content, match = BAD_MEMBERS[what]
    refused(write_zip(tmp_path / "bad.npz", good_members() | {"3.weight.npy": content}), match)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_does_not_use_is_refused(tmp_path, method):
    refused(write_zip(tmp_path / "bad.npz", good_members(), compression=method), f"method {method}")


def test_a_zip_bomb_costs_no_memory(tmp_path):
    big = 100 << 20
    promise = npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({big // 4},), }}", bytes(big))
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", big) + bytes(big)
    longer = npy(FLOATS, bytes(big))
    for content, match in ((promise, "do not fit"), (header, "version"), (longer, "holds more")):
        members = good_members() | {"3.weight.npy": content}
        path = write_zip(tmp_path / "bomb.npz", members, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
        tracemalloc.start()
        try:
            refused(path, match)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def test_a_flipped_data_bit_is_caught_by_the_checksum(tmp_path):
    save_state_dict(small(), tmp_path / "net.npz")
    content = bytearray((tmp_path / "net.npz").read_bytes())
    content[content.index(small().parameters()["3.weight"].tobytes())] ^= 1
    (tmp_path / "net.npz").write_bytes(content)
    refused(tmp_path / "net.npz", "CRC")


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"PK\5\6" + bytes(18)[:-1], b"\x93NUMPY" + bytes(100)])
def test_a_file_that_is_no_zip(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    refused(tmp_path / "bad.npz", "zip")


@SUFFIXES
def test_no_damage_gives_anything_but_a_network_or_a_value_error(tmp_path, suffix):
    rng, network, path = np.random.default_rng(0), small(), tmp_path / f"fuzz{suffix}"
    save_state_dict(small(seed=1), path)
    good = [path.read_bytes()]
    if suffix == ".npz":
        np.savez_compressed(path, **weights(small(seed=1)))
        good.append(path.read_bytes())
    outcomes = {"loaded": 0, "refused": 0}
    for turn in range(400):
        content = bytearray(good[turn % len(good)])
        for _ in range(rng.integers(0, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        if rng.random() < 0.3:
            content = content[: rng.integers(len(content))]
        path.write_bytes(content)
        before = weights(network)
        try:
            load_state_dict(network, path)
            outcomes["loaded"] += 1
        except ValueError as error:
            assert path.name in str(error) and same(weights(network), before)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 40


def handmade(tensors, *, data=b"", length=None):
    """A safetensors file by its specification: the header's length, the header as JSON, the numbers."""
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


GOOD = {"1.weight": entry([2, 3], 0, 24), "1.bias": entry([2], 24, 32)}
NUMBERS = struct.pack("<8f", *range(8))
BAD = {
    "empty": b"",
    "cut in its length": bytes(7),
    "a header of 8 EiB": handmade(GOOD, data=NUMBERS, length=2**63 - 1),
    "a header of 90 MB that is not there": handmade(GOOD, data=NUMBERS, length=90_000_000),
    "not JSON": handmade(b"{]", data=NUMBERS),
    "not UTF-8": handmade(b'{"\xff": 1}', data=NUMBERS),
    "deep JSON": handmade(b'{"a":' * 5000 + b"1" + b"}" * 5000, data=NUMBERS),
    "a pickle": b"\x80\x04\x95" + bytes(50),
    "no tensors": handmade({}),
    "a byte short": handmade(GOOD, data=NUMBERS[:-1]),
    "a byte long": handmade(GOOD, data=NUMBERS + b"\0"),
    "offsets beyond the file": handmade(GOOD | {"1.bias": entry([2], 24, 2**62)}, data=NUMBERS),
    "offsets backwards": handmade(GOOD | {"1.bias": entry([2], 32, 24)}, data=NUMBERS),
    "overlapping tensors": handmade(GOOD | {"1.bias": entry([2], 0, 8)}, data=NUMBERS),
    "a shape beyond 64 bits": handmade(GOOD | {"1.bias": entry([2**63, 4], 24, 32)}, data=NUMBERS),
    "an unknown type": handmade(GOOD | {"1.bias": entry([2], 24, 32, "OBJ")}, data=NUMBERS),
    "bfloat16": handmade(GOOD | {"1.bias": entry([2], 24, 28, "BF16")}, data=NUMBERS[:28]),
    "int8": handmade(GOOD | {"1.bias": entry([2], 24, 26, "I8")}, data=NUMBERS[:26]),
    "NaN": handmade(GOOD, data=NUMBERS[:-4] + struct.pack("<f", np.nan)),
    "missing": handmade({"1.weight": entry([2, 3], 0, 24)}, data=NUMBERS[:24]),
    "extra": handmade(GOOD | {"2.bias": entry([0], 32, 32)}, data=NUMBERS),
    "another shape": handmade(GOOD | {"1.weight": entry([3, 2], 0, 24)}, data=NUMBERS),
    "a negative shape": handmade(GOOD | {"1.bias": entry([-1, -2], 24, 32)}, data=NUMBERS),
    "more bytes than its shape": handmade(GOOD | {"1.bias": entry([2], 24, 36)}, data=NUMBERS + bytes(4)),
    "bytes of no tensor": handmade(GOOD | {"1.bias": entry([2], 28, 36)}, data=NUMBERS + bytes(4)),
    "no offsets": handmade(GOOD | {"1.bias": {"dtype": "F32", "shape": [2]}}, data=NUMBERS),
    "a list for a tensor": handmade(GOOD | {"1.bias": []}, data=NUMBERS),
}


def tiny():
    return Network([Flatten(), Linear(3, 2)])


@pytest.mark.parametrize("metadata", [{}, {"__metadata__": {"format": "pt"}}], ids=["bare", "with metadata"])
def test_the_handmade_file_is_good_before_it_is_made_bad(tmp_path, metadata):
    network = tiny()
    (tmp_path / "net.safetensors").write_bytes(handmade(GOOD | metadata, data=NUMBERS))
    load_state_dict(network, tmp_path / "net.safetensors")
    assert network.parameters()["1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert network.parameters()["1.bias"].tolist() == [6, 7]


@pytest.mark.parametrize("what", BAD)
def test_a_bad_safetensors_file_is_one_value_error(tmp_path, what):
    (tmp_path / "bad.safetensors").write_bytes(BAD[what])
    refused(tmp_path / "bad.safetensors", "cannot be loaded", tiny())


@SUFFIXES
def test_a_missing_file_is_a_missing_file(tmp_path, suffix):
    with pytest.raises(FileNotFoundError):
        load_state_dict(small(), tmp_path / f"none{suffix}")


@pytest.mark.parametrize("name", ["net.pt", "net", "net.npz.gz", ".npz"])
def test_only_two_suffixes(tmp_path, name):
    for function in (save_state_dict, load_state_dict):
        with pytest.raises(ValueError, match=r"must be one of \.npz, \.safetensors"):
            function(small(), tmp_path / name)
    assert not os.listdir(tmp_path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    network = small()
    save_state_dict(network, tmp_path / "net.npz")
    before = (tmp_path / "net.npz").read_bytes()
    network.parameters()["3.bias"][2] = np.nan
    with pytest.raises(ValueError, match=r"3\.bias must be finite"):
        save_state_dict(network, tmp_path / "net.npz")
    assert (tmp_path / "net.npz").read_bytes() == before and os.listdir(tmp_path) == ["net.npz"]


# ---------------------------------------------------------------- atomic_write


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error) if error else nullcontext(), atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        if error:
            raise error
    assert path.read_bytes() == (b"old" if error else b"new") and os.listdir(tmp_path) == ["file"]


def test_a_rename_that_fails_removes_the_temporary_file(tmp_path, monkeypatch):
    def fails(*names):
        raise PermissionError

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(PermissionError), atomic_write(tmp_path / "file") as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_is_named_before_the_work(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"there is no folder .*none$"),
        atomic_write(tmp_path / "none" / "file"),
    ):
        pytest.fail("the work was begun")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_folder_and_a_pipe_stay_what_they_are(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(OSError, match=f"{name} cannot be written: it is no file"), atomic_write(tmp_path / name):
            pytest.fail("the work was begun")
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"] and not (tmp_path / "pipe").is_file()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def opened(path, mode, real=open):
        real(path, mode).close()
        return real("/dev/full", "wb")

    monkeypatch.setattr("builtins.open", opened)
    with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "file") as file:
        file.write(b"new")  # stays in the buffer, so that closing fails too
        raise RuntimeError
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes and symbolic links of POSIX")
def test_modes_and_links_are_those_of_a_plain_write(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"through the link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"through the link"
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "file").chmod(0o600)
    with atomic_write(tmp_path / "link") as file:
        file.write(b"a secret")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_what_is_no_network_is_refused(tmp_path):
    for network in (None, small().parameters()):
        with pytest.raises(TypeError, match="network must be a Network, got"):
            save_state_dict(network, tmp_path / "net.npz")
        with pytest.raises(TypeError, match="network must be a Network, got"):
            load_state_dict(network, tmp_path / "net.npz")
