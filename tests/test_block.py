"""What chapter 07 cannot hold: odd configurations, kernels, bad input."""
import copy
import pickle

import pytest
import torch
from torch import nn

from gpt2.attention import causal_mask
from gpt2.block import TransformerBlock, layer_norm
from gpt2.config import GPT2Config
from gpt2.kv_cache import KVCache

SMALL = dict(vocab_size=50, n_positions=32, n_embd=24, n_head=3, n_layer=3,
             bos_token_id=49, eos_token_id=49)
ODD = [dict(), dict(n_head=1), dict(n_inner=7), dict(n_head=24),
       dict(scale_attn_by_inverse_layer_idx=True),
       dict(scale_attn_weights=False), dict(layer_norm_epsilon=1e-3),
       dict(layer_norm_epsilon=1e-12), dict(activation_function="relu"),
       dict(activation_function="gelu")]


def pair(layer=2, dtype=torch.float64, attention="sdpa", **changes):
    """Ours and Hugging Face's block with the same perturbed weights."""
    pytest.importorskip("transformers")
    from gpt2.checks import reference_model

    config = GPT2Config(**{**SMALL, **changes})
    theirs = reference_model(config, dtype=dtype, attention=attention)
    block = theirs.transformer.h[layer]
    ours = TransformerBlock(config, layer).to(dtype).eval()
    ours.load_state_dict(block.state_dict(), strict=True)
    return ours, block, config


def close(ours, theirs, tol):
    bound = tol * max(1.0, theirs.abs().max().item())
    assert (ours - theirs).abs().max().item() <= bound


@pytest.mark.parametrize("changes", ODD, ids=str)
@pytest.mark.parametrize("size", [1.0, 2e-3])    # 2e-3: where eps matters
def test_outputs_and_gradients_are_hugging_faces(changes, size):
    from gpt2.checks import check_gradients

    ours, theirs, _ = pair(**changes)
    x = size * torch.randn(2, 9, 24, dtype=torch.float64)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [block(leaf) for block, leaf in zip((ours, theirs), leaves)]
    for y in outputs:
        y.pow(3).sum().backward()
    close(*outputs, 1e-10)
    scale = leaves[1].grad.abs().max()
    close(leaves[0].grad / scale, leaves[1].grad / scale, 1e-10)
    # the key bias has no gradient but noise: compare it on c_attn's scale
    a, b = (m.attn.c_attn.bias.grad for m in (ours, theirs))
    close(a / b.abs().max(), b / b.abs().max(), 1e-10)
    check_gradients("block", ours, theirs)


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_float32_keeps_to_the_float32_bound(changes):
    ours, theirs, _ = pair(dtype=torch.float32, **changes)
    x = torch.randn(3, 20, 24)
    close(ours(x), theirs(x), 1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_on_either_side(attention):
    ours, theirs, _ = pair(attention=attention)
    x = torch.randn(3, 8, 24, dtype=torch.float64)
    keep = torch.ones(3, 8, dtype=torch.long)
    keep[0, :3], keep[1, 6:] = 0, 0
    mask = causal_mask(8, 8, keep)
    low = torch.finfo(torch.float64).min
    added = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, low)
    real = keep.bool()
    close(ours(x, mask)[real], theirs(x, attention_mask=added)[real], 1e-10)


@pytest.mark.parametrize("pieces", [[1] * 9, [4, 5], [6, 1, 2], [9]])
def test_a_cache_gives_what_the_full_pass_gives(pieces):
    ours, _, config = pair()
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    cache = KVCache(config, 2, 9, dtype=torch.float64)
    out = []
    for part in x.split(pieces, dim=1):
        T = part.shape[1]
        out.append(ours(part, causal_mask(T, cache.length + T), cache))
        cache.advance(T)
    close(torch.cat(out, dim=1), ours(x), 1e-10)


def test_no_position_looks_ahead():
    ours, _, _ = pair()
    x = torch.randn(1, 7, 24, dtype=torch.float64)
    before = ours(x)
    for t in range(7):
        moved = x.clone()
        moved[:, t] += 1
        after = ours(moved)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.equal(after[:, t], before[:, t])


@pytest.mark.parametrize("C", [1, 2, 5, 768])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
@pytest.mark.parametrize("eps", [1e-5, 1e-6, 1e-12])
def test_layer_norm_is_pytorchs(C, size, eps):
    x = size * (torch.randn(3, 4, C, dtype=torch.float64) + 1)
    gain, bias = torch.randn(2, C, dtype=torch.float64)
    theirs = nn.functional.layer_norm(x, (C,), gain, bias, eps)
    close(layer_norm(x, gain, bias, eps), theirs, 1e-10)


def test_layer_norms_default_eps_is_gpt2s():
    x = 1e-3 * torch.randn(5, 4, dtype=torch.float64)
    one, zero = torch.ones(4).double(), torch.zeros(4).double()
    close(layer_norm(x, one, zero),
          nn.functional.layer_norm(x, (4,), eps=1e-5), 1e-10)


def test_the_block_is_the_identity_when_nothing_is_written():
    config = GPT2Config(**SMALL, attn_pdrop=0.0, resid_pdrop=1.0)
    block = TransformerBlock(config)
    x = torch.randn(2, 5, 24)
    assert torch.equal(block.train()(x), x)
    assert not torch.equal(block.eval()(x), x)


@pytest.mark.parametrize("place", ["attn.resid_dropout", "mlp.dropout"])
def test_each_half_has_its_own_dropout(place):
    block = TransformerBlock(GPT2Config(
        **SMALL, attn_pdrop=0.0, resid_pdrop=0.0)).train()
    block.get_submodule(place).p = 1.0
    x = torch.randn(2, 5, 24)
    if place.startswith("attn"):
        expected = x + block.mlp(block.ln_2(x))
    else:
        expected = x + block.attn(block.ln_1(x))
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize("fault", ["unbiased", "eps", "post", "shared norm"])
def test_a_planted_fault_is_seen(fault):
    ours, theirs, _ = pair()
    x = torch.randn(2, 6, 24, dtype=torch.float64)
    if fault == "unbiased":
        def forward(h, norm=ours.ln_1):
            d = h - h.mean(-1, keepdim=True)
            root = (h.var(-1, keepdim=True) + norm.eps).sqrt()
            return d / root * norm.weight + norm.bias
        ours.ln_1.forward = forward
    elif fault == "eps":
        ours.ln_1.eps = 1e-6
    elif fault == "shared norm":
        ours.ln_2 = ours.ln_1
    y = ours(x)
    if fault == "post":
        y = ours.ln_1(x + ours.attn(x))
        y = ours.ln_2(y + ours.mlp(y))
    with pytest.raises(AssertionError):
        close(y, theirs(x), 1e-10)


def test_bad_input_says_what_is_wrong():
    block = TransformerBlock(GPT2Config(**SMALL))
    with pytest.raises((ValueError, RuntimeError), match="24"):
        block(torch.zeros(1, 3, 25))


def test_a_block_can_be_copied_and_pickled():
    ours, _, _ = pair()
    x = torch.randn(1, 4, 24, dtype=torch.float64)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(x), ours(x))
