"""The pictures of chapter 05b: each draws the arrays that a cell computed."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from nnzip.book.plots import BLUE, GREEN, GREY, ORANGE, PLAIN, RED, STYLE, ticks
from pictures import cells
from pictures.pruning import masks  # noqa: F401 - both chapters on pruning draw masks


def _cells(axis, matrix, x, y, *, colours=None, size=9):
    """Draw a matrix as squares, those that are not 0 coloured; 0 is an empty square."""
    faces = np.where(matrix, "#CFE3F2", "white") if colours is None else colours
    cells(
        axis, matrix, x, y, faces=faces, zeros=False, fontsize=size, edgecolor="grey", linewidth=0.7
    )


def csr(matrix, values, columns, starts):
    """Draw a small sparse matrix, and the three arrays that store it by rows."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 2.4))
        axis.set_axis_off()
        left, tints = matrix.shape[1] + 3.5, ("#CFE3F2", "#FBE3C0", "#D5EBDD", "#F3D9E6")
        own = [
            [tints[i % 4] if value else "white" for value in row] for i, row in enumerate(matrix)
        ]
        _cells(axis, matrix, 0, len(matrix), colours=own)
        for i in range(len(matrix)):
            axis.text(
                -0.2,
                len(matrix) - i - 0.5,
                f"row {i}",
                ha="right",
                va="center",
                fontsize=8.5,
                color="grey",
            )
        row_of = np.searchsorted(starts, np.arange(len(values)), side="right") - 1
        own = [[tints[row % 4] for row in row_of]]
        for text, array, height, colours in (
            ("values", values, 3.9, own),
            ("columns", columns, 2.6, own),
            ("starts", starts, 1.3, [["white"] * len(starts)]),
        ):
            axis.text(left - 0.3, height - 0.5, text, ha="right", va="center", fontsize=9.5)
            for j, value in enumerate(array):
                axis.add_patch(
                    Rectangle(
                        (left + j, height - 1), 1, 1, facecolor=colours[0][j], edgecolor="grey"
                    )
                )
                axis.text(
                    left + j + 0.5, height - 0.5, f"{value:g}", ha="center", va="center", fontsize=9
                )
        axis.set(
            xlim=(-1.6, left + max(len(values), len(starts)) + 0.2), ylim=(-0.1, len(matrix) + 0.2)
        )
        axis.set_aspect("equal")
        return figure


def bytes_by_format(sparsities, curves):
    """Draw the bits a weight takes in each format: {title: {format: [bits for each sparsity]}}, a panel each."""
    looks = {
        "dense": (GREY, "-"),
        "CSR": (RED, "-"),
        "bitmap": (BLUE, "-"),
        "values + shortest positions": (GREEN, "--"),
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(curves), figsize=(11, 3.3))
        for axis, (title, formats) in zip(axes, curves.items(), strict=True):
            for name, bits in formats.items():
                colour, style = looks[name]
                axis.plot(
                    sparsities, bits, color=colour, linestyle=style, label=name, linewidth=1.8
                )
                spare = formats["dense"] - np.asarray(bits)  # above 0 where the format is smaller
                if spare[0] < 0:
                    first = np.argmax(spare > 0)
                    here = np.interp(
                        0, spare[first - 1 : first + 1], sparsities[first - 1 : first + 1]
                    )
                    axis.plot(here, formats["dense"][0], "o", color=colour, markersize=6, zorder=5)
                    axis.annotate(
                        f"{here:.0%}",
                        (here, formats["dense"][0]),
                        (-14, -14) if style == "--" else (4, 6),
                        textcoords="offset points",
                        fontsize=9,
                        color=colour,
                    )
            axis.set_title(title, loc="left", fontsize=10)
            axis.set_xlabel("weights that are zero")
            axis.set_ylim(0, 1.6 * formats["dense"][0])
            ticks(axis.xaxis, (0, 0.2, 0.4, 0.6, 0.8, 1), "{:.0%}")
        axes[0].set_ylabel("bits a weight")
        axes[0].legend(fontsize=8.5, loc="lower left")
        return figure


def removed_unit(first, second, kept):
    """Draw two weight matrices: the rows of the first and the columns of the second that go with a removed neuron."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(8, 2.9))
        axis.set_axis_off()
        gone, stays = "#F2C4B3", "#CFE3F2"
        place, height = first.shape[1] + 4.5, len(first)
        rows = [[stays if kept[i] else gone] * first.shape[1] for i in range(len(first))]
        _cells(axis, 0 * first, 0, height, colours=rows)
        _cells(
            axis,
            np.zeros((len(first), 1)),
            first.shape[1] + 0.5,
            height,
            colours=[[row[0]] for row in rows],
        )
        columns = [[stays if k else gone for k in kept]] * len(second)
        _cells(axis, 0 * second, place, height - 0.5, colours=columns)
        for x, text in (
            (first.shape[1] / 2, "weight 1: a row for each neuron"),
            (first.shape[1] + 1, "bias"),
            (place + second.shape[1] / 2, "weight 2: a column for each neuron"),
        ):
            axis.text(x, height + 0.3, text, ha="center", fontsize=9)
        removed = int(np.flatnonzero(~np.asarray(kept))[0])
        axis.annotate(
            "the removed neuron",
            (place + removed + 0.5, height - 0.5 - len(second)),
            (first.shape[1] + 1.6, -0.9),
            arrowprops={"arrowstyle": "->", "color": RED},
            color=RED,
            fontsize=9,
            va="center",
        )
        start, end = (first.shape[1] + 2.4, -0.6), (first.shape[1] - 0.45, height - removed - 0.95)
        axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": RED})
        bias = first.shape[1] + 1.0, height - removed - 0.95
        axis.annotate("", bias, start, arrowprops={"arrowstyle": "->", "color": RED})
        axis.set(
            xlim=(-0.5, place + second.shape[1] + 1.5), ylim=(-1.4, height + 0.9), aspect="equal"
        )
        return figure


def where_the_work_is(shares):
    """Draw what each layer holds of the weights and of the multiply-adds: {what: {layer: share}}, a bar each.

    A bar is as long as its shares add up to.
    """
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9.5, 0.8 + 0.5 * len(shares)))
        layers = list(next(iter(shares.values())))
        colours = dict(zip(layers, (ORANGE, RED, BLUE, GREEN), strict=False))
        for row, (_, parts) in enumerate(shares.items()):
            left = 0.0
            axis.barh(row, 1, color="#F2F2F2", height=0.6)  # what is gone
            for layer, share in parts.items():
                axis.barh(
                    row, share, left=left, color=colours[layer], edgecolor="white", height=0.6
                )
                inside = share > 0.05
                if share > 0.005:  # a narrow piece has its number above it
                    axis.text(
                        left + share / 2,
                        row if inside else row - 0.38,
                        f"{share:.0%}",
                        ha="center",
                        va="center" if inside else "bottom",
                        fontsize=8.5 if inside else 7.5,
                        color="white" if inside else colours[layer],
                    )
                left += share
            if left < 0.99:
                text = f"{left:.0%} in all"
                axis.text(left + 0.02, row, text, va="center", fontsize=9)
        axis.set_yticks(range(len(shares)), list(shares))
        axis.invert_yaxis()
        axis.set(xticks=[], xlim=(0, 1))
        for side in ("left", "bottom"):
            axis.spines[side].set_visible(False)
        axis.tick_params(left=False)
        handles = [Rectangle((0, 0), 1, 1, color=colours[layer]) for layer in layers]
        axis.legend(
            handles,
            layers,
            ncols=len(layers),
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            fontsize=8.5,
        )
        return figure
