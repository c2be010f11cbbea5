"""The pictures of chapter 03: sums that wrap, floats that are integers, blocks, zero points, and the way back."""

from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREEN, GREY, MARKERS, ORANGE, PINK, PLAIN, RED, STYLE
from pictures import cells


def running_sums(exact, wrapped):
    """Draw a sum term by term, as it is and as int8 has it."""
    terms = range(1, len(exact) + 1)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.2))
        axis.axhspan(-128, 127, color="grey", alpha=0.15, linewidth=0)
        axis.plot(terms, exact, "o-", color=BLUE, label="the true sum")
        axis.plot(terms, wrapped, "s--", color=RED, label="the sum in int8")
        axis.text(len(exact) + 0.3, -110, "grey: what int8 holds", ha="right", fontsize=9)
        axis.set(xlabel="products added so far", ylabel="sum", xticks=list(terms))
        axis.legend(loc="upper left")
        return figure


def floats_near(integers, floats):
    """Draw integers in a row, filled where a float32 is that integer, with an arrow to the float32 otherwise."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 2.1))
        axis.set_axis_off()
        axis.axhline(0, color="lightgrey", zorder=0)
        for x, (integer, value) in enumerate(zip(integers, floats, strict=True)):
            there = integer == value
            face = BLUE if there else "white"
            axis.plot(x, 0, "o", color=BLUE if there else RED, markerfacecolor=face, markersize=11)
            axis.text(
                x,
                -0.5,
                f"{integer - 2**24:+d}" if integer != 2**24 else "$2^{24}$",
                ha="center",
                va="top",
            )
            if not there:
                look = {"arrowstyle": "->", "color": RED, "connectionstyle": "arc3,rad=-0.6"}
                start, end = (x, 0.22), (x + float(value) - int(integer), 0.22)
                axis.annotate(
                    "",
                    end,
                    start,
                    arrowprops=look if end > start else look | {"connectionstyle": "arc3,rad=0.6"},
                )
        axis.text(-0.8, -0.5, "from $2^{24}$:", ha="right", va="top", fontsize=9)
        axis.set(xlim=(-2.4, len(integers) - 0.4), ylim=(-1, 1.1))
        return figure


def blocks(edges):
    """Draw two matrices whose shared depth K is cut at the edges into blocks of one colour each."""
    depth, colours = edges[-1], (BLUE, ORANGE, GREEN, PINK)
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 2.9))
        axis.set_axis_off()
        for i, (start, stop) in enumerate(pairwise(edges)):
            at, size, colour = 5 * start / depth, 5 * (stop - start) / depth, colours[i % 4]
            axis.add_patch(
                Rectangle((at, 2), size, 1.2, facecolor=colour, edgecolor="white", alpha=0.6)
            )
            axis.text(at + size / 2, 2.6, f"{stop - start:,}", ha="center", va="center")
            axis.add_patch(
                Rectangle(
                    (6.2, 5.1 - at - size),
                    1.3,
                    size,
                    facecolor=colour,
                    edgecolor="white",
                    alpha=0.6,
                )
            )
            axis.text(6.85, 5.1 - at - size / 2, f"{stop - start:,}", ha="center", va="center")
            x = 9.2 + 2.0 * i
            axis.add_patch(
                Rectangle((x, 2), 1.3, 1.2, facecolor=colour, edgecolor="white", alpha=0.6)
            )
            axis.text(x + 0.65, 2.6, "float32,\nexact", ha="center", va="center", fontsize=8.5)
            axis.text(x - 0.36, 2.6, "+" if i else "=", ha="center", va="center", fontsize=14)
        axis.text(5.6, 2.6, "@", ha="center", va="center", fontsize=14)
        axis.text(2.5, 3.4, f"a: K = {depth:,} columns", ha="center", fontsize=9)
        axis.text(6.85, -0.2, f"b: K = {depth:,} rows", ha="center", va="top", fontsize=9)
        axis.text(8.85, 1.6, "the sums are added as integers", va="top", fontsize=9)
        axis.set(xlim=(-0.1, 9.2 + 2.0 * (len(edges) - 1)), ylim=(-0.7, 5.2))
        return figure


def matrices_with_sums(a, b):
    """Draw two small matrices of codes, the row sums of the left beside it, the column sums of the right below it."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(6.4, 2.9))
        axis.set_axis_off()
        middle = a.shape[1] + 2.7
        _codes(axis, a, 0, BLUE)
        _codes(axis, b, middle, GREEN)
        _codes(axis, a.sum(axis=1, keepdims=True), a.shape[1] + 0.3, BLUE, filled=True)
        _codes(axis, b.sum(axis=0, keepdims=True), middle, GREEN, filled=True, top=-len(b) - 0.3)
        axis.text(a.shape[1] / 2, 0.15, "a", ha="center")
        axis.text(a.shape[1] + 0.8, 0.15, "row sums", ha="center", fontsize=9, color=BLUE)
        axis.text(middle + b.shape[1] / 2, 0.15, "b", ha="center")
        below = (middle + b.shape[1] + 0.15, -len(b) - 0.8)
        axis.text(*below, "column sums", va="center", fontsize=9, color=GREEN)
        axis.set(xlim=(-0.2, middle + b.shape[1] + 2), ylim=(-len(b) - 1.5, 0.6), aspect="equal")
        return figure


