"""Pictures of chapter 02: bytes, pre-tokens, merges, ids."""
import html
import json

import regex

from gpt2_figures.style import (COLORS, WIDTH, Picture, arrow, blank, box,
                                canvas, picture)

VISIBLE = str.maketrans({" ": "·", "\n": "↵"})


def _board(width: float, height: float):
    """A drawing board in its own units, and the points in one unit."""
    fig, ax = canvas(height=WIDTH * height / width)
    return fig, blank(ax, width, height), 72 * WIDTH / width


def _label(ax, x: float, y: float, text, size: float, points: float,
           color: str = "ink", **kwargs):
    """Text centred on x, on one line with its neighbours around y."""
    ax.text(x, y - 0.3 * size / points, text, ha=kwargs.pop("ha", "center"),
            va="baseline", fontsize=size, color=COLORS.get(color, color),
            zorder=5, **kwargs)


def pipeline(tokenizer, parts: list[str]) -> Picture:
    """Text, bytes, pre-tokens, tokens and ids of a sentence, in lines.

    parts: the sentence, cut between pre-tokens, one part a line.
    """
    from gpt2.tokenizer import pre_tokenize
    rows = ("text", "bytes", "pre-tokens", "tokens, after the merges", "ids")
    columns, first, other = max(map(len, parts)), 9.9, 5.9
    height = first + other * (len(parts) - 1) + 0.5
    fig, ax, points = _board(columns + 0.2, height)
    top = height
    for n, part in enumerate(parts):
        pitch = 2.05 if n == 0 else 1.2
        y = [top - 1.3 - pitch * i for i in range(len(rows))]
        top -= first + 0.5
        if n == 0:
            for at, name in zip(y, rows):
                _label(ax, 0.1, at + 0.9, name, 10, points, "muted",
                       ha="left", style="italic")
        for i, char in enumerate(part):
            x = 0.6 + i
            _label(ax, x, y[0], char.translate(VISIBLE), 13, points)
            _label(ax, x, y[1], ord(char), 9.5, points, "residual")
        at = 0.1
        for word in pre_tokenize(part):
            box(ax, at + 0.06, y[2] - 0.48, len(word) - 0.12, 0.96,
                color="residual", radius=0.2)
            _label(ax, at + len(word) / 2, y[2], word.translate(VISIBLE),
                   12, points)
            at += len(word)
        at = 0.1
        for id in tokenizer.encode(part):
            token = tokenizer.decode([id])
            middle = at + len(token) / 2
            box(ax, at + 0.06, y[3] - 0.48, len(token) - 0.12, 0.96,
                color="tokenizer", filled=True, radius=0.2)
            _label(ax, middle, y[3], token.translate(VISIBLE), 12, points,
                   "paper")
            _label(ax, middle, y[4] + 0.12, id, 10.5, points, "tokenizer",
                   weight="semibold")
            at += len(token)
    return picture(fig, "The running sentence as text, as bytes, as eight"
                        " pre-tokens, as thirteen tokens and as their ids."
                        " A dot stands for a space.")


def byte_map(table: dict[int, str]) -> Picture:
    """The 256 bytes and their symbols: which ones stand for themselves."""
    fig, ax, points = _board(17.2, 18.2)
    for byte, symbol in table.items():
        row, column = divmod(byte, 16)
        x, y = column + 1.1, 16.2 - row
        moved, marked = symbol != chr(byte), byte in (10, 32)
        patch = box(ax, x + 0.05, y + 0.05, 0.9, 0.9,
                    color="tokenizer" if moved else "line", filled=marked,
                    radius=0.15)
        if not moved:
            patch.set_facecolor("white")
        _label(ax, x + 0.5, y + 0.5, symbol, 12, points,
               "paper" if marked else "ink")
    for n in range(16):
        _label(ax, n + 1.6, 17.65, f"_{n:X}", 10, points, "muted")
        _label(ax, 0.5, 16.7 - n, f"{n:X}_", 10, points, "muted")
    for x, color, text in ((1.15, "line", "188 bytes stand for themselves"),
                           (9.6, "tokenizer", "68 bytes moved")):
        patch = box(ax, x, 0.15, 0.7, 0.7, color=color, radius=0.15)
        if color == "line":
            patch.set_facecolor("white")
        _label(ax, x + 1, 0.5, text, 11, points, ha="left")
    return picture(fig, "A table of the 256 bytes, 16 by 16, with the symbol"
                        " of each. 188 printable bytes stand for themselves;"
                        " 68 moved to other characters, among them the line"
                        " break (0A) and the space (20), both in full colour.")


PARTS = (("contraction", "head"), ("letters", "tokenizer"),
         ("numbers", "key"), ("other signs", "value"),
         ("white space", "muted"), ("white space that remains", "position"))


