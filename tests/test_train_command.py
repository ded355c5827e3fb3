"""python -m gpt2 train and evaluate: what they do, print and refuse.

Processes only for real signals; the rest calls `main`.
"""
import io
import json
import math
import os
import pickle
import re
import shlex
import shutil
import signal
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pooch
import pytest
import torch
from commands import (NANO, TINY, build, is_one_line, runner, start,
                      write_corpus)

from gpt2 import PRESETS, Tokenizer, data, resume, training
from gpt2.command_line import bodies, loop, options, plans, train
from gpt2.command_line.app import main
from gpt2.command_line.runs import Interrupted, read_rows, read_run
from gpt2.files.whole import SUMS, file_sums
from gpt2.pretrained import load_pretrained, load_tokenizer, save_tokenizer
from gpt2.resume import checkpoints, read_model, state_of, tensors_of
from gpt2.scaling import FastEngine

pytestmark = pytest.mark.skipif(not options.NANO.is_dir(),
                                reason="the wheel has no checkpoints/nano")


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls main; models are tiny, and what takes its time is left out."""
    for name in PRESETS:
        monkeypatch.setitem(PRESETS, name, {**PRESETS["nano"], **TINY})
    monkeypatch.setattr(plans, "measured_peak", lambda *rest: 1e12)
    monkeypatch.setattr(loop, "plot_losses", lambda run: None)
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus") / "code")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return build(tmp_path_factory.mktemp("trained"), scale=0.1)


SMALL = ["--batch-size", 4, "--length", 24, "--workers", 1, "--dropout", 0.1]


def begin(run, corpus, out, *more, steps=6):
    """A small run; what more says, wins."""
    return run("train", "--data", corpus, "--out", out, *SMALL,
               "--max-steps", steps, *more)


def numbers(out):
    return read_run(out)["training"]


def metrics(out, *keys):
    """The rows of a run without times, or the values of some key."""
    rows = read_rows(out / "metrics.jsonl")
    if keys:
        return [row[key] for row in rows for key in keys if key in row]
    return [{key: value for key, value in row.items()
             if key not in ("seconds", "mfu")} for row in rows]


def weights(out):
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def runs(corpus, tmp_path_factory):
    """Two runs of 6 updates: "whole", and "half", which Ctrl-C has ended."""
    folder = tmp_path_factory.mktemp("runs")
    updates = []

    class Stopping(FastEngine):
        def update(self, rate):
            super().update(rate)
            updates.append(rate)
            if len(updates) == 6 + 3:
                signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plot_losses", lambda run: None)
        patch.setitem(PRESETS, "nano", {**PRESETS["nano"], **TINY})
        patch.setattr(train, "choose_engine", lambda *chosen: Stopping())
        for name, code in ("whole", 0), ("half", 130):
            assert main([str(word) for word in (
                "train", "--data", corpus, "--out", folder / name, *SMALL,
                "--max-steps", 6)]) == code
    return folder


@pytest.fixture
def half(runs, tmp_path):
    return shutil.copytree(runs / "half", tmp_path / "half")


@pytest.fixture
def whole(runs, tmp_path):
    return shutil.copytree(runs / "whole", tmp_path / "whole")


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*")
            if path.is_file()}


# --- a new run ------------------------------------------------------------

def test_a_run(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "nano", {**PRESETS["nano"], **TINY})
    run, out = runner(monkeypatch, capsys), tmp_path / "a b"
    code, said, err = begin(run, corpus, out, "--eval-every", 2)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in out.iterdir()
                  if path.name[0] != ".") == [
        "checkpoints", "data", "loss.png", "merges.txt", "metrics.jsonl",
        "model", "tokenizer.json", "tokenizer_config.json", "training.json",
        "vocab.json"]
    network = load_pretrained(out / "model")
    tokenizer = load_tokenizer(out / "model")
    assert tokenizer.vocab == Tokenizer.load(NANO).vocab
    config = numbers(out)
    assert config.steps == 6 and config.length == 24
    assert network.config.vocab_size == len(tokenizer) == 4096
    tokens = {split: data.Tokens(out / "data", split, tokenizer)
              for split in data.SPLITS}
    windows = training.evaluation_windows(tokens["validation"], 24, 64)
    found = training.summarize(training.count_losses(
        network, tokens["validation"], windows,
        sizes=data.token_sizes(tokenizer)))
    assert metrics(out, "validation_loss")[-1] == pytest.approx(found["loss"])
    first, *middle, last = said.splitlines()
    assert first == (
        f"{corpus}: {len(tokens['train']):,} tokens to train on,"
        f" {len(tokens['validation']):,} held out; 6 updates of 4 x 24 tokens")
    assert len(middle) == 3
    assert last == (
        f"held-out text: {found['loss']:.3f} nats per token,"
        f" {found['bits_per_byte']:.3f} bits per byte; the model is in"
        f" {out / 'model'}")


def test_lines_for_a_log_file(run, corpus, tmp_path):
    """At each evaluation; the training loss is the mean since the last."""
    code, said, err = begin(run, corpus, tmp_path / "run", "--eval-every", 4)
    losses = metrics(tmp_path / "run", "loss")
    held_out = metrics(tmp_path / "run", "validation_loss")
    bits = metrics(tmp_path / "run", "validation_bits_per_byte")
    assert (len(losses), len(held_out)) == (6, 2)
    lines = said.splitlines()[1:-1]
    for line, step, part, i in zip(lines, (4, 6), (losses[:4], losses[4:]),
                                   range(2), strict=True):
        assert re.fullmatch(
            rf"update {step} of 6: loss {sum(part) / len(part):.3f}, held out"
            rf" {held_out[i]:.3f}, {bits[i]:.3f} bits per byte; [\d,]+"
            r" tokens/s, 0:\d\d:\d\d left", line), line


def test_a_bar_on_a_terminal(run, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, said, err = begin(run, corpus, tmp_path / "run", "--eval-every", 2)
    assert code == 0 and said.count("\n") == 2
    assert "6/6" in err and "tok/s" in err


OPTIONS = dict(steps=2, batch_size=2, micro_batch=1, length=20,
               learning_rate=0.01, warmup=1, decay=1, dropout=0.2,
               precision="bfloat16", deterministic=True, seed=7, eval_every=3,
               sample_every=4, save_every=5, keep=6)


def as_options(**values):
    for name, value in values.items():
        yield "--" + name.replace("_", "-").replace("steps", "max-steps")
        if value is not True:
            yield value


def test_every_number_is_used(run, corpus, tmp_path):
    words = ["train", "--data", corpus, "--out", tmp_path / "run",
             "--workers", 1, *as_options(**OPTIONS)]
    try:
        assert run(*words)[0] == 0
    finally:
        torch.use_deterministic_algorithms(False)
    saved = asdict(numbers(tmp_path / "run"))
    assert {name: saved[name] for name in OPTIONS} == OPTIONS
    (session,) = read_run(tmp_path / "run")["sessions"]
    assert shlex.split(session["command"]) == [
        "python", "-m", "gpt2", *map(str, words)]


@pytest.mark.parametrize("preset", training.TRAINING_PRESETS)
def test_presets(run, corpus, tmp_path, monkeypatch, preset):
    seen = []

    class Enough(Exception):
        pass

    def no_training(model, batches, config, *rest):
        seen.append((model, config))
        raise Enough

    monkeypatch.setattr(train, "train_run", no_training)
    monkeypatch.setitem(PRESETS, preset, {**TINY, "n_inner": 48})
    with pytest.raises(Enough):
        run("train", "--preset", preset, "--data", corpus, "--workers", 1,
            "--tokenizer", NANO, "--out", tmp_path / "run")
    (model, config), = seen
    wanted = training.TrainingConfig.from_preset(preset, length=64)
    assert config == wanted          # but for the length: the model's limit
    assert model.config.n_inner == 48
    assert model.config.vocab_size == 4096
    assert model.config.eos_token_id == 4095


def test_seed_and_data_decide(run, corpus, tmp_path):
    seen = []
    for n, seed in enumerate((1, 1, 2)):
        begin(run, corpus, tmp_path / f"{n}", "--seed", seed, steps=1)
        seen.append(weights(tmp_path / f"{n}"))
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("steps, more, warmup", [
    (40, [], 4), (5_000, [], 200), (40, ["--warmup", 9], 9), (3, [], 0)])
@pytest.mark.parametrize("how", ["minutes", "max-steps"])
def test_schedule(run, corpus, tmp_path, monkeypatch, steps, more, warmup,
                  how):
    """--minutes asks for the speed; the warm-up is a tenth at most."""
    asked = []
    monkeypatch.setattr(plans, "steps_in", lambda minutes, *rest: (
        asked.append(minutes) or steps))
    monkeypatch.setattr(train, "train_run", lambda *rest: None)
    given = ["--minutes", 7.5] if how == "minutes" else ["--max-steps", steps]
    assert run("train", "--data", corpus, "--out", tmp_path / "run", *SMALL,
               *given, *more)[0] == 0
    assert asked == ([7.5] if how == "minutes" else [])
    config = numbers(tmp_path / "run")
    assert (config.steps, config.warmup) == (steps, warmup)


def test_minutes_are_minutes(run, corpus, tmp_path):
    out = tmp_path / "run"
    assert run("train", "--data", corpus, "--out", out, *SMALL, "--minutes",
               0.02)[0] == 0
    assert len(metrics(out, "loss")) == numbers(out).steps > 1
    assert sum(metrics(out, "seconds")) < 10 * 1.2


def test_another_tokenizer(run, corpus, tmp_path):
    own = Tokenizer.train(["def f(x): return x\n"] * 3, 270)
    save_tokenizer(own, tmp_path / "own")
    out = tmp_path / "run"
    assert begin(run, corpus, out, "--tokenizer", tmp_path / "own")[0] == 0
    network = load_pretrained(out / "model")
    assert network.config.vocab_size == len(own)
    assert network.config.eos_token_id == own.eos_token_id
    for folder in out, out / "model":
        assert load_tokenizer(folder).vocab == own.vocab
    shutil.rmtree(tmp_path / "own")
    shutil.rmtree(out / "model")                # as if killed just before it
    assert run("train", "--resume", "--out", out)[0] == 0
    assert (out / "model").exists()


# --- from another model ---------------------------------------------------

def test_init_from(run, corpus, tmp_path):
    """Its weights, its size, its tokenizer, at most its length."""
    own = Tokenizer.train(["def f(x): return x\n"] * 3, 270)
    source = build(tmp_path / "model", dtype=torch.bfloat16, n_layer=3,
                   vocab_size=300, bos_token_id=None, eos_token_id=None)
    for path in source.glob("*vocab*"), source.glob("*merges*"):
        for file in path:
            file.unlink()
    save_tokenizer(own, source)
    out = tmp_path / "run"
    code, said, err = run("train", "--init-from", source, "--data", corpus,
                          "--out", out, "--max-steps", 2, "--batch-size", 2,
                          "--workers", 1)
    assert (code, err) == (0, ""), err
    assert "2 updates of 2 x 64 tokens" in said
    before = load_pretrained(source, dtype=torch.float32)
    start = read_model(out / "checkpoints" / "step-00000000")
    end = load_pretrained(out / "model")
    assert end.config.n_layer == 3 and end.config.vocab_size == 300
    for name, value in before.state_dict().items():
        assert torch.equal(start.state_dict()[name], value)
        assert end.state_dict()[name].dtype == torch.float32
    assert not torch.equal(end.wte.weight, before.wte.weight)
    assert load_tokenizer(out / "model").vocab == own.vocab
    assert numbers(out).learning_rate < 5e-4


def test_init_from_again(run, corpus, tmp_path, whole):
    """A finished run's model; a rate that is given wins."""
    code, said, err = begin(run, corpus, tmp_path / "run", "--init-from",
                            whole / "model", "--learning-rate", 0.003)
    assert (code, err) == (0, "")
    assert numbers(tmp_path / "run").learning_rate == 0.003
    start = read_model(tmp_path / "run" / "checkpoints" / "step-00000000")
    end = load_pretrained(whole / "model").state_dict()
    assert all(torch.equal(value, end[name])
               for name, value in start.state_dict().items())


