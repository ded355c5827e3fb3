"""The API pages: each module on its page, and the help as it is printed."""
import ast
import re
import sys
from pathlib import Path

import pytest
from commands import ROOT

import gpt2
from gpt2.command_line import app

PACKAGE = Path(gpt2.__file__).parent
PAGES = ROOT / "api"
COMMANDS = [command.callback.__name__
            for command in app.app.registered_commands]
pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="no checkout")


def documented(page):
    return re.findall(r"^\.\. automodule:: (\S+)$",
                      page.read_text("utf-8"), re.M)


def modules(folder):
    return {path.stem for path in folder.glob("*.py")
            if not path.stem.startswith("__")}


def test_a_page_for_each_exported_module():
    for name in modules(PACKAGE):
        assert documented(PAGES / f"{name}.md") == [f"gpt2.{name}"]


@pytest.mark.parametrize("room", ["files", "command_line"])
def test_one_page_for_a_room(room):
    """Each of its modules, whose first line says what it is."""
    found = documented(PAGES / f"{room}.md")
    assert len(found) == len({*found})
    assert {*found} == {f"gpt2.{room}.{name}"
                        for name in modules(PACKAGE / room)}
    for name in modules(PACKAGE / room):
        source = (PACKAGE / room / f"{name}.py").read_text("utf-8")
        assert ast.get_docstring(ast.parse(source)), name


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "_toc.yml").read_text("utf-8")
    listed = re.findall(r"- file: api/(\w+)$", contents, re.M)
    assert sorted(listed) == sorted(path.stem for path in PAGES.glob("*.md"))


def test_the_entry_page():
    """Old addresses, api.html#gpt2-NAME, lead to a line with the page."""
    text = (ROOT / "api.md").read_text("utf-8")
    names = re.findall(r"^- \{py:(?:class|func)\}`(\S+) <\S+>`: ", text, re.M)
    assert len(names) == len({*names}) == 20
    for name in names:
        assert name in gpt2.__all__ or name.startswith("gpt2."), name
    for name in modules(PACKAGE):
        anchor = f"gpt2-{name.replace('_', '-')}"
        assert f"[gpt2.{name}](api/{name}.md){{#{anchor}}}" in text
    shown = re.findall(r"^```\{command-help\}(.*)$", text, re.M)
    assert [words.strip() for words in shown] == ["", *COMMANDS]


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)])
def test_the_help_is_what_is_printed(words, monkeypatch, capsys):
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", [str(ROOT / "_ext"), *sys.path])
    from command_help import help_of
    monkeypatch.setenv("COLUMNS", "50")
    text = help_of(*words)
    monkeypatch.setenv("COLUMNS", "80")
    assert app.main([*words, "--help"]) == 0
    assert text == capsys.readouterr().out
