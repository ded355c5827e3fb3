"""The pictures of chapter 11: what a checkpoint's files hold."""
import struct

from matplotlib.patches import Polygon, Rectangle

from gpt2_figures.style import (COLORS, Picture, arrow, blank, box, canvas,
                                picture, tint)

# Part of a tensor's name -> (colour, what the legend calls it).
KINDS = {"attn.": ("attention", "attention"), "mlp.": ("feed_forward",
         "feed-forward"), "ln_": ("norm", "LayerNorm"),
         "wpe": ("position", "positions"), "wte": ("embedding", "tokens")}


def _kind(name: str) -> tuple[str, str]:
    return next(kind for part, kind in KINDS.items() if part in name)


def _note(ax, x, y, text, size=10, color="ink", **kwargs):
    ax.text(x, y, text, fontsize=size, color=COLORS.get(color, color),
            ha=kwargs.pop("ha", "center"), va=kwargs.pop("va", "center"),
            **kwargs)


def anatomy(length: int, header: dict, total: int) -> Picture:
    """A safetensors file as one strip, its header and its tensors.

    length: bytes of the header; header: {name: entry}; total: file size.
    """
    fig, ax = canvas(height=3.75)
    blank(ax, 56, 37.5)
    # the file, not to scale: 8 bytes, header, data
    parts = ((1, 8, "8 bytes", "muted"), (9.4, 13, "header", "tokenizer"),
             (22.8, 32.2, "numbers", "residual"))
    for x, width, text, color in parts:
        box(ax, x, 27.5, width, 5.2, text, color, size=12, radius=0.5)
    for x, text in ((1, "0"), (9.4, "8"), (22.8, f"{8 + length:,}"),
                    (55, f"{total:,}")):
        _note(ax, x, 34.6, text, 10, "muted",
              ha="right" if x == 55 else "left" if x == 1 else "center")
    name, entry = next(iter(header.items()))
    start, end = entry["data_offsets"]
    for x, y, text in ((1, 23.6, f"{length:,} as a number"),
                       (1, 20.4, f"“{name}”:"),
                       (4, 17.4, f"type {entry['dtype']}, shape"
                                 f" {entry['shape']}, bytes {start:,}"
                                 f" to {end:,}"),
                       (1, 14.4, f"… and {len(header) - 1} more")):
        _note(ax, x, y, text, 10.5, ha="left",
              color="muted" if y > 23 or y < 15 else "ink")
    arrow(ax, (5, 27.2), (5, 24.8))
    arrow(ax, (15.9, 27.2), (15.9, 21.8))
    # the data, to scale
    size = max(e["data_offsets"][1] for e in header.values())
    ax.add_patch(Polygon([(22.8, 27.4), (55, 27.4), (55, 9.9), (1, 9.9)],
                         facecolor=tint("residual", 0.93), linewidth=0,
                         zorder=0))
    for name, entry in header.items():
        start, end = (1 + 54 * o / size for o in entry["data_offsets"])
        ax.add_patch(Rectangle((start, 5.2), end - start, 4.6, linewidth=0.4,
                               facecolor=COLORS[_kind(name)[0]],
                               edgecolor="white"))
    shown = [kind for kind in KINDS.values() if kind[0] != "norm"]
    for x, (color, text) in zip((1, 14.5, 32, 45.5), shown):
        ax.add_patch(Rectangle((x, 1.2), 1.8, 1.8, linewidth=0,
                               facecolor=COLORS[color]))
        _note(ax, x + 2.4, 2.0, text, 10.5, ha="left")
    return picture(fig, "A safetensors file as a strip: 8 bytes with the"
                        " length of the header, the header in JSON, the"
                        " numbers. Below, the numbers to scale: the tensors"
                        " of four blocks one behind the other, then the"
                        " position table and the token table, which takes"
                        " almost half of this small model.")


