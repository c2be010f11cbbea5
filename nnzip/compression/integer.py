"""A whole network in integers: uint8 codes in, int32 logits out (chapter 08).

With x = s_x (q_x - z_x), w = s_w q_w (a symmetric grid) and b = s_x s_w q_b a float layer gives

    sum_k x w + b = s_x s_w acc            acc = sum_k (q_x - z_x) q_w + q_b

and the next layer wants codes on a grid of its own, (s_y, z_y):

    q_y = clip(round(acc M) + z_y)         M = s_x s_w / s_y

Codes q_x and q_y are uint8, weights q_w are int8; q_b = round(b / (s_x s_w)) and acc are int32 (Jacob et al. 2018,
arXiv:1712.05877, eq. 4 and 7). For example q_x = [6, 2], z_x = 2, q_w = [3, -2], q_b = 5 have acc = 12 + 0 + 5 = 17,
and with M = 0.25, z_y = 0 the code is 4.

The grid of a layer's output is that of the next layer's input; its range is measured after the ReLU and the pooling
between them. So a ReLU needs no layer: its outputs begin at 0, z_y is 0, and the clip is the ReLU.

Most sums are those of `int8_matmul`, which is fastest when the codes are int8 too; so 128 is taken off them. What z_x
and 128 change in a sum is the same for all images, and goes into an offset:

    acc = sum_k (q_x - 128) q_w + offset        offset = q_b - (z_x - 128) sum_k q_w

In the example 3 (-122) - 2 (-126) + 131 = 17. Where int8 instructions do not pay, a convolution's sums come from the
float layer, as long as they stay within the whole numbers that float32 holds exactly.
"""

from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import numpy as np

from nnzip import matmul_native
from nnzip.checks import door, integers, one_of, whole
from nnzip.compression.quantization import activation_qparams
from nnzip.matmul import FLOAT32_EXACT, float32_is_exact, int8_matmul, pack
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.quantization import FLOAT32_TINY, QuantParams, choose_qparams, dequantize, quantize
from nnzip.requantization import fixed_point_multiplier, requantize, requantize_fixed_point

BIAS_LIMIT = 2**30  # half of int32: the other half is for the sum of products
SMALLEST_MULTIPLIER = 2.0**-30  # a shift can hold it; with a smaller one a sum of 2^30 is less than one code
IMAGES = 256  # at a time, so that what lies between two layers stays in cache


