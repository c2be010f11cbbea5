"""The pictures of chapter 02: bits, grids, scales and the errors of rounding and clipping."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from nnzip.book.plots import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    PINK,
    PLAIN,
    RED,
    SKY,
    STYLE,
)
from nnzip.quantization import dequantize, fake_quantize, quantize
from pictures import arrow, blank


def signed(number):
    """Return a number with its sign and two decimals, and no minus before 0.00."""
    return f"{number:+z.2f}"


def bits_of_a_weight(weight, code, scale):
    """Draw the 32 bits of a float32 over the 8 bits of the int8 code that takes its place."""
    bits = f"{np.float32(weight).view(np.uint32):032b}"
    sign, exponent, fraction = bits[0], int(bits[1:9], 2) - 127, 1 + int(bits[9:], 2) / 2**23
    parts = (
        (0, 1, RED, f"sign\n{'-' if sign == '1' else '+'}1"),
        (1, 8, GREEN, f"exponent {exponent + 127}: the size\n$2^{{{exponent}}}$"),
        (9, 23, BLUE, f"fraction: the digits\n1 + fraction / $2^{{23}}$ = {fraction:.7f}"),
    )
    places = [-128, 64, 32, 16, 8, 4, 2, 1]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(10.5, 3.5))
        axis.set(xlim=(-0.3, 32.3), ylim=(-4.6, 3.2), aspect="equal")
        axis.set_axis_off()
        for start, width, colour, text in parts:
            _boxes(axis, bits[start : start + width], start, 0.6, colour)
            axis.text(start + width / 2, 0.4, text, ha="center", va="top", fontsize=9, color=colour)
        axis.text(0, 2, f"float32, 32 bits: {weight:.7f}", fontsize=10)
        _boxes(axis, f"{code & 0xFF:08b}", 0, -3.6, ORANGE)
        for i, place in enumerate(places):
            axis.text(i + 0.5, -3.8, f"{place}", ha="center", va="top", fontsize=8, color=GREY)
        axis.text(0, -2.2, f"int8, 8 bits: code {code}", fontsize=10)
        summed = " + ".join(str(p) for p, bit in zip(places, f"{code & 0xFF:08b}") if bit == "1")
        product = f"code {code} x scale {scale:.6f} = {code * scale:.5f}"
        said = f"{summed} = {code}\n{product}\n(one scale for the whole layer)"
        axis.text(8.7, -3.1, said, va="center", fontsize=10)
        return figure


def _boxes(axis, bits, x, y, colour):
    """Draw a row of bits, each in its box."""
    for i, bit in enumerate(bits):
        axis.add_patch(Rectangle((x + i, y), 1, 1, facecolor=colour, alpha=0.25, edgecolor="white"))
        axis.text(x + i + 0.5, y + 0.47, bit, ha="center", va="center", fontsize=9)


def scales_of_a_matrix(matrix, grids):
    """Draw a matrix once for each grid: a colour for each scale, and what each number becomes."""
    different = sorted({round(float(s), 6) for grid in grids for s in np.atleast_1d(grid.scale)})
    colours = dict(zip(different, (SKY, GREEN, PINK, ORANGE), strict=True))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(grids), figsize=(10.5, 2.5))
        for axis, grid in zip(axes, grids):
            back = fake_quantize(matrix, grid)
            for (row, column), value in np.ndenumerate(matrix):
                own = 0 if grid.axis is None else (row, column)[grid.axis]
                colour = colours[round(float(np.atleast_1d(grid.scale)[own]), 6)]
                place = (column, 1 - row)
                look = {"facecolor": colour, "alpha": 0.35, "edgecolor": "white"}
                axis.add_patch(Rectangle(place, 1, 1, linewidth=3, **look))
                middle = column + 0.5
                axis.text(middle, 1.63 - row, f"{value:g}", ha="center", va="center", fontsize=11)
                said = f"→ {back[row, column]:.3g}"
                changed = not np.isclose(back[row, column], value)
                look = {"color": "black" if changed else GREY, "fontsize": 10}
                look["fontweight"] = "bold" if changed else "normal"
                axis.text(middle, 1.3 - row, said, ha="center", va="center", **look)
            axis.set(xlim=(-0.05, 3.05), ylim=(-0.05, 2.05))
            axis.set_axis_off()
            scales = ", ".join(f"{scale:.3g}" for scale in np.atleast_1d(grid.scale))
            axis.set_title(f"axis={grid.axis}, scale {scales}", fontsize=10)
        return figure


def staircase(x, back, step):
    """Draw what comes back over what went in, and the error beside it."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
        left.plot(x, x, color="grey", linewidth=1, label="x itself")
        left.plot(x, back, color=BLUE, label="what comes back")
        left.set(xlabel="x", title="A staircase ...")
        left.legend(loc="upper left")
        right.plot(x, back - x, color=RED)
        right.axhspan(-step / 2, step / 2, color=GREEN, alpha=0.15, linewidth=0)
        right.set(xlabel="x", ylabel="error", title="... and its error")
        right.text(0, step * 0.6, "half a step", ha="center", color=GREEN)
        right.annotate("clipped", (1.2, -0.2), (0.62, -0.27), color=RED, va="center")
        return figure


