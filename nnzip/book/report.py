"""What `python -m nnzip` leaves behind: records, figures and a table in a folder, and a summary to read."""

import itertools
import math
from functools import partial

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.book import plots
from nnzip.book.notebook import table
from nnzip.book.records import read_records, select
from nnzip.book.study import NETWORKS, write_records
from nnzip.book.techniques import ACTIVATION_BITS, CHAPTERS, FLOAT, INTEGER_MAP, MAP_SPARSITIES, TRAINED, in_chapter

NEAR = 0.0005  # of error, and 0.05 dB: on another CPU sums are added in another order
TITLES = {  # of each chapter's figure: the message of its two columns
    "02_quantization": (
        "No cost down to 5 bits; at 3, scales and activations count",
        "Of 4-bit weights, nearly half can go as well",
    ),
    "04_hadamard": ("A rotation helps the MLP at three bits", "From 70 % zeros on it harms the MLP"),
    "05_pruning": ("Pruned and retrained, four bits are still enough", "Retrained, 92 % of the weights can go"),
    "06_distillation": ("Trained again, two bits are almost enough", "After pruning the teacher adds little to it"),
    "07_codebooks": ("At two bits fitted values lose least", "Shared values do not change what pruning costs"),
    "08_integer": ("From four bits up, 8-bit integers cost nothing visible", "At 80 % zeros they cost half a point"),
    "09_qat": (
        "Trained through the rounding, two bits cost less than a point",
        "Pruned in one cut, training repairs most of it",
    ),
    "10_reconstruction": ("Two bits work without labels", "The surgeon's refit moves the cliff of pruning"),
    "11_mixed_precision": ("The bytes of two bits can be enough", "At four bits, pruning makes the error"),
}
SIGNATURES = {stem: {"titles": titles} for stem, titles in TITLES.items()}  # how `plots.error_curves` draws them
SIGNATURES["05_pruning"] |= {"sparsity": 0.9, "bits": FLOAT}
SIGNATURES["06_distillation"] |= {"bits": FLOAT}
OVERVIEW = {"titles": ("Four bits are enough; two need help", "Retrained, 92 % of the weights can go"), "bits": FLOAT}
OVERVIEW_OF = ("per_channel", "rotated_per_channel", "gptq", "distilled", "global_magnitude", "retrained")
SUMMARY_ROUNDED = ("per_tensor", "per_channel", "rotated_per_channel", "integer_8", "distilled")
SUMMARY_PRUNED = ("per_channel", "global_magnitude", "distilled", "retrained")


def write_report(records, folder, *, complete=False, same_weights=True):
    """Write the records and figures of all chapters, and the results table, into a folder that exists.

    What is in the folder's files and not among the records stays: what was trained, and what only --all measures.
    Pictures are drawn where their records are others than before, or where there is none. Returns all records, those
    that stay among them, and the (old, new) ones that are not close.

    complete : whether these are all records that need no training: other ones in the files are then out of date
    same_weights : whether the files are about the same networks: then `settle` keeps what is close
    """
    measured, everything, changes, any_change = set(map(_point, records)), {}, {}, False
    for stem in [*CHAPTERS, INTEGER_MAP]:
        there = _records_there(stem, folder)
        if complete:
            there = [r for r in there if r["technique"] in TRAINED or _point(r) in measured]
        own = [r for r in records if _belongs(r, stem)]
        rows, differing = settle(own, there, same_weights=same_weights)
        any_change |= write_chapter(stem, rows, folder)
        changes |= {_point(new): (old, new) for old, new in differing}
        everything |= {_point(r): r for r in rows}
    everything = list(everything.values())
    path, tables = folder / "results.md", f"{rounding_table(everything)}\n{sparsity_table(everything)}".encode()
    any_change |= not path.exists() or path.read_bytes() != tables  # by what was trained since
    with atomic_write(path) as file:
        file.write(tables)
    mlp = select(everything, network="lenet_300_100", technique="per_channel")
    shown = [record for technique in OVERVIEW_OF for record in select(everything, technique=technique)]
    if _is_whole(mlp, "bits", "sparsity"):
        _draw(plots.error_map, mlp, folder / "02_quantization_map.png", any_change)
    _draw(partial(plots.error_curves, **OVERVIEW), shown, folder / "results.png", any_change)
    return everything, list(changes.values())


def write_trained(records, folder):
    """Put the records of what needs training into the chapters' files, in place of those that are there."""
    for stem in dict.fromkeys(TRAINED[record["technique"]] for record in records):
        others = [r for r in _records_there(stem, folder) if r["technique"] not in TRAINED]
        write_chapter(stem, others + [r for r in records if TRAINED[r["technique"]] == stem], folder)


def settle(records, there, *, same_weights=True):
    """Return the records of a file, with new ones in the place of those there, and the (old, new) that differ.

    For the same weights, what is within NEAR of what is there is the same: another CPU adds in another order.
    """
    rows, differing = {_point(r): r for r in there}, []
    for new in records:
        old = rows.get(_point(new))
        if old and same_weights and _near(old, new):
            continue
        differing += [(old, new)] if old else []
        rows[_point(new)] = new
    return list(rows.values()), differing


