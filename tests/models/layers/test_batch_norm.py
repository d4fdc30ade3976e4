"""Batch normalization fused with its activation, against torch's two modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.layers.batch_norm import norm_act

ACTIVATIONS = [nn.ReLU(), nn.ReLU6(), nn.Identity()]
MANY = (8, 256, 128)
"""Images, height and width of a map that is worked on in several chunks, of 3 channels or more."""


def make_norm(channels: int, *, statistics: bool = False) -> nn.BatchNorm2d:
    """In float64, with parameters that give values below 0 and above 6."""
    torch.manual_seed(channels)
    norm = nn.BatchNorm2d(channels, track_running_stats=statistics, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.normal_(0, 4)
        norm.bias.normal_(3, 1)
    return norm


def image(channels: int, size: tuple[int, int, int]) -> Tensor:
    count, height, width = size
    x = torch.randn(count, channels, height, width, dtype=torch.float64) + torch.arange(channels).view(-1, 1, 1)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def check(x: Tensor, norm: nn.BatchNorm2d, act: nn.Module) -> None:
    """The output and all gradients equal torch's."""
    leaves = [x, norm.weight, norm.bias]
    out, expected = norm_act(x, norm, act), act(norm(x))
    torch.testing.assert_close(out, expected)
    assert out.stride() == expected.stride()
    weights = torch.randn_like(out)
    for actual, reference in zip(
        torch.autograd.grad(out, leaves, weights), torch.autograd.grad(expected, leaves, weights), strict=True
    ):
        torch.testing.assert_close(actual, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize(("channels", "size"), [(8, (4, 6, 5)), (3, MANY), (8, MANY), (16, MANY), (20, (3, 91, 101))])
def test_equals_torch_norm_and_activation(channels: int, size: tuple[int, int, int], act: nn.Module) -> None:
    check(image(channels, size), make_norm(channels), act)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_equal_those_of_torch(act: nn.Module) -> None:
    norm = make_norm(5)
    assert torch.autograd.gradcheck(lambda x, *_: norm_act(x, norm, act), (image(5, (3, 4, 4)), norm.weight, norm.bias))


@pytest.mark.parametrize("channels", [8, 32])
def test_large_mean_is_as_precise_as_torch(channels: int) -> None:
    x = (image(channels, MANY).detach() + 1000).requires_grad_()
    norm = make_norm(channels)
    exact = norm_act(x, norm, nn.ReLU())
    norm.float()
    with torch.no_grad():
        y = x.float().requires_grad_()
    losses = [(out.double() - exact).abs().max().item() for out in (norm_act(y, norm, nn.ReLU()), norm(y).relu())]
    assert losses[0] <= 2 * losses[1]


def test_contiguous_maps_and_running_statistics_use_torch() -> None:
    x = image(8, (4, 6, 5))
    check(x.detach().contiguous().requires_grad_(), make_norm(8), nn.ReLU6())
    kept, plain = make_norm(8, statistics=True), make_norm(8, statistics=True)
    assert torch.equal(norm_act(x, kept, nn.ReLU6()), nn.ReLU6()(plain(x)))
    assert kept.running_mean is not None
    assert plain.running_mean is not None
    assert torch.equal(kept.running_mean, plain.running_mean)
    assert torch.equal(norm_act(x, kept.eval(), nn.ReLU6()), nn.ReLU6()(plain.eval()(x)))


def test_input_is_not_modified() -> None:
    for size in ((4, 6, 5), MANY):
        x = image(8, size)
        before = x.detach().clone()
        torch.autograd.backward(norm_act(x, make_norm(8), nn.ReLU6(inplace=True)).sum())
        assert torch.equal(x, before)
