"""The pictures of chapter 12: a small tensor on its way to bytes, Huffman's joins, intervals, masks, costs of a mask."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle

from nnzip.book.plots import BLUE, COLOURS, GREEN, GREY, NAMES, ORANGE, PINK, PLAIN, RED, SKY, STYLE
from nnzip.book.records import select

from . import cells

VALUES = (RED, SKY, GREEN)  # of a codebook of three
STAGES = {
    "narrow": ("units leave", "o", 5),
    "prune": ("parameters leave", ".", 6),
    "share": ("values shared", "*", 12),
}


def _blank(axis, xlim, ylim):
    axis.set(xlim=xlim, ylim=ylim)
    axis.set_axis_off()


def small_tensor(stages, mask, codes):
    """Draw a small matrix once for each stage, {title: matrix}; kept weights have the colour of their value."""
    faces = np.full(mask.shape, "white", object)
    faces[mask] = [VALUES[code] for code in codes]
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, len(stages), figsize=(12, 2.6))
        for axis, (title, matrix) in zip(axes, stages.items(), strict=True):
            cells(axis, matrix, 0, 0, faces=faces, zeros=False, fontsize=8)
            _blank(axis, (-0.1, mask.shape[1] + 0.1), (-len(mask) - 0.1, 0.1))
            axis.set_title(title, fontsize=10)
            axis.set_aspect("equal")
        return figure


def joins(counts, names):
    """Draw how Huffman joins the two rarest, again and again; 0 and 1 stand on the way from the top to a symbol."""
    nodes = [
        (count, -i, 0.0, [i]) for i, count in enumerate(counts)
    ]  # count, order, height, its symbols
    order, branches = _order(counts), []
    places = {symbol: place for place, symbol in enumerate(order)}
    while len(nodes) > 1:
        nodes.sort()
        (a, _, low, left), (b, _, high, right), *nodes = nodes
        height = max(low, high) + 1
        branches.append((height, [(left, low), (right, high)], a + b))
        nodes.append((a + b, -len(counts) - len(branches), height, left + right))

    def middle(symbols):
        return np.mean([places[symbol] for symbol in symbols])

    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(4.4, 2.6))
        for height, parts, total in branches:
            x = middle(parts[0][0] + parts[1][0])
            for bit, (symbols, below) in zip(
                "01", sorted(parts, key=lambda p: middle(p[0])), strict=True
            ):
                axis.plot([x, middle(symbols)], [height, below], color=GREY, zorder=1)
                axis.text((x + middle(symbols)) / 2, (height + below) / 2 + 0.13, bit, color=RED)
            look = {"boxstyle": "round", "facecolor": "white", "edgecolor": GREY}
            axis.text(x, height, str(total), ha="center", va="center", bbox=look)
        for symbol, x in places.items():
            look = {"boxstyle": "round", "facecolor": "white", "edgecolor": BLUE}
            text = f"{names[symbol]}\n{counts[symbol]} x"
            axis.text(x, 0, text, ha="center", va="center", color=BLUE, bbox=look)
        _blank(axis, (-0.6, len(counts) - 0.4), (-0.5, branches[-1][0] + 0.4))
        return figure


def _order(counts):  # so that no lines cross: the most frequent first
    return sorted(range(len(counts)), key=lambda symbol: -counts[symbol])


def intervals(steps, word):
    """Draw how an arithmetic coder narrows its interval: a line for each symbol.

    steps : list of (text, low, width), the whole interval first
    word : the bits, as text, of a number whose continuations all lie in the last interval
    """
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(9, 2.8))
        for i, (text, low, width) in enumerate(steps):
            low, width = float(low), float(width)
            axis.add_patch(
                Rectangle((0, -i - 0.3), 1, 0.6, facecolor="white", edgecolor="lightgrey")
            )
            axis.add_patch(Rectangle((low, -i - 0.3), width, 0.6, facecolor=BLUE, alpha=0.7))
            axis.text(-0.01, -i, text, ha="right", va="center")
            axis.text(
                1.01, -i, f"width {width:.3f}", ha="left", va="center", fontsize=9, color=GREY
            )
            if i + 1 < len(steps):
                for end in (low, low + width):
                    axis.plot([end, end], [-i - 0.3, -i - 0.7], ":", color=GREY, linewidth=1)
        y, inside = -len(steps) + 1, int(word, 2) / 2 ** len(word)
        axis.add_patch(Rectangle((inside, y - 0.3), 0.5 ** len(word), 0.6, facecolor=RED))
        _, low, width = steps[-1]
        for end, side in ((low, "right"), (low + width, "left")):
            axis.text(float(end), y - 0.6, str(end), ha=side, va="center", fontsize=9)
        for end in (0, 1):
            axis.text(end, 0.5, str(end), ha="center", va="center", fontsize=9)
        _blank(axis, (-0.16, 1.16), (-len(steps) + 0.1, 0.8))
        return figure


def bits_of_a_bit(p, entropy, measured):
    """Draw the bits that a bit takes, against the probability of a 1: its entropy, Huffman's 1, real bytes.

    measured : {p: bits a bit}
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3))
        axis.axhline(1, color=ORANGE, label="Huffman: a word has at least one bit")
        axis.plot(p, entropy, color=BLUE, label="entropy")
        axis.plot(
            *zip(*measured.items(), strict=True),
            "o",
            color=RED,
            label="arithmetic coder, real bytes",
        )
        axis.set(xlabel="p of a 1", ylabel="bits a bit", ylim=(0, 1.1))
        axis.legend(loc="lower center")
        return figure


