"""Pictures of chapter 05: attention."""
import json
from html import escape
from string import Template

from matplotlib.patches import Polygon

from gpt2_figures.shapes import (arrow, blank, board, box, frame,
                                 heatmap, legend, lines, log_x, name_rows,
                                 rect, swatch, tag, write)
from gpt2_figures.style import (COLORS, LINE, Page, Picture, canvas, picture,
                                tint, visible)


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
    top = max(abs(float(s)) for row in scores for s in row)
    peak = max(abs(float(x)) for row in mixed for x in row)
    keys = dict(rows=words, columns=words)
    signed = dict(color="diverging", form=_minus, dark=_is_dark(top))
    _matrix(axes[0, 0], scores, "1  scores  q·k / √D", top, **signed, **keys)
    _matrix(axes[0, 1], [[float(s) if j <= i else 0.0 for j, s in
                          enumerate(row)] for i, row in enumerate(scores)],
            "2  the future masked", top, hidden="−∞", **signed, **keys)
    _matrix(axes[1, 0], weights, "3  softmax by rows", 1, color="attention",
            form="{:.2f}".format, dark=lambda w: w > 0.4, hidden="0", **keys)
    _matrix(axes[1, 1], mixed, "4  blend of values", peak, rows=words,
            color="diverging", form=_minus, dark=_is_dark(peak))
    n = len(mixed[0])
    axes[1, 1].set_xticks(range(n), [f"{i + 1}" for i in range(n)])
    axes[1, 1].set_xlabel(f"first {n} of D numbers", fontsize=10.5)
    T = len(words)
    return picture(fig, f"Four {T} by {T} matrices for the first {T} tokens:"
                        " scores; the same with every entry right of the"
                        " diagonal replaced by minus infinity; the weights,"
                        " whose rows sum to 1 and are 0 right of the"
                        " diagonal; and the rows of blended values.")


def _matrix(ax, values, title, top, *, color, form, dark, hidden=None,
            **names):
    """A heat map with its numbers; hidden: what stands over the future."""
    low = -top if color == "diverging" else 0
    heatmap(ax, values, color, vmin=low, vmax=top, **names)
    ax.set_title(title)
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


def _is_dark(peak):
    """Says whether white text reads better on the diverging colour of x."""
    return lambda x: x / peak > 0.5 or x / peak < -0.85


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
        for scaled, color, text, line, (at, shift, side) in (
                (True, "right", "with 1/√D", "o-", (-1, (2, -15), "right")),
                (False, "wrong", "without", "o--", beside)):
            ax.plot(widths, data[scaled], line, color=COLORS[color],
                    markersize=5)
            tag(ax, (widths[at], data[scaled][at]), shift, text, color,
                ha=side)
        log_x(ax, widths, 4)
        ax.set(xlabel="head width D", title=title)
        ax.grid(axis="y")
    axes[0].set_ylim(0, None)
    return picture(fig, "Two charts over the head width D. With 1/√D a query"
                        " of random numbers reads about 40 of 64 keys at"
                        " every width and its gradient stays level. Without"
                        " it, wide heads read one key only and the gradient"
                        " falls a thousandfold.")


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
    write(ax, 1 + width / 2, middle + half + 4.2, "q  (T, C)", "ink", 11,
          fontweight="semibold")
    for y, text in ((half + 1.6, "a row = a token"),
                    (-half - 1.8, "shade = head"),
                    (-half - 4.2, "number = token")):
        write(ax, 1 + width / 2, middle + y, text, "muted")
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