@dataclass(eq=False)
class IntegerLayer:
    """A Linear or Conv2d on codes: its integers, and what turns its int32 sums into the next layer's codes.

    weight : int8 codes of the float layer's shape, scale `weight_scale` of shape () or (out,)
    bias : int32 (out,), at scale s_x s_w
    input, output : the grids of the input and the output codes; output is None for the last layer, whose int32 sums are
        the logits
    arithmetic : how M is applied: "float_scale", as `multiplier`, float32 shaped like `weight_scale`; "fixed_point", as
        the integers `m0` and `shift`, which round twice: 17 * 0.25 becomes 5, by 8.5 and 9
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
        self.int8_zero_point = int(self.input.zero_point) - 128
        flat = self.weight.reshape(len(self.weight), -1).astype(np.int64)  # [out, K]
        bias = self.bias.astype(np.int64)
        if np.any(255 * np.abs(flat).sum(axis=1) + np.abs(bias) >= 2**31):  # |q_x - z_x| is at most 255
            raise OverflowError(f"sums of {flat.shape[1]} products and a bias may pass int32: the layer is too wide")
        if self.output is not None:
            self.multiplier = self.input.scale * self.weight_scale / self.output.scale  # two float32 roundings, as ONNX
            self.m0, self.shift = fixed_point_multiplier(self.multiplier)
        self.offset = (bias - self.int8_zero_point * flat.sum(axis=1)).astype(np.int32)
        self.matrix = pack(np.moveaxis(self.weight, (0, 1), (-1, -2)).reshape(-1, len(flat)))  # [in, out] or [k k C, O]
        if self.weight.ndim == 4:
            self.floats = Conv2d(self.weight.shape[1], len(flat), self.weight.shape[-1], stride=self.stride)
            self.floats.params["weight"] = self.weight.astype(np.float32)
            self.floats_are_exact = 128 * np.abs(flat).sum(axis=1).max() <= FLOAT32_EXACT and float32_is_exact()

    def forward(self, codes):  # uint8 [N, in] or [N, C, H, W] -> uint8 [N, out] or [N, O, H', W'], or int32 logits
        return self.requantize(self.accumulate(codes))

    def accumulate(self, codes):  # uint8 [N, in] or [N, C, H, W] -> int32 [N, out] or [N, O, H', W']
        """Return sum_k (q_x - z_x) q_w + q_b = sum_k (q_x - 128) q_w + offset."""
        return self.add_offset(self.sums(codes))

    def sums(self, codes):  # sum_k (q_x - 128) q_w, int32 or, of a convolution, whole numbers of a float type
        self._check(codes)
        codes = (codes ^ 128).view(np.int8)  # q_x - 128
        if self.weight.ndim == 2:
            return int8_matmul(codes, self.matrix)
        if self.padding:  # a float 0 has the code z_x
            border = [(0, 0)] * 2 + [(self.padding,) * 2] * 2
            codes = np.pad(codes, border, constant_values=self.int8_zero_point)
        return self._convolve(codes)

    def _convolve(self, codes):  # int8 [N, C, H, W] -> [N, O, H', W']
        """By the float layer, where it is exact and the CPU's int8 instructions are no faster; else by all windows."""
        (K, out), k = self.matrix.shape, self.weight.shape[-1]
        height, width = ((n - k) // self.stride + 1 for n in codes.shape[2:])
        native = matmul_native.chosen("auto", len(codes) * height * width, K, out, packed=True)
        if self.floats_are_exact and not native:
            return self.floats.products(codes.astype(np.float32))
        acc = int8_matmul(_windows(codes, k, self.stride), self.matrix)
        return np.moveaxis(acc.reshape(-1, height, width, out), -1, 1)

    def _check(self, codes):
        if codes.dtype != np.uint8:
            raise TypeError(f"codes must be uint8, as quantize_input gives them, got {codes.dtype}")
        inputs, *window = self.weight.shape[1:]
        side = max(1, window[0] - 2 * self.padding) if window else 0
        if codes.ndim != self.weight.ndim or codes.shape[1] != inputs or min(codes.shape[2:], default=0) < side:
            wanted = f"(N, {inputs}, H, W), H and W >= {side}" if window else f"(N, {inputs})"
            raise ValueError(f"codes must have shape {wanted}, got {codes.shape}")

    def add_offset(self, sums):  # [N, out, ...] -> int32, where `sums` was if it is int32
        acc = sums.astype(np.int32, copy=False)
        acc += self.offset.reshape(-1, *[1] * (acc.ndim - 2))
        return acc

    def requantize(self, acc):  # int32 [N, out, ...] -> uint8, or int32 logits
        """Return clip(round(acc M) + z_y), or, without an output grid, acc itself."""
        if self.output is None:
            return acc
        zero_point, dtype = int(self.output.zero_point), self.output.dtype
        channel = (-1, *[1] * (acc.ndim - 2))  # a multiplier for each, along axis 1
        if self.arithmetic == "float_scale":
            codes = requantize(acc, self.multiplier.reshape(channel), zero_point, out_dtype=dtype)
        else:
            m0, shift = np.reshape(self.m0, channel), np.reshape(self.shift, channel)
            codes = requantize_fixed_point(acc, m0, shift, zero_point, out_dtype=dtype)
        if self.output.bits < 8:  # so far clipped at 255
            codes = np.minimum(codes, dtype.type(self.output.qmax))
        return codes

    def float_parameters(self):
        """Return what the codes stand for: the weight of the float layer's shape, and its bias, as float32."""
        scale = self.weight_scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        bias = (self.bias * (self.input.scale * self.weight_scale)).astype(np.float32)
        return {"weight": self.weight * scale, "bias": bias}


def _windows(codes, k, stride):  # int8 [N, C, H, W] -> [N H' W', k k C]
    """As `nn.layers.windows`, channels last: a window's row is then a run of k C bytes, copied ten times as fast."""
    codes = np.ascontiguousarray(np.moveaxis(codes, 1, -1))
    view = np.lib.stride_tricks.sliding_window_view(codes, (k, k), axis=(1, 2))[:, ::stride, ::stride]
    return np.moveaxis(view, 3, -1).reshape(-1, k * k * codes.shape[-1])


@dataclass(eq=False)
class IntegerMaxPool2d:
    """The largest code of each window: rounding keeps order, so it is the code of the largest value."""

    size: int

    def forward(self, codes):  # [N, C, H, W] -> [N, C, H // size, W // size]
        k, (H, W) = self.size, codes.shape[2:]
        if min(H, W) < k:
            raise ValueError(f"codes must have shape (N, C, H, W), H and W >= {k}, got {codes.shape}")
        rows = reduce(np.maximum, (codes[:, :, i : H // k * k : k, : W // k * k] for i in range(k)))
        return reduce(np.maximum, (rows[..., j::k] for j in range(k)))


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

    def quantize_input(self, images):  # float [N, ...] -> uint8 codes; for MNIST at 8 bits they are the raw pixels
        images = np.asarray(images)
        if images.dtype.kind != "f":
            raise TypeError(f"images must be floats on the scale of the calibration images, got {images.dtype}")
        return quantize(images, self.input_qparams)

    def trace(self, codes):  # uint8 [N, ...] -> the integers that leave each layer, in order
        codes = self._check(codes)
        return [codes := layer.forward(codes) for layer in self.layers]

    def forward(self, codes):  # uint8 [N, ...] -> int32 logits [N, classes]
        """Return the last of `trace`, faster: a pooling is done on the sums, of which fewer are left to be rounded.

        A window's largest sum becomes its largest code: all share offset, M > 0 and z_y, and rounding keeps order.
        """
        steps = []
        for layer in self.layers:
            if isinstance(layer, IntegerLayer):
                steps += [layer.sums, layer.add_offset, layer.requantize]
            elif isinstance(layer, IntegerMaxPool2d):
                steps.insert(-2, layer.forward)  # before the layer adds its offset
            else:
                steps.append(layer.forward)
        logits = []
        for x in np.array_split(self._check(codes), -(-len(codes) // IMAGES)):
            for step in steps:
                x = step(x)
            logits.append(x)
        return np.concatenate(logits)

    def _check(self, codes):
        return integers(codes, "codes", 0, self.input_qparams.qmax)

    def parameters(self):  # -> {"0.weight": float32, "0.bias": float32, ...}
        """Return the floats that weights and biases stand for, by the index in `layers`, which has no ReLUs."""
        layers = ((i, layer) for i, layer in enumerate(self.layers) if isinstance(layer, IntegerLayer))
        return {f"{i}.{name}": array for i, layer in layers for name, array in layer.float_parameters().items()}

    def predict(self, images):  # float [N, C, H, W], as `quantize_input` takes them -> int64 [N]
        return self.forward(self.quantize_input(images)).argmax(axis=1)


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
    """Return the IntegerNetwork of a network: ranges seen on images, biases rounded to int32, scales folded into M.

    network : Network of Linear, Conv2d, ReLU, MaxPool2d and Flatten, whose last layer has weights and gives the logits
    calibration_images : float array (N, C, H, W), training images for the ranges of the activations
    per_channel : a scale for each output neuron or filter; the last layer has a single one, so that argmax may compare
        its sums
    arithmetic : "float_scale" (ONNX Runtime) or "fixed_point" (gemmlowp, TFLite)

    OverflowError for a layer so wide that its sums may pass int32, which takes more than 33,000 inputs.
    """
    grids = activation_qparams(network, calibration_images, bits=activation_bits)  # {index of a layer: what enters it}
    if len(network.layers) - 1 not in grids:
        raise ValueError(f"an integer network ends with the layer that gives the logits, got {network}")
    inputs, layers = list(grids.values()), []
    outputs = dict(zip(grids, [*inputs[1:], None], strict=True))  # what leaves a layer enters the next
    for i, layer in enumerate(network.layers):
        match layer:
            case Linear() | Conv2d():
                axis = 0 if per_channel and outputs[i] is not None else None
                layers.append(_integer_layer(layer, grids[i], outputs[i], weight_bits, axis, arithmetic))
            case MaxPool2d():
                layers.append(IntegerMaxPool2d(layer.size))
            case Flatten():
                layers.append(IntegerFlatten())
            case ReLU():
                pass  # the clip of the codes before
            case _:
                allowed = "allowed are Linear, Conv2d, ReLU, MaxPool2d, Flatten"
                raise TypeError(f"layer {i}, {layer}, has no integer form: {allowed}")
    return IntegerNetwork(layers, inputs[0])


def _integer_layer(layer, input, output, bits, axis, arithmetic):
    weight, bias = layer.params["weight"], layer.params["bias"].astype(np.float64)
    grid = choose_qparams(weight, bits=bits, axis=axis)
    grid = replace(grid, scale=fitting_scale(weight, bias, grid.scale, input.scale, output.scale if output else 0.0))
    bias = np.rint(bias / (float(input.scale) * grid.scale.astype(np.float64))).astype(np.int32)
    window = (layer.stride, layer.padding) if isinstance(layer, Conv2d) else ()
    return IntegerLayer(quantize(weight, grid), grid.scale, bias, input, output, arithmetic, *window)


def fitting_scale(weight, bias, scale, input_scale, output_scale):
    """Return weight scales that are wide enough for the bias and the multiplier:

        s_w >= |b| / (s_x BIAS_LIMIT)            s_w >= SMALLEST_MULTIPLIER s_y / s_x

    A neuron with tiny weights has a scale that is too fine for this, and gets a wider one. A dead neuron's
    weights are all 0, so any scale would do for them; the 1 of `choose_qparams` would round its bias to multiples of
    s_x. It gets the finest scale that both allow.
    """
    s_x, s_y = float(input_scale), float(output_scale)
    for_bias = np.abs(bias if scale.ndim else np.abs(bias).max()) / (s_x * BIAS_LIMIT)
    least = np.maximum(for_bias, SMALLEST_MULTIPLIER * s_y / s_x)
    dead = ~np.any(weight, axis=tuple(range(1, weight.ndim)) if scale.ndim else None)
    fitting = np.where(dead & (least > 0), least, np.maximum(scale, least))
    return np.maximum(fitting, FLOAT32_TINY).astype(np.float32)


# How far it is from its fake-quantized form


class LayerDifference(NamedTuple):
    """How many of a layer's output codes differ from those of its fake-quantized form."""

    layer: str
    outputs: int
    different: int  # how many of the outputs
    largest: int  # by how many steps


def compare_layers(network, integer, images):
    """Compare each hidden layer's output codes with its fake-quantized form's; return a LayerDifference for each.

    Both are given the codes that the integer layer gets. The fake-quantized layer dequantizes them and computes in
    float32 with the dequantized int8 weights and the float bias; its output is quantized again, which clips as the ReLU
    does. Near a tie, or by rounding twice, the codes differ by 1 step, as long as no multiplier is above 1. `network`
    is the one that `integer` was made of. The last layer is left out.
    """
    fakes, found = [layer for layer in network.copy().layers if layer.params], []
    shapes = [layer.weight.shape for layer in integer.layers if isinstance(layer, IntegerLayer)]
    if [fake.params["weight"].shape for fake in fakes] != shapes:
        raise ValueError(f"integer was not made of this network, {network}: the weights' shapes differ")
    codes = integer.quantize_input(images)
    for layer, leaving in zip(integer.layers, integer.trace(codes), strict=True):
        if isinstance(layer, IntegerLayer) and layer.output is not None:
            fake = fakes.pop(0)
            fake.params["weight"][...] = layer.float_parameters()["weight"]
            expected = quantize(fake.forward(dequantize(codes, layer.input)), layer.output)
            steps = np.abs(leaving.astype(np.int32) - expected)
            found.append(LayerDifference(str(fake), steps.size, int(np.count_nonzero(steps)), int(steps.max())))
        codes = leaving
    return found
