"""The network families by name. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from paretofit.models.architecture import Architecture
from paretofit.models.families import mobile, resnet, scalenet, shufflenet, vgg, wide_resnet
from paretofit.models.families.scaling import Scale, Width
from paretofit.models.families.structures import Structure

RESNET = "He et al., 2015 (arXiv 1512.03385)"
SCALENET = "Li et al., 2019 (arXiv 1904.09460)"


@dataclass(frozen=True, slots=True)
class Family:
    """`pattern` matches the names that `build` takes; `title` and `paper` are for display.

    `stages`: number of independent stage widths of a slimmable family; 0: not slimmable. `groups`: choices.
    `structured`: whether channels by scale can be given.
    """

    title: str
    paper: str
    pattern: re.Pattern[str]
    build: Callable[[str, Scale], Architecture]
    stages: int = 0
    groups: tuple[int, ...] = ()
    structured: bool = False

    @property
    def slimmable(self) -> bool:
        return self.stages > 0


FAMILIES: dict[str, Family] = {
    "fd_mobilenet": Family(
        "FD-MobileNet",
        "Qin et al., 2018 (arXiv 1802.03750)",
        re.compile("fd_mobilenet"),
        build=mobile.mobile,
        stages=mobile.TABLES["fd_mobilenet"].widths,
    ),
    "fd_shufflenet": Family(
        "ShuffleNetV1 with fast downsampling",
        "Qin et al., 2018 (arXiv 1802.03750), future work",
        re.compile("fd_shufflenet"),
        build=shufflenet.shufflenet,
        groups=tuple(shufflenet.FIRST_STAGE),
    ),
    "mobilenet_v1": Family(
        "MobileNetV1",
        "Howard et al., 2017 (arXiv 1704.04861)",
        re.compile("mobilenet_v1"),
        build=mobile.mobile,
        stages=mobile.TABLES["mobilenet_v1"].widths,
    ),
    "mobilenet_v2": Family(
        "MobileNetV2",
        "Sandler et al., 2018 (arXiv 1801.04381)",
        re.compile("mobilenet_v2"),
        build=mobile.mobile,
        stages=mobile.TABLES["mobilenet_v2"].widths,
    ),
    "resnet18": Family("ResNet-18", RESNET, re.compile("resnet18"), build=resnet.resnet, stages=len(resnet.STAGES)),
    "resnet34": Family("ResNet-34", RESNET, re.compile("resnet34"), build=resnet.resnet, stages=len(resnet.STAGES)),
    "resnet50": Family("ResNet-50", RESNET, re.compile("resnet50"), build=resnet.resnet, stages=len(resnet.STAGES)),
    "resnet101": Family("ResNet-101", RESNET, re.compile("resnet101"), build=resnet.resnet, stages=len(resnet.STAGES)),
    "resnet152": Family("ResNet-152", RESNET, re.compile("resnet152"), build=resnet.resnet, stages=len(resnet.STAGES)),
    "resnext50_32x4d": Family(
        "ResNeXt-50 (32x4d)",
        "Xie et al., 2016 (arXiv 1611.05431)",
        re.compile("resnext50_32x4d"),
        build=resnet.resnet,
        stages=len(resnet.STAGES),
    ),
    "scalenet": Family(
        "ScaleNet of any depth, by its structure",
        SCALENET,
        re.compile(scalenet.ANY),
        build=scalenet.scalenet,
        structured=True,
    ),
    **{
        name: Family(
            f"ScaleNet-{name.removeprefix('scalenet').replace('_', '-')}",
            SCALENET,
            re.compile(name),
            build=scalenet.scalenet,
            structured=True,
        )
        for name in sorted(scalenet.VARIANTS)
    },
    "shufflenet_v1": Family(
        "ShuffleNetV1",
        "Zhang et al., 2017 (arXiv 1707.01083)",
        re.compile("shufflenet_v1"),
        build=shufflenet.shufflenet,
        groups=tuple(shufflenet.FIRST_STAGE),
    ),
    "vgg16": Family(
        "VGG-16 with batch norm and one linear layer",
        "Simonyan & Zisserman, 2014 (arXiv 1409.1556)",
        re.compile("vgg16"),
        build=vgg.vgg,
        stages=len(vgg.STAGES),
    ),
    "wrn_D_K": Family(
        "WideResNet, such as wrn_28_10",
        "Zagoruyko & Komodakis, 2016 (arXiv 1605.07146)",
        wide_resnet.PATTERN,
        build=wide_resnet.wide_resnet,
        stages=len(wide_resnet.STAGES),
    ),
}


def architecture(
    family: str,
    *,
    width: Width = 1.0,
    slimmable: bool = False,
    base_width: float = 1.0,
    nominal: int = 224,
    classes: int = 1000,
    channels: int = 3,
    groups: int | None = None,
    structure: Structure | None = None,
    keep_last_channels: bool = False,
) -> Architecture:
    """A network of a family by name.

    `base_width` multiplies the family's table and gives the channels of the full network. `width` narrows (or widens)
    it, by multiples of 8 if `slimmable`; then it can be one number per stage. `nominal` is the input side in pixels
    that the strides are chosen for. `groups` are those of ShuffleNet's convolutions (unset: 3), `structure` ScaleNet's
    channels by scale (unset: the published ones, or equal shares). `keep_last_channels` keeps MobileNetV2's last 1280
    channels at a `base_width` below 1, as in published weights. Raises ValueError for an unknown name, with the known
    ones, and for invalid numbers.
    """
    known = _known(family)
    if slimmable and not known.slimmable:
        raise ValueError(f"{family} is not slimmable: choose one of {', '.join(_slimmable_families())}")
    if isinstance(width, tuple) and not slimmable:
        raise ValueError("width: one width per stage requires a slimmable network; give one number")
    if groups is not None and groups not in known.groups:
        if not known.groups:
            raise ValueError(f"groups: not available for {family}: leave it out")
        raise ValueError(f"groups must be one of {', '.join(map(str, known.groups))} for {family}, not {groups}")
    if structure is not None and not known.structured:
        raise ValueError(f"structure: not available for {family}: leave it out, or choose a ScaleNet")
    scale = Scale(
        width=width,
        slimmable=slimmable,
        base_width=base_width,
        nominal=nominal,
        classes=classes,
        channels=channels,
        groups=groups,
        structure=structure,
        keep_last_channels=keep_last_channels,
    )
    return known.build(family, scale)


def stages(family: str) -> int:
    """Number of stage widths of a slimmable network of this family, from input to output. Raises ValueError for an
    unknown name or a family that is not slimmable."""
    if not (known := _known(family)).slimmable:
        raise ValueError(f"{family} is not slimmable: choose one of {', '.join(_slimmable_families())}")
    return known.stages


def groups(family: str) -> tuple[int, ...]:
    """Numbers of groups that a family offers; empty: no choice. Raises ValueError for an unknown name."""
    return _known(family).groups


def _known(family: str) -> Family:
    known = next((known for known in FAMILIES.values() if known.pattern.fullmatch(family)), None)
    if known is None:
        raise ValueError(f"unknown family {family!r}: choose one of {', '.join(FAMILIES)} (such as wrn_28_10)")
    return known


def _slimmable_families() -> list[str]:
    return [name for name, family in FAMILIES.items() if family.slimmable]
