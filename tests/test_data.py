"""Corpora, shards and batches: bad input, faults, processes that are killed."""
import hashlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from array import array
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import filelock
import pytest
import torch
import tqdm

from gpt2 import data
from gpt2.data import (Batches, GlobalBatches, Tokens, Trigram, WindowOrder,
                       documents, is_held_out, prepare, texts, token_sizes,
                       window_starts)
from gpt2.files import copies, corpora, download, processes, token_files
from gpt2.files.errors import DataError
from gpt2.files.text import Document, find_files, read_text
from gpt2.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SPLITS = ("train", "validation")
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.load(ROOT / "checkpoints" / "nano")


def fill(folder, count, words=30, seed=0):
    """A folder of `count` text files of random words."""
    rng = random.Random(seed)
    letters = "robot must obey the orders given it at night 12 ()=: é".split()
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        text = " ".join(rng.choices(letters, k=words)) + f" {n}\n"
        (folder / f"{n:05}.txt").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("corpus") / "text", 40)


@pytest.fixture(scope="module")
def prepared(corpus, tokenizer):
    """A directory with several shards a split."""
    directory = corpus.parent / "data"
    prepare(str(corpus), tokenizer, directory, held_out=0.3, shard_tokens=100)
    return directory


@pytest.fixture(scope="module")
def train(prepared, tokenizer):
    return Tokens(prepared, "train", tokenizer)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# ------------------------------------------------------------------- reading
def test_read_text(tmp_path):
    path = tmp_path / "a.txt"
    for stored, text in ((b"a\r\nb\n", "a\nb\n"), (b"", ""), (b"\xff", None),
                         (b"a\rb", "a\rb"), ("\ufeffé".encode(), "é"),
                         (b"\xed\xa0\x80", None), (b"\x00", "\x00")):
        path.write_bytes(stored)
        assert read_text(path) == text


@pytest.mark.parametrize("line", [
    b"{", b"[]", b'"text"', b"{}", b'{"text": 1}', b'{"text": null}', b"7",
    b'{"text": ["a"]}', rb'{"text": "\ud800"}', b'{"text": "\xff"}',
    b"\xff", b'{"text": "a"} x', b'["text"]', b"[" * 100_000])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\r\n\n' + line + b"\n")
    found = documents(str(path))
    assert next(found) == Document("a.jsonl:1", "fine")
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: expected"):
        next(found)


def test_jsonl(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_bytes('\ufeff{"text": "one\\nline"}\n\n'
                     '{"id": 3, "text": "\u2028two\\ud83e\\udd16"}'.encode())
    assert list(documents(str(path))) == [
        Document("a.jsonl:1", "one\nline"),
        Document("a.jsonl:3", "\u2028two🤖")]


def test_suffixes_in_any_case(tmp_path):
    """Of a folder and by name, a .JSONL is lines, a .PY stays whole."""
    (tmp_path / "a.JSONL").write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "b.Py").write_text("x = 1\n\n" * 20_000)
    for source in (tmp_path, tmp_path / "*"):
        assert [d.text[:3] for d in documents(str(source))] == [
            "one", "two", "x ="]


