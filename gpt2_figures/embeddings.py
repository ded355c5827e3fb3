"""The pictures of chapter 03: rows of two tables, and their sum."""
from gpt2_figures.style import (COLORS, LINE, Picture, arrow, blank, box,
                                canvas, diverging, picture, tint, visible)


def _strip(ax, x, y, values, cell, peak):
    """A vector as a row of coloured squares, from (x, y) to the right."""
    cmap = diverging()
    for i, value in enumerate(values):
        color = cmap(0.5 + 0.5 * max(-1.0, min(1.0, value / peak)))
        ax.add_patch(_square(x + i * cell, y, cell, color))


def _square(x, y, cell, color, edge="line", width=0.6):
    from matplotlib.patches import Rectangle
    return Rectangle((x, y), cell, cell, facecolor=color,
                     edgecolor=COLORS.get(edge, edge), linewidth=width)


def _title(ax, text):
    ax.set_title(text, loc="left", fontsize=12, fontweight="semibold")


def lookup(token: str, token_id: int, vocab_size: int, row) -> Picture:
    """One row of wte picked by a token id, and by a one-hot vector."""
    fig, ax = canvas(height=2.6)
    blank(ax, 56, 26)
    values = [float(v) for v in row[:8]]
    peak = max(abs(v) for v in values)
    labels = ["0", "1", "⋮", f"{token_id:,}", "⋮", f"{vocab_size - 1:,}"]
    top, cell = 18.4, 2.9
    ax.text(5.4, top + 4.6, "one-hot", ha="center", fontsize=11.5,
            fontweight="semibold", color=COLORS["tokenizer"])
    ax.text(24.6, top + 4.6, f"wte: {vocab_size:,} rows", ha="center",
            fontsize=11.5, fontweight="semibold", color=COLORS["embedding"])
    for i, label in enumerate(labels):
        y = top - i * 3.4
        dots, hot = label == "⋮", label == f"{token_id:,}"
        if dots:
            for x in (5.4, 24.6):
                ax.text(x, y + cell / 2, "⋮", ha="center", va="center",
                        fontsize=12, color=COLORS["muted"])
            continue
        box(ax, 3.9, y, 3, cell, "1" if hot else "0", "tokenizer",
            filled=hot, size=10.5, radius=0.3)
        ax.text(11.9, y + cell / 2, label, ha="right", va="center",
                fontsize=10, color=COLORS["ink" if hot else "muted"],
                fontweight="semibold" if hot else "normal")
        if hot:
            _strip(ax, 13, y, values, cell, peak)
            row_y = y
        else:
            for j in range(8):
                ax.add_patch(_square(13 + j * cell, y, cell,
                                     tint("embedding", 0.88)))
    arrow(ax, (37, row_y + cell / 2), (43.6, row_y + cell / 2), "embedding",
          width=LINE * 1.3)
    ax.text(49.8, row_y + cell / 2 + 1.3, f"“{token}”", ha="center",
            va="center", fontsize=12, fontweight="semibold")
    ax.text(49.8, row_y + cell / 2 - 1.4, "row of width C", ha="center",
            va="center", fontsize=10, color=COLORS["muted"])
    return picture(fig, f"A one-hot vector with its single 1 at place"
                        f" {token_id:,} picks the row of the token"
                        f" “{token}” out of wte, a table of"
                        f" {vocab_size:,} rows; all other rows are"
                        " multiplied by 0.")


def table_sum(tokens: list[str], ids, token_rows, position_rows) -> Picture:
    """Rows of wte + rows of wpe = what enters the first block."""
    n, cell = len(tokens), 1.75
    fig, ax = canvas(height=0.92 + 0.3 * n)
    height = 9.2 + 3 * n
    blank(ax, 56, height)
    rows = [[float(v) for v in r[:8]] for r in token_rows]
    places = [[float(v) for v in r[:8]] for r in position_rows]
    sums = [[a + b for a, b in zip(p, q)] for p, q in zip(rows, places)]
    peak = max(abs(v) for r in sums for v in r)
    left, middle, right = 8.6, 24.8, 41
    for x, name, color in ((left, "row of wte", "embedding"),
                           (middle, "row of wpe", "position"),
                           (right, "their sum", "residual")):
        ax.text(x + 4 * cell, height - 2.4, name, ha="center", va="center",
                fontsize=11.5, fontweight="semibold", color=COLORS[color])
    for i, token in enumerate(tokens):
        y = height - 7.3 - 3 * i
        mid = y + cell / 2
        ax.text(7.8, y + 0.4, token.strip(), ha="right", va="baseline",
                fontsize=11.5)
        for x, values in ((left, rows[i]), (middle, places[i]),
                          (right, sums[i])):
            _strip(ax, x, y, values, cell, peak)
        ax.text((left + 8 * cell + middle) / 2, mid, "+", ha="center",
                va="center", fontsize=13)
        ax.text((middle + 8 * cell + right) / 2, mid, "=", ha="center",
                va="center", fontsize=13)
    low = height - 7.3 - 3 * (n - 1) - 2.2
    numbers = "ids " + ", ".join(str(int(i)) for i in ids)
    ax.text(left + 4 * cell, low, numbers, ha="center", va="center",
            fontsize=9.5, color=COLORS["muted"])
    ax.text(middle + 4 * cell, low, f"positions 0 to {n - 1}", ha="center",
            va="center", fontsize=9.5, color=COLORS["muted"])
    ax.text(right + 4 * cell, low, "first 8 numbers each", ha="center",
            va="center", fontsize=9.5, color=COLORS["muted"])
    return picture(fig, f"For each of the first {n} tokens, eight coloured"
                        " numbers of its row of wte, plus eight of the row"
                        " of wpe at its position, equal eight numbers of the"
                        " vector that enters the first block.")


