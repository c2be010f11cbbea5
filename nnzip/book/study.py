"""The study: the test error of a network against bit width and sparsity, for every technique, and its records.

A record is a dict: technique, bits, sparsity, error, sqnr_db. What the techniques are is in `nnzip.book.techniques`.
"""

import itertools
from collections.abc import Iterable
from functools import cache, partial

import numpy as np

from nnzip.book.records import read_records, select, write_csv  # noqa: F401
from nnzip.book.techniques import CALIBRATION_IMAGES, FLOAT, MAIN, TECHNIQUES, TRAINED, Points
from nnzip.checks import check_choice, check_integer, check_number
from nnzip.data import Mnist, load_mnist
from nnzip.jobs import run_jobs
from nnzip.nn.network import check_network, weights_of
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import SEEDS, trained
from nnzip.quantization import sqnr_db

BITS = (2, 3, 4, 5, 6, 7, 8, FLOAT)
SPARSITIES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99)
FEW_BITS = (2, 3, 4, 8, FLOAT)
FEW_SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.99)
QUICK_BITS = (2, 4, 8, FLOAT)
QUICK_SPARSITIES = (0.5, 0.9)
NETWORKS = ("lenet_300_100", "lenet_5")
SLOW = ("activation_aware", "rotated", "rotated_per_channel", "obs", "gptq", "gptq_rotated", "mixed")
GRID = ("network", "seed", "technique", "bits", "sparsities")
COLUMNS = ("network", "seed", "technique", "bits", "sparsity", "error", "sqnr_db")


def error_grid(network, data, *, technique, bits, sparsities, executor=None):
    """Measure a network at every pair of bit width and sparsity.

    Parameters
    ----------
    network : Network
    data : Mnist, as `load_mnist()` returns it
        The error is that on its test images; techniques that calibrate use the first 1,000 training images.
    technique : a name in `TECHNIQUES`, or a function (network, data, *, bits, sparsity) -> Network
    bits : iterable of int, each 1 (for codebooks) to 16, or 32 for the float network
    sparsities : iterable of float in [0, 1]
    executor : concurrent.futures.Executor, optional
        Maps the points of the grid, which do not depend on each other; without it they run one after the other.

    Returns
    -------
    list of records, bits outermost: dicts with technique, bits, sparsity, error (a fraction), sqnr_db (of all weights)

    Examples
    --------
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
        check_choice(technique, "technique", [name for name in TECHNIQUES if name not in TRAINED])
    points = [(check_bits(b), check_number(s, "a sparsity", 0, 1)) for b, s in itertools.product(bits, sparsities)]
    data = Mnist(data[0][:CALIBRATION_IMAGES], data[1][:CALIBRATION_IMAGES], *data[2:])  # little to send to a process
    size = -(-len(points) // 8) or 1
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    work = partial(_measure_all, network, data, technique)  # the network and the data travel once for each part
    return list(itertools.chain.from_iterable(run_jobs(work, parts, executor=executor, progress=False)))


def _measure_all(network, data, technique, points):
    return [measure(network, data, technique, *point) for point in points]


def measure(network, data, technique, bits, sparsity):
    """Return the record of one point of the grid."""
    apply = TECHNIQUES[technique].function if isinstance(technique, str) else technique
    return record_of(network, apply(network, data, bits=bits, sparsity=sparsity), data, technique, bits, sparsity)


def record_of(network, compressed, data, technique, bits, sparsity):
    """Return the record of a compressed network: its error, and how far its weights are from the network's."""
    return {
        "technique": name_of(technique),
        "bits": bits,
        "sparsity": sparsity,
        "error": evaluate(compressed, data.test_images, data.test_labels),
        "sqnr_db": sqnr_db(all_weights(network), all_weights(compressed)),
    }


def name_of(technique):
    """Return the name that records give a technique: a partial goes by its function, an object by its class."""
    if isinstance(technique, str):
        return technique
    return getattr(technique, "__name__", None) or getattr(technique, "func", type(technique)).__name__


def all_weights(network):  # -> [n]
    """Return every weight of every layer in one row, without the biases."""
    return np.concatenate([weight.ravel() for weight in weights_of(network).values()])


def check_bits(bits):
    """Return a bit width of the study as an int: 1 (for codebooks) to 16, or FLOAT."""
    return FLOAT if bits == FLOAT else check_integer(bits, f"bits (or {FLOAT} for float)", 1, 16)


