"""What chapter 05 does not hold: bad input, sweeps over odd configurations."""
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gpt2.attention import (Attention, attention, attention_weights,
                            causal_mask, fused_attention, merge_heads,
                            split_heads)
from gpt2.config import GPT2Config

SMALL = dict(vocab_size=11, n_positions=32, n_layer=1, bos_token_id=0,
             eos_token_id=0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def layer(config, index=0, dtype=torch.float64, sharp=8.0):
    """An attention layer with no zero bias and attention far from uniform."""
    attn = Attention(config, index).to(dtype).eval()
    with torch.no_grad():
        for p in attn.parameters():
            p.normal_(std=0.3)
        attn.c_attn.weight[:, :config.n_embd] *= sharp / 4
    return attn


def theirs(config, index, kind, state, dtype=torch.float64):
    """transformers' layer with the same weights."""
    pytest.importorskip("transformers")
    from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

    from gpt2.checks import reference_config
    module = GPT2Attention(reference_config(config, kind), layer_idx=index)
    module.to(dtype).load_state_dict(state)
    return module.eval()


def additive(mask, T, dtype):
    """A bool mask as transformers' explicit path wants it."""
    if mask is None:
        mask = torch.ones(T, T, dtype=torch.bool).tril()
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(
        ~mask, torch.finfo(dtype).min)


# equal to transformers ------------------------------------------------------

WIDTHS = [(1, 1), (5, 1), (6, 6), (21, 3), (35, 5), (35, 7), (64, 4)]
OPTIONS = [dict(), dict(scale_attn_weights=False),
           dict(scale_attn_by_inverse_layer_idx=True),
           dict(scale_attn_weights=False,
                scale_attn_by_inverse_layer_idx=True)]


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("width, heads", WIDTHS)
def test_equal_to_transformers(width, heads, explicit, kind):
    for options, T, index in itertools.product(OPTIONS, (1, 2, 9), (0, 3)):
        config = GPT2Config(n_embd=width, n_head=heads, **options, **SMALL)
        ours = layer(config, index)
        ours.explicit = explicit
        other = theirs(config, index, kind, ours.state_dict())
        x = torch.randn(2, T, width, dtype=torch.float64)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        mask = additive(None, T, x.dtype) if kind == "eager" else None
        y, z = ours(a), other(b, attention_mask=mask)[0]
        torch.testing.assert_close(y, z, rtol=0, atol=1e-10)
        seed = torch.randn_like(y)
        y.backward(seed)
        z.backward(seed)
        torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-10)
        for (name, p), q in zip(ours.named_parameters(), other.parameters()):
            torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-10,
                                       msg=name)


@pytest.mark.parametrize("explicit", [False, True])
def test_padding_equal_to_transformers_on_real_positions(explicit):
    config = GPT2Config(n_embd=24, n_head=3, **SMALL)
    ours = layer(config)
    ours.explicit = explicit
    x = torch.randn(3, 7, 24, dtype=torch.float64)
    for left in (True, False):
        keep = torch.ones(3, 7, dtype=torch.long)
        for row, padding in ((1, 2), (2, 6)):
            keep[row, :padding] = 0
        keep = keep if left else keep.flip(1)
        mask = causal_mask(7, 7, keep)
        y = ours(x, mask)
        assert y.isfinite().all()
        for kind in ("eager", "sdpa"):
            other = theirs(config, 0, kind, ours.state_dict())
            given = additive(mask, 7, x.dtype) if kind == "eager" else mask
            z = other(x, attention_mask=given)[0]
            real = keep.bool()
            torch.testing.assert_close(y[real], z[real], rtol=0, atol=1e-10)


def test_same_seed_drops_the_same_places_as_transformers():
    config = GPT2Config(n_embd=24, n_head=3, attn_pdrop=0.4, resid_pdrop=0.3,
                        **SMALL)
    ours = layer(config).train()
    x = torch.randn(2, 6, 24, dtype=torch.float64)
    for explicit, kind in ((True, "eager"), (False, "sdpa")):
        ours.explicit = explicit
        other = theirs(config, 0, kind, ours.state_dict()).train()
        mask = additive(None, 6, x.dtype) if explicit else None
        torch.manual_seed(1)
        y = ours(x)
        torch.manual_seed(1)
        z = other(x, attention_mask=mask)[0]
        torch.testing.assert_close(y, z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type_and_matches_upcast(dtype):
    config = GPT2Config(n_embd=32, n_head=4, reorder_and_upcast_attn=True,
                        **SMALL)
    ours = layer(config, dtype=dtype)
    x = torch.randn(2, 9, 32).to(dtype)
    mask = additive(None, 9, torch.float32)
    ours.explicit = True
    other = theirs(config, 0, "eager", ours.state_dict(), dtype)
    y, z = ours(x), other(x, attention_mask=mask)[0]
    assert y.dtype == dtype
    torch.testing.assert_close(y, z)
    ours.explicit = False
    assert ours(x).dtype == dtype
    torch.testing.assert_close(ours(x), y, rtol=0.05, atol=0.05)


# the two paths --------------------------------------------------------------

def test_paths_agree_with_masks_of_every_kind():
    B, H, D = 2, 3, 5
    for T, S in ((1, 1), (1, 6), (2, 6), (6, 6), (5, 6)):
        q = torch.randn(B, H, T, D, dtype=torch.float64)
        k, v = torch.randn(2, B, H, S, D, dtype=torch.float64)
        keep = torch.ones(B, S, dtype=torch.bool)
        keep[1, :4] = False
        for padding in (None, keep, keep.long(), torch.zeros_like(keep)):
            mask = causal_mask(T, S, padding)
            for scale in (None, 1.0, 0.01):
                mixed, weights = attention(q, k, v, mask, scale)
                fused = fused_attention(q, k, v, mask, scale)
                torch.testing.assert_close(mixed, fused, rtol=0, atol=1e-12)
                sums = weights.sum(-1)
                assert ((sums - 1).abs() < 1e-12).logical_or(sums == 0).all()


def test_no_mask_is_causal_from_the_end_in_both_paths():
    q = torch.randn(1, 1, 3, 4, dtype=torch.float64)
    k, v = torch.randn(2, 1, 1, 7, 4, dtype=torch.float64)
    right = F.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.ones(3, 7, dtype=torch.bool).tril(4))
    torch.testing.assert_close(attention(q, k, v)[0], right)
    torch.testing.assert_close(fused_attention(q, k, v), right)


