"""*You are here*: the one map of the whole model, with one part lit."""
import io
import re

import matplotlib
from matplotlib.axes import Axes

from gpt2_figures.shapes import arrow, blank, box, plus
from gpt2_figures.style import (COLORS, LINE, RC, Picture, canvas, picture,
                                tint)

# What each chapter lights, and what the picture then says.
PARTS = {
    "tour": "all of it",
    "config": "the numbers that fix the whole model",
    "checks": "the comparison of every part with Hugging Face",
    "counting": "the parameters, operations and bytes of any size",
    "tokenizer": "the tokenizer, between text and token ids",
    "embeddings": "the token and position embeddings, below the blocks",
    "conv1d": "Conv1D, the four weight matrices of every block",
    "attention": "attention, the first half of every block",
    "kv_cache": "the key-value cache beside attention",
    "feed_forward": "the feed-forward layer, the second half of a block",
    "block": "the whole block: norms, attention, feed-forward, residuals",
    "model": "the whole model, from token ids to logits",
    "pretrained": "checkpoints, the files that hold all weights",
    "generation": "the loop that feeds the next token back",
    "data": "the corpus, cut into batches of token windows",
    "training": "the loop that changes the weights",
    "resume": "checkpoints of a run, so that it survives its process",
    "scaling": "the same loop, faster and in less memory",
    "distributed": "the same loop, shared by many processes",
    "full_size_run": "the whole model at its real size, trained and timed",
    "zero_shot": "tasks written as text, to measure the whole model",
    "inside": "what can be read, taken out and exchanged inside the model",
}
# Above the model: what is done with all of it.
A_ROW = 5
AROUND = {"pretrained": "Checkpoints", "generation": "Generation",
          "data": "Data", "training": "Training", "resume": "Resuming",
          "scaling": "Scaling", "distributed": "Many devices",
          "full_size_run": "Full-size run", "zero_shot": "Zero-shot",
          "inside": "Inside"}
# Three chapters show more than one part.
TOGETHER = {"block": {"block", "attention", "feed_forward", "conv1d"},
            "model": {"model", "embeddings", "block"},
            "tour": set(PARTS)}


def you_are_here(part: str) -> Picture:
    """The map of GPT-2 with `part` (a module of `gpt2`) in full colour."""
    if part not in PARTS:
        raise ValueError(f"no part {part!r} on the map; it has"
                         f" {', '.join(PARTS)}.")
    fig, _ = _draw(TOGETHER.get(part, {part}), {})
    return picture(fig, "Map of GPT-2: text, tokenizer, embeddings, a stack"
                        " of blocks, final LayerNorm, head, next token."
                        f" Lit: {PARTS[part]}.")


def linked_map(urls: dict[str, str]) -> str:
    """The map as inline SVG, every part lit and a link to urls[part]."""
    fig, names = _draw(set(PARTS), urls)
    buffer = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.hashsalt": "map"}):
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    svg = re.sub(r"<(metadata|style).*?</\1>", "", buffer.getvalue(),
                 flags=re.DOTALL)
    svg = re.sub(r'(width|height)="[\d.]+pt" ', "", svg[svg.index("<svg"):])
    names = iter(names)                  # a link needs a name to be read aloud
    return re.sub(r'<a xlink:href="([^"]*)" target="_blank">', lambda link:
                  f'<a href="{link[1]}" aria-label="{next(names)}">', svg)


