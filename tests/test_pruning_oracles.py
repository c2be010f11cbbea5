"""Masks against torch.nn.utils.prune; the diagonal Hessian and the Jacobian of a network against autograd."""

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression.pruning import hessian_diagonals, saliencies
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.pruning import block_mask, global_magnitude_masks, magnitude_mask, n_m_mask

pytestmark = pytest.mark.oracle

IMAGES = np.random.default_rng(0).normal(size=(6, 2, 9, 8)).astype(np.float32)
LABELS = np.array([0, 1, 2, 2, 1, 0])


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.utils.prune")
    return torch


def torch_layer(torch, weight):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(weight.copy())
    return layer


def torch_mask(layer):
    return layer.weight_mask.numpy().astype(bool)


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (12, 30)])
def test_magnitude_is_l1_unstructured(torch, shape, sparsity):
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = torch_layer(torch, weight)
    torch.nn.utils.prune.l1_unstructured(layer, "weight", amount=round(sparsity * weight.size))
    assert np.array_equal(magnitude_mask(weight, sparsity), torch_mask(layer))
    share = torch_layer(torch, weight)
    torch.nn.utils.prune.l1_unstructured(share, "weight", amount=float(sparsity))  # the same rounding of the share
    assert np.array_equal(magnitude_mask(weight, sparsity), torch_mask(share))


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.99])
def test_all_layers_together_are_global_unstructured(torch, sparsity):
    rng = np.random.default_rng(1)
    weights = [(scale * rng.normal(size=shape)).astype(np.float32) for scale, shape in ((1, (9, 8)), (0.2, (5, 9)))]
    layers = [torch_layer(torch, weight) for weight in weights]
    prune = torch.nn.utils.prune
    prune.global_unstructured([(layer, "weight") for layer in layers], prune.L1Unstructured, amount=sparsity)
    for mask, layer in zip(global_magnitude_masks(weights, sparsity), layers, strict=True):
        assert np.array_equal(mask, torch_mask(layer))


@pytest.mark.parametrize("sparsity", [0, 0.25, 0.5, 1.0])
def test_blocks_of_a_neuron_or_an_input_are_ln_structured(torch, sparsity):
    weight = np.random.default_rng(2).normal(size=(8, 12)).astype(np.float32)
    for dim, block_size in ((0, (1, 12)), (1, (8, 1))):
        layer = torch_layer(torch, weight)
        torch.nn.utils.prune.ln_structured(layer, "weight", amount=sparsity, n=2, dim=dim)
        assert np.array_equal(block_mask(weight, sparsity, block_size=block_size), torch_mask(layer))


def test_filters_and_channels_are_ln_structured(torch):
    weight = np.random.default_rng(3).normal(size=(6, 4, 3, 3)).astype(np.float32)
    for dim, block_size in ((0, (1, 4, 3, 3)), (1, (6, 1, 3, 3))):
        layer = torch.nn.Conv2d(4, 6, 3)
        layer.weight.data = torch.from_numpy(weight.copy())
        torch.nn.utils.prune.ln_structured(layer, "weight", amount=0.5, n=2, dim=dim)
        assert np.array_equal(block_mask(weight, 0.5, block_size=block_size), torch_mask(layer))


def test_two_of_four_is_torch_topk_of_every_group(torch):
    weight = np.random.default_rng(4).normal(size=(10, 16)).astype(np.float32)
    kept = torch.from_numpy(np.abs(weight).reshape(-1, 4)).topk(2, dim=1).indices
    mask = torch.zeros(40, 4).scatter_(1, kept, 1.0).numpy().astype(bool)
    assert np.array_equal(n_m_mask(weight, 2, 4).reshape(-1, 4), mask)


# ---------------------------------------------------------------- derivatives of a whole network


def torch_network(torch, network):
    modules = []
    for layer in network.layers:
        if isinstance(layer, Linear):
            modules.append(torch.nn.Linear(layer.in_features, layer.out_features))
        elif isinstance(layer, Conv2d):
            sizes = layer.in_channels, layer.out_channels, layer.kernel_size
            modules.append(torch.nn.Conv2d(*sizes, stride=layer.stride, padding=layer.padding))
        elif isinstance(layer, MaxPool2d):
            modules.append(torch.nn.MaxPool2d(layer.size))
        else:
            modules.append({ReLU: torch.nn.ReLU, Flatten: torch.nn.Flatten}[type(layer)]())
    module = torch.nn.Sequential(*modules)
    module.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in network.parameters().items()})
    return module.double()


def test_the_diagonal_hessian_of_a_whole_cnn_is_that_of_autograd(torch):
    network = tiny_cnn()
    module = torch_network(torch, network)
    images, labels = torch.from_numpy(IMAGES).double(), torch.from_numpy(LABELS)
    loss = torch.nn.functional.cross_entropy(module(images), labels)
    found = hessian_diagonals(network, IMAGES)
    for name, parameter in module.named_parameters():
        if name.endswith("weight"):
            [gradient] = torch.autograd.grad(loss, parameter, create_graph=True)
            second = [
                torch.autograd.grad(element, parameter, retain_graph=True)[0].flatten()[i].item()
                for i, element in enumerate(gradient.flatten())
            ]
            expected = np.reshape(second, parameter.shape)
            np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_stability_is_the_squared_jacobian_of_autograd(torch):
    network = tiny_cnn()
    module = torch_network(torch, network)
    found = saliencies(network, "stability", data=(IMAGES, LABELS))
    weights = {name: w for name, w in module.named_parameters() if name.endswith("weight")}
    expected = dict.fromkeys(weights, 0)
    for image in torch.from_numpy(IMAGES).double():
        for logit in module(image[None])[0]:
            slopes = torch.autograd.grad(logit, list(weights.values()), retain_graph=True)
            for name, slope in zip(weights, slopes, strict=True):
                expected[name] = expected[name] + (weights[name] * slope).detach().numpy() ** 2 / len(IMAGES)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5 * array.max())
