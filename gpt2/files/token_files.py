"""Token ids on disk: a prepared folder with shards of .safetensors.

manifest.json says what was asked for, counts everything and names each shard
with its checksum; documents.jsonl lists the documents. A tokenizer is known
by its fingerprint alone, a string.
"""
import hashlib
import json
import platform
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path

from gpt2.files.errors import DataError
from gpt2.files.locks import one_at_a_time
from gpt2.files.text import Document
from gpt2.files.whole import (file_sum, read_object, sync, write_text,
                              written_directory, written_whole)

SPLITS = ("train", "validation")
MANIFEST, LISTING = "manifest.json", "documents.jsonl"
VERSION = 3                      # of the folder; 1 and 2 had another format
AGAIN = "Remove the directory and prepare the corpus again."
TENSOR, DTYPES = "tokens", {"H": "uint16", "i": "int32"}
SHARD_TOKENS = 2 ** 26           # of a shard, which waits in memory


def typecode(vocab_size: int) -> str:
    """Of an `array` of ids: 16 bits where all fit, as GPT-2's do; else 32."""
    return "H" if vocab_size <= 2 ** 16 else "i"


# --- shards -----------------------------------------------------------------
class ShardWriter:
    """Writes one split as shards of at most `limit` tokens each."""

    def __init__(self, directory: Path, split: str, fingerprint: str,
                 limit: int = SHARD_TOKENS):
        if limit < 1:
            raise ValueError(f"shards of {limit} tokens; at least 1.")
        self.directory, self.split, self.limit = directory, split, limit
        self.fingerprint = fingerprint
        self.shards, self.waiting = {}, None     # {name: SHA-256 in hex}

    def add(self, ids: array) -> None:
        """Append token ids; write each shard that is full."""
        if self.waiting is None:
            self.waiting = array(ids.typecode)
        self.waiting.extend(ids)
        while len(self.waiting) >= self.limit:
            self._write(self.waiting[:self.limit])
            self.waiting = self.waiting[self.limit:]

    def close(self) -> dict[str, str]:
        """Write the last shard; return {name: checksum} of all."""
        if self.waiting:
            self._write(self.waiting)
            self.waiting = None
        return self.shards

    def _write(self, ids: array) -> None:
        path = self.directory / f"{self.split}-{len(self.shards):05}" \
                                ".safetensors"
        write_shard(path, ids, self.fingerprint)
        self.shards[path.name] = file_sum(path)


def write_shard(path: Path, ids: array, fingerprint: str) -> None:
    """Token ids and their tokenizer's fingerprint, until on the disk."""
    import numpy
    from safetensors import SafetensorError
    from safetensors.numpy import save_file
    tokens = numpy.frombuffer(ids, DTYPES[ids.typecode])
    try:
        save_file({TENSOR: tokens}, path, {"tokenizer": fingerprint})
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    sync(path)


def open_shard(path: Path, fingerprint: str):
    """The tokens of a shard: [a:b] reads some, as a NumPy array.

    The file is mapped, so nothing else of it is read. Raises DataError for
    a file that is cut off, or made with another tokenizer.
    """
    from safetensors import SafetensorError, safe_open
    if sys.byteorder != "little":
        raise DataError("shards are written and read by little-endian"
                        " machines only; this one is not.")
    try:
        file = safe_open(path, "np")
        made_with = (file.metadata() or {}).get("tokenizer")
        tokens = file.get_slice(TENSOR)
        (count,), kind = tokens.get_shape(), str(tokens[:1].dtype)
    except (OSError, SafetensorError, ValueError) as error:
        raise DataError(f"{path} is no shard of tokens, cut off or damaged"
                        f" ({error}). {AGAIN}") from None
    if made_with != fingerprint:
        raise DataError(f"{path} was made with another tokenizer: its ids"
                        " mean something else. Name the corpus itself"
                        " instead, or prepare it again.")
    if not count or kind not in DTYPES.values():
        raise DataError(f"{path} holds {count} tokens of {kind}. {AGAIN}")
    return tokens


class Split:
    """The shards of one split of a prepared folder: one long sequence.

    Each is read once, to compare its checksum with the manifest's. Raises
    DataError where one is damaged, missing, or of another tokenizer.
    """

    def __init__(self, directory: Path, split: str, fingerprint: str):
        manifest = read_manifest(directory)
        if split not in SPLITS:
            raise DataError(f"no split {split!r}; there are {SPLITS}.")
        shards = manifest["shards"][split]
        require_shards(directory, shards)
        self.left_out = manifest["left_out"]     # documents, by reason
        self.fingerprint = hashlib.sha256(
            "".join(shards.values()).encode("ascii")).hexdigest()
        self.shards = [open_shard(directory / name, fingerprint)
                       for name in shards]
        self.starts = [0, *accumulate(
            shard.get_shape()[0] for shard in self.shards)]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, place: slice):
        """The ids of [start:stop] as one int64 array, across shards."""
        import numpy
        start, stop, _ = place.indices(len(self))
        parts = [shard[max(start - first, 0):min(stop, end) - first]
                 for shard, first, end in zip(
                     self.shards, self.starts, self.starts[1:])
                 if start < end and first < stop]
        return numpy.concatenate([numpy.empty(0, "int64"), *parts])


