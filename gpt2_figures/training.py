"""Pictures of chapter 15: training."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import (arrow, bars, board, box, dashed, grid, lines,
                                 moment, name_curves, name_rows, smooth,
                                 write)
from gpt2_figures.style import COLORS, LINE, Picture, canvas, picture, tint

Points = Sequence[tuple[float, float]]
SHADES = ("query", "key", "value", "attention")


def _floor(ax, value: float):
    dashed(ax, y=value, zorder=1)
    write(ax, 0.01, value, "the text’s own uncertainty", "muted", 10,
          ha="left", va="bottom", transform=ax.get_yaxis_transform())


def one_batch(curves: Mapping[str, Sequence[float]]) -> Picture:
    """Own loss while one batch is learned by heart, by kind of label."""
    fig, ax = canvas(height=2.9)
    colors = ("right", "wrong", "key")
    lines(ax, curves, colors, ("-", "-", (0, (3, 3))))
    name_curves(ax, curves, colors)
    ax.set(xlabel="updates", ylabel="own loss, nats per token",
           ylim=(0, None), xlim=(0, None))
    grid(ax)
    return picture(fig, "Three loss curves on one batch, for labels shifted"
                        " once, not shifted and shifted twice. All three fall"
                        " from above 8 to nearly 0 within 60 updates: the"
                        " curve does not tell the right one.")


def schedule(curves: Mapping[str, Points]) -> Picture:
    """Learning rates over a whole run, and its first updates."""
    fig, axes = canvas(height=3.1, columns=2, sharey=True,
                       width_ratios=(1, 2))
    for ax, title, scale in ((axes[0], "warm-up", 1),
                             (axes[1], "the whole run", 1e3)):
        for color, points in zip(SHADES, curves.values()):
            ax.plot([step / scale for step, _ in points],
                    [rate * 1e4 for _, rate in points], color=COLORS[color])
        ax.set_title(title, fontsize=12)
        grid(ax)
    axes[0].set(xlim=(0, 2000), ylim=(0, 6.6), xlabel="updates",
                ylabel="learning rate, in 1e-4", xticks=[0, 1000, 2000])
    axes[1].set(xlim=(0, 600), xlabel="thousands of updates")
    name_curves(axes[1], curves, SHADES)
    return picture(fig, "The learning rate of three sizes. Left, the first"
                        " 2,000 updates: a straight line up to the top at"
                        " update 700, then flat. Right, all 600,000: half a"
                        " cosine from the top down to a tenth of it. Larger"
                        " models have lower rates.")


def update() -> Picture:
    """One update: the batch in micro-batches, sum, clip, step."""
    fig, ax = board(27.5)
    for i in range(4):
        y = 19 - 5.2 * i
        box(ax, 0.6, y, 7.8, 4, "rows", "embedding", size=10, radius=0.6)
        arrow(ax, (8.4, y + 2), (12.6, y + 2), "residual")
        box(ax, 12.6, y, 11.6, 4, "loss × ¼", "head", size=10, radius=0.6)
        arrow(ax, (24.2, y + 2), (30, 11.8 + (y - 11.2) * 0.22), "residual")
    for x, w, words, color in ((30, 7.6, "sum of\ngradients", "attention"),
                               (40.2, 5.8, "clip", "key"),
                               (48.6, 7, "AdamW", "feed_forward")):
        box(ax, x, 8.2, w, 7.2, words, color, size=10.5, radius=0.7)
    for *start, x, y in ((37.6, 11.8, 40.2, 11.8), (46, 11.8, 48.6, 11.8),
                         (52.1, 20.4, 52.1, 15.4)):
        arrow(ax, start, (x, y), "residual")
    write(ax, 52.1, 22.2, "rate η")
    for x, y, words in ((4.5, 25.6, "batch"),
                        (18.4, 25.6, "one after the other"),
                        (43, 4.6, "once per update")):
        write(ax, x, y, words, "muted")
    return picture(fig, "One update. A batch is cut into four micro-batches;"
                        " each gives a loss, multiplied by a quarter, and its"
                        " gradient is added to a sum. The sum is clipped and"
                        " given to AdamW with the learning rate, once.")


def warm_up(curves: Mapping[str, Sequence[float]], floor: float) -> Picture:
    """Training losses with and without warm-up."""
    fig, ax = canvas(height=3.1)
    colors = ("query", "right", "wrong")
    lines(ax, {name: smooth(losses) for name, losses in curves.items()},
          colors)
    _floor(ax, floor)
    name_curves(ax, curves, colors)
    ax.set(xlabel="updates", ylabel="loss, mean of 5", xlim=(0, None),
           ylim=(0.7, 3.6))
    grid(ax)
    return picture(fig, "Loss of three runs against updates. At a rate of"
                        " 0.01 with warm-up it falls to just above the text’s"
                        " own uncertainty. At 0.03 with warm-up it ends near"
                        " it too; at 0.03 without warm-up it stays clearly"
                        " higher for the whole run.")


def batch_size(curves: Mapping[int, Points], floor: float) -> Picture:
    """Training losses of three batch sizes, against tokens read."""
    fig, ax = canvas(height=3.1)
    for color, points in zip(SHADES, curves.values()):
        ax.plot([x / 1e3 for x, _ in points], [y for _, y in points],
                color=COLORS[color])
    _floor(ax, floor)
    name_curves(ax, [f"{size} sequences" for size in curves], SHADES)
    ax.set(xlabel="thousands of tokens read", ylabel="loss, mean of 5",
           ylim=(0.7, 3.6), xlim=(0, 80))
    grid(ax)
    return picture(fig, "Loss against tokens read for batches of 4, 16 and 64"
                        " sequences of 32 tokens. The smaller the batch, the"
                        " faster the loss falls per token read; all approach"
                        " the same floor.")


def bad_batch(curves: Mapping[str, Sequence[float]], at: int) -> Picture:
    """Losses around one batch of noise, which itself is left out."""
    fig, ax = canvas(height=2.9)
    colors = ("right", "wrong")
    steps = [i for i in range(70, len(next(iter(curves.values())))) if i != at]
    lines(ax, {name: [losses[i] for i in steps]
               for name, losses in curves.items()}, colors, xs=steps)
    moment(ax, at, 0.7, "one batch of noise")
    name_curves(ax, curves, colors)
    ax.set(xlabel="updates", ylabel="loss", xlim=(70, 130))
    grid(ax)
    return picture(fig, "Loss before and after one batch of noise. With"
                        " clipping hardly anything is to be seen; without it"
                        " the loss jumps and needs about twenty updates to"
                        " come back.")


def real_run(training: Points, validation: Points) -> Picture:
    """The loss curve of the model trained on the page."""
    fig, ax = canvas(height=3.0)
    steps, losses = zip(*training)
    ax.plot(steps, losses, color=tint("query", 0.55), linewidth=LINE * 0.8)
    ax.plot(steps, smooth(losses, 20), color=COLORS["query"])
    ax.plot(*zip(*validation), "o-", color=COLORS["feed_forward"],
            markersize=6)
    name_curves(ax, ("held-out files", "training, mean of 20"),
                ("feed_forward", "query"))
    ax.set(xlabel="updates", ylabel="loss, nats per token", xlim=(0, None))
    grid(ax)
    return picture(fig, "Training loss and held-out loss of the small model"
                        " against updates. Both fall steeply at first and are"
                        " still falling at the end; the held-out loss lies"
                        " above the training loss.")


def bits_per_byte(results: Mapping[str, float]) -> Picture:
    """Bits per byte of held-out text, by model and compressor."""
    order = sorted(results, key=lambda name: -results[name])
    fig, ax = canvas(height=2.7)
    bars(ax, [results[name] for name in order],
         ["query" if "model" in name and "gram" not in name
          else tint("muted", 0.4) for name in order], "{:.2f}", 0.04,
         ink="ink")
    name_rows(ax, order, down=False, spine=True)
    ax.set(xlabel="bits per byte of held-out files",
           xlim=(0, max(results.values()) * 1.15))
    return picture(fig, "Bars of bits per byte on the held-out files. The"
                        " untrained model needs by far the most. The model"
                        " trained on this page comes near gzip and xz; the"
                        " 3-gram model lies a little below them.")


def shipped_run(points: Points, rivals: Mapping[str, float]) -> Picture:
    """Held-out bits per byte of a long run, (tokens read, bits), and what
    its rivals need."""
    fig, ax = canvas(height=3.2)
    tokens, losses = zip(*((count / 1e6, bits) for count, bits in points))
    end = tokens[-1]
    for name, bits in rivals.items():
        dashed(ax, y=bits, zorder=1)
        write(ax, end, bits, name, "muted", ha="right", va="bottom")
    ax.plot(tokens, losses, "o-", markersize=5, color=COLORS["query"])
    write(ax, end, losses[-1] * 0.97, f"{losses[-1]:.2f}", "query",
          ha="right", va="top", fontweight="semibold")
    ax.set(xlabel="million tokens read", ylabel="held-out bits per byte",
           xlim=(0, end * 1.02), ylim=(0.8 * losses[-1], None))
    grid(ax)
    return picture(fig, "Held-out bits per byte of the shipped model against"
                        " the tokens it has read. It falls steeply, passes"
                        " below gzip, xz and the 3-gram model, and flattens"
                        f" out at {points[-1][1]:.2f}.")
