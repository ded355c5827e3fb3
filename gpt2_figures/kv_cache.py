"""The pictures of chapter 12: what a cache stores, saves and costs."""
from gpt2_figures.shapes import (bars, blank, matrix, name_rows, rect, swatch,
                                 tag, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture, short,
                                tint)

KEPT, FREE = tint("key", 0.6), tint("line", 0.6)


def _cell(ax, x, y, color):
    rect(ax, x + 0.07, y + 0.07, 0.86, 0.86, color)


def work(tokens: list[str]) -> Picture:
    """Keys and values computed at each step, without and with a cache."""
    n = len(tokens)
    fig, axes = canvas(height=3.3, columns=2)
    for ax, cached, title in (
            (axes[0], False, f"Without: {n * (n + 1) // 2} computed"),
            (axes[1], True, f"With: {n} computed, {n * (n - 1) // 2} read")):
        blank(ax, n + 0.4, n + 2.1)
        for step in range(n):
            for t in range(step + 1):
                _cell(ax, t + 0.4, n - 1 - step, "key" if t == step
                      or not cached else tint("key", 0.7))
        for t, token in enumerate(tokens):
            write(ax, t + 0.9, n + 0.25, token.strip(), size=10, ha="left",
                  rotation=60, rotation_mode="anchor")
            write(ax, 0.15, n - 0.5 - t, str(t + 1), "muted", 10, ha="right")
        ax.set_title(title, fontsize=12)
    write(axes[0], -0.5, n + 0.35, "step", "muted", 10, va="bottom")
    return picture(fig, f"Two lower triangles of {n} steps by {n} tokens."
                        " Without a cache every key and value up to the"
                        " newest token is computed again at each step. With a"
                        " cache only the diagonal is computed; the rest of"
                        " each row is read from the cache.")


def filling(calls: list[str], written, slots: int) -> Picture:
    """The buffer after each call: slots written now, before, and free.

    written: per call, the set of slots that hold something afterwards.
    """
    fig, ax = canvas(height=0.75 + 0.26 * len(calls))
    left, top, before = 5.4, len(calls) + 1.1, set()
    blank(ax, slots + 5.6, top + 1.4).set_ylim(-0.6, top + 1)
    for row, (name, filled) in enumerate(zip(calls, written)):
        y = len(calls) - row - 0.1
        write(ax, left - 0.4, y + 0.5, name, ha="right")
        for s in range(slots):
            _cell(ax, left + s, y, FREE if s not in filled
                  else KEPT if s in before else "key")
        before = set(filled)
    for x, text in ((0.5, "0"), (slots - 0.5, str(slots - 1)),
                    (slots / 2, "slot")):
        write(ax, left + x, top, text, "muted", 10, va="bottom")
    for x, color, name in ((0, "key", "written now"), (5.6, KEPT, "kept"),
                           (9, FREE, "free")):
        swatch(ax, left + x + 0.07, -0.35, 0.7, 0.7, color, name, gap=0.28)
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
    columns = [list(row) for row in keys]
    for ax, rows, title, color in ((axes[0], keys, "keys", "key"),
                                   (axes[1], values, "values", "value")):
        matrix(ax, list(zip(*rows)))
        ax.set_title(f"{title} of layer {layer}, head {head + 1}",
                     color=COLORS[color])
        ax.set(ylabel=f"{len(columns[0])} numbers", yticks=[])
        for i in range(1, len(tokens)):
            if tokens[i] != tokens[i - 1]:
                ax.axvline(i - 0.5, color="white", linewidth=2.5)
    axes[1].set_xticks(range(len(tokens)), map(short, tokens), rotation=90)
    axes[1].tick_params(labelsize=8.5, pad=1)
    return picture(fig, f"Two grids of coloured squares, {len(tokens)} tokens"
                        f" wide and {len(columns[0])} numbers high: the keys"
                        f" and the values that layer {layer}, head"
                        f" {head + 1}, has stored. Columns of equal tokens"
                        " look alike.")


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
            write(ax, 3.7, T - i - 0.5, f"{tokens[past + i].strip()}",
                  ha="right")
            for j in range(S):
                _cell(ax, 4 + j, T - 1 - i, color if rows[i][j] > 0 else FREE)
        ax.set_title(title, fontsize=12)
    for j, token in enumerate(tokens[:S]):
        write(axes[1], 4.75 + j, -0.15, token.strip(), size=10, rotation=45,
              ha="right", va="top", rotation_mode="anchor")
    return picture(fig, f"Which of {S} keys each of the {T} newest tokens"
                        " reads. With is_causal=True: the first token reads"
                        " key 1 only, the next keys 1 and 2, and so on. With"
                        " the right mask each reads everything up to itself.")


