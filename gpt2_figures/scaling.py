"""Pictures of chapter 17: scaling."""
from collections.abc import Mapping, Sequence

from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, picture, tint)

PART_COLORS = {"attention matrices": "attention",
               "scores and values": "query", "feed-forward": "feed_forward",
               "norms, GELU, sums": "norm", "head and loss": "head",
               "AdamW and clipping": "muted"}
SHORT = {"gpt2": "small", "gpt2-medium": "medium", "gpt2-large": "large",
         "gpt2-xl": "XL"}


def _label(ax, x, y, text, color="ink", **kwargs):
    """A name beside a mark, on white."""
    ax.text(x, y, text, color=COLORS[color], zorder=6,
            **{"va": "center", "fontsize": 10.5, "fontweight": "semibold",
               **kwargs},
            bbox=dict(facecolor="white", edgecolor="none", pad=0.8))


def _grid(ax, axis="y"):
    ax.grid(axis=axis)
    ax.set_axisbelow(True)


def roofline(per_byte: Mapping[str, float], peak: float,
             bandwidth: float) -> Picture:
    """The parts of an update under the roof of this device."""
    fig, ax = canvas(height=3.6)
    low, high = 0.1, 3e3
    corner = peak / bandwidth

    def roof(x):
        return min(peak, x * bandwidth) / 1e9

    ax.plot([low, corner, high], [roof(low), roof(corner), roof(high)],
            color=COLORS["ink"])
    beside = {"AdamW and clipping": ("left", 1.4, 1.0),
              "norms, GELU, sums": ("left", 1.4, 0.8)}
    flat = sorted((x, name) for name, x in per_byte.items() if x > corner)
    for name, x in per_byte.items():
        color = PART_COLORS[name]
        ax.plot(x, roof(x), "o", color=COLORS[color], markersize=9, zorder=5)
        if x <= corner:
            ha, dx, dy = beside.get(name, ("left", 1.35, 0.75))
            _label(ax, x * dx, roof(x) * dy, name, color, ha=ha)
    for i, (x, name) in enumerate(flat):
        y = peak / 1e9 * 0.5 ** (i + 1)
        ax.plot([x, x], [y, peak / 1e9], color=COLORS["line"], linewidth=0.8)
        _label(ax, x, y, name, PART_COLORS[name], ha="center")
    ax.set(xscale="log", yscale="log", xlim=(low, high),
           ylim=(roof(low), peak / 1e9 * 3),
           xlabel="FLOPs per byte moved", ylabel="GFLOP/s that can be reached")
    ax.text(high, peak / 1e9 * 1.15, "arithmetic decides", ha="right",
            va="bottom", color=COLORS["muted"], fontsize=10.5)
    ax.text(corner * 0.3, roof(corner * 0.3) * 1.6, "memory decides",
            ha="right", color=COLORS["muted"], fontsize=10.5)
    return picture(fig, "Roofline of this device: a slope on which memory"
                        " decides, then a flat roof on which arithmetic"
                        " decides. AdamW and the norms lie low on the slope;"
                        " the matrix products of attention, feed-forward and"
                        " head lie far to the right, under the flat roof.")


def predicted(said: Mapping[str, float],
              measured: Mapping[str, float]) -> Picture:
    """Seconds by size: what the roofline says and what was measured."""
    fig, ax = canvas(height=2.9)
    for i, name in enumerate(said):
        for shift, values, color in ((-0.19, said, "query"),
                                     (0.19, measured, "key")):
            ax.bar(i + shift, values[name], 0.36, color=COLORS[color])
            ax.text(i + shift, values[name] * 1.06, f"{values[name]:.1f}",
                    ha="center", va="bottom", fontsize=10)
    ax.set(yscale="log", ylabel="seconds",
           ylim=(min(said.values()) / 3,
                 max(*said.values(), *measured.values()) * 3))
    ax.set_xticks(range(len(said)), [SHORT[name] for name in said])
    ax.tick_params(axis="x", length=0)
    for y, text, color in ((0.95, "predicted", "query"),
                           (0.85, "measured", "key")):
        _label(ax, 0.02, y, text, color, transform=ax.transAxes)
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
    ax.axhline(usual / size, color=COLORS["wrong"], linestyle=(0, (3, 2)))
    _label(ax, min(rows), usual / size - 0.22, "the usual loss", "wrong",
           ha="left")
    _label(ax, rows[1] * 0.8, peaks[rows[1]] / size + 0.35, "in rows",
           "right", ha="right")
    ax.set(xscale="log", xlabel="positions that have logits at once",
           ylabel="peak, in sizes of the logits",
           ylim=(0, usual / size * 1.1))
    ax.set_xticks(rows, [f"{r:,}" for r in rows])
    ax.minorticks_off()
    _grid(ax)
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
        _label(ax, 6, (values[-1] + values[-2]) / 2e6 + kept[-1] / 9e6,
               name, color, ha="right")
    ax.set(xlabel="layers", ylabel="peak, MB", ylim=(0, None))
    ax.set_xticks(depths)
    _grid(ax)
    return picture(fig, "Peak memory of a backward pass against the number"
                        " of layers: both rise in straight lines, the"
                        " checkpointed one with less than a third of the"
                        " slope.")


