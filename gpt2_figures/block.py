"""Pictures of chapter 07: LayerNorm, the residual stream, the block."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import (arrow, board, box, dashed, lines, plus,
                                 write)
from gpt2_figures.style import COLORS, LINE, Picture, canvas, picture

PRE, POST = "query", "key"


def norm_before_and_after(before: Mapping[str, Sequence[float]],
                          after: Mapping[str, Sequence[float]]) -> Picture:
    """Histograms of one position's vector at several depths, by label."""
    fig, axes = canvas(height=3.3, columns=2)
    shades = ("embedding", "residual", "head")
    top = max(abs(float(v)) for values in before.values() for v in values)
    for ax, vectors, title, edge in ((axes[0], before, "before", top),
                                     (axes[1], after, "after LayerNorm", 4.0)):
        bins = [edge * (i / 16 - 1) for i in range(33)]
        for color, values in zip(shades, vectors.values()):
            ax.hist(values, bins=bins, histtype="step", linewidth=LINE,
                    color=COLORS[color],
                    weights=[100 / len(values)] * len(values))
        ax.set(title=title, xlim=(-edge, edge), ylim=(0, None),
               xlabel="value")
    axes[0].set_ylabel("% of the values")
    for i, (color, label) in enumerate(zip(shades, before)):
        write(axes[0], 0.99, 0.95 - 0.09 * i, label, color, ha="right",
              va="top", transform=axes[0].transAxes, fontweight="semibold")
    return picture(fig, "The numbers in the vector of one word at three"
                        " depths. Before LayerNorm they spread more the"
                        " deeper one looks; after it all three have the same"
                        " spread, centred on zero.")


def reads_and_writes() -> Picture:
    """The residual stream of two blocks: what reads it, what writes to it."""
    fig, ax = board(29)
    stream = 7
    arrow(ax, (3, stream), (55.5, stream), "residual", width=LINE * 2.4)
    write(ax, 0.2, stream - 3.4, "wte + wpe", ha="left")
    write(ax, 55.6, stream - 3.4, "to ln_f", ha="right")
    for left, name in ((4.2, "block 0"), (28.2, "block 1")):
        _sublayer(ax, left + 0.8, stream, "Attention", "attention", "ln_1")
        _sublayer(ax, left + 12.8, stream, "Feed-\nforward", "feed_forward",
                  "ln_2")
        ax.plot([left, left + 22.6], [25, 25], color=COLORS["line"],
                linewidth=LINE)
        write(ax, left + 11.3, 26.9, name, "muted")
    return picture(fig, "The residual stream runs from the embeddings to the"
                        " last norm in one line. Attention and feed-forward"
                        " each read a normalised copy of it and add their"
                        " result to it.")


def _sublayer(ax, left, stream, name, kind, norm):
    """What reads a normalised copy of the stream and writes to it."""
    read, write_at = left + 1.7, left + 7.6
    ax.plot([read, read], [stream, 10.6], color=COLORS["residual"],
            linewidth=LINE)
    box(ax, read - 2.3, 10.6, 4.6, 3, norm, "norm", size=10, radius=0.8)
    arrow(ax, (read, 13.6), (read, 16.6), "residual")
    box(ax, left - 0.6, 16.6, 10, 6.4, name, kind, filled=True, size=11,
        weight="semibold", radius=0.8)
    arrow(ax, (write_at, 16.6), (write_at, stream + 1.1), kind)
    plus(ax, write_at, stream, kind)


