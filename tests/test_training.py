"""gpt2.training: what the page does not try. Kills are in test_resume.py."""
import json
import math
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

import gpt2.training as training
from gpt2.checks import reference_model, reference_state
from gpt2.config import PRESETS, GPT2Config
from gpt2.data import Batches, DataError
from gpt2.model import GPT2
from gpt2.pretrained import CheckpointError
from gpt2.tokenizer import Tokenizer
from gpt2.training import (Engine, Interrupted, Log, NotFinite, Run, Stepper,
                           TrainingConfig, accumulate, checkpoints, evaluate,
                           evaluation_windows, learning_rate, one_update,
                           read_rows, read_run, start_run, train)

MODEL = GPT2Config(vocab_size=4096, n_positions=32, n_embd=32, n_layer=2,
                   n_head=4, bos_token_id=4095, eos_token_id=4095)
CONFIG = TrainingConfig(steps=6, batch_size=4, micro_batch=2, length=32,
                        warmup=2, learning_rate=3e-3, dropout=0.1,
                        save_every=2, eval_every=3, eval_windows=3)


class Text:
    """Tokens in memory."""

    def __init__(self, n, seed=0, top=64):
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(top, (n,), generator=generator)
        self.fingerprint = f"{n}, {seed}"

    def __len__(self):
        return len(self.ids)

    def window(self, start, length):
        assert 0 <= start and start + length <= len(self)
        return self.ids[start:start + length]


@pytest.fixture(scope="module")
def tokenizer(root):
    return Tokenizer.load(root / "checkpoints" / "nano")


def new_model(config=MODEL, seed=0):
    torch.manual_seed(seed)
    return GPT2(config)


def new_batches(size=4, **kwargs):
    return Batches(Text(2000), size, 32, **kwargs)


def prepared(config=CONFIG, model=None, kind=Engine):
    engine = kind()
    engine.prepare(model or new_model(), config)
    return engine


# -------------------------------------------------------------------- config
@pytest.mark.parametrize("change, error, words", [
    (dict(steps=0), ValueError, "steps is 0; it must be at least 1"),
    (dict(length=0), ValueError, "length is 0; it must be at least 1"),
    (dict(learning_rate=-1.0), ValueError, "learning_rate is -1.0"),
    (dict(learning_rate=math.nan), ValueError, "learning_rate is nan"),
    (dict(learning_rate=math.inf), ValueError, "learning_rate is inf"),
    (dict(beta2=1.0), ValueError, "beta2 is 1.0; it must be below 1"),
    (dict(dropout=1.5), ValueError, "dropout is 1.5"),
    (dict(steps=1.5), TypeError, "steps is 1.5; it must be int"),
    (dict(seed=True), TypeError, "seed is True; it must be int"),
    (dict(deterministic=1), TypeError, "deterministic is 1; it must be bool"),
    (dict(precision="int8"), ValueError, "float32 or bfloat16"),
    (dict(keep=0), ValueError, "keep is 0"),
])
def test_config_refuses(change, error, words):
    with pytest.raises(error, match=words):
        replace(CONFIG, **change)


def test_config_presets():
    for name in PRESETS:
        config = TrainingConfig.from_preset(name)
        assert config.length == GPT2Config.from_preset(name).n_positions
    assert TrainingConfig.from_preset("gpt2", steps=3).steps == 3
    with pytest.raises(ValueError, match="unknown preset 'gpt3'; known are"):
        TrainingConfig.from_preset("gpt3")
    nano = TrainingConfig.from_preset("nano")
    assert (nano.batch_size, nano.length, nano.learning_rate, nano.warmup) \
        == (16, 512, 2e-3, 200)
    assert TrainingConfig(**json.loads(json.dumps(vars(nano)))) == nano


@pytest.mark.parametrize("warmup, steps", [(0, 10), (3, 10), (10, 10),
                                           (50, 10), (0, 1), (1, 2)])
def test_learning_rate(warmup, steps):
    config = replace(CONFIG, warmup=warmup, steps=steps)
    rates = [learning_rate(t, config) for t in range(steps)]
    assert all(0 < r < config.learning_rate * (1 + 1e-9) for r in rates)
    top = min(warmup, steps)
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if warmup < steps - 1:
        assert rates[-1] == pytest.approx(config.learning_rate * 0.1)


