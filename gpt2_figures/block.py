"""Pictures of chapter 07: LayerNorm, the residual stream, the block."""
from collections.abc import Mapping, Sequence

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, tint)

PRE, POST = COLORS["query"], COLORS["key"]


def norm_before_and_after(before: Mapping[str, Sequence[float]],
                          after: Mapping[str, Sequence[float]]) -> Picture:
    """Histograms of one position's vector at several depths, by label."""
    fig, axes = canvas(height=3.3, columns=2)
    shades = ("embedding", "residual", "head")
    for ax, vectors, title in ((axes[0], before, "before"),
                               (axes[1], after, "after LayerNorm")):
        top = max(abs(float(v)) for values in vectors.values() for v in values)
        top = top if title == "before" else 4.0
        bins = [top * (i / 16 - 1) for i in range(33)]
        for color, (label, values) in zip(shades, vectors.items()):
            ax.hist(values, bins=bins, histtype="step", linewidth=LINE,
                    color=COLORS[color], label=label,
                    weights=[100 / len(values)] * len(values))
        ax.set(title=title, xlim=(-top, top), ylim=(0, None), xlabel="value")
    axes[0].set_ylabel("% of the values")
    for i, (color, label) in enumerate(zip(shades, before)):
        axes[0].text(0.99, 0.95 - 0.09 * i, label, ha="right", va="top",
                     transform=axes[0].transAxes, fontsize=10.5,
                     fontweight="semibold", color=COLORS[color])
    return picture(fig, "The numbers in the vector of one word at three depths."
                        " Before LayerNorm they spread more the deeper one"
                        " looks; after it all three have the same spread,"
                        " centred on zero.")


def reads_and_writes() -> Picture:
    """The residual stream of two blocks: what reads it, what writes to it."""
    fig, ax = canvas(height=2.9)
    blank(ax, 56, 29)
    stream = 7
    arrow(ax, (3, stream), (55.5, stream), "residual", width=LINE * 2.4)
    ax.text(0.2, stream - 3.4, "wte + wpe", fontsize=10.5, va="center")
    ax.text(55.6, stream - 3.4, "to ln_f", fontsize=10.5, va="center",
            ha="right")
    for i in range(4):
        left = 5 + 12 * i
        kind = "attention" if i % 2 == 0 else "feed_forward"
        name = "Attention" if i % 2 == 0 else "Feed-\nforward"
        read, write = left + 1.7, left + 7.6
        ax.plot([read, read], [stream, 10.6], color=COLORS["residual"],
                linewidth=LINE)
        box(ax, read - 2.3, 10.6, 4.6, 3, ("ln_1", "ln_2")[i % 2], "norm",
            size=10, radius=0.8)
        arrow(ax, (read, 13.6), (read, 16.6), "residual")
        box(ax, left - 0.6, 16.6, 10, 6.4, name, kind, filled=True, size=11,
            weight="semibold", radius=0.8)
        arrow(ax, (write, 16.6), (write, stream + 1.1), kind)
        ax.plot(write, stream, "o", markersize=13, markerfacecolor="white",
                markeredgecolor=COLORS[kind], markeredgewidth=LINE, zorder=6)
        ax.text(write, stream, "+", ha="center", va="center_baseline",
                fontsize=12, color=COLORS[kind], zorder=7)
    for left, name in ((4.2, "block 0"), (28.2, "block 1")):
        ax.plot([left, left + 22.6], [25, 25], color=COLORS["line"],
                linewidth=LINE)
        ax.text(left + 11.3, 26.9, name, ha="center", va="center",
                fontsize=10.5, color=COLORS["muted"])
    return picture(fig, "The residual stream runs from the embeddings to the"
                        " last norm in one line. Attention and feed-forward"
                        " each read a normalised copy of it and add their"
                        " result to it.")


