"""The part of the study that has to train at every point: pruned and retrained, distilled, trained through rounding.

    python figures/retraining.py                     an hour on two cores
    python figures/retraining.py --jobs 4 --log FILE in four processes; killed, it goes on from its log
    python figures/retraining.py --dense             only what chapter 05 compares pruning with

Its records go into the chapters' files of this folder, where the shorter study leaves them; those of the networks that
were trained as long and not pruned go into 05_dense.csv.
"""

import argparse
import itertools
import os
from pathlib import Path

from nnzip.book import report
from nnzip.book.records import write_csv
from nnzip.book.study import BITS, NETWORKS, record_of
from nnzip.book.techniques import CALIBRATION_IMAGES, FLOAT, TRAINED
from nnzip.compression.distillation import repair
from nnzip.compression.pruning import gradual_pruning, prune_network
from nnzip.compression.qat import train_quantized
from nnzip.compression.quantization import quantize_weights
from nnzip.compression.reconstruction import reconstruct_weights
from nnzip.data import load_mnist
from nnzip.jobs import open_executor, run_jobs
from nnzip.nn.training import evaluate, random_shift
from nnzip.nn.zoo import SEEDS, trained

MIDDLE = 0.9  # the sparsity at which retrained networks are rounded too
RETRAIN = {  # the epochs at each sparsity; and SGD's rate and weight decay
    "lenet_300_100": ({0.5: 1, 0.8: 3, MIDDLE: 5, 0.92: 10, 0.95: 5, 0.97: 4, 0.99: 4}, {"rate": 0.1, "l2": 0.0}),
    "lenet_5": ({0.5: 1, 0.8: 1, MIDDLE: 2, 0.92: 4, 0.95: 2, 0.97: 1, 0.99: 2}, {"rate": 0.05, "l2": 1e-4}),
}
DENSE = ("network", "seed", "rate", "l2", "beside", "epochs", "error")  # the columns of 05_dense.csv
REPAIR_BITS = (2, 3, 4, FLOAT)
REPAIR_SPARSITIES = (0.9, 0.95, 0.98)
REPAIR = {  # epochs; SGD's rate for rounded weights, and for pruned ones
    # Each rate is the best of four on held-out training images (seed 0): the gradients of the two ways differ in size.
    "lenet_300_100": {"labels": (3, 0.04, 0.4), "distilled": (3, 0.04, 0.2)},
    "lenet_5": {"labels": (1, 0.04, 0.2), "distilled": (1, 0.02, 0.05)},
}
QAT = {  # (epochs; SGD's rate; whether the float network teaches), chosen on the last 10,000 training images (seed 0)
    "lenet_300_100": {
        "straight_through": (3, 0.03, False),
        "learned_step": (3, 0.05, False),
        "binary": (10, 0.02, True),
    },
    "lenet_5": {"straight_through": (1, 0.02, False), "learned_step": (1, 0.02, False), "binary": (1, 0.02, True)},
}
QAT_BITS = {  # LeNet-5 takes ten times the MLP's time
    "lenet_300_100": {
        "straight_through": (2, 3, 4, 8),
        "learned_step": (2, 3, 4, 8),
        "learned_step_both": (2, 3, 4, 8),
    },
    "lenet_5": {"straight_through": (2,), "learned_step": (2, 4), "learned_step_both": (2, 4)},
}
QAT_SPARSITIES = {"lenet_300_100": (0.8, MIDDLE, 0.95), "lenet_5": (MIDDLE,)}  # at 4 bits, of learned steps


def run(*, executor=None, log=None, progress=True):
    """Train and measure everything; return the records, each with the name and the seed of its network.

    executor : concurrent.futures.Executor, optional; it maps the (network, seed, technique), which are independent
    log : path, optional, of a file with the records that are done, from which a run that was killed goes on
    """
    tasks = itertools.product(reversed(NETWORKS), SEEDS, TRAINED)  # the long ones first
    return list(itertools.chain(*run_jobs(measure, tasks, executor=executor, log=log, progress=progress)))


def measure(task):  # (network, seed, technique) -> records
    """Train one network by one technique, at every point that is asked of it."""
    name, seed, technique = task
    network, data = trained(name, seed=seed), load_mnist()
    if technique == "retrained":
        points = retrained(network, data, name, seed)
    elif technique == "adaround":
        points = learned_roundings(network, data)
    else:
        points = (trained_through if TRAINED[technique] == "09_qat" else repaired)(network, data, *task)
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


def run_dense(*, executor=None, progress=True):
    """Train the networks of `retrained` in the same stages without pruning; return the records."""
    tasks = itertools.product(reversed(NETWORKS), SEEDS)
    return list(itertools.chain(*run_jobs(dense, tasks, executor=executor, progress=progress)))


def dense(task):  # (network, seed) -> records
    """Train one; `beside` is the sparsity that the pruned network has after the same epochs."""
    name, seed = task
    epochs, recipe = RETRAIN[name]
    network, data = trained(name, seed=seed), load_mnist()
    options = {"epochs_each": list(epochs.values()), **recipe, "seed": seed, "progress": False}
    stages = gradual_pruning(network, data[:2], sparsities=[0.0] * len(epochs), **options)
    errors = [evaluate(whole, data.test_images, data.test_labels) for _, whole in stages]
    one = {"network": name, "seed": seed, **recipe}
    return [
        {**one, "beside": beside, "epochs": count, "error": error}
        for (beside, count), error in zip(epochs.items(), errors, strict=True)
    ]


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


def trained_through(network, data, name, seed, technique):  # -> (bits, sparsity, Network)
    """Train through the rounding: of the weights; with `_both` and `_a4` of what enters the layers too."""
    method = technique.removesuffix("_a4").removesuffix("_both")
    epochs, rate, taught = QAT[name][method]
    options = {"method": method, "epochs": epochs, "rate": rate, "teacher": network.copy() if taught else None}
    options |= {"augment": random_shift, "seed": seed, "progress": False}
    for bits in QAT_BITS[name].get(technique, (1,) if method == "binary" else (2,)):
        inputs = {f"{method}_both": bits, f"{method}_a4": 4}.get(technique)
        yield bits, 0.0, train_quantized(network, data[:2], weight_bits=bits, activation_bits=inputs, **options)
    for sparsity in QAT_SPARSITIES[name] if technique == "learned_step" else ():
        pruned = prune_network(network, sparsity)
        yield 4, sparsity, train_quantized(pruned, data[:2], weight_bits=4, **options)


def learned_roundings(network, data):  # -> (bits, 0, Network)
    """Learn for each weight whether it is rounded up or down; the network is not trained."""
    seen = data.train_images[:CALIBRATION_IMAGES]
    for bits in (2, 3, 4):
        yield bits, 0.0, reconstruct_weights(network, seen, bits=bits, method="adaround")


def main(arguments=None):
    """Train, measure and write."""
    parser = argparse.ArgumentParser(prog="python figures/retraining.py", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: as many as cores)")
    parser.add_argument("--dense", action="store_true", help="only the networks that are not pruned")
    parser.add_argument("--log", type=Path, metavar="FILE", help="what is done")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="the folder (default: this one)")
    asked = parser.parse_args(arguments)
    with open_executor(asked.jobs) as executor:
        if not asked.dense:
            report.write_trained(run(executor=executor, log=asked.log), asked.output)
        rows = [{**record, "error": f"{record['error']:.4f}"} for record in run_dense(executor=executor)]
    write_csv(rows, DENSE, asked.output / "05_dense.csv")
    print(f"The records and figures of chapters 05, 06, 09 and 10 now have what was trained: {asked.output}")


if __name__ == "__main__":
    main()
