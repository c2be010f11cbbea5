"""The figure of chapter 12: error against bytes on disk, beside published numbers; figures/sizes.py measures it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book import plots
from nnzip.book.records import read_records, select
from nnzip.book.study import NETWORKS
from nnzip.codebooks import assign, kmeans, look_up
from nnzip.compression import search
from nnzip.data import load_mnist
from nnzip.files import archive
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate

POINT = ("network", "technique", "bits", "sparsity")
FLOAT_BYTES = {"lenet_300_100": 4 * 266_610, "lenet_5": 4 * 431_080}  # weights and biases
NAMES = {  # in the order of the figure
    "per_tensor": "uniform, per tensor",
    "per_channel": "uniform, per channel",
    "rotated": "rotated, per channel",
    "codebook": "codebook",
    "pruned": "pruned",
    "pruned_uniform": "pruned, uniform",
    "pruned_codebook": "pruned, codebook",
    "distilled": "distilled through rounding",
    "retrained": "pruned and retrained",
    "retrained_codebook": "pruned, retrained, codebook",
}
COLOURS = {  # what stands for a technique in the whole book; "--", the same on a pruned network
    "float": "black",
    "pruned": plots.LOOKS["global_magnitude"],
    "rotated": plots.LOOKS["rotated_per_channel"],
    "pruned_uniform": plots.LOOKS["per_channel"],
    "pruned_codebook": plots.LOOKS["codebook"],
    "retrained_codebook": plots.LOOKS["retrained"],
}


def share_kept(network, bits):
    """Return a copy in which the weights of a layer that are not zero share 2^bits values, fitted to them alone."""
    shared = network.copy()
    for weight in weights_of(shared).values():
        kept = weight[weight != 0]
        values = kmeans(kept, 2**bits, init="k-means++")
        weight[weight != 0] = look_up(assign(kept, values), values)
    return shared


def means(records):
    """Return one record for each point: bytes and error are means over the seeds."""
    points = dict.fromkeys(tuple(record[key] for key in POINT) for record in records)
    found = []
    for point in (dict(zip(POINT, values, strict=True)) for values in points):
        own = select(records, **point)
        found.append(point | {key: float(np.mean([record[key] for record in own])) for key in ("bytes", "error")})
    return found


def pareto_front(records):
    """Return the records that no other beats in bytes and error; largest first.

    >>> points = [(100, 0.02), (50, 0.02), (40, 0.05), (45, 0.06), (10, 0.5)]
    >>> [r["bytes"] for r in pareto_front([{"bytes": size, "error": error} for size, error in points])]
    [50, 40, 10]
    """
    points = [(record["bytes"], record["error"]) for record in records]
    return [records[i] for i in search.pareto_front(points)][::-1] if records else []


def published(folder):
    """Return what papers report, which is in 12_published.csv of a folder, as records with name and bytes."""
    records = read_records(Path(folder) / "12_published.csv")
    for record in records:
        record["name"] = record["authors"].replace(" et al.", "")
        record["bytes"] = FLOAT_BYTES[record["network"]] / record["times"]
    return records


def committed(folder):
    """Return the records of the files of `nnzip.compression.deep_compression` in a folder, read and tested now."""
    data, records, look = load_mnist(), [], {"marker": "*", "markersize": 11}
    for network in NETWORKS:
        path = Path(folder) / f"12_{network}.nnz"
        if path.exists():
            found = {"bytes": path.stat().st_size, "error": evaluate(archive.load(path), *data[2:])}
            records.append({"network": network, "name": "this book", "technique": "deep", **found, "look": look})
    return records


def sizes_figure(records, *, others, front=True):
    """Draw the test error against the bytes of the file, a panel for each network.

    Points are means over the seeds. A technique's line is its own Pareto front, the grey line that of all together.

    records : as figures/12_archive.csv holds them
    others : records with network, name, bytes, error, and look (of the marker), drawn one by one
    front : whether to draw the grey line
    """
    with plt.rc_context(plots.STYLE):
        figure, axes = plt.subplots(1, len(NETWORKS), figsize=(11, 5.4), sharey=True)
        for axis, network in zip(axes, NETWORKS, strict=True):
            points = means(select(records, network=network))
            if front:
                axis.step(*_places(pareto_front(points)), where="pre", color="lightgrey", linewidth=4, zorder=1)
            _technique_lines(axis, points)
            _points_of_others(axis, select(others, network=network))
            axis.set(xscale="log", xlabel="bytes on disk (log scale)", title=plots.NAMES[network])
        axes[0].set(yscale="log", ylim=(0.45, 12), ylabel="test error, 10,000 images (log scale)")
        plots.ticks(axes[0].yaxis, (0.5, 0.7, 1, 1.5, 2, 3, 5, 10), "{:g} %")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return figure


def _places(points):  # -> bytes, errors in percent
    return [point["bytes"] for point in points], [100 * point["error"] for point in points]


def _technique_lines(axis, points):
    for i, (technique, name) in enumerate({"float": "float", **NAMES}.items()):
        if own := pareto_front(select(points, technique=technique)):
            colour = COLOURS.get(technique) or plots.LOOKS[technique]
            look = {"color": colour, "marker": plots.MARKERS[(i + i // 7) % 7], "markersize": 4}
            line = "--" if technique.startswith(("pruned_", "retrained_")) else "-"
            axis.plot(*_places(own), linestyle=line, linewidth=1, label=name, **look)


def _points_of_others(axis, others):
    sides = (6, -3, "left"), (6, 4, "left"), (-6, 4, "right"), (-6, -9, "right")
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
    for i, other in enumerate(others):
        place, (right, up, side) = (other["bytes"], 100 * other["error"]), sides[i % 4]
        look = {"marker": "D", "markersize": 6} | other.get("look", {})
        axis.plot(*place, color="black", linestyle="", markerfacecolor="white", zorder=5, **look)
        axis.annotate(other["name"], place, (right, up), textcoords="offset points", fontsize=7, ha=side, bbox=box)