@pytest.mark.parametrize("run", [fused_attention,
                                 lambda *a: attention(*a)[0]])
def test_a_query_that_may_read_nothing_gets_zero_and_no_nan(run):
    q, k, v = (torch.randn(2, 1, 4, 8, requires_grad=True) for _ in range(3))
    mask = causal_mask(4, 4, torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]))
    out = run(q, k, v, mask)
    assert (out[1, :, :2] == 0).all() and (out[1, :, 2:] != 0).all()
    out.sum().backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))


def test_the_future_and_the_padding_are_never_read():
    """NaN in what must not be read would show: 0 · NaN is NaN, so poison
    keys (not values) and compare with values changed."""
    config = GPT2Config(n_embd=24, n_head=3, **SMALL)
    attn = layer(config)
    keep = torch.tensor([[0, 0, 1, 1, 1]])
    x = torch.randn(1, 5, 24, dtype=torch.float64)
    for explicit in (False, True):
        attn.explicit = explicit
        before = attn(x, causal_mask(5, 5, keep))
        changed = x.clone()
        changed[:, :2] += 100.0
        changed[:, 4] += 100.0
        after = attn(changed, causal_mask(5, 5, keep))
        assert torch.equal(before[:, 2:4], after[:, 2:4])


def test_one_head_alone_equals_a_layer_of_that_width():
    """Head h of H is attention with D columns of q, k and v."""
    q, k, v = torch.randn(3, 2, 6, 24, dtype=torch.float64)
    whole = attention(*(split_heads(t, 4) for t in (q, k, v)))[0]
    for h in range(4):
        part = slice(6 * h, 6 * h + 6)
        alone = attention(*(split_heads(t[..., part], 1)
                            for t in (q, k, v)))[0]
        torch.testing.assert_close(whole[:, h], alone[:, 0])


def test_merge_undoes_split():
    x = torch.arange(2 * 5 * 12.0).view(2, 5, 12)
    for heads in (1, 2, 3, 12):
        assert torch.equal(merge_heads(split_heads(x, heads)), x)
    assert split_heads(x, 3).data_ptr() == x.data_ptr()


def test_a_cache_sees_the_layer_and_the_heads():
    class Cache:
        calls = []

        def update(self, layer, k, v):
            self.calls.append((layer, tuple(k.shape), tuple(v.shape)))
            return k, v

    config = GPT2Config(n_embd=24, n_head=3, **SMALL)
    layer(config, index=2)(torch.randn(2, 4, 24).double(), cache=Cache())
    assert Cache.calls == [(2, (2, 3, 4, 8), (2, 3, 4, 8))]


def test_fused_path_makes_no_mask(monkeypatch):
    config = GPT2Config(n_embd=24, n_head=3, **SMALL)
    attn = layer(config)
    given = {}

    def spy(q, k, v, **kwargs):
        given.update(kwargs)
        return v

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    attn(torch.randn(1, 4, 24).double())
    assert given["attn_mask"] is None and given["is_causal"]
    attn(torch.randn(1, 1, 24).double())
    assert given["attn_mask"] is None and given["is_causal"] is True
    one, nine = torch.randn(1, 3, 1, 8), torch.randn(1, 3, 9, 8)
    fused_attention(one, nine, nine)               # the newest of nine tokens
    assert given["attn_mask"] is None and given["is_causal"] is False


def test_dropout_is_off_in_eval_and_in_both_paths_on_in_train():
    config = GPT2Config(n_embd=24, n_head=3, attn_pdrop=1.0, resid_pdrop=0.0,
                        **SMALL)
    attn = layer(config)
    x = torch.randn(1, 4, 24, dtype=torch.float64)
    for explicit in (False, True):
        attn.explicit = explicit
        assert (attn.eval()(x) - attn.c_proj.bias).abs().max() > 1e-3
        torch.testing.assert_close(attn.train()(x),
                                   attn.c_proj.bias.expand_as(x))


