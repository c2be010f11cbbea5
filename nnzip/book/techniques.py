"""What the study compares: each technique is a function (network, data, *, bits, sparsity) -> what predicts.

It prunes to the sparsity and rounds the weights to the bits; at 32 bits nothing is rounded and the network is float.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from nnzip.codebooks import assign, binary, kmeans, look_up, power_of_two_codebook, ternary
from nnzip.compression.hadamard import rotate_network, unrotate_network
from nnzip.compression.integer import integer_network
from nnzip.compression.mixed_precision import mixed_precision
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import quantize_activations, quantize_weights
from nnzip.compression.reconstruction import (
    correct_biases,
    equalize_network,
    reconstruct_pruned,
    reconstruct_weights,
    smooth_network,
)
from nnzip.nn.network import weights_of

FLOAT = 32  # the bit width that stands for the network as it is
CALIBRATION_IMAGES = 1000


def per_tensor(network, data, *, bits, sparsity):
    """Round the weights with one scale for each layer."""
    return _rounded(_pruned(network, sparsity), bits, per_channel=False)


def per_channel(network, data, *, bits, sparsity):
    """Round the weights with one scale for each output neuron or filter."""
    return _rounded(_pruned(network, sparsity), bits, per_channel=True)


def with_activations(network, data, *, bits, sparsity):
    """Round the weights per channel, and what enters every layer per tensor, to the same width."""
    rounded = per_channel(network, data, bits=bits, sparsity=sparsity)
    if bits == FLOAT:
        return rounded
    return quantize_activations(rounded, data.train_images[:CALIBRATION_IMAGES], bits=bits)


def global_magnitude(network, data, *, bits, sparsity):
    """Prune the smallest weights of all layers together, then round as `per_channel`."""
    return _rounded(_pruned(network, sparsity, scope="network"), bits, per_channel=True)


def activation_aware(network, data, *, bits, sparsity):
    """Prune what |w| times the norm of its input says, over all layers together, then round as `per_channel`."""
    seen = tuple(array[:CALIBRATION_IMAGES] for array in data[:2])
    pruned = _pruned(network, sparsity, scope="network", criterion="activation", data=seen)
    return _rounded(pruned, bits, per_channel=True)


def integer(network, data, *, bits, sparsity, activation_bits):
    """Compute in integers only, with weights of so many bits and activations of their own width."""
    pruned = _pruned(network, sparsity)
    if bits == FLOAT:
        return pruned
    images = data.train_images[:CALIBRATION_IMAGES]
    return integer_network(pruned, images, weight_bits=bits, activation_bits=activation_bits)


def rotated(network, data, *, bits, sparsity, per_channel=False):
    """Rotate, then prune and round the weights in the rotated basis; measured with the rotations folded back."""
    if bits == FLOAT and not sparsity:
        return network  # there and back again changes nothing but last bits
    pruned = _pruned(rotate_network(network), sparsity)
    return unrotate_network(_rounded(pruned, bits, per_channel=per_channel))


def codebook(network, data, *, bits, sparsity):
    """Share 2^bits values in each layer, found by k-means; of a pruned layer one of them is 0."""

    def values_for(weight):
        kept = weight[weight != 0] if sparsity else weight
        values = kmeans(kept, 2**bits - bool(sparsity), init="k-means++")
        return np.union1d(values, 0) if sparsity else values

    return _shared(_pruned(network, sparsity), bits, values_for)


def by_rule(network, data, *, bits, sparsity):
    """Give each layer values that are not fitted: a scale and signs at 1 bit, ternary at 2, else powers of two."""

    def values_for(weight):
        if bits > 2:
            return power_of_two_codebook(weight, bits=bits)
        return ternary(weight) if bits == 2 else binary(weight)[0] * np.array([-1, 1])

    return _shared(_pruned(network, sparsity), bits, values_for)


def obs(network, data, *, bits, sparsity, method="obs"):
    """Prune by the second derivatives of each layer's outputs, by OBS with the rest refitted, then as `per_channel`."""
    images = data.train_images[:CALIBRATION_IMAGES]
    pruned = reconstruct_pruned(network, images, sparsity, method=method) if sparsity else network
    return _rounded(pruned, bits, per_channel=True)


def gptq(network, data, *, bits, sparsity, rotate=False):
    """Prune as `obs`, then round each weight so that those after it make up for its error; rotated first or not."""
    basis = rotate_network(network) if rotate and (sparsity or bits != FLOAT) else network
    found = obs(basis, data, bits=FLOAT, sparsity=sparsity)
    if bits != FLOAT:
        found = reconstruct_weights(found, data.train_images[:CALIBRATION_IMAGES], bits=bits)
    return unrotate_network(found) if basis is not network else found


def bias_corrected(network, data, *, bits, sparsity):
    """Do as `per_channel`, and take the mean error of each layer's outputs out of its biases."""
    pruned = _pruned(network, sparsity)
    rounded = _rounded(pruned, bits, per_channel=True)
    return rounded if bits == FLOAT else correct_biases(pruned, rounded, data.train_images[:CALIBRATION_IMAGES])


