"""What the API imports of `models` loads neither torch nor numpy."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "models.architecture",
    "models.channel_groups",
    "models.checkpoint",
    "models.cost",
    "models.families.adaptors",
    "models.families.mobile",
    "models.families.registry",
    "models.families.resnet",
    "models.families.scaling",
    "models.families.scalenet",
    "models.families.shapes",
    "models.families.shufflenet",
    "models.families.stages",
    "models.families.structures",
    "models.families.vgg",
    "models.families.wide_resnet",
    "models.header",
    "models.pretrained.forms",
    "models.pretrained.header",
    "models.pretrained.layouts",
    "models.pretrained.names",
    "models.pretrained.record",
    "models.pretrained.shuffle",
    "models.trace",
)


@pytest.mark.parametrize("heavy", ["torch", "numpy"])
def test_no_heavy_import(heavy: str) -> None:
    program = f"import sys, {', '.join(MODULES)}; models.architecture.kinds(); sys.exit({heavy!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