def test_find_files(tmp_path, monkeypatch):
    for name in ("b.py", "a/z.TXT", ".git/x.py", "a/.hidden.txt", "c.bin",
                 ".venv/lib/y.py", "d.py/e.md", "[x].txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def found(pattern):
        return [p.relative_to(tmp_path).as_posix()
                for p in find_files(str(pattern))]
    assert found(tmp_path) == ["[x].txt", "a/z.TXT", "b.py", "d.py/e.md"]
    assert found(tmp_path / "*.py") == ["b.py"]       # d.py is a folder
    assert found(tmp_path / "**/*.md") == ["d.py/e.md"]
    assert found(tmp_path / "c.bin") == ["c.bin"]     # asked for by name
    assert found(tmp_path / "[x].txt") == ["[x].txt"]
    assert found(tmp_path / ".git") == [".git/x.py"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [p.name for p in find_files("~/b.py")] == ["b.py"]
    assert [d.name for d in documents("b.py")] == ["b.py"]
    assert [d.name for d in documents("a")] == ["z.TXT"]
    for nothing in ("", "no", "*.no", str(tmp_path / "no/such")):
        with pytest.raises(DataError, match="names no file of text"):
            documents(nothing)


def test_passages():
    book = "".join(f"Line {n}.\n\n" for n in range(20_000))
    parts = list(corpora.passages(Document("book.txt", book)))
    assert "".join(p.text for p in parts) == book
    assert all(len(p.text) >= corpora.PASSAGE for p in parts[:-1])
    assert all(len(p.text) < corpora.PASSAGE + 20 for p in parts)
    assert len({p.name for p in parts}) == len(parts) > 10
    one, = corpora.passages(Document("a", "x" * 200_000))   # nowhere to cut
    assert one.text == "x" * 200_000
    for whole in (Document("book.py", book), Document("a", None),
                  Document("a", book[:corpora.LONG - 1])):
        assert list(corpora.passages(whole)) == [whole]


def test_documents_of_a_folder(tmp_path):
    folder = fill(tmp_path / "text", 3)
    (folder / "copy.txt").write_bytes((folder / "00001.txt").read_bytes())
    (folder / "dos.txt").write_bytes(
        (folder / "00001.txt").read_bytes().replace(b"\n", b"\r\n"))
    (folder / "empty.txt").touch()
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    (folder / "book.txt").write_text("robots obey\n\n" * 10_000)
    (folder / "book.py").write_text("# robots obey\n\n" * 10_000)
    left_out = Counter()
    found = list(documents(str(folder), left_out))
    names = [d.name for d in found]
    assert names[:4] == ["00000.txt", "00001.txt", "00002.txt", "book.py"]
    # this book repeats itself: its second passage is the first one again
    assert names[4] == "book.txt@0" and len(names) == 6
    assert left_out == {"copies": 2 + 11, "empty": 1, "not UTF-8": 1}
    assert names == [d.name for d in documents(str(folder))]


def test_a_file_name_that_is_not_utf8(tmp_path, tokenizer):
    folder = fill(tmp_path / "text", 30)
    try:
        Path(os.fsdecode(bytes(folder) + b"/caf\xe9.txt")).write_text("robot")
    except OSError:
        pytest.skip("this file system has no such names")
    prepare(str(folder), tokenizer, tmp_path / "data")
    names = [json.loads(line)["name"] for line in
             (tmp_path / "data/documents.jsonl").read_text().splitlines()]
    assert len(names) == 31 and "caf\udce9.txt" in names


# --------------------------------------------------------------- the corpora
def test_stdlib(monkeypatch, tmp_path):
    for name in ("a.py", "json/b.py", "test/c.py", "json/tests/d.py",
                 "site-packages/e.py", "config-3/f.py", "sitecustomize.py",
                 "_sysconfigdata_x.py", "__pycache__/g.py", "h.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda _: str(tmp_path))
    assert [d.name for d in documents("stdlib")] == ["a.py", "json/b.py"]
    assert [d.name for d in documents("stdlib+tests")] == [
        "a.py", "json/b.py", "json/tests/d.py", "test/c.py"]
    assert len(list(documents("site-packages"))) == 9


def test_the_frozen_tokenizer_reads_the_same_files(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import freeze_tokenizer
    assert list(freeze_tokenizer.sources()) == corpora.stdlib_files()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gpt2-book" / "shakespeare.txt"


def answer_with(monkeypatch, reply):
    """Let the downloader find these bytes; the addresses asked for."""
    asked = []

    def found(source, folder):
        asked.append(source.url)
        (folder / "found").write_bytes(reply)
        return folder / "found"
    monkeypatch.setattr(download, "download", found)
    return asked


def test_shakespeare_is_fetched_once(cache, monkeypatch):
    path = ROOT.parent / "shared/data/shakespeare"
    files = [p for p in path.glob("*") if p.stat().st_size > 1_000_000]
    if not files:
        pytest.skip("tiny Shakespeare is not in ../shared/data/shakespeare")
    asked = answer_with(monkeypatch, files[0].read_bytes())
    first, second = (list(documents("shakespeare")) for _ in range(2))
    assert asked == [corpora.SHAKESPEARE.url] and first == second
    assert "".join(d.text for d in first) == files[0].read_text("utf-8")
    held = sum(is_held_out(d.digest) for d in first)
    assert 90 < len(first) < 120 and 2 < held < 25
    cache.write_bytes(cache.read_bytes()[:-1])
    with pytest.raises(DataError, match="is not shakespeare.txt as publish"):
        documents("shakespeare")
    by_path = list(documents(str(files[0])))
    assert [d.text for d in by_path] == [d.text for d in first]


def test_shakespeare_not_fetched(cache, monkeypatch):
    """Nor kept: the page of a hotel network."""
    answer_with(monkeypatch, b"Please log in.")
    with pytest.raises(DataError, match="is not shakespeare.txt as publish"):
        documents("shakespeare")
    assert not cache.exists() and not list(cache.parent.glob(".*"))


@pytest.mark.parametrize("name", ["openwebtext", "fineweb-edu"])
def test_streamed(name, monkeypatch, tmp_path, tokenizer):
    asked = []

    def load_dataset(repository, **options):
        asked.append((repository, options))
        return ({"text": f"text {n}", "id": n} for n in range(20_000))
    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    manifest = prepare(name, tokenizer, tmp_path / "data")
    (repository, options), = asked
    assert options["streaming"] is True and options["split"] == "train"
    assert (options.get("name") == "sample-10BT") == (name == "fineweb-edu")
    assert manifest["held_out"] == 0.0005
    assert 2 < manifest["documents"]["validation"] < 30
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r'pip install "gpt2-book\[data\]"'):
        list(documents(name))
    assert prepare(name, tokenizer, tmp_path / "data") == manifest


# ------------------------------------------------------------------ the split
def test_the_split_depends_on_the_text_alone(tmp_path, tokenizer):
    def sides(folder):
        directory = tmp_path / f"{folder.name} data"
        prepare(str(folder), tokenizer, directory, held_out=0.2)
        rows = (directory / "documents.jsonl").read_text().splitlines()
        return {row["sha256"]: row["split"] for row in map(json.loads, rows)}
    small, large = fill(tmp_path / "a", 30), fill(tmp_path / "b", 60)
    for n, path in enumerate(sorted(large.iterdir())):
        path.rename(large / f"{-n % 7}{path.name}")       # another order
    before, after = sides(small), sides(large)
    assert set(before) < set(after)
    assert all(after[key] == side for key, side in before.items())


def test_a_larger_fraction_holds_out_the_same_and_more():
    digests = [hashlib.sha256(bytes([n])).digest() for n in range(256)]
    last = set()
    for fraction in (0.01, 0.1, 0.5, 0.99):
        held = {d for d in digests if is_held_out(d, fraction)}
        assert last <= held and abs(len(held) / 256 - fraction) < 0.1
        last = held
    assert not is_held_out(b"\xff" * 32, 0.9999)
    assert is_held_out(b"\0" * 32, 1e-19)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_bad_fractions(corpus, tokenizer, tmp_path, fraction):
    with pytest.raises(DataError, match="held_out is"):
        prepare(str(corpus), tokenizer, tmp_path / "d", held_out=fraction)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("held_out, text, split", [
    (0.1, "x", "validation|train"),                # nothing to cut
    (0.1, "The robot says this a hundred times.\n" * 100, "validation")])
def test_an_empty_split(tokenizer, tmp_path, held_out, text, split):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=f"no text for the ({split}) split.*"
                       "Give more or other text"):
        prepare(str(tmp_path), tokenizer, tmp_path / "d", held_out=held_out)
    assert not (tmp_path / "d").exists()
    assert not list(tmp_path.glob("*.tmp"))


def poem(lines, separator="\n"):
    return separator.join(f"Line {i} of a small poem about nothing at all."
                          for i in range(lines))


@pytest.mark.parametrize("files", [1, 2, 5, 20])
def test_few_documents(tokenizer, tmp_path, files):
    """Whatever the hashes say, both sides have text, and none is lost."""
    for attempt in range(8):
        folder = tmp_path / f"text {attempt}"
        folder.mkdir()
        for n in range(files):
            (folder / f"{n}.txt").write_text(f"{attempt} {n}\n{poem(30)}{n}")
        sides = list(data.with_sides(documents(str(folder)), 0.1))
        assert {d.held_out for d in sides} == {True, False}
        whole = sorted(d.text for d in documents(str(folder)))
        if len(sides) == files:                    # by hash, as ever
            assert sorted(d.text for d in sides) == whole
            assert all(d.held_out == is_held_out(d.digest) for d in sides)
        else:
            assert sorted(a.text + b.text for a, b in zip(
                sides[::2], sides[1::2])) == whole
            assert all(a.text.endswith("\n") and b.held_out and
                       0.02 < len(b.text) / len(a.text + b.text) < 0.2
                       for a, b in zip(sides[::2], sides[1::2]))


@pytest.mark.parametrize("text", [
    poem(1500), poem(30_000), poem(30_000, "\r"), "no line end " * 900,
    poem(8_000, "\n\n")])
def test_one_file_of_ones_own(tokenizer, tmp_path, text):
    path = tmp_path / "own.txt"
    path.write_bytes(text.encode())
    prepare(str(path), tokenizer, tmp_path / "d")
    train, held = (Tokens(tmp_path / "d", split, tokenizer)
                   for split in SPLITS)
    parts = [*data.texts(train, tokenizer), *data.texts(held, tokenizer)]
    assert sum(map(len, parts)) == len(text)
    assert 0.01 < len(held) / (len(held) + len(train)) < 0.3


def test_a_jsonl_of_few_lines(tokenizer, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"text": poem(20).replace(
        "small", f"{n}")}) + "\n" for n in range(3)))
    made = prepare(str(path), tokenizer, tmp_path / "d")
    assert made["documents"]["train"] >= 1 <= made["documents"]["validation"]


