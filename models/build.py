"""Builds a torch module from an Architecture."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn

from paretofit.models.architecture import Architecture, Block


class Network(nn.Module):
    """An architecture's blocks in sequence: images [N, C, H, W] -> logits [N, classes]."""

    record: dict[str, Any] | None = None
    """The record of a network that was loaded from a checkpoint."""

    def __init__(self, architecture: Architecture, modules: Iterable[nn.Module] | None = None) -> None:
        """`modules`: the blocks' modules, if they exist already."""
        super().__init__()
        self.architecture = architecture
        self.blocks = nn.Sequential(*(map(module, architecture.blocks) if modules is None else modules))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


def build(architecture: Architecture, device: torch.device | str | None = None) -> Network:
    """The network, freshly initialized from torch's generator, in training mode. `device` may be `meta`."""
    with torch.device(device if device is not None else torch.get_default_device()):
        return Network(architecture)


def module(block: Block) -> nn.Module:
    """The freshly initialized torch module of a block, in training mode."""
    package, _, name = block.module.partition(":")
    return cast("nn.Module", getattr(import_module(package), name)(block))
