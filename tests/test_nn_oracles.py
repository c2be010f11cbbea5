"""Layers, losses, optimizers and whole networks against PyTorch."""

import numpy as np
import pytest
from layer_cases import CASES, case, tiny_cnn
from speed import torch_twin

from nnzip.nn.layers import MaxPool2d
from nnzip.nn.network import Network
from nnzip.nn.training import SGD, Adam, cross_entropy, training_step
from nnzip.nn.zoo import BUILD, trained

pytestmark = pytest.mark.oracle

EXACT = {"rtol": 1e-10, "atol": 1e-11}  # float64 on both sides: only the order of the sums differs


@pytest.fixture(autouse=True)
def torch():  # imported in a fixture, so that each test is skipped by name where it is missing
    return pytest.importorskip("torch")


def twin_in_float64(torch, network):
    """Return PyTorch's network with the same weights, and let both hold them in float64."""
    model = torch_twin(torch, network).double()
    for layer in network.layers:
        layer.params = {name: array.astype(np.float64) for name, array in layer.params.items()}
    return model


def images(count, seed=0):
    return np.random.default_rng(seed).random((count, 1, 28, 28))


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("name", CASES)
def test_forward_and_all_gradients_of_a_layer(name, torch):
    layer, x = case(name)
    model = twin_in_float64(torch, Network([layer]))
    y = layer.forward(x)
    grad_y = np.random.default_rng(1).normal(size=y.shape)
    their_x = torch.tensor(x, requires_grad=True)
    their_y = model(their_x)
    their_y.backward(torch.tensor(grad_y))
    np.testing.assert_allclose(y, their_y.detach().numpy(), **EXACT)
    np.testing.assert_allclose(layer.backward(grad_y), their_x.grad.numpy(), **EXACT)
    theirs = dict(model.named_parameters())
    for key, gradient in layer.grads.items():
        np.testing.assert_allclose(gradient, theirs[f"0.{key}"].grad.numpy(), **EXACT)


@pytest.mark.parametrize("size", [2, 3])
def test_ties_of_max_pooling_go_where_pytorch_sends_them(size, torch):
    x = np.random.default_rng(0).integers(0, 2, (4, 3, 7, 8)).astype(np.float64)
    layer = MaxPool2d(size)
    grad_y = np.random.default_rng(1).normal(size=layer.forward(x).shape)
    their_x = torch.tensor(x, requires_grad=True)
    torch.nn.functional.max_pool2d(their_x, size).backward(torch.tensor(grad_y))
    assert np.array_equal(layer.backward(grad_y), their_x.grad.numpy())


# ---------------------------------------------------------------- whole networks


@pytest.mark.parametrize("name", BUILD)
def test_logits_loss_and_all_gradients_of_a_network(name, torch):
    network = BUILD[name](seed=3)
    model = twin_in_float64(torch, network)
    x, labels = images(5), np.array([0, 9, 3, 3, 7])
    logits = network.forward(x)
    value, gradient = cross_entropy(logits, labels)
    grad_x = network.backward(gradient, input_gradient=True)
    their_x = torch.tensor(x, requires_grad=True)
    their_logits = model(their_x)
    loss = torch.nn.functional.cross_entropy(their_logits, torch.tensor(labels))
    loss.backward()
    np.testing.assert_allclose(logits, their_logits.detach().numpy(), **EXACT)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    np.testing.assert_allclose(grad_x, their_x.grad.numpy(), **EXACT)
    theirs = dict(model.named_parameters())
    for key, own in network.gradients().items():
        np.testing.assert_allclose(own, theirs[key].grad.numpy(), **EXACT)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("name", "worst"), [("lenet_300_100", 0.016), ("lenet_5", 0.008)])
def test_pytorch_finds_the_committed_networks_as_good_as_they_are_said_to_be(name, worst, seed, torch, test_set):
    network = trained(name, seed=seed)
    model = torch_twin(torch, network)
    with torch.inference_mode():
        parts = [model(torch.tensor(part)).numpy() for part in np.split(test_set[0], 40)]
    classes = np.concatenate(parts).argmax(axis=1)
    assert np.mean(classes != test_set[1]) <= worst
    ours = network.predict(test_set[0][:1000])
    assert np.mean(ours != classes[:1000]) <= 0.001  # in float32 two logits may change places: one image at most


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1, 30, 1e4])
def test_cross_entropy_and_its_gradient(scale, dtype, torch):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, scale, (50, 10)).astype(dtype), rng.integers(0, 10, 50)
    value, gradient = cross_entropy(logits, labels)
    theirs = torch.tensor(logits, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels))
    loss.backward()
    epsilon = float(np.finfo(dtype).eps)
    assert value == pytest.approx(loss.item(), rel=8 * epsilon)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=32 * epsilon, atol=epsilon)


# ---------------------------------------------------------------- optimizers

OPTIMIZERS = {
    "sgd": (lambda: SGD(0.1, momentum=0.0), lambda torch, groups: torch.optim.SGD(groups, lr=0.1)),
    "sgd_momentum": (lambda: SGD(0.1), lambda torch, groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9)),
    "adam": (lambda: Adam(0.01), lambda torch, groups: torch.optim.Adam(groups, lr=0.01)),
}


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_of_an_optimizer_with_l2_on_weights_alone(name, l2, torch):
    network = tiny_cnn()
    model = twin_in_float64(torch, network)
    ours, theirs = OPTIMIZERS[name]
    optimizer = ours()
    optimizer.l2 = l2
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for key, p in named.items() if key.endswith("weight")], "weight_decay": l2},
        {"params": [p for key, p in named.items() if key.endswith("bias")], "weight_decay": 0.0},
    ]
    their_optimizer = theirs(torch, groups)
    rng = np.random.default_rng(0)
    for step in range(20):
        x, labels = rng.normal(size=(6, 2, 9, 8)), rng.integers(0, 3, 6)
        factor = 1 - step / 40
        value, _ = training_step(network, x, labels, np.arange(6), optimizer, factor=factor)
        for group in their_optimizer.param_groups:
            group["lr"] = optimizer.rate * factor
        their_optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        their_optimizer.step()
        assert value == pytest.approx(loss.item(), rel=1e-9)
    for key, array in network.parameters().items():
        np.testing.assert_allclose(array, named[key].detach().numpy(), rtol=1e-8, atol=1e-10)
