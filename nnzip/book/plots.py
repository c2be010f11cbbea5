"""The book's figures: one look for all, safe for colour-blind eyes, the same bytes at every rerun."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nnzip.book.study import BITS, SPARSITIES, select
from nnzip.book.techniques import FLOAT, TECHNIQUES

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito 2008
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


def error_curves(records, *, sparsity=0.0, bits=4, names=None, axes=None):
    """Draw the signature figure: test error against bit width and against sparsity, for every technique in the records.

    Colour and marker say which technique, a filled marker and a full line the MLP, an open one and a dashed line the
    CNN. The line is the mean over the seeds, the band reaches from the best seed to the worst.

    Parameters
    ----------
    records : list of dicts, as `run_study` and `error_grid` return and figures/*.csv hold them
    sparsity : float
        Of the networks on the left; 0, nothing is pruned.
    bits : int
        Of the weights on the right, where the first technique that was measured in float is drawn beside them in black.
    names : dict, optional
        What to call techniques, other than NAMES does.
    axes : two matplotlib axes, optional
        To draw into; without them a new figure is made.

    Returns
    -------
    matplotlib Figure
    """
    _check_records(records, "error_curves")
    records = _with_network(records)
    if max(len({record[key] for record in records}) for key in ("bits", "sparsity")) < 2:
        raise ValueError("error_curves needs records of two bit widths or of two sparsities, got one point")
    widths = sorted({*BITS, *(record["bits"] for record in records)} - {FLOAT})
    place = {FLOAT: widths[-1] + 1.5}  # where the float network stands on the axis of bits
    with plt.rc_context(STYLE):
        if axes is None:
            _, axes = plt.subplots(1, 2, figsize=(11, 4.4), sharey=True)
        left, right = axes
        names = {**NAMES, **(names or {})}
        techniques = list(dict.fromkeys(record["technique"] for record in records))
        for network in dict.fromkeys(record["network"] for record in records):
            own = select(records, network=network)
            for i, technique in enumerate(techniques):
                look = _look(i, network)
                label = f"{names.get(technique, technique)}, {_short(network)}"
                _mean_and_band(left, select(own, technique=technique, sparsity=sparsity), "bits", look, label, place)
                rounded = select(own, technique=technique, bits=bits)
                _mean_and_band(right, rounded, "sparsity", look, label if bits == FLOAT else f"{bits} bits {label}")
            floats = [select(own, technique=technique, bits=FLOAT) for technique in techniques]
            plain = next((f for f in floats if len({r["sparsity"] for r in f}) > 1), [])
            if bits != FLOAT:
                _mean_and_band(right, plain, "sparsity", _look(6, network), f"float, {_short(network)}")
        _bits_axis(left, widths, place)
        if sparsity:
            left.set_xlabel(f"bits a weight, {sparsity:.0%} of the weights zero")
        _sparsity_axis(right)
        _error_axis(left)
        same = {line.get_label() for line in left.lines} <= {line.get_label() for line in right.lines}
        for axis in [right] if same else axes:
            if axis.lines:
                axis.legend(ncols=1)
        return left.figure


def _check_records(records, figure):
    if not records:
        raise ValueError(f"{figure} needs at least one record that it can draw, got none")


def _with_network(records):  # error_grid knows neither name nor seed
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


def _short(network):
    return {"lenet_300_100": "MLP", "lenet_5": "CNN"}.get(network, network)


def _mean_and_band(axis, records, key, look, label, place=None):
    """Draw the mean error over the seeds at every value of the key, and the band from lowest to highest.

    One value alone is no curve; where it is a bit width it is drawn as a point.
    """
    values = sorted({record[key] for record in records})
    if len(values) < 2 and (key != "bits" or values in ([], [FLOAT])):
        return
    errors = [[record["error"] for record in select(records, **{key: value})] for value in values]
    at = [(place or {}).get(value, value) for value in values]
    axis.plot(at, [100 * np.mean(e) for e in errors], label=label, **look)
    axis.fill_between(
        at, [100 * min(e) for e in errors], [100 * max(e) for e in errors], color=look["color"], alpha=0.12, linewidth=0
    )


def _bits_axis(axis, widths, place):
    axis.set_xlabel("bits a weight")
    axis.set_xticks([*widths, place[FLOAT]], [*map(str, widths), "float"])


def _sparsity_axis(axis):
    """Stretch the axis toward 1: at 90, 99 % the weights that are left count, 10 %, 1 %."""
    axis.set_xscale("function", functions=(lambda s: -np.log10(1.02 - s), lambda t: 1.02 - 10.0**-t))
    axis.set_xlim(0, SPARSITIES[-1] + 0.002)
    ticks = (0, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99)
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{s:.0%}"))
    axis.set_xlabel("sparsity (weights that are zero)")


def _error_axis(axis):
    axis.set_yscale("log")
    axis.set_ylabel("test error, 10,000 images (log scale)")
    axis.yaxis.set_major_locator(FixedLocator((0.5, 1, 2, 5, 10, 20, 50, 90)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"{e:g} %"))
    axis.set_ylim(0.4, 100)


def error_map(records, *, axis=None):
    """Draw the test error over bits and sparsity together, the mean over the seeds, one number in every field."""
    _check_records(records, "error_map")
    bits = sorted({record["bits"] for record in records})
    sparsities = sorted({record["sparsity"] for record in records})
    errors = np.array([[_mean_error(records, bits=b, sparsity=s) for s in sparsities] for b in bits])
    with plt.rc_context(STYLE):
        if axis is None:
            _, axis = plt.subplots(figsize=(8, 4.2))
        image = _fields(axis, errors)
        axis.set_xticks(range(len(sparsities)), [f"{s:.0%}" for s in sparsities])
        axis.set_yticks(range(len(bits)), ["float" if b == FLOAT else str(b) for b in bits])
        axis.set_xlabel("sparsity (weights that are zero)")
        axis.set_ylabel("bits a weight")
        _colour_bar(image, axis, errors)
        return axis.figure


def integer_map(records):
    """Draw the test error of integer networks over the bits of weights and of activations, a map for each sparsity.

    The activations' width is the number in the technique's name, such as `integer_8`.
    """
    _check_records(records, "integer_map")
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
        _colour_bar(image, axes[0], errors)
        return figure


def _mean_error(records, **point):  # -> percent
    chosen = select(records, **point)
    if not chosen:
        where = ", ".join(f"{key} {value}" for key, value in point.items())
        raise ValueError(f"the map needs a record at every pair, has none at {where}")
    return 100 * np.mean([record["error"] for record in chosen])


def _fields(axis, errors, all_errors=None):
    """Draw a field for each error, its number in it; the shades are the errors' logarithms."""
    shades, ends = (np.log10(np.maximum(e, 0.01)) for e in (errors, errors if all_errors is None else all_errors))
    image = axis.imshow(shades, cmap="viridis_r", aspect="auto", origin="lower", vmin=ends.min(), vmax=ends.max())
    for (row, column), error in np.ndenumerate(errors):  # 0 has no logarithm; 0.01 % is one image of 10,000
        colour = "white" if shades[row, column] > (ends.max() + ends.min()) / 2 else "black"
        axis.text(column, row, f"{error:.1f}", ha="center", va="center", fontsize=8, color=colour)
    axis.grid(False)
    return image


def _colour_bar(image, axes, errors):
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 90) if errors.min() <= t <= errors.max()]
    figure = np.ravel(axes)[0].figure
    bar = figure.colorbar(image, ax=axes, ticks=np.log10(ticks), label="test error, %")
    bar.ax.set_yticklabels([str(t) for t in ticks])


def sqnr_curves(records, *, axis=None):
    """Draw the SQNR of the weights against bit width, and the slope that theory gives: 6.02 dB a bit in the limit."""
    rounded = [r for r in _with_network(records) if r["sparsity"] == 0 and r["bits"] != FLOAT]
    techniques = [t for t in ("per_tensor", "per_channel") if select(rounded, technique=t)]
    chosen = [r for r in rounded if r["technique"] in techniques]
    _check_records(chosen, "sqnr_curves")
    with plt.rc_context(STYLE):
        if axis is None:
            _, axis = plt.subplots(figsize=(6.5, 4.4))
        for network in dict.fromkeys(r["network"] for r in chosen):
            for i, technique in enumerate(techniques):
                own = select(chosen, network=network, technique=technique)
                bits = sorted({r["bits"] for r in own})
                means = [np.mean([r["sqnr_db"] for r in select(own, bits=b)]) for b in bits]
                axis.plot(bits, means, label=f"{NAMES[technique]}, {_short(network)}", **_look(i, network))
        bits = np.array(sorted({r["bits"] for r in chosen}))
        steps = 20 * np.log10((2.0 ** (bits - 1) - 1) / (2.0 ** (bits[-1] - 1) - 1))
        anchor = max(np.mean([r["sqnr_db"] for r in select(chosen, bits=bits[-1], technique=t)]) for t in techniques)
        axis.plot(bits, anchor + steps, color="grey", linewidth=1, label="slope of 1 / step$^2$")
        axis.set_xlabel("bits a weight")
        axis.set_ylabel("SQNR of all weights, dB")
        axis.set_xticks(bits)
        axis.legend()
        return axis.figure


def speed_curves(records, *, axis=None):
    """Draw operations per second against size for every way in the records (figures/speed.py) to multiply cubes."""
    cubes = [r for r in records if r["M"] == r["K"] == r["N"]]
    _check_records(cubes, "speed_curves")
    ways = list(dict.fromkeys(record["way"] for record in cubes))
    with plt.rc_context(STYLE):
        if axis is None:
            _, axis = plt.subplots(figsize=(8, 4.8))
        for i, way in enumerate(way for way in ways if way != "float32 @"):
            look = {"color": COLOURS[i % 6], "marker": MARKERS[i % len(MARKERS)], "markersize": 5, "linewidth": 1.5}
            _speed_line(axis, select(cubes, way=way), label=way, **look)
        _speed_line(axis, select(cubes, way="float32 @"), label="float32 @", color=COLOURS[6], linewidth=3, zorder=1)
        sizes = sorted({record["M"] for record in cubes})
        axis.set(xscale="log", yscale="log", xlabel="size: M = K = N", ylabel="giga-operations per second")
        axis.set_xticks(sizes, map(str, sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda speed, _: f"{speed:g}"))
        axis.set_title("\n".join(textwrap.wrap(cubes[0]["machine"], 75)), fontsize=8, loc="left")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return axis.figure


def _speed_line(axis, records, **look):
    records = sorted(records, key=lambda record: record["M"])
    axis.plot([r["M"] for r in records], [r["operations_per_second"] / 1e9 for r in records], **look)


def save_figure(figure, path):
    """Write a PNG without the date and version that would make every rerun a new file, and close the figure."""
    figure.savefig(Path(path), metadata={"Software": None})
    plt.close(figure)