# ----------------------------------------------------------------- optimizer
@pytest.mark.parametrize("tied", [True, False])
def test_groups(tied):
    with torch.device("meta"):
        model = GPT2(replace(MODEL, tie_word_embeddings=tied))
    decayed, free = training.parameter_groups(model, 0.1)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {
        "weight"}
    assert all(names[id(p)].endswith("bias") or "ln_" in names[id(p)]
               for p in free["params"])
    both = decayed["params"] + free["params"]
    assert len({id(p) for p in both}) == len(both) == len(names)
    model.wte.weight.requires_grad_(False)
    assert len(training.parameter_groups(model, 0)[0]["params"]) == len(
        decayed["params"]) - 1


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype, tol", [(torch.float64, 1e-9),
                                        (torch.float32, 1e-5)])
def test_twenty_updates_equal_hugging_face(tied, dtype, tol):
    """With an untied head too, and micro-batches that do not divide."""
    shape = replace(MODEL, tie_word_embeddings=tied, embd_pdrop=0.0,
                    attn_pdrop=0.0, resid_pdrop=0.0)
    theirs, ours = reference_model(shape, dtype=dtype), GPT2(shape).to(dtype)
    ours.load_state_dict(reference_state(theirs))
    config = replace(CONFIG, steps=20, dropout=0.0, micro_batch=3, clip=0.5,
                     batch_size=4, weight_decay=0.3)
    stepper, batches = Stepper(), new_batches()
    stepper.prepare(ours, config)
    groups = [{"params": [p for p in theirs.parameters() if p.ndim > 1],
               "weight_decay": 0.3},
              {"params": [p for p in theirs.parameters() if p.ndim < 2],
               "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=False)
    for step in range(20):
        ids = batches.take()
        rate = learning_rate(step, config)
        loss = F.cross_entropy(theirs(ids[:, :-1]).logits.flatten(0, 1),
                               ids[:, 1:].flatten())
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        optimizer.step()
        assert abs(float(accumulate(stepper, ids)) - loss.item()) <= tol * 9
        assert float(stepper.clip()) == pytest.approx(norm.item(), rel=1e-4)
        stepper.update(rate)


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 4, 7, 100])
def test_accumulation(micro_batch):
    ids = torch.randint(4096, (7, 33),
                        generator=torch.Generator().manual_seed(0))
    def gradients(size):
        config = replace(CONFIG, micro_batch=size, dropout=0.0)
        stepper = prepared(config, new_model().double())
        return accumulate(stepper, ids), [
            p.grad for p in stepper.model.parameters()]
    loss, ours = gradients(micro_batch)
    whole, theirs = gradients(7)
    assert abs(loss - whole) < 1e-12
    for a, b in zip(ours, theirs):
        assert (a - b).abs().max() < 1e-12


def test_clip_off():
    engine = prepared(replace(CONFIG, clip=0.0))
    accumulate(engine, new_batches().take())
    before = [p.grad.clone() for p in engine.model.parameters()]
    norm = engine.clip()
    assert norm.isfinite() and norm > 0
    assert all(torch.equal(a, p.grad) for a, p in zip(
        before, engine.model.parameters()))


def test_the_dropout_of_the_run():
    """Its rate replaces the model's; ranks draw other numbers."""
    class Second(Engine):
        rank, world = 1, 2
    losses = []
    for kind in (Engine, Engine, Second):
        engine = prepared(replace(CONFIG, dropout=0.5), kind=kind)
        assert engine.model.config.resid_pdrop == 0.5
        assert {m.p for m in engine.model.modules()
                if isinstance(m, nn.Dropout)} == {0.5}
        losses.append(float(accumulate(engine, new_batches().take())))
    assert losses[0] == losses[1] != losses[2]
    off = prepared(replace(CONFIG, dropout=0.0))
    ids = new_batches().take()
    assert accumulate(off, ids) == accumulate(off, ids)


def test_deterministic():
    config = replace(CONFIG, deterministic=True, steps=2)
    try:
        rows = train(new_model(), new_batches(), config)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    finally:
        torch.use_deterministic_algorithms(False)
    plain = train(new_model(), new_batches(), replace(config,
                                                      deterministic=False))
    assert [r["loss"] for r in rows] == [r["loss"] for r in plain]


