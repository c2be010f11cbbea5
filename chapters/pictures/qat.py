"""The pictures of chapter 09: each draws the arrays that a cell computed, and returns the figure."""

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book.plots import BLUE, COLOURS, GREEN, GREY, RED, STYLE
from pictures import arrow, blank, box


def staircase(values, losses, tangent, *, reach=0.25):
    """Draw the loss against one weight, {name: losses}; tangent : the (weight, loss, slope) to draw as a line."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.4))
        for (name, own), colour in zip(losses.items(), (BLUE, RED), strict=True):
            axis.plot(values, own, color=colour, label=name)
        here, level, slope = tangent
        ends = np.array([-reach, reach])
        axis.plot(here + ends, level + slope * ends, "k--", label="gradient at the rounded weight")
        axis.plot(here, level, "ko", markersize=5)
        axis.set(xlabel="one weight of the last layer", ylabel="loss, 2,000 images")
        axis.legend()
        return figure


def descents(curves, *, ylabel):
    """Draw what falls in a training, a curve for each way: {name: numbers}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3))
        for (name, own), colour in zip(curves.items(), COLOURS, strict=False):
            axis.plot(own, color=colour, label=name)
        axis.set(xlabel="iteration of training", ylabel=ylabel, ylim=(0, None))
        axis.legend()
        return figure


def loss_by_step(steps, losses, marks):
    """Draw the loss against the step of a grid, and some (step, loss) on it, {name: pair}."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.4))
        axis.plot(steps, losses, color=GREY)
        for (name, (step, loss)), colour, marker in zip(
            marks.items(), (RED, BLUE, GREEN), "osD", strict=False
        ):
            axis.plot(step, loss, marker, color=colour, markersize=8, label=name, linestyle="")
        axis.set(xlabel="step s, mean of ten neurons", ylabel="loss, 2,000 images", ylim=(0, None))
        axis.legend(loc="upper left")
        return figure


def value_by_step(weight, steps, values, step, value, jump):
    """Draw the rounded value of one weight against the step, two slopes at one step, and the jump on its left."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 3.8))
        pieces = np.where(np.abs(np.diff(values, append=values[-1])) > 0.05, np.nan, values)
        axis.plot(steps, pieces, color=BLUE, linewidth=2, label="rounded weight")
        axis.axhline(weight, color=GREY, linestyle=":", label=f"float weight {weight:g}")
        code = round(value / step)
        near = np.array([jump - 0.08, step + 0.13])
        true = value + code * (near - step)
        axis.axvline(jump, color=GREY, linewidth=0.8, linestyle="-.")
        axis.text(jump + 0.01, 0.03, f"jump at {jump:.3f}", color=GREY)
        axis.plot(near, true, color=RED, linewidth=1.5, label=f"code {code} held: slope {code}")
        held = weight + (value - weight) / step * np.array([0, steps[-1]])
        label = f"residual held: slope {(value - weight) / step:g}"
        axis.plot([0, steps[-1]], held, "--", color=GREEN, linewidth=1.8, label=label)
        axis.plot(step, value, "ko", markersize=6, zorder=4)
        axis.set(xlabel="step s", ylabel="rounded weight", xlim=(0, steps[-1]), ylim=(0, 1.25))
        axis.legend(loc="upper left", ncols=2)
        return figure


def pulled(paths, *, border=1.5):
    """Draw a weight's way under each rule, {name: path}; the band is where the gradient passes."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 3.2))
        for (name, path), colour, style in zip(
            paths.items(), COLOURS, ("-", "--", "-."), strict=False
        ):
            axis.plot(path, color=colour, linestyle=style, label=name)
        axis.axhspan(-border, border, color="grey", alpha=0.15)
        axis.set(xlabel="iteration of training", ylabel="the float weight")
        axis.legend()
        return figure


def swinging(path, best):
    """Draw the float weight, its code and the best value, which lies between two codes."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8.5, 2.6))
        axis.plot(path, color=BLUE, label="float weight")
        codes = np.rint(path)
        axis.step(range(len(path)), codes, where="post", color=RED, lw=1, label="its code")
        axis.axhline(best, color=GREY, linestyle=":", label="the best value")
        axis.set(xlabel="iteration of training", ylabel="value", yticks=(0, 0.5, 1))
        axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def straight_through_node():
    """Draw a layer that is trained through rounding: what goes forward is rounded, what comes back is not."""
    with plt.rc_context(STYLE):
        figure, [axis] = blank(9, 2.6)
        axis.set(xlim=(-1, 9.2), ylim=(-0.8, 1.6))
        for x, text, colour in (
            (0, "weight w\n(float, kept)", BLUE),
            (3.2, "round to\nthe grid", GREY),
        ):
            box(axis, x, 0.6, text, colour=colour)
        box(axis, 6, 0.6, "layer\nx w_hat", colour=BLUE)
        box(axis, 8.4, 0.6, "loss", colour=RED, width=1)
        arrow(axis, (0.9, 0.75), (2.3, 0.75), "w")
        arrow(axis, (4.1, 0.75), (5.1, 0.75), "w_hat")
        arrow(axis, (6.9, 0.75), (7.8, 0.75))
        arrow(axis, (7.8, 0.4), (6.9, 0.4), colour=RED)
        arrow(axis, (5.1, 0.4), (4.1, 0.4), "dL/dw_hat", colour=RED, above=-0.3)
        arrow(
            axis,
            (2.3, 0.4),
            (0.9, 0.4),
            "the same, or 0 if clipped",
            colour=RED,
            above=-0.55,
            linestyle="--",
        )
        return figure
