"""The pictures of chapter 04: each draws the arrays that a cell computed, and returns the figure."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREY, MARKERS, ORANGE, PLAIN, RED, STYLE, ticks


def planes(vectors):
    """Draw vectors of two numbers, {title: [2]}, each with its length as a circle and the square that must hold it."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(vectors), figsize=(3.7 * len(vectors), 3.7), squeeze=False
        )
        reach = 1.2 * max(np.linalg.norm(x) for x in vectors.values())
        for axis, (title, x) in zip(axes[0], vectors.items(), strict=True):
            largest = np.abs(x).max()
            axis.add_patch(
                Rectangle((-largest, -largest), 2 * largest, 2 * largest, color=ORANGE, alpha=0.2)
            )
            axis.add_patch(
                Circle((0, 0), np.linalg.norm(x), fill=False, edgecolor=GREY, linestyle="--")
            )
            axis.annotate(
                "", x, (0, 0), arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 2.5}
            )
            axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
            axis.set(xlabel="first number", ylabel="second number")
            axis.set_title(f"{title}\nthe grid must reach {largest:.2f}", fontsize=10)
        return figure


def squares(arrays, *, colours="gray", below=None):
    """Draw matrices, {title: [rows, columns]}, as squares in a frame, zero in the middle of the colours.

    colours : a Matplotlib colour map; "gray" makes -1 black and +1 white
    below : a line of text under each
    """
    with plt.rc_context(PLAIN | {"axes.spines.top": True, "axes.spines.right": True}):
        figure, axes = plt.subplots(
            1, len(arrays), figsize=(min(2.75 * len(arrays), 11), 3), squeeze=False
        )
        texts = below or [""] * len(arrays)
        for axis, (title, array), text in zip(axes[0], arrays.items(), texts, strict=True):
            rows, columns = np.shape(array)
            largest = np.abs(array).max()
            axis.imshow(array, cmap=colours, vmin=-largest, vmax=largest, interpolation="nearest")
            if max(rows, columns) <= 16:
                axis.vlines(
                    np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color=GREY, linewidth=0.6
                )
                axis.hlines(
                    np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color=GREY, linewidth=0.6
                )
            axis.set(xticks=[], yticks=[], xlabel=text)
            axis.set_title(title, fontsize=10)
        return figure


def butterfly(stages):
    """Draw the passes of the fast transform, [passes + 1, n]: a number at each place, and the sums that it is.

    A full line adds; a dashed red line is taken with a minus.
    """
    passes, n = len(stages) - 1, len(stages[0])
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 4.2))
        axis.set_axis_off()
        for step in range(passes):
            half = n >> (step + 1)
            for i in range(n):
                low, high = i & ~half, i | half
                ends = [step + 0.12, step + 0.88]
                axis.plot(ends, [-low, -i], color=BLUE, linewidth=1.2)
                look = {"color": RED, "linestyle": "--"} if i & half else {"color": BLUE}
                axis.plot(ends, [-high, -i], linewidth=1.2, **look)
            axis.text(
                step + 0.5,
                0.75,
                f"pass {step + 1}: {half} apart",
                ha="center",
                fontsize=9,
                color=GREY,
            )
        for step, numbers in enumerate(stages):
            for i, number in enumerate(numbers):
                axis.text(step, -i, f"{number:g}", ha="center", va="center", fontsize=11)
        axis.text(-0.15, 0.75, "x", ha="center", fontsize=10, color=GREY)
        axis.text(passes + 0.15, 0.75, "x H", ha="center", fontsize=10, color=GREY)
        axis.set(xlim=(-0.4, passes + 0.4), ylim=(-n + 0.4, 1.2))
        return figure


