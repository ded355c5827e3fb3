"""Work on documents in several processes, given back in their order."""
import os
import pickle
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from multiprocessing import get_context, parent_process, spawn
from pathlib import Path

from gpt2.files.errors import DataError
from gpt2.files.text import Document

GROUP = 2 ** 19                          # characters
_work: Callable | None = None            # of a worker process


def each_document(work: Callable[[list[str]], list],
                  documents: Iterable[Document], workers: int = 1,
                  doing: str = "works") -> Iterator[tuple[Document, object]]:
    """(document, what work makes of its text) in the order of the documents.

    work: from several texts to a list, picklable. workers > 1: in that many
    processes; a DataError if one dies.
    """
    for group, results in in_order(work, in_groups(documents), workers,
                                   doing):
        yield from zip(group, results)


def in_groups(documents: Iterable[Document],
              limit: int = GROUP) -> Iterator[list[Document]]:
    """Lists of consecutive documents, each of about `limit` characters."""
    group, total = [], 0
    for document in documents:
        group.append(document)
        total += len(document.text)
        if total >= limit:
            yield group
            group, total = [], 0
    if group:
        yield group


def in_order(work: Callable, groups: Iterable[list[Document]], workers: int,
             doing: str) -> Iterator[tuple[list[Document], list]]:
    """(group, the work on its texts) in the order of the groups.

    Never more than two groups a process are away, so the memory does not
    grow with the corpus.
    """
    if workers == 1:
        yield from ((group, work(texts_of(group))) for group in groups)
        return
    try:
        with tempfile.TemporaryDirectory() as home:
            # in a file: a pipe has no room for it, and a worker that dies
            # too early would leave us writing for ever
            path = Path(home, "work.pickle")
            path.write_bytes(pickle.dumps(work))
            with futures.ProcessPoolExecutor(
                    workers, get_context("spawn"), start_worker,
                    (path,)) as pool:
                yield from taken_back(pool, groups, 2 * workers)
    except futures.BrokenExecutor:
        raise DataError(f"a process that {doing} has died: killed, perhaps"
                        " for want of memory (try fewer workers), or the"
                        " script that began it lacks"
                        ' `if __name__ == "__main__":`.') from None


def texts_of(group: list[Document]) -> list[str]:
    """The texts of some documents."""
    return [document.text for document in group]


def taken_back(pool: futures.Executor, groups: Iterable[list[Document]],
               most: int) -> Iterator[tuple[list[Document], list]]:
    """(group, result) as they came, with at most `most` of them away."""
    away = deque()
    for group in groups:
        away.append((group, pool.submit(do, texts_of(group))))
        if len(away) >= most:
            group, future = away.popleft()
            yield group, future.result()
    for group, future in away:
        yield group, future.result()


def start_worker(path: Path) -> None:
    """Runs first in every worker process: read what to do, watch.

    Ctrl-C, which a terminal sends to all processes, is left to the parent.
    """
    global _work
    _work = pickle.loads(path.read_bytes())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait until the parent process is gone, then go too."""
    parent_process().join()
    os._exit(1)


def do(texts: list[str]) -> list:
    """The work of a worker process on some texts."""
    return _work(texts)


def require_no_worker() -> None:
    """RuntimeError in a worker that runs its parent's script again.

    A worker begins by importing the script that started it. Without
    `if __name__ == "__main__":` it would start workers of its own, or wait
    for a lock that its own parent holds.
    """
    spawn.get_preparation_data("")