def stream_by_depth(stream: Sequence[float], attention: Sequence[float],
                    feed_forward: Sequence[float]) -> Picture:
    """Lengths: of the stream after 0..L blocks, of what each layer wrote."""
    fig, ax = canvas(height=3.1)
    last = len(attention)
    for shift, values, kind in ((-0.18, attention, "attention"),
                                (0.18, feed_forward, "feed_forward")):
        ax.bar([i + shift for i in range(1, last + 1)], values, width=0.34,
               color=COLORS[kind])
    ax.plot(range(len(stream)), stream, "o-", color=COLORS["residual"],
            markersize=4.5)
    ax.set(xlabel="blocks passed", ylabel="length of the vector",
           ylim=(0, max(stream) * 1.12), xticks=range(0, len(stream), 2))
    top = max(*attention, *feed_forward)
    write(ax, last - 2.2, stream[-1] * 0.985, "the stream", "residual", None,
          ha="right", fontweight="semibold")
    for y, kind, name in ((1.52, "attention", "attention writes"),
                          (1.14, "feed_forward", "feed-forward writes")):
        write(ax, last + 0.4, top * y, name, kind, ha="right", va="baseline",
              fontweight="semibold")
    return picture(fig, "The length of the residual stream grows slowly with"
                        " depth, by smaller steps the deeper it is, though"
                        " each layer writes about the same length.")


def pre_and_post() -> Picture:
    """The two orders of norm and addition, side by side."""
    fig, ax = board(39)
    for x, title, pre in ((5, "pre-LN: GPT-2", True),
                          (33, "post-LN: GPT-1", False)):
        write(ax, x + 8, 37.2, title, PRE if pre else POST, 12,
              fontweight="semibold")
        arrow(ax, (x, 0.6), (x, 34.6), "residual", width=LINE * 2.2, zorder=1)
        branch = _pre_branch if pre else _post_branch
        branch(ax, x, 2.6, "Attention", "attention", "ln_1")
        branch(ax, x, 19, "Feed-forward", "feed_forward", "ln_2")
    return picture(fig, "Two ways to build a block. Pre-LN: the norms stand"
                        " on the side branches and the stream runs through"
                        " untouched. Post-LN: the norms stand on the stream"
                        " itself, after each addition.")


def _pre_branch(ax, x, low, name, kind, norm):
    """A side branch that begins with its norm."""
    mid = x + 12
    _side(ax, x, low)
    _norm(ax, mid, low + 1.6, norm)
    arrow(ax, (mid, low + 4.2), (mid, low + 5.4), "residual",
          width=LINE * 0.8)
    _back(ax, x, low + 5.4, name, kind)


def _post_branch(ax, x, low, name, kind, norm):
    """A side branch without a norm; the norm stands on the stream."""
    _side(ax, x, low)
    arrow(ax, (x + 12, low), (x + 12, low + 3), "residual", width=LINE * 0.8)
    top = _back(ax, x, low + 3, name, kind)
    _norm(ax, x, top + 1.8, norm, zorder=5)


def _side(ax, x, low):
    """The line that leaves the stream."""
    ax.plot([x, x + 12, x + 12], [low, low, low + 1.6], linewidth=LINE,
            color=COLORS["residual"])


def _norm(ax, middle, y, name, **kwargs):
    box(ax, middle - 3, y, 6, 2.6, name, "norm", size=10, radius=0.7,
        **kwargs)


def _back(ax, x, y, name, kind):
    """The sublayer, and its way back to the stream; -> where it arrives."""
    mid, top = x + 12, y + 5.2
    box(ax, mid - 5.4, y, 10.8, 4, name, kind, filled=True, size=10.5,
        weight="semibold", radius=0.7)
    ax.plot([mid, mid], [y + 4, top], linewidth=LINE, color=COLORS[kind])
    arrow(ax, (mid, top), (x + 1.1, top), kind)
    plus(ax, x, top, "residual")
    return top


