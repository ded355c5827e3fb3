"""Pictures of chapter 19: the full-size run."""
from collections.abc import Mapping, Sequence

from gpt2_figures.scaling import SHORT
from gpt2_figures.shapes import (dashed, grid, label, legend, name_rows,
                                 smooth, write)
from gpt2_figures.style import COLORS, LINE, Picture, canvas, picture, tint

# A method of decoding keeps its colour and its mark.
METHODS = {"ours": ("query", "o"), "ours, compiled": ("right", "D"),
           "transformers, dynamic": ("key", "s"),
           "transformers, static": ("attention", "^")}


def loss(tokens: Sequence[float], minutes: Sequence[float],
         losses: Sequence[float], uniform: float, frequent: float,
         held_out: tuple[float, float, float]) -> Picture:
    """Training loss against tokens and against time; the last evaluation.

    uniform: ln V, what knowing nothing costs; frequent: the same of knowing
    frequencies; held_out: tokens, minutes and loss of the evaluation.
    """
    fig, axes = canvas(height=3.1, columns=2, sharey=True)
    million, (read, time, end) = [t / 1e6 for t in tokens], held_out
    _curve(axes[0], million, losses, (read / 1e6, end), "million tokens read")
    _curve(axes[1], minutes, losses, (time, end), "minutes in updates")
    height = uniform - min(*smooth(losses), end, frequent)
    axes[0].set(ylabel="nats per token",
                ylim=(uniform - 1.3 * height, uniform + 0.18 * height))
    label(axes[0], 0.12 * million[-1], uniform - 0.35 * height, "training",
          "right")
    _levels(axes, uniform, frequent, height)
    label(axes[1], time, end - 0.13 * height, "held out", "key", ha="right")
    return picture(fig, "Two curves of the training loss, against tokens read"
                        " and against minutes: both fall from the line of a"
                        " model that knows nothing towards that of one that"
                        " knows only frequencies, fast at first; a diamond"
                        " marks the loss on held-out text at the end.")


def _curve(ax, xs, losses, held_out, words):
    """The training loss and its mean; a diamond for the held-out loss."""
    ax.plot(xs, losses, color=tint("right", 0.6), linewidth=0.8)
    ax.plot(xs, smooth(losses), color=COLORS["right"])
    ax.plot(*held_out, "D", color=COLORS["key"], markersize=7, zorder=5)
    ax.set(xlabel=words, xlim=(0, 1.04 * held_out[0]))
    grid(ax)


def _levels(axes, uniform, frequent, height):
    """Two dashed lines across both charts, named in the second."""
    end = axes[1].get_xlim()[1] / 1.04
    for y, lift, words in ((uniform, 0.07, "knowing nothing"),
                           (frequent, 0.3, "knowing frequencies")):
        for ax in axes:
            dashed(ax, y=y, zorder=1)
        label(ax, end, y + lift * height, words, "muted", ha="right")
    ax.annotate("", (0.8 * end, frequent),
                (0.8 * end, frequent + 0.26 * height),
                arrowprops=dict(arrowstyle="-", color=COLORS["muted"]))


def utilization(shares: Mapping[str, float | None], peak: str) -> Picture:
    """MFU of each size; None: it was not measured. peak: the divisor."""
    fig, ax = canvas(height=2.7)
    for i, share in enumerate(shares.values()):
        if share is None:
            write(ax, i, 3, "not\nmeasured", "muted", va="bottom")
            continue
        ax.bar(i, 100 * share, 0.55, color=COLORS["feed_forward"])
        write(ax, i, 100 * share + 2, f"{share:.0%}", size=None, va="bottom",
              fontweight="semibold")
    ax.axhline(100, color=COLORS["ink"], linewidth=LINE)
    write(ax, -0.45, 102, peak, ha="left", va="bottom")
    ax.set(ylim=(0, 118), ylabel="MFU, %", xlim=(-0.5, len(shares) - 0.5))
    ax.set_xticks(range(len(shares)), [SHORT[name] for name in shares])
    ax.tick_params(axis="x", length=0)
    grid(ax)
    known = [f"{SHORT[n]} {s:.0%}" for n, s in shares.items() if s]
    return picture(fig, "Bars of model FLOPs utilization by size, below the"
                        f" line of {peak}: {', '.join(known)}.")


def decoding(rows: Sequence[Mapping], batches: Sequence[int]) -> Picture:
    """Tokens/s of each size and method, a panel for each batch size.

    Of each row: size, batch, method, tokens_per_second and bound.
    """
    fig, axes = canvas(height=1.75 * len(batches) + 0.9, rows=len(batches),
                       sharex=True)
    sizes = list(SHORT)[::-1]
    for ax, batch in zip(axes, batches):
        for row in rows:
            if row["batch"] == batch and "tokens_per_second" in row:
                _speed(ax, sizes.index(row["size"]), row)
        for y in range(len(sizes)):
            ax.axhspan(y - 0.4, y + 0.4, color=tint("line", 0.7), zorder=0)
        ax.set(xscale="log", ylim=(-0.6, len(sizes) - 0.4))
        name_rows(ax, [SHORT[size] for size in sizes], down=False, spine=True)
        ax.set_title(f"{batch} text{'s' * (batch > 1)} at once",
                     fontsize=11.5)
    axes[-1].set_xlabel("tokens per second; the bar is the memory's bound")
    _key_of_methods(fig, axes[0], {row["method"] for row in rows})
    return picture(fig, "Decoding speed of four sizes on a logarithmic scale,"
                        " one panel for each number of texts at once. Each"
                        " size has marks for our package and transformers,"
                        " and a bar for the most that the memory's bandwidth"
                        " allows.")


def _key_of_methods(fig, ax, used):
    legend(fig, handles=[
        ax.plot([], [], mark, color=COLORS[color], label=name)[0]
        for name, (color, mark) in METHODS.items() if name in used],
        loc="outside upper center", ncols=2, handletextpad=0.2,
        columnspacing=1.2)


def _speed(ax, y, row):
    """The mark of a method, and the bar that it cannot pass."""
    color, mark = METHODS[row["method"]]
    ax.plot([row["bound"]] * 2, [y - 0.36, y + 0.36], color=COLORS["ink"],
            linewidth=LINE + 0.6)
    ax.plot(row["tokens_per_second"], y, mark, color=COLORS[color],
            markersize=7, alpha=0.85, zorder=4)
