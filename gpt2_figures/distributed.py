"""Pictures of chapter 18: distributed."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import blank, board, box, label, write
from gpt2_figures.style import COLORS, Picture, canvas, picture

# One update of three blocks: what is done, and (start, block) of each.
LANES = {"gather weights": (1, "query", 1, [(0, 0), (1, 1), (2, 2), (4, 2),
                                            (5, 1), (7, 0)]),
         "send gradients": (1, "attention", 1, [(8, 2), (9, 1), (11, 0)]),
         "forward": (0, "value", 1, [(1, 0), (2, 1), (3, 2)]),
         "backward": (0, "key", 2, [(5, 2), (7, 1), (9, 0)]),
         "AdamW": (0, "muted", 1, [(12, "")])}


def fsdp_update() -> Picture:
    """What a process of FSDP computes and what travels, in the same time."""
    fig, ax = canvas(height=2.1)
    for i, (words, (lane, color, length, parts)) in enumerate(LANES.items()):
        for start, block in parts:
            ax.barh(lane, length * 0.94, 0.84, left=start,
                    color=COLORS[color])
            ax.text(start + length * 0.47, lane, block, ha="center",
                    va="center", color="white", fontsize=12)
        ax.text((0, 3.4, 7.1, 9.2, 11.6)[i], 1.78, words, va="center",
                color=COLORS[color], fontsize=10.5, fontweight="semibold")
    ax.set_yticks([0, 1], ["compute", "network"])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 13.2), ylim=(-0.5, 2.1), xlabel="time →", xticks=[])
    ax.spines[["left", "bottom"]].set_visible(False)
    return picture(fig, "Time line of one update of the blocks 0, 1 and 2 in"
                        " one process of FSDP. Forward: the weights of block"
                        " 0 are gathered, then those of block 1 while block 0"
                        " computes, and so on. Backward: the weights are"
                        " gathered again, from block 2 to block 0, and each"
                        " block's gradients are sent while the next one"
                        " computes. AdamW comes last.")


def one_run(alone: Sequence[float], shared: Mapping[str, Sequence[float]],
            same_rows: Sequence[float]) -> Picture:
    """Losses of one process, of two, and of two that read the same rows."""
    fig, ax = canvas(height=2.8)
    steps = range(1, len(alone) + 1)
    ax.plot(steps, same_rows, color=COLORS["wrong"])
    ax.plot(steps, alone, color=COLORS["key"], linewidth=7, alpha=0.4)
    for (name, losses), color, dash in zip(
            shared.items(), ("query", "ink"), ("-", (0, (2, 2)))):
        ax.plot(steps, losses, color=COLORS[color], linestyle=dash)
    names = [("one process", "key"), *zip(shared, ("query", "ink")),
             ("two with the same rows", "wrong")]
    for i, (name, color) in enumerate(names):
        ax.text(0.97, 0.93 - 0.12 * i, name, color=COLORS[color], ha="right",
                va="center", fontweight="semibold", fontsize=10.5,
                transform=ax.transAxes)
    ax.set(xlabel="updates", ylabel="loss, nats per token",
           xticks=[1, *range(3, len(alone) + 1, 3)])
    return picture(fig, "Training loss over 12 updates: the curves of one"
                        " process, of DDP and of FSDP with two processes lie"
                        " on each other. The curve of two processes that"
                        " read the same rows leaves them.")


def who_holds(gigabytes: Mapping[str, float], world: int) -> Picture:
    """What each process holds, with DDP and with FSDP."""
    colors = {"weights": "query", "gradients": "key", "optimizer": "value"}
    fig, ax = board(34)
    parts = [(size, colors[part]) for part, size in gigabytes.items()]
    whole = sum(gigabytes.values())
    for left, name, slices, words in (
            (1, "DDP", 1, "all-reduce of the gradients, once an update"),
            (29.5, "FSDP", world,
             "all-gather of weights, reduce-scatter of gradients")):
        write(ax, left, 32.3, name, size=12.5, ha="left", va="baseline",
              fontweight="semibold")
        for i, shown in enumerate((1, 2, 3, world)):
            x = left + 6.6 * i + (i == 3) * 0.9
            _process(ax, x, parts, 20 / whole, shown, slices)
            write(ax, x + 2.6, 3.4, f"{whole / slices:.1f} GB", size=10)
        write(ax, x - 0.9, 15, "…", size=13, va="baseline")
        write(ax, left + 13.4, 0.9, words, "muted", 9.2)
    for x, (part, color) in zip((1, 9.6, 19.6), colors.items()):
        label(ax, x, 28.9, part, color, size=10)
    return picture(fig, "What each of eight processes holds for GPT-2 XL."
                        " With DDP each has all weights, gradients and"
                        " moments, 25 GB; with FSDP each has its eighth of"
                        " each, 3 GB.")


def _process(ax, x, parts, scale, place, slices):
    """What one process holds: its slice of each part, the rest empty."""
    low = 5.2
    for size, color in parts:
        h = size * scale
        if slices == 1:
            box(ax, x, low, 5.2, h, "", color, filled=True, radius=0.3)
        else:
            box(ax, x, low, 5.2, h, "", "line",
                radius=0.3).set_facecolor("white")
            box(ax, x, low + h - h * place / slices, 5.2, h / slices, "",
                color, filled=True, radius=0.1)
        low += h + 0.4


def syncs(micro: int) -> Picture:
    """One update: gradients sent once, and after every micro-batch."""
    fig, ax = canvas(height=2.3)
    blank(ax, 56, 21)
    for y, title, every in ((12.5, "with no_sync: once", False),
                            (2.0, "without: after each micro-batch", True)):
        write(ax, 1, y + 6.6, title, size=11.5, ha="left", va="baseline",
              fontweight="semibold")
        steps, x = [], 1.0
        for i in range(micro):
            last = i == micro - 1
            steps.append((7.0, f"micro-\nbatch {i + 1}", "query", False))
            if every or last:
                steps.append((4.2, "send", "right" if last else "wrong",
                              True))
        for w, text, color, filled in [*steps, (5.6, "AdamW", "value",
                                                False)]:
            box(ax, x, y, w, 4.6, text, color, filled=filled, size=9.5,
                radius=0.5)
            x += w + 0.4
    return picture(fig, "Time line of one update of four micro-batches. With"
                        " no_sync gradients are sent once, before AdamW;"
                        " without it after every micro-batch, and the update"
                        " takes longer.")
