"""The book's diagrams: what a grid, a mask, a loss or a file looks like, drawn from the arrays that they are about."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from nnzip.book.plots import BLUE, GREEN, GREY, ORANGE, PINK, PLAIN, RED, SKY, STYLE
from nnzip.compression.integer import IntegerLayer, IntegerMaxPool2d
from nnzip.quantization import dequantize, fake_quantize, quantize


def _blank(width, height, *, columns=1):
    """Return a figure and its axes, side by side, without ticks or frames."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    for axis in axes[0]:
        axis.set_axis_off()
    return figure, axes[0]


def _box(axis, x, y, text, *, colour=GREY, width=1.6, height=0.7):
    """Draw a box around a text, its middle at (x, y)."""
    place, size = (x - width / 2, y - height / 2), (width, height)
    axis.add_patch(FancyBboxPatch(place, *size, boxstyle="round,pad=0.05", edgecolor=colour, facecolor="white"))
    axis.text(x, y, text, ha="center", va="center", fontsize=9, color=colour)


def _arrow(axis, start, end, text="", *, colour=GREY, above=0.12, **look):
    """Draw an arrow from one point to another, a text above its middle."""
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, **look})
    axis.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above, text, ha="center", fontsize=8.5, color=colour)


def number_line(x, qparams):
    """Draw where numbers fall on a grid with one scale: the codes below the line, an arrow from each number to its own.

    What lies outside of the grid is red: it is clipped.
    """
    codes = np.arange(qparams.qmin, qparams.qmax + 1)
    places = dequantize(codes, qparams)
    with plt.rc_context(STYLE):
        figure, [axis] = _blank(9, 2.4)
        axis.plot([min(*places, *x), max(*places, *x)], [0, 0], color=GREY, linewidth=1)
        axis.plot(places, 0 * places, "|", color=GREY, markersize=14)
        for code, place in zip(codes, places, strict=True):
            axis.text(place, -0.32, str(code), ha="center", va="top", fontsize=9)
            axis.text(place, -0.62, f"{place:.3g}", ha="center", va="top", fontsize=9, color=GREY)
        for value, rounded in zip(x, fake_quantize(np.asarray(x), qparams), strict=True):
            colour = BLUE if places[0] <= value <= places[-1] else RED
            axis.plot(value, 0.75, "o", color=colour, markersize=6)
            _arrow(axis, (value, 0.7), (rounded, 0.08), colour=colour)
            axis.text(value, 0.92, f"{value:.3g}", ha="center", fontsize=8.5, color=colour)
        axis.set_ylim(-0.95, 1.2)
        left = axis.get_xlim()[0] - 0.02 * np.ptp(axis.get_xlim())
        for height, text in ((0.75, "numbers"), (-0.42, "codes"), (-0.7, "stand for")):
            axis.text(left, height, text, ha="right", va="center", fontsize=9, color=GREY)
        return figure


