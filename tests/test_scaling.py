"""The fast engine: equal results, memory, micro-batches, costs."""
import copy
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from gpt2 import PRESETS, GPT2, GPT2Config, scaling
from gpt2.checks import reference_model
from gpt2.command_line import loop
from gpt2.command_line.runs import Run
from gpt2.counting import flops_per_token, memory_bytes
from gpt2.data import Batches
from gpt2.generation import generate
from gpt2.model import next_token_loss
from gpt2.pretrained import load_pretrained, save_pretrained
from gpt2.scaling import (IGNORED, FastEngine, FastGPT2, LiveBytes, Speed,
                          bytes_needed, find_micro_batch, fits,
                          linear_cross_entropy, run_cost, step_bytes,
                          step_work)
from gpt2.training import Engine, TrainingConfig, accumulate, updates
from toys import TINY, Text, byte_tokenizer

NUMBERS = TrainingConfig(steps=8, batch_size=6, micro_batch=2, length=32,
                         warmup=2, learning_rate=3e-3, save_every=4)
SPEEDS = [Speed(), Speed(loss_rows=0), Speed(loss_rows=7, pad_to=1),
          Speed(checkpoint=True)]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def tiny(dtype=torch.float32, **changes):
    torch.manual_seed(0)
    return GPT2(GPT2Config(**{**TINY, **changes})).to(dtype)


def gradients(engine, dropout=0.0, dtype=torch.float32, **changes):
    """Loss and all gradients of two micro-batches, in one vector."""
    engine.prepare(tiny(dtype, **changes), replace(NUMBERS, dropout=dropout))
    ids = torch.randint(257, (4, 33),
                        generator=torch.Generator().manual_seed(2))
    loss = accumulate(engine, ids)
    return torch.cat([loss[None].to(dtype), *(
        p.grad.flatten() for p in engine.model.parameters())])


# --- the loss ---------------------------------------------------------------

@pytest.mark.parametrize("dtype, tol", [(torch.float64, 1e-10),
                                        (torch.float32, 1e-5)])
@pytest.mark.parametrize("rows, pad", [(0, 1), (0, 64), (1, 64), (5, 7),
                                       (10 ** 6, 128)])
def test_the_loss(dtype, tol, rows, pad):
    torch.manual_seed(0)
    x = torch.randn(3, 6, 16, dtype=dtype, requires_grad=True)
    W = (3 * torch.randn(65, 16, dtype=dtype)).requires_grad_()
    labels = torch.randint(65, (3, 6))
    labels[1, 2:4] = labels[2, 0] = IGNORED
    theirs = 2 * next_token_loss(x @ W.T, labels)
    ours = 2 * linear_cross_entropy(x, W, labels, Speed(loss_rows=rows,
                                                        pad_to=pad))
    assert ours.dtype == theirs.dtype
    torch.testing.assert_close(ours, theirs, rtol=tol, atol=tol)
    for a, b in zip(torch.autograd.grad(ours, (x, W)),
                    torch.autograd.grad(theirs, (x, W))):
        torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def test_the_loss_would_notice_padding():
    """Padded rows that are not masked change the loss: the mask is needed."""
    x, W = torch.randn(5, 8), torch.randn(7, 8)
    padded = torch.nn.functional.pad(W, (0, 0, 0, 57))
    targets, count = torch.arange(5), torch.tensor(5)
    right = scaling.rows_of_the_loss(x, padded, targets, 7, count)[0]
    wrong = scaling.rows_of_the_loss(x, padded, targets, 64, count)[0]
    same = torch.nn.functional.cross_entropy(x @ W.T, targets)
    torch.testing.assert_close(right, same)
    assert wrong > right + 0.1


def test_nothing_to_predict_is_not_a_number():
    labels = torch.full((2, 4), IGNORED)
    assert linear_cross_entropy(torch.randn(2, 4, 8), torch.randn(9, 8),
                                labels).isnan()


@pytest.mark.parametrize("T, labels, words", [
    (1, torch.zeros(2, 1).long(), "at least 2 tokens"),
    (3, torch.zeros(2, 5).long(), r"labels have shape \(2, 5\)"),
    (6, torch.zeros(2, 5).long(), r"labels have shape \(2, 5\)"),
    (5, torch.zeros(3, 5).long(), r"labels have shape \(3, 5\)")])
def test_labels_of_another_shape(T, labels, words):
    with pytest.raises(ValueError, match=words):
        linear_cross_entropy(torch.randn(2, T, 8), torch.randn(9, 8), labels)


