"""The searches of chapter 11 that take longer than a chapter may, and their records.

    python figures/searches.py             a quarter of an hour on one core
    python figures/searches.py --jobs 2    in two processes

It writes 11_bits.csv, evolution against chance over each layer's bits and sparsity, and 11_widths.csv, every MLP of a
space trained with three seeds, into figures/. Killed and started again it goes on from its logs, figures/11_*.jsonl.

On a cluster: a job is a short list of numbers, and a worker loads MNIST and the network from its own copy of nnzip. So
any `concurrent.futures.Executor` will do, for example one of Dask (https://distributed.dask.org):

    from dask.distributed import Client

    with Client("tcp://scheduler:8786") as client:
        run = functools.partial(run_jobs, executor=client.get_executor(), log="bits.jsonl")
        found = search.search_bits("lenet_5", evaluations=1000, run=run)

Only the genomes of one generation, 20, run side by side: the next needs their results. Random search has no such limit.
"""

import argparse
import functools
import itertools
from pathlib import Path

from nnzip.book.records import write_csv
from nnzip.compression import search
from nnzip.jobs import open_executor, run_jobs
from nnzip.nn.zoo import SEEDS

BITS = (*(("lenet_300_100", seed, 200) for seed in SEEDS), ("lenet_5", 0, 100))
IMAGES = 1000
PARAMETERS = 20_000
RECIPE = {"images": 10_000, "epochs": 2, "rate": 0.1}
BITS_COLUMNS = ("network", "network_seed", "way", "number", "genome", "loss", "bytes", "train_error", "test_error")
WIDTHS_COLUMNS = ("genome", "parameters", *(f"error_{seed}" for seed in SEEDS))


def run_bits(folder, executor=None):
    """Search for bits and sparsities in both ways, on every network; return the records."""
    records = []
    for (name, seed, evaluations), way in itertools.product(BITS, search.WAYS):
        settings = {"name": name, "network_seed": seed, "images": IMAGES}
        log = Path(folder) / f"11_bits_{name}_{seed}.jsonl"
        run = functools.partial(run_jobs, executor=executor, log=log, settings=settings, progress=True)
        options = {"way": way, "network_seed": seed, "images": IMAGES, "seed": seed, "run": run}
        for number, found in enumerate(search.search_bits(name, evaluations=evaluations, **options)):
            one = {"network": name, "network_seed": seed, "way": way, "number": number, **found}
            records.append(one | {"genome": " ".join(map(str, found["genome"])), "loss": f"{found['loss']:.6f}"})
    return records


def run_widths(folder, executor=None):
    """Train every MLP of the space once with each seed; return the records."""
    genomes = [list(g) for g in itertools.product(range(len(search.WIDTHS)), repeat=3) if search.fits(g, PARAMETERS)]
    records = [{"genome": " ".join(map(str, genome))} for genome in genomes]
    for seed in SEEDS:
        settings = {**RECIPE, "seed": seed}
        function = functools.partial(search.measure_widths, **settings)
        log = Path(folder) / f"11_widths_{seed}.jsonl"
        found = run_jobs(function, genomes, executor=executor, log=log, settings=settings, progress=True)
        for record, measured in zip(records, found, strict=True):
            record.update({"parameters": measured["parameters"], f"error_{seed}": measured["error"]})
    return records


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python figures/searches.py")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="the folder (default: this one)")
    asked = parser.parse_args(arguments)
    with open_executor(asked.jobs) as executor:
        write_csv(run_widths(asked.output, executor), WIDTHS_COLUMNS, asked.output / "11_widths.csv")
        write_csv(run_bits(asked.output, executor), BITS_COLUMNS, asked.output / "11_bits.csv")
    for log in asked.output.glob("11_*.jsonl"):
        log.unlink()


if __name__ == "__main__":
    main()
