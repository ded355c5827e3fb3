"""Pictures of chapter 15: training."""
from collections.abc import Mapping, Sequence

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, tint)

Points = Sequence[tuple[float, float]]
SHADES = ("query", "key", "value", "attention")


def _label(ax, x, y, text, color, **kwargs):
    """A name beside a curve, on white."""
    ax.text(x, y, text, color=color, fontsize=10.5, fontweight="semibold",
            zorder=6, **{"va": "center", **kwargs},
            bbox=dict(facecolor="white", edgecolor="none", pad=1.0))


def _legend(ax, names, colors, x=0.97, y=0.93, ha="right"):
    for i, (name, color) in enumerate(zip(names, colors)):
        _label(ax, x, y - 0.1 * i, name, color, ha=ha,
               transform=ax.transAxes)


def _grid(ax):
    ax.grid(axis="y")
    ax.set_axisbelow(True)


def _smooth(values: Sequence[float], width: int = 5) -> list[float]:
    """The mean of each value and those just before it."""
    return [sum(values[max(0, i + 1 - width):i + 1])
            / len(values[max(0, i + 1 - width):i + 1])
            for i in range(len(values))]


def _floor(ax, value: float):
    ax.axhline(value, color=COLORS["muted"], linewidth=LINE,
               linestyle=(0, (3, 2)), zorder=1)
    ax.text(0.01, value, "the text’s own uncertainty", fontsize=10,
            color=COLORS["muted"], va="bottom",
            transform=ax.get_yaxis_transform())


def one_batch(curves: Mapping[str, Sequence[float]]) -> Picture:
    """Own loss while one batch is learned by heart, by kind of label."""
    fig, ax = canvas(height=2.9)
    colors = [COLORS["right"], COLORS["wrong"], COLORS["key"]]
    for color, losses, style in zip(colors, curves.values(),
                                    ("-", "-", (0, (3, 3)))):
        ax.plot(range(1, len(losses) + 1), losses, color=color,
                linestyle=style)
    _legend(ax, curves, colors)
    ax.set(xlabel="updates", ylabel="own loss, nats per token",
           ylim=(0, None), xlim=(0, None))
    _grid(ax)
    return picture(fig, "Three loss curves on one batch, for labels shifted"
                        " once, not shifted and shifted twice. All three"
                        " fall from above 8 to nearly 0 within 60 updates:"
                        " the curve does not tell the right one.")


def schedule(curves: Mapping[str, Points]) -> Picture:
    """Learning rates over a whole run, and its first updates."""
    fig, (left, right) = canvas(height=3.1, columns=2, sharey=True,
                                width_ratios=(1, 2))
    for color, points in zip(SHADES, curves.values()):
        steps = [step for step, _ in points]
        rates = [rate * 1e4 for _, rate in points]
        for ax, scale in ((left, 1), (right, 1e3)):
            ax.plot([step / scale for step in steps], rates,
                    color=COLORS[color])
    left.set(xlim=(0, 2000), ylim=(0, 6.6), xlabel="updates",
             ylabel="learning rate, in 1e-4", xticks=[0, 1000, 2000])
    right.set(xlim=(0, 600), xlabel="thousands of updates")
    left.set_title("warm-up", loc="left", fontsize=12, fontweight="semibold")
    right.set_title("the whole run", loc="left", fontsize=12,
                    fontweight="semibold")
    _legend(right, curves, [COLORS[c] for c in SHADES])
    for ax in (left, right):
        _grid(ax)
    return picture(fig, "The learning rate of three sizes. Left, the first"
                        " 2,000 updates: a straight line up to the top at"
                        " update 700, then flat. Right, all 600,000: half a"
                        " cosine from the top down to a tenth of it. Larger"
                        " models have lower rates.")


def branches(rates: Mapping[str, Sequence[float]]) -> Picture:
    """Schedules that know their end, and one from which others branch."""
    fig, ax = canvas(height=2.6)
    places = ((14, 0.3, "left"), (79, 0.72, "left"), (140, 0.5, "right"),
              (198, 1.08, "right"))
    for (name, values), color, (x, y, side), line in zip(
            rates.items(), SHADES, places, ("--", "-", "-", "-")):
        ax.plot([rate * 1e3 for rate in values], line, color=COLORS[color])
        _label(ax, x, y, name, COLORS[color], ha=side)
    ax.set(xlabel="updates", ylabel="learning rate, in 1e-3", ylim=(0, 1.2))
    _grid(ax)
    return picture(fig, "The learning rate of four plans. All rise together"
                        " for 10 updates. A cosine of 100 updates falls from"
                        " there on. The others stay at the top: one falls"
                        " from update 60 to 80, one from 140 to 160, and one"
                        " goes on at the top past update 200.")


