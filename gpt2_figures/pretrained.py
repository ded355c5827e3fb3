"""The pictures of chapter 11: what a checkpoint's files hold."""
import struct

from matplotlib.patches import Polygon

from gpt2_figures.shapes import (arrow, blank, board, box, name_rows, rect,
                                 swatch, write)
from gpt2_figures.style import COLORS, Picture, canvas, picture, tint

# Part of a tensor's name -> (colour, what the legend calls it).
KINDS = {"attn.": ("attention", "attention"), "mlp.": ("feed_forward",
         "feed-forward"), "ln_": ("norm", "LayerNorm"),
         "wpe": ("position", "positions"), "wte": ("embedding", "tokens")}


def _kind(name: str) -> tuple[str, str]:
    return next(kind for part, kind in KINDS.items() if part in name)


def anatomy(length: int, header: dict, total: int) -> Picture:
    """A safetensors file as one strip, its header and its tensors.

    length: bytes of the header; header: {name: entry}; total: file size.
    """
    fig, ax = board(37.5)
    for x, width, text, color in ((1, 8, "8 bytes", "muted"),
                                  (9.4, 13, "header", "tokenizer"),
                                  (22.8, 32.2, "numbers", "residual")):
        box(ax, x, 27.5, width, 5.2, text, color, size=12, radius=0.5)
    for x, text, side in ((1, "0", "left"), (9.4, "8", "center"),
                          (22.8, f"{8 + length:,}", "center"),
                          (55, f"{total:,}", "right")):
        write(ax, x, 34.6, text, "muted", 10, ha=side)
    _header(ax, length, header)
    _to_scale(ax, header)
    return picture(fig, "A safetensors file as a strip: 8 bytes with the"
                        " length of the header, the header in JSON, the"
                        " numbers. Below, the numbers to scale: the tensors"
                        " of four blocks one behind the other, then the"
                        " position table and the token table, which takes"
                        " almost half of this small model.")


def _header(ax, length, header):
    """What the first two parts say; of the header its first entry."""
    name, entry = next(iter(header.items()))
    start, end = entry["data_offsets"]
    arrow(ax, (5, 27.2), (5, 24.8))
    arrow(ax, (15.9, 27.2), (15.9, 21.8))
    for x, y, text, color in (
            (1, 23.6, f"{length:,} as a number", "muted"),
            (1, 20.4, f"“{name}”:", "ink"),
            (4, 17.4, f"type {entry['dtype']}, shape {entry['shape']}, bytes"
             f" {start:,} to {end:,}", "ink"),
            (1, 14.4, f"… and {len(header) - 1} more", "muted")):
        write(ax, x, y, text, color, ha="left")


def _to_scale(ax, header):
    """The numbers of the file below it, each tensor as wide as it is long."""
    size = max(e["data_offsets"][1] for e in header.values())
    ax.add_patch(Polygon([(22.8, 27.4), (55, 27.4), (55, 9.9), (1, 9.9)],
                         facecolor=tint("residual", 0.93), linewidth=0,
                         zorder=0))
    for name, entry in header.items():
        start, end = (1 + 54 * o / size for o in entry["data_offsets"])
        rect(ax, start, 5.2, end - start, 4.6, _kind(name)[0],
             linewidth=0.4, edgecolor="white")
    shown = [kind for kind in KINDS.values() if kind[0] != "norm"]
    for x, (color, text) in zip((1, 14.5, 32, 45.5), shown):
        swatch(ax, x, 1.2, 1.8, 1.8, color, text, gap=0.6, ink="ink")


def mapping() -> Picture:
    """File, memory and model, copied and mapped."""
    fig, axes = canvas(height=2.9, columns=2)
    for ax, title, word in zip(axes, ("copied", "mapped"), ("copy", "view")):
        blank(ax, 28, 27)
        ax.set_title(title, fontsize=12)
        for x, text in ((5, "file"), (22, "model")):
            write(ax, x, 25.4, text, "ink", 11)
        for i, color in enumerate(("embedding", "attention", "feed_forward",
                                   "norm")):
            y, copied = 18.4 - 5.6 * i, word == "copy"
            box(ax, 1, y, 8, 4.6, "", color, filled=True, radius=0.5)
            box(ax, 18, y, 8, 4.6, word, color, filled=copied, size=10.5,
                radius=0.5)
            ends = (9.6, y + 2.3), (17.6, y + 2.3)
            arrow(ax, *(ends if copied else ends[::-1]),
                  color if copied else "muted")
    return picture(fig, "Left: every tensor of the file is copied into the"
                        " model, so the numbers exist twice while they are"
                        " read. Right: the tensors of the model are views"
                        " that point into the file; nothing is copied.")


