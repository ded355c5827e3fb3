"""The pictures of chapter 01: language models, and GPT-2 in numbers."""
from datetime import date
from math import log

from gpt2_figures.shapes import (arrow, bars, blank, board, box, grid, label,
                                 legend, name_rows, tag, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture, tint)

KIND_COLORS = {"two LSTMs": "residual", "encoder": "value",
               "decoder": "attention", "recurrent decoder": "key"}


def next_word(context: str, probabilities: dict[str, float]) -> Picture:
    """The distribution over the next word, as bars, after a context."""
    words = sorted(probabilities, key=probabilities.get, reverse=True)
    fig, ax = canvas(height=0.75 + 0.42 * len(words))
    bars(ax, [probabilities[word] for word in words], "head", "{:.1%}", 0.012,
         size=11)
    name_rows(ax, words)
    ax.tick_params(axis="y", labelsize=12)
    ax.set(xlim=(0, 0.62), xticks=[])
    ax.spines["bottom"].set_visible(False)
    ax.axvline(0, color=COLORS["muted"], linewidth=0.8)
    ax.set_title(f"What may follow “{context}”", pad=9)
    listed = ", ".join(f"{w} {probabilities[w]:.1%}" for w in words)
    return picture(fig, f"Bars: after “{context}” the next word is {listed}.")


def chain(words: list[str], probabilities: list[float]) -> Picture:
    """One bar a word: its probability given the word before it."""
    fig, ax = canvas(height=2.7)
    places = range(len(words))
    bars(ax, probabilities, ["head" if p < 1 else tint("head", 0.55)
                             for p in probabilities],
         lambda p: f"{p:.2f}" if p < 1 else "1", 0.025, height=0.66,
         upright=True)
    for place in places[:-1]:
        write(ax, place + 0.5, -0.075, "×", "muted", 11, clip_on=False)
    ax.set_xticks(places, words, fontsize=10.5)
    ax.tick_params(bottom=False, left=False, pad=1)
    ax.set(ylim=(0, 1.14), yticks=[], xlim=(-0.5, len(words) - 0.5))
    ax.spines["left"].set_visible(False)
    ax.set_title("Probability of each word, given the one before", pad=9)
    listed = ", ".join(f"{w} {p:.2f}" for w, p in zip(words, probabilities))
    return picture(fig, f"Bars, one a word of the sentence: {listed}. Their"
                        " product is the probability of the sentence.")


def surprise(groups: dict[float, str]) -> Picture:
    """-ln p against p, with the words of the sentence marked on the curve."""
    fig, ax = canvas(height=3.0)
    xs = [0.018 * (1 / 0.018) ** (i / 200) for i in range(201)]
    ax.plot(xs, [-log(x) for x in xs], color=COLORS["head"])
    for p, text in groups.items():
        _marked(ax, p, -log(p), text)
    ax.set(xlim=(0, 1), ylim=(0, 4), xlabel="probability that the model gave"
           " to the word that came", ylabel="loss in nats")
    bits = ax.secondary_yaxis("right", functions=(lambda n: n / log(2),
                                                  lambda b: b * log(2)))
    bits.set_ylabel("loss in bits", fontsize=11.5)
    bits.tick_params(labelsize=10.5, color=COLORS["muted"])
    bits.spines["right"].set(visible=True, color=COLORS["muted"],
                             linewidth=0.8)
    ax.set_title("The loss of one prediction is −log p", pad=9)
    listed = "; ".join(f"{label} at {p:.2f}" for p, label in groups.items())
    return picture(fig, "Curve of −ln p: zero at probability 1, rising"
                        f" without limit towards 0. Marked: {listed}.")


def _marked(ax, p, y, text):
    """A point of the curve with its words; a leader where room is short."""
    ax.plot(p, y, "o", color=COLORS["head"], markersize=7, clip_on=False,
            zorder=5)
    if p > 0.9:
        ax.plot([p, p - 0.05], [y + 0.12, y + 0.95], linewidth=0.8,
                color=COLORS["muted"])
    x, y, side = ((p - 0.02, y + 1.03, "right") if p > 0.9 else
                  (p + 0.02, y + 0.16, "left"))
    write(ax, x, y, text, ha=side, va="baseline")


def autoregression(start: list[str], added: list[str]) -> Picture:
    """A staircase: each row is one input; the new word joins the next row."""
    rows, tall = len(added), 4.6
    height = 4.4 + tall * rows
    fig, ax = board(height)
    for step in range(rows):
        y, x = tall * (rows - 1 - step) + 0.4, 7.2
        write(ax, 0, y + 1, f"step {step + 1}", "muted", ha="left",
              va="baseline")
        for word in start + added[:step]:
            x = _word(ax, x, y, word)
        arrow(ax, (x - 0.7, y + 1.6), (x + 1.7, y + 1.6), "head")
        _word(ax, x + 1.9, y, added[step], new=True)
    for x, color, filled, text in ((7.2, "embedding", False, "input"),
                                   (16, "head", True, "predicted")):
        box(ax, x, height - 2.6, 2.2, 1.8, "", color, filled=filled,
            radius=0.4)
        write(ax, x + 3, height - 2.3, text, ha="left", va="baseline")
    return picture(fig, "A staircase of inputs. The model reads “"
                   + " ".join(start) + "” and predicts “" + added[0]
                   + "”; that word joins the input, and so on, up to “"
                   + " ".join(start + added) + "”.")


