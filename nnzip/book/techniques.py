"""What the study compares: each technique is a function (network, data, *, bits, sparsity) -> what predicts.

It prunes to the sparsity and rounds the weights to the bits; at 32 bits nothing is rounded and the network is float.
"""

from functools import partial

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


ACTIVATION_BITS = (8, 6, 4, 3, 2)
TECHNIQUES = {
    "per_tensor": per_tensor,
    "per_channel": per_channel,
    "with_activations": with_activations,
    "global_magnitude": global_magnitude,
    "activation_aware": activation_aware,
    "rotated": rotated,
    "rotated_per_channel": partial(rotated, per_channel=True),
    "codebook": codebook,
    "by_rule": by_rule,
    "obd": partial(obs, method="obd"),
    "obs": obs,
    "gptq": gptq,
    "gptq_rotated": partial(gptq, rotate=True),
    "bias_corrected": bias_corrected,
    "equalized": equalized,
    "smoothed": smoothed,
    "mixed": mixed,
    **{f"integer_{bits}": partial(integer, activation_bits=bits) for bits in ACTIVATION_BITS},
}
CHAPTERS = {  # whose signature figure shows which of them, and whose file has their records
    "02_quantization": ("per_tensor", "per_channel", "with_activations"),
    "04_hadamard": ("per_channel", "per_tensor", "rotated", "rotated_per_channel"),
    "05_pruning": ("per_channel", "global_magnitude", "activation_aware"),  # and "retrained", with training
    "06_distillation": ("per_channel",),  # and "labels" and "distilled"
    "07_codebooks": ("per_tensor", "per_channel", "codebook", "by_rule"),
    "08_integer": ("per_channel", "integer_8", "integer_4"),
    "09_qat": ("per_channel",),  # and what is trained through the rounding
    "10_reconstruction": ("per_channel", "gptq", "gptq_rotated"),  # and "adaround"
    "11_mixed_precision": ("per_channel", "mixed"),
}
TABLED = {  # what is in a chapter's file and in the tables, and not in its figure
    "09_qat": ("learned_step_a4",),
    "10_reconstruction": ("obd", "obs", "bias_corrected", "equalized", "smoothed"),
}
