"""A run and its folder: plans, the loop, the log, what is left behind."""
import json
import math
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from small_runs import (CONFIG, MODEL, Text, losses, new_batches, new_model,
                        stop_at, train)

from gpt2 import resume
from gpt2.command_line import plans, runs
from gpt2.command_line.progress import report_evaluation
from gpt2.command_line.runs import (Interrupted, Log, Run, read_rows,
                                    read_run, start_run)
from gpt2.config import PRESETS
from gpt2.data import DataError
from gpt2.generation import NotFinite
from gpt2.model import GPT2
from gpt2.pretrained import load_pretrained
from gpt2.resume import checkpoints, read_model
from gpt2.tokenizer import Tokenizer
from gpt2.training import (Engine, TrainingConfig, learning_rate,
                           measured_peak)


@pytest.fixture(scope="module")
def tokenizer(root):
    return Tokenizer.load(root / "checkpoints" / "nano")


def test_a_loss_too_large_for_its_perplexity(tokenizer, tmp_path):
    """exp(1000) is no float; the loss is one, and the run goes on."""
    model = new_model()
    with torch.no_grad():
        model.ln_f.weight.mul_(1e5)
    rows = train(model, new_batches(), replace(CONFIG, steps=2, eval_every=1),
                 run=Run(tmp_path, tokenizer, Text(100)))
    said = [row for row in read_rows(tmp_path / "metrics.jsonl")
            if "validation_loss" in row]
    assert said and said[0]["validation_loss"] > 709
    assert said[0]["validation_perplexity"] is None      # JSON has no inf
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()
    assert len([row for row in rows if "loss" in row]) == 2


def test_an_evaluation_that_is_no_number(tokenizer, tmp_path):
    """It ends the run before the broken weights are saved."""
    class Breaking(Engine):
        def update(self, rate):
            super().update(rate)
            with torch.no_grad():
                self.model.ln_f.weight[0] = math.nan

    with pytest.raises(NotFinite, match="after update 1: held-out loss nan"):
        train(new_model(), new_batches(), replace(CONFIG, steps=4,
              eval_every=1), Breaking(), Run(tmp_path, tokenizer, Text(100)))


def test_looking_changes_nothing(tokenizer, tmp_path):
    """Evaluation, samples and checkpoints draw no random number."""
    run = Run(tmp_path / "a", tokenizer, Text(300, 1))
    looking = replace(CONFIG, sample_every=1, eval_every=1, save_every=1)
    model, engine = new_model(), Engine()
    a = train(model, new_batches(), looking, run=run)
    assert [r["loss"] for r in a if "loss" in r] == losses(engine=engine)
    assert sum("validation_loss" in r for r in a) == 6
    assert sum("sample" in r for r in a) == 7
    assert all(torch.equal(p, q) for p, q in zip(
        model.parameters(), engine.model.parameters()))


def test_a_finished_run_stays(tokenizer, tmp_path):
    run = Run(tmp_path, tokenizer, Text(300, 1))
    rows = train(new_model(), new_batches(), CONFIG, run=run)
    model = new_model(seed=5)
    again = train(model, new_batches(), CONFIG, run=run)
    assert again == rows == read_rows(tmp_path / "metrics.jsonl")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    assert train(model, new_batches(), CONFIG, run=run) == rows


def test_not_finite_keeps_the_last_good_one(tokenizer, tmp_path):
    class Poisoned(Engine):
        calls = 0

        def backward(self, ids, share, last):
            loss = super().backward(ids, share, last)
            self.calls += 1
            if self.calls == 10:             # second half of update 5
                self.model.h[1].mlp.c_fc.bias.grad[3] = math.inf
                self.before = [p.detach().clone() for p in
                               self.model.parameters()]
            return loss
    engine, batches = Poisoned(), new_batches()
    with pytest.raises(NotFinite, match="update 5, batch 4: loss .* norm"):
        train(new_model(), batches, CONFIG, engine, Run(tmp_path, tokenizer))
    assert all(torch.equal(a, p) for a, p in zip(
        engine.before, engine.model.parameters()))
    assert [p.name[-1] for p in checkpoints(tmp_path)] == ["2", "4"]
    assert batches.taken == 4
    rows = train(new_model(), new_batches(), CONFIG,
                 run=Run(tmp_path, tokenizer))
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5, 6]


