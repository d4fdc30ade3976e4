"""ScaleNets in ONNX Runtime: sizes with repeated or interpolated branches, non-square and odd sizes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.models.layers.fast_scale_aggregation import fast
from paretofit.search.export.network import exportable
from paretofit.search.export.parity import compare
from paretofit.search.export.session import open_session
from paretofit.search.export.write import write

pytestmark = pytest.mark.integration

ROWS = ((16, 4, 2, 3, 56), (12, 8, 5, 2, 28), (0, 9, 6, 4, 14), (10, 7, 3, 5, 7))
SIZES = (pytest.param((224, 224), marks=pytest.mark.slow), (225, 225), pytest.param((320, 256), marks=pytest.mark.slow))


def network() -> Network:
    """Every kind of branch, with one block per stage."""
    torch.manual_seed(0)
    built = build(architecture("scalenet", structure=ROWS, base_width=0.25, classes=10))
    for norm in built.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return built.eval()


def every_form(network: Network, size: tuple[int, int]) -> Network:
    """Alternate between the two faster forms."""
    turns = count(1)

    def measure(modules: Sequence[nn.Module], x: Tensor) -> list[float]:
        del x
        chosen = 1 + next(turns) % 2
        return [float(i != chosen) for i in range(len(modules))]

    return fast(network, torch.zeros(1, 3, *size), measure)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("faster", [False, True], ids=["published", "faster"])
def test_exported_logits_equal_those_of_torch(size: tuple[int, int], faster: bool, tmp_path: Path) -> None:
    plain = network()
    source = exportable(every_form(plain, size) if faster else plain, size, batch=1)
    path = tmp_path / "network.onnx"
    write(source, "onnx", path)
    parity = compare(exportable(plain, size, batch=1), open_session(path, "onnx", threads=1), "float32")
    assert parity.max_abs_diff <= 1e-5 * parity.max_abs_logit