def _codes(axis, codes, left, colour, *, filled=False, top=0.0):
    look = {"faces": colour, "alpha": 0.35} if filled else {"faces": "white"}
    cells(axis, codes, left, top, fontsize=11, edgecolor=colour, linewidth=1, **look)


def path(lanes):
    """Draw ways of one number through its steps: {way: [(what is done, what comes out), ...]}."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9.6, 1.2 * len(lanes)))
        axis.set_axis_off()
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white"}
        for lane, (way, steps) in enumerate(lanes.items()):
            colour = (BLUE, GREEN, RED)[lane]
            axis.text(-1.1, -lane, way, ha="right", va="center", fontsize=10, color=colour)
            places = [12 * i / (len(steps) - 1) for i in range(len(steps))]
            for i, (x, (done, number)) in enumerate(zip(places, steps, strict=True)):
                axis.text(
                    x,
                    -lane,
                    number,
                    ha="center",
                    va="center",
                    fontsize=9,
                    bbox=box | {"edgecolor": colour},
                )
                if i:
                    axis.annotate(
                        "",
                        (x - 0.75, -lane),
                        (places[i - 1] + 0.8, -lane),
                        arrowprops={"arrowstyle": "->", "color": GREY},
                    )
                    axis.text(
                        (x + places[i - 1]) / 2,
                        0.16 - lane,
                        done,
                        ha="center",
                        fontsize=8.5,
                        color=GREY,
                    )
        axis.set(xlim=(-2.3, 13), ylim=(0.5 - len(lanes), 0.5))
        return figure


def exact_shares(depths, shares, certain):
    """Draw the share of float32 sums that are exact against the depth, points for each kind of codes."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.6))
        looks = zip(COLOURS, MARKERS, (13, 9, 5), strict=False)  # hollow, one inside the other
        hollow = {"linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 2}
        for (kind, values), (colour, marker, size) in zip(shares.items(), looks, strict=False):
            percent = [100 * value for value in values]
            look = hollow | {"marker": marker, "color": colour, "markersize": size}
            axis.plot(depths, percent, label=kind, **look)
        axis.axvline(
            certain,
            color="black",
            linestyle=":",
            label=f"K = {certain:,}: certain for all int8 codes",
        )
        axis.set(xscale="log", xlabel="depth K", ylabel="float32 sums that are exact, %")
        axis.set_title("A test on random codes of both signs sees nothing", loc="left", fontsize=11)
        axis.set_xticks(depths, [f"{depth:,}" for depth in depths], rotation=45)
        axis.minorticks_off()
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure
