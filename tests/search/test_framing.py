"""Images smaller and larger than the crop in one dataset: training and evaluation must pad them identically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretofit.search.contracts.dataset import DatasetSpec, UploadSource
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.ingest import IngestRequest, ingest
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from tests.search.data.archives import encoded, noise, zipped

METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["fd_mobilenet"],
    "widths": [0.25],
    "resolutions": [96],
    "trials": 1,
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 0.05,
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 noise images of 32 pixels in one class, 41 of 300 in the other: only the padding distinguishes them."""
    folder = tmp_path_factory.mktemp("mixed")
    sides = [("a", 32)] * 40 + [("b", 300)] * 41
    files = {f"{label}/{seed:03}.png": encoded(noise(side, side, seed)) for seed, (label, side) in enumerate(sides)}
    request = IngestRequest(
        spec=DatasetSpec(name="mixed", source=UploadSource()), archive=zipped(folder / "mixed.zip", files)
    )
    profile = ingest(request, folder / "dataset").profile
    assert profile.image_size == (224, 224)
    return folder / "dataset"


@pytest.mark.parametrize(
    ("augmentation", "frame"),
    [
        ({"kind": "pad_crop", "padding": 28, "padding_mode": "reflect"}, "zeros"),
        ({"kind": "resized_crop", "minimum_scale": 0.5}, "resize"),
        (None, "resize"),
    ],
)
def test_small_images_are_padded_alike_in_training_and_evaluation(
    mixed: Path, tmp_path: Path, augmentation: dict[str, Any] | None, frame: str
) -> None:
    method = METHOD | {"augmentation": augmentation}
    submitted = SearchSpec.model_validate({"name": "mixed", "dataset_id": "local", "method": method})
    dataset = Dataset.open(mixed)
    front = LocalSearch(submitted.resolve(dataset.profile), mixed, tmp_path).run(lambda: Stop.NO, lambda *_: None)
    (point,) = front.points
    assert point.preprocessing.frame == frame
    assert point.metrics["selection_top1"] >= 0.8
    assert point.metrics["top1"] >= 0.8
    assert reevaluate(tmp_path / "points" / f"{point.key}.safetensors", dataset).equal is True
