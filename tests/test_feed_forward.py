"""What chapter 06 cannot hold: odd configurations, dtypes, pickling."""
import copy
import pickle

import pytest
import torch

from gpt2.config import GPT2Config
from gpt2.feed_forward import ACTIVATIONS, FeedForward, gelu_new


def pair(dtype=torch.float64, seed=0, **changes):
    """Ours and Hugging Face's layer with the same perturbed weights."""
    pytest.importorskip("transformers")
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

    from gpt2.checks import perturb, reference_config

    config = GPT2Config(**{"n_embd": 24, "n_head": 2, "n_layer": 1, **changes})
    torch.manual_seed(seed)
    theirs = GPT2MLP(config.inner_dim, reference_config(config)).to(dtype)
    for p in theirs.parameters():        # wide enough to leave the linear part
        torch.nn.init.normal_(p, std=0.5)
    perturb(theirs, seed)
    ours = FeedForward(config).to(dtype)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours.eval(), theirs.eval()


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_gives_hugging_faces_output_and_gradients(name):
    activations = pytest.importorskip("transformers.activations")
    if name not in activations.ACT2FN:
        pytest.skip(f"this transformers has no {name}")
    from gpt2.checks import check, check_gradients

    ours, theirs = pair(activation_function=name, n_inner=40)
    x = torch.randn(2, 5, 24, dtype=torch.float64)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    check(name, ours(x), theirs(x))
    check_gradients(name, ours, theirs)


def test_only_activations_with_parameters_are_missing():
    activations = pytest.importorskip("transformers.activations")
    for name in set(activations.ACT2FN) - set(ACTIVATIONS):
        assert list(activations.ACT2FN[name].parameters()), name


@pytest.mark.parametrize("n_inner", [None, 1, 3, 24, 97])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7)])
def test_any_inner_width(n_inner, shape):
    ours, theirs = pair(n_inner=n_inner)
    from gpt2.checks import check

    x = torch.randn(*shape, 24, dtype=torch.float64)
    assert ours.c_fc.weight.shape == (24, n_inner or 96)
    check("any width", ours(x), theirs(x))


def test_float32_keeps_to_the_float32_bound():
    ours, theirs = pair(torch.float32, n_embd=96, n_head=3)
    from gpt2.checks import check

    x = torch.randn(4, 33, 96)
    check("float32", ours(x), theirs(x))


def test_the_exact_gelu_is_told_apart():
    ours, theirs = pair()
    ours.act = ACTIVATIONS["gelu"]
    from gpt2.checks import check

    x = torch.randn(2, 5, 24, dtype=torch.float64)
    with pytest.raises(AssertionError, match="differs by"):
        check("exact", ours(x), theirs(x))
    with pytest.raises(AssertionError, match="differs by"):
        check("exact", ours.float()(x.float()), theirs.float()(x.float()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_one_rounding(dtype):
    x = torch.linspace(-8, 8, 4001).to(dtype)
    truth = gelu_new(x.double())
    step = truth.abs() * torch.finfo(dtype).eps + torch.finfo(dtype).tiny
    error = (ACTIVATIONS["gelu_new"](x).double() - truth).abs()
    # far to the left tanh reaches -1 in float32: an absolute floor
    assert (error <= step.clamp(min=1e-5)).all()


def test_the_written_formula_is_the_fused_kernel():
    x = torch.linspace(-9, 9, 5001, dtype=torch.float64)
    torch.testing.assert_close(gelu_new(x), ACTIVATIONS["gelu_new"](x),
                               rtol=0, atol=1e-12)


@pytest.mark.parametrize("x", [torch.inf, 1e4, 300.0])
def test_gelu_new_of_large_numbers_is_finite_or_the_number(x):
    for f in (gelu_new, ACTIVATIONS["gelu_new"]):
        assert f(torch.tensor(x)) == x
        if x != torch.inf:
            assert f(torch.tensor(-x)) == 0


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="unknown activation_function 'geluu'"):
        FeedForward(GPT2Config(activation_function="geluu"))
    layer = FeedForward(GPT2Config(n_embd=24, n_head=2))
    with pytest.raises(ValueError, match="25 wide; this layer reads 24"):
        layer(torch.zeros(1, 2, 25))


def test_dropout_is_at_the_end_only_and_only_in_training():
    layer = FeedForward(GPT2Config(n_embd=24, n_head=2, resid_pdrop=1.0))
    torch.nn.init.normal_(layer.c_proj.bias)
    x = torch.randn(2, 3, 24)
    assert layer.train()(x).count_nonzero() == 0
    assert layer.eval()(x).count_nonzero() == x.numel()
    torch.manual_seed(0)
    layer.dropout.p = 0.25
    wide = layer.train()(torch.randn(400, 100, 24))
    assert abs((wide == 0).double().mean() - 0.25) < 0.005


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_a_layer_can_be_copied_and_pickled(name):
    layer = FeedForward(GPT2Config(n_embd=8, n_head=1,
                                   activation_function=name)).eval()
    x = torch.randn(1, 2, 8)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))


def test_positions_do_not_mix():
    layer = FeedForward(GPT2Config(n_embd=24, n_head=2)).double().eval()
    x = torch.randn(1, 6, 24, dtype=torch.float64)
    moved = x.clone()
    moved[:, 3] += 1
    changed = (layer(moved) != layer(x)).any(-1)[0].tolist()
    assert changed == [False, False, False, True, False, False]
