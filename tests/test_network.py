"""Network: names, copies, loading, predicting, and the two networks of the book."""

import copy
import importlib
import pickle

import numpy as np
import pytest
from layer_cases import tiny_cnn
from public_calls import CALLS

from nnzip.nn.layers import Conv2d, Flatten, Linear, ReLU
from nnzip.nn.network import Cost, Network, costs, lenet_5, lenet_300_100
from nnzip.nn.training import gradient_check

IMAGES = np.random.default_rng(0).normal(size=(7, 2, 9, 8))
LAYERS_300_100 = "[Flatten(), Linear(784, 300), ReLU(), Linear(300, 100), ReLU(), Linear(100, 10)]"
LAYERS_5 = (  # no ReLU after the convolutions
    "[Conv2d(1, 20, 5), MaxPool2d(2), Conv2d(20, 50, 5), MaxPool2d(2), "
    "Flatten(), Linear(800, 500), ReLU(), Linear(500, 10)]"
)


# ---------------------------------------------------------------- forward and backward


def test_the_gradients_of_a_whole_network_are_the_slopes():
    assert gradient_check(tiny_cnn(), IMAGES[:2]) < 1e-5  # as in test_layers


def test_a_network_is_its_layers_one_after_the_other():
    network, by_hand = tiny_cnn(), tiny_cnn()
    x = IMAGES
    for layer in by_hand.layers:
        x = layer.forward(x)
    assert np.array_equal(network.forward(IMAGES), x)
    grad = np.ones_like(x)
    assert network.backward(grad) is None
    for layer in reversed(by_hand.layers):
        grad = layer.backward(grad)
    assert np.array_equal(network.backward(np.ones_like(x), input_gradient=True), grad)
    for name, gradient in by_hand.gradients().items():
        assert np.array_equal(network.gradients()[name], gradient)


# ---------------------------------------------------------------- predict


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_predict_is_the_largest_logit_for_every_batch_size(batch_size):
    network = tiny_cnn()
    expected = network.forward(IMAGES).argmax(axis=1)
    classes = network.predict(IMAGES, batch_size=batch_size)
    assert classes.dtype == np.int64 and np.array_equal(classes, expected)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (IMAGES[:0], {}, ValueError, "images must not be empty"),
        (np.where(IMAGES > 2, np.nan, IMAGES), {}, ValueError, "images must be finite, got nan"),
        (IMAGES, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (IMAGES[:, :1], {}, ValueError, r"takes x of shape \(N, 2, H, W\)"),
        (np.ones((2, 2, 9, 8), np.uint8), {}, TypeError, "images must be floats"),
    ],
)
def test_predict_refuses_what_are_no_images(images, options, error, message):
    with pytest.raises(error, match=message):
        tiny_cnn().predict(images, **options)


# ---------------------------------------------------------------- parameters


def test_parameters_are_the_live_arrays_under_pytorchs_names():
    network = tiny_cnn()
    assert list(network.parameters()) == [f"{i}.{key}" for i in (0, 3, 5, 7) for key in ("weight", "bias")]
    assert network.parameters()["5.weight"] is network.layers[5].params["weight"]
    network.parameters()["7.bias"][...] = 0
    before = network.forward(IMAGES)
    network.parameters()["7.bias"][...] = 1
    np.testing.assert_allclose(network.forward(IMAGES), before + 1, rtol=1e-12)


def test_loading_copies_values_into_the_networks_own_arrays():
    source, target = tiny_cnn(seed=1), tiny_cnn(seed=2)
    arrays = target.parameters()
    target.load_parameters({name: array.astype(np.float64) for name, array in source.parameters().items()})
    assert np.array_equal(target.forward(IMAGES), source.forward(IMAGES))
    assert all(target.parameters()[name] is array for name, array in arrays.items())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("7.bias", None, r"missing \['7.bias'\], unknown \[\]"),
        ("9.bias", np.ones(3), r"missing \[\], unknown \['9.bias'\]"),
        ("7.bias", 1.0, r"7.bias and the network's must have the same shape, got \(\) and \(3,\)"),
        ("7.bias", [0, np.nan, 0], "7.bias must be finite, got nan"),
        ("7.bias", [0, 1e300, 0], "7.bias must be within float32's range"),
    ],
)
def test_values_that_do_not_fit_are_refused_and_nothing_is_changed(name, value, message):
    network = tiny_cnn()
    before = copy.deepcopy(network.parameters())
    values = {key: np.zeros_like(array) for key, array in before.items()}
    values[name] = value
    if value is None:
        del values[name]
    with pytest.raises(ValueError, match=message):
        network.load_parameters(values)
    np.testing.assert_equal(network.parameters(), before)


