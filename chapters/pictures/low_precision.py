"""The pictures of chapter 09b: each draws the arrays that a cell computed, and returns the figure."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREEN, GREY, ORANGE, PLAIN, STYLE

PARTS = {"sign": GREY, "exponent": ORANGE, "fraction": BLUE}


def bits_of_floats(formats):
    """Draw the bits of one number in each format: {name: (text of 0 and 1, bits of exponent, value)}."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(11, 2))
        axis.set_axis_off()
        for row, (name, (bits, exponent, value)) in enumerate(formats.items()):
            y = -1.5 * row
            axis.text(-0.4, y + 0.5, name, ha="right", va="center", fontsize=10)
            for j, bit in enumerate(bits):
                part = "sign" if j == 0 else "exponent" if j <= exponent else "fraction"
                look = {"facecolor": PARTS[part], "alpha": 0.35, "edgecolor": "white"}
                axis.add_patch(Rectangle((j, y), 1, 1, **look))
                axis.text(j + 0.5, y + 0.5, bit, ha="center", va="center", fontsize=9)
            axis.text(len(bits) + 0.4, y + 0.5, f"= {value:.8g}", va="center", fontsize=10)
        handles = [Rectangle((0, 0), 1, 1, facecolor=c, alpha=0.35) for c in PARTS.values()]
        axis.legend(handles, list(PARTS), ncols=3, loc="upper right", bbox_to_anchor=(1, 0.35))
        axis.set(xlim=(-4.5, 38.5), ylim=(1.4 - 1.5 * len(formats), 1.1))
        return figure


def lost_updates(paths):
    """Draw a weight that takes the same update again and again, a curve for each format: {name: path}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3))
        for (name, path), colour, style in zip(
            paths.items(), COLOURS, ("-", "--", "-"), strict=False
        ):
            axis.plot(path, color=colour, linestyle=style, label=name, linewidth=1.8)
        axis.set(xlabel="update", ylabel="weight")
        axis.legend()
        return figure


def exponents_of_gradients(gradients):
    """Draw the histogram of log2 |g| of each array that is given, {name: gradients, none of them 0}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 3.2))
        for (name, gradient), colour in zip(gradients.items(), COLOURS, strict=False):
            shares = np.full(len(gradient), 1 / len(gradient))
            look = {"histtype": "step", "linewidth": 1.6, "color": colour, "label": name}
            axis.hist(np.log2(np.abs(gradient)), bins=np.arange(-60, 4), weights=shares, **look)
        axis.axvspan(-60, -25, color="grey", alpha=0.25, label="0 in float16")
        axis.axvline(-14, color="grey", linestyle=":", label="float16's smallest normal")
        axis.set(xlabel="exponent: log2 |gradient|", ylabel="share", xlim=(-60, 3))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def scale_in_training(scales):
    """Draw the loss scale of each step, as a power of two."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 2.8))
        axis.step(range(len(scales)), np.log2(scales), where="post", color=GREEN)
        axis.set(xlabel="step of training", ylabel="log2 of the loss scale")
        return figure