def grids_over_numbers(x, grids, *, span):
    """Draw a histogram of numbers once for each grid, with a line for each code and its number.

    grids : {title: QuantParams}; span : (from, to) of the axis
    """
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, len(grids), figsize=(10, 2.8), sharey=True)
        for axis, (title, grid) in zip(axes, grids.items()):
            codes = np.arange(grid.qmin, grid.qmax + 1)
            places = dequantize(codes, grid)
            counts, edges = np.histogram(x, bins=120, range=span)
            middles = (edges[1:] + edges[:-1]) / 2
            outside = (edges[1:] <= places[0]) | (edges[:-1] >= places[-1])
            colours = np.where(outside, RED, SKY)
            axis.bar(middles, counts, width=edges[1] - edges[0], color=colours)
            for code, place in zip(codes, places):
                axis.axvline(place, color=GREY, linewidth=0.8)
                named = {"ha": "center", "va": "bottom", "fontsize": 8.5}
                axis.text(place, 1.02, code, transform=axis.get_xaxis_transform(), **named)
            axis.set(yscale="log", xlim=span, xlabel="value")
            axis.set_title(title, fontsize=10, pad=18)
        axes[0].set_ylabel("count (log)")
        return figure


def sqnr_by_bits(bits, ratios):
    """Draw decibels against bits: {source: [(measured, theory) for each width]}; marks are measured.

    The marks of a source are smaller than those before, so that all are seen where they meet.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 4.2))
        for name, colour, marker, size in zip(ratios, COLOURS, MARKERS, (11, 9.5, 7, 4)):
            measured, theory = np.transpose(ratios[name])
            axis.plot(bits, theory, color=colour, linewidth=1, linestyle=":")
            look = {"color": colour, "marker": marker, "markersize": size, "linewidth": 0}
            axis.plot(bits, measured, label=name, markerfacecolor="none", **look)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.text(12, 1, "noise as large as the signal", ha="right", color="grey", fontsize=8.5)
        axis.set(xlabel="bits", ylabel="SQNR, dB (dotted: theory)")
        axis.legend()
        return figure


def largest_of_filters(largest):
    """Draw the largest magnitude of each filter, sorted, below the one of all."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 2.6))
        axis.bar(range(len(largest)), np.sort(largest)[::-1], color=BLUE, label="range of a filter")
        axis.axhline(largest.max(), color=RED, label="range of the tensor")
        axis.set(
            xlabel="filters, sorted", ylabel="largest |weight|", ylim=(0, 1.28 * largest.max())
        )
        axis.legend(ncols=2, loc="upper right")
        return figure


