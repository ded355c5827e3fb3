"""The pictures of chapter 03: rows of two tables, and their sum."""
from gpt2_figures.shapes import (arrow, board, box, legend, matrix,
                                 rect, stacked, tag, write)
from gpt2_figures.style import (COLORS, LINE, Picture, canvas, diverging,
                                picture, tint, visible)


def _strip(ax, x, y, values, cell, peak):
    """A vector as a row of coloured squares, from (x, y) to the right."""
    cmap = diverging()
    for i, value in enumerate(values):
        _square(ax, x + i * cell, y, cell, cell,
                cmap(0.5 + 0.5 * max(-1.0, min(1.0, value / peak))))


def _square(ax, x, y, w, h, color):
    rect(ax, x, y, w, h, color, edgecolor=COLORS["line"], linewidth=0.6)


def lookup(token: str, token_id: int, vocab_size: int, row) -> Picture:
    """One row of wte picked by a token id, and by a one-hot vector."""
    fig, ax = board(26)
    values = [float(v) for v in row[:8]]
    top, cell, picked = 18.4, 2.9, f"{token_id:,}"
    for x, name, color in ((5.4, "one-hot", "tokenizer"),
                           (24.6, f"wte: {vocab_size:,} rows", "embedding")):
        write(ax, x, top + 4.6, name, color, 11.5, va="baseline",
              fontweight="semibold")
    for i, label in enumerate(("0", "1", "⋮", picked, "⋮",
                               f"{vocab_size - 1:,}")):
        _row(ax, top - i * 3.4, cell, label, label == picked and values)
    middle = top - 3 * 3.4 + cell / 2
    arrow(ax, (37, middle), (43.6, middle), "embedding", width=LINE * 1.3)
    write(ax, 49.8, middle + 1.3, f"“{token}”", size=12,
          fontweight="semibold")
    write(ax, 49.8, middle - 1.4, "row of width C", "muted", 10)
    return picture(fig, "A one-hot vector with its single 1 at place"
                        f" {token_id:,} picks the row of the token “{token}”"
                        f" out of wte, a table of {vocab_size:,} rows; all"
                        " other rows are multiplied by 0.")


def _row(ax, y, cell, label, values):
    """One place of the one-hot vector and its row of the table; values: of
    the row that is picked, or False."""
    if label == "⋮":
        for x in (5.4, 24.6):
            write(ax, x, y + cell / 2, label, "muted", 12)
        return
    box(ax, 3.9, y, 3, cell, "1" if values else "0", "tokenizer",
        filled=bool(values), size=10.5, radius=0.3)
    write(ax, 11.9, y + cell / 2, label, "ink" if values else "muted", 10,
          ha="right", fontweight="semibold" if values else "normal")
    if values:
        _strip(ax, 13, y, values, cell, max(abs(v) for v in values))
    else:
        for j in range(8):
            _square(ax, 13 + j * cell, y, cell, cell, tint("embedding", 0.88))


def table_sum(tokens: list[str], ids, token_rows, position_rows) -> Picture:
    """Rows of wte + rows of wpe = what enters the first block."""
    n, cell, top = len(tokens), 1.75, 1.9 + 3 * len(tokens)
    fig, ax = board(top + 7.3)
    rows, places = ([[float(v) for v in row[:8]] for row in table]
                    for table in (token_rows, position_rows))
    sums = [[a + b for a, b in zip(p, q)] for p, q in zip(rows, places)]
    peak = max(abs(v) for r in sums for v in r)
    for i, token in enumerate(tokens):
        y = top - 3 * i
        write(ax, 7.8, y + 0.4, token.strip(), size=11.5, ha="right",
              va="baseline")
        for x, sign in ((23.7, "+"), (39.9, "=")):
            write(ax, x, y + cell / 2, sign, size=13)
    ids = ", ".join(str(int(i)) for i in ids)
    for looks in ((8.6, rows, "row of wte", "embedding", f"ids {ids}"),
                  (24.8, places, "row of wpe", "position",
                   f"positions 0 to {n - 1}"),
                  (41, sums, "their sum", "residual",
                   "first 8 numbers each")):
        _table(ax, top, cell, peak, *looks)
    return picture(fig, f"For each of the first {n} tokens, eight coloured"
                        " numbers of its row of wte, plus eight of the row of"
                        " wpe at its position, equal eight numbers of the"
                        " vector that enters the first block.")


def _table(ax, top, cell, peak, x, rows, name, color, below):
    """Rows of a table below each other, words above and below them."""
    middle = x + 4 * cell
    write(ax, middle, top + 4.9, name, color, 11.5, fontweight="semibold")
    for i, values in enumerate(rows):
        _strip(ax, x, top - 3 * i, values, cell, peak)
    write(ax, middle, top - 3 * len(rows) + 0.8, below, "muted", 9.5)


def neighbours(trained: dict, untrained: dict) -> Picture:
    """The rows most similar to a token's, in two tables.

    Each is {token: [(neighbour, cosine), ...]}; the same number of
    neighbours everywhere. Shade: the cosine.
    """
    tables = (("Trained", trained), ("Random, as before training", untrained))
    n = len(next(iter(trained.values())))
    y = 3.5 * sum(len(found) for _, found in tables) + 12
    fig, ax = board(y)
    for title, found in tables:
        y -= 3.4
        write(ax, 0.2, y, title, size=12, ha="left", fontweight="semibold")
        y -= 1.0
        for token, others in found.items():
            y -= 3.5
            _neighbours(ax, y + 0.3, token, others)
    _key_of_cosines(ax)
    words = "; ".join(f"{visible(token)}: " + ", ".join(
        visible(other) for other, _ in others)
        for token, others in trained.items())
    return picture(fig, f"The {n} nearest rows of {len(trained)} tokens in"
                        f" the trained table. {words}. Below, the nearest"
                        " rows in a random table: any tokens at all, with"
                        " cosines of about 0.2.")


