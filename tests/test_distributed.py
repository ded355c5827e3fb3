"""Two processes under torchrun: equal losses, shards, killed workers.

One start of torchrun does all that needs no fresh processes: this file is
also what its workers run. Gloo, on the CPU.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEPS = 50
DTYPES = {"float64": 1e-8, "float32": 1e-4}
KINDS = ("ddp", "fsdp")


# ------------------------------------------------- in workers and in the test
def settings(**changes):
    from gpt2.training import TrainingConfig
    return TrainingConfig(**{**dict(
        steps=STEPS, batch_size=8, micro_batch=2, length=32, warmup=5,
        learning_rate=3e-3, save_every=25, eval_every=25, eval_windows=5),
        **changes})


def run(engine, dtype="float32", directory=None, **changes):
    """Train; what came of it, as numbers that JSON keeps exactly."""
    import torch

    from gpt2.command_line.loop import train_run
    from gpt2.command_line.runs import Run
    from gpt2.data import Batches
    from gpt2.training import updates
    from toys import Text, byte_tokenizer
    torch.manual_seed(0)
    model = model_of().to(getattr(torch, dtype))
    batches = Batches(Text(), 8, 32, rank=engine.rank,
                      world=engine.world)
    config = settings(**changes)
    if directory:
        rows = train_run(model, batches, config, engine,
                         Run(directory, byte_tokenizer(), Text(2, 300)))
    else:
        engine.prepare(model, config)
        rows = [update._asdict() for update in updates(
            engine, batches, config, stop=lambda: engine.any(False))]
    whole = engine.whole_model()
    found = {key: [row[key] for row in rows if key in row] for key in
             ("loss", "gradient_norm", "validation_loss", "sample")}
    found["weights"] = whole and [
        float(p.detach().double().norm()) for p in whole.parameters()]
    return found


def cut(directory, step):
    """As if the run had been killed after this update."""
    for path in (Path(directory) / "checkpoints").iterdir():
        if int(path.name[5:]) > step:
            shutil.rmtree(path)


# ------------------------------------------------------------ in the workers
def work(out):
    import torch
    import torch.distributed as dist

    from gpt2.distributed import choose_engine, joined
    from gpt2.resume import everyone, on_first
    from gpt2.scaling import Speed, find_micro_batch
    torch.set_num_threads(1)
    found = {}
    with joined() as device:
        rank = dist.get_rank()
        for kind in KINDS:
            found[kind, "float64"] = run(choose_engine(device, kind),
                                         "float64")
            engine = choose_engine(device, kind)
            found[kind, "float32"] = run(engine, directory=out / kind)
            held = [p.to_local() if hasattr(p, "to_local") else p
                    for p in engine.model.parameters()]
            found[kind, "numbers held"] = sum(p.numel() for p in held)
            speed = Speed(compile="aot_eager", checkpoint=True)
            found[kind, "compiled"] = run(choose_engine(
                device, kind, speed), steps=6)
        for kind in KINDS:
            for origin in ("one", *KINDS):
                where = out / f"{origin}-by-{kind}"
                on_first(lambda: shutil.copytree(out / origin, where))
                on_first(lambda: cut(where, 25))
                found[kind, "resumes " + origin] = run(
                    choose_engine(device, kind), directory=where)
        where = out / "dropout"
        for name in ("straight", "resumed"):
            found["dropout", name] = run(
                choose_engine(device), directory=where, steps=8,
                save_every=4, dropout=0.2)
            on_first(lambda: cut(where, 4))
        found["sampled"] = run(choose_engine(device, "fsdp"), steps=3,
                               directory=out / "sampled", sample_every=3)
        found["everyone"] = everyone(rank + 1)
        try:
            on_first(lambda: (out / "no" / "such" / "folder").mkdir())
        except OSError as error:
            found["error"] = type(error).__name__
        engine = choose_engine(device, "fsdp")
        found["stop"] = [engine.any(rank == 1), engine.any(False)]
        room = 10 ** 12 if rank else 10 ** 6
        found["micro"] = find_micro_batch(engine, model_of(), settings(),
                                          available=room)
    (out / f"rank{rank}.json").write_text(json.dumps(
        {" ".join([key] if isinstance(key, str) else key): value
         for key, value in found.items()}))


def model_of():
    from gpt2.config import GPT2Config
    from gpt2.model import GPT2
    from toys import TINY
    return GPT2(GPT2Config(**TINY))


# ----------------------------------------------------------------- the parent
def torchrun(*arguments, **options):
    if sys.platform == "win32":
        pytest.skip("torchrun on Windows has no libuv")
    environment = {**os.environ, "OMP_NUM_THREADS": "1",
                   "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux"
                   else "lo0", "PYTHONPATH": os.pathsep.join(
                       [str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone",
         "--nproc-per-node", "2", *map(str, arguments)], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """One process: what two must equal."""
    import torch

    from gpt2.scaling import FastEngine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs")
    found = {dtype: run(FastEngine(), dtype,
                        out / "one" if dtype == "float32" else None)
             for dtype in DTYPES}
    torch.set_num_threads(threads)
    return out, found


@pytest.fixture(scope="module")
def two(one):
    """What the two processes found, by rank."""
    out, _ = one
    with torchrun(__file__, out) as workers:
        _, errors = workers.communicate(timeout=600)
    assert workers.returncode == 0, errors[-3000:]
    return [json.loads((out / f"rank{rank}.json").read_text())
            for rank in range(2)]


def close(ours, theirs, tol):
    assert len(ours) == len(theirs)
    return max(abs(a - b) for a, b in zip(ours, theirs)) <= tol


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_of_one_process(one, two, kind, dtype):
    """Of 50 updates, and gradient norms, weights and evaluations."""
    alone, both = one[1][dtype], [found[f"{kind} {dtype}"] for found in two]
    tol = DTYPES[dtype]
    assert len(alone["loss"]) == STEPS
    assert alone["loss"][-1] < alone["loss"][0] - 1
    assert close(both[0]["loss"], alone["loss"], tol)
    assert close(both[0]["gradient_norm"], alone["gradient_norm"], 10 * tol)
    assert close(both[0]["weights"], alone["weights"], 100 * tol)
    assert both[1]["weights"] is None            # the whole is on rank 0
    for key in ("loss", "gradient_norm"):
        assert both[0][key] == both[1][key]
    if dtype == "float32":
        assert len(alone["validation_loss"]) == 2
        assert close(both[0]["validation_loss"], alone["validation_loss"],
                     tol)


def test_who_holds_what(two):
    whole = sum(p.numel() for p in model_of().parameters())
    for found in two:
        assert found["ddp numbers held"] == whole
        assert abs(found["fsdp numbers held"] / whole - 0.5) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_and_checkpointed(one, two, kind):
    """A schedule of 6 updates, by chapter 15's engine and by these."""
    from gpt2.training import Engine
    engine = Engine()
    engine.whole_model = lambda: None
    alone = run(engine, steps=6)
    assert close(two[0][f"{kind} compiled"]["loss"], alone["loss"], 1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("origin", ["one", *KINDS])
def test_two_resume_any(one, two, kind, origin):
    """Also at an update that was evaluated: the first one's log says so,
    and both must know, or one would evaluate alone."""
    found = two[0][f"{kind} resumes {origin}"]
    assert close(found["loss"], one[1]["float32"]["loss"], 1e-4)


@pytest.mark.parametrize("origin", KINDS)
def test_one_resumes_two(one, two, origin):
    """And goes on to the same weights."""
    from gpt2.distributed import choose_engine
    out, alone = one
    where = out / f"{origin}-by-one"
    shutil.copytree(out / origin, where)
    cut(where, 25)
    found = run(choose_engine(), directory=where)
    assert close(found["loss"], alone["float32"]["loss"], 1e-4)
    assert close(found["weights"], alone["float32"]["weights"], 1e-2)


def test_checkpoints(one, two):
    """One form for all: each process has written a part, and each engine's
    is read as one whole model."""
    import torch

    from gpt2.resume import read_model
    out, models = one[0], []
    for kind in ("one", *KINDS):
        folder = out / kind / "checkpoints" / "step-00000050"
        names = {path.name for path in folder.iterdir()}
        shards = {name for name in names if name.endswith(".distcp")}
        assert len(shards) == (1 if kind == "one" else 2)
        assert names - shards == {
            ".metadata", "config.json", "position.json", "checksums.json",
            "tokenizer.json", "tokenizer_config.json", "vocab.json",
            "merges.txt"}
        assert not list(folder.parent.glob(".*"))
        models.append(read_model(folder))
    for alone, *both in zip(*(each.parameters() for each in models)):
        assert all((p - alone).abs().max() < 1e-2 for p in both)
        assert not torch.equal(alone, torch.zeros_like(alone))


def test_a_damaged_shard_is_noticed(one, two):
    from gpt2.data import DataError
    from gpt2.distributed import choose_engine
    where = one[0] / "damaged"
    shutil.copytree(one[0] / "fsdp", where)
    path = where / "checkpoints" / "step-00000050" / "__1_0.distcp"
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        byte = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DataError, match="damaged"):
        run(choose_engine(), directory=where)