def neighbours(trained: dict, untrained: dict) -> Picture:
    """The rows most similar to a token's, in two tables.

    Each is {token: [(neighbour, cosine), ...]}; the same number of
    neighbours everywhere. Shade: the cosine.
    """
    tables = (("Trained", trained), ("Random, as before training", untrained))
    n = len(next(iter(trained.values())))
    lines = sum(len(found) for _, found in tables)
    left, step, row = 9.4, 46.4 / n, 3.5
    height = row * lines + 4.4 * len(tables) + 3.2
    fig, ax = canvas(height=height / 10)
    blank(ax, 56, height)
    y = height
    for title, found in tables:
        y -= 3.4
        ax.text(0.2, y, title, fontsize=12, fontweight="semibold",
                va="center")
        y -= 1.0
        for token, others in found.items():
            y -= row
            box(ax, 0.2, y + 0.3, left - 1.4, row - 0.6, visible(token),
                "embedding", filled=True, size=10.5, radius=0.4)
            for i, (other, cosine) in enumerate(others):
                x = left + i * step
                _chip(ax, x, y + 0.3, step - 0.5, row - 0.6, other, cosine)
    for i in range(5):
        cosine, x = 0.2 * i, left + i * step * n / 5
        ax.add_patch(_bar(x, 0.5, 2.2, 1.5, cosine))
        ax.text(x + 2.8, 1.2, f"{cosine:.1f}" + (" cosine" if i == 4 else ""),
                va="center", fontsize=10, color=COLORS["muted"])
    words = "; ".join(f"{visible(token)}: " + ", ".join(
        visible(other) for other, _ in others)
        for token, others in trained.items())
    return picture(fig, f"The {n} nearest rows of {len(trained)} tokens in the"
                        f" trained table. {words}. Below, the nearest rows in"
                        " a random table: any tokens at all, with cosines"
                        " of about 0.2.")


def _bar(x, y, w, h, cosine):
    from matplotlib.patches import Rectangle
    return Rectangle((x, y), w, h, facecolor=tint("embedding",
                     1 - 0.8 * max(0.0, min(1.0, cosine))),
                     edgecolor=COLORS["line"], linewidth=0.6)


def _chip(ax, x, y, w, h, text, cosine):
    ax.add_patch(_bar(x, y, w, h, cosine))
    ax.text(x + w / 2, y + h / 2, visible(text), ha="center", va="center",
            fontsize=10.5)


def order_change(curves: dict[str, list[float]]) -> Picture:
    """How far the last token's vector moves when the others are shuffled."""
    styles = (("muted", "s"), ("attention", "^"), ("position", "o"))
    fig, ax = canvas(height=3.3)
    for (name, values), (color, marker) in zip(curves.items(), styles):
        ax.plot(range(len(values)), [100 * v for v in values], label=name,
                color=COLORS[color], marker=marker, markersize=5.5,
                linewidth=LINE + 0.4, clip_on=False)
    ax.set(xlabel="after block (0: before the first)",
           ylabel="change of the vector, %", ylim=(0, None),
           xlim=(0, len(next(iter(curves.values()))) - 1))
    ax.spines["bottom"].set_position(("outward", 6))
    ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=11,
              labelspacing=0.25, frameon=False)
    return picture(fig, "Change of the last token's vector after each block"
                        " when all tokens before it are shuffled. Without"
                        " mask and positions: none. With the causal mask"
                        " alone: none after block 1, some from block 2 on."
                        " With positions: already after block 1.")


def position_tables(tables: dict) -> Picture:
    """Tables of position vectors side by side: {title: (places, numbers)}."""
    fig, axes = canvas(height=3.2, columns=len(tables), sharey=True)
    for ax, (title, table) in zip(axes, tables.items()):
        values = [[float(v) for v in row] for row in table]
        sizes = sorted(abs(v) for row in values for v in row)
        peak = sizes[int(0.995 * len(sizes))]        # a few huge ones aside
        ax.imshow(values, cmap=diverging(), vmin=-peak, vmax=peak,
                  aspect="auto", interpolation="nearest")
        _title(ax, title)
        width = 2 * len(values[0])
        ax.set_xticks([0, len(values[0]) - 1], [0, width - 2])
        ax.set_xlabel("dimension")
        ax.spines[["left", "bottom"]].set_visible(False)
        ax.tick_params(length=0)
    axes[0].set_ylabel("position")
    return picture(fig, "Tables of position vectors as coloured squares, every"
                        " second dimension. By formula: waves, fast in the"
                        " left columns, slow in the right ones. Random:"
                        " noise without any pattern. Trained: what a small"
                        " model made of that noise; its first rows stand"
                        " out.")