def test_labels_with_one_token_more():
    """The last position counts: value and gradients as written out."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    W = torch.randn(9, 8, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(9, (2, 6))
    ours = linear_cross_entropy(x, W, labels, Speed(loss_rows=3))
    theirs = F.cross_entropy((x @ W.T).flatten(0, 1), labels[:, 1:].flatten())
    assert abs(ours - theirs) < 1e-12
    for a, b in zip(torch.autograd.grad(ours, (x, W)),
                    torch.autograd.grad(theirs, (x, W))):
        assert (a - b).abs().max() < 1e-12
        assert a.flatten(1).any(1).all()


def test_every_position_learns():
    """In the fast engine too, with and without chunks of the loss."""
    for speed in SPEEDS:
        engine = FastEngine(speed=speed)
        engine.prepare(tiny(), NUMBERS)
        accumulate(engine, torch.randint(257, (2, 33)))
        grad = engine.model.wpe.weight.grad
        assert (grad.abs().sum(1) > 0).all()


def test_the_loss_in_half_precision():
    """Under autocast the logits are rounded as PyTorch rounds them."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 16, requires_grad=True)
    W = torch.randn(33, 16, requires_grad=True)
    labels = torch.randint(33, (2, 8))
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(x, W, labels)
        theirs = next_token_loss(torch.nn.functional.linear(x, W), labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(ours, (x, W)),
                    torch.autograd.grad(theirs, (x, W))):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.02, atol=2e-3)


def test_memory_of_the_loss():
    x = torch.randn(4, 128, 16, requires_grad=True)
    W = torch.randn(1024, 16, requires_grad=True)
    labels = torch.randint(1024, (4, 128))

    def peak(speed=None):
        with LiveBytes() as live:
            loss = (next_token_loss(x @ W.T, labels) if speed is None else
                    linear_cross_entropy(x, W, labels, speed))
            loss.backward()
        return live.peak

    logits = 4 * 4 * 128 * 1024
    assert peak() > 2.5 * logits
    assert peak(Speed(loss_rows=32)) < 0.4 * logits


@pytest.mark.parametrize("change", [dict(loss_rows=-1), dict(pad_to=0)])
def test_speed_refuses(change):
    with pytest.raises(ValueError, match="at least 0 and 1"):
        Speed(**change)


# --- the model --------------------------------------------------------------

@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients(speed, dropout):
    """The same as chapter 15's, dropout's draws included."""
    torch.testing.assert_close(
        gradients(FastEngine(speed=speed), dropout, torch.float64),
        gradients(Engine(), dropout, torch.float64), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("changes", [
    dict(tie_word_embeddings=False), dict(n_head=1, n_inner=40),
    dict(scale_attn_by_inverse_layer_idx=True, activation_function="relu"),
    dict(vocab_size=320)])
def test_gradients_of_other_configs(changes):
    torch.testing.assert_close(
        gradients(FastEngine(speed=Speed(checkpoint=True)),
                  dtype=torch.float64, **changes),
        gradients(Engine(), dtype=torch.float64, **changes),
        rtol=1e-10, atol=1e-12)


def test_the_gradients_are_hugging_faces():
    theirs = reference_model(GPT2Config(**TINY), dtype=torch.float64)
    ours = tiny(torch.float64)
    ours.load_state_dict({name.removeprefix("transformer."): p for name, p
                          in theirs.named_parameters()})
    ids = torch.randint(257, (2, 32))
    FastGPT2(ours.eval(), Speed())(ids, labels=ids).loss.backward()
    logits = theirs(ids).logits
    next_token_loss(logits, ids).backward()
    for (name, p), (_, q) in zip(ours.named_parameters(),
                                 theirs.named_parameters()):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12,
                                   msg=name)


def test_it_is_the_same_model(tmp_path):
    model = tiny().eval()
    fast = FastGPT2(model, Speed(checkpoint=True)).eval()
    assert list(fast.state_dict()) == list(model.state_dict())
    ids = torch.randint(257, (2, 8))
    assert torch.equal(fast(ids).logits, model(ids).logits)
    assert torch.equal(generate(fast, ids, 10), generate(model, ids, 10))
    save_pretrained(fast, tmp_path)
    again = load_pretrained(tmp_path)
    assert again.wte.weight.shape == (257, 32)
    assert all(torch.equal(again.state_dict()[name], p)
               for name, p in model.state_dict().items())


def test_a_copy_is_a_copy():
    """Training a copy leaves the model alone: chapter 15 measures speed so."""
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    engine = FastEngine()
    engine.prepare(copy.deepcopy(model), NUMBERS)
    accumulate(engine, torch.randint(257, (4, 33)))
    engine.update(0.1)
    assert all(torch.equal(before[name], p)
               for name, p in model.state_dict().items())


