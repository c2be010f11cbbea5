"""16-bit floats by their definition, bit by bit; training with float32 masters and a scaled loss."""

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression.low_precision import LossScale, RoundedArithmetic, ScaledSGD, round_to_float, train_low_precision
from nnzip.compression.quantization import quantize_activations
from nnzip.nn.layers import Linear
from nnzip.nn.network import lenet_300_100
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained

FORMATS = {"float16": (10, -14, 65504.0), "bfloat16": (7, -126, float.fromhex("0x1.fep127"))}


def round_by_definition(x, fraction_bits, smallest_exponent, largest):
    """Round in exact float64 arithmetic: to a multiple of the last place, ties to even, then overflow."""
    x = x.astype(np.float64)
    exponent = np.maximum(np.frexp(x)[1] - 1, smallest_exponent)
    place = 2.0 ** (exponent - fraction_bits)
    rounded = np.rint(x / place) * place
    return np.where(np.abs(rounded) > largest, np.copysign(np.inf, x), rounded)


def special_values():
    """Random bit patterns of all exponents, the middles between neighbours, and what is next to them."""
    bits = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32)
    ties = (bits[:4000] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    half = np.random.default_rng(1).integers(0, 0x7BFF, 4000, dtype=np.uint16).view(np.float16).astype(np.float64)
    above = np.nextafter(half.astype(np.float16), np.float16(np.inf)).astype(np.float64)
    x = np.concatenate([bits.view(np.float32), ties.view(np.float32), ((half + above) / 2).astype(np.float32)])
    x = x[np.isfinite(x)]
    return np.concatenate([x, np.nextafter(x, np.float32(0)), np.array([0.0, -0.0, 65519.99, 65520, 3.4e38], "f4")])


@pytest.mark.parametrize("format", FORMATS)
def test_rounding_is_to_the_nearest_and_ties_are_even(format):
    x = special_values()
    got = round_to_float(x, format)
    assert got.dtype == np.float32
    assert np.array_equal(got, round_by_definition(x, *FORMATS[format]))
    assert np.array_equal(np.signbit(got), np.signbit(x))
    assert np.array_equal(round_to_float(got, format), got)


@pytest.mark.parametrize("format", FORMATS)
def test_infinity_nan_and_any_shape_stay(format):
    assert round_to_float(np.inf, format) == np.inf and round_to_float(-np.inf, format) == -np.inf
    nans = np.array([0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(round_to_float(nans, format)).all() and np.isnan(round_to_float(nans[2], format))
    assert round_to_float(np.zeros((2, 0, 3)), format).shape == (2, 0, 3)
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32))
    before = x.copy()
    assert np.array_equal(round_to_float(x, format)[2], round_to_float(x[2], format)) and np.array_equal(x, before)


# ---------------------------------------------------------------- the scale of the loss


@pytest.mark.parametrize("overflow", [True, False])
def test_a_scale_stays_a_number_that_float32_can_divide_by(overflow):
    scale = LossScale(1.0, interval=1)
    for _ in range(2000):
        scale.update(overflow)
    assert 0 < np.float32(scale.scale) < np.inf and np.isfinite(1 / np.float32(scale.scale))


def test_without_masters_a_small_update_is_lost():
    for masters, expected in ((True, 1 + 10 * 2.0**-12), (False, 1.0)):
        optimizer = ScaledSGD(1.0, LossScale(1.0), format="float16", masters=masters, momentum=0)
        parameters = {"weight": np.ones(1, np.float32)}
        for _ in range(10):
            optimizer.step(parameters, {"weight": np.full(1, -(2.0**-12), np.float32)})
        assert parameters["weight"] == expected


# ---------------------------------------------------------------- training


def test_everything_that_a_layer_computes_with_is_rounded():
    rng = np.random.default_rng(0)
    x, grad_y = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 4), (5, 3)))
    layer = RoundedArithmetic(Linear(4, 3, rng=1), "bfloat16")
    master = layer.params["weight"].copy()

    def r(array):
        return round_to_float(array, "bfloat16")

    assert np.array_equal(layer.forward(x), r(r(x) @ r(master).T + 0))
    assert np.array_equal(layer.backward(grad_y), r(r(grad_y) @ r(master)))
    assert np.array_equal(layer.grads["weight"], r(r(grad_y).T @ r(x)))
    assert np.array_equal(layer.grads["bias"], r(r(grad_y).sum(axis=0)))
    assert np.array_equal(layer.params["weight"], master)
    assert layer.backward(grad_y, input_gradient=False) is None


def test_the_gradient_does_not_depend_on_a_power_of_two_scale(digits):
    data, networks = (digits.train_images[:64], digits.train_labels[:64]), (lenet_300_100(), lenet_300_100())
    for network, scale in zip(networks, (1.0, 4096.0), strict=True):
        recipe = {"format": "bfloat16", "epochs": 1, "rate": 0.1, "batch_size": 32}
        train_low_precision(network, data, loss_scale=LossScale(scale), **recipe)
    # no underflow in bfloat16, so the scale is exact there and back
    np.testing.assert_equal(*(network.parameters() for network in networks))


@pytest.mark.parametrize("format", FORMATS)
def test_training_leaves_float32_masters_in_a_plain_network(format, digits):
    network = lenet_300_100(seed=2)
    recipe = {"epochs": 3, "rate": 0.1, "batch_size": 32}
    few = digits.train_images[:600], digits.train_labels[:600]
    history = train_low_precision(network, few, format=format, loss_scale=LossScale(1024.0), **recipe)
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert all(type(layer).__name__ in ("Flatten", "Linear", "ReLU") for layer in network.layers)
    weight = network.parameters()["1.weight"]
    assert weight.dtype == np.float32 and not np.array_equal(weight, round_to_float(weight, format))
    assert evaluate(network, digits.test_images, digits.test_labels) < 0.2


def test_a_scale_that_is_too_large_skips_steps_until_it_is_not(digits):
    network, scale = trained("lenet_300_100"), LossScale(2.0**40, interval=1000)
    images, labels = digits.train_images[:320], digits.train_labels[:320]
    recipe = {"epochs": 4, "rate": 0.01, "batch_size": 32}
    train_low_precision(network, (images, labels), format="float16", loss_scale=scale, **recipe)
    assert 0 < scale.skipped < 40 and scale.scale == 2.0 ** (40 - scale.skipped)
    assert all(np.isfinite(array).all() for array in network.parameters().values())


def test_layers_that_round_already_are_refused_and_stay_as_they_are():
    images, labels = np.random.default_rng(0).normal(size=(8, 2, 9, 8)).astype(np.float32), np.zeros(8, int)
    network = quantize_activations(tiny_cnn(), images, bits=4)
    with pytest.raises(TypeError, match="layer 0 is Rounded"):
        train_low_precision(network, (images, labels), format="float16", epochs=1, rate=0.1)
