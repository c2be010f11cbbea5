"""The pictures of chapter 10: the output error as a bowl over two weights, and what the methods do in it."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle

from nnzip.book.plots import (
    BLUE,
    COLOURS,
    GREY,
    LOOKS,
    MARKERS,
    NAMES,
    ORANGE,
    PLAIN,
    RED,
    SKY,
    STYLE,
    ticks,
)
from nnzip.book.records import select


def bowls(hessian, weight, panels, *, cross=None):
    """Draw the output error over two weights as level curves, and a path in it for each panel: {title: [points, 2]}.

    The squares are the four ways to round down or up to whole numbers, each with its output error.

    cross : a point to mark, optional
    """
    at = np.linspace(-0.35, 1.45, 181)
    ways = np.array(list(itertools.product((0, 1), repeat=2)))
    d = np.stack(np.meshgrid(at, at), axis=-1) - weight
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.8), squeeze=False)
        for axis, (title, path) in zip(axes[0], panels.items(), strict=True):
            levels = sorted(_errors(ways - weight, hessian))
            axis.contour(
                at, at, _errors(d, hessian), levels=[0.02, 0.1, *levels], colors=SKY, linewidths=1
            )
            for way, error in zip(ways, _errors(ways - weight, hessian), strict=True):
                axis.plot(*way, "s", color=GREY, markersize=8)
                text = f"({way[0]}, {way[1]})\n{error:.3f}"
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
                axis.annotate(text, way, (9, 6), textcoords="offset points", fontsize=9, bbox=box)
            _path(axis, np.array(path), weight)
            if cross is not None:
                axis.plot(*cross, "x", color="black", markersize=9, markeredgewidth=2, zorder=3)
            axis.set(xlabel="first weight", ylabel="second weight", aspect="equal")
            axis.set_title(title, loc="left", fontsize=11)
        return figure


def _errors(d, hessian):  # [..., 2] -> [...]
    return np.sum(d @ hessian * d, axis=-1) / 2


def _path(axis, path, weight):
    """Draw arrows between a few points, a line through many; without points, a circle around the weight."""
    if len(path) == 0:
        radius = np.linalg.norm(weight - np.rint(weight))
        axis.add_patch(Circle(weight, radius, fill=False, edgecolor=ORANGE, linestyle="--"))
    elif len(path) > 10:
        axis.plot(*path.T, color=RED, linewidth=2.5)
    else:
        for start, end in itertools.pairwise(path):
            axis.annotate(
                "", end, start, arrowprops={"arrowstyle": "-|>", "color": RED, "linewidth": 2}
            )
    axis.plot(*weight, "o", color=BLUE, markersize=8)
    axis.annotate("w", weight, (8, -3), textcoords="offset points", fontsize=11, color=BLUE)


def pixels(rows, at):
    """Draw rows of a Hessian of 784 pixels as images, {title: [784]}, and a cross at the pixel each is of."""
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, len(rows), figsize=(3.2 * len(rows), 3.2))
        for axis, (title, row), (i, j) in zip(axes, rows.items(), at, strict=True):
            axis.imshow(np.reshape(row, (28, 28)), cmap="gray_r")
            axis.plot(j, i, "x", color=RED, markersize=9, markeredgewidth=2)
            axis.set(xticks=[], yticks=[])
            axis.set_title(title, fontsize=10)
        return figure


def cloud(of_weights, of_outputs, found):
    """Draw every way to round a row as a dot, by its two errors, and some of them by name: {name: (x, y)}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 4))
        axis.scatter(of_weights, of_outputs, s=8, color="silver", label=f"{len(of_weights)} ways")
        for (name, place), colour, marker in zip(found.items(), COLOURS, MARKERS, strict=False):
            ring = {"facecolors": "none", "edgecolors": "black", "linewidths": 2, "s": 220}
            look = ring if name == "best" else {"color": colour, "marker": marker, "s": 75}
            axis.scatter(*place, label=name, zorder=3, **look)
        axis.set(yscale="log", xlabel="squared error of the weights")
        axis.set_ylabel("squared error of the output (log scale)")
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def moves(history):
    """Draw how far each weight of a row has been moved after each step, [steps + 1, weights]."""
    moved = history - history[0]
    largest = np.abs(moved).max()
    n = moved.shape[1]
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(6.4, 4.6))
        image = axis.imshow(moved, cmap="RdBu", vmin=-largest, vmax=largest)
        steps = np.repeat(np.arange(n + 1), 2)
        axis.plot(steps[1:-1] - 0.5, steps[2:] - 0.5, color="black", linewidth=1.5)
        axis.text(n - 1.2, 0.7, "still free", ha="right", fontsize=10)
        axis.text(0.2, n - 0.2, "on the grid", fontsize=10)
        axis.set(xlabel="weight", ylabel="weights that are rounded")
        axis.set(xticks=range(n), yticks=range(n + 1))
        axis.set_xticklabels(range(1, n + 1))
        figure.colorbar(image, label="moved by")
        return figure


def at_widths(records, floats, names):
    """Draw the test error against bits, a panel for each network: the mean over the seeds, a band from best to worst.

    floats : {network: test error of the float network}
    names : {technique: what to call it}
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(floats), figsize=(11, 3.8), sharey=True)
        for axis, (network, error) in zip(axes, floats.items(), strict=True):
            axis.axhline(100 * error, color=GREY, linewidth=1.2, linestyle="--", label="float")
            for technique, name in names.items():
                own = select(records, network=network, technique=technique)
                widths = sorted({record["bits"] for record in own})
                errors = [
                    [100 * record["error"] for record in select(own, bits=bits)] for bits in widths
                ]
                look = {"color": LOOKS[technique], "label": name, "marker": "o", "markersize": 5}
                axis.plot(widths, list(map(np.mean, errors)), **look)
                ends = list(map(min, errors)), list(map(max, errors))
                axis.fill_between(widths, *ends, color=LOOKS[technique], alpha=0.13, linewidth=0)
            axis.set(yscale="log", xlabel="bits a weight")
            axis.set_title(NAMES[network], loc="left", fontsize=11)
            ticks(axis.yaxis, (0.5, 1, 2, 5, 10, 20, 50), "{:g} %")
            ticks(axis.xaxis, widths, "{:g}")
            axis.invert_xaxis()
        axes[0].set_ylabel("test error (log scale)")
        axes[0].legend(loc="upper left", fontsize=9)
        return figure
