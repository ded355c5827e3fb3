"""gpt2.embeddings: what chapter 03 cannot hold on its page."""
import numpy as np
import pytest
import torch
from torch import nn

from gpt2.config import GPT2Config
from gpt2.embeddings import (check_ids, check_positions, embed, is_traced,
                             whole_number)

V, P, C = 97, 32, 24


@pytest.fixture
def tables():
    torch.manual_seed(0)
    return nn.Embedding(V, C).double(), nn.Embedding(P, C).double()


# --- equal to Hugging Face ----------------------------------------------

@pytest.mark.parametrize("changes", [
    {}, dict(n_embd=7, n_head=7), dict(vocab_size=1, n_positions=17),
    dict(n_layer=1, initializer_range=0.3), dict(tie_word_embeddings=False),
])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_to_hidden_state_0(changes, dtype):
    pytest.importorskip("transformers")
    from gpt2.checks import check, reference_model
    base = dict(vocab_size=V, n_positions=P, n_embd=C, n_layer=2, n_head=3,
                bos_token_id=0, eos_token_id=0)
    config = GPT2Config(**{**base, **changes})
    theirs = reference_model(config, seed=3, dtype=dtype)
    table = theirs.transformer
    ids = torch.randint(config.vocab_size, (3, 17))
    places = torch.randint(config.n_positions, (3, 17))
    with torch.no_grad():
        for given in (None, places, places[:1]):
            out = theirs(ids, position_ids=given, output_hidden_states=True,
                         attention_mask=torch.ones_like(ids))
            check("embed", embed(ids, table.wte, table.wpe, given),
                  out.hidden_states[0])


# --- properties ----------------------------------------------------------

@pytest.mark.parametrize("cut", [1, 8, 16])
def test_pieces_with_past(cut, tables):
    ids = torch.randint(V, (2, 17))
    pieces = [embed(ids[:, :cut], *tables),
              embed(ids[:, cut:], *tables, past=cut)]
    assert torch.equal(torch.cat(pieces, dim=1), embed(ids, *tables))


def test_the_full_length_is_read_and_no_more(tables):
    ids = torch.zeros(1, P, dtype=torch.long)
    assert embed(ids, *tables).shape == (1, P, C)
    assert embed(ids[:, :1], *tables, past=P - 1).shape == (1, 1, C)
    with pytest.raises(ValueError, match="33 tokens.*reads 32.*Shorten"):
        embed(ids[:, :1], *tables, past=P)


def test_int32_ids(tables):
    ids = torch.randint(V, (2, 5))
    assert torch.equal(embed(ids.int(), *tables), embed(ids, *tables))


def test_gradients_add_up_and_stay_sparse(tables):
    wte, wpe = tables
    ids = torch.tensor([[5, 5, 9], [5, 0, 9]])
    embed(ids, wte, wpe).sum().backward()
    counts = torch.bincount(ids.flatten(), minlength=V).double()
    assert torch.equal(wte.weight.grad, counts[:, None].expand(V, C))
    assert (wpe.weight.grad[:3] == 2).all() and not wpe.weight.grad[3:].any()


# --- bad input -----------------------------------------------------------

@pytest.mark.parametrize("ids, error, message", [
    (torch.tensor([[V]]), ValueError, "97 is outside.*0 to 96"),
    (torch.tensor([[0, -5]]), ValueError, "-5 is outside"),
    (torch.tensor([1, 2]), ValueError, r"\(2,\).*ids\[None\]"),
    (torch.tensor(1), ValueError, r"\(\)"),
    (torch.zeros(1, 2, 3, dtype=torch.long), ValueError, r"\(1, 2, 3\)"),
    (torch.zeros(1, 0, dtype=torch.long), ValueError, r"\(1, 0\)"),
    (torch.zeros(0, 4, dtype=torch.long), ValueError, r"\(0, 4\)"),
    (torch.zeros(1, 2), TypeError, "float32.*ids.long"),
    (torch.zeros(1, 2, dtype=torch.bool), TypeError, "bool"),
    (torch.zeros(1, 2, dtype=torch.uint8), TypeError, "uint8"),
    (torch.zeros(1, P + 1, dtype=torch.long), ValueError, "33 tokens"),
])
def test_bad_ids(ids, error, message, tables):
    with pytest.raises(error, match=message):
        embed(ids, *tables)


@pytest.mark.parametrize("positions, error, message", [
    (torch.tensor([[0, 1, P]]), ValueError, "32 is outside.*0 to 31"),
    (torch.tensor([[-1, 0, 1]]), ValueError, "-1 is outside"),
    (torch.zeros(2, 4, dtype=torch.long), ValueError, r"expected \(2, 3\)"),
    (torch.zeros(3, 3, dtype=torch.long), ValueError, r"expected \(2, 3\)"),
    (torch.zeros(1, 2, 3, dtype=torch.long), ValueError, "one for each"),
    (torch.zeros(2, 1, dtype=torch.long), ValueError, r"\[:, -3:\]"),
    (torch.zeros(2, 3), TypeError, "float32.*positions.long"),
])
def test_bad_positions(positions, error, message, tables):
    with pytest.raises(error, match=message):
        embed(torch.zeros(2, 3, dtype=torch.long), *tables, positions)


def test_all_positions_for_one_new_token(tables):
    """(B, 1) + (B, S) would broadcast without an error."""
    with pytest.raises(ValueError, match=r"expected \(2, 1\)"):
        embed(torch.zeros(2, 1, dtype=torch.long), *tables,
              torch.zeros(2, 8, dtype=torch.long))


def test_one_row_or_all_rows_of_positions(tables):
    ids, places = torch.randint(V, (2, 3)), torch.tensor([4, 9, 0])
    want = embed(ids, *tables, places)
    for given in (places[None], places.expand(2, 3)):
        assert torch.equal(embed(ids, *tables, given), want)
    for bad in (torch.tensor(3), places[:2], places.expand(3, 3),
                places.expand(1, 1, 3)):
        with pytest.raises(ValueError, match=r"expected \(2, 3\)"):
            embed(ids, *tables, bad)


@pytest.mark.parametrize("value", [5, np.int64(5), np.uint8(5),
                                   torch.tensor(5), torch.tensor([5]),
                                   torch.tensor(5, dtype=torch.int16)])
def test_whole_numbers(value):
    number = whole_number("n", value, 5)
    assert type(number) is int and number == 5
    with pytest.raises(ValueError, match="n is .*5.*whole number, at least 6"):
        whole_number("n", value, 6)


@pytest.mark.parametrize("value", [
    True, False, np.bool_(True), torch.tensor(True), 5.0, np.float64(5),
    torch.tensor(5.0), "5", None, [5], torch.tensor([5, 6]), float("nan")])
def test_no_whole_numbers(value):
    with pytest.raises(ValueError, match="n is .*must be a whole number"):
        whole_number("n", value)


def test_a_traced_length_stays_symbolic():
    seen = []

    def double(x):
        seen.append(is_traced())
        return x * whole_number("T", x.shape[0])

    traced = torch.jit.trace(double, torch.ones(3))
    assert torch.equal(traced(torch.ones(5)), torch.full((5,), 5.0))
    assert any(seen) and not is_traced()


def test_the_range_is_not_read_off_the_cpu():
    far = torch.full((1, 2), 1000, device="meta")
    check_ids(far, V)
    check_positions(far, far, P)