def stream_by_depth(stream: Sequence[float], attention: Sequence[float],
                    feed_forward: Sequence[float]) -> Picture:
    """Lengths: of the stream after 0..L blocks, of what each layer wrote."""
    fig, ax = canvas(height=3.1)
    layers = range(1, len(attention) + 1)
    ax.bar([i - 0.18 for i in layers], attention, width=0.34,
           color=COLORS["attention"])
    ax.bar([i + 0.18 for i in layers], feed_forward, width=0.34,
           color=COLORS["feed_forward"])
    ax.plot(range(len(stream)), stream, "o-", color=COLORS["residual"],
            markersize=4.5)
    ax.set(xlabel="blocks passed", ylabel="length of the vector",
           ylim=(0, max(stream) * 1.12))
    ax.set_xticks(range(0, len(stream), 2))
    last = len(attention)
    ax.text(last - 2.2, stream[-1] * 0.985, "the stream", ha="right",
            va="center", color=COLORS["residual"], fontweight="semibold")
    top = max(max(attention), max(feed_forward))
    for y, kind, name in ((1.52, "attention", "attention writes"),
                          (1.14, "feed_forward", "feed-forward writes")):
        ax.text(last + 0.4, top * y, name, fontsize=10.5, ha="right",
                color=COLORS[kind], fontweight="semibold")
    return picture(fig, "The length of the residual stream grows slowly with"
                        " depth, by smaller steps the deeper it is, though"
                        " each layer writes about the same length.")


def pre_and_post() -> Picture:
    """The two orders of norm and addition, side by side."""
    fig, ax = canvas(height=3.9)
    blank(ax, 56, 39)
    for x, title, pre in ((5, "pre-LN: GPT-2", True),
                          (33, "post-LN: GPT-1", False)):
        ax.text(x + 8, 37.2, title, ha="center", va="center", fontsize=12,
                fontweight="semibold", color=PRE if pre else POST)
        arrow(ax, (x, 0.6), (x, 34.6), "residual", width=LINE * 2.2, zorder=1)
        for base, name, kind, norm in ((2, "Attention", "attention", "ln_1"),
                                       (18.4, "Feed-forward", "feed_forward",
                                        "ln_2")):
            mid, low = x + 12, base + 0.6
            ax.plot([x, mid, mid], [low, low, low + 1.6], linewidth=LINE,
                    color=COLORS["residual"])
            at = low + 1.6
            if not pre:
                arrow(ax, (mid, low), (mid, at + 1.4), "residual",
                      width=LINE * 0.8)
            if pre:
                box(ax, mid - 3, at, 6, 2.6, norm, "norm", size=10,
                    radius=0.7)
                arrow(ax, (mid, at + 2.6), (mid, at + 3.8), "residual",
                      width=LINE * 0.8)
            at += 3.8 if pre else 1.4
            box(ax, mid - 5.4, at, 10.8, 4, name, kind, filled=True,
                size=10.5, weight="semibold", radius=0.7)
            top = at + 5.2
            ax.plot([mid, mid], [at + 4, top], linewidth=LINE,
                    color=COLORS[kind])
            arrow(ax, (mid, top), (x + 1.1, top), kind)
            ax.plot(x, top, "o", markersize=13, markerfacecolor="white",
                    markeredgecolor=COLORS["residual"],
                    markeredgewidth=LINE, zorder=6)
            ax.text(x, top, "+", ha="center", va="center_baseline",
                    fontsize=12, color=COLORS["residual"], zorder=7)
            if not pre:
                box(ax, x - 3, top + 1.8, 6, 2.6, norm, "norm", size=10,
                    radius=0.7, zorder=5)
    return picture(fig, "Two ways to build a block. Pre-LN: the norms stand on"
                        " the side branches and the stream runs through"
                        " untouched. Post-LN: the norms stand on the stream"
                        " itself, after each addition.")


