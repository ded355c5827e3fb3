"""Pictures of chapter 08: the whole model."""
import math

from gpt2_figures.shapes import (ON_WHITE, arrow, blank, board, box, dashed,
                                 ghost, grid, label, name_rows, tag, write)
from gpt2_figures.style import (COLORS, LINE, VISIBLE, Picture, canvas,
                                picture, visible)

# The parts of a small GPT-2, from bottom to top: name, label, colour.
STACK = [("wte", "wte + wpe", "embedding"), ("h.0", "h.0", "residual"),
         ("h.1", "h.1", "residual"), ("h.2", "h.2", "residual"),
         ("h.3", "h.3", "residual"), ("ln_f", "ln_f", "norm"),
         ("lm_head", "head", "head")]


def placeholders(found: list[str | None]) -> Picture:
    """Placeholders turning real, and the first difference after each step.

    found: what `first_divergence` said with 0, 1, ... 7 real parts.
    """
    fig, ax = board(43)
    for column, real in enumerate((0, 1, 2, 5, 6, 7)):     # real parts
        x, first = 0.6 + column * 9.25, found[real]
        _pile(ax, x, real, first)
        write(ax, x + 4.1, 5.2, first or "equal",
              "wrong" if first else "right", fontweight="semibold")
    write(ax, 0.6, 1.6, "↑ the first part that differs from Hugging Face’s",
          "muted", ha="left")
    return picture(fig, "Six stacks side by side, each with embeddings, four"
                        " blocks, ln_f and head. From left to right more of"
                        " the dashed placeholders are real, from the bottom"
                        " up. A red line under the lowest placeholder marks"
                        " the first activation that differs: wte, h.0, h.1,"
                        " ln_f, lm_head, and none at the end.")


def _pile(ax, x, real, first):
    """The parts of STACK, some real and some placeholders; a line under the
    first that differs."""
    w, h = 8.2, 3.7
    for row, (name, text, color) in enumerate(STACK):
        y = 8.2 + row * 4.9
        if row:
            ax.plot([x + w / 2] * 2, [y - 1.2, y], zorder=0,
                    color=COLORS["residual"], linewidth=LINE * 0.8)
        if row < real:
            box(ax, x, y, w, h, text, color, filled=True, size=9.5,
                radius=0.7)
        else:
            ghost(ax, x, y, w, h, text, size=9.5, radius=0.7)
        if first == name:
            ax.plot([x - 0.1, x + w + 0.1], [y - 0.6, y - 0.6],
                    color=COLORS["wrong"], linewidth=LINE * 1.7, zorder=4)


def shift(tokens: list[str]) -> Picture:
    """Which token each position has to predict."""
    fig, ax = canvas(height=2.15)
    blank(ax, 56, 21)
    left, pitch = 8.6, 47.4 / len(tokens)
    words = [token.translate(VISIBLE) for token in tokens]
    for y, name in ((3.6, "ids"), (10.6, "logits"), (17.6, "labels")):
        write(ax, 0.3, y, name, "muted", 11, ha="left")
    for i, (word, following) in enumerate(zip(words, [*words[1:], None])):
        x, middle = left + i * pitch, left + (i + 0.5) * pitch - 0.55
        for y, text, color in ((1.8, word, "embedding"),
                               (8.8, f"t = {i + 1}", "head"),
                               (15.8, following, "right")):
            if text is None:
                write(ax, middle, y + 1.8, "no label", "muted", 9.5,
                      style="italic")
                continue
            box(ax, x, y, pitch - 1.1, 3.6, "", color, radius=0.6)
            write(ax, middle, y + 1.6, text, "ink", 10, va="center_baseline")
            if y > 2:
                arrow(ax, (middle, y - 3.4), (middle, y),
                      "residual" if y < 9 else "right")
    return picture(fig, "Seven tokens in a row; above each the logits of its"
                        " position; above those the label, which is the next"
                        " token of the row. The last position has no label.")


def residual_std(curves: dict[tuple[int, bool], list[float]]) -> Picture:
    """Std of the residual stream by depth: {(layers, scaled): stds}."""
    fig, ax = canvas(height=3.3)
    for (layers, scaled), stds in curves.items():
        color, deep = "right" if scaled else "wrong", layers > 12
        ax.plot(range(1, layers + 1), stds, color=COLORS[color], zorder=3,
                linewidth=LINE * 1.5, marker="o", markevery=[-1],
                markersize=6.5, linestyle="-" if deep or not scaled
                else (0, (2.4, 1.6)))
        tag(ax, (layers, stds[-1]), (-9, 7) if deep else
            (10, 3 if scaled else -12), f"{layers} layers: {stds[-1]:.2f}",
            color, zorder=5, ha="right" if deep else "left",
            bbox=ON_WHITE)
    looks = dict(size=11, ha="right", va="baseline")
    label(ax, 48, 1.94, "without the factor", "wrong", **looks)
    label(ax, 48, 0.92, "c_proj divided by √(2 · layers)", "right", **looks)
    ax.set(xlabel="blocks passed", ylabel="std of the residual stream",
           xlim=(0, 49.5), ylim=(0, 3.6), xticks=[0, 12, 24, 36, 48],
           yticks=[0, 1, 2, 3])
    grid(ax)
    return picture(fig, "Standard deviation of the residual stream against"
                        " the number of blocks passed. Without the factor it"
                        " rises like a square root, to about 1.5 after 12"
                        " blocks and above 3 after 48. With it the stream"
                        " ends at about 0.3 in both models.")