# ---------------------------------------------------------------- evaluation
@pytest.mark.parametrize("n", [2, 3, 31, 32, 33, 62, 63, 64, 65, 500])
def test_every_token_is_predicted_once(n):
    seen = []
    for start, length in evaluation_windows(Text(n), 32):
        assert 1 <= length <= 32
        seen += range(start + 1, start + length + 1)
    assert seen == list(range(1, n))


def test_some_windows():
    some = evaluation_windows(Text(5000), 32, 5)
    every = evaluation_windows(Text(5000), 32)
    assert len(some) == 5 and set(some) <= set(every)
    assert some[0][0] == 0 and some[-1][0] > 3500
    assert evaluation_windows(Text(100), 32, 50) == evaluation_windows(
        Text(100), 32)
    with pytest.raises(DataError, match="1 held-out tokens"):
        evaluation_windows(Text(1), 32)


def test_evaluate_by_hand(tokenizer):
    model, text = new_model().train(), Text(90, top=4096)
    found = evaluate(model, text, tokenizer)
    assert model.training and model.h[0].training
    nats, model = 0.0, model.eval()
    with torch.no_grad():
        for start in (0, 32, 64):
            ids = text.window(start, min(33, 90 - start))
            nats += F.cross_entropy(model(ids[None, :-1]).logits[0], ids[1:],
                                    reduction="sum").item()
    size = sum(len(tokenizer.token_bytes(i)) for i in text.ids[1:].tolist()
               if i != tokenizer.eos_token_id)
    assert found["tokens"] == 89
    assert found["loss"] == pytest.approx(nats / 89, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(nats / 89))
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size)


def test_every_position_learns():
    """One update at full length: each row of the position table moves."""
    model, batches = new_model(), new_batches()
    assert batches.read(0).shape[1] == model.config.n_positions + 1
    stepper = prepared(replace(CONFIG, dropout=0.0), model)
    accumulate(stepper, batches.take())
    assert (model.wpe.weight.grad.abs().sum(dim=1) > 0).all()
    start = model.wpe.weight.detach().clone()
    stepper.update(1e-3)
    assert (model.wpe.weight != start).any(dim=1).all()


def test_every_position_is_measured(tokenizer):
    """Evaluation reads the last position too."""
    model, text = new_model(), Text(500, top=4096)
    before = evaluate(model, text, tokenizer)["loss"]
    with torch.no_grad():
        model.wpe.weight[-1] += 100.0
    assert evaluate(model, text, tokenizer)["loss"] != before


def test_rows_without_a_token_do_not_count(tokenizer):
    """A vocabulary padded to a round number has the loss of the plain one."""
    model = new_model()
    wide = GPT2(replace(model.config, vocab_size=4160)).eval()
    state = model.state_dict()
    state["wte.weight"] = torch.cat([state["wte.weight"], torch.full(
        (64, model.config.n_embd), 0.5)])
    wide.load_state_dict(state)
    text = Text(200, top=4096)
    assert evaluate(wide, text, tokenizer) == pytest.approx(
        evaluate(model.eval(), text, tokenizer), rel=1e-6)