def rotated_layer():
    """Draw a layer and the same layer rotated: the inputs at every image, the weights once; and one output."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 2.6))
        axis.set(xlim=(-0.4, 8.6), ylim=(-0.5, 3.2))
        axis.set_axis_off()
        boxes = (
            (0, 2.6, "x", GREY),
            (5, 2.6, "layer with W\nx W$^T$", GREY),
            (0, 0.6, "x", GREY),
            (2.4, 0.6, "rotation\nx R", RED),
            (5, 0.6, "layer with W R\n(x R)(W R)$^T$", BLUE),
        )
        for x, y, text, colour in boxes:
            look = {"boxstyle": "round,pad=0.5", "edgecolor": colour, "facecolor": "white"}
            axis.text(x, y, text, ha="center", va="center", fontsize=10, color=colour, bbox=look)
        for start, end in (
            ((0.17, 2.6), (4.41, 2.6)),
            ((0.17, 0.6), (1.97, 0.6)),
            ((2.83, 0.6), (4.34, 0.6)),
        ):
            axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY})
        for x, y in ((5.59, 2.6), (5.66, 0.6)):
            axis.annotate("", (7.3, 1.6), (x, y), arrowprops={"arrowstyle": "->", "color": GREY})
        axis.text(7.4, 1.6, "the same y", va="center", fontsize=10)
        axis.text(2.4, -0.25, "for every image", ha="center", fontsize=9, color=RED)
        axis.text(5, -0.25, "W R: made once, before rounding", ha="center", fontsize=9, color=BLUE)
        return figure


def sqnr_lines(bits, panels):
    """Draw SQNR against bits: {title of a panel: {name: (theory [bits], measured [bits])}}."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(11, 4.2), sharey=True)
        for axis, (title, lines) in zip(axes, panels.items(), strict=True):
            for (name, (theory, measured)), colour, mark in zip(
                lines.items(), COLOURS, MARKERS, strict=False
            ):
                axis.plot(bits, theory, color=colour, linewidth=1, linestyle=":")
                axis.plot(bits, measured, mark, color=colour, label=name, markersize=5)
            axis.set_title(title, loc="left", fontsize=11)
            axis.set(xlabel="bits", ylim=(-5, 60))
        axes[0].set_ylabel("SQNR, dB (dotted: theory)")
        names = axes[0].get_legend_handles_labels()
        figure.legend(*names, fontsize=9, loc="outside lower center", ncols=3)
        return figure


def pruned_in_both(sparsities, errors, energies):
    """Draw test errors in percent against sparsity, {name: [S]}, and what share of the squares the smallest hold."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6))
        looks = ((GREY, "o"), (RED, "s"))
        for name, (colour, mark) in zip(errors, looks, strict=True):
            left.plot(sparsities, errors[name], color=colour, marker=mark, label=name)
            right.plot(
                np.linspace(0, 1, len(energies[name])), energies[name], color=colour, label=name
            )
        left.set(yscale="log", xlabel="weights that are zero", ylabel="test error")
        ticks(left.yaxis, (1, 2, 5, 10, 20, 50), "{:g} %")
        ticks(left.xaxis, (0, 0.2, 0.4, 0.6, 0.8), "{:.0%}")
        right.set(
            xlabel="fraction of the weights, smallest first", ylabel="their share of the squares"
        )
        for axis, title in (
            (left, "The MLP, pruned as trained and rotated"),
            (right, "Rotated, small weights hold more"),
        ):
            axis.set_title(title, loc="left", fontsize=11)
            axis.legend()
        return figure


def spread_out(before, after, *, bits=4):
    """Draw a vector with an outlier and the same vector rotated, on the grids of so many bits that just hold them."""
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True)
        for axis, x, title in zip(axes, (before, after), ("as it is", "rotated"), strict=True):
            largest, codes = np.abs(x).max(), 2 ** (bits - 1) - 1
            for code in range(-codes, codes + 1):
                axis.axhline(code * largest / codes, color=GREY, linewidth=0.5, alpha=0.6)
            axis.bar(range(len(x)), x, color=BLUE, width=0.7)
            axis.set_title(f"{title}: a step of {largest / codes:.2f}", loc="left", fontsize=10)
            axis.set_xticks([])
        axes[0].set_ylabel(f"the entries, and the {bits}-bit grid")
        return figure
