"""Helpers that convert tensors and compare the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.build import Network, build
from paretofit.models.pretrained.convert import convert_tensors
from paretofit.models.pretrained.record import WeightsRecord
from tests.models.pretrained.published import Weights

DIGEST = "0" * 64


def load(path: Path, record: WeightsRecord) -> Network:
    """The network of a weights file; layers that the file lacks are freshly initialized."""
    tensors, stored = checkpoint.read(path)
    assert WeightsRecord.model_validate(stored) == record
    network = build(record.architecture())
    absent, surplus = network.load_state_dict(tensors, strict=False)
    assert not surplus
    assert all(name.endswith("num_batches_tracked") or ".linear." in name for name in absent)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    return network.eval()


def converted(tensors: Mapping[str, Tensor], target: Path, **given: Any) -> tuple[Network, WeightsRecord]:
    record = convert_tensors(tensors, target, sha256=DIGEST, source_name="weights", **given)
    return load(target, record), record


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest expected number, or of 1."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * max(1.0, float(expected.abs().max())))


def run(forward: Callable[[Weights, Tensor], Tensor], x: Tensor) -> tuple[Weights, Tensor]:
    """Random weights, and the outputs of the published network for two images, which must differ."""
    weights = Weights()
    with torch.no_grad():
        expected = forward(weights, x)
    assert (expected[0] - expected[1]).std() > 0.05 * expected.std()
    return weights, expected


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def expected_tensors(small: dict[str, Tensor], tmp_path: Path) -> dict[str, Tensor]:
    convert_tensors(small, tmp_path / "expected", sha256=DIGEST, source_name="weights")
    return checkpoint.read(tmp_path / "expected")[0]


def assert_same(path: Path, expected: Mapping[str, Tensor]) -> None:
    actual, _ = checkpoint.read(path)
    assert set(actual) == set(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
