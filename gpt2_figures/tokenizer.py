"""Pictures of chapter 02: bytes, pre-tokens, merges, ids."""
import html
import json

import regex

from gpt2_figures.shapes import arrow, board, box, log_x, tag
from gpt2_figures.style import (COLORS, VISIBLE, WIDTH, Page, Picture, canvas,
                                picture)


def _label(ax, x: float, y: float, text, size: float, color: str = "ink",
           **kwargs):
    """Text centred on x, on one line with its neighbours around y."""
    points = 72 * WIDTH / ax.get_xlim()[1]       # in one unit of the board
    ax.text(x, y - 0.3 * size / points, text, color=COLORS[color],
            fontsize=size, zorder=5, **{"ha": "center", **kwargs})


def _piece(ax, at: float, y: float, word: str, color: str, size: float,
           filled: bool = False, radius: float = 0.2) -> float:
    """A piece of text in a box as wide as its letters; -> its middle."""
    box(ax, at + 0.06, y - 0.48, len(word) - 0.12, 0.96, color=color,
        filled=filled, radius=radius)
    middle = at + len(word) / 2
    _label(ax, middle, y, word.translate(VISIBLE), size,
           "paper" if filled else "ink")
    return middle


def pipeline(tokenizer, parts: list[str]) -> Picture:
    """Text, bytes, pre-tokens, tokens and ids of a sentence, in lines.

    parts: the sentence, cut between pre-tokens, one part a line.
    """
    rows = ("text", "bytes", "pre-tokens", "tokens, after the merges", "ids")
    first, other = 9.9, 5.9
    height = first + other * (len(parts) - 1) + 0.5
    fig, ax = board(height, max(map(len, parts)) + 0.2)
    for n, part in enumerate(parts):
        top = height - n * (first + 0.5)
        y = [top - 1.3 - (1.2 if n else 2.05) * i for i in range(len(rows))]
        if n == 0:
            for at, name in zip(y, rows):
                _label(ax, 0.1, at + 0.9, name, 10, "muted", ha="left",
                       style="italic")
        _part(ax, tokenizer, part, y)
    return picture(fig, "The running sentence as text, as bytes, as eight"
                        " pre-tokens, as thirteen tokens and as their ids. A"
                        " dot stands for a space.")


def _part(ax, tokenizer, part, y):
    """One line of the sentence; y: the height of each of its five rows."""
    from gpt2.tokenizer import pre_tokenize
    for i, char in enumerate(part):
        _label(ax, 0.6 + i, y[0], char.translate(VISIBLE), 13)
        _label(ax, 0.6 + i, y[1], ord(char), 9.5, "residual")
    at = 0.1
    for word in pre_tokenize(part):
        _piece(ax, at, y[2], word, "residual", 12)
        at += len(word)
    at = 0.1
    for id in tokenizer.encode(part):
        token = tokenizer.decode([id])
        middle = _piece(ax, at, y[3], token, "tokenizer", 12, filled=True)
        _label(ax, middle, y[4] + 0.12, id, 10.5, "tokenizer",
               weight="semibold")
        at += len(token)


def byte_map(table: dict[int, str]) -> Picture:
    """The 256 bytes and their symbols: which ones stand for themselves."""
    fig, ax = board(18.2, 17.2)
    for byte, symbol in table.items():
        row, column = divmod(byte, 16)
        marked = byte in (10, 32)
        _byte(ax, column + 1.15, 16.25 - row, 0.9, symbol != chr(byte),
              filled=marked)
        _label(ax, column + 1.6, 16.7 - row, symbol, 12,
               "paper" if marked else "ink")
    for n in range(16):
        _label(ax, n + 1.6, 17.65, f"_{n:X}", 10, "muted")
        _label(ax, 0.5, 16.7 - n, f"{n:X}_", 10, "muted")
    for x, moved, text in ((1.15, False, "188 bytes stand for themselves"),
                           (9.6, True, "68 bytes moved")):
        _byte(ax, x, 0.15, 0.7, moved)
        _label(ax, x + 1, 0.5, text, 11, ha="left")
    return picture(fig, "A table of the 256 bytes, 16 by 16, with the symbol"
                        " of each. 188 printable bytes stand for themselves;"
                        " 68 moved to other characters, among them the line"
                        " break (0A) and the space (20), both in full"
                        " colour.")


