"""One palette, one font, one line weight for every picture of the book.

A picture is a PNG on a white card. In dark mode the page's style sheet
inverts the card and turns the hue back, so that colours keep their meaning.
"""
import io
import logging
from dataclasses import dataclass
from typing import ClassVar

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
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
            path = (f"{source_sans.font_directory}/SourceSansPro-"
                    f"{weight or 'Regular'}.ttf")
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
    """A finished picture: a cell that ends in one shows it, and its alt."""
    png: bytes
    alt: str
    width: int                   # CSS pixels on a wide screen

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {"image/png": self.png, "text/plain": f"Picture: {self.alt}"}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


@dataclass
class Page:
    """A small page within the page; `alt` says in words what it shows."""
    html: str
    alt: str
    kind: ClassVar[str] = "Page"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html,
                "text/plain": f"{self.kind}: {self.alt}"}


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


def on(color) -> str:
    """The colour of words on a colour: white, or ink where it is pale."""
    r, g, b = to_rgb(COLORS.get(color, color))
    return COLORS["ink"] if 0.3 * r + 0.59 * g + 0.11 * b > 0.55 else "white"


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


VISIBLE = str.maketrans({" ": "·", "\n": "↵"})


def visible(token: str, most: int = 12) -> str:
    """A token as a label: a dot for a space, an arrow for a line's end.

    Spaces behind a line's end are counted: "\\n        " is shown as ↵8.
    Longer labels than `most` characters end in an ellipsis.
    """
    start, end, rest = token.rpartition("\n")
    blanks = len(rest) - len(rest.lstrip(" "))
    if end:
        name = start + end + (f"{blanks}{rest[blanks:]}" if blanks else rest)
    else:
        name = token
    name = name.translate(VISIBLE)
    return name if len(name) <= most else name[:most - 1] + "…"


def short(token: str) -> str:
    """A token without the spaces around it; an arrow for a line's end."""
    return token.strip() or visible(token)
