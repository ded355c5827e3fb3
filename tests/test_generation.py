"""gpt2.generation: what chapter 13 cannot hold on its page."""
import copy
import gc
import re
import shutil
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from transformers.generation import (
    LogitsProcessorList, RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
from transformers.utils.logging import set_verbosity_error

import gpt2.kv_cache
from gpt2.checks import reference_model, reference_state
from gpt2.config import GPT2Config
from gpt2.embeddings import embed
from gpt2.generation import (NotFinite, RunningRows, check_length,
                             choose_token, end_tokens, generate,
                             generate_texts, keep_top_k, keep_top_p, left_pad,
                             make_reader, penalize_repetition, position_ids,
                             process_logits, seen_tokens, stream, stream_text,
                             text_pieces, until_end)
from gpt2.kv_cache import StaticCache
from gpt2.model import GPT2, GPT2Output
from gpt2.tokenizer import Tokenizer

set_verbosity_error()
BASE = dict(vocab_size=97, n_positions=48, n_embd=24, n_layer=2, n_head=3,
            bos_token_id=96, eos_token_id=96)
CHROMES = ["chromium", "chromium-browser", "google-chrome"]
PROMPTS = [[5, 17, 3], [40], [8, 9, 10, 11, 12, 96, 2]]


def pair(dtype=torch.float64, **changes):
    """(ours, theirs) with equal weights that say many different things.

    A fresh model repeats one token for ever, and wrong code may repeat it
    too: so embeddings are large here, and the final gains random.
    """
    config = GPT2Config(**{**BASE, **changes})
    theirs = reference_model(config, dtype=dtype, sharpen=5.0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        theirs.transformer.wte.weight.mul_(30)
        theirs.transformer.wpe.weight.mul_(30)
        theirs.transformer.ln_f.weight.copy_(
            torch.randn(config.n_embd, generator=g))
    ours = GPT2(config).to(dtype).eval()
    ours.load_state_dict(reference_state(theirs))
    return ours, theirs


@pytest.fixture(scope="module")
def models():
    return pair()


@pytest.fixture
def ours(models):
    return models[0]


def batch():
    ids, mask = left_pad(PROMPTS, 0)
    return ids, mask


def both(models, ids, count, seed=0, **options):
    """Tokens from one seed, ours and theirs."""
    ours, theirs = models
    torch.manual_seed(seed)
    a = generate(ours, ids, count, **options)
    options.setdefault("attention_mask", torch.ones_like(ids))
    if options.get("eos_token_id") == ():
        options["eos_token_id"] = None
        theirs = copy.copy(theirs)
        theirs.generation_config = copy.copy(theirs.generation_config)
        theirs.generation_config.eos_token_id = None
    torch.manual_seed(seed)
    b = theirs.generate(ids, max_new_tokens=count, **{
        **options, "attention_mask": options["attention_mask"].long()})
    return a, b


# --- the same tokens as transformers --------------------------------------

OPTIONS = [
    {}, dict(repetition_penalty=1.4), dict(do_sample=True),
    dict(do_sample=True, top_k=0), dict(do_sample=True, top_k=3),
    dict(do_sample=True, top_p=0.7, top_k=0),
    dict(do_sample=True, temperature=0.6),
    dict(do_sample=True, temperature=3.0, top_k=40, top_p=0.95,
         repetition_penalty=0.8),
    dict(do_sample=True, num_return_sequences=4),
    dict(do_sample=True, top_k=1),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("eos", [(), 96, [3, 50, 96]], ids=str)
def test_same_tokens(models, options, eos):
    ids, mask = batch()
    a, b = both(models, ids[:1, -3:], 40, eos_token_id=eos, pad_token_id=7,
                **options)
    assert torch.equal(a, b)
    a, b = both(models, ids, 40, eos_token_id=eos, pad_token_id=7,
                attention_mask=mask, **options)
    assert torch.equal(a, b)
    assert eos or a.shape[1] == ids.shape[1] + 40


def test_the_tokens_vary(ours):
    """What makes the comparisons of this file worth something."""
    for prompt in PROMPTS:
        out = generate(ours, torch.tensor([prompt]), 40, eos_token_id=())
        assert len(out[0].unique()) > 15


def test_same_tokens_at_the_last_position(models):
    ids = torch.tensor([[5, 17, 3]])
    a, b = both(models, ids, 46, eos_token_id=())            # 49 = 48 + 1
    assert torch.equal(a, b) and a.shape == (1, 49)


@pytest.mark.parametrize("changes", [
    dict(n_head=1), dict(tie_word_embeddings=False), dict(n_layer=1),
    dict(scale_attn_by_inverse_layer_idx=True), dict(n_embd=33)], ids=str)
def test_same_tokens_other_configs(changes):
    ids, mask = batch()
    for options in (dict(), dict(do_sample=True, repetition_penalty=1.2)):
        a, b = both(pair(**changes), ids, 30, attention_mask=mask,
                    pad_token_id=0, **options)
        assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default")
def test_defaults_are_those_of_transformers(models):
    """20 tokens, greedy, top_k 50 when sampling, eos and pad of the config."""
    ids = torch.tensor([[5, 17, 3]])
    ours, theirs = models
    kind = dict(attention_mask=torch.ones_like(ids))
    assert torch.equal(generate(ours, ids), theirs.generate(ids, **kind))
    for seed in range(3):
        torch.manual_seed(seed)
        a = generate(ours, ids, do_sample=True)
        torch.manual_seed(seed)
        assert torch.equal(a, theirs.generate(ids, do_sample=True, **kind))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_other_dtypes(dtype):
    ids = torch.tensor([[5, 17, 3]])
    a, b = both(pair(dtype), ids, 20, do_sample=True)
    assert a.dtype == torch.int64
    assert dtype == torch.bfloat16 or torch.equal(a, b)


def test_autocast():
    ours, _ = pair(torch.float32, n_layer=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert generate(ours, batch()[0], 5).shape == (3, 12)
        assert generate(ours, batch()[0], 1, compile=True).shape == (3, 8)


def test_int32_ids(ours):
    ids = batch()[0]
    assert torch.equal(generate(ours, ids.int(), 9), generate(ours, ids, 9))


# --- the rules --------------------------------------------------------------

def rows(seed):
    """Logits with ties, of several spreads, and ids that were seen."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 31, generator=g) * 10 ** (seed % 4 - 1)
    if seed % 2:
        logits = logits.round()                              # many ties
    return logits, torch.randint(0, 31, (4, 6), generator=g)


@pytest.mark.parametrize("seed", range(12))
def test_processors(seed):
    logits, ids = rows(seed)
    seen = seen_tokens(ids, None, 31)
    for k in (1, 2, 7, 31, 99):
        assert torch.equal(keep_top_k(logits, k),
                           TopKLogitsWarper(k)(ids, logits))
    for p in (1e-9, 1e-6, 0.1, 0.5, 0.9, 0.999):
        mine = keep_top_p(logits, p)
        assert torch.equal(mine, TopPLogitsWarper(p)(ids, logits))
        assert mine.isfinite().any(dim=1).all()
    for penalty in (0.5, 1.0, 1.7):
        assert torch.equal(penalize_repetition(logits, seen, penalty),
                           RepetitionPenaltyLogitsProcessor(penalty)(
                               ids, logits))


@pytest.mark.parametrize("seed", range(6))
def test_order_of_the_processors(seed):
    """After each of the four, probabilities equal within 1e-6."""
    logits, ids = rows(seed)
    seen = seen_tokens(ids, None, 31)
    values = dict(repetition_penalty=1.3, temperature=1.6, top_k=9, top_p=0.7)
    theirs = [RepetitionPenaltyLogitsProcessor(1.3),
              TemperatureLogitsWarper(1.6), TopKLogitsWarper(9),
              TopPLogitsWarper(0.7)]
    off = dict(repetition_penalty=1.0, temperature=1.0, top_k=None, top_p=1.0)
    for count in range(5):
        on = {**off, **dict(list(values.items())[:count])}
        mine = process_logits(logits, seen, **on).softmax(-1)
        other = LogitsProcessorList(theirs[:count])(ids, logits).softmax(-1)
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_top_p_at_the_border():
    """p is reached exactly: that is enough, no token more."""
    logits = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert keep_top_p(logits, 0.5).isfinite().sum(1).tolist() == [1, 1]
    assert keep_top_p(logits, 0.51).isfinite().sum(1).tolist() == [2, 2]
    assert torch.equal(keep_top_p(logits, 0.5),
                       TopPLogitsWarper(0.5)(None, logits))


def test_off_means_off():
    logits, ids = rows(0)
    assert keep_top_k(logits, 0) is logits and keep_top_p(logits, 1) is logits
    seen = seen_tokens(ids, None, 31)
    assert penalize_repetition(logits, seen, 1.0) is logits
    greedy = process_logits(logits, do_sample=False, temperature=0.1, top_k=1)
    assert torch.equal(greedy, logits)       # sampling's rules do not act


def test_inputs_are_not_changed():
    logits, ids = rows(1)
    before = logits.clone()
    choose_token(logits, seen_tokens(ids, None, 31), do_sample=True, top_k=3,
                 top_p=0.5, temperature=0.5, repetition_penalty=2.0)
    assert torch.equal(logits, before)


def test_choosing_happens_in_float32():
    """Two logits that bfloat16 tells apart only after the cast."""
    logits = torch.tensor([[10.0, 10.0625, 0.0]], dtype=torch.bfloat16)
    p = process_logits(logits, temperature=3.0)
    assert p.dtype == torch.float32 and p[0, 1] > p[0, 0]
    assert process_logits(logits.double()).dtype == torch.float32


def limit(df, z=3.09):
    """Wilson and Hilferty: the chi-square value exceeded once in 1,000."""
    return df * (1 - 2 / (9 * df) + z * (2 / (9 * df)) ** 0.5) ** 3


@pytest.mark.parametrize("options", [
    dict(top_k=0), dict(top_k=4), dict(top_p=0.6), dict(temperature=0.7),
    dict(temperature=1.9, top_k=12, top_p=0.9)], ids=str)
def test_frequencies(options):
    assert limit(10) == pytest.approx(29.59, abs=0.3)        # the table's
    logits = torch.randn(1, 20, generator=torch.Generator().manual_seed(3))
    p = process_logits(logits, **options).softmax(-1)[0].double()
    n, g = 40_000, torch.Generator().manual_seed(0)
    counts = choose_token(logits.expand(n, -1), do_sample=True, generator=g,
                          **options).bincount(minlength=20).double()
    kept = p > 0
    assert not counts[~kept].any() and (n * p[kept]).min() > 5
    statistic = ((counts - n * p)[kept] ** 2 / (n * p)[kept]).sum().item()
    assert statistic < limit(int(kept.sum()) - 1)


# --- ragged batches ---------------------------------------------------------

def test_left_pad():
    ids, mask = left_pad([[1, 2], [3]], 9)
    assert ids.tolist() == [[1, 2], [9, 3]] and ids.dtype == torch.int64
    assert mask.tolist() == [[True, True], [False, True]]
    for bad in ([], [[]], [[1], []]):
        with pytest.raises(ValueError, match="at least one token"):
            left_pad(bad)


@pytest.mark.parametrize("compile", [False, "eager"], ids=str)
def test_batch_equals_each_alone_float64(compile, monkeypatch):
    use_eager_backend(monkeypatch)
    ours, _ = pair(torch.float64, n_layer=1 if compile else 2)
    ids, mask = batch()
    kind = dict(compile=bool(compile))
    torch._dynamo.reset()
    reader = make_reader(ours, ids, mask, 20, **kind)
    alone = [make_reader(ours, torch.tensor([p]), None, 20, **kind)
             for p in PROMPTS]
    tokens, ones = ids, [torch.tensor([p]) for p in PROMPTS]
    for _ in range(8):
        logits = reader.read(tokens)
        single = torch.cat([r.read(t) for r, t in zip(alone, ones)])
        torch.testing.assert_close(logits, single, rtol=0, atol=1e-10)
        tokens = logits.argmax(-1, keepdim=True)
        ones = list(tokens.split(1))


def test_greedy_batch_equals_each_alone(ours):
    ids, mask = batch()
    out = generate(ours, ids, 30, attention_mask=mask, eos_token_id=())
    for row, prompt in zip(out, PROMPTS):
        alone = generate(ours, torch.tensor([prompt]), 30, eos_token_id=())
        assert torch.equal(row[-30:], alone[0, -30:])


def test_what_is_under_the_padding_does_not_matter(ours):
    ids, mask = batch()
    other = torch.where(mask, ids, 55)
    options = dict(attention_mask=mask, repetition_penalty=0.1)
    assert torch.equal(generate(ours, ids, 20, **options)[:, 7:],
                       generate(ours, other, 20, **options)[:, 7:])


def test_a_mask_of_ones_is_no_mask(ours, monkeypatch):
    ids = batch()[0]
    seen = []
    forward = GPT2.forward
    monkeypatch.setattr(GPT2, "forward", lambda self, *a, **k: (
        seen.append(k["attention_mask"]), forward(self, *a, **k))[1])
    generate(ours, ids, 3, attention_mask=torch.ones_like(ids))
    assert seen == [None] * 3


# --- positions of left-padded rows -------------------------------------------

def random_mask(seed, B=4, S=9):
    """Left-padded rows of 1 to S real tokens."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(1, S + 1, (B, 1), generator=generator)
    return (torch.arange(S) >= S - real).long()


@pytest.mark.parametrize("seed", range(6))
def test_positions_are_those_of_generate(seed):
    config = GPT2Config(**BASE | dict(n_layer=1))
    theirs = reference_model(config, dtype=torch.float32)
    mask, seen = random_mask(seed), []
    theirs.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(kwargs), with_kwargs=True)
    theirs.generate(torch.randint(1, 96, mask.shape), attention_mask=mask,
                    min_new_tokens=3, max_new_tokens=3, do_sample=False,
                    pad_token_id=0)
    assert len(seen) == 3
    for call in seen:
        T = call["input_ids"].shape[1]
        assert torch.equal(position_ids(mask)[:, -T:], call["position_ids"])
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)


@pytest.mark.parametrize("seed", range(6))
def test_an_embedded_padded_row_is_the_row_alone(seed):
    torch.manual_seed(0)
    tables = nn.Embedding(97, 24).double(), nn.Embedding(32, 24).double()
    mask = random_mask(seed)
    ids = torch.randint(97, mask.shape)
    x = embed(ids, *tables, position_ids(mask))
    for row, real, vectors in zip(ids, mask.bool(), x):
        assert torch.equal(vectors[real], embed(row[real][None], *tables)[0])


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.bool,
                                  torch.float32, torch.uint8])
