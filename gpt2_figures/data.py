"""The pictures of chapter 14: the split, the shard, windows and batches."""
from gpt2_figures.shapes import (bars, blank, board, name_rows, rect, tag,
                                 write)
from gpt2_figures.style import (COLORS, LINE, VISIBLE, Picture, canvas,
                                picture, tint)


def split_lines(hash_before, hash_after, shuffle_before, shuffle_after,
                fraction: float) -> Picture:
    """Documents on the line from 0 to 1, before and after one was added.

    Each argument: {name: place between 0 and 1}.
    """
    fig, axes = canvas(height=4.6, rows=2)
    for ax, before, after, title in (
            (axes[0], hash_before, hash_after, "Place by hash of the text"),
            (axes[1], shuffle_before, shuffle_after,
             "Place by shuffling the list")):
        ax.axis("off")
        ax.set(xlim=(-0.23, 1.02), ylim=(-0.62, 1.42))
        ax.set_title(title, fontsize=12)
        rect(ax, 0, -0.18, fraction, 1.36, tint("key", 0.8), zorder=0)
        write(ax, fraction / 2, -0.42, "held out", "key")
        write(ax, (1 + fraction) / 2, -0.42, "training", "residual")
        _documents(ax, 1, "15 files", before, before, fraction)
        _documents(ax, 0, "one more", after, before, fraction)
        _moves(ax, before, after, fraction)
    return picture(
        fig, "Fifteen documents on a line from 0 to 1, and again after a"
        " sixteenth was added. By hash all lines between the two rows are"
        " upright: no document moves. After a shuffle the lines cross, and"
        " several documents pass the border between held-out and training.")


def _moves(ax, before, after, fraction):
    """A line from where each document was to where it is."""
    for name, at in before.items():
        crossed = (at < fraction) != (after[name] < fraction)
        ax.plot([at, after[name]], [1, 0], zorder=2,
                color=COLORS["wrong" if crossed else "line"],
                linewidth=LINE if crossed else LINE * 0.7)


def _documents(ax, y, words, places, before, fraction):
    """One row of documents; a new one is a diamond."""
    ax.plot([0, 1], [y, y], color=COLORS["line"], linewidth=LINE)
    write(ax, -0.03, y, words, "ink", ha="right")
    for name, at in places.items():
        new = name not in before
        ax.plot(at, y, "D" if new else "o", zorder=4,
                markersize=7 if new else 6, color=COLORS[
                    "right" if new else "key" if at < fraction
                    else "residual"])


def bytes_per_token(density: dict[str, float]) -> Picture:
    """Bars: how many bytes of each kind of text a token holds."""
    fig, ax = canvas(height=2.5)
    bars(ax, list(density.values()), tint("tokenizer", 0.15), "{:.1f}", 0.06,
         height=0.6, ink="ink")
    name_rows(ax, density)
    ax.set(xlabel="bytes per token", xlim=(0, 1.15 * max(density.values())))
    return picture(fig, "Bytes per token of the small tokenizer by kind of"
                        " text: most for Python code, fewer for English,"
                        " fewer again for digits and German, fewest for"
                        " Chinese.")


def windows(tokens: list[str], length: int, epochs) -> Picture:
    """Windows over the first tokens in two epochs, one token shared.

    epochs: [(offset, place in the order of each window), ...].
    """
    n, height = len(tokens), 3.2 * len(epochs) + 5.2
    fig, ax = board(height, n + 4.2)
    left, top = 3.9, height - 4.6
    for t, token in enumerate(tokens):
        _token(ax, left + t, top, token)
    for e, (offset, places) in enumerate(epochs):
        y = top - 3.2 * (e + 1) + 0.6
        write(ax, 0.1, y + 0.9, f"epoch {e}", "ink", ha="left")
        for i, start in enumerate(range(offset, n - 1, length)):
            end, low = min(start + length + 1, n), y + 0.95 * (1 - i % 2)
            rect(ax, left + start + 0.05, low, end - start - 0.1, 0.85,
                 tint("query", 0.55 if i % 2 else 0.72))
            write(ax, left + (start + end) / 2, low + 0.4, str(places[i]),
                  "ink")
    return picture(
        fig, f"The first {n} tokens of a text and below them the windows of"
        f" two epochs, {length + 1} tokens each. The last token of a window"
        " is the first of the next. The second epoch begins at another"
        " offset, and the numbers in the windows, their order, are others.")


