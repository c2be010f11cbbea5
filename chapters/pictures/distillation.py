"""The pictures of chapter 06."""

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book.plots import BLUE, GREEN, GREY, PINK, PLAIN, RED, SKY, STYLE, ticks
from pictures import arrow, blank, box

WAYS = {"labels": (SKY, "s", "by labels"), "teacher": (PINK, "o", "by the teacher")}


def what_is_said(images, said):
    """Draw images and beside each the ten probabilities that are said of it, a column for each title.

    said : {title: [N, 10]}
    """
    rows, columns = len(images), 1 + len(said)
    with plt.rc_context(PLAIN):
        size, widths = (10, 0.5 + 2.1 * rows), (0.8, *[1.3] * len(said))
        options = {"figsize": size, "width_ratios": widths, "squeeze": False}
        figure, axes = plt.subplots(rows, columns, **options)
        for row, image, *bars in zip(axes, images, *said.values(), strict=True):
            row[0].imshow(image[0], cmap="gray_r")
            row[0].set_axis_off()
            for axis, probabilities in zip(row[1:], bars, strict=True):
                _bars(axis, probabilities)
            for axis in row[2:]:
                axis.set_yticklabels([])
            row[1].set_ylabel("probability")
        for axis, title in zip(axes[0, 1:], said, strict=True):
            axis.set_title(title, fontsize=10)
        for axis in axes[-1, 1:]:
            axis.set_xlabel("class")
        return figure


def _bars(axis, probabilities):
    axis.bar(range(10), probabilities, color=BLUE)
    for k in np.flatnonzero(probabilities >= 0.015):
        text = f"{100 * probabilities[k]:.0f}"
        axis.text(k, probabilities[k] + 0.02, text, ha="center", fontsize=8)
    axis.set(ylim=(0, 1.12), xticks=range(10))
    ticks(axis.yaxis, (0, 0.5, 1), "{:.0%}")


def ratios(networks):
    """Draw the error with a teacher over the error with labels alone: a panel a network, a dot a seed.

    networks : {network: {point: [seeds]}}
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(networks), figsize=(10, 3.4), sharey=True)
        for axis, (network, points) in zip(axes, networks.items(), strict=True):
            axis.axhspan(0.5, 1, color=PINK, alpha=0.1, linewidth=0)
            axis.axhline(1, color=GREY, linewidth=1)
            for place, seeds in enumerate(points.values()):
                shift = np.linspace(-0.12, 0.12, len(seeds))
                axis.plot(place + shift, seeds, "o", color=PINK, markersize=6)
            axis.set_xticks(range(len(points)), points)
            axis.set(yscale="log", ylim=(0.62, 1.4))
            ticks(axis.yaxis, (0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3), "{:g}")
            axis.set_title(network, loc="left", fontsize=11)
        axes[0].set_ylabel("error by distillation\nover error by labels")
        axes[0].text(0, 0.645, "here the teacher helps", fontsize=9, color=GREY)
        axes[0].text(0, 1.31, "here labels alone are better", fontsize=9, color=GREY)
        return figure


def by_rate(tried):
    """Draw the error against the learning rate, a line for each way: {"labels": {rate: error}, "teacher": ...}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, 3.4))
        for way, errors in tried.items():
            colour, marker, label = WAYS[way]
            values = 100 * np.array(list(errors.values()))
            axis.plot(list(errors), values, marker=marker, color=colour, label=label)
            best = np.argmin(values)
            spot = {"markersize": 15, "markerfacecolor": "none", "color": colour}
            axis.plot(list(errors)[best], values[best], "o", **spot)
        axis.set(xscale="log", xlabel="learning rate", ylabel="error, held-out images")
        ticks(axis.xaxis, sorted({rate for errors in tried.values() for rate in errors}), "{:g}")
        ticks(axis.yaxis, (4, 5, 6, 7, 8), "{:g} %")
        axis.legend()
        return figure


def by_bias(biases, errors):
    """Draw the test error against what is added to the logit of 3: {"labels": [biases], "teacher": ...}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, 3.2))
        for way, values in errors.items():
            colour, _, label = WAYS[way]
            axis.plot(biases, 100 * np.array(values), color=colour, label=label, linewidth=2)
        axis.set(xlabel="added to the logit of 3", ylabel="test error", ylim=(0, 30))
        ticks(axis.yaxis, (0, 5, 10, 15, 20, 25, 30), "{:g} %")
        axis.legend(loc="upper left")
        return figure


def gradient_sizes(temperatures, sizes):
    """Draw the size of the KL's gradient against the temperature, and the same times T^2."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, 3.2))
        slope = sizes[-1] * (temperatures[-1] / temperatures) ** 2
        axis.plot(temperatures, temperatures**2 * sizes, "s-", color=BLUE, label="$T^2$ KL")
        axis.plot(temperatures, sizes, "o-", color=RED, label="KL")
        axis.plot(temperatures, slope, "--", color="grey", label="a slope of $1/T^2$")
        axis.set(xlabel="temperature T", ylabel="size of the gradient")
        axis.set(xscale="log", yscale="log")
        ticks(axis.xaxis, temperatures, "{:g}")
        axis.legend()
        return figure


def pulls(margins, right, swapped):
    """Draw how hard both orders of the KL pull at a logit, against that logit."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.5, 3.2))
        axis.plot(margins, right, color=BLUE, linewidth=2, label="teacher first: KL(p || q)")
        axis.plot(margins, swapped, "--", color=RED, linewidth=2, label="student first: KL(q || p)")
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.axvline(np.log(9), color=GREY, linewidth=0.8, linestyle=":")
        axis.text(np.log(9) + 0.15, 0.45, "here both\nsay 0.9", fontsize=9, color=GREY)
        axis.set(xlabel="student's logit of the first class", ylabel="pull (minus the gradient)")
        axis.set_xticks(range(-12, 7, 2))
        axis.legend()
        return figure


def teacher_and_student():
    """Draw how a student learns from a teacher: two losses on its logits, one from the labels, one from the teacher."""
    with plt.rc_context(STYLE):
        figure, [axis] = blank(9, 3.2)
        axis.set(xlim=(-1, 9.4), ylim=(-0.3, 3.2))
        box(axis, 0, 1.5, "images", width=1.2)
        box(axis, 2.4, 2.5, "teacher\n(fixed)", colour=GREEN)
        box(axis, 2.4, 0.5, "student", colour=BLUE)
        arrow(axis, (0.7, 1.7), (1.5, 2.4))
        arrow(axis, (0.7, 1.3), (1.5, 0.6))
        box(axis, 5.4, 2.5, "softmax(v / T)", colour=GREEN, width=2.2)
        box(axis, 5.4, 1.5, "softmax(z / T)", colour=BLUE, width=2.2)
        box(axis, 5.4, 0.4, "softmax(z)", colour=BLUE, width=2.2)
        arrow(axis, (3.3, 2.5), (4.2, 2.5), "logits v", colour=GREEN)
        arrow(axis, (3.3, 0.7), (4.2, 1.4), colour=BLUE)
        arrow(axis, (3.3, 0.45), (4.2, 0.4), "logits z", colour=BLUE, above=-0.32)
        box(axis, 8.1, 2, "alpha T² KL\n(soft loss)", colour=RED, width=1.8)
        box(axis, 8.1, 0.4, "(1 - alpha) CE\nwith the label", colour=RED, width=1.8)
        arrow(axis, (6.6, 2.5), (7.1, 2.2))
        arrow(axis, (6.6, 1.5), (7.1, 1.8))
        arrow(axis, (6.6, 0.4), (7.1, 0.4))
        return figure