def test_position_ids_of_every_kind_of_mask(kind):
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0],
                         [1, 1, 0, 0]]).to(kind)
    places = position_ids(mask)
    assert places.dtype == torch.int64
    assert places.tolist() == [[0, 0, 0, 1], [0, 1, 2, 3], [0, 0, 0, 0],
                               [0, 1, 0, 0]]


def test_long_masks_do_not_overflow_small_integers():
    assert position_ids(torch.ones(1, 1000, dtype=torch.uint8))[0, -1] == 999


# --- ends -------------------------------------------------------------------

class Scripted(torch.nn.Module):
    """Says given tokens, one list per row, whatever it reads."""

    def __init__(self, script, **changes):
        super().__init__()
        self.config = GPT2Config(**{**BASE, **changes})
        self.script, self.read = script, []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, ids, *, cache, logits_to_keep, attention_mask=None,
                position_ids=None):
        self.read.append((ids.clone(), attention_mask, position_ids))
        step = len(self.read) - 1
        cache.advance(ids.shape[1])
        logits = torch.full((len(ids), 1, self.config.vocab_size), -9.0)
        for row, tokens in enumerate(self.script):
            logits[row, 0, tokens[step]] = 9.0
        return GPT2Output(logits)


SCRIPT = [[1, 96, 3, 4, 5], [1, 2, 3, 96, 5], [50, 2, 96, 4, 5]]


