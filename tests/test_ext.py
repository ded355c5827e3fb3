"""What the book adds to Sphinx: what folds and to which line, and the pages
that lead on from old addresses. The browser's tests see the rest."""
import re
import sys
from pathlib import Path

import pytest
from notebooks import code, text, write

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tools"), str(ROOT / "_ext")]
import reading_time
from folding import fold_checks, kind, summary
from redirects import OLD, moved, write_redirects


def cell(source, *tags):
    return code("cell", source, metadata={"tags": list(tags)})


@pytest.mark.parametrize("source, tags, expected", [
    ("x = 1", [], "visible"),
    ("import os\n\n# why\nfrom re import sub", [], "imports"),
    ("#| export\nimport os", [], "imports"),
    ("import os\nprint(os.sep)", [], "visible"),
    ("# only a comment", [], "visible"),
    ("import os\n!ls", [], "visible"),
    ("%cd ..\nimport os", [], "visible"),
    ("import os", ["remove-cell"], "removed"),
    ("import os", ["solution"], "solution"),
    ("draw()", ["hide-input"], "drawing"),
    ("#| export\ndef f():\n    pass", ["engine-room"], "engine-room"),
    ("#| export\nimport os", ["engine-room"], "imports"),
])
def test_kind(source, tags, expected):
    assert kind(cell(source, *tags)) == expected


def function(name, docstring=""):
    return f'def {name}(x):\n    """{docstring}"""\n    return x\n'


@pytest.mark.parametrize("source, expected", [
    ("#| export\nimport os\n\n# why\nimport re\n",
     "Imports · 3 lines, exported"),
    ("import os", "Imports · 1 line"),
    ("#| export\n" + function("f", "Refuse masks of another shape. More."),
     "Refuse masks of another shape · 3 lines, exported"),
    ("#| export\n" + function("f", "Two\n    lines of it\n\n    More"),
     "Two lines of it · 5 lines, exported"),
    (function("f", "Is it real? Yes."), "Is it real? · 3 lines"),
    (function("f", "The positions 0, 1, 2, ..."),
     "The positions 0, 1, 2, ... · 3 lines"),
    ("LIMIT = 3\n\n\n" + function("_g", "Private.") + function("f", "Public.")
     + "LIMIT = 4\n", "Public (`LIMIT`, `f`) · 8 lines"),
    (function("_g", "Private. Not shown."), "Private · 3 lines"),
    (function("f") + function("g", "The second."), "`f`, `g` · 6 lines"),
    ("A: int = 1\nB, (C, *_d) = rest", "`A`, `B`, `C` · 2 lines"),
    ("class K:\n    'A class of `f`.'\n", "A class of `f` · 2 lines"),
])
def test_summary(source, expected):
    assert summary(cell(source, "engine-room")) == expected


def test_fold_checks():
    three = "✓ a\n  more of a\n✓ b\n✓ c\n"
    assert fold_checks(three) == (three, "", 0)
    assert fold_checks(three + "✓ d\n  more") == (
        "✓ a\n  more of a\n", "✓ b\n✓ c\n✓ d\n  more", 3)


def test_printed_text_folds_only_its_checks():
    pytest.importorskip("myst_nb")
    from book import split
    parts = [part["text"] for part in split(
        {"name": "stdout",
         "text": "one\n  two\n✓ a\n✓ b\n  more\n\nthree\n✓ c\n"})]
    assert parts == ["one\n  two\n", "✓ a\n✓ b\n  more\n", "\nthree\n",
                     "✓ c\n"]


# ---- old addresses

def test_every_old_address_leads_to_a_chapter(tmp_path):
    chapters = ROOT / "chapters"
    today = {path.stem for path in chapters.glob("*.ipynb")}
    to = moved(chapters)
    assert set(to) == set(OLD) - today and set(to.values()) <= today
    (tmp_path / "chapters").mkdir()
    write_redirects(chapters, tmp_path, "https://example.org/book/")
    assert {path.stem for path in tmp_path.glob("chapters/*")} == set(to)


