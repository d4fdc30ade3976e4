"""A short network of each family in its state after training: normalizations have distinct statistics."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from torch import nn

from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.families.registry import FAMILIES, architecture
from paretofit.models.kinds.basic import Classifier

SIDE = 32
_BLOCKS = 5
_NAMES = {"wrn_D_K": "wrn_10_1", "scalenet": "scalenet20"}
_NARROW: dict[str, dict[str, Any]] = {
    "resnext50_32x4d": {"width": 0.5},
    "fd_shufflenet": {"width": 0.25},
    "shufflenet_v1": {"width": 0.25},
}


def short(family: str) -> Architecture:
    """The beginning of a network for 32 pixels, one channel and ten classes, with the first of repeated blocks."""
    narrow = _NARROW.get(family, {"base_width": 0.125})
    full = architecture(_NAMES.get(family, family), nominal=SIDE, classes=10, channels=1, **narrow)
    *body, classifier = (block for block, _ in groupby(full.blocks))
    assert isinstance(classifier, Classifier)
    kept = body[:_BLOCKS]
    return replace(full, blocks=(*kept, replace(classifier, in_channels=kept[-1].out_channels)))


def _kinds(architecture: Architecture) -> frozenset[str]:
    return frozenset(type(block).__name__ for block in architecture.blocks)


DISTINCT = {_kinds(short(family)): family for family in FAMILIES}
"""One family for each kind of block."""


def network(family: str) -> Network:
    """`short(family)` in evaluation mode."""
    built = build(short(family))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in built.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return built.eval()