@pytest.mark.parametrize("duplicate", [Network.copy, lambda n: pickle.loads(pickle.dumps(n))], ids=["copy", "pickle"])
def test_a_copy_is_independent(duplicate):
    network = tiny_cnn()
    logits, other = network.forward(IMAGES), duplicate(network)
    assert np.array_equal(other.forward(IMAGES), logits)
    for array in other.parameters().values():
        array[...] = 0
    assert np.array_equal(network.forward(IMAGES), logits) and not other.forward(IMAGES).any()


TECHNIQUES = [(module, name) for module in CALLS if module.startswith("compression.") for name in CALLS[module]]


@pytest.mark.parametrize(("module", "name"), TECHNIQUES)
def test_a_technique_changes_no_network_and_shares_no_memory_with_it(module, name):
    args, kwargs = CALLS[module][name]
    args = [arg.copy() if isinstance(arg, Network) else arg for arg in args]
    given = [arg for arg in args if isinstance(arg, Network)]
    before = copy.deepcopy([network.parameters() for network in given])
    made = getattr(importlib.import_module(f"nnzip.{module}"), name)(*args, **kwargs)
    for network in made if isinstance(made, tuple) else [made]:
        for array in network.parameters().values() if isinstance(network, Network) else ():
            array[...] = 7
    np.testing.assert_equal([network.parameters() for network in given], before)


# ---------------------------------------------------------------- the two networks


@pytest.mark.parametrize(("build", "layers"), [(lenet_300_100, LAYERS_300_100), (lenet_5, LAYERS_5)])
def test_the_networks_are_those_of_the_papers(build, layers):
    network = build()
    assert repr(network.layers) == layers
    assert {array.dtype for array in network.parameters().values()} == {np.dtype(np.float32)}
    logits = network.forward(np.ones((2, 1, 28, 28), np.float32))
    assert logits.shape == (2, 10) and logits.dtype == np.float32


@pytest.mark.parametrize("build", [lenet_300_100, lenet_5])
def test_the_seed_decides_the_initial_weights(build):
    one, same, other = build(seed=3).parameters(), build(seed=3).parameters(), build(seed=4).parameters()
    for name in one:
        assert np.array_equal(one[name], same[name])
        assert np.array_equal(one[name], other[name]) == name.endswith("bias")


# ---------------------------------------------------------------- careless use


@pytest.mark.parametrize("layers", [["ReLU"], [ReLU]])
def test_what_is_no_layer_is_refused_by_its_place(layers):
    with pytest.raises(TypeError, match="layer 1 must be a layer such as"):
        Network([Flatten(), *layers])
    with pytest.raises(ValueError, match="at least one layer"):
        Network([])


def test_costs_are_those_counted_by_hand():
    network = lenet_300_100()
    assert costs(network) == {
        "1.Linear": Cost(784 * 300, 4 * 784 * 300, 4 * (784 + 300)),
        "3.Linear": Cost(300 * 100, 4 * 300 * 100, 4 * (300 + 100)),
        "5.Linear": Cost(100 * 10, 4 * 100 * 10, 4 * (100 + 10)),
    }
    network.parameters()["5.weight"][:, :50] = 0
    few = costs(network, weight_bits=4, activation_bits=8)["5.Linear"]
    assert few == Cost(50 * 10, 100 * 10 / 2, 100 + 10) and few.moved_bytes == 610
    conv1, pool1, conv2, pool2, *_ = costs(lenet_5()).values()
    assert conv1 == Cost(20 * 25 * 24 * 24, 4 * 20 * 25, 4 * (28 * 28 + 20 * 24 * 24))
    assert pool1 == Cost(0, 0, 4 * 20 * (24 * 24 + 12 * 12)) and pool2 == Cost(0, 0, 4 * 50 * (8 * 8 + 4 * 4))
    assert conv2.multiply_adds == 50 * 20 * 25 * 8 * 8
    assert costs(Network([Conv2d(2, 3, 3)]), (2, 5, 5))["0.Conv2d"].multiply_adds == 3 * 2 * 9 * 9


def test_a_layer_may_stand_in_a_network_once():
    relu = ReLU()  # its second forward would overwrite what backward needs of the first
    with pytest.raises(ValueError, match="layer 2 is in the network already"):
        Network([relu, Linear(3, 3), relu])


def test_predict_wants_one_row_of_logits_for_each_image():
    network = Network([Conv2d(1, 10, 8)])
    with pytest.raises(ValueError, match=r"logits must have 2 dimensions, got shape \(2, 10, 1, 1\)"):
        network.predict(np.ones((2, 1, 8, 8), np.float32))


@pytest.mark.parametrize("weight", [np.nan, np.inf, 3e38])
def test_a_network_that_diverged_predicts_nothing(weight):
    network = Network([Linear(3, 2)])
    network.parameters()["0.weight"][...] = weight
    with pytest.raises(ValueError, match="logits must be finite"):
        network.predict(np.full((2, 3), 2, np.float32))
