"""GPT2 beyond the page: random configurations, caches, masks, bad input."""
import copy
import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gpt2.block import TransformerBlock
from gpt2.checks import (check, check_causal, check_gradients,
                         first_divergence, reference_config, reference_model,
                         reference_state)
from gpt2.config import GPT2Config
from gpt2.conv1d import Conv1D
from gpt2.generation import position_ids
from gpt2.kv_cache import KVCache
from gpt2.model import (GPT2, GPT2Output, init_weights, next_token_loss,
                        run_blocks)
from gpt2.tokenizer import Tokenizer

pytest.importorskip("transformers")
TINY = GPT2Config(vocab_size=61, n_positions=24, n_embd=30, n_layer=2,
                  n_head=3, bos_token_id=None, eos_token_id=None)


def pair(config, seed=0, dtype=torch.float64, **kwargs):
    """Our model and Hugging Face's with equal, perturbed weights."""
    theirs = reference_model(config, seed=seed, dtype=dtype, **kwargs)
    ours = GPT2(config).to(dtype).eval()
    ours.load_state_dict(reference_state(theirs), strict=True)
    return ours, theirs


def draw_ids(config, B, T, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, config.vocab_size, (B, T), generator=generator)


def draw_config(seed):
    """A random legal configuration, small enough to be quick."""
    rng = random.Random(seed)
    heads = rng.choice([1, 2, 3, 5, 7])
    return GPT2Config(
        vocab_size=rng.randint(2, 90), n_positions=rng.randint(9, 40),
        n_head=heads, n_embd=heads * rng.choice([1, 2, 3, 8, 11]),
        n_layer=rng.randint(1, 4), n_inner=rng.choice([None, 1, 17, 40]),
        activation_function=rng.choice(
            ["gelu_new", "gelu", "relu", "silu", "tanh", "gelu_pytorch_tanh"]),
        layer_norm_epsilon=rng.choice([1e-5, 1e-12, 1e-3]),
        initializer_range=rng.choice([0.02, 0.3, 1.0]),
        scale_attn_weights=rng.random() < 0.7,
        scale_attn_by_inverse_layer_idx=rng.random() < 0.4,
        tie_word_embeddings=rng.random() < 0.6,
        bos_token_id=None, eos_token_id=None)


@pytest.mark.parametrize("seed", range(36))
def test_random_config(seed):
    """Logits, every activation, gradients, with either kernel."""
    config = draw_config(seed)
    attention = "sdpa" if seed % 2 else "eager"
    ours, theirs = pair(config, seed, attention=attention)
    explicit = seed % 3 == 0
    for block in ours.h:
        block.attn.explicit = explicit
    ids = draw_ids(config, 2, 8, seed)
    check("logits", ours(ids).logits, theirs(ids).logits)
    assert first_divergence(ours, theirs, ids) is None
    ours(ids, labels=ids).loss.backward()
    next_token_loss(theirs(ids).logits, ids).backward()
    if config.n_embd == 1:          # LayerNorm of one number: all gradients 0
        return
    check_gradients(f"{config}", ours, theirs, tol=1e-9)


def test_sweep_is_wide():
    """The 36 configurations meet every option at least twice."""
    configs = [draw_config(seed) for seed in range(36)]
    for option in ("scale_attn_weights", "scale_attn_by_inverse_layer_idx",
                   "tie_word_embeddings", "n_inner", "activation_function",
                   "layer_norm_epsilon", "initializer_range", "n_head"):
        values = [getattr(config, option) for config in configs]
        assert len(set(values)) > 1, option
        assert min(map(values.count, set(values))) >= 2, option


@pytest.mark.parametrize("chunks", [[9], [1] * 9, [4, 5], [1, 3, 1, 4],
                                    [8, 1]])
