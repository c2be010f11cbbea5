"""Rotated networks: every layer's product as before, rounding and pruning in the new basis, and what it costs."""

import math

import numpy as np
import pytest
from layer_cases import in_float64, tiny_cnn, with_biases

from nnzip.compression.hadamard import Rotation, extra_additions, rotate_network, unrotate_network
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import quantize_activations, quantize_weights, round_weights_in_training
from nnzip.hadamard import hadamard_matrix, random_signs
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network, lenet_5, lenet_300_100, weights_of
from nnzip.nn.training import gradient_check

IMAGES = np.random.default_rng(0).normal(size=(6, 2, 9, 8)).astype(np.float32)
MIXED = {  # what is rotated: by Sylvester, Paley I and II, a product, blocks; with stride, padding, one channel
    "one_linear": ([Linear(12, 5)], (12,)),
    "linears": ([Linear(28, 24), ReLU(), Linear(24, 92), ReLU(), Linear(92, 50), ReLU(), Linear(50, 3)], (28,)),
    "odd": ([Linear(7, 1), Linear(1, 9), Linear(9, 2)], (7,)),
    "convolutions": ([Conv2d(1, 12, 3, padding=2), Conv2d(12, 6, 2, stride=2), Flatten(), Linear(72, 4)], (1, 5, 6)),
    "pooled": ([Conv2d(4, 20, 3), MaxPool2d(2), ReLU(), Conv2d(20, 3, 1), Flatten(), Linear(12, 2)], (4, 7, 6)),
}


def mixed(name):
    layers, shape = MIXED[name]
    x = np.random.default_rng(3).normal(size=(5, *shape))
    return in_float64(with_biases(Network(layers).copy())), x


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


# ---------------------------------------------------------------- the same function


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", MIXED)
def test_the_outputs_of_every_layer_stay(name, seed):
    network, x = mixed(name)
    rotated = iter(rotate_network(network, seed=seed).layers)
    plain = turned = x
    for layer in network.layers:
        plain, twin = layer.forward(plain), next(rotated)
        if isinstance(twin, Rotation):
            turned, twin = twin.forward(turned), next(rotated)
        assert type(twin) is type(layer)
        turned = twin.forward(turned)
        assert relative(turned, plain) < 1e-12
    assert next(rotated, None) is None


@pytest.mark.parametrize("build", [lenet_300_100, lenet_5])
def test_the_logits_of_both_lenets_stay_up_to_float32(build, digits):
    network = build()
    x = digits.test_images[:50]
    assert relative(rotate_network(network).forward(x), network.forward(x)) < 1e-5


def test_a_weight_is_rotated_along_its_inputs_by_the_definition():
    linear, conv = Linear(12, 5), Conv2d(20, 3, 2)
    rotated = rotate_network(Network([conv, Flatten(), linear])).layers
    for layer, before, after in ((rotated[0], conv, rotated[1]), (rotated[3], linear, rotated[4])):
        n = len(layer.signs)
        rotation = np.diag(layer.signs) @ hadamard_matrix(n) / math.sqrt(n)
        assert np.array_equal(np.abs(layer.signs), np.ones(n))
        expected = np.einsum("oi...,ij->oj...", before.params["weight"], rotation)
        np.testing.assert_allclose(after.params["weight"], expected, atol=1e-6)
        assert np.array_equal(after.params["bias"], before.params["bias"])


def test_what_has_nothing_to_mix_is_left_alone():
    network, _ = mixed("convolutions")
    kinds = [type(layer) for layer in rotate_network(network).layers]
    assert kinds == [Conv2d, Rotation, Conv2d, Flatten, Rotation, Linear]  # one input channel in front
    odd, _ = mixed("odd")  # 7, 1 and 9 inputs
    assert np.array_equal(rotate_network(odd).parameters()["0.weight"], odd.parameters()["0.weight"])
    assert len(rotate_network(odd).layers) == 3


def test_other_seeds_turn_otherwise_and_layers_of_one_width_do_too():
    network = Network([Linear(100, 100), Linear(100, 100)])
    signs = [rotate_network(network, seed=seed).layers[i].signs for seed in (0, 1) for i in (0, 2)]
    assert len({tuple(s.tolist()) for s in signs}) == 4
    again = rotate_network(network, seed=1).layers[2].signs
    assert np.array_equal(again, signs[3])


@pytest.mark.parametrize("name", MIXED)
def test_the_way_back_gives_the_first_weights(name):
    network, x = mixed(name)
    back = unrotate_network(rotate_network(network))
    assert [type(layer) for layer in back.layers] == [type(layer) for layer in network.layers]
    for name, weight in weights_of(network).items():
        np.testing.assert_allclose(weights_of(back)[name], weight, atol=1e-13)
    assert np.array_equal(unrotate_network(network).forward(x), network.forward(x))  # nothing to undo


# ---------------------------------------------------------------- the layer


