"""A whole network in integers: uint8 codes in, int32 logits out, and no float in between.

    acc = sum_k (x - z_x) w + b        int32, at scale s_x s_w       x uint8, w int8, b int32
    y = clip(round(acc M) + z_y)       uint8, at scale s_y           M = s_x s_w / s_y

(Jacob et al. 2018, arXiv:1712.05877, eq. 4 and 7.) The multiplier M is the only trace that the scales leave. It is
applied as a float32 number, as ONNX Runtime does, or as a 32-bit integer and a shift, as gemmlowp and TFLite do. ReLU
costs nothing: where it follows, the range begins at 0, so z_y = 0 and the clip is the ReLU.
"""

from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

import numpy as np

from nnzip.checks import check_choice, check_integer, check_ndim, check_not_empty
from nnzip.compression.quantization import activation_qparams
from nnzip.matmul import DEEP, int8_matmul, pack
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import check_network
from nnzip.quantization import FLOAT32_TINY, QuantParams, choose_qparams, dequantize, quantize
from nnzip.requantization import fixed_point_multiplier, requantize, requantize_fixed_point

ARITHMETIC = ("float_scale", "fixed_point")
BIAS_LIMIT = 2**30  # half of int32: the other half is for the sum of products
SMALLEST_MULTIPLIER = 2.0**-30  # what lies below is nothing at the output's step, and a shift could not hold it
IMAGES = 256  # of a batch at a time: what lies between two layers stays in cache


