"""Top-1 accuracy: the fraction of a split's images that a network classifies correctly, and its conditions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.utils import convert_conv2d_weight_memory_format

from paretofit.models import checkpoint
from paretofit.models.build import Network
from paretofit.search.contracts.point import Evaluation, Point, Preprocessing
from paretofit.search.data.loader import Batch, evaluation_batches
from paretofit.search.data.sampling import resize
from paretofit.search.data.store import Dataset, Split

METRICS = {"selection": "selection_top1", "report": "top1"}
"""The metric for the accuracy on each split."""

_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Reevaluation:
    """A checkpoint's accuracy now and as reported; the latter is None for other images, another kind of device, or
    without a report."""

    split: str
    top1: float
    reported: float | None
    images: int

    @property
    def equal(self) -> bool | None:
        """Whether both are the same number; None without a reported one."""
        return None if self.reported is None else self.top1 == self.reported


@torch.inference_mode()
def accuracy(network: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> float:
    """Correct answers over all images, a fraction. The host synchronizes with the device once, at the end. Raises
    ValueError without images."""
    total, correct = 0, None
    for images, labels in batches:
        hits = (network(images).argmax(dim=1) == labels).sum()
        correct = hits if correct is None else correct + hits
        total += len(labels)
    if correct is None:
        raise ValueError("an accuracy needs at least one image")
    return int(correct) / total


def conditions(device: torch.device | str, batch_size: int) -> Evaluation:
    """Conditions of this process: float32, channels last, the current number of threads."""
    return Evaluation(
        device=torch.device(device).type,
        batch_size=batch_size,
        dtype="float32",
        memory_format="channels_last",
        threads=torch.get_num_threads(),
    )


def inputs(
    dataset: Dataset,
    split: str,
    preprocessing: Preprocessing,
    evaluation: Evaluation,
    input_size: tuple[int, int],
    *,
    device: torch.device | str,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None,
) -> Iterator[Batch]:
    """Batches of a split's images (or of `rows`, in their order), preprocessed for a network of this input size."""
    for images, labels in evaluation_batches(
        dataset, split, preprocessing, batch_size=evaluation.batch_size, device=device, rows=rows
    ):
        sized = resize(images, input_size, align_corners=preprocessing.align_corners, antialias=preprocessing.antialias)
        yield Batch(sized.contiguous(memory_format=_layout(evaluation)), labels)


def load(path: Path, evaluation: Evaluation, device: torch.device | str) -> Network:
    """A checkpoint's network on a device, in the memory format of evaluation. Raises CheckpointError."""
    network = checkpoint.load(path).to(device)
    convert_conv2d_weight_memory_format(network, _layout(evaluation))
    return network


def reevaluate(path: Path, dataset: Dataset, split: str = "report") -> Reevaluation:
    """Measure a checkpoint again under its recorded conditions. Raises ValueError if it does not fit the dataset, and
    CheckpointError for another file."""
    try:
        point = Point.model_validate(checkpoint.read_record(path))
    except ValidationError as error:
        raise checkpoint.CheckpointError(
            f"{path.name} is not a point's checkpoint ({error}): use one from a search"
        ) from error
    profile = dataset.profile
    if point.classes != profile.classes:
        raise ValueError(
            f"{path.name} has {_listed(point.classes)}, but the dataset has {_listed(profile.classes)}: use the "
            "dataset of its search"
        )
    channels = len(point.preprocessing.mean)
    if channels != profile.channels:
        raise ValueError(
            f"{path.name} takes {channels} channels, but the dataset has {profile.channels}: use the dataset of "
            "its search"
        )
    evaluation = point.evaluation
    device = evaluation.device if evaluation.device == "cpu" or torch.cuda.is_available() else "cpu"
    with _threads(evaluation.threads):
        batches = inputs(dataset, split, point.preprocessing, evaluation, point.input_size, device=device)
        top1 = accuracy(load(path, evaluation, device), batches)
    images = dataset.split(split)
    same = device == evaluation.device and point.provenance.get("splits", {}).get(split) == digest(images)
    reported = point.metrics.get(METRICS.get(split, "")) if same else None
    return Reevaluation(split=split, top1=top1, reported=reported, images=len(images))


def digest(split: Split) -> str:
    """SHA-256 of a split's decoded pixels, sizes and labels in order. Accuracies are comparable if it is equal."""
    found = hashlib.sha256(split.labels.tobytes())
    found.update(split.heights.tobytes() + split.widths.tobytes())
    for start in range(0, len(split), _ROWS):
        pixels, _ = split.gather(np.arange(start, min(start + _ROWS, len(split))))
        found.update(pixels.tobytes())
    return found.hexdigest()


def _layout(evaluation: Evaluation) -> torch.memory_format:
    return torch.channels_last if evaluation.memory_format == "channels_last" else torch.contiguous_format


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _listed(classes: tuple[str, ...]) -> str:
    return f"{len(classes)} classes ({', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''})"
