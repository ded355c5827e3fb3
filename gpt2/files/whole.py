"""Whole or nothing: files, folders and JSON that are never half there."""
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gpt2.files.errors import CheckpointError, DataError

SUMS = "checksums.json"


# --- files ------------------------------------------------------------------
@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path to write to: all of the file appears at `path`, or nothing.

    What was at `path` before stays there until the new file is complete,
    whatever happens meanwhile: an exception, a killed process, a power cut.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        sync(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """A text as UTF-8, whole, with the same bytes on every system."""
    with written_whole(path) as beside:
        beside.write_bytes(text.encode("utf-8"))


@contextmanager
def written_together(directory: str | Path, names: Iterable[str],
                     stale: Iterable[str] = ()) -> Iterator[list[Path]]:
    """Paths to write to, one for each file name of `directory`.

    The files appear there at the end, and those of `stale` go, or nothing
    happens after an error. CheckpointError if they cannot be written.
    """
    from safetensors import SafetensorError
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            yield [stack.enter_context(written_whole(directory / name))
                   for name in names]
        for name in stale:
            (directory / name).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory} cannot be written: {error}."
                              " Is there room, and the right to write?"
                              ) from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    if os.name == "nt" and path.is_dir():    # Windows cannot, need not
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- folders ----------------------------------------------------------------
@contextmanager
def written_directory(path: Path) -> Iterator[Path]:
    """A directory to fill: all of it appears at `path`, or nothing.

    `path` must not exist, or be an empty directory.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        if path.exists():
            path.rmdir()                 # OSError unless it is empty
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def saved_directory(path: Path) -> Iterator[Path]:
    """A directory to fill: all of it appears at `path`, or nothing.

    Adds checksums of its files, see `require_whole`. A power cut does not
    tear it either.
    """
    with written_directory(path) as beside:
        yield beside
        write_json(beside / SUMS, file_sums(beside))
        for file in (*beside.iterdir(), beside):
            sync(file)
    sync(path.parent)


def file_sum(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_sums(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a directory, by name; not of SUMS itself."""
    names = sorted(p.name for p in directory.iterdir() if p.name != SUMS)
    return {name: file_sum(directory / name) for name in names}


def require_whole(directory: Path, remedy: str) -> None:
    """DataError unless the files are those that `saved_directory` wrote."""
    try:
        whole = file_sums(directory) == json.loads(
            (directory / SUMS).read_text("utf-8"))
    except (OSError, ValueError):
        whole = False
    if not whole:
        raise DataError(f"{directory} is damaged. {remedy}")


def remove_directory(path: Path) -> None:
    """Take its name away first: nothing half removed looks whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.gone")
    os.replace(path, aside)
    shutil.rmtree(aside)


def remove_leftovers(*folders: Path) -> None:
    """Remove what killed processes left half written or half removed.

    Their names hold the process's number; living processes keep theirs.
    """
    for folder in folders:
        for path in [*folder.glob(".*.tmp"), *folder.glob(".*.gone")]:
            number = path.name.split(".")[-2]
            if number.isdigit() and not is_alive(int(number)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_alive(number: int) -> bool:
    """Does another process with this number exist?"""
    if number == os.getpid() or os.name == "nt":   # there a signal would end
        return number != os.getpid()               # it: leave its files
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:                        # somebody else's
        pass
    return True


# --- JSON -------------------------------------------------------------------
def write_json(path: Path, data: dict) -> None:
    """JSON with the same bytes on every system."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    path.write_bytes(text.encode("utf-8"))


def read_object(path: Path) -> dict:
    """The object in a JSON file in UTF-8, with or without a byte order mark.

    ValueError, naming the file, for anything else; OSError without a file.
    """
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"),
                          object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object")
    return data


def _no_twins(pairs: list[tuple]) -> dict:
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin!r} stands twice")
    return data


def read_json(path: Path) -> dict:
    """The object in a JSON file. CheckpointError for anything else."""
    examine(path)
    try:
        return read_object(path)
    except ValueError as error:
        raise CheckpointError(f"{error}. Fetch it again.") from None


def examine(path: Path) -> bytes:
    """The first bytes of a file; CheckpointError if it is no real file."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be opened:"
                              f" {error.strerror}.") from None
    if not start:
        raise CheckpointError(f"{path} is empty. Fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is a Git LFS pointer, not the file itself. Run `git lfs"
            " pull` in its repository, or download the file.")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml)", start,
                re.IGNORECASE):
        raise CheckpointError(
            f"{path} is a web page. Download the file itself: its address"
            " has `resolve` where that of the page has `blob`.")
    return start
