"""Training through the rounding: grids, the gradients inside layers, zeros, what is left."""

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression.pruning import masks_of, prune_network
from nnzip.compression.qat import (
    Binary,
    ClippedGrid,
    LearnedStep,
    learned_step,
    learned_step_gradients,
    rounded_in_training,
    straight_through,
    train_quantized,
)
from nnzip.compression.quantization import Rounded, export_rounded
from nnzip.nn.layers import Conv2d, Linear
from nnzip.nn.network import Network, lenet_300_100
from nnzip.nn.training import SGD, evaluate, training_step
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, choose_qparams, fake_quantize

IMAGES = np.random.default_rng(0).normal(size=(24, 2, 9, 8)).astype(np.float32)
GRIDS = [(bits, signed) for bits in (2, 3, 4, 8) for signed in (True, False)]
WIDTHS = {"straight_through": 3, "learned_step": 2, "binary": 1}


# ---------------------------------------------------------------- learned steps


@pytest.mark.parametrize(("bits", "signed"), GRIDS)
@pytest.mark.parametrize("shape", [(7,), (2, 3, 2, 2)], ids=str)
def test_a_learned_step_is_a_grid_of_the_library(shape, bits, signed):
    for step in (np.float32(0.3), np.linspace(0.1, 0.5, shape[0], dtype=np.float32)):
        x = np.random.default_rng(0).normal(0, 2.0**bits * 0.2, shape).astype(np.float32)  # inside and outside
        zero, axis = np.zeros(np.shape(step), np.int32), 0 if np.ndim(step) else None
        grid = QuantParams(step, zero, bits, signed, narrow=signed, axis=axis)
        got = learned_step(x, step, bits=bits, signed=signed)
        assert got.dtype == np.float32 and np.array_equal(got, fake_quantize(x, grid))


@pytest.mark.parametrize(
    ("x", "step", "message"),
    [
        ([[1.0]], 0.0, "step must be positive, from 1.18e-38 to 3.4e.38, so that codes are finite, got 0.0"),
        ([[1.0]], np.float16(0), "step must be positive"),
        (np.ones((1, 1), np.float32), 1e39, "step must be positive, from 1.18e-38"),
        ([[1.0]], [0.1, 0.2], r"step must have shape \(\) or \(1,\) for x of shape \(1, 1\)"),
    ],
)
def test_what_is_no_step_is_refused(x, step, message):
    with pytest.raises(ValueError, match=message):
        learned_step(x, step, bits=2, signed=True)


@pytest.mark.parametrize("zero_point", [4_095, 65_535])
def test_a_zero_point_is_not_cut_to_float16(zero_point):
    grid = QuantParams(scale=1.0, zero_point=zero_point, bits=16, signed=False)
    x = np.float16([-2, -1, 0, 1, 2])
    inside = [0 <= zero_point + v <= 65_535 for v in (-2, -1, 0, 1, 2)]
    assert straight_through(x, grid, np.ones(5, np.float16)).tolist() == inside


def test_a_step_that_float16_does_not_have_gives_no_nan():
    x, options = np.array([0.0, 1.0, -1.0], np.float16), {"bits": 3, "signed": True}
    assert learned_step(x, 1e-9, **options).tolist() == [np.float32(1e-9) * code for code in (0, 3, -3)]
    assert learned_step([0.4, 9.0], np.float16(0.5), **options).tolist() == [0.5, 1.5]
    grad_x, grad_step = learned_step_gradients(x, 1e-9, np.ones(3, np.float16), **options)
    assert grad_x.tolist() == [1, 0, 0] and grad_step == 0


# ---------------------------------------------------------------- layers


def layer_and_input(kind):
    rng = np.random.default_rng(3)
    if kind == "linear":
        layer, x = Linear(6, 4, rng=0), rng.normal(size=(5, 6))
    else:
        layer, x = Conv2d(2, 3, 3, padding=1, rng=0), rng.normal(size=(4, 2, 5, 4))
    return layer, x.astype(np.float32)


def inner_gradients(layer, x_hat, w_hat, grad_y):
    """What the plain layer says at the rounded input and the rounded weight."""
    layer.params["weight"] = w_hat
    layer.forward(x_hat)
    return layer.backward(grad_y), layer.grads["weight"], layer.grads["bias"]


