"""Pictures of chapter 13: choosing the next token."""
import html
import json
import math

from gpt2_figures.shapes import (bars, board, box, dashed, ghost, name_rows,
                                 tag, write)
from gpt2_figures.style import (COLORS, LINE, Page, Picture, canvas, picture,
                                tint, visible)


def _medians(values: list[float], window: int = 9) -> list[float]:
    """The median of each value and its neighbours."""
    half = window // 2
    parts = (sorted(values[max(0, i - half):i + half + 1])
             for i in range(len(values)))
    return [part[len(part) // 2] for part in parts]


def loop_time(curves: dict[str, list[float]]) -> Picture:
    """Milliseconds of each new token, {"without": [...], "with": [...]}."""
    fig, ax = canvas(height=2.7)
    smooth = {name: _medians(values) for name, values in curves.items()}
    for name, values in smooth.items():
        color, n = "wrong" if name == "without" else "right", len(values)
        ax.plot(range(1, n + 1), values, color=COLORS[color])
        tag(ax, (n, values[-1]), (-4, 7), f"{name} a cache", color, 11,
            ha="right")
    ax.set(xlabel="new token", xlim=(0, n), xticks=range(0, n + 1, 40),
           ylim=(0, 1.25 * max(map(max, smooth.values()))))
    ax.grid(axis="y")
    ax.set_title("Milliseconds for each new token", fontsize=12)
    return picture(fig, "Time for each new token against its number. Without"
                        " a cache the time rises with every token; with it"
                        " the line is low and flat.")


def _shares(ax, names, shares, color, top, *, size=9.5, label_size=10.5):
    """Bars from 0 to top, the first above, with their share in percent."""
    bars(ax, shares, color, lambda p: f"{p:.0%}" if p >= 0.005 else "<1%",
         0.012 * top, height=0.72, size=size, ink="ink")
    name_rows(ax, names)
    ax.tick_params(axis="y", labelsize=label_size)
    ax.set(xlim=(0, top), ylim=(len(names) - 0.4, -0.6), xticks=[])
    ax.spines["bottom"].set_visible(False)


def temperatures(words: list[str], shares: dict[float, list[float]]):
    """Bars of the same tokens at several temperatures."""
    fig, axes = canvas(height=0.235 * len(words) + 0.65,
                       columns=len(shares), sharey=True)
    top = 1.3 * max(map(max, shares.values()))
    for ax, (tau, values) in zip(axes, shares.items()):
        _shares(ax, [word.strip() for word in words], values,
                "head" if tau == 1 else tint("head", 0.35), top)
        ax.set_title(f"τ = {tau:g}", fontsize=12)
        ax.tick_params(axis="y", labelleft=ax is axes[0])
    return picture(fig, "Bars of the probabilities of twelve verbs at three"
                        " temperatures. At 0.5 the first verb takes most of"
                        " the whole; at 2 the bars are short and almost"
                        " alike. The order is the same in all three.")


def kept(panels) -> Picture:
    """What top-k and top-p keep and cut.

    panels: (name, words, shares, (kept by top-k, kept by top-p)).
    """
    fig, axes = canvas(height=5.6, rows=2, columns=2)
    for row, (name, words, shares, counts) in zip(axes, panels):
        words = ["end of text" if "<|" in word else word.strip() or word
                 for word in words]
        row[0].set_title(name, fontsize=12)
        for ax, count, rule in zip(row, counts, ("top-k, k = 5",
                                                 "top-p, p = 0.9")):
            _cut(ax, words, shares, count)
            write(ax, 0.98, 0.4, f"{rule}\nkeeps {count}", "right", 11,
                  transform=ax.transAxes, ha="right", fontweight="semibold",
                  linespacing=1.3)
    return picture(fig, "Two distributions, each cut by top-k and by top-p."
                        " Of many likely verbs top-k keeps five and cuts good"
                        " ones; top-p keeps more. Where one word has nearly"
                        " everything, top-k still keeps five, top-p only that"
                        " one.")


def _cut(ax, words, shares, count):
    """The first `count` words are kept, the others cut off."""
    kept = [i < count for i in range(len(words))]
    _shares(ax, words, shares, ["right" if k else tint("wrong", 0.45)
                                for k in kept],
            1.3 * max(shares), size=9, label_size=9.5)
    if count < len(words):
        dashed(ax, y=count - 0.5, color="ink")
    for label, k in zip(ax.get_yticklabels(), kept):
        label.set_color(COLORS["ink" if k else "wrong"])


def places(panels) -> Picture:
    """The likeliest next tokens at several places of a program.

    panels: (text before, tokens, their shares), two in a row.
    """
    rows = (len(panels) + 1) // 2
    fig, axes = canvas(height=1.7 * rows, rows=rows, columns=2)
    for ax, (text, tokens, shares) in zip(axes.flat, panels):
        _shares(ax, [visible(token) for token in tokens], shares, "head",
                1.25, size=9, label_size=9.5)
        ax.set_title(f"{text.splitlines()[-1].strip()} …", fontsize=12)
    return picture(fig, "The likeliest next tokens at six places of a"
                        " program, as bars on one scale. At some places one"
                        " token has nearly everything, at others no token has"
                        " more than a small part.")


def parser(shares: dict[str, float], nats: dict[str, float]) -> Picture:
    """Share of texts without a fault of grammar, and their mean surprise.

    shares, nats: one for each way of choosing, by name.
    """
    order = sorted(shares, key=nats.get)
    fig, axes = canvas(height=2.9, columns=2, sharey=True)
    for ax, values, color, title, form in (
            (axes[0], shares, "right", "line without a fault", "{:.0%}"),
            (axes[1], nats, "head", "surprise, nats per token", "{:.1f}")):
        most = max(values.values())
        bars(ax, [values[name] for name in order], color, form, 0.02 * most,
             height=0.66)
        ax.set(xlim=(0, 1.22 * most), xticks=[])
        name_rows(ax, order, down=ax is axes[0])
        ax.spines["bottom"].set_visible(False)
        ax.set_title(title, fontsize=12)
    return picture(fig, "For six ways of choosing, from the surest to the"
                        " boldest: the share of drawn texts that Python's"
                        " parser accepts as the beginning of a program, and"
                        " their surprise. From temperature 0.6 over 1 to 1.5"
                        " the surprise rises and the share falls; greedy"
                        " finishes no line.")


KINDS = {"padding": "muted", "prompt": "embedding", "new token": "head",
         "end token": "wrong"}
PITCH, TALL = 4.0, 5.2          # of a column and of a row of the batch


def ragged(rows, prompt: int, mask, stop: int, pad: int, decode) -> Picture:
    """A ragged batch: padding, prompt, new tokens, end, padding.

    rows: lists of ids; prompt: columns of the prompt; mask: its padding.
    """
    n, top, x = len(rows[0]), len(rows) * TALL + 4.6, 0.15 + prompt * PITCH
    fig, ax = board(top + 5.8, n * PITCH + 0.6)
    for r, row in enumerate(rows):
        y, words = top - (r + 1) * TALL + 0.4, ["", ""]   # prompt, new
        kinds = _kinds(row, prompt, mask[r], stop)
        for c, (id, kind) in enumerate(zip(row, kinds)):
            _cell(ax, 0.4 + c * PITCH, y, kind, id)
            if kind != "padding":
                words[c >= prompt] += decode(id)
        _astride(ax, x, y + 3.85, *map(str.strip, words), color="muted",
                 style="italic")
    ax.plot([x, x], [4.2, top + 0.5], color=COLORS["ink"], linewidth=LINE)
    _astride(ax, x, top + 2.8, "read at once", "one column a step →")
    _key_of_cells(ax, n * PITCH / 4)
    return picture(fig, "Three rows of token ids. Short prompts have padding"
                        " on their left, so that all prompts end in the same"
                        " column. New tokens follow to the right; each row"
                        " ends with the full stop at its own place and is"
                        " padded after it.")


def _key_of_cells(ax, step):
    for i, kind in enumerate(KINDS):
        _cell(ax, 0.4 + i * step, 0.3, kind)
        write(ax, 0.4 + i * step + PITCH, 1.75, kind, ha="left")


def _astride(ax, x, y, before, after, **kwargs):
    """Words on both sides of the line between prompt and new tokens."""
    write(ax, x - 0.8, y, before, ha="right", **kwargs)
    write(ax, x + 0.8, y, after, ha="left", **kwargs)


def _kinds(row, prompt, mask, stop):
    """What each place of a row holds: a name of KINDS."""
    ended = False
    for c, id in enumerate(row):
        if c < prompt:
            yield "prompt" if mask[c] else "padding"
        else:
            yield ("padding" if ended else "end token" if id == stop
                   else "new token")
            ended = ended or id == stop


def _cell(ax, x, y, kind, id=""):
    """One place, with its id."""
    if kind == "padding":
        ghost(ax, x, y, PITCH - 0.5, 3.0, radius=0.5, edge="line")
    else:
        box(ax, x, y, PITCH - 0.5, 3.0, "", KINDS[kind], radius=0.5,
            filled=kind == "end token")
    write(ax, x + PITCH / 2 - 0.25, y + 1.45, id, {
        "padding": "muted", "end token": "white"}.get(kind, "ink"), 9,
        zorder=5)


def frequencies(words, truth, drawn: dict[float, list[float]]) -> Picture:
    """Share of each verb in samples against the language's own."""
    fig, axes = canvas(height=3.7, rows=len(drawn), sharex=True)
    n = len(words)
    for ax, (tau, shares) in zip(axes, drawn.items()):
        color = "right" if tau == 1 else "wrong"
        ax.bar(range(n), shares, color=tint(color, 0.25), width=0.7)
        ax.step([i - 0.5 for i in range(n + 1)], [*truth, truth[-1]],
                where="post", color=COLORS["ink"], linewidth=LINE)
        ax.set(xlim=(-0.6, n - 0.4), ylim=(0, None), yticks=[])
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", length=0)
        write(ax, 0.985, 0.86, f"temperature {tau:g}", color, 11, ha="right",
              va="top", fontweight="semibold", transform=ax.transAxes)
    write(axes[0], 0.985, 0.56, "bars: samples    line: the language",
          "muted", ha="right", va="top", transform=axes[0].transAxes)
    axes[-1].set_xticks(range(n), words, rotation=55, ha="right",
                        rotation_mode="anchor")
    return picture(fig, "Share of each of 18 verbs in samples, as bars, and"
                        " in the language, as a line. At temperature 1 bars"
                        " and line agree; at 0.5 the first verbs are drawn"
                        " far too often, at 1.6 the rare ones are.")


# One next-token distribution with every control. Without scripts: the still
# bars of the model's own distribution, temperature 1 and nothing cut.
_STYLE = """
.sampler { border: 1px solid rgba(128,128,128,.4); padding: .9em 1em;
  border-radius: 8px; max-width: 40rem; margin: .5em 0; }
html[data-theme] div.cell_output .text_html:has(> .sampler) {
  background: none !important; color: inherit !important; padding: 0; }
.sampler .controls { display: none; }
.sampler.live .controls { display: grid; gap: .15em .7em;
  grid-template-columns: auto 1fr 4.2em; align-items: center; }
.sampler input { min-width: 0; width: 100%; min-height: 1.9em;
  accent-color: #3f4fa3; }
.sampler output { text-align: right; font-variant-numeric: tabular-nums; }
.sampler .note { margin: .5em 0 .6em; min-height: 1.5em; }
.sampler .bars { display: grid; gap: 2px .6em;
  grid-template-columns: max-content 1fr 3.6em; align-items: center;
  font-size: .92em; line-height: 1.25; }
.sampler .bars b { font-weight: inherit; white-space: pre; }
.sampler .track { height: .85em; }
.sampler .bar { display: block; height: 100%; background: #6f7fd6;
  border-radius: 2px; min-width: 1px; }
.sampler .bars i { font-style: normal; text-align: right;
  font-variant-numeric: tabular-nums; }
.sampler .cut { opacity: .5; }
.sampler b.cut { text-decoration: line-through; }
"""
_SCRIPT = r"""
(() => {
  const root = document.getElementById("sampler");
  if (!root || root.dataset.ready) return;
  root.dataset.ready = "yes";
  const {logits, names, top} = DATA;
  const [heat, k, p] = root.querySelectorAll("input");
  const says = root.querySelectorAll("output");
  const rows = [...root.querySelectorAll(".track")].map(track => ({
    name: track.previousElementSibling, bar: track.firstElementChild,
    share: track.nextElementSibling}));
  const note = root.querySelector("[aria-live]");

  function softmax(z) {
    const most = Math.max(...z), e = z.map(v => Math.exp(v - most));
    const sum = e.reduce((a, b) => a + b);
    return e.map(v => v / sum);
  }

  // temperature, top-k, top-p, in this order; as process_logits does it
  function process(tau, k, p) {
    let z = logits.map(v => v / tau);
    if (k && k < z.length) {
      const kth = [...z].sort((a, b) => b - a)[k - 1];
      z = z.map(v => v < kth ? -Infinity : v);
    }
    if (p < 1) {
      const q = softmax(z), order = [...z.keys()].sort((a, b) => z[a] - z[b]);
      let sum = 0;
      order.forEach((token, place) => {
        sum += q[token];
        if (sum <= 1 - p && place < order.length - 1) z[token] = -Infinity;
      });
    }
    return softmax(z);
  }
  const percent = v => v === 0 ? "–" : v < 0.0005 ? "<0.1%" :
    (100 * v).toFixed(1) + "%";

  function show() {
    const tau = Number(heat.value) / 20;
    const off = Number(k.value) > Number(k.max) - 1;
    const q = process(tau, off ? 0 : Number(k.value), Number(p.value) / 100);
    says[0].textContent = tau.toFixed(2);
    says[1].textContent = off ? "off" : k.value;
    says[2].textContent = Number(p.value) === 100 ? "off" :
      (Number(p.value) / 100).toFixed(2);
    const shares = top.map(token => q[token]);
    const rest = Math.max(0, 1 - shares.reduce((a, b) => a + b));
    const kept = q.filter(v => v > 0).length;
    shares.push(kept > shares.filter(v => v > 0).length ? rest : 0);
    const most = Math.max(...shares);
    rows.forEach((row, i) => {
      row.bar.style.width = 100 * shares[i] / most + "%";
      row.share.textContent = percent(shares[i]);
      row.name.classList.toggle("cut", shares[i] === 0);
      row.share.classList.toggle("cut", shares[i] === 0);
    });
    note.textContent = `${kept} of ${q.length} tokens can be drawn. ` +
      `The likeliest, “${names[0].trim()}”, has ${percent(shares[0])}.`;
  }
  [heat, k, p].forEach(input => input.addEventListener("input", show));
  root.processed = process;            // for tests
  root.classList.add("live");
  show();
})();
"""
_PAGE = """<style>{style}</style>
<div class="sampler tex2jax_ignore mathjax_ignore" id="sampler">
<p class="note">{prompt} …</p>
<div class="controls">
<label for="sampler-t">temperature</label><input id="sampler-t" type="range"
 min="2" max="60" value="20"><output for="sampler-t"></output>
<label for="sampler-k">top-k</label><input id="sampler-k" type="range"
 min="1" max="{off}" value="{off}"><output for="sampler-k"></output>
<label for="sampler-p">top-p</label><input id="sampler-p" type="range"
 min="1" max="100" value="100"><output for="sampler-p"></output>
</div>
<p class="note" aria-live="polite">{note}</p>
<div class="bars">{bars}</div>
</div>
<script>{script}</script>"""


class sampler(Page):
    """Sliders for temperature, top-k and top-p over one distribution.

    words: the vocabulary; logits: one for each of it, after the prompt. The
    page computes with them rounded to four decimals, kept in `logits`.
    """

    def __init__(self, prompt: str, words: list[str], logits: list[float],
                 shown: int = 24):
        self.logits = [round(float(z), 4) for z in logits]
        order = sorted(range(len(logits)), key=lambda i: -self.logits[i])
        self.top, most = order[:shown], max(self.logits)
        whole = sum(math.exp(z - most) for z in self.logits)
        shares = [math.exp(self.logits[i] - most) / whole for i in self.top]
        names = [words[i] for i in self.top]
        rest = f"{len(logits) - shown} others", max(0.0, 1 - sum(shares))
        data = json.dumps({"logits": self.logits, "names": names,
                           "top": self.top}, ensure_ascii=False)
        note = (f"{len(logits)} of {len(logits)} tokens can be drawn. The"
                f" likeliest, “{names[0].strip()}”, has"
                f" {_percent(shares[0])}.")
        super().__init__(_PAGE.format(
            style=_STYLE, prompt=html.escape(prompt), note=html.escape(note),
            bars=_still([*zip(names, shares), rest]), off=shown + 1,
            script=_SCRIPT.replace("DATA", data.replace("</", "<\\/"))),
            f"the likeliest next tokens after “{prompt}” as bars,"
            " with sliders for temperature, top-k and top-p.")


def _still(rows: list[tuple[str, float]]) -> str:
    """The bars as they stand without scripts."""
    most = max(share for _, share in rows)
    return "".join(
        f"<b>{html.escape(name.strip() or repr(name))}</b>"
        f'<span class="track"><span class="bar" style="width:'
        f'{100 * share / most:.1f}%"></span></span>'
        f"<i>{html.escape(_percent(share))}</i>" for name, share in rows)


def _percent(share: float) -> str:
    return "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"


def left_padding(tokens: list[list[str]], mask, positions) -> Picture:
    """A left-padded batch: token over its position, padding hatched."""
    columns = len(tokens[0])
    cell, left, height = 45.4 / columns, 10.2, 4.4 + 8.6 * len(tokens)
    fig, ax = board(height)
    for b, row in enumerate(tokens):
        y = height - 3 - 8.6 * (b + 1)
        write(ax, left - 1.2, y + 5.4, "token", "muted", ha="right")
        write(ax, left - 1.2, y + 1.5, "position", "muted", ha="right")
        for t, token in enumerate(row):
            real = bool(mask[b][t])
            _place(ax, left + t * cell, y, cell, token.strip() if real
                   else "pad", int(positions[b][t]) if real else "–", real)
    write(ax, left + columns * cell, height - 1.9,
          "newest token of every row ↓", "muted", ha="right", style="italic")
    return picture(fig, f"{len(tokens)} prompts of different length in one"
                        " batch, padded on the left. Below each real token"
                        " its position, counted from its own row's first real"
                        " token; padding has none. The last column holds the"
                        " newest token of every row.")


def _place(ax, x, y, cell, token, position, real):
    """A token over its position, both pale where it is padding."""
    w = cell - 0.4
    box(ax, x + 0.2, y + 3.5, w, 3.6, "", "embedding" if real else "line",
        radius=0.4)
    write(ax, x + cell / 2, y + 4.75, token, "ink" if real else "muted",
          va="baseline", zorder=5)
    box(ax, x + 0.2, y, w, 3, str(position), "position" if real else "line",
        filled=real, size=10.5, weight="semibold" if real else "normal",
        radius=0.4)
