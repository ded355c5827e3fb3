"""The pictures of chapter 12: what a cache stores, saves and costs."""
from matplotlib.patches import Rectangle

from gpt2_figures.style import (COLORS, LINE, Picture, blank, canvas,
                                diverging, picture, tint, visible)


def _title(ax, text):
    ax.set_title(text, loc="left", fontsize=12, fontweight="semibold")


def _cell(ax, x, y, color, size=0.86, width=1.0, mark=""):
    gap = (1 - size) / 2
    ax.add_patch(Rectangle((x + gap, y + gap), width - 2 * gap, size,
                           facecolor=color, linewidth=0))
    if mark:
        ax.text(x + width / 2, y + 0.5, mark, ha="center", va="center",
                fontsize=9.5, color="white", fontweight="semibold")


def work(tokens: list[str]) -> Picture:
    """Keys and values computed at each step, without and with a cache."""
    n = len(tokens)
    fig, axes = canvas(height=3.3, columns=2)
    old = tint("key", 0.7)
    for ax, cached in zip(axes, (False, True)):
        blank(ax, n + 0.4, n + 2.1)
        for step in range(n):
            for t in range(step + 1):
                fresh = t == step or not cached
                _cell(ax, t + 0.4, n - 1 - step,
                      COLORS["key"] if fresh else old)
        for t, token in enumerate(tokens):
            ax.text(t + 0.9, n + 0.25, token.strip(), rotation=60,
                    ha="left", va="center", fontsize=10,
                    rotation_mode="anchor")
            ax.text(0.15, n - 0.5 - t, str(t + 1), ha="right", va="center",
                    fontsize=10, color=COLORS["muted"])
    axes[0].text(-0.5, n + 0.35, "step", ha="center", va="bottom",
                 fontsize=10, color=COLORS["muted"])
    for ax, text in ((axes[0], f"Without: {n * (n + 1) // 2} computed"),
                     (axes[1], f"With: {n} computed,"
                               f" {n * (n - 1) // 2} read")):
        _title(ax, text)
    return picture(fig, f"Two lower triangles of {n} steps by {n} tokens."
                        " Without a cache every key and value up to the"
                        " newest token is computed again at each step. With"
                        " a cache only the diagonal is computed; the rest of"
                        " each row is read from the cache.")


def filling(calls: list[str], written, slots: int) -> Picture:
    """The buffer after each call: slots written now, before, and free.

    written: per call, the set of slots that hold something afterwards.
    """
    fig, ax = canvas(height=0.75 + 0.26 * len(calls))
    blank(ax, slots + 5.6, len(calls) + 2.5)
    left, before = 5.4, set()
    for row, (name, filled) in enumerate(zip(calls, written)):
        y = len(calls) - row - 0.1
        ax.text(left - 0.4, y + 0.5, name, ha="right", va="center",
                fontsize=10.5)
        for s in range(slots):
            new = s in filled and s not in before
            color = (COLORS["key"] if new else tint("key", 0.6)
                     if s in filled else tint("line", 0.6))
            _cell(ax, left + s, y, color)
        before = set(filled)
    for s in (0, slots - 1):
        ax.text(left + s + 0.5, len(calls) + 1.1, str(s), ha="center",
                va="bottom", fontsize=10, color=COLORS["muted"])
    ax.text(left + slots / 2, len(calls) + 1.1, "slot", ha="center",
            va="bottom", fontsize=10, color=COLORS["muted"])
    for x, color, name in ((left, COLORS["key"], "written now"),
                           (left + 5.6, tint("key", 0.6), "kept"),
                           (left + 9, tint("line", 0.6), "free")):
        ax.add_patch(Rectangle((x + 0.07, -0.35), 0.7, 0.7, facecolor=color,
                               linewidth=0))
        ax.text(x + 1.05, 0, name, ha="left", va="center", fontsize=10.5)
    ax.set_ylim(-0.6, len(calls) + 2.1)
    return picture(fig, f"A buffer of {slots} slots after each of"
                        f" {len(calls)} calls: {', '.join(calls)}. Each call"
                        " writes the next free slots and keeps those before"
                        " it; the buffer never moves.")


def contents(tokens: list[str], keys, values, layer: int,
             head: int) -> Picture:
    """What one head has stored: a column a token, a row a number.

    keys, values: (T, D); equal tokens stand side by side. Blue is above
    zero, orange below.
    """
    fig, axes = canvas(height=5.0, rows=2, sharex=True)
    for ax, rows, title, color in ((axes[0], keys, "keys", "key"),
                                   (axes[1], values, "values", "value")):
        columns = [[float(v) for v in row] for row in rows]
        sizes = sorted(abs(v) for row in columns for v in row)
        peak = sizes[int(0.99 * len(sizes))]         # a few huge ones aside
        ax.imshow(list(zip(*columns)), cmap=diverging(), vmin=-peak,
                  vmax=peak, aspect="auto", interpolation="nearest")
        ax.set_title(f"{title} of layer {layer}, head {head + 1}",
                     color=COLORS[color])
        ax.set_ylabel(f"{len(columns[0])} numbers")
        ax.set_yticks([])
        ax.tick_params(length=0)
        ax.spines[["left", "bottom"]].set_visible(False)
    for ax in axes:
        for i in range(1, len(tokens)):
            if tokens[i] != tokens[i - 1]:
                ax.axvline(i - 0.5, color="white", linewidth=2.5)
    axes[1].set_xticks(range(len(tokens)), [t.strip() or visible(t)
                                            for t in tokens], rotation=90)
    axes[1].tick_params(labelsize=8.5, pad=1)
    return picture(fig, f"Two grids of coloured squares, {len(tokens)} tokens"
                        f" wide and {len(columns[0])} numbers high: the keys"
                        f" and the values that layer {layer}, head {head + 1},"
                        " has stored. Columns of equal tokens look alike.")