@pytest.mark.parametrize("options, expected", [
    (dict(), [[1, 96, 96, 96], [1, 2, 3, 96], [50, 2, 96, 96]]),
    (dict(pad_token_id=7), [[1, 96, 7, 7], [1, 2, 3, 96], [50, 2, 96, 7]]),
    (dict(eos_token_id=[50, 3, 96], pad_token_id=0),
     [[1, 96, 0], [1, 2, 3], [50, 0, 0]]),
    (dict(eos_token_id=[3, 50]), [[1, 96, 3], [1, 2, 3], [50, 3, 3]]),
    (dict(eos_token_id=()), SCRIPT),
    (dict(eos_token_id=torch.tensor([1, 50]), pad_token_id=0),
     [[1], [1], [50]])], ids=str)
def test_ends(options, expected):
    model = Scripted(SCRIPT)
    out = generate(model, torch.tensor([[96, 96]] * 3), 5, **options)
    assert out[:, 2:].tolist() == expected
    assert out[:, :2].tolist() == [[96, 96]] * 3     # eos in a prompt: no end
    assert len(model.read) == len(expected[0])       # not a step too many


def test_pad_of_the_config_and_unreachable_eos():
    model = Scripted(SCRIPT, pad_token_id=8)
    assert generate(model, torch.tensor([[0]] * 3), 5)[0].tolist() == [
        0, 1, 96, 8, 8]
    model = Scripted(SCRIPT, eos_token_id=50256)     # a default, never said
    assert generate(model, torch.tensor([[0]] * 3), 5)[:, 1:].tolist() == (
        SCRIPT)
    model = Scripted(SCRIPT, eos_token_id=[3, 96])
    assert generate(model, torch.tensor([[0]] * 3), 5).shape == (3, 4)


@pytest.mark.parametrize("said, given, expected", [
    ({}, {}, ([96], 8)),
    ({"eos_token_id": 3}, {}, ([3], 8)),
    ({"eos_token_id": [3, 50]}, {}, ([3, 50], 8)),
    ({"eos_token_id": 0, "pad_token_id": 0}, {}, ([0], 0)),
    ({"pad_token_id": 7}, {}, ([96], 7)),
    ({"eos_token_id": None, "pad_token_id": None}, {}, ([], 0)),
    ({"eos_token_id": [3, 97, -1], "pad_token_id": 97}, {}, ([3], 3)),
    ({"eos_token_id": [3, 50]}, {"eos_token_id": 96}, ([96], 8)),
    ({"eos_token_id": [3, 50]}, {"eos_token_id": ()}, ([], 8)),
    ({"pad_token_id": 7}, {"pad_token_id": 5}, ([96], 5)),
    ({"temperature": 0.0, "max_new_tokens": 1}, {}, ([96], 8)),
    ({}, {"eos_token_id": np.int64(3)}, ([3], 8)),
    ({}, {"eos_token_id": np.array([3, 4])}, ([3, 4], 8))], ids=str)
def test_ends_of_the_checkpoint(said, given, expected):
    """generation_config.json before config.json, an argument before both."""
    config = GPT2Config(**{**BASE, "pad_token_id": 8}, generation=said)
    assert end_tokens(config, **given) == expected


def test_pads_out_of_reach():
    config = GPT2Config(**BASE, pad_token_id=50256)  # a default, never said
    assert end_tokens(config) == ([96], 96)
    with pytest.raises(ValueError, match="pad_token_id 50256"):
        end_tokens(config, pad_token_id=50256)


def test_one_prefill_then_one_token_a_step():
    model = Scripted([[1, 2, 3, 4, 5]] * 3)
    ids, mask = batch()
    generate(model, ids, 5, attention_mask=mask)
    assert [x.shape[1] for x, _, _ in model.read] == [7, 1, 1, 1, 1]
    assert [m.shape[1] for _, m, _ in model.read] == [7, 8, 9, 10, 11]
    assert model.read[0][2].tolist() == position_ids(mask).tolist()
    assert [p.flatten().tolist() for _, _, p in model.read[1:]] == [
        [3, 1, 7], [4, 2, 8], [5, 3, 9], [6, 4, 10]]
    assert model.read[2][0].tolist() == [[2]] * 3