@pytest.mark.parametrize("tied", [True, False])
def test_cache_in_chunks(chunks, tied):
    from transformers import DynamicCache
    config = replace(TINY, tie_word_embeddings=tied)
    ours, theirs = pair(config)
    ids = draw_ids(config, 2, 9)
    cache, past = KVCache(config, 2, dtype=torch.float64), DynamicCache()
    a, b = [], []
    with torch.no_grad():
        for part in ids.split(chunks, dim=1):
            a.append(ours(part, cache=cache).logits)
            b.append(theirs(part, past_key_values=past).logits)
        full = ours(ids).logits
    assert cache.length == 9
    check("cached", torch.cat(a, 1), torch.cat(b, 1))
    check("cached", torch.cat(a, 1), full, against="the full pass")
    cache.reset()
    with torch.no_grad():
        again = ours(ids, cache=cache).logits
    check("after reset", again, full, against="the full pass")


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("chunks", [[10], [6, 4], [1] * 10, [7, 1, 2]])
def test_ragged_batch(chunks, explicit):
    from transformers import DynamicCache
    ours, theirs = pair(TINY)
    for block in ours.h:
        block.attn.explicit = explicit
    ids = draw_ids(TINY, 4, 10)
    mask = torch.ones(4, 10, dtype=torch.long)
    for row, pad in enumerate((0, 3, 9, 5)):
        mask[row, :pad] = 0
    positions, real = position_ids(mask), mask.bool()
    cache, past = KVCache(TINY, 4, dtype=torch.float64), DynamicCache()
    a, b, end = [], [], 0
    with torch.no_grad():
        for part in ids.split(chunks, dim=1):
            start, end = end, end + part.shape[1]
            where = dict(attention_mask=mask[:, :end],
                         position_ids=positions[:, start:end])
            a.append(ours(part, cache=cache, **where).logits)
            b.append(theirs(part, past_key_values=past, **where).logits)
    a, b = torch.cat(a, 1), torch.cat(b, 1)
    assert torch.isfinite(a).all()
    check("ragged", a[real], b[real])
    for row in range(4):                          # each row as if alone
        alone = ours(ids[row:row + 1, mask[row] == 1]).logits[0]
        check("row", a[row, real[row]], alone, against="the row alone")


@pytest.mark.parametrize("explicit", [False, True])
def test_causal(explicit):
    ours, _ = pair(TINY)
    for block in ours.h:
        block.attn.explicit = explicit
    check_causal(ours, draw_ids(TINY, 2, 12))


def test_names_and_shapes():
    for tied in (True, False):
        config = replace(TINY, tie_word_embeddings=tied)
        ours, theirs = GPT2(config), reference_model(config)
        expected = {name.removeprefix("transformer."): tuple(p.shape)
                    for name, p in theirs.named_parameters()}
        found = {name: tuple(p.shape) for name, p in ours.named_parameters()}
        assert found == expected and list(found) == list(expected)
        assert list(ours.state_dict()) == list(found)      # no buffers
        assert (ours.head_weight is ours.wte.weight) == tied


def test_saved_and_loaded_again(tmp_path):
    ours, _ = pair(TINY)
    torch.save(ours.state_dict(), tmp_path / "weights.pt")
    other = GPT2(TINY).double().eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    ids = draw_ids(TINY, 1, 5)
    assert torch.equal(other(ids).logits, ours(ids).logits)


def test_moving_and_copying_keep_the_tie():
    ours = copy.deepcopy(GPT2(TINY)).to(torch.bfloat16).double()
    assert ours.head_weight is ours.wte.weight
    with torch.no_grad():
        ours.wte.weight.zero_()
    assert not ours(draw_ids(TINY, 1, 3)).logits.any()


def test_output_is_a_named_tuple():
    ours, _ = pair(TINY)
    out = ours(draw_ids(TINY, 1, 4))
    logits, loss = out
    assert isinstance(out, GPT2Output) and loss is None
    assert logits is out.logits and out._fields == ("logits", "loss")


def test_logits_to_keep():
    ours, theirs = pair(TINY)
    ids = draw_ids(TINY, 2, 7)
    full = ours(ids).logits
    for keep in (1, 3, 7, 0, 9, 1000, np.int64(3), torch.tensor(3)):
        logits = ours(ids, logits_to_keep=keep).logits
        assert logits.shape[1] == (min(int(keep), 7) or 7)
        keep = int(keep)
        check("kept", logits, full[:, -keep:], against="the full logits")
        check("kept", logits, theirs(ids, logits_to_keep=keep).logits)
    for kept in (1, ids.shape[1] - 1):     # T - 1 logits would fit T labels
        with pytest.raises(ValueError, match="labels need all logits"):
            ours(ids, labels=ids, logits_to_keep=kept)


@pytest.mark.parametrize("keep", [-1, -7, 1.0, 2.5, True, "1", None,
                                  np.int64(-1), torch.tensor([1, 2])])
