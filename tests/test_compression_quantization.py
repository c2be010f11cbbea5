"""Quantized networks: weights on their grids, activations rounded where they enter, nothing else touched."""

from functools import partial

import numpy as np
import pytest
from layer_cases import tiny_cnn

from nnzip.compression import quantization
from nnzip.compression.quantization import (
    Grid,
    Rounded,
    activation_qparams,
    export_rounded,
    quantize_activations,
    quantize_weights,
    round_weights_in_training,
)
from nnzip.nn.layers import Linear
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, choose_qparams, fake_quantize

IMAGES = np.random.default_rng(0).normal(size=(20, 2, 9, 8)).astype(np.float32)
BITS = (2, 3, 4, 8, 12, 16)


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
    "options", [{"bits": 2}, {"bits": 4, "symmetric": False}, {"bits": 4, "method": "mse"}], ids=str
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


@pytest.mark.parametrize("bits", BITS)
def test_biases_stay(bits):
    network = tiny_cnn()
    for name, array in quantize_weights(network, bits=bits).parameters().items():
        assert array.dtype == np.float32
        assert np.array_equal(array, network.parameters()[name]) == name.endswith("bias") or bits == 16


# ---------------------------------------------------------------- activations


def what_enters(network, images):
    """Run a network with rounded inputs; return (grid, before the rounding, after it) of each Rounded layer."""
    seen = []
    for layer in network.layers:
        if isinstance(layer, Rounded):
            seen.append((layer.input.qparams, images, layer.input.forward(images)))
        images = layer.forward(images)
    return seen


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_what_enters_every_layer_with_weights_is_rounded(bits):
    network = tiny_cnn()
    rounded = quantize_activations(network, IMAGES, bits=bits)
    entering = what_enters(rounded, IMAGES)
    assert len(entering) == 4  # two convolutions, two linear layers
    for grid, raw, entered in entering:
        assert 1 < len(np.unique(entered)) <= min(2**bits, len(np.unique(raw)))
        steps = entered / grid.scale
        np.testing.assert_allclose(steps, np.rint(steps), atol=2**bits * 1e-6)
        clipped = np.clip(raw, entered.min(), entered.max())
        assert np.abs(entered - clipped).max() <= grid.scale * (0.5 + 1e-4)


def test_the_ranges_are_those_of_the_calibration_images():
    network = tiny_cnn()
    rounded = quantize_activations(network, IMAGES, bits=16)
    x = IMAGES
    for plain, layer in zip(network.layers, rounded.layers, strict=True):
        if isinstance(layer, Rounded):
            grid, step = layer.input.qparams, float(layer.input.qparams.scale)
            low, high = ((code - int(grid.zero_point)) * step for code in (grid.qmin, grid.qmax))
            assert low == pytest.approx(min(x.min(), 0), abs=step)  # the zero point is a whole number of steps
            assert high == pytest.approx(max(x.max(), 0), abs=step)
        x = plain.forward(x)


def test_how_the_calibration_is_split_into_batches_does_not_matter(monkeypatch):
    together = activation_qparams(tiny_cnn(), IMAGES, bits=8)
    monkeypatch.setattr(quantization, "BATCH", 7)
    for i, grid in activation_qparams(tiny_cnn(), IMAGES, bits=8).items():  # BLAS gives other last bits
        assert grid.zero_point == together[i].zero_point and grid.scale == pytest.approx(together[i].scale, rel=1e-5)


def test_rounding_the_inputs_leaves_all_weights():
    network = tiny_cnn()
    np.testing.assert_equal(quantize_activations(network, IMAGES, bits=2).parameters(), network.parameters())
    assert not any(isinstance(layer, Rounded) for layer in network.layers)


def test_eight_bits_hold_the_raw_pixels_exactly(digits):
    network = quantize_activations(trained("lenet_300_100"), digits.train_images[:200], bits=8)
    [(_, raw, entered), *_] = what_enters(network, digits.test_images[:20])
    assert np.array_equal(np.rint(entered * 255), np.rint(raw * 255))  # [0, 1] in 255 steps are the 256 grey values
    np.testing.assert_allclose(entered, raw, atol=1e-6)


# ---------------------------------------------------------------- a layer that rounds

