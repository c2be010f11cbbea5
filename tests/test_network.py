"""Network: names, copies, loading, predicting, and the two networks of the book."""

import copy
import pickle

import numpy as np
import pytest
from layer_cases import in_float64, slope, tiny_cnn

from nnzip.nn.layers import Conv2d, Flatten, Linear, ReLU
from nnzip.nn.network import Network, lenet_5, lenet_300_100
from nnzip.nn.training import gradient_check

IMAGES = np.random.default_rng(0).normal(size=(7, 2, 9, 8))
SHAPES_300_100 = [(300, 784), (300,), (100, 300), (100,), (10, 100), (10,)]
SHAPES_5 = [(20, 1, 5, 5), (20,), (50, 20, 5, 5), (50,), (500, 800), (500,), (10, 500), (10,)]


# ---------------------------------------------------------------- forward and backward


def test_the_gradients_of_a_whole_network_are_the_slopes():
    assert gradient_check(tiny_cnn(), IMAGES[:2]) < 1e-5  # as in test_layers


def test_backward_is_the_slope_of_the_network_along_random_directions():
    network = in_float64(tiny_cnn())
    rng = np.random.default_rng(1)
    weighting = rng.normal(size=network.forward(IMAGES).shape)
    grad_x = network.backward(weighting, input_gradient=True)
    gradients, own = network.gradients(), network.parameters()

    def loss_of_weights(name, array):
        other = network.copy()
        other.parameters()[name][...] = array
        return np.sum(other.forward(IMAGES) * weighting)

    direction = rng.normal(size=IMAGES.shape)
    expected = slope(lambda x: np.sum(network.forward(x) * weighting), IMAGES, direction)
    assert np.sum(grad_x * direction) == pytest.approx(expected, rel=1e-6)
    for name, array in own.items():
        direction = rng.normal(size=array.shape)
        expected = slope(lambda w, name=name: loss_of_weights(name, w), array, direction)
        assert np.sum(gradients[name] * direction) == pytest.approx(expected, rel=1e-6), name


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


def test_backward_before_forward_is_refused():
    with pytest.raises(ValueError, match="backward needs a forward pass first"):
        tiny_cnn().backward(np.ones((7, 3)))


def test_a_network_without_layers_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        Network([])


def test_a_network_reads_as_it_is_built():
    assert repr(Network([Flatten(), Linear(4, 2), ReLU()])) == "Network([Flatten(), Linear(4, 2), ReLU()])"


