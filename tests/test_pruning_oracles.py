"""Masks against torch.nn.utils.prune."""

import numpy as np
import pytest

from nnzip.pruning import block_mask, global_magnitude_masks, magnitude_mask, n_m_mask

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch.nn.utils.prune")
    return torch


def torch_layer(torch, weight):
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.from_numpy(weight.copy()))
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
@pytest.mark.parametrize("shape", [(8, 12), (8, 4, 3, 3)])
def test_blocks_of_a_neuron_a_filter_or_their_inputs_are_ln_structured(torch, shape, sparsity):
    weight = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    for dim in (0, 1):
        layer = torch_layer(torch, weight)
        torch.nn.utils.prune.ln_structured(layer, "weight", amount=sparsity, n=2, dim=dim)
        block_size = tuple(1 if axis == dim else size for axis, size in enumerate(shape))
        assert np.array_equal(block_mask(weight, sparsity, block_size=block_size), torch_mask(layer))


def test_two_of_four_is_torch_topk_of_every_group(torch):
    weight = np.random.default_rng(4).normal(size=(10, 16)).astype(np.float32)
    kept = torch.from_numpy(np.abs(weight).reshape(-1, 4)).topk(2, dim=1).indices
    mask = torch.zeros(40, 4).scatter_(1, kept, 1.0).numpy().astype(bool)
    assert np.array_equal(n_m_mask(weight, 2, 4).reshape(-1, 4), mask)
