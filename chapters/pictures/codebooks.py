"""The pictures of chapter 07: numbers on a line, the values that stand for them, and how the values are found."""

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
    PLAIN,
    RED,
    SKY,
    STYLE,
    ticks,
)

CLUSTERS = (BLUE, RED, GREEN, ORANGE)  # one colour for each value of a small codebook


def numbers_on_lines(x, rows):
    """Draw the same numbers once for each codebook, {title: values}: an arrow leads from each number to its value."""
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(len(rows), 1, figsize=(9, 1.25 * len(rows)), sharex=True)
        for axis, (title, values) in zip(np.atleast_1d(axes), rows.items(), strict=True):
            codes = np.abs(np.subtract.outer(x, values)).argmin(axis=1)
            _line(axis, x, values, codes)
            for number, code in zip(x, codes, strict=True):
                look = {"arrowstyle": "->", "color": CLUSTERS[code], "linewidth": 1.3}
                axis.annotate("", (values[code], 0.12), (number, 0.85), arrowprops=look)
            axis.set_title(title, loc="left", fontsize=10)
        return figure


def _line(axis, x, values, codes):
    """Draw numbers in the colours of their codes above a line, and the values on the line."""
    ends = np.append(x, values)
    axis.plot([ends.min(), ends.max()], [0, 0], color=GREY, linewidth=1)
    for number, code in zip(x, codes, strict=True):
        axis.plot(number, 0.9, "o", color=CLUSTERS[code], markersize=8)
        axis.text(number, 1.2, f"{number:g}", ha="center", fontsize=9, color=CLUSTERS[code])
    for value, colour in zip(values, CLUSTERS, strict=False):
        axis.plot(value, 0, "D", color=colour, markersize=8)
        axis.text(value, -0.35, f"{value:.4g}", ha="center", va="top", fontsize=9, color=colour)
    axis.set(ylim=(-0.95, 1.7), xlim=(ends.min() - 0.5, ends.max() + 0.5))
    axis.set_axis_off()


def steps_of_k_means(x, path, assigned):
    """Draw the iterations of k-means, a line each: the numbers in the colour of their value, and the borders.

    path : the values before each assignment; assigned : the codes that it gave
    """
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(len(path), 1, figsize=(9, 1.35 * len(path)), sharex=True)
        for step, (axis, values, codes) in enumerate(zip(axes, path, assigned, strict=True)):
            _line(axis, x, values, codes)
            for border in (values[1:] + values[:-1]) / 2:
                axis.plot([border, border], [-0.15, 1.4], color=GREY, linestyle="--", linewidth=1)
            error = np.sum((x - values[codes]) ** 2)
            name = f"iteration {step}" if step else "start"
            axis.set_title(f"{name}: squared error {error:.4g}", loc="left", fontsize=10)
        return figure


def values_in_a_layer(weight, codebooks):
    """Draw the histogram of a layer once for each codebook, {title: values}, with a line at each value."""
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(
            1, len(codebooks), figsize=(10.5, 3.2), sharex=True, sharey=True
        )
        for axis, (title, values) in zip(axes, codebooks.items(), strict=True):
            axis.hist(np.ravel(weight), bins=150, color="lightgrey")
            axis.vlines(values, 0.6, 1e5, color=BLUE, linewidth=1.2)
            axis.set(yscale="log", ylim=(0.6, 1e5), xlabel="weight")
            axis.set_title(title, loc="left", fontsize=11)
        axes[0].set_ylabel("weights (log scale)")
        return figure


def gain_by_iterations(steps, curves, best, *, title):
    """Draw the SQNR of k-means against its iterations, a curve for each start, and the optimum as a line."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.8))
        for (name, gains), colour, marker in zip(curves.items(), COLOURS, MARKERS, strict=False):
            axis.plot(np.add(steps, 1), gains, color=colour, marker=marker, label=name)
        axis.axhline(best, color="black", linestyle="--", label="the optimum")
        axis.set(xscale="log", xlabel="iterations", ylabel="SQNR, dB")
        ticks(axis.xaxis, np.add(steps, 1), "{:g}")
        axis.set_xticks(np.add(steps, 1), [str(step) for step in steps])
        axis.set_title(title, loc="left", fontsize=11)
        axis.legend()
        return figure


def values_by_rule(rules, *, reach):
    """Draw the values of codebooks, {name: values}, as strokes on lines over one axis from -reach to reach."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(9.5, 0.75 + 0.45 * len(rules)))
        looks = {"colors": [COLOURS[i] for i in range(len(rules))], "linelengths": 0.7}
        axis.eventplot(list(rules.values()), **looks)
        axis.set_yticks(range(len(rules)), list(rules))
        axis.grid(False, axis="y")
        axis.set(xlabel="value", xlim=(-reach, reach))
        axis.invert_yaxis()
        return figure