def test_dropout_goes_on(two):
    """With as many processes: the same draws, each process its own."""
    straight, resumed = (two[0][f"dropout {name}"]["loss"]
                         for name in ("straight", "resumed"))
    assert straight == resumed


def test_samples_of_shards(one, two):
    """All processes write the same text, the one that a whole model does."""
    from gpt2.scaling import FastEngine
    texts = [found["sampled"]["sample"] for found in two]
    alone = run(FastEngine(), directory=one[0] / "sampled-alone", steps=3,
                sample_every=3)
    assert texts[0] == texts[1] == alone["sample"] and len(texts[0]) == 2


def test_agreement(two):
    for found in two:
        assert found["everyone"] == [1, 2]
        assert found["error"] == "FileNotFoundError"     # rank 0's, on both
        assert found["stop"] == [True, False]
    assert two[0]["micro"] == two[1]["micro"] < 4        # the poorer decides


# -------------------------------------------------------------- without others
@pytest.mark.parametrize("parallel, words", [
    ("ring", "expected auto, none, ddp, fsdp"), ("ddp", "torchrun"),
    ("fsdp", "torchrun")])
def test_engines_refused(parallel, words):
    from gpt2.distributed import choose_engine
    with pytest.raises(ValueError, match=words):
        choose_engine("cpu", parallel)


