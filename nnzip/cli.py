"""The commands: study (the main job, also without a name), train, exercises, zip, unzip."""

import argparse
import os
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

from nnzip import __version__
from nnzip.book import exercise_commands
from nnzip.checks import one_of
from nnzip.compression.deep_compression import RECIPES, compress
from nnzip.data import load_mnist
from nnzip.files import archive, zipping
from nnzip.files.zip_options import Options, decibels, parse_pattern
from nnzip.jobs import open_executor
from nnzip.nn import zoo
from nnzip.nn.training import evaluate
from nnzip.nn.zoo import trained


def main(arguments=None):
    """Run a command line; return the exit code (0; 1: exercises fail; 2, with one line that says what is wrong).

    Stopped from the keyboard it is 130, and 141 where nobody reads on what is printed.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a tensor may be called what a terminal cannot show
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["study", *arguments]
    asked = _parser().parse_args(arguments)
    try:
        code = asked.run(asked) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("nnzip: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still writes at its end
        return 141
    except (ValueError, TypeError, OSError, MemoryError, BrokenExecutor) as error:
        print(f"nnzip: {str(error) or 'there is not enough memory'}", file=sys.stderr)
        return 2


def _parser():
    about = "How neural networks are made small, in NumPy alone. Without a command: study."
    parser = argparse.ArgumentParser(prog="python -m nnzip", description=about)
    parser.add_argument("--version", action="version", version=f"nnzip {__version__}")
    commands = parser.add_subparsers(title="commands (each has its own --help)", metavar="", required=True)
    for command, (run, options, about) in COMMANDS.items():
        own = commands.add_parser(command, help=about)
        own.set_defaults(run=run)
        options(own)
    return parser


def _study_options(study):
    add = study.add_argument
    add("--quick", action="store_true", help="one seed and fewer points, half a minute, into figures/quick")
    add("--all", action="store_true", help="every technique that needs no training, at every point (ten minutes)")
    add("--retrain", action="store_true", help="train the networks from scratch first, then --all (half an hour)")
    add("--output", type=Path, help="the folder for what is made (default: figures)")
    add("--log", type=Path, metavar="FILE", help="what is done; killed, the same command goes on from it")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: as many as cores)")


def _study(asked):
    from nnzip.book import report, study  # they import matplotlib, which takes a second that zip and unzip do not need

    output = asked.output or Path("figures/quick" if asked.quick else "figures")
    output.mkdir(parents=True, exist_ok=True)
    with open_executor(asked.jobs) as executor:
        complete = asked.all or asked.retrain
        options = {"quick": asked.quick, "everything": complete, "retrain": asked.retrain}
        records = study.run_study(**options, executor=executor, log=asked.log)
    everything, changes = report.write_report(records, output, complete=complete, same_weights=not asked.retrain)
    print(report.summary(everything, len(records), changes, output))


def _train_options(train):
    folder = "the folder (default: over the committed weights)"
    train.add_argument("--networks", nargs="+", choices=zoo.BUILD, default=list(zoo.BUILD), metavar="NAME")
    train.add_argument("--seeds", nargs="+", type=int, default=list(zoo.SEEDS), metavar="SEED")
    train.add_argument("--output", type=Path, default=zoo.FOLDER, help=folder)


def _train(asked):
    asked.output.mkdir(parents=True, exist_ok=True)  # before an hour of training, not after
    data = load_mnist()
    for name in asked.networks:
        for seed in asked.seeds:
            print(f"{name}, seed {seed}", file=sys.stderr)
            start = time.perf_counter()
            network = zoo.train(name, seed=seed, progress=True)
            path = zoo.save(network, name, seed=seed, folder=asked.output)
            error = evaluate(network, data.test_images, data.test_labels)
            print(f"{name} seed {seed}: test error {error:.2%}, {time.perf_counter() - start:.0f} s, {path}")


def _zip_options(zipped):
    add = zipped.add_argument
    add("source", help=".npz, .safetensors, or a trained network such as lenet_5:0")
    add("-o", "--output", type=Path, required=True, metavar="FILE.nnz")
    target = zipped.add_mutually_exclusive_group()
    target.add_argument("--bits", type=int, help="2 to 8 for each weight")
    target.add_argument("--error", type=decibels, metavar="DB", help="SQNR to reach with the fewest bits: 30dB")
    add("--sparsity", type=float, default=0.0, help="the fraction of the smallest weights that become 0")
    add("--rotate", action="store_true", help="by signs and Hadamard first, against outliers")
    add("--codebook", action="store_true", help="shared values by k-means in the place of a grid")
    own = "for names like this, such as 'conv*=bits:8,rotate' or 'head.*=plain'; may be given again"
    add("--per-tensor", action="append", default=[], metavar="PATTERN=OPTIONS", help=own)
    deep = "lenet_5 or lenet_300_100 by Deep Compression's recipe: pruned, shared and retrained, ten minutes"
    add("--deep", action="store_true", help=deep)
    add("--jobs", type=int, default=1, help="processes (default: 1)")


def _zip(asked):
    if asked.deep:
        _zip_deep(asked)
        return
    options = Options(asked.bits, asked.sparsity, asked.rotate, asked.error, asked.codebook)
    per_tensor = [parse_pattern(text) for text in asked.per_tensor]
    with open_executor(asked.jobs) as executor:
        rows = zipping.zip_arrays(asked.source, asked.output, options=options, per_tensor=per_tensor, executor=executor)
    print(zipping.report(rows, asked.output.stat().st_size))


def _zip_deep(asked):
    others = asked.sparsity, asked.rotate, asked.codebook, asked.per_tensor, asked.jobs != 1
    if asked.bits is not None or asked.error is not None or any(others):
        raise ValueError("--deep has a recipe of its own: no other option can be given with it")
    if asked.output.is_dir():
        raise IsADirectoryError(f"{asked.output} is a folder")
    name, _, seed = asked.source.partition(":")
    one_of(*RECIPES)(name, "with --deep the source")
    one_of(*map(str, zoo.SEEDS))(seed or "0", f"the seed of {name}")
    asked.output.parent.mkdir(parents=True, exist_ok=True)  # before ten minutes of training, not after
    network, _ = compress(name, seed=int(seed or 0))
    size, data = archive.save(network, asked.output), load_mnist()
    for part in archive.describe(asked.output):
        print(f"{part.tensor or 'file':<10} {part.purpose:<10} {part.bytes:>8,}")
    before = sum(4 * array.size for array in trained(name).parameters().values())
    error = evaluate(network, data.test_images, data.test_labels)
    print(f"{size:,} bytes for {before:,}: {before / size:.1f} times smaller, test error {error:.2%}")


def _unzip_options(unzipped):
    unzipped.add_argument("source", type=Path, metavar="FILE.nnz")
    unzipped.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz or .safetensors")


def _unzip(asked):
    names = zipping.unzip_arrays(asked.source, asked.output)
    print(f"{asked.output}: {len(names)} arrays")


COMMANDS = {  # name: (what it runs, its options, what --help says)
    "study": (_study, _study_options, "error against bit width and sparsity: records, figures, a table"),
    "train": (_train, _train_options, "train the reference networks again, as the committed ones were"),
    "exercises": (
        exercise_commands.list_all,
        exercise_commands.options,
        "functions to write, graded by the project's tests: list, start, check",
    ),
    "zip": (_zip, _zip_options, "any model's arrays into a small .nnz file; without options, without loss"),
    "unzip": (_unzip, _unzip_options, "the arrays of a .nnz file, as .npz or .safetensors"),
}