def kept_weights(masks):
    """Draw where masks of 784 inputs keep weights: how many for each pixel."""
    with plt.rc_context(PLAIN):
        figure, axes = plt.subplots(1, len(masks), figsize=(7.5, 3.2))
        for axis, (name, mask) in zip(axes, masks.items(), strict=True):
            image = axis.imshow(mask.reshape(-1, 784).sum(axis=0).reshape(28, 28), cmap="viridis")
            axis.set(title=f"{name}:\nkept weights of each pixel", xticks=[], yticks=[])
            figure.colorbar(image, ax=axis)
        return figure


def stream(pieces):
    """Draw bits one after the other, coloured by what they are for, a line below each byte.

    pieces : list of (purpose, bits as text, what they say)
    """
    purposes = dict(
        zip(dict.fromkeys(purpose for purpose, _, _ in pieces), (SKY, ORANGE), strict=False)
    )
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(12, 1.9))
        start = 0
        for purpose, bits, said in pieces:
            for i, bit in enumerate(bits):
                axis.text(start + i + 0.5, 0.5, bit, ha="center", va="center", fontsize=10)
            look = {
                "facecolor": purposes[purpose],
                "edgecolor": "white",
                "linewidth": 2,
                "alpha": 0.6,
            }
            axis.add_patch(Rectangle((start, 0), len(bits), 1, **look))
            axis.text(start + len(bits) / 2, 1.25, said, ha="center", fontsize=8.5, color=GREY)
            start += len(bits)
        for i in range(-(-start // 8)):
            axis.plot([8 * i + 0.1, 8 * i + 7.9], [-0.25, -0.25], color=GREY, linewidth=1.5)
            axis.text(8 * i + 4, -0.8, f"byte {i + 1}", ha="center", fontsize=8.5, color=GREY)
        handles = [Rectangle((0, 0), 1, 1, color=colour, alpha=0.6) for colour in purposes.values()]
        axis.legend(handles, purposes, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.92))
        _blank(axis, (-0.2, 8 * -(-start // 8) + 0.2), (-1.1, 2.6))
        return figure


def looks_at_held_out(looks):
    """Draw the held-out error and its limit, stage by stage, against the parameters that are left, a panel for each network.

    looks : records of figures/12_deep_compression_looks.csv, of one seed
    """
    networks = list(dict.fromkeys(look["network"] for look in looks))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(networks), figsize=(11, 3.4))
        for axis, network in zip(axes, networks, strict=True):
            own = select(looks, network=network)
            for (stage, (label, marker, size)), colour in zip(
                STAGES.items(), COLOURS, strict=False
            ):
                part = select(own, stage=stage)
                left = [look["parameters"] for look in part]
                limits, errors = (
                    [100 * look[key] for look in part] for key in ("limit", "held_out_error")
                )
                end = "_" if len(part) == 1 else ""
                axis.plot(
                    left,
                    limits,
                    "--",
                    marker=end,
                    markersize=14,
                    color=GREY,
                    label="_limit",
                )
                axis.plot(left, errors, marker, color=colour, markersize=size, label=label)
            axis.plot([], [], "--", color=GREY, label="the limit of the stage")
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


def file_as_bar(parts):
    """Draw the parts of a .nnz file, as `nnzip.files.archive.describe` returns them, as a bar of bytes."""
    purposes = list(dict.fromkeys(part.purpose for part in parts))
    colours = {"positions": SKY, "codes": ORANGE, "codebook": GREEN, "scales": PINK}
    colours |= {"floats": RED, "technique": GREY}
    total = sum(part.bytes for part in parts)
    with plt.rc_context(PLAIN):
        figure, axis = plt.subplots(figsize=(10, 1.9))
        start = 0
        for part in parts:
            look = {
                "color": colours.get(part.purpose, "black"),
                "edgecolor": "white",
                "linewidth": 0.5,
            }
            axis.barh(0, part.bytes, left=start, **look)
            if part.bytes > total / 18:
                label = f"{part.tensor or 'file'}\n{part.bytes:,}"
                axis.text(start + part.bytes / 2, 0, label, ha="center", va="center", fontsize=8)
            start += part.bytes
        handles = [
            Rectangle((0, 0), 1, 1, color=colours.get(purpose, "black")) for purpose in purposes
        ]
        axis.legend(
            handles, purposes, ncols=len(purposes), loc="lower center", bbox_to_anchor=(0.5, 1)
        )
        axis.set(yticks=[], xlim=(0, total), xlabel="bytes, in the order of the file")
        axis.spines["left"].set_visible(False)
        return figure
