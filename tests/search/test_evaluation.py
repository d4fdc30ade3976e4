"""Accuracy, and re-evaluation of stored checkpoints."""

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


def test_accuracy_does_not_depend_on_batch_sizes() -> None:
    labels = torch.tensor([0, 1, 2, 2, 1])
    scores = torch.eye(3)[torch.tensor([0, 1, 2, 0, 0])]
    batches = [Batch(scores[:4], labels[:4]), Batch(scores[4:], labels[4:])]
    assert evaluation.accuracy(lambda x: x, batches) == 3 / 5
    with pytest.raises(ValueError, match="at least one image"):
        evaluation.accuracy(lambda x: x, [])


@pytest.fixture
def stored_point(stripes: Path, tmp_path: Path) -> Path:
    """Checkpoint of an untrained network, with its accuracy on the report split."""
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


def test_reevaluation_reproduces_the_accuracy(stored_point: Path, stripes: Path) -> None:
    result = evaluation.reevaluate(stored_point, Dataset.open(stripes))
    assert result.equal is True
    assert result.top1 == result.reported
    assert result.images == 60


def test_different_reported_accuracy_is_not_equal(stored_point: Path, stripes: Path) -> None:
    network = checkpoint.load(stored_point)
    record = checkpoint.read_record(stored_point)
    record["metrics"] = {"top1": record["metrics"]["top1"] + 1e-9}
    checkpoint.save(stored_point, network, record)
    assert evaluation.reevaluate(stored_point, Dataset.open(stripes)).equal is False


def test_unreported_split_has_no_comparison(stored_point: Path, stripes: Path) -> None:
    assert evaluation.reevaluate(stored_point, Dataset.open(stripes), "selection").equal is None


def test_split_digests_differ(stripes: Path) -> None:
    dataset = Dataset.open(stripes)
    digests = {evaluation.digest(dataset.split(name)) for name in ("train", "selection", "report")}
    assert len(digests) == 3
    assert evaluation.digest(Dataset.open(stripes).split("report")) in digests


def test_thread_count_is_restored(stored_point: Path, stripes: Path) -> None:
    torch.set_num_threads(2)
    evaluation.reevaluate(stored_point, Dataset.open(stripes))
    assert torch.get_num_threads() == 2


def test_checkpoint_with_other_classes_or_without_point_is_rejected(
    stored_point: Path, stripes: Path, tmp_path: Path
) -> None:
    network, record = checkpoint.load(stored_point), checkpoint.read_record(stored_point)
    other = tmp_path / "other.safetensors"
    checkpoint.save(other, network, {**record, "classes": ["a", "b", "c"]})
    with pytest.raises(ValueError, match=r"has 3 classes \(a, b, c\), but the dataset has 3 classes \(across"):
        evaluation.reevaluate(other, Dataset.open(stripes))
    checkpoint.save(other, network, {"architecture": record["architecture"]})
    with pytest.raises(checkpoint.CheckpointError, match="is not a point's checkpoint"):
        evaluation.reevaluate(other, Dataset.open(stripes))
