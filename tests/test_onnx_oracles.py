"""ONNX Runtime computes the codes of an IntegerNetwork bit for bit, and the logits of a Network."""

import numpy as np
import pytest

from nnzip.compression.integer import IntegerFlatten, IntegerLayer, IntegerMaxPool2d, IntegerNetwork, integer_network
from nnzip.files.onnx import layer_names, to_onnx
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.nn.zoo import trained
from nnzip.quantization import QuantParams

pytestmark = pytest.mark.oracle

LENETS = ("lenet_300_100", "lenet_5")
SHAPE = (3, 11, 11)


@pytest.fixture(autouse=True)
def runtime():  # imported in a fixture, so that each test is skipped by name where it is missing
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime")


def open_session(runtime, path, *, precise=True):
    """Open a file; precise: no 16-bit saturation on CPUs without VNNI, see nnzip.files.onnx."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.x64quantprecision", "1" if precise else "0")
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def check_integers(session, network, images, batch_size=1000):
    """Hold every integer of every layer against ours, its type and its shape too."""
    names = ["codes", *layer_names(network)]
    assert [output.name for output in session.get_outputs()] == names
    for start in range(0, len(images), batch_size):
        codes = network.quantize_input(images[start : start + batch_size])
        got = session.run(None, {"images": images[start : start + batch_size]})
        for name, mine, theirs in zip(names, [codes, *network.trace(codes)], got, strict=True):
            np.testing.assert_array_equal(theirs, mine, name, strict=True)


# ---------------------------------------------------------------- the LeNets, on all test images

GRIDS = [{"weight_bits": bits, "per_channel": per_channel} for bits in (8, 4) for per_channel in (True, False)]
GRIDS += [{"activation_bits": 7}, {"activation_bits": 4}, {"activation_bits": 2}, {"weight_bits": 7}]


@pytest.mark.parametrize("grids", GRIDS, ids=str)
@pytest.mark.parametrize("name", LENETS)
def test_every_integer_of_every_layer(tmp_path, runtime, digits, test_set, name, grids):
    network = integer_network(trained(name), digits.train_images, **grids)
    to_onnx(network, tmp_path / "net.onnx", every_layer=True)
    session = open_session(runtime, tmp_path / "net.onnx", precise=grids != {"weight_bits": 7})  # which need no option
    check_integers(session, network, test_set[0][: 10_000 if "per_channel" in grids else 2000])


@pytest.mark.parametrize("name", LENETS)
def test_the_logits_alone_of_any_number_of_images(tmp_path, runtime, digits, name):
    network = integer_network(trained(name), digits.train_images)
    to_onnx(network, tmp_path / "net.onnx")
    session = open_session(runtime, tmp_path / "net.onnx")
    (given,), (taken,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", ["N", 1, 28, 28])
    assert (taken.name, taken.type, taken.shape) == ("logits", "tensor(int32)", ["N", 10])
    for count in (1, 7, 500):
        images = digits.test_images[:count]
        (logits,) = session.run(None, {"images": images})
        assert logits.dtype == np.int32
        assert np.array_equal(logits, network.forward(network.quantize_input(images)))


# ---------------------------------------------------------------- small networks that are harder


TIES = [(0.1, 0.02, 0.1), (0.3, 0.1, 0.6), (0.07, 0.03, 0.21), (0.5, 0.25, 0.25)]  # scales of x, w, y


def tied_network(scales, *, per_channel, seed=0):
    """Conv2d, MaxPool2d, Linear, Linear: zero points not 0, padding, stride 2, and sums on ties or just beside them."""
    rng = np.random.default_rng(seed)
    x, w, y = scales
    largest = round(0.5 * y / (x * w))  # weights that give outputs of all sizes: from 1 to 50, at most 7 bits
    grids = [QuantParams(x, 77, 8, signed=False), QuantParams(y, 120, 8, signed=False)]

    def layer(shape, input, output, **window):
        factors = rng.choice([0.5, 1.0, 2.0], shape[0]) if per_channel and output else np.float64(1)
        weight_scale, weight = (w * factors).astype(np.float32), rng.integers(-largest, largest + 1, shape, np.int8)
        bias = rng.integers(-300, 300, shape[0], np.int32)
        return IntegerLayer(weight, weight_scale, bias, input, output, "float_scale", **window)

    convolution = layer((5, 3, 3, 3), *grids, stride=2, padding=1)  # [N, 3, 11, 11] -> [N, 5, 6, 6]
    hidden = layer((16, 45), *grids)  # it reads the codes as if they were at scale x: codes are codes
    last = layer((10, 16), grids[1], None)
    return IntegerNetwork([convolution, IntegerMaxPool2d(2), IntegerFlatten(), hidden, last], grids[0])


def ties(layer, codes):  # how many products lie within their float32 rounding error of a tie
    sums = layer.accumulate(codes).reshape(len(codes), len(layer.weight), -1)
    steps = sums * np.reshape(layer.multiplier.astype(np.float64), (-1, 1))
    return np.count_nonzero(np.abs(np.abs(steps) % 1 - 0.5) <= np.abs(steps) * 2.0**-23)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("scales", TIES)
def test_ties_zero_points_padding_and_stride(tmp_path, runtime, scales, per_channel):
    network = tied_network(scales, per_channel=per_channel)
    x = np.random.default_rng(1).integers(0, 256, (400, *SHAPE)).astype(np.float32)
    images = (x - 77) * np.float32(scales[0])
    codes = network.quantize_input(images)
    entering = [codes, *network.trace(codes)]
    assert min(ties(network.layers[i], entering[i]) for i in (0, 3)) > 20
    assert all(len(np.unique(entering[i])) > 50 for i in (1, 4))  # not all at the ends
    to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE, every_layer=True)
    for precise in (True, False):  # weights of 7 bits saturate nowhere
        session = open_session(runtime, tmp_path / "net.onnx", precise=precise)
        check_integers(session, network, images, batch_size=150)


def test_images_on_the_ties_of_the_input_grid(tmp_path, runtime):
    network = tied_network((0.1, 0.02, 0.1), per_channel=False)
    halves = np.arange(-400, 400, dtype=np.float32) / 2 * np.float32(0.1)  # also beyond both ends
    images = np.resize(halves, (30, *SHAPE)).astype(np.float32)
    to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE, every_layer=True)
    session = open_session(runtime, tmp_path / "net.onnx")
    check_integers(session, network, images)


def odd_network():
    layers = [Conv2d(3, 4, 4, stride=2, padding=2, rng=0), Conv2d(4, 6, 2, padding=1, rng=1), ReLU(), MaxPool2d(3)]
    layers += [Flatten(), Linear(24, 17, rng=2), Linear(17, 9, rng=3), ReLU(), Linear(9, 4, rng=4)]
    network = Network(layers)  # [N, 3, 11, 11] -> [N, 4, 6, 6] -> [N, 6, 7, 7] -> [N, 6, 2, 2] -> [N, 4]
    for name, array in network.parameters().items():
        if name.endswith("bias"):
            array[...] = np.random.default_rng(5).normal(0, 0.3, array.shape)
    return network


@pytest.mark.parametrize("per_channel", [True, False])
def test_layers_without_relu_and_pools_that_leave_a_rest(tmp_path, runtime, per_channel):
    images = np.random.default_rng(6).normal(0, 1, (300, *SHAPE)).astype(np.float32)
    network = integer_network(odd_network(), images[:100], per_channel=per_channel)
    assert sum(layer.input.zero_point > 0 for layer in network.layers if isinstance(layer, IntegerLayer)) == 3
    to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE, every_layer=True)
    session = open_session(runtime, tmp_path / "net.onnx")
    check_integers(session, network, images)


def test_every_layer_of_a_float_network(tmp_path, runtime):
    network = odd_network()
    images = np.random.default_rng(8).normal(0, 1, (50, *SHAPE)).astype(np.float32)
    to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE, every_layer=True)
    session = open_session(runtime, tmp_path / "net.onnx")
    assert [output.name for output in session.get_outputs()] == layer_names(network)
    x = images
    for layer, theirs in zip(network.layers, session.run(None, {"images": images}), strict=True):
        x = layer.forward(x)
        assert x.shape == theirs.shape
        np.testing.assert_allclose(theirs, x, rtol=0, atol=1e-5)


def test_the_file_is_the_same_every_time_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    to_onnx(odd_network(), path, image_shape=SHAPE)
    first = path.read_bytes()
    to_onnx(odd_network(), path, image_shape=SHAPE)
    assert path.read_bytes() == first and [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
