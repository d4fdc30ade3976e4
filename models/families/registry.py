"""The families that are there, by name. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from models.architecture import Architecture
from models.families import shufflenet, wide_resnet
from models.families.mobile import mobile
from models.families.resnet import resnet
from models.families.scaling import Scale
from models.families.vgg import vgg

RESNET = "He et al., 2015 (arXiv 1512.03385)"


@dataclass(frozen=True, slots=True)
class Family:
    """`pattern` matches the names that `build` takes; `title` and `paper` are for people.

    `slimmable`: whether the leading channels of a network make a narrower one. `groups`: what may be chosen.
    """

    title: str
    paper: str
    pattern: re.Pattern[str]
    build: Callable[[str, Scale], Architecture]
    slimmable: bool = True
    groups: tuple[int, ...] = ()


FAMILIES: dict[str, Family] = {
    "fd_mobilenet": Family(
        "FD-MobileNet", "Qin et al., 2018 (arXiv 1802.03750)", re.compile("fd_mobilenet"), build=mobile
    ),
    "fd_shufflenet": Family(
        "ShuffleNetV1 with fast downsampling",
        "Qin et al., 2018 (arXiv 1802.03750), future work",
        re.compile("fd_shufflenet"),
        build=shufflenet.shufflenet,
        slimmable=False,
        groups=tuple(shufflenet.FIRST_STAGE),
    ),
    "mobilenet_v1": Family(
        "MobileNetV1", "Howard et al., 2017 (arXiv 1704.04861)", re.compile("mobilenet_v1"), build=mobile
    ),
    "mobilenet_v2": Family(
        "MobileNetV2", "Sandler et al., 2018 (arXiv 1801.04381)", re.compile("mobilenet_v2"), build=mobile
    ),
    "resnet18": Family("ResNet-18", RESNET, re.compile("resnet18"), build=resnet),
    "resnet34": Family("ResNet-34", RESNET, re.compile("resnet34"), build=resnet),
    "resnet50": Family("ResNet-50", RESNET, re.compile("resnet50"), build=resnet),
    "resnet101": Family("ResNet-101", RESNET, re.compile("resnet101"), build=resnet),
    "resnet152": Family("ResNet-152", RESNET, re.compile("resnet152"), build=resnet),
    "resnext50_32x4d": Family(
        "ResNeXt-50 (32x4d)", "Xie et al., 2016 (arXiv 1611.05431)", re.compile("resnext50_32x4d"), build=resnet
    ),
    "shufflenet_v1": Family(
        "ShuffleNetV1",
        "Zhang et al., 2017 (arXiv 1707.01083)",
        re.compile("shufflenet_v1"),
        build=shufflenet.shufflenet,
        slimmable=False,
        groups=tuple(shufflenet.FIRST_STAGE),
    ),
    "vgg16": Family(
        "VGG-16 with batch normalisation and one linear layer",
        "Simonyan & Zisserman, 2014 (arXiv 1409.1556)",
        re.compile("vgg16"),
        build=vgg,
    ),
    "wrn_D_K": Family(
        "WideResNet, such as wrn_28_10",
        "Zagoruyko & Komodakis, 2016 (arXiv 1605.07146)",
        wide_resnet.PATTERN,
        build=wide_resnet.wide_resnet,
    ),
}


def architecture(
    family: str,
    *,
    width: float = 1.0,
    slimmable: bool = False,
    base_width: float = 1.0,
    nominal: int = 224,
    classes: int = 1000,
    channels: int = 3,
    groups: int | None = None,
) -> Architecture:
    """A network of a family by name.

    `base_width` multiplies the family's table: the channels of the full network. `width` narrows (or widens) it, by
    multiples of 8 if `slimmable`. `nominal` is the input side in pixels that the strides are chosen for. `groups` is
    that of ShuffleNet's convolutions (unset: 3). Raises ValueError for an unknown name, listing those there are, and
    for numbers that make no network.
    """
    known = next((known for known in FAMILIES.values() if known.pattern.fullmatch(family)), None)
    if known is None:
        raise ValueError(f"unknown family {family!r}: choose one of {', '.join(FAMILIES)} (such as wrn_28_10)")
    if slimmable and not known.slimmable:
        raise ValueError(f"{family} cannot be slimmable: choose one of {', '.join(_slimmable_families())}")
    if groups is not None and groups not in known.groups:
        if not known.groups:
            raise ValueError(f"groups cannot be chosen for {family}: leave it out")
        raise ValueError(f"groups must be one of {', '.join(map(str, known.groups))} for {family}, not {groups}")
    scale = Scale(
        width=width,
        slimmable=slimmable,
        base_width=base_width,
        nominal=nominal,
        classes=classes,
        channels=channels,
        groups=groups,
    )
    return known.build(family, scale)


def _slimmable_families() -> list[str]:
    return [name for name, family in FAMILIES.items() if family.slimmable]
