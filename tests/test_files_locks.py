"""Locks: waiting and not waiting, and systems that have none."""
import multiprocessing
import os
import time

import pytest

from gpt2.files import locks
from gpt2.files.errors import DataError

SPAWN = multiprocessing.get_context("spawn")


def hold(path, seconds):
    """Make the directory of a file, slowly; another process runs this."""
    with locks.one_at_a_time(path):
        began = time.time()
        time.sleep(seconds)
        with open(path.with_name("log"), "a") as log:
            log.write(f"{began} {time.time()}\n")


def test_others_wait(tmp_path):
    processes = [SPAWN.Process(target=hold, args=(tmp_path / "d", 0.3))
                 for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    spans = sorted(tuple(map(float, line.split())) for line in
                   (tmp_path / "log").read_text().splitlines())
    assert len(spans) == 3
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:]))


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    process = SPAWN.Process(target=hold, args=(tmp_path / "d", 60))
    process.start()
    while not (tmp_path / ".d.lock").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.kill()
    process.join()
    began = time.time()
    hold(tmp_path / "d", 0)
    assert time.time() - began < 10


def test_only_the_remains_of_this_directory_go(tmp_path):
    for name in (".d.x.5.tmp", ".d.tmp", ".d.5.tmp", ".other.5.tmp"):
        (tmp_path / name / "inside").mkdir(parents=True)
    with locks.one_at_a_time(tmp_path / "d"):
        assert {p.name for p in tmp_path.iterdir()} == {
            ".d.lock", ".d.x.5.tmp", ".d.tmp", ".other.5.tmp"}


@pytest.mark.parametrize("fault", [OSError(95, "not supported"),
                                   NotImplementedError()])
def test_without_locks_all_go_on(tmp_path, monkeypatch, fault):
    """And nothing of another process is removed: it may be alive."""
    import filelock

    def acquire(self, *_, **__):
        raise fault
    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    (tmp_path / ".d.5.tmp").mkdir()
    with locks.locked(tmp_path / "lock") as held:
        assert held is False
    with locks.one_at_a_time(tmp_path / "d"):
        assert (tmp_path / ".d.5.tmp").exists()
    with locks.alone(tmp_path / "run", "training"):
        pass


def test_alone(tmp_path):
    run = tmp_path / "a" / "run"
    with locks.alone(run, "training"):
        with pytest.raises(DataError, match="another process is training"):
            with locks.alone(run, "training"):
                raise AssertionError("both are in")
        with locks.alone(tmp_path / "a" / "other", "training"):
            pass
        (run / "metrics.jsonl").write_text("")
    assert (run / "metrics.jsonl").exists()      # something came of it
    with locks.alone(run, "training"):           # and it is free again
        (run / "metrics.jsonl").unlink()
        (run / ".data.lock").write_text("")
    left = [*(tmp_path / "a").iterdir()]
    assert not left or os.name == "nt"
    with pytest.raises(ZeroDivisionError), locks.alone(run, "training"):
        1 / 0
    assert not run.exists() or os.name == "nt"
