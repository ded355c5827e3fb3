"""gpt2.counting: the formulas against PyTorch, for shapes that nobody uses."""
import pytest
import torch

from gpt2.config import GPT2Config
from gpt2.counting import count_parameters, flops_per_token, memory_bytes
from gpt2.model import GPT2
from toys import odd_config


@pytest.mark.parametrize("seed", range(20))
def test_parameters_of_odd_models(seed):
    config = odd_config(seed)
    ours = sum(p.numel() for p in GPT2(config).parameters())
    assert ours == sum(count_parameters(config).values())


@pytest.mark.parametrize("seed", range(6))
def test_flops_of_our_model(seed):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    config, T = odd_config(seed), 9
    ids = torch.randint(config.vocab_size, (2, T))
    model = GPT2(config).eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as f:
        model(ids)
    assert f.get_total_flops() == 2 * T * flops_per_token(config, T)


def test_flops_default_to_the_full_length():
    config = GPT2Config.from_preset("nano")
    assert flops_per_token(config) == flops_per_token(config, 512)
    more = flops_per_token(config, 513) - flops_per_token(config, 512)
    assert more == 4 * config.n_layer * config.n_embd


@pytest.mark.parametrize("seed", range(6))
def test_activations_of_our_model(seed):
    """As on the page, for our own model: its loss skips the last position."""
    config, B, T = odd_config(seed), 2, 9
    model, ids, saved = GPT2(config).eval(), torch.randint(5, (B, T)), {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(x):
        if x.is_floating_point() and x.dim() > 0:
            saved[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(ids, labels=ids)
    measured = sum(s.nbytes() for at, s in saved.items() if at not in own)
    expected = memory_bytes(config, B, T)["activations"]
    assert measured == expected - 4 * B * config.vocab_size


def test_memory_scales():
    config = GPT2Config()
    one, many = memory_bytes(config, 1, 128), memory_bytes(config, 6, 128)
    assert many["activations"] == 6 * one["activations"]
    assert many["optimizer"] == one["optimizer"] == 2 * one["weights"]
    half = memory_bytes(config, 1, 128, bytes_per_value=2)
    assert all(2 * half[key] == one[key] for key in one)
    assert memory_bytes(config) == memory_bytes(config, 1, 1024)
