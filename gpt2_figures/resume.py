"""Pictures of chapter 16: resume."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import (arrow, board, box, ghost, grid, label, lines,
                                 moment, name_curves, write)
from gpt2_figures.style import Picture, canvas, picture

SHADES = ("query", "key", "value", "attention")
WRITERS = ("query", "key")
TOP, HEIGHT = 24.0, 21.0                 # of the tensor, in every column


def in_pieces() -> Picture:
    """A tensor that two processes write and three read."""
    fig, ax = board(29)
    for x, title in ((7.5, "two write"), (28, "on the disk"),
                     (48.5, "three read")):
        write(ax, x, 27.2, title, size=11, fontweight="semibold")
    _writers(ax)
    _files(ax)
    _readers(ax)
    return picture(fig, "A tensor of 4,096 rows. Two processes hold half of"
                        " the rows each and write a file each; a third file"
                        " holds names, shapes and which rows are where."
                        " Three processes read a third of the rows each, the"
                        " middle one from both files.")


def _writers(ax):
    half = HEIGHT / 2
    for rank, color in enumerate(WRITERS):
        y = TOP - half * (rank + 1)
        first = 2048 * rank
        box(ax, 0.5, y + 0.3, 14, half - 0.6,
            f"process {rank}\nrows {first:,}\nto {first + 2047:,}", color,
            radius=0.6, size=10.5)
        arrow(ax, (15, y + half / 2), (19.6, 19.1 - 6 * rank), color)


def _files(ax):
    for rank, color in enumerate(WRITERS):
        box(ax, 20, 17.1 - 6 * rank, 16, 4, f"__{rank}_0.distcp", color,
            radius=0.6, filled=True, size=10.5)
    box(ax, 20, 4.4, 16, 4.6, ".metadata", "muted", radius=0.6, size=10.5)
    write(ax, 28, 2.2, "names, shapes, which rows where", "muted", size=10)


def _readers(ax):
    third = HEIGHT / 3
    for rank, colors in enumerate((WRITERS[:1], WRITERS, WRITERS[1:])):
        y = TOP - third * (rank + 1)
        part = (third - 0.6) / len(colors)
        for i, color in enumerate(reversed(colors)):
            box(ax, 41.5, y + 0.3 + part * i, 14, part, "", color, radius=0.3)
        ax.text(48.5, y + third / 2, f"process {rank}", ha="center",
                va="center", fontsize=10.5, zorder=6,
                bbox=dict(facecolor="white", edgecolor="none", pad=1.5))
        for i, color in enumerate(reversed(colors)):
            file = 19.1 - 6 * WRITERS.index(color)
            arrow(ax, (36.3, file), (41.2, y + 0.3 + part * (i + 0.5)), color)


def branches(rates: Mapping[str, Sequence[float]]) -> Picture:
    """Schedules that know their end, and one from which others branch."""
    fig, ax = canvas(height=2.6)
    places = ((14, 0.3, "left"), (79, 0.72, "left"), (140, 0.5, "right"),
              (198, 1.08, "right"))
    lines(ax, {name: [rate * 1e3 for rate in values]
               for name, values in rates.items()},
          SHADES, ("--", "-", "-", "-"), first=0)
    for name, color, (x, y, side) in zip(rates, SHADES, places):
        label(ax, x, y, name, color, ha=side)
    ax.set(xlabel="updates", ylabel="learning rate, in 1e-3", ylim=(0, 1.2))
    grid(ax)
    return picture(fig, "The learning rate of four plans. All rise together"
                        " for 10 updates. A cosine of 100 updates falls from"
                        " there on. The others stay at the top: one falls"
                        " from update 60 to 80, one from 140 to 160, and one"
                        " goes on at the top past update 200.")


def resume(kept: Sequence[float], lost: Sequence[float], at: int) -> Picture:
    """Losses of a run resumed with and without the optimizer's state."""
    fig, ax = canvas(height=2.9)
    lines(ax, {"lost": lost[70:], "kept": kept[70:]}, ("wrong", "right"),
          first=70)
    moment(ax, at - 0.5, 0.7, "resumed here")
    name_curves(ax, ("all state kept", "optimizer lost"), ("right", "wrong"))
    ax.set(xlabel="updates", ylabel="loss", xlim=(70, 130))
    grid(ax)
    return picture(fig, "Loss of a run that is resumed at update 100. With"
                        " the optimizer’s state the curve goes on; without"
                        " it, it jumps up at once and comes down slowly.")


def saving() -> Picture:
    """What is on the disk while a checkpoint is saved."""
    fig, ax = board(30)
    columns = [("writing", ["step-200", "step-300"], ".step-400.tmp"),
               ("renamed", ["step-200", "step-300", "step-400"], None),
               ("oldest removed", ["step-300", "step-400"],
                ".step-200.gone")]
    for i, (title, whole, part) in enumerate(columns):
        x = 0.8 + 19 * i
        write(ax, x + 8, 28, title, size=11, fontweight="semibold")
        for j, name in enumerate(whole):
            box(ax, x, 20.6 - 5.4 * j, 16, 4.2, name, "right", size=10.5,
                radius=0.6, filled=name == whole[-1])
        if part:
            ghost(ax, x, 4.4, 16, 4.2, part)
        if i < 2:
            arrow(ax, (x + 16.3, 18), (x + 18.7, 18), "residual")
    write(ax, 28, 1.4, "full colour: what a run killed now resumes from",
          "muted")
    return picture(fig, "Three moments of saving. While step 400 is written"
                        " under a temporary name, a killed run resumes from"
                        " step 300. After the rename it resumes from step"
                        " 400. Then the oldest is renamed away and removed.")