def position_similarity(tables: dict, places: list[int]) -> Picture:
    """Cosine of a few positions with all others: {title: (P, P)}."""
    fig, axes = canvas(height=0.6 + 1.45 * len(tables), rows=len(tables),
                       sharex=True, sharey=True)
    for ax, (title, matrix) in zip(axes, tables.items()):
        for place, color in zip(places, ("position", "query")):
            ax.plot([float(v) for v in matrix[place]], color=COLORS[color],
                    linewidth=LINE)
            ax.annotate(f"with {place}", (place, 1), (7, -4),
                        textcoords="offset points", fontsize=10.5,
                        color=COLORS[color], fontweight="semibold",
                        va="center")
        _title(ax, title)
        ax.set(yticks=[0, 0.5, 1], ylim=(-0.45, 1.08), ylabel="cosine")
    axes[-1].set(xlabel="position", xlim=(0, len(matrix) - 1))
    last = matrix.diagonal(1).mean()
    return picture(fig, "Cosine of two positions with all others. By"
                        " formula: two peaks of the same shape that fall"
                        " with distance. Random: one spike each, noise"
                        " around zero everywhere else. Trained: the cosine"
                        f" of neighbouring positions is {last:.2f} on"
                        " average.")


def left_padding(tokens: list[list[str]], mask, positions) -> Picture:
    """A left-padded batch: token over its position, padding hatched."""
    columns = len(tokens[0])
    cell, left = 45.4 / columns, 10.2
    height = 4.4 + 8.6 * len(tokens)
    fig, ax = canvas(height=height / 10)
    blank(ax, 56, height)
    for b, row in enumerate(tokens):
        y = height - 4.2 - 8.6 * (b + 1) + 1.2
        ax.text(left - 1.2, y + 5.4, "token", ha="right", va="center",
                fontsize=10.5, color=COLORS["muted"])
        ax.text(left - 1.2, y + 1.5, "position", ha="right", va="center",
                fontsize=10.5, color=COLORS["muted"])
        for t, token in enumerate(row):
            real, x = bool(mask[b][t]), left + t * cell
            face = "embedding" if real else "line"
            box(ax, x + 0.2, y + 3.5, cell - 0.4, 3.6, "", face, radius=0.4)
            ax.text(x + cell / 2, y + 4.75, token.strip() if real else "pad",
                    ha="center", va="baseline", fontsize=10.5, zorder=5,
                    color=COLORS["ink" if real else "muted"])
            box(ax, x + 0.2, y, cell - 0.4, 3,
                str(int(positions[b][t])) if real else "–",
                "position" if real else "line", filled=real, size=10.5,
                weight="semibold" if real else "normal", radius=0.4)
    x = left + (columns - 0.5) * cell
    ax.text(x + cell / 2, height - 1.9, "newest token of every row ↓",
            ha="right", va="center", fontsize=10.5, style="italic",
            color=COLORS["muted"])
    return picture(fig, f"{len(tokens)} prompts of different length in one"
                        " batch, padded on the left. Below each real token"
                        " its position, counted from its own row's first"
                        " real token; padding has none. The last column"
                        " holds the newest token of every row.")


def cost(sizes: dict[str, dict[str, int]]) -> Picture:
    """Share of the embedding tables in the parameters of each size."""
    fig, ax = canvas(height=3.0)
    for i, (name, parts) in enumerate(sizes.items()):
        total = sum(parts.values())
        left = 0.0
        shares = (("embedding", 100 * parts["wte"] / total),
                  ("position", 100 * parts["wpe"] / total))
        for color, share in shares:
            ax.barh(i, share, left=left, height=0.56, color=COLORS[color])
            left += share
        ax.barh(i, 100 - left, left=left, height=0.56,
                color=tint("residual", 0.72))
        ax.text(left + 1.2, i, f"{left:.0f} % of {total / 1e6:,.0f}M",
                va="center", fontsize=10.5)
    ax.set_yticks(range(len(sizes)), list(sizes))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set(xlim=(0, 100), xlabel="share of all parameters, %")
    ax.spines["left"].set_visible(False)
    for x, label, color in ((0.0, "wte", "embedding"),
                            (0.115, "wpe", "position"),
                            (0.23, "blocks and ln_f", "residual")):
        ax.text(x, 1.06, label, transform=ax.transAxes, fontsize=11,
                fontweight="semibold", color=COLORS[color])
    return picture(fig, "Share of the two embedding tables in the parameters"
                        " of the four sizes: about a third of gpt2, falling"
                        " to a twentieth of gpt2-xl. wpe is a thin slice"
                        " everywhere.")
