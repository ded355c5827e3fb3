"""Execute chapters in place, so that running twice writes the same bytes.

    python tools/run_chapters.py             all of them
    python tools/run_chapters.py 06 07 -j 2  these, two at once

A chapter is written only if every cell ran. What stays: sources, outputs,
counts 1..n, `tags`. What goes: other cell metadata, timings, widget state,
language versions. A chapter's kernel ends with it, however it ended; Ctrl-C ends all.
"""
import argparse
import asyncio
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
SECONDS = 900      # a cell may take so long
RUNNING = set()    # the managers of the kernels that are at work


class Kernel(AsyncKernelManager):
    """The interpreter that runs this file, whatever kernels are installed."""

    @property
    def kernel_spec(self):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f",
                "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(argv=argv, display_name="Python 3",
                          language="python")


class Failed(Exception):
    """A chapter that did not run: its name, the cell and the error."""


def execute(path):
    """Run one chapter; return its new text, or raise Failed."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception as error:
        raise Failed(f"{path.name}: not a notebook: {error}")
    manager = Kernel(kernel_name="python3")
    client = NotebookClient(
        notebook, km=manager, record_timing=False, timeout=SECONDS,
        shutdown_kernel="immediate",
        resources={"metadata": {"path": str(path.parent)}})
    at = ["before the first cell"]
    client.on_cell_start = lambda cell, cell_index: at.__setitem__(
        0, f"cell {cell_index + 1} ({cell.get('id', 'no id')})")
    RUNNING.add(manager)
    try:
        # cleanup_kc: else a client leaves the kernel of a given manager alive
        client.execute(cleanup_kc=True, env={**os.environ, **ENVIRONMENT})
    except CellExecutionError as error:
        trace = re.sub(r"\x1b\[[0-9;]*m", "", error.traceback).rstrip()
        raise Failed(f"{path.name}, {at[0]}: {error.ename}: {error.evalue}"
                     f"\n{trace}")
    except Exception as error:
        raise Failed(f"{path.name}, {at[0]}: {type(error).__name__}: {error}")
    finally:
        RUNNING.discard(manager)
    return clean(notebook)


def clean(notebook):
    """The text of an executed notebook, without what varies."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata.clear()
        if tags:
            cell.metadata["tags"] = tags
        if cell.cell_type == "code":
            cell.outputs = merged(cell.outputs)
    number = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # an empty cell is not executed: it counts all the same
            number += 1
            cell.execution_count = number
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = number
    notebook.metadata.clear()
    notebook.metadata.update(
        kernelspec={"display_name": "Python 3", "language": "python",
                    "name": "python3"},
        language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def merged(outputs):
    """Prints that arrived in pieces, put together: pieces vary by run."""
    result = []
    for output in outputs:
        if (output.output_type == "stream" and result
                and result[-1].output_type == "stream"
                and result[-1].name == output.name):
            result[-1].text += output.text
        else:
            result.append(output)
    return result


def find(word):
    """`06`, `05_attention` or a path → the chapter's path."""
    path = Path(word)
    if path.suffix == ".ipynb":
        if not path.exists():
            sys.exit(f"no chapter {word}")
        return path.resolve()
    matches = sorted(CHAPTERS.glob(f"{word.zfill(2)}*.ipynb"))
    if len(matches) != 1:
        sys.exit(f"no chapter {word}: chapters/ has "
                 + ", ".join(p.stem for p in sorted(all_chapters())))
    return matches[0]


def all_chapters():
    return sorted(CHAPTERS.glob("[0-9][0-9]_*.ipynb"))


def refresh(path):
    """Execute, then write; → what to say and whether it went well."""
    start, old = time.perf_counter(), path.read_bytes()
    try:
        new = execute(path).encode("utf-8")
    except Failed as error:
        return False, f"FAILED  {error}"
    if new != old:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(new)
        temporary.replace(path)
    change = "changed" if new != old else "same"
    seconds = time.perf_counter() - start
    return True, f"{change:7} {path.name}  {seconds:.0f} s"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER",
                        help="a number (06), a name or a path; default: all")
    parser.add_argument("-j", "--jobs", type=int, default=1)
    args = parser.parse_args()
    paths = [find(word) for word in args.chapters] or all_chapters()
    failed, pool = False, ThreadPoolExecutor(args.jobs)
    try:
        for ok, line in pool.map(refresh, paths):
            failed |= not ok
            print(line, flush=True)
    except KeyboardInterrupt:
        stop(pool)
        sys.exit(130)
    sys.exit(failed)


def stop(pool):
    """Begin no other chapter, and end those that run."""
    pool.shutdown(wait=False, cancel_futures=True)
    while RUNNING:
        for manager in list(RUNNING):
            with suppress(RuntimeError):    # not yet started, or gone
                asyncio.run(manager.signal_kernel(signal.SIGKILL))
        time.sleep(0.1)


if __name__ == "__main__":
    main()
