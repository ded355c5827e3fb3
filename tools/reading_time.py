"""How long a page takes to read, and whether it keeps its budgets.

             prints the table of pages
--write      writes the minutes into the Time line of every chapter
--over       prints the table OVER_BUDGET of tests/test_chapters.py

What counts is the main road: all that stands before the part "Exercises".
words        of prose: titles, lists and tables too; a formula is one word, a
             link its words; code blocks are lines, not words
lines        of visible code, without empty lines and the export mark; what
             the page removes or folds (_ext/folding.py) is not visible
cells        of visible code
pictures     drawn or interactive, folded code or not
gap          the most visible lines of code without a picture between them
minutes      words / 130 + lines / 20
exercises    the minutes that the headings of the exercises name
module       lines of the module that the chapter exports, all of them
"""
import json
import re
import sys
from pathlib import Path
from pprint import pformat

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "_ext"))
from folding import count_lines, kind

WORDS, LINES = 130, 20                      # a minute
BUDGET = {"minutes": 60, "cells": 40, "gap": 150, "module": 500}
TOUR = {**BUDGET, "minutes": 40}
TIME = re.compile(r"\*\*Time\*\*: \d+ minutes"
                  r"(?:, exercises \d+| to read(?: and run)?)?")
EXERCISES = re.compile(r"^## Exercises$", re.M)
CODE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.M | re.S)


def chapters():
    return sorted(ROOT.glob("chapters/[0-9][0-9]_*.ipynb"))


def count_words(text):
    """Words of Markdown as a reader meets them; code blocks are no words."""
    text = TIME.sub("", CODE.sub("", text))         # the line that we write
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]+(?:\n[^$\n]+)?\$", " formula ", text,
                  flags=re.S)
    text = re.sub(r"<!--.*?-->|</?[a-zA-Z][^>\n]*>", " ", text, flags=re.S)
    text = re.sub(r"\{[\w:]+\}`([^`]+)`", r" \1 ", text)     # {cite:p}`key`
    text = re.sub(r"\]\([^)\s]*\)", "]", text)               # [words](link)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def main_road(cells):
    """The cells before the exercises; a text that they begin in is cut."""
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and EXERCISES.search(text):
            yield {**cell, "source": EXERCISES.split(text)[0]}
            return
        yield cell


def measure(path):
    """The numbers of the table, for one chapter."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    found = dict.fromkeys(("words", "lines", "cells", "pictures", "gap"), 0)
    since = 0                                   # lines since the last picture
    for cell in main_road(cells):
        if cell["cell_type"] == "markdown":
            text = "".join(cell["source"])
            found["words"] += count_words(text)
            lines = sum(bool(line.strip()) for code in CODE.findall(text)
                        for line in code.splitlines())
        else:
            lines = count_lines(cell) if kind(cell) == "visible" else 0
            found["cells"] += kind(cell) == "visible"
        found["lines"] += lines
        found["gap"] = max(found["gap"], since := since + lines)
        if drawn := count_pictures(cell):
            found["pictures"] += drawn
            since = 0
    module = ROOT / "gpt2" / f"{path.stem[3:]}.py"
    minutes = found["words"] / WORDS + found["lines"] / LINES
    return {**found, "minutes": round(minutes),
            "exercises": exercise_minutes(cells),
            "module": len(module.read_text("utf-8").splitlines())
            if module.exists() else 0}


def count_pictures(cell):
    if cell["cell_type"] == "markdown":
        return "".join(cell["source"]).count("![")
    return sum(bool({"image/png", "text/html"} & set(output.get("data", {})))
               for output in cell["outputs"])


def exercise_minutes(cells):
    text = "\n".join("".join(cell["source"]) for cell in cells
                     if cell["cell_type"] == "markdown")
    return sum(map(int, re.findall(
        r"^### Exercise \d+ · ★+ · (\d+) minutes$", text, re.M)))


def with_time(path):
    """The chapter's text with the computed minutes in its Time line."""
    found = measure(path)
    line = f"**Time**: {found['minutes']} minutes"
    if found["exercises"]:
        line += f", exercises {found['exercises']}"
    text, times = TIME.subn(line, path.read_text("utf-8"))
    if times != 1:
        sys.exit(f"chapters/{path.name}: {times} lines **Time**: N minutes")
    return text


def over_budget():
    """{budget: names of the chapters that exceed it}"""
    over = {what: set() for what in BUDGET}
    for path in chapters():
        name, found = path.stem[3:], measure(path)
        for what, most in (TOUR if name == "tour" else BUDGET).items():
            if found[what] > most:
                over[what].add(name)
    return over


def table():
    """The table of pages, and the hours of all."""
    rows = {path.stem: measure(path) for path in chapters()}
    heads = list(next(iter(rows.values())))
    yield f"{'page':18}" + "".join(f"{head:>10}" for head in heads)
    for page, found in rows.items():
        yield f"{page:18}" + "".join(f"{found[head]:10,}" for head in heads)
    for head in ("minutes", "exercises"):
        hours = sum(found[head] for found in rows.values()) / 60
        yield f"{head}, sum: {hours:.1f} hours"


def over_as_code():
    """The table OVER_BUDGET as Python."""
    words = pformat(over_budget(), width=74, compact=True, sort_dicts=False)
    return f"OVER_BUDGET = {{\n {words[1:]}".replace("'", '"').replace(
        "\n ", "\n    ")


def main():
    if sys.argv[1:] == ["--write"]:
        texts = {path: with_time(path) for path in chapters()}
        for path, text in texts.items():            # all of them, or none
            path.write_text(text, "utf-8")
    elif sys.argv[1:] == ["--over"]:
        print(over_as_code())
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        print("\n".join(table()))


if __name__ == "__main__":
    main()
