"""The three larger published sizes against Hugging Face (124M: chapter 08).

Full depth in float32, logits; full width with two layers in float64, logits
and gradients. At full depth both models *share* every tensor, built on the
meta device: XL takes 6.2 GB, not 12.4. Values come from one buffer of random
numbers, read at another place for every tensor: quick, and no two layers are
alike.
"""
import gc
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt2.checks import (check, check_gradients, reference_config,
                         reference_model, reference_state)
from gpt2.config import GPT2Config
from gpt2.counting import count_parameters
from gpt2.model import GPT2, next_token_loss

transformers = pytest.importorskip("transformers")
SIZES = ["gpt2-medium", "gpt2-large", "gpt2-xl"]


def memory() -> int:
    """Bytes of memory that this process may hope for."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0                                 # unknown: too little
    limit = Path("/sys/fs/cgroup/memory.max")    # a container's own limit
    if limit.exists() and limit.read_text().strip().isdigit():
        total = min(total, int(limit.read_text()))
    return total


def need(gigabytes: float) -> None:
    if memory() < gigabytes * 1e9:
        pytest.skip(f"needs a machine with {gigabytes:.0f} GB of memory; this"
                    f" one has {memory() / 1e9:.0f} GB")


@pytest.fixture(scope="module")
def buffer():
    """Random numbers N(0, 1); a prime length, so that reads do not repeat."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1_000_003, generator=generator)


@pytest.fixture(autouse=True)
def give_back():
    yield
    gc.collect()


def fill(p: torch.Tensor, values: torch.Tensor, start: int) -> torch.Tensor:
    """A tensor of p's shape from `values`, read round and round."""
    flat = torch.empty(p.numel())
    n, done = len(values), 0
    start %= n
    while done < len(flat):
        size = min(n - start, len(flat) - done)
        flat[done:done + size] = values[start:start + size]
        start, done = 0, done + size
    return flat.view(p.shape)


def shared_pair(config, values):
    """(ours, theirs): both with the very same float32 tensors."""
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(reference_config(config))
        ours = GPT2(config)
    state = {}
    for number, (name, p) in enumerate(theirs.named_parameters()):
        x = fill(p, values, start=104_729 * number)
        if name.endswith("bias"):
            x *= 0.1
        elif ".ln_" in name:
            x.mul_(0.1).add_(1.0)
        else:
            residual = name.endswith("c_proj.weight")
            x *= 0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02
        state[name] = x
    tied = {"lm_head.weight": state["transformer.wte.weight"]}
    theirs.load_state_dict({**state, **tied}, assign=True)
    theirs.tie_weights()
    ours.load_state_dict(reference_state(theirs), assign=True)
    return ours.eval(), theirs.eval()


def draw_ids(config, B, T):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, config.vocab_size, (B, T), generator=generator)


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_full_depth(name, buffer):
    config = GPT2Config.from_preset(name)
    need(2 + 1.6 * 4e-9 * sum(count_parameters(config).values()))
    ours, theirs = shared_pair(config, buffer)
    ours_at = {p.data_ptr() for p in ours.parameters()}
    assert ours_at == {p.data_ptr() for p in theirs.parameters()}
    assert (sum(p.numel() for p in ours.parameters())
            == sum(count_parameters(config).values()))
    assert not any(x.is_meta for x in theirs.buffers())
    ids = draw_ids(config, 1, 8)
    check(name, ours(ids).logits, theirs(ids).logits)


@pytest.mark.parametrize("name", SIZES)
def test_full_width_two_layers(name):
    """float64: logits and every gradient."""
    need(6)
    config = GPT2Config.from_preset(name, n_layer=2, vocab_size=1009,
                                    bos_token_id=None, eos_token_id=None)
    theirs = reference_model(config)
    ours = GPT2(config).double().eval()
    ours.load_state_dict(reference_state(theirs), assign=True)
    ids = draw_ids(config, 1, 12)
    logits = theirs(ids).logits
    out = ours(ids, labels=ids)
    check(name, out.logits, logits)
    out.loss.backward()
    next_token_loss(logits, ids).backward()
    check_gradients(name, ours, theirs)


@torch.no_grad()
def test_the_filling_notices_layers_in_the_wrong_order(buffer):
    config = replace(GPT2Config.from_preset("gpt2-medium"), n_layer=6,
                     vocab_size=101, n_embd=64, n_head=4, bos_token_id=None,
                     eos_token_id=None)
    ours, theirs = shared_pair(config, buffer)
    ids = draw_ids(config, 1, 8)
    check("in order", ours(ids).logits, theirs(ids).logits)
    for i in range(5):
        h = list(ours.h)
        h[i], h[i + 1] = h[i + 1], h[i]
        ours.h = torch.nn.ModuleList(h)
        with pytest.raises(AssertionError, match="differs"):
            check("out of order", ours(ids).logits, theirs(ids).logits)
        h[i], h[i + 1] = h[i + 1], h[i]
        ours.h = torch.nn.ModuleList(h)
