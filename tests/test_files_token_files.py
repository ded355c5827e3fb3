"""Shards of tokens: what is written, read back, and refused."""
import json
import random
import threading
from array import array

import numpy
import pytest
from safetensors.numpy import save_file

from gpt2.files import token_files
from gpt2.files.errors import DataError
from gpt2.files.text import Document
from gpt2.files.token_files import (ShardWriter, Split, open_shard, prepared,
                                    typecode, write_corpus, write_shard)

MARK = "f" * 64


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "a.safetensors"
    write_shard(path, array("H", [0, 1, 32767, 32768, 65535]), MARK)
    return path


@pytest.fixture
def folder(tmp_path):
    """A prepared folder: 10 ids a shard."""
    rng, directory = random.Random(0), tmp_path / "data"
    pairs = [(Document(str(n), f"text {n}", n % 3 == 0),
              array("H", rng.choices(range(65536), k=7))) for n in range(20)]
    prepared(directory, {"source": "here", "held_out": 0.1},
             lambda beside: write_corpus(beside, pairs, MARK, 10)
             | {"left_out": {}})
    return directory, pairs


def test_how_many_bytes_an_id_needs():
    for size, kind, itemsize in ((257, "H", 2), (50_257, "H", 2),
                                 (65_536, "H", 2), (65_537, "i", 4)):
        assert typecode(size) == kind
        assert array(kind).itemsize == itemsize


def test_what_stands_in_a_shard(shard):
    """Anybody's safetensors reads it: the type, the ids, the fingerprint."""
    data = shard.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    assert header["__metadata__"] == {"tokenizer": MARK}
    assert header["tokens"]["dtype"] == "U16"
    assert data[8 + length:] == numpy.array(
        [0, 1, 32767, 32768, 65535], "<u2").tobytes()
    tokens = open_shard(shard, MARK)
    assert tokens[:].tolist() == [0, 1, 32767, 32768, 65535]
    assert tokens[3:5].tolist() == [32768, 65535]
    write_shard(shard, array("i", [70_000, 1]), MARK)
    assert open_shard(shard, MARK)[:].tolist() == [70_000, 1]


def test_a_file_that_was_cut_is_refused(shard):
    """By one byte, or by any number."""
    good = shard.read_bytes()
    for size in range(len(good)):
        shard.write_bytes(good[:size])
        with pytest.raises(DataError, match="cut off or damaged"):
            open_shard(shard, MARK)
    shard.write_bytes(good + b"\0")
    with pytest.raises(DataError, match="cut off or damaged"):
        open_shard(shard, MARK)
    shard.unlink()
    with pytest.raises(DataError, match="prepare the corpus again"):
        open_shard(shard, MARK)


def test_another_tokenizer(shard):
    for other in ("0" * 64, "", MARK[1:]):
        with pytest.raises(DataError, match="made with another tokenizer"):
            open_shard(shard, other)
    save_file({"tokens": numpy.arange(3, dtype="uint16")}, shard)
    with pytest.raises(DataError, match="made with another tokenizer"):
        open_shard(shard, MARK)


@pytest.mark.parametrize("tensors", [
    {"weights": numpy.arange(3, dtype="uint16")},
    {"tokens": numpy.arange(4, dtype="uint16").reshape(2, 2)},
    {"tokens": numpy.arange(3, dtype="float32")},
    {"tokens": numpy.arange(3, dtype="int64")},
    {"tokens": numpy.empty(0, "uint16")}, {}])
def test_other_tensors(shard, tensors):
    save_file(tensors, shard, {"tokenizer": MARK})
    with pytest.raises(DataError, match="a.safetensors"):
        open_shard(shard, MARK)


def test_big_endian_machines_are_refused(shard, monkeypatch):
    monkeypatch.setattr(token_files.sys, "byteorder", "big")
    with pytest.raises(DataError, match="little-endian"):
        open_shard(shard, MARK)


def test_the_writer_cuts_at_the_limit(tmp_path):
    ids = array("H", range(100))
    for limit, sizes in ((7, [7] * 14 + [2]), (50, [50, 50]), (100, [100]),
                         (1000, [100])):
        for step in (1, 13, 100):
            home = tmp_path / f"{limit} {step}"
            home.mkdir()
            writer = ShardWriter(home, "train", MARK, limit)
            for at in range(0, 100, step):
                writer.add(ids[at:at + step])
            names = [*writer.close()]
            assert names == sorted(path.name for path in home.iterdir())
            found = [open_shard(home / name, MARK)[:].tolist()
                     for name in names]
            assert [len(part) for part in found] == sizes
            assert sum(found, []) == ids.tolist()
    assert ShardWriter(tmp_path, "train", MARK).close() == {}
    with pytest.raises(ValueError, match="at least 1"):
        ShardWriter(tmp_path, "train", MARK, 0)


def test_one_sequence_across_shards(folder):
    directory, pairs = folder
    split = Split(directory, "train", MARK)
    whole = [id for document, ids in pairs if not document.held_out
             for id in ids]
    assert len(split) == len(whole) == 91 and len(split.shards) == 10
    for start in range(len(whole) + 1):
        for stop in range(start, len(whole) + 1):
            part = split[start:stop]
            assert part.tolist() == whole[start:stop]
    assert part.dtype == "int64"
    assert split[:].tolist() == whole and split[85:200].tolist() == whole[85:]
    with pytest.raises(DataError, match="no split 'test'"):
        Split(directory, "test", MARK)


def test_threads_read_one_split(folder):
    directory, _ = folder
    split, wrong = Split(directory, "train", MARK), []
    whole = split[:]

    def look(seed):
        rng = random.Random(seed)
        for _ in range(300):
            start = rng.randrange(80)
            if (split[start:start + 11] != whole[start:start + 11]).any():
                wrong.append(start)
    threads = [threading.Thread(target=look, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_same_text_has_the_same_fingerprint(folder, tmp_path):
    directory, pairs = folder
    again = tmp_path / "again"
    prepared(again, {"source": "elsewhere", "held_out": 0.1},
             lambda beside: write_corpus(beside, pairs, MARK, 10)
             | {"left_out": {}})
    prints = {Split(place, split, MARK).fingerprint
              for place in (directory, again)
              for split in token_files.SPLITS}
    assert len(prints) == 2


def test_no_text_on_one_side(tmp_path):
    pairs = [(Document("a", "text", False), array("H", [1, 2]))]
    with pytest.raises(DataError, match="'here' has no text for the valid"):
        prepared(tmp_path / "d", {"source": "here", "held_out": 0.1},
                 lambda beside: write_corpus(beside, pairs, MARK)
                 | {"left_out": {}})
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("change", [
    {"left_out": None}, {"left_out": [1]}, {"shards": [1]},
    {"shards": {"train": {}, "validation": [["a", "b"]]}},
    *({"shards": {"train": {}, "validation": {name: "0" * 64}}} for name in (
        "../data/validation-00000.safetensors", "/etc/hosts", "a/b", "."))])
def test_a_manifest_that_is_none(folder, change):
    """Neither a shard elsewhere nor an entry of another kind is taken."""
    path = folder[0] / token_files.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match="manifest.json is damaged"):
        Split(folder[0], "validation", MARK)


def test_a_manifest_nested_too_deeply(folder):
    (folder[0] / token_files.MANIFEST).write_text("[" * 100_000)
    with pytest.raises(DataError, match="manifest.json is damaged"):
        Split(folder[0], "validation", MARK)
