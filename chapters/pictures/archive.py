"""The pictures of chapter 12: what the held-out images said while Deep Compression went on."""

import matplotlib.pyplot as plt

from nnzip.book.plots import COLOURS, GREY, NAMES, STYLE
from nnzip.book.records import select

STAGES = {
    "narrow": ("units leave", "o", 5),
    "prune": ("parameters leave", ".", 6),
    "share": ("values shared", "*", 12),
}


def looks_at_held_out(looks):
    """Draw the held-out error and its limit against the parameters that are left, a panel for each network.

    looks : records of figures/12_deep_compression_looks.csv, of one seed
    """
    networks = list(dict.fromkeys(look["network"] for look in looks))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(networks), figsize=(11, 3.4))
        for axis, network in zip(axes, networks, strict=True):
            own = select(looks, network=network)
            left, limits = (
                [look["parameters"] for look in own],
                [100 * look["limit"] for look in own],
            )
            axis.plot(left, limits, "--", color=GREY, label="the limit")
            for (stage, (label, marker, size)), colour in zip(
                STAGES.items(), COLOURS, strict=False
            ):
                points = [
                    (look["parameters"], 100 * look["held_out_error"])
                    for look in select(own, stage=stage)
                ]
                axis.plot(
                    *zip(*points, strict=True), marker, color=colour, markersize=size, label=label
                )
            axis.set(
                xscale="log",
                xlabel="parameters left (log scale)",
                title=NAMES[network],
                ylim=(0, None),
            )
            axis.invert_xaxis()  # toward more compression
        axes[0].set_ylabel("held-out error, %")
        axes[0].legend()
        return figure
