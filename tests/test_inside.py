"""What chapter 21 cannot hold: odd configurations, bad input, planted faults."""
import copy
import math

import pytest
import torch

from gpt2 import inside
from gpt2.checks import record
from gpt2.config import GPT2Config
from gpt2.model import GPT2

SMALL = dict(vocab_size=50, n_positions=32, n_embd=24, n_head=3, n_layer=3,
             bos_token_id=49, eos_token_id=49)
ODD = [dict(), dict(n_head=1), dict(n_head=24), dict(n_inner=7),
       dict(scale_attn_by_inverse_layer_idx=True),
       dict(scale_attn_weights=False), dict(tie_word_embeddings=False),
       dict(activation_function="relu"), dict(n_layer=1)]
IDS = torch.tensor([[4, 7, 4, 7, 1, 4, 30, 8], [2, 2, 9, 0, 2, 48, 9, 0]])


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def pair(attention="eager", sharpen=5.0, **changes):
    """Ours and Hugging Face's model with the same perturbed weights."""
    pytest.importorskip("transformers")
    from gpt2.checks import reference_model, reference_state

    config = GPT2Config(**{**SMALL, **changes})
    theirs = reference_model(config, attention=attention, sharpen=sharpen)
    ours = GPT2(config).double().eval()
    ours.load_state_dict(reference_state(theirs), strict=True)
    return ours, theirs


def model(dtype=torch.float64, **changes):
    torch.manual_seed(0)
    ours = GPT2(GPT2Config(**{**SMALL, **changes})).to(dtype).eval()
    for p in ours.parameters():
        p += 0.1 * torch.randn_like(p)
    return ours


def close(ours, theirs, tol=1e-10):
    bound = tol * max(1.0, theirs.abs().max().item())
    assert (ours - theirs).abs().max().item() <= bound


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_maps_and_stream_are_hugging_faces(changes):
    ours, theirs = pair(**changes)
    out = theirs(IDS, output_attentions=True, output_hidden_states=True)
    maps = inside.attention_maps(ours, IDS)
    close(maps, torch.stack(out.attentions))
    close(maps.sum(-1), torch.ones(()).double().expand_as(maps.sum(-1)))
    assert not maps.triu(1).any()
    stream = inside.residual_stream(ours, IDS)
    close(stream[:-1], torch.stack(out.hidden_states[:-1]))
    close(inside.logit_lens(ours, stream[-1]), out.logits)
    close(inside.logit_lens(ours, stream[1]),
          theirs.lm_head(theirs.transformer.ln_f(stream[1])))


@pytest.mark.parametrize("fault", ["no mask", "no scale", "q and k swapped"])
def test_a_wrong_map_is_seen(fault):
    ours, theirs = pair()
    right = torch.stack(theirs(IDS, output_attentions=True).attentions)
    q, k, _ = record(ours, IDS)["h.1.attn.c_attn"].chunk(3, dim=-1)
    q, k = (inside.split_heads(x, 3) for x in (q, k))
    T = IDS.shape[1]
    options = {"no mask": dict(mask=torch.ones(T, T, dtype=torch.bool)),
               "no scale": dict(scale=1.0), "q and k swapped": {}}[fault]
    pairs = (k, q) if "swapped" in fault else (q, k)
    close(inside.attention_weights(q, k), right[1])
    with pytest.raises(AssertionError):
        close(inside.attention_weights(*pairs, **options), right[1])


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_an_ablated_head_is_a_zeroed_slice_of_theirs(changes):
    ours, theirs = pair(**changes)
    config = ours.config
    D, head = config.head_dim, config.n_head - 1
    for layer in range(config.n_layer):
        def zero(module, given):
            x = given[0].clone()
            x[..., head * D:(head + 1) * D] = 0
            return (x,)
        c_proj = theirs.transformer.h[layer].attn.c_proj
        before = ours(IDS).logits
        hook = c_proj.register_forward_pre_hook(zero)
        with inside.ablated(ours, [(layer, head)]):
            out = ours(IDS).logits
        close(out, theirs(IDS).logits)
        hook.remove()
        assert not torch.allclose(out, before)
        assert torch.equal(ours(IDS).logits, before)


def test_another_heads_slice_is_seen():
    ours, theirs = pair()

    def zero(module, given):
        x = given[0].clone()
        x[..., 8:16] = 0                       # head 1
        return (x,)
    theirs.transformer.h[1].attn.c_proj.register_forward_pre_hook(zero)
    expected = theirs(IDS).logits
    with inside.ablated(ours, [(1, 1)]):
        close(ours(IDS).logits, expected)
    with inside.ablated(ours, [(1, 2)]), pytest.raises(AssertionError):
        close(ours(IDS).logits, expected)


