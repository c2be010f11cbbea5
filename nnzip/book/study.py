"""The study: the test error of a network against bit width and sparsity, for every technique, and its records.

A record is a dict: technique, bits, sparsity, error, sqnr_db. What the techniques are is in `nnzip.book.techniques`.
"""

import itertools
import math
from collections.abc import Iterable
from functools import cache, partial

import numpy as np

from nnzip.book.records import read_records, select, write_csv  # noqa: F401
from nnzip.book.techniques import BITS, CALIBRATION_IMAGES, FLOAT, MAIN, SPARSITIES, TECHNIQUES, TRAINED, UNPRUNED
from nnzip.checks import one_of, unit, whole
from nnzip.data import Mnist, load_mnist
from nnzip.jobs import run_jobs
from nnzip.nn.network import check_network, weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import SEEDS, train, trained
from nnzip.quantization import sqnr_db

NETWORKS = ("lenet_300_100", "lenet_5")
EXTENTS = (  # what is measured of a technique's grids: of both networks, of LeNet-5 in the main job, in the quick one
    (BITS, SPARSITIES),
    ((2, 3, 4, 8, FLOAT), (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)),
    ((2, 4, 8, FLOAT), (0.0, 0.5, 0.9)),
)
COLUMNS = ("network", "seed", "technique", "bits", "sparsity", "error", "sqnr_db")


def error_grid(network, data, *, technique, bits, sparsities, executor=None):
    """Measure a network at every pair of bit width and sparsity; return the records, bits outermost.

    A record is a dict: technique, bits, sparsity, error (a fraction of the test images), sqnr_db (of all weights).

    data : Mnist, as `load_mnist()` returns it; techniques that calibrate use the first 1,000 training images
    technique : a name in `TECHNIQUES`, or a function (network, data, *, bits, sparsity) -> Network
    bits : each 1 (for codebooks) to 16, or 32 for the float network
    executor : concurrent.futures.Executor, optional; it maps the points, which do not depend on each other

    >>> from nnzip.data import load_mnist
    >>> [record] = error_grid(trained("lenet_300_100"), load_mnist(), technique="per_tensor", bits=[8], sparsities=[0])
    >>> record["bits"], record["error"] < 0.02, record["sqnr_db"] > 30
    (8, True, True)
    """
    check_network(network)
    for name, values in (("bits", bits), ("sparsities", sparsities)):
        if not isinstance(values, Iterable):
            raise TypeError(f"{name} must be a list or other iterable, got {values!r}")
    if not isinstance(data, tuple) or len(data) != 4:
        raise TypeError(f"data must be a Mnist, as load_mnist() returns it, got {type(data).__name__}")
    if not callable(technique):
        one_of(*(name for name in TECHNIQUES if name not in TRAINED))(technique, "technique")
    bits = [FLOAT if b == FLOAT else whole(1, 16)(b, f"bits (or {FLOAT} for float)") for b in bits]
    sparsities = [unit(sparsity, "a sparsity") for sparsity in sparsities]
    points = list(itertools.product(bits, sparsities))
    size = max(1, math.ceil(len(points) / 8))  # the network and the data travel once for each of eight parts
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    work = partial(_measure, network, _used(data), technique)
    return list(itertools.chain(*run_jobs(work, parts, executor=executor)))


def _used(data):  # the first 1,000 training images, without a view of the others, and the test set
    return Mnist(*(array[:CALIBRATION_IMAGES].copy() for array in data[:2]), *data[2:])


def _measure(network, data, technique, points):
    apply = technique if callable(technique) else TECHNIQUES[technique].function
    found = (apply(network, data, bits=bits, sparsity=sparsity) for bits, sparsity in points)
    return [record_of(network, each, data, technique, *point) for each, point in zip(found, points, strict=True)]


def record_of(network, compressed, data, technique, bits, sparsity):
    """Return the record of a compressed network: its error, and how far its weights are from the network's."""
    return {
        "technique": _name_of(technique),
        "bits": bits,
        "sparsity": sparsity,
        "error": evaluate(compressed, data.test_images, data.test_labels),
        "sqnr_db": sqnr_db(all_weights(network), all_weights(compressed)),
    }


