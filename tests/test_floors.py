"""Modules import only from floors below their own; importing gpt2 is light."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpt2

PACKAGE = Path(gpt2.__file__).parent

# The floors of the house: chapter NN_name exports gpt2/name.py. Below the
# chapters lie the hand-written modules of gpt2/files/, above them those of
# gpt2/command_line/.
FLOORS = {
    "files": -5, "files.errors": -5,
    "files.whole": -4, "files.text": -4,
    "files.locks": -3, "files.download": -3, "files.processes": -3,
    "files.copies": -3, "files.tokenizer_files": -3,
    "files.tensors": -3, "files.hub": -3, "files.wikitext": -3,
    "files.corpora": -2, "files.token_files": -2, "files.task_files": -2,
    "config": 0, "checks": 0, "tokenizer": 0, "embeddings": 0, "conv1d": 0,
    "attention": 1, "feed_forward": 1, "kv_cache": 1,
    "block": 2,
    "model": 3, "counting": 3,
    "pretrained": 4, "generation": 4, "data": 4,
    "training": 5, "zero_shot": 5, "inside": 5,
    "resume": 6, "scaling": 6,
    "distributed": 7,
    "command_line": 10, "command_line.tasks": 10,
    "command_line.options": 11, "command_line.reports": 11,
    "command_line.runs": 11, "command_line.bodies": 11,
    "command_line.models": 11,
    "command_line.plots": 12, "command_line.progress": 12,
    "command_line.plans": 12,
    "command_line.loop": 13,
    "command_line.sample": 14, "command_line.info": 14,
    "command_line.tokenize": 14, "command_line.train": 14,
    "command_line.evaluate": 14,
    "command_line.app": 15,
}
# What a module may import besides torch when it is itself imported.
MORE = {"tokenizer": {"regex"}, "scaling": {"psutil"},
        "zero_shot": {"tqdm"}, "command_line.bodies": {"tqdm"},
        "command_line.progress": {"tqdm"}}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(
        ".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or not path.stem.startswith("__"))


def imported(source: str) -> set[str]:
    """Names of the gpt2 modules that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "gpt2" if node.level else ""
            base = ".".join(filter(None, [base, node.module]))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            top, _, rest = name.partition(".")
            if top == "gpt2":
                found.add(module_of(rest))
    # `from gpt2 import X` reads __init__, which imports everything.
    return {name if name in FLOORS else "__init__" for name in found
            if name or found == {""}}


def module_of(name: str) -> str:
    """`files.text` of `files.text.Document`; as it is where none is known."""
    known = name
    while known and known not in FLOORS:
        known = known.rpartition(".")[0]
    return known or name


def extras_of(name: str) -> set[str]:
    """What a module may import besides torch."""
    return MORE.get(name, {"typer"} if name.startswith("command_line.")
                    else set())


def source_of(name: str) -> str:
    """The source of a module or of a package's __init__."""
    path = PACKAGE.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text("utf-8")


def other_packages(source: str) -> set[str]:
    """Top-level packages outside of gpt2 and the standard library that a
    source imports when it is itself imported (not inside a function)."""
    found = set()

    def visit(node):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found - {"gpt2"} - set(sys.stdlib_module_names)


def test_the_finder_finds():
    assert imported("from gpt2.block import TransformerBlock") == {"block"}
    assert imported("import gpt2.config as c, torch") == {"config"}
    assert imported("def f():\n    from gpt2.model import GPT2") == {"model"}
    assert imported("from .checks import check") == {"checks"}
    assert imported("from gpt2 import model") == {"model"}
    assert imported("from gpt2.files.text import Document") == {"files.text"}
    assert imported("from gpt2.files import text") == {"files", "files.text"}
    assert imported("from . import checks") == {"checks"}
    assert "__init__" in imported("from gpt2 import GPT2")
    assert imported("import torch") == set()
    source = "import torch\ndef f():\n    import transformers"
    assert other_packages(source) == {"torch"}


@pytest.mark.parametrize("name", MODULES)
def test_floor(name):
    assert name in FLOORS, f"gpt2/{name}.py has no floor in this test's table"
    source = source_of(name)
    for other in imported(source):
        assert other in FLOORS, f"{name} imports gpt2.{other}"
        assert FLOORS[other] < FLOORS[name], (
            f"{name} (floor {FLOORS[name]}) imports {other}"
            f" (floor {FLOORS[other]}): only lower floors may be imported")


@pytest.mark.parametrize("name", MODULES)
def test_imports_little(name):
    assert other_packages(source_of(name)) <= {"torch"} | extras_of(name)


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name])
def test_short(name):
    """What is written by hand: functions of 25 lines, commands of 40."""
    source = source_of(name)
    assert source.count("\n") <= 500
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            most = 40 if name == f"command_line.{node.name}" else 25
            lines = node.end_lineno - node.lineno + 1
            assert lines <= most, (node.name, lines)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True,
                          capture_output=True, text=True).stdout


def test_no_name_is_defined_twice():
    """But for the commands, which are called as what they do."""
    places = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and (
                    not node.name.startswith("_")):
                places.setdefault(node.name, set()).add(path.stem)
    twice = {name for name, where in places.items() if len(where) > 1}
    assert twice == {"sample", "evaluate"}
    assert all(name in places[name] for name in twice)


def test_importing_gpt2_is_light():
    """On top of torch: gpt2, regex and the standard library, nothing else."""
    code = """
import sys, torch
before = set(sys.modules)
import gpt2
tops = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(tops - set(sys.stdlib_module_names)))
heavy = {"transformers", "matplotlib", "tokenizers", "tiktoken", "gpt2_figures",
         "safetensors", "huggingface_hub", "scipy", "pandas"}
assert not heavy & {name.split(".")[0] for name in sys.modules}
"""
    assert set(run(code).split()) <= {"gpt2", "regex", "torch"}


def test_checks_load_transformers_late():
    code = """
import sys, torch
from gpt2.checks import check
check("one", torch.ones(1), torch.ones(1))
assert "transformers" not in sys.modules
"""
    run(code)
