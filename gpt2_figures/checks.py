"""Pictures of chapter 09: comparing two models."""
import math

from matplotlib.ticker import FixedLocator, NullLocator

from gpt2_figures.shapes import (SLANTED, arrow, blank, box, dashed, grid,
                                 legend, lines, name_rows, smooth, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture, tint)


def two_losses(right: list[float], wrong: list[float]) -> Picture:
    """Training losses of the right model and of a faulty one, by step."""
    fig, ax = canvas(height=2.9)
    lines(ax, {"GPT-2": smooth(right, 6), "with two faults": smooth(wrong, 6)},
          ("right", "wrong"), ("-", (0, (4, 1.5))), first=0)
    ax.set(xlabel="training step", ylabel="loss (nats per letter)",
           ylim=(0, 5.1), xlim=(0, len(right)))
    ax.set_title("One of these two models is not GPT-2", pad=9)
    legend(ax, loc="upper right", handlelength=2.6)
    grid(ax)
    return picture(fig, "Two training curves that lie nearly on each other:"
                        " GPT-2, and a model with two faults in it. Both fall"
                        " steeply from 4.8 nats.")


def two_columns() -> Picture:
    """Ours beside theirs, compared after every part."""
    fig, ax = canvas(height=3.85)
    blank(ax, 56, 43)
    rows = ["wte + wpe", *(f"block {i}" for i in range(6)), "logits"]
    fault = 4
    box(ax, 17, 0.4, 22, 4, "the same token ids", "tokenizer", size=10.5,
        radius=0.8)
    _stack(ax, 4, 23, "ours", rows, fault)
    _stack(ax, 35, 33, "theirs", rows)
    for i in range(len(rows)):
        write(ax, 28, 8.45 + 4.2 * i, "=" if i < fault else "≠",
              "right" if i < fault else "wrong", 15, fontweight="bold")
    y = 8.45 + 4.2 * fault
    ax.annotate("first\ndifference", (3.8, y), (-3.4, y + 7.5), fontsize=9.5,
                ha="center", va="center", color=COLORS["wrong"],
                annotation_clip=False, arrowprops=dict(
                    arrowstyle="-|>", color=COLORS["wrong"], linewidth=LINE))
    ax.set_xlim(-8, 56)
    return picture(fig, "Two columns of the same parts, ours and theirs, fed"
                        " with the same token ids. From the embeddings to"
                        " block 2 they are equal; block 3 is the first that"
                        " differs, and all above it differ too.")


def _stack(ax, x, start, title, rows, fault=math.inf):
    """The parts of one model, from its first faulty part on in red."""
    write(ax, x + 8.5, 41.3, title, size=12, fontweight="semibold")
    arrow(ax, (start, 4.5), (x + 8.5, 6.7), "residual")
    for i, name in enumerate(rows):
        first = i == fault
        box(ax, x, 6.8 + 4.2 * i, 17, 3.3, name,
            "residual" if i < fault else "wrong", size=10.5, radius=0.7,
            filled=first, weight="semibold" if first else "normal")


def float_spacing(kinds: dict[str, float]) -> Picture:
    """Distance to the next number, by size; kinds: {name: epsilon}."""
    fig, ax = canvas(height=3.3)
    low, high = -12, 12
    lift = {"bfloat16": 4, "float16": 0.3}
    for (name, eps), color in zip(kinds.items(), ("muted", "attention",
                                                  "query", "right")):
        xs = [2.0 ** (k + end) for k in range(low, high) for end in (0, 1)]
        ys = [eps * 2.0 ** k for k in range(low, high) for _ in (0, 1)]
        ax.plot(xs, ys, color=COLORS[color])
        write(ax, 2.0 ** high * 1.3, ys[-1] * lift.get(name, 1), name, color,
              11, ha="left", fontweight="semibold")
    ax.axvline(1, color=COLORS["line"], linewidth=LINE * 0.7, zorder=0)
    ax.set_xscale("log", base=10)
    ax.set_yscale("log", base=10)
    ax.set(xlim=(2.0 ** low, 2.0 ** high * 60), ylim=(1e-20, 1e3),
           xlabel="size of the number", ylabel="distance to the next one")
    _ticks(ax.xaxis, 1e-3, 1e-1, 1e1, 1e3)
    _ticks(ax.yaxis, 1e-18, 1e-12, 1e-6, 1)
    ax.set_title("Numbers lie farther apart the larger they are", pad=9)
    return picture(fig, "Distance from a number to the next larger one, for"
                        " bfloat16, float16, float32 and float64: four"
                        " staircases that rise in proportion to the number."
                        " float64 lies nine powers of ten below float32.")


