"""The attention of a whole model, head by head, in the page itself."""
import json
from html import escape
from string import Template

from gpt2_figures.style import Page, short


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
    words = [short(word) for word in words]
    shares = [[[[round(100 * float(w)) for w in row[:i + 1]]
                for i, row in enumerate(rows)] for rows in of_layer]
              for of_layer in weights]
    row = shares[layer][head][-1]
    best = ", ".join(f"{escape(word)} {share}%" for share, word in
                     sorted(zip(row, words), key=lambda pair: -pair[0])[:3])
    names, maps = (json.dumps(value, ensure_ascii=False, separators=(",", ":"))
                   .replace("</", "<\\/") for value in (words, shares))
    html = PAGE.substitute(
        layer=layer, head=head + 1, words=_chips(words, row), names=names,
        maps=maps,
        says=f"In layer {layer}, head {head + 1}, “{escape(words[-1])}” reads"
             f" {best}.")
    return Viewer(html, "the tokens of a text as buttons. Choose a layer, a"
                        " head and a token: the others are shaded by the"
                        " share that it takes from them.")


def _chips(words, shares) -> str:
    """The tokens as buttons, shaded by their shares, the last one pressed."""
    return "\n".join(
        f'<button style="background: rgba(140, 95, 200, {share / 105:.2f})"'
        f' aria-pressed="{str(i == len(words) - 1).lower()}">'
        f"{escape(word)}<small>{share}%</small></button>"
        for i, (word, share) in enumerate(zip(words, shares)))
