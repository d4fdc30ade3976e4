"""Groups of tensor dimensions that share one channel order, for every family."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest

from paretofit.models.architecture import Architecture, Block
from paretofit.models.build import build
from paretofit.models.channel_groups import ChannelGroup, channel_groups
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.basic import Classifier, Conv
from paretofit.models.trace import Layer, Shape, Size, conv
from tests.models.forms import DEEP, FORMS

GROUPS = {
    "fd_mobilenet": 12,  # The stem and 11 pointwise convolutions.
    "mobilenet_v1": 14,
    "mobilenet_v2": 1 + 16 + 7 + 1,  # Stem, expanded channels, one stream per stage, last convolution.
    "resnet18": 8 + 4,  # Inner channels of each block, and one stream per stage, where the stem belongs to the first.
    "resnet34": 16 + 4,
    "resnet50": 2 * 16 + 4 + 1,
    "resnet101": 2 * 33 + 4 + 1,
    "resnet152": 2 * 50 + 4 + 1,
    "resnext50_32x4d": 16 + 4 + 1,  # A grouped convolution keeps the order of its input.
    "vgg16": 13,
    "wrn_10_1": 3 + 3,
    "wrn_28_10": 12 + 3 + 1,
    "shufflenet_v1": 0,
    "fd_shufflenet": 0,
    "scalenet50": 0,
}


def by_name(network: Architecture) -> dict[str, ChannelGroup]:
    return {group.name: group for group in channel_groups(network)}


@pytest.mark.parametrize(("family", "expected"), GROUPS.items())
def test_number_of_groups_by_family(family: str, expected: int) -> None:
    assert len(channel_groups(architecture(family))) == expected


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in DEEP else ()) for name in FORMS])
def test_groups_cover_each_dimension_exactly_once(name: str) -> None:
    network = FORMS[name]
    tensors = build(network, "meta").state_dict()
    groups = channel_groups(network)
    covered = Counter(
        (tensor, dim) for group in groups for dim, names in ((0, group.rows), (1, group.columns)) for tensor in names
    )
    assert set(covered.values()) <= {1}
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        assert group.columns
        assert group.channels % group.unit == 0
        assert {tensors[tensor].shape[0] for tensor in group.rows} == {group.channels}
        assert {tensors[tensor].shape[1] for tensor in group.columns} == {group.channels}


@pytest.mark.parametrize("family", [name for name, count in GROUPS.items() if count])
def test_only_image_channels_and_classes_are_fixed(family: str) -> None:
    network = architecture(family, classes=10)
    tensors = build(network, "meta").state_dict()
    covered = {
        (tensor, dim)
        for group in channel_groups(network)
        for dim, names in ((0, group.rows), (1, group.columns))
        for tensor in names
    }
    grouped = {
        f"{layer.name}.weight" for layer in network.layers((224, 224)) if layer.op == "conv" and layer.groups > 1
    }
    fixed = {
        (name, dim)
        for name, tensor in tensors.items()
        for dim in range(min(tensor.dim(), 2))
        if (name, dim) not in covered and not (name in grouped and dim == 1)
    }
    last = f"blocks.{len(network.blocks) - 1}.linear"
    assert fixed == {("blocks.0.conv.weight", 1), (f"{last}.weight", 0), (f"{last}.bias", 0)}


def test_depthwise_convolution_shares_the_order_of_its_input() -> None:
    group = by_name(architecture("mobilenet_v1"))["blocks.0.conv"]
    leaves = ("weight", "bias", "running_mean", "running_var")
    assert group.rows == (
        "blocks.0.conv.weight",
        *(f"blocks.0.norm.{leaf}" for leaf in leaves),
        "blocks.1.depthwise.conv.weight",
        *(f"blocks.1.depthwise.norm.{leaf}" for leaf in leaves),
    )
    assert group.columns == ("blocks.1.pointwise.conv.weight",)


def test_identity_shortcuts_share_one_stream() -> None:
    groups = by_name(architecture("mobilenet_v2"))
    stream = groups["blocks.4.project.conv"]
    assert [name for name in stream.rows if name.endswith("conv.weight")] == [
        f"blocks.{i}.project.conv.weight" for i in (4, 5, 6)
    ]
    assert stream.columns == tuple(f"blocks.{i}.expand.conv.weight" for i in (5, 6, 7))


def test_projection_shortcut_shares_the_order_of_the_body() -> None:
    groups = by_name(architecture("resnet18"))
    stream = groups["blocks.4.second.conv"]
    assert [name for name in stream.rows if name.endswith("conv.weight")] == [
        "blocks.4.second.conv.weight",
        "blocks.4.shortcut.conv.weight",
        "blocks.5.second.conv.weight",
    ]
    assert stream.columns == (
        "blocks.5.first.conv.weight",
        "blocks.6.first.conv.weight",
        "blocks.6.shortcut.conv.weight",
    )
    assert groups["blocks.0.conv"].columns == (
        "blocks.2.first.conv.weight",
        "blocks.3.first.conv.weight",
        "blocks.4.first.conv.weight",
        "blocks.4.shortcut.conv.weight",
    )


def test_preactivation_projection_reads_the_activated_input() -> None:
    groups = by_name(architecture("wrn_10_2", nominal=32))
    assert groups["blocks.0.conv"].columns == ("blocks.1.shortcut.weight", "blocks.1.conv1.weight")
    assert groups["blocks.1.shortcut"].rows[0] == "blocks.1.shortcut.weight"
    assert "blocks.1.conv2.weight" in groups["blocks.1.shortcut"].rows
    assert "blocks.2.norm1.running_var" in groups["blocks.1.shortcut"].rows


def test_grouped_convolution_moves_whole_groups() -> None:
    network = architecture("resnext50_32x4d")
    units = {group.name: group.unit for group in channel_groups(network)}
    assert (units["blocks.2.reduce.conv"], units["blocks.5.reduce.conv"], units["blocks.15.reduce.conv"]) == (4, 8, 32)
    assert units["blocks.2.expand.conv"] == 1


def test_grouped_convolution_with_channel_change_is_fixed() -> None:
    network = Architecture(
        "grouped",
        nominal=8,
        channels=3,
        classes=4,
        blocks=(
            Conv(3, 8, 3, 1, 1, norm=True, activation="relu"),
            Conv(8, 16, 3, 1, 4, norm=True, activation="relu"),
            Conv(16, 6, 1, 1, 1, norm=False, activation="none"),
            Classifier(6, 4),
        ),
    )
    assert [group.name for group in channel_groups(network)] == ["blocks.2.conv"]


@dataclass(frozen=True, slots=True)
class Misdeclared(Block):
    kind: ClassVar[str] = "test_misdeclared"
    module: ClassVar[str] = "paretofit.models.blocks:ConvUnit"
    permutable: ClassVar[bool] = True

    in_channels: int
    out_channels: int
    reads: str

    def layers(self, size: Size) -> tuple[Layer, ...]:
        x = Shape(self.in_channels, *size)
        return conv("first", x, self.out_channels), conv("second", x, self.out_channels, reads=(self.reads,))


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ("third", r"blocks\.0\.second reads 'third', which is not an earlier layer"),
        ("first", r"blocks\.0\.second has 3 input channels, but reads a tensor of 5: correct its `reads`"),
    ],
)
def test_misdeclared_reads_are_rejected(reads: str, message: str) -> None:
    network = Architecture("misdeclared", 8, 3, 4, (Misdeclared(3, 5, reads), Classifier(5, 4)))
    with pytest.raises(ValueError, match=message):
        channel_groups(network)


def test_non_permutable_kinds_fix_the_order_of_inputs_and_outputs() -> None:
    network = FORMS["vgg16 compressed gray"]
    adaptors = [i for i, block in enumerate(network.blocks) if not block.permutable]
    groups = channel_groups(network)
    assert len(groups) == 13 - len(adaptors)
    assert not {f"blocks.{i - 1}.conv" for i in adaptors} & {group.name for group in groups}
    columns = {name for group in groups for name in group.columns}
    assert not {f"blocks.{i + 1}.conv.weight" for i in adaptors} & columns
