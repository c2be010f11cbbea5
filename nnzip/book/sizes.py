"""The figure of chapter 12: error against bytes on disk, beside published numbers; figures/sizes.py measures it."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nnzip.book import plots
from nnzip.book.records import select
from nnzip.book.study import NETWORKS
from nnzip.codebooks import assign, kmeans, look_up
from nnzip.compression import search
from nnzip.data import load_mnist
from nnzip.files import archive
from nnzip.nn.network import weights_of
from nnzip.nn.training import evaluate

POINT = ("network", "technique", "bits", "sparsity")
FLOAT_BYTES = {"lenet_300_100": 4 * 266_610, "lenet_5": 4 * 431_080}  # weights and biases
PUBLISHED = (  # network, authors, times smaller, error, what was counted, where the numbers were read
    ("lenet_300_100", "Han et al. 2016", 40, 0.0158, "codes, positions, codebooks", "its tables 1, 2"),
    ("lenet_300_100", "Guo et al. 2016", 56, 0.0199, "how many weights are left", "Ullrich et al., table 1"),
    ("lenet_300_100", "Ullrich et al. 2017", 64, 0.0194, "as Han et al.", "its table 1"),
    ("lenet_300_100", "Molchanov et al. 2017", 113, 0.018, "coded by Louizos et al.", "not checked"),
    ("lenet_5", "Han et al. 2016", 39, 0.0074, "codes, positions, codebooks", "its tables 1, 3"),
    ("lenet_5", "Guo et al. 2016", 108, 0.0091, "how many weights are left", "Ullrich et al., table 1"),
    ("lenet_5", "Choi et al. 2017", 51.25, 0.0072, "codes, positions", "its table 1"),
    ("lenet_5", "Ullrich et al. 2017", 162, 0.0097, "as Han et al.", "its table 1"),
    ("lenet_5", "Havasi et al. 2019", 555, 0.0069, "numbers of random draws", "not checked"),
    (
        "lenet_5",
        "Louizos et al. 2017",
        771,
        0.01,
        "k-means, then coded",
        "second hand; 419 without k-means: its README",
    ),
    ("lenet_5", "Havasi et al. 2019", 1110, 0.0096, "numbers of random draws", "not checked"),
)
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
    points = {}
    for record in records:
        points.setdefault(tuple(record[key] for key in POINT), []).append(record)
    averages = [
        {key: float(np.mean([r[key] for r in found])) for key in ("bytes", "error")} for found in points.values()
    ]
    return [dict(zip(POINT, point, strict=True)) | average for point, average in zip(points, averages, strict=True)]


def pareto_front(records):
    """Return the records that no other beats in bytes and error; largest first.

    Examples
    --------
    >>> points = [(100, 0.02), (50, 0.02), (40, 0.05), (45, 0.06), (10, 0.5)]
    >>> [r["bytes"] for r in pareto_front([{"bytes": size, "error": error} for size, error in points])]
    [50, 40, 10]
    """
    points = np.reshape([(record["bytes"], record["error"]) for record in records], (-1, 2))
    return [records[i] for i in search.pareto_front(points)][::-1] if len(records) else []


def sizes_figure(records, *, others=None, front=True):
    """Draw the test error against the bytes of the file, a panel for each network.

    Points are means over the seeds. A technique's line is its own Pareto front, the grey line that of all together.

    Parameters
    ----------
    records : list of dicts, as `run` returns and figures/12_archive.csv holds them
    others : list of dicts with network, name, bytes, error, and look (of the marker), drawn one by one; None: PUBLISHED
    front : bool, whether to draw the front
    """
    others = published() if others is None else others
    with plt.rc_context(plots.STYLE):
        figure, axes = plt.subplots(1, len(NETWORKS), figsize=(11, 5.4), sharey=True)
        for axis, network in zip(axes, NETWORKS, strict=True):
            points = means(select(records, network=network))
            if front:
                best = pareto_front(points)
                steps = [[p["bytes"] for p in best], [100 * p["error"] for p in best]]
                axis.step(*steps, where="pre", color="lightgrey", linewidth=4, zorder=1)
            _technique_lines(axis, points)
            _points_of_others(axis, select(others, network=network))
            axis.set(xscale="log", xlabel="bytes on disk (log scale)", title=plots.NAMES[network])
        _error_axis(axes[0])
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        return figure


def published():
    """Return what is PUBLISHED as records with network, name, bytes and error."""
    return [
        {"network": network, "name": name.replace(" et al.", ""), "bytes": FLOAT_BYTES[network] / times, "error": error}
        for network, name, times, error, *_ in PUBLISHED
    ]


def committed(folder):
    """Return the records of the files of `nnzip.compression.deep_compression` in a folder, read and tested now."""
    data, records, look = load_mnist(), [], {"marker": "*", "markersize": 11}
    for network in NETWORKS:
        path = Path(folder) / f"12_{network}.nnz"
        if path.exists():
            found = {"bytes": path.stat().st_size, "error": evaluate(archive.load(path), *data[2:])}
            records.append({"network": network, "name": "this book", "technique": "deep", **found, "look": look})
    return records


def _technique_lines(axis, points):
    for i, (technique, name) in enumerate({"float": "float", **NAMES}.items()):
        own = pareto_front(select(points, technique=technique))
        if own:
            look = {
                "color": plots.COLOURS[i % 7],
                "marker": plots.MARKERS[(i + i // 7) % 7],
                "linestyle": "-" if i < 7 else "--",
            }
            where = [p["bytes"] for p in own], [100 * p["error"] for p in own]
            axis.plot(*where, markersize=4, linewidth=1, label=name, **look)


def _points_of_others(axis, others):
    sides = (6, -3, "left"), (6, 4, "left"), (-6, 4, "right"), (-6, -9, "right")
    for i, other in enumerate(others):
        place, (right, up, side) = (other["bytes"], 100 * other["error"]), sides[i % 4]
        look = {"marker": "D", "markersize": 6} | other.get("look", {})
        axis.plot(*place, color="black", linestyle="", markerfacecolor="white", zorder=5, **look)
        axis.annotate(other["name"], place, (right, up), textcoords="offset points", fontsize=7, ha=side)


def _error_axis(axis):
    axis.set(yscale="log", ylim=(0.45, 12), ylabel="test error, 10,000 images (log scale)")
    axis.yaxis.set_major_locator(FixedLocator((0.5, 0.7, 1, 1.5, 2, 3, 5, 10)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{e:g} %"))
