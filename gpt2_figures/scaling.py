"""Pictures of chapter 17: scaling."""
from collections.abc import Mapping, Sequence

from gpt2_figures.shapes import (bars, dashed, grid, label, log_x,
                                 name_curves, name_rows, write)
from gpt2_figures.style import COLORS, LINE, Picture, canvas, picture, tint

PART_COLORS = {"attention matrices": "attention",
               "scores and values": "query", "feed-forward": "feed_forward",
               "norms, GELU, sums": "norm", "head and loss": "head",
               "AdamW and clipping": "muted"}
SHORT = {"gpt2": "small", "gpt2-medium": "medium", "gpt2-large": "large",
         "gpt2-xl": "XL"}
# Where the name of a part stands that lies on the slope, as factors.
BESIDE = {"AdamW and clipping": (1.4, 1.0), "norms, GELU, sums": (1.4, 0.8)}


def roofline(per_byte: Mapping[str, float], peak: float,
             bandwidth: float) -> Picture:
    """The parts of an update under the roof of this device."""
    fig, ax = canvas(height=3.6)
    low, high, top = 0.1, 3e3, peak / 1e9
    corner = peak / bandwidth

    def roof(x):
        return min(peak, x * bandwidth) / 1e9

    ax.plot([low, corner, high], [roof(low), roof(corner), roof(high)],
            color=COLORS["ink"])
    for name, x in per_byte.items():
        ax.plot(x, roof(x), "o", color=COLORS[PART_COLORS[name]],
                markersize=9, zorder=5)
    ax.set(xscale="log", yscale="log", xlim=(low, high),
           ylim=(roof(low), top * 3), xlabel="FLOPs per byte moved",
           ylabel="GFLOP/s that can be reached")
    _name_parts(ax, per_byte, corner, roof)
    return picture(fig, "Roofline of this device: a slope on which memory"
                        " decides, then a flat roof on which arithmetic"
                        " decides. AdamW and the norms lie low on the slope;"
                        " the matrix products of attention, feed-forward and"
                        " head lie far to the right, under the flat roof.")


def _name_parts(ax, per_byte, corner, roof):
    """Names of both roofs; of the parts beside the slope or below the flat."""
    top = below = roof(corner)
    for x, y, words, foot in (
            (ax.get_xlim()[1], top * 1.15, "arithmetic decides", "bottom"),
            (corner * 0.3, top * 0.48, "memory decides", "baseline")):
        write(ax, x, y, words, "muted", ha="right", va=foot)
    for name, x in sorted(per_byte.items(), key=lambda item: item[1]):
        if x <= corner:
            dx, dy = BESIDE.get(name, (1.35, 0.75))
            label(ax, x * dx, roof(x) * dy, name, PART_COLORS[name])
        else:
            below /= 2
            ax.plot([x, x], [below, roof(x)], color=COLORS["line"],
                    linewidth=0.8)
            label(ax, x, below, name, PART_COLORS[name], ha="center")


def predicted(said: Mapping[str, float],
              measured: Mapping[str, float]) -> Picture:
    """Seconds by size: what the roofline says and what was measured."""
    fig, ax = canvas(height=2.9)
    for i, name in enumerate(said):
        for shift, values, color in ((-0.19, said, "query"),
                                     (0.19, measured, "key")):
            ax.bar(i + shift, values[name], 0.36, color=COLORS[color])
            write(ax, i + shift, values[name] * 1.06, f"{values[name]:.1f}",
                  size=10, va="bottom")
    ax.set(yscale="log", ylabel="seconds",
           ylim=(min(said.values()) / 3,
                 max(*said.values(), *measured.values()) * 3))
    ax.set_xticks(range(len(said)), [SHORT[name] for name in said])
    ax.tick_params(axis="x", length=0)
    name_curves(ax, ("predicted", "measured"), ("query", "key"), 0.02, 0.95,
                ha="left")
    return picture(fig, "Bars of predicted and measured seconds of a forward"
                        " and backward pass of 32 tokens, for the four"
                        " published sizes on a logarithmic scale: both rise"
                        " together from small to XL.")


def loss_memory(peaks: Mapping[int, int], usual: int, size: int) -> Picture:
    """Peak of the loss against the number of positions at once."""
    fig, ax = canvas(height=2.9)
    rows = list(peaks)
    ax.plot(rows, [peaks[r] / size for r in rows], "o-",
            color=COLORS["right"])
    dashed(ax, y=usual / size, color="wrong")
    label(ax, min(rows), usual / size - 0.22, "the usual loss", "wrong")
    label(ax, rows[1] * 0.8, peaks[rows[1]] / size + 0.35, "in rows", "right",
          ha="right")
    log_x(ax, rows)
    ax.set(xlabel="positions that have logits at once",
           ylabel="peak, in sizes of the logits",
           ylim=(0, usual / size * 1.1))
    grid(ax)
    return picture(fig, "Peak memory of the loss against the number of"
                        " positions computed at once: about 1 size of all"
                        " logits for 2,048 positions, nearly 0.2 for 64; the"
                        " usual loss needs three.")


