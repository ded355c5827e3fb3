"""Pictures of chapter 06: the feed-forward layer and its activation."""
from collections.abc import Mapping, Sequence

from matplotlib.patches import Polygon

from gpt2_figures.shapes import arrow, bars, board, name_rows, rect, write
from gpt2_figures.style import (COLORS, LINE, WIDTH, Picture, canvas,
                                diverging, picture, tint)


def _strip(ax, x, middle, width, height, values, peak):
    """A vector as a column of coloured cells, centred on `middle`."""
    values = [[float(v)] for v in values]
    low, high = middle - height / 2, middle + height / 2
    ax.imshow(values, cmap=diverging(), vmin=-peak, vmax=peak, zorder=3,
              extent=(x, x + width, low, high), interpolation="nearest",
              aspect="auto")
    ax.plot([x, x + width, x + width, x, x], [low, low, high, high, low],
            color=COLORS["ink"], linewidth=LINE * 0.6, zorder=4)


def wide_and_back(x, hidden, gated, out, word: str) -> Picture:
    """One position through the layer; each argument: its vector, real."""
    fig, ax = board(35.5)
    middle, short, tall, w = 19, 7, 28, 2.6
    places = (4, 21, 32.4, 49.4)
    for place, vector, height in zip(places, (x, hidden, gated, out),
                                     (short, tall, tall, short)):
        step = max(1, len(vector) // (16 if height == short else 64))
        scale = hidden if height == tall else vector     # one for both sides
        _strip(ax, place, middle, w, height, vector[::step],
               max(abs(v) for v in scale[::step]))
        write(ax, place + w / 2, 2.4, f"{len(vector):,}")
    _funnel(ax, 7.3, 20.3, middle, short, tall, "c_fc")
    _funnel(ax, 35.7, 48.7, middle, tall, short, "c_proj")
    arrow(ax, (24.6, middle), (31.4, middle), "feed_forward")
    write(ax, 28, middle + 1.9, "GELU", **BOLD)
    for place, side in ((places[0], "in"), (places[3], "out")):
        write(ax, place + w / 2, middle + short / 2 + 3, f"“{word}”\n{side}",
              linespacing=1.15)
    write(ax, 28, 34.4, "orange: below zero     white: zero     blue: above",
          "muted", 9.5)
    return picture(fig, "The feed-forward layer for one position: a short"
                        " vector is widened four times by c_fc, goes through"
                        " GELU, which pulls what is below zero close to zero,"
                        " and is narrowed back by c_proj.")


BOLD = dict(color="feed_forward", size=12, fontweight="semibold")


def _funnel(ax, left, right, middle, high, end, name):
    """From one height to another: a matrix that widens or narrows."""
    ax.add_patch(Polygon(
        [(left, middle - high / 2), (left, middle + high / 2),
         (right, middle + end / 2), (right, middle - end / 2)],
        edgecolor="none", facecolor=tint("feed_forward", 0.82)))
    write(ax, (left + right) / 2, middle, name, **BOLD)


def _frame(ax, xlim, ylim, **labels):
    ax.axhline(0, color=COLORS["line"], linewidth=LINE * 0.6, zorder=0)
    ax.axvline(0, color=COLORS["line"], linewidth=LINE * 0.6, zorder=0)
    ax.set(xlim=xlim, ylim=ylim, **labels)


def gate(x, opening, gelu, relu, lowest: tuple[float, float]) -> Picture:
    """GELU between its gate and ReLU. lowest: where GELU has its minimum."""
    fig, ax = canvas(height=3.3)
    _frame(ax, (-4, 3), (-0.7, 3), xlabel="x")
    ax.plot(x, relu, color=COLORS["muted"], linestyle=(0, (4, 2.5)))
    ax.plot(x, opening, color=COLORS["query"])
    ax.plot(x, gelu, color=COLORS["feed_forward"], linewidth=LINE + 1)
    ax.plot(*lowest, "o", color=COLORS["feed_forward"], markersize=6)
    for at, y, text, color, side, weight in (
            (2.34, 1.95, "GELU", "feed_forward", "left", "semibold"),
            (1.25, 1.95, "ReLU", "muted", "right", "normal"),
            (-0.45, 0.62, "gate Φ(x)", "query", "right", "semibold")):
        write(ax, at, y, text, color, None, ha=side, va="baseline",
              fontweight=weight)
    place = f"({lowest[0]:.2f}, {lowest[1]:.2f})".replace("-", "−")
    write(ax, lowest[0], lowest[1] - 0.2, f"lowest at {place}", size=10)
    return picture(fig, "GELU against ReLU. GELU is x times a gate that opens"
                        " smoothly from 0 to 1: it follows ReLU far from"
                        " zero, rounds off its corner, and dips slightly"
                        " below zero on the left.")


def difference(x, values, at: float, most: float) -> Picture:
    """tanh form minus exact GELU; its largest size `most` is at x = `at`."""
    fig, ax = canvas(height=2.7)
    scaled = [1e4 * float(v) for v in values]
    _frame(ax, (-6, 6), (-3, 5.8), xlabel="x",
           ylabel="difference in 1/10,000")
    ax.plot(x, scaled, color=COLORS["wrong"])
    ax.fill_between(x, scaled, color=tint("wrong", 0.8), linewidth=0)
    for side in (-at, at):
        ax.plot(side, 1e4 * most, "o", color=COLORS["wrong"], markersize=6)
    write(ax, at + 0.55, 1e4 * most, f"x = {at:.2f}:\n{most:.1e}".replace(
        "e-0", " · 10$^{-") + "}$", ha="left", linespacing=1.2)
    return picture(fig, "The tanh form of GELU minus the exact one: nothing"
                        " at zero and far out, at most 4.7 ten-thousandths,"
                        " at x = 2.70 and at x = -2.70.")


def slopes(x, gelu, relu) -> Picture:
    """The derivatives of GELU and ReLU."""
    fig, ax = canvas(height=2.9)
    _frame(ax, (-4, 4), (-0.25, 1.3), xlabel="x", ylabel="slope")
    for side in (-1, 1):
        ax.plot(*zip(*((at, y) for at, y in zip(x, relu) if side * at > 0)),
                color=COLORS["muted"], linestyle=(0, (4, 2.5)))
    ax.plot(x, gelu, color=COLORS["feed_forward"], linewidth=LINE + 1)
    write(ax, 1.45, 1.19, "GELU", "feed_forward", None, va="baseline",
          fontweight="semibold")
    write(ax, 3.9, 0.9, "ReLU", "muted", None, ha="right")
    write(ax, -3.9, 0.09, "ReLU learns nothing here", "muted", 10, ha="left")
    return picture(fig, "Slopes. ReLU's jumps from 0 to 1 at zero. GELU's is"
                        " smooth, slightly negative left of zero, slightly"
                        " above 1 on the right.")


def before_and_after(before, after) -> Picture:
    """Histograms of the hidden values on both sides of the activation."""
    fig, axes = canvas(height=3.6, rows=2, sharex=True)
    ordered = sorted(abs(value) for value in before)
    limit = ordered[int(0.995 * len(ordered))]
    bins = [limit * i / 45 for i in range(-45, 46)]     # an edge at zero
    for ax, values, name, color in (
            (axes[0], before, "before GELU", "residual"),
            (axes[1], after, "after GELU", "feed_forward")):
        ax.hist(values, bins=bins, color=COLORS[color], linewidth=0,
                weights=[100 / len(values)] * len(values))
        ax.axvline(0, color=COLORS["ink"], linewidth=LINE * 0.6)
        ax.set(xlim=(-limit, limit), ylabel="% of values")
        write(ax, 0.98, 0.9, name, color, None, ha="right", va="top",
              transform=ax.transAxes, fontweight="semibold")
    axes[1].set_xlabel("value of a hidden unit")
    return picture(fig, "Hidden values before GELU form a broad hill, most of"
                        " it left of zero; after it, all that was negative is"
                        " piled up just below zero.")


def shares(parts: Mapping[str, int], colors: Sequence[str]) -> Picture:
    """Parameters of one block by part, as bars."""
    fig, ax = canvas(height=2.5)
    total = sum(parts.values())
    bars(ax, [value / 1e6 for value in parts.values()], colors,
         lambda v: f"{v * 1e6:,.0f} " + (
             f"({v * 1e6 / total:.0%})" if v * 1e6 > total / 100
             else "(under 0.1%)"), 0.04, height=0.68, size=10)
    name_rows(ax, parts, spine=True)
    ax.set(xlim=(0, 3.4), xlabel="parameters in one block, millions")
    return picture(fig, "Parameters of one block of the smallest GPT-2: the"
                        " two feed-forward matrices hold two thirds of them,"
                        " c_attn a quarter, attention's c_proj a twelfth, the"
                        " norms almost none.")


def by_layer(active: Sequence[float], costs: Sequence[float]) -> Picture:
    """Share of active units, and the loss added by removal, by layer."""
    fig, axes = canvas(height=2.6, columns=2)
    for ax, values, title, form, color in (
            (axes[0], active, "active units", "{:.0%}", "feed_forward"),
            (axes[1], costs, "loss added by removal", "{:+.2f}", "wrong")):
        most = max(values)
        bars(ax, values, color, form, 0.03 * most, height=0.7, upright=True,
             size=10)
        ax.set_title(title, fontsize=12)
        ax.set(ylim=(min(0, *values), 1.15 * most), xlabel="layer", yticks=[],
               xticks=range(len(values)))
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", length=0)
    return picture(fig, "Two bar charts over the six layers of the trained"
                        " model: the share of hidden units that are active at"
                        " a token, and how much the loss grows, in nats, when"
                        " the feed-forward layer of that block is taken out.")


def fires(tokens: Sequence[str], first: int,
          strengths: Mapping[str, Sequence[float]]) -> Picture:
    """A passage of a program, once for each unit, shaded by its activity.

    first: the first of the tokens to show; strengths: of all tokens, zero
    or more, under the unit's name.
    """
    rows = _rows(tokens, first)
    wide = max(len_of(row) for row in rows)
    size = 0.98 * 72 * WIDTH / wide / 0.602  # points, of a font 0.602 wide
    tall = (len(rows) + 2.2) * len(strengths)
    fig, ax = canvas(height=0.0195 * size * tall)
    ax.set(xlim=(0, wide), ylim=(tall, 0))
    ax.axis("off")
    y = 0.0
    for name, strength in strengths.items():
        write(ax, 0, y + 0.75, name, "feed_forward", 11, ha="left",
              fontweight="semibold")
        _passage(ax, y + 1.7, rows, strength, size)
        y += len(rows) + 2.2
    return picture(fig, "The end of the program, printed once for each of"
                        " three hidden units, with every token shaded by how"
                        " strongly the unit is active at it. Each unit is"
                        " active at one kind of token and pale or white at"
                        " all others.")


def _rows(tokens, first):
    """The lines of the passage that are not empty, each a list of pieces
    of tokens: (column, text, number of the token)."""
    rows, column = [[]], 0
    for i in range(first, len(tokens)):
        for n, part in enumerate(tokens[i].split("\n")):
            if n:
                rows, column = rows + [[]], 0
                rows[-2].append((len_of(rows[-2]), "⏎", i))
            if part:
                rows[-1].append((column, part, i))
                column += len(part)
    return [row for row in rows if any(text.strip("⏎ ") for _, text, _ in row)]


def _passage(ax, y, rows, strength, size):
    """The lines from y down, each token shaded by its strength."""
    peak = max(strength) or 1.0
    for n, row in enumerate(rows):
        for column, text, i in row:
            share = strength[i] / peak
            if share > 0.02:
                rect(ax, column, y + n - 0.02, len(text), 0.96,
                     tint("feed_forward", 1 - 0.75 * share))
            write(ax, column, y + n + 0.5, text, "line" if text == "⏎"
                  else "ink", size, ha="left", family="DejaVu Sans Mono")


def len_of(row: list[tuple[int, str, int]]) -> int:
    """Where a row of (column, text, number) ends, in characters."""
    return row[-1][0] + len(row[-1][1]) if row else 0