def require_shards(directory: Path, shards: dict[str, str]) -> None:
    """DataError unless the files have the manifest's checksums."""
    for name, checksum in shards.items():
        path = directory / name
        if not path.is_file():
            raise DataError(f"{path} is missing. {AGAIN}")
        if file_sum(path) != checksum:
            raise DataError(f"{path} is damaged, or another file than"
                            f" {MANIFEST} names. {AGAIN}")


# --- the folder -------------------------------------------------------------
def describe(document: Document, ids: array) -> dict:
    """The line of documents.jsonl for one document."""
    return {"name": document.name, "sha256": document.digest.hex(),
            "bytes": len(document.text.encode("utf-8")), "tokens": len(ids),
            "split": SPLITS[document.held_out]}


def with_bar(encoded: Iterable[tuple[Document, array]],
             source: str) -> Iterator[tuple[Document, array]]:
    """The same, with a bar on the terminal, in bytes of text."""
    from tqdm import tqdm
    with tqdm(unit="B", unit_scale=True, disable=None,
              desc=f"tokenizing {source}") as bar:
        for document, ids in encoded:
            yield document, ids
            bar.update(len(document.text.encode("utf-8")))


def write_corpus(directory: Path,
                 encoded: Iterable[tuple[Document, array]], fingerprint: str,
                 limit: int = SHARD_TOKENS) -> dict:
    """Write shards and listing; what the manifest says of them."""
    writers = {split: ShardWriter(directory, split, fingerprint, limit)
               for split in SPLITS}
    counts = {name: dict.fromkeys(SPLITS, 0)
              for name in ("documents", "bytes", "tokens")}
    with written_whole(directory / LISTING) as path, \
            open(path, "w", encoding="utf-8", newline="\n") as listing:
        for document, ids in encoded:
            row = describe(document, ids)
            writers[row["split"]].add(ids)
            listing.write(json.dumps(row) + "\n")
            for name in counts:
                counts[name][row["split"]] += row.get(name, 1)
    return {"shards": {split: writer.close()
                       for split, writer in writers.items()}, **counts,
            "listing": file_sum(directory / LISTING),
            "python": platform.python_version()}


def prepared(directory: Path, asked: dict,
             fill: Callable[[Path], dict]) -> dict:
    """The manifest of a directory that holds what is asked for.

    Where there is none, fill writes into a directory beside it and returns
    the rest of the manifest; all appears at once. One process at a time.
    """
    if not (directory / MANIFEST).exists():
        with one_at_a_time(directory):
            if not (directory / MANIFEST).exists():  # made while we waited?
                write_prepared(directory, asked, fill)
    return check_manifest(directory, asked)


def write_prepared(directory: Path, asked: dict,
                   fill: Callable[[Path], dict]) -> None:
    """Fill the directory of a corpus and let it appear. See `prepared`."""
    if directory.exists() and (not directory.is_dir()
                               or any(directory.iterdir())):
        raise DataError(f"{directory} exists and holds no prepared corpus."
                        " Choose another, or remove it.")
    with written_directory(directory) as beside:
        manifest = {"version": VERSION, **asked, **fill(beside)}
        require_both(manifest)
        write_text(beside / MANIFEST, json.dumps(manifest, indent=2))


def require_both(manifest: dict) -> None:
    """DataError for a corpus without text on one of its two sides."""
    for split, shards in manifest["shards"].items():
        if not shards:
            raise DataError(
                f"{manifest['source']!r} has no text for the {split} split"
                f" with held_out={manifest['held_out']}; documents left out:"
                f" {manifest['left_out'] or 'none'} (copied: they are in"
                " training text). Give more or other text.")


def read_manifest(directory: Path) -> dict:
    """The manifest of a prepared directory; DataError if it has none."""
    path = directory / MANIFEST
    try:
        manifest = read_object(path)
        manifest["left_out"].items()
        for split in SPLITS:
            for name in manifest["shards"][split].keys():
                if Path(name).name != name:
                    raise ValueError(f"{name!r} is outside of the folder")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{directory} holds no prepared corpus: it has no"
                        f" {MANIFEST}. Call prepare(...) first.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged. {AGAIN}") from None
    if manifest.get("version") != VERSION:
        raise DataError(f"{directory} was prepared by another version of"
                        f" this package: format {manifest.get('version')},"
                        f" this one reads {VERSION}. {AGAIN}")
    return manifest


def check_manifest(directory: Path, asked: dict) -> dict:
    """The manifest, if the directory is of what is asked; or DataError."""
    manifest = read_manifest(directory)
    for key, value in asked.items():
        if manifest.get(key) != value:
            raise DataError(f"{directory} was prepared with {key}"
                            f" {manifest.get(key)!r}, not {value!r}. Remove"
                            " it, or choose another directory.")
    return manifest


def check_position(saved: dict, mine: dict) -> None:
    """DataError unless a saved position fits these batches."""
    for key in mine:
        if key != "taken" and saved.get(key) != mine[key]:
            raise DataError(f"the saved position is for {key}"
                            f" {saved.get(key)}; these batches have"
                            f" {mine[key]}. Resume with the same data,"
                            " seed and sizes.")
    taken = saved.get("taken")
    if not isinstance(taken, int) or taken < 0:
        raise DataError(f"the saved position has taken = {taken!r}; expected"
                        " the number of batches so far.")