def test_metrics(tokenizer, tmp_path):
    rows = train(new_model(), new_batches(), CONFIG,
                 run=Run(tmp_path, tokenizer,
                         peak=measured_peak(seconds=0.05)))
    for number, row in enumerate(rows, 1):
        assert row["step"] == number and row["tokens"] == number * 4 * 32
        assert 0 < row["mfu"] < 1.5 and row["seconds"] > 0
        assert row["learning_rate"] == learning_rate(number - 1, CONFIG)


# ---------------------------------------------------------------------- signals
def test_handlers_come_back(tokenizer, tmp_path):
    old = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(new_model(), new_batches(), CONFIG, run=Run(tmp_path / "a",
                                                      tokenizer))
    stop_at(1, tmp_path / "b", tokenizer)
    assert old == (signal.getsignal(signal.SIGINT),
                   signal.getsignal(signal.SIGTERM))


def test_what_an_interruption_says(tokenizer, tmp_path):
    error = stop_at(3, tmp_path / "a run", tokenizer, signal.SIGINT)
    assert error.code == 130
    assert str(error) == (
        "SIGINT after update 3: saved; go on with: python -m gpt2 train"
        f" --resume --out '{tmp_path / 'a run'}'")


def test_a_signal_during_the_last_update(tokenizer, tmp_path):
    """All is done and saved; the code still says that a signal came."""
    error = stop_at(6, tmp_path, tokenizer)
    assert "after update 6: saved" in str(error)
    rows = train(new_model(), new_batches(), CONFIG,
                 run=Run(tmp_path, tokenizer, Text(300, 1)))
    assert rows[-1]["step"] == 6 and "validation_loss" in rows[-1]


def test_off_the_main_thread(tokenizer, tmp_path):
    rows = []
    thread = threading.Thread(target=lambda: rows.extend(train(
        new_model(), new_batches(), replace(CONFIG, steps=2),
        run=Run(tmp_path, tokenizer))))
    thread.start()
    thread.join()
    assert len(rows) == 2


def test_another_process_was_told_to_stop(tokenizer, tmp_path):
    """Two processes must agree: `any` may be true though no signal came."""
    class Asked(Engine):
        asked = 0

        def any(self, flag):
            self.asked += 1
            return self.asked > 5
    with pytest.raises(Interrupted) as caught:
        train(new_model(), new_batches(), CONFIG, Asked(),
              Run(tmp_path, tokenizer))
    assert caught.value.code == 143 and checkpoints(tmp_path)


def test_only_rank_0_writes_the_log(tokenizer, tmp_path, monkeypatch):
    class Second(Engine):
        rank, world = 1, 2

    def save(engine, path, position, tokenizer):
        path.mkdir(parents=True)             # as if process 0 had written it

    monkeypatch.setattr(resume, "save", save)
    rows = train(new_model(), new_batches(), CONFIG, Second(),
                 Run(tmp_path, tokenizer))
    assert len(rows) == 6
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]


# ------------------------------------------------------------------- the folder
def test_start_run(tmp_path):
    begin = [tmp_path / "x", CONFIG, MODEL, "stdlib"]
    assert start_run(*begin, command="python -m gpt2 train") == []
    with pytest.raises(DataError, match=r"holds a run already. Resume it"):
        start_run(*begin)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert start_run(*begin, resume=True) == [
            f"threads {threads + 1}, before {threads}"]
    finally:
        torch.set_num_threads(threads)
    again = [*begin[:1], replace(CONFIG, micro_batch=1), *begin[2:]]
    start_run(*again, resume=True)
    found = read_run(tmp_path / "x")
    assert found["training"].micro_batch == 1 and found["model"] == MODEL
    assert found["source"] == "stdlib" and len(found["sessions"]) == 3
    assert found["sessions"][0]["command"] == "python -m gpt2 train"
    assert {"python", "torch", "threads"} <= found["sessions"][0].keys()