def test_no_position_is_dropped_without_a_word(keep):
    """x[:, 1:] is what -1 would give, and what transformers gives."""
    ours, theirs = pair(TINY)
    ids, cache = draw_ids(TINY, 1, 4), KVCache(TINY, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="logits_to_keep is .*at least 0"):
        ours(ids, cache=cache, logits_to_keep=keep)
    assert cache.length == 0 and not cache.keys.any()
    assert theirs(ids, logits_to_keep=-1).logits.shape[1] == 3


def test_only_kept_positions_reach_the_head():
    ours, _ = pair(TINY)
    seen = []
    ours.ln_f.register_forward_hook(lambda m, x, y: seen.append(y.shape[1]))
    ours(draw_ids(TINY, 2, 7), logits_to_keep=2)
    assert seen == [2]


def test_no_mask_is_built_where_none_is_needed(monkeypatch):
    """Full pass and single steps pass mask=None to every block."""
    ours, _ = pair(TINY)
    masks = []
    for block in ours.h:
        block.register_forward_pre_hook(lambda m, args: masks.append(args[1]))
    cache = KVCache(TINY, 1, dtype=torch.float64)
    ids = draw_ids(TINY, 1, 6)
    ours(ids[:, :4], cache=cache)
    ours(ids[:, 4:5], cache=cache)
    assert masks == [None] * 4
    ours(ids[:, 5:], cache=cache, attention_mask=torch.ones(1, 6).long())
    assert len({id(mask) for mask in masks[4:]}) == 1      # one for all blocks


class TestLoss:
    logits = torch.randn(3, 6, 11, generator=torch.Generator().manual_seed(0),
                         dtype=torch.float64)
    labels = draw_ids(GPT2Config(vocab_size=11), 3, 6)

    def test_formula(self):
        log_p = self.logits.log_softmax(-1)
        total = sum(-log_p[b, t, self.labels[b, t + 1]]
                    for b in range(3) for t in range(5))
        check("loss", next_token_loss(self.logits, self.labels), total / 15,
              against="the formula")

    def test_one_token_more(self):
        """Labels (B, T + 1): the last position predicts as well."""
        last = torch.tensor([[1], [2], [3]])
        labels = torch.cat([self.labels, last], dim=1)
        log_p = self.logits.log_softmax(-1)
        total = sum(-log_p[b, t, labels[b, t + 1]]
                    for b in range(3) for t in range(6))
        check("loss", next_token_loss(self.logits, labels), total / 18,
              against="written out")
        with pytest.raises(ValueError, match="labels have shape"):
            next_token_loss(self.logits, torch.cat([labels, last], dim=1))

    def test_ignored_labels(self):
        labels = self.labels.clone()
        labels[0, 2:] = labels[2, 0] = -100          # 4 do not count
        log_p = self.logits.log_softmax(-1)
        total = sum(-log_p[b, t, labels[b, t + 1]] for b in range(3)
                    for t in range(5) if labels[b, t + 1] != -100)
        check("loss", next_token_loss(self.logits, labels), total / 11,
              against="the formula")
        other = torch.where(labels == -100, 7, labels)
        kept = next_token_loss(self.logits, torch.where(
            labels == -100, -1, labels), ignore_index=-1)
        check("another ignore_index", kept,
              next_token_loss(self.logits, labels), against="-100")
        assert next_token_loss(self.logits, other) != kept

    def test_first_label_and_last_logit_do_not_matter(self):
        logits, labels = self.logits.clone(), self.labels.clone()
        logits[:, -1], labels[:, 0] = 100.0, 0
        assert torch.equal(next_token_loss(logits, labels),
                           next_token_loss(self.logits, self.labels))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_in_float32(self, dtype):
        logits = self.logits.to(dtype)
        loss = next_token_loss(logits, self.labels)
        assert loss.dtype == torch.float32
        check("loss", loss, next_token_loss(logits.float(), self.labels),
              against="float32")

    def test_int32_labels(self):
        assert torch.equal(next_token_loss(self.logits, self.labels.int()),
                           next_token_loss(self.logits, self.labels))

    def test_all_ignored_is_nan(self):
        labels = torch.full_like(self.labels, -100)
        assert next_token_loss(self.logits, labels).isnan()

    def test_bad_labels(self):
        with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 6\)"):
            next_token_loss(self.logits, self.labels[:, 1:])
        with pytest.raises(ValueError, match="at least 2 tokens"):
            next_token_loss(self.logits[:, :1], self.labels[:, :1])
        with pytest.raises(TypeError, match="float64"):
            next_token_loss(self.logits, self.labels.double())


