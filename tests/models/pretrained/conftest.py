"""Small weights and the path of their conversion."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor

from tests.models.pretrained import published
from tests.models.pretrained.conversion import images, run


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """A MobileNetV2 x 0.35 with five classes, under torchvision's names."""
    weights, _ = run(lambda w, x: published.mobilenet_v2(w, x, "torchvision", 0.35, 5), images(32, 32))
    return weights.tensors


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"
