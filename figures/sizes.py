"""Error against bytes on disk: techniques and their combinations, each written to a .nnz file, read back and tested.

    python figures/sizes.py            every network and seed: two hours on two cores, as some are trained again
    python figures/sizes.py 0          seed 0 only; the records of other seeds stay

It writes 12_archive.csv and 12_archive_pareto.png into this folder.
"""

import itertools
import os
import sys
import tempfile
from pathlib import Path

import retraining

from nnzip.book import plots
from nnzip.book.records import read_records, write_csv
from nnzip.book.sizes import NAMES, committed, published, share_kept, sizes_figure
from nnzip.book.study import BITS, NETWORKS
from nnzip.book.techniques import FLOAT, TECHNIQUES
from nnzip.checks import one_of
from nnzip.compression.hadamard import rotate_network
from nnzip.compression.pruning import prune_network
from nnzip.compression.quantization import quantize_weights
from nnzip.data import load_mnist
from nnzip.files import archive
from nnzip.jobs import open_executor, run_jobs
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import SEEDS, trained

NAME = "12_archive"
COLUMNS = ("network", "seed", "technique", "bits", "sparsity", "bytes", "error")
ROUNDED = tuple(bits for bits in BITS if bits != FLOAT)
SPARSITIES = (0.5, 0.8, 0.9, 0.95)


# Each family yields (technique, bits, sparsity, Network).


def rounded(network, data, name, seed):
    yield "float", FLOAT, 0.0, network
    for bits in ROUNDED:
        for technique in ("per_tensor", "per_channel"):
            yield technique, bits, 0.0, TECHNIQUES[technique].function(network, data, bits=bits, sparsity=0.0)
        yield "rotated", bits, 0.0, quantize_weights(rotate_network(network), bits=bits)
    for bits in (1, *ROUNDED):
        yield "codebook", bits, 0.0, share_kept(network, bits)


def pruned(network, data, name, seed):
    for sparsity in SPARSITIES:
        sparse = prune_network(network, sparsity, scope="network")
        yield "pruned", FLOAT, sparsity, sparse
        for bits in (8, 4, 3):
            yield "pruned_uniform", bits, sparsity, quantize_weights(sparse, bits=bits)
        for bits in (4, 3, 2):
            yield "pruned_codebook", bits, sparsity, share_kept(sparse, bits)


def retrained(network, data, name, seed):
    for bits, sparsity, sparse in retraining.retrained(network, data, name, seed):
        if bits == FLOAT:
            yield "retrained", FLOAT, sparsity, sparse
            for shared_bits in (3, 2):
                yield "retrained_codebook", shared_bits, sparsity, share_kept(sparse, shared_bits)


def distilled(network, data, name, seed):
    for bits, sparsity, student in retraining.repaired(network, data, name, seed, "distilled"):
        if bits != FLOAT:
            yield "distilled", bits, sparsity, student


FAMILIES = {"retrained": retrained, "distilled": distilled, "pruned": pruned, "rounded": rounded}  # the long ones first


def measure(task):  # (network, seed, family) -> records
    """Save every network of a family, load each file again, and test what comes back."""
    name, seed, family = task
    data, records = load_mnist(), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.nnz"
        for technique, bits, sparsity, network in FAMILIES[family](trained(name, seed=seed), data, name, seed):
            size = archive.save(network, path)
            error = evaluate(archive.load(path), data.test_images, data.test_labels)
            records.append(dict(zip(COLUMNS, (name, seed, technique, bits, sparsity, size, error), strict=True)))
    return records


def run(*, seeds=SEEDS, executor=None, log=None, progress=True):
    """Measure everything; return the records, those of one network and seed together; `run_jobs` says the options."""
    tasks = itertools.product(reversed(NETWORKS), seeds, FAMILIES)
    return list(itertools.chain(*run_jobs(measure, tasks, executor=executor, log=log, progress=progress)))


def write_sizes(records, folder):
    """Write the records and the figure into a folder; those of seeds that were not measured now stay."""
    path, seeds = folder / f"{NAME}.csv", {record["seed"] for record in records}
    there = read_records(path) if path.exists() else []
    order = ["float", *NAMES]
    everything = sorted(
        [*records, *(record for record in there if record["seed"] not in seeds)],
        key=lambda r: (r["network"], r["seed"], order.index(r["technique"]), -r["bits"], r["sparsity"]),
    )
    write_csv([{**record, "error": f"{record['error']:.4f}"} for record in everything], COLUMNS, path)
    figure = sizes_figure(everything, others=[*published(folder), *committed(folder)])
    plots.save_figure(figure, folder / f"{NAME}_pareto.png")


def main(arguments):
    seeds = [one_of(*SEEDS)(seed, "a seed") for seed in map(int, arguments)] or SEEDS
    with open_executor(os.cpu_count()) as executor:
        write_sizes(run(seeds=seeds, executor=executor), Path(__file__).parent)


if __name__ == "__main__":
    main(sys.argv[1:])