def ladder(results: Sequence[Mapping], where: str = "this CPU") -> Picture:
    """Speed and memory of each rung as multiples of the lowest."""
    names = [row["rung"] for row in results]
    fig, (left, right) = canvas(height=0.42 * len(names) + 0.9, columns=2,
                                sharey=True, width_ratios=(1.1, 1))
    first = results[0]
    for i, row in enumerate(results):
        speed = row["tokens_per_second"] / first["tokens_per_second"]
        left.barh(i, speed, 0.6, color=COLORS["query"])
        left.text(speed + 0.03, i, f"{speed:.2f}", va="center", fontsize=10)
        memory = row["peak_bytes"] and row["peak_bytes"] / first["peak_bytes"]
        if memory:
            right.barh(i, memory, 0.6, color=COLORS["key"])
        right.text((memory or 0) + 0.03, i,
                   f"{memory:.2f}" if memory else "not counted",
                   va="center", fontsize=10,
                   color=COLORS["ink" if memory else "muted"])
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    most = max(row["tokens_per_second"] for row in results)
    left.set(xlim=(0, most / first["tokens_per_second"] * 1.3))
    right.set(xlim=(0, 1.35))
    for ax, title in ((left, "speed"), (right, "memory")):
        ax.set_title(title, fontsize=12)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xticks([0, 1])
    return picture(fig, f"Bars for each rung of the ladder on {where}:"
                        " tokens per second and peak memory, as multiples of"
                        " the plainest way to train. Fused attention and the"
                        " loss in rows need less memory.")


def ends(low: Sequence[float], high: Sequence[float]) -> Picture:
    """Loss of the lowest and of the highest rung."""
    fig, ax = canvas(height=2.7)
    steps = range(1, len(low) + 1)
    ax.plot(steps, low, color=COLORS["key"], linewidth=5, alpha=0.5)
    ax.plot(steps, high, color=COLORS["query"])
    _label(ax, 0.97, 0.9, "lowest rung", "key", ha="right",
           transform=ax.transAxes)
    _label(ax, 0.97, 0.78, "highest rung", "query", ha="right",
           transform=ax.transAxes)
    ax.set(xlabel="updates", ylabel="loss, nats per token", ylim=(0, None),
           xticks=[1, 5, 10, 15, 20])
    _grid(ax)
    return picture(fig, "Training loss over 20 updates of the lowest and the"
                        " highest rung of the ladder: one curve lies exactly"
                        " on the other.")


