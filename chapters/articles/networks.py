"""The networks of the articles on the same MNIST: trained, quantized and pruned as their code means to.

    cd chapters; python -m articles.networks        a quarter of an hour, into figures/13_articles.csv

A0 5.2 has the MLP 784-64-10, A1 5.2 and A2 4.1 one CNN with 32 and 64 filters of 3 x 3. Epochs, batches and optimizers
are the articles'; A1 names Adam and never trains, so it gets three epochs. The weights start as everywhere in nnzip.
"""

import itertools
import os
from functools import partial
from pathlib import Path

import numpy as np

from articles.formulas import a2_4_1_clamp, a2_4_2_small_spread
from nnzip.book.records import write_csv
from nnzip.book.techniques import CALIBRATION_IMAGES, FLOAT
from nnzip.compression.integer import integer_network
from nnzip.compression.pruning import (
    apply_masks,
    masks_of,
    prune_network,
    pruning_masks,
    sparsity_of,
)
from nnzip.compression.quantization import (
    export_rounded,
    quantize_activations,
    quantize_weights,
    round_weights_in_training,
)
from nnzip.data import load_mnist
from nnzip.jobs import open_executor, run_jobs
from nnzip.nn.layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from nnzip.nn.network import Network
from nnzip.nn.training import SGD, Adam, evaluate, fit, training_step
from nnzip.nn.zoo import SEEDS
from nnzip.pruning import linear_schedule

NAME = "13_articles"
COLUMNS = ("section", "seed", "step", "bits", "zeros", "error")
SCHEDULE = partial(
    linear_schedule, begin_step=1000, end_step=10_000, initial_sparsity=0.1, final_sparsity=0.3
)
EVERY = 25  # steps between two prunings; it divides the 9,375 of five epochs
PRUNED = 0.9  # what A2's network is pruned to, by magnitude: its own criterion prunes nothing


def mlp_64(*, seed=0):
    """Return A0 5.2's network, 784-64-10: 50,890 weights and biases.

    Examples
    --------
    >>> sum(array.size for array in mlp_64().parameters().values())
    50890
    """
    rng = np.random.default_rng(seed)
    return Network([Flatten(), Linear(784, 64, rng=rng), ReLU(), Linear(64, 10, rng=rng)])


def cnn_32_64(*, seed=0):
    """Return the network of A1 5.2 and, with 64 * 5 * 5 inputs of the last layer, of A2 4.1: 34,826 parameters.

    Examples
    --------
    >>> sum(array.size for array in cnn_32_64().parameters().values())
    34826
    """
    rng = np.random.default_rng(seed)
    return Network(
        [
            Conv2d(1, 32, 3, rng=rng),  # [N, 1, 28, 28] -> [N, 32, 26, 26]
            ReLU(),
            MaxPool2d(2),  # [N, 32, 13, 13]
            Conv2d(32, 64, 3, rng=rng),  # [N, 64, 11, 11]
            ReLU(),
            MaxPool2d(2),  # [N, 64, 5, 5]
            Flatten(),
            Linear(1600, 10, rng=rng),
        ]
    )


def prune_in_training(
    network, data, *, schedule, epochs, batch_size, optimizer, every=EVERY, seed=0
):
    """Return a copy, trained on and pruned at every so many steps to what schedule(step) asks, each layer alike.

    Source: Zhu and Gupta 2017 (arXiv:1710.01878), section 3: the mask is made anew from the weights as they are.
    """
    (images, labels), rng, masks = data, np.random.default_rng(seed), None
    orders = (rng.permutation(len(images)) for _ in range(epochs))
    batches = (np.split(order, range(batch_size, len(order), batch_size)) for order in orders)
    for step, indices in enumerate(itertools.chain.from_iterable(batches)):
        if step % every == 0:
            masks = pruning_masks(network, schedule(step))
            network = apply_masks(network, masks)  # a copy, the first time of what was given
        training_step(network, images[indices], labels[indices], indices, optimizer, masks=masks)
    return network