def losses_of(engine, model, config=NUMBERS):
    """Of a whole run."""
    engine.prepare(model, config)
    return [update.loss for update in updates(
        engine, Batches(Text(), 6, 32), config)]


def test_training_is_in_place():
    model = tiny()
    losses = losses_of(FastEngine(), model, replace(NUMBERS, dropout=0.1))
    assert losses[-1] < losses[0]
    assert model.config.resid_pdrop == 0.1
    assert model(torch.zeros(1, 4).long()).logits.shape == (1, 4, 257)


def test_blocks_are_compiled_once():
    """One graph for all layers, and one for the loss; equal losses."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    speed = Speed(compile=backend, loss_rows=64)
    compiled = gradients(FastEngine(speed=speed), n_layer=5)
    assert len(graphs) == 2
    torch.testing.assert_close(compiled, gradients(Engine(), n_layer=5),
                               rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not scaling.can_compile(), reason="no C++ compiler")
def test_really_compiled(tmp_path):
    """Losses of a run whose blocks and loss a C++ compiler has built."""
    torch.testing.assert_close(
        losses_of(FastEngine(speed=Speed(compile="inductor",
                                         checkpoint=True)), tiny()),
        losses_of(Engine(), tiny()), rtol=1e-4, atol=1e-4)


# --- checkpoints ------------------------------------------------------------

@pytest.mark.parametrize("first, second", [
    (FastEngine, FastEngine), (Engine, FastEngine), (FastEngine, Engine)])
def test_resume(first, second, tokenizer, tmp_path):
    """Bit for bit, dropout too; also from chapter 15's files and back."""
    config = replace(NUMBERS, dropout=0.1)

    def run(engine, directory):
        return loop.train_run(tiny(), Batches(Text(), 6, 32), config, engine,
                          Run(directory, tokenizer))

    whole = [row["loss"] for row in run(second(), tmp_path / "whole")]
    halves = [row["loss"] for row in run(first(), tmp_path / "halves")]
    shutil.rmtree(tmp_path / "halves/checkpoints/step-00000008")
    again = [row["loss"] for row in run(second(), tmp_path / "halves")]
    if first is second:
        assert whole == again
    assert halves[:4] == again[:4]
    torch.testing.assert_close(again, whole, rtol=1e-5, atol=1e-5)


# --- compiling --------------------------------------------------------------