def mapping() -> Picture:
    """File, memory and model, copied and mapped."""
    fig, axes = canvas(height=2.9, columns=2)
    for ax, mapped in zip(axes, (False, True)):
        blank(ax, 28, 27)
        ax.set_title("mapped" if mapped else "copied", loc="left",
                     fontsize=12, fontweight="semibold")
        for x, text in ((5, "file"), (22, "model")):
            _note(ax, x, 25.4, text, 11)
        for i, color in enumerate(("embedding", "attention", "feed_forward",
                                   "norm")):
            y = 18.4 - 5.6 * i
            box(ax, 1, y, 8, 4.6, "", color, filled=True, radius=0.5)
            if mapped:
                box(ax, 18, y, 8, 4.6, "view", color, size=10.5, radius=0.5)
                arrow(ax, (17.6, y + 2.3), (9.6, y + 2.3))
            else:
                box(ax, 18, y, 8, 4.6, "copy", color, filled=True, size=10.5,
                    radius=0.5)
                arrow(ax, (9.6, y + 2.3), (17.6, y + 2.3), color)
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
        color = "attention" if "attn" in name else "feed_forward"
        second = "wrong" if fits else "muted"
        for middle, h, w, c in ((6.95, rows, columns, color),
                                (2.6, columns, rows, second)):
            high, wide = 0.8 * h / C, 0.8 * w / C
            ax.add_patch(Rectangle(
                (2.2 - wide / 2, middle - high / 2), wide, high,
                facecolor=tint(c, 0.75), linewidth=1.2, edgecolor=COLORS[c]))
            beside = high > wide
            _note(ax, 2.75 if beside else 2.2,
                  middle if beside else middle - high / 2 - 0.12,
                  f"{h}\n× {w}" if beside else f"{h} × {w}", 9.5,
                  "ink" if c == color else "muted",
                  ha="left" if beside else "center",
                  va="center" if beside else "top")
        _note(ax, 2.2, 9.4, name, 10.5, fontweight="semibold")
        _note(ax, 2.2, 0.05, "fits" if fits else "does not fit", 10.5,
              second, fontweight="semibold" if fits else "normal",
              va="bottom")
    return picture(fig, "The four matrices of a block, and below each its"
                        " transpose. c_attn, c_fc and mlp.c_proj are"
                        " oblong, and their transposes do not fit."
                        " attn.c_proj is square, and its transpose fits.")


def bits(weight: float) -> Picture:
    """One number in float32, bfloat16 and float16, bit by bit."""
    import numpy as np
    single = struct.unpack(">I", struct.pack(">f", weight))[0]
    # bfloat16: the upper half of float32, rounded to the nearest even
    brain = (single + 0x7FFF + ((single >> 16) & 1)) >> 16
    half = int(np.float16(weight).view(np.uint16))
    rows = (("float32", f"{single:032b}", 8), ("bfloat16", f"{brain:016b}", 8),
            ("float16", f"{half:016b}", 5))
    fig, ax = canvas(height=2.3)
    blank(ax, 40.5, 16.6)
    for i, (name, digits, exponent) in enumerate(rows):
        y = 10.1 - 4.2 * i
        _note(ax, 0, y + 1.3, name, 11, ha="left")
        for j, digit in enumerate(digits):
            color = ("wrong" if j == 0 else "position" if j <= exponent
                     else "embedding")
            ax.add_patch(Rectangle((7.8 + j, y), 0.94, 2.6, linewidth=0,
                                   facecolor=tint(color, 0.65)))
            _note(ax, 8.27 + j, y + 1.25, digit, 9)
    for x, color, text in ((7.8, "wrong", "sign"),
                           (13.5, "position", "exponent: the range"),
                           (26.6, "embedding", "fraction: the digits")):
        ax.add_patch(Rectangle((x, 14.6), 1, 1.4, linewidth=0,
                               facecolor=tint(color, 0.65)))
        _note(ax, x + 1.5, 15.2, text, 10, ha="left")
    return picture(fig, "The bits of one weight. float32: 1 sign bit, 8"
                        " exponent bits, 23 fraction bits. bfloat16: 1, 8"
                        " and 7, the upper half of float32, rounded."
                        " float16: 1, 5 and 10.")


def sizes(gigabytes: dict[str, tuple[float, float]]) -> Picture:
    """Bars of the file sizes, {name: (in float32, in 16 bits)}, in GB."""
    fig, ax = canvas(height=2.9)
    for i, (name, (full, half)) in enumerate(gigabytes.items()):
        for value, y, shade in ((full, i - 0.19, 0.0), (half, i + 0.19, 0.55)):
            ax.barh(y, value, height=0.34, color=tint("embedding", shade))
            ax.text(value + 0.07, y, f"{value:.2f}", va="center",
                    fontsize=10, color=COLORS["ink"])
    ax.set_yticks(range(len(gigabytes)), list(gigabytes))
    ax.invert_yaxis()
    ax.set(xlabel="GB of weights", xlim=(0, 7))
    ax.tick_params(axis="y", length=0)
    for x, shade, text in ((4.15, 0.0, "float32"), (5.45, 0.55, "16 bits")):
        ax.add_patch(Rectangle((x, -0.3), 0.16, 0.3, linewidth=0,
                               facecolor=tint("embedding", shade)))
        ax.text(x + 0.24, -0.14, text, va="center", fontsize=10.5,
                color=COLORS["ink"])
    return picture(fig, "Size of the weights in GB, in float32 and in 16"
                        " bits: " + ", ".join(
                            f"{name} {a:.2f} and {b:.2f}"
                            for name, (a, b) in gigabytes.items()) + ".")