# what is chosen -------------------------------------------------------------

def test_masks():
    assert causal_mask(5, 5) is None and causal_mask(1, 9) is None
    assert causal_mask(2, 4).tolist() == [[True, True, True, False],
                                          [True, True, True, True]]
    keep = torch.tensor([[0, 1, 1]])
    assert causal_mask(1, 3, keep).tolist() == [[[[False, True, True]]]]
    assert causal_mask(2, 3, keep).shape == (1, 1, 2, 3)
    assert causal_mask(3, 3, torch.ones(2, 3)[:, :3].bool()).all(1)[0, 0].any()
    nothing = causal_mask(2, 2, torch.zeros(1, 2, dtype=torch.int32))
    assert not nothing.any()                 # a chunk of padding is allowed


def test_scale():
    base = dict(n_embd=64, n_head=4, **SMALL)
    assert Attention(GPT2Config(**base), 3).scale == 0.25
    assert Attention(GPT2Config(
        **base, scale_attn_weights=False), 3).scale == 1
    assert Attention(GPT2Config(
        **base, scale_attn_by_inverse_layer_idx=True), 3).scale == 0.0625


# bad input ------------------------------------------------------------------

@pytest.mark.parametrize("mask, kind, words", [
    (torch.ones(2, 4), TypeError, "torch.float32"),
    (torch.zeros(2, 4).double(), TypeError, "torch.float64"),
    (torch.ones(4, dtype=torch.long), ValueError, "shape (4,)"),
    (torch.ones(2, 3, dtype=torch.long), ValueError, "(batch, 4)"),
    (torch.ones(2, 5, dtype=torch.bool), ValueError, "(batch, 4)"),
    (torch.ones(2, 1, 4, 4, dtype=torch.bool), ValueError, "(2, 1, 4, 4)"),
    (torch.full((2, 4), -10000), ValueError, "other than 0 and 1"),
    (torch.arange(8).view(2, 4), ValueError, "other than 0 and 1"),
])
def test_bad_attention_masks(mask, kind, words):
    for T in (1, 2, 4):
        with pytest.raises(kind) as error:
            causal_mask(T, 4, mask)
        assert words in str(error.value)


@pytest.mark.parametrize("T, S", [(0, 3), (4, 3), (-1, 2)])
def test_bad_lengths(T, S):
    with pytest.raises(ValueError, match="queries for"):
        causal_mask(T, S)


def test_lengths_from_numpy_and_tensors():
    for two in (np.int64(2), torch.tensor(2), torch.tensor([2])):
        assert torch.equal(causal_mask(two, two + 2), causal_mask(2, 4))
        assert causal_mask(two, two) is None
        x = torch.zeros(1, 3, 8)
        assert split_heads(x, two).shape == (1, 2, 3, 4)
    for bad in (True, 2.0, np.bool_(True), torch.tensor(True)):
        for T, S in ((bad, 4), (1, bad)):
            with pytest.raises(ValueError, match="[TS] is .*whole number"):
                causal_mask(T, S)
        with pytest.raises(ValueError, match="n_head is .*whole number"):
            split_heads(x, bad)


@pytest.mark.parametrize("explicit", [False, True])
def test_bad_masks_and_inputs(explicit):
    config = GPT2Config(n_embd=24, n_head=3, **SMALL)
    attn = layer(config)
    attn.explicit = explicit
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    with pytest.raises(TypeError, match="must be bool"):
        attn(x, torch.zeros(5, 5))                     # an additive mask
    with pytest.raises(ValueError, match="causal_mask"):
        attn(x, torch.ones(2, 5, dtype=torch.bool))    # a padding mask
    with pytest.raises(ValueError, match="causal_mask"):
        attn(x, torch.ones(5, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected"):
        attn(x[0])
    with pytest.raises(ValueError, match="24"):
        attn(x[..., :20])
    with pytest.raises(ValueError, match="multiple of the 5"):
        split_heads(x, 5)


def test_weights_are_computed_in_float32_at_least():
    q, k = 100 * torch.randn(2, 1, 1, 8, 16)
    for dtype in (torch.bfloat16, torch.float16):
        half = attention_weights(q.to(dtype), k.to(dtype), scale=1.0)
        full = attention_weights(q.to(dtype).double(), k.to(dtype).double(),
                                 scale=1.0)
        assert half.dtype == dtype
        assert (half.double() - full).abs().max() < 4e-3


@pytest.mark.parametrize("run", [fused_attention,
                                 lambda *a: attention(*a)[0]])
def test_no_score_is_large_enough_to_be_seen_through_the_mask(run):
    """A finite mask value would leak here."""
    for size in (1e4, 1e6, 1e9):
        q = torch.full((1, 1, 2, 4), size)
        k = torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1).expand(1, 1, 2, 4)
        v = torch.tensor([3.0, 5.0]).view(1, 1, 2, 1).expand(1, 1, 2, 4)
        assert torch.equal(run(q, k, v)[0, 0, 0], torch.full((4,), 3.0))
