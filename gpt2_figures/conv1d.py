"""Pictures of chapter 04: Conv1D and its matrices."""
import math

from matplotlib.patches import Rectangle
from matplotlib.ticker import NullLocator

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, scale_of, tint)


def _title(ax, text):
    ax.set_title(text, loc="left", fontsize=12.5, fontweight="semibold",
                 pad=9)


def _matrix(ax, x, y, values, colors, size=3.0, peak=None):
    """Squares shaded by size, first row on top. colors: one a column."""
    peak = peak or max(abs(v) for row in values for v in row) or 1.0
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            shade = scale_of(colors[j])(0.08 + 0.62 * abs(value) / peak)
            ax.add_patch(Rectangle((x + j * size, y - (i + 1) * size), size,
                                   size, facecolor=shade, linewidth=0.9,
                                   edgecolor="white"))
    ax.add_patch(Rectangle((x, y - len(values) * size), len(values[0]) * size,
                           len(values) * size, fill=False, linewidth=LINE,
                           edgecolor=COLORS["ink"]))


def product(x, weight, bias, y) -> Picture:
    """y = x W + b with small matrices; all are lists of rows."""
    fig, ax = canvas(height=1.9)
    blank(ax, 62, 21)
    size = 2.6
    top = 15.6
    T, nx, nf = len(x), len(weight), len(weight[0])
    peak = max(abs(v) for m in (x, weight, y) for row in m for v in row)
    at_x, at_w, at_b, at_y = 3, 19.5, 35, 50

    def center(rows):
        return top - (nx - rows) * size / 2
    _matrix(ax, at_x, center(T), x, ["residual"] * nx, size, peak)
    _matrix(ax, at_w, top, weight, ["head"] * nf, size, peak)
    _matrix(ax, at_b, center(1), [bias], ["head"] * nf, size, peak)
    _matrix(ax, at_y, center(T), y, ["residual"] * nf, size, peak)
    middle = top - nx * size / 2
    for place, sign in (((at_x + nx * size + at_w) / 2, "×"),
                        ((at_w + nf * size + at_b) / 2, "+"),
                        ((at_b + nf * size + at_y) / 2, "=")):
        ax.text(place, middle, sign, ha="center", va="center", fontsize=16)
    for left, columns, rows, name, shape in (
            (at_x, nx, T, "x", "(T, in)"), (at_w, nf, nx, "W", "(in, out)"),
            (at_b, nf, 1, "b", "(out)"), (at_y, nf, T, "y", "(T, out)")):
        mid = left + columns * size / 2
        ax.text(mid, center(rows) + 1.2, name, ha="center", va="bottom",
                fontsize=12.5, fontweight="semibold")
        ax.text(mid, center(rows) - rows * size - 1, shape, ha="center",
                va="top", fontsize=10.5, color=COLORS["muted"])
    mark = dict(fill=False, edgecolor=COLORS["wrong"], linewidth=LINE * 1.6,
                zorder=5)
    row, column = 1, 2
    ax.add_patch(Rectangle((at_x, center(T) - (row + 1) * size), nx * size,
                           size, **mark))
    ax.add_patch(Rectangle((at_w + column * size, top - nx * size), size,
                           nx * size, **mark))
    ax.add_patch(Rectangle((at_b + column * size, center(1) - size), size,
                           size, **mark))
    ax.add_patch(Rectangle((at_y + column * size, center(T)
                            - (row + 1) * size), size, size, **mark))
    return picture(fig, "x with T rows times W with one column per output,"
                        " plus b, gives y. Marked: one row of x, one column"
                        " of W and one entry of b give one entry of y.")


