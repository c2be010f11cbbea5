"""What `python -m nnzip` leaves behind: records, figures and a table in a folder, and a summary to read."""

import itertools

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.book import plots
from nnzip.book.retraining import TRAINED
from nnzip.book.study import MAP_SPARSITIES, NETWORKS, read_records, select, write_csv, write_records
from nnzip.book.techniques import CHAPTERS, FLOAT, TABLED

SHOWN_SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
BROKEN = 0.01  # a network counts as broken when it errs on one image in a hundred more than in float
SIGNATURES = {  # what error_curves draws at, where it is not bits unpruned and sparsity at 4 bits
    "07_codebooks": {"names": {"per_tensor": "uniform, per layer", "per_channel": "uniform, per channel"}},
    "05_pruning": {"sparsity": 0.9, "bits": FLOAT, "names": {"per_channel": "each layer alike"}},
    "06_distillation": {
        "bits": FLOAT,
        "names": {"per_channel": "not retrained", "labels": "labels again", "distilled": "distillation"},
    },
    "09_qat": {
        "names": {
            "per_channel": "afterwards",
            "straight_through": "straight-through",
            "learned_step": "learned steps",
            "learned_step_both": "and activations",
            "binary": "binary",
        }
    },
    "10_reconstruction": {"names": {"per_channel": "to nearest"}},
    "11_mixed_precision": {"names": {"per_channel": "one width"}},
}
OVERVIEW = {  # one picture of all techniques
    "per_channel": "as it is",
    "rotated_per_channel": "rotated first",
    "retrained": "retrained",
    "distilled": "distilled",
}
TABLE = ("network", "technique", "bits", "error", "lowest", "highest", "over_float")


def results_table(records):
    """Return one dict for each network, technique and bit width: test error over the seeds, nothing pruned.

    error, lowest, highest : fractions, the mean over the seeds and the ends of their spread
    over_float : the mean minus that of the float networks, trained on where the technique's are
    """
    rows = []
    untrained = [t for t in itertools.chain(*CHAPTERS.values(), *TABLED.values()) if t not in TRAINED]
    shown = dict.fromkeys([*untrained, *TRAINED])
    for network, technique in itertools.product(NETWORKS, shown):
        if not (errors := _errors(records, network, technique)):
            continue
        floats = errors.get(FLOAT) or _errors(records, network, "per_channel")[FLOAT]
        for bits in sorted(errors, reverse=True):
            mean, low, high = np.mean(errors[bits]), min(errors[bits]), max(errors[bits])
            values = (network, technique, bits, mean, low, high, mean - np.mean(floats))
            rows.append(dict(zip(TABLE, values, strict=True)))
    return rows


def _errors(records, network, technique):  # -> {bits: errors of the seeds}, nothing pruned
    chosen = select(records, network=network, technique=technique, sparsity=0.0)
    return {bits: [r["error"] for r in select(chosen, bits=bits)] for bits in {r["bits"] for r in chosen}}


def breaking_width(rows):
    """Return the widest bit width whose error is over the float network's by more than BROKEN, or None."""
    return max((row["bits"] for row in rows if row["over_float"] > BROKEN), default=None)


def write_report(records, folder):
    """Write each chapter's records and figures, and the results table, into a folder that exists; return all records.

    Among all are the records of what needs training, which the chapters' files keep from the longer command.
    """
    everything = list(records)
    for stem in CHAPTERS:
        techniques, kept = CHAPTERS[stem] + TABLED.get(stem, ()), trained_records(stem, folder)
        write_chapter(stem, [r for r in records if r["technique"] in techniques] + kept, folder)
        everything += kept
    mlp = select(records, network="lenet_300_100")
    plots.save_figure(plots.error_map(select(mlp, technique="per_channel")), folder / "02_quantization_map.png")
    plots.save_figure(plots.sqnr_curves(records), folder / "02_quantization_sqnr.png")
    integers = [r for r in mlp if r["technique"].startswith("integer_") and r["sparsity"] in MAP_SPARSITIES]
    write_records(integers, folder / "08_integer_map.csv")
    plots.save_figure(plots.integer_map(integers), folder / "08_integer_map.png")
    shown = [record for technique in OVERVIEW for record in select(everything, technique=technique)]
    plots.save_figure(plots.error_curves(shown, bits=FLOAT, names=OVERVIEW), folder / "results.png")
    rows = results_table(everything)
    numbers = ("error", "lowest", "highest", "over_float")
    write_csv([{**row, **{key: f"{row[key]:.4f}" for key in numbers}} for row in rows], TABLE, folder / "results.csv")
    with atomic_write(folder / "results.md") as file:
        file.write((markdown_table(rows) + "\n" + sparsity_table(everything)).encode())
    return everything


