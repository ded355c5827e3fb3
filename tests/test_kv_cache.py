"""gpt2.kv_cache: what chapter 12 cannot hold on its page."""
import random

import numpy as np
import pytest
import torch

from gpt2.attention import Attention, causal_mask
from gpt2.config import PRESETS, GPT2Config
from gpt2.generation import position_ids
from gpt2.kv_cache import KVCache, cache_shape, check_update
from gpt2.model import GPT2

BASE = dict(vocab_size=61, n_positions=40, n_embd=24, n_layer=2, n_head=4,
            bos_token_id=0, eos_token_id=0)
CONFIGS = [{}, dict(n_head=1), dict(n_head=24), dict(n_embd=21, n_head=3),
           dict(scale_attn_by_inverse_layer_idx=True),
           dict(scale_attn_weights=False), dict(n_layer=1)]


@pytest.fixture(autouse=True)
def reading_only():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def make_config(**changes):
    return GPT2Config(**{**BASE, **changes})


def cuts(seed, T):
    """T as a random sum of chunks."""
    rng, sizes = random.Random(seed), []
    while sum(sizes) < T:
        sizes.append(rng.randint(1, min(6, T - sum(sizes))))
    return sizes


def full_cache(config, B=1, length=12):
    return KVCache(config, B, length, dtype=torch.float64)


def keys_for(config, T, B=1):
    return torch.randn(B, config.n_head, T, config.head_dim).double()


# --- pieces equal the whole ----------------------------------------------

@pytest.mark.parametrize("changes", CONFIGS)
@pytest.mark.parametrize("explicit", [False, True])
def test_attention_in_random_chunks(changes, explicit):
    config = make_config(**changes)
    T, B = 23, 3
    layers = [Attention(config, i).double().eval()
              for i in range(config.n_layer)]
    for layer in layers:
        layer.explicit = explicit
    x = torch.randn(B, T, config.n_embd).double()
    whole = [layer(x) for layer in layers]
    for seed in range(5):
        cache = full_cache(config, B, T)
        for size in cuts(seed, T):
            part = slice(cache.length, cache.length + size)
            mask = causal_mask(size, part.stop)
            for layer, want in zip(layers, whole):
                torch.testing.assert_close(layer(x[:, part], mask, cache),
                                           want[:, part], rtol=0, atol=1e-12)
            cache.advance(size)
        assert cache.length == T


@pytest.mark.parametrize("changes", CONFIGS)
def test_logits_and_store_equal_hugging_face(changes):
    pytest.importorskip("transformers")
    from transformers import DynamicCache

    from gpt2.checks import check, reference_model, reference_state
    config = make_config(**changes)
    theirs = reference_model(config, seed=1)
    ours = GPT2(config).double().eval()
    ours.load_state_dict(reference_state(theirs))
    ids = torch.randint(61, (2, 19))
    dynamic, cache = DynamicCache(config=theirs.config), full_cache(
        config, 2, 19)
    want = theirs(ids).logits
    start = 0
    for size in cuts(7, 19):
        piece = ids[:, start:start + size]
        got = ours(piece, cache=cache).logits
        check("stepwise", got, theirs(piece, past_key_values=dynamic).logits)
        check("full pass", got, want[:, start:start + size])
        start += size
    for i, layer in enumerate(dynamic.layers):
        check("keys", cache.keys[i], layer.keys)
        check("values", cache.values[i], layer.values)


@pytest.mark.parametrize("seed", range(4))
def test_ragged_batch_equals_each_row_alone(seed):
    config = make_config()
    ours = GPT2(config).double().eval()
    S = 17
    real = torch.randint(1, S + 1, (4, 1))
    mask = (torch.arange(S) >= S - real).long()
    ids, places = torch.randint(61, (4, S)), position_ids(mask)
    cache, pieces = full_cache(config, 4, S), []
    for size in cuts(seed, S):
        part = slice(cache.length, cache.length + size)
        pieces.append(ours(ids[:, part], attention_mask=mask[:, :part.stop],
                           position_ids=places[:, part], cache=cache).logits)
    logits = torch.cat(pieces, dim=1)
    for row, keep, got in zip(ids, mask.bool(), logits):
        torch.testing.assert_close(got[keep], ours(row[keep][None]).logits[0],
                                   rtol=0, atol=1e-12)


def test_every_position_of_a_full_context():
    config = GPT2Config.from_preset("nano", n_layer=2)
    ours = GPT2(config).double().eval()
    n = config.n_positions
    ids = torch.randint(config.vocab_size, (1, n))
    want = ours(ids, logits_to_keep=0).logits
    cache = KVCache(config, 1, dtype=torch.float64)
    for t in range(n):
        got = ours(ids[:, t:t + 1], cache=cache).logits
        torch.testing.assert_close(got[:, 0], want[:, t], rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="513 tokens"):
        ours(ids[:, :1], cache=cache)
    assert cache.length == n


def test_reset_forgets_a_longer_text():
    config = make_config()
    ours = GPT2(config).double().eval()
    long, short = torch.randint(61, (1, 20)), torch.randint(61, (1, 6))
    cache = full_cache(config, 1, 20)
    ours(long, cache=cache)
    cache.reset()
    got = torch.cat([ours(short[:, :4], cache=cache).logits,
                     ours(short[:, 4:], cache=cache).logits], dim=1)
    torch.testing.assert_close(got, ours(short).logits, rtol=0, atol=1e-12)


# --- the buffer ----------------------------------------------------------

