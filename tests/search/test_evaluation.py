"""What an accuracy is, and when it is the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paretofit.models import checkpoint
from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from paretofit.search import evaluation
from paretofit.search.contracts.point import Point, Preprocessing
from paretofit.search.data.loader import Batch
from paretofit.search.data.store import Dataset


def test_accuracy_counts_images_whatever_the_batches() -> None:
    labels = torch.tensor([0, 1, 2, 2, 1])
    scores = torch.eye(3)[torch.tensor([0, 1, 2, 0, 0])]
    batches = [Batch(scores[:4], labels[:4]), Batch(scores[4:], labels[4:])]
    assert evaluation.accuracy(lambda x: x, batches) == 3 / 5
    with pytest.raises(ValueError, match="at least one image"):
        evaluation.accuracy(lambda x: x, [])


@pytest.fixture
def written(stripes: Path, tmp_path: Path) -> Path:
    """A checkpoint of an untrained network that was measured on the report split."""
    torch.manual_seed(0)
    dataset = Dataset.open(stripes)
    profile = dataset.profile
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=16, classes=3, channels=1)).eval()
    preprocessing = Preprocessing(crop=profile.image_size, mean=profile.mean, std=profile.std)
    conditions = evaluation.conditions("cpu", 25)
    batches = evaluation.inputs(dataset, "report", preprocessing, conditions, (12, 12), device="cpu")
    point = Point(
        key="one",
        architecture=network.architecture.to_json(),
        input_size=(12, 12),
        classes=profile.classes,
        config={},
        metrics={"top1": evaluation.accuracy(network, batches)},
        preprocessing=preprocessing,
        evaluation=conditions,
        provenance={"splits": {"report": evaluation.digest(dataset.split("report"))}},
    )
    path = tmp_path / "one.safetensors"
    checkpoint.save(path, network, point.model_dump(mode="json"))
    return path


def test_measured_again_it_is_equal(written: Path, stripes: Path) -> None:
    found = evaluation.reevaluate(written, Dataset.open(stripes))
    assert found.equal is True
    assert found.top1 == found.reported
    assert found.images == 60


def test_another_accuracy_is_not_equal(written: Path, stripes: Path) -> None:
    network = checkpoint.load(written)
    record = checkpoint.read_record(written)
    record["metrics"] = {"top1": record["metrics"]["top1"] + 1e-9}
    checkpoint.save(written, network, record)
    assert evaluation.reevaluate(written, Dataset.open(stripes)).equal is False


def test_on_other_images_there_is_nothing_to_compare(written: Path, stripes: Path) -> None:
    assert evaluation.reevaluate(written, Dataset.open(stripes), "selection").equal is None


def test_the_digest_tells_splits_apart(stripes: Path) -> None:
    dataset = Dataset.open(stripes)
    digests = {evaluation.digest(dataset.split(name)) for name in ("train", "selection", "report")}
    assert len(digests) == 3
    assert evaluation.digest(Dataset.open(stripes).split("report")) in digests


def test_threads_are_given_back(written: Path, stripes: Path) -> None:
    torch.set_num_threads(2)
    evaluation.reevaluate(written, Dataset.open(stripes))
    assert torch.get_num_threads() == 2


def test_a_checkpoint_for_other_classes_or_without_a_point_is_refused(
    written: Path, stripes: Path, tmp_path: Path
) -> None:
    network, record = checkpoint.load(written), checkpoint.read_record(written)
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, network, {**record, "classes": ["a", "b", "c"]})
    with pytest.raises(ValueError, match=r"has 3 classes \(a, b, c\), but the dataset has 3 classes \(across"):
        evaluation.reevaluate(other, Dataset.open(stripes))
    checkpoint.save(other, network, {"architecture": record["architecture"]})
    with pytest.raises(checkpoint.CheckpointError, match="is not a point's checkpoint"):
        evaluation.reevaluate(other, Dataset.open(stripes))