def _ticks(axis, *places):
    """These ticks and no others, with the axis's own labels."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())


def sums_in_any_order(steps: dict[int, int]) -> Picture:
    """How often a sum came out so many float32 steps off the exact one."""
    fig, ax = canvas(height=2.8)
    places = sorted(steps)
    ax.bar(places, [steps[p] for p in places], width=0.8,
           color=[COLORS["query" if p else "right"] for p in places])
    ax.set_title("The same 1,000 numbers, added in 2,000 orders", pad=9)
    edge, top = max(abs(p) for p in places) + 0.8, 1.22 * max(steps.values())
    ax.set(xlabel="distance from the exact sum, in steps of float32",
           ylabel="orders", xlim=(-edge, edge), ylim=(0, top))
    ax.axvline(0, color=COLORS["right"], linewidth=LINE * 0.7, zorder=0)
    write(ax, 0.5, top, "exact", "right", ha="left", va="top")
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
    write(ax, n + 0.25, math.log2(n) + 0.18, "uniform", "muted", ha="left")
    colors = ("muted", "query", "attention")
    lines(ax, curves, colors, ("-", (0, (4, 1.5)), "-"), zorder=2)
    for (name, values), color, shift in zip(curves.items(), colors,
                                            (-0.12, -0.42, 0)):
        write(ax, n + 0.25, values[-1] + shift, name, color, ha="left",
              fontweight="semibold")
    ax.set(xlabel="tokens that a token may read", xlim=(1, n + 4.2),
           ylabel="entropy of attention (bits)", ylim=(0, 4.2),
           xticks=range(1, n + 1, 2))
    ax.set_title("A new model looks at everything alike", pad=9)
    return picture(fig, "Entropy of the attention weights by the number of"
                        " tokens that may be read: fresh and perturbed models"
                        " follow the uniform line; the sharpened one stays"
                        " far below it.")


def growth(names: list[str], curves: dict[str, list[float]],
           fault: int) -> Picture:
    """Difference after each part, for faults planted in one block."""
    fig, ax = canvas(height=3.7)
    last = len(names) - 1
    ax.axvspan(-0.5, fault - 0.5, color=tint("right", 0.86), linewidth=0)
    write(ax, (fault - 1) / 2, 1e-5, "identical\nto the last bit", "right")
    dashed(ax, y=1e-10, width=LINE * 0.8, dashes=(2, 2))
    write(ax, last + 2.9, 1.7e-10, "tolerance in float64", "muted", 10,
          ha="right", va="bottom")
    _differences(ax, curves)
    ax.set(yscale="log", xlim=(-0.5, last + 2.9), ylim=(1e-11, 3),
           ylabel="largest difference / largest value")
    ax.set_title("One fault in block 3, seen after every part", pad=9)
    _ticks(ax.yaxis, 1e-10, 1e-7, 1e-4, 1e-1)
    ax.set_xticks(range(len(names)), names, **SLANTED)
    return picture(fig, "Difference between a faulty model and the right one"
                        " after each part: nothing before block 3, from there"
                        " to the logits far above the tolerance, for a"
                        " transposed matrix, a missing scale, another GELU"
                        " and another epsilon.")


def _differences(ax, curves):
    """A curve for each fault from where it is seen on, its name at the end."""
    height = math.inf
    for (name, values), color in zip(curves.items(), (
            "wrong", "feed_forward", "attention", "query")):
        ax.plot(*zip(*((i, v) for i, v in enumerate(values) if v > 0)), "o-",
                color=COLORS[color], markersize=4)
        height = min(values[-1], height / 8)         # names stay apart
        write(ax, len(values) - 0.75, height, name, color, 10, ha="left")


def noise_and_faults(noise: dict[str, float], tolerance: dict[str, float],
                     faults: dict[str, float]) -> Picture:
    """Rounding noise and faults on one axis; all: {label: size}."""
    fig, ax = canvas(height=3.7)
    rows = [name for group in (noise, faults)
            for name in sorted(reversed(group), key=group.get)]
    for y, name in enumerate(rows):
        good = name in noise
        ax.axhline(y, color=COLORS["line"], linewidth=LINE * 0.5, zorder=0)
        ax.plot((noise if good else faults)[name], y, "o", markersize=8,
                zorder=3, color=COLORS["right" if good else "wrong"])
    for name, bound in tolerance.items():
        dashed(ax, x=bound, color="ink", zorder=1)
        write(ax, bound, len(rows) - 0.35, name, size=10, va="bottom")
    name_rows(ax, rows, down=False)
    ax.set(xscale="log", xlim=(1e-16, 1), ylim=(-0.6, len(rows) - 0.4),
           xlabel="largest difference of the logits / largest logit")
    _ticks(ax.xaxis, 1e-15, 1e-10, 1e-5, 1)
    return picture(
        fig, "Differences on a logarithmic axis. Rounding noise: near 1e-15"
        " in float64, far below its tolerance of 1e-10; near 1e-6 in float32,"
        " just below its tolerance of 1e-5. The smallest fault is below the"
        " float32 tolerance too; all are far above the float64 tolerance.")


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
    ax.set_xscale("log")
    for row, name in enumerate(order):
        _mistake(ax, row, least, *trained[name][1:3], random[name][1])
    _same_token(side, top, [trained[name][2] for name in order],
                [random[name][2] for name in order])
    name_rows(ax, order, down=False, spine=True)
    _loss_axis(ax, least, top)
    return picture(
        fig, "Bars, one for each mistake: the change of the trained model's"
        " loss on a logarithmic scale, with a mark for random weights. No"
        " mistake and a mask of −1e4 change nothing; exact GELU and a smaller"
        " eps change less than a hundredth of a nat and hardly any chosen"
        " token; the others cost up to several nats. With random weights no"
        " mistake changes the loss by more than a tenth.")


def _mistake(ax, row, least, change, same, untrained):
    """The bar of one mistake, and the mark of the untrained model."""
    if abs(change) < least:
        write(ax, 1.4 * least, row, "nothing", "muted", ha="left")
        return
    ax.barh(row, abs(change), height=0.62, log=True,
            color=tint("wrong", 0.5 if same > 0.95 else 0))
    ax.plot(abs(untrained), row, "D", markersize=6.5, zorder=5,
            markerfacecolor="white", markeredgewidth=LINE,
            markeredgecolor=COLORS["ink"])


def _loss_axis(ax, least, top):
    """A logarithmic axis, rules that end below the words, and the words."""
    places = {1e-6: "10⁻⁶", 1e-4: "10⁻⁴", 1e-2: "0.01", 1: "1"}
    ax.set(xlim=(least, 40), ylim=(-0.6, top + 1.6),
           xlabel="change of the loss, nats per token")
    ax.set_xticks(list(places), places.values())
    for x in places:
        ax.plot([x, x], [-0.6, top], color=COLORS["line"], zorder=0,
                linewidth=LINE * 0.5)
    write(ax, least, top + 1.5, "bar: trained    ◇ random weights\n"
          "pale: 95% of the tokens stay the same", ha="left", va="top",
          linespacing=1.3)


def _same_token(ax, top, trained, random):
    """A table beside the bars: how many choices stay the same."""
    for x, name, shares in ((0.45, "trained", trained),
                            (1, "random", random)):
        for row, share in enumerate(shares):
            write(ax, x, row, f"{share:.0%}", ha="right")
        write(ax, x, top, name, "muted", 10, ha="right", va="bottom")
    write(ax, 1, top + 0.75, "same token", size=None, ha="right",
          va="bottom")
    ax.set(xlim=(0, 1))
    ax.axis("off")
