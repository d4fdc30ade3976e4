"""A small learnable dataset, and a small search on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.data.store import Dataset
from paretofit.search.data.writer import DatasetWriter
from paretofit.search.methods.mutualnet.presets import PUBLISHED

CLASSES = ("across", "down", "both")
SIDE = 16
IMAGES = {"train": 96, "selection": 30, "report": 60}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Bit-identical results are guaranteed for one thread, and parallel tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_stripes(folder: Path, side: int, images: Mapping[str, int] = MappingProxyType(IMAGES)) -> Path:
    """A dataset of noisy gray stripes in three directions, `side` pixels square."""
    random = np.random.default_rng(0)
    count = sum(images.values())
    labels = np.arange(count) % len(CLASSES)
    rows, columns = np.mgrid[:side, :side]
    waves = np.stack([columns, rows, rows + columns])[labels] * 1.5 + random.uniform(0, 6, (count, 1, 1))
    pixels = (128 + 60 * np.sin(waves) + random.normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8)
    folder.mkdir()
    with DatasetWriter(folder, channels=1) as writer:
        writer.append_block(pixels[:, None])
        ends = np.cumsum(list(images.values()))[:-1]
        splits = dict(zip(images, np.split(np.arange(count), ends), strict=True))
        writer.finish(labels=labels, splits=splits, classes=CLASSES, image_size=(side, side), report={})
    return folder


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes of 16 pixels."""
    return write_stripes(tmp_path_factory.mktemp("stripes") / "dataset", SIDE)


@pytest.fixture
def method() -> dict[str, Any]:
    """Parameters of a search that takes a second or two on `stripes`, trained as published. Features left out here
    have their own tests."""
    return {
        **PUBLISHED,
        "kind": "mutualnet",
        "family": "wrn_10_1",
        "base_width": 1.0,
        "widths": {"min": 0.5, "max": 1.0, "step": 0.25},
        "resolutions": [16, 12],
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.15,
        "calibration_images": 64,
    }


@pytest.fixture
def spec(stripes: Path, method: dict[str, Any]) -> ResolvedSpec:
    """The resolved search with the parameters of `method`."""
    submitted = SearchSpec.model_validate({"name": "stripes", "dataset_id": "local", "method": method})
    return submitted.resolve(Dataset.open(stripes).profile)