def a0_5_2(data, seed):  # -> (step, bits, Network), one after the other
    """Train the MLP for five epochs; quantize it; prune it along the schedule in five more."""
    network, seen = mlp_64(seed=seed), data[:2]
    training = {"epochs": 5, "batch_size": 32, "seed": seed}
    fit(network, seen, optimizer=Adam(0.001), progress=False, **training)
    yield "trained", FLOAT, network
    yield from quantized(network, data)
    longer = network.copy()
    fit(longer, seen, optimizer=Adam(0.001), progress=False, **training)
    yield "trained twice as long", FLOAT, longer
    for bits in (8, 2):
        student = round_weights_in_training(network, bits=bits, per_channel=False)
        fit(student, seen, optimizer=Adam(0.001), progress=False, **training)
        yield "trained through the rounding", bits, export_rounded(student)
    pruned = prune_in_training(network, seen, schedule=SCHEDULE, optimizer=Adam(0.001), **training)
    yield "pruned along the schedule", FLOAT, pruned
    steeper = partial(
        linear_schedule, begin_step=1000, end_step=7500, initial_sparsity=0.1, final_sparsity=0.9
    )
    pruned = prune_in_training(network, seen, schedule=steeper, optimizer=Adam(0.001), **training)
    yield "pruned to 90 % by step 7,500", FLOAT, pruned


def a1_5_2(data, seed):
    """Train the CNN, which the article does not, and quantize it."""
    network = cnn_32_64(seed=seed)
    fit(
        network, data[:2], epochs=3, batch_size=32, optimizer=Adam(0.001), seed=seed, progress=False
    )
    yield "trained", FLOAT, network
    yield from quantized(network, data)


def a2_4(data, seed):
    """Train the CNN for ten epochs; quantize and prune it as printed and repaired, and as it is meant; retrain."""
    network = cnn_32_64(seed=seed)
    sgd = {"batch_size": 64, "seed": seed, "progress": False}
    fit(network, data[:2], epochs=10, optimizer=SGD(0.01, momentum=0), **sgd)
    yield "trained", FLOAT, network
    yield from quantized(network, data)
    yield "4.1 as printed, repaired", FLOAT, loaded(network, a2_4_1_clamp(network.parameters()))
    yield (
        "4.2 as printed, repaired",
        FLOAT,
        loaded(network, a2_4_2_small_spread(network.parameters())),
    )
    pruned = prune_network(network, PRUNED, scope="network")
    yield "pruned to 90 %", FLOAT, pruned
    for step, masks in (
        ("retrained with the mask", masks_of(pruned)),
        ("retrained without a mask", None),
    ):
        retrained = pruned.copy()
        fit(retrained, data[:2], epochs=1, optimizer=SGD(0.01, momentum=0), masks=masks, **sgd)
        yield step, FLOAT, retrained


def quantized(network, data):
    """Yield the network after training, rounded per tensor; 8 bits also with its activations, and in integers only."""
    images = data[0][:CALIBRATION_IMAGES]
    for bits in (8, 4, 2):
        yield "weights rounded", bits, quantize_weights(network, bits=bits, per_channel=False)
    rounded = quantize_weights(network, bits=8, per_channel=False)
    yield "weights and activations rounded", 8, quantize_activations(rounded, images, bits=8)
    yield "in integers only", 8, integer_network(network, images, per_channel=False)


def loaded(network, values):
    """Return a copy of the network with these parameters."""
    copy = network.copy()
    copy.load_parameters(values)
    return copy


SECTIONS = {"A2 4": a2_4, "A1 5.2": a1_5_2, "A0 5.2": a0_5_2}  # the long ones first


def measure(task):  # (section, seed) -> records
    """Train and measure what one section has."""
    section, seed = task
    data, records = load_mnist(), []
    for step, bits, network in SECTIONS[section](data, seed):
        error = evaluate(network, data.test_images, data.test_labels)
        records.append(
            dict(
                zip(COLUMNS, (section, seed, step, bits, sparsity_of(network), error), strict=True)
            )
        )
    return records


def run(*, executor=None, log=None, progress=True):
    """Train and measure everything; return the records, one for each (section, seed, step, bits)."""
    tasks = itertools.product(SECTIONS, SEEDS)
    records = itertools.chain(
        *run_jobs(measure, tasks, executor=executor, log=log, progress=progress)
    )
    return sorted(records, key=lambda record: (record["section"], record["seed"]))


def write_networks(records, folder):
    """Write the records into a folder that exists."""
    rows = [
        {**record, **{key: f"{record[key]:.4f}" for key in ("zeros", "error")}}
        for record in records
    ]
    write_csv(rows, COLUMNS, folder / f"{NAME}.csv")


if __name__ == "__main__":
    with open_executor(os.cpu_count()) as executor:
        write_networks(run(executor=executor), Path(__file__).resolve().parents[2] / "figures")
