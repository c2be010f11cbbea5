"""Reconstructed networks: each layer fitted to the inputs it will get, float functions kept, three bits untrained."""

import functools

import numpy as np
import pytest
from layer_cases import in_float64, tiny_cnn, with_biases

from nnzip.compression.hadamard import rotate_network, unrotate_network
from nnzip.compression.quantization import quantize_activations, quantize_weights
from nnzip.compression.reconstruction import (
    correct_biases,
    equalize_network,
    reconstruct_pruned,
    reconstruct_weights,
    smooth_network,
)
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network, weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import choose_qparams
from nnzip.reconstruction import fit_scales, gptq, input_hessian

IMAGES = np.random.default_rng(0).normal(size=(100, 2, 9, 8)).astype(np.float32)  # two batches, not of one size
METHODS = ("nearest", "gptq", "adaround")
descending = functools.partial(gptq, order="descending")


def mlp(seed=0):
    rng = np.random.default_rng(seed)
    return with_biases(Network([Linear(6, 8, rng=rng), ReLU(), Linear(8, 5, rng=rng), ReLU(), Linear(5, 3, rng=rng)]))


def correlated(n=200, width=6):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, width)) + 0.3 * rng.normal(size=(n, width))
    return x.astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
def test_every_weight_lies_on_its_grid(method):
    network, options = tiny_cnn(), {"iterations": 20} if method == "adaround" else {}
    rounded = reconstruct_weights(network, IMAGES, bits=2, method=method, **options)
    for name, array in network.parameters().items():
        if name.endswith("bias"):
            assert np.array_equal(rounded.parameters()[name], array)
            continue
        for row in rounded.parameters()[name]:
            steps = np.unique(np.abs(row))
            assert len(steps[steps > 0]) <= 1  # -s, 0, s


def test_nearest_without_clipping_is_quantize_weights():
    for bits in (2, 5):
        got = reconstruct_weights(tiny_cnn(), IMAGES, bits=bits, method="nearest", clip=False)
        np.testing.assert_equal(got.parameters(), quantize_weights(tiny_cnn(), bits=bits).parameters())


def test_the_first_layer_is_gptq_of_its_own_inputs():
    network, x = mlp(), correlated()
    rounded = reconstruct_weights(network, x, bits=3)
    weight = network.layers[0].params["weight"].astype(np.float64)
    h, grid = input_hessian(x, damping=0.1), choose_qparams(weight, bits=3, axis=0)
    grid = fit_scales(weight, h, grid, rounder=descending)
    assert np.array_equal(rounded.layers[0].params["weight"], descending(weight, h, grid))


def test_the_second_layer_is_asked_for_what_the_float_network_gives_from_the_rounded_inputs():
    network, x = mlp(), correlated()
    rounded = reconstruct_weights(network, x, bits=2)
    weight, y = network.layers[2].params["weight"].astype(np.float64), np.maximum(network.layers[0].forward(x), 0)
    y_hat = np.maximum(rounded.layers[0].forward(x), 0)
    h = input_hessian(y_hat, damping=0.1)
    lam = 0.1 * np.mean(np.diag(input_hessian(y_hat, damping=0)))
    stacked = np.vstack([y_hat * np.sqrt(2 / len(x)), np.sqrt(lam) * np.eye(8)])  # ridge regression towards the weights
    wanted = np.vstack([y @ weight.T * np.sqrt(2 / len(x)), np.sqrt(lam) * weight.T])
    target = np.linalg.lstsq(stacked, wanted, rcond=None)[0].T
    grid = fit_scales(target, h, choose_qparams(weight, bits=2, axis=0), rounder=descending)
    assert np.allclose(rounded.layers[2].params["weight"], descending(target, h, grid))


