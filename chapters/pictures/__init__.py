"""The pictures of the chapters, a module for each: they draw the arrays that a cell computed. Here: what they share."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

from nnzip.book.plots import GREY


def cells(axis, matrix, left, top, *, faces, size=1.0, zeros=True, fontsize=10, **look):
    """Draw a matrix as squares with its numbers in them, the upper left corner at (left, top).

    faces : a colour, or one for each square; zeros : whether a 0 is written
    """
    look = {"edgecolor": GREY, "linewidth": 0.8, **look}
    for (i, j), value in np.ndenumerate(matrix):
        x, y = left + j * size, top - (i + 1) * size
        face = faces if isinstance(faces, str) else faces[i][j]
        axis.add_patch(Rectangle((x, y), size, size, facecolor=face, **look))
        if value or zeros:
            middle = x + size / 2, y + size / 2
            axis.text(*middle, f"{value:g}", ha="center", va="center", fontsize=fontsize)


def blank(width, height, *, columns=1):
    """Return a figure and its axes, side by side, without ticks or frames."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False)
    for axis in axes[0]:
        axis.set_axis_off()
    return figure, axes[0]


def box(axis, x, y, text, *, colour=GREY, width=1.6, height=0.7):
    """Draw a box around a text, its middle at (x, y)."""
    place, size = (x - width / 2, y - height / 2), (width, height)
    axis.add_patch(
        FancyBboxPatch(place, *size, boxstyle="round,pad=0.05", edgecolor=colour, facecolor="white")
    )
    axis.text(x, y, text, ha="center", va="center", fontsize=9, color=colour)


def arrow(axis, start, end, text="", *, colour=GREY, above=0.12, **look):
    """Draw an arrow from one point to another, a text above its middle."""
    axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, **look})
    middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + above
    axis.text(*middle, text, ha="center", fontsize=8.5, color=colour)