def with_learned_steps(layer, x, weight_bits, input_bits):
    weight = LearnedStep(layer.params, "weight_step", layer.params["weight"], bits=weight_bits, signed=True, axis=0)
    entering = LearnedStep(layer.params, "input_step", x, bits=input_bits, signed=bool(np.min(x) < 0))
    return Rounded(layer, weight=weight, input=entering)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_learned_steps_of_weight_and_input_get_the_gradient_at_the_rounded_ones(kind):
    layer, x = layer_and_input(kind)
    plain, weight = layer_and_input(kind)[0], layer.params["weight"].copy()
    wrapped = with_learned_steps(layer, x, 2, 3)
    w_step, x_step = wrapped.params["weight_step"].copy(), wrapped.params["input_step"].copy()
    of_weight, of_input = {"bits": 2, "signed": True}, {"bits": 3, "signed": True}
    y = wrapped.forward(x)
    grad_y = np.random.default_rng(4).normal(size=y.shape).astype(np.float32)
    grad_x = wrapped.backward(grad_y)
    w_hat, x_hat = learned_step(weight, w_step, **of_weight), learned_step(x, x_step, **of_input)
    g_x, g_w, g_b = inner_gradients(plain, x_hat, w_hat, grad_y)
    assert np.array_equal(y, plain.forward(x_hat))
    expected_w, expected_w_step = learned_step_gradients(weight, w_step, g_w, **of_weight)
    expected_x, expected_x_step = learned_step_gradients(x, x_step, g_x, **of_input)
    for got, expected in [
        (grad_x, expected_x),
        (wrapped.grads["weight"], expected_w),
        (wrapped.grads["bias"], g_b),
        (wrapped.grads["weight_step"], expected_w_step / np.sqrt(weight[0].size)),
        (wrapped.grads["input_step"], expected_x_step / np.sqrt(3 * x[0].size)),
    ]:
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)
    assert wrapped.grads.keys() == wrapped.params.keys()
    assert np.array_equal(wrapped.params["weight"], weight)  # float beneath
    assert wrapped.backward(grad_y, input_gradient=False) is None and "input_step" in wrapped.grads


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_grids_that_stay_clip_the_gradients(kind):
    layer, x = layer_and_input(kind)
    plain, weight = layer_and_input(kind)[0], layer.params["weight"].copy()
    w_grid, x_grid = choose_qparams(weight / 2, bits=3, axis=0), choose_qparams(x / 2, bits=4, symmetric=False)
    wrapped = Rounded(layer, weight=ClippedGrid(w_grid), input=ClippedGrid(x_grid))
    y = wrapped.forward(x)
    grad_y = np.random.default_rng(4).normal(size=y.shape).astype(np.float32)
    grad_x = wrapped.backward(grad_y)
    g_x, g_w, _ = inner_gradients(plain, fake_quantize(x, x_grid), fake_quantize(weight, w_grid), grad_y)
    assert np.array_equal(wrapped.grads["weight"], straight_through(weight, w_grid, g_w))
    assert np.array_equal(grad_x, straight_through(x, x_grid, g_x))
    assert np.mean(grad_x == 0) > 0.01 and np.mean(wrapped.grads["weight"] == 0) > 0.01
    assert wrapped.backward(grad_y, input_gradient=False) is None


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_binary_weights_are_signs_times_mean_magnitude_and_the_float_ones_stay_in_the_unit_interval(kind):
    layer, x = layer_and_input(kind)
    layer.params["weight"][...] *= 4
    weight, wrapped = layer.params["weight"].copy(), Rounded(layer, weight=Binary())
    y = wrapped.forward(x)
    assert np.array_equal(wrapped.params["weight"], np.clip(weight, -1, 1)) and np.abs(weight).max() > 1
    for row, got in zip(np.clip(weight, -1, 1), wrapped.layer.params["weight"], strict=True):
        scale = np.abs(row).mean()
        np.testing.assert_allclose(got, np.where(row < 0, -scale, scale), rtol=1e-6)
    plain = layer_and_input(kind)[0]
    _, g_w, _ = inner_gradients(plain, x, wrapped.layer.params["weight"], np.ones_like(y))
    wrapped.backward(np.ones_like(y))
    assert np.array_equal(wrapped.grads["weight"], g_w)


def test_a_step_that_an_update_made_negative_comes_back():
    layer = with_learned_steps(Linear(3, 2, rng=0), np.ones((1, 3)), 2, 4)
    layer.params["weight_step"][0] = -1
    layer.params["input_step"][...] = -1
    assert export_rounded(Network([layer])).layers[0].input.qparams.scale > 0  # after the last update of all
    y = layer.forward(np.ones((4, 3), np.float32))
    layer.backward(np.ones_like(y))
    assert layer.params["weight_step"].min() > 0 and layer.params["input_step"] > 0
    assert all(np.isfinite(gradient).all() for gradient in layer.grads.values())


def test_a_copy_learns_steps_of_its_own_and_does_not_carry_the_last_batch():
    layer = with_learned_steps(Linear(3, 2, rng=0), np.ones((1, 3)), 2, 4)
    x = np.ones((50, 3), np.float32)
    y = layer.forward(x)
    twin = Network([layer]).copy().layers[0]
    assert not twin.seen and twin.params.keys() == layer.params.keys()
    for array in twin.params.values():
        array *= 3
    assert np.array_equal(layer.forward(x), y) and not np.array_equal(twin.forward(x), y)
    assert twin.input.step == twin.params["input_step"] == 3 * layer.params["input_step"]


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("method", WIDTHS)
@pytest.mark.parametrize("activation_bits", [None, 4])
def test_what_is_left_is_plain_layers_on_their_grids_that_predict_the_same(method, activation_bits):
    images, labels = np.abs(IMAGES), np.arange(24) % 3
    network, bits = tiny_cnn(), WIDTHS[method]
    student = rounded_in_training(network, images, weight_bits=bits, activation_bits=activation_bits, method=method)
    optimizer = SGD(0.05)
    for _ in range(3):
        training_step(student, images, labels, np.arange(24), optimizer)
    left = export_rounded(student)
    assert left.parameters().keys() == network.parameters().keys()
    for layer, plain in zip(left.layers, network.layers, strict=True):
        wrapped = bool(plain.params) and activation_bits is not None
        assert type(layer) is (Rounded if wrapped else type(plain))
        inner = layer.layer if wrapped else layer
        assert type(inner) is type(plain)
        if wrapped:
            assert layer.input.qparams.bits == activation_bits
        for row in inner.params.get("weight", ()):
            codes = row / np.diff(np.unique(np.append(np.abs(row).round(6), 0))).min()
            assert len(np.unique(row)) <= max(2, 2**bits - 1)
            np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)
    np.testing.assert_allclose(left.forward(images), student.forward(images), atol=1e-5)