def test_the_empty_prompt(ours):
    for B in (1, 3):
        empty = torch.empty(B, 0, dtype=torch.long)
        out = generate(ours, empty, 10)
        whole = generate(ours, torch.full((B, 1), 96), 10)
        assert torch.equal(out, whole[:, 1:])
        assert torch.equal(out, generate(
            ours, empty, 10, attention_mask=empty.bool()))
    bare = Scripted(SCRIPT, bos_token_id=None)
    with pytest.raises(ValueError, match="bos_token_id"):
        stream(bare, torch.empty(1, 0, dtype=torch.long))


def test_truncate(ours):
    ids = torch.randint(0, 97, (2, 60), generator=torch.Generator())
    out = generate(ours, ids, 10, truncate=True)
    assert torch.equal(out[:, :60], ids)             # the prompt comes back
    assert torch.equal(out[:, 60:], generate(ours, ids[:, -39:], 10)[:, 39:])
    short = generate(ours, ids[:, :5], 10, truncate=True)
    assert torch.equal(short, generate(ours, ids[:, :5], 10))
    assert generate(ours, ids, 48, truncate=True).shape == (2, 108)
    mask = torch.ones(2, 60, dtype=torch.bool)
    mask[1, :55] = False
    out = generate(ours, ids, 10, truncate=True, attention_mask=mask)
    assert torch.equal(out[1, 60:], generate(ours, ids[1:, -5:], 10)[0, 5:])


# --- bad input --------------------------------------------------------------

IDS = torch.tensor([[5, 17, 3]])
HOLE = torch.tensor([[1, 0, 1]])
BAD = [
    (ValueError, "max_new_tokens is 0", dict(max_new_tokens=0)),
    (ValueError, "max_new_tokens is 2.5", dict(max_new_tokens=2.5)),
    (ValueError, "3 . 47 = 50.*goes to 49.*truncate",
     dict(max_new_tokens=47)),
    (ValueError, "max_new_tokens is 49.*48 positions",
     dict(max_new_tokens=49, truncate=True)),
    (ValueError, "temperature is 0.*do_sample=False", dict(temperature=0)),
    (ValueError, "temperature is -1", dict(temperature=-1.0)),
    (ValueError, "temperature is nan", dict(temperature=float("nan"))),
    (ValueError, "top_k is -1", dict(top_k=-1)),
    (ValueError, "top_k is 2.5", dict(top_k=2.5)),
    (ValueError, "top_p is 0;", dict(top_p=0)),
    (ValueError, "top_p is 1.5", dict(top_p=1.5)),
    (ValueError, "repetition_penalty is 0", dict(repetition_penalty=0)),
    (ValueError, "eos_token_id 97", dict(eos_token_id=97)),
    (ValueError, "pad_token_id -1", dict(pad_token_id=-1)),
    (TypeError, "list.*left_pad", dict(ids=[[1, 2]])),
    (TypeError, "float32", dict(ids=torch.ones(1, 3))),
    (TypeError, "float32", dict(ids=torch.tensor([[]]))),
    (ValueError, "(batch, length)", dict(ids=torch.tensor([5, 17]))),
    (ValueError, "(batch, length)",
     dict(ids=torch.empty(0, 3, dtype=torch.long))),
    (ValueError, "token id 97 is outside", dict(ids=torch.tensor([[97]]))),
    (ValueError, "token id -1 is outside", dict(ids=torch.tensor([[-1]]))),
    (ValueError, r"\(1, 2\).*\(1, 3\)",
     dict(attention_mask=torch.ones(1, 2))),
    (TypeError, "float32", dict(attention_mask=torch.ones(1, 3))),
    (ValueError, "other than 0 and 1", dict(attention_mask=IDS)),
    (ValueError, "on the left",
     dict(attention_mask=torch.tensor([[1, 1, 0]]))),
    (ValueError, "on the left", dict(attention_mask=HOLE)),
    (ValueError, "on the left", dict(attention_mask=0 * IDS)),
]


@pytest.mark.parametrize("kind, message, options", BAD, ids=lambda x: str(x))
@pytest.mark.parametrize("call", [stream, generate])
def test_bad_input_at_the_call(ours, call, kind, message, options):
    """Before the first token is asked for, and before the model is run."""
    options = {"ids": IDS, **options}
    with pytest.raises(kind, match=message if "\\" in message or ".*" in
                       message else re.escape(message)):
        call(ours, options.pop("ids"), **options)


def test_bad_number_of_sequences(ours):
    for n in (0, -1, 1.5):
        with pytest.raises(ValueError, match="num_return_sequences"):
            generate(ours, IDS, num_return_sequences=n)
    with pytest.raises(TypeError, match="left_pad"):
        generate(ours, [[1]], num_return_sequences=2)


def test_other_devices(ours):
    class Elsewhere:                                 # a generator on a GPU
        device = torch.device("cuda")

    with pytest.raises(ValueError, match="generator is on cuda"):
        stream(ours, IDS, generator=Elsewhere())
    with pytest.raises(ValueError, match="model on meta"):
        stream(copy.deepcopy(ours).to("meta"), IDS)
    with pytest.raises(ValueError, match="attention_mask is"):
        stream(ours, IDS, attention_mask=torch.ones(1, 3, device="meta"))


def test_check_length():
    assert check_length(GPT2Config(), 1000, 25) == 25
    with pytest.raises(ValueError, match="1,000 . 26 = 1,026.*no window"):
        check_length(GPT2Config(), 1000, 26)


WHOLE = [np.int64, np.uint8, np.array, torch.tensor]


@pytest.mark.parametrize("kind", WHOLE, ids=lambda kind: kind.__name__)
def test_whole_numbers_of_every_kind(ours, kind):
    """NumPy's integers, and arrays and tensors that are one number."""
    assert torch.equal(
        generate(ours, IDS, kind(4), num_return_sequences=kind(2),
                 top_k=kind(1), vocab_size=kind(97), do_sample=True),
        generate(ours, IDS, 4, num_return_sequences=2))
    assert torch.equal(generate(ours, IDS, kind(46), truncate=True),
                       generate(ours, IDS, 46, truncate=True))


@pytest.mark.parametrize("value", [
    True, np.True_, torch.tensor(True), 2.0, np.float64(2), "2", None,
    torch.tensor([2, 3])], ids=repr)
def test_what_is_no_whole_number(ours, value):
    for name in ("max_new_tokens", "num_return_sequences"):
        with pytest.raises(ValueError, match=f"{name} is .*whole number"):
            generate(ours, IDS, **{name: value})
    for name in ("top_k", "vocab_size"):     # None is one of their values
        if value is not None:
            with pytest.raises(ValueError, match=f"{name} is .*whole"):
                stream(ours, IDS, **{name: value})


