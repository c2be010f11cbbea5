"""The book's figures: one look for all, safe for colour-blind eyes, the same bytes at every rerun."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nnzip.book.records import select
from nnzip.book.techniques import BITS, FLOAT, SPARSITIES, TECHNIQUES

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {
    "lenet_300_100": "LeNet-300-100 (MLP)",
    "lenet_5": "LeNet-5 (CNN)",
    **{technique.name: technique.title for technique in TECHNIQUES.values()},
}
SHORT = {"lenet_300_100": "MLP", "lenet_5": "CNN"}
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.size": 10,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
}


def error_curves(records, *, sparsity=0.0, bits=4, names=None):
    """Draw the signature figure: test error against bit width and against sparsity, for every technique in the records.

    Colour and marker say which technique, a filled marker and a full line the MLP, an open one and a dashed line the
    CNN. The line is the mean over the seeds, the band reaches from the best seed to the worst.

    records : list of dicts, as `error_grid` returns them and figures/*.csv hold them
    sparsity : of the networks on the left; 0, nothing is pruned
    bits : of the weights on the right, where the first technique that was measured in float stands beside, in black
    names : {technique: what to call it} in the place of NAMES
    """
    records = _drawable(records, "error_curves")
    if max(len({record[key] for record in records}) for key in ("bits", "sparsity")) < 2:
        raise ValueError("error_curves needs records of two bit widths or of two sparsities, got one point")
    widths = sorted({*BITS, *(record["bits"] for record in records)} - {FLOAT})
    place = {FLOAT: widths[-1] + 1.5}  # where the float network stands on the axis of bits
    names = {**NAMES, **(names or {})}
    techniques = list(dict.fromkeys(record["technique"] for record in records))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True)
        for network in dict.fromkeys(record["network"] for record in records):
            own = select(records, network=network)
            for i, technique in enumerate(techniques):
                look, label = _look(i, network), f"{names.get(technique, technique)}, {SHORT.get(network, network)}"
                _mean_and_band(left, select(own, technique=technique, sparsity=sparsity), "bits", look, label, place)
                rounded = select(own, technique=technique, bits=bits)
                _mean_and_band(right, rounded, "sparsity", look, label if bits == FLOAT else f"{bits} bits {label}")
            floats = [select(own, technique=technique, bits=FLOAT) for technique in techniques]
            plain = next((f for f in floats if len({r["sparsity"] for r in f}) > 1), [])
            if bits != FLOAT:
                _mean_and_band(right, plain, "sparsity", _look(6, network), f"float, {SHORT.get(network, network)}")
        _bits_axis(left, widths, place, sparsity)
        _sparsity_axis(right)
        _error_axis(left)
        same = {line.get_label() for line in left.lines} <= {line.get_label() for line in right.lines}
        for axis in [right] if same else [left, right]:
            if axis.lines:
                axis.legend(ncols=1)
        return figure


def _drawable(records, figure):
    """Return the records, each with a network and a seed, which `error_grid` does not know."""
    if not records:
        raise ValueError(f"{figure} needs at least one record that it can draw, got none")
    return [{"network": "network", "seed": 0, **record} for record in records]


def _look(i, network):
    cnn = network == "lenet_5"
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": "--" if cnn else "-",
        "markerfacecolor": "white" if cnn else None,
        "markersize": 5,
        "linewidth": 1.5,
    }


def _mean_and_band(axis, records, key, look, label, place=None):
    """Draw the mean error over the seeds at every value of the key, and the band from lowest to highest.

    One value alone is no curve; where it is a bit width it is drawn as a point.
    """
    values = sorted({record[key] for record in records})
    if len(values) < 2 and (key != "bits" or values in ([], [FLOAT])):
        return
    errors = [[100 * record["error"] for record in select(records, **{key: value})] for value in values]
    at = [(place or {}).get(value, value) for value in values]
    axis.plot(at, list(map(np.mean, errors)), label=label, **look)
    ends = list(map(min, errors)), list(map(max, errors))
    axis.fill_between(at, *ends, color=look["color"], alpha=0.12, linewidth=0)


def _bits_axis(axis, widths, place, sparsity):
    axis.set_xlabel(f"bits a weight, {sparsity:.0%} of the weights zero" if sparsity else "bits a weight")
    axis.set_xticks([*widths, place[FLOAT]], [*map(str, widths), "float"])


def _sparsity_axis(axis):
    """Stretch the axis toward 1: at 90, 99 % the weights that are left count, 10 %, 1 %."""
    axis.set_xscale("function", functions=(lambda s: -np.log10(1.02 - s), lambda t: 1.02 - 10.0**-t))
    axis.set(xlim=(0, SPARSITIES[-1] + 0.002), xlabel="sparsity (weights that are zero)")
    ticks(axis.xaxis, (0, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99), "{:.0%}")


def _error_axis(axis):
    axis.set(yscale="log", ylim=(0.4, 100), ylabel="test error, 10,000 images (log scale)")
    ticks(axis.yaxis, (0.5, 1, 2, 5, 10, 20, 50, 90), "{:g} %")


def ticks(axis, values, form):
    """Have ticks at these values of an x or y axis and nowhere else, written by a format such as "{:g} %"."""
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: form.format(value)))


def error_map(records):
    """Draw the test error over bits and sparsity together, the mean over the seeds, one number in every field."""
    records = _drawable(records, "error_map")
    bits = sorted({record["bits"] for record in records})
    sparsities = sorted({record["sparsity"] for record in records})
    errors = np.array([[_mean_error(records, bits=b, sparsity=s) for s in sparsities] for b in bits])
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.2))
        image = _fields(axis, errors, errors)
        axis.set_xticks(range(len(sparsities)), [f"{s:.0%}" for s in sparsities])
        axis.set_yticks(range(len(bits)), ["float" if b == FLOAT else str(b) for b in bits])
        axis.set(xlabel="sparsity (weights that are zero)", ylabel="bits a weight")
        _colour_bar(figure, image, axis, errors)
        return figure


def integer_map(records):
    """Draw the test error of integer networks over the bits of weights and of activations, a map for each sparsity.

    The activations' width is the number in the technique's name, such as `integer_8`.
    """
    records = _drawable(records, "integer_map")
    sparsities = sorted({record["sparsity"] for record in records})
    techniques = sorted({record["technique"] for record in records}, key=lambda name: int(name.split("_")[1]))
    widths = sorted(set.intersection(*({r["bits"] for r in select(records, technique=t)} for t in techniques)))
    errors = np.array(
        [
            [[_mean_error(records, sparsity=s, technique=t, bits=b) for b in widths] for t in techniques]
            for s in sparsities
        ]
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(sparsities), figsize=(4.6 * len(sparsities), 3.6), squeeze=False)
        for axis, sparsity, field in zip(axes[0], sparsities, errors, strict=True):
            image = _fields(axis, field, errors)
            axis.set_xticks(range(len(widths)), [str(b) for b in widths])
            axis.set_yticks(range(len(techniques)), [name.split("_")[1] for name in techniques])
            axis.set_title(f"{sparsity:.0%} of the weights are zero" if sparsity else "nothing pruned", fontsize=10)
            axis.set_xlabel("bits a weight")
        axes[0][0].set_ylabel("bits an activation")
        _colour_bar(figure, image, axes[0], errors)
        return figure


def _mean_error(records, **point):  # -> percent
    chosen = select(records, **point)
    if not chosen:
        where = ", ".join(f"{key} {value}" for key, value in point.items())
        raise ValueError(f"the map needs a record at every pair, has none at {where}")
    return 100 * np.mean([record["error"] for record in chosen])


def _fields(axis, errors, all_errors):
    """Draw a field for each error, its number in it; the shades are the errors' logarithms."""
    shades, ends = (np.log10(np.maximum(e, 0.01)) for e in (errors, all_errors))  # 0.01 % is one image of 10,000
    image = axis.imshow(shades, cmap="viridis_r", aspect="auto", origin="lower", vmin=ends.min(), vmax=ends.max())
    for (row, column), error in np.ndenumerate(errors):
        colour = "white" if shades[row, column] > (ends.max() + ends.min()) / 2 else "black"
        axis.text(column, row, f"{error:.1f}", ha="center", va="center", fontsize=8, color=colour)
    axis.grid(False)
    return image


def _colour_bar(figure, image, axes, errors):
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 90) if errors.min() <= t <= errors.max()]
    bar = figure.colorbar(image, ax=axes, ticks=np.log10(ticks), label="test error, %")
    bar.ax.set_yticklabels([str(t) for t in ticks])


def speed_curves(records):
    """Draw operations per second against size for every way in the records (figures/speed.py) to multiply cubes."""
    cubes = _drawable([r for r in records if r["M"] == r["K"] == r["N"]], "speed_curves")
    ways = dict.fromkeys(record["way"] for record in cubes)
    looks = zip((way for way in ways if way != "float32 @"), COLOURS[:6] * 2, MARKERS * 2, strict=False)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.8))
        for way, colour, marker in looks:
            _speed_line(axis, cubes, way, color=colour, marker=marker, markersize=5, linewidth=1.5)
        _speed_line(axis, cubes, "float32 @", color=COLOURS[6], linewidth=3, zorder=1)
        sizes = sorted({record["M"] for record in cubes})
        axis.set(xscale="log", yscale="log", xlabel="size: M = K = N", ylabel="giga-operations per second")
        axis.set_xticks(sizes, map(str, sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:g}"))
        axis.set_title("\n".join(textwrap.wrap(cubes[0]["machine"], 75)), fontsize=8, loc="left")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def _speed_line(axis, records, way, **look):
    records = sorted(select(records, way=way), key=lambda record: record["M"])
    speeds = [record["operations_per_second"] / 1e9 for record in records]
    axis.plot([record["M"] for record in records], speeds, label=way, **look)


def save_figure(figure, path):
    """Write a PNG without the date and version that would make every rerun a new file, and close the figure."""
    figure.savefig(Path(path), metadata={"Software": None})
    plt.close(figure)
