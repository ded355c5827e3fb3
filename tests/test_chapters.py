"""What every chapter must look like, whatever it says.

nbval compares the outputs; here is what nbval does not see: an unrun cell, a
line that is too long, a picture without words, a heading out of place.
"""
import ast
import functools
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT / "tools"), str(ROOT / "_ext")]
import reading_time
from folding import definitions, kind, summary

CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
TAGS = {"remove-cell", "hide-input", "solution", "engine-room",
        "nbval-ignore-output"}
COLAB = '''\
# On Colab: fetch the book and install its package. Elsewhere: see that
# the book is there, for its pages read its files.
import os
import sys

if "google.colab" in sys.modules:
    !git clone -q --depth 1 https://github.com/gpt2-book/gpt2-book
    !pip install -q "./gpt2-book[book]"
    %cd -q gpt2-book/chapters
if not os.path.exists("../checkpoints/nano/config.json"):
    raise FileNotFoundError(
        "this notebook reads files of the book and runs in its chapters/"
        " folder: git clone https://github.com/gpt2-book/gpt2-book && cd"
        " gpt2-book && make lab")'''


class Chapter:
    def __init__(self, path):
        self.path, self.number = path, path.stem[:2]
        self.name = path.stem[3:]
        self.notebook = json.loads(path.read_text("utf-8"))
        self.cells = self.notebook["cells"]
        self.code = [c for c in self.cells if c["cell_type"] == "code"]
        self.prose = [c for c in self.cells if c["cell_type"] == "markdown"]

    def outputs(self):
        for cell in self.code:
            for output in cell["outputs"]:
                yield cell["id"], output


def source(cell):
    return "".join(cell["source"])


def tags(cell):
    return cell["metadata"].get("tags", [])


def body(cell):
    """The code without the export mark."""
    return re.sub(r"\A#\| export\s*\n", "", source(cell))


def exports(chapter):
    """Does it define a module? The tour and the reader of records do not."""
    found = any(source(c).startswith("#| export") for c in chapter.code)
    assert found or chapter.name in ("tour", "full_size_run")
    return found


def headings(chapter):
    """(level, text) of every heading, fenced blocks left out."""
    for cell in chapter.prose:
        text = re.sub(r"^```.*?^```", "", source(cell), flags=re.M | re.S)
        for marks, words in re.findall(r"^(#+) (.+)$", text, re.M):
            yield len(marks), words.strip()


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem, scope="module")
def chapter(request):
    return Chapter(request.param)


@pytest.fixture
def whole_chapter(chapter):
    """The tour defines nothing and has no exercises: it has its own shape."""
    if chapter.name == "tour":
        pytest.skip("the tour is no chapter of parts")
    return chapter


PLAN = {
    0: "tour", 1: "config", 2: "tokenizer", 3: "embeddings", 4: "conv1d",
    5: "attention", 6: "feed_forward", 7: "block", 8: "model", 9: "checks",
    10: "counting", 11: "pretrained", 12: "kv_cache", 13: "generation",
    14: "data", 15: "training", 16: "resume", 17: "scaling",
    18: "distributed", 19: "full_size_run", 20: "zero_shot", 21: "inside"}


def test_names():
    assert [path.stem for path in CHAPTERS] == [
        f"{n:02d}_{name}" for n, name in PLAN.items()]


def test_in_the_table_of_contents(chapter):
    contents = (ROOT / "_toc.yml").read_text("utf-8")
    assert f"- file: chapters/{chapter.path.stem}\n" in contents
    described = f"- file: api/{chapter.name}\n" in contents
    assert described == exports(chapter)


def test_freshly_run(chapter):
    counts = [cell["execution_count"] for cell in chapter.code]
    assert counts == list(range(1, len(counts) + 1)), (
        f"run tools/run_chapters.py {chapter.number}")
    for cell in chapter.code:
        assert source(cell).strip(), f"{cell['id']} is empty"
    for cell in chapter.cells:
        assert set(cell["metadata"]) <= {"tags"}, cell["id"]
        assert set(tags(cell)) <= TAGS, (cell["id"], tags(cell))


def test_outputs(chapter):
    for where, output in chapter.outputs():
        assert output["output_type"] != "error", f"{where}: {output}"
        assert output.get("name") != "stderr", f"{where}: {output['text']}"
        data = output.get("data", {})
        assert not any("svg" in kind for kind in data), f"{where}: SVG"
        words = "".join(output.get("text", "")) + "".join(
            "".join(data.get("text/plain", "")))
        for trace in ("<Figure", "<matplotlib", "/tmp/", "/home/",
                      "/Users/", "ipykernel", "Traceback", " at 0x"):
            assert trace not in words, f"{where} prints {trace!r}"


