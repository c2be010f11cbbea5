"""The pictures of chapter 05: each draws the arrays that a cell computed."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREY, MARKERS, RED, STYLE, ticks
from pictures import blank

ERRORS = (1, 2, 5, 10, 20, 50, 90)  # percent, the ticks of an axis that is a logarithm


def _error_axis(axis, values=ERRORS, label="test error (log scale)"):
    axis.set(yscale="log", ylabel=label)
    ticks(axis.yaxis, values, "{:g} %")


def histograms(weights, thresholds):
    """Draw the weights of each layer, from the smallest to the largest, and lines at a pair of thresholds each.

    weights : {name: array}
    thresholds : {name: {text: threshold}}
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(weights), figsize=(11, 3))
        for axis, (name, weight) in zip(axes, weights.items(), strict=True):
            largest = np.abs(weight).max()
            axis.hist(weight.ravel(), bins=np.linspace(-largest, largest, 81), color=BLUE)
            for (text, threshold), style in zip(thresholds[name].items(), ("--", "-"), strict=True):
                axis.axvline(-threshold, color=RED, linestyle=style, linewidth=1.2)
                axis.axvline(threshold, color=RED, linestyle=style, linewidth=1.2, label=text)
            axis.set(yscale="log", xlabel="weight")
            axis.set_title(f"{name}: {weight.size:,} weights", fontsize=10)
        axes[0].set_ylabel("how many (log scale)")
        axes[0].legend(loc="upper right", fontsize=8)
        return figure


def predicted(ranks):
    """Draw how criteria rank some weights against how much the loss changed without each: a panel for each criterion.

    ranks : {criterion: (ranks by the criterion, ranks by the change, their correlation)}
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(ranks), figsize=(11, 2.3), sharex=True, sharey=True)
        for axis, (name, (guess, change, agreement)) in zip(axes, ranks.items(), strict=True):
            axis.plot(guess, change, "o", color=BLUE, markersize=2.5)
            axis.set_title(f"{name}: {agreement:.1f}", fontsize=10)
            axis.set(aspect="equal", xticks=[0, 50, 100, 150], yticks=[0, 50, 100, 150])
            axis.tick_params(labelsize=8)
        figure.supxlabel("rank by the criterion", fontsize=10)
        axes[0].set_ylabel("rank by the change\nof the loss")
        return figure


def criteria(errors, sparsities):
    """Draw the test error after pruning by each criterion: a row each, a dot for each way to share among the layers.

    errors : {(criterion, scope): [an error for each sparsity]}
    """
    names = list(dict.fromkeys(criterion for criterion, _ in errors))[::-1]
    looks = {
        "layer": (RED, "o", "every layer alike"),
        "network": (BLUE, "s", "all layers together"),
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(sparsities), figsize=(11, 3), sharex=True, sharey=True)
        for i, (axis, sparsity) in enumerate(zip(axes, sparsities, strict=True)):
            for row, name in enumerate(names):
                ends = [100 * errors[name, scope][i] for scope in looks]
                axis.plot(ends, [row, row], color="lightgrey", linewidth=3, zorder=1)
                for end, (colour, marker, text) in zip(ends, looks.values(), strict=True):
                    axis.plot(end, row, marker, color=colour, label=text if row == 0 else None)
            axis.set(xscale="log", xlabel="test error (log scale)")
            axis.set_title(f"{sparsity:.0%} of the weights are zero", loc="left", fontsize=10)
            ticks(axis.xaxis, (1, 3, 10, 30, 90), "{:g} %")
        axes[0].set_yticks(range(len(names)), names)
        axes[0].legend(loc="center right", bbox_to_anchor=(1, 0.35), fontsize=8.5)
        return figure


def sensitivities(curves):
    """Draw the test error when one layer alone is pruned: a panel for each network, a line for each layer.

    curves : {title: {layer: (sparsities, errors)}}
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(curves), figsize=(11, 3.6), sharey=True)
        for axis, (title, layers) in zip(axes, curves.items(), strict=True):
            for (name, (sparsities, errors)), colour, marker in zip(
                layers.items(), COLOURS, MARKERS, strict=False
            ):
                axis.plot(
                    sparsities, 100 * np.array(errors), color=colour, marker=marker, label=name
                )
            axis.set_title(title, loc="left", fontsize=10)
            axis.set_xlabel("weights of this layer that are zero")
            ticks(axis.xaxis, (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99), "{:.0%}")
            axis.legend(fontsize=8.5, loc="upper left")
        _error_axis(axes[0])
        return figure


