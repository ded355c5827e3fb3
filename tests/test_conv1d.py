"""gpt2.conv1d: shapes, bad input and equality over odd sizes."""
import math

import pytest
import torch
from torch import nn

from gpt2.checks import check, check_gradients, perturb
from gpt2.conv1d import Conv1D

torch.set_num_threads(1)


def layer_of(nf, nx, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    layer = Conv1D(nf, nx)
    perturb(layer)
    return layer.to(dtype)


@pytest.mark.parametrize("nf, nx", [(1, 1), (1, 7), (7, 1), (3, 5), (30, 10),
                                    (10, 30), (16, 16), (2304, 768)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_to_transformers(nf, nx, dtype):
    theirs_class = pytest.importorskip(
        "transformers.pytorch_utils").Conv1D
    theirs = theirs_class(nf, nx)
    perturb(theirs, seed=1)
    ours = Conv1D(nf, nx)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert repr(ours) == repr(theirs)
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    x = torch.randn(2, 3, nx, dtype=dtype)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    y, z = ours(inputs[0]), theirs(inputs[1])
    check("outputs", y, z)
    y.square().sum().backward()
    z.square().sum().backward()
    check_gradients("parameters", ours, theirs)
    check("gradient of x", inputs[0].grad, inputs[1].grad)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 5), (2, 3, 5),
                                   (1, 2, 1, 3, 5), (0,), (2, 0), (0, 5)])
def test_any_leading_shape(shape):
    layer = layer_of(6, 4)
    x = torch.randn(*shape, 4, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (*shape, 6)
    torch.testing.assert_close(y, x @ layer.weight + layer.bias)


def test_inputs_in_pieces():
    layer = layer_of(6, 4)
    whole = torch.randn(3, 4, 5, 8, dtype=torch.float64)
    for x in (whole.transpose(1, 3)[..., :4], whole[..., ::2],
              whole.permute(2, 0, 3, 1), whole[:, 1, :, 2:6],
              whole[:1, :1, :1, :4].expand(2, 3, 5, 4),
              whole[0, 0, 0, :1].expand(7, 4)):
        assert x.shape[-1] == 4
        torch.testing.assert_close(layer(x), layer(x.contiguous()),
                                   rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3,), (5,), (8,), (2, 8), (4, 3), (4, 0),
                                   (2, 4, 1), (0,)])
def test_a_wrong_width_is_named(shape):
    layer = layer_of(6, 4)
    with pytest.raises(ValueError,
                       match=f"input is {shape[-1]} wide.*reads 4"):
        layer(torch.zeros(shape, dtype=torch.float64))


def test_a_scalar_has_no_width():
    with pytest.raises(ValueError, match="reads 4"):
        layer_of(6, 4)(torch.tensor(1.0))


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int64])
def test_dtypes_are_not_mixed(kind):
    with pytest.raises(RuntimeError, match="dtype"):
        layer_of(6, 4, torch.float32)(torch.zeros(2, 4, dtype=kind))


def test_the_input_is_left_alone():
    layer, x = layer_of(6, 4), torch.randn(2, 4, dtype=torch.float64)
    before = x.clone()
    layer(x).zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize("nf, nx", [(768, 768), (3072, 256), (256, 3072)])
def test_initialisation(nf, nx):
    torch.manual_seed(0)
    layer = Conv1D(nf, nx)
    assert layer.weight.shape == (nx, nf) and layer.bias.shape == (nf,)
    assert not layer.bias.any()
    n = layer.weight.numel()
    assert abs(layer.weight.std() / 0.02 - 1) < 5 / math.sqrt(2 * n)
    assert abs(layer.weight.mean()) < 5 * 0.02 / math.sqrt(n)
    z = layer.weight.flatten() / 0.02
    assert abs((z ** 4).mean() - 3) < 0.1, "not a normal distribution"
    assert all(p.requires_grad for p in layer.parameters())
    assert all(p.is_contiguous() for p in layer.parameters())


def test_weights_can_be_shared_and_moved():
    a, b = layer_of(4, 4), layer_of(4, 4, seed=1)
    b.weight = a.weight
    assert b.state_dict()["weight"].data_ptr() == a.weight.data_ptr()
    half = layer_of(6, 4).to(torch.bfloat16)
    assert half(torch.ones(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    with torch.device("meta"):
        assert Conv1D(6, 4)(torch.ones(2, 4)).shape == (2, 6)


def test_autocast_and_compile():
    layer = layer_of(6, 4, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.ones(2, 4)).dtype == torch.bfloat16
    graph = torch.export.export(layer, (torch.ones(2, 3, 4),))
    names = [str(node.target) for node in graph.graph.nodes]
    assert any("addmm" in name for name in names)
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(graph.module()(x), layer(x))


def test_twenty_layers_of_linear_agree():
    """Depth does not add more than rounding: float32 against float64."""
    layers = nn.Sequential(*(layer_of(32, 32, seed=i) for i in range(20)))
    x = torch.randn(4, 32, dtype=torch.float64)
    deep = layers(x)
    torch.testing.assert_close(layers.float()(x.float()).double(), deep,
                               rtol=1e-4, atol=1e-6)
