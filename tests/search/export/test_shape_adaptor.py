"""Frozen shapes in every format: indivisible sizes, square and non-square, with and without pruned branches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from paretofit.models.build import Network, build
from paretofit.models.families.adaptors import adapted
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import Shape, shaped
from paretofit.models.trace import Size
from paretofit.search.contracts.point import ALL_FORMATS, Format
from paretofit.search.export.formats import TOLERANCE
from paretofit.search.export.network import exportable
from paretofit.search.export.parity import compare
from paretofit.search.export.session import open_session
from paretofit.search.export.write import write

pytestmark = pytest.mark.integration

SIZE = (32, 24)
SIZES: tuple[Size, ...] = ((23, 17), (13, 11), (8, 5))


def network(family: str, *blends: float) -> Network:
    torch.manual_seed(0)
    human = architecture(family, nominal=32, classes=10, base_width=0.125)
    built = build(shaped(adapted(human, len(blends)), Shape(SIZES[: len(blends)], blends)))
    for norm in built.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return built.eval()


@pytest.mark.parametrize("file_format", ALL_FORMATS)
@pytest.mark.parametrize(("family", "blends"), [("vgg16", (0.7, 0.4)), ("resnet18", (0.6, 0.0, 1.0))])
def test_exported_logits_equal_those_of_torch(
    file_format: Format, family: str, blends: tuple[float, ...], tmp_path: Path
) -> None:
    built = network(family, *blends)
    source = exportable(built, SIZE)
    path = tmp_path / "network"
    write(source, file_format, path)
    parity = compare(source, open_session(path, file_format, threads=1))
    assert parity.max_abs_diff <= TOLERANCE["float32"] * parity.max_abs_logit