def readable(tokens: list[str], wrong, right, past: int) -> Picture:
    """Which keys the new queries read: top-left and bottom-right aligned."""
    T, S = len(right), len(right[0])
    fig, axes = canvas(height=3.25, rows=2)
    for ax, rows, title, color in (
            (axes[0], wrong, "is_causal=True: counted from the first key",
             "wrong"),
            (axes[1], right, "causal_mask: counted from the last key",
             "right")):
        blank(ax, S + 4, T + 0.2)
        for i in range(T):
            ax.text(3.7, T - i - 0.5, f"{tokens[past + i].strip()}",
                    ha="right", va="center", fontsize=10.5)
            for j in range(S):
                _cell(ax, 4 + j, T - 1 - i, COLORS[color] if rows[i][j] > 0
                      else tint("line", 0.6))
        _title(ax, title)
    for j, token in enumerate(tokens[:S]):
        axes[1].text(4.75 + j, -0.15, token.strip(), rotation=45, ha="right",
                     va="top", fontsize=10, rotation_mode="anchor")
    return picture(fig, f"Which of {S} keys each of the {T} newest tokens"
                        " reads. With is_causal=True: the first token reads"
                        " key 1 only, the next keys 1 and 2, and so on. With"
                        " the right mask each reads everything up to"
                        " itself.")


def flops(lengths, without, with_cache, measured) -> Picture:
    """FLOPs to generate T tokens; dots: counted, lines: the formula.

    measured: {length: (without, with)}.
    """
    fig, ax = canvas(height=3.1)
    scale = 1e9
    for values, color, which in ((without, "wrong", 0),
                                 (with_cache, "right", 1)):
        ax.plot(lengths, [v / scale for v in values], color=COLORS[color],
                linewidth=LINE + 0.4)
        ax.plot(list(measured), [m[which] / scale for m in measured.values()],
                "o", color=COLORS[color], markersize=6, clip_on=False,
                zorder=4)
    ax.annotate("without cache", (lengths[-1], without[-1] / scale),
                (-30, -4), textcoords="offset points", ha="right", va="top",
                fontsize=11, color=COLORS["wrong"], fontweight="semibold")
    ax.annotate("with cache", (lengths[-1], with_cache[-1] / scale), (0, 9),
                textcoords="offset points", ha="right", fontsize=11,
                color=COLORS["right"], fontweight="semibold")
    ax.set(xlabel="tokens generated", ylabel="billion FLOPs in total",
           xlim=(0, lengths[-1]), ylim=(0, None))
    return picture(fig, "Total arithmetic by number of generated tokens."
                        " Without a cache the curve bends upward like a"
                        " square; with a cache it is almost a straight line"
                        " far below. Dots, counted by torch, lie on the"
                        " lines of the formula.")


def memory(lengths, sizes: dict[str, list[float]]) -> Picture:
    """Megabytes of cache for one sequence, by length, for each size."""
    shades = {"gpt2": 0.62, "gpt2-medium": 0.4, "gpt2-large": 0.2,
              "gpt2-xl": 0.0}
    fig, ax = canvas(height=3.1)
    for name, values in sizes.items():
        ax.plot(lengths, values, color=tint("value", shades[name]),
                linewidth=LINE + 0.6)
        ax.annotate(f"{name}: {values[-1]:.0f} MB", (lengths[-1], values[-1]),
                    (6, 0), textcoords="offset points", va="center",
                    fontsize=10.5, annotation_clip=False)
    ax.set(xlabel="tokens in the cache", ylabel="megabytes",
           xlim=(0, lengths[-1]), ylim=(0, None))
    ax.set_xticks([0, 256, 512, 768, 1024],
                  ["0", "256", "512", "768", "1,024"])
    return picture(fig, "Memory of the cache of one sequence in 16 bits, by"
                        " length: straight lines. At 1,024 tokens: "
                        + ", ".join(f"{name} {values[-1]:.0f} MB"
                                    for name, values in sizes.items()) + ".")


def full_batch(sizes: dict[str, tuple[float, float]]) -> Picture:
    """How many full sequences weigh as much as the weights.

    sizes: {name: (bytes of the weights, bytes of one full sequence)}.
    """
    fig, ax = canvas(height=2.7)
    for i, (name, (weights, one)) in enumerate(sizes.items()):
        count = weights / one
        ax.barh(i, count, height=0.56, color=tint("value", 0.2))
        ax.text(count + 0.15, i, f"{count:.1f}", va="center", fontsize=11)
    ax.set_yticks(range(len(sizes)), list(sizes))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="full sequences whose cache weighs what the weights do",
           xlim=(0, 1.12 * max(w / o for w, o in sizes.values())))
    return picture(fig, "Number of full sequences whose cache is as large"
                        " as the weights: "
                        + ", ".join(f"{name} {w / o:.1f}"
                                    for name, (w, o) in sizes.items()) + ".")