def write_chapter(stem, records, folder):
    """Write the records of a chapter, and its figure, if they are new; tell whether they are.

    The figure is the signature figure, or of 08_integer_map the map; a map with holes is not written.
    """
    if stem == INTEGER_MAP:
        if not _is_whole(records, "technique", "bits", "sparsity"):
            return False
        picture, draw, drawn = f"{stem}.png", plots.integer_map, records
    else:
        picture, draw = f"{stem}_signature.png", partial(plots.error_curves, **SIGNATURES[stem])
        drawn = [r for r in records if r["technique"] in in_chapter(stem, drawn=True)]
    new = records != _records_there(stem, folder)
    if new:
        write_records(records, folder / f"{stem}.csv")
    _draw(draw, drawn, folder / picture, new)
    return new


def _draw(draw, records, path, new):
    if new or not path.exists():
        plots.save_figure(draw(records), path)


def _records_there(stem, folder):
    path = folder / f"{stem}.csv"
    return read_records(path) if path.exists() else []


def _point(record):
    return tuple(record[key] for key in ("network", "seed", "technique", "bits", "sparsity"))


def _near(old, new):
    same_noise = math.isclose(old["sqnr_db"], new["sqnr_db"], abs_tol=100 * NEAR + 1e-9)  # two infinities are close
    return abs(old["error"] - new["error"]) <= NEAR + 1e-9 and same_noise


def _belongs(record, stem):
    on_map = record["bits"] in ACTIVATION_BITS and record["sparsity"] in MAP_SPARSITIES
    elsewhere = stem == INTEGER_MAP and not (on_map and record["network"] == "lenet_300_100")
    return record["technique"] in in_chapter(stem) and not elsewhere


def _is_whole(records, *keys):  # is there one at every combination of the values?
    points = {tuple(record[key] for key in keys) for record in records}
    return len(points) == math.prod(len(set(values)) for values in zip(*points, strict=True))


# The tables


def rounding_table(records):
    """Return a Markdown table of the error against bits: a line for each network and technique, nothing pruned."""
    widths = sorted({record["bits"] for record in select(records, sparsity=0.0)}, reverse=True)
    shown = [name for stem in CHAPTERS for name in in_chapter(stem) if name not in TRAINED]
    points = [(bits, 0.0) for bits in widths]
    lines = _table("rounded", records, dict.fromkeys([*shown, *TRAINED]), points, _mean_and_spread)
    return (
        "Test error in percent on the 10,000 MNIST test images: mean over the seeds, lowest to highest in brackets.\n"
        "Rows of integers are computed in integers only; the others are fake-quantized: floats on the integer grid.\n\n"
        f"{lines._repr_markdown_()}\n"
    )


def sparsity_table(records):
    """Return a Markdown table of the error against sparsity: a line for each network and way to prune."""
    points = [(FLOAT, sparsity) for sparsity in (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)]
    lines = _table("pruned", records, (*in_chapter("05_pruning"), "obd", "obs", *TRAINED), points)
    return (
        "The same against sparsity, weights float, biases not pruned. Only what is called retrained was trained.\n\n"
        f"{lines._repr_markdown_()}\n"
    )


def _table(what, records, techniques, points, cell=lambda errors: f"{np.mean(errors):.2%}"):
    """Return a table with a line for each network and technique measured, a column for each (bits, sparsity)."""
    rows = []
    for network, technique in itertools.product(NETWORKS, techniques):
        own = select(records, network=network, technique=technique)
        errors = ([r["error"] for r in select(own, bits=bits, sparsity=sparsity)] for bits, sparsity in points)
        cells = [cell(each) if each else "" for each in errors]
        if any(cells):
            rows.append([plots.NAMES[network], plots.NAMES[technique], *cells])
    heads = (f"{sparsity:.0%}" if sparsity else _width(bits) for bits, sparsity in points)
    return table(rows, heads=["network", what, *heads])


def _mean_and_spread(errors):
    return f"{np.mean(errors):.2%} ({100 * min(errors):.2f}-{max(errors):.2%})"


def _width(bits):
    return "float" if bits == FLOAT else f"{bits} bit{'s' * (bits > 1)}"


def summary(records, measured, changes, folder):
    """Return the text that the command prints: what a reader asks first, and where the rest is.

    records, changes : as `write_report` returns them; measured : how many records this run made
    """
    seeds = len({record["seed"] for record in records})
    widths, zeros = [(bits, 0.0) for bits in (FLOAT, 8, 4, 3, 2)], [(FLOAT, s) for s in (0.5, 0.8, 0.9, 0.95, 0.99)]
    lines = [
        f"Test error on MNIST's 10,000 test images, mean of {seeds} seed{'s' * (seeds > 1)} (0.01% is one image)",
        f"\neach weight in so many bits\n{_table('rounded', records, SUMMARY_ROUNDED, widths)}",
        f"\nso many weights removed, the others float\n{_table('pruned', records, SUMMARY_PRUNED, zeros)}",
    ]
    for old, new in changes[:5]:
        network, seed, technique, bits, sparsity = _point(new)
        numbers = f"{old['error']:.2%} to {new['error']:.2%}, {old['sqnr_db']} to {new['sqnr_db']:.2f} dB"
        lines.append(f"Changed: {network}:{seed}, {technique}, {_width(bits)}, {sparsity:.0%} zero: {numbers}")
    if changes[5:]:
        lines.append(f"... and {len(changes) - 5} more records changed")
    rest = len(records) - measured
    kept = f"; {rest} are kept, of training (figures/retraining.py) and of other techniques (--all)" if rest > 0 else ""
    lines += [f"\n{measured} records measured{kept}."]
    return "\n".join([*lines, f"All techniques: {folder / 'results.md'}. Figure: {folder / 'results.png'}."])