GRID = QuantParams(scale=0.5, zero_point=4, bits=3, signed=False)  # -2, -1.5 .. 1.5
OFF_THE_GRID = np.array([[0.2, 0.3, 9.0], [-0.8, -9.0, 1.5]], np.float32)
ON_THE_GRID = np.array([[0.0, 0.5, 1.5], [-1.0, -2.0, 1.5]], np.float32)


@pytest.mark.parametrize("rounds", [("weight",), ("input",), ("weight", "input")], ids="-".join)
def test_it_computes_at_the_rounded_point_and_hands_the_gradients_straight_through(rounds):
    layer, plain = (Linear(3, 2, rng=0) for _ in range(2))
    layer.params["weight"][...] = OFF_THE_GRID
    plain.params["weight"][...] = ON_THE_GRID if "weight" in rounds else OFF_THE_GRID
    rounded = Rounded(layer, **{name: Grid(GRID) for name in rounds})
    y = plain.forward(ON_THE_GRID if "input" in rounds else OFF_THE_GRID)
    assert np.array_equal(rounded.forward(OFF_THE_GRID), y)
    grad_y = np.random.default_rng(2).normal(size=(2, 2)).astype(np.float32)
    assert np.array_equal(rounded.backward(grad_y), plain.backward(grad_y))  # also where 9 and -9 were clipped
    for name, gradient in plain.grads.items():
        assert np.array_equal(rounded.grads[name], gradient)
    assert rounded.backward(grad_y, input_gradient=False) is None
    assert np.array_equal(rounded.params["weight"], OFF_THE_GRID)  # the float weight stays as it is


def test_a_step_moves_the_float_weight_and_the_next_pass_rounds_it_anew():
    layer, x = Rounded(Linear(3, 2, rng=0), weight=Grid(GRID)), np.eye(3, dtype=np.float32)
    layer.params["weight"][0, 0] = 0.24  # nearest to 0
    assert layer.forward(x)[0, 0] == 0
    layer.params["weight"][0, 0] += 0.04  # 0.28: nearest to 0.5
    assert layer.forward(x)[0, 0] == 0.5
    layer.params["bias"] += 1
    assert layer.forward(x)[0, 0] == 1.5


@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
def test_before_any_step_it_is_quantize_weights(per_channel):
    network, options = tiny_cnn(), {"bits": 3, "per_channel": per_channel}
    wrapped = round_weights_in_training(network, **options)
    np.testing.assert_equal(wrapped.parameters(), network.parameters())
    rounded, finished = quantize_weights(network, **options, method="mse"), export_rounded(wrapped)
    assert np.array_equal(wrapped.forward(IMAGES), rounded.forward(IMAGES))
    np.testing.assert_equal(finished.parameters(), rounded.parameters())
    assert [type(layer) for layer in finished.layers] == [type(layer) for layer in network.layers]


def test_copies_and_what_is_exported_are_networks_of_their_own():
    wrapped = round_weights_in_training(tiny_cnn(), bits=3)
    logits = wrapped.forward(IMAGES)
    twin, finished = wrapped.copy(), export_rounded(wrapped)
    for array in wrapped.parameters().values():
        array += 1
    assert not np.array_equal(wrapped.forward(IMAGES), logits)
    for network in (twin, finished):
        assert np.array_equal(network.forward(IMAGES), logits)


def test_rounding_twice_is_refused():
    for rounded in (quantize_activations(tiny_cnn(), IMAGES, bits=4), round_weights_in_training(tiny_cnn(), bits=3)):
        for again in (round_weights_in_training, partial(quantize_activations, calibration_images=IMAGES)):
            with pytest.raises(TypeError, match="must be Linear or Conv2d, layer 0 is Rounded"):
                again(rounded, bits=2)


# ---------------------------------------------------------------- on MNIST


def test_eight_bits_cost_next_to_nothing_on_all_test_images(test_set, digits):
    # Krishnamoorthi 2018, tables 3 and 4: 8 bits per channel lose no more than 0.2 points; here that is 20 images
    network = trained("lenet_300_100")
    error = evaluate(network, *test_set)
    both = quantize_activations(quantize_weights(network, bits=8), digits.train_images, bits=8)
    assert abs(evaluate(both, *test_set) - error) <= 0.002
    coarse = quantize_weights(network, bits=2, per_channel=False)
    assert evaluate(coarse, digits.test_images, digits.test_labels) > error + 0.01  # two bits are another matter