def flops(lengths, without, with_cache, measured) -> Picture:
    """FLOPs to generate T tokens; dots: counted, lines: the formula.

    measured: {length: (without, with)}.
    """
    fig, ax = canvas(height=3.1)
    for values, counted, color, name, shift, side in (
            (without, [m[0] for m in measured.values()], "wrong",
             "without cache", (-30, -4), "top"),
            (with_cache, [m[1] for m in measured.values()], "right",
             "with cache", (0, 9), "baseline")):
        ax.plot(lengths, [v / 1e9 for v in values], color=COLORS[color],
                linewidth=LINE + 0.4)
        ax.plot(list(measured), [v / 1e9 for v in counted], "o",
                color=COLORS[color], markersize=6, clip_on=False, zorder=4)
        tag(ax, (lengths[-1], values[-1] / 1e9), shift, name, color, 11,
            ha="right", va=side, fontweight="semibold")
    ax.set(xlabel="tokens generated", ylabel="billion FLOPs in total",
           xlim=(0, lengths[-1]), ylim=(0, None))
    return picture(fig, "Total arithmetic by number of generated tokens."
                        " Without a cache the curve bends upward like a"
                        " square; with a cache it is almost a straight line"
                        " far below. Dots, counted by torch, lie on the lines"
                        " of the formula.")


def memory(lengths, sizes: dict[str, list[float]]) -> Picture:
    """Megabytes of cache for one sequence, by length, for each size."""
    shades = {"gpt2": 0.62, "gpt2-medium": 0.4, "gpt2-large": 0.2,
              "gpt2-xl": 0.0}
    fig, ax = canvas(height=3.1)
    for name, values in sizes.items():
        ax.plot(lengths, values, color=tint("value", shades[name]),
                linewidth=LINE + 0.6)
        tag(ax, (lengths[-1], values[-1]), (6, 0),
            f"{name}: {values[-1]:.0f} MB", va="center",
            annotation_clip=False)
    ax.set(xlabel="tokens in the cache", ylabel="megabytes",
           xlim=(0, lengths[-1]), ylim=(0, None))
    ticks = range(0, 1025, 256)
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    return picture(fig, "Memory of the cache of one sequence in 16 bits, by"
                        " length: straight lines. At 1,024 tokens: "
                        + ", ".join(f"{name} {values[-1]:.0f} MB"
                                    for name, values in sizes.items()) + ".")


def full_batch(sizes: dict[str, tuple[float, float]]) -> Picture:
    """How many full sequences weigh as much as the weights.

    sizes: {name: (bytes of the weights, bytes of one full sequence)}.
    """
    fig, ax = canvas(height=2.7)
    counts = {name: weights / one for name, (weights, one) in sizes.items()}
    bars(ax, list(counts.values()), tint("value", 0.2), "{:.1f}", 0.15,
         height=0.56, size=11)
    name_rows(ax, counts)
    ax.set(xlabel="full sequences whose cache weighs what the weights do",
           xlim=(0, 1.12 * max(counts.values())))
    return picture(
        fig, "Number of full sequences whose cache is as large as the"
        " weights: " + ", ".join(f"{name} {count:.1f}" for name, count
                                 in counts.items()) + ".")
