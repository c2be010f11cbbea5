"""What the study compares: each technique is a function (network, data, *, bits, sparsity) -> what predicts.

It prunes to the sparsity and rounds the weights to the bits; at 32 bits nothing is rounded and the network is float.
What calibrates looks at all training images of `data`; the study gives the first 1,000.
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
    return _rounded(_pruned(network, sparsity), bits)


def with_activations(network, data, *, bits, sparsity):
    """Round the weights per channel, and what enters every layer per tensor, to the same width."""
    rounded = per_channel(network, data, bits=bits, sparsity=sparsity)
    return _rounded(rounded, bits, quantize_activations, data.train_images)


def global_magnitude(network, data, *, bits, sparsity):
    """Prune the smallest weights of all layers together, then round as `per_channel`."""
    return _rounded(_pruned(network, sparsity, scope="network"), bits)


def activation_aware(network, data, *, bits, sparsity):
    """Prune what |w| times the norm of its input says, over all layers together, then round as `per_channel`."""
    return _rounded(_pruned(network, sparsity, scope="network", criterion="activation", data=data[:2]), bits)


def integer(network, data, *, bits, sparsity, activation_bits):
    """Compute in integers only, with weights of so many bits and activations of their own width."""
    pruned = _pruned(network, sparsity)
    if bits == FLOAT:
        return pruned
    return integer_network(pruned, data.train_images, weight_bits=bits, activation_bits=activation_bits)


def rotated(network, data, *, bits, sparsity, technique=per_tensor):
    """Rotate, then do as a technique in the rotated basis; measured with the rotations folded back."""
    return unrotate_network(technique(rotate_network(network), data, bits=bits, sparsity=sparsity))


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
    pruned = reconstruct_pruned(network, data.train_images, sparsity, method=method) if sparsity else network
    return _rounded(pruned, bits)


def gptq(network, data, *, bits, sparsity):
    """Prune as `obs`, then round each weight so that those after it make up for its error."""
    pruned = obs(network, data, bits=FLOAT, sparsity=sparsity)
    return _rounded(pruned, bits, reconstruct_weights, data.train_images)


rotated_per_channel, gptq_rotated = (partial(rotated, technique=each) for each in (per_channel, gptq))


def bias_corrected(network, data, *, bits, sparsity):
    """Do as `per_channel`, and take the mean error of each layer's outputs out of its biases."""
    pruned = _pruned(network, sparsity)
    return pruned if bits == FLOAT else correct_biases(pruned, _rounded(pruned, bits), data.train_images)


def equalized(network, data, *, bits, sparsity):
    """Give neighbouring layers channels of like size, then one scale for each layer: `per_tensor`."""
    return per_tensor(equalize_network(network), data, bits=bits, sparsity=sparsity)


def smoothed(network, data, *, bits, sparsity):
    """Move outlying channels of the activations into the weights, then round both: `with_activations`."""
    return with_activations(smooth_network(network, data.train_images), data, bits=bits, sparsity=sparsity)


def mixed(network, data, *, bits, sparsity):
    """Give each row or column of a weight the width that pays best, within the bytes of one width for all."""
    return _rounded(_pruned(network, sparsity), bits, mixed_precision, data.train_images)


def _pruned(network, sparsity, **options):
    return prune_network(network, sparsity, **options) if sparsity else network


def _rounded(network, bits, how=quantize_weights, *args, **options):
    return network if bits == FLOAT else how(network, *args, bits=bits, **options)


def _shared(network, bits, values_for):
    if bits == FLOAT:
        return network
    shared = network.copy()
    for weight in weights_of(shared).values():
        values = values_for(weight)
        weight[...] = look_up(assign(weight, values), values)
    return shared


# What is measured of them: grids of (bits, sparsities)

BITS = (2, 3, 4, 5, 6, 7, 8, FLOAT)
SPARSITIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
UNPRUNED, PRUNED, FEW_ZEROS = (0.0,), SPARSITIES[1:], (0.5, 0.8, 0.9, 0.95)
EVERY, SOME, FROM_1 = (BITS, UNPRUNED), ((2, 3, 4, 8, FLOAT), UNPRUNED), ((1, *BITS), UNPRUNED)
UP_TO_4, UP_TO_8 = ((2, 3, 4), UNPRUNED), ((2, 3, 4, 8), UNPRUNED)
AT_4, AT_4_FEW, FLOAT_FEW = ((4,), PRUNED), ((4,), FEW_ZEROS), ((FLOAT,), FEW_ZEROS)
BOTH, BETWEEN = ((4, FLOAT), PRUNED), ((2, 3, 5, 6, 7, 8), PRUNED)  # together the map of bits by sparsity

INTEGER_MAP = "08_integer_map"  # a file of its own beside 08_integer: weight bits by activation bits
ACTIVATION_BITS, MAP_SPARSITIES = (8, 6, 4, 3, 2), (0.0, 0.8)
ON_MAP = (ACTIVATION_BITS[::-1], MAP_SPARSITIES)
ROTATED = (EVERY, AT_4), (SOME, ((4,), (0.5, 0.7, 0.8, 0.9)))
TOGETHER = (BOTH, ((2, 3, 8), (0.9,))), (FLOAT_FEW, ((2, 3, 4, 8), (0.9,)))
MIXED_MLP = (BITS[:-2], UNPRUNED), ((4,), (0.5, 0.8, 0.9))
INTEGER_MLP = (EVERY, ((4,), (*FEW_ZEROS, 0.99)), ((2, 3, 6, 8), MAP_SPARSITIES[1:]))