def _byte(ax, x, y, side, moved, filled=False):
    """The square of a byte, white where the byte stands for itself."""
    patch = box(ax, x, y, side, side, color="tokenizer" if moved else "line",
                filled=filled, radius=0.15)
    if not moved:
        patch.set_facecolor("white")


PARTS = (("contraction", "head"), ("letters", "tokenizer"),
         ("numbers", "key"), ("other signs", "value"),
         ("white space", "muted"), ("white space that remains", "position"))


def pattern_parts(pattern: str, text: str) -> Picture:
    """A text cut by the split pattern, each piece coloured by its part."""
    pieces = regex.compile("|".join(f"({p})" for p in pattern.split("|")))
    width = len(text) + 0.2
    fig, ax = board(7, width)
    for match in pieces.finditer(text):
        name, color = PARTS[max(0, match.lastindex - 7)]
        start, end = match.span()
        box(ax, start + 0.14, 4.9, end - start - 0.08, 1.7, color=color,
            radius=0.25)
        for i in range(start, end):
            _label(ax, i + 0.6, 5.75, text[i].translate(VISIBLE), 11.5)
    for n, (name, color) in enumerate(PARTS):
        x, y = (0.2, 0.31 * width, 0.57 * width)[n % 3], 2.7 - 2 * (n // 3)
        box(ax, x, y, 1, 1, color=color, radius=0.25)
        _label(ax, x + 1.5, y + 0.5, name, 11, ha="left")
    return picture(fig, "A line of text cut into pre-tokens, each piece"
                        " coloured by the part of the pattern that took it: "
                        + ", ".join(name for name, _ in PARTS) + ".")


def linked_list(word: str, at: int) -> Picture:
    """A word as a linked list, before and after merging places at, at + 1."""
    n = len(word)
    fig, ax = board(5.3, 11.2)
    places = [(i + 0.5) * 11.2 / n - 0.575 for i in range(n)]
    for y, name, texts in (
            (3.3, "before", list(word)),
            (0.6, "after", [*word[:at], word[at:at + 2], None,
                            *word[at + 2:]])):
        _label(ax, 0.1, y + 1.6, name, 10.5, "muted", ha="left",
               style="italic")
        for i, (x, text) in enumerate(zip(places, texts)):
            _link(ax, x, y, text)
            _label(ax, x + 0.575, y - 0.32, f"place {i + 1}", 10, "muted")
        live = [x for x, text in zip(places, texts) if text]
        for a, b in zip(live, live[1:]):
            arrow(ax, (a + 1.15, y + 0.72), (b, y + 0.72), "residual")
            arrow(ax, (b, y + 0.38), (a + 1.15, y + 0.38), "residual")
    return picture(fig, f"The word {word} as a linked list of {n} places,"
                        " with arrows to both neighbours. After the merge of"
                        f" places {at + 1} and {at + 2} the first holds"
                        f" {word[at:at + 2]} and the second None, outside the"
                        " list.")


def _link(ax, x, y, text):
    """One place of the list: a letter, two that were merged, or nothing."""
    lit = text is not None and len(text) > 1
    patch = box(ax, x, y, 1.15, 1.1, filled=lit, radius=0.15,
                color="tokenizer" if text else "line")
    if not text:
        patch.set(facecolor="white", linestyle=(0, (3, 2)))
    _label(ax, x + 0.575, y + 0.55, text or "None", 13.5 if text else 11,
           "muted" if not text else "paper" if lit else "ink")


def merge_steps(history: list[tuple[list[str], int | None]]) -> Picture:
    """The pieces of one word after every merge, from bytes to tokens.

    history: (pieces, rank of the merge that comes next or None).
    """
    rows, letters = len(history), sum(map(len, history[0][0]))
    pitch = 1.25
    fig, ax = board(rows * pitch, letters + 4.6)
    before = []
    for n, (pieces, _) in enumerate(history):
        y, at, note = (rows - n - 0.5) * pitch, 0, "bytes"
        for i, piece in enumerate(pieces):
            new = n > 0 and pieces[:i] == before[:i] and piece != before[i]
            _piece(ax, at, y, piece.replace("Ġ", "·"), "tokenizer", 13, new,
                   0.15)
            if new:
                a, b = (half.replace("Ġ", "·") for half in before[i:i + 2])
                note = f"{a} + {b}   rank {history[n - 1][1]:,}"
            at += len(piece)
        _label(ax, letters + 0.3, y, note, 11, "muted", ha="left")
        before = pieces
    word = "".join(history[0][0]).replace("Ġ", " ")
    return picture(fig, f"The word '{word}' in {rows - 1} merges: from single"
                        f" bytes to the tokens {' and '.join(before)}.")


def growth(looks: dict[int, tuple[int, int]]) -> Picture:
    """Work against length of a word: scanning and heap, both axes log."""
    fig, ax = canvas(height=3.1)
    ax.set_yscale("log")
    sizes = list(looks)
    for color, name, values in zip(
            ("wrong", "right"),
            ("scanning: ×4 each time", "heap: ×2 each time"),
            zip(*looks.values())):
        ax.plot(sizes, values, "o-", color=COLORS[color], markersize=5)
        tag(ax, (sizes[1], values[1]), (8, -6), name, color, 11.5, va="top")
    log_x(ax, sizes)
    ax.set(xlabel="letters in the word",
           title="Pairs looked up to encode one word")
    ax.set_ylim(bottom=50)
    return picture(fig, "Pairs looked up against the length of a word, on"
                        " logarithmic axes: the line for scanning rises twice"
                        " as steeply as the line for the heap.")


def bytes_per_token(curves: dict[str, dict[int, float]]) -> Picture:
    """Bytes per token against the size of the vocabulary, by kind of text."""
    fig, ax = canvas(height=3.7)
    ends = {name: list(curve.values())[-1] for name, curve in curves.items()}
    heights, low = {}, 0.0
    for name in sorted(ends, key=ends.get):          # keep names apart
        heights[name] = low = max(ends[name], low + 0.2)
    for color, (name, curve) in zip(("tokenizer", "query", "value", "key",
                                     "feed_forward", "muted"),
                                    curves.items()):
        sizes = list(curve)
        ax.plot(sizes, curve.values(), "o-", color=COLORS[color],
                markersize=4)
        tag(ax, (sizes[-1], heights[name]), (8, 0), name, color, 11,
            va="center", annotation_clip=False)
    log_x(ax, sizes)
    ax.set(xlabel="entries in the vocabulary", title="Bytes per token",
           xlim=(sizes[0] * 0.93, sizes[-1] * 3.6))
    ax.spines["bottom"].set_bounds(sizes[0], sizes[-1])
    ax.set_ylim(bottom=0.8)
    return picture(fig, "Bytes per token against the size of the vocabulary,"
                        " one line for each kind of text. All begin at one"
                        " byte per token. Python source and its docstrings"
                        " rise most, German a little, Russian and Chinese not"
                        " at all.")


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


class merge_stepper(Page):
    """Type a text and make its merges one by one, in the page itself."""

    def __init__(self, tokenizer, text: str):
        from gpt2.tokenizer import SPLIT_PATTERN, bytes_to_unicode
        table = bytes_to_unicode()
        # JavaScript's \s holds U+FEFF too; Unicode's White_Space does not.
        pattern = SPLIT_PATTERN.replace(r"\S", r"\P{White_Space}").replace(
            r"\s", r"\p{White_Space}")
        data = json.dumps({
            "symbols": "".join(table[byte] for byte in range(256)),
            "merges": [" ".join(pair) for pair in tokenizer.merges],
            "pattern": pattern}, ensure_ascii=False)
        super().__init__(_PAGE.format(
            style=_STYLE, text=html.escape(text, quote=True),
            note=f"{len(tokenizer.encode(text))} tokens after all merges.",
            tokens=_still(tokenizer, text),
            script=_SCRIPT.replace("DATA", data.replace("</", "<\\/"))),
            f"Merges, one by one, of: {text}")


def _still(tokenizer, text: str) -> str:
    """The finished tokens, as they stand without scripts."""
    from gpt2.tokenizer import pre_tokenize
    words = []
    for word in pre_tokenize(text):
        boxes = "".join(
            f'<span class="token">'
            f"{html.escape(tokenizer.decode([id]).translate(VISIBLE))}"
            f"<small>{id}</small></span>" for id in tokenizer.encode(word))
        words.append(f'<span class="word">{boxes}</span>')
    return "".join(words)