def clipping_and_rounding(fractions, errors, chosen):
    """Draw both errors and their sum over the range, a panel for each width, and what methods choose.

    errors : {bits: [(rounding, clipping) for each fraction]}
    chosen : {bits: {method: (fraction, error)}}
    """
    looks = {"percentile": ("v", ORANGE, 10), "entropy": ("D", SKY, 11), "mse": ("*", GREEN, 10)}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(errors), figsize=(11, 3.6), sharey=True)
        for axis, bits in zip(axes, errors):
            rounding, clipping = np.transpose(errors[bits])
            axis.plot(fractions, rounding, color=BLUE, label="rounding")
            axis.plot(fractions, clipping, color=RED, linestyle="--", label="clipping")
            axis.plot(fractions, rounding + clipping, color="black", linewidth=2, label="both")
            for method, place in chosen[bits].items():
                marker, colour, size = looks[method]
                look = {"color": colour, "markersize": size, "markeredgecolor": "black"}
                axis.plot(*place, marker, linewidth=0, label=method, **look)
            axis.set(yscale="log", ylim=(1e-6, 2e-2), xlabel="range / largest |weight|")
            axis.set_title(f"{bits} bits")
        axes[0].set_ylabel("mean squared error")
        axes[0].legend(*axes[-1].get_legend_handles_labels(), fontsize=8, loc="lower right")
        return figure


def weights_and_activations(weight, hidden, ranges):
    """Draw histograms of both, and where ranges end: {method: largest value}."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 3))
        axes[0].hist(weight.ravel(), bins=100, color=BLUE)
        title = "weights of the second layer"
        axes[0].set(yscale="log", xlabel="weight", ylabel="count (log)", title=title)
        axes[1].hist(hidden.ravel(), bins=100, color=ORANGE)
        axes[1].set(yscale="log", xlabel="activation", title="what enters it, 1,000 images")
        for (method, end), style in zip(ranges.items(), ("-", "--")):
            axes[1].axvline(end, color="black", linestyle=style, label=f"by {method}")
        axes[1].legend(title="4-bit range", loc="upper left", bbox_to_anchor=(0.2, 1))
        return figure


def roundings(x, ways):
    """Draw what ways of rounding make of x: {name: whole numbers}."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(ways), figsize=(10.5, 2.8), sharey=True)
        for axis, (name, rounded) in zip(axes, ways.items()):
            axis.plot(x, x, color="grey", linewidth=1)
            axis.plot(x, rounded, ".", color=BLUE, markersize=3, alpha=0.12)
            axis.set_title(f"{name}: bias {signed(np.mean(rounded - x))}", fontsize=10)
            axis.set(xlabel="x", aspect="equal", xticks=range(-3, 4), yticks=range(-3, 4))
            axis.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.3))
        axes[0].set_ylabel("rounded")
        return figure


def number_line(x, qparams):
    """Draw where numbers fall on a grid with one scale: the codes below the line, an arrow from each number to its own.

    What lies outside of the grid is red: it is clipped.
    """
    codes = np.arange(qparams.qmin, qparams.qmax + 1)
    places = dequantize(codes, qparams)
    with plt.rc_context(STYLE):
        figure, [axis] = blank(9, 2.4)
        axis.plot([min(*places, *x), max(*places, *x)], [0, 0], color=GREY, linewidth=1)
        axis.plot(places, 0 * places, "|", color=GREY, markersize=14)
        for code, place in zip(codes, places, strict=True):
            axis.text(place, -0.32, str(code), ha="center", va="top", fontsize=9)
            axis.text(place, -0.62, f"{place:.3g}", ha="center", va="top", fontsize=9, color=GREY)
        for value, rounded in zip(x, fake_quantize(np.asarray(x), qparams), strict=True):
            colour = BLUE if places[0] <= value <= places[-1] else RED
            axis.plot(value, 0.75, "o", color=colour, markersize=6)
            arrow(axis, (value, 0.7), (rounded, 0.08), colour=colour)
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
        axes[1, 0].text(
            0.5, 0.5, "the error,\nin the same colours", ha="center", va="center", fontsize=9
        )
        for (above, below), (title, grid) in zip(axes.T[1:], grids.items(), strict=True):
            rounded = fake_quantize(weight, grid)
            values = len(np.unique(quantize(weight, grid)))
            above.imshow(rounded, **look)
            above.set_title(f"{title}: {values} values", fontsize=10)
            below.imshow(rounded - weight, **look)
            below.set_xlabel(f"at most {np.abs(rounded - weight).max():.2f}", fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
        return figure
