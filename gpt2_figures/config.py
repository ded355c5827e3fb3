"""The pictures of chapter 01: language models, and GPT-2 in numbers."""
from datetime import date
from math import log

from matplotlib.patches import Patch

from gpt2_figures.shapes import (arrow, bars, blank, board, box, dashed, grid,
                                 label, legend, name_rows, stacked, tag,
                                 write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture, tint)

# What a part of the model is called, and its colour, in stacked bars.
PART_COLORS = {"wte": "embedding", "wpe": "position",
               "attention": "attention", "feed_forward": "feed_forward",
               "layer_norm": "norm", "lm_head": "head"}
PURPOSE_COLORS = {"weights": "head", "gradients": "query",
                  "optimizer": "residual", "activations": "feed_forward"}
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


def _squares(ax, colors, names):
    """A legend of coloured squares above the axes."""
    legend(ax, handles=[Patch(color=COLORS[colors[part]], label=name)
                        for part, name in names.items()],
           loc="lower left", bbox_to_anchor=(-0.01, 1), ncols=len(names),
           handlelength=0.9, handleheight=0.9, columnspacing=1.1,
           handletextpad=0.45, borderaxespad=0.3)


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
