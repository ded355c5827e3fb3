"""The book, built by `make book` and opened in Chromium.

Needs chromium (or Google Chrome) and what requirements.txt installs. Without
them these tests are skipped; where CI is set they fail instead.
"""
import html.parser
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "_ext"))
from redirects import moved

WIDTHS = {"wide": 1280, "phone": 390}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]
CHROMES = ["chromium", "chromium-browser", "google-chrome",
           "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"]


def without(what):
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no {what}")


@pytest.fixture(scope="module")
def pages(root, tmp_path_factory):
    """The folder of the book, built anew with warnings as errors."""
    for module in ("jupyter_book", "playwright"):
        if find_spec(module) is None:
            pytest.skip(f"no {module}: only the book's environment has it")
    folder = tmp_path_factory.mktemp("book")
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(["make", "book", f"OUT={folder}"], cwd=root, env=env,
                          capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build/html"


@pytest.fixture(scope="module")
def site(pages):
    """http://127.0.0.1:port of the book."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0),
                                 partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser(site):
    from playwright.sync_api import sync_playwright
    path = next(filter(None, map(shutil.which, CHROMES)), None)
    if path is None:
        without("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, site):
    """open_page(width=…, …) → (page, faults): a list that fills by itself."""
    contexts = []

    def open_page(width=1280, **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page, faults = context.new_page(), []
        page.on("console", lambda m: m.type in ("error", "warning")
                and faults.append(f"console {m.type}: {m.text}"))
        page.on("pageerror", lambda e: faults.append(f"script: {e}"))
        page.on("request", lambda r: r.url.startswith((site, "data:", "blob:"))
                or faults.append(f"another host: {r.url}"))
        # aborted: the icon, when the next page is asked for before it came
        page.on("requestfailed", lambda r: "ABORTED" in str(r.failure)
                or faults.append(f"{r.failure}: {r.url}"))
        page.on("response", lambda r: r.status >= 400
                and faults.append(f"{r.status}: {r.url}"))
        return page, faults

    yield open_page
    for context in contexts:
        context.close()


def documents(pages):
    """All pages but those that only lead on from an old address."""
    old = moved(ROOT / "chapters")
    return sorted(path.relative_to(pages).as_posix()
                  for path in pages.rglob("*.html")
                  if "_static" not in path.parts and path.stem not in old)


def chapter_page(name):
    """The address of a chapter, whatever its number."""
    (path,) = ROOT.glob(f"chapters/[0-9][0-9]_{name}.ipynb")
    return f"chapters/{path.stem}.html"


LOOK = """async () => {
  const found = [], article = document.querySelector(
      ".bd-article, .bd-search-container");
  const say = (what, e) => found.push(what + ": " +
      (e.getAttribute?.("src") || e.textContent || "").trim().slice(0, 60));
  const wait = (ms) => new Promise(done => setTimeout(done, ms));

  if (document.querySelector(".math")) {
    for (let i = 0; i < 200 && !window.MathJax?.startup?.promise; i++)
      await wait(25);
    if (!window.MathJax?.startup?.promise) return ["MathJax did not start"];
    await MathJax.startup.promise;
    await wait(60);
    for (const e of document.querySelectorAll(".math"))
      if (!e.querySelector("mjx-container")) say("formula not rendered", e);
    for (const e of document.querySelectorAll("mjx-c.mjx-c5C"))
      say("backslash in a formula", e.closest(".math"));
    for (const e of document.querySelectorAll("mjx-merror"))
      say("formula with an error", e);
  }
  const text = article.cloneNode(true);
  for (const e of text.querySelectorAll("pre, code, mjx-container, script, svg"))
    e.remove();
  const raw = text.textContent.match(/.{0,20}(\\$\\$|\\\\\\(|\\\\\\[).{0,20}/);
  if (raw) found.push("raw formula: " + raw[0]);

  const wide = document.scrollingElement.scrollWidth;
  if (wide > innerWidth + 1) found.push(`page is ${wide} px wide`);
  const scrolls = (e) => {       // in a box of its own that scrolls, or hidden
    for (; e && e !== article; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (/auto|scroll/.test(style.overflowX) || style.position === "absolute"
          || e.closest("mjx-assistive-mml, svg")) return true;
    }
    return false;
  };
  const edge = Math.min(innerWidth, article.getBoundingClientRect().right) + 1;
  for (const e of article.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (box.width && box.right > edge && !scrolls(e))
      say(`cut off at the right (${e.tagName})`, e);
  }
  for (const e of document.querySelectorAll(".bd-article img")) {
    e.loading = "eager";
    await e.decode().catch(() => 0);
    if (!e.naturalWidth) say("picture not loaded", e);
    if (!e.alt.trim()) say("picture without words", e);
  }
  if (!document.title.trim()) found.push("no title");
  if (article.querySelectorAll("h1").length !== 1) found.push("not one h1");
  return found.slice(0, 8);
}"""


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
def test_every_page(pages, site, open_page, width):
    page, faults = open_page(width, is_mobile=width < 600)
    bad = {}
    for name in documents(pages):
        page.goto(site + name)
        found = page.evaluate(LOOK) + faults
        faults.clear()
        if found:
            bad[name] = found
    assert not bad, "\n".join(f"{name}: {fault}" for name, found in bad.items()
                              for fault in found)


def test_links(pages):
    """Every link within the book leads to a page and a place on it."""
    ids, links = {}, []

    class Reader(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            attrs = dict(attrs)
            ids[self.name].update(filter(None, (attrs.get("id"),
                                                attrs.get("name"))))
            if tag == "a" and attrs.get("href"):
                links.append((self.name, attrs["href"]))

    for name in documents(pages):
        reader = Reader()
        reader.name = name
        ids[name] = set()
        reader.feed((pages / name).read_text("utf-8"))
    broken = set()
    for name, link in links:
        url = urllib.parse.urlsplit(link)
        if url.scheme or url.netloc or link.startswith("#!"):
            continue
        target = urllib.parse.urlsplit(urllib.parse.urljoin("/" + name, link))
        path = urllib.parse.unquote(target.path).lstrip("/")
        if path not in ids:
            if not (pages / path).is_file() or path.endswith(".html"):
                broken.add(f"{name}: {link}")
        elif target.fragment and (urllib.parse.unquote(target.fragment)
                                  not in ids[path]):
            broken.add(f"{name}: {link}")
    assert not broken, "\n".join(sorted(broken))


def chapter_pages(pages):
    return [name for name in documents(pages) if name.startswith("chapters/")]


def test_launch_buttons(pages):
    for name in chapter_pages(pages):
        text = (pages / name).read_text("utf-8")
        notebook = name.replace(".html", ".ipynb")
        assert ("https://colab.research.google.com/github/gpt2-book/gpt2-book/"
                f"blob/main/{notebook}") in text, name
        assert ("https://mybinder.org/v2/gh/gpt2-book/gpt2-book/main"
                f"?urlpath=lab/tree/{notebook}") in text, name
        assert "thebe" not in text.lower(), name


def search_for(page, site, word):
    """The addresses that the search of the book finds."""
    page.goto(f"{site}search.html?q={word}")
    page.wait_for_selector("#search-results li a")
    return page.eval_on_selector_all("#search-results li a",
                                     "all => all.map(a => a.href)")


def test_search(site, open_page):
    page, faults = open_page()
    hits = search_for(page, site, "softmax")
    assert any(chapter_page("attention") in hit for hit in hits), hits
    page.goto(site + "search.html?q=xyzzyplugh")
    page.wait_for_function("document.querySelector('#search-results')"
                           ".innerText.includes('did not match')")
    assert not faults


@pytest.mark.parametrize("by", ["system", "button"])
def test_dark_mode(site, open_page, by):
    scheme = "dark" if by == "system" else "light"
    page, faults = open_page(color_scheme=scheme)
    page.goto(site + "chapters/05_attention.html")
    theme = "document.documentElement.dataset.theme"
    image = page.locator(".cell_output img").first
    look = "e => getComputedStyle(e).filter"
    if by == "button":
        assert page.evaluate(theme) == "light"
        assert image.evaluate(look) == "none"
        for _ in range(3):
            if page.evaluate(theme) != "dark":
                page.locator("button.theme-switch-button:visible").first.click()
    assert page.evaluate(theme) == "dark"
    assert "invert(0.92)" in image.evaluate(look)
    assert "brightness" not in image.evaluate(look)
    red = page.evaluate("getComputedStyle(document.body).backgroundColor"
                        ".match(/\\d+/)[0]")
    assert int(red) < 60
    assert not faults


def test_cells(site, open_page):
    """Exports have a caption, checks look like checks, solutions open."""
    page, faults = open_page()
    page.goto(site + "chapters/05_attention.html")
    captions = page.locator(
        ".tag_export:not(.tag_folded) .export-caption")
    assert captions.count() >= 1
    assert "exported to gpt2/attention.py" in captions.first.inner_text()
    assert (captions.first.locator("a").get_attribute("href")
            == "../api/attention.html")
    assert "#| export" not in page.locator(".bd-article").inner_text()

    checks = page.locator(".output.check")
    assert checks.count() >= 1
    assert all(text.startswith("✓") for text in checks.all_inner_texts()
               if text)

    solution = page.locator(".tag_solution").first
    assert "Show the solution" in solution.inner_text()
    code = solution.locator(".cell_input")
    assert not code.is_visible()
    solution.locator("summary").click()
    assert code.is_visible()

    drawing = page.locator(".tag_hide-input").first
    assert "Show the drawing code" in drawing.inner_text()
    assert drawing.locator("img").first.is_visible()
    assert not drawing.locator(".cell_input").is_visible()
    assert not faults


def spoken(page, selector):
    """What a screen reader is told of an element: (name, opened or not)."""
    client = page.context.new_cdp_session(page)
    root = client.send("DOM.getDocument")["root"]["nodeId"]
    node = client.send("DOM.querySelector",
                       {"nodeId": root, "selector": selector})["nodeId"]
    (found,) = client.send("Accessibility.getPartialAXTree", {
        "nodeId": node, "fetchRelatives": False})["nodes"]
    states = {each["name"]: each["value"]["value"]
              for each in found["properties"]}
    assert states["focusable"]
    return found["name"]["value"], bool(states["expanded"])


def test_folds_by_keyboard(site, open_page):
    """A folded cell is one line of words; Enter opens it, with its caption."""
    page, faults = open_page()
    page.goto(site + chapter_page("attention"))
    fold = ".tag_folded.tag_export"
    cell = page.locator(fold).first
    words = cell.inner_text().strip()
    assert re.fullmatch(r"Imports · \d+ lines, exported", words)
    assert spoken(page, f"{fold} summary") == (words, False)
    code, link = cell.locator(".cell_input"), cell.locator("a")
    assert not code.is_visible() and cell.bounding_box()["height"] < 40

    cell.locator("summary").focus()
    page.keyboard.press("Enter")
    assert code.is_visible()
    assert spoken(page, f"{fold} summary") == (words, True)
    assert "exported to gpt2/attention.py" in code.inner_text()
    page.keyboard.press("Tab")
    assert link.evaluate("e => e === document.activeElement")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert not code.is_visible()

    prompt = page.locator(".tag_solution summary").first.inner_text()
    assert spoken(page, ".tag_solution summary") == (prompt, False)
    assert prompt.strip() == "Show the solution"
    assert not faults


def test_long_runs_of_checks(site, open_page):
    page, faults = open_page()
    page.goto(site + chapter_page("attention"))
    folds = page.locator(".cell_output details.checks")
    assert folds.count() >= 1
    for fold in folds.all():
        count = int(re.fullmatch(r"and (\d+) more checks",
                                 fold.inner_text().strip())[1])
        first = fold.locator("xpath=preceding-sibling::*[1]")
        assert first.inner_text().count("✓") == 1 and first.is_visible()
        more = fold.locator(".output.check")
        assert not more.is_visible()
        fold.locator("summary").press("Enter")
        assert more.is_visible() and more.inner_text().count("✓") == count >= 3
    assert not faults


def test_paper_shows_what_it_cannot_unfold(site, open_page):
    page, _ = open_page()
    page.goto(site + chapter_page("attention"))
    page.emulate_media(media="print")
    height = "e => e.getBoundingClientRect().height"
    for what in (".tag_folded .cell_input", "details.checks .output.check"):
        assert page.locator(what).first.evaluate(height) > 40
    for what in (".tag_solution", ".tag_hide-input:not(.tag_folded)"):
        assert page.locator(f"{what} .cell_input").first.evaluate(height) == 0


def test_folded_code_is_found(site, open_page):
    """`functools` stands in the folded imports of this chapter alone."""
    page, faults = open_page()
    hits = search_for(page, site, "functools")
    assert any(chapter_page("feed_forward") in hit for hit in hits), hits
    assert not faults


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "without"])
def test_old_addresses(site, open_page, scripts):
    page, faults = open_page(java_script_enabled=scripts)
    for old, new in moved(ROOT / "chapters").items():
        page.goto(f"{site}chapters/{old}.html?from=old#goals")
        place = re.escape(f"/{new}.html" + "?from=old#goals" * scripts)
        page.wait_for_url(re.compile(f"{place}$"))
        assert page.locator("#goals h2").count() == 1
    assert not (faults and scripts)     # without them, each is a fault


def test_head_viewer(site, open_page):
    """Chapter 05: every layer, head and reader can be chosen."""
    page, faults = open_page(390)
    page.goto(site + "chapters/05_attention.html")
    viewer = page.locator("#head-viewer")
    layers, heads, words = (viewer.locator(f".hv-{name} button")
                            for name in ("layers", "heads", "words"))
    assert (layers.count(), heads.count()) == (6, 8)
    pressed = "all => all.map(e => e.getAttribute('aria-pressed'))"
    said = set()
    for layer, head, reader in ((5, 0, 0), (0, 7, 9), (3, 2, 9)):
        layers.nth(layer).click()
        heads.nth(head).click()
        words.nth(reader).click()
        for group, chosen in ((layers, layer), (heads, head), (words, reader)):
            states = group.evaluate_all(pressed)
            assert [i for i, s in enumerate(states) if s == "true"] == [chosen]
        text = viewer.locator(".hv-says").inner_text()
        assert text.startswith(f"In layer {layer}, head {head + 1}, ")
        said.add(text)
        shares = viewer.locator(".hv-words small").all_inner_texts()
        assert all(s == "–" for s in shares[reader + 1:])
        total = sum(int(s.rstrip("%")) for s in shares[:reader + 1])
        assert abs(total - 100) <= 3
    assert len(said) == 3
    assert not faults
