"""A whole network in integers: uint8 codes in, int32 logits out, and nothing but integers in between.

    acc = sum_k (x - z_x) w + b        int32, at scale s_x s_w       x uint8, w int8, b int32
    y = clip(round(acc M) + z_y)       uint8, at scale s_y           M = s_x s_w / s_y

(Jacob et al. 2018, arXiv:1712.05877, eq. 4 and 7.) The multiplier M is the only trace that the scales leave. It is
applied as a float32 number, as ONNX Runtime does, or as a 32-bit integer and a shift, as gemmlowp and TFLite do. ReLU
costs nothing: where it follows, the range begins at 0, so z_y = 0 and the clip is the ReLU. The sums of products are
the float layers', on integers that are held as float32: exact within `matmul.exact_depth`.
"""

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np

from nnzip.checks import check_ndim, check_not_empty, door, integers, one_of, whole
from nnzip.compression.quantization import activation_qparams
from nnzip.matmul import exact_depth, float32_is_exact
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import check_network
from nnzip.quantization import FLOAT32_TINY, QuantParams, choose_qparams, dequantize, quantize
from nnzip.requantization import fixed_point_multiplier, requantize, requantize_fixed_point

BIAS_LIMIT = 2**30  # half of int32: the other half is for the sum of products
SMALLEST_MULTIPLIER = 2.0**-30  # what lies below is nothing at the output's step, and a shift could not hold it
IMAGES = 256  # of a batch at a time: what lies between two layers stays in cache


@dataclass(eq=False)
class IntegerLayer:
    """A Linear or Conv2d on codes: its integers, and what turns its int32 sums into the next layer's codes.

    weight : int8 codes of the float layer's shape, scale `weight_scale` of shape () or (out,)
    bias : int32 (out,), at scale s_x s_w
    input, output : QuantParams of the codes that come and go; no output: the int32 sums are the logits
    arithmetic : "float_scale", by `multiplier` = s_x s_w / s_y, float32 of the shape of `weight_scale`; "fixed_point",
        by the same as integers, `m0` and `shift`
    """

    weight: np.ndarray
    weight_scale: np.ndarray
    bias: np.ndarray
    input: QuantParams
    output: QuantParams | None
    arithmetic: str
    stride: int = 1
    padding: int = 0

    def __post_init__(self):
        flat = self.weight.reshape(len(self.weight), -1).astype(np.int64)  # [out, K]
        if np.any(255 * np.abs(flat).sum(axis=1) + np.abs(self.bias.astype(np.int64)) >= 2**31):
            raise OverflowError(f"sums of {flat.shape[1]} products and a bias may pass int32: the layer is too wide")
        if self.output is not None:
            self.multiplier = self.input.scale * self.weight_scale / self.output.scale  # float32, in this order
            self.m0, self.shift = fixed_point_multiplier(self.multiplier)
        self.offset = (self.bias - int(self.input.zero_point) * flat.sum(axis=1)).astype(np.int32)

    def forward(self, codes):  # uint8 [N, in] or [N, C, H, W] -> uint8 [N, out] or [N, O, H', W'], or int32 logits
        return self.requantize(self.accumulate(codes))

    def accumulate(self, codes):  # uint8 [N, in] or [N, C, H, W] -> int32 [N, out] or [N, O, H', W']
        """Return sum_k (x - z_x) w + b = sum_k x w + offset, as the offset is the same for all images."""
        return self.add_offset(self.multiply(codes))

    def multiply(self, codes):  # uint8 -> sum_k x w, whole numbers in the float type of `products`
        check_ndim(codes, "codes", self.weight.ndim)
        if codes.shape[1] != self.weight.shape[1]:
            raise ValueError(f"codes must have {self.weight.shape[1]} channels or features, got shape {codes.shape}")
        if self.padding:  # a float 0 has the code z_x
            border = ((0, 0), (0, 0), (self.padding,) * 2, (self.padding,) * 2)
            codes = np.pad(codes, border, constant_values=int(self.input.zero_point))
        return self.products.forward(codes.astype(self.products.params["weight"].dtype))

    def add_offset(self, sums):  # -> int32
        acc = sums.astype(np.int32)
        acc += self.offset.reshape(-1, *[1] * (acc.ndim - 2))
        return acc

    def requantize(self, acc):  # int32 [N, out, ...] -> uint8
        """Return clip(round(acc M) + z_y), or, without an output grid, acc itself."""
        if self.output is None:
            return acc
        rows = np.moveaxis(acc, 1, -1)  # channels last, as the multipliers are
        zero_point, dtype = int(self.output.zero_point), self.output.dtype
        if self.arithmetic == "float_scale":
            codes = requantize(rows, self.multiplier, zero_point, out_dtype=dtype)
        else:
            codes = requantize_fixed_point(rows, self.m0, self.shift, zero_point, out_dtype=dtype)
        if self.output.bits < 8:
            codes = np.minimum(codes, dtype.type(self.output.qmax))
        return np.moveaxis(codes, -1, 1)

    @cached_property
    def products(self):
        """The float layer that holds the weight's codes: in float32 where that is exact, else in float64."""
        out, inputs, *window = self.weight.shape
        matrix = self.weight.reshape(out, -1).T  # [K, out]
        exact = exact_depth(np.uint8, matrix) == len(matrix) and float32_is_exact()
        layer = Conv2d(inputs, out, window[0], stride=self.stride) if window else Linear(inputs, out)
        weight = self.weight.astype(np.float32 if exact else np.float64)
        layer.params = {"weight": weight if window else np.asfortranarray(weight), "bias": np.zeros(out, weight.dtype)}
        return layer

    def __getstate__(self):  # copies and pickles make their float layer anew
        return {name: value for name, value in self.__dict__.items() if name != "products"}

    def float_parameters(self):
        """Return what the codes stand for: the weight of the float layer's shape, and its bias, as float32."""
        scale = self.weight_scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        bias = (self.bias * (self.input.scale * self.weight_scale)).astype(np.float32)
        return {"weight": self.weight * scale, "bias": bias}


