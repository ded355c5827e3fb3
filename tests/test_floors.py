"""Modules import only from floors below their own; importing gpt2 is light."""
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpt2

PACKAGE = Path(gpt2.__file__).parent

# The floors of the house: chapter NN_name exports gpt2/name.py.
FLOORS = {
    "config": 0, "checks": 0, "tokenizer": 0, "embeddings": 0, "conv1d": 0,
    "attention": 1, "feed_forward": 1, "kv_cache": 1,
    "block": 2,
    "model": 3, "counting": 3,
    "pretrained": 4, "generation": 4, "data": 4,
    "training": 5, "zero_shot": 5, "inside": 5,
    "scaling": 6,
}
# What a module may import besides torch when it is itself imported.
MORE = {"tokenizer": {"regex"}, "data": {"tqdm"}, "training": {"tqdm"},
        "zero_shot": {"tqdm"}}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py")
                 if not path.stem.startswith("__"))


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
                found.add(rest.partition(".")[0])
    # `from gpt2 import X` reads __init__, which imports everything.
    return {name if name in FLOORS else "__init__" for name in found
            if name or found == {""}}


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
    assert imported("from . import checks") == {"checks"}
    assert "__init__" in imported("from gpt2 import GPT2")
    assert imported("import torch") == set()
    source = "import torch\ndef f():\n    import transformers"
    assert other_packages(source) == {"torch"}


@pytest.mark.parametrize("name", MODULES)
def test_floor(name):
    assert name in FLOORS, f"gpt2/{name}.py has no floor in this test's table"
    source = (PACKAGE / f"{name}.py").read_text("utf-8")
    for other in imported(source):
        assert other in FLOORS, f"{name} imports gpt2.{other}"
        assert FLOORS[other] < FLOORS[name], (
            f"{name} (floor {FLOORS[name]}) imports {other}"
            f" (floor {FLOORS[other]}): only lower floors may be imported")


@pytest.mark.parametrize("name", MODULES)
def test_imports_little(name):
    source = (PACKAGE / f"{name}.py").read_text("utf-8")
    assert other_packages(source) <= {"torch"} | MORE.get(name, set())


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True,
                          capture_output=True, text=True).stdout


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
