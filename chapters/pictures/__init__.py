"""The pictures of the chapters that only one chapter has: each draws the arrays that a cell computed."""

import numpy as np
from matplotlib.patches import Rectangle

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