def weights_in_bits(weight, grids):
    """Draw a small matrix of weights as coloured squares, in float and rounded to grids, and the errors below.

    grids : {title: QuantParams}
    """
    largest = np.abs(weight).max()
    look = {"cmap": "RdBu", "vmin": -largest, "vmax": largest}
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(2, 1 + len(grids), figsize=(2.3 * (1 + len(grids)), 4.6))
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        image = axes[0, 0].imshow(weight, **look)
        axes[0, 0].set_title("float", fontsize=10)
        axes[1, 0].set_axis_off()
        axes[1, 0].text(0.5, 0.5, "the error,\nin the same colours", ha="center", va="center", fontsize=9)
        for (above, below), (title, grid) in zip(axes.T[1:], grids.items(), strict=True):
            rounded = fake_quantize(weight, grid)
            values = len(np.unique(quantize(weight, grid)))
            above.imshow(rounded, **look)
            above.set_title(f"{title}: {values} values", fontsize=10)
            below.imshow(rounded - weight, **look)
            below.set_xlabel(f"at most {np.abs(rounded - weight).max():.2f}", fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
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


def masks(pictures):
    """Draw masks of one small matrix: what is kept in colour, what is removed empty, and a line of text below each.

    pictures : {title: (bool [rows, columns], text)}
    """
    with plt.rc_context(STYLE):
        figure, axes = _blank(2.6 * len(pictures), 3.1, columns=len(pictures))
        for axis, (title, (mask, text)) in zip(axes, pictures.items(), strict=True):
            for (row, column), kept in np.ndenumerate(mask):
                place = (column, len(mask) - 1 - row)
                axis.add_patch(Rectangle(place, 1, 1, facecolor=BLUE if kept else "white", edgecolor="lightgrey"))
            axis.set(xlim=(-0.1, mask.shape[1] + 0.1), ylim=(-0.1, len(mask) + 0.1), aspect="equal")
            axis.set_title(title, fontsize=10)
            axis.text(mask.shape[1] / 2, -0.4, text, ha="center", va="top", fontsize=9)
        return figure


def teacher_and_student():
    """Draw how a student learns from a teacher: two losses on its logits, one from the labels, one from the teacher."""
    with plt.rc_context(STYLE):
        figure, [axis] = _blank(9, 3.2)
        axis.set(xlim=(-1, 9.4), ylim=(-0.3, 3.2))
        _box(axis, 0, 1.5, "images", width=1.2)
        _box(axis, 2.4, 2.5, "teacher\n(fixed)", colour=GREEN)
        _box(axis, 2.4, 0.5, "student", colour=BLUE)
        _arrow(axis, (0.7, 1.7), (1.5, 2.4))
        _arrow(axis, (0.7, 1.3), (1.5, 0.6))
        _box(axis, 5.4, 2.5, "softmax(v / T)", colour=GREEN, width=2.2)
        _box(axis, 5.4, 1.5, "softmax(z / T)", colour=BLUE, width=2.2)
        _box(axis, 5.4, 0.4, "softmax(z)", colour=BLUE, width=2.2)
        _arrow(axis, (3.3, 2.5), (4.2, 2.5), "logits v", colour=GREEN)
        _arrow(axis, (3.3, 0.7), (4.2, 1.4), colour=BLUE)
        _arrow(axis, (3.3, 0.45), (4.2, 0.4), "logits z", colour=BLUE, above=-0.32)
        _box(axis, 8.1, 2, "alpha T² KL\n(soft loss)", colour=RED, width=1.8)
        _box(axis, 8.1, 0.4, "(1 - alpha) CE\nwith the label", colour=RED, width=1.8)
        _arrow(axis, (6.6, 2.5), (7.1, 2.2))
        _arrow(axis, (6.6, 1.5), (7.1, 1.8))
        _arrow(axis, (6.6, 0.4), (7.1, 0.4))
        return figure


def straight_through_node():
    """Draw a layer that is trained through rounding: what goes forward is rounded, what comes back is not."""
    with plt.rc_context(STYLE):
        figure, [axis] = _blank(9, 2.6)
        axis.set(xlim=(-1, 9.2), ylim=(-0.8, 1.6))
        for x, text, colour in ((0, "weight w\n(float, kept)", BLUE), (3.2, "round to\nthe grid", GREY)):
            _box(axis, x, 0.6, text, colour=colour)
        _box(axis, 6, 0.6, "layer\nx w_hat", colour=BLUE)
        _box(axis, 8.4, 0.6, "loss", colour=RED, width=1)
        _arrow(axis, (0.9, 0.75), (2.3, 0.75), "w")
        _arrow(axis, (4.1, 0.75), (5.1, 0.75), "w_hat")
        _arrow(axis, (6.9, 0.75), (7.8, 0.75))
        _arrow(axis, (7.8, 0.4), (6.9, 0.4), colour=RED)
        _arrow(axis, (5.1, 0.4), (4.1, 0.4), "dL/dw_hat", colour=RED, above=-0.3)
        _arrow(axis, (2.3, 0.4), (0.9, 0.4), "the same, or 0 if clipped", colour=RED, above=-0.55, linestyle="--")
        return figure


def path_of_an_image(network, codes):
    """Draw what an integer network makes of one image, layer by layer: shapes, types and the range of the numbers.

    network : IntegerNetwork
    codes : uint8 [1, ...], as `quantize_input` gives them
    """
    stages = [("image", codes)]
    for layer, out in zip(network.layers, network.trace(codes), strict=True):
        if isinstance(layer, IntegerLayer):
            kind = "convolution" if layer.weight.ndim == 4 else "linear"
            hidden = layer.output is not None
            relu = ", ReLU" if hidden and layer.output.zero_point == 0 else ""  # no code is below 0: the clip is a ReLU
            name = f"{kind}{relu}\nint8 weights" + ("\nrequantize" if hidden else "")
        else:
            name = "max pooling" if isinstance(layer, IntegerMaxPool2d) else "flatten"
        stages.append((name, out))
    with plt.rc_context(STYLE):
        figure, [axis] = _blank(1.55 * len(stages), 2.6)
        axis.set(xlim=(-1, 2.2 * len(stages) - 1), ylim=(-1.3, 1.4))
        for i, (name, out) in enumerate(stages):
            _box(axis, 2.2 * i, 0.5, name, colour=BLUE if "int8" in name else GREY, width=1.5, height=1.1)
            shape = " x ".join(map(str, out.shape[1:]))
            axis.text(
                2.2 * i, -0.45, f"{shape}\n{out.dtype}\n{out.min()} to {out.max()}", ha="center", va="top", fontsize=8
            )
            if i:
                _arrow(axis, (2.2 * i - 1.35, 0.5), (2.2 * i - 0.85, 0.5))
        return figure


def file_as_bar(parts):
    """Draw the parts of a .nnz file, as `nnzip.files.archive.describe` returns them, as a bar of bytes."""
    purposes = list(dict.fromkeys(part.purpose for part in parts))
    colours = {"positions": SKY, "codes": ORANGE, "codebook": GREEN, "scales": PINK, "floats": RED, "technique": GREY}
    total = sum(part.bytes for part in parts)
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(10, 1.9))
        start = 0
        for part in parts:
            axis.barh(
                0, part.bytes, left=start, color=colours.get(part.purpose, "black"), edgecolor="white", linewidth=0.5
            )
            if part.bytes > total / 18:
                label = f"{part.tensor or 'file'}\n{part.bytes:,}"
                axis.text(start + part.bytes / 2, 0, label, ha="center", va="center", fontsize=8)
            start += part.bytes
        handles = [Rectangle((0, 0), 1, 1, color=colours.get(purpose, "black")) for purpose in purposes]
        axis.legend(handles, purposes, ncols=len(purposes), loc="lower center", bbox_to_anchor=(0.5, 1))
        axis.set(yticks=[], xlim=(0, total), xlabel="bytes, in the order of the file")
        axis.spines["left"].set_visible(False)
        return figure
