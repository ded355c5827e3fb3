"""One lock for a folder: wait for it, or be told that it is taken.

Where the system has no locks (some network disks), all go on without.
"""
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gpt2.files.errors import DataError


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock in the file `path`; False where there are no locks.

    While another process has it: wait, or else raise filelock.Timeout.
    """
    from filelock import FileLock, Timeout
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:                      # an OSError, too
        raise
    except (OSError, NotImplementedError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process at a time make the directory `path`; others wait.

    Then removes what a process that was killed has left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")) as held:
        left = rf"\.{re.escape(path.name)}\.\d+\.tmp"
        for other in path.parent.iterdir() if held else ():
            if re.fullmatch(left, other.name):
                shutil.rmtree(other)
        yield


@contextmanager
def alone(folder: Path, doing: str) -> Iterator[None]:
    """Let no other process be `doing` the same in this folder; make it.

    Raises DataError if one is. If nothing came of it, nothing is left.
    """
    from filelock import Timeout
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / ".lock", wait=False))
        except Timeout:
            raise DataError(f"{folder}: another process is {doing} in this"
                            " folder now.") from None
        try:
            yield
        finally:
            _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder in which there is nothing but locks."""
    locks = {".data.lock", ".lock"}
    if {path.name for path in folder.iterdir()} <= locks:
        with suppress(OSError):
            for name in sorted(locks):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
