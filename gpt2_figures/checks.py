"""Pictures of chapter 09: comparing two models."""
import math

from matplotlib.ticker import FixedLocator, NullLocator

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, tint)


def two_losses(right: list[float], wrong: list[float]) -> Picture:
    """Training losses of the right model and of a faulty one, by step."""
    fig, ax = canvas(height=2.9)
    for values, color, name, style in (
            (right, "right", "GPT-2", "-"),
            (wrong, "wrong", "with two faults", (0, (4, 1.5)))):
        ax.plot(_smooth(values), color=COLORS[color], label=name,
                linestyle=style)
    ax.set(xlabel="training step", ylabel="loss (nats per letter)",
           ylim=(0, 5.1), xlim=(0, len(right)))
    _title(ax, "One of these two models is not GPT-2")
    ax.legend(loc="upper right", handlelength=2.6, frameon=False)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    return picture(fig, "Two training curves that lie nearly on each other:"
                        " GPT-2, and a model with two faults in it. Both"
                        " fall steeply from 4.8 nats.")


def _title(ax, text):
    ax.set_title(text, loc="left", fontsize=12.5, fontweight="semibold",
                 pad=9)


def _smooth(values, span=5):
    return [sum(part) / len(part) for part in (
        values[max(0, i - span):i + 1] for i in range(len(values)))]


def two_columns() -> Picture:
    """Ours beside theirs, compared after every part."""
    fig, ax = canvas(height=3.85)
    blank(ax, 56, 43)
    rows = ["wte + wpe", "block 0", "block 1", "block 2", "block 3",
            "block 4", "block 5", "logits"]
    fault = 4
    box(ax, 17, 0.4, 22, 4, "the same token ids", "tokenizer", size=10.5,
        radius=0.8)
    for x, title in ((4, "ours"), (35, "theirs")):
        mid = x + 8.5
        ax.text(mid, 41.3, title, ha="center", va="center", fontsize=12,
                fontweight="semibold")
        arrow(ax, (23 if x < 20 else 33, 4.5), (mid, 6.7), "residual")
        for i, name in enumerate(rows):
            y = 6.8 + 4.2 * i
            mine = x < 20
            color = "residual"
            if mine and i >= fault:
                color = "wrong"
            patch = box(ax, x, y, 17, 3.3, name, color, size=10.5,
                        radius=0.7, filled=mine and i == fault,
                        weight="semibold" if mine and i == fault
                        else "normal")
            patch.set_linewidth(LINE * 0.8)
    for i in range(len(rows)):
        y = 6.8 + 4.2 * i + 1.65
        same = i < fault
        ax.text(28, y, "=" if same else "≠", ha="center", va="center",
                fontsize=15, fontweight="bold",
                color=COLORS["right" if same else "wrong"])
    y = 6.8 + 4.2 * fault + 1.65
    ax.annotate("first\ndifference", (3.8, y), (-3.4, y + 7.5), fontsize=9.5,
                ha="center", va="center", color=COLORS["wrong"],
                annotation_clip=False, arrowprops=dict(
                    arrowstyle="-|>", color=COLORS["wrong"], linewidth=LINE))
    ax.set_xlim(-8, 56)
    return picture(fig, "Two columns of the same parts, ours and theirs, fed"
                        " with the same token ids. From the embeddings to"
                        " block 2 they are equal; block 3 is the first that"
                        " differs, and all above it differ too.")


