"""The pictures of chapter 01: digits, a chain of layers, a sliding window, the two networks of the book."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from nnzip.book.plots import BLUE, GREEN, GREY, NAMES, ORANGE, PLAIN, RED, STYLE
from pictures import cells

WINDOWS = (BLUE, RED, GREEN, ORANGE)
PALE = {
    BLUE: "#D6E8F4",
    RED: "#F8D3BE",
    GREEN: "#D3F0E6",
    ORANGE: "#FBE4B8",
    "white": "white",
    GREY: "#EEEEEE",
}


def digits(images, titles, *, rows=1):
    """Draw images [N, 1, 28, 28] in rows, a title above each."""
    columns = -(-len(images) // rows)
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(rows, columns, figsize=(10, 1.25 * rows), squeeze=False)
        for axis, image, title in zip(axes.flat, images, titles):
            axis.imshow(image[0], cmap="gray_r")
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
        return figure


def chain(layers, arrays):
    """Draw a network as boxes: above, what goes forward between them; below, the gradients that come back.

    layers : {name: True if it has a weight and a bias}
    arrays : the names of what enters the first layer, and of what leaves each layer
    """
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(10, 2.6))
        names = [*layers, "loss L"]
        first = list(layers.values()).index(
            True
        )  # nothing needs the gradient at what enters this layer
        axis.set(xlim=(-1.9, 2.4 * len(names) - 1.3), ylim=(-1.55, 1.2))
        axis.set_axis_off()
        for i, name in enumerate(names):
            left, right = 2.4 * i - 1.56, 2.4 * i - 0.84  # the gap between two boxes
            _box(axis, 2.4 * i, 0, name, RED if i == len(layers) else BLUE)
            _arrow(axis, (left, 0.15), (right, 0.15), BLUE)
            axis.text((left + right) / 2, 0.3, arrays[i], ha="center", color=BLUE)
            if i > first:
                _arrow(axis, (right, -0.15), (left, -0.15), RED)
                axis.text((left + right) / 2, -0.55, f"∂L/∂{arrays[i]}", ha="center", color=RED)
            if layers.get(name):
                _arrow(axis, (2.4 * i, -0.42), (2.4 * i, -1), RED)
                axis.text(2.4 * i, -1.35, f"∂L/∂W{i}, ∂L/∂b{i}", ha="center", color=RED)
        axis.text(-1.8, 0.95, "forward →", color=BLUE, fontsize=11)
        axis.text(2.4 * len(layers), -1.35, "← backward", color=RED, fontsize=11, ha="center")
        return figure


def _box(axis, x, y, text, colour):
    look = {"boxstyle": "round,pad=0,rounding_size=0.1", "edgecolor": colour, "facecolor": "white"}
    axis.add_patch(FancyBboxPatch((x - 0.8, y - 0.4), 1.6, 0.8, **look))
    axis.text(x, y, text, ha="center", va="center", color=colour)


def _arrow(axis, start, end, colour):
    look = {"arrowstyle": "->", "color": colour, "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=look)


def _grid(axis, array, left, top, *, colours=None, title=""):
    """Draw an array [rows, columns] as squares, with a title above them; colours are keys of PALE."""
    faces = [[PALE[key] for key in row] for row in colours] if colours is not None else "white"
    cells(axis, array, left, top, faces=faces)
    middle = left + array.shape[1] / 2
    axis.text(middle, top + 0.3, title, ha="center", fontsize=9.5, color=GREY)


def _frame(axis, left, top, width, height, colour, inset=0.06):
    place = (left + inset, top - height + inset)
    sides = width - 2 * inset, height - 2 * inset
    axis.add_patch(Rectangle(place, *sides, fill=False, edgecolor=colour, linewidth=2, zorder=3))


def _ring(axis, x, y):
    axis.add_patch(Circle((x, y), 0.24, fill=False, edgecolor="black", linewidth=1.2, zorder=3))


def sliding(image, kernel, rows, out):
    """Draw the windows of an image, the same as rows, and the product with the filter as a column.

    The pixel in the middle of the image has a circle there and in each row.
    """
    k, columns = len(kernel), out.shape[1]
    places = list(np.ndindex(out.shape))
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(10, 3.4))
        axis.set(xlim=(-0.3, 19.3), ylim=(-4.9, 1.0), aspect="equal")
        axis.set_axis_off()
        _grid(axis, image, 0, -0.5, title="image")
        for n, (i, j) in enumerate(places):
            _frame(axis, j, -0.5 - i, k, k, WINDOWS[n], inset=0.05 + 0.07 * n)
            _frame(axis, 5.2, -n, k * k, 1, WINDOWS[n])
        middle = image.shape[0] // 2, image.shape[1] // 2
        _ring(axis, middle[1] + 0.5, -1 - middle[0])
        for n, (i, j) in enumerate(places):
            _ring(axis, 5.7 + k * (middle[0] - i) + middle[1] - j, -n - 0.5)
        axis.text(
            1.5,
            -4.2,
            "four windows of 2 x 2,\ndrawn smaller to show all",
            ha="center",
            va="center",
            fontsize=9,
        )
        axis.text(4.1, -2, "→", ha="center", va="center", fontsize=20)
        marks = [[WINDOWS[n]] * k * k for n in range(len(places))]
        _grid(axis, rows, 5.2, 0, colours=marks, title="each window is a row")
        axis.text(9.9, -2, "@", ha="center", va="center", fontsize=16)
        _grid(axis, kernel.reshape(-1, 1), 10.6, 0, title="filter")
        axis.text(12.3, -2, "=", ha="center", va="center", fontsize=16)
        _grid(axis, out.reshape(-1, 1), 13, 0, colours=[m[:1] for m in marks], title="dot products")
        axis.text(15.1, -2, "→", ha="center", va="center", fontsize=20)
        marks = np.array(WINDOWS).reshape(-1, columns)
        _grid(axis, out, 16.4, -1, colours=marks.tolist(), title="output")
        return figure


def parts(pieces, total):
    """Draw what each of four output pixels hands to the pixels under its window, and the sum."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(10, 2.2))
        axis.set(xlim=(-0.3, 20.6), ylim=(-3.4, 0.9), aspect="equal")
        axis.set_axis_off()
        for n, (place, piece) in enumerate(pieces.items()):
            marks = [[WINDOWS[n] if value else "white" for value in row] for row in piece]
            _grid(axis, piece, 4.2 * n, 0, colours=marks, title=f"from y{place[0]}{place[1]}")
            axis.text(
                4.2 * n + 3.6, -1.5, "+" if n < 3 else "=", ha="center", va="center", fontsize=14
            )
        grey = [[GREY] * total.shape[1]] * len(total)
        _grid(axis, total, 16.8, 0, colours=grey, title="gradient of the image")
        return figure