def _draw(lit: set[str], urls: dict[str, str]):
    rows = -(-len(AROUND) // A_ROW)
    height = 44.5 + 4.4 * rows + 0.6
    fig, ax = canvas(height=height / 10)
    board = _Map(blank(ax, 56, height), lit, urls)
    _stem(board)
    _block(board)
    _around(board, 45.6, rows)
    board.part("config", 21.5, 40.4, 10.4, 3.4, "GPT2Config", "ink")
    board.part("checks", 33.2, 40.4, 13.4, 3.4, "= Hugging Face?", "right")
    board.part("counting", 47.9, 40.4, 7.1, 3.4, "Counts", "ink")
    return fig, board.names


class _Map:
    """A drawing board that knows which parts are lit and where they link."""

    def __init__(self, ax: Axes, lit: set[str], urls: dict[str, str]):
        self.ax, self.lit, self.urls, self.names = ax, lit, urls, []

    def part(self, name, x, y, w, h, text, color, size=10.5):
        """One labelled part: full colour when lit, a quiet outline if not."""
        lit = name in self.lit
        patch = box(self.ax, x, y, w, h, "", color if lit else "line",
                    filled=lit, radius=0.8, zorder=3)
        if not lit:
            patch.set_facecolor("white")
        self.ax.text(
            x + w / 2, y + h / 2, text, ha="center", va="center", zorder=5,
            fontsize=size, fontweight="semibold" if lit else "normal",
            color="white" if lit else COLORS["muted"], linespacing=1.15)
        if name in self.urls:            # an invisible sheet to click on
            sheet = box(self.ax, x, y, w, h, "", radius=0.8, zorder=8)
            sheet.set(alpha=0, url=self.urls[name])
            self.names.append(text.replace("\n", ": "))


def _around(board, y, rows):
    """Above: the chapters that use the whole model, the first row lowest."""
    names, gap = list(AROUND), 1.3
    for row in range(rows):
        inside = names[A_ROW * row:A_ROW * (row + 1)]
        w = (54 - gap * (len(inside) - 1)) / len(inside)
        for i, name in enumerate(inside):
            board.part(name, 1 + i * (w + gap), y + 4.4 * row, w, 3.4,
                       AROUND[name], "ink")


def _stem(board):
    """Left: from text up to the next token."""
    ax, x, w = board.ax, 1, 16
    mid = x + w / 2
    for y, words in ((1.1, "“A robot must obey …”"), (40.3, "next token")):
        ax.text(mid, y, words, ha="center", va="center", fontsize=10.5,
                style="italic", color=COLORS["muted"])
    for low, high in ((2.4, 4), (8, 9.8), (14.8, 16.6), (27.4, 29),
                      (32.4, 34), (37.4, 39)):
        arrow(ax, (mid, low), (mid, high), "residual")
    board.part("tokenizer", x, 4, w, 4, "Tokenizer", "tokenizer")
    board.part("embeddings", x, 9.8, w, 5, "Embeddings\nwte + wpe",
               "embedding")
    for shift in (1.2, 0.6):
        box(ax, x + shift, 16.6 + shift, w, 9.6, "", "line", radius=0.8,
            zorder=2).set_facecolor("white")
    board.part("block", x, 16.6, w, 9.6, "Block × 12", "residual", 11.5)
    board.part("model", x, 29, w, 3.4, "LayerNorm  ln_f", "norm")
    board.part("model", x, 34, w, 3.4, "Head  (wteᵀ)", "head")


def _block(board):
    """Right: one block, opened."""
    ax, lit = board.ax, "block" in board.lit and "attention" in board.lit
    x, y, w, h = 23, 4, 32, 33.4
    panel = box(ax, x, y, w, h, "", "line", radius=1.2, zorder=1)
    panel.set(facecolor=tint("residual", 0.93 if lit else 0.97),
              edgecolor=COLORS["residual" if lit else "line"],
              linewidth=LINE if lit else LINE * 0.7)
    for start, end in ((16.9, y + 0.8), (26, y + h - 0.8)):
        ax.plot([17.2, x], [start, end], color=COLORS["line"],
                linewidth=LINE * 0.6, linestyle=(0, (3, 2)), zorder=0)
    stream = x + 3.6
    arrow(ax, (stream, y - 1.6), (stream, y + h + 1.8), "residual",
          width=LINE * 1.5, zorder=2)
    _half(board, stream, y + 1.6, "attention", "Attention", "ln_1",
          ("c_attn", "c_proj"), lit)
    _half(board, stream, y + 17.6, "feed_forward", "Feed-forward", "ln_2",
          ("c_fc", "c_proj"), lit)
    board.part("kv_cache", x + 22.6, y + 1.6, 7.6, 3, "KV cache", "key", 9.5)


def _half(board, stream, base, name, label, norm, convs, lit):
    """A LayerNorm, a sublayer, its two Conv1D, and the way back."""
    ax, left, width = board.ax, stream + 5, 12.8
    mid, top, color = left + width / 2, base + 13.2, COLORS["residual"]
    board.part("block" if lit else "", left, base, width, 3, norm, "norm", 10)
    board.part(name, left, base + 5, width, 6.4, label, name)
    for i, conv in enumerate(convs):
        board.part("conv1d", left + width + 1.2, base + 5 + 3.4 * i, 7.6, 3,
                   conv, "head", 9.5)
    ax.plot([stream, mid, mid], [base - 0.8, base - 0.8, base], color=color,
            linewidth=LINE * 0.8, zorder=1)
    arrow(ax, (mid, base + 3), (mid, base + 5), "residual", width=LINE * 0.8)
    ax.plot([mid, mid], [base + 11.4, top], color=color,
            linewidth=LINE * 0.8, zorder=1)
    arrow(ax, (mid, top), (stream + 1.1, top), "residual", width=LINE * 0.8)
    plus(ax, stream, top, "residual", face=color if lit else "white",
         sign="white" if lit else color)