def transposed(C: int, inner: int) -> Picture:
    """The four matrices of a block and their transposes, in proportion."""
    fig, axes = canvas(height=3.0, columns=4)
    shapes = {"attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C),
              "mlp.c_fc": (C, inner), "mlp.c_proj": (inner, C)}
    for ax, (name, (rows, columns)) in zip(axes, shapes.items()):
        blank(ax, 4.4, 9.8)
        fits = rows == columns
        color = "wrong" if fits else "muted"
        _outline(ax, 6.95, rows, columns, C, "attention" if "attn" in name
                 else "feed_forward", "ink")
        _outline(ax, 2.6, columns, rows, C, color, "muted")
        write(ax, 2.2, 9.4, name, "ink", fontweight="semibold")
        write(ax, 2.2, 0.05, "fits" if fits else "does not fit", color,
              va="bottom", fontweight="semibold" if fits else "normal")
    return picture(fig, "The four matrices of a block, and below each its"
                        " transpose. c_attn, c_fc and mlp.c_proj are oblong,"
                        " and their transposes do not fit. attn.c_proj is"
                        " square, and its transpose fits.")


def _outline(ax, middle, rows, columns, C, color, ink):
    """A matrix in proportion, its size beside or below it."""
    high, wide = 0.8 * rows / C, 0.8 * columns / C
    rect(ax, 2.2 - wide / 2, middle - high / 2, wide, high,
         tint(color, 0.75), linewidth=1.2, edgecolor=COLORS[color])
    if high > wide:
        write(ax, 2.75, middle, f"{rows}\n× {columns}", ink, 9.5, ha="left")
    else:
        write(ax, 2.2, middle - high / 2 - 0.12, f"{rows} × {columns}", ink,
              9.5, va="top")


def bits(weight: float) -> Picture:
    """One number in float32, bfloat16 and float16, bit by bit."""
    fig, ax = canvas(height=2.3)
    blank(ax, 40.5, 16.6)
    for y, (name, digits, exponent) in zip((10.1, 5.9, 1.7),
                                           _formats(weight)):
        write(ax, 0, y + 1.3, name, "ink", 11, ha="left")
        for j, digit in enumerate(digits):
            rect(ax, 7.8 + j, y, 0.94, 2.6, tint(
                "wrong" if j == 0 else "position" if j <= exponent
                else "embedding", 0.65))
            write(ax, 8.27 + j, y + 1.25, digit, "ink", 9)
    for x, color, text in ((7.8, "wrong", "sign"),
                           (13.5, "position", "exponent: the range"),
                           (26.6, "embedding", "fraction: the digits")):
        swatch(ax, x, 14.6, 1, 1.4, tint(color, 0.65), text, size=10,
               ink="ink")
    return picture(fig, "The bits of one weight. float32: 1 sign bit, 8"
                        " exponent bits, 23 fraction bits. bfloat16: 1, 8 and"
                        " 7, the upper half of float32, rounded. float16: 1,"
                        " 5 and 10.")


def _formats(weight):
    """Name, bits and size of the exponent in three number formats."""
    single, = struct.unpack(">I", struct.pack(">f", weight))
    # bfloat16: the upper half of float32, rounded to the nearest even
    brain = (single + 0x7FFF + ((single >> 16) & 1)) >> 16
    half, = struct.unpack(">H", struct.pack(">e", weight))
    return (("float32", f"{single:032b}", 8), ("bfloat16", f"{brain:016b}", 8),
            ("float16", f"{half:016b}", 5))


def sizes(gigabytes: dict[str, tuple[float, float]]) -> Picture:
    """Bars of the file sizes, {name: (in float32, in 16 bits)}, in GB."""
    fig, ax = canvas(height=2.9)
    for i, pair in enumerate(gigabytes.values()):
        for value, y, shade in zip(pair, (i - 0.19, i + 0.19), (0.0, 0.55)):
            ax.barh(y, value, height=0.34, color=tint("embedding", shade))
            write(ax, value + 0.07, y, f"{value:.2f}", "ink", 10, ha="left")
    name_rows(ax, gigabytes, spine=True)
    ax.set(xlabel="GB of weights", xlim=(0, 7))
    for x, shade, text in ((4.15, 0.0, "float32"), (5.45, 0.55, "16 bits")):
        swatch(ax, x, -0.3, 0.16, 0.3, tint("embedding", shade), text,
               gap=0.08, ink="ink")
    return picture(
        fig, "Size of the weights in GB, in float32 and in 16 bits: "
        + ", ".join(f"{name} {a:.2f} and {b:.2f}" for name, (a, b)
                    in gigabytes.items()) + ".")
