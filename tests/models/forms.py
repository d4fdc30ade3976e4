"""The networks that the tests run over: every family, several widths, both kinds of rounding."""

from __future__ import annotations

from models.architecture import Architecture
from models.families.registry import architecture

SIZES = ((32, 32), (33, 47), (20, 28), (7, 61))

FORMS: dict[str, Architecture] = {
    "fd_mobilenet": architecture("fd_mobilenet"),
    "fd_mobilenet 0.3 grey 32px": architecture("fd_mobilenet", width=0.3, nominal=32, classes=10, channels=1),
    "fd_mobilenet slimmable 0.37 of a quarter": architecture(
        "fd_mobilenet", width=0.37, slimmable=True, base_width=0.25, nominal=32, classes=10
    ),
    "mobilenet_v1": architecture("mobilenet_v1"),
    "mobilenet_v1 0.125": architecture("mobilenet_v1", width=0.125),
    "mobilenet_v1 slimmable 0.55 64px": architecture("mobilenet_v1", width=0.55, slimmable=True, nominal=64),
    "mobilenet_v1 slimmable 1.6": architecture("mobilenet_v1", width=1.6, slimmable=True, nominal=128),
    "wrn_10_1": architecture("wrn_10_1", nominal=32, classes=10),
    "wrn_16_4 0.6": architecture("wrn_16_4", width=0.6, slimmable=True, nominal=32, classes=10, channels=1),
    "wrn_28_10": architecture("wrn_28_10", nominal=32, classes=100),
}