@dataclass(eq=False)
class IntegerMaxPool2d:
    """The largest code of each window: rounding keeps order, so it is the code of the largest value."""

    size: int

    def forward(self, codes):  # [N, C, H, W] -> [N, C, H // size, W // size]
        k, (H, W) = self.size, codes.shape[2:]
        if min(H, W) < k:
            raise ValueError(f"codes must have at least {k} rows and columns, got {H} x {W}")
        parts = (codes[:, :, i : H // k * k : k, j : W // k * k : k] for i, j in np.ndindex(k, k))
        return reduce(np.maximum, parts)


class IntegerFlatten:
    """The codes of each image in one row, channel by channel."""

    def forward(self, codes):  # [N, C, H, W] -> [N, C H W]
        return codes.reshape(len(codes), -1)


class IntegerNetwork:
    """Integer layers one after the other, as `integer_network` makes them.

    >>> from nnzip.nn.network import lenet_5
    >>> images = np.random.default_rng(0).random((4, 1, 28, 28), np.float32)
    >>> integer = integer_network(lenet_5(), images)
    >>> codes = integer.quantize_input(images)
    >>> logits = integer.forward(codes)
    >>> codes.dtype, logits.dtype, logits.shape
    (dtype('uint8'), dtype('int32'), (4, 10))
    """

    def __init__(self, layers, input_qparams):
        self.layers, self.input_qparams = layers, input_qparams

    def quantize_input(self, images):  # float [N, ...] in [0, 1] -> uint8 codes: at 8 bits, the raw pixels
        images = np.asarray(images)
        if images.dtype.kind != "f":
            raise TypeError(f"images must be floats on the scale of the calibration images, got {images.dtype}")
        return quantize(images, self.input_qparams)

    def trace(self, codes):  # uint8 [N, ...] -> the integers that leave each layer, in order
        outputs = [self._check(codes)]
        for layer in self.layers:
            outputs.append(layer.forward(outputs[-1]))
        return outputs[1:]

    def forward(self, codes):  # uint8 [N, ...] -> int32 logits [N, classes]
        """Return the logits: the last integers of `trace`, faster, as sums are pooled before they are rounded.

        Rounding keeps order: the largest sum becomes the largest code.
        """
        steps = []
        for layer in self.layers:
            if isinstance(layer, IntegerLayer):
                steps += [layer.multiply, layer.add_offset, layer.requantize]
            elif isinstance(layer, IntegerMaxPool2d):
                steps.insert(-2, layer.forward)  # right after the products
            else:
                steps.append(layer.forward)
        batches = _batches(self._check(codes))
        return np.concatenate([reduce(lambda x, step: step(x), steps, batch) for batch in batches])

    def _check(self, codes):
        codes = integers(codes, "codes", 0, self.input_qparams.qmax)
        if codes.dtype != np.uint8:
            raise TypeError(f"codes must be uint8, as quantize_input gives them, got {codes.dtype}")
        return codes

    def parameters(self):  # -> {"0.weight": float32, "0.bias": float32, ...}
        """Return the floats that the weights and biases stand for, under the index of their integer layer."""
        layers = ((i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, IntegerLayer))
        return {f"{i}.{name}": array for i, layer in layers for name, array in layer.float_parameters().items()}

    def predict(self, images):  # float [N, C, H, W], as `quantize_input` takes them -> class of each image, int64 [N]
        return np.concatenate([self.forward(self.quantize_input(batch)).argmax(axis=1) for batch in _batches(images)])


def _batches(images):
    check_not_empty(np.asarray(images), "images")
    return (images[i : i + IMAGES] for i in range(0, len(images), IMAGES))


# From a float network to integers


@door
def integer_network(
    network,
    calibration_images,
    *,
    weight_bits: whole(2, 8) = 8,
    activation_bits: whole(2, 8) = 8,
    per_channel=True,
    arithmetic: one_of("float_scale", "fixed_point") = "float_scale",
):
    """Return the IntegerNetwork: calibrated, scales and biases folded, ReLU fused into the clip.

    network : Network of Linear, Conv2d, ReLU, MaxPool2d and Flatten, whose last layer has weights and gives the logits
    calibration_images : float array (N, C, H, W), training images for the ranges of the activations
    per_channel : a scale for each output neuron or filter; the last layer has one scale, so that its sums compare
    arithmetic : "float_scale" (ONNX Runtime) or "fixed_point" (gemmlowp, TFLite)

    OverflowError for a layer so wide that its sums may pass int32, which takes more than 33,000 inputs.
    """
    check_network(network)
    for i, layer in enumerate(network.layers):
        if type(layer) not in (Linear, Conv2d, ReLU, MaxPool2d, Flatten):
            allowed = "allowed are Linear, Conv2d, ReLU, MaxPool2d, Flatten"
            raise TypeError(f"layer {i}, {layer}, has no integer form: {allowed}")
    if type(network.layers[-1]) not in (Linear, Conv2d):
        raise ValueError(f"an integer network ends with the layer that gives the logits, got {network}")
    grids = activation_qparams(network, calibration_images, bits=activation_bits)  # {index of a layer: what enters it}
    following = dict(zip(grids, [*list(grids.values())[1:], None], strict=True))
    layers = []
    for i, layer in enumerate(network.layers):
        if i in grids:
            axis = 0 if per_channel and following[i] is not None else None
            layers.append(_integer_layer(layer, grids[i], following[i], weight_bits, axis, arithmetic))
        elif isinstance(layer, MaxPool2d):
            layers.append(IntegerMaxPool2d(layer.size))
        elif isinstance(layer, Flatten):
            layers.append(IntegerFlatten())
    return IntegerNetwork(layers, next(iter(grids.values())))


def _integer_layer(layer, input, output, bits, axis, arithmetic):
    weight, bias = layer.params["weight"], layer.params["bias"].astype(np.float64)
    chosen = choose_qparams(weight, bits=bits, axis=axis)
    scale = fitting_scale(weight, bias, chosen.scale, input.scale, None if output is None else output.scale)
    grid = QuantParams(scale, np.zeros(scale.shape, np.int32), bits, signed=True, narrow=True, axis=axis)
    codes = quantize(weight, grid)
    steps = np.rint(bias / (float(input.scale) * grid.scale.astype(np.float64))).astype(np.int32)
    window = (layer.stride, layer.padding) if isinstance(layer, Conv2d) else ()
    return IntegerLayer(codes, grid.scale, steps, input, output, arithmetic, *window)


def fitting_scale(weight, bias, scale, input_scale, output_scale):
    """Return weight scales under which the int32 bias fits and the multiplier is no smaller than can be held.

    A pruned neuron has no weights, so its scale is free: it is taken just wide enough for its bias, which an
    arbitrary scale (1, say) would round away. A tiny one has too fine a scale: b / (s_x s_w) would overflow.
    """
    s_x, s_y = float(input_scale), 0.0 if output_scale is None else float(output_scale)
    for_bias = np.abs(bias if scale.ndim else np.abs(bias).max()) / (s_x * BIAS_LIMIT)
    least = np.maximum(for_bias, SMALLEST_MULTIPLIER * s_y / s_x)
    dead = ~np.any(weight, axis=tuple(range(1, weight.ndim)) if scale.ndim else None)
    fitting = np.where(dead & (least > 0), least, np.maximum(scale, least))
    return np.maximum(fitting, FLOAT32_TINY).astype(np.float32)


# How far it is from its fake-quantized form


class LayerDifference(NamedTuple):
    layer: str
    outputs: int
    different: int  # how many of the outputs
    largest: int  # by how many steps


def compare_layers(network, integer, images):
    """Compare each hidden layer's output codes with those of the fake-quantized float layer; a LayerDifference each.

    Both are given the codes that the integer layer gets. The float layer dequantizes them, computes in float32 with the
    dequantized int8 weights and the float bias, and its output is quantized again. Near a tie the codes differ by 1
    step. `network` is the one that `integer` was made of. The last layer is left out: its sums are not rounded.
    """
    floats, found, entering = _fake_quantized(network, integer), [], integer.quantize_input(images)
    for layer in integer.layers:
        if isinstance(layer, IntegerLayer) and layer.output is not None:
            own = floats.pop(0)
            steps = np.concatenate([_steps_off(layer, own, batch) for batch in _batches(entering)])
            found.append(LayerDifference(str(own), steps.size, int(np.count_nonzero(steps)), int(steps.max())))
        entering = np.concatenate([layer.forward(batch) for batch in _batches(entering)])
    return found


def _steps_off(layer, own, codes):  # an IntegerLayer, its fake-quantized float layer, what enters them
    steps = quantize(own.forward(dequantize(codes, layer.input)), layer.output)
    return np.abs(layer.forward(codes).astype(np.int32) - steps)


def _fake_quantized(network, integer):  # -> the network's layers with weights, which are those of the integers
    check_network(network)
    if not isinstance(integer, IntegerNetwork):
        raise TypeError(f"integer must be an IntegerNetwork, got {type(integer).__name__}")
    floats = [layer for layer in network.copy().layers if layer.params]
    integers = [layer for layer in integer.layers if isinstance(layer, IntegerLayer)]
    if [layer.params["weight"].shape for layer in floats] != [layer.weight.shape for layer in integers]:
        raise ValueError(f"integer was not made of this network, {network}: the weights' shapes differ")
    for layer, own in zip(floats, integers, strict=True):
        layer.params["weight"][...] = own.float_parameters()["weight"]
    return floats
