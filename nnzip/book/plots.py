"""The book's figures: one look for all, safe for colour-blind eyes, the same bytes at every rerun."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nnzip.book.records import select
from nnzip.book.techniques import FLOAT, SPARSITIES, TECHNIQUES

BLUE, RED, GREEN, PINK, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
GREY = "#4D4D4D"
COLOURS = (BLUE, RED, GREEN, PINK, ORANGE, SKY, "#000000")  # Okabe and Ito 2008
PALETTE = {"blue": BLUE, "red": RED, "green": GREEN, "pink": PINK, "orange": ORANGE, "sky": SKY, "grey": GREY}
LOOKS = {technique.name: PALETTE[technique.colour] for technique in TECHNIQUES.values() if technique.colour}
IMAGES = 10_000  # of the test set
SKIPPED = 2  # so many points may be missing between two that a line joins
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
NAMES = {
    "lenet_300_100": "LeNet-300-100 (MLP)",
    "lenet_5": "LeNet-5 (CNN)",
    **{technique.name: technique.title for technique in TECHNIQUES.values()},
}
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
PLAIN = STYLE | {"axes.grid": False}  # of pictures that are no plots


def error_curves(records, *, sparsity=0.0, bits=4, titles=("", ""), names=None):
    """Draw the signature figure: test error against bit width and against sparsity, a row for each network.

    Both axes run toward more compression. A line is the mean over the seeds, its band reaches from the best to the
    worst; between points that are far apart, with others measured between them, there is none. The dashed line is the
    float network, the grey band what 10,000 images cannot tell from it.

    records : list of dicts, as `error_grid` returns them and figures/*.csv hold them
    sparsity : of the networks on the left; 0, nothing is pruned
    bits : of the weights on the right; FLOAT, they are not rounded
    titles : of the two columns, the message of each
    names : {technique: what to call it} in the place of NAMES
    """
    records = _drawable(records, "error_curves")
    if max(len({record[key] for record in records}) for key in ("bits", "sparsity")) < 2:
        raise ValueError("error_curves needs records of two bit widths or of two sparsities, got one point")
    networks = list(dict.fromkeys(record["network"] for record in records))
    columns = ("bits", {"sparsity": sparsity}), ("sparsity", {"bits": bits})
    with plt.rc_context(STYLE):
        options = {"sharex": "col", "sharey": True, "squeeze": False}
        figure, axes = plt.subplots(len(networks), 2, figsize=(11, 1 + 2.8 * len(networks)), **options)
        for row, network in zip(axes, networks, strict=True):
            own = select(records, network=network)
            for axis, (key, fixed) in zip(row, columns, strict=True):
                _float_line(axis, [r["error"] for r in select(own, bits=FLOAT, sparsity=0.0)])
                _curves(axis, select(own, **fixed), key, names or {})
            row[0].set_ylabel(f"{NAMES.get(network, network)}\ntest error")
        _shared_axes(axes, sparsity, bits)
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, loc="left", fontsize=11)
        _legends(axes)
        return figure


def _drawable(records, figure):
    """Return the records, each with a network and a seed, which `error_grid` does not know."""
    if not records:
        raise ValueError(f"{figure} needs at least one record that it can draw, got none")
    return [{"network": "network", "seed": 0, **record} for record in records]


def _float_line(axis, errors):
    """Draw guessing, and the float network with the 95 % of a binomial distribution around it."""
    axis.axhline(90, color="grey", linewidth=0.8, linestyle=":")
    if errors:
        mean = np.mean(errors)
        chance = 1.96 * np.sqrt(mean * (1 - mean) / IMAGES)
        axis.axhspan(100 * (mean - chance), 100 * (mean + chance), color="grey", alpha=0.2, linewidth=0)
        axis.axhline(100 * mean, color="grey", linewidth=1.2, linestyle="--", zorder=1)


def _curves(axis, records, key, names):
    """Draw a curve for each technique: pieces of neighbours on the grid of all that were measured."""
    grid = sorted({record[key] for record in records} - {FLOAT})
    for i, technique in enumerate(dict.fromkeys(record["technique"] for record in records)):
        own = [record for record in select(records, technique=technique) if record[key] != FLOAT]
        values = sorted({record[key] for record in own})
        if values in ([], [0.0]):
            continue  # the unpruned network alone is no curve
        errors = [[100 * record["error"] for record in select(own, **{key: value})] for value in values]
        label, colour = names.get(technique, NAMES.get(technique, technique)), LOOKS.get(technique, COLOURS[i % 7])
        far = 1 + np.flatnonzero(np.diff([grid.index(value) for value in values]) > SKIPPED + 1)
        for piece in np.split(np.arange(len(values)), far):
            at, seeds = [values[j] for j in piece], [errors[j] for j in piece]
            axis.plot(
                at, list(map(np.mean, seeds)), color=colour, label=label, marker="o", markersize=4.5, linewidth=1.8
            )
            ends = list(map(min, seeds)), list(map(max, seeds))
            axis.fill_between(at, *ends, color=colour, alpha=0.13, linewidth=0)


def _shared_axes(axes, sparsity, bits):
    left, right = axes[0]
    left.set(yscale="log", ylim=(0.4, 130))
    left.invert_xaxis()
    ticks(left.yaxis, (0.5, 1, 2, 5, 10, 20, 50, 90), "{:g} %")
    ticks(left.xaxis, range(1, 17), "{:g}")
    right.set_xscale("function", functions=(lambda s: -np.log10(1.02 - s), lambda t: 1.02 - 10.0**-t))
    right.set_xlim(-0.02, SPARSITIES[-1] + 0.003)  # stretched toward 1: at 90, 99 % the weights that are left count
    ticks(right.xaxis, (0, 0.5, 0.8, 0.9, 0.95, 0.99), "{:.0%}")
    axes[-1, 0].set_xlabel("bits a weight" + (f", {sparsity:.0%} of the weights zero" if sparsity else ""))
    axes[-1, 1].set_xlabel(f"weights that are zero, the others {'floats' if bits == FLOAT else f'of {bits} bits'}")


def _legends(axes):
    """Name the curves of each column once, in its first row, where there is most room."""
    for column in axes.T:
        named = {label: line for axis in column for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        if named:
            look = {"frameon": True, "framealpha": 1, "edgecolor": "none"}  # no line runs through a name
            column[0].legend(named.values(), named, loc="best", fontsize=8.5, **look)


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
        rows = ["float" if b == FLOAT else b for b in bits]
        image = _fields(axis, errors, errors, [f"{s:.0%}" for s in sparsities], rows)
        axis.set(xlabel="sparsity (weights that are zero)", ylabel="bits a weight")
        _colour_bar(figure, image, axis, errors)
        return figure


def integer_map(records):
    """Draw the test error of integer networks over the bits of weights and of activations, a map for each sparsity.

    The activations' width is the number in the technique's name, such as `integer_8`.
    """
    records = [{**r, "inputs": int(r["technique"].split("_")[1])} for r in _drawable(records, "integer_map")]
    inputs, sparsities = (sorted({record[key] for record in records}) for key in ("inputs", "sparsity"))
    widths = sorted(set.intersection(*({r["bits"] for r in select(records, inputs=i)} for i in inputs)))
    errors = np.array(
        [[[_mean_error(records, sparsity=s, inputs=i, bits=b) for b in widths] for i in inputs] for s in sparsities]
    )
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(sparsities), figsize=(4.6 * len(sparsities), 3.6), squeeze=False)
        for axis, sparsity, field in zip(axes[0], sparsities, errors, strict=True):
            image = _fields(axis, field, errors, widths, inputs)
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


def _fields(axis, errors, all_errors, columns, rows):
    """Draw a field for each error, its number in it; the shades are the errors' logarithms."""
    shades, ends = (np.log10(np.maximum(e, 0.01)) for e in (errors, all_errors))  # 0.01 % is one image of 10,000
    low, high = ends.min(), ends.max()
    image = axis.imshow(shades, cmap="viridis_r", aspect="auto", origin="lower", vmin=low, vmax=high)
    for (row, column), error in np.ndenumerate(errors):
        colour = "white" if shades[row, column] > (low + high) / 2 else "black"
        axis.text(column, row, f"{error:.1f}", ha="center", va="center", fontsize=8, color=colour)
    axis.grid(False)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    return image


def _colour_bar(figure, image, axes, errors):
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 90) if errors.min() <= t <= errors.max()]
    bar = figure.colorbar(image, ax=axes, ticks=np.log10(ticks), label="test error, %")
    bar.ax.set_yticklabels([str(t) for t in ticks])


def speed_curves(records, *, title=""):
    """Draw how many times as fast as float32 every way in the records (figures/speed.py) multiplies cubes, by size."""
    cubes = _drawable([r for r in records if r["M"] == r["K"] == r["N"]], "speed_curves")
    own = {way: select(cubes, way=way) for way in dict.fromkeys(r["way"] for r in cubes) if way != "float32 @"}
    looks = dict(zip(own, zip((*COLOURS, GREY), (*MARKERS, "*"), strict=True), strict=False))
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4.2))
        for way in sorted(own, key=lambda way: own[way][-1]["ratio_to_float32"], reverse=True):  # as their lines end
            sizes, ratios = zip(*sorted((r["M"], r["ratio_to_float32"]) for r in own[way]), strict=True)
            colour, marker = looks[way]
            axis.plot(sizes, ratios, label=way, color=colour, marker=marker, markersize=5, linewidth=1.5)
        axis.axhline(1, color="black", linewidth=1, linestyle="--", label="float32 @", zorder=1)
        axis.set(xscale="log", yscale="log", xlabel="size: M = K = N", ylabel="times as fast as float32")
        ticks(axis.xaxis, sorted({record["M"] for record in cubes}), "{:g}")
        ticks(axis.yaxis, (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5), "{:g}")
        axis.set_title(title, fontsize=11, loc="left")
        figure.supxlabel(textwrap.fill(cubes[0]["machine"], 120), fontsize=7, color=GREY)
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def save_figure(figure, path):
    """Write a PNG without the date and version that would make every rerun a new file, and close the figure."""
    figure.savefig(Path(path), metadata={"Software": None})
    plt.close(figure)