# --- a run that goes on ---------------------------------------------------

def test_resumed_is_uninterrupted(run, half, whole):
    assert metrics(half) == metrics(whole)[:3]
    assert run("train", "--resume", "--out", half)[0] == 0
    assert metrics(half) == metrics(whole)
    assert weights(half) == weights(whole)


def test_killed_before_the_first_update(run, half, whole):
    shutil.rmtree(half / "checkpoints" / "step-00000003")
    (half / "metrics.jsonl").unlink()
    assert run("train", "--resume", "--out", half)[0] == 0
    assert metrics(half) == metrics(whole)
    assert weights(half) == weights(whole)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def updates_done(out):
    try:
        return (out / "metrics.jsonl").read_text().count('"gradient_norm"')
    except OSError:
        return 0


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_and_stopped(run, corpus, model, tmp_path):
    """SIGKILL, Ctrl-C, SIGTERM; then the same bits.

    Each time it goes on with the command that the last one printed.
    """
    words = ["train", "--data", corpus, "--init-from", model, *SMALL,
             "--micro-batch", 3, "--max-steps", 160, "--save-every", 20,
             "--eval-every", 40]
    assert run(*words, "--out", tmp_path / "straight")[0] == 0
    out = tmp_path / "it's a run"
    again = ["train", "--resume", "--out", str(out)]
    for number in signal.SIGKILL, signal.SIGINT, signal.SIGTERM:
        before = updates_done(out)
        with start(*(again if before else [*words, "--out", out])) as running:
            until(lambda: updates_done(out) >= before + 12)
            running.send_signal(number)
            said, err = running.communicate(timeout=60)
        if number == signal.SIGKILL:
            assert running.returncode == -number
            continue
        assert running.returncode == 128 + number
        err = err.decode()
        assert err.count("\n") == 1 and err.startswith(
            f"gpt2: {number.name} after update ")
        program = shlex.split(err.partition("go on with: ")[2])
        assert program == ["python", "-m", "gpt2", *again]
        step = int(re.search(r"update ([\d,]+)", err)[1].replace(",", ""))
        assert checkpoints(out)[-1].name == f"step-{step:08}"
    assert run(*again)[0] == 0
    assert metrics(out) == metrics(tmp_path / "straight")
    assert weights(out) == weights(tmp_path / "straight")
    assert len(read_run(out)["sessions"]) == 4