def test_start_run_refuses(tmp_path):
    start_run(tmp_path / "x", CONFIG, MODEL, "stdlib")
    before = (tmp_path / "x" / "training.json").read_bytes()
    for config, model, source, words in (
            (replace(CONFIG, beta1=0.5), MODEL, "stdlib", "beta1 0.9, not"),
            (CONFIG, replace(MODEL, n_layer=3), "stdlib", "another model"),
            (CONFIG, MODEL, "shakespeare", "another source")):
        with pytest.raises(DataError, match=words):
            start_run(tmp_path / "x", config, model, source, resume=True)
    assert (tmp_path / "x" / "training.json").read_bytes() == before
    with pytest.raises(DataError, match="no run to resume.*training.json"):
        start_run(tmp_path / "y", CONFIG, MODEL, "stdlib", resume=True)
    assert not (tmp_path / "y").exists()
    with pytest.raises(DataError, match="holds no run"):
        read_run(tmp_path / "y")


def test_log(tmp_path):
    path = tmp_path / "a" / "metrics.jsonl"
    log = Log(path)
    log.rewind(0)
    for step in range(1, 6):
        log.add(step=step, loss=1 / step)
    assert read_rows(path) == log.rows
    again = Log(path)
    again.rewind(3)
    assert again.rows == log.rows[:3] == read_rows(path)
    assert log.has(5, "loss") == 1 and not log.has(5, "sample")
    assert read_rows(tmp_path / "none") == [] == read_rows(None)
    Log(None).add(step=1)


def rows_for_a_report():
    """A log with two evaluations, updates of 12.5 s and a sample between."""
    log = Log(None)
    log.add(step=398, loss=99.0, seconds=99.0)
    for step, held_out in (398, 3.5), (400, 2.5):
        for n in (step - 1, step):
            if step == 400:
                log.add(step=n, loss=3.0 + (n == 400), seconds=12.5)
        log.add(step=step, validation_loss=held_out,
                validation_bits_per_byte=held_out / 2)
        if step == 398:
            log.add(step=step, prompt="", sample="x")
    return log


def test_report():
    """Of what came after the evaluation before; time left, and speed."""
    engine, said = Engine(), []
    engine.config = TrainingConfig(steps=1000, batch_size=10, length=100)
    report_evaluation(rows_for_a_report(), engine,
                      Run("x", None, report=said.append))
    assert said == ["update 400 of 1,000: loss 3.500, held out 2.500, 1.250"
                    " bits per byte; 80 tokens/s, 2:05:00 left"]
    report_evaluation(rows_for_a_report(), engine, Run("x", None))
    engine.rank = 1
    report_evaluation(rows_for_a_report(), engine,
                      Run("x", None, report=said.append))
    empty = Log(None)                        # its updates are not in the log
    empty.add(step=400, validation_loss=1.0, validation_bits_per_byte=1.0)
    engine.rank = 0
    report_evaluation(empty, engine, Run("x", None, report=said.append))
    assert len(said) == 1


def test_the_report_of_a_resumed_run(tokenizer, tmp_path):
    """The mean since the last evaluation, whoever made the updates."""
    lines = {}
    for name in "straight", "stopped":
        run = Run(tmp_path / name, tokenizer, Text(300, 1),
                  report=lines.setdefault(name, []).append)
        if name == "stopped":
            stop_at(5, run.directory, tokenizer)
        train(new_model(), new_batches(), CONFIG, run=run)
    def without_time(name):
        return [line.partition(";")[0] for line in lines[name]]
    assert len(lines["straight"]) == 2       # after 3 and 6
    assert without_time("stopped") == without_time("straight")[1:]


# ----------------------------------------------------------- a run and its plan
@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for n in range(40):
        (folder / f"{n}.py").write_text(f"x{n} = {n}\n" * 30)
    return str(folder)


NUMBERS = dict(steps=2, batch_size=2, micro_batch=1, length=16, dropout=0.2,
               eval_windows=2, seed=7)


@pytest.fixture
def plan(corpus, root, monkeypatch):
    monkeypatch.setitem(PRESETS, "nano", dict(
        n_positions=32, n_embd=32, n_layer=1, n_head=2))
    return plans.new_plan(corpus, NUMBERS,
                             tokenizer=root / "checkpoints" / "nano")


def test_plan_of_random_weights(plan, tokenizer):
    config = plan.model.config
    assert config.vocab_size == 4096 and config.eos_token_id == 4095
    assert config.attn_pdrop == config.embd_pdrop == config.resid_pdrop == 0.2
    torch.manual_seed(plan.config.seed)
    again = GPT2(config)
    assert torch.equal(plan.model.wte.weight, again.wte.weight)