def _token(ax, x, y, token):
    """The square of a token, its name above it."""
    last = token == "<|endoftext|>"
    rect(ax, x + 0.05, y, 0.9, 0.9, "key" if last else tint("tokenizer", 0.7))
    write(ax, x + 0.35, y + 1.2, "end of text" if last
          else token.strip(" ").translate(VISIBLE), "ink", 9.5, rotation=60,
          ha="left", va="bottom", rotation_mode="anchor")


def never_seen(epochs: list[float], shares: list[float]) -> Picture:
    """Share of windows never drawn: with replacement, and by permutation."""
    fig, ax = canvas(height=2.9)
    percent = [100 * share for share in shares]
    ax.plot([0, 1, epochs[-1]], [100, 0, 0], color=COLORS["right"])
    ax.plot(epochs, percent, color=COLORS["wrong"])
    ax.plot(1, percent[10], "o", color=COLORS["wrong"], clip_on=False)
    for point, shift, text, color, side in (
            ((1, percent[10]), (8, 6), f"{percent[10]:.0f} %", "wrong",
             "left"),
            ((2.1, percent[21]), (2, 12), "drawn at random", "wrong", "left"),
            ((0.74, 14), (0, 0), "a permutation", "right", "right")):
        tag(ax, point, shift, text, color, 11, ha=side,
            fontweight="semibold")
    ax.set(xlabel="windows used, in epochs", ylabel="% never seen",
           xlim=(0, epochs[-1]), ylim=(0, 100))
    return picture(fig, "Share of windows never seen. With a permutation it"
                        " falls in a straight line to 0 after one epoch."
                        " Drawn at random it bends: 37 % are left after one"
                        " epoch's worth of draws and 5 % after three.")


def shared(starts: list[list[int]], worlds: tuple[int, ...]) -> Picture:
    """The same batches, worked on by 1, 2 and 4 processes.

    starts: for each batch, where its windows begin.
    """
    shades = ("query", "key", "value", "attention")
    size, n = len(starts[0]), len(starts)
    fig, axes = canvas(height=2.9, columns=len(worlds))
    for ax, world in zip(axes, worlds):
        blank(ax, n, size + 1).set_aspect("auto")
        ax.set_title(f"{world} process{'es' if world > 1 else ''}",
                     fontsize=12)
        for b, batch in enumerate(starts):
            write(ax, b + 0.5, size + 0.45, str(b), "muted", 10)
            for row, start in enumerate(batch):
                rect(ax, b + 0.05, size - row - 0.95, 0.9, 0.9,
                     tint(shades[row * world // size], 0.62))
                write(ax, b + 0.5, size - row - 0.5, str(start), "ink")
    return picture(fig, f"The first {n} batches, the columns, each with"
                        f" {size} windows, named by where they begin. One"
                        " colour for a process. The numbers are the same for"
                        " one, two and four processes; only the colours"
                        " differ.")


def baselines(bits: dict[str, float]) -> Picture:
    """Bits per byte of held-out text by compressors and by counting."""
    fig, ax = canvas(height=2.5)
    bars(ax, list(bits.values()),
         [tint("query" if "gram" in name else "key", 0.25) for name in bits],
         "{:.2f}", 0.05, height=0.6, ink="ink")
    name_rows(ax, bits)
    ax.set(xlabel="bits per byte of held-out files, lower is better",
           xlim=(0, 1.13 * max(bits.values())))
    return picture(fig, "Bits per byte of the standard library's held-out"
                        " files. Two compressors, gzip and xz, and three"
                        " counting models: the 1-gram needs most, then the"
                        " 2-gram; the 3-gram needs least of all.")