def update() -> Picture:
    """One update: the batch in micro-batches, sum, clip, step."""
    fig, ax = canvas(height=2.75)
    blank(ax, 56, 27.5)
    ax.text(4.5, 25.6, "batch", ha="center", va="center", fontsize=10.5,
            color=COLORS["muted"])
    for i in range(4):
        y = 19 - 5.2 * i
        box(ax, 0.6, y, 7.8, 4, "rows", "embedding", size=10, radius=0.6)
        arrow(ax, (8.4, y + 2), (12.6, y + 2), "residual")
        box(ax, 12.6, y, 11.6, 4, "loss × ¼", "head", size=10, radius=0.6)
        arrow(ax, (24.2, y + 2), (30, 11.2 + (y - 11.2) * 0.22 + 0.6),
              "residual")
    ax.text(18.4, 25.6, "one after the other", ha="center", va="center",
            fontsize=10.5, color=COLORS["muted"])
    for x, w, words, color in ((30, 7.6, "sum of\ngradients", "attention"),
                               (40.2, 5.8, "clip", "key"),
                               (48.6, 7, "AdamW", "feed_forward")):
        box(ax, x, 8.2, w, 7.2, words, color, size=10.5, radius=0.7)
    for start, end in ((37.6, 40.2), (46, 48.6)):
        arrow(ax, (start, 11.8), (end, 11.8), "residual")
    arrow(ax, (52.1, 20.4), (52.1, 15.4), "residual")
    ax.text(52.1, 22.2, "rate η", ha="center", va="center", fontsize=10.5)
    ax.text(43, 4.6, "once per update", ha="center", va="center",
            fontsize=10.5, color=COLORS["muted"])
    return picture(fig, "One update. A batch is cut into four micro-batches;"
                        " each gives a loss, multiplied by a quarter, and"
                        " its gradient is added to a sum. The sum is clipped"
                        " and given to AdamW with the learning rate, once.")


def warm_up(curves: Mapping[str, Sequence[float]], floor: float) -> Picture:
    """Training losses with and without warm-up."""
    fig, ax = canvas(height=3.1)
    colors = [COLORS["query"], COLORS["right"], COLORS["wrong"]]
    for color, losses in zip(colors, curves.values()):
        ax.plot(range(1, len(losses) + 1), _smooth(losses), color=color)
    _floor(ax, floor)
    _legend(ax, curves, colors)
    ax.set(xlabel="updates", ylabel="loss, mean of 5", xlim=(0, None),
           ylim=(0.7, 3.6))
    _grid(ax)
    return picture(fig, "Loss of three runs against updates. At a rate of"
                        " 0.01 with warm-up it falls to just above the"
                        " text’s own uncertainty. At 0.03 with warm-up it"
                        " ends near it too; at 0.03 without warm-up it stays"
                        " clearly higher for the whole run.")


def batch_size(curves: Mapping[int, Points], floor: float) -> Picture:
    """Training losses of three batch sizes, against tokens read."""
    fig, ax = canvas(height=3.1)
    for color, points in zip(SHADES, curves.values()):
        ax.plot([x / 1e3 for x, _ in points], [y for _, y in points],
                color=COLORS[color])
    _floor(ax, floor)
    _legend(ax, [f"{size} sequences" for size in curves],
            [COLORS[c] for c in SHADES])
    ax.set(xlabel="thousands of tokens read", ylabel="loss, mean of 5",
           ylim=(0.7, 3.6), xlim=(0, 80))
    _grid(ax)
    return picture(fig, "Loss against tokens read for batches of 4, 16 and 64"
                        " sequences of 32 tokens. The smaller the batch, the"
                        " faster the loss falls per token read; all approach"
                        " the same floor.")


def bad_batch(curves: Mapping[str, Sequence[float]], at: int) -> Picture:
    """Losses around one batch of noise, which itself is left out."""
    fig, ax = canvas(height=2.9)
    colors = [COLORS["right"], COLORS["wrong"]]
    for color, losses in zip(colors, curves.values()):
        steps = [i for i in range(70, len(losses)) if i != at]
        ax.plot(steps, [losses[i] for i in steps], color=color)
    ax.axvline(at, color=COLORS["muted"], linewidth=LINE,
               linestyle=(0, (3, 2)))
    ax.text(at - 0.7, 0.93, "one batch of noise", ha="right", va="center",
            fontsize=10.5, color=COLORS["muted"],
            transform=ax.get_xaxis_transform())
    _legend(ax, curves, colors)
    ax.set(xlabel="updates", ylabel="loss", xlim=(70, 130))
    _grid(ax)
    return picture(fig, "Loss before and after one batch of noise. With"
                        " clipping hardly anything is to be seen; without it"
                        " the loss jumps and needs about twenty updates to"
                        " come back.")