# --- numbers that float32 cannot hold ---------------------------------------

EXTREMES = [1e-320, 5e-324, 1e-46, 1e-40, 1e-30]


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e4, 3e38])
@pytest.mark.parametrize("temperature", EXTREMES)
def test_a_temperature_towards_zero_is_greedy(temperature, spread):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 31, generator=g)
    logits = logits / logits.abs().max() * spread
    for top_k, top_p in ((50, 1.0), (0, 0.9), (0, 1e-320)):
        options = dict(temperature=temperature, top_k=top_k, top_p=top_p)
        p = process_logits(logits, **options).softmax(-1)
        assert (p.max(-1).values == 1).all()
        assert torch.equal(choose_token(logits, do_sample=True, **options),
                           logits.argmax(-1))


def test_a_temperature_towards_zero_shares_a_tie():
    tied = torch.tensor([[2.0, 5.0, 5.0, -torch.inf]])
    p = process_logits(tied, temperature=1e-40).softmax(-1)
    assert p.tolist() == [[0, 0.5, 0.5, 0]]


@pytest.mark.parametrize("temperature", [1e30, 1e39, 1e308])
def test_a_temperature_towards_infinity_is_uniform(temperature):
    logits = torch.tensor([[9.0, -9.0, 3.0, -torch.inf]])    # one is cut
    p = process_logits(logits, temperature=temperature).softmax(-1)
    torch.testing.assert_close(p, torch.tensor([[1.0, 1.0, 1.0, 0.0]]) / 3)


@pytest.mark.parametrize("penalty", [*EXTREMES, 1e30, 1e39, 1e308])
def test_penalties_without_measure(penalty):
    """Seen and positive: the largest of them wins, or all of them lose."""
    logits = torch.tensor([[4.0, 3.0, 2.0, -1.0, -2.0, 0.5]])
    seen = torch.tensor([[False, True, True, True, False, False]])
    changed = penalize_repetition(logits, seen, penalty)
    assert changed.isfinite().all()
    assert changed.argmax() == (1 if penalty < 1 else 0)
    p = process_logits(logits, seen, repetition_penalty=penalty).softmax(-1)
    assert p.isfinite().all() and p.argmax() == changed.argmax()
    every = penalize_repetition(logits, seen | True, penalty).softmax(-1)
    assert every.isfinite().all()


@pytest.mark.parametrize("options", [
    dict(temperature=x) for x in (1e-320, 1e-40, 1e39, 1e308)] + [
    dict(repetition_penalty=x) for x in (1e-320, 1e-40, 1e39, 1e308)] + [
    dict(top_p=x) for x in (5e-324, 1e-40, 1 - 1e-16)] + [
    dict(top_k=10 ** 30)], ids=str)
def test_extreme_options_generate(ours, options):
    for sample in (False, True):
        out = generate(ours, IDS, 9, do_sample=sample, eos_token_id=(),
                       **options)
        assert out.shape == (1, 12)
    if next(iter(options)) == "temperature" and options["temperature"] < 1:
        assert torch.equal(out, generate(ours, IDS, 9, eos_token_id=()))


# --- logits that are not finite ---------------------------------------------

class Failing(Scripted):
    """Scripted, with `bad` logits from step `at` on, in one row."""

    def __init__(self, bad, at, row=0, **changes):
        super().__init__([[1, 96, 3, 4, 5], [1, 2, 3, 4, 5]], **changes)
        self.bad, self.at, self.row = bad, at, row

    def forward(self, ids, **options):
        out = super().forward(ids, **options)
        if len(self.read) > self.at:
            out.logits[self.row, 0] = torch.tensor(self.bad)
        return out


INF, NAN = float("inf"), float("nan")
NOT_FINITE = {"nan": NAN, "minus infinity": -INF,
              "one nan": [0.0] * 96 + [NAN], "one infinity":
              [0.0, INF] + [0.0] * 95}
WAYS = [dict(), dict(do_sample=True), dict(do_sample=True, top_k=0),
        dict(do_sample=True, temperature=0.5, top_p=0.5),
        dict(repetition_penalty=1.3), dict(vocab_size=97)]


@pytest.mark.parametrize("bad", NOT_FINITE.values(), ids=NOT_FINITE)
@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("eos", [96, ()], ids=str)
def test_logits_that_are_not_finite(bad, options, eos):
    """Refused at the token, not after it; what came before is given."""
    ids = torch.tensor([[96]] * 2)
    for at in (0, 2):
        with pytest.raises(NotFinite, match=f"new token {at + 1} .*not finite"
                                            ".*dtype=torch.float32"):
            generate(Failing(bad, at, row=1), ids, 5, eos_token_id=eos,
                     **options)
        tokens = stream(Failing(bad, at, row=1), ids, 5, eos_token_id=eos,
                        **options)
        for _ in range(at):
            next(tokens)
        with pytest.raises(NotFinite):
            next(tokens)


@pytest.mark.parametrize("bad", NOT_FINITE.values(), ids=NOT_FINITE)
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_rows_that_have_ended_may_be_anything(bad, options):
    """Row 0 says its end token at step 2; from then on it is padding."""
    if options.get("do_sample"):             # the script's tokens, certainly
        options = {**options, "top_k": 1}
    model = Failing(bad, 2)
    out = generate(model, torch.tensor([[0]] * 2), 5, pad_token_id=7,
                   **options)
    if "repetition_penalty" not in options:
        assert out[:, 1:].tolist() == [[1, 96, 7, 7, 7], [1, 2, 3, 4, 5]]


def test_one_cut_logit_is_not_a_fault():
    """−∞ for some tokens is what a mask makes, and a draw can be made."""
    cut = [-INF] * 96 + [1.0]
    out = generate(Failing(cut, 0, row=1), torch.tensor([[0]] * 2), 1,
                   do_sample=True)
    assert out[1, 1] == 96


def poisoned(dtype=torch.float32, **changes):
    model, _ = pair(dtype, **changes)
    with torch.no_grad():
        model.ln_f.weight[3] = NAN
    return model


@pytest.mark.parametrize("sample", [False, True])
def test_nan_in_the_weights(sample, tokenizer):
    """Every way of writing says so; none writes token 0 for ever."""
    V = len(tokenizer)
    model = poisoned(vocab_size=V, bos_token_id=V - 1, eos_token_id=V - 1)
    for call in (lambda: generate(model, IDS, do_sample=sample),
                 lambda: list(stream(model, IDS, do_sample=sample)),
                 lambda: list(stream_text(model, tokenizer, "def",
                                          do_sample=sample)),
                 lambda: generate_texts(model, tokenizer, "def", count=2,
                                        do_sample=sample)):
        with pytest.raises(NotFinite, match="new token 1 "):
            call()


