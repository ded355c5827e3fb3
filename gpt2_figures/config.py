"""The pictures of chapter 01: language models, and GPT-2 in numbers."""
from datetime import date

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, tint)

# What a part of the model is called, and its colour, in stacked bars.
PART_COLORS = {"wte": "embedding", "wpe": "position",
               "attention": "attention", "feed_forward": "feed_forward",
               "layer_norm": "norm", "lm_head": "head"}
PURPOSE_COLORS = {"weights": "head", "gradients": "query",
                  "optimizer": "residual", "activations": "feed_forward"}
KIND_COLORS = {"two LSTMs": "residual", "encoder": "value",
               "decoder": "attention", "recurrent decoder": "key"}


def _title(ax, text: str) -> None:
    """A heading at the left edge of the axes."""
    ax.set_title(text, loc="left", fontsize=12.5, fontweight="semibold",
                 pad=9)


def _dashes(ax, x: float) -> None:
    """A dashed vertical line that marks a value."""
    ax.axvline(x, color=COLORS["ink"], linewidth=LINE * 0.7, zorder=0.5,
               linestyle=(0, (3, 3)))


def next_word(context: str, probabilities: dict[str, float]) -> Picture:
    """The distribution over the next word, as bars, after a context."""
    words = sorted(probabilities, key=probabilities.get, reverse=True)
    fig, ax = canvas(height=0.75 + 0.42 * len(words))
    heights = [probabilities[word] for word in words]
    rows = range(len(words))
    ax.barh(rows, heights, height=0.62, color=COLORS["head"])
    for row, p in zip(rows, heights):
        ax.text(p + 0.012, row, f"{p:.1%}", va="center", fontsize=11)
    ax.set_yticks(rows, words, fontsize=12)
    ax.invert_yaxis()
    ax.set(xlim=(0, 0.62), xticks=[])
    ax.tick_params(left=False)
    ax.spines[["bottom", "left"]].set_visible(False)
    ax.axvline(0, color=COLORS["muted"], linewidth=0.8)
    _title(ax, f"What may follow “{context}”")
    listed = ", ".join(f"{w} {probabilities[w]:.1%}" for w in words)
    return picture(fig, f"Bars: after “{context}” the next word is {listed}.")


def chain(words: list[str], probabilities: list[float]) -> Picture:
    """One bar a word: its probability given the word before it."""
    fig, ax = canvas(height=2.7)
    places = range(len(words))
    ax.bar(places, probabilities, width=0.66, color=[
        COLORS["head"] if p < 1 else tint("head", 0.55)
        for p in probabilities])
    for place, p in zip(places, probabilities):
        ax.text(place, p + 0.025, f"{p:.2f}" if p < 1 else "1", ha="center",
                fontsize=10.5)
    for place in places[:-1]:
        ax.text(place + 0.5, -0.075, "×", ha="center", va="center",
                fontsize=11, color=COLORS["muted"], clip_on=False)
    ax.set_xticks(places, words, fontsize=10.5)
    ax.tick_params(bottom=False, left=False, pad=1)
    ax.set(ylim=(0, 1.14), yticks=[], xlim=(-0.5, len(words) - 0.5))
    ax.spines["left"].set_visible(False)
    _title(ax, "Probability of each word, given the one before")
    listed = ", ".join(f"{w} {p:.2f}" for w, p in zip(words, probabilities))
    return picture(fig, f"Bars, one a word of the sentence: {listed}. Their"
                        " product is the probability of the sentence.")


