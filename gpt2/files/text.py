"""Finding and reading text: documents out of files and folders."""
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gpt2.files.errors import DataError


class Document(NamedTuple):
    """One text of a corpus: a source file, an article, a line of .jsonl.

    The text is None where a file is not UTF-8. held_out: None as long as
    the sides are not chosen.
    """
    name: str
    text: str | None
    held_out: bool | None = None

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the text, which is its identity under any name."""
        return hashlib.sha256(self.text.encode("utf-8")).digest()


def as_text(data: bytes) -> str:
    r"""UTF-8 as a text with \n line ends on every system, without a BOM.

    Raises UnicodeDecodeError. Training and measuring both read so.
    """
    return data.decode("utf-8-sig").replace("\r\n", "\n")


def read_text(path: Path) -> str | None:
    """A file's text, see `as_text`; None where it is not UTF-8."""
    try:
        return as_text(path.read_bytes())
    except UnicodeDecodeError:
        return None


def read_lines(path: str | Path) -> list[str]:
    r"""The lines of a file, without their \n; see `as_text`. DataError: not
    UTF-8."""
    data = Path(path).read_bytes()
    try:
        text = as_text(data)
    except UnicodeDecodeError as error:
        byte = len(data) - len(error.object) + error.start
        raise DataError(f"{path} is not UTF-8 at byte {byte}; convert it"
                        " first.") from None
    return text.removesuffix("\n").split("\n") if text else []


def read_jsonl(path: Path, name: str) -> Iterator[Document]:
    """One document a line, {"text": "...", ...}; blank lines do not count.

    Raises DataError, naming the line, where there is anything else.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    text = json.loads(line.decode("utf-8-sig"))["text"]
                    text.encode("utf-8")       # refuses a lone surrogate
                except (ValueError, LookupError, TypeError, AttributeError,
                        RecursionError):
                    raise DataError(f"{path}, line {number}: expected"
                                    ' {"text": "..."}, one JSON object a'
                                    " line, in UTF-8.") from None
                yield Document(f"{name}:{number}", text)


def read_files(paths: Iterable[Path],
               base: str | Path | None = None) -> Iterator[Document]:
    """Each file as a document named by its path below base, or below the
    folder that holds all of them.

    Of a .jsonl file, each line. Raises DataError for a bad line.
    """
    paths = list(paths)
    if base is None:
        base = os.path.commonpath([path.parent for path in paths])
    for path in paths:
        name = Path(os.path.relpath(path, base)).as_posix()
        if path.suffix.lower() == ".jsonl":
            yield from read_jsonl(path, name)
        else:
            yield Document(name, read_text(path))


TEXT_FILES = (".py", ".txt", ".md", ".rst", ".jsonl")


def find_files(pattern: str) -> list[Path]:
    """The files that a path, a folder or a glob names, sorted.

    Of a folder: those with a suffix in TEXT_FILES, at any depth, without
    hidden ones. Empty where there are none.
    """
    path = Path(pattern).expanduser()
    if path.is_dir() and pattern:
        found = [p for p in path.rglob("*")
                 if p.suffix.lower() in TEXT_FILES and not any(
                     part.startswith(".")
                     for part in p.relative_to(path).parts)]
    else:
        found = [path] if path.is_file() else map(
            Path, glob.glob(str(path), recursive=True))
    return sorted((p for p in found if p.is_file()), key=Path.as_posix)
