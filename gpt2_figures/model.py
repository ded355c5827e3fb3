"""Pictures of chapter 08: the whole model."""
import math

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, tint)

# The parts of a small GPT-2, from bottom to top: name, label, colour.
STACK = [("wte", "wte + wpe", "embedding"), ("h.0", "h.0", "residual"),
         ("h.1", "h.1", "residual"), ("h.2", "h.2", "residual"),
         ("h.3", "h.3", "residual"), ("ln_f", "ln_f", "norm"),
         ("lm_head", "head", "head")]


def placeholders(found: list[str | None]) -> Picture:
    """Placeholders turning real, and the first difference after each step.

    found: what `first_divergence` said with 0, 1, ... 7 real parts.
    """
    shown = [0, 1, 2, 5, 6, 7]                 # numbers of real parts
    fig, ax = canvas(height=4.3)
    blank(ax, 56, 43)
    pitch, w, h = 9.25, 8.2, 3.7
    for column, real in enumerate(shown):
        x = 0.6 + column * pitch
        middle = x + w / 2
        for row, (name, label, color) in enumerate(STACK):
            y = 8.2 + row * 4.9
            if row:
                ax.plot([middle, middle], [y - 1.2, y], zorder=0,
                        color=COLORS["residual"], linewidth=LINE * 0.8)
            if row < real:
                box(ax, x, y, w, h, label, color, filled=True, size=9.5,
                    radius=0.7)
            else:
                patch = box(ax, x, y, w, h, "", "line", radius=0.7)
                patch.set(facecolor="white", linestyle=(0, (3, 2)),
                          edgecolor=COLORS["muted"])
                ax.text(middle, y + h / 2, label, ha="center", va="center",
                        fontsize=9.5, color=COLORS["muted"])
            if found[real] == name:
                ax.plot([x - 0.1, x + w + 0.1], [y - 0.6, y - 0.6],
                        color=COLORS["wrong"], linewidth=LINE * 1.7,
                        zorder=4)
        done = found[real] is None
        ax.text(middle, 5.2, "equal" if done else found[real], ha="center",
                va="center", fontsize=10.5, fontweight="semibold",
                color=COLORS["right" if done else "wrong"])
    ax.text(0.6, 1.6, "↑ the first part that differs from Hugging Face’s",
            fontsize=10.5, color=COLORS["muted"], va="center")
    return picture(fig, "Six stacks side by side, each with embeddings, four"
                        " blocks, ln_f and head. From left to right more of"
                        " the dashed placeholders are real, from the bottom"
                        " up. A red line under the lowest placeholder marks"
                        " the first activation that differs: wte, h.0, h.1,"
                        " ln_f, lm_head, and none at the end.")


def shift(tokens: list[str]) -> Picture:
    """Which token each position has to predict."""
    fig, ax = canvas(height=2.15)
    blank(ax, 56, 21)
    n, left = len(tokens), 8.6
    pitch = (56 - left) / n

    def write(x, y, text):
        ax.text(x, y, text, ha="center", va="center_baseline", fontsize=10,
                color=COLORS["ink"])

    for x, y, label in ((0.3, 3.6, "ids"), (0.3, 10.6, "logits"),
                        (0.3, 17.6, "labels")):
        ax.text(x, y, label, va="center", fontsize=11,
                color=COLORS["muted"])
    for i, token in enumerate(tokens):
        x, w = left + i * pitch, pitch - 1.1
        middle = x + w / 2
        token = token.replace(" ", "·")
        box(ax, x, 1.8, w, 3.6, "", "embedding", radius=0.6)
        write(middle, 3.4, token)
        box(ax, x, 8.8, w, 3.6, "", "head", radius=0.6)
        write(middle, 10.4, f"t = {i + 1}")
        arrow(ax, (middle, 5.4), (middle, 8.8), "residual")
        if i + 1 < n:
            label = tokens[i + 1].replace(" ", "·")
            box(ax, x, 15.8, w, 3.6, "", "right", radius=0.6)
            write(middle, 17.4, label)
            arrow(ax, (middle, 12.4), (middle, 15.8), "right")
        else:
            ax.text(middle, 17.6, "no label", ha="center", va="center",
                    fontsize=9.5, style="italic", color=COLORS["muted"])
    return picture(fig, "Seven tokens in a row; above each the logits of its"
                        " position; above those the label, which is the next"
                        " token of the row. The last position has no label.")