@pytest.mark.parametrize(("method", "with_teacher"), [("straight_through", False), ("learned_step", True)])
def test_a_pruned_network_keeps_its_zeros(method, with_teacher, digits):
    network = prune_network(trained("lenet_300_100"), 0.8)
    data = digits.train_images[:64], digits.train_labels[:64]
    teacher = trained("lenet_300_100") if with_teacher else None
    recipe = {"method": method, "epochs": 8, "rate": 0.2, "batch_size": 16, "teacher": teacher}
    left = train_quantized(network, data, weight_bits=4, **recipe)  # long enough that zeros would wander off
    for name, mask in masks_of(network).items():
        assert not np.any(left.parameters()[name][~mask]), name
        assert np.any(left.parameters()[name][mask])


def test_each_layer_begins_with_a_step_for_what_enters_it_and_signed_codes_where_no_relu_came_before():
    network, x = tiny_cnn(), np.abs(IMAGES)
    student = rounded_in_training(network, x, weight_bits=3, activation_bits=4)
    for layer, wrapped in zip(network.layers, student.layers, strict=True):
        if layer.params:
            signed = bool(x.min() < 0)
            assert wrapped.input.grid == {"bits": 4, "signed": signed} and wrapped.input.qparams.narrow == signed
            mean = np.abs(x.astype(np.float64)).mean()
            assert wrapped.params["input_step"] == pytest.approx(2 * mean / np.sqrt(7 if signed else 15))
            for row, step in zip(layer.params["weight"], wrapped.params["weight_step"], strict=True):
                assert step == pytest.approx(2 * np.abs(row).mean() / np.sqrt(3))
        x = layer.forward(x)
    assert {layer.input.grid["signed"] for layer in student.layers if layer.params} == {True, False}


def test_training_repairs_what_two_bits_destroy(digits):
    network, test = trained("lenet_300_100"), (digits.test_images, digits.test_labels)
    data = digits.train_images[:2000], digits.train_labels[:2000]
    for method in ("straight_through", "learned_step"):
        grids = {"weight_bits": 2, "activation_bits": 3 if method == "learned_step" else None, "method": method}
        untrained = export_rounded(rounded_in_training(network, data[0], **grids))
        left = train_quantized(network, data, **grids, epochs=2, rate=0.02)
        assert evaluate(left, *test) < 0.6 * evaluate(untrained, *test), method


def test_a_teacher_changes_the_training_and_the_seed_repeats_it(digits):
    network, data = trained("lenet_300_100"), (digits.train_images[:128], digits.train_labels[:128])

    def left(**options):
        recipe = {"weight_bits": 1, "method": "binary", "epochs": 1, "rate": 0.05}
        return train_quantized(network, data, **recipe, **options).parameters()["3.bias"]

    plain, again, taught = left(), left(), left(teacher=network)
    assert np.array_equal(plain, again) and not np.array_equal(plain, taught)
    assert not np.array_equal(plain, left(seed=1))


def test_what_cannot_be_is_refused(digits):
    network, few = lenet_300_100(), digits.train_images[:4]
    for options, message in [
        ({"weight_bits": 2, "method": "binary"}, r"weight_bits \(of 'binary'\) must be from 1 to 1, got 2"),
        ({"weight_bits": 1}, r"weight_bits \(of 'learned_step'\) must be from 2 to 16, got 1"),
        ({"weight_bits": 2, "activation_bits": 1}, "bits must be from 2 to 16, got 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            rounded_in_training(network, few, **options)
    student = rounded_in_training(network, few, weight_bits=2)
    with pytest.raises(TypeError, match=r"must be Linear or Conv2d, layer 1 is Rounded\(Linear"):
        rounded_in_training(student, few, weight_bits=2)
    pruned = prune_network(network, 0.5)
    with pytest.raises(ValueError, match=r"binary weights are never zero, but the network has zeros in 1\.weight"):
        train_quantized(pruned, digits, weight_bits=1, method="binary", epochs=1, rate=0.1)
    with pytest.raises(TypeError, match="multiple values for keyword argument 'optimizer'"):  # whose rate would be lost
        train_quantized(network, digits[:2], weight_bits=2, epochs=1, rate=0.1, optimizer=SGD(0.2))