def equalized(network, data, *, bits, sparsity):
    """Give neighbouring layers channels of like size, then one scale for each layer: `per_tensor`."""
    return per_tensor(equalize_network(network), data, bits=bits, sparsity=sparsity)


def smoothed(network, data, *, bits, sparsity):
    """Move outlying channels of the activations into the weights, then round both: `with_activations`."""
    smooth = smooth_network(network, data.train_images[:CALIBRATION_IMAGES])
    return with_activations(smooth, data, bits=bits, sparsity=sparsity)


def mixed(network, data, *, bits, sparsity):
    """Give each row or column of a weight the width that pays best, within the bytes of one width for all."""
    pruned = _pruned(network, sparsity)
    return pruned if bits == FLOAT else mixed_precision(pruned, data.train_images[:CALIBRATION_IMAGES], bits=bits)


def _shared(network, bits, values_for):
    if bits == FLOAT:
        return network
    shared = network.copy()
    for weight in weights_of(shared).values():
        values = values_for(weight)
        weight[...] = look_up(assign(weight, values), values)
    return shared


def _pruned(network, sparsity, **options):
    return prune_network(network, sparsity, **options) if sparsity else network


def _rounded(network, bits, *, per_channel):
    return network if bits == FLOAT else quantize_weights(network, bits=bits, per_channel=per_channel)


# How densely each is measured


class Points(NamedTuple):
    """What the study asks a technique for: which network, which widths, which sparsities above 0, with all details."""

    mlp: bool
    bits: tuple
    sparsities: tuple
    details: bool

    def bits_in(self, *wanted):
        return tuple(b for b in self.bits if b in wanted)

    def zeros_in(self, *wanted):
        return tuple(s for s in self.sparsities if s in wanted)


ACTIVATION_BITS = (8, 6, 4, 3, 2)
INTEGER_MAP = "08_integer_map"  # a file of its own beside 08_integer: weight bits by activation bits
MAP_SPARSITIES = (0.0, 0.8)
UNPRUNED = (0.0,)


def over_bits(points):
    """All widths, nothing pruned."""
    return [(points.bits, UNPRUNED)]


def over_both(points):
    """Bits and, at 4 bits and in float, sparsities; of the MLP the whole map."""
    rest = tuple(b for b in points.bits if b not in (4, FLOAT))
    whole = [(rest, points.sparsities)] if points.details and points.mlp else []
    return [(points.bits, UNPRUNED), ((4, FLOAT), points.sparsities), *whole]


def few_over_bits(points):
    """Widths, nothing pruned, of LeNet-5 the most telling ones."""
    return [(points.bits if points.mlp else points.bits_in(2, 3, 4, 8, FLOAT), UNPRUNED)]


def rotated_points(points):
    zeros = points.sparsities if points.mlp else points.zeros_in(0.5, 0.7, 0.8, 0.9)
    return [*few_over_bits(points), ((4,), zeros)]


def global_points(points):
    """Sparsities, at which nothing else is to be seen; and all widths at 90 %."""
    zeros = points.sparsities if points.mlp else points.zeros_in(0.5, 0.8, 0.9, 0.95)
    rounded = [((2, 3, 8) if points.mlp else (2, 3, 4, 8), (0.9,))] if points.details else []
    return [((4, FLOAT) if points.mlp else (FLOAT,), zeros), *rounded]


def activation_aware_points(points):
    return global_points(points)[:1] if points.details else []


def codebook_points(points):
    zeros = points.sparsities if points.mlp else points.zeros_in(0.5, 0.8, 0.9, 0.95)
    return [((1, *points.bits), UNPRUNED), ((4,), zeros)]


def rule_points(points):
    return [((1, *points.bits), UNPRUNED)]


def obs_points(points):
    return [((FLOAT,), points.zeros_in(0.5, 0.8, 0.9, 0.95) if points.mlp else points.zeros_in(0.9))]


def obd_points(points):
    return obs_points(points) if points.mlp else []


def gptq_points(points):
    [(_, zeros)] = obs_points(points)
    return [((4,), zeros), (points.bits_in(2, 3, 4, 8) if points.mlp else points.bits_in(2, 3, 4), UNPRUNED)]


def gptq_rotated_points(points):
    return [(points.bits_in(2, 3, 4, 8) if points.mlp else (2,), UNPRUNED)]


def cheap_points(points):
    return [(points.bits_in(2, 3, 4, 8), UNPRUNED)] if points.mlp else []


def mixed_points(points):
    if not points.mlp:
        return [(points.bits_in(2, 3, 4), UNPRUNED)]
    return [(tuple(b for b in points.bits if b < 8), UNPRUNED), ((4,), points.zeros_in(0.5, 0.8, 0.9))]


