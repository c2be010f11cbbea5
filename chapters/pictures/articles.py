"""The pictures of chapter 13: each draws the arrays that a cell computed."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREEN, GREY, MARKERS, ORANGE, PLAIN, RED, STYLE
from pictures import cells

TINTS = {"wrong": RED, "right": GREEN, "unclear": ORANGE}
SIGNS = {"wrong": "x", "right": "=", "unclear": "?"}  # what it is, without the colour


def verdicts(findings):
    """Draw a square for each finding, a row for each article, in the order of its sections."""
    articles = {}
    for finding in findings:
        articles.setdefault(finding.where[:2], []).append(finding)
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9.5, 3.6))
        axis.set_axis_off()
        for row, (article, own) in enumerate(articles.items()):
            axis.text(-0.3, -row * 1.5 + 0.4, article, ha="right", va="center", weight="bold")
            for column, finding in enumerate(own):
                square = (column, -row * 1.5), 0.9, 0.8
                axis.add_patch(
                    Rectangle(*square, facecolor=TINTS[finding.verdict], alpha=0.75, edgecolor=GREY)
                )
                middle = column + 0.45, -row * 1.5 + 0.4
                axis.text(*middle, SIGNS[finding.verdict], ha="center", va="center", fontsize=11)
                place = finding.where[3:].split(", ")[0].replace("9 Q", "Q").replace("6 Q", "Q")
                axis.text(column + 0.45, -row * 1.5 - 0.28, place, ha="center", fontsize=7.5)
        longest = max(map(len, articles.values()))
        axis.set(xlim=(-0.8, longest + 0.2), ylim=(-1.5 * len(articles) + 0.7, 1.6))
        handles = [
            Patch(facecolor=TINTS[v], alpha=0.75, edgecolor=GREY, label=f"{SIGNS[v]}  {v}")
            for v in TINTS
        ]
        axis.legend(handles=handles, loc="upper right", ncols=3)
    return figure


def number_line(ends, step, steps, printed):
    """Draw the steps from the lower end of a range to a number, and where an article puts it."""
    low, high = ends
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 1.7))
        axis.set_axis_off()
        levels = low + step * np.arange(round((high - low) / step) + 1)
        axis.plot([low, high], [0, 0], color=GREY, linewidth=1)
        axis.plot(levels, 0 * levels, "|", color=GREY, markersize=12)
        for value in (low, high):
            axis.text(value, -0.75, f"{value:g}", ha="center")
        for k in range(steps):
            arrow = {"arrowstyle": "->", "color": BLUE, "connectionstyle": "arc3,rad=-0.7"}
            axis.annotate("", (levels[k + 1], 0.1), (levels[k], 0.1), arrowprops=arrow)
        axis.plot(levels[steps], 0, "o", color=BLUE, markersize=9)
        axis.text(
            levels[steps], -0.75, f"{levels[steps]:g}: {steps} steps", ha="center", color=BLUE
        )
        axis.plot(printed, 0, "X", color=RED, markersize=10)
        axis.text(printed, -0.75, f"printed: {printed:g}", ha="center", color=RED)
        axis.set(ylim=(-1.2, 1.2))
    return figure


def schedules(steps, curves, end, reached):
    """Draw what share each schedule prunes at a step, and where the training ends."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.2))
        for (name, curve), colour, style in zip(curves.items(), COLOURS, ("-", "--", ":")):
            axis.plot(steps, 100 * np.array(curve), color=colour, linestyle=style, label=name)
        axis.axvline(end, color="grey", linewidth=1)
        axis.plot(end, 100 * reached, "o", color=COLOURS[0])
        axis.annotate(
            f"{100 * reached:.1f} %",
            (end, 100 * reached),
            (end + 700, 25),
            arrowprops={"arrowstyle": "-", "color": "grey"},
        )
        axis.text(end - 75, 1, "the training ends", ha="right", color="grey")
        axis.set(xlabel="step", ylabel="weights pruned, %", ylim=(-1, 33))
        axis.legend(loc="upper left")
    return figure


def errors(bits, curves, of_zeros):
    """Draw the error of some ways of rounding against the bits, and that of making all zero."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.4))
        for (name, values), colour, marker in zip(curves.items(), COLOURS, MARKERS):
            axis.plot(bits, values, marker=marker, color=colour, label=name)
        axis.axhline(of_zeros, color="grey", linewidth=1, linestyle=":")
        axis.set(xlabel="b", ylabel="root mean square error", yscale="log")
        axis.legend()
    return figure


def codes(x, ways):
    """Draw the code of each number, for some ways to make codes."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.4))
        for (name, found), colour, style in zip(ways.items(), COLOURS, ("-", "--", "-.", ":")):
            axis.plot(x, found, color=colour, linestyle=style, linewidth=2, label=name)
        axis.set(xlabel="x", ylabel="code", yticks=(-128, -1, 127), ylim=(-140, 140))
        axis.legend(loc="upper left")
    return figure


def matrices(shown):
    """Draw small matrices as squares, each under its name: positive blue, negative red, 0 white."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9.5, 2.3))
        axis.set_axis_off()
        axis.set_aspect("equal")
        for k, (name, matrix) in enumerate(shown.items()):
            faces = [[("white", "#CFE3F2", "#F6D5C3")[int(np.sign(v))] for v in r] for r in matrix]
            cells(axis, np.round(matrix, 2), 4.6 * k, 3, faces=faces)
            axis.text(4.6 * k + 1.5, 3.3, name, ha="center", va="bottom", fontsize=9)
        axis.set(xlim=(-0.9, 4.6 * len(shown) - 0.7), ylim=(-0.1, 4.5))
    return figure
