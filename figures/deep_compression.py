"""Deep Compression of both networks, three seeds each: the two files of chapter 12, and what the held-out images said.

    python figures/deep_compression.py            every network and seed: an hour on two cores
    python figures/deep_compression.py 0          seed 0 only; the records of other seeds stay

It writes into this folder, of seed 0, 12_lenet_300_100.nnz and 12_lenet_5.nnz; of each run what came of it,
12_deep_compression.csv, and every look at the held-out images on the way, 12_deep_compression_looks.csv. Beside these
12_taught_float.csv: the same networks from the same start, taught by the same teacher, with nothing removed or shared.
"""

import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

from nnzip.book.records import read_records, write_csv
from nnzip.book.study import NETWORKS
from nnzip.checks import one_of
from nnzip.compression.deep_compression import RATES, Lessons, compress
from nnzip.data import load_mnist
from nnzip.files import archive
from nnzip.jobs import open_executor, run_jobs
from nnzip.nn.training import Adam, cosine_decay, evaluate
from nnzip.nn.zoo import BUILD, SEEDS, trained

FOLDER = Path(__file__).parent
LOOKS = ("network", "seed", "stage", "parameters", "units", "held_out_error", "limit")
RUNS = (
    "network",
    "seed",
    "parameters",
    "units",
    "bytes",
    "held_out_error",
    "limit",
    "test_error",
    "cpu_seconds",
    "why",
)
TAUGHT = ("network", "seed", "epochs", "test_error", "cpu_seconds")
EPOCHS = {  # of a float network: about as many as a compressed MLP learns for; of LeNet-5, half, as each takes 15 s
    "lenet_300_100": (85, 15),
    "lenet_5": (25, 15),
}


def measure(task):  # (network, seed) -> records, the last one of the file
    """Compress a network, write it, read it back and test it; the file of seed 0 goes into the folder of figures."""
    (name, seed), start, data = task, time.process_time(), load_mnist()
    network, history = compress(name, seed=seed, progress=False)
    history[-1]["cpu_seconds"] = round(time.process_time() - start)
    with tempfile.TemporaryDirectory() as folder:
        path = FOLDER / f"12_{name}.nnz" if seed == 0 else Path(folder) / "network.nnz"
        history[-1]["bytes"] = archive.save(network, path)
        history[-1]["test_error"] = evaluate(archive.load(path), data.test_images, data.test_labels)
    return [as_text({"network": name, "seed": seed, **record}) for record in history]


def measure_float(task):  # (network, seed) -> record
    """Teach a network as `compress` does, from the same first weights, and leave all of its parameters as they are."""
    (name, seed), start, data = task, time.process_time(), load_mnist()
    network, lessons = BUILD[name](seed=seed), Lessons(trained("lenet_5", seed=seed), data[:2], seed=seed)
    lessons.teach(network, Adam(RATES[0]), EPOCHS[name][0])
    lessons.teach(network, Adam(RATES[1]), EPOCHS[name][1], schedule=cosine_decay)
    error, spent = f"{evaluate(network, *data[2:]):.4f}", round(time.process_time() - start)
    return dict(zip(TAUGHT, (name, seed, sum(EPOCHS[name]), error, spent), strict=True))


def as_text(record):
    """Return a record of `deep_compression`'s history as the files have it."""
    errors = {key: f"{record[key]:.4f}" for key in ("held_out_error", "limit", "test_error") if key in record}
    units = " ".join(map(str, record.pop("units")))
    return record | {"parameters": record.pop("kept"), "units": units} | errors


def write(name, columns, found, seeds):
    """Write the columns of some records; those of seeds that were not measured now stay."""
    path = FOLDER / f"{name}.csv"
    stay = [record for record in read_records(path) if record["seed"] not in seeds] if path.exists() else []
    rows = [{key: record[key] for key in columns} for record in (*found, *stay)]
    write_csv(sorted(rows, key=lambda row: (row["network"], row["seed"])), columns, path)


def main(arguments):
    seeds = [one_of(*SEEDS)(seed, "a seed") for seed in map(int, arguments)] or SEEDS
    tasks = list(itertools.product(reversed(NETWORKS), seeds))
    with open_executor(os.cpu_count()) as executor:
        runs = run_jobs(measure, tasks, executor=executor, progress=True)
        taught = run_jobs(measure_float, tasks, executor=executor, progress=True)
    write("12_deep_compression", RUNS, [run[-1] for run in runs], seeds)
    write("12_deep_compression_looks", LOOKS, itertools.chain(*(run[:-1] for run in runs)), seeds)
    write("12_taught_float", TAUGHT, taught, seeds)


if __name__ == "__main__":
    main(sys.argv[1:])
