"""Pointwise convolution of small maps in a training pass on a CPU, by matrix products, which are faster there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_WIDE: Final = 64 * 128
"""Input times output channels above which matrix products are faster."""
_SMALL: Final = 16 * 16
"""Maximum pixels of a map at which the gradient of the weights is faster as a matrix product."""
_TINY: Final = 7 * 7
"""Maximum pixels of a map at which the other two are faster as well."""


def convolve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(x)` of a map [N, C, H, W]."""
    if conv.training and _suits(x, conv):
        return _pointwise(x, conv.weight)
    out: Tensor = conv(x)
    return out


def _suits(x: Tensor, conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == conv.stride == (1, 1)
        and conv.groups == 1
        and conv.bias is None
        and conv.weight.numel() >= _WIDE
        and x.shape[2] * x.shape[3] <= _SMALL
        and x.requires_grad
        and conv.weight.requires_grad
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        if _is_tiny(x):
            return _map(_rows(x) @ weight.flatten(1).t(), x)
        return torch.conv2d(x, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        if _is_tiny(x):
            into = _map(_rows(grad) @ weight.flatten(1), x)
        else:
            into, _, _ = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                None,
                stride=[1, 1],
                padding=[0, 0],
                dilation=[1, 1],
                transposed=False,
                output_padding=[0, 0],
                groups=1,
                output_mask=[True, False, False],
            )
        return into, (_rows(grad).t() @ _rows(x)).view_as(weight)


_pointwise: Callable[..., Tensor] = _Pointwise.apply


def _is_tiny(x: Tensor) -> bool:
    return x.shape[2] * x.shape[3] <= _TINY


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _map(rows: Tensor, like: Tensor) -> Tensor:
    count, _, height, width = like.shape
    return rows.view(count, height, width, -1).permute(0, 3, 1, 2)
