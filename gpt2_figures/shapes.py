"""The shapes that recur in the book, each drawn in one way.

On a drawing board: boxes, arrows, words, swatches. On axes with units:
curves, bars with their values, names on white, dashed lines. Then tables of
squares. A colour is a name of COLORS or one that matplotlib knows; options go
on to matplotlib.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from gpt2_figures.style import (COLORS, LINE, WIDTH, canvas, diverging, on,
                                scale_of, tint)


# ---- Drawing boards ----

def blank(ax: Axes, width: float, height: float) -> Axes:
    """Turn axes into a drawing board of width x height units, no frame."""
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return ax


def board(height: float, width: float = 56) -> tuple[Figure, Axes]:
    """A figure that is one drawing board, its unit the same on both axes."""
    fig, ax = canvas(height=round(WIDTH * height / width, 9))
    return fig, blank(ax, width, height)


def write(ax: Axes, x, y, text, color: str | None = None,
          size: float | None = 10.5, **kwargs):
    """Words, centred on a point."""
    return ax.text(x, y, text, color=COLORS.get(color, color), fontsize=size,
                   **{"ha": "center", "va": "center", **kwargs})


def box(ax: Axes, x: float, y: float, w: float, h: float, text: str = "",
        color: str = "muted", *, filled: bool = False, size: float = 11,
        weight: str = "normal", radius: float = 0.12, **kwargs):
    """A rounded box in data units, its label centred.

    filled: the colour itself with white text; else its tint with an outline.
    """
    base = COLORS.get(color, color)
    patch = FancyBboxPatch(
        (x, y), w, h, boxstyle=f"round,pad=0,rounding_size={radius}",
        facecolor=base if filled else tint(base, 0.86), edgecolor=base,
        linewidth=LINE * 0.8, **kwargs)
    ax.add_patch(patch)
    if text:
        write(ax, x + w / 2, y + h / 2, text, "white" if filled else "ink",
              size, fontweight=weight, linespacing=1.15,
              zorder=kwargs.get("zorder", 1) + 2)
    return patch


def ghost(ax: Axes, x: float, y: float, w: float, h: float, text: str = "",
          *, size: float = 10, radius: float = 0.6, edge: str = "muted"):
    """A white box with a dashed outline: a place where nothing is yet."""
    patch = box(ax, x, y, w, h, "", "line", radius=radius)
    patch.set(facecolor="white", linestyle=(0, (3, 2)),
              edgecolor=COLORS[edge])
    if text:
        write(ax, x + w / 2, y + h / 2, text, "muted", size)
    return patch


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float],
          color: str = "muted", *, bend: float = 0.0, width: float = LINE,
          **kwargs):
    """An arrow in data units; bend > 0 curves it to the left."""
    patch = FancyArrowPatch(
        start, end, arrowstyle="-|>,head_length=4,head_width=2.2",
        color=COLORS.get(color, color), linewidth=width, shrinkA=0,
        shrinkB=0, connectionstyle=f"arc3,rad={bend}", **kwargs)
    ax.add_patch(patch)
    return patch


def rect(ax: Axes, x: float, y: float, w: float, h: float, color: str,
         **kwargs) -> Rectangle:
    """A rectangle full of colour, without an outline unless one is asked."""
    return ax.add_patch(Rectangle((x, y), w, h, **{
        "facecolor": COLORS.get(color, color), "linewidth": 0, **kwargs}))


def frame(ax: Axes, x: float, y: float, w: float, h: float,
          color: str = "ink", width: float = LINE, **kwargs) -> Rectangle:
    """The outline of a rectangle."""
    return rect(ax, x, y, w, h, "none", edgecolor=COLORS.get(color, color),
                linewidth=width, **kwargs)


def swatch(ax: Axes, x: float, y: float, w: float, h: float, color: str,
           text: str, *, gap: float = 0.5, size: float = 10.5,
           ink: str | None = None):
    """A patch of colour and, beside it, what the colour stands for."""
    rect(ax, x, y, w, h, color)
    write(ax, x + w + gap, y + h / 2, text, ink, size, ha="left")


def plus(ax: Axes, x: float, y: float, color: str, *, face: str = "white",
         sign: str | None = None):
    """The circle in which something is added to the residual stream."""
    ax.plot(x, y, "o", markersize=13, markerfacecolor=face, zorder=6,
            markeredgecolor=COLORS[color], markeredgewidth=LINE)
    write(ax, x, y, "+", sign or color, 12, va="center_baseline", zorder=7)


# ---- Axes with units ----

def grid(ax: Axes, axis: str = "y"):
    """Thin rules below everything that is drawn."""
    ax.grid(axis=axis)
    ax.set_axisbelow(True)


def dashed(ax: Axes, *, x: float | None = None, y: float | None = None,
           color: str = "muted", width: float = LINE,
           dashes: tuple[float, float] = (3, 2), **kwargs):
    """A dashed line across the axes at a value of x or of y."""
    draw = ax.axhline if x is None else ax.axvline
    return draw(y if x is None else x, color=COLORS[color], linewidth=width,
                linestyle=(0, dashes), **kwargs)


# What stands behind a name that lies over lines.
ON_WHITE = dict(facecolor="white", edgecolor="none", pad=1.0)


def label(ax: Axes, x, y, text, color: str | None = "ink", *,
          size: float = 10.5, **kwargs):
    """The name of a mark or of a curve beside it, on white."""
    write(ax, x, y, text, color, size, **{
        "ha": "left", "fontweight": "semibold", "zorder": 6,
        "bbox": ON_WHITE, **kwargs})


def name_curves(ax: Axes, names: Iterable[str], colors: Iterable[str],
                x: float = 0.97, y: float = 0.93, step: float = 0.1,
                **kwargs):
    """Names of curves below each other, at shares of the axes."""
    for i, (name, color) in enumerate(zip(names, colors)):
        label(ax, x, y - step * i, name, color, transform=ax.transAxes,
              **{"ha": "right", **kwargs})


def tag(ax: Axes, point: tuple[float, float], shift: tuple[float, float],
        text: str, color: str | None = None, size: float = 10.5, **kwargs):
    """Words that stand `shift` points away from a point of the data."""
    ax.annotate(text, point, xytext=shift, textcoords="offset points",
                fontsize=size, color=COLORS.get(color, color), **kwargs)


def legend(owner: Axes | Figure, **kwargs):
    """A legend without a frame; owner: the axes, or the figure."""
    return owner.legend(**{"frameon": False, "fontsize": 10.5, **kwargs})


def lines(ax: Axes, named: Mapping[str, Sequence[float]],
          colors: Iterable[str], styles: Iterable = repeat("-"), *,
          xs: Sequence[float] | None = None, first: int = 1, **kwargs):
    """One curve a name, over xs or over first, first + 1, ..."""
    for (name, values), color, style in zip(named.items(), colors, styles):
        ax.plot(range(first, first + len(values)) if xs is None else xs,
                values, color=COLORS.get(color, color), linestyle=style,
                label=name, **kwargs)


def smooth(values: Sequence[float], width: int = 5) -> list[float]:
    """The mean of each value and those just before it."""
    parts = (values[max(0, i + 1 - width):i + 1] for i in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def log_x(ax: Axes, ticks: Sequence[float], base: int = 10, **kwargs):
    """A logarithmic x axis with exactly these ticks."""
    ax.set_xscale("log", base=base)
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], **kwargs)
    ax.minorticks_off()


SLANTED = dict(rotation=45, ha="right", rotation_mode="anchor")


def name_rows(ax: Axes, names: Iterable[str], at: Sequence | None = None, *,
              down: bool = True, spine: bool = False):
    """Names in the place of a y axis, the first on top unless down=False."""
    names = list(names)
    ax.set_yticks(range(len(names)) if at is None else at, names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(spine)
    if down:
        ax.invert_yaxis()


def bars(ax: Axes, values: Sequence[float], color, form: str | Callable,
         gap: float, *, height: float = 0.62, upright: bool = False,
         ink: str | Sequence[str] | None = None, **kwargs):
    """Bars, one a row (upright: one a column), each with its value.

    color, and ink of the words: one, or one a bar; form: a format such as
    "{:.1f}", or a function from a value to its words; gap: from the end of
    the bar to the words, which take kwargs.
    """
    n, form = len(values), form if callable(form) else form.format
    colors, inks = ([one] * n if one is None or isinstance(one, str) else one
                    for one in (color, ink))
    draw, side = ((ax.bar, {"va": "baseline"}) if upright else
                  (ax.barh, {"ha": "left"}))
    draw(range(n), values, height, color=[COLORS.get(c, c) for c in colors])
    for i, (value, ink) in enumerate(zip(values, inks)):
        end = max(value, 0) + gap
        write(ax, *((i, end) if upright else (end, i)), form(value), ink,
              **{**side, **kwargs})


def stacked(ax: Axes, rows: Mapping[str, Mapping[str, float]],
            colors: Mapping[str, str], form: str = "", least: float = 0.0,
            *, height: float = 0.62, edge: float = 0.8, size: float = 10.5):
    """Bars of parts, one a row; rows: {name: {part: length}}.

    form: of the number in every part that is at least so long.
    """
    for y, parts in enumerate(rows.values()):
        left = 0.0
        for part, width in parts.items():
            color = COLORS.get(colors[part], colors[part])
            ax.barh(y, width, left=left, height=height, color=color,
                    edgecolor="white", linewidth=edge,
                    label=None if y else part)
            if form and width >= least:
                write(ax, left + width / 2, y, form.format(width), on(color),
                      size)
            left += width
    name_rows(ax, rows)


# ---- Tables of squares ----

def heatmap(ax: Axes, values, color: str = "attention", *, vmin=None,
            vmax=None, rows=None, columns=None, numbers: str | None = None):
    """A matrix as coloured squares. rows/columns: labels of the axes.

    color: a name of COLORS, or "diverging" (then centred on zero unless
    limits are given). numbers: a format such as ".2f" writes each value.
    """
    values = [[float(v) for v in row] for row in values]
    peak = max(abs(v) for row in values for v in row) or 1.0
    if color == "diverging":
        vmin, vmax = (-peak if vmin is None else vmin,
                      peak if vmax is None else vmax)
    image = ax.imshow(
        values, vmin=vmin, vmax=vmax, aspect="equal", interpolation="nearest",
        cmap=diverging() if color == "diverging" else scale_of(color))
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.set_xticks(range(len(values[0])) if columns else [], columns or [],
                  **SLANTED)
    ax.set_yticks(range(len(values)) if rows else [], rows or [])
    if numbers:
        _numbers(ax, values, image, numbers)
    return image


def _numbers(ax: Axes, values: list[list[float]], image, form: str):
    """Every value in its square, white where the square is dark."""
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            write(ax, j, i, format(value, form),
                  on(image.cmap(image.norm(value))[:3]), 9.5)


def matrix(ax: Axes, values, share: float = 0.99):
    """A large signed matrix, stretched over the axes, its scale centred on
    zero; a few huge numbers, all but this share, are cut off."""
    values = [[float(v) for v in row] for row in values]
    sizes = sorted(abs(v) for row in values for v in row)
    peak = sizes[int(share * len(sizes))]
    ax.imshow(values, cmap=diverging(), vmin=-peak, vmax=peak, aspect="auto",
              interpolation="nearest")
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)


def scale_bar(fig: Figure, image, ticks: Mapping[float, str] | None = None,
              name: str = "", **kwargs):
    """The scale of a heat map, with ticks or with a name."""
    bar = fig.colorbar(image, **kwargs)
    if ticks:
        bar.set_ticks(list(ticks), labels=list(ticks.values()))
    if name:
        bar.set_label(name, fontsize=10)
        bar.ax.tick_params(labelsize=9)
    bar.outline.set_visible(False)


def moment(ax, x: float, gap: float, text: str):
    """A dashed line at one update, its name to the left."""
    dashed(ax, x=x)
    write(ax, x - gap, 0.93, text, "muted", ha="right",
          transform=ax.get_xaxis_transform())
