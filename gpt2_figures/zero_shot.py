"""Pictures of chapter 20: zero-shot."""
from collections.abc import Mapping, Sequence

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, heatmap, picture, tint)

SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
SHORT = ("small", "medium", "large", "XL")
Interval = tuple[float, float, float]            # share, low, high


def _grid(ax, axis="y"):
    ax.grid(axis=axis)
    ax.set_axisbelow(True)


def _note(ax, x, y, text, color="muted", **kwargs):
    ax.text(x, y, text, color=COLORS.get(color, color), fontsize=10.5,
            **{"va": "center", "ha": "center", **kwargs})


def shots() -> Picture:
    """The same question as a zero-, one- and few-shot prompt."""
    fig, ax = canvas(height=3.35)
    blank(ax, 56, 33.5)
    examples = ["robot = Roboter", "order = Befehl", "reason = Grund"]
    for i, (title, count) in enumerate((("zero-shot", 0), ("one-shot", 1),
                                        ("few-shot", 3))):
        x, y = 0.6 + 18.6 * i, 24.4
        ax.text(x + 8.8, 31.6, title, ha="center", va="center",
                fontsize=12, fontweight="semibold")
        for words in examples[:count]:
            box(ax, x, y, 17.6, 3.8, words, "query", size=10.5, radius=0.5)
            y -= 4.4
        box(ax, x, y, 17.6, 3.8, "machine =", "key", size=10.5, radius=0.5)
        arrow(ax, (x + 8.8, y), (x + 8.8, y - 3.6), "residual")
        box(ax, x + 3.4, y - 7.4, 10.8, 3.8, "Maschine", "right", size=10.5,
            radius=0.5, filled=True)
    _note(ax, 28, 0.9, "no weight changes: the task is in the text alone")
    return picture(fig, "Three prompts for one task. Zero-shot: only the line"
                        " “machine =”. One-shot: a solved line, “robot ="
                        " Roboter”, stands before it. Few-shot: three solved"
                        " lines. In each the model writes the answer after"
                        " the last line.")


def tasks(rows: Sequence[str], columns: Sequence[str],
          values: Sequence[Sequence[float]]) -> Picture:
    """p(output | input, task): a row a task, a column an output."""
    fig, ax = canvas(height=3.5)
    heatmap(ax, values, "head", vmin=0, rows=list(rows),
            columns=list(columns), numbers=".2f", size=9.5)
    ax.set(xlabel="output", ylabel="task")
    return picture(fig, "A table of probabilities: a row for each task, a"
                        " column for each output. In every column the"
                        " largest number stands where output and task belong"
                        " together.")


def windows(length: int = 8, stride: int = 3, count: int = 16) -> Picture:
    """Sliding windows over a row of tokens."""
    fig, ax = canvas(height=2.4)
    blank(ax, 56, 24)
    side, left, y, first = 2.9, 9, 16.7, 1
    for i in range(count):
        box(ax, left + i * side, 20.5, side * 0.9, 2.6, str(i), "residual",
            size=9.5, radius=0.4)
    row = 0
    while first < count:
        end = min(first + stride if row else length + 1, count)
        for i in range(max(0, end - length - 1), end):
            new = i >= first
            box(ax, left + i * side, y, side * 0.9, 2.6, "",
                "right" if new else "line", filled=new, radius=0.4)
        _note(ax, left - 1, y + 1.3, f"window {row}", ha="right")
        first, y, row = end, y - 3.7, row + 1
    for x, color, words in ((14, "line", "read only"), (33, "right",
                                                        "read and scored")):
        box(ax, x, 0.6, side * 0.9, 2.6, "", color, filled=color == "right",
            radius=0.4)
        _note(ax, x + 3.4, 1.9, words, "ink", ha="left")
    return picture(fig, f"{count} tokens and four windows over them. The"
                        " first window scores all of its tokens but the"
                        f" first; each of the others moves on by {stride}"
                        " and scores only the new tokens, with many read"
                        " before them.")


def strides(points: Sequence[tuple[int, float]], length: int) -> Picture:
    """Perplexity per token against the stride."""
    fig, ax = canvas(height=2.7)
    ax.plot(*zip(*points), "o-", color=COLORS["query"], markersize=6)
    ax.set_xscale("log", base=2)
    ax.set_xticks([s for s, _ in points], [str(s) for s, _ in points])
    ax.minorticks_off()
    low, high = (f([y for _, y in points]) for f in (min, max))
    ax.set(xlabel=f"stride, of windows of {length} tokens",
           ylabel="perplexity per token",
           ylim=(low - (high - low) * 0.25, high + (high - low) * 0.25))
    for x, y in points:
        _note(ax, x, y + (high - low) * 0.08, f"{y:.2f}", "ink", va="bottom")
    _grid(ax)
    return picture(fig, "Perplexity of one text against the stride of the"
                        " windows: the smaller the stride, the lower the"
                        " perplexity, with the same model and text.")


