"""The trained reference networks: `trained("lenet_5", seed=0)` loads one, `train` makes one again.

The committed weights make every chapter start at once and print the same everywhere. BLAS differs in the last bits
between CPUs, so training again agrees in error, not in bits.
"""

from pathlib import Path

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.checks import check_choice, check_integer
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


def trained(name, *, seed=0, retrain=False):
    """Return a trained network.

    Parameters
    ----------
    name : "lenet_300_100" or "lenet_5"
    seed : 0, 1 or 2; any other with `retrain`
        Of the initial weights, the order of the images and their shifts.
    retrain : bool
        Train it now (under a minute and under five minutes) instead of loading the committed weights.

    Examples
    --------
    >>> trained("lenet_300_100").predict(load_mnist().test_images[:5]).tolist()
    [7, 2, 1, 0, 4]
    """
    if retrain:
        return train(name, seed=seed)
    check_choice(name, "name", BUILD)
    check_choice(check_integer(seed, "seed", 0), "seed (of a committed network)", SEEDS)
    network = BUILD[name]()
    with np.load(FOLDER / f"{name}_seed{seed}.npz", allow_pickle=False) as weights:
        network.load_parameters(dict(weights))
    return network


def train(name, *, seed=0, progress=True):
    """Train a network of the zoo from scratch on MNIST with its recipe."""
    check_choice(name, "name", BUILD)
    check_integer(seed, "seed", 0)
    recipe = RECIPES[name]
    network = BUILD[name](seed=seed)
    optimizer = SGD(recipe["rate"], l2=recipe["l2"])
    fit(
        network,
        load_mnist(),
        epochs=recipe["epochs"],
        batch_size=128,
        optimizer=optimizer,
        schedule=cosine_decay,
        augment=random_shift,
        seed=seed,
        progress=progress,
    )
    return network


def save(network, name, *, seed, folder=FOLDER):
    """Write the weights where `trained` looks for them; return the path."""
    path = Path(folder) / f"{name}_seed{seed}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez_compressed(file, **network.parameters())
    return path
