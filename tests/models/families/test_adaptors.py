"""Positions of shape adaptors, and the blocks that surround them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from paretofit.models.architecture import Architecture
from paretofit.models.build import build
from paretofit.models.cost import cost
from paretofit.models.families.adaptors import Placement, adapted, places
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import Rule, Shape, adaptors, shaped
from paretofit.models.kinds.basic import Conv
from paretofit.models.kinds.inverted import InvertedResidual
from paretofit.models.kinds.pooling import MaxPool
from paretofit.models.kinds.shape_adaptor import Chain, ShapeAdaptor


def units_before(network: Architecture) -> list[int]:
    """For each adaptor, the zero-based index of the unit that it follows or belongs to."""
    found, unit = [], -1
    for block in network.blocks:
        if isinstance(block, ShapeAdaptor):
            unit += isinstance(block.keep, Conv | Chain)
            found.append(unit)
        else:
            unit += block.kind not in {"max_pool", "norm"}
    return found


@pytest.mark.parametrize(
    ("family", "placement", "positions"),
    [
        ("vgg16", "replace", [0, 3, 6, 9]),
        ("vgg16", "replace", [0, 2, 4, 6, 8, 10]),
        # Blocks are numbered from 1, and 0 is the stem.
        ("resnet50", "replace", [0, 4, 8, 12]),
        ("resnet50", "replace", [0, 2, 5, 8, 10, 13]),
        ("mobilenet_v2", "replace", [0, 4, 9, 13]),
        ("mobilenet_v2", "replace", [0, 3, 6, 9, 12, 15]),
        ("vgg16", "add", [0, 7]),
        ("vgg16", "add", [0, 4, 7, 10]),
        ("mobilenet_v1", "replace", [0, 3, 6, 9]),
        ("wrn_16_4", "replace", [0, 1, 3, 4]),
    ],
)
@pytest.mark.parametrize("nominal", [32, 224])
def test_adaptor_positions(family: str, placement: Placement, positions: list[int], nominal: int) -> None:
    """Liu et al. (arXiv 2008.00892), appendix: VGG-16, ResNet-50, MobileNetV2; other families by the same rule."""
    network = adapted(architecture(family, nominal=nominal), len(positions), placement)
    assert units_before(network) == positions


def test_only_adaptors_resize_maps() -> None:
    for family in ("vgg16", "resnet50", "mobilenet_v2", "shufflenet_v1", "wrn_16_4", "fd_mobilenet"):
        network = adapted(architecture(family), 4)
        shape = Shape(((224, 224),) * 4, (0.5,) * 4)
        last = shaped(network, shape).layers((224, 224))
        assert {layer.output.size for layer in last if not layer.name.partition(".down.")[1]} == {(224, 224), (1, 1)}
    stem = adapted(architecture("resnet50"), 4).blocks[0]
    assert isinstance(stem, ShapeAdaptor)
    assert isinstance(stem.keep, Conv)
    assert (stem.keep.kernel, stem.keep.stride) == (7, 1)


def test_adaptor_branches_by_family() -> None:
    """VGG and MobileNetV2: the map and its max-pool; ResNet: the body and the 1x1 convolution of stride 2, added up."""
    vgg = list(adaptors(adapted(architecture("vgg16"), 4)).values())
    assert {(block.keep, block.down, block.residual) for block in vgg[:1]} == {(None, MaxPool(64, 64, 2, 2), False)}
    resnet = list(adaptors(adapted(architecture("resnet50"), 4)).values())
    assert [block.residual for block in resnet] == [False, True, True, True]
    assert [block.activation for block in resnet] == ["none", "relu", "relu", "relu"]
    assert resnet[1].down == Conv(256, 512, 1, 2, 1, norm=True, activation="none")
    wide = adaptors(adapted(architecture("wrn_16_4"), 4))[2]
    assert wide.down == Conv(16, 64, 1, 2, 1, norm=False, activation="none")
    network = adapted(architecture("mobilenet_v2"), 4)
    for i in adaptors(network):
        block = network.blocks[i - 1]
        assert not isinstance(block, InvertedResidual) or not block.residual


def test_added_adaptors_keep_human_designed_resizing() -> None:
    human = architecture("vgg16", nominal=32)
    network = adapted(human, 2, "add")
    assert tuple(block for block in network.blocks if not isinstance(block, ShapeAdaptor)) == human.blocks
    assert (places(human, "add"), places(human, "replace"), places(human, "resizing")) == (8, 12, 5)


def test_resizing_blocks_are_unchanged_at_blend_zero() -> None:
    torch.manual_seed(0)
    for family in ("vgg16", "mobilenet_v2", "fd_mobilenet"):
        human = build(architecture(family, base_width=0.125, classes=10, nominal=64)).eval()
        for norm in human.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.uniform_(norm.weight, 0.5, 1.5)
        network = adapted(human.architecture, count := places(human.architecture, "resizing"), "resizing")
        sides = [64 >> i for i in range(1, count + 1)]
        with_adaptors = build(shaped(network, Shape(tuple((side, side) for side in sides), (0.0,) * count))).eval()
        with_adaptors.load_state_dict(dict(zip(with_adaptors.state_dict(), human.state_dict().values(), strict=True)))
        x = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(with_adaptors(x), human(x), rtol=1e-5, atol=1e-6)


def test_resnet_parameters_map_to_adaptors_in_order() -> None:
    """AutoTL: a pretrained network's parameters are copied in sequence."""
    human = architecture("resnet50")
    network = adapted(human, 5, "resizing")
    shapes = [[p.shape for p in build(each, "meta").parameters()] for each in (human, network)]
    assert shapes[0] == shapes[1]
    # Two in the stem, and the first block of three stages.
    assert list(adaptors(network)) == [1, 2, 6, 10, 16]


def test_vgg_costs_on_cifar() -> None:
    """Multiply-accumulates of the human-designed network, with all factors .9, and without resizing."""
    human = architecture("vgg16", nominal=32, classes=100)
    assert cost(human, (32, 32)).macs / 1e9 == pytest.approx(0.313, abs=5e-4)
    rule = Rule(adapted(human, 4), (32, 32))
    assert rule.macs(rule.sizes([math.log(4)] * 4)) / 1e9 == pytest.approx(6.54, abs=5e-3)
    assert rule.macs(((32, 32),) * 4) / 1e9 == pytest.approx(15.06, abs=5e-3)


@pytest.mark.parametrize(
    ("family", "count", "placement", "message"),
    [
        ("vgg16", 13, "replace", r"adaptors: vgg16 has places for 1 to 12 \(replace\), not 13"),
        ("vgg16", 0, "add", r"adaptors: vgg16 has places for 1 to 8 \(add\), not 0"),
        ("scalenet50", 4, "replace", "families: scalenet50 has no places .* scale_bottleneck"),
    ],
)
def test_impossible_placements_are_rejected(family: str, count: int, placement: Placement, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapted(architecture(family), count, placement)
