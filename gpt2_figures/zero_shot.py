"""Pictures of chapter 20: zero-shot."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import (arrow, bars, board, box, dashed, grid,
                                 heatmap, log_x, write)
from gpt2_figures.style import COLORS, LINE, Picture, canvas, picture, tint

SIZES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
SHORT = ("small", "medium", "large", "XL")
Interval = tuple[float, float, float]            # share, low, high


def shots() -> Picture:
    """The same question as a zero-, one- and few-shot prompt."""
    fig, ax = board(33.5)
    examples = ["robot = Roboter", "order = Befehl", "reason = Grund"]
    for i, (title, count) in enumerate((("zero-shot", 0), ("one-shot", 1),
                                        ("few-shot", 3))):
        x, y = 0.6 + 18.6 * i, 24.4 - 4.4 * count
        write(ax, x + 8.8, 31.6, title, size=12, fontweight="semibold")
        for place, words in enumerate(examples[:count]):
            box(ax, x, 24.4 - 4.4 * place, 17.6, 3.8, words, "query",
                size=10.5, radius=0.5)
        box(ax, x, y, 17.6, 3.8, "machine =", "key", size=10.5, radius=0.5)
        arrow(ax, (x + 8.8, y), (x + 8.8, y - 3.6), "residual")
        box(ax, x + 3.4, y - 7.4, 10.8, 3.8, "Maschine", "right", size=10.5,
            radius=0.5, filled=True)
    write(ax, 28, 0.9, "no weight changes: the task is in the text alone",
          "muted")
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
            columns=list(columns), numbers=".2f")
    ax.set(xlabel="output", ylabel="task")
    return picture(fig, "A table of probabilities: a row for each task, a"
                        " column for each output. In every column the largest"
                        " number stands where output and task belong"
                        " together.")


def windows(length: int = 8, stride: int = 3, count: int = 16) -> Picture:
    """Sliding windows over a row of tokens."""
    fig, ax = board(24)
    for i in range(count):
        _token(ax, i, 20.5, "residual", str(i))
    row, first = 0, 1
    while first < count:
        end, y = min(first + stride if row else length + 1, count), 16.7
        y -= 3.7 * row
        for i in range(max(0, end - length - 1), end):
            _token(ax, i, y, "right" if i >= first else "line")
        write(ax, 8, y + 1.3, f"window {row}", "muted", ha="right")
        first, row = end, row + 1
    for i, color, words in ((5 / 2.9, "line", "read only"),
                            (24 / 2.9, "right", "read and scored")):
        _token(ax, i, 0.6, color)
        write(ax, 12.4 + 2.9 * i, 1.9, words, "ink", ha="left")
    return picture(fig, f"{count} tokens and four windows over them. The"
                        " first window scores all of its tokens but the"
                        f" first; each of the others moves on by {stride} and"
                        " scores only the new tokens, with many read before"
                        " them.")


def _token(ax, i, y, color, text=""):
    """The box of token i."""
    box(ax, 9 + i * 2.9, y, 2.61, 2.6, text, color, filled=color == "right",
        size=9.5, radius=0.4)


def strides(points: Sequence[tuple[int, float]], length: int) -> Picture:
    """Perplexity per token against the stride."""
    fig, ax = canvas(height=2.7)
    ax.plot(*zip(*points), "o-", color=COLORS["query"], markersize=6)
    log_x(ax, [stride for stride, _ in points], 2)
    low, high = (f([y for _, y in points]) for f in (min, max))
    room = (high - low) * 0.25
    ax.set(xlabel=f"stride, of windows of {length} tokens",
           ylabel="perplexity per token", ylim=(low - room, high + room))
    for x, y in points:
        write(ax, x, y + (high - low) * 0.08, f"{y:.2f}", "ink", va="bottom")
    grid(ax)
    return picture(fig, "Perplexity of one text against the stride of the"
                        " windows: the smaller the stride, the lower the"
                        " perplexity, with the same model and text.")


def units(found: Mapping[int, tuple[float, float]]) -> Picture:
    """Perplexity per token and bits per byte, by size of the vocabulary."""
    fig, axes = canvas(height=2.8, columns=2)
    names = [f"{n:,}" for n in found]
    for ax, values, title, color, form in zip(
            axes, zip(*found.values()),
            ("perplexity per token", "bits per byte"), ("wrong", "right"),
            ("{:.0f}", "{:.2f}")):
        bars(ax, values, color, form, 0, upright=True, ink="ink", va="bottom")
        ax.set_title(title, fontsize=12)
        ax.set_xticks(range(len(names)), names)
        ax.set(xlabel="entries in the vocabulary",
               ylim=(0, max(values) * 1.15))
        grid(ax)
    return picture(fig, "Two bar charts of 3-gram models of the same text"
                        " with vocabularies from 256 to 4,096 entries. By"
                        " perplexity per token the smallest vocabulary looks"
                        " best by far; in bits per byte it is the worst.")


def partial() -> Picture:
    """Which tokens of a schema are scored, by both ways."""
    fig, ax = board(29.5)
    looks = dict(size=10.5, radius=0.5)
    for name, y, color in (("partial", 16.4, "line"), ("whole", 4.2, "right")):
        write(ax, 0.4, y + 9.7, f"{name} scoring", "ink", ha="left",
              fontweight="semibold")
        box(ax, 0.4, y + 4.6, 55, 3.6,
            "The trophy doesn’t fit into the suitcase because", color,
            **looks)
        for x, candidate in ((0.4, "the trophy"), (28.4, "the suitcase")):
            box(ax, x, y, 13.2, 3.6, candidate, color, **looks)
            box(ax, x + 13.8, y, 13.2, 3.6, "is too large.", "right",
                filled=True, **looks)
    write(ax, 28, 1.6, "green: what is scored", "muted")
    return picture(fig, "One schema, two candidates. Partial scoring compares"
                        " the probability of “is too large.” after either"
                        " candidate. Whole scoring also counts the beginning"
                        " and the candidate itself.")


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
        dashed(ax, y=chance[name], zorder=1)
        ax.set_title(name, fontsize=11.5)
        ax.set_xticks(range(len(by_shots)), list(by_shots))
        ax.set(xlim=(-0.6, len(by_shots) - 0.4), ylim=(0, 1.02))
        grid(ax)
    axes[1].set_xlabel("solved examples in the prompt")
    axes[0].set_ylabel("share right")
    write(axes[0], -0.5, chance[next(iter(found))] - 0.02, "guessing",
          "muted", 10, ha="left", va="top")
    return picture(fig, "Accuracy of the small model on three tasks with 0, 1"
                        " and 4 solved examples, with 95 % intervals and a"
                        " dashed line for guessing.")


def table_3(columns: Sequence[str], table: Mapping[str, Sequence[float]],
            measured: Mapping[str, Mapping[str, float]]) -> Picture:
    """Table 3, a panel a column; measured[column][size]: our own runs."""
    fig, axes = canvas(height=7.6, rows=5, columns=2)
    for ax, (place, column) in zip(axes.flat, enumerate(columns)):
        values = [table[size][place] for size in SIZES]
        best, own = table["earlier best"][place], measured.get(column, {})
        dashed(ax, y=best, zorder=1)
        ax.plot(range(4), values, "o-", color=COLORS["query"], markersize=5)
        ax.plot([SIZES.index(size) for size in own], list(own.values()), "D",
                color=COLORS["feed_forward"], markersize=6,
                markerfacecolor="none", markeredgewidth=LINE)
        ax.set_title(_direction(column), fontsize=11)
        every = [*values, best, *own.values()]
        room = (max(every) - min(every)) * 0.15
        ax.set(ylim=(min(every) - room, max(every) + room), xlim=(-.3, 3.3))
        ax.set_xticks(range(4), SHORT if place > 7 else [""] * 4)
        grid(ax)
    return picture(fig, "Ten panels, one for each column of the GPT-2 paper’s"
                        " Table 3, with the four sizes from left to right and"
                        " a dashed line for the best earlier result. Arrows"
                        " say which way is better. Every curve improves with"
                        " size, but for one small step. The largest model"
                        " passes the line everywhere but in the last panel,"
                        " the One Billion Word Benchmark.")


def _direction(column: str) -> str:
    """The name of a column, and an arrow to where it is better."""
    better = "↑" if column.endswith("accuracy") else "↓"
    name = column.replace("bits per character", "bits per char.")
    return f"{better}  {name.replace('accuracy', 'accuracy, %')}"
