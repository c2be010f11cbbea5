"""State dicts that PyTorch and safetensors wrote give PyTorch's logits, and theirs load what nnzip wrote."""

import json
import os
import struct

import numpy as np
import pytest

from nnzip.files.state_dict import load_state_dict, save_state_dict
from nnzip.nn.layers import Flatten, Linear, ReLU
from nnzip.nn.network import Network, lenet_5, lenet_300_100

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def torch():  # imported in a fixture, so that each test is skipped by name where it is missing
    pytest.importorskip("safetensors")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    return torch


def sequential_lenet_5(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def named_lenet_5(torch, names=("conv1", "conv2", "fc1", "fc2")):
    nn = torch.nn

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            layers = (nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5), nn.Linear(800, 500), nn.Linear(500, 10))
            for name, layer in zip(names, layers, strict=True):
                setattr(self, name, layer)

        def forward(self, x):
            conv1, conv2, fc1, fc2 = (getattr(self, name) for name in names)
            x = nn.functional.max_pool2d(conv1(x), 2)
            x = nn.functional.max_pool2d(conv2(x), 2).flatten(1)
            return fc2(fc1(x).relu())

    return LeNet()


def sequential_lenet_300_100(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10),
    ).eval()  # fmt: skip


MODELS = {
    "sequential LeNet-5": (sequential_lenet_5, lenet_5),
    "named LeNet-5": (named_lenet_5, lenet_5),
    "LeNet-5 with names in no order": (lambda torch: named_lenet_5(torch, ("stem", "body", "neck", "head")), lenet_5),
    "LeNet-300-100 with dropout": (sequential_lenet_300_100, lenet_300_100),
}


def write(model, path):
    """Write a model's state dict as the module docstring of state_dict.py says."""
    if path.suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    else:
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)


def images(torch):
    return torch.rand(16, 1, 28, 28)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", MODELS)
def test_a_pytorch_state_dict_gives_pytorchs_logits(tmp_path, torch, name, suffix):
    make_model, make_network = MODELS[name]
    model, network, x = make_model(torch), make_network(), images(torch)
    write(model, tmp_path / f"net{suffix}")
    load_state_dict(network, tmp_path / f"net{suffix}")
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(network.forward(x.numpy()), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_pytorch_loads_what_nnzip_saves(tmp_path, torch, suffix):
    network, model, x = lenet_5(seed=3), sequential_lenet_5(torch), images(torch)
    path = tmp_path / f"net{suffix}"
    save_state_dict(network, path)
    if suffix == ".npz":
        with np.load(path) as npz:
            state = {name: torch.from_numpy(npz[name]) for name in npz}
    else:
        from safetensors.torch import load_file

        state = load_file(path)
    model.load_state_dict(state)
    with torch.no_grad():
        np.testing.assert_allclose(network.forward(x.numpy()), model(x).numpy(), rtol=0, atol=1e-4)


def test_more_than_ten_like_layers_keep_their_order_although_safetensors_sorts_names(tmp_path, torch):
    model = torch.nn.ModuleDict({f"layer{i}": torch.nn.Linear(4, 4) for i in range(12)})
    network = Network([Linear(4, 4) for _ in range(12)])
    write(model, tmp_path / "net.safetensors")
    load_state_dict(network, tmp_path / "net.safetensors")
    for i in range(12):
        assert np.array_equal(network.parameters()[f"{i}.weight"], model[f"layer{i}"].weight.detach().numpy())


def test_like_layers_without_numbers_have_an_order_in_npz_only(tmp_path, torch):
    model = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in ("up", "down")})
    network = Network([Linear(4, 4), ReLU(), Linear(4, 4)])
    write(model, tmp_path / "net.npz")
    load_state_dict(network, tmp_path / "net.npz")
    assert np.array_equal(network.parameters()["0.weight"], model["up"].weight.detach().numpy())
    write(model, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"it has down.bias \(4,\).*the network wants 0.weight \(4, 4\)"):
        load_state_dict(network, tmp_path / "net.safetensors")


# ---------------------------------------------------------------- safetensors alone


