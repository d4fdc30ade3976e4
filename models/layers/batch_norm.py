"""Batch norm with its activation in a training pass on a CPU, in few passes over memory.

Ioffe & Szegedy 2015 (arXiv 1502.03167). The constants apply to channels-last maps; the results equal torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_CHUNK: Final = 2**18
"""Elements processed at once, so that the output of one operation is in the cache for the next. Smaller maps use
torch's kernels."""
_ROW: Final = 512
"""Minimum elements per row for a loop over rows to be fast."""
_FEW: Final = 16
"""Maximum channels at which rows of several pixels make the statistics faster."""


def norm_act(x: Tensor, norm: nn.Module, act: nn.Module) -> Tensor:
    """`act(norm(x))` of a map [N, C, H, W]."""
    ceiling = _ceiling(act)
    if ceiling is not None and isinstance(norm, nn.BatchNorm2d) and norm.training and _suits(x, norm):
        return _norm_act(x, norm.weight, norm.bias, norm.eps, ceiling)
    out: Tensor = act(norm(x))
    return out


def _ceiling(act: nn.Module) -> float | None:
    match act:
        case nn.ReLU6():
            return 6.0
        case nn.ReLU():
            return math.inf
        case _:
            return None


def _suits(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    return (
        norm.running_mean is None
        and x.requires_grad
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _NormAct(torch.autograd.Function):
    """Normalizes by the batch's own statistics, then limits to [0, ceiling].

    The activation's gradient is computed from its output, which the next layer keeps anyway; torch would keep a copy of
    the input of an in-place ReLU6.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ceiling: float) -> Tensor:
        if x.numel() < _CHUNK:
            out, mean, inverse = torch.native_batch_norm(
                x, weight, bias, None, None, training=True, momentum=0.0, eps=eps
            )
            out.clamp_(0, ceiling)
        else:
            mean, variance = _statistics(x)
            inverse = (variance + eps).rsqrt()
            scale = weight * inverse
            out = _scaled(x, scale, bias - mean * scale, ceiling)
        ctx.save_for_backward(x, out, weight, mean, inverse)
        ctx.eps, ctx.ceiling = eps, ceiling
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, out, weight, mean, inverse = ctx.saved_tensors
        grad = torch.ops.aten.hardtanh_backward(grad, out, 0.0, ctx.ceiling)
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse, train=True, eps=ctx.eps, output_mask=[True, True, True]
        )
        return (*grads, None, None)


_norm_act: Callable[..., Tensor] = _NormAct.apply


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel."""
    channels = x.shape[1]
    if channels > _FEW:
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        return mean, variance
    # Each position in a row is a channel of its own; statistics are combined as in Chan, Golub & LeVeque 1983.
    rows = _rows(x).t()[None, :, :, None]
    means, variances = (part.view(-1, channels) for part in torch.batch_norm_update_stats(rows, None, None, 0.0))
    mean = means.mean(0)
    return mean, (variances + (means - mean).square()).mean(0)


def _scaled(x: Tensor, scale: Tensor, shift: Tensor, ceiling: float) -> Tensor:
    out = torch.empty_like(x)
    rows, made = _rows(x), _rows(out)
    length = rows.shape[1]
    scale, shift = (each.repeat(length // len(each)) for each in (scale, shift))
    count = max(1, _CHUNK // length)
    for part, target in zip(torch.split(rows, count), torch.split(made, count), strict=True):
        torch.addcmul(shift, part, scale, out=target).clamp_(0, ceiling)
    return out


def _rows(x: Tensor) -> Tensor:
    """A view of a channels-last map whose rows hold as many pixels as give `_ROW` elements, if the pixels are
    divisible."""
    count, channels, height, width = x.shape
    pixels, together = count * height * width, 1
    while channels * together < _ROW and pixels % (2 * together) == 0:
        together *= 2
    return x.permute(0, 2, 3, 1).reshape(-1, together * channels)