def test_nothing_to_compile_with(monkeypatch):
    from gpt2 import distributed
    from gpt2.scaling import FastEngine, Speed
    monkeypatch.setattr(distributed, "can_compile", lambda device: False)
    with pytest.raises(ValueError, match="install g"):
        distributed.choose_engine("cpu", speed=Speed(compile="inductor"))
    assert isinstance(distributed.choose_engine("cpu"), FastEngine)


def test_lost():
    import torch

    from gpt2.distributed import is_lost
    assert is_lost(RuntimeError("[x/gloo/transport/tcp/pair.cc:5] timed out"))
    assert is_lost(torch.distributed.DistBackendError("NCCL error"))
    assert not is_lost(RuntimeError("shapes (2, 3) and (4, 5)"))
    assert not is_lost(OSError("Broken pipe"))


# ----------------------------------------------------------- the command line
def children(process):
    """The workers that a torchrun has started."""
    lines = subprocess.run(["ps", "-A", "-o", "ppid=,pid="],
                           capture_output=True, text=True).stdout.split("\n")
    pairs = [line.split() for line in lines if line.strip()]
    return [int(pid) for parent, pid in pairs if int(parent) == process.pid]


def rows_of(out):
    from gpt2.command_line.runs import read_rows
    return [row for row in read_rows(out / "metrics.jsonl") if "loss" in row]


def started(out, updates, *words):
    """A torchrun of the command, as soon as it has made so many updates."""
    workers = torchrun("-m", "gpt2", "train", *words, "--out", out)
    end = time.monotonic() + 600
    while len(rows_of(out)) < updates:
        if workers.poll() is not None or time.monotonic() > end:
            workers.kill()
            pytest.fail(workers.communicate()[1][-3000:])
        time.sleep(0.02)
    return workers


@pytest.fixture
def words(tmp_path):
    """A small run's options, all but where it goes."""
    from commands import build, write_corpus
    from gpt2.command_line.options import NANO
    if not NANO.is_dir():
        pytest.skip("the wheel has no checkpoints/nano")
    model = build(tmp_path / "tiny", scale=0.1)
    return ["--init-from", model, "--data", write_corpus(tmp_path / "code"),
            "--batch-size", "4", "--micro-batch", "1", "--length", "24",
            "--max-steps", "150", "--save-every", "5", "--eval-every", "50",
            "--workers", "1"]