def test_the_device_is_part_of_the_command(run, corpus, tmp_path,
                                           monkeypatch):
    def stopped(*rest):
        raise Interrupted([signal.SIGTERM], rest[-1].again, 12)
    monkeypatch.setattr(train, "train_run", stopped)
    out = tmp_path / "x  y"
    code, said, err = begin(run, corpus, out, "--device", "cpu")
    assert code == 143
    assert err == ("gpt2: SIGTERM after update 12: saved; go on with: python"
                   f" -m gpt2 train --resume --out '{out}' --device cpu\n")


@pytest.mark.parametrize("name, value", [
    ("steps", 7), ("batch_size", 8), ("length", 25), ("learning_rate", 0.5),
    ("warmup", 3), ("dropout", 0.0), ("precision", "bfloat16"),
    ("deterministic", True), ("seed", 1)])
@pytest.mark.parametrize("which", ["half", "whole"])
def test_other_mathematics_is_refused(run, request, capsys, which, name,
                                      value):
    out = request.getfixturevalue(which)
    capsys.readouterr()              # the run's own lines, if it was made now
    before = contents(out)
    code, said, err = run("train", "--resume", "--out", out,
                          *as_options(**{name: value}))
    assert (code, said) == (2, "") and is_one_line(err)
    assert name in err and str(value) in err
    assert contents(out) == before