class TestBadInput:
    ours, _ = pair(TINY)

    @pytest.mark.parametrize("ids, kind, words", [
        (torch.tensor([[0, 61]]), ValueError, "61 is outside.*0 to 60"),
        (torch.tensor([[-1, 0]]), ValueError, "-1 is outside"),
        (torch.zeros(1, 25).long(), ValueError, "25 tokens.*reads 24"),
        (torch.zeros(1, 4), TypeError, "float32"),
        (torch.zeros(1, 4, dtype=torch.bool), TypeError, "bool"),
        (torch.zeros(4).long(), ValueError, "batch, length"),
        (torch.zeros(1, 4, 2).long(), ValueError, "batch, length"),
        (torch.zeros(1, 0).long(), ValueError, "batch, length"),
        (torch.tensor(3), ValueError, "batch, length"),
    ])
    def test_ids(self, ids, kind, words):
        with pytest.raises(kind, match=words):
            self.ours(ids)

    def test_mask(self):
        with pytest.raises(ValueError, match="attention_mask"):
            self.ours(draw_ids(TINY, 1, 4),
                      attention_mask=torch.ones(1, 3).long())

    def test_too_long_for_positions_with_a_cache(self):
        cache = KVCache(TINY, 1, dtype=torch.float64)
        self.ours(draw_ids(TINY, 1, 24), cache=cache)
        with pytest.raises(ValueError, match="25 tokens.*reads 24"):
            self.ours(draw_ids(TINY, 1, 1), cache=cache)
        assert cache.length == 24

    def test_a_failed_call_leaves_the_cache(self):
        cache = KVCache(TINY, 1, dtype=torch.float64)
        self.ours(draw_ids(TINY, 1, 3), cache=cache)
        with pytest.raises(ValueError):
            self.ours(torch.tensor([[61]]), cache=cache)
        assert cache.length == 3

    def test_heads(self):
        with pytest.raises(ValueError, match="not divisible"):
            GPT2(replace(TINY, n_head=4))

    def test_activation(self):
        with pytest.raises(ValueError, match="activation_function"):
            GPT2(replace(TINY, activation_function="gelo"))

    def test_int32_ids(self):
        ids = draw_ids(TINY, 1, 5)
        assert torch.equal(self.ours(ids.int()).logits, self.ours(ids).logits)


class TestInit:
    config = GPT2Config(vocab_size=300, n_positions=80, n_embd=96, n_layer=3,
                        n_head=4, bos_token_id=None, eos_token_id=None)

    def expected_std(self, name, module, std=0.02, layers=3):
        if isinstance(module, (Conv1D, nn.Linear)) and name.endswith("c_proj"):
            return std / math.sqrt(2 * layers)
        return std

    @pytest.mark.parametrize("std", [0.02, 0.1])
    @pytest.mark.parametrize("tied", [True, False])
    def test_each_tensor(self, std, tied):
        torch.manual_seed(1)
        model = GPT2(replace(self.config, initializer_range=std,
                             tie_word_embeddings=tied))
        for name, module in model.named_modules():
            if isinstance(module, (Conv1D, nn.Linear, nn.Embedding)):
                w, sigma = module.weight, self.expected_std(name, module, std)
                close = 5 / math.sqrt(2 * w.numel())
                assert abs(w.std().item() / sigma - 1) < close, name
                assert abs(w.mean()) < 5 * sigma / math.sqrt(w.numel()), name
                tail = (w.abs() > 2 * sigma).double().mean().item()
                assert abs(tail - 0.0455) < 5 * 0.21 / math.sqrt(w.numel())
            if isinstance(module, (Conv1D, nn.LayerNorm)):
                assert not module.bias.any(), name
            if isinstance(module, nn.LayerNorm):
                assert (module.weight == 1).all(), name

    def test_same_as_theirs(self):
        from transformers import GPT2LMHeadModel
        torch.manual_seed(2)
        theirs = reference_state(GPT2LMHeadModel(reference_config(
            self.config)))
        for name, w in GPT2(self.config).state_dict().items():
            other = theirs[name]
            if other.std() == 0:
                assert torch.equal(w, other), name
            else:
                ratio = (w.std() / other.std()).item()
                assert abs(ratio - 1) < 5 / math.sqrt(w.numel()), name

    def test_range_zero(self):
        model = GPT2(replace(self.config, initializer_range=0.0))
        for name, p in model.named_parameters():
            gain = "ln_" in name and name.endswith("weight")
            assert (p == float(gain)).all(), name

    def test_seeded(self):
        torch.manual_seed(3)
        a = GPT2(self.config).state_dict()
        torch.manual_seed(3)
        b = GPT2(self.config).state_dict()
        assert all(torch.equal(a[name], b[name]) for name in a)

    def test_meta_device(self):
        with torch.device("meta"):
            model = GPT2(GPT2Config.from_preset("gpt2-xl"))
        init_weights(model, model.config)                  # nothing happens
        assert sum(p.numel() for p in model.parameters()) == 1_557_611_200
        assert all(p.is_meta for p in model.parameters())

    def test_materialised_from_meta(self):
        with torch.device("meta"):
            model = GPT2(self.config)
        model = model.to_empty(device="cpu")
        torch.manual_seed(4)
        init_weights(model, self.config)
        assert abs(model.wte.weight.std().item() - 0.02) < 1e-3
        assert torch.isfinite(model(draw_ids(self.config, 1, 4)).logits).all()

    def test_block_alone(self):
        torch.manual_seed(5)
        block = TransformerBlock(self.config)
        init_weights(block, self.config)
        for part in (block.attn, block.mlp):
            ratio = part.c_proj.weight.std().item() * math.sqrt(6) / 0.02
            assert abs(ratio - 1) < 0.05


