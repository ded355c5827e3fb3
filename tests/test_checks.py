"""gpt2.checks: what must pass, and above all what must not."""
import copy
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gpt2.checks import (TOLERANCE, agree, changed_at, check, check_causal,
                         check_gradients, check_raises, check_shape,
                         evaluating, first_divergence, hooks, perturb,
                         record, reference_config, reference_model,
                         reference_state, require_close, require_telling,
                         result_of, sharpen_attention, tolerance_for)
from gpt2.config import GPT2Config, GPT2Fields
from gpt2.model import GPT2

torch.set_num_threads(1)
SMALL = dict(vocab_size=61, n_positions=16, n_embd=24, n_layer=3, n_head=3,
             bos_token_id=60, eos_token_id=60)


def small(**changes):
    return GPT2Config(**{**SMALL, **changes})


@pytest.fixture(scope="module")
def ids():
    return torch.randint(0, 61, (2, 9),
                         generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("transformers")
    return reference_model(small())


def ours_of(theirs, config=None, dtype=torch.float64):
    ours = GPT2(config or small()).to(dtype).eval()
    ours.load_state_dict(reference_state(theirs), strict=True)
    return ours


# ---------------------------------------------------------------- check

ONES = torch.ones(2, 3)
NAN, INF = float("nan"), float("inf")
REFUSED = {
    "column against matrix": (torch.ones(2, 1), ONES),
    "row against matrix": (torch.ones(3), ONES),
    "transposed": (torch.ones(3, 2), ONES),
    "one dimension more": (ONES[None], ONES),
    "scalar against one entry": (torch.tensor(1.0), torch.ones(1)),
    "no entries": (torch.ones(0, 3), torch.ones(0, 3)),
    "float64 against float32": (ONES.double(), ONES),
    "int64 against int32": (ONES.long(), ONES.int()),
    "bool against int": (ONES.bool(), ONES.long()),
    "bool against float": (ONES.bool(), ONES),
    "NaN in ours": (torch.tensor([1.0, NAN]), torch.ones(2)),
    "NaN in theirs": (torch.ones(2), torch.tensor([1.0, NAN])),
    "NaN in both": (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN])),
    "inf in both": (torch.tensor([1.0, INF]), torch.tensor([1.0, INF])),
    "-inf in both": (torch.tensor([1.0, -INF]), torch.tensor([1.0, -INF])),
    "zeros for tiny": (torch.zeros(2), torch.full((2,), 9e-6)),
    "tiny for tiny": (torch.full((2,), 2e-6), torch.full((2,), 9e-6)),
    "hidden by a mask": (torch.tensor([1.0, -1e10]),
                         torch.tensor([9.0, -1e10])),
    "hidden by the smallest float": (
        torch.tensor([1.0, torch.finfo(torch.float32).min]),
        torch.tensor([9.0, torch.finfo(torch.float32).min])),
    "integers off by one": (torch.tensor([1, 2]), torch.tensor([1, 3])),
    "large integers off by one": (torch.tensor([2**60]),
                                  torch.tensor([2**60 + 1])),
    "bool": (torch.tensor([True]), torch.tensor([False])),
    "overflow of the difference": (torch.tensor([3e38]),
                                   torch.tensor([-3e38])),
    "bfloat16": (torch.ones(2).bfloat16() * 1.05, torch.ones(2).bfloat16()),
    "float16": (torch.ones(2).half() * 1.005, torch.ones(2).half()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_check_refuses(name, capsys):
    ours, theirs = REFUSED[name]
    with pytest.raises(AssertionError, match=name):
        check(name, ours, theirs)
    assert "✓" not in capsys.readouterr().out


def test_check_refuses_one_tensor_twice():
    x = torch.ones(3)
    with pytest.raises(AssertionError, match="same tensor"):
        check("x", x, x)
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(AssertionError, match="same tensor"):
        check("p", p, p)


@pytest.mark.parametrize("bad", [[1.0], 1.0, None, torch.ones(1) * 1j])
def test_check_wants_real_tensors(bad):
    for pair in ((bad, torch.ones(1)), (torch.ones(1), bad)):
        with pytest.raises(TypeError, match="expected a tensor"):
            check("x", *pair)


@pytest.mark.parametrize("tol", [NAN, INF, -INF, -1e-9, 1.0, 2.0])
def test_check_refuses_a_bound_that_is_none(tol):
    with pytest.raises(ValueError, match="0 <= tol < 1"):
        check("x", torch.ones(2), torch.ones(2), tol=tol)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_telling_of_what_is_no_number(value):
    """Comparisons with NaN are false: none of them may decide."""
    for theirs in (torch.tensor([1.0, value]), torch.tensor([value])):
        with pytest.raises(AssertionError, match="NaN|loosens"):
            require_telling("x", theirs, 1e-5)
        with pytest.raises(AssertionError, match="not finite"):
            require_close("x", torch.ones_like(theirs), theirs, 0.5)
        assert not agree(theirs, theirs.clone())


class NoFloat64(TorchFunctionMode):
    """Every tensor is on a device without float64, until `cpu()` of it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "double" or torch.float64 in (*args, *kwargs.values()):
            if not getattr(args[0], "from_the_device", False):
                raise TypeError("Cannot convert a MPS Tensor to float64")
        out = func(*args, **kwargs)
        if name == "cpu":
            out = out.view_as(out)
            out.from_the_device = True
        return out


def test_devices_without_float64(ids, theirs):
    """As on Apple's mps, where every `.double()` is a TypeError."""
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    a, b = (copy.deepcopy(theirs).float() for _ in "ab")
    for model in (a, b):
        model(ids).logits.square().mean().backward()
    with NoFloat64():
        with pytest.raises(TypeError, match="MPS"):
            x.double()
        with pytest.raises(TypeError, match="MPS"):
            x.to(torch.float64)
        check("x", x.clone(), x)
        require_telling("x", x, 1e-5)
        with pytest.raises(AssertionError, match="differs by 0.01"):
            check("x", x + 0.01, x)
        assert agree(x, x.clone()) and not agree(x, x + 0.01)
        assert first_divergence(a, b, ids) is None
        check_gradients("x", a, b)


def test_check_without_a_default():
    kind = getattr(torch, "float8_e4m3fn", None)
    if kind is None:
        pytest.skip("this torch has no float8")
    with pytest.raises(ValueError, match="Pass tol"):
        check("x", torch.ones(2).to(kind), torch.ones(2).to(kind))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("scale", [0.25, 1.0, 64.0, 1e4])
def test_bound_is_where_it_is_said_to_be(dtype, scale):
    """|difference| just inside the bound passes, just outside fails."""
    theirs = torch.tensor([0.5, -scale, 0.0]).to(dtype)
    bound = TOLERANCE[dtype] * max(1.0, scale)
    for place in (0, 2):
        for sign in (-1, 1):
            off = torch.zeros(3, dtype=torch.float64)
            off[place] = sign * bound
            inside = (theirs.double() + 0.9 * off).double()
            outside = (theirs.double() + 1.1 * off).double()
            require_close("x", inside, theirs.double(), TOLERANCE[dtype])
            with pytest.raises(AssertionError, match=rf"\({place},\)"):
                require_close("x", outside, theirs.double(),
                              TOLERANCE[dtype])


def test_tolerances_are_the_promised_ones():
    assert TOLERANCE[torch.float64] == 1e-10
    assert TOLERANCE[torch.float32] == 1e-5
    assert tolerance_for(torch.ones(1), torch.ones(1).double()) == 1e-5
    assert tolerance_for(torch.ones(1).long()) == 0


def test_check_accepts_whatever_the_tensor_looks_like(capsys):
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    check("grad", nn.Parameter(x), x)
    check("not contiguous", x.T, x.T.contiguous())
    check("expanded", x[:1].expand(3, 6), x[:1].repeat(3, 1))
    check("scalar", torch.tensor(2.0), torch.tensor(2.0))
    check("zeros", torch.zeros(2), torch.zeros(2))
    check("noise about zero", torch.full((2,), 1e-7), torch.zeros(2))
    check("bool", torch.tensor([True]), torch.tensor([True]))
    check("ints", torch.arange(3), torch.arange(3), against="counting")
    check("half", x.half(), x.half())
    check("bf16", x.bfloat16(), x.bfloat16())
    out = capsys.readouterr().out
    assert out.count("✓") == 10
    assert "float32, scalar" in out and "identical to counting" in out
    assert "zeros: equal to Hugging Face (float32, 2, within 1e-05, all" in out


def test_check_never_prints_the_difference(capsys):
    for noise in (1e-7, 3.1e-7, 0.0):
        check("x", torch.ones(3) + noise, torch.ones(3))
    assert len(set(capsys.readouterr().out.splitlines())) == 1


def test_message_names_place_and_values():
    theirs = torch.zeros(2, 3, 4)
    theirs[0, 0, 0] = 1.0
    ours = theirs.clone()
    ours[1, 2, 3] = 0.5
    with pytest.raises(AssertionError, match=r"by 0.5 at \(1, 2, 3\): ours"
                                             r" 0.5, theirs 0; allowed 1e-05"):
        check("x", ours, theirs)


def test_check_shape():
    check_shape("x", torch.ones(2, 3), 2, 3)
    check_shape("scalar", torch.tensor(1.0))
    for wrong in ((3, 2), (2,), (2, 3, 1), (), ((2, 3),)):
        with pytest.raises(AssertionError, match="expected"):
            check_shape("x", torch.ones(2, 3), *wrong)


def test_check_raises(capsys):
    def fail():
        raise ValueError("width 3 of 4")

    check_raises(ValueError, "width 3", "of 4", call=fail)
    check_raises(ValueError, "width", call=fail, show=False)
    assert capsys.readouterr().out.splitlines() == [
        "✓ ValueError: width 3 of 4", "✓ ValueError: … width …"]
    with pytest.raises(AssertionError, match="is not in"):
        check_raises(ValueError, "height", call=fail)
    with pytest.raises(ValueError):
        check_raises(TypeError, call=fail)
    with pytest.raises(AssertionError, match="no ValueError"):
        check_raises(ValueError, call=lambda: None)
    with pytest.raises(AssertionError, match="no AssertionError"):
        check_raises(AssertionError, call=lambda: None)


# ---------------------------------------------------------- the reference

def test_import_brings_no_transformers():
    code = "import sys, gpt2.checks; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_reference_config_has_every_field():
    pytest.importorskip("transformers")
    config = small(n_inner=50, activation_function="relu", attn_pdrop=0.3,
                   scale_attn_weights=False, tie_word_embeddings=False,
                   scale_attn_by_inverse_layer_idx=True, embd_pdrop=0.2,
                   layer_norm_epsilon=1e-3, initializer_range=0.1,
                   extra={"n_ctx": 99}, generation={"eos_token_id": 7})
    for attention in ("sdpa", "eager"):
        theirs = reference_config(config, attention)
        for f in fields(GPT2Fields):
            value = getattr(config, f.name)
            assert getattr(theirs, f.name) == value, f.name
        assert theirs._attn_implementation == attention
        assert not hasattr(theirs, "n_ctx")
        assert not hasattr(theirs, "generation")


@pytest.mark.parametrize("version, fine", [
    ("4.57.3", False), ("5.0.0", False), ("5.7.9", False), ("5.8.0", True),
    ("5.8.0.dev0", True), ("5.10.0", True), ("6.0", True)])
def test_one_error_for_an_old_transformers(version, fine, monkeypatch):
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers, "__version__", version)
    for call in (reference_config, reference_model):
        if fine:
            assert call(small())
        else:
            with pytest.raises(ImportError, match=f"{version}.*5.8 or newer"):
                call(small())


