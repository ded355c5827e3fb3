"""tools/run_chapters.py on notebooks of a few cells."""
import json
import subprocess
import sys

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