def _cut(ax, left, top, blocks, shades, title, color, code):
    """Blocks of one head each, side by side below their title."""
    wide, tall = len(blocks[0][0]) * CELL, len(blocks[0]) * CELL
    write(ax, left + 14.6, top + 5.0, title, color, 11.5,
          fontweight="semibold")
    write(ax, left + 14.6, top + 2.4, code, "muted")
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
    for values, color, text, line, shift in (
            (explicit, "attention", "written out: grows with T²", "o--",
             (-12, 3)),
            (fused, "right", "fused: grows with T", "o-", (0, -34))):
        ax.plot(lengths, values, line, color=COLORS[color], markersize=5)
        tag(ax, (lengths[-1], values[-1]), shift, text, color, 11,
            ha="right", va="center")
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
            x = left + head * width
            rect(ax, x + 0.15, y + 0.15, width - 0.3, 3.1,
                 KINDS[kind] if kind else tint("line", 0.6))
            write(ax, x + width / 2, y + 1.6, f"{share:.0%}" if kind else "–",
                  "white" if kind else "muted")
    write(ax, left - 1, top, "head", size=11, ha="right")
    for head in range(H):
        write(ax, left + (head + 0.5) * width, top, f"{head + 1}", size=11)
    for i, (kind, color) in enumerate(KINDS.items()):
        swatch(ax, 0.4 + 19.4 * (i % 3), 6.4 - 2.9 * (i // 3), 1.9, 1.9,
               color, kind, gap=0.7)
    found = [kind for row in best for kind, _ in row]
    return picture(fig, f"The {L * H} heads by what they read most: "
                        + ", ".join(f"{kind} {found.count(kind)}"
                                    for kind in KINDS)
                        + f"; none of these {found.count('')}.")


def examples(words: list[str], found: dict) -> Picture:
    """One map for each title, two a row: {title: (T, T)}."""
    T, n = len(words), len(found)
    rows = -(-n // 2)
    fig, axes = canvas(height=2.75 * rows + 0.45, rows=rows, columns=2)
    fig.get_layout_engine().set(wspace=0.02, hspace=0.02, w_pad=0.02)
    _triangles(axes, [_label(word) for word in words],
               {title.replace(": ", "\n"): found[title] for title in found},
               7.5)
    return picture(fig, f"Attention maps of {n} trained heads for {T} tokens"
                        " of Python; a row is a reader, a column is read. "
                        + "; ".join(found) + ".")


def _label(word: str) -> str:
    """The word without spaces around it; an arrow for a line's end."""
    return word.strip() or visible(word)


class Viewer(Page):
    """A page within the page on which the reader chooses what is shown."""
    kind = "Viewer"


# Plain HTML that is right as it stands: one head, one reader. The script adds
# the choice. Colours are transparent purple over whatever the page has.
PAGE = Template("""<div id="head-viewer" class="hv">
<style>
.hv { border: 1px solid #8886; border-radius: .5rem; padding: .8rem 1rem; }
html[data-theme] div.cell_output .text_html:has(> .hv) {
  background: none !important; color: inherit !important; padding: 0; }
.hv p { margin: .3rem 0; }
.hv-row { display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0 .7rem; }
.hv button { font: inherit; color: inherit; background: none; cursor: pointer;
  border: 1px solid #8888; border-radius: .4rem; padding: .25rem .55rem;
  line-height: 1.25; min-width: 2.6rem; min-height: 2.2rem; }
.hv-heads button, .hv-layers button { min-width: 2rem; padding: .2rem; }
.hv small { display: block; font-size: .8rem; }
.hv button[aria-pressed=true] { outline: 2px solid #2f6db5;
  outline-offset: 1px; }
.hv button:disabled { opacity: .4; border-style: dashed; }
</style>
<p>Layer <span class="hv-layer">$layer</span></p>
<div class="hv-row hv-layers" role="group" aria-label="layer"></div>
<p>Head <span class="hv-head">$head</span></p>
<div class="hv-row hv-heads" role="group" aria-label="head"></div>
<p>Who reads? <span class="hv-hint">The token with the blue frame.</span></p>
<div class="hv-row hv-words" role="group" aria-label="tokens">$words</div>
<p class="hv-says" aria-live="polite">$says</p>
<script>
(function () {
  const root = document.getElementById("head-viewer");
  const words = $names, maps = $maps;
  const find = name => root.querySelector(".hv-" + name);
  const chips = [...find("words").children];
  let layer = $layer, head = $head - 1, reader = words.length - 1;
  find("hint").textContent = "Choose a token.";
  const buttons = (what, count, first, choose) =>
    Array.from({length: count}, (_, i) => {
      const tab = document.createElement("button");
      tab.textContent = i + first;
      tab.setAttribute("aria-label", what + " " + (i + first));
      tab.onclick = () => { choose(i); show(); };
      find(what + "s").append(tab);
      return tab;
    });
  const layers = buttons("layer", maps.length, 0, i => { layer = i; });
  const heads = buttons("head", maps[0].length, 1, i => { head = i; });
  chips.forEach((chip, i) => {
    chip.onclick = () => { reader = i; show(); };
    chip.onpointerenter = event => {
      if (event.pointerType === "mouse") { reader = i; show(); }
    };
  });
  function show() {
    const row = maps[layer][head][reader];
    find("layer").textContent = layer;
    find("head").textContent = head + 1;
    layers.forEach((tab, i) => tab.setAttribute("aria-pressed", i === layer));
    heads.forEach((tab, i) => tab.setAttribute("aria-pressed", i === head));
    chips.forEach((chip, i) => {
      const share = i <= reader ? row[i] : 0;
      chip.style.background = "rgba(140, 95, 200, " + share / 105 + ")";
      chip.style.opacity = i <= reader ? 1 : 0.4;
      chip.setAttribute("aria-pressed", i === reader);
      chip.lastElementChild.textContent = i <= reader ? share + "%" : "–";
    });
    const best = row.map((share, i) => [share, i]).sort((a, b) => b[0] - a[0])
      .slice(0, 3).filter(pair => pair[0] > 0)
      .map(pair => words[pair[1]] + " " + pair[0] + "%");
    find("says").textContent = "In layer " + layer + ", head " + (head + 1)
      + ", “" + words[reader] + "” reads " + best.join(", ") + ".";
  }
  show();
})();
</script>
</div>""")


def head_viewer(words: list[str], weights, layer: int, head: int) -> Viewer:
    """Choose a layer, a head and a reader; see whom it reads, in percent.

    weights: (L, H, T, T). `layer` and `head` (from 0) are shown at first.
    """
    words = [_label(word) for word in words]
    shares = [[[[round(100 * float(w)) for w in row[:i + 1]]
                for i, row in enumerate(rows)] for rows in of_layer]
              for of_layer in weights]
    row = shares[layer][head][-1]
    chips = "\n".join(
        f'<button style="background: rgba(140, 95, 200, {share / 105:.2f})"'
        f' aria-pressed="{str(i == len(words) - 1).lower()}">'
        f"{escape(word)}<small>{share}%</small></button>"
        for i, (word, share) in enumerate(zip(words, row)))
    best = ", ".join(f"{escape(word)} {share}%" for share, word in
                     sorted(zip(row, words), key=lambda pair: -pair[0])[:3])
    names, maps = (json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                   .replace("</", "<\\/") for value in (words, shares))
    html = PAGE.substitute(
        layer=layer, head=head + 1, words=chips, names=names, maps=maps,
        says=f"In layer {layer}, head {head + 1}, “{escape(words[-1])}” reads"
             f" {best}.")
    return Viewer(html, "the tokens of a text as buttons. Choose a layer, a"
                        " head and a token: the others are shaded by the"
                        " share that it takes from them.")
