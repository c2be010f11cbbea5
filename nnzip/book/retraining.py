"""The part of the study that has to train at every point: pruned and retrained, rounded or pruned and distilled.

It takes long, so it has a command of its own, `python -m nnzip study --long`; its records stay in the chapters' files
until it runs again.
"""

import itertools
import sys

from nnzip.book.study import BITS, NETWORKS, record_of
from nnzip.book.techniques import FLOAT
from nnzip.compression.distilled import repair
from nnzip.compression.pruned import gradual_pruning, prune_network
from nnzip.compression.quantized import quantize_weights
from nnzip.data import load_mnist
from nnzip.nn.zoo import SEEDS, trained

TRAINED = {"retrained": "05_pruning", "labels": "06_distillation", "distilled": "06_distillation"}  # and whose they are
MIDDLE = 0.9  # the sparsity at which retrained networks are rounded too
RETRAIN = {  # the epochs at each sparsity; and SGD's rate and weight decay
    "lenet_300_100": ({0.5: 1, 0.8: 3, MIDDLE: 5, 0.92: 10, 0.95: 5, 0.97: 4, 0.99: 4}, {"rate": 0.1, "l2": 0.0}),
    "lenet_5": ({0.5: 1, 0.8: 1, MIDDLE: 2, 0.92: 4, 0.95: 2, 0.97: 1, 0.99: 2}, {"rate": 0.05, "l2": 1e-4}),
}
REPAIR_BITS = (2, 3, 4, FLOAT)
REPAIR_SPARSITIES = (0.9, 0.95, 0.98)
REPAIR = {  # epochs; SGD's rate for rounded weights, and for pruned ones
    # Each rate is the best of four on held-out training images (seed 0): the gradients of the two ways differ in size.
    "lenet_300_100": {"labels": (3, 0.04, 0.4), "distilled": (3, 0.04, 0.2)},
    "lenet_5": {"labels": (1, 0.04, 0.2), "distilled": (1, 0.02, 0.05)},
}


def run(*, executor=None, progress=True):
    """Train and measure everything; return the records, each with the name and the seed of its network.

    executor : concurrent.futures.Executor, optional; it maps the (network, seed, technique), which are independent
    """
    tasks = list(itertools.product(reversed(NETWORKS), SEEDS, TRAINED))  # the long ones first
    records = []
    for task, found in zip(tasks, (executor.map if executor else map)(measure, tasks), strict=True):
        records += found
        if progress:
            print(f"{len(records)} records: {' '.join(map(str, task))}", file=sys.stderr, flush=True)
    return records


def measure(task):  # (network, seed, technique) -> records
    """Train one network by one technique, at every point that is asked of it."""
    name, seed, technique = task
    network, data = trained(name, seed=seed), load_mnist()
    points = retrained(network, data, name, seed) if technique == "retrained" else repaired(network, data, *task)
    one = {"network": name, "seed": seed}
    return [{**one, **record_of(network, found, data, technique, *point)} for *point, found in points]


def retrained(network, data, name, seed):  # -> (bits, sparsity, Network), one after the other
    """Prune the smallest weights of all layers step by step, and train after each."""
    epochs, recipe = RETRAIN[name]
    options = {"epochs_each": list(epochs.values()), **recipe, "seed": seed, "progress": False}
    for sparsity, pruned in gradual_pruning(network, data[:2], sparsities=list(epochs), **options):
        yield FLOAT, sparsity, pruned
        if sparsity == MIDDLE:
            yield from ((bits, sparsity, quantize_weights(pruned, bits=bits)) for bits in BITS if bits != FLOAT)


def repaired(network, data, name, seed, technique):  # -> (bits, sparsity, Network)
    """Round, or prune, and train again: by the labels alone, or by the network as it was."""
    epochs, rate, pruned_rate = REPAIR[name][technique]
    options = {"epochs": epochs, "alpha": 0.9 if technique == "distilled" else 0.0, "seed": seed, "progress": False}
    teacher = network.copy()
    for bits in REPAIR_BITS:
        width = None if bits == FLOAT else bits
        yield bits, 0.0, repair(network, teacher, data[:2], bits=width, rate=rate, **options)
    for sparsity in REPAIR_SPARSITIES:
        pruned = prune_network(network, sparsity)
        yield FLOAT, sparsity, repair(pruned, teacher, data[:2], rate=pruned_rate, **options)
