"""The pictures of chapter 11: each draws the arrays that a cell computed, and returns the figure."""

import matplotlib.pyplot as plt
import numpy as np

from nnzip.book.plots import BLUE, COLOURS, GREEN, GREY, MARKERS, PLAIN, RED, STYLE

PALE = "#C4C4C4"


def losses(bits, kilobytes, costs, names):
    """Draw what each layer loses if it alone is rounded, [layers, widths]: against its bits, and against its bytes."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
        for i, name in enumerate(names):
            look = {"color": COLOURS[i], "marker": MARKERS[i], "label": name}
            axes[0].plot(bits, costs[i], **look)
            axes[1].plot(kilobytes[i], costs[i], **look)
        axes[0].set(yscale="log", xlabel="bits of this layer", ylabel="KL, nats (log scale)")
        axes[1].set(xscale="log", xlabel="kilobytes of this layer (log scale)")
        axes[1].set_xticks([1, 10, 100], ["1", "10", "100"])
        axes[0].set_title("At equal bits: within a factor of four", loc="left", fontsize=11)
        axes[1].set_title("They do not take the same bytes", loc="left", fontsize=11)
        axes[0].legend()
        return figure


def hull(taken, cost, front, price, missed):
    """Draw every way as (bytes, cost), the string under them, the line of one price, and the way that no price finds.

    front : the places of the ways on the string, from few bytes to many
    missed : the place of the best way that lies above it
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 4))
        axis.plot(taken, cost, "o", color=GREY, markersize=6, label="the nine ways")
        axis.plot(taken[front], cost[front], color=BLUE, label="the string: what prices find")
        axis.plot(taken[front], cost[front], "o", color=BLUE, markersize=8)
        touched = front[np.argmin(cost[front] + price * taken[front])]
        ends = taken[touched] + np.array([-1.5, 1.5])
        line = cost[touched] - price * (ends - taken[touched])
        axis.plot(ends, line, "--", color=GREEN, label=f"a price of {price:g} a byte")
        axis.plot(taken[missed], cost[missed], "o", color=RED, markersize=9)
        note = "(2, 3): best for 5 bytes,\nno price finds it"
        place = (taken[missed] + 0.12, cost[missed] + 1.6)
        axis.annotate(
            note, (taken[missed], cost[missed]), place, color=RED, arrowprops={"arrowstyle": "-"}
        )
        axis.set(xlabel="bytes together", ylabel="cost together", ylim=(0, 15), xlim=(1.8, 6.9))
        axis.legend(loc="upper right")
        return figure


def all_ways(taken, measured, priced, same, added, first):
    """Draw the bytes and the measured loss of all ways, those of a price and of one width; and sums against losses.

    first : the bits of layer 1 in each way, which its colour shows
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 3.9))
        x = taken / 1000
        bits = sorted(set(first))
        colours = dict(
            zip(bits, plt.get_cmap("viridis")(np.linspace(0, 0.95, len(bits))), strict=True)
        )
        axes[0].scatter(x, measured, s=9, color=[colours[b] for b in first])
        for b in (bits[0], bits[-1]):
            axes[0].plot([], [], ".", color=colours[b], label=f"layer 1 at {b} bits")
        look = {"color": BLUE, "drawstyle": "steps-post", "label": "found by a price"}
        axes[0].plot(x[priced], measured[priced], "o-", **look)
        axes[0].plot(x[same], measured[same], "s", color=RED, label="one width for all")
        axes[0].set(yscale="log", xlabel="kilobytes", ylabel="KL, measured (log scale)")
        axes[0].set_title("One width is hard to beat", loc="left", fontsize=11)
        axes[0].legend()
        axes[1].plot(added, measured, ".", color=GREEN, markersize=4)
        axes[1].plot(added, added, color=GREY, linewidth=1)
        axes[1].set(xscale="log", yscale="log", xlabel="the three KLs, added (log scale)")
        axes[1].set_ylabel("KL, measured (log scale)")
        axes[1].set_title("Sums are a model, with errors", loc="left", fontsize=11)
        return figure


def pixels(maps, image):
    """Draw the width of each pixel's column, {title: [28, 28]}, and an image beside them."""
    options = np.array([0, 2, 3, 4, 5])
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, len(maps) + 1, figsize=(11, 3))
        for axis, (title, widths) in zip(axes, maps.items(), strict=False):
            places, colours = (
                np.searchsorted(options, widths),
                plt.get_cmap("viridis", len(options)),
            )
            drawn = axis.imshow(places, vmin=-0.5, vmax=len(options) - 0.5, cmap=colours)
            axis.set_title(title, fontsize=10)
        bar = figure.colorbar(drawn, ax=axes[:-1], shrink=0.8, label="bits")
        bar.set_ticks(range(len(options)), labels=[str(bits) for bits in options])
        axes[-1].imshow(image, cmap="gray")
        axes[-1].set_title("mean of the images", fontsize=10)
        for axis in axes:
            axis.set_axis_off()
        return figure


def looks(points, front, searches):
    """Draw all ways, the true front as a line, and where each search looked: {title: places}, a panel each."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(searches), figsize=(11, 3.7), sharex=True, sharey=True)
        x, y = points[:, 0] / 1000, points[:, 1]
        for axis, (title, places) in zip(axes, searches.items(), strict=True):
            axis.plot(x, y, ".", color=PALE, markersize=4, label="all ways")
            axis.plot(x[front], y[front], color=GREY, linewidth=1, label="the true front")
            axis.plot(x[places], y[places], "o", color=BLUE, markersize=4, label="looked at")
            hits = np.intersect1d(places, front)
            axis.plot(x[hits], y[hits], "o", color=RED, markersize=6, label="of the true front")
            axis.set(yscale="log", xlabel="kilobytes")
            axis.set_title(f"{title}: finds {len(hits)} of {len(front)}", loc="left", fontsize=11)
        axes[0].set_ylabel("KL, measured (log scale)")
        axes[-1].legend()
        return figure


def searched(searches, sums):
    """Draw what searches looked at, {name: (points [N, 2], places of the front)}, and what sums chose, [M, 2]."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(8, 4))
        for i, (name, (points, front)) in enumerate(searches.items()):
            look = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4}
            axis.plot(points[:, 0] / 1000, points[:, 1], linestyle="", alpha=0.2, **look)
            look |= {"drawstyle": "steps-post", "label": name}
            axis.plot(points[front, 0] / 1000, points[front, 1], **look)
        look = {"drawstyle": "steps-post", "label": "sums of sensitivities"}
        axis.plot(sums[:, 0] / 1000, sums[:, 1], "k--^", **look)
        axis.set(yscale="log", xlabel="kilobytes, coded", ylabel="KL, nats (log scale)")
        axis.legend()
        return figure