def test_a_small_corpus_learns_from_its_training_side(tmp_path):
    """A word of the last tenth of a single file shapes no merge."""
    (tmp_path / "a.txt").write_text("robot\n" * 90 + "zebra\n" * 10)
    own = data.learn_tokenizer(str(tmp_path / "a.txt"), 300)
    assert len(own.encode("robot")) == 1 < 5 == len(own.encode("zebra"))


# ------------------------------------------------ copies between the two sides
def sided(known, held):
    """(left out, names of what stays) for texts of the two sides."""
    left_out = Counter()
    pairs = [(Document(f"h{n}", text, True), n)
             for n, text in enumerate(held)]
    pairs += [(Document(f"t{n}", text, False), n)
              for n, text in enumerate(known)]
    kept = list(data.without_copies(pairs, left_out))
    return left_out["copied"], [document.name for document, _ in kept]


def test_copies_leave_the_held_out_side():
    lines = [f"this_line_{n} = is_long_enough_to_count({n})"
             for n in range(40)]
    new = [line.upper() for line in lines]
    text = "\n".join
    known = [text(lines)]
    assert sided(known, [text(lines)]) == (1, ["t0"])
    for copied, out in ((0, 0), (10, 0), (11, 1), (40, 1)):     # of 40
        assert sided(known, [text(lines[:copied] + new[copied:])]) == (
            out, ["t0"] + ["h0"] * (not out))
    indented = text("\t  " + line + "  " for line in lines)
    assert sided(known, [indented])[0] == 1                     # other depth
    short = text(line[:29] for line in lines)
    assert sided([short], [short])[0] == 0                      # too short
    assert sided([text(line[:30] for line in lines)],
                 [text(line[:30] for line in lines)])[0] == 1
    # each held-out text by itself; the training side is never touched
    assert sided([*known, text(lines)], [text(new), text(lines)]) == (
        1, ["t0", "t1", "h0"])
    assert sided([], [text(lines)]) == (0, ["h0"])


def lines(*words):
    """A source file: each word in a line of its own, long enough to count."""
    return "\n".join(f"{word} = compute_the_whole_value_of({word!r})"
                     for word in words) + "\n"


def held(wanted, *words):
    """A document of these lines on the wanted side: its hash says so."""
    for n in range(10_000):
        document = Document(f"{words[0]}.py", lines(*words) + f"x = {n}\n")
        if is_held_out(document.digest) == wanted:
            return document


def test_the_corpus_python(monkeypatch):
    """All of the library; of site-packages what shows nothing held out."""
    song, read = "abcdefgh", "ijklmnop"
    own = [held(True, *song), held(False, *read), Document("odd", None)]
    theirs = {
        "more": held(False, *"qrstuvwx"),
        "more, held out there": held(True, *"qrstuvwy"),
        "quotes what is trained on": held(False, *read, "z"),
        "two lines of many": held(False, "a", "b", *map(str, range(90))),
        "two of eight lines": held(False, "a", "b", *"012345"),
        "two of seven": held(False, "a", "b", *"01234"),
        "three lines of many": held(False, "a", "b", "c", *map(
            str, range(90))),
        "no text": Document("none", None), "empty": Document("empty", "")}
    monkeypatch.setattr(data, "stdlib", lambda: iter(own))
    monkeypatch.setattr(data, "site_packages", lambda: iter(theirs.values()))
    left_out = Counter()
    found = list(documents("python", left_out))
    assert found[:2] == own[:2]
    assert [name for name, each in theirs.items() if each in found] == [
        "more", "quotes what is trained on", "two lines of many",
        "two of eight lines"]
    assert left_out == {"not UTF-8": 2, "empty": 1}


def test_a_copy_of_what_several_held_out_files_share():
    """Its lines stand in five later ones, too: a fifth in each of them."""
    whole = Document("whole", lines(*"abcdefghij"))
    parts = [Document(two, lines(*two, *(f"{two}{n}" for n in range(90))))
             for two in ("ab", "cd", "ef", "gh", "ij")]
    copy = Document("copy", "# a copy\n" + whole.text)
    assert list(copies.without_quotes([copy], parts)) == [copy]
    assert list(copies.without_quotes([copy], [whole, *parts])) == []


def test_the_corpus_python_for_real():
    """What stdlib holds out is held out, and nothing besides."""
    def side(source):
        return {d.name for d in documents(source) if is_held_out(d.digest)}
    assert side("python") == side("stdlib")