def units(found: Mapping[int, tuple[float, float]]) -> Picture:
    """Perplexity per token and bits per byte, by size of the vocabulary."""
    fig, (left, right) = canvas(height=2.8, columns=2)
    names, rows = [f"{n:,}" for n in found], range(len(found))
    for ax, which, title, color in (
            (left, 0, "perplexity per token", "wrong"),
            (right, 1, "bits per byte", "right")):
        values = [pair[which] for pair in found.values()]
        ax.bar(rows, values, width=0.62, color=COLORS[color])
        for x, value in zip(rows, values):
            _note(ax, x, value, f"{value:.0f}" if which == 0
                  else f"{value:.2f}", "ink", va="bottom")
        ax.set_title(title, loc="left", fontsize=12, fontweight="semibold")
        ax.set_xticks(rows, names)
        ax.set(xlabel="entries in the vocabulary",
               ylim=(0, max(values) * 1.15))
        _grid(ax)
    return picture(fig, "Two bar charts of 3-gram models of the same text"
                        " with vocabularies from 256 to 4,096 entries. By"
                        " perplexity per token the smallest vocabulary looks"
                        " best by far; in bits per byte it is the worst.")


def partial() -> Picture:
    """Which tokens of a schema are scored, by both ways."""
    fig, ax = canvas(height=2.95)
    blank(ax, 56, 29.5)
    parts = [("The trophy doesn’t fit into the suitcase because", 0, 0),
             ("the trophy", 1, 0), ("is too large.", 2, 0)]
    rows = [("partial", 16.4, (False, False, True)),
            ("whole", 4.2, (True, True, True))]
    for name, y, scored in rows:
        _note(ax, 0.4, y + 9.7, f"{name} scoring", "ink", ha="left",
              fontweight="semibold")
        box(ax, 0.4, y + 4.6, 55, 3.6, parts[0][0],
            "right" if scored[0] else "line", size=10.5, radius=0.5)
        for i, candidate in enumerate(("the trophy", "the suitcase")):
            x = 0.4 + 28 * i
            box(ax, x, y, 13.2, 3.6, candidate,
                "right" if scored[1] else "line", size=10.5, radius=0.5)
            box(ax, x + 13.8, y, 13.2, 3.6, "is too large.", "right",
                size=10.5, radius=0.5, filled=True)
    _note(ax, 28, 1.6, "green: what is scored")
    return picture(fig, "One schema, two candidates. Partial scoring compares"
                        " the probability of “is too large.” after either"
                        " candidate. Whole scoring also counts the"
                        " beginning and the candidate itself.")


def accuracies(found: Mapping[str, Mapping[int, Interval]],
               chance: Mapping[str, float]) -> Picture:
    """Accuracy with 95 % intervals, by task and number of examples."""
    fig, axes = canvas(height=3.0, columns=len(found), sharey=True)
    for ax, (name, by_shots), color in zip(
            axes, found.items(), ("query", "key", "value")):
        for x, (share, low, high) in enumerate(by_shots.values()):
            ax.plot([x, x], [low, high], color=tint(color, 0.35),
                    linewidth=LINE * 3, solid_capstyle="butt")
            ax.plot(x, share, "o", color=COLORS[color], markersize=7)
        ax.axhline(chance[name], color=COLORS["muted"], linewidth=LINE,
                   linestyle=(0, (3, 2)), zorder=1)
        ax.set_title(name, loc="left", fontsize=11.5, fontweight="semibold")
        ax.set_xticks(range(len(by_shots)), list(by_shots))
        ax.set(xlim=(-0.6, len(by_shots) - 0.4), ylim=(0, 1.02))
        _grid(ax)
    axes[1].set_xlabel("solved examples in the prompt")
    axes[0].set_ylabel("share right")
    axes[0].text(-0.5, chance[list(found)[0]] - 0.02, "guessing", va="top",
                 fontsize=10, color=COLORS["muted"])
    return picture(fig, "Accuracy of the small model on three tasks with 0, 1"
                        " and 4 solved examples, with 95 % intervals and a"
                        " dashed line for guessing.")


def table_3(columns: Sequence[str], table: Mapping[str, Sequence[float]],
            measured: Mapping[str, Mapping[str, float]]) -> Picture:
    """Table 3, a panel a column; measured[column][size]: our own runs."""
    fig, axes = canvas(height=7.6, rows=5, columns=2)
    for ax, (place, column) in zip(axes.flat, enumerate(columns)):
        values = [table[size][place] for size in SIZES]
        best = table["earlier best"][place]
        ax.axhline(best, color=COLORS["muted"], linewidth=LINE,
                   linestyle=(0, (3, 2)), zorder=1)
        ax.plot(range(4), values, "o-", color=COLORS["query"], markersize=5)
        own = measured.get(column, {})
        ax.plot([SIZES.index(size) for size in own], list(own.values()), "D",
                color=COLORS["feed_forward"], markersize=6,
                markerfacecolor="none", markeredgewidth=LINE)
        better = "↑" if column.endswith("accuracy") else "↓"
        name = (column.replace("bits per character", "bits per char.")
                .replace("accuracy", "accuracy, %"))
        ax.set_title(f"{better}  {name}", loc="left", fontsize=11,
                     fontweight="semibold")
        every = [*values, best, *own.values()]
        room = (max(every) - min(every)) * 0.15
        ax.set(ylim=(min(every) - room, max(every) + room), xlim=(-.3, 3.3))
        ax.set_xticks(range(4), SHORT if place > 7 else [""] * 4)
        _grid(ax)
    return picture(fig, "Ten panels, one for each column of the GPT-2 paper’s"
                        " Table 3, with the four sizes from left to right and"
                        " a dashed line for the best earlier result. Arrows"
                        " say which way is better. Every curve improves with"
                        " size, but for one small step. The largest model passes"
                        " the line everywhere but in the last panel, the One"
                        " Billion Word Benchmark.")
