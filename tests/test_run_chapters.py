"""tools/run_chapters.py on notebooks of a few cells."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from notebooks import code, text, write

pytest.importorskip("nbclient")


def run(root, *args):
    done = subprocess.run(
        [sys.executable, root / "tools/run_chapters.py", *map(str, args)],
        capture_output=True, text=True, encoding="utf-8", timeout=120)
    return done.returncode, done.stdout + done.stderr


def chapter(path):
    return write(
        path, text("intro", "# 01 · Tiny"),
        code("colab", "import sys", metadata={"tags": ["remove-cell"],
                                              "collapsed": True}),
        code("print", "print('one', flush=True); print('two', flush=True)\n"
                      "print('err', file=sys.stderr)\nprint('three')"),
        code("environment", "import os\n"
             "print(os.environ['OMP_NUM_THREADS'], "
             "os.environ['HF_HUB_OFFLINE'], os.getcwd().rsplit('/')[-1])\n"
             "print(sys.executable)"),
        code("raises", "1 / 0", metadata={"tags": ["raises-exception"]}),
        code("value", "{'a': 1}"))


def test_twice_the_same_bytes(root, tmp_path):
    path = chapter(tmp_path / "chapters/01_tiny.ipynb")
    status, output = run(root, path)
    assert status == 0 and "changed" in output
    first = path.read_bytes()
    notebook = json.loads(first)
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]

    assert [c["execution_count"] for c in cells] == [1, 2, 3, 4, 5]
    assert [c["metadata"] for c in cells] == [
        {"tags": ["remove-cell"]}, {}, {}, {"tags": ["raises-exception"]}, {}]
    assert [c["id"] for c in cells] == ["colab", "print", "environment",
                                        "raises", "value"]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    outputs = cells[1]["outputs"]
    assert ("".join(t for o in outputs for t in o["text"]
                    if o["name"] == "stdout") == "one\ntwo\nthree\n")
    assert "".join(cells[2]["outputs"][0]["text"]) == (
        f"1 1 chapters\n{sys.executable}\n")
    assert cells[3]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert cells[4]["outputs"][0]["execution_count"] == 5

    status, output = run(root, path)
    assert status == 0 and "same" in output
    assert path.read_bytes() == first


def test_prints_in_pieces_are_one_output(root, tmp_path):
    path = write(tmp_path / "01_pieces.ipynb", code(
        "pieces", "import time\nfor i in range(3):\n"
                  "    print(i, flush=True)\n    time.sleep(0.3)"))
    assert run(root, path)[0] == 0
    (output,) = json.loads(path.read_text("utf-8"))["cells"][0]["outputs"]
    assert "".join(output["text"]) == "0\n1\n2\n"


def test_failure_leaves_the_file(root, tmp_path):
    good = chapter(tmp_path / "01_good.ipynb")
    bad = write(tmp_path / "02_bad.ipynb", code("fine", "x = 1"),
                code("breaks", "y = x + unknown"))
    before = bad.read_bytes()
    status, output = run(root, bad, good, "-j", "2")
    assert status == 1
    for words in ("02_bad.ipynb", "breaks", "NameError", "unknown"):
        assert words in output
    assert bad.read_bytes() == before
    assert json.loads(good.read_text("utf-8"))["cells"][1]["execution_count"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "01_good.ipynb", "02_bad.ipynb"]


def test_names_of_chapters(root):
    for word in ("99", "no_such", "no_such.ipynb"):
        status, output = run(root, word)
        assert status == 1 and f"no chapter {word}" in output


# A cell that writes down which process runs it, and says when it does.
NOTE = """import os, pathlib
pathlib.Path("{0}.pid.new").write_text(str(os.getpid()))
pathlib.Path("{0}.pid.new").rename("{0}.pid")"""
LEFT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import run_chapters
run_chapters.SECONDS = 2
for path in map(Path, sys.argv[2:]):
    print(run_chapters.refresh(path)[1].splitlines()[0])
input()
"""


def noted(path, *cells):
    """A notebook whose kernel leaves its number in STEM.pid."""
    return write(path, code("note", NOTE.format(path.stem)), *cells)


def alive(path):
    try:
        os.kill(int(path.with_suffix(".pid").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


def test_no_kernel_is_left(root, tmp_path):
    """Asked while run_chapters still lives: a kernel ends with its parent."""
    paths = [
        noted(tmp_path / "01_good.ipynb"),
        noted(tmp_path / "02_bad.ipynb", code("breaks", "1 / 0")),
        noted(tmp_path / "03_slow.ipynb", code("sleeps", "import time\n"
                                               "time.sleep(60)")),
        noted(tmp_path / "04_dead.ipynb", code("dies", "os._exit(3)"))]
    with subprocess.Popen(
            [sys.executable, "-c", LEFT, root / "tools", *paths], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL) as running:
        lines = [running.stdout.readline() for _ in paths]
        left = [path.stem for path in paths if alive(path)]
        running.communicate("\n", timeout=30)
    for line, word in zip(lines, ("changed", "ZeroDivisionError", "Timeout",
                                  "DeadKernelError")):
        assert word in line
    assert not left


def test_interrupted(root, tmp_path):
    """Ctrl-C ends what runs and begins nothing else."""
    sleeps = code("sleeps", "import time\ntime.sleep(60)")
    paths = [noted(tmp_path / f"{n:02d}_slow.ipynb", sleeps)
             for n in (1, 2, 3)]
    before = [path.read_bytes() for path in paths]
    with subprocess.Popen(
            [sys.executable, root / "tools/run_chapters.py", "-j", "2",
             *paths], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True) as running:
        while not all(p.with_suffix(".pid").exists() for p in paths[:2]):
            assert running.poll() is None
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        said, error = running.communicate(timeout=30)
    assert running.returncode == 130 and said == "" and error == "", error
    assert not any(map(alive, paths[:2]))
    assert not paths[2].with_suffix(".pid").exists()
    assert [path.read_bytes() for path in paths] == before
