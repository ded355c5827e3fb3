"""Pictures of chapter 21: inside a trained model."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import (SLANTED, arrow, blank, board, box, grid,
                                 heatmap, legend, lines, scale_bar, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture, tint)


def _heads(ax, table, title: str, color: str, low: float, high: float,
           **kwargs):
    """A grid of layers by heads, its rows and columns numbered from 0."""
    image = heatmap(ax, table, color, vmin=low, vmax=high)
    ax.set_title(title, fontsize=11, **kwargs)
    for axis, n in ((ax.yaxis, len(table)), (ax.xaxis, len(table[0]))):
        places = range(0, n, 1 if n < 9 else 4)
        axis.set_ticks(places, [str(place) for place in places])
    ax.tick_params(labelsize=9)
    return image


def _across(fig, axes, row: int):
    """One chart in the place of a whole row of axes."""
    for ax in axes[row]:
        ax.remove()
    ax = fig.add_subplot(axes[row, 0].get_gridspec()[row, :])
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set(color=COLORS["muted"], linewidth=0.8)
    ax.grid(axis="y", color=COLORS["line"], linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def all_maps(maps) -> Picture:
    """Attention maps of every head as small squares. maps: (L, H, T, T)."""
    L, H = len(maps), len(maps[0])
    fig, axes = canvas(height=5.6 * L / H + 0.35, rows=L, columns=H)
    fig.get_layout_engine().set(wspace=0.01, hspace=0.01, w_pad=0.01,
                                h_pad=0.01)
    for layer, row in enumerate(axes):
        for head, ax in enumerate(row):
            heatmap(ax, maps[layer][head], "attention", vmin=0, vmax=1)
            n = len(maps[layer][head])
            ax.plot([-0.5, n - 0.5], [-0.5, n - 0.5], color=COLORS["line"],
                    linewidth=0.7)
            if layer == 0:
                ax.set_title(f"head {head}" if head == 0 else str(head),
                             fontsize=10.5, pad=3, loc="center")
            if head == 0:
                ax.set_ylabel(f"layer {layer}" if layer == 0 else str(layer),
                              fontsize=10.5)
    return picture(fig, f"Attention maps of all {L} times {H} heads, one row"
                        " of squares a layer. In each square a row is a"
                        " reader and a column is who is read; the upper"
                        " triangle is empty.")


def pattern_scores(scores: Mapping[str, Sequence]) -> Picture:
    """One (L, H) grid for each pattern: the share of attention on it."""
    fig, axes = canvas(height=3.6, rows=2, columns=3)
    fig.get_layout_engine().set(wspace=0.03, hspace=0.04)
    cells = list(axes.flat)
    top = max(float(v) for table in scores.values() for row in table
              for v in row)
    for ax, (name, table) in zip(cells, scores.items()):
        image = _heads(ax, table, name, "attention", 0, top, pad=4)
        ax.tick_params(pad=1)
    for ax in axes[:, 0]:
        ax.set_ylabel("layer", fontsize=10)
    axes[1, 0].set_xlabel("head", fontsize=10)
    for ax in cells[len(scores):]:
        ax.axis("off")
    free = cells[-1]
    scale_bar(fig, image, {0: "0%", top: f"{top:.0%}"},
              cax=free.inset_axes([0.04, 0.1, 0.09, 0.8]))
    write(free, 0.5, 0.5, "of a head’s\nattention is\non the pattern",
          "muted", ha="left", transform=free.transAxes)
    return picture(fig, "Five grids of layers by heads, one for each pattern"
                        f" ({', '.join(scores)}): the darker a square, the"
                        " more of the head's attention follows the pattern.")


def depth(norms: Sequence[float], lens: Sequence[float],
          raw: Sequence[float]) -> Picture:
    """Length of the stream, and loss of the lens with and without ln_f."""
    fig, axes = canvas(height=2.75, columns=2)
    places = range(len(norms))
    looks = dict(marker="o", markersize=5, first=0)
    lines(axes[0], {"norms": norms}, ["residual"], **looks)
    axes[0].set(title="Length of the stream", ylim=(0, None))
    lines(axes[1], {"without ln_f": raw, "logit lens": lens},
          ("wrong", "right"), ("--", "-"), **looks)
    axes[1].set(title="Loss if it ended here",
                ylim=(0, 1.35 * max(*lens, *raw)))
    legend(axes[1], loc="upper right")
    for ax in axes:
        ax.set(xticks=places, xlabel="blocks passed")
        grid(ax)
    return picture(fig, "Two charts by depth. Left: the mean length of the"
                        " stream's vectors after each block. Right: the loss"
                        " of the logit lens after each block, and the same"
                        " without the final LayerNorm.")


def lens(words: Sequence[str], guesses: Sequence[Sequence[str]],
         shares: Sequence[Sequence[float]]) -> Picture:
    """What the logit lens says at each depth (rows, deepest on top).

    guesses: its best token, by depth and position; shares: its probability.
    """
    rows, columns = len(guesses), len(words)
    fig, ax = canvas(height=0.36 * rows + 0.95)
    image = _by_depth(ax, shares, "head", 0)
    for y, row in enumerate(guesses[::-1]):
        for x, word in enumerate(row):
            write(ax, x, y, word, "white" if shares[::-1][y][x] > 0.4
                  else "ink", 9.5, parse_math=False)
    ax.set_xticks(range(columns), words, fontsize=9.5)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)
    ax.set_xlabel("the token that is read")
    scale_bar(fig, image, {0: "0%", 0.5: "50%", 1: "100%"}, ax=ax,
              fraction=0.03, pad=0.02)
    return picture(fig, f"A table of {rows} depths by {columns} tokens: the"
                        " token that the model would predict if it ended"
                        " there, shaded by its probability.")


def _by_depth(ax, table, color: str, low: float):
    """A heat map with a row for each depth, the deepest on top."""
    image = heatmap(ax, table[::-1], color, vmin=low, vmax=1)
    ax.set_aspect("auto")
    ax.set_yticks(range(len(table)), [str(d) for d in
                                      range(len(table))][::-1])
    ax.set_ylabel("blocks passed")
    return image


def damage(zero, mean, parts: Mapping[str, Sequence[float]]) -> Picture:
    """Rise of the loss: heads ablated to 0 and to the mean (L, H); parts."""
    fig, axes = canvas(height=4.9, rows=2, columns=2,
                       height_ratios=[1.15, 1])
    fig.get_layout_engine().set(hspace=0.05)
    top = max(max(map(max, zero)), max(map(max, mean)), 1e-3)
    for ax, table, title in ((axes[0, 0], zero, "one head to zero"),
                             (axes[0, 1], mean, "to its mean")):
        image = _heads(ax, table, title, "diverging", -top, top)
        ax.set_xlabel("head", fontsize=10)
    axes[0, 0].set_ylabel("layer", fontsize=10)
    scale_bar(fig, image, name="change of loss, nats", ax=list(axes[0]),
              fraction=0.03, pad=0.02)
    _whole_parts(_across(fig, axes, 1), parts)
    return picture(fig, "Change of the loss when one head is ablated, as two"
                        " grids of layers by heads: set to zero, and set to"
                        " its mean. Below them bars for whole attention and"
                        " feed-forward parts, layer by layer.")


def _whole_parts(ax, parts):
    """Two bars a layer: attention and feed-forward."""
    for shift, color, (name, values) in zip(
            (-0.2, 0.2), ("attention", "feed_forward"), parts.items()):
        ax.bar([i + shift for i in range(len(values))], values, 0.36,
               color=COLORS[color], label=name)
    ax.set(xlabel="layer", ylabel="nats", xticks=range(len(values)))
    ax.set_title("a whole part to zero", fontsize=11)
    ax.axhline(0, color=COLORS["muted"], linewidth=0.8)
    legend(ax, loc="upper right")


def clarity(scores: Sequence[float], losses: Sequence[float],
            lit: int) -> Picture:
    """Each head: how decided its map is, how much its ablation costs."""
    fig, ax = canvas(height=2.9)
    ax.axhline(0, color=COLORS["line"], linewidth=LINE)
    ax.scatter(scores, losses, s=34, color=tint("attention", 0.35),
               edgecolor=COLORS["attention"], linewidth=0.8, zorder=3)
    ax.scatter([scores[lit]], [losses[lit]], s=110, facecolor="none",
               edgecolor=COLORS["wrong"], linewidth=LINE, zorder=4)
    ax.annotate("decided, and hardly missed", (scores[lit], losses[lit]),
                xytext=(0.98, 0.93), textcoords="axes fraction", ha="right",
                fontsize=10.5, color=COLORS["wrong"], arrowprops=dict(
                    arrowstyle="-", color=COLORS["wrong"], shrinkB=6))
    ax.set_ylim(None, max(losses) * 1.25)
    ax.set(xlabel="share on the one token that is read most",
           ylabel="rise of the loss, nats",
           title="How decided a head is, and what it is worth")
    ax.xaxis.set_major_formatter(lambda v, _: f"{v:.0%}")
    return picture(fig, f"{len(scores)} heads as points: the share of their"
                        " attention on the token that they read most against"
                        " the rise of the loss when they are ablated. One"
                        " head is ringed: decided, and hardly missed.")


def circuit() -> Picture:
    """The two steps of an induction head, on A B ... A."""
    fig, ax = board(27.5)
    for x, y, word, color, size in (
            (4, 1.2, "A", "tokenizer", 12), (16, 1.2, "B", "tokenizer", 12),
            (40, 1.2, "A", "tokenizer", 12),
            (16, 11.2, "B, after A", "residual", 9.5),
            (40, 21.2, "→ B", "head", 12)):
        box(ax, x, y, 8, 4.6, word, color, radius=0.8, size=size,
            filled=color == "head")
    write(ax, 32, 3.5, "…", size=14)
    arrow(ax, (8, 6.2), (17.5, 11), "attention", bend=-0.15)
    arrow(ax, (20, 6.2), (20, 11), "residual")
    arrow(ax, (44, 6.2), (44, 21), "residual")
    arrow(ax, (24.3, 15), (39.7, 22.6), "attention", bend=-0.12)
    for x, y, words in ((2, 17.2, "layer 0: a previous-\ntoken head tells B\n"
                         "who stood before"),
                        (27, 11.8, "layer 1: the second A\n"
                         "seeks “after A”,\nand takes B")):
        write(ax, x, y, words, "attention", ha="left", linespacing=1.2)
    return picture(fig, "Tokens A, B, some others, then A again. In layer 0 a"
                        " head at B reads A and notes that B came after A. In"
                        " layer 1 the second A looks for the note, finds B,"
                        " and predicts B.")


def copying(panels: Mapping[str, Mapping[str, Sequence[float]]],
            periods: Sequence[int]) -> Picture:
    """Loss by position on repeated tokens; one panel a model.

    panels: model -> {"as it is": losses, "without ...": losses, ...};
    periods: after how many tokens each repeats itself.
    """
    fig, axes = canvas(height=2.2 * len(panels) + 0.45, rows=len(panels),
                       squeeze=False)
    for ax, period, (title, losses) in zip(axes.flat, periods,
                                           panels.items()):
        ax.axvspan(period, 2 * period - 1, color=tint("attention", 0.88),
                   linewidth=0)
        lines(ax, losses, ("right", "wrong", "muted"),
              ("-", "-", (0, (3, 2))))
        ax.set(title=title, ylabel="loss, nats", ylim=(0, None),
               xlim=(1, 2 * period - 1))
        grid(ax)
    ax.set_xlabel("position; shaded: the repetition")
    legend(fig, handles=ax.get_legend_handles_labels()[0], ncols=3,
           handlelength=1.4, loc="outside lower center")
    return picture(fig, "Loss by position on random tokens and their"
                        f" repetition, for {' and '.join(panels)}: as they"
                        " are, without their highest induction heads, and"
                        " without as many other heads.")


def effects(words: Sequence[str], other: Sequence[str], grid) -> Picture:
    """How far one patched place moves the answer: 0 own, 1 the other's.

    grid: (L + 1, T). Where the inputs differ both tokens are named.
    """
    rows, T = len(grid), len(words)
    names = [a if a == b else f"{a} → {b}" for a, b in zip(words, other)]
    fig, ax = canvas(height=0.3 * rows + 1.35)
    image = _by_depth(ax, [list(row) for row in grid], "diverging", -1)
    ax.set_xticks(range(T), names, fontsize=9.5, **SLANTED)
    for label, a, b in zip(ax.get_xticklabels(), words, other):
        label.set_parse_math(False)
        label.set_color(COLORS["ink" if a == b else "wrong"])
    scale_bar(fig, image, {-1: "−100%", 0: "0", 1: "100%"}, ax=ax,
              fraction=0.04, pad=0.02)
    return picture(fig, f"A grid of {rows} depths by {T} tokens: how far the"
                        " answer moves to that of the other run when the"
                        " stream is exchanged there only. At depth 0 all of"
                        " it sits at the token that differs, after the last"
                        " block all of it at the last token.")


def positions(similar: Mapping[str, Sequence[float]],
              points: Mapping[str, Sequence[tuple[float, float]]]) -> Picture:
    """Similarity by distance, and the first two components of each table."""
    fig, axes = canvas(height=4.9, rows=2, columns=2)
    fig.get_layout_engine().set(hspace=0.06)
    _similarity(_across(fig, axes, 0), similar)
    for ax, (name, path) in zip(axes[1], points.items()):
        xs, ys = zip(*path)
        ax.plot(xs, ys, color=COLORS["line"], linewidth=0.6, zorder=1)
        image = ax.scatter(xs, ys, c=range(len(xs)), s=7, cmap="viridis",
                           zorder=2)
        ax.set_title(name, fontsize=11)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel("first component", fontsize=10)
    axes[1, 0].set_ylabel("second component", fontsize=10)
    scale_bar(fig, image, name="position", ax=list(axes[1]), fraction=0.03,
              pad=0.02)
    return picture(fig, "Top: mean cosine of two position vectors by their"
                        f" distance, for {' and '.join(similar)}. Below: the"
                        " first two principal components of each table, the"
                        " positions joined in their order and coloured.")


def _similarity(ax, similar):
    """Mean cosine by distance, the distance on a logarithmic axis."""
    lines(ax, similar, ("position", "muted", "query"), ("-", "--", "-"),
          first=0, linewidth=LINE)
    low = min(map(min, similar.values()))
    n = len(next(iter(similar.values())))
    ax.set(title="How alike two positions are", ylim=(low - 0.1, 1.05),
           xlabel="distance, in tokens", ylabel="mean cosine")
    ax.set_xscale("symlog", linthresh=1)
    ticks = [0, 1, 4, 16, 64, 256]
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.set_xlim(0, n)
    ax.minorticks_off()
    legend(ax, loc="upper right")


def neurons(rows: Sequence[tuple[str, Sequence[str], Sequence[str]]]
            ) -> Picture:
    """A few neurons: on which tokens they fire, which tokens they raise.

    rows: (name, tokens it fires on, tokens it raises).
    """
    fig, ax = canvas(height=0.34 * len(rows) + 0.75)
    blank(ax, 56, 3.4 * len(rows) + 6.5).set_aspect("auto")
    top = 3.4 * len(rows) + 3.2
    for x, text in ((0.5, "neuron"), (11, "fires on"), (34, "raises")):
        write(ax, x, top, text, ha="left", va="baseline",
              fontweight="semibold")
    for i, (name, keys, values) in enumerate(rows):
        y = top - 3.4 * (i + 1)
        ax.axhline(y + 2.6, color=COLORS["line"], linewidth=0.6)
        for x, text, color in ((0.5, name, "muted"),
                               (11, "  ".join(keys), "feed_forward"),
                               (34, "  ".join(values), "head")):
            write(ax, x, y, text, color, 10, ha="left", va="baseline",
                  parse_math=False)
    return picture(fig, f"A table of {len(rows)} feed-forward neurons: the"
                        " tokens on which each fires most strongly, and the"
                        " tokens whose logits it raises most.")