def test_a_run_may_fall_earlier_than_planned(run, corpus, tmp_path,
                                             monkeypatch):
    """Stopped at its top, it ends like one that was planned so."""
    class Stopping(FastEngine):
        def update(self, rate):
            super().update(rate)
            updates.append(rate)
            if len(updates) == 3:
                signal.raise_signal(signal.SIGINT)

    updates, out, fall = [], tmp_path / "run", ("--decay", 2)
    with monkeypatch.context() as patch:
        patch.setattr(train, "choose_engine", lambda *_: Stopping())
        assert begin(run, corpus, out, "--warmup", 1, *fall, steps=99)[0] \
            == 130
    code, said, err = run("train", "--resume", "--out", out, "--max-steps", 6)
    assert (code, err) == (0, "") and "6 updates of 4 x" in said
    straight = tmp_path / "straight"
    assert begin(run, corpus, straight, "--warmup", 1, *fall)[0] == 0
    assert metrics(out) == metrics(straight)
    assert weights(out) == weights(straight)
    assert (numbers(out).steps, numbers(out).decay) == (6, 2)
    code, said, err = run("train", "--resume", "--out", out, "--max-steps", 9)
    assert (code, said) == (2, "") and "steps 6, not 9" in err


def test_what_may_differ(run, half, whole):
    changes = dict(micro_batch=3, save_every=2, eval_every=1, keep=4,
                   sample_every=2)
    code, said, err = run("train", "--resume", "--out", half, "--device",
                          "cpu", "--max-steps", 6, *as_options(**changes))
    assert (code, err) == (0, "")
    assert metrics(half, "loss") == pytest.approx(metrics(whole, "loss"),
                                                  rel=0.05)
    assert len(metrics(half, "validation_loss")) == 4     # 3, 4, 5, 6
    assert len(metrics(half, "sample")) == 2              # 4, 6
    assert [path.name for path in checkpoints(half)] == [
        f"step-{n:08}" for n in (0, 3, 4, 6)]
    saved = asdict(numbers(half))
    assert {name: saved[name] for name in changes} == changes


@pytest.mark.parametrize("words", [
    "--data stdlib", "--preset nano", "--init-from x", "--minutes 3",
    "--tokenizer x"])
def test_what_the_run_knows(run, half, words):
    before = contents(half)
    code, said, err = run("train", "--resume", "--out", half, *words.split())
    assert (code, said) == (2, "") and is_one_line(err)
    assert words.split()[0] in err
    assert contents(half) == before


def test_a_finished_run_says_so(run, whole):
    before = contents(whole)
    code, said, err = run("train", "--resume", "--out", whole)
    assert (code, err) == (0, "") and said.count("\n") == 2
    assert f"--init-from {whole / 'model'}: its optimizer" in said
    assert f"{whole} is finished: all 6 updates done" in said
    assert f"{metrics(whole, 'validation_loss')[-1]:.3f} nats" in said
    assert contents(whole) == before


def test_killed_just_before_the_model(run, whole):
    before = weights(whole)
    shutil.rmtree(whole / "model")
    assert run("train", "--resume", "--out", whole)[0] == 0
    assert weights(whole) == before
    assert len(metrics(whole, "loss")) == 6


def test_the_data_folder_is_gone(run, half, whole):
    """It is made again; only the same text will do."""
    shutil.rmtree(half / "data")
    assert run("train", "--resume", "--out", half, "--workers", 1)[0] == 0
    assert weights(half) == weights(whole)


def test_the_text_has_changed(run, tmp_path):
    code = write_corpus(tmp_path / "code")
    out = tmp_path / "run"
    assert begin(run, code, out)[0] == 0
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "data")
    (code / "new.py").write_text("x = 1\n" * 20)
    code, said, err = run("train", "--resume", "--out", out, "--workers", 1)
    assert code == 2 and is_one_line(err) and "same data" in err


def flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "tokens changed": ("data/train-00000.safetensors", flip),
    "held-out tokens changed": ("data/validation-00000.safetensors", flip),
    "tokens cut off": ("data/train-00000.safetensors", lambda path: (
        path.write_bytes(path.read_bytes()[:-7]))),
    "tokens missing": ("data/train-00000.safetensors", os.unlink),
    "manifest": ("data/manifest.json", lambda path: path.write_text("{")),
    "numbers": ("training.json", lambda path: path.write_text("{")),
    "vocabulary": ("tokenizer.json", lambda path: path.write_text("{")),
    "checkpoint": ("checkpoints/step-00000003/__0_0.distcp", flip),
    "names in it": ("checkpoints/step-00000003/.metadata", flip),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged(run, half, what):
    name, damage = DAMAGES[what]
    damage(half / name)
    code, said, err = run("train", "--resume", "--out", half)
    assert code == 2 and is_one_line(err), err
    where = half / name
    assert str(where if "checkpoint" not in name else where.parent) in err
    assert "prepare" not in err
    if what.startswith(("tokens", "held-out", "manifest")):
        assert "Remove that folder; it is made again." in err
        shutil.rmtree(half / "data")         # as the line says
        assert run("train", "--resume", "--out", half, "--workers",
                   1)[0] == 0


def test_nothing_to_resume(run, tmp_path, half):
    for out in tmp_path / "none", tmp_path:
        code, said, err = run("train", "--resume", "--out", out)
        assert (code, said) == (2, "") and is_one_line(err)
        assert "holds no run" in err
    assert not (tmp_path / "none").exists()
    shutil.rmtree(half / "checkpoints")
    code, said, err = run("train", "--resume", "--out", half)
    assert (code, said) == (2, "") and "no checkpoint left" in err


