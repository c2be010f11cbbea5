"""Quantized networks: weights on their grids, activations rounded where they enter, nothing else touched."""

import copy

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression.quantization import (
    RoundedInput,
    RoundedWeight,
    export_rounded,
    has_weight,
    quantize_activations,
    quantize_weights,
    round_weights_in_training,
)
from nnzip.nn.layers import Linear
from nnzip.nn.network import lenet_5
from nnzip.nn.training import evaluate, gradient_check
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, choose_qparams, fake_quantize

IMAGES = np.random.default_rng(0).normal(size=(20, 2, 9, 8)).astype(np.float32)
BITS = (2, 3, 4, 8, 12, 16)


def weights_of(network):
    return {name: array for name, array in network.parameters().items() if name.endswith("weight")}


def assert_untouched(network, before):
    for name, array in before.items():
        assert np.array_equal(network.parameters()[name], array), name


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
def test_weights_lie_on_the_symmetric_grid_of_their_largest(per_channel, bits):
    network = tiny_cnn()
    rounded = weights_of(quantize_weights(network, bits=bits, per_channel=per_channel))
    largest_code = 2 ** (bits - 1) - 1
    for name, weight in weights_of(network).items():
        for row, got in zip(*(w if per_channel else w[None] for w in (weight, rounded[name])), strict=True):
            scale = np.float32(np.abs(row).astype(np.float64).max() / largest_code)
            assert np.array_equal(got, np.rint(row / scale) * scale)
            assert len(np.unique(got)) <= 2 * largest_code + 1
            assert np.abs(got - row).max() <= 0.5 * scale * (1 + 1e-4)  # half a step, and the rounding of floats


@pytest.mark.parametrize(
    "options",
    [
        {"bits": 2},
        {"bits": 8},
        {"bits": 4, "symmetric": False},
        {"bits": 4, "method": "mse"},
        {"bits": 3, "method": "percentile"},
    ],
    ids=str,
)
def test_per_channel_is_every_row_by_itself(options):
    network = tiny_cnn()
    rounded = weights_of(quantize_weights(network, **options))
    for name, weight in weights_of(network).items():
        rows = [fake_quantize(row, choose_qparams(row, **options)) for row in weight]
        assert np.array_equal(rounded[name], np.stack(rows))


def test_groups_are_runs_of_neighbours_along_a_row():
    network = tiny_cnn()
    network.layers = network.layers[3:4] + network.layers[5:6]  # rows of 12 and of 16 weights
    rounded = weights_of(quantize_weights(network, bits=3, group_size=4))
    for name, weight in weights_of(network).items():
        groups = [fake_quantize(group, choose_qparams(group, bits=3)) for group in weight.reshape(-1, 4)]
        assert np.array_equal(rounded[name].reshape(-1, 4), np.stack(groups))


def test_more_scales_never_cost_more():
    network = lenet_5()
    original = np.concatenate([w.ravel() for w in weights_of(network).values()])

    def squared_error(**options):
        rounded = weights_of(quantize_weights(network, bits=4, **options))
        return np.sum((np.concatenate([w.ravel() for w in rounded.values()]) - original) ** 2)

    assert squared_error(group_size=5) < squared_error() < squared_error(per_channel=False)


@pytest.mark.parametrize("bits", BITS)
def test_biases_and_the_given_network_stay(bits):
    network = tiny_cnn()
    before = copy.deepcopy(network.parameters())
    rounded = quantize_weights(network, bits=bits)
    assert_untouched(network, before)
    for name, array in rounded.parameters().items():
        assert array.dtype == np.float32 and not np.shares_memory(array, network.parameters()[name])
        assert np.array_equal(array, before[name]) == name.endswith("bias") or bits == 16


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bits": 1}, ValueError, "bits must be from 2 to 16, got 1"),
        ({"bits": 17}, ValueError, "bits must be from 2 to 16, got 17"),
        ({"bits": 4.0}, TypeError, "bits must be an integer, got 4.0"),
        ({"bits": 4, "method": "best"}, ValueError, "method must be one of"),
        ({"bits": 4, "group_size": 7}, ValueError, "7"),
    ],
)
def test_grids_that_do_not_exist_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        quantize_weights(tiny_cnn(), **options)


# ---------------------------------------------------------------- activations


class Spy:
    """A layer that keeps what entered it."""

    params, grads = {}, {}

    def __init__(self):
        self.entered = None

    def forward(self, x):
        self.entered = x
        return x