def test_copies_are_counted_and_training_stays(tmp_path, tokenizer):
    """Of a corpus on disk, in both ways of tokenizing."""
    lines = [f"shared_value_number_{n} = compute_it_from({n})"
             for n in range(30)]
    for n in range(60):
        (tmp_path / f"{n}.py").write_text(f"# file {n}\n" + "\n".join(
            lines if n % 2 else (f"{line} + {n}" for line in lines)))
    everything = list(documents(str(tmp_path)))
    for workers in (1, 2):
        place = tmp_path.parent / f"{tmp_path.name} {workers}"
        made = prepare(str(tmp_path), tokenizer, place, workers=workers)
        held = [d for d in everything if is_held_out(d.digest)]
        copies = [d for d in held if lines[0] + "\n" in d.text]
        assert made["left_out"] == {"copied": len(copies)} and copies
        sides = {split: data.texts(Tokens(place, split, tokenizer), tokenizer)
                 for split in SPLITS}
        assert sides["validation"] == [
            d.text for d in held if d not in copies]
        assert sides["train"] == [
            d.text for d in everything if not is_held_out(d.digest)]
        listed = [json.loads(line) for line in (
            place / "documents.jsonl").read_text("utf-8").splitlines()]
        assert len(listed) == 60 - len(copies)
        assert Tokens(place, "validation", tokenizer).left_out == {
            "copied": len(copies)}


def test_perplexity():
    assert data.perplexity(0.0) == 1
    assert abs(data.perplexity(1.0) - 2.718281828) < 1e-9
    assert data.perplexity(709.0) < data.perplexity(710.0) == float("inf")
    assert data.perplexity(float("inf")) == float("inf")
    assert data.perplexity(float("nan")) != data.perplexity(float("nan"))


# --------------------------------------------------------------------- shards
class Numbers:
    """A stand-in for a tokenizer: a text is its ids, written out."""
    merges, special_tokens, eos_token_id = [], ("end",), 0

    def __init__(self, vocab_size):
        self.vocab_size, self.vocab = vocab_size, {"end": 0}
        self.vocab["size"] = vocab_size        # so that fingerprints differ

    def encode(self, text, split_special_tokens):
        assert split_special_tokens
        return list(map(int, text.split()))

    def decode(self, ids):
        return " ".join(map(str, ids))


@pytest.mark.parametrize("vocab_size, size", [(50_257, 2), (65_536, 2),
                                              (65_537, 4), (200_000, 4)])
def test_ids_of_every_size(tmp_path, vocab_size, size):
    rng, numbers = random.Random(0), Numbers(vocab_size)
    lines = [" ".join(str(rng.randrange(1, vocab_size)) for _ in range(9))
             for _ in range(20)] + [f"{vocab_size - 1} 32767 32768"]
    path = tmp_path / "n.jsonl"
    path.write_text("".join(json.dumps({"text": s}) + "\n" for s in lines))
    prepare(str(path), numbers, tmp_path / "data", held_out=0.3,
            shard_tokens=16)
    found = [t for split in SPLITS
             for t in texts(Tokens(tmp_path / "data", split, numbers),
                            numbers)]
    assert sorted(found) == sorted(lines)
    ids = Tokens(tmp_path / "data", "train", numbers).ids.shards[0]
    assert ids[:1].itemsize == size


def test_shards(prepared, tokenizer):
    """Their sizes, names, and what the manifest and the listing say."""
    manifest = json.loads((prepared / "manifest.json").read_text())
    rows = [json.loads(line) for line in
            (prepared / "documents.jsonl").read_text().splitlines()]
    assert hashlib.sha256((prepared / "documents.jsonl").read_bytes()
                          ).hexdigest() == manifest["listing"]
    assert {p.name for p in prepared.iterdir()} == {
        "manifest.json", "documents.jsonl", *manifest["shards"]["train"],
        *manifest["shards"]["validation"]}
    for split in SPLITS:
        mine = [row for row in rows if row["split"] == split]
        for key in ("bytes", "tokens"):
            assert manifest[key][split] == sum(row[key] for row in mine)
        assert manifest["documents"][split] == len(mine) > 3
        sizes = [shard.get_shape()[0] for shard in
                 Tokens(prepared, split, tokenizer).ids.shards]
        assert all(size == 100 for size in sizes[:-1])
        assert sum(sizes) == manifest["tokens"][split]
        found = texts(Tokens(prepared, split, tokenizer), tokenizer)
        assert [hashlib.sha256(t.encode()).hexdigest() for t in found] == [
            row["sha256"] for row in mine]


def test_hostile_texts_come_back(tmp_path, tokenizer):
    hostile = ["<|endoftext|>", "a<|endoftext|>b", " ", "\n", "\0", "\ufffd",
               "  x  ", "é🤖\u0301", "\u2028", "\r", "<|", "1" * 300,
               "\U0010ffff", "\ufeffx", "'s 's", "\t\t"] + [
                   f"{n} <|endoftext|><|endoftext|>" for n in range(20)]
    path = tmp_path / "h.jsonl"
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in hostile))
    prepare(str(path), tokenizer, tmp_path / "data", held_out=0.4)
    found = [t for split in SPLITS for t in texts(
        Tokens(tmp_path / "data", split, tokenizer), tokenizer)]
    assert sorted(found) == sorted(hostile)


def test_every_damaged_byte_is_seen(copied, tokenizer):
    path = copied / "train-00000.safetensors"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)])
                         + good[at + 1:])
        with pytest.raises(DataError, match="train-00000.safetensors is dam"):
            Tokens(copied, "train", tokenizer)
    for bad in (b"", good[:7], good[:8], good[:100], good[:-1], good + b"\0"):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="train-00000.safetensors is dam"):
            Tokens(copied, "train", tokenizer)
    path.write_bytes(good)
    assert len(Tokens(copied, "train", tokenizer)) > 100


def test_another_tokenizer(prepared, tokenizer, tmp_path):
    other = Tokenizer.train(["robots obey orders"] * 3, 262)
    with pytest.raises(DataError, match="train-00000.safetensors was made "
                       "with another tokenizer"):
        Tokens(prepared, "train", other)
    with pytest.raises(DataError, match="was prepared with tokenizer"):
        prepare(json.loads((prepared / "manifest.json").read_text())[
            "source"], other, prepared, held_out=0.3)
    vocab = dict(tokenizer.vocab)
    a, b = [t for t in vocab if len(t) > 3][:2]
    vocab[a], vocab[b] = vocab[b], vocab[a]
    swapped = Tokenizer(vocab, tokenizer.merges)
    merged = Tokenizer(tokenizer.vocab, tokenizer.merges[::-1])
    again = Tokenizer(tokenizer.vocab, tokenizer.merges)
    prints = [data.tokenizer_fingerprint(t)
              for t in (tokenizer, swapped, merged, again)]
    assert prints[0] == prints[3] and len(set(prints)) == 3