def write_chapter(stem, records, folder):
    """Write the records of a chapter's signature figure, and the figure."""
    write_records(records, folder / f"{stem}.csv")
    drawn = [r for r in records if r["technique"] not in TABLED.get(stem, ())]
    plots.save_figure(plots.error_curves(drawn, **SIGNATURES.get(stem, {})), folder / f"{stem}_signature.png")


def write_trained(records, folder):
    """Put the records of what needs training into the chapters' files, in place of those that are there."""
    for stem in dict.fromkeys(TRAINED[record["technique"]] for record in records):
        others = [r for r in _records_there(stem, folder) if r["technique"] not in TRAINED]
        write_chapter(stem, others + [r for r in records if TRAINED[r["technique"]] == stem], folder)


def trained_records(stem, folder):
    """Return what the longer command has left in a chapter's file."""
    return [r for r in _records_there(stem, folder) if r["technique"] in TRAINED]


def _records_there(stem, folder):
    path = folder / f"{stem}.csv"
    return read_records(path) if path.exists() else []


def markdown_table(rows):
    """Return the results as a Markdown table: a line for each network and technique, a column for each width."""
    widths = sorted({row["bits"] for row in rows}, reverse=True)
    heads = ["float" if b == FLOAT else f"{b} bits" if b > 1 else "1 bit" for b in widths]
    lines = [
        "Test error in percent on the 10,000 MNIST test images: mean over the seeds, lowest to highest in brackets.",
        "Rows of integers are computed in integers only; the others are fake-quantized: floats on the integer grid.",
        "",
        "| network | rounded | " + " | ".join(heads) + " |",
        "|---|---|" + "---|" * len(widths),
    ]
    for (network, technique), group in itertools.groupby(rows, key=lambda row: (row["network"], row["technique"])):
        cells = {row["bits"]: f"{row['error']:.2%} ({100 * row['lowest']:.2f}-{row['highest']:.2%})" for row in group}
        name = f"{plots.NAMES[network]} | {plots.NAMES[technique]}"
        lines.append(f"| {name} | " + " | ".join(cells.get(b, "") for b in widths) + " |")
    return "\n".join(lines) + "\n"


def sparsity_table(records):
    """Return a Markdown table of the error against sparsity: a line for each network and way to prune."""
    rows = list(_sparsity_rows(records))
    lines = [
        "The same against sparsity, weights float, biases not pruned. Only what is called retrained was trained.",
        "",
        "| network | pruned | " + " | ".join(f"{sparsity:.0%}" for sparsity in SHOWN_SPARSITIES) + " |",
        "|---|---|" + "---|" * len(SHOWN_SPARSITIES),
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _sparsity_rows(records):  # -> (network, technique, the mean error at each sparsity or "")
    names = {**plots.NAMES, **SIGNATURES["05_pruning"]["names"]}
    for network, technique in itertools.product(NETWORKS, (*CHAPTERS["05_pruning"], "obd", "obs", *TRAINED)):
        own = select(records, network=network, technique=technique, bits=FLOAT)
        if not any(record["sparsity"] in SHOWN_SPARSITIES for record in own):
            continue
        means = (np.mean(e) if (e := [r["error"] for r in select(own, sparsity=s)]) else None for s in SHOWN_SPARSITIES)
        cells = ("" if mean is None else f"{mean:.2%}" for mean in means)
        yield plots.NAMES[network], names[technique], *cells


def summary(records, folder):
    """Return the text that the command prints: errors at a few widths, where each breaks, where everything is."""
    rows = results_table(records)
    seeds = len({record["seed"] for record in records})
    widths = (FLOAT, 8, 4, 3, 2)
    lines = [
        f"Test error of the networks with rounded weights, mean over {seeds} seed{'s' * (seeds > 1)}:",
        "",
        f"{'':23}{'':29}" + "".join(f"{'float' if b == FLOAT else f'{b} bits':>9}" for b in widths) + "   breaks at",
    ]
    for (network, technique), group in itertools.groupby(rows, key=lambda row: (row["network"], row["technique"])):
        group = list(group)
        errors = {row["bits"]: row["error"] for row in group}
        broken = breaking_width(group)
        cells = "".join(f"{errors[b]:9.2%}" if b in errors else f"{'':9}" for b in widths)
        lines.append(
            f"{plots.NAMES[network]:23}{plots.NAMES[technique]:29}{cells}   "
            + (f"{broken} bits" if broken else "no width")
        )
    lines += ["", f"It breaks at the widest width that costs more than {BROKEN:.0%} of error over float."]
    lines += ["", "The same against sparsity, weights float:", ""]
    lines += [f"{'':52}" + "".join(f"{s:9.0%}" for s in SHOWN_SPARSITIES)]
    for network, technique, *cells in _sparsity_rows(records):
        lines.append(f"{network:23}{technique:29}" + "".join(f"{cell:>9}" for cell in cells))
    lines += [
        "",
        f"Figures, the table (results.md, results.csv) and all {len(records)} records (one .csv a chapter): {folder}",
    ]
    return "\n".join(lines)