def test_redirects(tmp_path):
    """Of renumbered chapters all lead on; a page of today is not touched."""
    chapters = tmp_path / "book"
    chapters.mkdir()
    (tmp_path / "chapters").mkdir()
    names = [old[3:] for old in OLD]
    for number, name in enumerate([names[0], *names[:0:-1]], 1):
        (chapters / f"{number:02d}_{name}.ipynb").touch()
    kept = {old for old in OLD if (chapters / f"{old}.ipynb").exists()}
    assert kept and kept < set(OLD)
    write_redirects(chapters, tmp_path, "https://example.org/book/")
    pages = {path.stem: path.read_text("utf-8")
             for path in tmp_path.glob("chapters/*.html")}
    assert set(pages) == set(OLD) - kept
    page, new = pages["18_inside"], "02_inside.html"
    assert f'rel="canonical" href="https://example.org/book/chapters/{new}"' \
        in page
    assert f'<a href="{new}">' in page and f'content="0; url={new}"' in page
    assert f'replace("{new}" + location.search + location.hash)' in page


def test_a_lost_chapter_is_named(tmp_path):
    for old in OLD[1:]:
        (tmp_path / f"{old}.ipynb").touch()
    with pytest.raises(ValueError, match="01_config$"):
        moved(tmp_path)


# ---- reading time

@pytest.mark.parametrize("words, count", [
    ("## A heading\n\nOne two, three.", 5),
    ("the size $\\sqrt{D} \\cdot x$ of it", 5),
    ("so\n\n$$\na = b + c\n$$\n\nthen", 3),
    ("[two words](../a_b/c.md#d-e-f) more", 3),
    ("`model.h[0]` → x", 2),
    ("| a | b c |\n|---|:--|\n| 1 | 2 |", 5),
    ("said so {cite:p}`key`", 3),
    ("<div class='a b'>in</div> <!-- not this -->", 1),
    ("run\n\n```bash\nmake test now\n```\n\nthere", 2),
    ("**Time**: 60 minutes to read and run. **Uses**: all", 2),
])
def test_words(words, count):
    assert reading_time.count_words(words) == count


PICTURE = [{"output_type": "display_data", "data": {"image/png": ""},
            "metadata": {}}]


@pytest.fixture
def page(tmp_path):
    long = "x = 1\n\n" * 30
    return write(
        tmp_path / "chapters/01_demo.ipynb",
        text("title", "word " * 260 + "\n\n```bash\nmake book\n```"),
        code("map", "draw()", metadata={"tags": ["hide-input"]},
             outputs=PICTURE),
        code("imports", "#| export\nimport os"),
        code("one", "#| export\n" + long),
        code("guard", "#| export\n" + long,
             metadata={"tags": ["engine-room"]}),
        code("two", long, outputs=PICTURE),
        code("three", long),
        text("time", "**Time**: 45 minutes to read; it runs. **Uses**: it.\n\n"
             "## Exercises\n\nmany words more\n\n"
             "### Exercise 1 · ★ · 10 minutes\n\nDo."),
        code("outside", long),
        text("ex", "### Exercise 2 · ★★★ · 25 minutes\n\nDo."))


def test_measure(page):
    found = reading_time.measure(page)
    assert found == {
        "words": 260 + len("it runs Uses it".split()), "lines": 1 + 3 * 30,
        "cells": 3, "pictures": 2, "gap": 60,
        "minutes": round(264 / 130 + 91 / 20), "exercises": 35, "module": 0}


def test_time_line(page):
    once = reading_time.with_time(page)
    assert "**Time**: 7 minutes, exercises 35; it runs. **Uses**: it." in once
    page.write_text(once, "utf-8")
    assert reading_time.with_time(page) == once
    page.write_text(re.sub("Time", "Hours", once), "utf-8")
    with pytest.raises(SystemExit, match="01_demo.ipynb: 0 lines"):
        reading_time.with_time(page)


def test_budgets(page, monkeypatch):
    monkeypatch.setattr(reading_time, "chapters", lambda: [page])
    assert not any(reading_time.over_budget().values())
    for what, most in reading_time.measure(page).items():
        if what in reading_time.BUDGET and most:
            monkeypatch.setitem(reading_time.BUDGET, what, most - 1)
            assert reading_time.over_budget()[what] == {"demo"}
            monkeypatch.setitem(reading_time.BUDGET, what, most)
            assert not reading_time.over_budget()[what]
    names = {}
    exec(reading_time.over_as_code(), names)
    assert names["OVER_BUDGET"] == reading_time.over_budget()
