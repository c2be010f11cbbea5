"""What `python -m nnzip` leaves behind: records, figures and a table in a folder, and a summary to read."""

import itertools

import numpy as np

from nnzip.atomic import atomic_write
from nnzip.book import plots
from nnzip.book.study import MAP_SPARSITIES, NETWORKS, select, write_csv, write_records
from nnzip.book.techniques import CHAPTERS, FLOAT

BROKEN = 0.01  # a network counts as broken when it errs on one image in a hundred more than in float
TABLE = ("network", "technique", "bits", "error", "lowest", "highest", "over_float")


def results_table(records):
    """Return one dict for each network, technique and bit width: test error over the seeds, nothing pruned.

    error, lowest, highest : fractions, the mean over the seeds and the ends of their spread
    over_float : the mean minus that of the float networks
    """
    rows = []
    shown = dict.fromkeys(itertools.chain(*CHAPTERS.values()))
    for network, technique in itertools.product(NETWORKS, shown):
        chosen = select(records, network=network, technique=technique, sparsity=0.0)
        errors = {bits: [r["error"] for r in select(chosen, bits=bits)] for bits in {r["bits"] for r in chosen}}
        for bits in sorted(errors, reverse=True):
            mean, low, high = np.mean(errors[bits]), min(errors[bits]), max(errors[bits])
            rows.append(
                dict(
                    zip(TABLE, (network, technique, bits, mean, low, high, mean - np.mean(errors[FLOAT])), strict=True)
                )
            )
    return rows


def breaking_width(rows):
    """Return the widest bit width whose error is over the float network's by more than BROKEN, or None."""
    return max((row["bits"] for row in rows if row["over_float"] > BROKEN), default=None)


def write_report(records, folder):
    """Write each chapter's records and figures, and the results table, into a folder that exists."""
    for stem, techniques in CHAPTERS.items():
        own = [record for record in records if record["technique"] in techniques]
        write_records(own, folder / f"{stem}.csv")
        plots.save_figure(plots.error_curves(own), folder / f"{stem}_signature.png")
    mlp = select(records, network="lenet_300_100")
    plots.save_figure(plots.error_map(select(mlp, technique="per_channel")), folder / "02_quantization_map.png")
    plots.save_figure(plots.sqnr_curves(records), folder / "02_quantization_sqnr.png")
    integers = [r for r in mlp if r["technique"].startswith("integer_") and r["sparsity"] in MAP_SPARSITIES]
    write_records(integers, folder / "08_integer_map.csv")
    plots.save_figure(plots.integer_map(integers), folder / "08_integer_map.png")
    rows = results_table(records)
    numbers = ("error", "lowest", "highest", "over_float")
    write_csv([{**row, **{key: f"{row[key]:.4f}" for key in numbers}} for row in rows], TABLE, folder / "results.csv")
    with atomic_write(folder / "results.md") as file:
        file.write(markdown_table(rows).encode())


def markdown_table(rows):
    """Return the results as a Markdown table: a line for each network and technique, a column for each width."""
    widths = sorted({row["bits"] for row in rows}, reverse=True)
    heads = [f"{b} bits" if b != FLOAT else "float" for b in widths]
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
        cells = "".join(f"{errors[b]:9.2%}" for b in widths)
        lines.append(
            f"{plots.NAMES[network]:23}{plots.NAMES[technique]:29}{cells}   "
            + (f"{broken} bits" if broken else "no width")
        )
    lines += ["", f"It breaks at the widest width that costs more than {BROKEN:.0%} of error over float."]
    lines += ["", "Pruned to a sparsity by magnitude, weights per channel:", ""]
    lines += _sparsity_lines(records)
    lines += [
        "",
        f"Figures, the table (results.md, results.csv) and all {len(records)} records (one .csv a chapter): {folder}",
    ]
    return "\n".join(lines)


def _sparsity_lines(records):
    shown = [s for s in sorted({r["sparsity"] for r in records}) if s in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)]
    lines = [f"{'':52}" + "".join(f"{s:9.0%}" for s in shown)]
    for network, bits in itertools.product(NETWORKS, (FLOAT, 4)):
        chosen = select(records, network=network, technique="per_channel", bits=bits)
        cells = "".join(f"{np.mean([r['error'] for r in select(chosen, sparsity=s)]):9.2%}" for s in shown)
        width = "float" if bits == FLOAT else f"{bits} bits"
        lines.append(f"{plots.NAMES[network]:23}{width:29}{cells}")
    return lines
