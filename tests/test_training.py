"""gpt2.training: what the page does not try."""
import json
import math
import os
from dataclasses import replace
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from small_runs import (CONFIG, MODEL, Text, losses, new_batches, new_model,
                        prepared)
from torch import nn
from torch.overrides import TorchFunctionMode

from gpt2.checks import reference_model, reference_state
from gpt2.config import PRESETS, GPT2Config
from gpt2.data import DataError
from gpt2.generation import NotFinite
from gpt2.model import GPT2
from gpt2.tokenizer import Tokenizer
from gpt2.training import (Engine, Stepper, TrainingConfig, Update,
                           accumulate, evaluate, evaluation_windows,
                           learning_rate, one_update, parameter_groups,
                           sample, spread, updates)


@pytest.fixture(scope="module")
def tokenizer(root):
    return Tokenizer.load(root / "checkpoints" / "nano")


# ----------------------------------------------------------------------- config
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


# -------------------------------------------------------------------- optimizer
@pytest.mark.parametrize("tied", [True, False])
def test_groups(tied):
    with torch.device("meta"):
        model = GPT2(replace(MODEL, tie_word_embeddings=tied))
    decayed, free = parameter_groups(model, 0.1)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)].split(".")[-1] for p in decayed["params"]} == {
        "weight"}
    assert all(names[id(p)].endswith("bias") or "ln_" in names[id(p)]
               for p in free["params"])
    both = decayed["params"] + free["params"]
    assert len({id(p) for p in both}) == len(both) == len(names)
    model.wte.weight.requires_grad_(False)
    assert len(parameter_groups(model, 0)[0]["params"]) == len(
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
        found = losses(config)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
    finally:
        torch.use_deterministic_algorithms(False)
    assert found == losses(replace(config, deterministic=False))


# ------------------------------------------------------------------- evaluation
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


@pytest.mark.parametrize("count, wanted, chosen", [
    (10, 3, [0, 3, 6]), (3, 10, [0, 1, 2]), (4, 4, [0, 1, 2, 3]), (0, 5, []),
    (5, 0, [])])
def test_spread(count, wanted, chosen):
    assert spread(count, wanted) == chosen


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
        engine = Engine()
        assert all(loss > 0 for loss in losses(replace(CONFIG, steps=2),
                                               engine=engine))
        assert engine.evaluate(Text(100), tokenizer)["loss"] > 0


def test_a_loss_too_large_for_its_perplexity(tokenizer):
    """exp(1000) is no float; the loss is one."""
    model = new_model()
    with torch.no_grad():
        model.ln_f.weight.mul_(1e5)
    found = evaluate(model, Text(100, top=4096), tokenizer)
    assert found["loss"] > 1000 and found["perplexity"] == math.inf
    assert 0 < found["bits_per_byte"] < math.inf


def test_sample(tokenizer):
    model = new_model().train()
    state = torch.get_rng_state()
    a = sample(model, tokenizer, "def f", 100)
    assert a == sample(model, tokenizer, "def f", 100)
    assert a != sample(model, tokenizer, "def f", 100, seed=1)
    assert not a.startswith("def f") and model.training
    assert torch.equal(state, torch.get_rng_state())


def test_looking_changes_nothing(tokenizer):
    """Evaluation and samples draw no random number and keep the mode."""
    found, plain = [], Engine()
    engine = prepared()
    for update in updates(engine, new_batches(), CONFIG):
        found.append(update.loss)
        assert engine.evaluate(Text(300, 1), tokenizer)["tokens"] == 3 * 32
        sample(engine.model, tokenizer, "a")
    assert found == losses(engine=plain)
    assert all(torch.equal(p, q) for p, q in zip(
        engine.model.parameters(), plain.model.parameters()))


# ------------------------------------------------------------------ the loop
def test_updates():
    """One row an update, in the order of the log; it goes on from `done`."""
    engine, batches = prepared(), new_batches()
    rows = [*islice(updates(engine, batches, CONFIG), 4)]
    assert batches.taken == 4
    assert Update._fields == ("step", "loss", "gradient_norm",
                              "learning_rate", "seconds", "tokens")
    for number, row in enumerate(rows, 1):
        assert row.step == number and row.tokens == number * 4 * 32
        assert row.learning_rate == learning_rate(number - 1, CONFIG)
        assert row.gradient_norm > 0 and row.seconds > 0
    rows += updates(engine, batches, CONFIG, done=4)
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.loss for row in rows] == losses()
    assert [*updates(engine, batches, CONFIG, done=6)] == []


def test_less_than_no_update_done():
    with pytest.raises(ValueError, match="done is -1; it must be a whole"):
        next(updates(prepared(), new_batches(), CONFIG, done=-1))


def test_another_config_than_the_engine_s():
    """Half of the numbers would come from one, half from the other."""
    engine, batches = prepared(), new_batches()
    with pytest.raises(ValueError, match="prepared with another config"):
        next(updates(engine, batches, replace(CONFIG, micro_batch=1)))
    assert batches.taken == 0
    assert next(updates(engine, batches, replace(CONFIG))).step == 1


@pytest.mark.parametrize("asked", range(1, 9))
def test_stopped_between_micro_batches(asked):
    """It ends after a whole update, and goes on as if nothing had been."""
    engine, batches, questions = prepared(), new_batches(), []

    def stop():
        questions.append(asked)
        return len(questions) >= asked

    rows = [*updates(engine, batches, CONFIG, stop=stop)]
    assert len(rows) == batches.taken == (asked - 1) // 2
    assert len(questions) == asked           # once before each micro-batch
    rows += updates(engine, batches, CONFIG, len(rows))
    assert [row.loss for row in rows] == losses()


def test_an_evaluation_that_is_stopped(tokenizer):
    engine, answers = prepared(), iter([False, True])
    assert engine.evaluate(Text(300), tokenizer,
                           lambda: next(answers)) is None


def test_a_loss_that_is_no_number():
    engine = prepared(replace(CONFIG, dropout=0.0))
    with torch.no_grad():
        engine.model.ln_f.bias.fill_(math.nan)
    with pytest.raises(NotFinite, match="update 1, batch 0: loss nan"):
        one_update(0, engine, new_batches(), CONFIG)
    assert not engine.optimizer.state