def test_all_heads_one_by_one_are_the_layer_without_its_bias():
    ours = model()
    with inside.ablated(ours, [(1, h) for h in range(3)]):
        heads = record(ours, IDS)["h.1.attn"]
    bias = ours.h[1].attn.c_proj.bias
    assert torch.equal(heads, bias.expand_as(heads))
    with inside.ablated(ours, parts=["h.1.attn"]):
        assert not record(ours, IDS)["h.1.attn"].any()


def test_ablating_nothing_changes_no_bit():
    ours = model(torch.float32)
    before = ours(IDS).logits
    with inside.ablated(ours), inside.replaced(ours, {}):
        assert torch.equal(ours(IDS).logits, before)
    with inside.replaced(ours, {name: lambda x: x for name in
                                ("wte", "h.0.attn.c_proj.input", "ln_f")}):
        assert torch.equal(ours(IDS).logits, before)


def test_the_mean_takes_away_what_depends_on_the_input():
    ours = model()
    means = inside.mean_activations(ours, IDS)
    name = "h.1.attn.c_proj.input"
    close(means[name], record(ours, IDS, inputs=True)[name].mean((0, 1)))
    with inside.ablated(ours, [(1, 2)], ["h.2.mlp"], means=means):
        acts = record(ours, IDS, inputs=True)
    assert torch.equal(acts[name][..., 16:],
                       means[name][16:].expand(2, 8, 8))
    assert not torch.equal(acts[name][..., :16],
                           means[name][:16].expand(2, 8, 16))
    assert torch.equal(acts["h.2.mlp"], means["h.2.mlp"].expand(2, 8, 24))
    constant = model()
    constant.h[0].mlp.c_proj.weight.zero_()    # writes its bias everywhere
    before = constant(IDS).logits
    means = inside.mean_activations(constant, IDS)
    with inside.ablated(constant, parts=["h.0.mlp"], means=means):
        close(constant(IDS).logits, before)
    with inside.ablated(constant, parts=["h.0.mlp"]):
        assert not torch.allclose(constant(IDS).logits, before)


def test_hooks_go_whatever_happens():
    ours = model()
    before = ours(IDS).logits

    class Stop(Exception):
        pass
    with pytest.raises(Stop):
        with inside.replaced(ours, {"h.0": torch.zeros_like}):
            raise Stop
    with pytest.raises(ValueError, match="h.1: .* cannot be replaced"):
        with inside.replaced(ours, {"h.0": torch.zeros_like,
                                    "h.1": lambda x: x.float()}):
            ours(IDS)
    with pytest.raises(ValueError, match="no activation 'h.7'"):
        with inside.replaced(ours, {"h.0": torch.zeros_like,
                                    "h.7": torch.zeros_like}):
            pass
    assert torch.equal(ours(IDS).logits, before)
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in ours.modules())


@pytest.mark.parametrize("name", ["", "h.0.attn.weights", "logits", ".input",
                                  "transformer.h.0"])
def test_unknown_activations(name):
    with pytest.raises(ValueError, match="record"):
        with inside.replaced(model(), {name: torch.zeros_like}):
            pass


def test_an_edit_that_never_ran_is_an_error():
    ours = model()
    with pytest.raises(RuntimeError, match="never edited: h.0.attn.attn_drop"):
        with inside.replaced(ours, {"h.0.attn.attn_dropout": torch.relu}):
            ours(IDS)
    with pytest.raises(RuntimeError, match="h.0, h.1"):
        with inside.replaced(ours, {"h.1": torch.relu, "h.0": torch.relu}):
            pass


def test_modes_are_left_as_they_were():
    ours = model(embd_pdrop=0.5).train()
    inside.attention_maps(ours, IDS)
    inside.token_losses(ours, IDS)
    inside.patch_effects(ours, IDS, record(ours, IDS), lambda x: x.sum())
    assert all(m.training for m in ours.modules())
    assert torch.equal(inside.token_losses(ours, IDS),
                       inside.token_losses(ours, IDS))


def test_token_losses_are_the_models_own():
    ours = model()
    close(inside.token_losses(ours, IDS).mean(), ours(IDS, labels=IDS).loss)
    for bad in (IDS[0], IDS[:, :1]):
        with pytest.raises(ValueError, match="at least 2"):
            inside.token_losses(ours, bad)