def surprise(groups: dict[float, str]) -> Picture:
    """-ln p against p, with the words of the sentence marked on the curve."""
    from math import log
    fig, ax = canvas(height=3.0)
    xs = [0.018 * (1 / 0.018) ** (i / 200) for i in range(201)]
    ax.plot(xs, [-log(x) for x in xs], color=COLORS["head"])
    for p, label in groups.items():
        y = -log(p)
        ax.plot(p, y, "o", color=COLORS["head"], markersize=7, clip_on=False,
                zorder=5)
        if p > 0.9:                      # no room to the right: a leader
            ax.plot([p, p - 0.05], [y + 0.12, y + 0.95], linewidth=0.8,
                    color=COLORS["muted"])
            ax.text(p - 0.02, y + 1.03, label, fontsize=10.5, ha="right")
        else:
            ax.text(p + 0.02, y + 0.16, label, fontsize=10.5)
    ax.set(xlim=(0, 1), ylim=(0, 4), xlabel="probability that the model gave"
           " to the word that came", ylabel="loss in nats")
    bits = ax.secondary_yaxis("right", functions=(lambda n: n / log(2),
                                                  lambda b: b * log(2)))
    bits.set_ylabel("loss in bits", fontsize=11.5)
    bits.tick_params(labelsize=10.5, color=COLORS["muted"])
    bits.spines["right"].set(visible=True, color=COLORS["muted"],
                             linewidth=0.8)
    _title(ax, "The loss of one prediction is −log p")
    listed = "; ".join(f"{label} at {p:.2f}" for p, label in groups.items())
    return picture(fig, "Curve of −ln p: zero at probability 1, rising"
                        f" without limit towards 0. Marked: {listed}.")


def autoregression(start: list[str], added: list[str]) -> Picture:
    """A staircase: each row is one input; the new word joins the next row."""
    rows, step_height = len(added), 4.6
    height = 4.4 + step_height * rows
    fig, ax = canvas(height=height / 10)
    blank(ax, 56, height)
    for step in range(rows):
        y, x = step_height * (rows - 1 - step) + 0.4, 7.2
        ax.text(0, y + 1, f"step {step + 1}", va="baseline", fontsize=10.5,
                color=COLORS["muted"])
        for i, word in enumerate(start + added[:step + 1]):
            new, width = i == len(start) + step, 1.7 + 0.82 * len(word)
            if new:
                arrow(ax, (x - 0.7, y + 1.6), (x + 1.7, y + 1.6), "head")
                x += 1.9
            box(ax, x, y, width, 3.2, "", "head" if new else "embedding",
                filled=new, radius=0.6)
            ax.text(x + width / 2, y + 1, word, ha="center", fontsize=10.5,
                    va="baseline", zorder=4,
                    fontweight="semibold" if new else "normal",
                    color="white" if new else COLORS["ink"])
            x += width + 0.8
    for x, color, filled, text in ((7.2, "embedding", False, "input"),
                                   (16, "head", True, "predicted")):
        box(ax, x, height - 2.6, 2.2, 1.8, "", color, filled=filled,
            radius=0.4)
        ax.text(x + 3, height - 2.3, text, va="baseline", fontsize=10.5)
    return picture(fig, "A staircase of inputs. The model reads “"
                   + " ".join(start) + "” and predicts “" + added[0]
                   + "”; that word joins the input, and so on, up to “"
                   + " ".join(start + added) + "”.")


def who_reads(panels: dict[str, list[list[int]]], words: list[str],
              ) -> Picture:
    """Square maps: 2 = reads directly, 1 = through deeper layers, 0 = not."""
    fig, axes = canvas(height=2.8, columns=len(panels))
    n = len(words)
    shades = {0: "#f4f5f7", 1: tint("attention", 0.62),
              2: COLORS["attention"]}
    for index, (ax, (name, rows)) in enumerate(zip(axes, panels.items())):
        blank(ax, n, n)
        ax.set(ylim=(-2.5, n + 2.2))
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                box(ax, j + 0.06, n - 1 - i + 0.06, 0.88, 0.88, "", "line",
                    radius=0.15).set(facecolor=shades[int(value)],
                                     edgecolor="none")
            if index == 0:
                ax.text(-0.25, n - 0.5 - i, words[i], ha="right",
                        va="center", fontsize=10.5, clip_on=False)
        for j, word in enumerate(words):
            ax.text(j + 0.62, -0.25, word, ha="right", va="top", rotation=55,
                    rotation_mode="anchor", fontsize=10, clip_on=False)
        title, _, below = name.partition("\n")
        ax.text(0, n + 1.15, title, fontsize=12, fontweight="semibold")
        ax.text(0, n + 0.3, below, fontsize=10, color=COLORS["muted"])
    for value, label in ((2, "reads directly"),
                         (1, "only through deeper layers")):
        axes[0].plot([], [], "s", color=shades[value], label=label,
                     markersize=9)
    fig.legend(loc="outside lower right", ncols=2, frameon=False,
               fontsize=10.5, handletextpad=0.2, columnspacing=1.2)
    return picture(fig, "Three maps; row: the token that reads, column: the"
                   " token that is read. BERT: every token reads every"
                   " token. GPT-2: each reads itself and what came before."
                   " Transformer-XL: itself and what came before in its"
                   " segment and in the segment before; older tokens only"
                   " through deeper layers.")


