"""The families that are there, by name. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from models.architecture import Architecture
from models.families import wide_resnet
from models.families.mobile import mobile
from models.families.scaling import Scale


@dataclass(frozen=True, slots=True)
class Family:
    """`pattern` matches the names that `build` takes; `title` and `paper` are for people."""

    title: str
    paper: str
    pattern: re.Pattern[str]
    build: Callable[[str, Scale], Architecture]


FAMILIES: dict[str, Family] = {
    "fd_mobilenet": Family(
        "FD-MobileNet", "Qin et al., 2018 (arXiv 1802.03750)", re.compile("fd_mobilenet"), build=mobile
    ),
    "mobilenet_v1": Family(
        "MobileNetV1", "Howard et al., 2017 (arXiv 1704.04861)", re.compile("mobilenet_v1"), build=mobile
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
) -> Architecture:
    """A network of a family by name.

    `base_width` multiplies the family's table: the channels of the full network. `width` narrows (or widens) it, by
    multiples of 8 if `slimmable`. `nominal` is the input side in pixels that the strides are chosen for. Raises
    ValueError for an unknown name, listing those there are, and for numbers that make no network.
    """
    for known in FAMILIES.values():
        if known.pattern.fullmatch(family):
            scale = Scale(
                width=width,
                slimmable=slimmable,
                base_width=base_width,
                nominal=nominal,
                classes=classes,
                channels=channels,
            )
            return known.build(family, scale)
    raise ValueError(f"unknown family {family!r}: choose one of {', '.join(FAMILIES)} (such as wrn_28_10)")
