"""Pictures of chapter 04: Conv1D and its matrices."""
import math

from gpt2_figures.shapes import (SLANTED, arrow, blank, box, frame, legend,
                                 log_x, name_rows, rect, stacked, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture,
                                scale_of, tint)


def _matrix(ax, x, y, values, color, size, *, peak=None, row=None,
            column=None):
    """Squares shaded by size, first row on top; a row, a column or their
    crossing is marked."""
    peak = peak or max(abs(v) for row in values for v in row) or 1.0
    wide, tall = len(values[0]) * size, len(values) * size
    for i, numbers in enumerate(values):
        for j, value in enumerate(numbers):
            rect(ax, x + j * size, y - (i + 1) * size, size, size,
                 scale_of(color)(0.08 + 0.62 * abs(value) / peak),
                 linewidth=0.9, edgecolor="white")
    frame(ax, x, y - tall, wide, tall)
    left, width = (x, wide) if column is None else (x + column * size, size)
    low, height = ((y - tall, tall) if row is None
                   else (y - (row + 1) * size, size))
    frame(ax, left, low, width, height, "wrong", LINE * 1.6, zorder=5)


def product(x, weight, bias, y) -> Picture:
    """y = x W + b with small matrices; all are lists of rows."""
    fig, ax = canvas(height=1.9)
    blank(ax, 62, 21)
    size, middle = 2.6, 15.6 - len(weight) * 1.3
    peak = max(abs(v) for m in (x, weight, y) for row in m for v in row)
    end = None
    for left, rows, color, sign, name, shape, marked in (
            (3, x, "residual", "", "x", "(T, in)", dict(row=1)),
            (19.5, weight, "head", "×", "W", "(in, out)", dict(column=2)),
            (35, [bias], "head", "+", "b", "(out)", dict(row=0, column=2)),
            (50, y, "residual", "=", "y", "(T, out)",
             dict(row=1, column=2))):
        half, width = len(rows) * size / 2, len(rows[0]) * size
        _matrix(ax, left, middle + half, rows, color, size, peak=peak,
                **marked)
        if sign:
            write(ax, (end + left) / 2, middle, sign, size=16)
        end, mid = left + width, left + width / 2
        write(ax, mid, middle + half + 1.2, name, size=12.5, va="bottom",
              fontweight="semibold")
        write(ax, mid, middle - half - 1, shape, "muted", va="top")
    return picture(fig, "x with T rows times W with one column per output,"
                        " plus b, gives y. Marked: one row of x, one column"
                        " of W and one entry of b give one entry of y.")


def orientations(weight) -> Picture:
    """The same numbers as Conv1D and as nn.Linear keep them."""
    fig, ax = canvas(height=2.75)
    blank(ax, 60, 29)
    size, top = 4.3, 22.6
    flipped = [list(column) for column in zip(*weight)]
    for x, values, name, across, down, formula, marked in (
            (7, weight, "Conv1D", "out", "in", "y = x W + b",
             dict(column=1)),
            (39, flipped, "nn.Linear", "in", "out", "y = x Wᵀ + b",
             dict(row=1))):
        tall, mid = len(values) * size, x + len(values[0]) * size / 2
        _matrix(ax, x, top, values, "head", size, **marked)
        write(ax, mid, top + 4, name, size=12.5, va="baseline",
              fontweight="semibold")
        write(ax, mid, top + 0.9, f"{across} →", "muted", va="baseline")
        write(ax, x - 1, top - tall / 2, f"{down} →", "muted", ha="right",
              rotation=-90)
        write(ax, mid, top - tall - 1.2, formula, size=11, va="top")
    return picture(fig, "The same weights twice: Conv1D keeps them with a row"
                        " per input and a column per output; nn.Linear with a"
                        " row per output. Marked: all weights of one output,"
                        " a column on the left, a row on the right.")


PARTS = (("query", "q"), ("key", "k"), ("value", "v"))


def fused(n_head: int = 4) -> Picture:
    """c_attn's columns: query, key, value, and the heads inside each."""
    fig, ax = canvas(height=3.5)
    blank(ax, 60, 37)
    y, h, w = 20, 11, 15
    for i, (color, letter) in enumerate(PARTS):
        x = 9 + i * w
        _band(ax, x, y, w, h, color, n_head)
        mid = x + w / 2 + (i - 1) * 3.2
        box(ax, mid - w / 2 + 0.8, 2.6, w - 1.6, 7, "", color, radius=0.01)
        write(ax, mid, 6.1, f"$W_{letter}$", size=12.5)
        write(ax, mid, 1.8, "(C, C)", "muted", 10, va="top")
        arrow(ax, (x + w / 2, y - 0.8), (mid, 10.4), color)
    write(ax, 7.8, y + h / 2, "C\ninputs", "muted", ha="right")
    write(ax, 9 + 3 * w + 1, y + h / 2, "head\nnumbers", "muted", 10,
          ha="left")
    write(ax, 9 + 1.5 * w, y + h + 5, "c_attn.weight  (C, 3C)", size=11.5,
          va="baseline")
    return picture(fig, "The weight of c_attn, C rows and 3C columns, in"
                        " three bands: query, key, value. Inside each band"
                        " the columns of head 0 come first, then head 1, and"
                        " so on. Cut between the bands it gives the three"
                        " separate matrices.")


