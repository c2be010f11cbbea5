"""The pictures of chapter 08: each draws the arrays that a cell computed, and returns the figure."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREY, PLAIN, RED, STYLE
from nnzip.compression.integer import IntegerLayer, IntegerMaxPool2d
from pictures import arrow, blank, box


def patches(image, places, codes, weight):
    """Draw an image with its windows, {name: (row, column)}; one window's codes, the filter and their products."""
    size = len(weight)
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, 4, figsize=(12, 3.3))
        axes[0].imshow(image, cmap="gray_r")
        for n, (name, (i, j)) in enumerate(places.items()):
            look = {"fill": False, "edgecolor": COLOURS[n], "linewidth": 2}
            axes[0].add_patch(Rectangle((j - 0.5, i - 0.5), size, size, **look))
            column, side = (j - 1, "right") if n == 1 else (j + size, "left")
            label = {"color": COLOURS[n], "ha": side, "fontsize": 9}
            axes[0].text(column, i + (1.5, 3.5, 2.5)[n], name, **label)
        for axis, values in zip(axes[1:], (codes, weight, codes * weight), strict=True):
            reach = 2 * np.abs(values).max()  # pale, so that the numbers can be read
            axis.imshow(values, cmap="RdBu", vmin=-reach, vmax=reach)
            for (row, column), value in np.ndenumerate(values):
                axis.text(column, row, value, ha="center", va="center", fontsize=8)
        titles = ("the 7, three places", "25 codes, upper edge", "x 25 weights", "= 25 products")
        for axis, title in zip(axes, titles, strict=True):
            axis.set_title(title, fontsize=11)
            axis.set_axis_off()
        return figure


def requantized(multiplier, zero_point, sums):
    """Draw the code of every accumulator, a line that is clamped at 0 and 255, and some sums on it, {name: sum}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9, 3.4))
        line = np.linspace(-220_000, 250_000, 2000)
        codes = line * multiplier + zero_point
        axis.plot(line, codes, color=GREY, linestyle=":", linewidth=1.2)
        axis.plot(line, np.clip(np.rint(codes), 0, 255), color=BLUE, linewidth=1.8)
        axis.axhspan(255, 330, color=RED, alpha=0.08, linewidth=0)
        axis.axhspan(-75, 0, color=RED, alpha=0.08, linewidth=0)
        axis.text(-215_000, 290, "no uint8: becomes 255", fontsize=9, color=RED, va="center")
        axis.text(
            245_000, -40, "no uint8: becomes 0", fontsize=9, color=RED, va="center", ha="right"
        )
        for n, (name, value) in enumerate(sums.items()):
            code = np.clip(np.rint(value * multiplier) + zero_point, 0, 255)
            axis.plot(value, code, "o", color=COLOURS[n], markersize=8, zorder=3)
            place, step = (value + 9_000, code - 6), np.rint(value * multiplier) + zero_point
            if step != code:  # where it would be without the clamp
                axis.plot(value, step, "o", color=COLOURS[n], markersize=8, fillstyle="none")
                place, name = (value + 9_000, step - 14), f"{name}: not {step:.0f} but"
            label = f"{name}{'' if step != code else ':'} {code:.0f}"
            axis.text(*place, label, color=COLOURS[n], fontsize=9, va="top")
        axis.set(xlabel="accumulator (int32)", ylabel="code", xlim=(-220_000, 250_000))
        axis.set(ylim=(-75, 330), yticks=(0, zero_point, 255))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
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
            relu = (
                ", ReLU" if hidden and layer.output.zero_point == 0 else ""
            )  # no code is below 0: the clip is a ReLU
            name = f"{kind}{relu}\nint8 weights" + ("\nrequantize" if hidden else "")
        else:
            name = "max pooling" if isinstance(layer, IntegerMaxPool2d) else "flatten"
        stages.append((name, out))
    with plt.rc_context(STYLE):
        figure, [axis] = blank(1.55 * len(stages), 2.6)
        axis.set(xlim=(-1, 2.2 * len(stages) - 1), ylim=(-1.3, 1.4))
        for i, (name, out) in enumerate(stages):
            box(
                axis,
                2.2 * i,
                0.5,
                name,
                colour=BLUE if "int8" in name else GREY,
                width=1.5,
                height=1.1,
            )
            shape = " x ".join(map(str, out.shape[1:]))
            axis.text(
                2.2 * i,
                -0.45,
                f"{shape}\n{out.dtype}\n{out.min()} to {out.max()}",
                ha="center",
                va="top",
                fontsize=8,
            )
            if i:
                arrow(axis, (2.2 * i - 1.35, 0.5), (2.2 * i - 0.85, 0.5))
        return figure