def resume(kept: Sequence[float], lost: Sequence[float], at: int) -> Picture:
    """Losses of a run resumed with and without the optimizer's state."""
    fig, ax = canvas(height=2.9)
    for losses, color in ((lost, "wrong"), (kept, "right")):
        ax.plot(range(70, len(losses)), losses[70:], color=COLORS[color])
    ax.axvline(at - 0.5, color=COLORS["muted"], linewidth=LINE,
               linestyle=(0, (3, 2)))
    ax.text(at - 1.2, 0.93, "resumed here", ha="right", va="center",
            fontsize=10.5, color=COLORS["muted"],
            transform=ax.get_xaxis_transform())
    _legend(ax, ("all state kept", "optimizer lost"),
            (COLORS["right"], COLORS["wrong"]))
    ax.set(xlabel="updates", ylabel="loss", xlim=(70, 130))
    _grid(ax)
    return picture(fig, "Loss of a run that is resumed at update 100. With"
                        " the optimizer’s state the curve goes on; without"
                        " it, it jumps up at once and comes down slowly.")


def saving() -> Picture:
    """What is on the disk while a checkpoint is saved."""
    fig, ax = canvas(height=3.0)
    blank(ax, 56, 30)
    columns = [("writing", ["step-200", "step-300"], ".step-400.tmp"),
               ("renamed", ["step-200", "step-300", "step-400"], None),
               ("oldest removed", ["step-300", "step-400"],
                ".step-200.gone")]
    for i, (title, whole, part) in enumerate(columns):
        x = 0.8 + 19 * i
        ax.text(x + 8, 28, title, ha="center", va="center", fontsize=11,
                fontweight="semibold")
        for j, name in enumerate(whole):
            box(ax, x, 20.6 - 5.4 * j, 16, 4.2, name, "right", size=10.5,
                radius=0.6, filled=j == len(whole) - 1)
        if part:
            patch = box(ax, x, 4.4, 16, 4.2, "", "line", radius=0.6)
            patch.set(facecolor="white", linestyle=(0, (3, 2)),
                      edgecolor=COLORS["muted"])
            ax.text(x + 8, 6.5, part, ha="center", va="center",
                    fontsize=10, color=COLORS["muted"])
        if i < 2:
            arrow(ax, (x + 16.3, 18), (x + 18.7, 18), "residual")
    ax.text(28, 1.4, "full colour: what a run killed now resumes from",
            ha="center", va="center", fontsize=10.5, color=COLORS["muted"])
    return picture(fig, "Three moments of saving. While step 400 is written"
                        " under a temporary name, a killed run resumes from"
                        " step 300. After the rename it resumes from step"
                        " 400. Then the oldest is renamed away and removed.")


def real_run(training: Points, validation: Points) -> Picture:
    """The loss curve of the model trained on the page."""
    fig, ax = canvas(height=3.0)
    ax.plot(*zip(*training), color=tint("query", 0.55), linewidth=LINE * 0.8)
    steps = [step for step, _ in training]
    ax.plot(steps, _smooth([loss for _, loss in training], 20),
            color=COLORS["query"])
    ax.plot(*zip(*validation), "o-", color=COLORS["feed_forward"],
            markersize=6)
    _legend(ax, ("held-out files", "training, mean of 20"),
            (COLORS["feed_forward"], COLORS["query"]))
    ax.set(xlabel="updates", ylabel="loss, nats per token", xlim=(0, None))
    _grid(ax)
    return picture(fig, "Training loss and held-out loss of the small model"
                        " against updates. Both fall steeply at first and"
                        " are still falling at the end; the held-out loss"
                        " lies above the training loss.")


def bits_per_byte(results: Mapping[str, float]) -> Picture:
    """Bits per byte of held-out text, by model and compressor."""
    order = sorted(results.items(), key=lambda item: -item[1])
    fig, ax = canvas(height=2.7)
    for row, (name, value) in enumerate(order):
        ours = "model" in name and "gram" not in name
        color = COLORS["query"] if ours else tint("muted", 0.4)
        ax.barh(row, value, height=0.62, color=color)
        ax.text(value + 0.04, row, f"{value:.2f}", va="center",
                fontsize=10.5, color=COLORS["ink"])
    ax.set_yticks(range(len(order)), [name for name, _ in order])
    ax.tick_params(axis="y", length=0)
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
    tokens = [count / 1e6 for count, _ in points]
    for name, bits in rivals.items():
        ax.axhline(bits, color=COLORS["muted"], linewidth=LINE,
                   linestyle=(0, (3, 2)), zorder=1)
        ax.text(tokens[-1], bits, name, fontsize=10.5, ha="right",
                va="bottom", color=COLORS["muted"])
    ax.plot(tokens, [bits for _, bits in points], "o-", markersize=5,
            color=COLORS["query"])
    ax.text(tokens[-1], points[-1][1] * 0.97, f"{points[-1][1]:.2f}",
            ha="right", va="top", fontsize=10.5, fontweight="semibold",
            color=COLORS["query"])
    ax.set(xlabel="million tokens read", ylabel="held-out bits per byte",
           xlim=(0, tokens[-1] * 1.02),
           ylim=(0.8 * points[-1][1], None))
    _grid(ax)
    return picture(fig, "Held-out bits per byte of the shipped model against"
                        " the tokens it has read. It falls steeply, passes"
                        " below gzip, xz and the 3-gram model, and flattens"
                        f" out at {points[-1][1]:.2f}.")