def what_enters(network, images):
    """Run a network with rounded inputs; return what each inner layer was given, with its RoundedInput."""
    seen = []
    for layer in network.layers:
        if isinstance(layer, RoundedInput):
            spy = Spy()
            RoundedInput(spy, layer.qparams).forward(images)
            seen.append((layer, images, spy.entered))
        images = layer.forward(images)
    return seen


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_what_enters_every_layer_with_weights_is_rounded(bits):
    network = tiny_cnn()
    rounded = quantize_activations(network, IMAGES, bits=bits)
    entering = what_enters(rounded, IMAGES)
    assert len(entering) == 4  # two convolutions, two linear layers
    for layer, raw, entered in entering:
        assert 1 < len(np.unique(entered)) <= min(2**bits, len(np.unique(raw)))
        steps = entered / layer.qparams.scale
        np.testing.assert_allclose(steps, np.rint(steps), atol=2**bits * 1e-6)
        clipped = np.clip(raw, entered.min(), entered.max())
        assert np.abs(entered - clipped).max() <= layer.qparams.scale * (0.5 + 1e-4)


def test_the_ranges_are_those_of_the_calibration_images():
    network = tiny_cnn()
    rounded = quantize_activations(network, IMAGES, bits=16)
    x = IMAGES
    for plain, layer in zip(network.layers, rounded.layers, strict=True):
        if isinstance(layer, RoundedInput):
            grid, step = layer.qparams, float(layer.qparams.scale)
            low, high = ((code - int(grid.zero_point)) * step for code in (grid.qmin, grid.qmax))
            assert low == pytest.approx(min(x.min(), 0), abs=step)  # the zero point is a whole number of steps
            assert high == pytest.approx(max(x.max(), 0), abs=step)
        x = plain.forward(x)


def test_how_the_calibration_is_split_into_batches_does_not_matter():
    network = tiny_cnn()
    grids = [
        [layer.qparams for layer in quantize_activations(network, IMAGES, bits=8, batch_size=size).layers[:6:5]]
        for size in (1, 7, 20, 1000)
    ]
    for others in grids[1:]:
        for one, other in zip(grids[0], others, strict=True):  # BLAS gives other last bits for other batches
            assert one.zero_point == other.zero_point and one.scale == pytest.approx(other.scale, rel=1e-5)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_method_of_calibration_serves(method):
    network = tiny_cnn()
    logits = network.forward(IMAGES)
    rounded = quantize_activations(network, IMAGES, bits=8, method=method).forward(IMAGES)
    assert np.mean((rounded - logits) ** 2) < 0.01 * np.mean(logits**2)  # four layers at 8 bits: better than 20 dB


def test_rounding_the_inputs_leaves_all_weights_and_the_given_network():
    network = tiny_cnn()
    before = copy.deepcopy(network.parameters())
    kinds = [type(layer) for layer in network.layers]
    rounded = quantize_activations(network, IMAGES, bits=2)
    assert_untouched(network, before)
    assert_untouched(rounded, before)
    assert [type(layer) for layer in network.layers] == kinds
    for array in rounded.parameters().values():
        array[...] = 0
    assert_untouched(network, before)


def test_eight_bits_hold_the_raw_pixels_exactly(digits):
    network = quantize_activations(trained("lenet_300_100"), digits.train_images[:200], bits=8)
    [(_, raw, entered), *_] = what_enters(network, digits.test_images[:20])
    assert np.array_equal(np.rint(entered * 255), np.rint(raw * 255))  # [0, 1] in 255 steps are the 256 grey values
    np.testing.assert_allclose(entered, raw, atol=1e-6)


