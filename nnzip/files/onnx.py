"""ONNX files: a Network in float32, or an IntegerNetwork whose codes ONNX Runtime gives bit for bit.

Both take `images`, float32 (N, 1, 28, 28) with N free, and give `logits`: float32, or the int32 sums. The operators,
as https://onnx.ai/onnx/operators defines them (QGemm is ONNX Runtime's own, domain com.microsoft):

    layer            Network    IntegerNetwork
    the images       -          QuantizeLinear: uint8 codes
    Conv2d           Conv       QLinearConv: uint8 codes, int8 weights, int32 biases -> uint8 codes
    Linear           Gemm       QGemm: the same
    the last layer   Gemm       MatMulInteger + Add: int32 sums
    ReLU             Relu       nothing: with the zero point 0, the clip at 0 is the ReLU
    MaxPool2d        MaxPool    MaxPool, on uint8
    Flatten          Flatten    Flatten, on uint8

Codes of fewer than 8 bits are uint8 to ONNX and end at 255: a Clip after each layer ends them at 2^bits - 1.

The same bits come out because both sides do this, in float32 and in this order (nnzip.requantization):

    y = clip(rint(float32(acc) * (s_x * s_w / s_y)) + z_y)

On x86 CPUs with AVX2 or AVX-512 but without VNNI, ONNX Runtime adds the products of neighbours in 16 bits that
saturate at 32767 (255 * 127 * 2 is 64770), and its codes are wrong. A session option makes it exact there: int8 weights
become uint8 ones, zero point 128, for a slower kernel (on CPUs with VNNI too, which do not need it).

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession("network.onnx", options)

Weights of 7 bits need no option: 255 * 63 * 2 is 32130. (onnxruntime_session_options_config_keys.h;
core/optimizer/qdq_transformer/avx2_weight_s8_to_u8.cc)
"""

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import whole
from nnzip.compression.integer import IntegerFlatten, IntegerLayer, IntegerMaxPool2d, IntegerNetwork
from nnzip.files.state_dict import to_float32
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network

OPSETS = {"": 17, "com.microsoft": 1}
IR_VERSION = 8  # that of ONNX 1.12, the first with opset 17: newer runtimes read it


def to_onnx(network, path, *, image_shape=(1, 28, 28), every_layer=False):
    """Write the network as an ONNX file, that appears at `path` whole or not at all.

    Parameters
    ----------
    network : Network of Linear, Conv2d, ReLU, MaxPool2d and Flatten, or IntegerNetwork with arithmetic="float_scale"
    image_shape : the shape of one image, (C, H, W)
    every_layer : give what leaves each layer as an output too: "layer_0", "layer_1", ..., "logits"; before them,
        for an IntegerNetwork, "codes", the quantized images

    Raises
    ------
    TypeError
        For anything but such a network.
    ValueError
        For a layer or an arithmetic that has no ONNX operator; weights that are not finite; images that do not fit.
    ImportError
        The package onnx is missing.
    """
    image_shape = _check_image_shape(image_shape)
    if isinstance(network, IntegerNetwork):
        graph, outputs = integer_graph(network), integer_outputs(network, image_shape)
    elif isinstance(network, Network):
        graph, outputs = float_graph(network), float_outputs(network, image_shape)
    else:
        raise TypeError(f"network must be a Network or an IntegerNetwork, got {type(network).__name__}")
    if not every_layer:
        outputs = {"logits": outputs["logits"]}
    model = onnx_model(graph, {"images": np.zeros((1, *image_shape), np.float32)}, outputs)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def layer_names(network):  # -> ["layer_0", "layer_1", ..., "logits"]
    """Return the names of what leaves each layer."""
    return [f"layer_{i}" for i in range(len(network.layers) - 1)] + ["logits"]


class Graph:
    """An ONNX graph in plain Python and NumPy: operators in order, and the constants they read by name."""

    def __init__(self):
        self.nodes = []  # [(operator, names of inputs, name of output, attributes)]
        self.constants = {}  # {name: array}

    def add(self, operator, inputs, output, **attributes):
        """Append a node; an input is the name of a tensor, or (name, array) for a constant of this node."""
        names = []
        for given in inputs:
            name = given
            if not isinstance(given, str):
                name = f"{output}.{given[0]}"
                self.constants[name] = np.asarray(given[1], order="C")
            names.append(name)
        self.nodes.append((operator, names, output, attributes))


# A Network


def float_graph(network):
    """Return the Graph of a Network: an operator for each layer, in float32."""
    graph, x = Graph(), "images"
    for i, (layer, y) in enumerate(zip(network.layers, layer_names(network), strict=True)):
        parameters = [(key, to_float32(array, f"{i}.{key}")) for key, array in layer.params.items()]
        match layer:
            case Linear():  # [N, in], [out, in], [out] -> [N, out]
                graph.add("Gemm", [x, *parameters], y, transB=1)
            case Conv2d():
                graph.add("Conv", [x, *parameters], y, **_sliding(layer))
            case ReLU():
                graph.add("Relu", [x], y)
            case MaxPool2d():
                _add_max_pool(graph, layer, x, y)
            case Flatten():
                graph.add("Flatten", [x], y, axis=1)
            case _:
                raise ValueError(f"{layer} has no ONNX form; Linear, Conv2d, ReLU, MaxPool2d and Flatten have")
        x = y
    return graph


