"""Modules of `models` that the API imports load neither torch nor numpy."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = (
    "paretofit.models.architecture",
    "paretofit.models.channel_groups",
    "paretofit.models.checkpoint",
    "paretofit.models.cost",
    "paretofit.models.families.adaptors",
    "paretofit.models.families.mobile",
    "paretofit.models.families.registry",
    "paretofit.models.families.resnet",
    "paretofit.models.families.scaling",
    "paretofit.models.families.scalenet",
    "paretofit.models.families.shapes",
    "paretofit.models.families.shufflenet",
    "paretofit.models.families.stages",
    "paretofit.models.families.structures",
    "paretofit.models.families.vgg",
    "paretofit.models.families.wide_resnet",
    "paretofit.models.header",
    "paretofit.models.pretrained.forms",
    "paretofit.models.pretrained.header",
    "paretofit.models.pretrained.layouts",
    "paretofit.models.pretrained.names",
    "paretofit.models.pretrained.record",
    "paretofit.models.pretrained.shuffle",
    "paretofit.models.trace",
)


@pytest.mark.parametrize("heavy", ["torch", "numpy"])
def test_api_imports_are_torch_free(heavy: str) -> None:
    program = (
        f"import sys, {', '.join(MODULES)}; paretofit.models.architecture.kinds(); sys.exit({heavy!r} in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