@pytest.mark.parametrize("place", ["embd_pdrop", "attn_pdrop", "resid_pdrop"])
@pytest.mark.parametrize("explicit", [False, True])
def test_dropout_of_one(place, explicit):
    rates = dict(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    config = replace(TINY, **{**rates, place: 1.0})
    ours, theirs = pair(config)
    ids = draw_ids(config, 2, 6)
    quiet = ours(ids).logits
    for block in ours.h:
        block.attn.explicit = explicit
    check(place, ours.train()(ids).logits, theirs.train()(ids).logits)
    assert not torch.allclose(ours(ids).logits, quiet)
    check("eval", ours.eval()(ids).logits, quiet, against="before")


def test_gradients_with_padding_and_ignored_labels():
    ours, theirs = pair(TINY)
    ids = draw_ids(TINY, 2, 9)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, :4] = 0
    where = dict(attention_mask=mask, position_ids=position_ids(mask))
    labels = torch.where(mask == 1, ids, -100)
    labels[1, 4] = -100            # predicted from padding: not a real pair
    ours(ids, labels=labels, **where).loss.backward()
    next_token_loss(theirs(ids, **where).logits, labels).backward()
    check_gradients("ragged", ours, theirs)
    for name, p in ours.named_parameters():
        assert torch.isfinite(p.grad).all(), name


def test_ids_of_the_real_vocabulary(gpt2_bpe):
    """Text in GPT-2's own tokens, at its full width, where they can be had."""
    ids = torch.tensor([Tokenizer.load(gpt2_bpe).encode(
        "A robot must obey the orders given it by human beings except where"
        " such orders would conflict with the First Law. 🤖 <|endoftext|>")])
    assert ids.max() == 50256
    ours, theirs = pair(GPT2Config(n_layer=2), dtype=torch.float32)
    with torch.no_grad():
        check("logits", ours(ids).logits, theirs(ids).logits)


def test_run_blocks_is_the_model_below_the_head():
    ours, theirs = pair(TINY)
    ids = draw_ids(TINY, 2, 6)
    x = ours.ln_f(run_blocks(ours, ids))
    check("stream", x, theirs(ids, output_hidden_states=True)
          .hidden_states[-1])
    check("logits", F.linear(x, ours.head_weight), ours(ids).logits,
          against="forward")


def test_half_precision_error():
    config = replace(TINY, n_embd=48, n_layer=3)
    for seed in range(8):
        theirs = reference_model(config, seed=seed)
        ids = draw_ids(config, 4, 24, seed)
        with torch.no_grad():
            exact = theirs(ids).logits
            theirs = theirs.to(torch.bfloat16)
            ours = GPT2(config).to(torch.bfloat16).eval()
            ours.load_state_dict(reference_state(theirs))
            a, b = ((m(ids).logits.double() - exact).pow(2).mean().sqrt()
                    for m in (ours, theirs))
        assert 0 < a <= 1.1 * b, (seed, a.item(), b.item())


