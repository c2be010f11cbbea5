"""Pruned networks: every layer at the sparsity asked for, biases and the given network left alone."""

import copy

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression.pruned import prune_network
from nnzip.compression.quantized import quantize_activations, quantize_weights
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained


@pytest.mark.parametrize("sparsity", [0, 0.3, 0.5, 0.99, 1])
def test_every_layer_loses_exactly_its_share_of_the_smallest_weights(sparsity):
    network = tiny_cnn()
    before = copy.deepcopy(network.parameters())
    pruned = prune_network(network, sparsity).parameters()
    for name, array in before.items():
        assert np.array_equal(network.parameters()[name], array)  # the given network stays
        if name.endswith("bias"):
            assert np.array_equal(pruned[name], array)
            continue
        gone = pruned[name] == 0
        assert gone.sum() == round(sparsity * array.size)
        assert np.array_equal(pruned[name][~gone], array[~gone]) and pruned[name].dtype == np.float32
        if gone.any() and not gone.all():
            assert np.abs(array[gone]).max() <= np.abs(array[~gone]).min()


def test_the_result_shares_nothing_with_the_given_network():
    network = tiny_cnn()
    pruned = prune_network(network, 0.5)
    for array in pruned.parameters().values():
        array[...] = 7
    assert all((array != 7).all() for array in network.parameters().values())


def test_pruning_twice_to_one_sparsity_changes_nothing_more():
    once = prune_network(tiny_cnn(), 0.6)
    twice = prune_network(once, 0.6)
    assert all(np.array_equal(once.parameters()[name], array) for name, array in twice.parameters().items())


def test_networks_with_rounded_inputs_can_be_pruned():
    images = np.random.default_rng(0).normal(size=(4, 2, 9, 8)).astype(np.float32)
    network = quantize_activations(quantize_weights(tiny_cnn(), bits=8), images, bits=8)
    pruned = prune_network(network, 1)
    assert not any(pruned.parameters()[name].any() for name in pruned.parameters() if name.endswith("weight"))
    assert any(network.parameters()[name].any() for name in network.parameters() if name.endswith("weight"))


def test_half_of_the_weights_of_a_trained_network_are_not_missed(digits):
    # Han et al. 2015 (arXiv:1506.02626), figure 5: without retraining, the loss of accuracy starts beyond one half
    network = trained("lenet_300_100")
    errors = [evaluate(prune_network(network, s), digits.test_images, digits.test_labels) for s in (0, 0.5, 0.99)]
    assert abs(errors[1] - errors[0]) <= 0.01 < errors[2]


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_a_sparsity_outside_0_to_1_is_refused(sparsity):
    with pytest.raises(ValueError, match=r"sparsity must be in \[0, 1\]"):
        prune_network(tiny_cnn(), sparsity)


@pytest.mark.parametrize("network", [None, "lenet_5", tiny_cnn().parameters()])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(TypeError, match="network must be a Network, got"):
        prune_network(network, 0.5)