def _neighbours(ax, y, token, others):
    """A token and, to its right, the rows nearest to its own."""
    box(ax, 0.2, y, 8, 2.9, visible(token), "embedding", filled=True,
        size=10.5, radius=0.4)
    step = 46.4 / len(others)
    for i, (other, cosine) in enumerate(others):
        x, w = 9.4 + i * step, step - 0.5
        _square(ax, x, y, w, 2.9, _shade(cosine))
        write(ax, x + w / 2, y + 1.45, visible(other))


def _key_of_cosines(ax):
    for i, text in enumerate(("0.0", "0.2", "0.4", "0.6", "0.8 cosine")):
        x = 9.4 + i * 46.4 / 5
        _square(ax, x, 0.5, 2.2, 1.5, _shade(0.2 * i))
        write(ax, x + 2.8, 1.2, text, "muted", 10, ha="left")


def _shade(cosine):
    return tint("embedding", 1 - 0.8 * max(0.0, min(1.0, cosine)))


def order_change(curves: dict[str, list[float]]) -> Picture:
    """How far the last token's vector moves when the others are shuffled."""
    fig, ax = canvas(height=3.3)
    for (name, values), color, marker in zip(
            curves.items(), ("muted", "attention", "position"), "s^o"):
        ax.plot(range(len(values)), [100 * v for v in values], label=name,
                color=COLORS[color], marker=marker, markersize=5.5,
                linewidth=LINE + 0.4, clip_on=False)
    ax.set(xlabel="after block (0: before the first)",
           ylabel="change of the vector, %", ylim=(0, None),
           xlim=(0, len(values) - 1))
    ax.spines["bottom"].set_position(("outward", 6))
    legend(ax, loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=11,
           labelspacing=0.25)
    return picture(fig, "Change of the last token's vector after each block"
                        " when all tokens before it are shuffled. Without"
                        " mask and positions: none. With the causal mask"
                        " alone: none after block 1, some from block 2 on."
                        " With positions: already after block 1.")


def position_tables(tables: dict) -> Picture:
    """Tables of position vectors side by side: {title: (places, numbers)}."""
    fig, axes = canvas(height=3.2, columns=len(tables), sharey=True)
    for ax, (title, table) in zip(axes, tables.items()):
        matrix(ax, table, 0.995)
        ax.set_title(title, fontsize=12)
        columns = len(table[0])
        ax.set_xticks([0, columns - 1], [0, 2 * columns - 2])
        ax.set_xlabel("dimension")
    axes[0].set_ylabel("position")
    return picture(
        fig, "Tables of position vectors as coloured squares, every second"
        " dimension. By formula: waves, fast in the left columns, slow in the"
        " right ones. Random: noise without any pattern. Trained: what a"
        " small model made of that noise; its first rows stand out.")


def position_similarity(tables: dict, places: list[int]) -> Picture:
    """Cosine of a few positions with all others: {title: (P, P)}."""
    fig, axes = canvas(height=0.6 + 1.45 * len(tables), rows=len(tables),
                       sharex=True, sharey=True)
    for ax, (title, table) in zip(axes, tables.items()):
        for place, color in zip(places, ("position", "query")):
            ax.plot([float(v) for v in table[place]], color=COLORS[color],
                    linewidth=LINE)
            tag(ax, (place, 1), (7, -4), f"with {place}", color, va="center",
                fontweight="semibold")
        ax.set_title(title, fontsize=12)
        ax.set(yticks=[0, 0.5, 1], ylim=(-0.45, 1.08), ylabel="cosine")
    axes[-1].set(xlabel="position", xlim=(0, len(table) - 1))
    last = table.diagonal(1).mean()
    return picture(fig, "Cosine of two positions with all others. By formula:"
                        " two peaks of the same shape that fall with"
                        " distance. Random: one spike each, noise around zero"
                        " everywhere else. Trained: the cosine of"
                        f" neighbouring positions is {last:.2f} on average.")


def cost(sizes: dict[str, dict[str, int]]) -> Picture:
    """Share of the embedding tables in the parameters of each size."""
    fig, ax = canvas(height=3.0)
    shares = {name: {part: 100 * count / sum(parts.values())
                     for part, count in parts.items()}
              for name, parts in sizes.items()}
    stacked(ax, {name: {"wte": parts["wte"], "wpe": parts["wpe"],
                        "rest": 100 - parts["wte"] - parts["wpe"]}
                 for name, parts in shares.items()},
            {"wte": "embedding", "wpe": "position",
             "rest": tint("residual", 0.72)}, height=0.56, edge=0)
    for i, (name, parts) in enumerate(shares.items()):
        left, total = parts["wte"] + parts["wpe"], sum(sizes[name].values())
        write(ax, left + 1.2, i, f"{left:.0f} % of {total / 1e6:,.0f}M",
              ha="left")
    ax.set(xlim=(0, 100), xlabel="share of all parameters, %")
    for x, label, color in ((0.0, "wte", "embedding"),
                            (0.115, "wpe", "position"),
                            (0.23, "blocks and ln_f", "residual")):
        write(ax, x, 1.06, label, color, 11, ha="left", va="baseline",
              transform=ax.transAxes, fontweight="semibold")
    return picture(fig, "Share of the two embedding tables in the parameters"
                        " of the four sizes: about a third of gpt2, falling"
                        " to a twentieth of gpt2-xl. wpe is a thin slice"
                        " everywhere.")