def test_training_reduces_the_loss():
    torch.manual_seed(0)
    model = GPT2(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = draw_ids(TINY, 4, 20)
    first = model(ids, labels=ids).loss.item()
    assert abs(first - math.log(TINY.vocab_size)) < 0.2
    for _ in range(60):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    assert model.eval()(ids, labels=ids).loss < 0.6 * first


# --- for any length: exported, traced, compiled ----------------------------

class WithEverything(nn.Module):
    """Logits and loss of a padded batch with labels."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask, positions):
        out = self.model(ids, attention_mask=mask, position_ids=positions,
                         labels=ids)
        return out.logits, out.loss


class InTwoPieces(WithEverything):
    """Reads all but the last n tokens, then those, through a cache."""

    def forward(self, ids, n=1):
        B, T = ids.shape
        cache = KVCache(self.model.config, B, T, dtype=torch.float64)
        parts = ids[:, :T - n], ids[:, T - n:]
        return torch.cat([self.model(part, cache=cache).logits
                          for part in parts], dim=1)


def padded(B, T):
    ids, mask = draw_ids(TINY, B, T, T), torch.ones(B, T, dtype=torch.long)
    mask[0, :T // 3] = 0
    return ids, mask, position_ids(mask)


@pytest.fixture(params=[False, True], ids=["fused", "explicit"])
def traceable(request):
    ours, _ = pair(replace(TINY, n_layer=1))
    for block in ours.h:
        block.attn.explicit = request.param
    with torch.no_grad():
        yield ours


def same_for_every_length(what, run, model, lengths, B=1):
    """run was written down at length 7: is it the model at the others?"""
    for T in lengths:
        ids = draw_ids(TINY, B, T, T)
        check(f"{what}, T = {T}", run(ids), model(ids).logits,
              against="the model")


def test_exported_with_a_free_length(traceable):
    dim = torch.export.Dim
    for least in (1, 2):
        free = {"input_ids": {1: dim("T", min=least, max=24)}}
        run = torch.export.export(traceable, (draw_ids(TINY, 1, 7),),
                                  dynamic_shapes=free,
                                  strict=least == 2).module()
        same_for_every_length("exported", lambda ids: run(ids).logits,
                              traceable, (least, 2, 3, 7, 8, 24))
    free = {0: dim("B", max=5), 1: dim("T", min=3, max=24)}
    all_of_it = WithEverything(traceable)
    run = torch.export.export(all_of_it, padded(3, 7),
                              dynamic_shapes=(free, free, free)).module()
    for B, T in ((1, 3), (3, 3), (4, 24), (5, 5)):
        for got, want in zip(run(*padded(B, T)), all_of_it(*padded(B, T))):
            check("exported, padded", got, want, against="the model")


def test_exported_with_a_cache(traceable):
    for n in (1, 2):
        free = {1: torch.export.Dim("T", min=n + 2, max=24)}
        run = torch.export.export(InTwoPieces(traceable),
                                  (draw_ids(TINY, 1, 7), n),
                                  dynamic_shapes=(free, None)).module()
        same_for_every_length("two pieces", lambda ids: run(ids, n),
                              traceable, (n + 2, 7, 24))


@pytest.mark.filterwarnings("ignore")              # TracerWarning, deprecated
def test_traced_at_one_length(traceable):
    run = torch.jit.trace(traceable, draw_ids(TINY, 1, 7))
    for B in (1, 3):
        same_for_every_length("traced", lambda ids: run(ids)[0], traceable,
                              (1, 2, 7, 24), B)
    two = torch.jit.trace(InTwoPieces(traceable), draw_ids(TINY, 1, 7))
    same_for_every_length("two pieces", two, traceable, (2, 3, 7, 24))
    all_of_it = WithEverything(traceable)
    run = torch.jit.trace(all_of_it, padded(3, 7))
    for B, T in ((1, 2), (3, 3), (4, 24)):
        for got, want in zip(run(*padded(B, T)), all_of_it(*padded(B, T))):
            check("traced, padded", got, want, against="the model")


@torch.no_grad()
def test_compiled_for_any_length():
    torch._dynamo.reset()
    ours, _ = pair(replace(TINY, n_layer=1))
    run = torch.compile(ours, dynamic=True, fullgraph=True, backend="eager")
    same_for_every_length("compiled", lambda ids: run(ids).logits, ours,
                          (7, 1, 24))
    cache = KVCache(ours.config, 1, dtype=torch.float64)
    ids = draw_ids(TINY, 1, 24)
    parts = [run(part, cache=cache).logits
             for part in ids.split([5, 1, 1, 17], dim=1)]
    check("compiled, in pieces", torch.cat(parts, 1), ours(ids).logits,
          against="the model")
    assert cache.length == 24