def test_pictures_say_what_they_show(chapter):
    count = 0
    for where, output in chapter.outputs():
        if "image/png" in output.get("data", {}):
            count += 1
            facts = output["metadata"].get("image/png", {})
            assert len(facts.get("alt", "")) > 20, f"{where}: no alt text"
            assert facts.get("width", 0) > 0, f"{where}: no width"
            assert "text/plain" in output["data"], where
    assert count >= (1 if chapter.name == "tour" else 3), (
        "the map and at least two pictures")


def test_cells_are_short(chapter):
    for cell in chapter.code:
        lines = body(cell).splitlines()
        most = 35 if any(l.startswith("class ") for l in lines) else 25
        if cell["id"] in ("imports", "page-imports"):
            most = 35
        assert len(lines) <= most, f"{cell['id']}: {len(lines)} lines"
        for line in lines:
            assert len(line) <= 78, f"{cell['id']}: {len(line)} columns: {line}"


def test_what_is_not_compared(chapter):
    """Few cells, and each says in a comment what there is the machine's."""
    free = [cell for cell in chapter.code
            if "nbval-ignore-output" in tags(cell)]
    assert len(free) <= 4, [cell["id"] for cell in free]
    for cell in free:
        assert re.search(r"(^|\s)# ", body(cell)), (
            f"{cell['id']}: why is its output not compared?")


def test_cell_ids(chapter):
    ids = [cell["id"] for cell in chapter.cells]
    assert len(set(ids)) == len(ids)
    for cell in chapter.code:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", cell["id"])
        assert not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?|(cell|code)-?\d+",
                                cell["id"]), f"{cell['id']} says nothing"


def test_opening(chapter):
    title, *rest = source(chapter.cells[0]).strip().split("\n")
    assert re.fullmatch(rf"# {chapter.number} · \S.*", title)
    assert re.match(r"\*\*[^*]+\?\*\*", "\n".join(rest).strip()), (
        "after the title: one question, in bold")
    colab = chapter.cells[1]
    assert colab["id"] == "colab" and source(colab) == COLAB
    assert colab is chapter.code[0]
    assert tags(colab) == ["remove-cell"]
    here = chapter.code[1]
    assert here["id"] == "you-are-here" and tags(here) == ["hide-input"]
    assert [line for line in source(here).splitlines() if line] == [
        "from gpt2_figures.map import you_are_here",
        f'you_are_here("{chapter.name}")']


def test_headings(whole_chapter):
    found = list(headings(whole_chapter))
    assert [level for level, _ in found].count(1) == 1
    second = [words for level, words in found if level == 2]
    assert second[0] == "Goals"
    assert second[-3:] == ["In the paper", "Summary", "Exercises"]
    assert len(second) > 4, "parts between the goals and the paper"
    third = [words for level, words in found if level == 3]
    assert any(words.startswith("What breaks") for words in third)
    assert all(level <= 3 for level, _ in found)


def test_goals(chapter):
    text = "\n\n".join(map(source, chapter.prose))
    goals = text.split("\n## Goals\n")[1].split("\n## ")[0]
    assert 3 <= len(re.findall(r"^- ", goals, re.M)) <= 5
    assert re.search(r"^\*\*Time\*\*: \d+ minutes.*\*\*Uses\*\*: ", goals,
                     re.M | re.S)


def test_time(chapter):
    """The minutes are computed; what they count stands in the tool."""
    written = (chapter.path.read_text("utf-8")
               == reading_time.with_time(chapter.path))
    assert written, "run tools/reading_time.py --write"


# Chapters that exceed a budget of reading_time.BUDGET until they are written
# anew; one that no longer does leaves the table.
# Printed by tools/reading_time.py --over
OVER_BUDGET = {
    "minutes": {"attention", "checks", "data", "generation", "inside",
                "pretrained", "tokenizer", "training", "zero_shot"},
    "cells": {"attention", "checks", "data", "generation", "inside",
              "kv_cache", "model", "pretrained", "tokenizer", "training",
              "zero_shot"},
    "gap": {"attention", "checks", "config", "data", "feed_forward",
            "generation", "kv_cache", "model", "pretrained", "tokenizer",
            "training", "zero_shot"},
    "module": set()}


def test_budgets():
    assert reading_time.over_budget() == OVER_BUDGET, (
        "shorten what is new in the table, or take out what has become short:"
        " tools/reading_time.py prints the numbers of every page")


