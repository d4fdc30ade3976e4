"""Convolution as matrix products, against torch's convolution."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.layers.convolution import convolve


def image(channels: int, side: int) -> Tensor:
    x = torch.randn(3, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("side", [1, 4, 12, 20])
@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "groups"),
    [
        (64, 128, 1, 1, 1),
        (128, 72, 1, 1, 1),
        (8, 16, 1, 1, 1),
        (64, 128, 1, 2, 1),
        (128, 128, 1, 1, 2),
        (32, 32, 3, 1, 1),
    ],
)
def test_equals_torch_convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int, side: int) -> None:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False, dtype=torch.float64)
    x = image(inputs, side)
    out, expected = convolve(x, conv), conv(x)
    torch.testing.assert_close(out, expected)
    assert out.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn_like(out)
    leaves = [x, conv.weight]
    for actual, reference in zip(
        torch.autograd.grad(out, leaves, weights), torch.autograd.grad(expected, leaves, weights), strict=True
    ):
        torch.testing.assert_close(actual, reference)


def test_gradients_of_any_memory_layout_are_accepted() -> None:
    conv = nn.Conv2d(64, 128, 1, bias=False, dtype=torch.float64)
    for side in (4, 12):
        x = image(64, side)
        grads = [torch.autograd.grad(out.contiguous().square().sum(), x)[0] for out in (convolve(x, conv), conv(x))]
        torch.testing.assert_close(*grads)


def test_evaluation_is_bit_identical_to_torch() -> None:
    conv = nn.Conv2d(64, 128, 1, bias=False).eval()
    x = image(64, 4).detach().float()
    assert torch.equal(convolve(x, conv), conv(x))