def timeline(models: list[tuple[str, date, float, str]]) -> Picture:
    """Models by date and parameters; models: (name, date, count, kind)."""
    fig, ax = canvas(height=3.6)
    family = [m for m in models if m[0].startswith("GPT")]
    ax.plot([m[1] for m in family], [m[2] for m in family], zorder=2,
            color=tint("attention", 0.6), linewidth=LINE)
    place = {"ELMo": (-4, -17, "left"), "GPT": (-6, 8, "right"),
             "BERT": (-9, 3, "right"), "Transformer-XL": (9, -12, "left"),
             "GPT-2": (10, -7, "left"), "GPT-3": (-10, -3, "right")}
    for name, day, count, kind in models:
        color = COLORS[KIND_COLORS[kind]]
        ax.plot(day, count, "o", markersize=11, color=color, zorder=4,
                markeredgecolor="white", markeredgewidth=1.2)
        x, y, ha = place[name]
        size = f"{count / 1e9:g} B" if count >= 1e9 else f"{count / 1e6:g} M"
        ax.annotate(f"{name}  {size}", (day, count), xytext=(x, y), ha=ha,
                    textcoords="offset points", fontsize=11,
                    fontweight="semibold" if name == "GPT-2" else "normal")
    for kind, color in KIND_COLORS.items():
        ax.plot([], [], "o", color=COLORS[color], label=kind, markersize=8)
    ax.legend(loc="upper left", handletextpad=0.2, borderaxespad=0.2,
              labelspacing=0.35, frameon=True, framealpha=1, fontsize=10.5,
              edgecolor="none")
    years = [date(2018, 1, 1), date(2019, 1, 1), date(2020, 1, 1)]
    ax.set_xticks(years, [d.year for d in years], ha="left")
    ax.set(xlim=(date(2017, 12, 1), date(2020, 8, 1)), yscale="log",
           ylim=(3.5e7, 4e11), ylabel="parameters")
    ax.set_yticks([1e8, 1e9, 1e10, 1e11],
                  ["100 M", "1 B", "10 B", "100 B"])
    ax.minorticks_off()
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    listed = "; ".join(f"{n} {d:%B %Y}, {c / 1e6:,.0f} million, {k}"
                       for n, d, c, k in models)
    return picture(fig, f"Models by date and size: {listed}.")


def _stacked(ax, rows, colors, unit, labels, smallest):
    """Stacked horizontal bars; rows: {name: {part: value}} in `unit`s."""
    for y, (name, parts) in enumerate(rows.items()):
        left = 0.0
        for part, value in parts.items():
            width = value / unit(parts)
            ax.barh(y, width, left=left, height=0.66,
                    color=COLORS[colors[part]], edgecolor="white",
                    linewidth=0.8)
            if width >= smallest:
                ax.text(left + width / 2, y, labels(width), ha="center",
                        va="center", fontsize=10.5, color="white")
            left += width
    ax.set_yticks(range(len(rows)), list(rows))
    ax.invert_yaxis()
    ax.tick_params(left=False)
    ax.spines["left"].set_visible(False)


def _legend(ax, colors, names, columns):
    """Coloured squares above the axes."""
    from matplotlib.patches import Patch
    handles = [Patch(color=COLORS[colors[k]], label=v)
               for k, v in names.items()]
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.01, 1),
              ncols=columns, handlelength=0.9, handleheight=0.9,
              columnspacing=1.1, handletextpad=0.45, borderaxespad=0.3,
              frameon=False, fontsize=10.5)