def test_a_pruned_network_stays_pruned():
    pruned = reconstruct_pruned(mlp(), correlated(), 0.5)
    for method in ("gptq", "nearest"):
        rounded = reconstruct_weights(pruned, correlated(), bits=4, method=method)
        for name, weight in weights_of(pruned).items():
            assert not weights_of(rounded)[name][weight == 0].any()


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1)])
def test_a_convolution_is_reconstructed_over_its_windows(stride, padding):
    conv = with_biases(Conv2d(2, 4, 3, stride=stride, padding=padding, rng=0))
    padded = np.pad(IMAGES, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = conv.forward(IMAGES).shape[2:]
    places = [(stride * i, stride * j) for i in range(height) for j in range(width)]
    x = np.concatenate([padded[:, :, i : i + 3, j : j + 3].reshape(len(IMAGES), -1) for i, j in places])
    weight = conv.params["weight"].reshape(4, -1).astype(np.float64)
    h, grid = input_hessian(x, damping=0.1), choose_qparams(weight, bits=3, axis=0)
    rounded = reconstruct_weights(Network([conv]), IMAGES, bits=3, clip=False).layers[0].params["weight"]
    assert np.array_equal(rounded.reshape(4, -1), descending(weight, h, grid))


@pytest.mark.parametrize("method", ["gptq", "adaround"])
def test_each_layers_output_is_nearer_than_with_nearest(method):
    x, ratios = correlated(), []
    for seed in range(5):
        network, errors = mlp(seed), []
        for name in (method, "nearest"):
            rounded = reconstruct_weights(network, x, bits=3, method=name)
            errors.append(np.mean((rounded.forward(x) - network.forward(x)) ** 2))
        ratios.append(errors[0] / errors[1])
    assert np.exp(np.mean(np.log(ratios))) < 0.8


def test_rotated_weights_are_rounded_in_the_rotated_basis():
    network, x = with_biases(Network([Linear(12, 20, rng=0), ReLU(), Linear(20, 3, rng=1)])), correlated(width=12)
    rounded = reconstruct_weights(rotate_network(network), x, bits=2)
    for i in (1, 4):  # a Rotation stands before each
        assert all(len(np.unique(row)) <= 3 for row in rounded.parameters()[f"{i}.weight"])
    back = unrotate_network(rounded)
    assert np.allclose(back.forward(x), rounded.forward(x), atol=1e-4)
    assert not all(len(np.unique(row)) <= 3 for row in back.parameters()["0.weight"])


@pytest.mark.parametrize("method", ["obs", "obd"])
@pytest.mark.parametrize("sparsity", [0, 0.3, 0.9, 1])
def test_every_layer_loses_its_share(method, sparsity):
    network = tiny_cnn()
    pruned = reconstruct_pruned(network, IMAGES, sparsity, method=method)
    for name, weight in weights_of(pruned).items():
        assert (weight == 0).sum() == round(sparsity * weight.size), name
    if sparsity == 0:
        assert all(np.allclose(w, weights_of(network)[name]) for name, w in weights_of(pruned).items())


def test_the_surgeon_keeps_the_outputs_better_than_damage():
    network, x = mlp(), correlated()
    for sparsity in (0.3, 0.6):
        errors = [
            np.mean((reconstruct_pruned(network, x, sparsity, method=method).forward(x) - network.forward(x)) ** 2)
            for method in ("obs", "obd")
        ]
        assert errors[0] < errors[1] / 2


def spread_out(network):
    """Rescale hidden channels against each other: the function stays, and one scale for a layer is a bad one."""
    rng = np.random.default_rng(5)
    scales = np.exp(1.5 * rng.normal(size=8)).astype(np.float32)
    first, second = network.layers[0].params, network.layers[2].params
    first["weight"] *= scales[:, None]
    first["bias"] *= scales
    second["weight"] /= scales
    return network


@pytest.mark.parametrize("change", [equalize_network, lambda network: smooth_network(network, IMAGES[:50])])
def test_a_float_convolutional_network_computes_the_same(change):
    network = in_float64(tiny_cnn())
    before, changed = network.parameters(), change(network)
    assert np.allclose(changed.forward(IMAGES.astype(float)), network.forward(IMAGES.astype(float)), atol=1e-9)
    assert not all(np.allclose(changed.parameters()[name], before[name]) for name in before)  # something moved


def test_smoothed_activations_are_as_large_as_the_weights_that_read_them():
    network, x = spread_out(mlp()), correlated()
    smooth = smooth_network(network, x)
    hidden = np.maximum(smooth.layers[0].forward(x), 0)
    used = np.abs(smooth.layers[2].params["weight"]).max(axis=0)
    alive = hidden.max(axis=0) > 0
    assert alive.sum() > 4 and np.allclose(hidden.max(axis=0)[alive], used[alive], rtol=1e-4)


def test_smoothing_helps_rounded_activations():
    network, x = spread_out(mlp()), correlated()
    y = network.forward(x)
    rounded = (quantize_activations(net, x, bits=5) for net in (smooth_network(network, x), network))
    errors = [np.mean((net.forward(x) - y) ** 2) for net in rounded]
    assert errors[0] < errors[1]


def test_only_what_lets_a_scale_through_may_stand_between():
    class Square:
        params, grads = {}, {}

        def forward(self, x):
            return x**2

    network = with_biases(Network([Linear(6, 4, rng=0), Square(), Linear(4, 2, rng=1)]))
    np.testing.assert_equal(equalize_network(network).parameters(), network.parameters())
    pooled = with_biases(Network([Conv2d(2, 3, 2, rng=0), MaxPool2d(2), ReLU(), Flatten(), Linear(36, 4, rng=1)]))
    assert np.allclose(equalize_network(pooled).forward(IMAGES[:9]), pooled.forward(IMAGES[:9]), atol=1e-5)


@pytest.mark.parametrize("activations", [False, True])
def test_corrected_biases_leave_no_mean_error_at_any_layer(activations):
    network = tiny_cnn()
    rounded = quantize_weights(network, bits=3)
    rounded = quantize_activations(rounded, IMAGES, bits=4) if activations else rounded
    corrected = correct_biases(network, rounded, IMAGES)
    x, x_hat = IMAGES, IMAGES
    for layer, new in zip(network.layers, corrected.layers, strict=True):
        x, x_hat = layer.forward(x), new.forward(x_hat)
        if layer.params:
            axes = (0, *range(2, x.ndim))
            assert np.allclose(x.mean(axis=axes), x_hat.mean(axis=axes), atol=1e-5)
    assert np.mean((x_hat - x) ** 2) < np.mean((rounded.forward(IMAGES) - x) ** 2)


def test_three_bits_without_training_cost_less_than_0_3_points(digits, test_set):
    network = trained("lenet_300_100", seed=2)
    rounded = reconstruct_weights(network, digits.train_images, bits=3)
    assert evaluate(rounded, *test_set) <= evaluate(network, *test_set) + 0.003


X = correlated()


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "network must be", lambda: reconstruct_weights([Linear(2, 2)], X, bits=3)),
        (TypeError, "network must be", lambda: smooth_network(None, X)),
        (ValueError, "Linear takes x", lambda: reconstruct_weights(mlp(), np.ones((4, 3)), bits=3)),
        (ValueError, "rounded must have the layers of", lambda: correct_biases(mlp(), tiny_cnn(), X)),
    ],
)
def test_what_cannot_be_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_layers_that_round_already_are_refused():
    rounded = quantize_activations(mlp(), correlated(), bits=8)
    for call in (lambda: reconstruct_weights(rounded, correlated(), bits=3), lambda: equalize_network(rounded)):
        with pytest.raises(TypeError, match="layer 0"):
            call()
