"""Pictures of chapter 13: choosing the next token."""
import html
import json
import math

from gpt2_figures.style import (COLORS, LINE, WIDTH, Picture, blank, box,
                                canvas, picture, tint)


def _title(ax, text: str, **kwargs) -> None:
    ax.set_title(text, loc="left", fontsize=12, fontweight="semibold",
                 **kwargs)


def _smooth(values: list[float], window: int = 9) -> list[float]:
    """The median of each value and its neighbours."""
    half = window // 2
    return [sorted(values[max(0, i - half):i + half + 1])[
        len(values[max(0, i - half):i + half + 1]) // 2]
        for i in range(len(values))]


def loop_time(curves: dict[str, list[float]]) -> Picture:
    """Milliseconds of each new token, {"without": [...], "with": [...]}."""
    fig, ax = canvas(height=2.7)
    for name, values in curves.items():
        color = COLORS["wrong" if name == "without" else "right"]
        values = _smooth(values)
        ax.plot(range(1, len(values) + 1), values, color=color)
        ax.annotate(f"{name} a cache", (len(values), values[-1]),
                    xytext=(-4, 7), textcoords="offset points", ha="right",
                    fontsize=11, color=color)
    n = len(values)
    ax.set(xlabel="new token", xlim=(0, n), xticks=range(0, n + 1, 40))
    ax.set_ylim(0, 1.25 * max(max(_smooth(v)) for v in curves.values()))
    ax.grid(axis="y")
    _title(ax, "Milliseconds for each new token")
    return picture(fig, "Time for each new token against its number. Without"
                        " a cache the time rises with every token; with it"
                        " the line is low and flat.")


def _bars(ax, words, shares, colors, labels=None, size=9.5):
    """Horizontal bars, the first on top, with their share in percent."""
    places = range(len(words))
    ax.barh(places, shares, color=colors, height=0.72)
    for y, share in enumerate(shares):
        text = f"{share:.0%}" if share >= 0.005 else "<1%"
        ax.text(share + 0.012 * ax.get_xlim()[1], y, text, va="center",
                fontsize=size, color=COLORS["ink"])
    ax.set_yticks(list(places), words if labels is None else labels)
    ax.tick_params(axis="y", length=0, labelsize=10.5)
    ax.set_ylim(len(words) - 0.4, -0.6)
    ax.set_xticks([])
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


def temperatures(words: list[str], shares: dict[float, list[float]]):
    """Bars of the same tokens at several temperatures."""
    fig, axes = canvas(height=0.235 * len(words) + 0.65,
                       columns=len(shares), sharey=True)
    top = max(map(max, shares.values()))
    for ax, (tau, values) in zip(axes, shares.items()):
        ax.set_xlim(0, 1.3 * top)
        _bars(ax, [word.strip() for word in words], values,
              COLORS["head"] if tau == 1 else tint("head", 0.35))
        _title(ax, f"τ = {tau:g}")
        if ax is not axes[0]:
            ax.tick_params(axis="y", labelleft=False)
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
        words = [word.strip() or word for word in words]
        words = ["end of text" if "<|" in word else word for word in words]
        for ax, count, rule in zip(row, counts, ("top-k, k = 5",
                                                 "top-p, p = 0.9")):
            ax.set_xlim(0, 1.3 * max(shares))
            colors = [COLORS["right"] if i < count else tint("wrong", 0.45)
                      for i in range(len(words))]
            _bars(ax, words, shares, colors, size=9)
            ax.tick_params(axis="y", labelsize=9.5)
            _title(ax, f"{name}" if ax is row[0] else "")
            cut = min(count, len(words)) - 0.5
            if count < len(words):
                ax.axhline(cut, color=COLORS["ink"], linewidth=LINE,
                           linestyle=(0, (3, 2)))
            for i, label in enumerate(ax.get_yticklabels()):
                label.set_color(COLORS["ink" if i < count else "wrong"])
            ax.text(0.98, 0.4, f"{rule}\nkeeps {count}", fontsize=11,
                    transform=ax.transAxes, ha="right", va="center",
                    color=COLORS["right"], fontweight="semibold",
                    linespacing=1.3)
    return picture(fig, "Two distributions, each cut by top-k and by top-p."
                        " Of many likely verbs top-k keeps five and cuts"
                        " good ones; top-p keeps more. Where one word has"
                        " nearly everything, top-k still keeps five, top-p"
                        " only that one.")


def _visible(token: str) -> str:
    """A token with its spaces and line ends to be seen, cut if long."""
    token = token.replace(" ", "·").replace("\n", "⏎")
    return token if len(token) < 13 else token[:11] + "…"


def places(panels) -> Picture:
    """The likeliest next tokens at several places of a program.

    panels: (text before, tokens, their shares), two in a row.
    """
    fig, axes = canvas(height=1.7 * ((len(panels) + 1) // 2),
                       rows=(len(panels) + 1) // 2, columns=2)
    for ax, (text, tokens, shares) in zip(axes.flat, panels):
        ax.set_xlim(0, 1.25)
        _bars(ax, tokens, shares, COLORS["head"], size=9,
              labels=[_visible(token) for token in tokens])
        ax.tick_params(axis="y", labelsize=9.5)
        _title(ax, f"{text.splitlines()[-1].strip()} …")
    return picture(fig, "The likeliest next tokens at six places of a"
                        " program, as bars on one scale. At some places one"
                        " token has nearly everything, at others no token"
                        " has more than a small part.")


def parser(shares: dict[str, float], nats: dict[str, float]) -> Picture:
    """Share of texts without a fault of grammar, and their mean surprise.

    shares, nats: one for each way of choosing, by name.
    """
    order = sorted(shares, key=nats.get)
    fig, (left, right) = canvas(height=2.9, columns=2, sharey=True)
    for ax, values, color, title, form in (
            (left, shares, "right", "line without a fault", "{:.0%}"),
            (right, nats, "head", "surprise, nats per token", "{:.1f}")):
        most = max(values.values())
        ax.barh(range(len(order)), [values[name] for name in order],
                color=COLORS[color], height=0.66)
        for y, name in enumerate(order):
            ax.text(values[name] + 0.02 * most, y, form.format(values[name]),
                    va="center", fontsize=10.5)
        ax.set(xlim=(0, 1.22 * most), xticks=[])
        ax.tick_params(axis="y", length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        _title(ax, title)
    left.set_yticks(range(len(order)), order)
    left.invert_yaxis()
    return picture(fig, "For six ways of choosing, from the surest to the"
                        " boldest: the share of drawn texts that Python's"
                        " parser accepts as the beginning of a program, and"
                        " their surprise. From temperature 0.6 over 1 to"
                        " 1.5 the surprise rises and the share falls;"
                        " greedy finishes no line.")


def ragged(rows, prompt: int, mask, stop: int, pad: int, decode) -> Picture:
    """A ragged batch: padding, prompt, new tokens, end, padding.

    rows: lists of ids; prompt: columns of the prompt; mask: its padding.
    """
    n, pitch, tall = len(rows[0]), 4.0, 5.2
    fig, ax = canvas(height=WIDTH * (len(rows) * tall + 10.4) /
                     (n * pitch + 0.6))
    blank(ax, n * pitch + 0.6, len(rows) * tall + 10.4)
    top = len(rows) * tall + 4.6
    kinds = {"padding": ("muted", "padding"), "prompt": ("embedding", "prompt"),
             "new": ("head", "new token"), "end": ("wrong", "end token")}

    def cell(x, y, kind, id=None):
        color, _ = kinds[kind]
        patch = box(ax, x, y, pitch - 0.5, 3.0, "", color, radius=0.5,
                    filled=kind == "end")
        if kind == "padding":
            patch.set(facecolor="white", linestyle=(0, (2, 2)),
                      edgecolor=COLORS["line"])
        if id is not None:
            ax.text(x + pitch / 2 - 0.25, y + 1.45, id, ha="center",
                    va="center", fontsize=9, zorder=5, color="white" if kind
                    == "end" else COLORS["muted" if kind == "padding"
                                         else "ink"])

    for r, row in enumerate(rows):
        y, ended = top - (r + 1) * tall + 0.4, False
        words = {True: "", False: ""}            # of the prompt, and new
        for c, id in enumerate(row):
            if c < prompt:
                kind = "prompt" if mask[r][c] else "padding"
            else:
                kind = "padding" if ended else "end" if id == stop else "new"
                ended = ended or id == stop
            cell(0.4 + c * pitch, y, kind, id)
            if kind != "padding":
                words[c < prompt] += decode(id)
        for text, shift, side in ((words[True], -0.8, "right"),
                                  (words[False], 0.8, "left")):
            ax.text(0.15 + prompt * pitch + shift, y + 3.85, text.strip(),
                    fontsize=10.5, va="center", ha=side, style="italic",
                    color=COLORS["muted"])
    x = 0.4 + prompt * pitch - 0.25
    ax.plot([x, x], [4.2, top + 0.5], color=COLORS["ink"], linewidth=LINE)
    ax.text(x - 0.8, top + 2.8, "read at once", ha="right", va="center",
            fontsize=10.5)
    ax.text(x + 0.8, top + 2.8, "one column a step →", ha="left",
            va="center", fontsize=10.5)
    for i, (kind, (_, name)) in enumerate(kinds.items()):
        at = 0.4 + i * n * pitch / 4
        cell(at, 0.3, kind)
        ax.text(at + pitch, 1.75, name, va="center", fontsize=10.5)
    return picture(fig, "Three rows of token ids. Short prompts have padding"
                        " on their left, so that all prompts end in the same"
                        " column. New tokens follow to the right; each row"
                        " ends with the full stop at its own place and is"
                        " padded after it.")


def frequencies(words, truth, drawn: dict[float, list[float]]) -> Picture:
    """Share of each verb in samples against the language's own."""
    fig, axes = canvas(height=3.7, rows=len(drawn), sharex=True)
    for ax, (tau, shares) in zip(axes, drawn.items()):
        off = sum(abs(a - b) for a, b in zip(truth, shares)) / 2
        color = "right" if tau == 1 else "wrong"
        ax.bar(range(len(words)), shares, color=tint(color, 0.25), width=0.7)
        ax.step([i - 0.5 for i in range(len(words) + 1)],
                [*truth, truth[-1]], where="post", color=COLORS["ink"],
                linewidth=LINE)
        ax.set(xlim=(-0.6, len(words) - 0.4), ylim=(0, None))
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="x", length=0)
        ax.text(0.985, 0.86, f"temperature {tau:g}", ha="right", va="top",
                fontsize=11, fontweight="semibold", transform=ax.transAxes,
                color=COLORS[color])
        if ax is axes[0]:
            ax.text(0.985, 0.56, "bars: samples    line: the language",
                    ha="right", va="top", fontsize=10.5,
                    color=COLORS["muted"], transform=ax.transAxes)
    axes[-1].set_xticks(range(len(words)), words, rotation=55, ha="right",
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


class sampler:
    """Sliders for temperature, top-k and top-p over one distribution.

    words: the vocabulary; logits: one for each of it, after the prompt. The
    page computes with them rounded to four decimals, kept in `logits`.
    """

    def __init__(self, prompt: str, words: list[str], logits: list[float],
                 shown: int = 24):
        self.logits = [round(float(z), 4) for z in logits]
        top = sorted(range(len(logits)), key=lambda i: -self.logits[i])
        self.top = top[:shown]
        most = max(self.logits)
        whole = sum(math.exp(z - most) for z in self.logits)
        shares = [math.exp(self.logits[i] - most) / whole for i in self.top]
        names = [words[i] for i in self.top]
        rows = [*zip(names, shares), (f"{len(logits) - shown} others",
                                      max(0.0, 1 - sum(shares)))]
        bars = "".join(
            f"<b>{html.escape(name.strip() or repr(name))}</b>"
            f'<span class="track"><span class="bar" style="width:'
            f'{100 * share / max(shares):.1f}%"></span></span>'
            f"<i>{html.escape(_percent(share))}</i>" for name, share in rows)
        data = json.dumps({"logits": self.logits, "names": names,
                           "top": self.top}, ensure_ascii=False)
        note = (f"{len(logits)} of {len(logits)} tokens can be drawn. The"
                f" likeliest, “{names[0].strip()}”, has"
                f" {_percent(shares[0])}.")
        self.alt = (f"the likeliest next tokens after “{prompt}” as bars,"
                    " with sliders for temperature, top-k and top-p.")
        self.html = _PAGE.format(
            style=_STYLE, prompt=html.escape(prompt), note=html.escape(note),
            bars=bars, off=shown + 1,
            script=_SCRIPT.replace("DATA", data.replace("</", "<\\/")))

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": self.html, "text/plain": f"Page: {self.alt}"}


def _percent(share: float) -> str:
    return "<0.1%" if share < 0.0005 else f"{100 * share:.1f}%"