@pytest.fixture
def copied(prepared, tmp_path):
    """A copy of the prepared directory, to be damaged."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, stored in contents(prepared).items():
        (copy / name).write_bytes(stored)
    return copy


def test_a_shard_under_another_name(copied, tokenizer):
    """Whole in itself, and the leak that nobody would notice."""
    (copied / "train-00001.safetensors").write_bytes(
        (copied / "validation-00000.safetensors").read_bytes())
    with pytest.raises(DataError, match="train-00001.safetensors is damaged, "
                       "or another file than manifest.json names"):
        Tokens(copied, "train", tokenizer)
    Tokens(copied, "validation", tokenizer)


def test_a_missing_shard(copied, tokenizer):
    (copied / "train-00002.safetensors").unlink()
    with pytest.raises(DataError, match="train-00002.safetensors is missing"):
        Tokens(copied, "train", tokenizer)


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "{}", '{"shards": {}}', '{"shards": {"train": 1}}',
    '{"shards": {"train": ["a"], "validation": ["b"]}}', "\xff"])
def test_a_damaged_manifest(copied, tokenizer, corpus, text):
    (copied / "manifest.json").write_bytes(text.encode("latin-1"))
    for call in (lambda: Tokens(copied, "train", tokenizer),
                 lambda: prepare(str(corpus), tokenizer, copied)):
        with pytest.raises(DataError, match="manifest.json is damaged"):
            call()
    (copied / "manifest.json").unlink()
    with pytest.raises(DataError, match="holds no prepared corpus"):
        Tokens(copied, "train", tokenizer)


def test_what_an_older_version_prepared(copied, tokenizer, corpus):
    manifest = json.loads((copied / "manifest.json").read_text())
    for version in 2, None:
        (copied / "manifest.json").write_text(
            json.dumps(manifest | {"version": version}))
        for call in (lambda: Tokens(copied, "train", tokenizer),
                     lambda: prepare(str(corpus), tokenizer, copied)):
            with pytest.raises(DataError, match="another version.*prepare the"
                               " corpus again"):
                call()


# -------------------------------------------------------------------- prepare
def test_prepared_once(corpus, prepared, tokenizer, monkeypatch):
    before = contents(prepared)
    monkeypatch.setattr(token_files, "write_prepared", None)  # not called
    manifest = prepare(str(corpus), tokenizer, prepared, held_out=0.3)
    assert contents(prepared) == before and manifest["held_out"] == 0.3
    for source, held_out, key in ((str(corpus), 0.2, "held_out"),
                                  ("stdlib", 0.3, "source")):
        with pytest.raises(DataError, match=f"was prepared with {key}"):
            prepare(source, tokenizer, prepared, held_out=held_out)
    assert contents(prepared) == before


def test_nothing_of_others_is_overwritten(corpus, tokenizer, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="exists and holds no prepared"):
        prepare(str(corpus), tokenizer, home)
    assert contents(home) == {"thesis.txt": b"years of work"}
    with pytest.raises(DataError, match="exists and holds no prepared"):
        prepare(str(corpus), tokenizer, home / "thesis.txt")


def test_where_it_may_appear(corpus, prepared, tokenizer, tmp_path,
                             monkeypatch):
    """An empty directory, a link to one, below folders not yet there."""
    options = dict(held_out=0.3, shard_tokens=100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    for place in ("empty", "link", "a/b/c", tmp_path / "d.e"):
        prepare(str(corpus), tokenizer, place, **options)
        assert contents(Path(place)) == contents(prepared)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_bad_line_leaves_nothing(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"t {n}"}) + "\n"
                            for n in range(100)) + "{\n")
    with pytest.raises(DataError, match="line 101"):
        prepare(str(path), tokenizer, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()
            if not p.name.endswith(".lock")] == ["a.jsonl"]


@pytest.fixture(scope="module")
def large(tmp_path_factory, tokenizer):
    """1.4 MB in files, a reference directory, and seconds it takes."""
    folder = fill(tmp_path_factory.mktemp("large") / "text", 300, words=900)
    start = time.perf_counter()
    prepare(str(folder), tokenizer, folder.parent / "reference",
            shard_tokens=20_000)
    return folder, folder.parent / "reference", time.perf_counter() - start


def run(folder, tokenizer, directory, seed=None):
    """prepare, in another process that may be killed."""
    process = FORK.Process(target=prepare, args=(str(folder), tokenizer,
                                                 directory),
                           kwargs=dict(shard_tokens=20_000))
    process.start()
    return process


def test_killed_at_any_moment(large, tokenizer, tmp_path):
    """12 times SIGKILL: never something that looks complete; then whole."""
    folder, reference, seconds = large
    rng, interrupted = random.Random(0), 0
    for n in range(12):
        directory = tmp_path / "data"
        process = run(folder, tokenizer, directory)
        time.sleep(rng.uniform(0.02, 1.1 * seconds))
        process.kill()
        process.join()
        if directory.exists():
            assert contents(directory) == contents(reference)
            for path in directory.iterdir():
                path.unlink()
            directory.rmdir()
        else:
            interrupted += 1
            with pytest.raises(DataError, match="holds no prepared corpus"):
                Tokens(directory, "train", tokenizer)
    assert interrupted >= 4
    prepare(str(folder), tokenizer, directory, shard_tokens=20_000)
    assert contents(directory) == contents(reference)
    assert {p.name for p in tmp_path.iterdir()} == {"data", ".data.lock"}


def test_what_others_left_stays(tmp_path, corpus, tokenizer):
    """Only the remains of this very directory are removed."""
    for name in (".data.x.5.tmp", ".data.tmp", ".data.5.tmp", ".other.5.tmp"):
        (tmp_path / name / "inside").mkdir(parents=True)
    prepare(str(corpus), tokenizer, tmp_path / "data")
    assert {p.name for p in tmp_path.iterdir()} == {
        "data", ".data.lock", ".data.x.5.tmp", ".data.tmp", ".other.5.tmp"}


def test_three_at_once(large, tokenizer, tmp_path):
    folder, reference, seconds = large
    processes = [run(folder, tokenizer, tmp_path / "data") for _ in range(3)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert contents(tmp_path / "data") == contents(reference)
    assert {p.name for p in tmp_path.iterdir()} == {"data", ".data.lock"}


@pytest.mark.filterwarnings("ignore")
def test_two_at_once_without_locks(large, tokenizer, tmp_path, monkeypatch):
    """Where the system has none: one succeeds, nothing is mixed."""
    def acquire(self):
        raise NotImplementedError
    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    folder, reference, seconds = large
    processes = [run(folder, tokenizer, tmp_path / "data") for _ in range(2)]
    for process in processes:
        process.join()
    assert 0 in [process.exitcode for process in processes]
    assert contents(tmp_path / "data") == contents(reference)
    assert not list(tmp_path.glob("*.tmp"))


def test_two_corpora_for_one_directory(large, corpus, tokenizer, tmp_path):
    """The second waits, and is told that the place is taken."""
    folder, reference, _ = large
    first = run(folder, tokenizer, tmp_path / "data")
    while not (tmp_path / ".data.lock").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    with pytest.raises(DataError, match="was prepared with source"):
        prepare(str(corpus), tokenizer, tmp_path / "data")
    first.join()
    assert contents(tmp_path / "data") == contents(reference)


def test_the_disk_is_full(large, tokenizer, tmp_path):
    folder, reference, _ = large
    directory = tmp_path / "data"

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
        try:
            prepare(str(folder), tokenizer, directory, shard_tokens=20_000)
        except OSError as error:
            os._exit(7 if "too large" in str(error).lower() else 8)
        os._exit(0)
    process = FORK.Process(target=limited)
    process.start()
    process.join()
    assert process.exitcode == 7
    assert {p.name for p in tmp_path.iterdir()} == {".data.lock"}


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_no_room_at_the_end(corpus, tokenizer, tmp_path, monkeypatch, name):
    def full(*_):
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(OSError, match="No space left"):
            prepare(str(corpus), tokenizer, tmp_path / "data")
    assert {p.name for p in tmp_path.iterdir()} == {".data.lock"}
    prepare(str(corpus), tokenizer, tmp_path / "data")


def test_the_progress_bar(corpus, tokenizer, tmp_path, monkeypatch, capsys):
    prepare(str(corpus), tokenizer, tmp_path / "a")
    assert capsys.readouterr().err == ""                 # no terminal here
    steps = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **kwargs):
            assert kwargs.pop("disable") is None
            super().__init__(*args, disable=True, **kwargs)

        def update(self, n=1):
            steps.append(n)
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    manifest = prepare(str(corpus), tokenizer, tmp_path / "b")
    assert sum(steps) == sum(manifest["bytes"].values())


# -------------------------------------------------------------- in parallel
def test_few_groups_are_away():
    """Memory: the corpus is read only as far as there is room."""
    read, done = [], []
    most = 6

    def endless():
        for n in range(1000):
            read.append(n)
            yield [Document(str(n), "x")]

    class Pool:
        def submit(self, function, texts):
            future = Future()
            future.set_result([array("H", [len(read)])])
            return future
    for (document,), _ in processes.taken_back(Pool(), endless(), most):
        done.append(int(document.name))
        assert len(read) - len(done) < most
    assert done == list(range(1000))


def test_groups():
    docs = [Document(str(n), "x" * (n % 5 + 1)) for n in range(50)]
    for limit in (1, 3, 10, 1000):
        groups = list(processes.in_groups(docs, limit))
        assert [d for group in groups for d in group] == docs
        assert all(sum(len(d.text) for d in g[:-1]) < limit for g in groups)
    assert list(processes.in_groups([], 10)) == []


class Deadly(Tokenizer):
    """Kills the process that it works in."""

    def encode(self, text, **options):
        os.kill(os.getpid(), signal.SIGKILL)


def test_same_bytes_from_two_processes(large, tokenizer, tmp_path):
    folder, reference, _ = large
    prepare(str(folder), tokenizer, tmp_path / "data", workers=2,
            shard_tokens=20_000)
    assert contents(tmp_path / "data") == contents(reference)


def test_a_worker_dies(corpus, tokenizer, tmp_path):
    deadly = Deadly(tokenizer.vocab, tokenizer.merges)
    with pytest.raises(DataError, match="a process that tokenizes has died"):
        prepare(str(corpus), deadly, tmp_path / "data", workers=2)
    assert {p.name for p in tmp_path.iterdir()} == {".data.lock"}


def test_a_script_without_a_guard(corpus, tmp_path):
    """Its workers run it again, and die of that: an error, not a hang."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from gpt2.data import prepare