def parameter_shares(counts: dict[str, dict[str, int]]) -> Picture:
    """Where the parameters are: one bar a size, parts in per cent."""
    fig, ax = canvas(height=0.95 + 0.42 * len(counts))
    _stacked(ax, counts, PART_COLORS, lambda parts: sum(parts.values()),
             lambda share: f"{share:.0%}", 0.045)
    for y, parts in enumerate(counts.values()):
        total = sum(parts.values())
        ax.text(1.015, y, f"{total / 1e6:,.0f} M" if total >= 1e7
                else f"{total / 1e6:.1f} M", va="center", fontsize=10.5)
    ax.set(xlim=(0, 1.14), xticks=[])
    ax.spines["bottom"].set_visible(False)
    _legend(ax, PART_COLORS, {"wte": "tokens (wte)", "wpe": "positions (wpe)",
                              "attention": "attention",
                              "feed_forward": "feed-forward"}, 4)
    listed = "; ".join(
        f"{name}: " + ", ".join(
            f"{part} {value / sum(parts.values()):.0%}"
            for part, value in parts.items() if part != "lm_head")
        for name, parts in counts.items())
    return picture(fig, f"Share of the parameters by part. {listed}.")


def flops_by_length(lengths: list[int], parts: dict[str, list[float]],
                    trained: int, equal: int) -> Picture:
    """Stacked areas: MFLOPs a token, by part, against the length T."""
    fig, ax = canvas(height=3.1)
    colors = ["feed_forward", "embedding", "attention"]
    ax.stackplot(lengths, *parts.values(), linewidth=0,
                 colors=[tint(c, 0.08) for c in colors])
    base = 0.0
    for name, values in parts.items():
        growing = values[-1] > values[0]
        x = lengths[-1] * (0.985 if growing else 0.14)
        y = base + (values[-1] * 0.45 if growing else values[0] / 2)
        ax.text(x, y, name, ha="right" if growing else "left", va="center",
                fontsize=11, color="white", fontweight="semibold")
        base += values[0] if not growing else 0
    top = sum(values[-1] for values in parts.values())
    for x, label in ((trained, f"GPT-2 reads\n{trained:,}"),
                     (equal, f"attention = blocks'\nweights at {equal:,}")):
        _dashes(ax, x)
        ax.lines[-1].set_zorder(3)
        ax.text(x + lengths[-1] * 0.012, top * 1.05, label, fontsize=10.5,
                va="top", linespacing=1.15)
    ax.set(xlim=(0, lengths[-1]), ylim=(0, top * 1.08),
           xlabel="sequence length T, in tokens",
           ylabel="MFLOPs a token, forward")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    return picture(fig, "Stacked areas of the forward FLOPs of a token of"
                   " GPT-2 small against the sequence length. Block weights"
                   f" and head are constant; attention grows with T, is small"
                   f" at {trained:,} tokens and equals the block weights at"
                   f" {equal:,}.")


def memory_by_size(sizes: dict[str, dict[str, int]], cards: list[int],
                   batch: str) -> Picture:
    """GiB for training, by purpose and size; dashed: a GPU's memory."""
    gib = 2 ** 30
    fig, ax = canvas(height=1.35 + 0.45 * len(sizes))
    _stacked(ax, sizes, PURPOSE_COLORS, lambda parts: gib,
             lambda width: f"{width:.0f}", 3.5)
    for y, parts in enumerate(sizes.values()):
        total = sum(parts.values()) / gib
        ax.text(total + 0.8, y, f"{total:.0f} GiB", va="center",
                fontsize=10.5, bbox=dict(facecolor="white", pad=1.5,
                                         edgecolor="none"))
    for card in cards:
        _dashes(ax, card)
        ax.text(card - 0.8, len(sizes) - 0.62, f"{card} GiB card",
                fontsize=10.5, ha="right", va="top", color=COLORS["muted"])
    ax.set(xlim=(0, 84), xlabel=f"GiB, float32, {batch}")
    ax.set_ylim(len(sizes) - 0.15, -0.5)
    _legend(ax, PURPOSE_COLORS, {k: k for k in PURPOSE_COLORS}, 4)
    listed = "; ".join(
        f"{name}: " + ", ".join(f"{k} {v / gib:.1f}"
                                for k, v in parts.items())
        for name, parts in sizes.items())
    return picture(fig, f"Memory for training in GiB, {batch}. {listed}.")
