"""Pictures of chapter 05: attention."""
from matplotlib.patches import Polygon

# The pages ask for the viewer here.
from gpt2_figures.head_viewer import head_viewer as head_viewer
from gpt2_figures.shapes import (arrow, blank, board, box, frame,
                                 heatmap, legend, lines, log_x, name_rows,
                                 rect, swatch, tag, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, picture, short,
                                tint)


def filing_cabinet(words: list[str], shares, reader: int = -1) -> Picture:
    """One query against all keys: how much of each folder is taken out.

    words: the tokens; shares: one weight a token, summing to 1.
    """
    words = [word.strip() for word in words]
    shares = [float(s) for s in shares]
    n, step = len(words), 2.95
    height, top = n * step + 5.4, n * step + 0.6
    fig, ax = board(height)
    _headings(ax, height - 1.4, ((7, "note", "query", "query"),
                                 (20.5, "labels", "keys", "key"),
                                 (33, "share taken", "softmax", "attention"),
                                 (50.4, "answer", "blend of values", "value")))
    _sticky_note(ax, 1, top / 2 - 5, words[reader])
    for i, (word, share) in enumerate(zip(words, shares)):
        _folder(ax, top - (i + 1) * step + 0.3, word, share)
    _blend(ax, words, shares, top, step)
    order = sorted(range(n), key=lambda i: -shares[i])
    read = ", ".join(f"{words[i]} {shares[i]:.0%}" for i in order[:4])
    return picture(fig, f"A cabinet with {n} folders, one a token. The note,"
                        f" the query of “{words[reader]}”, is compared with"
                        " every label, a key. The answer is a blend of the"
                        f" contents, the values: {read}, and little of the"
                        " rest.")


def _headings(ax, y, columns):
    for x, text, name, color in columns:
        write(ax, x, y, text, color, 11.5, fontweight="semibold")
        write(ax, x, y - 2, name, "muted")


def _sticky_note(ax, x, y, word):
    """A square of paper with one corner turned up, and an arrow from it."""
    side, fold = 11.4, 2.4
    corner = x + side - fold, y
    for points, paler in (
            ([(x, y), corner, (x + side, y + fold), (x + side, y + side),
              (x, y + side)], 0.82),
            ([corner, (x + side, y + fold), (corner[0], y + fold)], 0.5)):
        ax.add_patch(Polygon(
            points, facecolor=tint("query", paler), joinstyle="round",
            edgecolor=COLORS["query"], linewidth=LINE * 0.8))
    write(ax, x + side / 2, y + side / 2 + 0.6, f"the query of\n“{word}”",
          size=11, linespacing=1.5)
    for end in (-0.9, 0, 0.9):
        arrow(ax, (x + side + 0.2, y + side / 2 + end),
              (x + side + 3.4, y + side / 2 + 6 * end), "query")


def _folder(ax, y, word, share):
    """A folder: its label (key), and how much of it is taken (share)."""
    box(ax, 16.2, y, 8.8, 2.35, word, "key", size=11, radius=0.5)
    x, width, much = 25.6, 9.6, share >= 0.05
    rect(ax, x, y + 0.3, width, 1.75, tint("line", 0.55))
    rect(ax, x, y + 0.3, width * share, 1.75, "attention")
    write(ax, x + width + 3.5, y + 1.2, f"{share:.0%}",
          "ink" if much else "muted", ha="right",
          fontweight="semibold" if much else "normal")


def _blend(ax, words, shares, top, step):
    """Bands from the folders into one stacked bar, as thick as the shares."""
    x0, x1, width, full = 39.6, 46.6, 7.6, top * 0.72
    y = (top + full) / 2
    for i, share in enumerate(shares):
        middle, end = top - i * step - step / 2 + 0.1, y - share * full
        start = min(1.7, max(share * full, 0.12)) / 2
        shade = tint("value", 0.25 if share >= 0.2 else 0.5
                     if share >= 0.1 else 0.7)
        ax.add_patch(Polygon(_band(x0, x1, middle + start, middle - start,
                                   y, end), facecolor=shade, alpha=0.55,
                             linewidth=0))
        rect(ax, x1, end, width, y - end, shade, edgecolor="white",
             linewidth=0.8)
        if share >= 0.05:
            write(ax, x1 + width / 2, (y + end) / 2, words[i])
        y = end
    frame(ax, x1, y, width, full, "value")