@dataclass(eq=False)
class IntegerLayer:
    """A Linear or Conv2d on codes: its integers, and what turns its int32 sums into the next layer's codes.

    Parameters
    ----------
    weight : int8 codes of the float layer's shape, scale `weight_scale` of shape () or (out,)
    bias : int32 (out,), at scale s_x s_w
    input, output : QuantParams of the codes that come and go; no output: the int32 sums are the logits
    arithmetic : "float_scale", by `multiplier` = s_x s_w / s_y, float32 of the shape of `weight_scale`; "fixed_point",
        by the same as integers, `m0` and `shift`

    Raises OverflowError if there are codes whose sum does not fit int32, which takes more than 33,000 inputs.
    """

    weight: np.ndarray
    weight_scale: np.ndarray
    bias: np.ndarray
    input: QuantParams
    output: QuantParams | None
    arithmetic: str
    stride: int = 1
    padding: int = 0
    _packed: dict = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self):
        flat = self.weight.reshape(len(self.weight), -1).astype(np.int64)  # [out, K]
        if np.any(255 * np.abs(flat).sum(axis=1) + np.abs(self.bias.astype(np.int64)) >= 2**31):
            raise OverflowError(f"sums of {flat.shape[1]} products and a bias may pass int32: the layer is too wide")
        if self.output is not None:
            self.multiplier = self.input.scale * self.weight_scale / self.output.scale  # float32, in this order
            self.m0, self.shift = fixed_point_multiplier(self.multiplier)
        # sum (x - z) w + b = sum (x - 128) w + offset: the codes as int8, and one addition for zero point and bias
        self.offset = (self.bias - (int(self.input.zero_point) - 128) * flat.sum(axis=1)).astype(np.int32)

    def __getstate__(self):
        return {**self.__dict__, "_packed": {}}

    def forward(self, codes, *, pool=1):  # uint8 [N, in] or [N, C, H, W] -> uint8, or int32 logits
        """Return the codes of the next layer: [N, out], or [N, O, H' // pool, W' // pool] after max pooling."""
        return self.requantize(self.accumulate(codes, pool=pool))

    def accumulate(self, codes, *, pool=1):  # -> int32 sums, bias included, of the shape of `forward`
        """Return sum_k (x - z_x) w + b; of each pool x pool window of a convolution's sums, the largest.

        Rounding keeps order, so the largest sum becomes the largest code, and fewer are rounded. The sums of a window
        are taken side by side: filters q^2 O in number, each inside a patch of zeros of the size that the window sees.
        """
        check_ndim(codes, "codes", self.weight.ndim)
        if codes.shape[1] != self.weight.shape[1]:
            raise ValueError(f"codes must have {self.weight.shape[1]} channels or features, got shape {codes.shape}")
        signed = codes.view(np.int8) ^ np.int8(-128)  # x - 128
        if self.weight.ndim == 2:
            acc = int8_matmul(signed, self._matrix(1))
            acc += self.offset
            return acc
        matrix = self._matrix(pool)
        shallow = len(matrix.codes) < DEEP  # BLAS is faster then, and with the filters on the left fastest
        windows = self._windows(signed, pool, batch_last=shallow)
        return self._sums_of_rows(windows, matrix, pool) if shallow else self._sums_of_windows(windows, matrix, pool)

    def _sums_of_windows(self, windows, matrix, pool):  # [N, H', W', size, size, C] -> [N, O, H', W']
        N, H, W = windows.shape[:3]
        sums = int8_matmul(windows.reshape(N * H * W, -1), matrix).reshape(N * H * W, pool * pool, -1)
        acc = reduce(np.maximum, sums.transpose(1, 0, 2))  # [q q, N H' W', O] -> [N H' W', O]
        acc += self.offset
        return acc.reshape(N, H, W, -1).transpose(0, 3, 1, 2)

    def _sums_of_rows(self, windows, matrix, pool):  # the same with the filters on the left, the sums of one in a row
        (N, H, W), K = windows.shape[:3], len(matrix.codes)
        columns = windows.transpose(3, 4, 5, 1, 2, 0).reshape(K, H * W * N)
        sums = int8_matmul(matrix.codes.T, columns, backend="numpy").reshape(pool * pool, -1, H * W * N)
        acc = reduce(np.maximum, sums)  # [q q, O, H' W' N] -> [O, H' W' N]
        acc += self.offset[:, None]
        return acc.reshape(-1, H, W, N).transpose(3, 0, 1, 2)

    def _matrix(self, pool):  # -> PackedMatrix [K, pool pool O]
        if pool not in self._packed:
            weight = self.weight if self.weight.ndim == 4 else self.weight[:, :, None, None]
            (O, C, k, _), s = weight.shape, self.stride
            size = k + s * (pool - 1)
            wide = np.zeros((pool, pool, O, size, size, C), np.int8)
            for i, j in np.ndindex(pool, pool):
                wide[i, j, :, s * i : s * i + k, s * j : s * j + k] = weight.transpose(0, 2, 3, 1)
            self._packed[pool] = pack(wide.reshape(pool * pool * O, -1).T)
        return self._packed[pool]

    def _windows(self, x, pool, *, batch_last):  # int8 [N, C, H, W] -> a view [N, H', W', size, size, C] of a copy
        k, s, p = self.weight.shape[-1], self.stride, self.padding
        if p:  # a float 0 has the code z_x
            x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=int(self.input.zero_point) - 128)
        (N, C, H, W), size, step = x.shape, k + s * (pool - 1), s * pool
        if min(H, W) < size:
            raise ValueError(f"codes must have at least {size - 2 * p} rows and columns, got {H - 2 * p} x {W - 2 * p}")
        if batch_last:  # the copy into columns is then of N bytes at a time, otherwise of size C
            x = np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
        else:
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        step_n, step_c, step_h, step_w = x.strides
        shape = (N, (H - size) // step + 1, (W - size) // step + 1, size, size, C)
        steps = (step_n, step * step_h, step * step_w, step_h, step_w, step_c)
        return np.lib.stride_tricks.as_strided(x, shape, steps, writeable=False)

    def requantize(self, acc):  # int32 [N, out, ...] -> uint8
        """Return clip(round(acc M) + z_y), or, without an output grid, acc itself."""
        if self.output is None:
            return acc
        rows = acc if acc.ndim == 2 else acc.transpose(0, 2, 3, 1)  # channels last, as the multipliers are
        zero_point, dtype = int(self.output.zero_point), self.output.dtype
        if self.arithmetic == "float_scale":
            codes = requantize(rows, self.multiplier, zero_point, out_dtype=dtype)
        else:
            codes = requantize_fixed_point(rows, self.m0, self.shift, zero_point, out_dtype=dtype)
        if self.output.bits < 8:
            codes = np.minimum(codes, dtype.type(self.output.qmax))
        return codes if acc.ndim == 2 else codes.transpose(0, 3, 1, 2)

    def float_weight(self):  # -> float32, of the shape of weight
        axis = None if self.weight_scale.ndim == 0 else 0
        grid = QuantParams(self.weight_scale, np.zeros_like(self.weight_scale, np.int32), 8, signed=True, axis=axis)
        return dequantize(self.weight, grid)


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


def integer_network(
    network, calibration_images, *, weight_bits=8, activation_bits=8, per_channel=True, arithmetic="float_scale"
):
    """Return the network in integers: calibrated, scales and biases folded, ReLU fused into the clip.

    Parameters
    ----------
    network : Network of Linear, Conv2d, ReLU, MaxPool2d and Flatten that begins and ends as LeNets do: the last
        layer with weights gives the logits
    calibration_images : float array (N, C, H, W), training images for the ranges of the activations
    weight_bits, activation_bits : 2 to 8
    per_channel : a scale for each output neuron or filter; the last layer has one scale, so that its sums compare
    arithmetic : "float_scale" (ONNX Runtime) or "fixed_point" (gemmlowp, TFLite)

    Returns
    -------
    IntegerNetwork

    Raises
    ------
    TypeError, ValueError
        For layers that have no integer form, images that are not finite numbers, options out of range.
    OverflowError
        For a layer so wide that its sums may pass int32.
    """
    check_integer(weight_bits, "weight_bits", 2, 8)
    check_integer(activation_bits, "activation_bits", 2, 8)
    check_choice(arithmetic, "arithmetic", ARITHMETIC)
    check_choice(per_channel, "per_channel", (True, False))
    _check_layers(network)
    grids = activation_qparams(network, calibration_images, bits=activation_bits)
    weighted = list(grids)
    following = dict(zip(weighted, [*weighted[1:], None], strict=True))
    layers = []
    for i, layer in enumerate(network.layers):
        if i in grids:
            output = grids.get(following[i])
            axis = 0 if per_channel and output is not None else None
            layers.append(_integer_layer(layer, grids[i], output, weight_bits, axis, arithmetic))
        elif isinstance(layer, MaxPool2d):
            layers.append(IntegerMaxPool2d(layer.size))
        elif isinstance(layer, Flatten):
            layers.append(IntegerFlatten())
    return IntegerNetwork(layers, grids[weighted[0]])


def _check_layers(network):
    check_network(network)
    for i, layer in enumerate(network.layers):
        if type(layer) not in (Linear, Conv2d, ReLU, MaxPool2d, Flatten):
            allowed = "allowed are Linear, Conv2d, ReLU, MaxPool2d, Flatten"
            raise TypeError(f"layer {i}, {layer}, has no integer form: {allowed}")
    if type(network.layers[-1]) not in (Linear, Conv2d):
        raise ValueError(f"an integer network ends with the layer that gives the logits, got {network}")


def _integer_layer(layer, input, output, bits, axis, arithmetic):
    weight, bias = layer.params["weight"], layer.params["bias"].astype(np.float64)
    chosen = choose_qparams(weight, bits=bits, axis=axis)
    scale = fitting_scale(weight, bias, chosen.scale, input.scale, None if output is None else output.scale)
    grid = QuantParams(scale, np.zeros(scale.shape, np.int32), bits, signed=True, narrow=True, axis=axis)
    return IntegerLayer(
        weight=quantize(weight, grid),
        weight_scale=grid.scale,
        bias=np.rint(bias / (float(input.scale) * grid.scale.astype(np.float64))).astype(np.int32),
        input=input,
        output=output,
        arithmetic=arithmetic,
        stride=getattr(layer, "stride", 1),
        padding=getattr(layer, "padding", 0),
    )


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


class IntegerNetwork:
    """Integer layers one after the other, as `integer_network` makes them.

    Examples
    --------
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

    def forward(self, codes):  # uint8 [N, ...] -> int32 logits [N, classes]
        """Return the logits: the last integers of `trace`, faster, for each convolution pools before it rounds."""
        codes = self._check(codes)
        return np.concatenate([self._forward(codes[i : i + IMAGES]) for i in range(0, len(codes), IMAGES)])

    def _forward(self, codes):
        layers = list(self.layers)
        while layers:
            layer = layers.pop(0)
            if layers and _pools_first(layer, layers[0]):
                codes = layer.forward(codes, pool=layers.pop(0).size)
            else:
                codes = layer.forward(codes)
        return codes

    def trace(self, codes):  # uint8 [N, ...] -> the integers that leave each layer, in order
        outputs = [self._check(codes)]
        for layer in self.layers:
            outputs.append(layer.forward(outputs[-1]))
        return outputs[1:]

    def _check(self, codes):
        codes, qmax = np.asarray(codes), self.input_qparams.qmax
        if codes.dtype != np.uint8:
            raise TypeError(f"codes must be uint8, as quantize_input gives them, got {codes.dtype}")
        check_not_empty(codes, "codes")
        if codes.max() > qmax:
            raise ValueError(f"codes must be from 0 to {qmax}, as quantize_input gives them, got {codes.max()}")
        return codes

    def parameters(self):  # -> {"0.weight": float32, "0.bias": float32, ...}
        """Return the floats that the weights and biases stand for, under the index of their integer layer."""
        floats = {}
        for i, layer in enumerate(self.layers):
            if isinstance(layer, IntegerLayer):
                floats[f"{i}.weight"] = layer.float_weight()
                floats[f"{i}.bias"] = (layer.bias * (layer.input.scale * layer.weight_scale)).astype(np.float32)
        return floats

    def predict(self, images, *, batch_size=250):  # float [N, C, H, W] -> class of each image, int64 [N]
        """Return the class of each image, a batch at a time; images are floats as `quantize_input` takes them."""
        check_integer(batch_size, "batch_size", 1)
        images = np.asarray(images)
        check_not_empty(images, "images")
        batches = (images[i : i + batch_size] for i in range(0, len(images), batch_size))
        return np.concatenate([self.forward(self.quantize_input(batch)).argmax(axis=1) for batch in batches])


def _pools_first(layer, following):
    """Whether the sums of a convolution are pooled: its filters may grow by the window, but not beyond twice."""
    if not (isinstance(following, IntegerMaxPool2d) and isinstance(layer, IntegerLayer)):
        return False
    k = layer.weight.shape[-1]
    return (k + layer.stride * (following.size - 1)) ** 2 <= 2 * k * k


# How far it is from its fake-quantized form


class LayerDifference(NamedTuple):
    """How far a layer's integers are from its fake-quantized floats, given the same input codes."""

    layer: str
    outputs: int
    different: int  # how many of the outputs
    largest: int  # by how many steps


def compare_layers(network, integer, images):
    """Compare each hidden layer's output codes with those of the fake-quantized float layer.

    Both are given the codes that the integer layer gets. The float layer dequantizes them, computes in float32 with the
    dequantized int8 weights and the float bias, and its output is quantized again. The codes differ where an output is
    near a tie, by 1 step (as long as no multiplier is above 1). Nearly always the bias is why: as an integer it is
    rounded to whole steps of s_x s_w. The rounding of the float sums flips a few more; so does double rounding, in
    fixed point.

    Parameters
    ----------
    network : the Network that `integer` was made of
    integer : IntegerNetwork
    images : float array (N, C, H, W)

    Returns
    -------
    list of LayerDifference
        One for each Linear and Conv2d but the last, whose sums are the logits and are not rounded.
    """
    pairs = _pairs(network, integer)
    images = np.asarray(images)
    check_not_empty(images, "images")
    counts = {i: [0, 0, 0] for i in pairs}
    for start in range(0, len(images), IMAGES):
        codes = integer.quantize_input(images[start : start + IMAGES])
        for i, layer in enumerate(integer.layers):
            outputs = layer.forward(codes)
            if i in pairs:
                values = pairs[i].forward(dequantize(codes, layer.input))
                steps = np.abs(outputs.astype(np.int32) - quantize(values, layer.output))
                outputs_so_far, different, largest = counts[i]
                counts[i] = [
                    outputs_so_far + steps.size,
                    different + np.count_nonzero(steps),
                    max(largest, steps.max()),
                ]
            codes = outputs
    return [LayerDifference(str(pairs[i]), *map(int, counts[i])) for i in pairs]


def _pairs(network, integer):  # -> {index of an integer layer that rounds: its float layer}
    check_network(network)
    if not isinstance(integer, IntegerNetwork):
        raise TypeError(f"integer must be an IntegerNetwork, got {type(integer).__name__}")
    floats = [layer for layer in network.copy().layers if layer.params]
    integers = [(i, layer) for i, layer in enumerate(integer.layers) if isinstance(layer, IntegerLayer)]
    if [f.params["weight"].shape for f in floats] != [layer.weight.shape for _, layer in integers]:
        raise ValueError(f"integer was not made of this network, {network}: the weights' shapes differ")
    for layer, (_, own) in zip(floats, integers, strict=True):
        layer.params["weight"][...] = own.float_weight()
    return {i: layer for layer, (i, own) in zip(floats, integers, strict=True) if own.output is not None}