def integer_points(points, activation_bits):
    """Both axes for 8 and 4 bits; the MLP's map of weight by activation bits, at both of its sparsities."""
    common, widths = activation_bits in (8, 4), points.bits_in(*ACTIVATION_BITS)
    grids = []
    if common:
        grids.append(
            (points.bits if activation_bits == 8 or points.mlp else points.bits_in(2, 3, 4, 8, FLOAT), UNPRUNED)
        )
        if activation_bits == 8 or points.mlp:
            grids.append(((4,), points.zeros_in(0.5, 0.8, 0.9, 0.95, 0.99)))
    if points.details and points.mlp:
        grids.append((tuple(b for b in widths if b != 4), MAP_SPARSITIES[1:]) if common else (widths, MAP_SPARSITIES))
    return grids


class Technique(NamedTuple):
    """A technique of the study, from which its names, files, tables and plans follow.

    name : of its records
    title : of its lines in tables and figures
    chapter : the stem of the chapter it belongs to, whose file has its records
    function : (network, data, *, bits, sparsity) -> what predicts; None: it is trained (figures/retraining.py)
    grids : Points -> [(bits, sparsities)] that are measured
    drawn : whether it is a curve of its chapter's figure, or a line of the tables alone
    """

    name: str
    title: str
    chapter: str
    function: Callable | None = None
    grids: Callable = lambda points: []
    drawn: bool = True


def integers(activation_bits):
    name, title = f"integer_{activation_bits}", f"integers, {activation_bits}-bit activations"
    function, grids = (partial(f, activation_bits=activation_bits) for f in (integer, integer_points))
    return Technique(name, title, "08_integer" if activation_bits in (8, 4) else INTEGER_MAP, function, grids)


RECORDS = (
    Technique("per_tensor", "per tensor", "02_quantization", per_tensor, over_bits),
    Technique("per_channel", "per channel", "02_quantization", per_channel, over_both),
    Technique("with_activations", "per channel, and activations", "02_quantization", with_activations, over_bits),
    Technique("rotated", "rotated, per tensor", "04_hadamard", rotated, few_over_bits),
    Technique(
        "rotated_per_channel",
        "rotated, per channel",
        "04_hadamard",
        partial(rotated, per_channel=True),
        rotated_points,
    ),
    Technique("global_magnitude", "all layers together", "05_pruning", global_magnitude, global_points),
    Technique("activation_aware", "activation-aware", "05_pruning", activation_aware, activation_aware_points),
    Technique("retrained", "retrained", "05_pruning"),
    Technique("labels", "retrained by labels", "06_distillation"),
    Technique("distilled", "retrained by distillation", "06_distillation"),
    Technique("codebook", "k-means, per layer", "07_codebooks", codebook, codebook_points),
    Technique("by_rule", "by rule, per layer", "07_codebooks", by_rule, rule_points),
    *map(integers, ACTIVATION_BITS),
    Technique("straight_through", "trained, straight-through", "09_qat"),
    Technique("learned_step", "trained, learned steps", "09_qat"),
    Technique("learned_step_both", "trained, and activations", "09_qat"),
    Technique("learned_step_a4", "trained, 4-bit activations", "09_qat", drawn=False),
    Technique("binary", "trained, binary", "09_qat"),
    Technique("obd", "Optimal Brain Damage", "10_reconstruction", partial(obs, method="obd"), obd_points, drawn=False),
    Technique("obs", "Optimal Brain Surgeon", "10_reconstruction", obs, obs_points, drawn=False),
    Technique("gptq", "GPTQ", "10_reconstruction", gptq, gptq_points),
    Technique("gptq_rotated", "rotated, GPTQ", "10_reconstruction", partial(gptq, rotate=True), gptq_rotated_points),
    Technique("adaround", "AdaRound", "10_reconstruction"),
    Technique(
        "bias_corrected",
        "per channel, biases corrected",
        "10_reconstruction",
        bias_corrected,
        cheap_points,
        drawn=False,
    ),
    Technique("equalized", "equalized, per tensor", "10_reconstruction", equalized, cheap_points, drawn=False),
    Technique("smoothed", "smoothed, and activations", "10_reconstruction", smoothed, cheap_points, drawn=False),
    Technique("mixed", "mixed, in the same bytes", "11_mixed_precision", mixed, mixed_points),
)
TECHNIQUES = {record.name: record for record in RECORDS}
TRAINED = {record.name: record.chapter for record in RECORDS if record.function is None}
MAIN = ("02_quantization", "04_hadamard", "05_pruning", "08_integer")  # whose techniques the main job measures
BESIDE = {"04_hadamard": ("per_channel", "per_tensor"), "07_codebooks": ("per_tensor", "per_channel")}
CHAPTERS = tuple(dict.fromkeys(record.chapter for record in RECORDS if record.chapter != INTEGER_MAP))


def in_chapter(stem, *, drawn=False):
    """Return the names of the techniques in a chapter's file, or in its figure, those it compares with first."""
    beside = BESIDE.get(stem, ("per_channel",) if stem != "02_quantization" else ())
    own = [record.name for record in RECORDS if record.chapter == stem and (record.drawn or not drawn)]
    return (*beside, *own)
