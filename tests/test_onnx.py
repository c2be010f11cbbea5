"""What to_onnx refuses, and the graph it makes: all that can be seen without the package onnx."""

import os
import sys

import numpy as np
import pytest

from nnzip.compression.integer import integer_network
from nnzip.compression.quantization import quantize_activations
from nnzip.files.onnx import graph_of, outputs_of, to_onnx
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network

SHAPE = (2, 6, 6)


def small():
    layers = [Conv2d(2, 3, 3, stride=2, padding=1, rng=0), MaxPool2d(2), Flatten(), Linear(3, 4, rng=1), ReLU()]
    return Network([*layers, Linear(4, 5, rng=2)])  # [N, 2, 6, 6] -> [N, 3, 3, 3] -> [N, 3, 1, 1] -> [N, 5]


def images(count=8):
    return np.random.default_rng(0).uniform(-1, 1, (count, *SHAPE)).astype(np.float32)


def operators(graph):
    return [operator for operator, *_ in graph.nodes]


def test_without_the_package_onnx_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for network in (small(), integer_network(small(), images())):
        with pytest.raises(ImportError, match=r"pip install onnx$"):
            to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("network", [None, "lenet_5", [Linear(2, 2)], Linear(2, 2)])
def test_only_networks(tmp_path, network):
    with pytest.raises(TypeError, match=f"must be a Network or an IntegerNetwork, got {type(network).__name__}"):
        to_onnx(network, tmp_path / "net.onnx")


def test_fixed_point_arithmetic_is_refused(tmp_path):
    network = integer_network(small(), images(), arithmetic="fixed_point")
    with pytest.raises(ValueError, match=r'arithmetic="fixed_point".*with arithmetic="float_scale"'):
        to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE)
    assert not os.listdir(tmp_path)


def test_layers_without_an_onnx_form_are_refused(tmp_path):
    network = quantize_activations(small(), images(), bits=8)
    with pytest.raises(ValueError, match=r"Rounded\(Conv2d.* has no ONNX form"):
        to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE)
    integers = integer_network(small(), images())
    integers.layers[1] = ReLU()
    with pytest.raises(ValueError, match=r"ReLU\(\) has no ONNX form"):
        to_onnx(integers, tmp_path / "net.onnx", image_shape=SHAPE)


def test_a_convolution_gives_no_integer_logits(tmp_path):
    x = images()
    network = integer_network(Network([Conv2d(2, 3, 3)]), x)
    with pytest.raises(ValueError, match="got those of a Conv2d"):
        to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = small()
    network.parameters()["5.bias"][1] = np.nan
    with pytest.raises(ValueError, match=r"5\.bias must be finite"):
        to_onnx(network, tmp_path / "net.onnx", image_shape=SHAPE)


def test_images_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"takes x of shape"):
        to_onnx(small(), tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"each of image_shape must be at least 1, got 0"):
        to_onnx(small(), tmp_path / "net.onnx", image_shape=(2, 6, 0))
    with pytest.raises(TypeError, match=r"each of image_shape must be an integer, got 'N'"):
        to_onnx(small(), tmp_path / "net.onnx", image_shape=("N", 2, 6, 6))


def test_the_graph_of_a_network():
    graph = graph_of(small())
    assert operators(graph) == ["Conv", "MaxPool", "Flatten", "Gemm", "Relu", "Gemm"]
    assert graph.nodes[0] == (
        "Conv",
        ["images", "layer_0.weight", "layer_0.bias"],
        "layer_0",
        {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    )
    assert graph.nodes[-1][1:3] == (["layer_4", "logits.weight", "logits.bias"], "logits")


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_graph_of_an_integer_network(per_channel):
    graph = graph_of(integer_network(small(), images(), per_channel=per_channel))
    assert operators(graph) == ["QuantizeLinear", "QLinearConv", "MaxPool", "Flatten", "QGemm", "MatMulInteger", "Add"]
    types = {name: (array.dtype.name, array.shape) for name, array in graph.constants.items()}
    assert types["layer_0.weight"] == ("int8", (3, 2, 3, 3)) and types["layer_0.bias"] == ("int32", (3,))
    assert types["layer_0.weight_scale"] == ("float32", (3,) if per_channel else ())
    assert types["layer_0.weight_zero_point"] == ("int8", (3,) if per_channel else ())
    assert types["layer_0.input_zero_point"] == ("uint8", ())
    assert types["logits.sums.weight"] == ("int8", (4, 5)) and types["logits.bias"] == ("int32", (5,))
    assert graph.constants["layer_0.input_zero_point"] > 0  # the images go below 0


def test_fewer_than_8_bits_are_clipped():
    graph = graph_of(integer_network(small(), images(), activation_bits=5))
    clips = [graph.constants[names[2]] for operator, names, *_ in graph.nodes if operator == "Clip"]
    assert [(clip.dtype.name, int(clip)) for clip in clips] == [("uint8", 31)] * 3  # the images, Conv2d, Linear


def test_the_network_is_left_as_it_was():
    network, other, x = small(), small(), images()
    for each in (network, other):
        each.forward(x)
    graph_of(network)
    outputs_of(network, SHAPE)
    for each in (network, other):
        each.backward(np.ones((len(x), 5), np.float32))  # it still remembers its own last batch
    gradients, expected = network.gradients(), other.gradients()
    assert all(np.array_equal(gradients[name], expected[name]) for name in expected)
