"""One training step: floating-point type, gradients, and gradient accumulation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn import functional as F

from paretofit.search.data.loader import Batch

Precision = Literal["auto", "float32", "bfloat16", "float16"]


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The autocast dtype of passes on a device; None: no autocast.

    `auto` is bfloat16 on GPUs that support it; CPUs use float32, which is faster with AVX2. Raises ValueError for
    bfloat16 on a GPU without it.
    """
    cuda_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    match precision:
        case "auto":
            return torch.bfloat16 if cuda_bfloat16 else None
        case "float32":
            return None
        case "bfloat16":
            if device.type == "cuda" and not cuda_bfloat16:
                raise ValueError("precision: this GPU does not support bfloat16; use float16, float32 or auto")
            return torch.bfloat16
        case "float16":
            return torch.float16


def grad_scaler(dtype: torch.dtype | None, device: torch.device) -> GradScaler:
    """Gradient scaler for float16, whose gradients would underflow unscaled; no effect for other types."""
    return GradScaler(device.type, enabled=dtype is torch.float16)


class Losses(NamedTuple):
    """Scalars on the device: cross-entropy of the full network, KL divergence summed over the others."""

    teacher: Tensor
    students: Tensor


def sandwich_loss_backward(
    teacher: Callable[[], Tensor],
    students: Sequence[Callable[[], Tensor]],
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Losses:
    """Add the step's gradients to the parameters: one forward and backward pass per network, in sequence, so that only
    one network's activations are in memory.

    Each callable returns logits [batch, classes]. The students' loss is KL(teacher || student) at temperature 1, weight
    1, without labels; the teacher's softmax is computed once and detached. `scale` multiplies each loss before its
    backward pass, not the returned ones.
    """
    scaled = scale or (lambda loss: loss)
    logits = teacher()
    loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    torch.autograd.backward(scaled(loss))
    target = F.log_softmax(logits.detach(), dim=1)
    distilled = loss.new_zeros(())
    for student in students:
        divergence = F.kl_div(F.log_softmax(student(), dim=1), target, reduction="batchmean", log_target=True)
        torch.autograd.backward(scaled(divergence))
        distilled += divergence.detach()
    return Losses(loss.detach(), distilled)


Scale = Callable[[Tensor], Tensor]
Update = Callable[[int, Batch], dict[str, Tensor]]
"""Adds the gradients of a step's batch and returns its losses: scalars on the device."""
Passes = Callable[[int, Batch, Scale], dict[str, Tensor]]
"""Adds the gradients of a step's batch and scales its losses before each backward pass; returns the unscaled losses:
scalars on the device, means over the batch."""


def accumulate_gradients(passes: Passes, *, parts: int, batch_size: int, scaler: GradScaler) -> Update:
    """An update whose gradients and losses are means over `batch_size` images: those of a batch split into `parts`, on
    every rank.

    Batch norm sees one part at a time (as with data parallelism).
    """

    def update(step: int, batch: Batch) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        for images, labels in zip(batch.images.tensor_split(parts), batch.labels.tensor_split(parts), strict=True):
            share = len(labels) / batch_size
            losses = passes(step, Batch(images, labels), partial(_scaled, scaler, share))
            for name, loss in losses.items():
                sums[name] = sums[name] + loss * share if name in sums else loss * share
        return sums

    return update


def _scaled(scaler: GradScaler, share: float, loss: Tensor) -> Tensor:
    return scaler.scale(loss * share)