def who_holds(gigabytes: Mapping[str, float], world: int) -> Picture:
    """What each process holds, with DDP and with FSDP."""
    colors = {"weights": "query", "gradients": "key", "optimizer": "value"}
    fig, ax = canvas(height=3.4)
    blank(ax, 56, 34)
    shown, scale = 4, 20 / sum(gigabytes.values())
    for row, (name, words) in enumerate((
            ("DDP", "all-reduce of the gradients, once an update"),
            ("FSDP", "all-gather of weights, reduce-scatter of gradients"))):
        left = 1 + 28.5 * row
        ax.text(left, 32.3, name, fontsize=12.5, fontweight="semibold")
        for i in range(shown):
            x, bottom = left + 6.6 * i + (i == shown - 1) * 0.9, 5.2
            for part, size in gigabytes.items():
                h = size * scale
                if row:                  # its eighth, the rest is elsewhere
                    panel = box(ax, x, bottom, 5.2, h, "", "line",
                                radius=0.3)
                    panel.set_facecolor("white")
                    slice = world if i == shown - 1 else i + 1
                    y = bottom + h - h * slice / world
                    box(ax, x, y, 5.2, h / world, "", colors[part],
                        filled=True, radius=0.1)
                else:
                    box(ax, x, bottom, 5.2, h, "", colors[part],
                        filled=True, radius=0.3)
                bottom += h + 0.4
            total = sum(gigabytes.values()) / (world if row else 1)
            ax.text(x + 2.6, 3.4, f"{total:.1f} GB", ha="center",
                    va="center", fontsize=10)
            if i == shown - 1:
                ax.text(x - 0.9, 15, "…", ha="center", fontsize=13)
        ax.text(left + 13.4, 0.9, words, ha="center", va="center",
                fontsize=9.2, color=COLORS["muted"])
    for i, part in enumerate(gigabytes):
        _label(ax, (1, 9.6, 19.6)[i], 28.9, part, colors[part], fontsize=10)
    return picture(fig, "What each of eight processes holds for GPT-2 XL."
                        " With DDP each has all weights, gradients and"
                        " moments, 25 GB; with FSDP each has its eighth of"
                        " each, 3 GB.")


def syncs(micro: int) -> Picture:
    """One update: gradients sent once, and after every micro-batch."""
    fig, ax = canvas(height=2.3)
    blank(ax, 56, 21)
    for y, title, every in ((12.5, "with no_sync: once", False),
                            (2.0, "without: after each micro-batch", True)):
        ax.text(1, y + 6.6, title, fontsize=11.5, fontweight="semibold")
        x = 1.0
        for i in range(micro):
            box(ax, x, y, 7.0, 4.6, f"micro-\nbatch {i + 1}", "query",
                size=9.5, radius=0.5)
            x += 7.4
            if every or i == micro - 1:
                box(ax, x, y, 4.2, 4.6, "send", "wrong" if every and
                    i < micro - 1 else "right", filled=True, size=9.5,
                    radius=0.5)
                x += 4.6
        box(ax, x, y, 5.6, 4.6, "AdamW", "value", size=9.5, radius=0.5)
    return picture(fig, "Time line of one update of four micro-batches. With"
                        " no_sync gradients are sent once, before AdamW;"
                        " without it after every micro-batch, and the update"
                        " takes longer.")


def costs(sizes: Mapping[str, float],
          published: Mapping[str, tuple[float, float, float]]) -> Picture:
    """Published runs: hours against FLOPs, between lines of equal MFU.

    sizes: FLOPs of 300 billion tokens; published: (FLOPs, FLOP/s of all
    devices, hours).
    """
    fig, ax = canvas(height=3.5)
    low, high = 3e18, 8e21
    for row, (rate, name, color) in enumerate((
            (8 * 312e12, "8 A100", "key"), (8 * 989e12, "8 H100", "query"))):
        band = [[f / (rate * m) / 3600 for f in (low, high)]
                for m in (0.65, 0.25)]
        ax.fill_between([low, high], *band, color=tint(color, 0.6),
                        linewidth=0, zorder=1)
        f = 6e19
        _label(ax, f, f / (rate * 0.4) / 3600 * (2.6 if row == 0 else 0.38),
               name, color, ha="center")
    places = {"nanoGPT 124M": (1.25, "left"), "llm.c 124M": (1.35, "left"),
              "llm.c 1558M": (1.25, "left")}
    for name, (flops, rate, hours) in published.items():
        ax.plot(flops, hours, "o", color=COLORS["ink"], markersize=7,
                zorder=5)
        dx, ha = places.get(name, (1.25, "left"))
        _label(ax, flops * dx, hours * 0.8, name, ha=ha)
    for name, flops in sizes.items():
        ax.axvline(flops, color=COLORS["line"], linewidth=LINE * 0.7,
                   zorder=0)
        ax.text(flops * 0.96, 0.33, SHORT[name], rotation=90, ha="right",
                va="bottom", fontsize=10, color=COLORS["muted"])
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(0.3, 2e3),
           xlabel="FLOPs of the run", ylabel="hours")
    return picture(fig, "Hours against FLOPs of a run on logarithmic axes."
                        " Two bands, for 8 A100 and 8 H100 at 25 to 65 % of"
                        " their peak. The published runs of nanoGPT and"
                        " llm.c lie in the bands of their machines. Vertical"
                        " lines: the four sizes on 300 billion tokens.")
