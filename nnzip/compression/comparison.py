"""How far a network in integers is from its fake-quantized form, layer by layer and given the same input codes."""

from typing import NamedTuple

import numpy as np

from nnzip.checks import check_not_empty
from nnzip.compression.integer import IMAGES, IntegerLayer, IntegerNetwork
from nnzip.nn.network import check_network
from nnzip.quantization import dequantize, quantize


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