def test_nothing_is_allocated_or_moved():
    config = make_config()
    cache = full_cache(config)
    keys, values = cache.keys.data_ptr(), cache.values.data_ptr()
    for _ in range(12):
        k, v = cache.update(0, keys_for(config, 1), keys_for(config, 1))
        cache.advance(1)
        assert k.data_ptr() == keys and v.data_ptr() == values
    cache.reset()
    assert cache.keys.data_ptr() == keys and cache.length == 0


def test_update_is_repeatable_before_advance():
    config = make_config()
    cache, a, b = full_cache(config), *(keys_for(config, 2) for _ in "ab")
    cache.update(1, a, b)
    k, v = cache.update(1, b, a)
    assert torch.equal(k, b) and torch.equal(v, a) and cache.length == 0
    assert not cache.keys[0].any()


def test_keys_and_values_are_not_mixed_up():
    config = make_config()
    cache, k, v = full_cache(config), *(keys_for(config, 3) for _ in "kv")
    got_k, got_v = cache.update(1, k, v)
    assert torch.equal(got_k, k) and torch.equal(got_v, v)
    assert torch.equal(cache.keys[1, :, :, :3], k)
    assert torch.equal(cache.values[1, :, :, :3], v)


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bytes_of_every_size(name, dtype):
    config = GPT2Config.from_preset(name)
    cache = KVCache(config, 8, device="meta", dtype=dtype)
    assert cache.nbytes == (2 * config.n_layer * config.n_embd * 8
                            * config.n_positions * dtype.itemsize)
    assert cache.max_length == config.n_positions


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_stored_exactly(dtype):
    config = make_config()
    cache = KVCache(config, 1, 4, dtype=dtype)
    k = keys_for(config, 4).to(dtype)
    assert torch.equal(cache.update(0, k, -k)[1], -k)


def test_default_dtype_is_torchs():
    assert KVCache(make_config(), 1).keys.dtype == torch.get_default_dtype()


# --- bad input -----------------------------------------------------------

BAD = {
    "overflow": (lambda k: (0, k.repeat(1, 1, 12, 1)), ValueError,
                 "13 tokens do not fit into a cache for 12"),
    "batch": (lambda k: (0, k.repeat(2, 1, 1, 1)), ValueError,
              r"keys \(2, 4, 1, 6\).*for \(1, 4, T, 6\)"),
    "batch of 0": (lambda k: (0, k[:0]), ValueError, r"keys \(0, 4"),
    "heads": (lambda k: (0, k[:, :2]), ValueError, r"keys \(1, 2, 1, 6\)"),
    "one head": (lambda k: (0, k[:, :1]), ValueError, r"keys \(1, 1, 1, 6\)"),
    "head width": (lambda k: (0, k[..., :1]), ValueError, r"\(1, 4, 1, 1\)"),
    "rank": (lambda k: (0, k[0]), ValueError, r"keys \(4, 1, 6\)"),
    "dtype": (lambda k: (0, k.float()), TypeError, "float32.*float64"),
    "device": (lambda k: (0, k.to("meta")), TypeError, "meta.*cpu"),
    "layer": (lambda k: (2, k), ValueError, "layer 2.*0 to 1"),
    "negative layer": (lambda k: (-1, k), ValueError, "layer -1"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("which", ["keys", "values", "both"])
def test_bad_updates_leave_the_cache_as_it_was(name, which):
    make, error, message = BAD[name]
    config = make_config()
    cache, good = full_cache(config), keys_for(config, 1)
    cache.update(0, good, good)
    cache.advance(1)
    before = cache.keys.clone(), cache.values.clone()
    layer, bad = make(keys_for(config, 1))
    k, v = ((bad if which != "values" else good),
            (bad if which != "keys" else good))
    if "layer" in name or which == "both":
        with pytest.raises(error, match=message):
            cache.update(layer, k, v)
    else:                                  # one of two: any clear refusal
        with pytest.raises((ValueError, TypeError)):
            cache.update(layer, k, v)
    assert torch.equal(cache.keys, before[0])
    assert torch.equal(cache.values, before[1]) and cache.length == 1


@pytest.mark.parametrize("B, length", [(0, 4), (-1, 4), (1, 0), (1, -3)])
def test_impossible_sizes(B, length):
    with pytest.raises(ValueError, match="at least 1"):
        KVCache(make_config(), B, length)


@pytest.mark.parametrize("size", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_sizes_from_numpy_and_tensors(size):
    cache = KVCache(make_config(), size, size)
    assert cache.keys.shape == (2, 3, 4, 3, 6)
    assert type(cache.max_length) is int
    cache.advance(size)
    assert type(cache.length) is int and cache.length == 3


@pytest.mark.parametrize("size", [True, np.bool_(True), torch.tensor(True),
                                  2.0, np.float32(2), "2",
                                  torch.tensor([2, 2])])
def test_sizes_that_are_no_whole_numbers(size):
    for sizes in ((size, 4), (4, size)):
        with pytest.raises(ValueError, match="must be a whole number"):
            KVCache(make_config(), *sizes)
    cache = KVCache(make_config(), 1, 4)
    with pytest.raises(ValueError, match="T is .* whole number"):
        cache.advance(size)
    with pytest.raises(ValueError, match="T is -1"):
        cache.advance(-1)


def test_shape_and_exact_fit():
    config = make_config()
    assert cache_shape(config, 3, 5) == (2, 3, 4, 5, 6)
    cache, k = full_cache(config), keys_for(config, 12)
    check_update(cache, 0, k, k)
    assert not cache.keys.any()
    assert cache.update(0, k, k)[0].shape == (1, 4, 12, 6)