def small_weights(weights):
    """Draw weights near zero, a panel for each training: {title: array [n]}."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(weights), figsize=(11, 2.6), sharey=True)
        for axis, (title, values) in zip(axes, weights.items(), strict=True):
            axis.hist(values, bins=np.linspace(-0.1, 0.1, 201), color=BLUE)
            axis.set(yscale="log", xlabel="weight")
            axis.set_title(title, loc="left", fontsize=10)
        axes[0].set_ylabel("how many (log scale)")
        return figure


def schedules(curves):
    """Draw sparsity over the steps of training: {name: [a sparsity for each step]}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, 2.6))
        for (name, values), colour, style in zip(
            curves.items(), (GREY, BLUE), ("--", "-"), strict=True
        ):
            axis.plot(
                np.linspace(0, 1, len(values)), values, color=colour, linestyle=style, label=name
            )
        axis.set(xlabel="part of the training that is done", ylabel="weights that are zero")
        axis.yaxis.set_major_formatter(lambda s, _: f"{s:.0%}")
        axis.legend(loc="lower right")
        return figure


def beside_dense(curves):
    """Draw the error over the epochs of training: a panel for each network, pruned and dense, bands over the seeds.

    curves : {title: (epochs, names of the stages, {"pruned": errors [seeds, stages], "dense": the same})}
    """
    looks = {
        "pruned": (BLUE, "o", "pruned and retrained"),
        "dense": (GREY, "s", "dense, trained equally long"),
    }
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(curves), figsize=(11, 3.4))
        for axis, (title, (epochs, stages, errors)) in zip(axes, curves.items(), strict=True):
            for kind, (colour, marker, text) in looks.items():
                values = 100 * np.array(errors[kind])
                axis.plot(epochs, values.mean(axis=0), color=colour, marker=marker, label=text)
                axis.fill_between(
                    epochs,
                    values.min(axis=0),
                    values.max(axis=0),
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
            means = [100 * np.mean(errors[kind], axis=0) for kind in ("pruned", "dense")]
            for epoch, stage, error, other in zip(epochs, stages, *means, strict=True):
                rising = float(stage.rstrip("%")) > 95  # beside the steep line, not on it
                axis.annotate(
                    stage,
                    (epoch, error),
                    (-7, 4) if rising else (0, 9 if error >= other else -15),
                    textcoords="offset points",
                    ha="right" if rising else "center",
                    fontsize=8,
                )
            axis.set_title(title, loc="left", fontsize=10)
            axis.set_xlabel("epochs of training after the float network")
            _error_axis(axis, (0.5, 0.7, 1, 1.5, 2, 3, 4))
            axis.margins(y=0.12)
        axes[0].legend(loc="upper left", fontsize=8.5)
        axes[1].set_ylabel("")
        return figure


def tickets(errors):
    """Draw the mean error from each start as a bar, and a dot for each seed: {start: [errors]}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 2.4))
        means = [100 * np.mean(seeds) for seeds in errors.values()]
        axis.barh(list(errors), means, color=[COLOURS[i] for i in (5, 2, 4, 1)])
        for row, (seeds, mean) in enumerate(zip(errors.values(), means, strict=True)):
            axis.plot(100 * np.array(seeds), [row] * len(seeds), "k.", markersize=5)
            right = max(100 * max(seeds), mean)
            axis.annotate(
                f"{mean:.1f} %", (right, row), (6, 0), textcoords="offset points", va="center"
            )
        axis.set(xlabel="test error, %", xlim=(0, 100 * np.max(list(errors.values())) * 1.15))
        axis.invert_yaxis()
        return figure


def masks(pictures):
    """Draw masks of one small matrix: what is kept in colour, what is removed empty, and a line of text below each.

    pictures : {title: (bool [rows, columns], text)}
    """
    with plt.rc_context(STYLE):
        figure, axes = blank(2.6 * len(pictures), 3.1, columns=len(pictures))
        for axis, (title, (mask, text)) in zip(axes, pictures.items(), strict=True):
            for (row, column), kept in np.ndenumerate(mask):
                place = (column, len(mask) - 1 - row)
                axis.add_patch(
                    Rectangle(
                        place, 1, 1, facecolor=BLUE if kept else "white", edgecolor="lightgrey"
                    )
                )
            axis.set(xlim=(-0.1, mask.shape[1] + 0.1), ylim=(-0.1, len(mask) + 0.1), aspect="equal")
            axis.set_title(title, fontsize=10)
            axis.text(mask.shape[1] / 2, -0.4, text, ha="center", va="top", fontsize=9)
        return figure