# --- a checkpoint as a model ----------------------------------------------

def test_a_checkpoint_is_a_model(run, half, corpus, tmp_path):
    """While a run goes on: to sample, count, measure and begin from."""
    newest = checkpoints(half)[-1]
    code, said, err = run("sample", "--model", newest, "--prompt", "def ",
                          "--max-new-tokens", 4, "--seed", 1)
    assert (code, err) == (0, "") and said.startswith("def ")
    code, said, err = run("info", newest)
    assert (code, err) == (0, "") and "memory to sample, float32" in said
    code, said, err = run("evaluate", "--model", newest, "--data", corpus,
                          "--windows", 2, "--headers", 0, "--workers", 1)
    assert (code, err) == (0, "") and said.count("nats") == 1
    out = tmp_path / "tuned"
    code, said, err = begin(run, corpus, out, "--init-from", newest, steps=1)
    assert (code, err) == (0, "")
    start, end = (read_model(each).state_dict()
                  for each in (newest, checkpoints(out)[0]))
    assert all(torch.equal(value, end[name])
               for name, value in start.items())
    flip(newest / "__0_0.distcp")
    code, said, err = run("sample", "--model", newest, "--prompt", "def ")
    assert (code, said) == (2, "") and is_one_line(err) and "damaged" in err


def test_a_run_of_an_older_version(run, half):
    """It says so, and how to go on; not first that its text is to be
    prepared again, which would help nobody."""
    newest = checkpoints(half)[-1]
    (newest / "training_state.pt").write_bytes(b"as it was")
    manifest = half / "data" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 3',
                                                     '"version": 2'))
    code, said, err = run("train", "--resume", "--out", half)
    assert code == 2 and is_one_line(err) and "older version" in err
    assert f"--init-from {newest}" in err


@pytest.mark.parametrize("change", [
    {"training": None}, {"training": {"size": 1}}, {"model": None},
    {"training": {"steps": "many"}}, {"source": None}, {"sessions": None}])
def test_the_numbers_of_the_run_are_none(run, half, change):
    path = half / "training.json"
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in content.items()
                                if value is not None}))
    code, said, err = run("train", "--resume", "--out", half)
    assert code == 2 and is_one_line(err) and str(path) in err


# --- what goes wrong ------------------------------------------------------

def test_not_finite(run, corpus, tmp_path):
    """One line, code 1; the last good checkpoint stays."""
    out = tmp_path / "run"
    code, said, err = begin(run, corpus, out, "--learning-rate", "1e30",
                            "--warmup", 0, "--save-every", 1)
    assert code == 1 and is_one_line(err) and "batch" in err
    last = read_model(checkpoints(out)[-1])
    assert all(p.isfinite().all() for p in last.parameters())
    assert not (out / "model").exists()


FAILED_STARTS = {
    "unknown data": ("--data nowhere", "nowhere"),
    "empty folder": ("--data {empty}", "empty"),
    "no network": ("--data shakespeare", "could not be fetched"),
    "unknown preset": ("--preset small", "small"),
    "unknown model": ("--init-from none/such", "none/such"),
    "model and preset": ("--init-from {model} --preset nano", "--preset"),
    "model and tokenizer": ("--init-from {model} --tokenizer {model}",
                            "--tokenizer"),
    "unknown tokenizer": ("--tokenizer nowhere", "nowhere"),
    "length": ("--init-from {model} --length 65", "64"),
    "length of the preset": ("--length 65", "64"),
    "rate": ("--learning-rate nan", "learning_rate"),
    "rate below 0": ("--learning-rate -1", "learning_rate"),
    "dropout": ("--dropout 1", "dropout"),
    "steps": ("--max-steps 0", "--max-steps"),
    "keep": ("--keep 0", "--keep"),
    "no minutes": ("--minutes 0", "--minutes"),
    "nan minutes": ("--minutes nan", "--minutes"),
    "endless minutes": ("--minutes inf", "--minutes"),
    "minutes and steps": ("--minutes 1 --max-steps 9", "--max-steps"),
    "device": ("--device tpu", "tpu"),
    "precision": ("--precision float16", "bfloat16"),
}


@pytest.mark.parametrize("name", FAILED_STARTS)
def test_failed_starts_leave_nothing(run, corpus, model, tmp_path,
                                     monkeypatch, name):
    def no_network(*arguments, **options):
        raise OSError("no network here")

    line, said = FAILED_STARTS[name]
    monkeypatch.setattr(pooch, "retrieve", no_network)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words = [word.format(model=model, empty=tmp_path / "empty")
             for word in line.split()]
    if "--data" not in words:
        words += ["--data", corpus]
    out = tmp_path / "runs" / "new"
    code, printed, err = run("train", "--out", out, "--workers", 1, *words)
    assert (code, printed) == (2, "") and is_one_line(err), err
    assert said in err, err
    assert not out.exists()


@pytest.mark.parametrize("words", [["--length", 60_000], ["--minutes", 1e-9]])
def test_a_failed_start_can_be_mended(run, corpus, tmp_path, monkeypatch,
                                      words):
    """Too little text, or time: known once the text is prepared."""
    monkeypatch.setitem(PRESETS, "nano", {**PRESETS["nano"],
                                          "n_positions": 60_000})
    out = tmp_path / "run"
    code, said, err = run("train", "--data", corpus, "--out", out, *SMALL,
                          *words)
    assert (code, said) == (2, "") and is_one_line(err)
    assert begin(run, corpus, out)[0] == 0