def pattern_parts(pattern: str, text: str) -> Picture:
    """A text cut by the split pattern, each piece coloured by its part."""
    pieces = regex.compile("|".join(f"({p})" for p in pattern.split("|")))
    width = len(text) + 0.2
    fig, ax, points = _board(width, 7)
    for match in pieces.finditer(text):
        name, color = PARTS[max(0, match.lastindex - 7)]
        start, end = match.span()
        box(ax, start + 0.14, 4.9, end - start - 0.08, 1.7, color=color,
            radius=0.25)
        for i in range(start, end):
            _label(ax, i + 0.6, 5.75, text[i].translate(VISIBLE), 11.5,
                   points)
    for n, (name, color) in enumerate(PARTS):
        x, y = (0.2, 0.31 * width, 0.57 * width)[n % 3], 2.7 - 2 * (n // 3)
        box(ax, x, y, 1, 1, color=color, radius=0.25)
        _label(ax, x + 1.5, y + 0.5, name, 11, points, ha="left")
    return picture(fig, "A line of text cut into pre-tokens, each piece"
                        " coloured by the part of the pattern that took it: "
                        + ", ".join(name for name, _ in PARTS) + ".")


def linked_list(word: str, at: int) -> Picture:
    """A word as a linked list, before and after merging places at, at + 1."""
    n = len(word)
    fig, ax, points = _board(11.2, 5.3)
    step, w = 11.2 / n, 1.15
    left = lambda i: i * step + (step - w) / 2
    for y, merged, name in ((3.3, False, "before"), (0.6, True, "after")):
        _label(ax, 0.1, y + 1.6, name, 10.5, points, "muted", ha="left",
               style="italic")
        for i in range(n):
            gone, lit = merged and i == at + 1, merged and i == at
            patch = box(ax, left(i), y, w, 1.1, filled=lit, radius=0.15,
                        color="line" if gone else "tokenizer")
            if gone:
                patch.set(facecolor="white", linestyle=(0, (3, 2)))
            text = "None" if gone else word[i:i + 2] if lit else word[i]
            _label(ax, left(i) + w / 2, y + 0.55, text, 11 if gone else 13.5,
                   points, "muted" if gone else "paper" if lit else "ink")
            _label(ax, left(i) + w / 2, y - 0.32, f"place {i + 1}", 10,
                   points, "muted")
        live = [i for i in range(n) if not (merged and i == at + 1)]
        for i, j in zip(live, live[1:]):
            a, b = left(i) + w, left(j)
            arrow(ax, (a, y + 0.72), (b, y + 0.72), "residual")
            arrow(ax, (b, y + 0.38), (a, y + 0.38), "residual")
    return picture(fig, f"The word {word} as a linked list of {n} places,"
                        " with arrows to both neighbours. After the merge of"
                        f" places {at + 1} and {at + 2} the first holds"
                        f" {word[at:at + 2]} and the second None, outside"
                        " the list.")


def merge_steps(history: list[tuple[list[str], int | None]]) -> Picture:
    """The pieces of one word after every merge, from bytes to tokens.

    history: (pieces, rank of the merge that comes next or None).
    """
    rows, letters = len(history), sum(map(len, history[0][0]))
    width, pitch = letters + 4.6, 1.25
    fig, ax, points = _board(width, rows * pitch)
    before = []
    for n, (pieces, _) in enumerate(history):
        y, at, note = (rows - n - 0.5) * pitch, 0, "bytes"
        for i, piece in enumerate(pieces):
            new = n > 0 and pieces[:i] == before[:i] and piece != before[i]
            box(ax, at + 0.06, y - 0.48, len(piece) - 0.12, 0.96,
                color="tokenizer", filled=new, radius=0.15)
            _label(ax, at + len(piece) / 2, y, piece.replace("Ġ", "·"), 13,
                   points, "paper" if new else "ink")
            if new:
                a, b = (half.replace("Ġ", "·") for half in before[i:i + 2])
                note = f"{a} + {b}   rank {history[n - 1][1]:,}"
            at += len(piece)
        _label(ax, letters + 0.3, y, note, 11, points, "muted", ha="left")
        before = pieces
    word = "".join(history[0][0]).replace("Ġ", " ")
    return picture(fig, f"The word '{word}' in {rows - 1} merges: from single"
                        f" bytes to the tokens {' and '.join(before)}.")


def _title(ax, text: str):
    ax.set_title(text, loc="left", fontweight="semibold", fontsize=12.5)


def growth(looks: dict[int, tuple[int, int]]) -> Picture:
    """Work against length of a word: scanning and heap, both axes log."""
    fig, ax = canvas(height=3.1)
    sizes = list(looks)
    for k, (color, name) in enumerate((("wrong", "scanning: ×4 each time"),
                                       ("right", "heap: ×2 each time"))):
        values = [looks[n][k] for n in sizes]
        ax.plot(sizes, values, "o-", color=COLORS[color], markersize=5)
        ax.annotate(name, (sizes[1], values[1]), xytext=(8, -6),
                    textcoords="offset points", va="top",
                    color=COLORS[color], fontsize=11.5)
    ax.set(xscale="log", yscale="log", xlabel="letters in the word")
    _title(ax, "Pairs looked up to encode one word")
    ax.set_xticks(sizes, sizes)
    ax.minorticks_off()
    ax.set_ylim(bottom=50)
    return picture(fig, "Pairs looked up against the length of a word, on"
                        " logarithmic axes: the line for scanning rises twice"
                        " as steeply as the line for the heap.")


def bytes_per_token(curves: dict[str, dict[int, float]]) -> Picture:
    """Bytes per token against the size of the vocabulary, by kind of text."""
    fig, ax = canvas(height=3.7)
    colors = ["tokenizer", "query", "value", "key", "feed_forward", "muted"]
    ends = sorted(curves, key=lambda name: list(curves[name].values())[-1])
    labels, low = {}, 0.0
    for name in ends:                            # keep labels apart
        low = max(list(curves[name].values())[-1], low + 0.2)
        labels[name] = low
    for color, (name, curve) in zip(colors, curves.items()):
        sizes = list(curve)
        ax.plot(sizes, curve.values(), "o-", color=COLORS[color],
                markersize=4)
        ax.annotate(name, (sizes[-1], labels[name]), xytext=(8, 0),
                    textcoords="offset points", va="center", fontsize=11,
                    color=COLORS[color], annotation_clip=False)
    ax.set(xscale="log", xlabel="entries in the vocabulary",
           xlim=(sizes[0] * 0.93, sizes[-1] * 3.6))
    _title(ax, "Bytes per token")
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    ax.minorticks_off()
    ax.spines["bottom"].set_bounds(sizes[0], sizes[-1])
    ax.set_ylim(bottom=0.8)
    return picture(fig, "Bytes per token against the size of the vocabulary,"
                        " one line for each kind of text. All begin at one"
                        " byte per token. Python source and its docstrings"
                        " rise most, German a little, Russian and Chinese"
                        " not at all.")


# The merge stepper: one piece of HTML that needs no server and no network.
# Without scripts it shows its first state, the finished tokens.
_STYLE = """
.merge-stepper { border: 1px solid rgba(128,128,128,.4); padding: .9em 1em;
  border-radius: 8px; max-width: 40rem; margin: .5em 0; }
.merge-stepper .controls { display: none; }
.merge-stepper.live .controls { display: flex; gap: .6em;
  align-items: center; margin-bottom: .6em; }
.merge-stepper input { font: inherit; color: inherit; flex: 1 1 auto;
  min-width: 0; accent-color: #a0527a; }
.merge-stepper input[type=text] { background: transparent; padding: .3em .5em;
  border: 1px solid rgba(128,128,128,.6); border-radius: 5px; }
.merge-stepper button { font: inherit; color: inherit; cursor: pointer;
  background: transparent; border: 1px solid rgba(128,128,128,.6);
  border-radius: 5px; min-width: 2.6em; min-height: 2.2em; }
.merge-stepper .note { margin: .2em 0 .6em; min-height: 1.5em; }
.merge-stepper .word { display: inline-flex; flex-wrap: wrap; gap: 3px;
  margin: 0 9px 9px 0; vertical-align: top; }
.merge-stepper .token { display: inline-block; text-align: center;
  padding: .15em .4em .1em; border: 1px solid #a0527a; border-radius: 5px;
  background: rgba(160,82,122,.14); line-height: 1.3; white-space: pre; }
.merge-stepper .token.new { background: #a0527a; color: #fff; }
.merge-stepper .token small { display: block; font-size: .75em;
  opacity: .85; }
"""
_SCRIPT = r"""
(() => {
  const root = document.getElementById("merge-stepper");
  if (!root || root.dataset.ready) return;
  root.dataset.ready = "yes";
  const {symbols, merges, pattern} = DATA;
  const symbolOf = [...symbols], byteOf = new Map();
  symbolOf.forEach((symbol, byte) => byteOf.set(symbol, byte));
  const ids = new Map(), ranks = new Map();
  [...symbols].sort((a, b) => a.codePointAt() - b.codePointAt())
    .forEach((symbol, id) => ids.set(symbol, id));
  merges.forEach((pair, rank) => {
    ranks.set(pair, rank);
    ids.set(pair.replace(" ", ""), 256 + rank);
  });
  const cut = new RegExp(pattern, "gu");
  const text = root.querySelector("input[type=text]");
  const slider = root.querySelector("input[type=range]");
  const [back, forth] = root.querySelectorAll("button");
  const note = root.querySelector(".note");
  const shelf = root.querySelector(".tokens");
  let states = [];

  function shown(token) {
    const bytes = Uint8Array.from([...token], s => byteOf.get(s));
    try {
      return new TextDecoder("utf-8", {fatal: true, ignoreBOM: true})
        .decode(bytes).replace(/ /g, "·");
    } catch {
      return [...bytes].map(b => b.toString(16).toUpperCase()).join(" ");
    }
  }

  function restart() {
    let words = (text.value.match(cut) || []).map(word =>
      [...new TextEncoder().encode(word)].map(byte => symbolOf[byte]));
    states = [{words, note: "Only bytes. Each merge joins two neighbours."}];
    for (;;) {
      let best = null;
      words.forEach((word, w) => {
        for (let i = 0; i + 1 < word.length; i++) {
          const rank = ranks.get(word[i] + " " + word[i + 1]);
          if (rank !== undefined && (!best || rank < best.rank))
            best = {rank, w, i};
        }
      });
      if (!best) break;
      const {rank, w, i} = best, [a, b] = words[w].slice(i, i + 2);
      words = words.map(word => [...word]);
      words[w].splice(i, 2, a + b);
      states.push({words, w, i, note: `rank ${rank}: ` +
        `${shown(a)} + ${shown(b)} → ${shown(a + b)}, id ${256 + rank}`});
    }
    slider.max = states.length - 1;
    slider.value = slider.max;
    show();
  }

  function show() {
    const n = Number(slider.value), state = states[n];
    let count = 0;
    shelf.replaceChildren(...state.words.map((word, w) => {
      const group = document.createElement("span");
      group.className = "word";
      word.forEach((token, i) => {
        const box = document.createElement("span");
        box.className = "token" +
          (w === state.w && i === state.i ? " new" : "");
        box.textContent = shown(token);
        const id = document.createElement("small");
        id.textContent = ids.get(token);
        box.append(id);
        group.append(box);
        count += 1;
      });
      return group;
    }));
    note.textContent = `${n} of ${states.length - 1} merges, ` +
      `${count} tokens. ${state.note}`;
    back.disabled = n === 0;
    forth.disabled = n === states.length - 1;
  }

  const move = step => {
    slider.value = Number(slider.value) + step;
    show();
  };
  text.addEventListener("input", restart);
  slider.addEventListener("input", show);
  back.addEventListener("click", () => move(-1));
  forth.addEventListener("click", () => move(1));
  root.classList.add("live");
  restart();
})();
"""
_PAGE = """<style>{style}</style>
<div class="merge-stepper tex2jax_ignore mathjax_ignore" id="merge-stepper">
<div class="controls"><input type="text" maxlength="100" value="{text}"
 aria-label="text to tokenize"></div>
<div class="controls"><button aria-label="one merge back">◀</button><input
 type="range" min="0" value="0" aria-label="merges done"><button
 aria-label="one merge on">▶</button></div>
<p class="note" aria-live="polite">{note}</p>
<div class="tokens">{tokens}</div>
</div>
<script>{script}</script>"""


class merge_stepper:
    """Type a text and make its merges one by one, in the page itself."""

    def __init__(self, tokenizer, text: str):
        from gpt2.tokenizer import (SPLIT_PATTERN, bytes_to_unicode,
                                    pre_tokenize)
        table = bytes_to_unicode()
        # JavaScript's \s holds U+FEFF too; Unicode's White_Space does not.
        pattern = SPLIT_PATTERN.replace(r"\S", r"\P{White_Space}").replace(
            r"\s", r"\p{White_Space}")
        data = json.dumps({
            "symbols": "".join(table[byte] for byte in range(256)),
            "merges": [" ".join(pair) for pair in tokenizer.merges],
            "pattern": pattern}, ensure_ascii=False)
        words = []
        for word in pre_tokenize(text):
            boxes = "".join(
                f'<span class="token">'
                f"{html.escape(tokenizer.decode([id]).translate(VISIBLE))}"
                f"<small>{id}</small></span>" for id in tokenizer.encode(word))
            words.append(f'<span class="word">{boxes}</span>')
        self.alt = f"Merges, one by one, of: {text}"
        self.html = _PAGE.format(
            style=_STYLE, text=html.escape(text, quote=True),
            note=f"{len(tokenizer.encode(text))} tokens after all merges.",
            tokens="".join(words),
            script=_SCRIPT.replace("DATA", data.replace("</", "<\\/")))

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html, "text/plain": f"Page: {self.alt}"}
