"""The trained reference networks: `trained("lenet_5", seed=0)` loads one, `train` makes one again (chapter 01).

The committed weights make every chapter start at once and print the same everywhere. BLAS differs in the last bits
between CPUs, so training again agrees in error, not in bits.
"""

from pathlib import Path

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import door, one_of, whole
from nnzip.data import load_mnist
from nnzip.nn.network import lenet_5, lenet_300_100
from nnzip.nn.training import SGD, cosine_decay, fit, random_shift

FOLDER = Path(__file__).parent / "weights"
SEEDS = (0, 1, 2)
BUILD = {"lenet_300_100": lenet_300_100, "lenet_5": lenet_5}
RECIPES = {  # images shifted by up to two pixels, batches of 128, momentum 0.9, the rate falling as a cosine
    "lenet_300_100": {"epochs": 25, "rate": 0.1, "l2": 2e-5},
    "lenet_5": {"epochs": 15, "rate": 0.05, "l2": 1e-4},
}


@door
def trained(name: one_of(*BUILD), *, seed: one_of(*SEEDS) = 0):
    """Return a committed network: "lenet_300_100" or "lenet_5", with the seed 0, 1 or 2.

    >>> trained("lenet_300_100").predict(load_mnist().test_images[:5]).tolist()
    [7, 2, 1, 0, 4]
    """
    network = BUILD[name]()
    with np.load(FOLDER / f"{name}_seed{seed}.npz", allow_pickle=False) as weights:
        network.load_parameters(dict(weights))
    return network


@door
def train(name: one_of(*BUILD), *, seed: whole(0) = 0, progress=False):
    """Train a network of the zoo from scratch on MNIST with its recipe, under a minute, or under five.

    The seed decides the initial weights, the order of the images and their shifts.
    """
    network, recipe = BUILD[name](seed=seed), RECIPES[name]
    optimizer = SGD(recipe["rate"], l2=recipe["l2"])
    how = {"epochs": recipe["epochs"], "batch_size": 128, "schedule": cosine_decay, "augment": random_shift}
    fit(network, load_mnist(), optimizer=optimizer, seed=seed, progress=progress, **how)
    return network


def save(network, name, *, seed, folder=FOLDER):
    """Write the weights where `trained` looks for them; return the path."""
    path = Path(folder) / f"{name}_seed{seed}.npz"
    with atomic_write(path) as file:
        np.savez_compressed(file, **network.parameters())
    return path