def _band(x0, x1, a_top, a_bottom, b_top, b_bottom, n=24):
    """The outline of a smooth band between two vertical edges."""
    def curve(start, end):
        for i in range(n + 1):
            t = i / n
            smooth = t * t * (3 - 2 * t)
            yield x0 + (x1 - x0) * t, start + (end - start) * smooth
    return [*curve(a_top, b_top), *reversed([*curve(a_bottom, b_bottom)])]


def four_matrices(words: list[str], scores, weights, mixed) -> Picture:
    """Scores, masked scores, weights, blend: every number of a small run.

    scores, weights: (T, T), the scores before masking; mixed: (T, n).
    """
    words = [word.strip() for word in words]
    fig, axes = canvas(height=5.9, rows=2, columns=2)
    fig.get_layout_engine().set(wspace=0.06, hspace=0.05)
    keys = dict(rows=words, columns=words)
    _signed(axes[0, 0], scores, "1  scores  q·k / √D", **keys)
    _signed(axes[0, 1], scores, "2  the future masked", "−∞", **keys)
    heatmap(axes[1, 0], weights, "attention", vmin=0, vmax=1, **keys)
    axes[1, 0].set_title("3  softmax by rows")
    _numbers(axes[1, 0], weights, "{:.2f}".format, lambda w: w > 0.4, "0")
    _signed(axes[1, 1], mixed, "4  blend of values", rows=words)
    T, n = len(words), len(mixed[0])
    axes[1, 1].set_xticks(range(n), [f"{i + 1}" for i in range(n)])
    axes[1, 1].set_xlabel(f"first {n} of D numbers", fontsize=10.5)
    return picture(fig, f"Four {T} by {T} matrices for the first {T} tokens:"
                        " scores; the same with every entry right of the"
                        " diagonal replaced by minus infinity; the weights,"
                        " whose rows sum to 1 and are 0 right of the"
                        " diagonal; and the rows of blended values.")


def _signed(ax, values, title, hidden=None, **names):
    """A map centred on zero with its numbers; hidden: see `_numbers`."""
    values = [[float(x) for x in row] for row in values]
    top = max(abs(x) for row in values for x in row)
    if hidden is not None:
        values = [[x if j <= i else 0.0 for j, x in enumerate(row)]
                  for i, row in enumerate(values)]
    heatmap(ax, values, "diverging", vmin=-top, vmax=top, **names)
    ax.set_title(title)
    _numbers(ax, values, _minus,
             lambda x: x / top > 0.5 or x / top < -0.85, hidden)


def _numbers(ax, values, form, dark, hidden):
    """Every number in its square, white where the square is dark; hidden:
    what stands over the future instead."""
    for i, row in enumerate(values):
        for j, x in enumerate(map(float, row)):
            future = hidden is not None and j > i
            if future:
                rect(ax, j - 0.5, i - 0.5, 1, 1, tint("line", 0.35), zorder=3)
            write(ax, j, i, hidden if future else form(x), "white" if
                  dark(x) and not future else "ink", 9.5, zorder=4)


def _minus(x) -> str:
    """One decimal, with a real minus sign, and no minus before 0.0."""
    text = f"{float(x):.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def saturation(widths: list[int], read: dict, gradient: dict,
               n_keys: int) -> Picture:
    """Keys that a query effectively reads, and the gradient, by head width.

    read, gradient: {True (with 1/√D), False (without): one value a width}.
    """
    fig, axes = canvas(height=2.9, columns=2)
    axes[1].set(yscale="log", ylim=(1e-4, 1))
    for ax, data, title, beside in (
            (axes[0], read, f"Keys read, of {n_keys}", (2, (8, 4), "left")),
            (axes[1], gradient, "Gradient to the scores",
             (3, (-9, -6), "right"))):
        _marked(ax, widths, data[True], "o-", "right", "with 1/√D", -1,
                (2, -15), "right")
        _marked(ax, widths, data[False], "o--", "wrong", "without", *beside)
        log_x(ax, widths, 4)
        ax.set(xlabel="head width D", title=title)
        ax.grid(axis="y")
    axes[0].set_ylim(0, None)
    return picture(fig, "Two charts over the head width D. With 1/√D a query"
                        " of random numbers reads about 40 of 64 keys at"
                        " every width and its gradient stays level. Without"
                        " it, wide heads read one key only and the gradient"
                        " falls a thousandfold.")