def test_reference_model_hides_nothing(theirs):
    for name, p in theirs.named_parameters():
        assert p.dtype == torch.float64
        if p.dim() == 1:
            assert not (p == 0).any() and not (p == 1).any(), name
            assert p.std() > 0.05, name
    assert not theirs.training


def test_reference_model_is_seeded_and_the_same_in_each_dtype(theirs, ids):
    again, other = reference_model(small()), reference_model(small(), seed=1)
    single = reference_model(small(), dtype=torch.float32)
    for name, p in theirs.named_parameters():
        assert torch.equal(p, again.get_parameter(name)), name
        assert not torch.equal(p, other.get_parameter(name)), name
        assert torch.equal(p.float(), single.get_parameter(name)), name
    eager = reference_model(small(), attention="eager")
    check("kernels", eager(ids).logits, theirs(ids).logits)
    maps = eager(ids, output_attentions=True).attentions
    assert maps[0].shape == (2, 3, 9, 9)


def test_sharpen_touches_only_c_attn(theirs):
    sharp = reference_model(small(), sharpen=3.0)
    for name, p in theirs.named_parameters():
        factor = 3.0 if name.endswith("c_attn.weight") else 1.0
        torch.testing.assert_close(sharp.get_parameter(name), factor * p,
                                   rtol=1e-6, atol=0)
    copied = copy.deepcopy(theirs)
    sharpen_attention(copied, 1.0)
    for name, p in theirs.named_parameters():
        assert torch.equal(p, copied.get_parameter(name))