from gpt2.tokenizer import Tokenizer
prepare({str(corpus)!r}, Tokenizer.load({str(ROOT / "checkpoints/nano")!r}),
        {str(tmp_path / "data")!r}, workers=2)
""")
    done = subprocess.run([sys.executable, str(script)], timeout=100,
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert "DataError: a process that tokenizes has died" in done.stderr
    assert not (tmp_path / "data").exists()


def test_workers_end_with_their_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from gpt2.files.processes import start_worker
if __name__ == "__main__":
    Path({str(tmp_path)!r}, "t").write_bytes(b"N.")       # a pickled None
    pool = ProcessPoolExecutor(1, get_context("spawn"), start_worker,
                               (Path({str(tmp_path)!r}, "t"),))
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
""")
    parent = subprocess.Popen([sys.executable, str(script)],
                              stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)                                   # it lives
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(100):
        try:
            os.kill(worker, 0)
            state = Path(f"/proc/{worker}/stat")
            if state.exists() and state.read_text().split()[2] == "Z":
                return
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


# -------------------------------------------------------------------- windows
def test_window_reads_across_shards(train, prepared, tokenizer):
    whole = torch.cat([torch.from_numpy(shard[:].astype("int64"))
                       for shard in train.ids.shards])
    assert len(train.ids.shards) > 3 and len(whole) == len(train)
    rng = random.Random(0)
    for _ in range(300):
        start = rng.randrange(len(train))
        length = rng.randint(1, len(train) - start)
        assert torch.equal(train.window(start, length),
                           whole[start:start + length])
    assert train.window(0, len(train)).dtype == torch.int64
    for start, length in ((-1, 2), (0, 0), (0, -1), (0, len(train) + 1),
                          (len(train), 1)):
        with pytest.raises(ValueError):
            train.window(start, length)