@pytest.mark.parametrize("shape", [(4, 12), (3, 12, 5, 4), (1, 12, 1, 1), (1, 12)])
def test_a_rotation_is_its_definition_and_its_gradient_the_transpose(shape):
    layer, rng = Rotation(random_signs(12, seed=0)), np.random.default_rng(1)
    x, grad = rng.normal(size=shape), rng.normal(size=shape)
    rotation = np.diag(layer.signs) @ hadamard_matrix(12) / math.sqrt(12)
    y = layer.forward(x)
    np.testing.assert_allclose(y, np.einsum("ni...,ij->nj...", x, rotation), atol=1e-13)
    grad_x = layer.backward(grad)
    assert np.sum(y * grad) == pytest.approx(np.sum(x * grad_x), rel=1e-12)  # <x R, g> = <x, g R^T>
    assert layer.backward(grad, input_gradient=False) is None
    assert layer.forward(x.astype(np.float32)).dtype == np.float32


def test_gradients_pass_through_a_rotated_network():
    assert gradient_check(rotate_network(tiny_cnn()), IMAGES[:1]) < 1e-6  # of more images differences lose digits


def test_blocks_where_no_order_is_the_width():
    layer = Rotation(random_signs(92, seed=0))
    assert layer.block_size == 4 and repr(layer) == "Rotation(92, block_size=4)"
    assert repr(Rotation(random_signs(12, seed=0))) == "Rotation(12)"
    spike = np.zeros((1, 92))
    spike[0, 9] = 2
    assert np.flatnonzero(layer.forward(spike)).tolist() == [8, 9, 10, 11]
    x, signs = np.random.default_rng(0).normal(size=(2, 1684)), random_signs(1684, seed=0)
    assert Rotation(signs).block_size == 4  # 1,684 is Paley's order, and too large a factor
    given = Rotation(signs, block_size=1684)
    np.testing.assert_allclose(given.forward(x), x * signs @ hadamard_matrix(1684) / math.sqrt(1684), atol=1e-12)


# ---------------------------------------------------------------- with the other techniques


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_are_rounded_in_the_rotated_basis(bits):
    network = tiny_cnn()
    rounded = quantize_weights(rotate_network(network), bits=bits, per_channel=False)
    levels = [len(np.unique(weight)) for weight in weights_of(rounded).values()]
    assert all(1 < n <= 2**bits - 1 for n in levels)
    folded = unrotate_network(rounded)  # the same function, its weights on no grid
    assert relative(folded.forward(IMAGES), rounded.forward(IMAGES)) < 1e-5
    distances = [
        [np.sum((a - b) ** 2) for a, b in zip(weights_of(one).values(), weights_of(other).values(), strict=True)]
        for one, other in ((folded, network), (rounded, rotate_network(network)))
    ]
    np.testing.assert_allclose(*distances, rtol=1e-4)  # a rotation keeps the error's length


def test_pruning_counts_zeros_in_the_rotated_basis():
    network = Network([Linear(100, 20, rng=np.random.default_rng(0))])
    pruned = prune_network(rotate_network(network), 0.8)
    assert (pruned.parameters()["1.weight"] == 0).sum() == 1600
    assert (np.abs(unrotate_network(pruned).parameters()["0.weight"]) < 1e-6).sum() < 20
    first = prune_network(network, 0.8)  # and the other way round: zeros are mixed with the rest
    assert (rotate_network(first).parameters()["1.weight"] == 0).sum() < 20


# ---------------------------------------------------------------- what it costs


def test_additions_are_counted_for_one_image_and_at_every_place():
    network = Network([Linear(64, 32), ReLU(), Linear(32, 8)])
    assert extra_additions(network, image_shape=(64,)) == 0
    assert extra_additions(rotate_network(network), image_shape=(64,)) == 64 * 6 + 32 * 5  # n log2 n
    in_lenet_5 = 12 * 12 * 20 * 19 + 800 * (19 + 19 + 1) + 500 * 499  # H20; H20, H20, H2; H500
    assert extra_additions(rotate_network(lenet_5())) == in_lenet_5
    blocks = rotate_network(Network([Linear(92, 2)]))
    assert extra_additions(blocks, image_shape=(92,)) == 23 * 4 * 2


# ---------------------------------------------------------------- what is refused


def test_networks_that_round_already_are_refused():
    for rounding in (quantize_activations(tiny_cnn(), IMAGES, bits=8), round_weights_in_training(tiny_cnn(), bits=8)):
        with pytest.raises(ValueError, match=r"layer 0 rounds already, rotate before rounding: Rounded"):
            rotate_network(rounding)
    rounded = quantize_activations(rotate_network(tiny_cnn()), IMAGES, bits=8)
    with pytest.raises(ValueError, match=r"layer 0 cannot be multiplied into .*, what follows it is Rounded"):
        unrotate_network(rounded)
    with pytest.raises(ValueError, match="what follows it is None"):
        unrotate_network(Network([Linear(2, 4), Rotation(random_signs(4, seed=0))]))