def tiny():
    return Network([Flatten(), Linear(3, 2)])


def weights(network):
    return {name: array.copy() for name, array in network.parameters().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_safetensors_round_trip_bit_for_bit(tmp_path):
    for make in (lenet_300_100, lenet_5):
        saved, loaded = make(seed=1), make(seed=2)
        save_state_dict(saved, tmp_path / "net.safetensors")
        load_state_dict(loaded, tmp_path / "net.safetensors")
        assert same(weights(saved), weights(loaded))
    assert os.listdir(tmp_path) == ["net.safetensors"]


def test_arrays_that_are_not_contiguous_are_saved_by_value(tmp_path):
    saved, loaded = Network([Linear(3, 4)]), Network([Linear(3, 4)])
    saved.layers[0].params["weight"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    save_state_dict(saved, tmp_path / "net.safetensors")
    load_state_dict(loaded, tmp_path / "net.safetensors")
    assert same(weights(saved), weights(loaded))


def test_loaded_weights_outlive_their_file(tmp_path):
    network, path = tiny(), tmp_path / "net.safetensors"
    save_state_dict(network, path)
    load_state_dict(network, path)
    before = weights(network)
    path.write_bytes(bytes(path.stat().st_size))
    assert same(weights(network), before)


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "bfloat16", "int8"])
def test_which_types_load(tmp_path, torch, name):
    from safetensors.torch import save_file

    dtype, network = getattr(torch, name), tiny()
    tensors = {"1.weight": torch.arange(6).reshape(2, 3).to(dtype), "1.bias": torch.ones(2).to(dtype)}
    save_file(tensors, tmp_path / "net.safetensors")
    if name.startswith("float"):
        load_state_dict(network, tmp_path / "net.safetensors")
        assert network.parameters()["1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    else:
        with pytest.raises(ValueError, match=r"1\.weight holds (bfloat16|int8); float16, float32 and float64 are read"):
            load_state_dict(network, tmp_path / "net.safetensors")


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
    "NaN": handmade(GOOD, data=NUMBERS[:-4] + struct.pack("<f", np.nan)),
    "missing": handmade({"1.weight": entry([2, 3], 0, 24)}, data=NUMBERS[:24]),
    "extra": handmade(GOOD | {"2.bias": entry([0], 32, 32)}, data=NUMBERS),
    "another shape": handmade(GOOD | {"1.weight": entry([3, 2], 0, 24)}, data=NUMBERS),
}


def test_the_handmade_file_is_good_before_it_is_made_bad(tmp_path):
    network = tiny()
    (tmp_path / "net.safetensors").write_bytes(handmade(GOOD, data=NUMBERS))
    load_state_dict(network, tmp_path / "net.safetensors")
    assert network.parameters()["1.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert network.parameters()["1.bias"].tolist() == [6, 7]


@pytest.mark.parametrize("what", BAD)
def test_a_bad_safetensors_file_is_one_value_error(tmp_path, what):
    network, path = tiny(), tmp_path / "bad.safetensors"
    before = weights(network)
    path.write_bytes(BAD[what])
    with pytest.raises(ValueError) as raised:
        load_state_dict(network, path)
    assert "bad.safetensors" in str(raised.value) and "\n" not in str(raised.value)
    assert same(weights(network), before)


def test_a_missing_safetensors_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_state_dict(tiny(), tmp_path / "none.safetensors")


def test_no_damage_gives_anything_but_a_network_or_a_value_error(tmp_path):
    rng, network, path = np.random.default_rng(0), tiny(), tmp_path / "fuzz.safetensors"
    save_state_dict(network, path)
    good, outcomes = path.read_bytes(), {"loaded": 0, "refused": 0}
    for _ in range(500):
        content = bytearray(good)
        for _ in range(rng.integers(0, 4)):
            content[rng.integers(len(content))] = rng.integers(256)
        if rng.random() < 0.3:
            content = content[: rng.integers(len(content))]
        path.write_bytes(content)
        try:
            load_state_dict(network, path)
            outcomes["loaded"] += 1
        except ValueError as error:
            assert "fuzz.safetensors" in str(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50