def test_the_list_of_layers_is_the_networks_own():
    layers = [Linear(2, 2)]
    network = Network(layers)
    layers.append(ReLU())
    assert len(network.layers) == 1


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
        (np.where(IMAGES > 2, np.inf, IMAGES), {}, ValueError, "images must be finite, got inf"),
        (IMAGES, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        (IMAGES, {"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
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


def test_gradients_have_the_names_and_shapes_of_the_parameters():
    network = tiny_cnn()
    network.backward(np.ones_like(network.forward(IMAGES)))
    shapes = {name: array.shape for name, array in network.parameters().items()}
    assert {name: array.shape for name, array in network.gradients().items()} == shapes


def test_loading_copies_values_into_the_networks_own_arrays():
    source, target = tiny_cnn(seed=1), tiny_cnn(seed=2)
    arrays = target.parameters()
    target.load_parameters(source.parameters())
    assert np.array_equal(target.forward(IMAGES), source.forward(IMAGES))
    assert all(target.parameters()[name] is array for name, array in arrays.items())
    source.parameters()["0.weight"][...] = 0
    assert arrays["0.weight"].any()


def test_loading_keeps_float32_whatever_is_given():
    network = tiny_cnn()
    network.load_parameters({name: array.astype(np.float64).tolist() for name, array in network.parameters().items()})
    assert {array.dtype for array in network.parameters().values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("7.bias", None, r"missing \['7.bias'\], unknown \[\]"),
        ("9.bias", np.ones(3), r"missing \[\], unknown \['9.bias'\]"),
        ("7.bias", np.ones(4), r"7.bias must have shape \(3,\), got \(4,\)"),
        ("7.bias", np.ones((3, 1)), r"7.bias must have shape \(3,\), got \(3, 1\)"),
        ("7.bias", 1.0, r"7.bias must have shape \(3,\), got \(\)"),
        ("7.bias", [0, np.nan, 0], "7.bias must be finite, got nan"),
        ("7.bias", [0, np.inf, 0], "7.bias must be finite, got inf"),
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
    assert all(np.array_equal(network.parameters()[key], before[key]) for key in before)


@pytest.mark.parametrize(
    "duplicate",
    [Network.copy, copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_independent_in_both_directions(duplicate):
    network = tiny_cnn()
    logits = network.forward(IMAGES)
    other = duplicate(network)
    assert np.array_equal(other.forward(IMAGES), logits)
    for array in other.parameters().values():
        array[...] = 0
    assert np.array_equal(network.forward(IMAGES), logits)
    network.parameters()["7.bias"][...] = 1
    assert not other.forward(IMAGES).any()


# ---------------------------------------------------------------- the two networks


@pytest.mark.parametrize(("build", "shapes"), [(lenet_300_100, SHAPES_300_100), (lenet_5, SHAPES_5)])
def test_the_networks_are_those_of_the_papers(build, shapes):
    network = build()
    assert [array.shape for array in network.parameters().values()] == shapes
    assert {array.dtype for array in network.parameters().values()} == {np.dtype(np.float32)}
    logits = network.forward(np.ones((2, 1, 28, 28), np.float32))
    assert logits.shape == (2, 10) and logits.dtype == np.float32


def test_their_sizes_are_those_that_the_papers_print():
    # Han et al. 2015, table 1: 267K and 431K parameters
    assert sum(np.prod(shape) for shape in SHAPES_300_100) == 266_610
    assert sum(np.prod(shape) for shape in SHAPES_5) == 431_080


@pytest.mark.parametrize("build", [lenet_300_100, lenet_5])
def test_the_seed_decides_the_initial_weights(build):
    one, same, other = build(seed=3).parameters(), build(seed=3).parameters(), build(seed=4).parameters()
    for name in one:
        assert np.array_equal(one[name], same[name])
        assert np.array_equal(one[name], other[name]) == name.endswith("bias")


def test_the_convolutional_one_has_no_relu_after_its_convolutions():
    kinds = [type(layer).__name__ for layer in lenet_5().layers]
    assert kinds == ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Flatten", "Linear", "ReLU", "Linear"]


# ---------------------------------------------------------------- careless use


@pytest.mark.parametrize("layers", [["ReLU"], [ReLU], [[ReLU()]], [None]])
def test_what_is_no_layer_is_refused_by_its_place(layers):
    with pytest.raises(TypeError, match="layer 1 must be a layer such as"):
        Network([Flatten(), *layers])


def test_a_layer_may_stand_in_a_network_once():
    relu = ReLU()  # its second forward would overwrite what backward needs of the first
    with pytest.raises(ValueError, match="layer 2 is also layer 0"):
        Network([relu, Linear(3, 3), relu])


def test_predict_wants_one_row_of_logits_for_each_image():
    network = Network([Conv2d(1, 10, 8)])
    with pytest.raises(ValueError, match=r"logits must have 2 dimensions, got shape \(2, 10, 1, 1\)"):
        network.predict(np.ones((2, 1, 8, 8), np.float32))


@pytest.mark.parametrize("images", ["images", None, np.ones((2, 3), np.uint8), np.ones((2, 3), complex)])
def test_predict_refuses_images_that_are_not_floats(images):
    with pytest.raises(TypeError, match="images must be floats, got dtype"):
        Network([Linear(3, 2)]).predict(images)


@pytest.mark.parametrize("weight", [np.nan, np.inf, 3e38])
def test_a_network_that_diverged_predicts_nothing(weight):
    network = Network([Linear(3, 2)])
    network.parameters()["0.weight"][...] = weight
    with pytest.raises(ValueError, match="logits must be finite"):
        network.predict(np.full((2, 3), 2, np.float32))


@pytest.mark.parametrize(
    ("bias", "error", "message"),
    [
        (np.array(["a", "b"]), TypeError, "0.bias must hold real numbers"),
        (np.array([1j, 2]), TypeError, "0.bias must hold real numbers"),
        (np.array([1.0, 2.0], object), TypeError, "0.bias must hold real numbers"),
        (np.array([1.0, 1e300]), ValueError, "0.bias must be finite"),  # as the float32 that it becomes
    ],
)
def test_parameters_that_are_no_float32_are_refused_and_nothing_changes(bias, error, message):
    network = Network([Linear(3, 2, rng=0)])
    before = network.copy().parameters()
    with pytest.raises(error, match=message):
        network.load_parameters({"0.weight": np.ones((2, 3)), "0.bias": bias})
    assert all(np.array_equal(array, before[name]) for name, array in network.parameters().items())