def test_float16_that_overflows():
    model, _ = pair(torch.float16)
    with torch.no_grad():
        model.h[1].mlp.c_proj.weight.fill_(6e4)
    with pytest.raises(NotFinite, match="dtype=torch.float32"):
        generate(model, IDS)


def test_a_gpu_without_ends_is_looked_at_once():
    """There all steps are looked at together, and the first fault named."""
    rows = RunningRows(torch.zeros(2, 1), [], 0)
    for logits in (torch.zeros(2, 4), torch.tensor([[0.0, NAN], [0.0, 1.0]]),
                   torch.zeros(2, 4)):
        rows.add(logits, torch.zeros(2).long())
    with pytest.raises(NotFinite, match="new token 2 "):
        rows.all_ended()
    assert rows.steps == []


# --- more rows than the tokenizer has entries -------------------------------

@pytest.fixture(scope="module")
def wide(models):
    """The model with 31 rows more, of large logits."""
    ours = models[0]
    config = GPT2Config(**{**BASE, "vocab_size": 128})
    model, state = GPT2(config).double().eval(), ours.state_dict()
    more = 9 * state["wte.weight"][:31]
    state["wte.weight"] = torch.cat([state["wte.weight"], more])
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_without_an_entry_are_never_chosen(ours, wide, options):
    """The same tokens as the model without them, also in a batch."""
    ids, mask = batch()
    options = dict(attention_mask=mask, eos_token_id=(), **options)
    torch.manual_seed(0)
    want = generate(ours, ids, 30, **options)
    torch.manual_seed(0)
    assert torch.equal(want, generate(wide, ids, 30, vocab_size=97,
                                      **options))
    torch.manual_seed(0)
    assert (generate(wide, ids, 30, **options) >= 97).any()


def test_choose_token_with_fewer_ids():
    logits = torch.tensor([[0.0, 1.0, 9.0]])
    seen = torch.tensor([[False, True, True]])
    options = dict(vocab_size=2, repetition_penalty=0.5)
    assert process_logits(logits, seen, **options).tolist() == [[0, 2]]
    assert choose_token(logits, seen, **options) == 1
    g = torch.Generator().manual_seed(0)
    drawn = choose_token(logits.expand(200, -1), do_sample=True, vocab_size=2,
                         generator=g)
    assert drawn.unique().tolist() == [0, 1]


def test_rows_without_an_entry_may_be_nan(ours, wide):
    broken = copy.deepcopy(wide)
    with torch.no_grad():
        broken.wte.weight[97:] = NAN
    assert torch.equal(generate(broken, IDS, 9, vocab_size=97),
                       generate(ours, IDS, 9))


@pytest.mark.parametrize("wrong", [0, -1, 98, 2.5, True])
def test_bad_vocab_size(ours, wrong):
    with pytest.raises(ValueError, match="vocab_size is .*from 1 to 97"):
        stream(ours, IDS, vocab_size=wrong)


def test_texts_hold_only_what_the_tokenizer_knows(tokenizer):
    V = len(tokenizer)
    ids = [*tokenizer.encode("so"), V + 10, V + 63]

    def model():
        return says(tokenizer, ids, vocab_size=V + 64)

    text = "".join(stream_text(model(), tokenizer, "x", len(ids)))
    assert text == "so" + 2 * tokenizer.decode([0])          # of equals
    assert text == generate_texts(model(), tokenizer, "x", len(ids))[0]
    with pytest.raises(ValueError, match="outside the vocabulary"):
        generate_texts(model(), tokenizer, "x", len(ids), vocab_size=None)
    small = says(tokenizer, [1, 2, 3], vocab_size=300, bos_token_id=0,
                 eos_token_id=0)                             # fewer rows
    assert generate_texts(small, tokenizer, "", 3) == [
        tokenizer.decode([1, 2, 3])]


# --- the state of the caller ------------------------------------------------

def test_inference_mode_does_not_leak(ours):
    flags = []
    forward = ours.forward

    def spy(*args, **kwargs):
        flags.append(torch.is_inference_mode_enabled())
        return forward(*args, **kwargs)

    ours.forward = spy
    try:
        for token in stream(ours, IDS, 5, eos_token_id=()):
            assert not torch.is_inference_mode_enabled()
            assert torch.is_grad_enabled()
            assert not token.is_inference()
    finally:
        del ours.forward
    assert flags == [True] * 5               # at every resumption
    torch.set_grad_enabled(True)
    assert not torch.is_inference_mode_enabled()


def test_generated_tokens_can_be_trained_on(ours):
    model = copy.deepcopy(ours)
    ids = generate(model, IDS, 10)
    assert not ids.is_inference()
    model(ids, labels=ids).loss.backward()
    tokens = torch.stack(list(stream(model, IDS, 5)), 1)
    model(tokens, labels=tokens).loss.backward()
    assert model.wte.weight.grad.any()


def test_an_abandoned_stream_lets_go(ours):
    steps = stream(ours, IDS, 20, eos_token_id=())
    next(steps)
    steps.close()
    assert not torch.is_inference_mode_enabled()
    assert list(steps) == []


def test_two_streams_at_once(ours):
    whole = [generate(ours, torch.tensor([p]), 9, eos_token_id=())[0, -9:]
             for p in PROMPTS[:2]]
    streams = [stream(ours, torch.tensor([p]), 9, eos_token_id=())
               for p in PROMPTS[:2]]
    woven = list(zip(*streams))
    for i in range(2):
        assert torch.equal(torch.cat([pair[i] for pair in woven]), whole[i])


def test_the_mode_stays(ours):
    model = copy.deepcopy(ours)
    for mode in (True, False):
        model.train(mode)
        generate(model, IDS, 3)
        assert all(m.training == mode for m in model.modules())


def test_a_generator_of_its_own(ours):
    """The same seed, the same tokens; the global generator is not touched."""
    def draw(seed):
        g = torch.Generator().manual_seed(seed)
        return generate(ours, IDS, 20, do_sample=True, generator=g)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    assert torch.equal(torch.get_rng_state(), before)
    generate(ours, IDS, 5)                           # greedy draws nothing
    assert torch.equal(torch.get_rng_state(), before)


def test_ids_are_not_changed(ours):
    ids, mask = batch()
    kept = ids.clone(), mask.clone()
    generate(ours, ids, 5, attention_mask=mask, do_sample=True,
             repetition_penalty=1.1, num_return_sequences=2)
    assert torch.equal(ids, kept[0]) and torch.equal(mask, kept[1])