def test_patterns_by_hand():
    found = {name: mask[0].int().tolist()
             for name, mask in inside.patterns(IDS[:, :4]).items()}
    nobody = [0, 0, 0, 0]
    assert found == {
        "itself": [nobody, nobody, [0, 0, 1, 0], [0, 0, 0, 1]],
        "previous": [nobody, nobody, [0, 1, 0, 0], [0, 0, 1, 0]],
        "first": [nobody, nobody, [1, 0, 0, 0], [1, 0, 0, 0]],
        "same token": [nobody, nobody, [1, 0, 0, 0], [0, 1, 0, 0]],
        "induction": [nobody, nobody, [0, 1, 0, 0], [0, 0, 1, 0]]}
    assert not any(mask.triu(1).any() for mask in
                   inside.patterns(IDS).values())


@pytest.mark.parametrize("pattern", list(inside.patterns(IDS)))
def test_a_head_that_follows_a_pattern_scores_one(pattern):
    masks = inside.patterns(IDS)
    maps = torch.zeros(1, 2, 2, 8, 8)
    mask = masks[pattern].float()
    maps[0, :, 1] = mask / mask.sum(-1, keepdim=True).clamp(min=1)
    scores = inside.head_scores(maps, IDS)
    assert scores[pattern].tolist() == [[0.0, 1.0]]
    shifted = inside.head_scores(maps.roll(1, dims=-2), IDS)
    assert shifted[pattern][0, 1] < 0.9


def test_no_repetition_no_score():
    ids = torch.arange(8)[None]
    maps = torch.eye(8).expand(1, 1, 1, 8, 8)
    scores = inside.head_scores(maps, ids)
    assert math.isnan(scores["induction"].item())
    assert inside.catalogue(scores) == [inside.Head(0, 0, "itself", 1.0)]
    assert inside.catalogue(scores, least=1.1)[0].pattern == "mixed"
    with pytest.raises(ValueError, match="shape"):
        inside.head_scores(maps, ids[:, :7])
    with pytest.raises(ValueError, match="batch"):
        inside.patterns(ids[0])