def _name_of(technique):  # a partial goes by its function, an object by its class
    if isinstance(technique, str):
        return technique
    return getattr(technique, "__name__", None) or getattr(technique, "func", type(technique)).__name__


def all_weights(network):  # -> [n]
    """Return every weight of every layer in one row, without the biases."""
    return np.concatenate([weight.ravel() for weight in weights_of(network).values()])


def plan(*, quick=False, everything=False):  # -> [(network, seed, technique, bits, sparsities)]
    """Return the grids of the study.

    They are the curves of the four techniques and of the integer networks: over bits of what is not pruned, and over
    sparsities at 4 bits and in float; of LeNet-5 fewer points, as they take ten times as long.

    everything : all techniques that need no training, at all points
    quick : seed 0 and few points of both networks
    """
    grids = []
    for network, seed in itertools.product(NETWORKS, SEEDS[:1] if quick else SEEDS):
        cnn = network == "lenet_5"
        widths, zeros = EXTENTS[quick + (cnn and not everything)]
        for name in TECHNIQUES if everything else MAIN:
            for bits, sparsities in TECHNIQUES[name].cnn if cnn else TECHNIQUES[name].mlp:
                curves = not everything and sparsities != UNPRUNED  # other widths are for maps and tables
                bits = tuple(b for b in bits if b in ((4, FLOAT) if curves else (1, *widths)))
                sparsities = tuple(s for s in sparsities if s in zeros)
                if bits and sparsities:
                    grids.append((network, seed, name, bits, sparsities))
    return grids


def run_study(*, quick=False, everything=False, retrain=False, executor=None, log=None, progress=True):
    """Measure what is in the plan; return the records, each with the name and the seed of its network.

    executor : concurrent.futures.Executor, optional; it maps the grids, and who measures one loads what it needs
    log : path, optional, of a file with the records that are done, from which a study that was killed goes on
    """
    grids = plan(quick=quick, everything=everything)
    keys = dict.fromkeys(grid[:2] for grid in grids if retrain)
    networks = {(name, seed): train(name, seed=seed, progress=True) for name, seed in keys}
    parts = [(grid[2], part) for grid in grids for part in _parts(grid)]
    how = {"executor": executor, "log": log, "settings": {"retrain": retrain}, "cost": _cost, "progress": progress}
    results = run_jobs(partial(measure_grid, networks), [part for _, part in parts], **how)
    pairs = zip(parts, results, strict=True)
    return [{**record, "technique": technique} for (technique, _), found in pairs for record in found]


def _parts(grid):
    """Yield a grid without the float network, and that one alone: it is the same for every technique, so done once."""
    name, seed, technique, bits, sparsities = grid
    if FLOAT not in bits or sparsities != UNPRUNED:
        yield grid
    else:
        yield name, seed, technique, bits[:-1], sparsities
        yield name, seed, "per_tensor", (FLOAT,), sparsities


def measure_grid(networks, grid):  # {(name, seed): Network}, a grid of the plan -> records
    """Measure a grid on one of these networks, or on the committed one where it is not among them."""
    name, seed, technique, bits, sparsities = grid
    network = networks.get((name, seed)) or trained(name, seed=seed)
    found = error_grid(network, study_data(), technique=technique, bits=bits, sparsities=sparsities)
    return [{"network": name, "seed": seed, **record} for record in found]


@cache
def study_data():
    """Return of MNIST what the study needs; a process loads it once."""
    return _used(load_mnist())


def _cost(grid):
    """Return the rough cost of a grid, in evaluations of the MLP."""
    name, _, technique, bits, sparsities = grid
    slow = technique.startswith(("integer", "rotated", "activation", "obs", "gptq", "mixed"))
    return len(bits) * len(sparsities) * (10 if name == "lenet_5" else 1) * (2 if slow else 1)


def write_records(records, path):
    """Write the records as CSV, one a row, in the order given."""
    rows = [{**record, "error": f"{record['error']:.4f}", "sqnr_db": f"{record['sqnr_db']:.2f}"} for record in records]
    write_csv(rows, COLUMNS, path)