def test_nothing_is_left_behind(ours):
    """The cache is gone with the stream; no tensor stays from step to step."""
    gc.collect()
    def tensors():
        return sum(type(x) is torch.Tensor for x in gc.get_objects())

    before = tensors()
    steps = stream(ours, IDS, 40, eos_token_id=())
    counts = []
    for step in range(30):
        next(steps)
        if step in (3, 10, 29):
            counts.append(tensors())
    assert len(set(counts)) == 1
    steps.close()
    del steps
    gc.collect()
    assert tensors() <= before + 1


# --- text -------------------------------------------------------------------

@pytest.fixture(scope="module")
def tokenizer(root):
    return Tokenizer.load(root / "checkpoints/nano")


def says(tokenizer, ids, **changes):
    V = len(tokenizer)
    return Scripted([ids], **{**dict(
        vocab_size=V, n_positions=512, bos_token_id=V - 1,
        eos_token_id=V - 1), **changes})


@pytest.mark.parametrize("text", [
    "plain", "é", "naïve 猫🤖!", "Ελληνικά и русский", "👩‍👩‍👧 e\u0301", "a\nb"])
def test_stream_text_never_splits_a_character(tokenizer, text):
    byte = {tokenizer.token_bytes(i): i for i in range(256)}
    for ids in (tokenizer.encode(text),
                [byte[bytes([b])] for b in text.encode()]):
        pieces = list(stream_text(says(tokenizer, ids), tokenizer, "Say: ",
                                  len(ids)))
        assert "".join(pieces) == text == tokenizer.decode(ids)
        assert "\ufffd" not in "".join(pieces) and "" not in pieces


def test_stream_text_comes_as_it_is_made(tokenizer):
    model = says(tokenizer, tokenizer.encode("one two three four"))
    pieces = stream_text(model, tokenizer, "x", 4)
    assert model.read == []
    next(pieces)
    assert len(model.read) == 1


@pytest.mark.parametrize("data", [b"\xff", b"ab\xc3", b"\xe7\x8c", b"\xc3a",
                                  b"\xf0\x9f\xa4a\x96", b"\x80\x80z"], ids=str)
def test_bad_utf8_is_replaced_as_decode_does(tokenizer, data):
    byte = {tokenizer.token_bytes(i): i for i in range(256)}
    ids = [byte[bytes([b])] for b in data]
    tokens = torch.tensor(ids)[:, None]
    assert "".join(text_pieces(tokenizer, tokens, set())) == (
        tokenizer.decode(ids))


def test_stream_text_ends(tokenizer):
    eos = tokenizer.eos_token_id
    ids = [*tokenizer.encode("the end"), eos, *tokenizer.encode(" more")]
    text = "".join(stream_text(says(tokenizer, ids), tokenizer, "", len(ids)))
    assert text == "the end"
    text = "".join(stream_text(says(tokenizer, ids), tokenizer, "", len(ids),
                               eos_token_id=()))
    assert text == "the end<|endoftext|> more"
    with pytest.raises(ValueError, match="top_p"):           # at the call
        stream_text(says(tokenizer, ids), tokenizer, "", top_p=2)


@pytest.mark.parametrize("ends", [True, False])
def test_generate_texts(tokenizer, ends):
    """As generate draws them, each up to its end token; one is a stream."""
    eos = tokenizer.eos_token_id
    ids = [*tokenizer.encode("the end"), eos, *tokenizer.encode(" more")]
    options = {} if ends else dict(eos_token_id=())
    texts = generate_texts(says(tokenizer, ids), tokenizer, "Say: ", len(ids),
                           1, **options)
    assert texts == ["the end" if ends else "the end<|endoftext|> more"]
    assert texts == ["".join(stream_text(
        says(tokenizer, ids), tokenizer, "Say: ", len(ids), **options))]


def test_until_end(tokenizer):
    eos = tokenizer.eos_token_id
    ids = [*tokenizer.encode("a b"), eos, *tokenizer.encode(" c"), eos]
    assert until_end(tokenizer, ids, [eos]) == "a b"
    assert until_end(tokenizer, ids, ()) == tokenizer.decode(ids)
    assert until_end(tokenizer, [eos], (7, eos)) == ""


# --- the page's sliders -----------------------------------------------------

@pytest.fixture(scope="module")
def sampler_page():
    """(the widget, a browser page that shows it), or a skip."""
    pytest.importorskip("matplotlib")
    sync_api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, CHROMES)), None)
    if path is None:
        pytest.skip("no chromium")
    from gpt2_figures.generation import sampler
    g = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(97, generator=g)
    logits[[4, 9]] = logits.topk(5).values[-1]       # ties
    widget = sampler("A <b>", [f" w{i}" for i in range(97)], logits.tolist())
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page, faults = browser.new_page(), []
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.set_content(f"<html><body>{widget.html}</body></html>")
        yield widget, page
        assert not faults
        browser.close()


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
def test_sliders_compute_as_python_does(sampler_page, temperature):
    widget, page = sampler_page
    logits = torch.tensor([widget.logits], dtype=torch.float64)
    for k in (0, 1, 5, 24):
        for p in (0.01, 0.5, 0.9, 1.0):
            theirs = page.evaluate(
                "a => document.getElementById('sampler').processed(...a)",
                [temperature, k, p])
            mine = keep_top_p(keep_top_k(logits / temperature, k), p)
            theirs = torch.tensor([theirs], dtype=torch.float64)
            # sorted: of two equals at the border either one may be cut
            torch.testing.assert_close(
                theirs.sort().values, mine.softmax(-1).sort().values,
                rtol=0, atol=1e-9)
            assert theirs.argmax() == logits.argmax()


def test_sliders_show_what_they_compute(sampler_page):
    widget, page = sampler_page

    def move(name, value):
        page.evaluate("""([id, value]) => {
            const input = document.getElementById(id);
            input.value = value;
            input.dispatchEvent(new Event("input"));}""", [name, value])

    move("sampler-t", 10), move("sampler-k", 3), move("sampler-p", 80)
    logits = torch.tensor([widget.logits])
    p = keep_top_p(keep_top_k(logits / 0.5, 3), 0.8).softmax(-1)[0]
    shown = page.locator("#sampler .bars i").all_inner_texts()
    assert len(shown) == 25
    for token, text in zip(widget.top, shown):
        assert text == (f"{100 * p[token]:.1f}%" if p[token] else "–")
    assert shown[-1] == "–"                          # nothing of the rest
    kept = (p > 0).sum().item()
    assert f"{kept} of 97 tokens" in page.locator(
        "#sampler [aria-live]").inner_text()
    assert page.locator("#sampler output").all_inner_texts() == [
        "0.50", "3", "0.80"]
    for label, text in (("sampler-t", "temperature"), ("sampler-k", "top-k"),
                        ("sampler-p", "top-p")):
        assert page.locator(f"label[for={label}]").inner_text() == text


