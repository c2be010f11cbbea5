"""ONNX files: a Network in float32, or an IntegerNetwork whose codes ONNX Runtime gives bit for bit (chapter 08).

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

Codes of fewer than 8 bits are uint8 to ONNX and end at 255: a Clip after each layer ends them at 2^bits - 1. The same
bits come out because both sides do this, in float32 and in this order (nnzip.requantization):

    y = clip(rint(float32(acc) * (s_x * s_w / s_y)) + z_y)

On x86 CPUs with AVX2 or AVX-512 but without VNNI, ONNX Runtime adds the products of neighbours in 16 bits that
saturate at 32767 (255 * 127 * 2 is 64770), and its codes are wrong. The entry "session.x64quantprecision" = "1" of its
session options makes it exact there, by slower uint8 weights (core/optimizer/qdq_transformer/avx2_weight_s8_to_u8.cc).
Weights of 7 bits need no option: 255 * 63 * 2 is 32130.
"""

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import real32, whole
from nnzip.compression.integer import IntegerFlatten, IntegerLayer, IntegerMaxPool2d, IntegerNetwork
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network

OPSETS, DOMAINS = {"": 17, "com.microsoft": 1}, {"QGemm": "com.microsoft"}
IR_VERSION = 8  # that of ONNX 1.12, the first with opset 17: newer runtimes read it


def to_onnx(network, path, *, image_shape=(1, 28, 28), every_layer=False):
    """Write the network as an ONNX file, that appears at `path` whole or not at all.

    network : Network of Linear, Conv2d, ReLU, MaxPool2d and Flatten, or IntegerNetwork with arithmetic="float_scale"
    image_shape : the shape of one image, (C, H, W)
    every_layer : give what leaves each layer as an output too: "layer_0", "layer_1", ..., "logits"; before them,
        for an IntegerNetwork, "codes", the quantized images

    TypeError for anything but such a network; ValueError for a layer or an arithmetic that has no ONNX operator,
    weights that are not finite, and images that do not fit; ImportError where the package onnx is missing.
    """
    image_shape = tuple(whole(1)(n, "each of image_shape") for n in image_shape)
    if not isinstance(network, Network | IntegerNetwork):
        raise TypeError(f"network must be a Network or an IntegerNetwork, got {type(network).__name__}")
    graph, outputs = graph_of(network), outputs_of(network, image_shape)
    if not every_layer:
        outputs = {"logits": outputs["logits"]}
    model = onnx_model(graph, {"images": np.zeros((1, *image_shape), np.float32)}, outputs)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def layer_names(network):  # -> ["layer_0", "layer_1", ..., "logits"]
    """Return the names of what leaves each layer."""
    return [f"layer_{i}" for i in range(len(network.layers) - 1)] + ["logits"]


def outputs_of(network, image_shape):  # -> {name: array [1, ...]}
    """Return what leaves each layer for an image of zeros; of an IntegerNetwork for codes of zeros, and these too."""
    x, names = np.zeros((1, *image_shape), np.float32), layer_names(network)
    if isinstance(network, IntegerNetwork):
        codes = x.astype(network.input_qparams.dtype)
        return {"codes": codes, **dict(zip(names, network.trace(codes), strict=True))}
    layers = network.copy().layers  # layers remember what they were given: a copy may
    return {name: (x := layer.forward(x)) for name, layer in zip(names, layers, strict=True)}


# The graph


class Graph:
    """An ONNX graph in plain Python and NumPy: operators in order, and the constants they read by name."""

    def __init__(self):
        self.nodes = []  # [(operator, names of inputs, name of output, attributes)]
        self.constants = {}  # {name: array}

    def add(self, operator, x, output, *constants, **attributes):
        """Append a node that reads the tensor called x, and then its constants, each given as (name, array)."""
        named = {f"{output}.{name}": np.asarray(array, order="C") for name, array in constants}
        self.constants |= named
        self.nodes.append((operator, [x, *named], output, attributes))

    def add_codes(self, operator, x, output, grid, *constants, **attributes):
        """Append a node that gives codes; it clips at the ends of uint8, and Clip at 2^bits - 1 if that is less."""
        unclipped = output if grid.bits == 8 else f"{output}.unclipped"
        self.add(operator, x, unclipped, *constants, **attributes)
        if grid.bits < 8:
            self.add("Clip", unclipped, output, ("smallest", np.uint8(0)), ("largest", np.uint8(grid.qmax)))


