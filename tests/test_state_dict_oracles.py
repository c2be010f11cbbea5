"""State dicts that PyTorch and safetensors wrote give PyTorch's logits, and theirs load what nnzip wrote."""

import numpy as np
import pytest

from nnzip.files.state_dict import load_state_dict, save_state_dict
from nnzip.nn.layers import Linear
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