@pytest.mark.parametrize("length", [2, 3, 7, 50])
@pytest.mark.parametrize("more", [0, 1, 2, 5, 100, 333])
def test_each_window_once_per_epoch(length, more):
    count = 2 * length + more
    order = WindowOrder(count, length, seed=more)
    assert order.per_epoch == count // length - 1
    offsets = set()
    for epoch in range(6):
        starts = sorted(order.epoch(epoch).tolist())
        offsets.add(starts[0])
        assert len(starts) == order.per_epoch
        assert all(b - a == length for a, b in zip(starts, starts[1:]))
        assert 0 <= starts[0] < length
        assert starts[-1] + length + 1 <= count
        told = Counter(t for s in starts
                       for t in range(s + 1, s + length + 1))
        assert set(told.values()) == {1}
        assert count - len(told) <= 2 * length
    assert len(offsets) > 1 or length < 4


@pytest.mark.parametrize("count", [99, 100, 107])
def test_which_tokens_are_never_predicted(count):
    """The first, and at the end what is less than a window: count % 9."""
    order, told = WindowOrder(count, 9), set()
    for epoch in range(80):
        for s in order.epoch(epoch).tolist():
            told.update(range(s + 1, s + 10))
    assert told == set(range(1, count - count % 9))


def test_the_order_is_frozen():
    """Another order would make every saved run continue with other text."""
    for seed, epoch in ((0, 0), (7, 3), (-2, 1)):
        generator = torch.Generator().manual_seed(
            (seed * 1_000_003 + epoch) % 2 ** 63)
        offset = int(torch.randint(9, (), generator=generator))
        order = torch.randperm(110, generator=generator) * 9 + offset
        assert torch.equal(WindowOrder(1000, 9, seed).epoch(epoch), order)
    assert WindowOrder(100, 9).epoch(0).tolist() == FROZEN


FROZEN = [89, 35, 26, 44, 71, 17, 8, 80, 62, 53]