def graph_of(network):
    """Return the Graph of a Network or an IntegerNetwork: one or two operators for each layer."""
    graph, x, integer = Graph(), "images", isinstance(network, IntegerNetwork)
    if integer:
        grid, x = network.input_qparams, "codes"
        graph.add_codes("QuantizeLinear", "images", x, grid, *_grid("codes", grid))
    for i, (layer, y) in enumerate(zip(network.layers, layer_names(network), strict=True)):
        match integer, layer:
            case False, Linear():  # [N, in], [out, in], [out] -> [N, out]
                graph.add("Gemm", x, y, *_parameters(i, layer), transB=1)
            case False, Conv2d():
                graph.add("Conv", x, y, *_parameters(i, layer), **_sliding(layer))
            case False, ReLU():
                graph.add("Relu", x, y)
            case True, IntegerLayer(output=None):
                _add_sums(graph, layer, x, y)
            case True, IntegerLayer():
                _add_integers(graph, layer, x, y)
            case _, MaxPool2d() | IntegerMaxPool2d():
                graph.add("MaxPool", x, y, kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)
            case _, Flatten() | IntegerFlatten():
                graph.add("Flatten", x, y, axis=1)
            case _:
                raise ValueError(f"{layer!r} has no ONNX form here: see the table of nnzip.files.onnx")
        x = y
    return graph


def _parameters(i, layer):
    return [(key, real32(array, f"{i}.{key}").astype(np.float32)) for key, array in layer.params.items()]


def _sliding(layer):  # the attributes of Conv and QLinearConv
    return {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4}


def _grid(name, grid):  # the two constants that ONNX has for QuantParams
    return [(f"{name}_scale", grid.scale), (f"{name}_zero_point", grid.zero_point.astype(grid.dtype))]


def _add_integers(graph, layer, x, y):  # uint8 [N, in] or [N, C, H, W] -> uint8 [N, out] or [N, O, H', W']
    if layer.arithmetic != "float_scale":
        reason = f'ONNX has no operator for arithmetic="{layer.arithmetic}", its scales are floats'
        raise ValueError(f'{reason}: make the integer network with arithmetic="float_scale"')
    weight_zero_point = np.zeros(layer.weight_scale.shape, np.int8)
    weight = [("weight", layer.weight), ("weight_scale", layer.weight_scale), ("weight_zero_point", weight_zero_point)]
    read, written, bias = _grid("input", layer.input), _grid("output", layer.output), ("bias", layer.bias)
    if layer.weight.ndim == 4:
        graph.add_codes("QLinearConv", x, y, layer.output, *read, *weight, *written, bias, **_sliding(layer))
    else:
        graph.add_codes("QGemm", x, y, layer.output, *read, *weight, bias, *written, transB=1)


def _add_sums(graph, layer, x, y):  # uint8 [N, in] -> int32 [N, out]
    if layer.weight.ndim == 4:
        reason = "the logits of an integer ONNX file are a Linear's sums, one for each class"
        raise ValueError(f"{reason}, got those of a Conv2d")
    _, zero_point = _grid("input", layer.input)
    graph.add("MatMulInteger", x, f"{y}.sums", ("weight", layer.weight.T), zero_point)
    graph.add("Add", f"{y}.sums", y, ("bias", layer.bias))


# The file


def onnx_model(graph, inputs, outputs):  # Graph, {name: array [1, ...]}, {name: array [1, ...]} -> onnx.ModelProto
    """Return the checked ONNX model; inputs and outputs have the type and shape of the arrays, with N free."""
    try:
        import onnx
    except ImportError:
        raise ImportError("ONNX files need a package that is not installed: pip install onnx") from None
    helper = onnx.helper

    def described(tensors):
        kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in tensors.items()}
        return [helper.make_tensor_value_info(name, kinds[name], ["N", *a.shape[1:]]) for name, a in tensors.items()]

    nodes = [
        helper.make_node(kind, names, [output], output, domain=DOMAINS.get(kind, ""), **attributes)
        for kind, names, output, attributes in graph.nodes
    ]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    made = helper.make_graph(nodes, "network", described(inputs), described(outputs), constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="nnzip")
    onnx.checker.check_model(model, full_check=True)
    return model