def gradient_by_depth(start: Mapping[str, Sequence[float]],
                      later: Mapping[str, Sequence[float]],
                      steps: int) -> Picture:
    """Gradient size of every block, for "pre" and "post", at two times."""
    fig, axes = canvas(height=3.3, columns=2, sharey=True)
    for ax, sizes, title in ((axes[0], start, "before training"),
                             (axes[1], later, f"after {steps} steps")):
        lines(ax, {kind: sizes[kind] for kind in ("pre", "post")},
              (PRE, POST), marker="o", markersize=4)
        ax.set(title=title, yscale="log", xlabel="block", xlim=(0, 13),
               xticks=(1, 4, 8, 12))
        ax.minorticks_off()
    axes[0].set_ylabel("gradient (log scale)")
    write(axes[1], 2.2, later["pre"][2] * 2.2, "pre-LN", PRE, None, ha="left",
          va="baseline", fontweight="semibold")
    write(axes[1], 7.0, later["post"][5] * 0.5, "post-LN", POST, None,
          ha="left", va="top", fontweight="semibold")
    return picture(fig, "Gradient of each block, without warm-up. Before"
                        " training both kinds are of similar size at every"
                        " depth. After some steps pre-LN still is; in post-LN"
                        " the gradient shrinks from block to block on the way"
                        " down and almost nothing reaches the first.")


def learning_curves(runs: Mapping[tuple[str, bool], Sequence[float]],
                    frequencies: float) -> Picture:
    """Loss by step for (kind, with warm-up); frequencies: the loss of a
    model that knows how often each character occurs and nothing else."""
    fig, ax = canvas(height=3.4)
    dashed(ax, y=frequencies, width=LINE * 0.7, dashes=(1, 2))
    looks = {(kind, warm): (color, "-" if warm else (0, (4, 2)))
             for kind, color in (("pre", PRE), ("post", POST))
             for warm in (True, False)}
    for run, losses in runs.items():
        lines(ax, {"": losses}, *zip(looks[run]))
        peak = max(losses)
        if peak > 5.3:                   # leaves the picture: say how far
            write(ax, losses.index(peak) + 4.4, 4.75,
                  f"up to\n{peak:.0f} nats", POST, 10, ha="left",
                  linespacing=1.1)
    ax.set(xlabel="training step", ylabel="loss (nats per character)",
           xlim=(0, len(losses) + 1), ylim=(1.9, 5.3))
    write(ax, len(losses), frequencies + 0.2, "letter frequencies only",
          "muted", 10, ha="right", va="baseline")
    _key_of_runs(ax, looks)
    return picture(fig, "Learning curves of a 12-layer model. Pre-LN learns"
                        " with and without warm-up, post-LN only with it:"
                        " without, its loss jumps up once and then stays at"
                        " that of the letter frequencies.")


def _key_of_runs(ax, looks):
    """A short line for each kind of run and its name."""
    inside = dict(transform=ax.transAxes)
    for i, ((kind, warm), (color, style)) in enumerate(looks.items()):
        y = 0.93 - 0.1 * i
        ax.plot([0.5, 0.57], [y, y], color=COLORS[color], linestyle=style,
                **inside)
        write(ax, 0.59, y, f"{kind}-LN, {'' if warm else 'no '}warm-up",
              ha="left", **inside)


def clones(drawn: Sequence[float], copied: Sequence[float]) -> Picture:
    """Spread of the stream after 0..L blocks, for two ways of making them."""
    fig, ax = canvas(height=2.8)
    lines(ax, {"drawn": drawn, "copied": copied}, ("right", "wrong"), first=0,
          marker="o", markersize=4.5)
    last = len(drawn) - 1
    for x, y, text, color in (
            (last - 1.4, copied[-2], "12 copies of one", "wrong"),
            (last, drawn[-1] * 0.62, "12 drawn one by one", "right")):
        write(ax, x, y, text, color, None, ha="right", fontweight="semibold")
    ax.set(xlabel="blocks passed", ylabel="std of the stream",
           ylim=(0, None), xticks=range(0, last + 1, 2))
    return picture(fig, "The spread of the residual stream by depth. With"
                        " twelve identical blocks it grows faster than with"
                        " twelve blocks that were drawn separately, because"
                        " identical blocks write in the same direction.")