def test_epochs_and_seeds_differ():
    orders = [tuple(WindowOrder(500, 6, seed).epoch(epoch).tolist())
              for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


def test_windows_that_are_wrong():
    for length in (0, -3):
        with pytest.raises(ValueError, match="predict nothing"):
            WindowOrder(100, length)
    for count in (0, 1, 17):
        with pytest.raises(DataError, match="too few.*at least 18"):
            WindowOrder(count, 9)
    assert WindowOrder(18, 9).per_epoch == 1
    assert list(window_starts(10, 3, 1)) == [1, 4]
    assert list(window_starts(3, 3)) == []


# -------------------------------------------------------------------- batches
@pytest.mark.parametrize("batch_size", [4, 12, 60, 600])
def test_the_batch_is_the_same_for_any_world(train, batch_size):
    """Also where one batch is several epochs."""
    whole = GlobalBatches(train, batch_size, 9, seed=3)
    assert batch_size < 600 or batch_size > 2 * whole.order.per_epoch
    for n in (0, 1, 7):
        rows = whole.read(n)
        for world in (1, 2, 4):
            parts = [GlobalBatches(train, batch_size, 9, seed=3, rank=rank,
                                   world=world).read(n)
                     for rank in range(world)]
            assert all(len(p) == batch_size // world for p in parts)
            assert torch.equal(torch.cat(parts), rows)
    per_epoch = whole.order.per_epoch
    flat = [s for n in range(9) for s in whole.starts(n)]
    for epoch in range(len(flat) // per_epoch):
        part = flat[epoch * per_epoch:(epoch + 1) * per_epoch]
        assert part == whole.order.epoch(epoch).tolist()


def test_who_may_share_a_batch(train):
    for batch_size, rank, world in ((0, 0, 1), (5, 0, 2), (4, 0, 0),
                                    (4, 2, 2), (4, -1, 2), (-4, 0, 1)):
        with pytest.raises(ValueError):
            Batches(train, batch_size, 8, rank=rank, world=world)


def test_state_at_every_batch(train):
    """Restored anywhere, also across the borders of epochs."""
    def fresh(**options):
        return Batches(train, 6, 9, seed=5, **options)
    batches, run, states = fresh(), [], []
    borders = 4 * batches.order.per_epoch // 6
    for _ in range(borders):
        states.append(json.loads(json.dumps(batches.state())))
        run.append(batches.take())
    for n, state in enumerate(states):
        again = fresh()
        again.take()                           # what was read ahead is gone
        again.restore(state)
        assert again.taken == n
        assert torch.equal(again.take(), run[n])
        two = [fresh(rank=rank, world=2) for rank in (0, 1)]
        for part in two:
            part.restore(state)
        assert torch.equal(torch.cat([p.take() for p in two]), run[n])
    for n in (9, 0, 0, 5, 4):                  # as training does to go back
        batches.taken = n
        assert torch.equal(batches.take(), run[n])
        assert batches.taken == n + 1


def test_another_position_is_refused(train, prepared, tokenizer):
    state = Batches(train, 6, 9, seed=5).state()
    validation = Tokens(prepared, "validation", tokenizer)
    for other, key in ((Batches(train, 6, 9, seed=6), "seed"),
                       (Batches(train, 6, 8, seed=5), "length"),
                       (Batches(train, 3, 9, seed=5), "batch_size"),
                       (Batches(validation, 6, 9, seed=5), "tokens")):
        with pytest.raises(DataError, match=f"saved position is for {key}"):
            other.restore(state)
        assert other.taken == 0
    mine = Batches(train, 6, 9, seed=5)
    for bad in ({}, dict(state, taken=-1), dict(state, taken="3"),
                dict(state, taken=None), dict(state, corpus="0" * 64)):
        with pytest.raises(DataError, match="the saved position"):
            mine.restore(bad)


def test_a_corpus_of_the_same_length_is_another_one(tmp_path, tokenizer):
    found = []
    for seed in (1, 2):
        path = tmp_path / f"{seed}.jsonl"
        letters = "abcdefghij"
        rows = [f"{random.Random(f'{seed} {n}').choice(letters)} {n}"
                for n in range(200)]
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in rows))
        prepare(str(path), tokenizer, tmp_path / f"d{seed}", held_out=0.5)
        found.append(Tokens(tmp_path / f"d{seed}", "train", tokenizer))
    short = min(map(len, found))
    for tokens in found:                       # as if equally long
        tokens.ids.starts[-1] = short
    assert found[0].fingerprint != found[1].fingerprint
    first, second = (Batches(tokens, 4, 8) for tokens in found)
    with pytest.raises(DataError, match="saved position is for corpus"):
        second.restore(first.state())


def test_two_threads_read_one_order(train):
    """The reader thread and a caller of starts() are in different epochs."""
    batches = Batches(train, 6, 9)
    expected = [GlobalBatches(train, 6, 9).starts(n) for n in range(60)]
    wrong, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            for n in (0, 55):
                if batches.starts(n) != expected[n]:
                    wrong.append(n)
    thread = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        for n in range(60):
            rows = torch.stack([train.window(s, 10) for s in expected[n]])
            if not torch.equal(batches.take(), rows):
                wrong.append(-n)
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not wrong


def test_the_next_batch_is_read_meanwhile(train):
    batches = Batches(train, 6, 9)
    reads = []
    read = batches.read
    batches.read = lambda n: reads.append((n, threading.current_thread())
                                          ) or read(n)
    batches.take()
    batches._next[1].result()
    assert [n for n, _ in reads] == [0, 1]
    assert all(t is not threading.main_thread() for _, t in reads)
    assert batches.state()["taken"] == 1


def test_an_error_while_reading_ahead_arrives(train):
    batches = Batches(train, 6, 9)
    batches.take()
    batches._next[1].result()
    read, batches.read = batches.read, lambda n: 1 / 0
    batches.taken = 5
    with pytest.raises(ZeroDivisionError):
        batches.take()
    assert batches.taken == 5
    batches.read = read
    assert torch.equal(batches.take(), GlobalBatches(train, 6, 9).read(5))


def test_pinned_for_a_gpu(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: "pinned")
    assert Batches(train, 6, 9).take() == "pinned"


# ------------------------------------------------------------------ baselines
def slow_trigram(ids, V):
    counts = Counter()
    for n in (1, 2, 3):
        counts.update(zip(*(ids[i:] for i in range(n))))

    def p(context, w):
        shorter = p(context[1:], w) if context else 1 / V
        seen = [c for gram, c in counts.items()
                if len(gram) == len(context) + 1 and gram[:-1] == context]
        if not seen:
            return shorter
        return (counts[*context, w] + len(seen) * shorter) / (
            sum(seen) + len(seen))
    return p


@pytest.mark.parametrize("V, size", [(3, 50), (7, 40), (50_257, 30)])
def test_trigram(V, size):
    rng = random.Random(V)
    letters = [0, 1, V - 1] + [rng.randrange(V) for _ in range(4)]
    ids = rng.choices(letters, k=size)
    p, model = slow_trigram(ids, V), Trigram(torch.tensor(ids), V)
    for _ in range(60):
        u, v, w = rng.choices([*letters, V // 2], k=3)
        for order, context in ((1, ()), (2, (v,)), (3, (u, v))):
            ours = model.probability(*map(torch.tensor, (u, v, w)), order)
            assert abs(float(ours) - p(context, w)) < 1e-12
        every = torch.arange(V)
        total = model.probability(torch.full((V,), u), torch.full((V,), v),
                                  every).sum()
        assert abs(float(total) - 1) < 1e-9


def test_bits_per_byte(tokenizer):
    sizes = token_sizes(tokenizer)
    text = "A robot must obey the orders given it. " * 20
    ids = torch.tensor(tokenizer.encode(text))
    assert int(sizes[ids].sum()) == len(text)
    assert sizes[tokenizer.eos_token_id] == 0 and (sizes > 0).sum() == 4095
    model = Trigram(ids[:30], len(tokenizer))
    orders = [model.bits_per_byte(ids, sizes, order) for order in (1, 2, 3)]
    assert orders[2] < orders[1] < orders[0]
    uniform = -torch.log2(torch.tensor(1 / 4096.0)) * (len(ids) - 2)
    none = model.bits_per_byte(ids, sizes, 0)
    assert abs(none - float(uniform) / int(sizes[ids[2:]].sum())) < 1e-5


def test_compressors():
    import gzip
    import lzma
    some = ["A robot must obey. " * 40, "é" * 100, "x"]
    found = data.compressed_bits_per_byte(some)
    size = sum(len(t.encode()) for t in some)
    assert found["gzip -9"] == 8 * sum(
        len(gzip.compress(t.encode(), 9)) for t in some) / size
    assert found["xz -9e"] == 8 * sum(
        len(lzma.compress(t.encode(), preset=9 | lzma.PRESET_EXTREME))
        for t in some) / size


# ----------------------------------------------------------------- real files
def test_the_library_that_a_package_copied(tmp_path):
    """Held out in one corpus is held out in every other."""
    library = list(documents("stdlib"))[:50]
    copies = [d._replace(name=f"vendored/{d.name}") for d in library]
    assert [is_held_out(d.digest) for d in library] == [
        is_held_out(d.digest) for d in copies]


# --- a tokenizer of the corpus's own -----------------------------------------

def test_a_learned_tokenizer_has_not_read_held_out_text(tmp_path):
    """A word that only held-out documents hold shapes no merge."""
    number, sides = 0, Counter()
    while min(sides[True], sides[False]) < 8:
        text = f"zebra {number}"
        held = is_held_out(Document("", text).digest)
        if not held:
            text = text.replace("zebra", "robot")
            held = is_held_out(Document("", text).digest)
        if not (held and "robot" in text):
            (tmp_path / f"{number}.txt").write_text(text, "utf-8")
            sides[held] += 1
        number += 1
    own = data.learn_tokenizer(str(tmp_path), 300)
    assert len(own.encode("robot")) == 1 < 4 <= len(own.encode("zebra"))


def test_a_learned_tokenizer_reads_so_much(monkeypatch, tmp_path):
    fill(tmp_path / "text", 40)
    everything = data.learn_tokenizer(str(tmp_path / "text"), 300)
    monkeypatch.setattr(data, "LEARN_FROM", 1)
    first = next(d.text for d in documents(str(tmp_path / "text"))
                 if not is_held_out(d.digest))
    one = data.learn_tokenizer(str(tmp_path / "text"), 300)
    assert one.merges == Tokenizer.train([first], 300).merges
    assert one.merges != everything.merges


def test_a_tokenizer_of_nothing():
    with pytest.raises(DataError, match="no corpus"):
        data.learn_tokenizer("no/such/*.txt", 300)