class NoFloat64(TorchFunctionMode):
    """A device like Apple's, which has no float64."""

    def __torch_function__(self, f, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if kwargs.get("device") is not None and (
                kwargs.get("dtype") is torch.float64):
            raise TypeError("no float64 on this device")
        return f(*args, **kwargs)


def test_a_device_without_float64(tokenizer):
    """Training and evaluation keep float64 on the CPU."""
    with NoFloat64():
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros((), dtype=torch.float64, device="cpu")
        rows = train(new_model(), new_batches(), replace(CONFIG, steps=2),
                     run=Run(None, tokenizer, Text(100)))
    assert all(row["loss"] > 0 for row in rows if "loss" in row)


def test_a_loss_too_large_for_its_perplexity(tokenizer, tmp_path):
    """exp(1000) is no float; the loss is one, and the run goes on."""
    model = new_model()
    with torch.no_grad():
        model.ln_f.weight.mul_(1e5)
    found = evaluate(model, Text(100, top=4096), tokenizer)
    assert found["loss"] > 1000 and found["perplexity"] == math.inf
    assert 0 < found["bits_per_byte"] < math.inf
    rows = train(model, new_batches(), replace(CONFIG, steps=2, eval_every=1),
                 run=Run(tmp_path, tokenizer, Text(100)))
    said = [row for row in read_rows(tmp_path / "metrics.jsonl")
            if "validation_loss" in row]
    assert said and said[0]["validation_loss"] > 709
    assert said[0]["validation_perplexity"] is None      # JSON has no inf
    assert "Infinity" not in (tmp_path / "metrics.jsonl").read_text()
    assert len([row for row in rows if "loss" in row]) == 2


def test_an_evaluation_that_is_no_number(tokenizer):
    """It ends the run before the broken weights are saved."""
    class Breaking(Engine):
        def update(self, rate):
            super().update(rate)
            with torch.no_grad():
                self.model.ln_f.weight[0] = math.nan

    with pytest.raises(NotFinite, match="after update 1: held-out loss nan"):
        train(new_model(), new_batches(), replace(CONFIG, steps=4,
              eval_every=1), Breaking(), Run(None, tokenizer, Text(100)))


def test_looking_changes_nothing(tokenizer):
    """Evaluation and samples draw no random number and keep the mode."""
    run = Run(None, tokenizer, Text(300, 1), prompts=("a", ""))
    looking = replace(CONFIG, sample_every=1, eval_every=1)
    models = new_model(), new_model()
    a = train(models[0], new_batches(), looking, run=run)
    b = train(models[1], new_batches(), CONFIG)
    assert [r["loss"] for r in a if "loss" in r] == [r["loss"] for r in b]
    assert sum("validation_loss" in r for r in a) == 6
    assert sum("sample" in r for r in a) == 14
    assert all(torch.equal(p, q) for p, q in zip(
        models[0].parameters(), models[1].parameters()))


# ---------------------------------------------------------------- resume
def test_resume_with_other_micro_batches(tokenizer, tmp_path):
    stop_at(4, tmp_path, tokenizer)
    other = replace(CONFIG, micro_batch=4, keep=1, eval_every=5)
    rows = train(new_model(seed=9), new_batches(), other,
                 run=Run(tmp_path, tokenizer))
    assert [r["step"] for r in rows if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert len(checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("change", [
    dict(learning_rate=1e-3), dict(steps=7), dict(dropout=0.2),
    dict(clip=0.5), dict(weight_decay=0.0), dict(seed=1), dict(beta1=0.8),
    dict(precision="bfloat16"), dict(warmup=3), dict(final_fraction=0.2)])
def test_other_mathematics_refused(change, tokenizer, tmp_path):
    stop_at(4, tmp_path, tokenizer)
    (name, value), = change.items()
    with pytest.raises(DataError, match=f"{name} .*not {value!r}. Resume"):
        train(new_model(), new_batches(), replace(CONFIG, **change),
              run=Run(tmp_path, tokenizer))


STABLE = replace(CONFIG, decay=2)              # at its top until update 4


@pytest.mark.parametrize("change", [
    dict(steps=9), dict(steps=9, decay=4), dict(steps=5), dict(decay=3),
    dict(steps=4, decay=1), dict(steps=8, decay=5, final_fraction=0.5)])
def test_the_schedule_ahead_is_free(change, tokenizer, tmp_path):
    """A run that branches off is, bit for bit, one that knew its end."""
    wanted = replace(STABLE, **change)
    stop_at(3, tmp_path / "a", tokenizer, config=STABLE)
    models = new_model(seed=9), new_model()
    rows = train(models[0], new_batches(), wanted,
                 run=Run(tmp_path / "a", tokenizer))
    straight = train(models[1], new_batches(), wanted)
    for key in ("loss", "learning_rate", "gradient_norm"):
        assert [r[key] for r in rows if key in r] == [
            r[key] for r in straight if key in r]
    assert rows[-1]["step"] == wanted.steps
    assert all(torch.equal(p, q) for p, q in zip(
        models[0].parameters(), models[1].parameters()))


@pytest.mark.parametrize("change", [
    dict(steps=3), dict(decay=4), dict(decay=0), dict(steps=5, decay=3),
    dict(learning_rate=1e-3), dict(warmup=1)])
def test_the_schedule_behind_is_not(change, tokenizer, tmp_path):
    """4 updates are done, of which none was in the fall."""
    stop_at(4, tmp_path, tokenizer, config=STABLE)
    with pytest.raises(DataError, match=f"with {[*change][0]} .*Resume"):
        train(new_model(), new_batches(), replace(STABLE, **change),
              run=Run(tmp_path, tokenizer))


def test_the_number_that_is_in_the_way_is_named(tokenizer, tmp_path):
    stop_at(3, tmp_path, tokenizer, config=STABLE)
    with pytest.raises(DataError, match="made with clip 1.0, not 2.0"):
        train(new_model(), new_batches(), replace(STABLE, steps=9, clip=2.0),
              run=Run(tmp_path, tokenizer))


def test_a_run_from_before_there_was_a_decay(tokenizer, tmp_path):
    stop_at(4, tmp_path, tokenizer)
    path = checkpoints(tmp_path)[-1]
    position = json.loads((path / "position.json").read_text())
    del position["config"]["decay"]
    (path / "position.json").write_text(json.dumps(position))
    (path / "checksums.json").write_text(json.dumps(
        training.file_sums(path)))
    rows = train(new_model(), new_batches(), CONFIG,
                 run=Run(tmp_path, tokenizer))
    assert rows[-1]["step"] == 6


def test_other_data_refused(tokenizer, tmp_path):
    stop_at(2, tmp_path, tokenizer)
    for batches in (new_batches(seed=1), new_batches(8),
                    Batches(Text(2001), 4, 32)):
        with pytest.raises(DataError):
            train(new_model(), batches, CONFIG, run=Run(tmp_path, tokenizer))


def stop_at(step, run, tokenizer, number=signal.SIGTERM, config=CONFIG):
    """Train until this update, then a signal."""
    class Stopping(Engine):
        def update(self, rate):
            super().update(rate)
            self.done = getattr(self, "done", 0) + 1
            if self.done == step:
                signal.raise_signal(number)
    with pytest.raises(Interrupted) as caught:
        train(new_model(), new_batches(), config, Stopping(),
              Run(run, tokenizer, Text(300, 1) if run else None))
    assert caught.value.code == 128 + number
    return caught.value


def test_a_finished_run_stays(tokenizer, tmp_path):
    run = Run(tmp_path, tokenizer, Text(300, 1))
    rows = train(new_model(), new_batches(), CONFIG, run=run)
    model = new_model(seed=5)
    again = train(model, new_batches(), CONFIG, run=run)
    assert again == rows == read_rows(tmp_path / "metrics.jsonl")
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "lo')
    assert train(model, new_batches(), CONFIG, run=run) == rows


@pytest.mark.parametrize("name", ["model.safetensors", "training_state.pt",
                                  "position.json", "config.json",
                                  "checksums.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_damaged(name, how, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "load_pretrained", None)   # never reached
    stop_at(2, tmp_path, tokenizer)
    file = checkpoints(tmp_path)[-1] / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-3] if how == "cut" else
                         b"{" + bytes([content[1] ^ 1]) + content[2:])
    with pytest.raises(DataError, match="is damaged. Remove it"):
        train(new_model(), new_batches(), CONFIG, run=Run(tmp_path, tokenizer))


def test_a_strange_file_in_a_checkpoint(tokenizer, tmp_path):
    stop_at(2, tmp_path, tokenizer)
    (checkpoints(tmp_path)[-1] / "more.txt").write_text("?")
    with pytest.raises(DataError, match="is damaged"):
        train(new_model(), new_batches(), CONFIG, run=Run(tmp_path, tokenizer))


# ----------------------------------------------------------------- not finite
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


def test_a_loss_that_is_no_number():
    engine = prepared(replace(CONFIG, dropout=0.0))
    with torch.no_grad():
        engine.model.ln_f.bias.fill_(math.nan)
    with pytest.raises(NotFinite, match="update 1, batch 0: loss nan"):
        one_update(0, engine, new_batches())
    assert not engine.optimizer.state


# -------------------------------------------------------------------- signals
def test_without_a_directory_it_says_so():
    error = stop_at(3, None, None, signal.SIGINT)
    assert error.code == 130 and "nothing is saved" in str(error)
    assert "SIGINT after update 3" in str(error)


def test_handlers_come_back(tokenizer):
    old = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(new_model(), new_batches(), CONFIG)
    with pytest.raises(ZeroDivisionError), training.catching_signals():
        1 / 0
    stop_at(1, None, None)
    assert old == (signal.getsignal(signal.SIGINT),
                   signal.getsignal(signal.SIGTERM))


def test_a_second_ctrl_c_acts_at_once():
    with pytest.raises(KeyboardInterrupt):
        with training.catching_signals() as caught:
            signal.raise_signal(signal.SIGINT)
            assert caught == [signal.SIGINT]
            signal.raise_signal(signal.SIGINT)


def test_off_the_main_thread():
    rows = []
    thread = threading.Thread(target=lambda: rows.extend(train(
        new_model(), new_batches(), replace(CONFIG, steps=2))))
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


def test_only_rank_0_writes_the_log(tokenizer, tmp_path):
    class Second(Engine):
        rank, world = 1, 2

        def save(self, path, position, tokenizer):
            path.mkdir(parents=True)         # as if process 0 had written it
    rows = train(new_model(), new_batches(), CONFIG, Second(),
                 Run(tmp_path, tokenizer))
    assert len(rows) == 6
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]


# ---------------------------------------------------------------- the folder
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
    for what in (dict(directory=tmp_path), dict(validation=Text(9))):
        with pytest.raises(ValueError, match="needs its tokenizer; pass"):
            Run(**what)


def test_leftovers(tmp_path):
    folder = tmp_path / "checkpoints"
    dead, alive = 999_999_999, os.getppid()
    gone = [folder / f".step-00000004.{dead}.tmp",
            folder / f".step-00000002.{dead}.gone",
            folder / f".step-00000006.{os.getpid()}.tmp"]
    kept = [folder / f".step-00000004.{alive}.tmp", folder / "step-00000002",
            folder / ".hidden.tmp", folder / ".tmp"]
    for path in gone + kept:
        path.mkdir(parents=True)
        (path / "file").write_text("x")
    (tmp_path / f".metrics.jsonl.{dead}.tmp").write_text("x")
    training.remove_leftovers(tmp_path)
    assert not any(path.exists() for path in gone)
    assert all((path / "file").exists() for path in kept)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]
    training.remove_leftovers(tmp_path / "nothing")


def test_saving_fails(tokenizer, tmp_path, monkeypatch):
    for name in ("save_pretrained", "save_tokenizer", "sync"):
        run = tmp_path / name
        stop_at(2, run, tokenizer)
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")
        with monkeypatch.context() as patch:
            patch.setattr(training, name, full)
            with pytest.raises(CheckpointError, match="after update 4 could"
                               ".*No space.*last good one.*step-00000002"):
                train(new_model(), new_batches(), CONFIG,
                      run=Run(run, tokenizer))
        names = sorted(p.name for p in (run / "checkpoints").iterdir())
        assert names == ["step-00000000", "step-00000002"]
        rows = train(new_model(), new_batches(), CONFIG,
                     run=Run(run, tokenizer))
        assert rows[-1]["step"] == 6


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
    training.report(rows_for_a_report(), engine, Run(report=said.append))
    assert said == ["update 400 of 1,000: loss 3.500, held out 2.500, 1.250"
                    " bits per byte; 80 tokens/s, 2:05:00 left"]
    training.report(rows_for_a_report(), engine, Run())
    engine.rank = 1
    training.report(rows_for_a_report(), engine, Run(report=said.append))
    empty = Log(None)                        # its updates are not in the log
    empty.add(step=400, validation_loss=1.0, validation_bits_per_byte=1.0)
    engine.rank = 0
    training.report(empty, engine, Run(report=said.append))
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


# ------------------------------------------------- a run and its folder
def test_alone(tmp_path):
    pytest.importorskip("fcntl")
    run = tmp_path / "a" / "run"
    with training.alone(run):
        with pytest.raises(DataError, match="another process is training"):
            with training.alone(run):
                raise AssertionError("both are in")
        with training.alone(tmp_path / "a" / "other"):
            pass
        (run / "metrics.jsonl").write_text("")
    assert (run / "metrics.jsonl").exists()      # something came of it
    with training.alone(run):                    # and it is free again
        (run / "metrics.jsonl").unlink()
        (run / ".data.lock").write_text("")
    assert not list((tmp_path / "a").iterdir())
    with pytest.raises(ZeroDivisionError), training.alone(run):
        1 / 0
    assert not run.exists()


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
    return training.new_plan(corpus, NUMBERS,
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
    plan = training.new_plan(plan.source, {**NUMBERS, "steps": 5000, **changes},
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
    batches, run = training.open_run(out, plan, engine)
    plan, different = training.set_up(plan, engine, batches, run, minutes=0.01)
    assert different == [] and plan.config.steps > 2
    train(plan.model, batches, plan.with_steps(2).config, engine)
    assert len(engine.taken) == 3 and engine.taken[-1] is plan.model


def test_only_the_first_process_writes(plan, tmp_path):
    class Second(Engine):
        rank, world = 1, 2

        def save(self, path, position, tokenizer):
            pass                             # process 0 writes it

    engine, out = Second(), tmp_path / "run"
    batches, run = training.open_run(out, plan, engine)
    assert (batches.rank, batches.world, batches.seed) == (1, 2, 7)
    assert training.set_up(plan, engine, batches, run)[1] == []
    assert [p.name for p in out.iterdir() if p.name[0] != "."] == ["data"]


def test_the_saved_model_is_the_last_checkpoint(plan, tmp_path):
    engine, out = Engine(), tmp_path / "run"
    batches, run = training.open_run(out, plan, engine)
    training.set_up(plan, engine, batches, run)
    assert not training.is_finished(out)
    assert training.last_evaluation(out) == {}
    rows = train(plan.model, batches, plan.config, engine, run)
    training.save_model(out, engine.model, plan.tokenizer)
    assert training.is_finished(out)
    assert training.last_evaluation(out) == rows[-1]
    newest = checkpoints(out)[-1]
    for name in "model.safetensors", "config.json":
        assert (out / "model" / name).read_bytes() == (
            newest / name).read_bytes()
    settings = (out / "model" / "tokenizer_config.json").read_text("utf-8")
    assert json.loads(settings)["model_max_length"] == 32
    assert not (out / "model" / training.STATE).exists()
    found = training.saved_plan(out, {"micro_batch": 2})
    assert found.config == replace(plan.config, micro_batch=2)
    assert found.model.config == plan.model.config
    with pytest.raises(DataError, match="holds a run already"):
        training.require_new(out)


@pytest.mark.parametrize("count, wanted, chosen", [
    (10, 3, [0, 3, 6]), (3, 10, [0, 1, 2]), (4, 4, [0, 1, 2, 3]), (0, 5, []),
    (5, 0, [])])
def test_spread(count, wanted, chosen):
    assert training.spread(count, wanted) == chosen


# --------------------------------------------------------------- the helpers
def test_steps_in(monkeypatch):
    model, batches = new_model(), new_batches()
    before = [p.detach().clone() for p in model.parameters()]
    steps = training.steps_in(0.05, model, batches, CONFIG, Engine())
    assert steps > 5 and batches.taken == 0
    assert all(torch.equal(a, p) for a, p in zip(before, model.parameters()))

    class Slow(Engine):
        def backward(self, ids, share, last):
            time.sleep(0.05)
            return super().backward(ids, share, last)
    large = replace(CONFIG, batch_size=64, micro_batch=1)
    began = time.monotonic()
    found = training.steps_in(1, model, new_batches(64), large, Slow())
    assert time.monotonic() - began < 3      # 6 micro-batches, not 192
    assert 5 < found < 18                    # 64 × 0.05 s each: 17 at most
    with pytest.raises(ValueError, match="none fits into 0.01 minutes"):
        training.steps_in(0.01, model, new_batches(64), large, Slow())


def test_metrics(tokenizer):
    rows = train(new_model(), new_batches(), CONFIG,
                 run=Run(peak=training.measured_peak(seconds=0.05)))
    for number, row in enumerate(rows, 1):
        assert row["step"] == number and row["tokens"] == number * 4 * 32
        assert 0 < row["mfu"] < 1.5 and row["seconds"] > 0
        assert row["learning_rate"] == learning_rate(number - 1, CONFIG)


def test_sample(tokenizer):
    model = new_model().train()
    state = torch.get_rng_state()
    a = training.sample(model, tokenizer, "def f", 100)
    assert a == training.sample(model, tokenizer, "def f", 100)
    assert a != training.sample(model, tokenizer, "def f", 100, seed=1)
    assert not a.startswith("def f") and model.training
    assert torch.equal(state, torch.get_rng_state())


def test_function_headers():
    source = ("import x\n"
              "def one(): return 1\n"
              "async def two(a,\n"
              "              b):\n"
              "    pass\n"
              "class C:\n"
              "    def three(self):\n"
              '        """Doc."""\n')
    found = list(training.function_headers(["def (", source, "a\0b"]))
    assert [(h.context.splitlines()[-1].strip(), h.indent) for h in found] \
        == [("b):", 0), ("def three(self):", 4)]
    assert all(h.context.endswith(":") for h in found)


def test_a_header_ends_before_a_decorator():
    """The body of the outer function begins at `@cache`, not at `def g`."""
    source = ("def f(a):\n    @cache\n    def g(b):\n        return b\n"
              "    return g\n"
              "def h(a):\n    @one\n    @two(\n        3)\n"
              "    class C:\n        x = 1\n    return C\n")
    lines = [h.context.splitlines()[-1].strip()
             for h in training.function_headers([source])]
    assert lines == ["def f(a):", "def h(a):", "def g(b):"]


DEEP = ["- " * 3_000 + "1", "not " * 4_000 + "x", "-" * 60_000 + "1",
        "a" + ".b" * 40_000, " + ".join(["1"] * 20_000), "(" * 500 + ")" * 500]


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_what_python_cannot_parse(text):
    """Too deep for Python's parser: it does not parse, and that is all."""
    training.parses(f"\n    x = {text}\n")           # True or False, no error
    fine = "def f():\n    return 1\n"
    found = list(training.function_headers([f"x = {text}\n{fine}", fine]))
    assert 1 <= len(found) <= 2


@pytest.mark.parametrize("text, indent, body", [
    ("\n    a\n    b\nc\n", 0, "\n    a\n    b\n"),
    ("\n    a\n\n    b\n", 0, "\n    a\n\n"),
    ("\n        a\n    def g():\n", 4, "\n        a\n"),
    ("\n    a\n  # comment\nx\n", 0, "\n    a\n  # comment\n"),
    ("  # why\n    a\nx\n", 0, "  # why\n    a\n"),
    (" return 1\nx\n", 0, " return 1\n"),
    ("\nx\n", 0, "\n"), ("", 0, ""), ("\n    cut off he", 0, "\n")])
def test_bodies(text, indent, body):
    assert training.body_of(text, indent) == body


def test_parses():
    assert training.parses("\n    return 1\n")
    assert training.parses(" return 1\n")
    assert training.parses("\n        await x\n")
    assert training.parses('\n    return "\\d"\n')         # a warning, no more
    for bad in ("", "\n", "\n    return (\n", "\n    x = \0\n",
                "\nreturn 1\n    x\n"):
        assert not training.parses(bad)


def test_bodies_that_were_written_by_people(tokenizer, root):
    """The true continuation of every header of this package parses."""
    source = (root / "gpt2" / "training.py").read_text("utf-8")
    headers = list(training.function_headers([source]))
    true = [source[len(header.context):] for header in headers]
    found = training.parse_rate(headers, true, tokenizer)
    assert found["rate"] == 1 and found["bodies"] > 40


def test_write_and_rate(tokenizer):
    contexts = ["def f(x):", "x = 1\n" * 60 + "def g():", ""]
    written = list(training.write_with(new_model(), tokenizer, contexts,
                                       new=12, batch_size=2))
    assert len(written) == 3 and all(isinstance(w, str) for w in written)
    headers = [training.Header(c, 0) for c in contexts]
    found = training.parse_rate(
        headers, ["\n    return x + 1\nx", "\n    return (\nx", "x"],
        tokenizer, minimum=2)
    assert found == {"headers": 3, "bodies": 2, "parse": 1, "rate": 0.5}
