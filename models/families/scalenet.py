"""ScaleNet: Li et al., CVPR 2019 (arXiv 1904.09460): ResNets whose 3x3 convolutions are scale aggregations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

from paretofit.models.architecture import Architecture, Block
from paretofit.models.families import resnet
from paretofit.models.families.scaling import Scale, nominal_strides, slimmable
from paretofit.models.families.structures import PUBLISHED, SCALES, Row, Structure, check, even, scaled
from paretofit.models.kinds.aggregation import ScaleAggregation, ScaleBasic, ScaleBottleneck
from paretofit.models.kinds.basic import Classifier, Conv

EXPANSION: Final = 4
"""Outputs of a bottleneck per plane."""
_LEGACY: Final = (7, 7)
"""Scale and side of the map where the published form has a 1x1 kernel."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Blocks by stage, and the planes of each: a bottleneck has one scale aggregation, a basic block two. `small` forms
    have a 3x3 stem as wide as the first stage, and the same strides at any nominal size."""

    repeats: tuple[int, ...]
    planes: tuple[int, ...]
    bottleneck: bool
    small: bool = False

    @property
    def aggregations(self) -> int:
        """Scale aggregations in each block."""
        return 1 if self.bottleneck else 2

    def rows(self, values: Sequence[int]) -> tuple[int, ...]:
        """A stage's value for each row of its structure."""
        return tuple(
            value for count, value in zip(self.repeats, values, strict=True) for _ in range(count * self.aggregations)
        )

    def widened(self, scale: Scale) -> tuple[int, ...]:
        """The planes of each stage at a scale, multiples of 8."""
        return tuple(_widened(base, scale) for base in self.planes)


def _like(name: str) -> Variant:
    found = resnet.VARIANTS[name]
    return Variant(found.repeats, resnet.STAGES, found.bottleneck)


VARIANTS: Final = {
    **{f"scalenet{depth}": _like(f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    "scalenet50_light": _like("resnet50"),
    # ResNet for CIFAR (arXiv 1512.03385, section 4.2): 6 n + 2 layers.
    **{f"scalenet{6 * n + 2}": Variant((n,) * 3, (16, 32, 64), bottleneck=False, small=True) for n in (3, 6, 9)},
}
ANY: Final = "scalenet"
"""As many bottlenecks as a structure has rows, in stages by the sides in its rows."""


def scalenet(family: str, scale: Scale) -> Architecture:
    """A network of `VARIANTS` with the scale's `structure`, the published one, or equal shares of the planes; or of the
    family `scalenet`, whose structure determines its depth.

    The planes are multiples of 8 at any width, and a published structure keeps its proportions; a given one is used
    unchanged. In a basic block the second aggregation's channels are the residual width. Raises ValueError for a
    structure that does not fit.
    """
    given = None if scale.structure is None else check(scale.structure)
    variant = VARIANTS.get(family) or _counted(given)
    planes = variant.widened(scale)
    structure = _default(family, variant, planes) if given is None else given
    stages = [stage for stage, count in enumerate(variant.repeats) for _ in range(count)]
    if len(structure) != len(stages) * variant.aggregations:
        raise ValueError(
            f"structure: {family} has {len(stages) * variant.aggregations} scale aggregations, but "
            f"{len(structure)} rows are given"
        )
    table_strides = [1 if stage == before else 2 for before, stage in pairwise((0, *stages))]
    blocks: list[Block]
    if variant.small:
        strides = list(table_strides)
        blocks = [Conv(scale.channels, planes[0], 3, 1, 1, norm=True, activation="relu")]
    else:
        pool_stride, stem_stride, *strides = nominal_strides((2, 2, *table_strides), scale.nominal)
        width = _widened(resnet.STEM, scale)
        blocks = resnet.stem(scale.channels, width, stem_stride=stem_stride, pool_stride=pool_stride)
    for i, (stage, stride) in enumerate(zip(stages, strides, strict=True)):
        rows = structure[i * variant.aggregations : (i + 1) * variant.aggregations]
        into = blocks[-1].out_channels
        blocks.append(_block(into, planes[stage], stride, rows, first=i == 0 or stages[i - 1] != stage))
    blocks.append(Classifier(blocks[-1].out_channels, scale.classes))
    return Architecture(family, scale.nominal, scale.channels, scale.classes, tuple(blocks))


def _block(into: int, planes: int, stride: int, rows: Structure, *, first: bool) -> Block:
    if len(rows) == 1:
        out = EXPANSION * planes
        inner = _aggregation(planes, rows[0])
        return ScaleBottleneck(into, planes, out, stride, projection=first, aggregation=inner)
    made = _aggregation(into, rows[0])
    joined = _aggregation(made.out_channels, rows[1])
    if not first and joined.out_channels != into:
        raise ValueError(
            f"structure: the second rows of a stage's blocks must have the same sum; the sum of {list(rows[1])} is "
            f"not {into}"
        )
    projection = first and (stride != 1 or joined.out_channels != into)
    return ScaleBasic(into, joined.out_channels, stride, projection, made, joined)


def _aggregation(into: int, row: Row) -> ScaleAggregation:
    side = row[len(SCALES)] if len(row) > len(SCALES) else None
    branches = [(scale, width) for scale, width in zip(SCALES, row, strict=False) if width]
    return ScaleAggregation(
        into,
        sum(width for _, width in branches),
        scales=tuple(scale for scale, _ in branches),
        widths=tuple(width for _, width in branches),
        kernels=tuple(1 if (scale, side) == _LEGACY else 3 for scale, _ in branches),
    )


def _widened(base: int, scale: Scale) -> int:
    return slimmable(slimmable(base, scale.base_width), *scale.widths(1))


def _default(family: str, variant: Variant, planes: tuple[int, ...]) -> Structure:
    rows = variant.rows(planes)
    if family not in PUBLISHED:
        return tuple(map(even, rows))
    return tuple(
        (*scaled(row[: len(SCALES)], width, base), row[len(SCALES)])
        for row, width, base in zip(PUBLISHED[family], rows, variant.rows(variant.planes), strict=True)
    )


def _counted(structure: Structure | None) -> Variant:
    """The bottlenecks of the family `scalenet`."""
    if structure is None or len(structure[0]) == len(SCALES):
        raise ValueError(
            "structure: scalenet needs rows that end with the side of the map, such as [62, 9, 5, 12, 56], which "
            f"determine its depth; give them, or choose one of {', '.join(VARIANTS)}"
        )
    repeats = tuple(len(list(rows)) for _, rows in groupby(structure, key=lambda row: row[len(SCALES)]))
    if len(repeats) != len(resnet.STAGES):
        raise ValueError(f"structure: the sides of its rows give {len(repeats)} stages instead of {len(resnet.STAGES)}")
    return Variant(repeats, resnet.STAGES, bottleneck=True)
