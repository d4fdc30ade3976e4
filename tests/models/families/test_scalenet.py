"""ScaleNet: published tables, depths, narrow forms, and errors for invalid structures."""

from __future__ import annotations

import pytest
import torch

from paretofit.models.architecture import Architecture
from paretofit.models.families.registry import FAMILIES, architecture
from paretofit.models.families.structures import PUBLISHED, Structure, even, from_line, scaled, written
from paretofit.models.kinds.aggregation import ScaleBasic, ScaleBottleneck, aggregations
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.trace import Layer


def widths(network: Architecture) -> list[dict[int, int]]:
    return [dict(zip(block.scales, block.widths, strict=True)) for block in aggregations(network).values()]


@pytest.mark.parametrize(
    ("name", "blocks"), [("scalenet50", 16), ("scalenet50_light", 16), ("scalenet101", 33), ("scalenet152", 50)]
)
def test_published_tables(name: str, blocks: int) -> None:
    table = widths(architecture(name))
    assert len(table) == blocks
    for row, branches in zip(PUBLISHED[name], table, strict=True):
        # A scale with zero channels has no branch.
        assert branches == {scale: width for scale, width in zip((1, 2, 4, 7), row, strict=False) if width}


@pytest.mark.parametrize(
    ("name", "sums"), [("scalenet50", {88, 175, 349, 697}), ("scalenet50_light", {64, 128, 256, 512})]
)
def test_channels_of_a_block_are_a_constant_multiple_of_its_planes(name: str, sums: set[int]) -> None:
    """ScaleNet (arXiv 1904.09460), section 3.2."""
    assert {sum(row[:4]) for row in PUBLISHED[name]} == sums


def test_branches_pooled_to_one_pixel_have_1x1_kernels() -> None:
    light = architecture("scalenet50_light")
    kernels = [dict(zip(a.scales, a.kernels, strict=True)) for a in aggregations(light).values()]
    assert [kernel.get(7) for kernel in kernels] == [3, 3, None, 3, 3, None, 3, 3, 3, 3, 3, 3, 3, None, 1, 1]
    assert all(kernel == 3 for each in kernels for scale, kernel in each.items() if scale < 7)
    own = architecture("scalenet50", structure=tuple(row[:4] for row in PUBLISHED["scalenet50_light"]))
    assert {kernel for a in aggregations(own).values() for kernel in a.kernels} == {3}


@pytest.mark.parametrize(
    ("name", "blocks", "kind"),
    [
        ("scalenet18", 8, ScaleBasic),
        ("scalenet34", 16, ScaleBasic),
        ("scalenet50", 16, ScaleBottleneck),
        ("scalenet101", 33, ScaleBottleneck),
        ("scalenet152", 50, ScaleBottleneck),
        ("scalenet20", 9, ScaleBasic),
        ("scalenet38", 18, ScaleBasic),
        ("scalenet56", 27, ScaleBasic),
    ],
)
def test_blocks_by_depth(name: str, blocks: int, kind: type) -> None:
    assert name in FAMILIES
    assert [type(block) for block in architecture(name).blocks].count(kind) == blocks


def test_basic_block_aggregates_both_3x3_and_second_matches_residual_width() -> None:
    blocks = [block for block in architecture("scalenet34").blocks if isinstance(block, ScaleBasic)]
    assert {(block.first.out_channels, block.second.out_channels) for block in blocks} == {
        (planes, planes) for planes in (64, 128, 256, 512)
    }
    assert widths(architecture("scalenet34"))[0] == {1: 16, 2: 16, 4: 16, 7: 16}


def _sides(network: Architecture, size: int) -> list[int]:
    sums: list[Layer] = [layer for layer in network.layers((size, size)) if layer.op == "add"]
    return sorted({layer.output.height for layer in sums}, reverse=True)


def test_map_sizes_by_stage() -> None:
    assert _sides(architecture("scalenet20", nominal=32), 32) == [32, 16, 8]
    assert _sides(architecture("scalenet50"), 224) == [56, 28, 14, 7]
    assert _sides(architecture("scalenet50"), 225) == [57, 28, 14, 7]
    assert _sides(architecture("scalenet18", nominal=32), 32) == [32, 16, 8, 4]
    for name in ("scalenet50", "scalenet34", "scalenet56"):
        network = architecture(name)
        for size in ((32, 32), (1024, 1024), (320, 256), (33, 1024)):
            assert network.layers(size)[-1].output.channels == 1000


def test_scaled_widths_are_multiples_of_8_and_keep_proportions() -> None:
    half = architecture("scalenet50", width=0.5)
    assert [block.out_channels for block in half.blocks[2:-1:3]] == [128, 256, 256, 512, 512, 1024]
    assert widths(half)[0] == {1: 31, 2: 5, 4: 2, 7: 6}


def test_structure_rows_are_split_evenly_and_scaled_in_proportion() -> None:
    assert even(10) == (3, 3, 2, 2)
    assert scaled((62, 9, 5, 12), 64, 64) == (62, 9, 5, 12)
    assert sum(scaled((62, 9, 5, 12), 24, 64)) == 33


def test_structure_round_trips_through_one_line() -> None:
    line = written(PUBLISHED["scalenet50"])
    assert line.startswith("62-9-5-12-56 55-27-5-1-56 ")
    assert from_line(line) == PUBLISHED["scalenet50"]
    for wrong in ("", "62-9-5-x", "62-9"):
        with pytest.raises(ValueError, match="structure: "):
            from_line(wrong)


def test_narrower_structure_is_sliced_from_wider_one() -> None:
    wide = architecture(
        "scalenet20",
        nominal=32,
        classes=10,
        structure=((8, 8, 8, 8), (4, 4, 4, 4)) * 3
        + ((16, 16, 16, 16), (8, 8, 8, 8)) * 3
        + ((32, 32, 32, 32), (16, 16, 16, 16)) * 3,
    )
    first = [(8, 1, 3, 2), (10, 2, 7, 1), (20, 3, 1, 11)]
    narrow = architecture(
        "scalenet20",
        nominal=32,
        classes=10,
        structure=tuple(
            row for at, second in zip(first, (4, 8, 16), strict=True) for _ in range(3) for row in (at, (second,) * 4)
        ),
    )
    network = Slimmable(wide)
    network.calibrate(narrow, [torch.randn(4, 3, 32, 32)])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.eval()(images, narrow), network.extract(narrow, (32, 32))(images))


@pytest.mark.parametrize(
    ("family", "structure", "message"),
    [
        ("scalenet50", ((64, 0, 0, 0),) * 15, "structure: scalenet50 has 16 scale aggregations, but 15 rows are given"),
        (
            "scalenet20",
            ((16, 0, 0, 0),) * 3 + ((15, 0, 0, 0),) * 15,
            r"have the same sum; the sum of \[15, 0, 0, 0\] is not 16",
        ),
        ("scalenet18", ((-1, 8, 0, 0),) * 16, r"structure\[0\] must hold channels of at least 0"),
        ("resnet50", ((64, 0, 0, 0),) * 16, "structure: not available for resnet50: leave it out"),
    ],
)
def test_mismatched_structures_are_rejected(family: str, structure: Structure, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        architecture(family, structure=structure)
