"""The one downloader: files of the net, by checksum, into a cache."""
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from gpt2.files.errors import DataError
from gpt2.files.whole import file_sum, sync


class Source(NamedTuple):
    """Where a file is had, and how it is recognized."""
    url: str
    sha256: str | None       # of the file itself; None: not known
    member: str = ""         # its name inside the .zip archive at url
    name: str = ""           # in the cache; none: its name there

    @property
    def path(self) -> Path:
        """Its place in the user's cache."""
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        name = self.name or Path(self.member or self.url).name
        return Path(cache, "gpt2-book", name)

    @property
    def by_hand(self) -> str:
        """What to do without this downloader."""
        unpack = f" unpack {self.member}," if self.member else ""
        return (f"Get {self.url} yourself,{unpack} and pass the path, or put"
                f" it at {self.path}.")


def fetch(source: Source) -> Path:
    """A file, downloaded once into the user's cache: all of it or nothing.

    Raises DataError where its SHA-256 is not known or another one.
    """
    path = source.path
    if source.sha256 is None:
        raise DataError(f"no checksum of {path.name} is known, so it is not"
                        f" downloaded. {source.by_hand}")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            found = download(source, Path(folder))
            require_sum(found, source, source.url)
            sync(found)
            os.replace(found, path)
    require_sum(path, source, str(path))
    return path


def download(source: Source, folder: Path) -> Path:
    """The file of a source, written into a folder."""
    import pooch
    pooch.get_logger().setLevel("WARNING")
    unzip = pooch.Unzip([source.member]) if source.member else None
    try:
        found = pooch.retrieve(
            source.url, None, source.path.name, folder, processor=unzip,
            downloader=pooch.HTTPDownloader(timeout=60))
        (found,) = found if source.member else [found]
    except Exception as error:       # of any of the libraries below it
        why = " ".join(str(error).split())           # in one line
        raise DataError(f"{source.path.name} could not be fetched ({why})."
                        f" {source.by_hand}") from None
    return Path(found)


def require_sum(path: Path, source: Source, where: str) -> None:
    """DataError unless the file has the source's checksum."""
    if file_sum(path) != source.sha256:
        raise DataError(f"{where} is not {source.path.name} as published:"
                        f" {path.stat().st_size:,} bytes with another"
                        f" SHA-256. If it is a file, remove it."
                        f" {source.by_hand}")