def filtered(image, maps, filters):
    """Draw a digit, and what each filter of a convolution makes of it; the filter itself stands below.

    image : [H, W];  maps, filters : {title: [H', W']}, {title: [k, k]}
    """
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(2, 1 + len(maps), figsize=(10, 3.4), height_ratios=(3, 1))
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(True)
        axes[0, 0].imshow(image, cmap="gray_r")
        axes[0, 0].set_title("input", fontsize=10)
        axes[1, 0].set_axis_off()
        axes[1, 0].text(0.5, 0.5, "the filter:", ha="center", va="center", fontsize=10)
        for above, below, title in zip(axes[0, 1:], axes[1, 1:], maps):
            for axis, array in ((above, maps[title]), (below, filters[title])):
                largest = np.abs(array).max()
                axis.imshow(array, cmap="RdBu", vmin=-largest, vmax=largest)
            above.set_title(title, fontsize=10)
        return figure


def through(stages):
    """Draw one image on its way through networks: a row for each, a picture after each layer but ReLU.

    stages : {network: [(name of the layer, array, parameters, ...), ...]}
    """
    stages = {name: [s for s in steps if s[0] != "ReLU()"] for name, steps in stages.items()}
    columns = max(map(len, stages.values()))
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(len(stages), columns, figsize=(11, 2.4 * len(stages)))
        for row, (network, steps) in zip(axes, stages.items()):
            for axis in row:
                axis.set_axis_off()
            for axis, (name, array, parameters, *_) in zip(row, steps):
                picture = _stacked(array) if array.ndim == 3 else _column(array)
                axis.imshow(picture, cmap="gray_r", aspect="equal")
                if array.shape == (
                    10,
                ):  # the logits: rows of 6 pixels from 45 on, as `_column` makes them
                    place = int(array.argmax())
                    axis.text(90, 48 + 6 * place, f"← {place}", va="center", fontsize=10)
                shape = " x ".join(map(str, array.shape))
                count = f"{parameters:,}\nparameters" if parameters else ""
                axis.set_title(f"{name}\n{shape}", fontsize=9)
                axis.text(
                    0.5,
                    -0.04,
                    count,
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    color=BLUE,
                    transform=axis.transAxes,
                )
            row[0].text(0, 1.38, NAMES[network], fontsize=11, transform=row[0].transAxes)
        return figure


def _stacked(maps, shown=4, side=150, shift=16):
    """Return up to four maps of [C, H, W], one behind the other, in a square; NaN is empty."""
    maps = maps[:shown]
    zoom = max(1, 100 // maps.shape[1])
    picture = np.full((side, side), np.nan)
    start = (side - zoom * maps.shape[1] - shift * (len(maps) - 1)) // 2
    for n in reversed(range(len(maps))):
        shades = (maps[n] - maps[n].min()) / max(np.ptp(maps[n]), 1e-9)
        big = np.kron(shades, np.ones((zoom, zoom)))
        big[[0, -1], :] = big[:, [0, -1]] = 1  # a frame
        at = start + n * shift
        picture[at : at + len(big), at : at + len(big)] = big
    return picture


def _column(vector, side=150, longest=800):
    """Return a vector [n] as a vertical bar in a square; from n = 100 on its height grows with the root of n."""
    height = int(20 + 125 * np.sqrt(len(vector) / longest)) if len(vector) > 10 else 60
    at = np.arange(height) * len(vector) // height
    bar = np.repeat(((vector - vector.min()) / max(np.ptp(vector), 1e-9))[at][:, None], 18, axis=1)
    bar[[0, -1], :] = bar[:, [0, -1]] = 1
    picture, top, left = np.full((side, side), np.nan), (side - height) // 2, side // 2 - 9
    picture[top : top + height, left : left + 18] = bar
    return picture


def weight_shares(networks):
    """Draw how the weights of each network are shared out over its layers: {network: {layer: count}}."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(networks), figsize=(11, 2.4))
        for axis, (network, counts) in zip(axes, networks.items()):
            shares = {name: 100 * count / sum(counts.values()) for name, count in counts.items()}
            axis.barh(list(shares), list(shares.values()), color=BLUE)
            for row, (name, share) in enumerate(shares.items()):
                text = f"{counts[name]:,} = {share:.1f} %"
                axis.text(share + 2.5, row, text, va="center", fontsize=9)
            axis.invert_yaxis()
            axis.grid(False)
            axis.set(xlim=(0, 148), xticks=[0, 50, 100])
            axis.spines["bottom"].set_bounds(0, 100)
            axis.set_xlabel("share of all weights, %", x=50 / 148)
            axis.set_title(NAMES[network], loc="left", fontsize=10)
        return figure