class Technique(NamedTuple):
    """A technique of the study, from which its names, files, tables and plans follow."""

    name: str  # of its records
    title: str  # of its lines in tables and figures
    colour: str = ""  # of its curve in every figure, a name of `plots.PALETTE`; "": it is a line of the tables alone
    function: Callable | None = None  # (network, data, *, bits, sparsity) -> what predicts; None: it has to be trained
    mlp: tuple = ()  # the grids that are measured of LeNet-300-100,
    cnn: tuple = ()  # and of LeNet-5, which takes ten times as long


def integers(bits, colour, *points):
    """Return the record of integer networks with activations of so many bits."""
    function = partial(integer, activation_bits=bits)
    return Technique(f"integer_{bits}", f"integers, {bits}-bit activations", colour, function, *points)


ALL_WIDTHS = (EVERY,), (EVERY,)
BY_CHAPTER = {  # {stem of the chapter whose file has their records: techniques}
    "02_quantization": (
        Technique("per_tensor", "per tensor", "orange", per_tensor, *ALL_WIDTHS),
        Technique("per_channel", "baseline, per channel", "grey", per_channel, (EVERY, BOTH, BETWEEN), (EVERY, BOTH)),
        Technique("with_activations", "per channel, and activations", "pink", with_activations, *ALL_WIDTHS),
    ),
    "04_hadamard": (
        Technique("rotated", "rotated first, per tensor", "sky", rotated, (EVERY,), (SOME,)),
        Technique("rotated_per_channel", "rotated first, per channel", "red", rotated_per_channel, *ROTATED),
    ),
    "05_pruning": (
        Technique("global_magnitude", "all layers together", "sky", global_magnitude, *TOGETHER),
        Technique("activation_aware", "activation-aware", "orange", activation_aware, (BOTH,), (FLOAT_FEW,)),
        Technique("retrained", "retrained", "blue"),
    ),
    "06_distillation": (
        Technique("labels", "retrained by labels", "sky"),
        Technique("distilled", "retrained by distillation", "pink"),
    ),
    "07_codebooks": (
        Technique("codebook", "k-means, per layer", "green", codebook, (FROM_1, AT_4), (FROM_1, AT_4_FEW)),
        Technique("by_rule", "by rule, per layer", "red", by_rule, (FROM_1,), (FROM_1,)),
    ),
    "08_integer": (
        integers(8, "blue", INTEGER_MLP, INTEGER_MLP[:2]),
        integers(4, "red", INTEGER_MLP, (SOME,)),
    ),
    INTEGER_MAP: tuple(integers(bits, "", (ON_MAP,)) for bits in (6, 3, 2)),
    "09_qat": (
        Technique("straight_through", "trained, straight-through", "orange"),
        Technique("learned_step", "trained, learned steps", "green"),
        Technique("learned_step_both", "trained, and activations", "blue"),
        Technique("learned_step_a4", "trained, 4-bit activations"),
        Technique("binary", "trained, binary", "red"),
    ),
    "10_reconstruction": (
        Technique("obd", "Optimal Brain Damage", "", partial(obs, method="obd"), (FLOAT_FEW,)),
        Technique("obs", "Optimal Brain Surgeon", "", obs, (FLOAT_FEW,), (((FLOAT,), (0.9,)),)),
        Technique("gptq", "GPTQ", "green", gptq, (AT_4_FEW, UP_TO_8), (((4,), (0.9,)), UP_TO_4)),
        Technique("gptq_rotated", "rotated first, GPTQ", "red", gptq_rotated, (UP_TO_8,), (((2,), UNPRUNED),)),
        Technique("adaround", "AdaRound", "blue"),
        Technique("bias_corrected", "per channel, biases corrected", "", bias_corrected, (UP_TO_8,)),
        Technique("equalized", "equalized, per tensor", "", equalized, (UP_TO_8,)),
        Technique("smoothed", "smoothed, and activations", "", smoothed, (UP_TO_8,)),
    ),
    "11_mixed_precision": (Technique("mixed", "mixed, in the same bytes", "green", mixed, MIXED_MLP, (UP_TO_4,)),),
}
TECHNIQUES = {record.name: record for records in BY_CHAPTER.values() for record in records}
MAIN = (  # what `python -m nnzip` measures
    *("per_tensor", "per_channel", "with_activations", "rotated", "rotated_per_channel", "global_magnitude"),
    *("integer_8", "integer_4"),
)
TRAINED = {r.name: stem for stem, records in BY_CHAPTER.items() for r in records if r.function is None}
CHAPTERS = tuple(stem for stem in BY_CHAPTER if stem != INTEGER_MAP)
BESIDE = {
    "02_quantization": (),
    "04_hadamard": ("per_channel", "per_tensor"),
    "07_codebooks": ("per_tensor", "per_channel"),
    INTEGER_MAP: ("integer_8", "integer_4"),
}


def in_chapter(stem, *, drawn=False):
    """Return the names of the techniques in a chapter's file, or in its figure, those it compares with first."""
    own = [record.name for record in BY_CHAPTER[stem] if record.colour or not drawn]
    return (*BESIDE.get(stem, ("per_channel",)), *own)
