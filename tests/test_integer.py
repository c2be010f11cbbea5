"""Integer networks: exact against Python's own integers, no float inside, right where channels are dead or tiny."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from layer_cases import with_biases

from nnzip.compression.integer import IntegerFlatten, IntegerLayer, IntegerMaxPool2d, compare_layers, integer_network
from nnzip.compression.quantization import quantize_activations
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams, dequantize

ARITHMETIC = ("float_scale", "fixed_point")
both = pytest.mark.parametrize("arithmetic", ARITHMETIC)


def images_like(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)  # negative ones: zero points are not 0


RNG = np.random.default_rng(3)
NETWORKS = {  # odd sizes, and a rest that no stride or window fills; then the shape of the images
    "linear": ([Flatten(), Linear(15, 4, rng=RNG), ReLU(), Linear(4, 3, rng=RNG)], (6, 1, 3, 5)),
    "one_layer": ([Flatten(), Linear(6, 2, rng=RNG)], (3, 1, 2, 3)),
    "no_relu": ([Flatten(), Linear(15, 4, rng=RNG), Linear(4, 3, rng=RNG)], (6, 1, 3, 5)),
    "padding_and_stride": (
        [Conv2d(2, 3, 3, stride=2, padding=1, rng=RNG), ReLU(), Flatten(), Linear(60, 3, rng=RNG)],
        (3, 2, 9, 7),
    ),
    "pooled": (
        [
            *(Conv2d(2, 3, 3, padding=2, rng=RNG), MaxPool2d(2)),
            *(Conv2d(3, 2, 3, rng=RNG), ReLU(), MaxPool2d(2)),
            *(Flatten(), Linear(2, 3, rng=RNG)),
        ],
        (3, 2, 7, 6),
    ),
    "pooled_with_stride": (
        [Conv2d(2, 3, 7, padding=1, stride=2, rng=RNG), MaxPool2d(2), Flatten(), Linear(12, 3, rng=RNG)],
        (3, 2, 13, 11),
    ),
    "pooling_first": (
        [MaxPool2d(2), Conv2d(2, 3, 2, rng=RNG), MaxPool2d(3), Flatten(), Linear(3, 3, rng=RNG)],
        (3, 2, 9, 9),
    ),
    "relu_first": ([ReLU(), Flatten(), Linear(15, 3, rng=RNG)], (4, 1, 3, 5)),
    "logits_of_a_convolution": ([Conv2d(2, 3, 3, rng=RNG), ReLU(), Conv2d(3, 4, 2, rng=RNG)], (2, 2, 5, 4)),
}


def network_of(name):
    layers, shape = NETWORKS[name]
    return with_biases(Network(layers).copy()), images_like(*shape)


# ---------------------------------------------------------------- Python's integers as the specification


def reference_sum(layer, x):  # Python ints [N, ...] -> sums [N, ...]
    weight, z = layer.weight.astype(object), int(layer.input.zero_point)
    bias = layer.bias.astype(object)
    x = x - z
    if weight.ndim == 2:
        return x.dot(weight.T) + bias
    p, s, k = layer.padding, layer.stride, weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=0)
    H_out, W_out = (x.shape[2] - k) // s + 1, (x.shape[3] - k) // s + 1
    y = np.empty((len(x), len(weight), H_out, W_out), object)
    for n, o, i, j in np.ndindex(y.shape):
        y[n, o, i, j] = (x[n, :, s * i : s * i + k, s * j : s * j + k] * weight[o]).sum() + bias[o]
    return y


def reference_code(layer, total, channel):  # one Python int -> one code
    def of(values):
        return np.asarray(values).reshape(-1)[channel if np.ndim(values) else 0]

    if layer.arithmetic == "float_scale":  # 24 bits by 24 bits: the double is exact, and rounded once
        steps = round(float(np.float32(float(np.float32(total)) * float(of(layer.multiplier)))))
    else:
        m0, shift = int(of(layer.m0)), int(of(layer.shift))
        total = min(max(total * 2 ** max(-shift, 0), -(2**31)), 2**31 - 1)  # a multiplier of 1 and above
        high = (total * m0 + 2**30) // 2**31
        half_away = (2 * abs(high) + 2 ** max(shift, 0)) // 2 ** (max(shift, 0) + 1)
        steps = half_away if high >= 0 else -half_away
    return min(max(steps + int(layer.output.zero_point), 0), layer.output.qmax)


def reference(integer, codes):
    x = codes.astype(object)
    for layer in integer.layers:
        if isinstance(layer, IntegerFlatten):
            x = x.reshape(len(x), -1)
        elif isinstance(layer, IntegerMaxPool2d):
            k, (N, C, H, W) = layer.size, x.shape
            y = np.empty((N, C, H // k, W // k), object)
            for n, c, i, j in np.ndindex(y.shape):
                y[n, c, i, j] = x[n, c, k * i : k * i + k, k * j : k * j + k].max()
            x = y
        else:
            x = reference_sum(layer, x)
            if layer.output is not None:
                codes = [reference_code(layer, total, index[1]) for index, total in np.ndenumerate(x)]
                x = np.array(codes, object).reshape(x.shape)
    return x


@both
@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (2, 8), (8, 3)], ids=str)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_those_of_arbitrary_precision(name, per_channel, bits, arithmetic):
    network, images = network_of(name)
    options = {"weight_bits": bits[0], "activation_bits": bits[1], "per_channel": per_channel}
    integer = integer_network(network, images, arithmetic=arithmetic, **options)
    codes = integer.quantize_input(1.3 * images)  # some beyond what calibration saw: the clip has work
    expected = reference(integer, codes).astype(np.int64)
    assert np.array_equal(integer.forward(codes), expected)
    assert np.array_equal(integer.trace(codes)[-1], expected)


@both
def test_a_shift_of_zero_and_above_and_ties(arithmetic):
    """Scales that are powers of two: half of the sums are ties; multipliers from 1/2 to 2^-9."""
    grid = QuantParams(scale=0.5, zero_point=7, bits=8, signed=False)
    for exponent in range(-1, 8):
        output = QuantParams(scale=2.0**exponent, zero_point=100, bits=8, signed=False)
        weight = np.array([[1, 2], [-1, 3]], np.int8)
        layer = IntegerLayer(weight, np.float32(0.5), np.array([-3, 5], np.int32), grid, output, arithmetic)
        codes = np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 2), -1).reshape(-1, 2)
        assert np.array_equal(layer.forward(codes), reference(SimpleNamespace(layers=[layer]), codes).astype(int))


def largest_sums(*inputs):
    """Return a layer of three outputs, and the codes of four images: all at their ends, and odd sums."""
    grid, K = QuantParams(scale=1.0, zero_point=3, bits=8, signed=False), int(np.prod(inputs))
    weight = np.full((3, K), 127, np.int8)
    weight[1], weight[2, ::2] = -127, -127
    codes = np.full((4, K), 255, np.uint8)
    codes[1], codes[2, ::2], codes[3, 0] = 0, 254, 2
    bias = np.array([2**24 + 1, -(2**24), 7] if K > 516 else [7, -7, 0], np.int32)
    layer = IntegerLayer(weight.reshape(3, *inputs), np.float32(1), bias, grid, None, "float_scale")
    return layer, codes.reshape(4, *inputs)


@pytest.mark.parametrize("inputs, exact", [((258, 2, 2), True), ((259, 2, 2), False), ((5000, 2, 2), False)])
def test_sums_beyond_what_float32_holds(inputs, exact):
    """128 * 127 * 1032 is within 2^24, 128 * 127 * 1036 is not."""
    layer, codes = largest_sums(*inputs)
    assert layer.floats_are_exact == exact
    rows, codes_of = layer.weight.reshape(3, -1), codes.reshape(4, -1).astype(object)
    expected = (codes_of - 3) @ rows.T.astype(object) + layer.bias
    assert np.array_equal(layer.accumulate(codes).reshape(4, 3), expected.astype(np.int64))
    flat = IntegerLayer(rows, layer.weight_scale, layer.bias, layer.input, None, "float_scale")
    assert np.array_equal(flat.accumulate(codes.reshape(4, -1)), expected.astype(np.int64))


def test_where_float32_is_not_exact_it_is_not_used(monkeypatch):
    network, images = network_of("pooled")
    expected = integer_network(network, images).predict(images)
    monkeypatch.setattr("nnzip.compression.integer.float32_is_exact", lambda: False)
    integer = integer_network(network, images)
    integer.layers[0].floats = None
    assert np.array_equal(integer.predict(images), expected)


@both
@pytest.mark.parametrize("name", ["pooled", "padding_and_stride"])
def test_convolutions_as_products_of_windows_give_the_same(name, arithmetic, monkeypatch):
    network, images = network_of(name)
    integer = integer_network(network, images, arithmetic=arithmetic)
    expected = integer.trace(integer.quantize_input(images))
    asked = []
    chosen = SimpleNamespace(chosen=lambda *shape, **_: not asked.append(shape))
    monkeypatch.setattr("nnzip.compression.integer.matmul_native", chosen)
    found = integer.trace(integer.quantize_input(images))
    assert asked and all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True))


# ---------------------------------------------------------------- no float inside


@both
@pytest.mark.parametrize("name", ["pooled", "padding_and_stride", "linear"])
def test_the_dtypes_from_the_input_to_the_logits(name, arithmetic):
    network, images = network_of(name)
    integer = integer_network(network, images, arithmetic=arithmetic)
    codes = integer.quantize_input(images)
    *hidden, logits = integer.trace(codes)
    assert {array.dtype for array in [codes, *hidden]} == {np.dtype(np.uint8)} and logits.dtype == np.int32
    for layer in integer.layers:
        if isinstance(layer, IntegerLayer):
            assert layer.weight.dtype == np.int8 and layer.bias.dtype == np.int32 == layer.offset.dtype
            if layer.output is not None:
                assert np.asarray(layer.m0).dtype.kind == np.asarray(layer.shift).dtype.kind == "i"


@pytest.mark.parametrize("name", ["pooled", "padding_and_stride", "linear"])
def test_fixed_point_needs_no_scale(name):
    """Without its scales the network gives the same: nothing but integers goes from sums to codes."""
    network, images = network_of(name)
    integer = integer_network(network, images, arithmetic="fixed_point")
    codes = integer.quantize_input(images)
    expected = integer.trace(codes)
    for layer in integer.layers:
        if isinstance(layer, IntegerLayer):
            layer.multiplier = layer.weight_scale = None
            layer.input, layer.output = without_scale(layer.input), without_scale(layer.output)
    assert all(map(np.array_equal, integer.trace(codes), expected))
    assert np.array_equal(integer.forward(codes), expected[-1])


def without_scale(grid):
    kept = ("zero_point", "bits", "qmax", "dtype")
    return None if grid is None else SimpleNamespace(**{name: getattr(grid, name) for name in kept})


# ---------------------------------------------------------------- its parts


def test_the_last_layer_has_one_scale():
    network, images = network_of("linear")
    for per_channel, shapes in ((True, [(4,), ()]), (False, [(), ()])):
        integer = integer_network(network, images, per_channel=per_channel)
        assert [layer.weight_scale.shape for layer in integer.layers[1:]] == shapes


def test_predict_and_evaluate_agree_with_trace():
    network, images = network_of("pooled")[0], images_like(300, 2, 7, 6)  # more than go through at a time
    integer = integer_network(network, images)
    classes = integer.trace(integer.quantize_input(images))[-1].argmax(axis=1)
    assert np.array_equal(integer.predict(images), classes)
    assert evaluate(integer, images, classes) == 0


# ---------------------------------------------------------------- against floats


@pytest.mark.parametrize("name", ["lenet_5", "lenet_300_100"])
def test_accuracy_is_within_a_tenth_of_a_point(name, digits, test_set):
    network, images, labels = trained(name, seed=0), *(array[:2500] for array in test_set)
    error = evaluate(network, images, labels)
    for arithmetic in ARITHMETIC:
        integer = integer_network(network, digits.train_images, arithmetic=arithmetic)
        assert abs(evaluate(integer, images, labels) - error) <= 0.001


@both
@pytest.mark.parametrize("name", ["lenet_5", "lenet_300_100"])
def test_trained_layers_differ_by_a_step_at_most(name, arithmetic, digits):
    network = trained(name)
    integer = integer_network(network, digits.train_images, arithmetic=arithmetic)
    found = compare_layers(network, integer, digits.test_images[:200])
    weighted = [layer for layer in network.layers if layer.params]
    assert [record.layer for record in found] == [str(layer) for layer in weighted[:-1]]
    assert found[-1].outputs == 200 * weighted[-2].out_features
    layers = [layer for layer in integer.layers if isinstance(layer, IntegerLayer)]
    for record, layer in zip(found, layers[:-1], strict=True):
        # the bias is off by M / 2 at most, the first rounding of fixed point by M: only ties that near can go wrong
        assert record.largest <= 1 and record.different < 3 * layer.multiplier.max() * record.outputs


def test_compare_layers_counts_what_differs():
    """With one bias moved by ten output steps, every output of that neuron differs by ten, and no other."""
    network = Network([Flatten(), Linear(4, 3, rng=0), Linear(3, 2, rng=0)])
    images = np.abs(images_like(150, 1, 2, 2))
    integer = integer_network(network, images)
    layer = integer.layers[1]
    clean = compare_layers(network, integer, images)[0]
    layer.offset[1] += np.int32(np.rint(10 / layer.multiplier[1]))
    found = compare_layers(network, integer, images)[0]
    assert (clean.outputs, found.outputs) == (450, 450) and clean.largest <= 1
    assert 120 < found.different <= 150 + clean.different and 10 <= found.largest <= 11


# ---------------------------------------------------------------- dead and tiny channels


def broken_network(kind, how, value):
    layers = [Flatten(), Linear(16, 5, rng=0), ReLU(), Linear(5, 3, rng=1)]
    if kind == "convolution":
        layers = [Conv2d(1, 5, 3, rng=0), ReLU(), Flatten(), Linear(20, 3, rng=1)]
    network = with_biases(Network(layers))
    (weight, bias), *_, (last, logits) = (layer.params.values() for layer in layers if layer.params)
    if how == "dead":
        weight[2], bias[2] = 0, value
    elif how == "tiny":
        weight[2], bias[2] = np.sign(weight[2]) * np.float32(1e-30), value
    elif how == "all_zero":
        weight[...], bias[...] = 0, value
    elif how == "last":
        last[...], logits[...] = 0, [value, -value, value / 3]
    return network


@both
@pytest.mark.parametrize("per_channel", [True, False], ids=["per_channel", "per_tensor"])
@pytest.mark.parametrize("value", [1e-6, 100.0, -100.0])
@pytest.mark.parametrize("how", ["dead", "tiny", "all_zero", "last"])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_dead_and_tiny_channels_are_right_to_half_a_step(kind, how, value, per_channel, arithmetic):
    network = broken_network(kind, how, value)
    images = np.abs(images_like(20, 1, 4, 4))
    integer = integer_network(network, images, per_channel=per_channel, arithmetic=arithmetic)
    codes = integer.quantize_input(images)
    for layer, outputs, floats in hidden_and_logits(network, integer, codes):
        if layer.output is None:
            step = float(layer.input.scale) * float(layer.weight_scale)
            tolerance = 0.5 * step + 1e-6 * np.abs(floats).max()
            assert np.abs(outputs * step - floats).max() <= tolerance
        else:
            got, high = dequantize(outputs, layer.output), dequantize([layer.output.qmax], layer.output)
            error = np.abs(got - np.clip(floats, 0, high))
            bias_step = 0.5 * float(layer.input.scale) * float(np.max(layer.weight_scale))
            assert error.max() <= 0.5001 * float(layer.output.scale) + min(bias_step, 0.5 * float(layer.output.scale))
            dead = error[:, 2] if how in ("dead", "tiny") and per_channel else error[:0]
            assert dead.size == 0 or dead.max() <= 0.5001 * float(layer.output.scale)
    assert all(record.largest <= 1 for record in compare_layers(network, integer, images))


def hidden_and_logits(network, integer, codes):
    """Yield each integer layer, its outputs, and the float outputs of its codes with its weights and float bias."""
    floats = [layer for layer in network.copy().layers if layer.params]
    for layer in integer.layers:
        outputs = layer.forward(codes)
        if isinstance(layer, IntegerLayer):
            own = floats.pop(0)
            scale = np.float64(layer.weight_scale).reshape(-1, *[1] * (layer.weight.ndim - 1))
            own.params["weight"] = layer.weight * scale
            steps = codes.astype(np.float64) - int(layer.input.zero_point)
            yield layer, outputs, own.forward(steps * float(layer.input.scale))
        codes = outputs


# ---------------------------------------------------------------- refusals


def test_networks_without_an_integer_form():
    network, images = network_of("linear")
    with pytest.raises(TypeError, match=r"layer 1, Rounded\(.*has no integer form: allowed are Linear"):
        integer_network(quantize_activations(network, images, bits=8), images)
    with pytest.raises(ValueError, match="ends with the layer that gives the logits"):
        integer_network(Network([Flatten(), Linear(15, 3), ReLU()]), images)
    with pytest.raises(TypeError, match="network must be a Network, got list"):
        integer_network(network.layers, images)


def test_a_layer_too_wide_for_int32():
    network = Network([Flatten(), Linear(70_000, 2)])
    network.layers[1].params["weight"][...] = 1
    with pytest.raises(OverflowError, match="sums of 70000 products and a bias may pass int32: the layer is too wide"):
        integer_network(network, np.ones((1, 1, 280, 250), np.float32))


def test_codes_that_do_not_fit():
    network, images = network_of("pooled")
    integer = integer_network(network, images, activation_bits=4)
    codes = integer.quantize_input(images)
    for wrong, error, message in [
        (images, TypeError, "codes must be integers, got dtype float32"),
        (codes.astype(np.int8), TypeError, "codes must be uint8, as quantize_input gives them, got int8"),
        (codes + np.uint8(16 - codes.max()), ValueError, "codes must be from 0 to 15, got .* to 16"),
        (codes[:0], ValueError, "codes must not be empty"),
        (codes[:, :1], ValueError, r"codes must have shape \(N, 2, H, W\), H and W >= 1, got \(3, 1, 7, 6\)"),
        (codes[0], ValueError, r"codes must have shape \(N, 2, H, W\), .* got \(2, 7, 6\)"),
        (codes[:, :, :1, :1], ValueError, r"codes must have shape .* H and W >= 3, got \(3, 3, 1, 1\)"),
        (codes[:, :, :4], ValueError, r"codes must have shape .* H and W >= 2, got \(3, 2, 1, 2\)"),
    ]:
        for method in (integer.forward, integer.trace):
            with pytest.raises(error, match=message):
                method(wrong)


def test_codes_of_another_type_for_one_layer():
    """Whose bytes as int8 would be other codes."""
    layers = integer_network(*network_of("pooled")).layers
    for layer in (layers[0], layers[-1]):
        codes = np.ones((2, *layer.weight.shape[1:]), np.int64)
        with pytest.raises(TypeError, match="codes must be uint8, as quantize_input gives them, got int64"):
            layer.forward(codes)
        with pytest.raises(ValueError, match="codes must have shape"):
            layer.forward(codes[:, :-1].astype(np.uint8))


def test_images_that_do_not_fit():
    network, images = network_of("pooled")
    integer = integer_network(network, images)
    for method in (integer.quantize_input, integer.predict):
        with pytest.raises(TypeError, match="images must be floats on the scale of the calibration images, got uint8"):
            method(np.zeros(images.shape, np.uint8))


def test_compare_layers_refuses_strangers_and_changes_neither_network_nor_codes():
    network, images = network_of("pooled")
    integer = integer_network(network, images)
    before, codes = copy.deepcopy(network.parameters()), integer.quantize_input(images)
    codes.setflags(write=False)
    integer.forward(codes)
    compare_layers(network, integer, images)
    np.testing.assert_equal(network.parameters(), before)
    with pytest.raises(ValueError, match="integer was not made of this network"):
        compare_layers(network_of("linear")[0], integer, images)
    with pytest.raises(ValueError, match="must not be empty"):
        compare_layers(network, integer, images[:0])