def test_no_run_without_a_checkpoint(run, corpus, tmp_path, monkeypatch):
    """The disk is full at the first one: start again, nothing to resume."""
    def full(*rest):
        raise OSError("no space left")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(resume, "save", full)
        code, said, err = begin(run, corpus, out)
    assert (code, said) == (2, "") and is_one_line(err)
    assert "no space left" in err and not (out / "training.json").exists()
    assert begin(run, corpus, out)[0] == 0


def test_killed_before_it_was_a_run(run, half, whole, corpus):
    """training.json is written after the first checkpoint."""
    for path in [*checkpoints(half)][1:]:
        shutil.rmtree(path)
    (half / "training.json").unlink()
    (half / "metrics.jsonl").unlink()
    assert begin(run, corpus, half)[0] == 0
    assert weights(half) == weights(whole)


@pytest.mark.parametrize("which", ["half", "whole"])
def test_a_run_is_not_overwritten(run, request, corpus, which):
    out = request.getfixturevalue(which)
    before = contents(out)
    code, said, err = begin(run, corpus, out)
    assert (code, said) == (2, "") and is_one_line(err) and "--resume" in err
    (out / "training.json").unlink()
    assert begin(run, corpus, out)[0] == 2
    before.pop(out / "training.json")
    assert contents(out) == before


