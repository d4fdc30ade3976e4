"""Networks with masks exported to ONNX and to a torch.export program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.sampling import Policy, sampled
from paretofit.models.layers.spatial_sampling import samplings
from paretofit.search.contracts.point import Format
from paretofit.search.export.network import Exportable, exportable
from paretofit.search.export.parity import compare
from paretofit.search.export.session import open_session
from paretofit.search.export.write import write
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams

pytestmark = pytest.mark.integration


def source(**policy: Any) -> Exportable:
    torch.manual_seed(0)
    plain = architecture("wrn_10_1", nominal=16, classes=5, channels=1)
    network = build(sampled(plain, Policy(**policy))).eval()
    for each in samplings(network):
        nn.init.normal_(each.predict.weight, 0, 0.1)
        assert each.predict.bias is not None
        nn.init.constant_(each.predict.bias, 0.2)
    return exportable(network, (16, 16))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("policy", "file_format"),
    [
        ({"draw": "stochastic", "fill": "rbf"}, "onnx"),
        ({"draw": "budget", "fill": "zero", "density": 0.4, "grid": 3}, "onnx"),
        ({"draw": "stochastic", "fill": "zero", "tile": 3}, "onnx"),
        ({"draw": "stochastic", "fill": "learned"}, "torch_export"),
    ],
    ids=["stochastic", "budget", "tiles", "program"],
)
def test_exported_logits_equal_those_of_torch(policy: dict[str, Any], file_format: Format, tmp_path: Path) -> None:
    network = source(**policy)
    path = tmp_path / "network.pt2"
    write(network, file_format, path)
    parity = compare(network, open_session(path, file_format, threads=1))
    assert parity.max_abs_diff <= parity.tolerance


def test_ncnn_is_not_available() -> None:
    assert "ncnn" not in SpatialSamplingParams.exports