@pytest.mark.parametrize("changes, steps, warmup", [
    ({}, 40, 4), ({}, 9, 0), ({}, 10_000, 200), (dict(warmup=9), 40, 9)])
def test_warmup(plan, root, changes, steps, warmup):
    plan = plans.new_plan(plan.source, {**NUMBERS, "steps": 5000, **changes},
                             tokenizer=root / "checkpoints" / "nano")
    config = plan.with_steps(steps).config
    assert (config.steps, config.warmup) == (steps, warmup)


def test_every_engine_gets_a_model_of_its_own(plan, tmp_path, monkeypatch):
    """`prepare` may wrap or shard its model: never twice the same one."""
    class Wrapping(Engine):
        taken = []

        def prepare(self, model, config):
            assert all(model is not other for other in self.taken)
            self.taken.append(model)
            super().prepare(model, config)

    engine, out = Wrapping(), tmp_path / "run"
    batches, run = plans.open_run(out, plan, engine)
    plan, different = plans.set_up(plan, engine, batches, run, minutes=0.01)
    assert different == [] and plan.config.steps > 2
    train(plan.model, batches, plan.with_steps(2).config, engine,
          Run(tmp_path / "other", plan.tokenizer))
    assert len(engine.taken) == 3 and engine.taken[-1] is plan.model


def test_only_the_first_process_writes(plan, tmp_path, monkeypatch):
    class Second(Engine):
        rank, world = 1, 2

    monkeypatch.setattr(resume, "save", lambda *rest: None)
    engine, out = Second(), tmp_path / "run"
    batches, run = plans.open_run(out, plan, engine)
    assert (batches.rank, batches.world, batches.seed) == (1, 2, 7)
    assert plans.set_up(plan, engine, batches, run)[1] == []
    assert [p.name for p in out.iterdir() if p.name[0] != "."] == ["data"]


def test_the_saved_model_is_the_last_checkpoint(plan, tmp_path):
    engine, out = Engine(), tmp_path / "run"
    batches, run = plans.open_run(out, plan, engine)
    plans.set_up(plan, engine, batches, run)
    assert not runs.is_finished(out)
    assert runs.last_evaluation(out) == {}
    rows = train(plan.model, batches, plan.config, engine, run)
    runs.save_model(out, engine.model, plan.tokenizer)
    assert runs.is_finished(out)
    assert runs.last_evaluation(out) == rows[-1]
    newest = checkpoints(out)[-1]
    state = load_pretrained(out / "model").state_dict()
    for name, tensor in read_model(newest).state_dict().items():
        assert torch.equal(tensor, state[name])
    settings = (out / "model" / "tokenizer_config.json").read_text("utf-8")
    assert json.loads(settings)["model_max_length"] == 32
    assert not {".metadata", "position.json"} & {
        path.name for path in (out / "model").iterdir()}
    found = plans.saved_plan(out, {"micro_batch": 2})
    assert found.config == replace(plan.config, micro_batch=2)
    assert found.model.config == plan.model.config
    with pytest.raises(DataError, match="holds a run already"):
        runs.require_new(out)


def test_steps_in(monkeypatch):
    model, batches = new_model(), new_batches()
    before = [p.detach().clone() for p in model.parameters()]
    steps = plans.steps_in(0.05, model, batches, CONFIG, Engine())
    assert steps > 5 and batches.taken == 0
    assert all(torch.equal(a, p) for a, p in zip(before, model.parameters()))

    class Slow(Engine):
        def backward(self, ids, share, last):
            time.sleep(0.05)
            return super().backward(ids, share, last)
    large = replace(CONFIG, batch_size=64, micro_batch=1)
    began = time.monotonic()
    found = plans.steps_in(1, model, new_batches(64), large, Slow())
    assert time.monotonic() - began < 3      # 6 micro-batches, not 192
    assert 5 < found < 18                    # 64 × 0.05 s each: 17 at most
    with pytest.raises(ValueError, match="none fits into 0.01 minutes"):
        plans.steps_in(0.01, model, new_batches(64), large, Slow())
