"""Files and folders that are whole or not there, and JSON."""
import json
import os
import subprocess
import sys
import time

import pytest

from gpt2.files import whole
from gpt2.files.errors import CheckpointError, DataError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    whole.write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    with pytest.raises(ZeroDivisionError):
        with whole.written_whole(path) as beside:
            beside.write_text("half")
            1 / 0
    assert path.read_bytes() == "é\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    whole.write_text(path, "before")
    for name in ("fsync", "replace"):
        def full(*_):
            raise OSError(28, "No space left on device")
        with monkeypatch.context() as patch:
            patch.setattr(whole.os, name, full)
            with pytest.raises(OSError, match="No space left"):
                whole.write_text(path, "after")
        assert path.read_text() == "before" and names(tmp_path) == ["a.txt"]


def test_files_of_a_folder_appear_together(tmp_path):
    (tmp_path / "old").write_text("stale")
    (tmp_path / "a").write_text("before")
    with pytest.raises(CheckpointError, match="cannot be written: disk"):
        with whole.written_together(tmp_path, "ab", ["old"]) as (a, b):
            a.write_text("after")
            raise OSError("disk")
    assert names(tmp_path) == ["a", "old"]
    assert (tmp_path / "a").read_text() == "before"
    with whole.written_together(tmp_path, "ab", ["old"]) as (a, b):
        a.write_text("after")
        b.write_text("new")
    assert names(tmp_path) == ["a", "b"]


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "d"
    with pytest.raises(ZeroDivisionError):
        with whole.written_directory(path) as beside:
            (beside / "a").write_text("half")
            1 / 0
    assert not names(tmp_path)
    path.mkdir()                                     # empty: may be taken
    with whole.written_directory(path) as beside:
        (beside / "a").write_text("all")
        assert not names(path)
    assert names(path) == ["a"] and names(tmp_path) == ["d"]
    with pytest.raises(OSError):
        with whole.written_directory(path):          # holds something
            pass
    assert names(path) == ["a"] and names(tmp_path) == ["d"]


def test_killed_while_a_directory_is_filled(tmp_path):
    """Nothing at its name; what is left bears the process's number."""
    code = f"""
import time
from pathlib import Path
from gpt2.files.whole import written_directory
with written_directory(Path({str(tmp_path)!r}, "d")) as beside:
    (beside / "a").write_text("half")
    print("now", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code],
                               stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    whole.remove_leftovers(tmp_path)                 # it lives: stays
    assert names(tmp_path) == [f".d.{process.pid}.tmp"]
    process.kill()
    process.wait()
    process.stdout.close()
    whole.remove_leftovers(tmp_path)
    assert not names(tmp_path)


def test_every_damage_to_a_saved_directory_is_seen(tmp_path):
    path = tmp_path / "d"
    with whole.saved_directory(path) as beside:
        for name in "ab":
            (beside / name).write_bytes(name.encode() * 9)
    whole.require_whole(path, "Again.")
    good = {name: (path / name).read_bytes() for name in names(path)}
    assert [*good] == ["a", "b", "checksums.json"]

    def damaged():
        with pytest.raises(DataError, match="d is damaged. Again."):
            whole.require_whole(path, "Again.")
        for name, data in good.items():
            (path / name).write_bytes(data)
        whole.require_whole(path, "Again.")
    for name, data in good.items():
        (path / name).write_bytes(data[:-2])
        damaged()
        (path / name).unlink()
        damaged()
    (path / "c").write_text("one more")
    with pytest.raises(DataError):
        whole.require_whole(path, "Again.")
    (path / "c").unlink()
    (path / "a").write_bytes(b"aaaaaaaab")
    damaged()
    (path / "checksums.json").write_text("[")
    damaged()


def test_a_directory_is_removed_by_its_name_first(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()

    def killed(path):
        assert not (tmp_path / "d").exists()
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(whole.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            whole.remove_directory(tmp_path / "d")
    assert names(tmp_path) == [f".d.{os.getpid()}.gone"]
    whole.remove_leftovers(tmp_path, tmp_path / "not there")
    assert not names(tmp_path)


def test_leftovers(tmp_path):
    dead, alive = 999_999_999, os.getppid()
    gone = [tmp_path / f".step-00000004.{dead}.tmp",
            tmp_path / f".step-00000002.{dead}.gone",
            tmp_path / f".step-00000006.{os.getpid()}.tmp"]
    kept = [tmp_path / f".step-00000004.{alive}.tmp",
            tmp_path / "step-00000002",
            tmp_path / ".hidden.tmp", tmp_path / ".tmp"]
    for path in gone + kept:
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    (tmp_path / f".metrics.jsonl.{dead}.tmp").write_text("x")
    whole.remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in kept)
    assert all((path / "file").exists() for path in kept)


def test_who_is_alive():
    process = subprocess.Popen([sys.executable, "-c", "input()"],
                               stdin=subprocess.PIPE)
    assert whole.is_alive(process.pid) and whole.is_alive(1)
    process.communicate(b"\n")
    for _ in range(50):
        if not whole.is_alive(process.pid):
            break
        time.sleep(0.1)
    assert not whole.is_alive(process.pid)


def test_json(tmp_path):
    path = tmp_path / "a.json"
    whole.write_json(path, {"é": [1, None], "b": "\u2028"})
    assert path.read_bytes() == (
        '{\n  "é": [\n    1,\n    null\n  ],\n  "b": "\u2028"\n}\n').encode()
    assert whole.read_json(path) == {"é": [1, None], "b": "\u2028"}
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert whole.read_json(path) == {"a": 1}
    for text in ("{", "[]", '{"a": 1, "a": 2}', "[" * 100_000, "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match="a.json"):
            whole.read_object(path)
        with pytest.raises(CheckpointError, match="Fetch it again"):
            whole.read_json(path)


def test_what_is_no_real_file(tmp_path):
    path = tmp_path / "a.json"
    for data, fault in ((b"", "is empty"), (b" <!DOCTYPE html>", "web page"),
                        (b"version https://git-lfs.github.com/spec/v1",
                         "Git LFS pointer")):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=fault):
            whole.read_json(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be opened"):
        whole.read_json(path)
    path.write_text(json.dumps({"a": 1}))
    assert whole.examine(path) == b'{"a": 1}'