def _word(ax, x, y, word, new=False):
    """A word in its box; -> where the next may begin."""
    width = 1.7 + 0.82 * len(word)
    box(ax, x, y, width, 3.2, "", "head" if new else "embedding", filled=new,
        radius=0.6)
    write(ax, x + width / 2, y + 1, word, "white" if new else "ink",
          va="baseline", zorder=4, fontweight="semibold" if new else "normal")
    return x + width + 0.8


READS = {0: "#f4f5f7", 1: tint("attention", 0.62), 2: COLORS["attention"]}


def who_reads(panels: dict[str, list[list[int]]], words: list[str],
              ) -> Picture:
    """Square maps: 2 = reads directly, 1 = through deeper layers, 0 = not."""
    fig, axes = canvas(height=2.8, columns=len(panels))
    n = len(words)
    for ax, (name, rows) in zip(axes, panels.items()):
        _readers(ax, rows, words)
        title, _, below = name.partition("\n")
        start = dict(ha="left", va="baseline")
        write(ax, 0, n + 1.15, title, size=12, fontweight="semibold", **start)
        write(ax, 0, n + 0.3, below, "muted", 10, **start)
    for i, word in enumerate(words):
        write(axes[0], -0.25, n - 0.5 - i, word, ha="right", clip_on=False)
    for value, text in ((2, "reads directly"),
                        (1, "only through deeper layers")):
        axes[0].plot([], [], "s", color=READS[value], label=text,
                     markersize=9)
    legend(fig, loc="outside lower right", ncols=2, handletextpad=0.2,
           columnspacing=1.2)
    return picture(fig, "Three maps; row: the token that reads, column: the"
                        " token that is read. BERT: every token reads every"
                        " token. GPT-2: each reads itself and what came"
                        " before. Transformer-XL: itself and what came before"
                        " in its segment and in the segment before; older"
                        " tokens only through deeper layers.")


def _readers(ax, rows, words):
    """One square map: a row is a reader, a column is read."""
    n = len(words)
    blank(ax, n, n).set_ylim(-2.5, n + 2.2)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            box(ax, j + 0.06, n - 1 - i + 0.06, 0.88, 0.88, "", "line",
                radius=0.15).set(facecolor=READS[int(value)],
                                 edgecolor="none")
    for j, word in enumerate(words):
        write(ax, j + 0.62, -0.25, word, size=10, ha="right", va="top",
              rotation=55, rotation_mode="anchor", clip_on=False)


def timeline(models: list[tuple[str, date, float, str]]) -> Picture:
    """Models by date and parameters; models: (name, date, count, kind)."""
    fig, ax = canvas(height=3.6)
    family = [(day, count) for name, day, count, _ in models
              if name.startswith("GPT")]
    ax.plot(*zip(*family), zorder=2, color=tint("attention", 0.6),
            linewidth=LINE)
    for name, day, count, kind in models:
        ax.plot(day, count, "o", markersize=11, zorder=4,
                color=COLORS[KIND_COLORS[kind]], markeredgecolor="white",
                markeredgewidth=1.2)
        size = f"{count / 1e9:g} B" if count >= 1e9 else f"{count / 1e6:g} M"
        shift, side = BESIDE[name]
        tag(ax, (day, count), shift, f"{name}  {size}", size=11, ha=side,
            fontweight="semibold" if name == "GPT-2" else "normal")
    for kind, color in KIND_COLORS.items():
        ax.plot([], [], "o", color=COLORS[color], label=kind, markersize=8)
    _axes_of_time(ax)
    listed = "; ".join(f"{n} {d:%B %Y}, {c / 1e6:,.0f} million, {k}"
                       for n, d, c, k in models)
    return picture(fig, f"Models by date and size: {listed}.")


# Where the name of a model stands, in points from its mark.
BESIDE = {"ELMo": ((-4, -17), "left"), "GPT": ((-6, 8), "right"),
          "BERT": ((-9, 3), "right"), "Transformer-XL": ((9, -12), "left"),
          "GPT-2": ((10, -7), "left"), "GPT-3": ((-10, -3), "right")}


def _axes_of_time(ax):
    legend(ax, loc="upper left", handletextpad=0.2, borderaxespad=0.2,
           labelspacing=0.35, frameon=True, framealpha=1, edgecolor="none")
    years = [date(year, 1, 1) for year in (2018, 2019, 2020)]
    ax.set_xticks(years, [d.year for d in years], ha="left")
    ax.set(xlim=(date(2017, 12, 1), date(2020, 8, 1)), yscale="log",
           ylim=(3.5e7, 4e11), ylabel="parameters")
    ax.set_yticks([1e8, 1e9, 1e10, 1e11],
                  ["100 M", "1 B", "10 B", "100 B"])
    ax.minorticks_off()
    grid(ax)