def orientations(weight) -> Picture:
    """The same numbers as Conv1D and as nn.Linear keep them."""
    fig, ax = canvas(height=2.75)
    blank(ax, 60, 29)
    size = 4.3
    nx, nf = len(weight), len(weight[0])
    flipped = [list(column) for column in zip(*weight)]
    left, right, top = 7, 39, 22.6
    _matrix(ax, left, top, weight, ["head"] * nf, size)
    _matrix(ax, right, top, flipped, ["head"] * nx, size)
    mark = dict(fill=False, edgecolor=COLORS["wrong"], linewidth=LINE * 1.6,
                zorder=5)
    ax.add_patch(Rectangle((left + size, top - nx * size), size, nx * size,
                           **mark))
    ax.add_patch(Rectangle((right, top - 2 * size), nx * size, size, **mark))
    for x, columns, rows, name, across, down in (
            (left, nf, nx, "Conv1D", "out", "in"),
            (right, nx, nf, "nn.Linear", "in", "out")):
        ax.text(x + columns * size / 2, top + 4, name, ha="center",
                fontsize=12.5, fontweight="semibold")
        ax.text(x + columns * size / 2, top + 0.9, f"{across} →",
                ha="center", fontsize=10.5, color=COLORS["muted"])
        ax.text(x - 1, top - rows * size / 2, f"{down} →", ha="right",
                va="center", rotation=-90, fontsize=10.5,
                color=COLORS["muted"])
    ax.text(left + nf * size / 2, top - nx * size - 1.2, "y = x W + b",
            ha="center", va="top", fontsize=11)
    ax.text(right + nx * size / 2, top - nf * size - 1.2, "y = x Wᵀ + b",
            ha="center", va="top", fontsize=11)
    return picture(fig, "The same weights twice: Conv1D keeps them with a"
                        " row per input and a column per output; nn.Linear"
                        " with a row per output. Marked: all weights of one"
                        " output, a column on the left, a row on the right.")


PARTS = (("query", "q"), ("key", "k"), ("value", "v"))


def fused(n_head: int = 4) -> Picture:
    """c_attn's columns: query, key, value, and the heads inside each."""
    fig, ax = canvas(height=3.5)
    blank(ax, 60, 37)
    y, h, w = 20, 11, 15
    for i, (color, letter) in enumerate(PARTS):
        x = 9 + i * w
        ax.add_patch(Rectangle((x, y), w, h, facecolor=tint(color, 0.72),
                               edgecolor=COLORS[color], linewidth=LINE))
        for head in range(1, n_head):
            at = x + head * w / n_head
            ax.plot([at, at], [y, y + h], color="white", linewidth=LINE)
        for head in range(n_head):
            ax.text(x + (head + 0.5) * w / n_head, y + h / 2, str(head),
                    ha="center", va="center", fontsize=9.5)
        ax.text(x + w / 2, y + h + 1, color, ha="center", va="bottom",
                fontsize=11.5, fontweight="semibold", color=COLORS[color])
        box(ax, x + 0.8 + (i - 1) * 3.2, 2.6, w - 1.6, 7, "", color,
            radius=0.01)
        mid = x + w / 2 + (i - 1) * 3.2
        ax.text(mid, 6.1, f"$W_{letter}$", ha="center", va="center",
                fontsize=12.5)
        ax.text(mid, 1.8, "(C, C)", ha="center", va="top", fontsize=10,
                color=COLORS["muted"])
        arrow(ax, (x + w / 2, y - 0.8), (mid, 10.4), color)
    ax.text(7.8, y + h / 2, "C\ninputs", ha="right", va="center",
            fontsize=10.5, color=COLORS["muted"])
    ax.text(9 + 3 * w + 1, y + h / 2, "head\nnumbers", va="center",
            fontsize=10, color=COLORS["muted"])
    ax.text(9 + 1.5 * w, y + h + 5, "c_attn.weight  (C, 3C)", ha="center",
            fontsize=11.5)
    return picture(fig, "The weight of c_attn, C rows and 3C columns, in"
                        " three bands: query, key, value. Inside each band"
                        " the columns of head 0 come first, then head 1, and"
                        " so on. Cut between the bands it gives the three"
                        " separate matrices.")