def tied_gradient(tokens: list[str], bottom: list[float], top: list[float],
                  n_read: int) -> Picture:
    """Gradient norm of single rows of wte, from each of its two uses.

    tokens: labels of the rows; the first n_read stand in the sentence.
    """
    fig, axes = canvas(height=4.5, columns=2, sharey=True)
    rows = [i + (0.8 if i >= n_read else 0) for i in range(len(tokens))]
    for ax, values, color, title in (
            (axes[0], bottom, "embedding", "from below: wte"),
            (axes[1], top, "head", "from above: head")):
        name_rows(ax, [t.translate(VISIBLE) for t in tokens], rows, spine=True)
        _gradients(ax, rows, values, color, title)
        ax.axhline(n_read - 0.1, color=COLORS["line"], linewidth=0.8)
        ax.set(xlabel="gradient norm of the row", xlim=(0, None),
               ylim=(rows[-1] + 0.6, -0.6))
    _aside(axes[1], 0.97, (rows[-1] + rows[n_read]) / 2,
           "not in the\nsentence", 10, ha="right")
    return picture(fig, "Bars for the rows of wte that belong to the 13"
                        " tokens of the sentence and to three others. From"
                        " below only tokens that were read and have a"
                        " successor get a gradient. From above every row gets"
                        " one; it is tiny for the first token and the three"
                        " others, which are never a label.")


def _gradients(ax, rows, values, color, title):
    """Bars; words where a bar is too short to be seen."""
    ax.barh(rows, values, color=COLORS[color], height=0.68)
    ax.set_title(title, color=COLORS[color], fontsize=12)
    for row, value in zip(rows, values):
        if value < 0.02 * max(values):
            _aside(ax, 0.02, row, "tiny" if value else "none", 9.5)


def _aside(ax, x, y, text, size, ha="left"):
    """Words at a share of the width, beside a row."""
    write(ax, x, y, text, "muted", size, ha=ha, style="italic",
          transform=ax.get_yaxis_transform())


def _power(n: int) -> str:
    """Ten to the power of n, as a label."""
    return "10" + str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def next_tokens(before, after, prompt: str, likeliest: list[str]) -> Picture:
    """Next-token probabilities by rank, untrained and trained.

    before, after: (V,); likeliest: the first tokens of `after`, in order.
    """
    fig, ax = canvas(height=3.5)
    for values, color, name, rank, lift, side in (
            (before, "wrong", "untrained", 1.2, 1.8, "left"),
            (after, "head", "trained", 900, 0.2, "right")):
        values = sorted(values.tolist(), reverse=True)
        ax.plot(range(1, len(values) + 1), values, color=COLORS[color])
        write(ax, rank, values[int(rank) - 1] * lift, name, color, 11,
              ha=side, va="baseline", fontweight="semibold")
    for i, (token, share) in enumerate(zip(likeliest, values)):
        ax.plot(i + 1, share, "o", color=COLORS["head"], markersize=6,
                zorder=4, clip_on=False)
        tag(ax, (0.66, 0.98), (0, -14 * i), f"{visible(token)}  {share:.0%}",
            xycoords=ax.transAxes, va="top")
    _powers_of_ten(ax, values[-1], len(values))
    ax.set_title(f"after “{prompt.strip()}”", fontsize=12)
    return picture(fig, "Probabilities of the 4,096 next tokens by rank, on"
                        " logarithmic axes. Untrained they form a nearly flat"
                        " line at one 4,096th; trained the line begins far"
                        " above it and falls steeply, by many powers of ten."
                        " The five likeliest tokens are named.")


def _powers_of_ten(ax, low, n):
    """Both axes logarithmic, and a line at one nth."""
    least = max(-9, min(-6, math.floor(math.log10(low))))
    powers = range(least + least % 2, -2, 2)
    ax.set(xscale="log", yscale="log", xlim=(0.9, n), ylim=(10 ** least, 2),
           yticks=[*(10.0 ** n for n in powers), .01, 1],
           yticklabels=[*(_power(n) for n in powers), "1%", "100%"],
           xticks=[1, 10, 100, 1000], xticklabels=["1", "10", "100", "1,000"],
           xlabel="rank of the token, the likeliest first",
           ylabel="probability")
    ax.minorticks_off()
    dashed(ax, y=1 / n, width=LINE * 0.6, zorder=0)
    write(ax, n * 0.95, 1.5 / n, "1/V", "muted", 10, ha="right",
          va="baseline")
