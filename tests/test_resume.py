"""Runs that are killed, stopped or out of disk space go on to the same bits.

Real processes, real signals. Importing torch takes seconds, so one process
imports it once and forks a worker for every run (it has no other threads).
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"),
                                reason="workers are forked")
STEPS, SAVE, EVALUATE = 64, 4, 7


# ------------------------------------------------------------ in the workers
def run(directory, slow):
    """One training run; what it returns is the exit status."""
    import torch

    from gpt2 import resume, training
    from gpt2.command_line import loop, runs
    from gpt2.config import GPT2Config
    from gpt2.data import Batches
    from gpt2.model import GPT2
    from gpt2.pretrained import CheckpointError
    from toys import TINY, Text
    config = training.TrainingConfig(
        steps=STEPS, batch_size=6, micro_batch=2, length=32, warmup=5,
        learning_rate=3e-3, dropout=0.1, save_every=SAVE,
        eval_every=EVALUATE, eval_windows=3, sample_every=30, keep=2)

    class SlowText(Text):
        def window(self, start, length):
            if slow == "evaluate" and len(self) == 500:
                time.sleep(0.1)
            return super().window(start, length)

    class Slow(training.Engine):
        def backward(self, ids, share, last):
            if slow == "update":
                time.sleep(0.1)
            return super().backward(ids, share, last)

    resume.save_config = saving(resume.save_config, slow)
    torch.manual_seed(0)
    try:
        loop.train_run(
            GPT2(GPT2Config(**TINY)), Batches(Text(), 6, 32), config,
            Slow(), runs.Run(directory, TOKENIZER, SlowText(2, 500)))
    except runs.Interrupted as error:
        print(error, file=sys.stderr)
        return error.code
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


def saving(save, slow):
    """With sleep between the shards and the rest of a checkpoint, or with a
    disk that fills after the second: the third finds no room."""
    calls = []

    def slowly(content, path):
        calls.append(path)
        if slow == "full" and len(calls) == 2:
            import resource
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        save(content, path)
        if slow == "save":
            time.sleep(0.25)

    return slowly


def nursery():
    """Fork a worker for each line {"directory", "slow"}; reap on "wait"."""
    global TOKENIZER
    import matplotlib.figure                             # noqa: F401
    import torch

    import torch.distributed.checkpoint                  # noqa: F401

    import gpt2.command_line.loop                        # noqa: F401
    from toys import byte_tokenizer
    torch.set_num_threads(1)
    TOKENIZER = byte_tokenizer()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        elif not (answer := os.fork()):
            with open(order["directory"] + ".err", "w") as file:
                os.dup2(file.fileno(), 2)
            status = 70
            try:
                status = run(order["directory"], order["slow"])
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(answer, flush=True)


# ----------------------------------------------------------------- the parent
class Workers:
    """Starts runs, and waits for them."""

    def __init__(self, root):
        environment = {**os.environ, "OMP_NUM_THREADS": "1",
                       "PYTHONPATH": os.pathsep.join(
                           [str(root), os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen(
            [sys.executable, __file__], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **order):
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def start(self, directory, slow=""):
        return self.ask(directory=str(directory), slow=slow)

    def wait(self, pid):
        return self.ask(wait=pid)

    def finish(self, directory):
        """Run to the end."""
        status = self.wait(self.start(directory))
        assert status == 0, Path(f"{directory}.err").read_text()


@pytest.fixture(scope="module")
def workers(root):
    workers = Workers(root)
    yield workers
    workers.process.stdin.close()
    workers.process.wait(10)


@pytest.fixture(scope="module")
def straight(workers, tmp_path_factory):
    """A run that nobody disturbs."""
    directory = tmp_path_factory.mktemp("runs") / "straight"
    workers.finish(directory)
    return directory


def rows_of(directory):
    """What metrics.jsonl says now, a torn line left out."""
    rows = []
    try:
        for line in (directory / "metrics.jsonl").read_text().splitlines():
            rows.append(json.loads(line))
    except (OSError, ValueError):
        pass
    return rows


def step_of(directory):
    """The update of the newest whole line of metrics.jsonl."""
    try:
        lines = (directory / "metrics.jsonl").read_bytes().split(b"\n")
        return json.loads(lines[-2])["step"]
    except (OSError, IndexError):
        return 0


def newest(directory):
    saved = sorted((directory / "checkpoints").glob("step-*"))
    return int(saved[-1].name[5:]) if saved else 0


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.004)


def tensors_in(checkpoint):
    """All of them, by name."""
    import torch
    import torch.distributed.checkpoint as shards

    from gpt2.resume import shard_reader
    reader, shapes = shard_reader(checkpoint)
    types = {name: each.properties.dtype for name, each in
             reader.read_metadata().state_dict_metadata.items()}
    state = {name: torch.empty(shape, dtype=types[name])
             for name, shape in shapes.items()}
    with warnings.catch_warnings(action="ignore"):       # "no process group"
        shards.load(state, storage_reader=reader)
    return state


def same_run(directory, straight):
    """Losses, samples, weights, optimizer, random numbers: equal bits."""
    import torch
    stories = [[{k: v for k, v in row.items() if k != "seconds"}
                for row in rows_of(d)] for d in (directory, straight)]
    assert stories[0] == stories[1]
    ends = [d / "checkpoints" / f"step-{STEPS:08}"
            for d in (directory, straight)]
    a, b = map(tensors_in, ends)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    kinds = {key.split(".")[0] for key in a}
    assert kinds == {"model", "optimizer", "random"}
    assert not list((directory / "checkpoints").glob(".*"))
    assert len(list((directory / "checkpoints").iterdir())) == 2


def test_the_reference(straight):
    rows = rows_of(straight)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == STEPS and losses[-1] < losses[0] - 1
    assert sum("validation_loss" in row for row in rows) == STEPS // EVALUATE + 1
    assert sum("sample" in row for row in rows) == 4     # 0, 30, 60, 64
    assert (straight / "loss.png").stat().st_size > 1000
    assert len(set(losses)) == STEPS                     # not one batch


def test_killed_at_any_moment(workers, straight, tmp_path):
    directory, chance, kills = tmp_path / "run", random.Random(14), 0
    while kills < 12:
        target = newest(directory) + chance.randint(1, 7)
        pause = chance.random() * 0.05
        pid = workers.start(directory)
        until(lambda: step_of(directory) >= min(target, STEPS))
        time.sleep(pause)
        os.kill(pid, signal.SIGKILL)
        if workers.wait(pid) != -signal.SIGKILL:
            break                                        # it was faster
        kills += 1
    assert kills >= 10
    workers.finish(directory)
    same_run(directory, straight)


def test_killed_while_starting(workers, straight, tmp_path):
    directory, chance = tmp_path / "run", random.Random(3)
    for _ in range(6):
        pid = workers.start(directory)
        time.sleep(chance.random() * 0.1)
        os.kill(pid, signal.SIGKILL)
        workers.wait(pid)
    workers.finish(directory)
    same_run(directory, straight)


def test_killed_while_saving(workers, straight, tmp_path):
    directory, chance, torn = tmp_path / "run", random.Random(15), 0
    for _ in range(5):
        name = f".step-{newest(directory) + 2 * SAVE:08}.*"
        pid = workers.start(directory, "save")
        until(lambda: list((directory / "checkpoints").glob(name)))
        time.sleep(chance.random() * 0.2)
        os.kill(pid, signal.SIGKILL)
        assert workers.wait(pid) == -signal.SIGKILL
        torn += bool(list((directory / "checkpoints").glob(name)))
    assert torn == 5                  # each left half a checkpoint behind
    workers.finish(directory)
    same_run(directory, straight)


def test_stopped(workers, straight, tmp_path):
    """Also in a long accumulation, an evaluation, and while saving."""
    directory, chance = tmp_path / "run", random.Random(16)
    for i, slow in enumerate(["", "update", "evaluate", "save"] * 2):
        number = (signal.SIGTERM, signal.SIGINT)[(i + i // 4) % 2]
        before = newest(directory)
        pid = workers.start(directory, slow)
        if slow == "evaluate":
            due = -(-(before + 1) // EVALUATE) * EVALUATE
            until(lambda: step_of(directory) >= due)
            time.sleep(0.05)
        elif slow == "save":
            name = f".step-{before // SAVE * SAVE + SAVE:08}.*"
            until(lambda: list((directory / "checkpoints").glob(name)))
        else:
            until(lambda: step_of(directory) > before)
            time.sleep(chance.random() * 0.2 if slow else 0.0)
        os.kill(pid, number)
        assert workers.wait(pid) == 128 + number         # 143 or 130
        said = Path(f"{directory}.err").read_text()
        assert said.count("\n") == 1 and number.name in said
        assert f"--resume --out {directory}" in said
        assert newest(directory) == step_of(directory) < STEPS
    workers.finish(directory)
    same_run(directory, straight)


def test_disk_full(workers, straight, tmp_path):
    directory = tmp_path / "run"
    assert workers.wait(workers.start(directory, "full")) == 3
    said = Path(f"{directory}.err").read_text()
    assert f"after update {2 * SAVE} could not be saved" in said
    assert f"The last good one: {directory}/checkpoints/step-0000000{SAVE}" \
        in said
    assert newest(directory) == SAVE
    assert not list((directory / "checkpoints").glob(".*"))
    workers.finish(directory)
    same_run(directory, straight)


def test_the_newest_one_damaged(workers, straight, tmp_path):
    """It is refused; without it the run goes on from the one before."""
    directory = tmp_path / "run"
    pid = workers.start(directory)
    until(lambda: newest(directory) >= 3 * SAVE)
    os.kill(pid, signal.SIGKILL)
    workers.wait(pid)
    last = sorted((directory / "checkpoints").glob("step-*"))[-1]
    with open(last / "__0_0.distcp", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    assert workers.wait(workers.start(directory)) == 70
    assert "is damaged. Remove it" in Path(f"{directory}.err").read_text()
    shutil.rmtree(last)
    workers.finish(directory)
    same_run(directory, straight)


if __name__ == "__main__":
    nursery()
