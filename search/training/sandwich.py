"""The training step of MutualNet: the full network learns the labels, three others learn the full network.

Source: Yang et al., MutualNet (arXiv 1909.12978), Algorithm 1; the sandwich rule is US-Net's (arXiv 1903.05134), which
is this step at a single resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from paretofit.models.families.scaling import Width


class Draw(NamedTuple):
    """A sub-network of one step: its width multiplier, or those of its stages, and its resolution, pixels."""

    width: Width
    resolution: int


class Losses(NamedTuple):
    """Scalars on the device: cross-entropy of the full network, KL divergence summed over the others."""

    teacher: Tensor
    students: Tensor


def draw(
    seed: int,
    step: int,
    *,
    widths: tuple[float, float],
    resolutions: Sequence[int],
    random_widths: int,
    stages: int | None = None,
) -> list[Draw]:
    """The sub-networks of a step: the smallest width, then `random_widths` uniform in `widths`, each with a resolution
    of its own; with `stages` each stage draws a width, and the smallest network is that whose stages are all smallest.
    A function of (seed, step), so the same after a resume and on every rank."""
    random = Random(f"sandwich:{seed}:{step}")
    smallest, largest = widths

    def uniform() -> Width:
        if stages is None:
            return random.uniform(smallest, largest)
        return tuple(random.uniform(smallest, largest) for _ in range(stages))

    chosen: list[Width] = [smallest if stages is None else (smallest,) * stages]
    chosen += [uniform() for _ in range(random_widths)]
    return [Draw(width, random.choice(resolutions)) for width in chosen]


def backward(
    teacher: Callable[[], Tensor],
    students: Sequence[Callable[[], Tensor]],
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    scale: Callable[[Tensor], Tensor] | None = None,
) -> Losses:
    """Add the step's gradients to the parameters: one forward and backward for each network, one after another, so
    that no more than one's activations are held.

    Each callable gives logits [batch, classes]. The students' loss is KL(teacher || student) at temperature 1, weight
    1, without labels; the teacher's softmax is computed once and detached. `scale` is put on each loss before its
    backward, not on those returned.
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
