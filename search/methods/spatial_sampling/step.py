"""Training step: cross-entropy of a network with soft masks, plus a sparsity loss.

Source: Xie et al. (arXiv 2003.08866).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretofit.models.architecture import Architecture
from paretofit.models.kinds.sampling import Sampled, sampled_blocks
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.layers.spatial_sampling import Sampling, samplings, set_temperature
from paretofit.models.trace import Size
from paretofit.search.contracts.trial import Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams
from paretofit.search.training.distributed import current
from paretofit.search.training.step import Scale, autocast_dtype


class Sparsity:
    """Sparsity loss, from the logits of all masks in one pass."""

    def __init__(self, trial: Trial, config: dict[str, Any], architecture: Architecture, size: Size) -> None:
        self._params = trial.spec.params(SpatialSamplingParams)
        blocks = sampled_blocks(architecture)
        # In a block with two masks the second controls more convolutions.
        shares = [share for block in blocks for share in ((0.25, 0.75) if len(block.densities) == 2 else (1.0,))]
        macs = _dense_macs(architecture, size)
        # On the device from the start, because a copy at each step would synchronize the host.
        self._shares = torch.tensor(shares, device=trial.device) / len(blocks)
        self._macs = torch.tensor([each / sum(macs) for each in macs], device=trial.device)
        self._gamma: float | None = config.get("gamma")
        self._density: float = config.get("density", 1.0)

    def __call__(self, masks: list[Sampling], logits: list[Tensor], progress: float) -> tuple[Tensor, Tensor]:
        """The loss after a fraction of the training, and the expected share of the sampled convolutions'
        multiply-accumulates."""
        expected = torch.stack([mask.probabilities(found).mean() for mask, found in zip(masks, logits, strict=True)])
        density = (expected * self._macs).sum()
        if self._gamma is None:
            return self._params.density_weight * (density - target(self._density, progress)).square(), density
        means = torch.stack([mask.sigmoids(found).mean() for mask, found in zip(masks, logits, strict=True)])
        return self._gamma * (self._shares * means).sum(), density


class Step:
    """Adds the gradients of successive steps. Noise is a function of (seed, step, rank) and the temperature one of the
    step, so neither is saved."""

    def __init__(self, trial: Trial, network: Slimmable, config: dict[str, Any], size: Size, steps: int) -> None:
        self._params = trial.spec.params(SpatialSamplingParams)
        self._seed = trial.seed
        self._network = network
        self._size = size
        self._steps = steps
        self._last = -1
        self._masks = list(samplings(network))
        self._sparsity = Sparsity(trial, config, network.architecture, size)

    def __call__(self, index: int, batch: Batch, scale: Scale) -> dict[str, Tensor]:
        """Returns the losses, on the device."""
        params = self._params
        if index != self._last:
            self._begin(index)
        images = resize(batch.images, self._size, antialias=params.antialias)
        images = images.contiguous(memory_format=torch.channels_last)
        dtype = autocast_dtype(params.precision, images.device)
        with _logits(self._masks) as found, torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            out = self._network(images)
        loss = F.cross_entropy(out.to(images.dtype), batch.labels, label_smoothing=params.label_smoothing)
        sparsity, density = self._sparsity(self._masks, found, index / max(1, self._steps))
        torch.autograd.backward(scale(loss + sparsity))
        return {"loss": loss.detach(), "sparsity_loss": sparsity.detach(), "density": density.detach()}

    def _begin(self, index: int) -> None:
        # Once for all parts of a step.
        self._last = index
        named = f"masks:{self._seed}:{index}:{current().rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(named.encode()).digest()[:4], "big"))
        set_temperature(self._network, temperature(index, self._steps, self._params.final_temperature))


def temperature(index: int, steps: int, last: float) -> float:
    """From 1 at step 0 by a constant factor to `last` at `steps`."""
    return float(last ** (index / max(1, steps)))


def target(density: float, progress: float) -> float:
    """Target of the expected density after a fraction of the training: from 1 to `density` in its first half, along a
    cosine.

    Applied from the first step, the target would close the masks of the last blocks before the network uses them, and a
    closed mask has no gradient. Verelst & Tuytelaars (CVPR 2020, arXiv 1912.03203) anneal block bounds in the same way.
    """
    return density + (1 - density) * (1 + math.cos(math.pi * min(1.0, 2 * progress))) / 2


@contextmanager
def _logits(masks: list[Sampling]) -> Iterator[list[Tensor]]:
    """Probabilities of every mask of a pass, float32."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: object, logits: Tensor) -> None:
        del module, given
        found.append(logits.float())

    hooks = [mask.predict.register_forward_hook(keep) for mask in masks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _dense_macs(architecture: Architecture, size: Size) -> list[float]:
    """Multiply-accumulates of each mask's convolutions."""
    found: list[float] = []
    for block in architecture.blocks:
        layers = block.layers(size)
        if isinstance(block, Sampled):
            found += map(float, block.dense_macs(size))
        size = layers[-1].output.size
    return found