def gradient_by_depth(start: Mapping[str, Sequence[float]],
                      later: Mapping[str, Sequence[float]],
                      steps: int) -> Picture:
    """Gradient size of every block, for "pre" and "post", at two times."""
    fig, axes = canvas(height=3.3, columns=2, sharey=True)
    for ax, curves, title in ((axes[0], start, "before training"),
                              (axes[1], later, f"after {steps} steps")):
        for name, color in (("pre", PRE), ("post", POST)):
            ax.plot(range(1, len(curves[name]) + 1), curves[name], "o-",
                    color=color, markersize=4)
        ax.set(title=title, yscale="log", xlabel="block", xlim=(0, 13))
        ax.set_xticks((1, 4, 8, 12))
        ax.minorticks_off()
    axes[0].set_ylabel("gradient (log scale)")
    axes[1].text(2.2, later["pre"][2] * 2.2, "pre-LN", color=PRE,
                 fontweight="semibold")
    axes[1].text(7.0, later["post"][5] * 0.5, "post-LN", color=POST,
                 va="top", fontweight="semibold")
    return picture(fig, "Gradient of each block, without warm-up. Before"
                        " training both kinds are of similar size at every"
                        " depth. After some steps pre-LN still is; in post-LN"
                        " the gradient shrinks from block to block on"
                        " the way down and almost nothing reaches the first.")


def learning_curves(runs: Mapping[tuple[str, bool], Sequence[float]],
                    frequencies: float) -> Picture:
    """Loss by step for (kind, with warm-up); frequencies: the loss of a
    model that knows how often each character occurs and nothing else."""
    fig, ax = canvas(height=3.4)
    ax.axhline(frequencies, color=COLORS["muted"], linewidth=LINE * 0.7,
               linestyle=(0, (1, 2)))
    for (kind, warm), losses in runs.items():
        ax.plot(range(1, len(losses) + 1), losses,
                color=PRE if kind == "pre" else POST,
                linestyle="-" if warm else (0, (4, 2)))
        peak = max(losses)
        if peak > 5.3:                   # leaves the picture: say how far
            at = losses.index(peak) + 1
            ax.text(at + 3.4, 4.75, f"up to\n{peak:.0f} nats", va="center",
                    color=POST, fontsize=10, linespacing=1.1)
    ax.set(xlabel="training step", ylabel="loss (nats per character)",
           xlim=(0, len(losses) + 1), ylim=(1.9, 5.3))
    ax.text(len(losses), frequencies + 0.2, "letter frequencies only",
            ha="right", fontsize=10, color=COLORS["muted"])
    for x, y, color, style, name in (
            (0.50, 0.93, PRE, "-", "pre-LN, warm-up"),
            (0.50, 0.83, PRE, (0, (4, 2)), "pre-LN, no warm-up"),
            (0.50, 0.73, POST, "-", "post-LN, warm-up"),
            (0.50, 0.63, POST, (0, (4, 2)), "post-LN, no warm-up")):
        ax.plot([x, x + 0.07], [y, y], color=color, linestyle=style,
                transform=ax.transAxes)
        ax.text(x + 0.09, y, name, transform=ax.transAxes, va="center",
                fontsize=10.5)
    return picture(fig, "Learning curves of a 12-layer model. Pre-LN learns"
                        " with and without warm-up, post-LN only with it:"
                        " without, its loss jumps up once and then stays at"
                        " that of the letter frequencies.")


def clones(drawn: Sequence[float], copied: Sequence[float]) -> Picture:
    """Spread of the stream after 0..L blocks, for two ways of making them."""
    fig, ax = canvas(height=2.8)
    ax.plot(range(len(drawn)), drawn, "o-", color=COLORS["right"],
            markersize=4.5)
    ax.plot(range(len(copied)), copied, "o-", color=COLORS["wrong"],
            markersize=4.5)
    last = len(drawn) - 1
    ax.text(last - 1.4, copied[-2], "12 copies of one", ha="right",
            va="center", color=COLORS["wrong"], fontweight="semibold")
    ax.text(last, drawn[-1] * 0.62, "12 drawn one by one", ha="right",
            va="center", color=COLORS["right"], fontweight="semibold")
    ax.set(xlabel="blocks passed", ylabel="std of the stream",
           ylim=(0, None))
    ax.set_xticks(range(0, last + 1, 2))
    return picture(fig, "The spread of the residual stream by depth. With"
                        " twelve identical blocks it grows faster than with"
                        " twelve blocks that were drawn separately, because"
                        " identical blocks write in the same direction.")
