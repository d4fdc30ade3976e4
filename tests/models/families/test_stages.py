"""One width per stage of a family."""

from __future__ import annotations

import pytest
import torch

from paretofit.models.architecture import Architecture
from paretofit.models.build import build
from paretofit.models.cost import cost
from paretofit.models.families.registry import FAMILIES, architecture, stages
from paretofit.models.layers.slimmable import Slimmable

STAGES = {
    "fd_mobilenet": 6,
    "mobilenet_v1": 6,
    "mobilenet_v2": 8,
    "resnet18": 4,
    "resnet50": 4,
    "resnext50_32x4d": 4,
    "vgg16": 5,
    "wrn_16_1": 3,
    "wrn_16_4": 3,
}


def network(family: str, width: float | tuple[float, ...] = 1.0, base_width: float = 1.0) -> Architecture:
    return architecture(family, width=width, slimmable=True, base_width=base_width, nominal=32, classes=10)


@pytest.mark.parametrize(("family", "count"), STAGES.items())
def test_single_width_applies_to_every_stage(family: str, count: int) -> None:
    assert stages(family) == count
    for width in (0.3, 0.5, 1.0, 1.5):
        assert network(family, (width,) * count) == network(family, width)


@pytest.mark.parametrize(("family", "count"), STAGES.items())
def test_each_width_narrows_only_its_own_stage(family: str, count: int) -> None:
    full = network(family)
    narrowed = [network(family, tuple(0.25 if i == stage else 1.0 for i in range(count))) for stage in range(count)]
    assert len(set(narrowed)) == count
    for narrow in narrowed:
        assert full != narrow
        less, most = (cost(each, (32, 32)) for each in (narrow, full))
        assert less.macs < most.macs
        assert less.params < most.params
        assert less.peak_activation_bytes <= most.peak_activation_bytes


@pytest.mark.parametrize(("family", "count"), STAGES.items())
def test_stage_widths_are_slices_of_one_network(family: str, count: int) -> None:
    torch.manual_seed(0)
    mixed = network(family, tuple((0.5, 1.0, 0.75)[stage % 3] for stage in range(count)), 0.25)
    shared = Slimmable(network(family, 1.0, 0.25))
    x = torch.randn(4, 3, 24, 24)
    shared.calibrate(mixed, [x])
    shared.eval()
    with torch.no_grad():
        assert torch.equal(shared(x, mixed), shared.extract(mixed, (24, 24))(x))
    assert build(mixed, "meta").architecture == mixed


def test_mobilenet_v1_channels_by_stage_widths() -> None:
    channels = [block.out_channels for block in network("mobilenet_v1", (1, 0.5, 1, 0.5, 1, 0.25), 0.25).blocks]
    assert channels == [8, 8, 32, 32, 32, 32, *[128] * 6, 64, 64, 10]


def test_residual_stem_has_the_width_of_the_first_stage() -> None:
    stem, first, *_ = network("resnet18", (0.5, 1, 1, 1), 0.25).blocks
    assert (stem.out_channels, first.out_channels) == (8, 8)


def test_invalid_stage_widths_are_rejected() -> None:
    with pytest.raises(ValueError, match="one multiplier, or one for each of 6 stages, not 2"):
        architecture("fd_mobilenet", width=(1, 0.5), slimmable=True)
    with pytest.raises(ValueError, match=r"width must be a positive number, not -1"):
        architecture("vgg16", width=(1, 1, -1, 1, 1), slimmable=True)
    with pytest.raises(ValueError, match="one width per stage requires a slimmable network"):
        architecture("vgg16", width=(1,) * 5)
    for family, known in FAMILIES.items():
        if not known.slimmable:
            with pytest.raises(ValueError, match=f"{family} is not slimmable: choose one of fd_mobilenet"):
                stages(family)