def plan(*, quick=False, everything=False):
    """Return the grids of the study: keyword arguments for `error_grid`, with the name and seed of the network.

    They are the curves of the four techniques and of the integer networks; LeNet-5's have fewer points, as they take
    ten times as long. everything: all techniques that need no training, at all points; quick: seed 0 and few points of
    both networks.
    """
    return [
        {"network": name, "seed": seed, "technique": technique, "bits": widths, "sparsities": zeros}
        for name, seed in itertools.product(NETWORKS, SEEDS[:1] if quick else SEEDS)
        for technique, widths, zeros in _grids(name, quick=quick, everything=everything)
    ]


def _grids(name, *, quick, everything):  # -> (technique, bits, sparsities)
    widths, zeros = [(BITS, SPARSITIES[1:]), (FEW_BITS, FEW_SPARSITIES), (QUICK_BITS, QUICK_SPARSITIES)][
        quick + (name == "lenet_5" and not everything)
    ]
    points = Points(name == "lenet_300_100", widths, zeros, details=everything)
    for technique in TECHNIQUES.values():
        if everything or technique.chapter in MAIN:
            yield from ((technique.name, *grid) for grid in technique.grids(points) if all(grid))


def run_study(*, quick=False, everything=False, retrain=False, executor=None, log=None, progress=True):
    """Measure what is in the plan; return the records, each with the name and the seed of its network.

    executor : concurrent.futures.Executor, optional; it maps the grids, and who measures one loads what it needs
    log : path, optional, of a file with the records that are done, from which a study that was killed goes on
    """
    grids = [tuple(grid[key] for key in GRID) for grid in plan(quick=quick, everything=everything)]
    keys = dict.fromkeys(grid[:2] for grid in grids if retrain)
    networks = {(name, seed): trained(name, seed=seed, retrain=True) for name, seed in keys}
    how = {"executor": executor, "log": log, "settings": {"retrain": retrain}, "cost": _cost, "progress": progress}
    return _with_floats(grids, run_jobs(partial(measure_grid, networks), _floats_once(grids), **how))


def _floats_once(grids):
    """Return the grids with the float network, which all techniques share, in the first alone of each network's."""
    measured, jobs = set(), []
    for name, seed, technique, bits, sparsities in grids:
        if FLOAT in bits and sparsities == (0.0,):
            bits = tuple(b for b in bits if b != FLOAT or (name, seed) not in measured)
            measured.add((name, seed))
        jobs.append((name, seed, technique, bits, sparsities))
    return jobs


def _with_floats(grids, results):
    """Return all records in a row, that of the float network in every grid that asked for it."""
    floats = {(r["network"], r["seed"]): r for r in select(itertools.chain(*results), bits=FLOAT, sparsity=0.0)}
    for (name, seed, technique, bits, sparsities), found in zip(grids, results, strict=True):
        if len(found) < len(bits) * len(sparsities):
            found.append({**floats[name, seed], "technique": technique})
    return list(itertools.chain(*results))


def measure_grid(networks, grid):  # {(name, seed): Network}, values of GRID -> records
    """Measure a grid on one of these networks, or on the committed one where it is not among them."""
    name, seed, technique, bits, sparsities = grid
    network = networks.get((name, seed)) or trained(name, seed=seed)
    found = error_grid(network, study_data(), technique=technique, bits=bits, sparsities=sparsities)
    return [{"network": name, "seed": seed, **record} for record in found]


@cache
def study_data():
    """Return of MNIST what the study needs: 1,000 training images and all test images; a process loads them once."""
    data = load_mnist()
    return Mnist(*(array[:CALIBRATION_IMAGES].copy() for array in data[:2]), *data[2:])


def _cost(grid):
    """Return the rough cost of a grid, in evaluations of the MLP."""
    name, _, technique, bits, sparsities = grid
    slow = technique in SLOW or "integer" in technique  # twice the time of an evaluation
    each = {"lenet_300_100": 1, "lenet_5": 10}[name] * (2 if slow else 1)
    return len(bits) * len(sparsities) * each


def write_records(records, path):
    """Write the records as CSV, one a row, in the order given."""
    rows = [{**record, "error": f"{record['error']:.4f}", "sqnr_db": f"{record['sqnr_db']:.2f}"} for record in records]
    write_csv(rows, COLUMNS, path)