def test_perturb_knows_a_bare_layer_norm():
    norm = nn.LayerNorm(100)
    perturb(norm)
    assert not (norm.weight == 1).any() and not (norm.bias == 0).any()
    assert 0.05 < (norm.weight - 1).std() < 0.2


@pytest.mark.parametrize("tied", [True, False])
def test_reference_state_loads_strictly(tied, ids):
    pytest.importorskip("transformers")
    config = small(tie_word_embeddings=tied)
    theirs = reference_model(config)
    state = reference_state(theirs)
    assert ("lm_head.weight" in state) == (not tied)
    assert not any(v.requires_grad for v in state.values())
    ours = ours_of(theirs, config)
    check("logits", ours(ids).logits, theirs(ids).logits)
    assert first_divergence(ours, theirs, ids) is None


@pytest.mark.parametrize("tied", [True, False])
def test_reference_state_on_meta(tied):
    transformers = pytest.importorskip("transformers")
    config = reference_config(small(tie_word_embeddings=tied))
    with torch.device("meta"):
        theirs = transformers.GPT2LMHeadModel(config)
    assert ("lm_head.weight" in reference_state(theirs)) == (not tied)


# ----------------------------------------------------------------- record

class Twice(nn.Module):
    """Calls one module twice, and writes into its results."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.pair = Pair()

    def forward(self, x):
        first = self.layer(x)
        second = self.layer(first)
        first.zero_()
        return self.pair(scale=2.0, x=second)[0]


class Pair(nn.Module):
    def forward(self, x, scale):
        return x * scale, None


def test_record_of_a_module_called_twice():
    model, x = Twice(), torch.randn(3, 4)
    found = record(model, x, inputs=True)
    assert list(found) == ["layer.input", "layer", "layer.input@2", "layer@2",
                           "pair.input", "pair", "logits"]
    assert torch.equal(found["layer.input@2"], found["layer"])
    assert found["layer"].any(), "written over after it was recorded"
    assert torch.equal(found["pair.input"], found["layer@2"])
    other = copy.deepcopy(model)
    assert first_divergence(other, model, x) is None
    other.pair.forward = lambda x, scale: (x * 3, None)
    assert first_divergence(other, model, x) == "pair"


def test_record_has_the_same_names_on_both_sides(theirs, ids):
    a, b = record(ours_of(theirs), ids), record(theirs, ids)
    assert set(b) - set(a) == {"lm_head", *(f"h.{i}.mlp.act"
                                            for i in range(3))}
    assert set(a) <= set(b)
    for name in a:
        assert agree(a[name], b[name]), name
    assert list(a)[:2] == ["wte", "wpe"] and list(a)[-2:] == ["ln_f", "logits"]


def test_record_leaves_modes_and_hooks(theirs, ids):
    model = copy.deepcopy(theirs).train()
    model.transformer.h[1].eval()
    modes = [m.training for m in model.modules()]
    for run in (lambda: record(model, ids),
                lambda: record(model, ids + 1000),         # out of range
                lambda: check_causal(model, ids),
                lambda: first_divergence(model, theirs, ids)):
        try:
            run()
        except IndexError:
            pass
        assert [m.training for m in model.modules()] == modes
        assert not any(m._forward_hooks or m._forward_pre_hooks
                       for m in model.modules())


def test_record_passes_arguments_on(theirs, ids):
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    plain, masked = record(theirs, ids), record(theirs, ids,
                                                attention_mask=mask)
    assert agree(plain["wte"], masked["wte"])
    assert not agree(plain["h.0"], masked["h.0"])


def test_evaluating_and_hooks_alone():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)).train()
    model[1].eval()
    with evaluating(model):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == [True, True, False]
    names = []
    with hooks(model, lambda name, x: names.append(name)):
        model(torch.ones(1, 2))
    model(torch.ones(1, 2))
    assert names == ["0", "1"]


def test_result_of():
    x = torch.ones(1)
    assert result_of(x) is x and result_of((x, 2)) is x
    assert result_of(type("Output", (), {"logits": x})()) is x


# ------------------------------------------------------- first_divergence

def exact_gelu(block):
    block.mlp.act = nn.GELU()


def other_eps(block):
    block.ln_2.eps = 1e-6


def no_scale(block):
    block.attn.scaling = 1.0


def transposed(block):
    weight = block.attn.c_proj.weight
    weight.copy_(weight.T.clone())


def no_gain(block):
    block.ln_1.weight.fill_(1.0)


def no_bias(block):
    block.mlp.c_proj.bias.zero_()


def no_residual(block):
    block.mlp.register_forward_hook(lambda m, args, y: y * 0)


def turned_norm(block):
    block.ln_1.register_forward_hook(lambda m, args, y: -y)


def nan_bias(block):
    block.mlp.c_fc.bias[0] = float("nan")


PLANTED = {exact_gelu: "mlp.act", other_eps: "ln_2", no_scale: "attn",
           transposed: "attn.c_proj", no_gain: "ln_1",
           no_bias: "mlp.c_proj", no_residual: "mlp", turned_norm: "ln_1",
           nan_bias: "mlp.c_fc"}


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("fault", PLANTED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_first_divergence_names_the_part(theirs, ids, fault, layer, dtype):
    right = copy.deepcopy(theirs).to(dtype)
    bad = copy.deepcopy(right)
    if fault is exact_gelu and dtype == torch.float32:
        # With activations this small the two forms agree to five digits.
        for model in (right, bad):
            model.transformer.h[layer].mlp.c_fc.weight.data *= 10
    with torch.no_grad():
        fault(bad.transformer.h[layer])
    expected = f"h.{layer}.{PLANTED[fault]}"
    assert first_divergence(bad, right, ids) == expected
    assert first_divergence(right, bad, ids) == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_first_divergence_in_our_own_model(theirs, ids, dtype):
    right = copy.deepcopy(theirs).to(dtype)

    def named(edit):
        ours = ours_of(right, dtype=dtype)
        with torch.no_grad():
            edit(ours)
        return first_divergence(ours, right, ids)

    def swap(model):
        model.h[1].ln_1, model.h[1].ln_2 = model.h[1].ln_2, model.h[1].ln_1

    assert named(lambda m: None) is None
    assert named(lambda m: setattr(m.h[1].attn, "scale", 1.0)) == "h.1.attn"
    assert named(lambda m: setattr(m.h[2].mlp, "act",
                                   nn.functional.gelu)) == "h.2.mlp"
    assert named(swap) in ("h.1.ln_1", "h.1")
    assert named(lambda m: setattr(m.ln_f, "eps", 1e-3)) == "ln_f"
    assert named(lambda m: m.wpe.weight.copy_(
        m.wpe.weight.roll(1, 0))) == "wpe"
    assert named(lambda m: setattr(m, "h", m.h[:2])) == "ln_f"


def test_first_divergence_of_two_precisions(theirs, ids):
    for kind in (torch.float32, torch.bfloat16):
        other = copy.deepcopy(theirs).to(kind)
        assert first_divergence(other, theirs, ids) is None
        assert first_divergence(theirs, other, ids) is None
    with torch.no_grad():
        transposed(other.transformer.h[1])
    assert first_divergence(other, theirs, ids).startswith("h.1.")


def test_first_divergence_ignores_dropout_and_modes(theirs, ids):
    model = copy.deepcopy(theirs).train()
    assert first_divergence(model, theirs, ids) is None
    assert first_divergence(theirs, model, ids) is None


def test_first_divergence_in_the_head_only(ids):
    pytest.importorskip("transformers")
    right = reference_model(small(tie_word_embeddings=False))
    bad = copy.deepcopy(right)
    with torch.no_grad():
        bad.lm_head.weight[5] += 1
    assert first_divergence(bad, right, ids) == "lm_head"
    ours = ours_of(right, small(tie_word_embeddings=False))
    with torch.no_grad():
        ours.lm_head.weight[5] += 1
    assert first_divergence(ours, right, ids) in ("lm_head", "logits")


def test_first_divergence_refuses_to_compare_nothing(theirs, ids):
    with pytest.raises(ValueError, match="same model"):
        first_divergence(theirs, theirs, ids)

    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = theirs

        def forward(self, ids):
            return self.inner(ids)

    with pytest.raises(ValueError, match="share no names"):
        first_divergence(Other(), theirs, ids)


# ------------------------------------------------------------ check_causal

class Wrapped(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, ids):
        return self.function(ids)


def test_causal_models_pass(theirs, ids, capsys):
    for model in (theirs, ours_of(theirs)):
        check_causal(model, ids)
        check_causal(model, ids.int())
        check_causal(model, torch.zeros_like(ids))
        check_causal(model.float(), ids[:1])
        model.double()
    explicit = ours_of(theirs)
    for block in explicit.h:
        block.attn.explicit = True
    check_causal(explicit, ids)
    assert "9 tokens changed" in capsys.readouterr().out


def test_a_changed_token_must_not_give_nan(theirs, ids):
    """NaN is different from everything, so it would pass as a change."""
    def undefined(ids):
        logits = theirs(ids).logits.clone()
        logits[(ids == 0).cumsum(1) > 0] = NAN   # what changed_at puts there
        return logits

    given = ids[:, :4] % 60 + 1                  # no token 0 yet
    with pytest.raises(AssertionError, match="token 0 .*NaN"):
        check_causal(Wrapped(undefined), given)


@pytest.mark.parametrize("shift", [1, 2, 8])
def test_a_mask_off_by_some_is_seen(theirs, ids, shift):
    T = ids.shape[1]
    allowed = torch.ones(T, T, dtype=torch.bool).tril(shift)
    ours = ours_of(theirs)
    model = Wrapped(lambda ids: run_with_mask(ours, ids, allowed))
    with pytest.raises(AssertionError, match="changes an earlier logit"):
        check_causal(model, ids)
    causal = allowed.tril()
    check_causal(Wrapped(lambda ids: run_with_mask(ours, ids, causal)), ids)


def run_with_mask(model, ids, mask):
    x = model.wte(ids) + model.wpe(torch.arange(ids.shape[1]))
    for block in model.h:
        x = block(x, mask)
    return model.ln_f(x) @ model.head_weight.T


def test_one_leak_in_one_row_is_seen(theirs, ids):
    def leaky(ids):
        logits = theirs(ids).logits.clone()
        logits[1, 3, 7] += 1e-12 * ids[1, 5]
        return logits
    with pytest.raises(AssertionError, match="token 5 changes an earlier"):
        check_causal(Wrapped(leaky), ids)


def test_causal_refuses_what_it_cannot_judge(theirs, ids):
    last = Wrapped(lambda ids: theirs(ids).logits[:, -1:])
    with pytest.raises(ValueError, match="a result for each"):
        check_causal(last, ids)
    with pytest.raises(ValueError, match="at least 2"):
        check_causal(theirs, ids[:, :1])
    noisy = Wrapped(lambda ids: theirs(ids).logits + torch.rand(1))
    nan = Wrapped(lambda ids: theirs(ids).logits * float("nan"))
    for model in (noisy, nan):
        with pytest.raises(AssertionError, match="two results"):
            check_causal(model, ids)
    deaf = Wrapped(lambda ids: torch.zeros(*ids.shape, 4))
    with pytest.raises(AssertionError, match="token 0 does not change"):
        check_causal(deaf, ids)
    one_row = Wrapped(lambda ids: theirs(ids[:1].expand(2, -1)).logits)
    check_causal(one_row, ids)       # both rows follow the first: they move
    half = Wrapped(lambda ids: torch.stack(
        [theirs(ids).logits[0], torch.ones(9, 61)]))
    with pytest.raises(AssertionError, match="does not change"):
        check_causal(half, ids)


def test_causal_of_a_part(theirs):
    layer = reference_model(small(), attention="eager").transformer.h[0].attn
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    with pytest.raises(AssertionError, match="token 1 changes"):
        check_causal(layer, x)
    check_causal(theirs.transformer.h[0].attn, x)
    check_causal(theirs.transformer.h[0].ln_1, x)


def test_changed_at(ids):
    for x in (ids, ids.int(), torch.randn(2, 9, 5)):
        before = x.clone()
        for t in range(9):
            other = changed_at(x, t)
            assert other.dtype == x.dtype
            differs = (other != x).reshape(2, 9, -1)
            assert differs[:, t].all()
            differs[:, t] = False
            assert not differs.any()
        assert torch.equal(x, before)


# --------------------------------------------------------- check_gradients

def with_gradients(model, ids, factor=1.0):
    model = copy.deepcopy(model)
    logits = model(ids).logits[:, :-1].flatten(0, 1)
    loss = nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
    (factor * loss).backward()
    return model


def test_gradients_equal(theirs, ids, capsys):
    a, b = with_gradients(ours_of(theirs), ids), with_gradients(theirs, ids)
    check_gradients("model", a, b)
    check_gradients("model", b, a)
    assert "all 40 gradients equal" in capsys.readouterr().out


def test_gradients_not_equal(theirs, ids):
    a, b = with_gradients(theirs, ids), with_gradients(theirs, ids)
    with pytest.raises(AssertionError, match="differs by"):
        check_gradients("x", with_gradients(theirs, ids, 1 + 1e-8), b)
    for name, p in a.named_parameters():
        kept = p.grad
        for wrong in (kept * (1 + 1e-9), torch.zeros_like(kept),
                      torch.full_like(kept, float("nan"))):
            p.grad = wrong
            with pytest.raises(AssertionError, match="gradient of"):
                check_gradients("x", a, b)
        p.grad = kept
    check_gradients("x", a, b)


def test_gradients_of_other_dtype_or_missing(theirs, ids):
    a, b = with_gradients(theirs, ids), with_gradients(theirs, ids)
    with pytest.raises(AssertionError, match="float32"):
        check_gradients("x", with_gradients(copy.deepcopy(theirs).float(),
                                            ids), b)
    a.transformer.h[1].ln_2.bias.grad = None
    for pair in ((a, b), (b, a)):
        with pytest.raises(AssertionError, match="h.1.ln_2.bias has no"):
            check_gradients("x", *pair)
    with pytest.raises(AssertionError, match="has no gradient"):
        check_gradients("x", theirs, theirs)


def test_gradients_of_shared_parameters_compare_nothing(theirs, ids):
    a = with_gradients(theirs, ids)
    with pytest.raises(AssertionError, match="same tensor"):
        check_gradients("x", a, a)


def test_gradients_of_other_names():
    a, b = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))
    for model in (a, b):
        model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(AssertionError, match="parameters differ"):
        check_gradients("x", a, b)
    with pytest.raises(AssertionError, match="every gradient is zero"):
        check_gradients("x", nn.ReLU(), nn.ReLU())


def test_gradients_that_are_zero(capsys):
    a = nn.Linear(2, 2)
    b = copy.deepcopy(a)
    for model in (a, b):
        (model(torch.zeros(1, 2)).sum()).backward()       # weight: all zero
    check_gradients("x", a, b)
    assert "1 of them are zero" in capsys.readouterr().out
    for model in (a, b):
        model.bias.grad.zero_()
    with pytest.raises(AssertionError, match="every gradient is zero"):
        check_gradients("x", a, b)
    a.weight.grad += 1e-30
    b.bias.grad += 1.0
    a.bias.grad += 1.0
    with pytest.raises(AssertionError, match="gradient of weight"):
        check_gradients("x", a, b)
