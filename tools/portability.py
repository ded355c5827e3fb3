"""Run the chapters as `make test` does, on this machine as if on others.

    python tools/portability.py            all of them, in each variation
    python tools/portability.py 12 05      these

A page's outputs may not hang on how one processor rounds, on the number of
threads, or on the folder that the book lies in. Exit code 1 if one does.
"""
import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEVELS = ["DEFAULT", "AVX2", "AVX512"]     # torch's names, the lowest first
BASE = dict(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1",
            HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false",
            PYDEVD_DISABLE_FILE_VALIDATION="1")
# The level that torch must then say that it computes by, and what is set.
VARIATIONS = {
    "no AVX": ("DEFAULT", dict(
        ATEN_CPU_CAPABILITY="default", ONEDNN_MAX_CPU_ISA="SSE41",
        MKL_ENABLE_INSTRUCTIONS="SSE4_2")),
    "AVX2": ("AVX2", dict(
        ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2",
        MKL_ENABLE_INSTRUCTIONS="AVX2")),
    "two threads": (None, dict(OMP_NUM_THREADS="2")),
    # a copy of the checkout, in FOLDER
    "elsewhere": (None, dict(PYTHONHASHSEED="random", LC_ALL="C"))}
FOLDER = "a folder, so to say à part"
ASK = """import pathlib, sys, gpt2, torch
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),
      pathlib.Path(gpt2.__file__).parent.samefile(sys.argv[1]))"""


def obstacle(wanted, root, environment):
    """Why the chapters need not be run, or None; RED if it did not take."""
    if wanted and platform.machine().lower() not in ("x86_64", "amd64"):
        return f"skipped: {platform.machine()} has no such instructions"
    done = subprocess.run(
        [sys.executable, "-c", ASK, root / "gpt2"], cwd=root / "chapters",
        env=environment, capture_output=True, text=True)
    if done.returncode:
        return f"RED: {done.stderr.strip().splitlines()[-1]}"
    level, threads, own = done.stdout.split()
    if wanted and LEVELS.index(level) < LEVELS.index(wanted):
        return f"skipped: this processor knows {level} at most"
    if wanted not in (None, level):
        return f"RED: torch was asked for {wanted} and took {level}"
    if threads != environment["OMP_NUM_THREADS"]:
        return f"RED: torch took {threads} threads"
    if own != "True":
        return f"RED: gpt2 was not imported from {root}"


def red_cells(said, root):
    """`13_generation 78 training-mode` for each failure in pytest's words."""
    for stem, number in re.findall(
            r"^(?:FAILED|ERROR) chapters/(\w+)\.ipynb::Cell (\d+)", said, re.M):
        notebook = json.loads((root / f"chapters/{stem}.ipynb").read_bytes())
        ids = [cell["id"] for cell in notebook["cells"]
               if cell["cell_type"] == "code"]
        yield f"{stem} {number} {ids[int(number)]}"


def run(name, chapters, root, compiled):
    """Print how it went, on one line; → whether nothing went wrong."""
    (wanted, settings), start = VARIATIONS[name], time.perf_counter()
    # PyTorch keeps what it has compiled, and would take one arithmetic's
    # programs for another's.
    environment = {**os.environ, **BASE, **settings, "PYTHONPATH": str(root),
                   "TORCHINDUCTOR_CACHE_DIR": str(compiled)}
    if why := obstacle(wanted, root, environment):
        print(f"{name:12} {why}", flush=True)
        return why.startswith("skipped")
    # Threads without a core of their own wait for each other in a busy loop.
    at_once = min(len(chapters), 2, max(1, (os.cpu_count() or 1) // int(
        environment["OMP_NUM_THREADS"])))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "--color=no", "-p",
         "no:cacheprovider", "-n", str(at_once) if at_once > 1 else "0",
         *chapters], cwd=root, env=environment, capture_output=True,
        encoding="utf-8", errors="replace")
    passed, failed = (
        sum(map(int, re.findall(rf"(\d+) (?:{word})", done.stdout[-200:])))
        for word in ("passed", "failed|error"))
    good = done.returncode == 0 and passed > 0
    print(f"{name:12} {passed} passed, {failed} failed, "
          f"{time.perf_counter() - start:.0f} s",
          *([] if good else ["RED", *red_cells(done.stdout, root)]),
          sep="  ", flush=True)
    if not good:
        log = Path("_build", f"portability-{name.replace(' ', '-')}.log")
        (ROOT / log).parent.mkdir(exist_ok=True)
        (ROOT / log).write_text(done.stdout + done.stderr, "utf-8")
        print(f"{'':12} {log}", flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("chapters", nargs="*")
    chapters = []
    for word in parser.parse_args().chapters or ["[0-9][0-9]_"]:
        found = sorted((ROOT / "chapters").glob(f"{word.zfill(2)}*.ipynb"))
        chapters += [f"chapters/{path.name}" for path in found]
        found or sys.exit(f"no chapter {word}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve() / FOLDER
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(
            ".git", ".venv", "_build", "__pycache__"))
        good = [run(name, chapters, copy if name == "elsewhere" else ROOT,
                    Path(folder, name.replace(" ", "-")))     # g++ splits
                for name in VARIATIONS]
    sys.exit(not all(good))


if __name__ == "__main__":
    main()
