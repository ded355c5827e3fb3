"""Pictures of chapter 10: the whole model."""
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


def next_tokens(probabilities, bins: int = 60) -> Picture:
    """Distribution of the next token's probability, in units of 1/V.

    probabilities: (V,) of an untrained model.
    """
    relative = (probabilities * len(probabilities)).tolist()
    fig, ax = canvas(height=2.7)
    ax.hist(relative, bins=bins, color=COLORS["head"],
            edgecolor="white", linewidth=0.3, log=True)
    ax.axvline(1, color=COLORS["wrong"], linewidth=LINE * 1.2)
    ax.set(ylim=(0.6, 1e5), xlim=(0, None), yticks=[1, 100, 1e4],
           xlabel="probability of a next token, in units of 1/V",
           ylabel="entries (log scale)")
    ax.text(1.15, 3e4, "1/V, if all were equal", fontsize=10.5,
            color=COLORS["wrong"])
    return picture(fig, "Histogram of the probabilities that the untrained"
                        " 124M model gives to the 50,257 entries after the"
                        " running sentence. Nearly all lie between a fifth"
                        " of 1/V and three times 1/V, and none reaches 20"
                        " times 1/V.")


def gallery(results: dict[str, tuple[float, int]], positions: int) -> Picture:
    """Largest difference of a logit for each mistake, and same tokens.

    results: {mistake: (difference, positions with the same argmax)}.
    """
    order = sorted(results.items(), key=lambda item: item[1][0])
    fig, ax = canvas(height=4.6)
    for row, (name, (delta, same)) in enumerate(order):
        noise = delta < 1e-4
        color = COLORS["right" if noise else "wrong"]
        hidden = not noise and same > 0.9 * positions
        ax.barh(row, delta, height=0.62, log=True,
                color=tint(color, 0.45) if hidden else color)
        ax.text(1.06, row, f"{same / positions:.0%}", ha="right",
                va="center", fontsize=10.5, color=COLORS["ink"],
                transform=ax.get_yaxis_transform())
    ax.axvspan(1e-7, 1e-4, color=tint("right", 0.88), zorder=0)
    ax.text(1.3e-7, len(order) - 0.35, "noise", fontsize=10,
            color=COLORS["right"], va="bottom")
    ax.text(1.06, len(order) - 0.35, "same token", ha="right", va="bottom",
            fontsize=10, color=COLORS["muted"],
            transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(order)), [name for name, _ in order])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(1e-7, 60), ylim=(-0.6, len(order) + 0.2),
           xlabel="largest difference of a logit")
    ax.set_xticks([1e-6, 1e-4, 1e-2, 1])
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    return picture(fig, "Bars, one for each mistake, on a logarithmic scale"
                        " of the largest difference of a logit. No mistake"
                        " and a mask of −1e4 lie within the noise; exact"
                        " GELU and a smaller eps lie near 0.001 to 0.02 with"
                        " nearly every predicted token the same; all the"
                        " other mistakes move logits by more than 0.5 and"
                        " change most predicted tokens.")
