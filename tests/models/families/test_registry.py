"""Families by name: what each table gives, and what is said of a name that is not there."""

from __future__ import annotations

import pytest

from models.families.registry import FAMILIES, architecture
from models.trace import Layer


def _strides(family: str, nominal: int) -> list[int]:
    layers = architecture(family, nominal=nominal).layers((nominal, nominal))
    spatial: list[Layer] = [layer for layer in layers if layer.op == "conv" and layer.kernel == 3]
    return [layer.stride for layer in spatial]


def test_fd_mobilenet_table() -> None:
    """FD-MobileNet (arXiv 1802.03750), table 1."""
    network = architecture("fd_mobilenet")
    channels = [block.out_channels for block in network.blocks]
    assert channels == [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 1024, 1000]
    assert _strides("fd_mobilenet", 224) == [2, 2, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]


def test_mobilenet_v1_table() -> None:
    """MobileNets (arXiv 1704.04861), table 1."""
    network = architecture("mobilenet_v1")
    channels = [block.out_channels for block in network.blocks]
    assert channels == [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024, 1000]
    assert _strides("mobilenet_v1", 224) == [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


@pytest.mark.parametrize(("family", "activation"), [("mobilenet_v1", "relu6"), ("fd_mobilenet", "relu")])
def test_activations(family: str, activation: str) -> None:
    ops = {layer.op for layer in architecture(family).layers((224, 224))}
    assert ops == {"conv", "batch_norm", activation, "global_pool", "linear"}


@pytest.mark.parametrize(
    ("family", "nominal", "last_side"),
    [
        ("fd_mobilenet", 224, 7),
        ("fd_mobilenet", 64, 4),
        ("fd_mobilenet", 32, 4),
        ("mobilenet_v1", 64, 4),
        ("mobilenet_v1", 32, 4),
        ("wrn_28_10", 32, 8),
    ],
)
def test_last_map_at_the_nominal_size(family: str, nominal: int, last_side: int) -> None:
    layers = architecture(family, nominal=nominal).layers((nominal, nominal))
    (pool,) = (layer for layer in layers if layer.op == "global_pool")
    assert pool.input.size == (last_side, last_side)


def test_the_earliest_strides_go_first() -> None:
    assert _strides("fd_mobilenet", 32) == [1, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]


def test_base_width_is_the_full_network() -> None:
    """The channels at width 1, of which the smaller widths are multiples of 8."""
    full = architecture("fd_mobilenet", slimmable=True, base_width=0.25)
    narrow = architecture("fd_mobilenet", slimmable=True, base_width=0.25, width=0.25)
    assert [block.out_channels for block in full.blocks][:-1] == [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 256]
    assert [block.out_channels for block in narrow.blocks][:-1] == [8, 8, 8, 8, 16, 16, 32, 32, 32, 32, 32, 64]


def test_widths_up_to_one_keep_the_multiples_of_the_full_network() -> None:
    assert architecture("mobilenet_v1", slimmable=True) == architecture("mobilenet_v1")


@pytest.mark.parametrize(
    ("family", "blocks", "channels"),
    [("wrn_10_1", 3, [16, 16, 32, 64]), ("wrn_28_10", 12, [16, 160, 320, 640]), ("wrn_40_2", 18, [16, 32, 64, 128])],
)
def test_wide_resnet_table(family: str, blocks: int, channels: list[int]) -> None:
    """WideResNet (arXiv 1605.07146), table 1: a stem, three groups, a final normalisation."""
    network = architecture(family, nominal=32)
    assert [block.kind for block in network.blocks].count("preactivation_basic") == blocks
    assert len(network.blocks) == blocks + 3
    assert sorted({block.out_channels for block in network.blocks[:-1]}) == sorted(set(channels))
    convolutions = [layer for layer in network.layers((32, 32)) if layer.op == "conv" and layer.kernel == 3]
    assert sum(layer.stride == 2 for layer in convolutions) == 2


def test_projections_are_the_same_at_every_width() -> None:
    wide, narrow = (architecture("wrn_10_2", width=width, nominal=32) for width in (1.0, 0.25))
    assert narrow.blocks[1].in_channels == narrow.blocks[1].out_channels == 8
    names = [[layer.name for layer in network.layers((32, 32))] for network in (wide, narrow)]
    assert names[0] == names[1]


@pytest.mark.parametrize("family", ["resnet50", "", "FD_MobileNet", "wrn_28", "wrn_28_10x", "wrn_D_K"])
def test_an_unknown_name_lists_those_there_are(family: str) -> None:
    with pytest.raises(ValueError, match=r"unknown family .*fd_mobilenet, mobilenet_v1, wrn_D_K"):
        architecture(family)


@pytest.mark.parametrize("family", ["wrn_27_10", "wrn_4_1", "wrn_6_2"])
def test_a_depth_that_makes_no_wide_resnet_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match=f"{family}: the depth must be 6 n \\+ 4"):
        architecture(family)


def test_every_family_says_where_it_is_from() -> None:
    assert all("arXiv" in family.paper and family.title for family in FAMILIES.values())