def test_still_picture_without_scripts(sampler_page):
    widget, page = sampler_page
    p = torch.tensor(widget.logits).softmax(-1)
    bars = re.findall(r"<i>([^<]*)</i>", widget.html)
    assert len(bars) == 25 and bars[0] == f"{100 * p.max():.1f}%"
    assert "A &lt;b&gt;" in widget.html
    context = page.context.browser.new_context(java_script_enabled=False,
                                               viewport={"width": 390,
                                                         "height": 900})
    still = context.new_page()
    still.set_content(widget.html)
    assert not still.locator("#sampler input").first.is_visible()
    assert still.locator("#sampler .bar").count() == 25
    context.close()


# --- compiled ---------------------------------------------------------------

def use_eager_backend(monkeypatch):
    """torch.compile as asked for, but no code generated: needs no compiler.

    Returns the list of the programs that were compiled.
    """
    programs, real = [], torch.compile

    def backend(program, inputs):
        programs.append(program)
        return program.forward

    def compile(function, *, fullgraph, dynamic, mode):
        assert fullgraph and dynamic is False
        assert mode is None                          # on a CPU
        return real(function, backend=backend, fullgraph=True, dynamic=False)

    monkeypatch.setattr(torch, "compile", compile)
    return programs


@pytest.fixture
def programs(monkeypatch):
    torch._dynamo.reset()
    gpt2.kv_cache._READY.clear()
    yield use_eager_backend(monkeypatch)
    gpt2.kv_cache._READY.clear()


def test_compiled_tokens_are_the_same(models, programs):
    ours, _ = models
    ids, mask = batch()
    for options in (dict(), dict(do_sample=True, top_k=9),
                    dict(attention_mask=mask), dict(
                        attention_mask=mask, repetition_penalty=1.3,
                        do_sample=True)):
        for count in (1, 2, 30):
            torch.manual_seed(0)
            a = generate(ours, ids, count, eos_token_id=(), **options)
            torch.manual_seed(0)
            b = generate(ours, ids, count, eos_token_id=(), compile=True,
                         **options)
            assert torch.equal(a, b)
    assert len(programs) == 1                # one shape, with and without mask


def test_compiled_once_per_shape(programs):
    ours, _ = pair(n_layer=1)

    def run(B, P, count=9):
        generate(ours, torch.ones(B, P, dtype=torch.long), count,
                 eos_token_id=(), compile=True)

    run(1, 3), run(1, 5), run(1, 20), run(1, 3, 40)
    assert len(programs) == 1                # room for 48 in every case
    for B in range(2, 11):                   # past PyTorch's limit of eight
        run(B, 3, 2), run(B, 2, 2)
    assert len(programs) == 10
    caches = {id(cache) for cache, _ in gpt2.kv_cache._READY[ours].values()}
    assert len(caches) == 10
    with torch.inference_mode():             # in and out of inference mode
        run(1, 3)
    run(1, 3)
    assert len(programs) == 10


def test_compiled_streams_do_not_share_a_cache(ours, programs):
    def start(p):
        return stream(ours, torch.tensor([p]), 9, eos_token_id=(),
                      compile=True)

    whole = [generate(ours, torch.tensor([p]), 9, eos_token_id=())[0, -9:]
             for p in PROMPTS[:2]]
    for _ in range(2):
        woven = list(zip(*map(start, PROMPTS[:2])))
        for i in range(2):
            assert torch.equal(torch.cat([x[i] for x in woven]), whole[i])
    leaving = start(PROMPTS[0])
    next(leaving)
    leaving.close()                          # given back at once
    assert len(gpt2.kv_cache._READY[ours]) == 1
    start(PROMPTS[0])                        # never begun: takes nothing
    assert len(gpt2.kv_cache._READY[ours]) == 1


def test_compiled_sees_new_weights_and_forgets_the_model(programs):
    model, _ = pair()
    options = dict(eos_token_id=(), compile=True)
    first = generate(model, IDS, 9, **options)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape))
    second = generate(model, IDS, 9, **options)
    assert not torch.equal(first, second)
    assert torch.equal(second, generate(model, IDS, 9, eos_token_id=()))
    gone = weakref.ref(model)
    del model
    torch._dynamo.reset()
    gc.collect()
    assert gone() is None


def test_a_poisoned_cache_is_cleaned(ours, programs):
    """A masked NaN is still NaN: nothing may stay from a text before."""
    want = generate(ours, IDS, 9, eos_token_id=())
    generate(ours, IDS, 9, eos_token_id=(), compile=True)
    (cache, _), = gpt2.kv_cache._READY[ours].values()
    cache.keys.fill_(float("nan"))
    cache.values.fill_(float("nan"))
    assert torch.equal(generate(ours, IDS, 9, eos_token_id=(), compile=True),
                       want)


def test_static_cache_before_it_is_fixed(ours):
    cache = StaticCache(ours.config, 1, 8, dtype=torch.float64)
    ours(IDS, cache=cache)
    assert cache.length == 3 and not cache.fixed
    cache.fix()
    assert cache.length == 7 and cache.slot.tolist() == [3]
    assert cache.readable.tolist() == [[True] * 3 + [False] * 5]


@pytest.mark.parametrize("sample", [False, True])
def test_compiled_steps_refuse_nan(programs, sample):
    """Also after good steps: the cache is poisoned under way."""
    model = poisoned(torch.float64)
    options = dict(eos_token_id=(), compile=True, do_sample=sample)
    with pytest.raises(NotFinite, match="new token 1 "):
        generate(model, IDS, 9, **options)
    with torch.no_grad():
        model.ln_f.weight[3] = 1.0
    tokens = stream(model, IDS, 9, **options)
    next(tokens), next(tokens)
    with torch.no_grad():
        model.ln_f.weight[3] = NAN
    with pytest.raises(NotFinite, match="new token 3 "):
        next(tokens)
    with torch.no_grad():
        model.ln_f.weight[3] = 1.0           # given back, and cleaned
    assert torch.isfinite(generate(model, IDS, 9, **options)).all()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_really_compiled():
    torch._dynamo.reset()
    gpt2.kv_cache._READY.clear()
    ours, _ = pair(n_layer=1)
    ids, mask = batch()
    want = generate(ours, ids, 12, attention_mask=mask, eos_token_id=())
    for _ in range(2):
        assert torch.equal(want, generate(
            ours, ids, 12, attention_mask=mask, eos_token_id=(),
            compile=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    ours, _ = pair()
    ids, mask = (x.cuda() for x in batch())
    ours = ours.cuda()
    options = dict(attention_mask=mask, eos_token_id=())
    want = generate(ours, ids, 20, **options)
    for _ in range(3):
        assert torch.equal(want, generate(ours, ids, 20, compile=True,
                                          **options))
    with pytest.raises(ValueError, match="generator is on cpu"):
        stream(ours, ids, generator=torch.Generator())
