"""Networks that parametrize the tests: every family, several widths, both rounding rules."""

from __future__ import annotations

from typing import Any

from paretofit.models.architecture import Architecture
from paretofit.models.families.adaptors import Placement, adapted
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import Shape, shaped

SIZES = ((33, 47), (20, 28), (7, 61))


def _shaped(family: str, placement: Placement, *blends: float, **options: Any) -> Architecture:
    """With one adaptor per blend, at 23x20 pixels, 20x17, ..."""
    network = adapted(architecture(family, classes=10, **options), len(blends), placement)
    return shaped(network, Shape(tuple((23 - 3 * i, 20 - 3 * i) for i in range(len(blends))), blends))


FORMS: dict[str, Architecture] = {
    "fd_mobilenet": architecture("fd_mobilenet"),
    "fd_mobilenet 0.3 gray 32px": architecture("fd_mobilenet", width=0.3, nominal=32, classes=10, channels=1),
    "fd_mobilenet slimmable 0.37 of a quarter": architecture(
        "fd_mobilenet", width=0.37, slimmable=True, base_width=0.25, nominal=32, classes=10
    ),
    "mobilenet_v1": architecture("mobilenet_v1"),
    "mobilenet_v1 0.125": architecture("mobilenet_v1", width=0.125),
    "mobilenet_v1 slimmable 0.55 64px": architecture("mobilenet_v1", width=0.55, slimmable=True, nominal=64),
    "mobilenet_v1 slimmable 1.6": architecture("mobilenet_v1", width=1.6, slimmable=True, nominal=128),
    "mobilenet_v2": architecture("mobilenet_v2"),
    "mobilenet_v2 slimmable 0.7 32px": architecture("mobilenet_v2", width=0.7, slimmable=True, nominal=32, classes=10),
    "mobilenet_v2 slimmable 1.6": architecture("mobilenet_v2", width=1.6, slimmable=True),
    "resnet18": architecture("resnet18"),
    "resnet18 0.3 gray 32px": architecture("resnet18", width=0.3, nominal=32, classes=10, channels=1),
    "resnet34 64px": architecture("resnet34", nominal=64, classes=200),
    "resnet50 slimmable 0.9": architecture("resnet50", width=0.9, slimmable=True),
    "resnet50 of a quarter 16px": architecture("resnet50", base_width=0.25, nominal=16, classes=10),
    "resnet101": architecture("resnet101"),
    "resnet152": architecture("resnet152"),
    "resnext50_32x4d": architecture("resnext50_32x4d"),
    "resnext50_32x4d 0.6 32px": architecture("resnext50_32x4d", width=0.6, nominal=32, classes=10),
    "vgg16": architecture("vgg16"),
    "vgg16 slimmable 0.25 32px": architecture("vgg16", width=0.25, slimmable=True, nominal=32, classes=10),
    "shufflenet_v1": architecture("shufflenet_v1"),
    "shufflenet_v1 0.25 gray 32px": architecture(
        "shufflenet_v1", width=0.25, groups=3, nominal=32, classes=10, channels=1
    ),
    "shufflenet_v1 0.5 16px": architecture("shufflenet_v1", width=0.5, nominal=16),
    **{f"shufflenet_v1 g{groups}": architecture("shufflenet_v1", width=0.5, groups=groups) for groups in (1, 2, 8)},
    "fd_shufflenet g4 64px": architecture("fd_shufflenet", groups=4, nominal=64),
    "scalenet18 slim 64px": architecture("scalenet18", width=0.5, nominal=64, classes=200),
    "scalenet34 gray 32px": architecture("scalenet34", base_width=0.25, nominal=32, classes=10, channels=1),
    "scalenet50": architecture("scalenet50"),
    "scalenet50_light": architecture("scalenet50_light"),
    "scalenet50_light of a quarter 16px": architecture("scalenet50_light", base_width=0.25, nominal=16, classes=10),
    "scalenet101": architecture("scalenet101"),
    "scalenet152": architecture("scalenet152"),
    "scalenet20 0.5": architecture("scalenet20", width=0.5, nominal=32, classes=10),
    "scalenet20 at three scales": architecture(
        "scalenet20",
        structure=((9, 0, 5, 2), (8, 0, 8, 0)) * 3
        + ((20, 0, 0, 12), (0, 8, 24, 0)) * 3
        + ((64, 1, 0, 0), (0, 0, 0, 64)) * 3,
        nominal=32,
        classes=10,
    ),
    "scalenet38 gray": architecture("scalenet38", nominal=32, classes=10, channels=1),
    "vgg16 shaped": _shaped("vgg16", "replace", 0.9, 0.6, 0.3, 0.1, base_width=0.25, nominal=32),
    "vgg16 compressed gray": _shaped("vgg16", "add", 0.9, 0.9, nominal=32, channels=1),
    "resnet50 shaped": _shaped("resnet50", "replace", 0.9, 0.6, 0.3, 0.1, base_width=0.25),
    "resnet50 shaped and pruned": _shaped("resnet50", "replace", 1.0, 0.6, 0.0, 1.0, nominal=32),
    "resnet50 transferred": _shaped("resnet50", "resizing", 0.1, 0.1, 0.1, 0.1, 0.1),
    "resnet18 shaped": _shaped("resnet18", "replace", 0.5, 0.5, 0.0, nominal=32),
    "mobilenet_v2 shaped": _shaped("mobilenet_v2", "replace", 1.0, 0.6, 0.3, 0.0, nominal=32),
    "mobilenet_v1 shaped where it resizes": _shaped("mobilenet_v1", "resizing", 0.5, 0.5, 0.5, 0.5, 0.5),
    "shufflenet_v1 shaped": _shaped("shufflenet_v1", "replace", 0.5, 0.5, width=0.25, nominal=32),
    "wrn_10_1 shaped": _shaped("wrn_10_1", "replace", 0.5, 0.5, 0.0, nominal=32),
    "wrn_10_1": architecture("wrn_10_1", nominal=32, classes=10),
    "wrn_16_4 0.6": architecture("wrn_16_4", width=0.6, slimmable=True, nominal=32, classes=10, channels=1),
    "wrn_28_10": architecture("wrn_28_10", nominal=32, classes=100),
}

DEEP = {"resnet101", "resnet152", "scalenet101", "scalenet152"}
"""Forms that only have more blocks than others."""
