"""Batched evaluation of networks gives the same results as separate evaluation."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models.architecture import Architecture
from paretofit.models.families.registry import architecture, stages
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search import evaluation
from paretofit.search.data.loader import Batch
from paretofit.search.training.batched_evaluator import BatchedEvaluator

FAMILIES = ("fd_mobilenet", "mobilenet_v2", "resnet18", "resnet50", "resnext50_32x4d", "vgg16", "wrn_10_1")
SIZE = (24, 20)


def network(family: str, width: float | tuple[float, ...] = 1.0) -> Architecture:
    return architecture(family, width=width, slimmable=True, base_width=0.25, nominal=32, classes=5, channels=1)


def _forward(shared: Slimmable, sub: Architecture, images: Tensor) -> Tensor:
    out: Tensor = shared(images, sub)
    return out


def batches(seed: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = (torch.randn(8, 1, *SIZE, generator=generator) for _ in range(count))
    return [x.contiguous(memory_format=torch.channels_last) for x in images]


@pytest.mark.parametrize("family", FAMILIES)
def test_batched_statistics_and_accuracies_equal_separate_evaluation(family: str) -> None:
    torch.manual_seed(0)
    shared = Slimmable(network(family)).eval()
    convert_conv2d_weight_memory_format(shared, torch.channels_last)
    mixed = tuple(1.0 if stage % 2 else 0.5 for stage in range(stages(family)))
    subs = [network(family, width) for width in (0.5, 0.75, 1.0, mixed)]
    calibration = batches(1, 3)
    labelled = [Batch(images, torch.arange(8) % 5) for images in batches(2, 2)]

    expected = []
    with torch.no_grad():
        for sub in subs:
            shared.calibrate(sub, calibration)
            expected.append(evaluation.accuracy(partial(_forward, shared, sub), labelled))
    statistics = {key: entry.clone() for key, entry in shared.bank.items()}
    shared.bank.clear()

    together = BatchedEvaluator(shared, subs, SIZE)
    assert not shared.bank
    together.calibrate(calibration)
    assert together.accuracies(labelled) == expected
    assert shared.bank.keys() == statistics.keys()
    assert all(torch.equal(shared.bank[key], entry) for key, entry in statistics.items())


def test_shared_leading_blocks_are_computed_once() -> None:
    full = network("fd_mobilenet")
    subs = list(dict.fromkeys(network("fd_mobilenet", 0.25 + 0.05 * step) for step in range(16)))
    shared = Slimmable(full).eval()
    together = BatchedEvaluator(shared, subs, SIZE)
    counted: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: object) -> None:
        counted[module] = counted.get(module, 0) + 1

    handle = nn.modules.module.register_module_forward_hook(count)
    try:
        together.calibrate(batches(0, 2))
    finally:
        handle.remove()
    convolutions = {
        (sub.blocks[: int(layer.name.split(".")[1]) + 1], layer.name)
        for sub in subs
        for layer in sub.layers(SIZE)
        if layer.op == "conv"
    }
    computed = [module for module in counted if isinstance(module, nn.Conv2d)]
    assert len(computed) == len(convolutions) < 0.8 * len(subs) * sum(layer.op == "conv" for layer in full.layers(SIZE))
    assert set(counted.values()) == {2}
