"""tools/portability.py on a book of two small chapters."""
import functools
import importlib.util
import os
import shutil
import subprocess
import sys

import pytest
from notebooks import code, write

pytest.importorskip("nbval")

LEVEL = "import torch\nprint(torch.backends.cpu.get_cpu_capability())"
ROUNDED = """\
torch.manual_seed(0)
x = torch.randn(300, 300)
print((x @ x).softmax(-1).sum(0).tolist())"""
THREADS = "print(torch.get_num_threads())"
HASHED = "print(hash('a'))"
PLACE = "import os\nprint(os.path.dirname(os.getcwd()))"
HERE = "import gpt2\nprint(len(gpt2.__file__) > 3)"
# Stands where torch stands, and obeys nothing.
STUBBORN = """\
class backends:
    class cpu:
        get_cpu_capability = staticmethod(lambda: {!r})
get_num_threads = lambda: {}
"""


@pytest.fixture
def book(root, tmp_path):
    """A checkout with the tool, a package and no chapter."""
    for name in ("tools/portability.py", "tools/run_chapters.py",
                 "tests/nbval_sanitize.cfg", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    for name in "gpt2", "chapters":
        (tmp_path / name).mkdir()
    (tmp_path / "gpt2/__init__.py").write_text("")
    return tmp_path


def run(book, tool="portability", *words):
    done = subprocess.run(
        [sys.executable, book / f"tools/{tool}.py", *words],
        capture_output=True, text=True, encoding="utf-8", timeout=300,
        env={**os.environ, "PYTHONPATH": str(book), "PYTHONHASHSEED": "0"})
    return done.returncode, done.stdout.splitlines(), done.stderr


def plant(book, name, *cells):
    write(book / f"chapters/{name}.ipynb",
          *(code(id, source) for id, source in cells))


def test_red_where_a_page_is_the_machines_own(book):
    plant(book, "01_own", ("level", LEVEL), ("rounded", ROUNDED),
          ("threads", THREADS), ("hashed", HASHED), ("place", PLACE))
    plant(book, "02_everyones", ("here", HERE))
    assert run(book, "run_chapters")[0] == 0
    status, lines, error = run(book)
    assert status == 1 and error == "", error
    said = {line[:12].strip(): line[12:].strip() for line in lines
            if "_build" not in line}
    assert list(said) == ["no AVX", "AVX2", "two threads", "elsewhere"]
    red = {name: {words.split()[-1] for words in line.split("  ")[1:]}
           for name, line in said.items()}
    assert "02_everyones" not in "".join(lines)
    assert red["two threads"] >= {"RED", "threads"}
    assert red["elsewhere"] == {"RED", "hashed", "place"}
    assert said["elsewhere"].startswith("4 passed, 2 failed, ")
    if "skipped" not in said["AVX2"]:
        assert red["no AVX"] == {"RED", "level", "rounded"}
    log = (book / "_build/portability-elsewhere.log").read_text("utf-8")
    assert "so to say à part" in log
    assert sorted(os.listdir(book)) == [
        "_build", "chapters", "gpt2", "pyproject.toml", "tests", "tools"]


def test_one_chapter_that_is_right(book):
    plant(book, "01_own", ("hashed", HASHED))
    plant(book, "02_everyones", ("here", HERE))
    assert run(book, "run_chapters", "02")[0] == 0
    (book / "torch.py").write_text(STUBBORN.format(
        "DEFAULT", "__import__('os').environ['OMP_NUM_THREADS']"))
    status, lines, error = run(book, "portability", "2")
    assert (status, error) == (0, "")
    assert all("1 passed, 0 failed, " in line and "RED" not in line
               for line in lines if "skipped: " not in line)
    assert [line[:12].strip() for line in lines if "skipped: " not in line][
        -2:] == ["two threads", "elsewhere"]
    assert run(book, "portability", "3") == (1, [], "no chapter 3\n")


def test_red_where_it_did_not_take(book):
    plant(book, "01_own", ("hashed", HASHED))
    (book / "torch.py").write_text(STUBBORN.format("AVX512", 7))
    status, lines, _ = run(book)
    assert status == 1 and [line[12:].strip() for line in lines[-2:]] == [
        "RED: torch took 7 threads"] * 2
    if "skipped" not in lines[0]:
        assert [line[12:].strip() for line in lines[:2]] == [
            f"RED: torch was asked for {level} and took AVX512"
            for level in ("DEFAULT", "AVX2")]


def test_obstacles(root, book, monkeypatch):
    spec = importlib.util.spec_from_file_location(
        "portability", root / "tools/portability.py")
    portability = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(portability)
    environment = {**os.environ, "PYTHONPATH": str(book),
                   "OMP_NUM_THREADS": "1"}
    (book / "torch.py").write_text(STUBBORN.format("DEFAULT", 1))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    ask = functools.partial(portability.obstacle, root=book,
                            environment=environment)
    assert ask("DEFAULT") is None and ask(None) is None
    assert ask("AVX2") == "skipped: this processor knows DEFAULT at most"
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert ask("DEFAULT") == "skipped: arm64 has no such instructions"
    assert ask(None) is None
    # another package of that name, and one that cannot be imported
    (book / "gpt2/__init__.py").write_text(
        "import sys\n__file__ = sys.executable")
    assert ask(None) == f"RED: gpt2 was not imported from {book}"
    (book / "gpt2/__init__.py").write_text("import no_such_package")
    assert ask(None).startswith("RED: ModuleNotFoundError: No module named")