def test_engine_room(chapter):
    """Only code of the package folds by this tag, and its line says what it
    does. Imports fold without it."""
    for cell in chapter.code:
        if "engine-room" in tags(cell):
            assert source(cell).startswith("#| export"), (
                f"{cell['id']}: not exported, so it belongs to the text")
            assert kind(cell) == "engine-room", f"{cell['id']}: {kind(cell)}"
            assert re.match(r"\S.* · \d+ lines?, exported$", summary(cell))


def test_exercises(whole_chapter):
    start = next(i for i, cell in enumerate(whole_chapter.cells)
                 if re.search(r"^## Exercises", source(cell), re.M))
    numbers, waiting = [], False
    for cell in whole_chapter.cells[start:]:
        if cell["cell_type"] == "markdown":
            found = re.findall(r"^### (.*)$", source(cell), re.M)
            for words in found:
                assert not waiting, f"exercise {numbers[-1]} has no solution"
                match = re.fullmatch(r"Exercise (\d) · ★{1,3} · \d+ minutes",
                                     words)
                assert match, words
                numbers.append(int(match[1]))
                waiting = True
        elif "solution" in tags(cell):
            assert re.search(r"\bassert\b|\bcheck\w*\(", source(cell)), (
                f"{cell['id']} checks nothing")
            waiting = False
        else:
            assert waiting is False, f"{cell['id']} is not a solution"
    assert not waiting and numbers == list(range(1, len(numbers) + 1))
    assert 3 <= len(numbers) <= 6


def test_solutions_stand_in_the_exercises(whole_chapter):
    start = next(i for i, cell in enumerate(whole_chapter.cells)
                 if re.search(r"^## Exercises", source(cell), re.M))
    for cell in whole_chapter.cells[:start]:
        assert "solution" not in tags(cell), cell["id"]


def names(code):
    """Every name and attribute that a cell mentions, comments left out."""
    if "\n    !" in code:
        return set()
    tree = ast.parse(code)
    return ({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
            | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)})


def test_exports_are_used(chapter):
    mentioned = [names(body(cell)) for cell in chapter.code]
    for i, cell in enumerate(chapter.code):
        if source(cell).startswith("#| export"):
            later = set().union(*mentioned[i + 1:])
            for name in definitions(body(cell)):
                assert name.startswith("_") or name in later, (
                    f"{cell['id']}: {name} is exported and never used")


def test_a_name_is_exported_once(chapter):
    found = Counter(name for cell in chapter.code
                    if source(cell).startswith("#| export")
                    for name in definitions(body(cell)))
    assert not [name for name, times in found.items() if times > 1]


def test_only_the_package_is_imported_for_the_package(chapter):
    heavy = {"transformers", "matplotlib", "tokenizers", "tiktoken", "numpy",
             "gpt2_figures"}
    for cell in chapter.code:
        if source(cell).startswith("#| export"):
            for node in ast.parse(body(cell)).body:
                found = {alias.name for alias in getattr(node, "names", [])} \
                    if isinstance(node, ast.Import) else \
                    {node.module or ""} if isinstance(node, ast.ImportFrom) \
                    else set()
                tops = {name.split(".")[0] for name in found}
                assert not tops & heavy, f"{cell['id']} imports {tops & heavy}"
                assert not getattr(node, "level", 0), (
                    f"{cell['id']}: a relative import")


@functools.cache
def anchors(path):
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"),
                  flags=re.M | re.S)
    return {re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")
            for words in re.findall(r"^#+ (.+)$", text, re.M)}


def test_links(chapter):
    for cell in chapter.prose:
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", source(cell),
                      flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://|mailto:|#", link):
                continue
            file, _, anchor = link.partition("#")
            path = (chapter.path.parent / file).resolve()
            assert path.is_file(), f"{cell['id']}: no file {link}"
            if anchor and path.suffix == ".md":
                assert anchor in anchors(path), f"{cell['id']}: {link}"


def test_citations(whole_chapter):
    keys = set(re.findall(r"^@\w+\{([^,\s]+),",
                          (ROOT / "references.bib").read_text("utf-8"), re.M))
    cited = {key.strip() for cell in whole_chapter.prose
             for group in re.findall(r"\{cite:\w+\}`([^`]+)`", source(cell))
             for key in group.split(",")}
    assert cited, "In the paper: which one?"
    assert cited <= keys, cited - keys


def test_the_end_leads_on(chapter):
    text = "\n\n".join(map(source, chapter.prose))
    link = f"](../api/{chapter.name}.md)"
    assert (link in text) == exports(chapter)
    following = [p for p in CHAPTERS if p.name > chapter.path.name]
    last = source(chapter.cells[-1])
    assert chapter.cells[-1]["cell_type"] == "markdown"
    if following:
        assert f"]({following[0].name}" in last.strip().split("\n")[-1]