@pytest.mark.parametrize("n", [16, 32, 50])
def test_the_hand_written_model_copies(n):
    hand = inside.induction_by_hand(n)
    for period in (3, n // 2, n):
        ids = inside.repeated_tokens(n, period, batch=3, seed=1)
        said = hand(ids).logits.argmax(-1)
        assert torch.equal(said[:, period:-1], ids[:, period + 1:])
        _, again = inside.copying_loss(hand, ids)
        assert again < 0.1
    periods = (n // 2, n // 2 + 1, n - 1)
    scores = inside.induction_scores(hand, periods)
    assert scores[1, 0] > 0.9 and scores.flatten().sort()[0][2] < 0.1
    assert inside.induction_scores(hand, [n // 2])[0, 1] > 0.99
    for out, copies in (((0, 0), False), ((1, 0), False), ((0, 1), True),
                        ((1, 1), True)):
        with inside.ablated(hand, [out]):
            assert (inside.copying_loss(hand, ids).again < 0.1) is copies


def test_repeated_tokens():
    ids = inside.repeated_tokens(30, 10, batch=5, seed=3)
    assert ids.shape == (5, 20) and torch.equal(ids[:, :10], ids[:, 10:])
    assert all(len(set(row[:10].tolist())) == 10 for row in ids)
    assert torch.equal(ids, inside.repeated_tokens(30, 10, batch=5, seed=3))
    assert not torch.equal(ids, inside.repeated_tokens(30, 10, 5, seed=4))
    for period in (1, 31):
        with pytest.raises(ValueError, match=f"period is {period}"):
            inside.repeated_tokens(30, period)
    with pytest.raises(ValueError, match="again"):
        inside.copying_loss(model(), IDS)
    with pytest.raises(ValueError, match="periods is empty"):
        inside.induction_scores(model(), [])


def test_patching_nothing_and_everything():
    ours = model(torch.float32)
    one, two = IDS[:1], IDS[1:]
    there = record(ours, two)
    own, other = ours(one).logits, ours(two).logits
    with inside.patched(ours, there, []):
        assert torch.equal(ours(one).logits, own)
    for names in (["drop"], ["h.1"], ["ln_f"], inside.stream_names(ours)):
        with inside.patched(ours, there, names):
            assert torch.equal(ours(one).logits, other)
        with inside.patched(ours, there, names, []):
            assert torch.equal(ours(one).logits, own)
    last = [IDS.shape[1] - 1]
    with inside.patched(ours, there, ["h.2"], last):
        logits = ours(one).logits
    assert torch.equal(logits[:, :-1], own[:, :-1])
    close(logits[:, -1], other[:, -1], 1e-5)
    with pytest.raises(ValueError, match="no logit"):
        inside.patched(ours, there, ["logit"])
    with pytest.raises(ValueError, match="same number of tokens"):
        with inside.patched(ours, there, ["h.0"]):
            ours(one[:, :5])


def test_effects_keep_to_causality():
    ours = model()
    one, two = IDS[:1].clone(), IDS[:1].clone()
    two[0, 3] = 11
    score = lambda logits: logits[0, -1, 5]        # noqa: E731
    grid = inside.patch_effects(ours, one, record(ours, two), score)
    own, other = score(ours(one).logits), score(ours(two).logits)
    grid = (grid - own) / (other - own)
    assert grid.shape == (4, 8)
    assert grid[:, :3].abs().max() < 1e-5          # before the difference
    assert grid[0, 4:].abs().max() < 1e-5 and abs(grid[0, 3] - 1) < 1e-5
    assert grid[-1, :-1].abs().max() < 1e-5 and abs(grid[-1, -1] - 1) < 1e-5
    assert grid[1:-1, 3:].abs().min() > 1e-6       # in between, both


def test_position_similarity():
    torch.manual_seed(0)
    table = torch.randn(6, 4)
    ours = inside.position_similarity(table)
    for d in range(6):
        cosines = [torch.cosine_similarity(table[i], table[i + d], dim=0)
                   for i in range(6 - d)]
        assert abs(ours[d] - sum(cosines) / len(cosines)) < 1e-6
    close(inside.position_similarity(7 * table), ours, 1e-6)


@pytest.mark.parametrize("N, C", [(40, 6), (5, 9), (3, 1)])
def test_components_are_the_singular_vectors(N, C):
    torch.manual_seed(1)
    x = torch.randn(N, C) @ torch.randn(C, C) + 20
    k = min(N - 1, C)
    ours = inside.principal_components(x, k)
    centred = x.double() - x.double().mean(0)
    U, S, V = torch.linalg.svd(centred, full_matrices=False)
    signs = (ours.directions * V[:k]).sum(1).sign()
    assert (signs != 0).all()
    close(ours.directions, V[:k] * signs[:, None], 1e-7)
    close(ours.scores, (U * S)[:, :k] * signs, 1e-7)
    close(ours.shares, (S[:k] ** 2) / (S ** 2).sum(), 1e-9)
    assert (ours.directions.gather(1, ours.directions.abs().argmax(
        1, keepdim=True)) > 0).all()
    uncentred = torch.linalg.svd(x.double(), full_matrices=False)[2][:1]
    if C > 1:
        assert abs((ours.directions[:1] * uncentred).sum()) < 0.99
    for bad in (0, min(N, C) + 1):
        with pytest.raises(ValueError, match=f"{bad} components"):
            inside.principal_components(x, bad)


def test_strongest_tokens():
    hidden = torch.zeros(2, 8, 2)
    hidden[0, 6, 0], hidden[1, 5, 0] = 3.0, 2.0
    hidden[1, 2, 1], hidden[0, 0, 1] = 5.0, 4.0
    assert inside.strongest_tokens(hidden, IDS, 2).tolist() == [[30, 48],
                                                                [9, 4]]
    for ids, k in ((IDS[:, :7], 1), (IDS, 0), (IDS, 17)):
        with pytest.raises(ValueError, match="tokens, activations"):
            inside.strongest_tokens(hidden, ids, k)


@pytest.mark.parametrize("tied", [True, False])
def test_written_tokens_are_what_adding_the_value_raises(tied):
    """Scaled up, a value alone in the stream gives the same ranking."""
    ours = model(tie_word_embeddings=tied)
    ours.ln_f.bias.zero_()
    row = ours.h[1].mlp.c_proj.weight[17]
    expected = inside.logit_lens(ours, 1e6 * row).topk(4).indices
    got = inside.written_tokens(ours, 1, torch.tensor([3, 17]), k=4)
    assert got.shape == (2, 4) and torch.equal(got[1], expected)
    with pytest.raises(ValueError, match="no layer 3"):
        inside.written_tokens(ours, 3, torch.tensor([0]))


def test_bad_heads_parts_and_means():
    ours = model()
    for head in ((3, 0), (0, 3), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="layers are 0 to 2"):
            inside.ablated(ours, [head])
    with pytest.raises(ValueError, match="no activation 'h.3.mlp'"):
        with inside.ablated(ours, parts=["h.3.mlp"]):
            pass
    with pytest.raises(ValueError, match="no mean of h.0.mlp"):
        inside.ablated(ours, parts=["h.0.mlp"], means={})
    with pytest.raises(ValueError, match="width, 24"):
        inside.logit_lens(ours, torch.zeros(3, 23))
    with pytest.raises(ValueError, match="outside the vocabulary"):
        inside.attention_maps(ours, IDS + 40)


def test_half_precision():
    ours = model().bfloat16()
    maps = inside.attention_maps(ours, IDS)
    assert maps.dtype == torch.bfloat16
    means = inside.mean_activations(ours, IDS)
    with inside.ablated(ours, [(0, 1)], means=means):
        assert ours(IDS).logits.dtype == torch.bfloat16


def test_the_model_is_not_changed():
    ours = model()
    state = copy.deepcopy(ours.state_dict())
    with inside.ablated(ours, [(0, 0)], ["h.1.mlp"]):
        ours(IDS)
    inside.induction_scores(ours, [4, 5])
    inside.written_tokens(ours, 0, torch.arange(3))
    assert all(torch.equal(p, state[name])
               for name, p in ours.state_dict().items())


# --- a vocabulary with rows that stand for no token -------------------------

def with_rows(ours, rows=14):
    """The same model, its head with rows that always win."""
    config = GPT2Config(**{**SMALL, "vocab_size": SMALL["vocab_size"] + rows,
                           "tie_word_embeddings": False})
    wide, state = GPT2(config).double().eval(), dict(ours.state_dict())
    state["lm_head.weight"] = torch.cat(
        [state["wte.weight"], 50 * state["wte.weight"][:rows]])
    state["wte.weight"] = torch.cat(
        [state["wte.weight"], state["wte.weight"][:rows] + 1])
    wide.load_state_dict(state)
    return wide


def test_rows_without_a_token_are_left_out():
    """Each measurement is that of the model without them."""
    ours = model()
    wide, V = with_rows(ours), SMALL["vocab_size"]
    x = inside.residual_stream(ours, IDS)
    neurons = torch.arange(20)
    again = inside.repeated_tokens(V, 8)
    for name, call in {
            "lens": lambda m, **o: inside.logit_lens(m, x, **o),
            "losses": lambda m, **o: inside.token_losses(m, IDS, **o),
            "written": lambda m, **o: inside.written_tokens(
                m, 1, neurons, **o),
            "copying": lambda m, **o: torch.tensor(
                inside.copying_loss(m, again, **o)),
            "induction": lambda m, **o: inside.induction_scores(
                m, [8], **o)}.items():
        right, found = call(ours), call(wide, vocab_size=V)
        assert found.shape == right.shape, name
        torch.testing.assert_close(found, right, msg=name)
        other = call(wide)                 # with them it is another number
        assert other.shape != right.shape or not torch.allclose(
            other.double(), right.double()), name
    assert inside.written_tokens(wide, 1, neurons).max() >= V


# --- a device that has no float64, as on a Mac ------------------------------

class OnDevice(torch.Tensor):
    """A tensor that refuses float64 until it is on the CPU."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        if function is torch.Tensor.double or any(
                each is torch.float64 for each in (*args, *kwargs.values())):
            raise TypeError("this device has no float64")
        return super().__torch_function__(function, types, args, kwargs)


def test_float64_is_computed_on_the_cpu():
    table = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    there = table.as_subclass(OnDevice)
    with pytest.raises(TypeError, match="no float64"):
        there.detach().double()
    torch.testing.assert_close(inside.position_similarity(there),
                               inside.position_similarity(table))
    for found, right in zip(inside.principal_components(there),
                            inside.principal_components(table)):
        assert type(found) is torch.Tensor and found.dtype == torch.float64
        torch.testing.assert_close(found, right)


def test_maps_that_are_no_numbers_are_no_pattern():
    """`catalogue` would call every head mixed."""
    ours = model()
    ours.h[1].attn.c_attn.weight[0, 0] = math.nan
    maps = inside.attention_maps(ours, IDS)
    assert maps.isnan().any()
    with pytest.raises(FloatingPointError, match="not finite"):
        inside.head_scores(maps, IDS)