def float_spacing(kinds: dict[str, float]) -> Picture:
    """Distance to the next number, by size; kinds: {name: epsilon}."""
    fig, ax = canvas(height=3.3)
    colors = ["muted", "attention", "query", "right"]
    low, high = -12, 12
    for (name, eps), color in zip(kinds.items(), colors):
        xs, ys = [], []
        for k in range(low, high):
            xs += [2.0 ** k, 2.0 ** (k + 1)]
            ys += [eps * 2.0 ** k] * 2
        ax.plot(xs, ys, color=COLORS[color])
        lift = {"bfloat16": 4, "float16": 0.3}.get(name, 1)
        ax.text(2.0 ** high * 1.3, ys[-1] * lift, name, va="center",
                color=COLORS[color], fontsize=11, fontweight="semibold")
    ax.axvline(1, color=COLORS["line"], linewidth=LINE * 0.7, zorder=0)
    ax.set_xscale("log", base=10)
    ax.set_yscale("log", base=10)
    ax.set(xlim=(2.0 ** low, 2.0 ** high * 60), ylim=(1e-20, 1e3),
           xlabel="size of the number", ylabel="distance to the next one")
    ax.xaxis.set_major_locator(FixedLocator([1e-3, 1e-1, 1e1, 1e3]))
    ax.yaxis.set_major_locator(FixedLocator([1e-18, 1e-12, 1e-6, 1]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    _title(ax, "Numbers lie farther apart the larger they are")
    return picture(fig, "Distance from a number to the next larger one, for"
                        " bfloat16, float16, float32 and float64: four"
                        " staircases that rise in proportion to the number."
                        " float64 lies nine powers of ten below float32.")


def sums_in_any_order(steps: dict[int, int]) -> Picture:
    """How often a sum came out so many float32 steps off the exact one."""
    fig, ax = canvas(height=2.8)
    places = sorted(steps)
    colors = [COLORS["right" if p == 0 else "query"] for p in places]
    ax.bar(places, [steps[p] for p in places], width=0.8, color=colors)
    ax.set(xlabel="distance from the exact sum, in steps of float32",
           ylabel="orders")
    _title(ax, "The same 1,000 numbers, added in 2,000 orders")
    edge = max(abs(p) for p in places) + 0.8
    ax.set(xlim=(-edge, edge), ylim=(0, 1.22 * max(steps.values())))
    ax.axvline(0, color=COLORS["right"], linewidth=LINE * 0.7, zorder=0)
    ax.text(0.5, ax.get_ylim()[1], "exact", color=COLORS["right"],
            fontsize=10.5, va="top")
    return picture(fig, "Histogram: adding the same 1,000 numbers in 2,000"
                        " orders gives many different float32 sums, spread"
                        " around the exact one like a bell.")


def entropies(curves: dict[str, list[float]]) -> Picture:
    """Mean entropy of attention by how many tokens a token may read."""
    fig, ax = canvas(height=3.1)
    n = len(next(iter(curves.values())))
    xs = range(1, n + 1)
    ax.plot(xs, [math.log2(x) for x in xs], color=COLORS["line"],
            linewidth=6, zorder=1)
    ax.text(n + 0.25, math.log2(n) + 0.18, "uniform", va="center",
            color=COLORS["muted"], fontsize=10.5)
    for (name, values), color, style, shift in zip(
            curves.items(), ("muted", "query", "attention"),
            ("-", (0, (4, 1.5)), "-"), (-0.12, -0.42, 0)):
        ax.plot(xs, values, color=COLORS[color], linestyle=style, zorder=2)
        ax.text(n + 0.25, values[-1] + shift, name, va="center",
                color=COLORS[color], fontsize=10.5, fontweight="semibold")
    ax.set(xlabel="tokens that a token may read", xlim=(1, n + 4.2),
           ylabel="entropy of attention (bits)", ylim=(0, 4.2))
    ax.set_xticks(range(1, n + 1, 2))
    _title(ax, "A new model looks at everything alike")
    return picture(fig, "Entropy of the attention weights by the number of"
                        " tokens that may be read: fresh and perturbed"
                        " models follow the uniform line; the sharpened one"
                        " stays far below it.")


def growth(names: list[str], curves: dict[str, list[float]],
           fault: int) -> Picture:
    """Difference after each part, for faults planted in one block."""
    fig, ax = canvas(height=3.7)
    last = len(names) - 1
    ax.axvspan(-0.5, fault - 0.5, color=tint("right", 0.86), linewidth=0)
    ax.text((fault - 1) / 2, 1e-5, "identical\nto the last bit", va="center",
            ha="center", color=COLORS["right"], fontsize=10.5)
    ax.axhline(1e-10, color=COLORS["muted"], linewidth=LINE * 0.8,
               linestyle=(0, (2, 2)))
    ax.text(last + 2.9, 1.7e-10, "tolerance in float64", fontsize=10,
            color=COLORS["muted"], ha="right", va="bottom")
    colors = ["wrong", "feed_forward", "attention", "query"]
    height = math.inf
    for (name, values), color in zip(curves.items(), colors):
        shown = [(i, v) for i, v in enumerate(values) if v > 0]
        ax.plot(*zip(*shown), color=COLORS[color], marker="o", markersize=4)
        height = min(values[-1], height / 8)         # labels stay apart
        ax.text(last + 0.25, height, name, va="center", fontsize=10,
                color=COLORS[color])
    ax.set_yscale("log")
    ax.set(xlim=(-0.5, last + 2.9), ylim=(1e-11, 3),
           ylabel="largest difference / largest value")
    ax.yaxis.set_major_locator(FixedLocator([1e-10, 1e-7, 1e-4, 1e-1]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right",
                  rotation_mode="anchor")
    _title(ax, "One fault in block 3, seen after every part")
    return picture(fig, "Difference between a faulty model and the right one"
                        " after each part: nothing before block 3, from"
                        " there to the logits far above the tolerance, for a"
                        " transposed matrix, a missing scale, another GELU"
                        " and another epsilon.")


def noise_and_faults(noise: dict[str, float], tolerance: dict[str, float],
                     faults: dict[str, float]) -> Picture:
    """Rounding noise and faults on one axis; all: {label: size}."""
    fig, ax = canvas(height=3.7)
    rows = [*sorted(faults.items(), key=lambda item: -item[1]),
            *sorted(noise.items(), key=lambda item: -item[1])]
    for y, (name, value) in enumerate(reversed(rows)):
        ax.axhline(y, color=COLORS["line"], linewidth=LINE * 0.5, zorder=0)
        ax.plot(value, y, "o", markersize=8, zorder=3,
                color=COLORS["right" if name in noise else "wrong"])
    for name, bound in tolerance.items():
        ax.axvline(bound, color=COLORS["ink"], linewidth=LINE,
                   linestyle=(0, (3, 2)), zorder=1)
        ax.text(bound, len(rows) - 0.35, name, ha="center", va="bottom",
                fontsize=10)
    ax.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xscale("log")
    ax.set(xlim=(1e-16, 1), ylim=(-0.6, len(rows) - 0.4),
           xlabel="largest difference of the logits / largest logit")
    ax.xaxis.set_major_locator(FixedLocator([1e-15, 1e-10, 1e-5, 1]))
    ax.xaxis.set_minor_locator(NullLocator())
    return picture(fig, "Differences on a logarithmic axis. Rounding noise:"
                        " near 1e-15 in float64, far below its tolerance of"
                        " 1e-10; near 1e-6 in float32, just below its"
                        " tolerance of 1e-5. The smallest fault is below the"
                        " float32 tolerance too; all are far above the"
                        " float64 tolerance.")