def _marked(ax, xs, ys, line, color, text, at, shift, side, size=10.5,
            **kwargs):
    """A curve with points, its name beside the point number `at`."""
    ax.plot(xs, ys, line, color=COLORS[color], markersize=5)
    tag(ax, (xs[at], ys[at]), shift, text, color, size, ha=side, **kwargs)


CELL = 2.5       # the side of a square in the picture of the heads


def heads(source, right, wrong) -> Picture:
    """How (T, C) becomes H heads of (T, D), and how the wrong view mixes it.

    source: (T, C, 2) of (token, head) pairs; right, wrong: (H, T, D, 2).
    """
    H, T, D = len(right), len(right[0]), len(right[0][0])
    shades = [tint("attention", 0.82 - 0.78 * h / (H - 1)) for h in range(H)]
    fig, ax = board(44.5)
    width, half, middle = H * D * CELL, T * CELL / 2, 22.5
    _pairs(ax, 1, middle + half, source, shades)
    _titled(ax, 1 + width / 2, middle + half, 4.2, "q  (T, C)", "ink", 11,
            "a row = a token")
    for y, text in ((1.8, "shade = head"), (4.2, "number = token")):
        write(ax, 1 + width / 2, middle - half - y, text, "muted")
    for top, turn, blocks, title, color, code in (
            (37.6, 2, right, "split_heads", "right",
             "view(T, H, D), then transpose"),
            (14.4, -2, wrong, "the wrong view", "wrong", "view(H, T, D)")):
        _cut(ax, 26, top, blocks, shades, title, color, code)
        arrow(ax, (1.8 + width, middle + turn), (24.8, top - half), color)
    return picture(fig, f"A matrix of {T} tokens by {H} heads of {D} numbers."
                        " split_heads cuts it into columns: each head holds"
                        " its own numbers of all tokens. The wrong view cuts"
                        " it into rows: a head then holds all numbers of a"
                        " few tokens, and of the other tokens nothing.")


def _pairs(ax, x, y, rows, shades):
    """Squares of (token, head) from a corner down: the shade is the head."""
    for i, row in enumerate(rows):
        for j, (token, head) in enumerate(row):
            left, low = x + j * CELL, y - (i + 1) * CELL
            rect(ax, left, low, CELL, CELL, shades[int(head)],
                 edgecolor="white", linewidth=1.2)
            write(ax, left + CELL / 2, low + CELL / 2, f"{int(token) + 1}",
                  "white" if int(head) > len(shades) / 2 - 0.5 else "ink", 10)


def _titled(ax, x, y, lift, title, color, size, below):
    write(ax, x, y + lift, title, color, size, fontweight="semibold")
    write(ax, x, y + lift - 2.6, below, "muted")


def _cut(ax, left, top, blocks, shades, title, color, code):
    """Blocks of one head each, side by side below their title."""
    wide, tall = len(blocks[0][0]) * CELL, len(blocks[0]) * CELL
    _titled(ax, left + 14.6, top + 0.8, 4.2, title, color, 11.5, code)
    for h, block in enumerate(blocks):
        x = left + h * (wide + 4.9)
        _pairs(ax, x, top, block, shades)
        write(ax, x + wide / 2, top - tall - 1.6, f"head {h + 1}", "ink")
        frame(ax, x, top - tall, wide, tall, color)