def test_one_process_at_a_time(run, half, corpus):
    fcntl = pytest.importorskip("fcntl")
    before = contents(half)
    with open(half / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words in ["--resume"], ["--data", corpus]:
            code, said, err = run("train", "--out", half, *words)
            assert (code, said) == (2, "") and is_one_line(err)
            assert "another process" in err
    assert contents(half) == before


def test_the_folder_is_a_file(run, corpus, tmp_path):
    (tmp_path / "run").write_text("mine")
    code, said, err = begin(run, corpus, tmp_path / "run")
    assert (code, said) == (2, "") and is_one_line(err)
    assert (tmp_path / "run").read_text() == "mine"


def test_the_wheel_has_no_tokenizer(run, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(options, "NANO", tmp_path / "none")
    code, said, err = begin(run, corpus, tmp_path / "run")
    assert (code, said) == (2, "") and is_one_line(err)
    assert "--tokenizer" in err


# --- evaluate -------------------------------------------------------------

@pytest.fixture(scope="session")
def split(corpus, tmp_path_factory):
    """The tokens that `evaluate` should use: (training, held out)."""
    folder = tmp_path_factory.mktemp("split") / "data"
    tokenizer = Tokenizer.load(NANO)
    data.prepare(str(corpus), tokenizer, folder)
    return [data.Tokens(folder, name, tokenizer) for name in data.SPLITS]


def evaluated(run, model, corpus, tmp_path, *more):
    """(what it printed, the numbers it wrote)."""
    path = tmp_path / "numbers.json"
    code, said, err = run("evaluate", "--model", model, "--data", corpus,
                          "--workers", 1, "--json", path, *more)
    assert (code, err) == (0, "")
    return said, json.loads(path.read_text())


def test_evaluate(run, model, corpus, split, tmp_path, monkeypatch):
    read = []
    write_with = bodies.write_with
    monkeypatch.setattr(bodies, "write_with", lambda m, t, contexts, **o: (
        read.extend(contexts) or write_with(m, t, contexts, **o)))
    said, found = evaluated(run, model, corpus, tmp_path, "--headers", 12)
    tokens, held_out = split
    network, tokenizer = load_pretrained(model), load_tokenizer(model)
    direct = training.evaluate(network, held_out, tokenizer)
    texts = data.texts(held_out, tokenizer)
    trigram = data.Trigram(tokens.window(0, len(tokens)), 4096)
    bits = {"model": direct["bits_per_byte"],
            "3-gram": trigram.bits_per_byte(
                held_out.window(0, len(held_out)),
                data.token_sizes(tokenizer)),
            **data.compressed_bits_per_byte(texts)}
    assert found["bits_per_byte"] == pytest.approx(bits)
    assert found["of_xz"] == pytest.approx(
        {name: value / bits["xz -9e"] for name, value in bits.items()})
    assert found["loss"] == pytest.approx(direct["loss"])
    assert found["perplexity"] == pytest.approx(math.exp(direct["loss"]))
    assert found["tokens"] == len(held_out) - 1
    headers = [*bodies.function_headers(texts)]
    chosen = [headers[i * len(headers) // 12] for i in range(12)]
    assert len(headers) > 12
    contexts = [header.context for header in chosen]
    assert read == contexts
    for who, written in (
            ("model", write_with(network, tokenizer, contexts, 32)),
            ("3-gram", bodies.write_with_trigram(trigram, tokenizer,
                                                   contexts, 32))):
        assert found["bodies"][who] == bodies.parse_rate(chosen, written,
                                                           tokenizer)
    lines = said.splitlines()
    assert lines[0] == f"{corpus}: {len(held_out):,} tokens are held out"
    assert lines[1].startswith(f"loss {direct['loss']:.3f} nats")
    for line, (name, value) in zip(lines[3:7], bits.items()):
        assert re.split(r"\s{2,}", line.strip()) == [
            name, f"{value:.3f}", f"{value / bits['xz -9e']:.2f}"]
    assert lines[7].startswith("bodies for 12 held-out function headers, 32")
    assert re.match(r"  model +\d+ of the \d+ with 20 tokens", lines[8])
    assert re.match(r"  3-gram +\d+ of the \d+ with 20 tokens", lines[9])
    assert len(lines) == 10


def test_evaluate_the_data_of_a_run(run, whole, corpus, tmp_path):
    words = tmp_path, "--headers", 5, "--windows", 3
    said, found = evaluated(run, whole / "model", whole / "data", *words)
    other, same = evaluated(run, whole / "model", corpus, *words)
    assert said.splitlines()[1:] == other.splitlines()[1:]
    assert found.pop("data") != same.pop("data") and found == same
    assert found["tokens"] == 3 * 64


def test_data_of_another_tokenizer(run, whole, tmp_path):
    own = Tokenizer.train(["def f(x): return x\n"] * 3, 270)
    other = build(tmp_path / "other")
    save_tokenizer(own, other)
    before = contents(whole)
    code, said, err = run("evaluate", "--model", other, "--data",
                          whole / "data")
    assert (code, said) == (2, "") and is_one_line(err)
    assert "another tokenizer" in err and "emove" not in err
    assert contents(whole) == before


@pytest.mark.parametrize("positions", [24, 161, 400])
def test_any_number_of_positions(run, corpus, tmp_path, positions):
    folder = build(tmp_path / "model", n_positions=positions)
    said, found = evaluated(run, folder, corpus, tmp_path, "--headers", 2,
                            "--windows", 2)
    new = {24: 12, 161: 80, 400: 160}[positions]
    assert f"headers, {new} tokens each" in said
    assert found["bodies"]["model"]["headers"] == 2
    if new < 20:
        assert said.count("0 of the 0 with 20 tokens or more parse\n") == 2


def test_no_python(run, model, tmp_path):
    (tmp_path / "poems").mkdir()
    for n in range(60):
        (tmp_path / "poems" / f"{n}.txt").write_text(
            f"It was {n} o'clock, and all was well (or so they said).\n" * 5)
    said, found = evaluated(run, model, tmp_path / "poems", tmp_path)
    assert said.splitlines()[-1] == (
        "no Python functions are held out: no bodies to write")
    assert found["bodies"] == {} and found["of_xz"]["xz -9e"] == 1


def test_no_headers(run, model, corpus, tmp_path):
    said, found = evaluated(run, model, corpus, tmp_path, "--headers", 0)
    assert "xz -9e" in said.splitlines()[-1] and found["bodies"] == {}


def test_seed_of_the_bodies(run, model, corpus, tmp_path, monkeypatch):
    seen = []
    for name in "write_with", "write_with_trigram":
        monkeypatch.setattr(bodies, name, lambda *a, seed, **o: (
            seen.append(seed) or iter([""] * 3)))
    evaluated(run, model, corpus, tmp_path, "--headers", 3, "--seed", 9)
    assert seen == [9, 9]


def test_the_trigram_reads_no_more_than_fits(run, model, corpus, tmp_path,
                                             monkeypatch):
    seen = []

    class Trigram(data.Trigram):
        def __init__(self, ids, *rest):
            seen.append(len(ids))
            super().__init__(ids, *rest)

    monkeypatch.setattr(bodies, "Trigram", Trigram)
    monkeypatch.setattr(bodies, "TRIGRAM_TOKENS", 500)
    said, found = evaluated(run, model, corpus, tmp_path, "--headers", 0)
    assert seen == [500]


def test_it_prints_as_it_goes(run, model, corpus, tmp_path, monkeypatch,
                              capsys):
    """Each number comes before the next is computed."""
    def stop(*rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(bodies, "Trigram", stop)
    code, said, err = run("evaluate", "--model", model, "--data", corpus,
                          "--workers", 1)
    assert (code, err) == (130, "") and said.count("\n") == 2
    monkeypatch.undo()
    monkeypatch.setattr(bodies, "parse_rate", stop)
    code = main(["evaluate", "--model", str(model), "--data",
                              str(corpus), "--workers", "1"])
    assert code == 130 and capsys.readouterr().out.count("\n") == 8


BAD_EVALUATIONS = {
    "unknown model": ("--model none/such", "none/such"),
    "unknown data": ("--model {model} --data nowhere", "nowhere"),
    "windows": ("--model {model} --windows -1", "--windows"),
    "headers": ("--model {model} --headers -1", "--headers"),
    "json": ("--model {model} --json no/such/folder.json", "--json"),
    "device": ("--model {model} --device tpu", "tpu"),
    "damaged data": ("--model {model} --data {damaged}", "manifest.json"),
}


@pytest.mark.parametrize("name", BAD_EVALUATIONS)
def test_bad_evaluations(run, model, corpus, tmp_path, monkeypatch, name):
    line, wanted = BAD_EVALUATIONS[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    words = [word.format(model=model, corpus=corpus, damaged=tmp_path)
             for word in line.split()]
    code, said, err = run("evaluate", *words)
    assert (code, said) == (2, "") and is_one_line(err), err
    assert wanted in err


# --- a tokenizer of the run's own --------------------------------------------

def test_a_published_size_learns_its_tokenizer(run, corpus, tmp_path):
    """From the training side, before anything else; it stays with the run."""
    out = tmp_path / "run"
    code, said, err = begin(run, corpus, out, "--preset", "gpt2", steps=2)
    assert (code, err) == (0, "")
    assert said.startswith(f"learning 4,096 tokens from {corpus}\n")
    words = load_tokenizer(out)
    own = data.learn_tokenizer(str(corpus), 4096)
    assert words.merges == own.merges
    sent = pickle.loads(pickle.dumps(own))           # to other processes
    assert sent.encode("def add(x):") == words.encode("def add(x):")
    assert words.merges != Tokenizer.load(NANO).merges
    model = load_pretrained(out / "model")
    assert model.config.vocab_size == len(words) < 4096
    assert model.config.eos_token_id == words.eos_token_id
    shutil.rmtree(out / "model")
    code, said, err = run("train", "--out", out, "--resume")
    assert (code, err) == (0, "") and "learning" not in said
    assert load_tokenizer(out / "model").merges == words.merges


@pytest.mark.parametrize("more, what", [
    (["--length", 65], "more than the 64 tokens that gpt2 reads"),
    (["--learning-rate", "nan"], "learning_rate is nan")])
def test_wrong_numbers_before_learning(run, corpus, tmp_path, monkeypatch,
                                       more, what):
    monkeypatch.setattr(train, "learn_tokenizer", None)
    code, said, err = begin(run, corpus, tmp_path / "run", "--preset",
                            "gpt2", *more)
    assert (code, said) == (2, "") and is_one_line(err) and what in err
    assert not (tmp_path / "run").exists()


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def bombs(marker):
    """{how: the bytes of a file that runs code in a careless reader}."""
    def saved(**options):
        file = io.BytesIO()
        torch.save({"model": Bomb(marker), "step": 1}, file, **options)
        return file.getvalue()
    return {"pickle": pickle.dumps(Bomb(marker)), "zip": saved(),
            "legacy": saved(_use_new_zipfile_serialization=False)}


def seal(checkpoint):
    """The checksums anew, as whoever makes a folder can make them."""
    (checkpoint / SUMS).write_text(
        json.dumps(file_sums(checkpoint)))


def test_the_bombs_go_off(tmp_path):
    for how, content in bombs(tmp_path / "marker").items():
        (tmp_path / "file").write_bytes(content)
        with suppress(RuntimeError):             # "Invalid magic number"
            torch.load(tmp_path / "file", weights_only=False)
        assert (tmp_path / "marker").exists(), how
        (tmp_path / "marker").unlink()


@pytest.mark.parametrize("how", ["pickle", "zip", "legacy"])
def test_nothing_in_a_run_is_run(run, half, tmp_path, how):
    """Code in any file of a folder, its checksums right: nothing runs."""
    marker = tmp_path / "marker"
    content = bombs(marker)[how]
    files = sorted(path.relative_to(half) for path in half.rglob("*")
                   if path.is_file() and path.name != SUMS)
    newest = checkpoints(half)[-1].relative_to(half)
    files += [newest / ".metadata", newest / "__0_0.distcp",
              newest / "pytorch_model.bin", Path("model/pytorch_model.bin")]
    for path in files:
        planted = shutil.copytree(half, tmp_path / "planted")
        (planted / path).parent.mkdir(exist_ok=True)
        (planted / path).write_bytes(content)
        seal(planted / newest)
        code, _, err = run("train", "--resume", "--out", planted)
        assert not marker.exists(), path
        assert code == 0 or is_one_line(err), (path, err)
        shutil.rmtree(planted)


def test_nothing_in_a_sharded_checkpoint_is_run(run, half, tmp_path):
    """Neither in its names and shapes, nor in an entry that is no tensor."""
    import torch.distributed.checkpoint as shards
    marker = tmp_path / "marker"
    newest = checkpoints(half)[-1]
    engine = FastEngine()
    plan = plans.saved_plan(half, {})
    engine.prepare(plan.model, plan.config)
    good = {**tensors_of(state_of(engine)),
            "random": resume.random_of(engine)}
    evil = {**good, "optimizer": {**good["optimizer"], "param_groups": [
        {"lr": Bomb(marker), "betas": Bomb(marker)}]}}
    for content, code in (evil, 2), (good, 0):
        with warnings.catch_warnings(action="ignore"):
            shards.save(content, checkpoint_id=newest)
        marker.unlink(missing_ok=True)           # saving runs it, as it may
        seal(newest)
        folder = shutil.copytree(half, tmp_path / "copy")
        assert run("train", "--resume", "--out", folder)[0] == code
        assert not marker.exists()
        shutil.rmtree(folder)
    metadata = newest / ".metadata"
    for spoil, words in (
            (lambda b: pickle.dumps(Bomb(marker)), "asks to call"),
            (lambda b: b.replace(b"__0_0.distcp", b"../../../bad"), "points to"),
            (lambda b: b[:len(b) // 2], "cannot be read"),
            (lambda b: b"", "cannot be read")):
        folder = shutil.copytree(half, tmp_path / "copy")
        path = folder / metadata.relative_to(half)
        path.write_bytes(spoil(path.read_bytes()))
        seal(path.parent)
        code, _, err = run("train", "--resume", "--out", folder)
        assert code == 2 and is_one_line(err) and words in err, err
        assert not marker.exists()
        shutil.rmtree(folder)
