"""One palette, one font, one line weight for every picture of the book.

A picture is a PNG on a white card. In dark mode the page's style sheet
inverts the card and turns the hue back, so that colours keep their meaning.
"""
import io
import logging
from dataclasses import dataclass

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

# Each part of the model keeps its colour through the whole book. The hues
# stay apart for the common forms of colour blindness; labels repeat them.
COLORS = {
    "ink": "#23272e",            # text and outlines
    "muted": "#6b7280",          # secondary text, axes
    "line": "#c9ced6",           # rules and grids
    "paper": "#ffffff",
    "query": "#2f6db5",
    "key": "#d9851b",
    "value": "#2a9372",
    "attention": "#7a56a8",
    "feed_forward": "#c4512f",
    "residual": "#5d6b7e",
    "embedding": "#1f93ad",
    "position": "#a88a12",
    "norm": "#8a9a2b",
    "head": "#3f4fa3",
    "tokenizer": "#a0527a",
    "right": "#2a9372",          # what the book computes
    "wrong": "#c22f52",          # what a mistake computes
}
LINE = 1.4                       # points, for every line that carries data
WIDTH = 5.6                      # inches; at 390 px the text is still read
DPI = 200


def _use_font() -> None:
    """Source Sans where it is installed, matplotlib's own font elsewhere."""
    families = ["DejaVu Sans"]
    try:
        import font_source_sans_pro as source_sans
    except ImportError:
        pass
    else:
        for weight in ("", "Semibold", "Bold", "It"):
            path = f"{source_sans.font_directory}/SourceSansPro-{weight or 'Regular'}.ttf"
            font_manager.fontManager.addfont(path)
        families.insert(0, "Source Sans Pro")
    matplotlib.rcParams["font.family"] = families
    for name in ("axes.titlelocation", "axes.titleweight", "axes.titlesize"):
        matplotlib.rcParams[name] = RC[name]    # read when a title is set
    # The fallback font has no semibold; it would say so on stderr.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


RC = {
    "font.size": 11.5,
    "axes.titlesize": 12.5,
    "axes.titleweight": "semibold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelsize": 11.5,
    "axes.labelcolor": COLORS["ink"],
    "axes.edgecolor": COLORS["muted"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.labelcolor": COLORS["ink"],
    "ytick.labelcolor": COLORS["ink"],
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 10.5,
    "text.color": COLORS["ink"],
    "lines.linewidth": LINE + 0.4,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "figure.facecolor": COLORS["paper"],
    "axes.facecolor": COLORS["paper"],
    "mathtext.fontset": "dejavusans",
}
_use_font()


@dataclass(frozen=True)
class Picture:
    """A finished picture: a cell that ends in one shows it, with its alt text."""
    png: bytes
    alt: str
    width: int                   # CSS pixels on a wide screen

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"image/png": self.png, "text/plain": f"Picture: {self.alt}"}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def canvas(width: float = WIDTH, height: float = 3.2, rows: int = 1,
           columns: int = 1, **kwargs) -> tuple[Figure, Axes]:
    """A figure and its axes (an array of axes when there are several).

    width and height in inches; kwargs go to `Figure.subplots`. No pyplot:
    nothing is shown or kept behind the caller's back.
    """
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(fig)
        return fig, fig.subplots(rows, columns, **kwargs)


def blank(ax: Axes, width: float, height: float) -> Axes:
    """Turn axes into a drawing board of width x height units, no frame."""
    ax.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    ax.axis("off")
    return ax


def picture(fig: Figure, alt: str) -> Picture:
    """Render the figure. `alt` says in words what the picture shows."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(RC):
        fig.savefig(buffer, format="png", dpi=DPI)
    # 255 colours are enough for flat drawings, and a third of the bytes.
    image = Image.open(buffer).convert("RGB").quantize(255)
    buffer = io.BytesIO()
    image.save(buffer, "png", optimize=True)
    return Picture(buffer.getvalue(), alt, round(fig.get_figwidth() * 110))


def tint(color: str, amount: float = 0.85) -> str:
    """The colour mixed with white: 0 is the colour itself, 1 is white."""
    base = COLORS.get(color, color)
    return to_hex([c + (1 - c) * amount for c in to_rgb(base)])


def scale_of(color: str) -> LinearSegmentedColormap:
    """A sequential colour map from white to a deep shade of the colour."""
    base = COLORS.get(color, color)
    deep = [c * 0.55 for c in to_rgb(base)]
    return LinearSegmentedColormap.from_list(
        f"white-{color}", ["#ffffff", tint(base, 0.45), base, deep])


def diverging() -> LinearSegmentedColormap:
    """Orange below zero, white at zero, blue above."""
    low, high = COLORS["key"], COLORS["query"]
    return LinearSegmentedColormap.from_list(
        "diverging", [[c * 0.7 for c in to_rgb(low)], low, "#ffffff", high,
                      [c * 0.6 for c in to_rgb(high)]])


def visible(token: str, most: int = 12) -> str:
    """A token as a label: a dot for a space, an arrow for a line's end.

    Spaces behind a line's end are counted: "\\n        " is shown as ↵8.
    Longer labels than `most` characters end in an ellipsis.
    """
    start, end, rest = token.rpartition("\n")
    blanks = len(rest) - len(rest.lstrip(" "))
    if end:
        name = start.replace("\n", "↵") + "↵" + (
            f"{blanks}{rest[blanks:]}" if blanks else rest)
    else:
        name = token
    name = name.replace(" ", "·")
    return name if len(name) <= most else name[:most - 1] + "…"


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
        ax.text(x + w / 2, y + h / 2, text, ha="center", va="center",
                fontsize=size, fontweight=weight, linespacing=1.15,
                color="white" if filled else COLORS["ink"],
                zorder=kwargs.get("zorder", 1) + 2)
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


def heatmap(ax: Axes, values, color: str = "attention", *, vmin=None,
            vmax=None, rows=None, columns=None, numbers: str | None = None,
            size: float = 9.5):
    """A matrix as coloured squares. rows/columns: labels of the axes.

    color: a name of COLORS, or "diverging" (then centred on zero unless
    limits are given). numbers: a format such as ".2f" writes each value.
    """
    values = [[float(v) for v in row] for row in values]
    peak = max(abs(v) for row in values for v in row) or 1.0
    if color == "diverging":
        vmin, vmax = (-peak if vmin is None else vmin,
                      peak if vmax is None else vmax)
    cmap = diverging() if color == "diverging" else scale_of(color)
    image = ax.imshow(values, cmap=cmap, vmin=vmin, vmax=vmax,
                      aspect="equal", interpolation="nearest")
    ax.tick_params(length=0)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.set_xticks(range(len(values[0])) if columns else [],
                  columns or [], rotation=45, ha="right",
                  rotation_mode="anchor")
    ax.set_yticks(range(len(values)) if rows else [], rows or [])
    if numbers:
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                r, g, b, _ = image.cmap(image.norm(value))
                light = 0.3 * r + 0.59 * g + 0.11 * b > 0.55
                ax.text(j, i, format(value, numbers), ha="center",
                        va="center", fontsize=size,
                        color=COLORS["ink"] if light else "white")
    return image
