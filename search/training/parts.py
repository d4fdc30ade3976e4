"""A step's batch in parts, one after another: gradients are added up, memory is that of one part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from paretofit.search.data.loader import Batch
from paretofit.search.training.loop import Update

Scale = Callable[[Tensor], Tensor]
Passes = Callable[[int, Batch, Scale], dict[str, Tensor]]
"""Adds the gradients of a step's batch, whose losses it scales before each backward; returns the losses unscaled:
scalars, means over the batch, that stay on the device."""


def in_parts(passes: Passes, *, parts: int, batch_size: int, scaler: GradScaler) -> Update:
    """An update whose gradients, and losses, are means over `batch_size` images, if all of them come: those of a batch
    cut in `parts`, on every rank.

    Batch normalisation sees one part at a time (as it does under data parallelism).
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