def residual_std(curves: dict[tuple[int, bool], list[float]]) -> Picture:
    """Std of the residual stream by depth: {(layers, scaled): stds}."""
    fig, ax = canvas(height=3.3)
    for (layers, scaled), stds in curves.items():
        color, deep = COLORS["right" if scaled else "wrong"], layers > 12
        ax.plot(range(1, layers + 1), stds, color=color, zorder=3,
                linewidth=LINE * 1.5, linestyle="-" if deep or not scaled
                else (0, (2.4, 1.6)))
        ax.plot(layers, stds[-1], "o", markersize=6.5, zorder=4, color=color)
        ax.annotate(f"{layers} layers: {stds[-1]:.2f}", (layers, stds[-1]),
                    xytext=(-9, 7) if deep else (10, 3 if scaled else -12),
                    textcoords="offset points", fontsize=10.5, zorder=5,
                    ha="right" if deep else "left", color=color,
                    bbox=dict(facecolor="white", edgecolor="none", pad=1.2))
    for y, color, text in ((1.94, "wrong", "without the factor"),
                           (0.92, "right", "c_proj divided by √(2 · layers)")):
        ax.text(48, y, text, fontsize=11, color=COLORS[color], ha="right",
                fontweight="semibold", zorder=5,
                bbox=dict(facecolor="white", edgecolor="none", pad=1.2))
    ax.set(xlabel="blocks passed", ylabel="std of the residual stream",
           xlim=(0, 49.5), ylim=(0, 3.6), xticks=[0, 12, 24, 36, 48],
           yticks=[0, 1, 2, 3])
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    return picture(fig, "Standard deviation of the residual stream against"
                        " the number of blocks passed. Without the factor it"
                        " rises like a square root, to about 1.5 after 12"
                        " blocks and above 3 after 48. With it the stream"
                        " ends at about 0.3 in both models.")


def tied_gradient(tokens: list[str], bottom: list[float], top: list[float],
                  n_read: int) -> Picture:
    """Gradient norm of single rows of wte, from each of its two uses.

    tokens: labels of the rows; the first n_read stand in the sentence.
    """
    fig, (left, right) = canvas(height=4.5, columns=2, sharey=True)
    rows = [i + (0.8 if i >= n_read else 0) for i in range(len(tokens))]
    for ax, values, color, title in (
            (left, bottom, "embedding", "from below: wte"),
            (right, top, "head", "from above: head")):
        ax.barh(rows, values, color=COLORS[color], height=0.68)
        ax.set_title(title, color=COLORS[color], loc="left",
                     fontweight="semibold", fontsize=12)
        ax.set_xlabel("gradient norm of the row")
        ax.tick_params(axis="y", length=0)
        ax.axhline(n_read - 0.1, color=COLORS["line"], linewidth=0.8)
        ax.set_ylim(rows[-1] + 0.6, -0.6)
        ax.set_xlim(0, None)
        for row, value in zip(rows, values):
            if value < 0.02 * max(values):
                ax.text(0.02, row, "tiny" if value else "none", va="center",
                        fontsize=9.5, style="italic", color=COLORS["muted"],
                        transform=ax.get_yaxis_transform())
    left.set_yticks(rows, [t.replace(" ", "·") for t in tokens])
    right.text(0.97, (rows[-1] + rows[n_read]) / 2, "not in the\nsentence",
               transform=right.get_yaxis_transform(), ha="right",
               va="center", fontsize=10, style="italic",
               color=COLORS["muted"])
    return picture(fig, "Bars for the rows of wte that belong to the 13"
                        " tokens of the sentence and to three others. From"
                        " below only tokens that were read and have a"
                        " successor get a gradient. From above every row"
                        " gets one; it is tiny for the first token and the"
                        " three others, which are never a label.")


