"""A small search among compact families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.data.store import Dataset

METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["fd_mobilenet", "shufflenet_v1"],
    "widths": [0.1, 0.25],
    "resolutions": [16, 12],
    "trials": 6,
    "parallel_trials": 2,
    "epochs": 2,
    "batch_size": 16,
    "calibration_images": 64,
}


def resolved(dataset: Path, *, method: dict[str, Any] | None = None, **changes: Any) -> ResolvedSpec:
    """The search with changed method parameters and other fields."""
    body = {"name": "stripes", "dataset_id": "local", "method": METHOD | (method or {}), **changes}
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile)


@pytest.fixture
def spec(stripes: Path) -> ResolvedSpec:
    return resolved(stripes)