def test_killed_and_stopped_and_resumed(words, tmp_path, monkeypatch, capsys):
    """Two processes, one killed; two others in pieces, told to stop; one
    process to the end. It is the run that one process would have made."""
    from commands import is_one_line, runner
    from gpt2.resume import checkpoints
    out = tmp_path / "run"
    with started(out, 12, *words, "--parallel", "ddp") as workers:
        pids = children(workers)
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGKILL)
        _, err = workers.communicate(timeout=300)
    assert workers.returncode != 0
    line, = [line for line in err.splitlines() if line.startswith("gpt2: ")]
    assert is_one_line(line + "\n")
    assert "of 2: another one has ended" in line and "--resume" in line
    saved = int(checkpoints(out)[-1].name[5:])
    assert saved % 5 == 0 and saved >= 10

    with started(out, saved + 7, "--resume", "--parallel", "fsdp") as workers:
        workers.send_signal(signal.SIGTERM)
        said, err = workers.communicate(timeout=300)
    assert "SIGTERM after update" in err and "go on with" in err
    newest = checkpoints(out)[-1]
    assert int(newest.name[5:]) == rows_of(out)[-1]["step"] < 150
    assert list(newest.glob("*.distcp"))

    run = runner(monkeypatch, capsys)
    code, said, err = run("train", "--resume", "--out", out)
    assert code == 0 and "the model is in" in said
    code, _, err = run("train", *words, "--out", tmp_path / "straight")
    assert code == 0
    rows, wanted = rows_of(out), rows_of(tmp_path / "straight")
    assert [row["step"] for row in rows] == list(range(1, 151))
    assert close([row["loss"] for row in rows],
                 [row["loss"] for row in wanted], 1e-4)


def test_two_processes_to_the_end(words, tmp_path):
    """What is printed is printed once, and the model is whole."""
    from gpt2.pretrained import load_pretrained, load_tokenizer
    out = tmp_path / "run"
    words[words.index("--max-steps") + 1] = "10"
    words[words.index("--micro-batch") + 1] = "auto"
    with torchrun("-m", "gpt2", "train", *words, "--out", out, "--parallel",
                  "fsdp", "--checkpoint-activations") as workers:
        said, err = workers.communicate(timeout=600)
    assert workers.returncode == 0, err[-3000:]
    assert said.count("tokens to train on") == 1
    assert said.count("the model is in") == 1
    assert said.count("update 10 of 10") == 1
    assert "micro-batches of 2\n" in said
    model = load_pretrained(out / "model")
    assert model.config.vocab_size == len(load_tokenizer(out / "model"))


@pytest.mark.parametrize("more, what", [
    (["--parallel", "ddp"], "torchrun"),
    (["--parallel", "fsdp"], "torchrun"),
    (["--micro-batch", "0"], "neither a number of at least 1 nor auto"),
    (["--micro-batch", "many"], "neither a number of at least 1 nor auto"),
    (["--compile"], "nothing to compile with")])
def test_refused(words, tmp_path, monkeypatch, capsys, more, what):
    from commands import is_one_line, runner
    from gpt2 import distributed
    monkeypatch.setattr(distributed, "can_compile", lambda device: False)
    code, said, err = runner(monkeypatch, capsys)(
        "train", *words, "--out", tmp_path / "run", *more)
    assert (code, said) == (2, "") and is_one_line(err) and what in err
    assert not (tmp_path / "run").exists()


def test_one_process_with_everything(words, tmp_path, monkeypatch, capsys):
    """The options change memory and speed, not the run."""
    from commands import runner
    run = runner(monkeypatch, capsys)
    words[words.index("--max-steps") + 1] = "6"
    for name, more in ("plain", []), ("lean", [
            "--checkpoint-activations", "--tf32", "--micro-batch", "auto",
            "--parallel", "auto"]):
        code, said, err = run("train", *words, "--out", tmp_path / name,
                              *more)
        assert (code, err) == (0, "")
    assert "micro-batches of 4\n" in said
    assert close(*([row["loss"] for row in rows_of(tmp_path / name)]
                   for name in ("plain", "lean")), 1e-5)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