def output_std(measured: dict[float, dict[int, float]]) -> Picture:
    """Std of a fresh layer's outputs by width; {std of W: {width: std}}."""
    fig, ax = canvas(height=3.2)
    colors = {0.02: "right", 0.05: "wrong"}
    widths = sorted(next(iter(measured.values())))
    dense = [widths[0] * (widths[-1] / widths[0]) ** (i / 60)
             for i in range(61)]
    for std, values in measured.items():
        color = COLORS[colors[std]]
        ax.plot(dense, [std * math.sqrt(n) for n in dense], color=color)
        ax.plot(widths, [values[n] for n in widths], "o", color=color,
                markersize=6)
        ax.text(widths[-1] * 1.08, values[widths[-1]], f"std {std}",
                color=color, va="center", fontweight="semibold")
    ax.plot([widths[0] * 0.85, widths[-1]], [1, 1], color=COLORS["muted"],
            linewidth=LINE * 0.8, linestyle=(0, (2, 2)), zorder=0)
    ax.text(widths[-1] * 1.08, 1, "as the input", va="center",
            color=COLORS["muted"], fontsize=10)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(widths, [f"{n:,}" for n in widths], rotation=45,
                  ha="right", rotation_mode="anchor")
    ax.set(ylim=(0, 4.2), xlim=(widths[0] * 0.85, widths[-1] * 1.9),
           xlabel="inputs of the layer", ylabel="std of the outputs")
    _title(ax, "A fresh layer spreads its outputs by √inputs")
    return picture(fig, "Standard deviation of a fresh layer's outputs"
                        " against the number of inputs: points on the curves"
                        " 0.02 √n and 0.05 √n. With 0.02 it is 0.55 at 768"
                        " inputs and 1.1 at 3,072; with 0.05 two and a half"
                        " times as much.")


def shares(sizes: dict[str, dict[str, int]]) -> Picture:
    """Share of each kind of parameter, by model size."""
    fig, ax = canvas(height=2.6)
    colors = {"c_attn": COLORS["attention"],
              "attention c_proj": tint("attention", 0.5),
              "c_fc": COLORS["feed_forward"],
              "feed-forward c_proj": tint("feed_forward", 0.5),
              "all the rest": COLORS["line"]}
    for y, (name, parts) in enumerate(reversed(sizes.items())):
        total, left = sum(parts.values()), 0.0
        for part, count in parts.items():
            width = 100 * count / total
            ax.barh(y, width, left=left, height=0.62, edgecolor="white",
                    color=colors[part], linewidth=1,
                    label=part if y == 0 else None)
            if width > 7:
                ax.text(left + width / 2, y, f"{width:.0f}", ha="center",
                        va="center", fontsize=10,
                        color="white" if part in ("c_attn", "c_fc")
                        else COLORS["ink"])
            left += width
    ax.set_yticks(range(len(sizes)), list(reversed(sizes)))
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 100), xlabel="per cent of all parameters")
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(-0.22, 1.0),
              frameon=False, fontsize=10, handlelength=1, columnspacing=1.2,
              handletextpad=0.5)
    return picture(fig, "Bars for the four sizes of GPT-2: the four Conv1D"
                        " of the blocks hold two thirds of the parameters in"
                        " the smallest model and 95 per cent in the largest;"
                        " the two of the feed-forward layer are the larger"
                        " half.")


def mistakes(sizes: dict[str, float]) -> Picture:
    """How far logits move with each mistake; {label: relative change}."""
    fig, ax = canvas(height=3.1)
    rows = sorted(sizes.items(), key=lambda item: item[1])
    for y, (name, value) in enumerate(rows):
        ax.plot([0, 100 * value], [y, y], color=COLORS["wrong"],
                linewidth=LINE)
        ax.plot(100 * value, y, "o", color=COLORS["wrong"], markersize=7)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, None), ylim=(-0.6, len(rows) - 0.4),
           xlabel="change of the logits, per cent of their size")
    return picture(fig, "How far the logits move when c_attn or c_proj are"
                        " read the wrong way: by more than their own size"
                        " for a transposed c_proj, interleaved heads and"
                        " four of the wrong orders of query, key and value;"
                        " by about half of it when only query and key are"
                        " exchanged, and least for a forgotten bias.")