def leak(scores, curves: dict) -> Picture:
    """Weight on a future token against its score: −10,000 against −∞.

    curves: {name of the number format: weights}.
    """
    fig, ax = canvas(height=2.9)
    style = {"float32": ("query", "-"), "float16": ("key", (0, (5, 2))),
             "bfloat16": ("attention", (0, (1.5, 1.5)))}
    lines(ax, {f"−10⁴, {name}": curves[name] for name in curves},
          *zip(*(style[name] for name in curves)), xs=scores)
    ax.plot(scores, [0] * len(scores), color=COLORS["right"],
            label="−∞, all three", zorder=1)
    ax.set(xlabel="score of the hidden future token",
           ylabel="weight it receives", ylim=(-0.04, 1.06),
           xlim=(scores[0], scores[-1]), title="Where a mask of −10,000 leaks")
    ticks = [9900, 9950, 10000, 10050, 10100]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.set_yticks([0, 0.5, 1], ["0%", "50%", "100%"])
    legend(ax, loc="center left", bbox_to_anchor=(0.0, 0.72), borderpad=0)
    return picture(fig, "Weight on a masked future token against its score."
                        " With a mask of −10,000 it jumps from 0 to 100%"
                        " where the score passes about 10,000, in float32,"
                        " float16 and bfloat16. With −∞ it stays 0.")