def _band(ax, x, y, w, h, color, n_head):
    """A third of the matrix, cut into its heads."""
    rect(ax, x, y, w, h, tint(color, 0.72), edgecolor=COLORS[color],
         linewidth=LINE)
    for head in range(n_head):
        at = x + head * w / n_head
        if head:
            ax.plot([at, at], [y, y + h], color="white", linewidth=LINE)
        write(ax, at + w / n_head / 2, y + h / 2, str(head), size=9.5)
    write(ax, x + w / 2, y + h + 1, color, color, 11.5, va="bottom",
          fontweight="semibold")


def output_std(measured: dict[float, dict[int, float]]) -> Picture:
    """Std of a fresh layer's outputs by width; {std of W: {width: std}}."""
    fig, ax = canvas(height=3.2)
    widths = first, *_, last = sorted(next(iter(measured.values())))
    dense = [first * (last / first) ** (i / 60) for i in range(61)]
    for (std, values), color in zip(sorted(measured.items()),
                                    ("right", "wrong")):
        ax.plot(dense, [std * math.sqrt(n) for n in dense],
                color=COLORS[color])
        ax.plot(widths, [values[n] for n in widths], "o", color=COLORS[color],
                markersize=6)
        write(ax, last * 1.08, values[last], f"std {std}", color, None,
              ha="left", fontweight="semibold")
    ax.plot([first * 0.85, last], [1, 1], color=COLORS["muted"],
            linewidth=LINE * 0.8, linestyle=(0, (2, 2)), zorder=0)
    write(ax, last * 1.08, 1, "as the input", "muted", 10, ha="left")
    log_x(ax, widths, **SLANTED)
    ax.set(ylim=(0, 4.2), xlim=(first * 0.85, last * 1.9),
           xlabel="inputs of the layer", ylabel="std of the outputs")
    ax.set_title("A fresh layer spreads its outputs by √inputs", pad=9)
    return picture(fig, "Standard deviation of a fresh layer's outputs"
                        " against the number of inputs: points on the curves"
                        " 0.02 √n and 0.05 √n. With 0.02 it is 0.55 at 768"
                        " inputs and 1.1 at 3,072; with 0.05 two and a half"
                        " times as much.")


def shares(sizes: dict[str, dict[str, int]]) -> Picture:
    """Share of each kind of parameter, by model size."""
    fig, ax = canvas(height=2.6)
    colors = {"c_attn": "attention",
              "attention c_proj": tint("attention", 0.5),
              "c_fc": "feed_forward",
              "feed-forward c_proj": tint("feed_forward", 0.5),
              "all the rest": "line"}
    stacked(ax, {name: {part: 100 * count / sum(parts.values())
                        for part, count in parts.items()}
                 for name, parts in sizes.items()},
            colors, "{:.0f}", 7, edge=1, size=10)
    ax.set(xlim=(0, 100), xlabel="per cent of all parameters")
    legend(ax, ncols=3, loc="lower left", bbox_to_anchor=(-0.22, 1.0),
           fontsize=10, handlelength=1, columnspacing=1.2, handletextpad=0.5)
    return picture(fig, "Bars for the four sizes of GPT-2: the four Conv1D of"
                        " the blocks hold two thirds of the parameters in the"
                        " smallest model and 95 per cent in the largest; the"
                        " two of the feed-forward layer are the larger half.")


def mistakes(sizes: dict[str, float]) -> Picture:
    """How far logits move with each mistake; {label: relative change}."""
    fig, ax = canvas(height=3.1)
    rows = sorted(sizes, key=sizes.get)
    for y, name in enumerate(rows):
        ax.plot([0, 100 * sizes[name]], [y, y], color=COLORS["wrong"],
                linewidth=LINE)
        ax.plot(100 * sizes[name], y, "o", color=COLORS["wrong"],
                markersize=7)
    name_rows(ax, rows, down=False, spine=True)
    ax.set(xlim=(0, None), ylim=(-0.6, len(rows) - 0.4),
           xlabel="change of the logits, per cent of their size")
    return picture(fig, "How far the logits move when c_attn or c_proj are"
                        " read the wrong way: by more than their own size for"
                        " a transposed c_proj, interleaved heads and four of"
                        " the wrong orders of query, key and value; by about"
                        " half of it when only query and key are exchanged,"
                        " and least for a forgotten bias.")
