"""The pictures of chapter 10: parameters, operations and bytes."""
from matplotlib.patches import Patch

from gpt2_figures.shapes import dashed, label, legend, stacked, write
from gpt2_figures.style import COLORS, LINE, Picture, canvas, picture, tint

# What a part of the model is called, and its colour, in stacked bars.
PART_COLORS = {"wte": "embedding", "wpe": "position",
               "attention": "attention", "feed_forward": "feed_forward",
               "layer_norm": "norm", "lm_head": "head"}
PURPOSE_COLORS = {"weights": "head", "gradients": "query",
                  "optimizer": "residual", "activations": "feed_forward"}


def parameter_shares(counts: dict[str, dict[str, int]]) -> Picture:
    """Where the parameters are: one bar a size, parts in per cent."""
    fig, ax = canvas(height=0.95 + 0.42 * len(counts))
    shares = {name: {part: value / sum(parts.values())
                     for part, value in parts.items()}
              for name, parts in counts.items()}
    stacked(ax, shares, PART_COLORS, "{:.0%}", 0.045, height=0.66)
    for y, parts in enumerate(counts.values()):
        total = sum(parts.values()) / 1e6
        write(ax, 1.015, y, f"{total:,.0f} M" if total >= 10
              else f"{total:.1f} M", ha="left")
    ax.set(xlim=(0, 1.14), xticks=[])
    ax.spines["bottom"].set_visible(False)
    _squares(ax, PART_COLORS, {
        "wte": "tokens (wte)", "wpe": "positions (wpe)",
        "attention": "attention", "feed_forward": "feed-forward"})
    listed = "; ".join(
        f"{name}: " + ", ".join(f"{part} {share:.0%}" for part, share
                                in parts.items() if part != "lm_head")
        for name, parts in shares.items())
    return picture(fig, f"Share of the parameters by part. {listed}.")


def flops_by_length(lengths: list[int], parts: dict[str, list[float]],
                    trained: int, equal: int) -> Picture:
    """Stacked areas: MFLOPs a token, by part, against the length T."""
    fig, ax = canvas(height=3.1)
    colors = ["feed_forward", "embedding", "attention"]
    ax.stackplot(lengths, *parts.values(), linewidth=0,
                 colors=[tint(c, 0.08) for c in colors])
    _name_areas(ax, parts, lengths[-1])
    end, top = lengths[-1], sum(values[-1] for values in parts.values())
    for x, text in ((trained, f"GPT-2 reads\n{trained:,}"),
                    (equal, f"attention = blocks'\nweights at {equal:,}")):
        _dashes(ax, x, zorder=3)
        write(ax, x + end * 0.012, top * 1.05, text, ha="left", va="top",
              linespacing=1.15)
    ax.set(xlim=(0, end), ylim=(0, top * 1.08),
           xlabel="sequence length T, in tokens",
           ylabel="MFLOPs a token, forward")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    return picture(fig, "Stacked areas of the forward FLOPs of a token of"
                        " GPT-2 small against the sequence length. Block"
                        " weights and head are constant; attention grows with"
                        f" T, is small at {trained:,} tokens and equals the"
                        f" block weights at {equal:,}.")


def _name_areas(ax, parts, end):
    """The name of each area in it: of a growing one at its wide end."""
    base = 0.0
    for name, values in parts.items():
        if values[-1] > values[0]:
            x, y, side = end * 0.985, values[-1] * 0.45, "right"
        else:
            x, y, side = end * 0.14, values[0] / 2, "left"
        write(ax, x, base + y, name, "white", 11, ha=side,
              fontweight="semibold")
        base += values[0]


def _dashes(ax, x, zorder=0.5):
    """A dashed vertical line that marks a value."""
    dashed(ax, x=x, color="ink", width=LINE * 0.7, dashes=(3, 3),
           zorder=zorder)


def memory_by_size(sizes: dict[str, dict[str, int]], cards: list[int],
                   batch: str) -> Picture:
    """GiB for training, by purpose and size; dashed: a GPU's memory."""
    gib = 2 ** 30
    fig, ax = canvas(height=1.35 + 0.45 * len(sizes))
    stacked(ax, {name: {part: value / gib for part, value in parts.items()}
                 for name, parts in sizes.items()},
            PURPOSE_COLORS, "{:.0f}", 3.5, height=0.66)
    for y, parts in enumerate(sizes.values()):
        total = sum(parts.values()) / gib
        label(ax, total + 0.8, y, f"{total:.0f} GiB", None,
              fontweight="normal", zorder=3)
    for card in cards:
        _dashes(ax, card)
        write(ax, card - 0.8, len(sizes) - 0.62, f"{card} GiB card", "muted",
              ha="right", va="top")
    ax.set(xlim=(0, 84), ylim=(len(sizes) - 0.15, -0.5),
           xlabel=f"GiB, float32, {batch}")
    _squares(ax, PURPOSE_COLORS, {part: part for part in PURPOSE_COLORS})
    listed = "; ".join(
        f"{name}: " + ", ".join(f"{k} {v / gib:.1f}"
                                for k, v in parts.items())
        for name, parts in sizes.items())
    return picture(fig, f"Memory for training in GiB, {batch}. {listed}.")


def _squares(ax, colors, names):
    """A legend of coloured squares above the axes."""
    legend(ax, handles=[Patch(color=COLORS[colors[part]], label=name)
                        for part, name in names.items()],
           loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=len(names),
           handlelength=0.9, handleheight=0.9, columnspacing=1.1,
           handletextpad=0.45, borderaxespad=0.3)