def checkpointing(depths: Sequence[int], kept: Sequence[int],
                  again: Sequence[int]) -> Picture:
    """Peak of a backward pass against the number of layers."""
    fig, ax = canvas(height=2.8)
    for values, name, color in ((kept, "all activations kept", "key"),
                                (again, "checkpointed", "right")):
        ax.plot(depths, [v / 1e6 for v in values], "o-",
                color=COLORS[color])
        label(ax, 6, (values[-1] + values[-2]) / 2e6 + kept[-1] / 9e6, name,
              color, ha="right")
    ax.set(xlabel="layers", ylabel="peak, MB", ylim=(0, None), xticks=depths)
    grid(ax)
    return picture(fig, "Peak memory of a backward pass against the number of"
                        " layers: both rise in straight lines, the"
                        " checkpointed one with less than a third of the"
                        " slope.")


def ladder(results: Sequence[Mapping], where: str = "this CPU") -> Picture:
    """Speed and memory of each rung as multiples of the lowest."""
    names = [row["rung"] for row in results]
    fig, axes = canvas(height=0.42 * len(names) + 0.9, columns=2,
                       sharey=True, width_ratios=(1.1, 1))
    speed, memory = ([(row[key] or 0) / results[0][key] for row in results]
                     for key in ("tokens_per_second", "peak_bytes"))
    for ax, title, values, color, most in (
            (axes[0], "speed", speed, "query", 1.3 * max(speed)),
            (axes[1], "memory", memory, "key", 1.35)):
        bars(ax, values, color, lambda v: f"{v:.2f}" if v else "not counted",
             0.03, height=0.6, size=10,
             ink=["ink" if v else "muted" for v in values])
        name_rows(ax, names, down=ax is axes[0])
        ax.set(xlim=(0, most), xticks=[0, 1])
        ax.set_title(title, fontsize=12)
    return picture(fig, f"Bars for each rung of the ladder on {where}: tokens"
                        " per second and peak memory, as multiples of the"
                        " plainest way to train. Fused attention and the loss"
                        " in rows need less memory.")


def ends(low: Sequence[float], high: Sequence[float]) -> Picture:
    """Loss of the lowest and of the highest rung."""
    fig, ax = canvas(height=2.7)
    steps = range(1, len(low) + 1)
    ax.plot(steps, low, color=COLORS["key"], linewidth=5, alpha=0.5)
    ax.plot(steps, high, color=COLORS["query"])
    name_curves(ax, ("lowest rung", "highest rung"), ("key", "query"), y=0.9,
                step=0.12)
    ax.set(xlabel="updates", ylabel="loss, nats per token", ylim=(0, None),
           xticks=[1, 5, 10, 15, 20])
    grid(ax)
    return picture(fig, "Training loss over 20 updates of the lowest and the"
                        " highest rung of the ladder: one curve lies exactly"
                        " on the other.")


def costs(sizes: Mapping[str, float],
          published: Mapping[str, tuple[float, float, float]]) -> Picture:
    """Published runs: hours against FLOPs, between lines of equal MFU.

    sizes: FLOPs of 300 billion tokens; published: (FLOPs, FLOP/s of all
    devices, hours).
    """
    fig, ax = canvas(height=3.5)
    low, high = 3e18, 8e21
    _machines(ax, low, high)
    for name, (flops, _, hours) in published.items():
        ax.plot(flops, hours, "o", color=COLORS["ink"], markersize=7,
                zorder=5)
        label(ax, flops * (1.35 if name == "llm.c 124M" else 1.25),
              hours * 0.8, name)
    for name, flops in sizes.items():
        _size(ax, flops, SHORT[name])
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(0.3, 2e3),
           xlabel="FLOPs of the run", ylabel="hours")
    return picture(fig, "Hours against FLOPs of a run on logarithmic axes."
                        " Two bands, for 8 A100 and 8 H100 at 25 to 65 % of"
                        " their peak. The published runs of nanoGPT and llm.c"
                        " lie in the bands of their machines. Vertical lines:"
                        " the four sizes on 300 billion tokens.")


def _size(ax, flops, name):
    """An upright rule for one of the four sizes."""
    ax.axvline(flops, color=COLORS["line"], linewidth=LINE * 0.7, zorder=0)
    write(ax, flops * 0.96, 0.33, name, "muted", 10, rotation=90, ha="right",
          va="bottom")


def _machines(ax, low, high):
    """A band for each machine, from 65 down to 25 % of its peak."""
    for rate, name, color, lift in ((8 * 312e12, "8 A100", "key", 2.6),
                                    (8 * 989e12, "8 H100", "query", 0.38)):
        hours = [[f / (rate * m) / 3600 for f in (low, high)]
                 for m in (0.65, 0.25)]
        ax.fill_between([low, high], *hours, color=tint(color, 0.6),
                        linewidth=0, zorder=1)
        label(ax, 6e19, 6e19 / (rate * 0.4) / 3600 * lift, name, color,
              ha="center")
