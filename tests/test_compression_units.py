"""Neurons and filters taken out for real: what is left gives what the masked network gives."""

import numpy as np
import pytest
from layer_cases import tiny_cnn, with_biases

from nnzip.compression.pruning import (
    mask_units,
    prune_network,
    remove_dead_units,
    remove_units,
    strongest_units,
)
from nnzip.compression.quantization import quantize_activations
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network, lenet_5, lenet_300_100
from nnzip.nn.training import SGD, fit
from nnzip.nn.zoo import trained

IMAGES = np.random.default_rng(0).normal(size=(20, 2, 9, 8)).astype(np.float32)
MNIST_SHAPED = np.random.default_rng(1).random((5, 1, 28, 28), np.float32)


def padded_cnn():
    """A convolution that pads behind a convolution, without anything between."""
    rng = np.random.default_rng(0)
    layers = [Conv2d(2, 4, 2, rng=rng), Conv2d(4, 3, 3, padding=1, rng=rng), MaxPool2d(2), Flatten(), Linear(36, 3)]
    return with_biases(Network(layers))


def assert_same_outputs(one, other, images):
    expected = one.forward(images)
    np.testing.assert_allclose(other.forward(images), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def size(network):
    return sum(array.size for array in network.parameters().values())


# ---------------------------------------------------------------- given units


@pytest.mark.parametrize("seed", range(40))
def test_whatever_units_go_the_smaller_network_is_the_masked_one(seed):
    rng = np.random.default_rng(seed)
    for network in (tiny_cnn(), padded_cnn()):
        every = strongest_units(network, 0)
        kept = {i: rng.random(len(units)) < 0.6 for i, units in every.items() if rng.random() < 0.7}
        for units in kept.values():
            units[rng.integers(len(units))] = True
        smaller = remove_units(network, kept)
        assert_same_outputs(mask_units(network, kept), smaller, IMAGES)
        assert all(len(smaller.layers[i].params["bias"]) == units.sum() for i, units in kept.items())


@pytest.mark.parametrize("build", [lenet_300_100, lenet_5])
@pytest.mark.parametrize("sparsity", [0, 0.3, 0.9])
def test_both_lenets_get_smaller_and_stay_what_they_are_when_masked(build, sparsity):
    network = with_biases(build())
    kept = strongest_units(network, sparsity)
    smaller = remove_units(network, kept)
    assert_same_outputs(mask_units(network, kept), smaller, MNIST_SHAPED)
    for i, units in kept.items():
        assert units.sum() == len(units) - round(sparsity * len(units)) == len(smaller.layers[i].params["bias"])
    assert str(smaller) == str(network) if sparsity == 0 else size(smaller) < size(network)


def test_the_smaller_network_can_be_trained():
    smaller = remove_units(tiny_cnn(), strongest_units(tiny_cnn(), 0.5))
    history = fit(smaller, (IMAGES, np.arange(20) % 3), epochs=3, batch_size=5, optimizer=SGD(0.01), progress=False)
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_strongest_units_are_those_of_the_largest_norm():
    network = tiny_cnn()
    for i, kept in strongest_units(network, 0.4).items():
        norms = [np.linalg.norm(unit) for unit in network.layers[i].params["weight"]]
        assert min(np.array(norms)[kept]) >= max(np.array(norms)[~kept])


# ---------------------------------------------------------------- dead units


def kill(network, i, units):
    """Zero the weights of some units, and leave their biases."""
    network.layers[i].params["weight"][units] = 0
    return network


@pytest.mark.parametrize("layer", [0, 3, 5])
def test_a_unit_without_weights_still_gives_its_bias_and_that_is_kept(layer):
    network = kill(tiny_cnn(), layer, [0, 2])
    assert network.layers[layer].params["bias"][[0, 2]].all()
    smaller = remove_dead_units(network)
    assert len(smaller.layers[layer].params["bias"]) == len(network.layers[layer].params["bias"]) - 2
    assert_same_outputs(network, smaller, IMAGES)
    masked = mask_units(network, {layer: np.arange(len(network.layers[layer].params["bias"])) % 3 == 1})
    assert not np.allclose(masked.forward(IMAGES), network.forward(IMAGES))  # the constants did count


def test_a_constant_before_a_padded_convolution_stays():
    network = kill(padded_cnn(), 0, [1, 3])
    smaller = remove_dead_units(network)
    assert len(smaller.layers[0].params["bias"]) == 4
    assert_same_outputs(network, smaller, IMAGES)
    network.layers[0].params["bias"][3] = 0  # this one gives 0, at the border as elsewhere
    smaller = remove_dead_units(network)
    assert len(smaller.layers[0].params["bias"]) == 3
    assert_same_outputs(network, smaller, IMAGES)


def test_a_unit_that_nobody_reads_goes_and_so_does_what_only_it_read():
    network = tiny_cnn()
    network.layers[7].params["weight"][:, 1:] = 0  # only neuron 0 of layer 5 is read
    network.layers[5].params["weight"][0, 4:] = 0  # and it reads only channel 0 of layer 3 (2 x 2 places)
    smaller = remove_dead_units(network)
    assert [len(smaller.layers[i].params["bias"]) for i in (0, 3, 5, 7)] == [3, 1, 1, 3]
    assert_same_outputs(network, smaller, IMAGES)


@pytest.mark.parametrize("layers", [(0,), (3,), (5,), (7,), (0, 3, 5, 7)])
def test_a_layer_all_dead_keeps_one_unit(layers):
    network = tiny_cnn()
    for i in layers:
        kill(network, i, slice(None))
    smaller = remove_dead_units(network)
    assert_same_outputs(network, smaller, IMAGES)
    assert all(len(smaller.layers[i].params["bias"]) == 1 for i in layers if i != 7)


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet_5"])
@pytest.mark.parametrize("sparsity", [0.5, 0.99])
def test_trained_networks_lose_their_dead_units_and_nothing_else(name, sparsity, digits):
    network = prune_network(trained(name), sparsity, scope="network")
    smaller = remove_dead_units(network)
    assert_same_outputs(network, smaller, digits.test_images[:50])
    assert size(smaller) < size(network) or sparsity == 0.5
    assert str(remove_dead_units(smaller)) == str(smaller)


def test_a_network_without_zeros_has_no_dead_units():
    assert str(remove_dead_units(tiny_cnn())) == str(tiny_cnn())


# ---------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({1: np.ones(3, bool)}, "a layer of kept must be one of 0, 3, 5, got 1"),
        ({7: np.ones(3, bool)}, "a layer of kept must be one of 0, 3, 5, got 7"),
        ({0: np.ones(4, bool)}, r"kept\[0\] must be 3 bools, at least one True"),
        ({0: np.zeros(3, bool)}, "at least one True"),
        ({0: [0, 2]}, r"kept\[0\] must be 3 bools"),
    ],
)
def test_units_that_do_not_exist_are_refused(kept, message):
    for function in (mask_units, remove_units):
        with pytest.raises(ValueError, match=message):
            function(tiny_cnn(), kept)


class LeakyReLU(ReLU):
    pass


def test_networks_that_cannot_be_made_smaller_are_refused():
    rounded = quantize_activations(tiny_cnn(), IMAGES, bits=8)
    for function in (remove_dead_units, lambda network: strongest_units(network, 0.5)):
        with pytest.raises(TypeError, match=r"layer 0 must be Linear, .* to be made smaller: Rounded"):
            function(rounded)
        with pytest.raises(TypeError, match="network must be a Network, got NoneType"):
            function(None)
        with pytest.raises(TypeError, match=r"layer 2 must be Linear, .* to be made smaller: LeakyReLU"):
            function(Network([Flatten(), Linear(4, 3), LeakyReLU(), Linear(3, 2)]))  # a constant of -1 gives -0.1