def test_a_batch_without_calibration_images_is_refused():
    with pytest.raises(ValueError, match="calibration_images must not be empty"):
        quantize_activations(tiny_cnn(), IMAGES[:0], bits=8)


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        (IMAGES * np.nan, {}, ValueError, "calibration_images must be finite"),
        (IMAGES[:, :1], {}, ValueError, r"takes x of shape \(N, 2, H, W\)"),
        (IMAGES, {"bits": 1}, ValueError, "bits must be from 2 to 16, got 1"),
        (IMAGES, {"method": "guess"}, ValueError, "method must be one of"),
        (IMAGES, {"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ],
)
def test_calibrations_that_cannot_be_are_refused(images, options, error, message):
    with pytest.raises(error, match=message):
        quantize_activations(tiny_cnn(), images, **({"bits": 8} | options))


# ---------------------------------------------------------------- RoundedInput


def rounded_linear():
    inner = Linear(3, 2, rng=np.random.default_rng(0))
    return inner, RoundedInput(inner, QuantParams(scale=0.5, zero_point=4, bits=3, signed=False))  # -2, -1.5 .. 1.5


def test_a_rounded_input_is_the_layer_at_the_rounded_point():
    inner, layer = rounded_linear()
    x = np.array([[0.2, 0.3, 9.0], [-0.8, -9.0, 1.5]], np.float32)
    on_the_grid = np.array([[0.0, 0.5, 1.5], [-1.0, -2.0, 1.5]], np.float32)
    assert np.array_equal(layer.forward(x), inner.forward(on_the_grid))


def test_backward_takes_the_rounding_for_the_identity():
    inner, layer = rounded_linear()
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    grad_y = np.random.default_rng(2).normal(size=(4, 2)).astype(np.float32)
    layer.forward(x)
    grad_x = layer.backward(grad_y)
    np.testing.assert_allclose(grad_x, grad_y @ inner.params["weight"], rtol=1e-6)  # nothing of the rounding in it
    np.testing.assert_allclose(layer.grads["weight"], grad_y.T @ fake_quantize(x, layer.qparams), rtol=1e-5, atol=1e-6)
    assert layer.backward(grad_y, input_gradient=False) is None


def test_its_parameters_are_those_of_the_layer_inside():
    inner, layer = rounded_linear()
    assert layer.params is inner.params and layer.grads is inner.grads
    assert has_weight(layer) and has_weight(inner) and not has_weight(tiny_cnn().layers[1])
    assert repr(layer) == "RoundedInput(Linear(3, 2), bits=3)"


# ---------------------------------------------------------------- RoundedWeight


def rounded_weight():
    inner = Linear(3, 2, rng=np.random.default_rng(0))
    inner.params["weight"][...] = [[0.2, 0.3, 9.0], [-0.8, -9.0, 1.5]]
    return RoundedWeight(inner, QuantParams(scale=0.5, zero_point=0, bits=3, signed=True))  # -2, -1.5 .. 1.5


ON_THE_GRID = np.array([[0.0, 0.5, 1.5], [-1.0, -2.0, 1.5]], np.float32)


def test_a_rounded_weight_is_the_layer_with_the_rounded_weight():
    layer = rounded_weight()
    before = layer.params["weight"].copy()
    x = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(layer.forward(x), x @ ON_THE_GRID.T, rtol=1e-6)
    assert np.array_equal(layer.params["weight"], before)  # the float weight stays as it is


def test_the_gradient_is_that_at_the_rounded_weight_handed_straight_through():
    layer, plain = rounded_weight(), Linear(3, 2)
    plain.params["weight"][...] = ON_THE_GRID
    x, grad_y = (np.random.default_rng(1).normal(size=shape).astype(np.float32) for shape in ((4, 3), (4, 2)))
    for each in (layer, plain):
        each.forward(x)
    assert np.array_equal(layer.backward(grad_y), plain.backward(grad_y))
    for name, gradient in plain.grads.items():  # also where the weight is clipped: 9.0 and -9.0
        assert np.array_equal(layer.grads[name], gradient)
    assert layer.backward(grad_y, input_gradient=False) is None


def test_a_step_moves_the_float_weight_and_the_next_pass_rounds_it_anew():
    layer, x = rounded_weight(), np.eye(3, dtype=np.float32)
    layer.params["weight"][0, 0] += 0.04  # 0.24: still nearest to 0
    assert layer.forward(x)[0, 0] == 0
    layer.params["weight"][0, 0] += 0.04  # 0.28: nearest to 0.5
    assert layer.forward(x)[0, 0] == 0.5
    layer.params["bias"] += 1
    assert layer.forward(x)[0, 0] == 1.5


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_before_any_step_it_is_quantize_weights(method, per_channel, bits):
    network = tiny_cnn()
    before = copy.deepcopy(network.parameters())
    options = {"bits": bits, "per_channel": per_channel, "method": method}
    wrapped = round_weights_in_training(network, **options)
    assert_untouched(network, before)
    assert_untouched(wrapped, before)
    rounded, finished = quantize_weights(network, **options), export_rounded(wrapped)
    assert np.array_equal(wrapped.forward(IMAGES), rounded.forward(IMAGES))
    for name, array in rounded.parameters().items():
        assert np.array_equal(finished.parameters()[name], array)
    assert [type(layer) for layer in finished.layers] == [type(layer) for layer in network.layers]


def test_what_is_exported_is_a_network_of_its_own():
    wrapped = round_weights_in_training(tiny_cnn(), bits=3)
    images = IMAGES.copy()
    finished = export_rounded(wrapped)
    logits = finished.forward(images)
    for array in wrapped.parameters().values():
        array += 1
    wrapped.forward(images)
    assert np.array_equal(finished.forward(images), logits)


def test_a_copy_is_trained_alone():
    wrapped = round_weights_in_training(tiny_cnn(), bits=3)
    twin = wrapped.copy()
    logits = wrapped.forward(IMAGES)
    for array in twin.parameters().values():
        array += 1
    assert not np.array_equal(twin.forward(IMAGES), logits)
    assert np.array_equal(wrapped.forward(IMAGES), logits)


def test_weights_and_inputs_rounded_in_either_order_are_the_same_network():
    inputs = quantize_activations(tiny_cnn(), IMAGES, bits=4)
    one = round_weights_in_training(inputs, bits=3)
    other = round_weights_in_training(tiny_cnn(), bits=3)
    other.layers = [
        RoundedInput(layer, rounded.qparams) if isinstance(rounded, RoundedInput) else layer
        for layer, rounded in zip(other.layers, inputs.layers, strict=True)
    ]
    logits = one.forward(IMAGES)
    for network in (other, export_rounded(one), export_rounded(other)):
        assert np.array_equal(network.forward(IMAGES), logits)
    assert sum(isinstance(layer, RoundedInput) for layer in export_rounded(other).layers) == 4
    assert len(quantize_activations(round_weights_in_training(tiny_cnn(), bits=3), IMAGES, bits=4).layers) == 8


def test_zeros_stay_zero():
    network = tiny_cnn()
    network.layers[0].params["weight"][0] = 0  # a whole filter
    finished = export_rounded(round_weights_in_training(network, bits=2))
    assert not finished.layers[0].params["weight"][0].any()


def test_a_network_without_wrappers_is_exported_as_it_is():
    network = tiny_cnn()
    assert_untouched(export_rounded(network), network.parameters())


def test_rounding_twice_is_refused():
    wrapped = round_weights_in_training(quantize_activations(tiny_cnn(), IMAGES, bits=4), bits=3)
    with pytest.raises(ValueError, match="rounded in training already"):
        round_weights_in_training(wrapped, bits=2)


def test_its_name_says_what_it_holds():
    layer = rounded_weight()
    assert repr(layer) == "RoundedWeight(Linear(3, 2), bits=3)" and has_weight(layer)


# ---------------------------------------------------------------- on MNIST


def test_eight_bits_cost_next_to_nothing_on_all_test_images(test_set, digits):
    # Krishnamoorthi 2018, tables 3 and 4: 8 bits per channel lose no more than 0.2 points; here that is 20 images
    network = trained("lenet_300_100")
    error = evaluate(network, *test_set)
    both = quantize_activations(quantize_weights(network, bits=8), digits.train_images, bits=8)
    assert abs(evaluate(both, *test_set) - error) <= 0.002
    coarse = quantize_weights(network, bits=2, per_channel=False)
    assert evaluate(coarse, digits.test_images, digits.test_labels) > error + 0.01  # two bits are another matter


@pytest.mark.parametrize("network", [None, "lenet_5", Linear(2, 3), tiny_cnn().parameters()])
def test_what_is_no_network_is_refused(network):
    with pytest.raises(TypeError, match="network must be a Network, got"):
        quantize_weights(network, bits=4)
    with pytest.raises(TypeError, match="network must be a Network, got"):
        quantize_activations(network, IMAGES, bits=4)
    with pytest.raises(TypeError, match="network must be a Network, got"):
        round_weights_in_training(network, bits=4)
    with pytest.raises(TypeError, match="network must be a Network, got"):
        export_rounded(network)


def test_gradient_check_takes_a_network_with_rounded_inputs():
    network = quantize_activations(tiny_cnn(), IMAGES, bits=8)
    assert gradient_check(network, IMAGES[:1]) > 0.01  # the rounding is a staircase, and backward ignores it