def float_outputs(network, image_shape):  # -> {name: array [1, ...]}
    """Return what leaves each layer of a Network for an image of zeros."""
    x, outputs = np.zeros((1, *image_shape), np.float32), {}
    for layer, name in zip(network.copy().layers, layer_names(network), strict=True):  # layers remember: a copy may
        outputs[name] = x = layer.forward(x)
    return outputs


def _add_max_pool(graph, layer, x, y):
    graph.add("MaxPool", [x], y, kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)


def _sliding(layer):  # the attributes of Conv and QLinearConv
    return {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4}


# An IntegerNetwork


def integer_graph(network):
    """Return the Graph of an IntegerNetwork: from the images to the int32 logits, on codes in between."""
    graph, x = Graph(), "codes"
    _add_clipped(graph, "QuantizeLinear", ["images", *_grid("codes", network.input_qparams)], x, network.input_qparams)
    for layer, y in zip(network.layers, layer_names(network), strict=True):
        match layer:
            case IntegerLayer(output=None):
                _add_sums(graph, layer, x, y)
            case IntegerLayer(arithmetic="float_scale"):
                _add_codes(graph, layer, x, y)
            case IntegerLayer():
                raise ValueError(
                    f'ONNX has no operator for arithmetic="{layer.arithmetic}", its scales are floats: '
                    'make the integer network with arithmetic="float_scale"'
                )
            case IntegerMaxPool2d():
                _add_max_pool(graph, layer, x, y)
            case IntegerFlatten():
                graph.add("Flatten", [x], y, axis=1)
            case _:
                raise ValueError(f"{layer!r} has no ONNX form; the layers that integer_network makes have")
        x = y
    return graph


def integer_outputs(network, image_shape):  # -> {name: array [1, ...]}
    """Return the codes of an image of zeros, and what leaves each layer of an IntegerNetwork for them."""
    codes = np.zeros((1, *image_shape), network.input_qparams.dtype)
    return {"codes": codes, **dict(zip(layer_names(network), network.trace(codes), strict=True))}


def _add_codes(graph, layer, x, y):  # uint8 [N, in] or [N, C, H, W] -> uint8 [N, out] or [N, O, H', W']
    weight_zero_point = np.zeros(layer.weight_scale.shape, np.int8)
    weight = [("weight", layer.weight), ("weight_scale", layer.weight_scale), ("weight_zero_point", weight_zero_point)]
    read, written, bias = _grid("input", layer.input), _grid("output", layer.output), ("bias", layer.bias)
    if layer.weight.ndim == 4:
        inputs = [x, *read, *weight, *written, bias]
        _add_clipped(graph, "QLinearConv", inputs, y, layer.output, **_sliding(layer))
    else:
        _add_clipped(graph, "QGemm", [x, *read, *weight, bias, *written], y, layer.output, transB=1)


def _add_sums(graph, layer, x, y):  # uint8 [N, in] -> int32 [N, out]
    if layer.weight.ndim == 4:
        raise ValueError(
            "the logits of an integer ONNX file are a Linear's sums, one for each class, got those of a Conv2d"
        )
    weight, (_, zero_point) = ("weight", layer.weight.T), _grid("input", layer.input)
    graph.add("MatMulInteger", [x, weight, zero_point], f"{y}.sums")
    graph.add("Add", [f"{y}.sums", ("bias", layer.bias)], y)


def _add_clipped(graph, operator, inputs, y, grid, **attributes):
    """Append a node that gives codes; it clips at the ends of uint8, and Clip at 2^bits - 1 if that is less."""
    if grid.bits == 8:
        graph.add(operator, inputs, y, **attributes)
    else:
        graph.add(operator, inputs, f"{y}.unclipped", **attributes)
        graph.add("Clip", [f"{y}.unclipped", "", ("largest", grid.dtype.type(grid.qmax))], y)


def _grid(name, grid):  # the two constants that ONNX has for QuantParams
    return [(f"{name}_scale", grid.scale), (f"{name}_zero_point", grid.zero_point.astype(grid.dtype))]


# The file


def onnx_model(graph, inputs, outputs):  # Graph, {name: array [1, ...]}, {name: array [1, ...]} -> onnx.ModelProto
    """Return the checked ONNX model; inputs and outputs have the type and shape of the arrays, with N free."""
    onnx = import_onnx()
    helper, constant = onnx.helper, onnx.numpy_helper.from_array
    domains = {"QGemm": "com.microsoft"}
    nodes = [
        helper.make_node(operator, names, [output], name=output, domain=domains.get(operator, ""), **attributes)
        for operator, names, output, attributes in graph.nodes
    ]
    constants = [constant(array, name) for name, array in graph.constants.items()]
    inputs, outputs = ([_described(helper, *item) for item in tensors.items()] for tensors in (inputs, outputs))
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "network", inputs, outputs, constants),
        opset_imports=opsets,
        ir_version=IR_VERSION,
        producer_name="nnzip",
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _described(helper, name, array):  # of the array's type, and of its shape with N free
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), ["N", *array.shape[1:]])


def import_onnx():
    """Return the package onnx; ImportError says how to install it."""
    try:
        import onnx
    except ImportError:
        raise ImportError("ONNX files need a package that is not installed: pip install onnx") from None
    return onnx


def _check_image_shape(image_shape):
    return tuple(whole(1)(n, "each of image_shape") for n in image_shape)
