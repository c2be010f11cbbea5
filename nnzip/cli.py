"""The commands: study (the main job, also without a name), train, bench."""

import argparse
import os
import sys
import time
from pathlib import Path

from nnzip import __version__
from nnzip.book import bench, report, retraining, study
from nnzip.book.speed import write_speed
from nnzip.data import load_mnist
from nnzip.nn import zoo
from nnzip.nn.training import evaluate


def main(arguments=None):
    """Run a command line; return the exit code (0, or 2 with one line that says what was wrong)."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["study", *arguments]
    asked = parser.parse_args(arguments)
    try:
        asked.run(asked)
    except (ValueError, TypeError, OSError) as error:
        print(f"nnzip: {error}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m nnzip",
        description="How neural networks are made small, in NumPy alone. Without a command: study.",
    )
    parser.add_argument("--version", action="version", version=f"nnzip {__version__}")
    commands = parser.add_subparsers(title="commands (each has its own --help)", metavar="", required=True)

    study = commands.add_parser("study", help="error against bit width and sparsity: records, figures, a table")
    study.add_argument(
        "--quick", action="store_true", help="one seed and fewer points, about a minute, into figures/quick"
    )
    study.add_argument(
        "--retrain", action="store_true", help="train the networks from scratch first (a quarter of an hour)"
    )
    study.add_argument(
        "--long",
        action="store_true",
        help="measure what has to be trained at every point, and nothing else (half an hour)",
    )
    study.add_argument("--output", type=Path, help="the folder for what is made (default: figures)")
    study.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: as many as cores)")
    study.set_defaults(run=_study)

    train = commands.add_parser("train", help="train the reference networks again, as the committed ones were")
    train.add_argument("--networks", nargs="+", choices=zoo.BUILD, default=list(zoo.BUILD), metavar="NAME")
    train.add_argument("--seeds", nargs="+", type=int, default=list(zoo.SEEDS), metavar="SEED")
    train.add_argument(
        "--output", type=Path, default=zoo.FOLDER, help="the folder (default: over the committed weights)"
    )
    train.set_defaults(run=_train)

    speed = commands.add_parser("bench", help="speed, as ratios measured side by side in one process")
    speed.add_argument("--rounds", type=int, default=10, help="how often each pair is measured (default: 10)")
    speed.add_argument("--output", type=Path, metavar="FOLDER", help="where to write 03_matmul_speed.csv and .png")
    speed.set_defaults(run=_bench)
    return parser


def _study(asked):
    output = asked.output or Path("figures/quick" if asked.quick else "figures")
    output.mkdir(parents=True, exist_ok=True)
    with study.process_pool(asked.jobs) as executor:
        if asked.long:
            report.write_trained(retraining.run(executor=executor), output)
            print(f"The records and figures of chapters 05 and 06 now have retrained and distilled networks: {output}")
            return
        records = study.run_study(load_mnist(), quick=asked.quick, retrain=asked.retrain, executor=executor)
    records = report.write_report(records, output)
    print(report.summary(records, output))


def _train(asked):
    asked.output.mkdir(parents=True, exist_ok=True)  # before an hour of training, not after
    data = load_mnist()
    for name in asked.networks:
        for seed in asked.seeds:
            print(f"{name}, seed {seed}", file=sys.stderr)
            start = time.perf_counter()
            network = zoo.train(name, seed=seed)
            path = zoo.save(network, name, seed=seed, folder=asked.output)
            error = evaluate(network, data.test_images, data.test_labels)
            print(f"{name} seed {seed}: test error {error:.2%}, {time.perf_counter() - start:.0f} s, {path}")


def _bench(asked):
    if asked.output:
        asked.output.mkdir(parents=True, exist_ok=True)  # before minutes of measuring, not after
    print(bench.machine())
    records = []
    for row in bench.run(rounds=asked.rounds, records=records):
        print(row)
    if asked.output:
        write_speed(records, asked.output)