def _power(n: int) -> str:
    """Ten to the power of n, as a label."""
    return "10" + str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def next_tokens(before, after, prompt: str, likeliest: list[str]) -> Picture:
    """Next-token probabilities by rank, untrained and trained.

    before, after: (V,); likeliest: the first tokens of `after`, in order.
    """
    fig, ax = canvas(height=3.5)
    for values, color, name, rank, lift, side in (
            (before, "wrong", "untrained", 1.2, 1.8, "left"),
            (after, "head", "trained", 900, 0.2, "right")):
        values = sorted(values.tolist(), reverse=True)
        ax.plot(range(1, len(values) + 1), values, color=COLORS[color])
        ax.text(rank, values[int(rank) - 1] * lift, name, fontsize=11,
                color=COLORS[color], fontweight="semibold", ha=side)
    for rank, token in enumerate(likeliest, start=1):
        share = values[rank - 1]
        ax.plot(rank, share, "o", color=COLORS["head"], markersize=6,
                zorder=4, clip_on=False)
        token = token.replace(" ", "·").replace("\n", "⏎")
        ax.annotate(f"{token}  {share:.0%}", (0.66, 0.98), xytext=(
            0, -14 * (rank - 1)), xycoords=ax.transAxes, va="top",
            textcoords="offset points", fontsize=10.5)
    least = max(-9, min(-6, math.floor(math.log10(values[-1]))))
    powers = range(least + least % 2, -2, 2)
    ax.set(xscale="log", yscale="log", xlim=(0.9, len(values)),
           ylim=(10 ** least, 2), yticks=[*(10.0 ** n for n in powers), .01, 1],
           yticklabels=[*(_power(n) for n in powers), "1%", "100%"],
           xticks=[1, 10, 100, 1000], xticklabels=["1", "10", "100", "1,000"],
           xlabel="rank of the token, the likeliest first",
           ylabel="probability")
    ax.minorticks_off()
    ax.axhline(1 / len(values), color=COLORS["muted"], linewidth=LINE * 0.6,
               linestyle=(0, (3, 2)), zorder=0)
    ax.text(len(values) * 0.95, 1.5 / len(values), "1/V", ha="right",
            fontsize=10, color=COLORS["muted"])
    ax.set_title(f"after “{prompt.strip()}”", fontsize=12)
    return picture(fig, "Probabilities of the 4,096 next tokens by rank, on"
                        " logarithmic axes. Untrained they form a nearly flat"
                        " line at one 4,096th; trained the line begins far"
                        " above it and falls steeply, by many powers of ten."
                        " The five likeliest tokens are named.")


def gallery(results: dict[str, dict[str, tuple]]) -> Picture:
    """Change of the loss by each mistake, and how many choices are equal.

    results: {"random" and "trained": {mistake: (loss in nats, its change,
    share of positions with the same argmax, change of a logit)}}.
    """
    random, trained = results["random"], results["trained"]
    order = sorted(trained, key=lambda name: abs(trained[name][1]))
    least, top = 1e-7, len(order) - 0.45
    fig, (ax, side) = canvas(height=4.9, columns=2, sharey=True,
                             width_ratios=[4, 1.35])
    for row, name in enumerate(order):
        _, change, same, _ = trained[name]
        if abs(change) < least:
            ax.text(1.4 * least, row, "nothing", va="center", fontsize=10.5,
                    color=COLORS["muted"])
        else:
            color = tint("wrong", 0.5 if same > 0.95 else 0)
            ax.barh(row, abs(change), height=0.62, color=color, log=True)
            ax.plot(abs(random[name][1]), row, "D", markersize=6.5, zorder=5,
                    markerfacecolor="white", markeredgewidth=LINE,
                    markeredgecolor=COLORS["ink"])
        for x, share in ((0.45, same), (1, random[name][2])):
            side.text(x, row, f"{share:.0%}", ha="right", va="center",
                      fontsize=10.5)
    for x, label in ((0.45, "trained"), (1, "random")):
        side.text(x, top, label, ha="right", va="bottom", fontsize=10,
                  color=COLORS["muted"])
    side.text(1, top + 0.75, "same token", ha="right", va="bottom")
    side.set(xlim=(0, 1))
    side.axis("off")
    ax.set_yticks(range(len(order)), order)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(least, 40), ylim=(-0.6, top + 1.6),
           xlabel="change of the loss, nats per token")
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1], ["10⁻⁶", "10⁻⁴", "0.01", "1"])
    for x in (1e-6, 1e-4, 1e-2, 1):
        ax.plot([x, x], [-0.6, top], color=COLORS["line"], zorder=0,
                linewidth=LINE * 0.5)
    ax.text(least, top + 1.5, "bar: trained    ◇ random weights\n"
            "pale: 95% of the tokens stay the same", va="top",
            fontsize=10.5, linespacing=1.3)
    return picture(fig, "Bars, one for each mistake: the change of the"
                        " trained model's loss on a logarithmic scale, with"
                        " a mark for random weights. No mistake and a mask"
                        " of −1e4 change nothing; exact GELU and a smaller"
                        " eps change less than a hundredth of a nat and"
                        " hardly any chosen token; the others cost up to"
                        " several nats. With random weights no mistake"
                        " changes the loss by more than a tenth.")