def maps(words: list[str], weights) -> Picture:
    """Attention weights of every head, rows = queries, columns = keys.

    weights: (H, T, T).
    """
    words, columns = [word.strip() for word in words], 3
    rows = -(-(len(weights) + 1) // columns)
    fig, axes = canvas(height=2.02 * rows + 0.25, rows=rows, columns=columns)
    fig.get_layout_engine().set(wspace=0.015, hspace=0.02, w_pad=0.02)
    _triangles(axes, words, {f"head {h + 1}": weight for h, weight
                             in enumerate(weights)}, 9)
    free = axes.flat[len(weights)]
    write(free, 0.04, 0.5, "row: who reads\ncolumn: who is read\n\n"
          "white: 0%\ndark: 100%\nevery row: 100%", "muted", ha="left",
          linespacing=1.45, transform=free.transAxes)
    return picture(fig, f"Attention maps of {len(weights)} heads for the"
                        f" {len(words)} tokens of the running sentence. Every"
                        " map is a lower triangle; each head has its own"
                        " pattern of dark squares.")


def _triangles(axes, words, titled, size):
    """One map for each title; the tokens named on the outer maps only."""
    T, n, columns = len(words), len(titled), axes.shape[1]
    for i, (ax, (title, weight)) in enumerate(zip(axes.flat, titled.items())):
        heatmap(ax, weight, "attention", vmin=0, vmax=1,
                rows=None if i % columns else words)
        _below_diagonal(ax, T)
        if i + columns >= n:
            ax.set_xticks(range(T), words, rotation=90, ha="center",
                          rotation_mode="default")
        ax.tick_params(labelsize=size, pad=1)
        ax.set_title(title, fontsize=10.5, pad=3)
    for ax in axes.flat[n:]:
        ax.axis("off")


def _below_diagonal(ax, n):
    """A thin staircase: the border between what may be read and what not."""
    xs, ys = [-0.5], [-0.5]
    for i in range(n):
        xs += [i + 0.5, i + 0.5]
        ys += [i - 0.5, i + 0.5]
    ax.plot(xs, ys, color=COLORS["line"], linewidth=0.9)
    ax.set(xlim=(-0.6, n - 0.4), ylim=(n - 0.4, -0.6))


def memory(lengths: list[int], explicit, fused) -> Picture:
    """Megabytes kept for the backward pass, both paths, by length."""
    fig, ax = canvas(height=3.0)
    ax.set_yscale("log")
    _marked(ax, lengths, explicit, "o--", "attention",
            "written out: grows with T²", -1, (-12, 3), "right", 11,
            va="center")
    _marked(ax, lengths, fused, "o-", "right", "fused: grows with T", -1,
            (0, -34), "right", 11, va="center")
    log_x(ax, lengths, 2)
    ax.set_yticks([1, 10, 100, 1000], ["1 MB", "10 MB", "100 MB", "1 GB"])
    ax.grid(axis="y")
    ax.set(xlabel="length T, in tokens",
           title="Kept for the backward pass, one layer")
    return picture(fig, "Memory kept for the backward pass by one attention"
                        " layer against the length, on logarithmic axes. The"
                        " written-out formula grows with the square of the"
                        " length, the fused kernel in proportion to it.")


def faults(changes: dict[str, float]) -> Picture:
    """How much the loss of a trained model changes with each fault, as bars.

    changes: loss with the fault minus loss without, in nats a token.
    """
    fig, ax = canvas(height=0.33 * len(changes) + 0.95)
    values = [0.0 if abs(c) < 0.005 else c for c in changes.values()]
    ax.barh(range(len(values)), values, height=0.62,
            color=[COLORS["wrong" if c else "right"] for c in values])
    low, high = min(*values, 0), max(values)
    span = max(high, 0) - min(values)
    for y, change in enumerate(values):
        text = (f"{change:+.2f}".replace("-", "−") if change else "no change")
        write(ax, max(change, 0) + 0.02 * span, y, text,
              "ink" if change else "right", ha="left")
    ax.axvline(0, color=COLORS["muted"], linewidth=0.8)
    name_rows(ax, changes)
    ax.set(xlim=(low - 0.03 * span, high + 0.17 * span),
           xlabel="change of the loss, nats a token")
    return picture(fig, "Bars: how much each mistake changes the loss of the"
                        " trained model, in nats a token: "
                        + ", ".join(f"{name} {change:+.2f}" for name, change
                                    in zip(changes, values)) + ".")


KINDS = {"itself": "residual", "previous token": "query",
         "first token": "position", "same token, earlier": "value",
         "after the same token": "feed_forward", "own line": "key",
         "ends of lines": "attention", "self": "embedding"}


def kinds_of_heads(best: list[list[tuple[str, float]]]) -> Picture:
    """Layers by heads: the kind of place that each head reads most.

    best: (L, H) of (a name of KINDS, or "" for none; share of the weight).
    """
    L, H = len(best), len(best[0])
    fig, ax = canvas(height=0.36 * L + 1.5)
    blank(ax, 56, 3.6 * L + 15)
    left, width, top = 9.4, 46 / H, 3.6 * L + 12
    for layer, row in enumerate(best):
        y = 3.6 * (L - 1 - layer) + 10.4
        write(ax, left - 1, y + 1.6, f"layer {layer}", size=11, ha="right")
        for head, (kind, share) in enumerate(row):
            _kind(ax, left + head * width, y, width, kind, share)
    write(ax, left - 1, top, "head", size=11, ha="right")
    for head in range(H):
        write(ax, left + (head + 0.5) * width, top, f"{head + 1}", size=11)
    _key_of_kinds(ax)
    found = [kind for row in best for kind, _ in row]
    return picture(fig, f"The {L * H} heads by what they read most: "
                        + ", ".join(f"{kind} {found.count(kind)}"
                                    for kind in KINDS)
                        + f"; none of these {found.count('')}.")


def _kind(ax, x, y, width, kind, share):
    """One head: the colour of its kind and the share of its weight."""
    rect(ax, x + 0.15, y + 0.15, width - 0.3, 3.1,
         KINDS[kind] if kind else tint("line", 0.6))
    write(ax, x + width / 2, y + 1.6, f"{share:.0%}" if kind else "–",
          "white" if kind else "muted")


def _key_of_kinds(ax):
    """What the colours stand for, three a row."""
    for i, (kind, color) in enumerate(KINDS.items()):
        swatch(ax, 0.4 + 19.4 * (i % 3), 6.4 - 2.9 * (i // 3), 1.9, 1.9,
               color, kind, gap=0.7)


def examples(words: list[str], found: dict) -> Picture:
    """One map for each title, two a row: {title: (T, T)}."""
    T, n = len(words), len(found)
    rows = -(-n // 2)
    fig, axes = canvas(height=2.75 * rows + 0.45, rows=rows, columns=2)
    fig.get_layout_engine().set(wspace=0.02, hspace=0.02, w_pad=0.02)
    _triangles(axes, [short(word) for word in words],
               {title.replace(": ", "\n"): found[title] for title in found},
               7.5)
    return picture(fig, f"Attention maps of {n} trained heads for {T} tokens"
                        " of Python; a row is a reader, a column is read. "
                        + "; ".join(found) + ".")