def bytes_of_codebooks(rows):
    """Draw bars of bytes, {name: (codes, values)}, the codes first and the table of values behind them."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 0.9 + 0.42 * len(rows)))
        codes, values = np.array(list(rows.values()), float).T
        places = np.arange(len(rows))
        shared = values > 0  # the others store no codes, but the weights
        axis.barh(places[~shared], codes[~shared], color=GREY, label="weights")
        axis.barh(places[shared], codes[shared], color=SKY, label="codes")
        axis.barh(places, values, left=codes, color=ORANGE, label="the table of values")
        for place, parts in zip(places, zip(codes, values, strict=True), strict=True):
            said = " + ".join(f"{part:,.0f}" for part in parts if part)
            axis.text(sum(parts) + 40, place, said, va="center", fontsize=9)
        axis.set_yticks(places, list(rows))
        axis.invert_yaxis()
        axis.set(xlabel="bytes", xlim=(0, 1.15 * (codes + values).max()))
        axis.legend(loc="lower right")
        return figure


def shared_gradient(codes, gradients, sums):
    """Draw a matrix of codes and one of gradients in the same colours, and the sum of each colour at the right."""
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 2.6))
        rows, columns = codes.shape
        panels = ((0, codes, "code of each weight"), (columns + 1.5, gradients, "its gradient"))
        for left, numbers, title in panels:
            axis.text(left + columns / 2, rows + 0.25, title, ha="center", fontsize=10)
            for (i, j), number in np.ndenumerate(numbers):
                _square(axis, left + j, rows - 1 - i, f"{number:g}", CLUSTERS[codes[i, j]])
        left = 2 * columns + 3
        axis.text(left, rows + 0.25, "gradient of each value: the sum of its colour", fontsize=10)
        for j, total in enumerate(sums):
            y = rows - 1 - j
            _square(axis, left, y, f"{total:g}", CLUSTERS[j])
            terms = " + ".join(f"{g:g}" if g >= 0 else f"({g:g})" for g in gradients[codes == j])
            axis.text(left + 1.2, y + 0.5, f"= {terms}", va="center", fontsize=10)
        axis.set(xlim=(-0.1, left + 6.5), ylim=(rows - len(sums) - 0.1, rows + 0.7), aspect="equal")
        axis.set_axis_off()
        return figure


def _square(axis, x, y, text, colour):
    look = {"facecolor": colour, "alpha": 0.3, "edgecolor": "white", "linewidth": 2}
    axis.add_patch(Rectangle((x, y), 1, 1, **look))
    axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=11)


def values_in_training(path):
    """Draw how the values of a layer, [steps, k], move in training, and enlarged those that end nearest to zero."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10.5, 3), width_ratios=(3, 2))
        near = np.argsort(np.abs(path[-1]))[:2]
        for j, colour in zip(range(path.shape[1]), COLOURS, strict=False):
            for axis in axes[: 2 if j in near else 1]:
                axis.plot(path[:, j], color=colour, label=f"value {j}")
        for axis in axes:
            axis.axhline(0, color="grey", linewidth=0.8)
            axis.set_xlabel("step of training")
        low, high = np.sort(near)
        crossed = np.flatnonzero(path[:, low] > path[:, high])
        if len(crossed):
            seen = slice(max(crossed[0] - 5, 0), crossed[-1] + 6)
            room = 0.2 * np.ptp(path[seen, near])
            ends = path[seen, near].min() - room, path[seen, near].max() + room
            axes[1].set(xlim=(seen.start, seen.stop - 1), ylim=ends)
        axes[0].set_ylabel("value")
        axes[0].legend(ncols=path.shape[1], loc="upper center", bbox_to_anchor=(0.5, 1.2))
        return figure