def test_nothing_to_compile_with(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(scaling.shutil, "which", lambda name: None)
    assert not scaling.can_compile()
    monkeypatch.setenv("CXX", "my-compiler")
    assert not scaling.can_compile()         # named, but not there
    monkeypatch.setattr(scaling.shutil, "which",
                        lambda name: name == "my-compiler")
    assert scaling.can_compile()


# --- memory -----------------------------------------------------------------

@pytest.mark.parametrize("speed", SPEEDS[:1] + SPEEDS[2:])
@pytest.mark.parametrize("layers", [1, 4])
def test_predicted_memory(speed, layers):
    model = tiny(n_layer=layers)
    n = sum(p.numel() for p in model.parameters())
    engine = FastEngine(speed=speed)
    engine.prepare(model, NUMBERS)
    ids = torch.randint(257, (8, 33))
    accumulate(engine, ids)
    engine.update(0.0)
    with LiveBytes() as live:
        engine.backward(ids, 0.5, True)
    said = sum(step_bytes(model.config, 8, 32, speed).values())
    assert live.peak + 16 * n == pytest.approx(said, rel=0.2)


def test_whole_logits_are_chapter_10s():
    config = GPT2Config(**TINY)
    parts, ours = memory_bytes(config, 8, 32), step_bytes(
        config, 8, 32, Speed(loss_rows=0))
    logits = 4 * 8 * 32 * 257
    assert ours["activations"] == parts["activations"] - logits
    assert ours["moment"] == 2 * logits + 8 * 257 * 32


@pytest.mark.parametrize("room, found", [
    (10 ** 12, 12), (None, 6), (0.5, 3), (0.4, 2)])
def test_micro_batch_for_a_limit(room, found):
    """None: just enough for 6 of the divisors 1, 2, 3, 4, 6, 12."""
    engine, model = FastEngine(), tiny()
    config = replace(NUMBERS, batch_size=12)
    six = bytes_needed(engine, model.config, 6, 32) / 0.9
    fixed = bytes_needed(engine, model.config, 0, 32) / 0.9
    if room is None:
        room = six + 1
    elif room < 1:
        room = fixed + room * (six - fixed) + 1
    assert find_micro_batch(engine, model, config, available=room) == found


def test_not_even_one_fits():
    with pytest.raises(ValueError, match="one sequence of 32 tokens needs"):
        find_micro_batch(FastEngine(), tiny(), NUMBERS, available=10_000)


class FakeGPU(FastEngine):
    """A device that says cuda, and refuses more than `most` sequences."""

    def __init__(self, most):
        super().__init__()
        self.device, self.most = torch.device("cuda"), most
        self.asked = []

    def prepare(self, model, config):
        self.optimizer = SimpleNamespace(zero_grad=lambda **options: None)

    def backward(self, ids, share, last):
        self.asked.append(len(ids))
        if len(ids) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    def update(self, rate):
        pass


@pytest.mark.parametrize("most, found", [(100, 24), (13, 12), (5, 4), (1, 1)])
def test_micro_batch_is_tried(most, found):
    engine = FakeGPU(most)
    room = bytes_needed(engine, GPT2Config(**TINY), 8, 32) / 0.9 + 1
    assert find_micro_batch(engine, tiny(), replace(
        NUMBERS, batch_size=24), available=room) == found
    assert max(engine.asked) == 24       # higher than predicted: 8


def test_a_gpu_that_refuses_everything():
    with pytest.raises(ValueError, match="needs about"):
        find_micro_batch(FakeGPU(0), tiny(), NUMBERS, available=10 ** 9)


def test_trying_leaves_the_model_alone():
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    assert fits(FastEngine(), model, NUMBERS)
    assert all(torch.equal(before[name], p) and p.grad is None
               for name, p in model.state_dict(keep_vars=True).items())


def test_trying_does_not_compile():
    """Minutes for each size that is tried; compiled it is afterwards."""
    def compiler(graph, inputs):
        graphs.append(graph)
        return graph.forward

    graphs, speed = [], Speed(compile=compiler)
    torch._dynamo.reset()
    engine = FastEngine(speed=speed)
    assert fits(engine, tiny(), NUMBERS) and not graphs
    assert engine.speed == speed
    engine.prepare(tiny(), NUMBERS)
    accumulate(engine, torch.zeros(2, 32, dtype=torch.long))
    assert len(graphs) == 2


def test_available_memory(monkeypatch):
    """What the system has, or the container has left; shared by processes."""
    here = scaling.available_memory()
    assert 2 ** 20 < here < 2 ** 50
    files = {}

    def read_text(path, *rest):
        if path.as_posix() not in files:
            raise FileNotFoundError(path)
        return files[path.as_posix()]

    monkeypatch.setattr(scaling.Path, "read_text", read_text)
    monkeypatch.setattr(scaling.psutil, "virtual_memory",
                        lambda: SimpleNamespace(available=8_000_000))
    assert scaling.available_memory() == 8_000_000       # no container
    files |= {"/sys/fs/cgroup/memory.max": "max",
              "/sys/fs/cgroup/memory.current": "1000000"}
    assert scaling.available_memory() == 8_000_000       # without a limit
    files["/sys/fs/cgroup/memory.max"] = "5000000"
    assert scaling.available_memory() == 4_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert scaling.available_memory() == 2_000_000
    files["/sys/fs/cgroup/memory.current"] = "6000000"   # over its limit
    assert scaling.available_memory() == 0
    files["/sys/fs/cgroup/memory.max"] = "90000000"      # more than there is
    assert scaling.available_memory() == 4_000_000


# --- work and cost ----------------------------------------------------------

@pytest.mark.parametrize("name", PRESETS)
def test_work(name):
    """The products of step_work are chapter 10's FLOPs, three times."""
    config = GPT2Config.from_preset(name)
    work = step_work(config, 2, 256)
    products = sum(part.flops for part_name, part in work.items()
                   if part_name not in ("norms, GELU, sums",
                                        "AdamW and clipping"))
    assert products == 3 * 512 * flops_per_token(config, 256)
    assert all(part.bytes > 0 for part in work.values())


def test_run_cost():
    config = GPT2Config()
    cost = run_cost(config, 10e9, devices=8, peak=312e12, mfu=0.5, price=2.0)
    assert cost.flops == pytest.approx(3 * flops_per_token(config) * 10e9)
    assert cost.hours == pytest.approx(cost.flops / (8 * 156e12) / 3600)
    assert cost.money == pytest.approx(16 * cost.hours)
    longer = run_cost(config, 20e9, devices=16, peak=312e12, mfu=0.5)
    assert longer.hours == pytest.approx(cost.hours) and longer.money == 0
    assert math.isclose(run_cost(config, 1, devices=1, peak=1.0, mfu=1.0,
                                 T=2).flops, 3 * flops_per_token(config, 2))
