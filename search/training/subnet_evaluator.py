"""Measures accuracies of a supernet's networks, and writes the networks to files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture, channel_vector
from paretofit.models.build import Network
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search import evaluation
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import InterruptedMeasurementError, Trial
from paretofit.search.data import splits
from paretofit.search.data.loader import Batch
from paretofit.search.data.store import Dataset
from paretofit.search.training.batched_evaluator import BatchedEvaluator
from paretofit.search.training.loop import DivergedError
from paretofit.search.training.params import TrainingParams

KEPT_BYTES: Final = 512 * 1024**2
"""Inputs that are cached for the next network; others are recomputed."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Images that a measurement passes through a network: for calibration, and for classification."""

    calibration: int
    selection: int

    @property
    def images(self) -> int:
        return self.calibration + self.selection


@dataclass
class _Inputs:
    """Preprocessed batches by (split, images, input size), cached as far as memory allows, the latest first."""

    make: Callable[[str, int, Size], Iterator[Batch]]
    _kept: dict[tuple[str, int, Size], list[Batch]] = field(default_factory=dict, init=False)

    def of(self, split: str, images: int, size: Size) -> Iterator[Batch]:
        key = split, images, size
        if key in self._kept:
            yield from self._kept[key]
            return
        made: list[Batch] = []
        held, room = 0, True
        for batch in self.make(*key):
            held += batch.images.nbytes
            if room and held > KEPT_BYTES:
                room, made = False, []
            if room:
                made.append(batch)
                self._make_room(held)
            yield batch
        if room:
            self._kept[key] = made

    def _make_room(self, images_bytes: int) -> None:
        while self._kept and images_bytes + sum(map(_bytes, self._kept.values())) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]


class SubnetEvaluator:
    """Measures sub-networks of `network`, all on the same images. `images` counts the images passed through networks,
    without the report split. The `largest` input sizes determine the batch size; `supernet` names the artifact from
    which points without weights are extracted."""

    def __init__(self, trial: Trial, network: Slimmable, largest: Size, *, supernet: str | None = None) -> None:
        self.network = network
        self._supernet = supernet
        self.images = 0
        self._trial = trial
        self._params = trial.spec.params(TrainingParams)
        self._profile = trial.spec.dataset
        self._device = torch.device(trial.device)
        self._dataset = Dataset.open(trial.dataset)
        height, width = largest
        batch_size = max(32, min(128, 2**19 // (height * width)))
        self._evaluation = evaluation.conditions(self._device, int(batch_size * trial.batch_scale))
        self._preprocessing = self._params.preprocessing(self._profile)
        train = len(self._dataset.split("train"))
        self._drawn = np.random.default_rng(trial.spec.seed).permutation(train)
        self.full = Fidelity(
            calibration=self._whole(min(self._params.calibration_images, train)),
            selection=len(self._dataset.split("selection")),
        )
        self._inputs = _Inputs(self._make_inputs)
        self._provenance: dict[str, Any] = {
            "method": self._params.kind,
            "seed": trial.spec.seed,
            "trial": trial.number,
            "dataset": self._profile.fingerprint,
            "splits": {name: evaluation.digest(self._dataset.split(name)) for name in ("selection", "report")},
            "torch": torch.__version__,
        }
        if trial.spec.start is not None:
            self._provenance["start"] = trial.spec.start.provenance()
        if trial.spec.latencies:
            self._provenance["latency"] = {
                device: {"batch": table.batch, "machine": table.machine}
                for device, table in trial.spec.latencies.items()
            }

    def part(self, fraction: float, least: int) -> Fidelity:
        """A fraction of the full fidelity, or `least` images of each kind if those are more."""
        return Fidelity(
            calibration=min(self.full.calibration, self._whole(max(least, int(fraction * self.full.calibration)))),
            selection=min(self.full.selection, max(least, int(fraction * self.full.selection))),
        )

    def images_of(self, split: str, size: Size, number: int | None = None) -> Iterator[Batch]:
        """Preprocessed batches of a number of images of a split; unset: for `train` the calibration images, else
        all."""
        if number is None:
            number = self.full.calibration if split == "train" else len(self._dataset.split(split))
        return self._inputs.of(split, number, size)

    def accuracies(
        self, group: Sequence[Candidate], effort: Fidelity, interrupted: Callable[[], bool] = lambda: False
    ) -> list[float]:
        """Accuracies of networks with one input size, on the same stratified selection images. Their statistics are
        kept at full fidelity.

        Raises InterruptedMeasurementError if a stop is requested, which is checked at every batch.
        """
        hits = torch.stack(self.hits(group, effort, interrupted))
        return [correct / hits.shape[1] for correct in hits.sum(dim=1).tolist()]

    def hits(
        self, group: Sequence[Candidate], effort: Fidelity, interrupted: Callable[[], bool] = lambda: False
    ) -> list[Tensor]:
        """As `accuracies`, per image: bool [images] for each network."""
        size = group[0].input_size
        architectures = [self._architecture(candidate) for candidate in group]
        watched = partial(_watched, interrupted=interrupted)
        bank = dict(self.network.bank)
        whole = False
        try:
            networks = BatchedEvaluator(self.network, architectures, size)
            networks.calibrate(batch.images for batch in watched(self._inputs.of("train", effort.calibration, size)))
            found = networks.hits(watched(self._inputs.of("selection", effort.selection, size)))
            whole = effort == self.full
        finally:
            if not whole:
                self.network.bank = bank
        self.images += effort.images * len(group)
        return found

    def measure(self, candidate: Candidate) -> Point:
        """A network extracted on its own, measured on the whole selection split. Its statistics are kept."""
        return self.point(candidate, *self.accuracies([candidate], self.full))

    def point(self, candidate: Candidate, selection_top1: float) -> Point:
        """A network with its accuracy on the whole selection split."""
        return Point(
            key=candidate.key,
            architecture=self._architecture(candidate).to_json(),
            input_size=candidate.input_size,
            classes=self._profile.classes,
            config=candidate.config,
            metrics={"selection_top1": selection_top1, **candidate.cost},
            preprocessing=self._preprocessing,
            evaluation=self._evaluation,
            provenance=self._provenance,
            supernet=self._supernet,
        )

    @cached_property
    def _weights_are_finite(self) -> bool:
        return all(bool(parameter.isfinite().all()) for parameter in self.network.parameters())

    def finite(self, candidate: Candidate) -> bool:
        """Whether all weights and statistics of a network measured at full fidelity are finite."""
        architecture = self._architecture(candidate)
        statistics = self.network.bank[channel_vector(architecture), candidate.input_size]
        if self._weights_are_finite and bool(statistics.isfinite().all()):
            return True
        network = self.network.extract(architecture, candidate.input_size)
        return checkpoint.first_nonfinite(network) is None

    def publish(self, point: Point, name: str) -> Point:
        """The point with `top1` and weights: the file `name` in the trial's folder.

        `top1` is measured on the file itself, so the file is written twice: before and after the measurement. Raises
        DivergedError for infinite or NaN weights or statistics.
        """
        path = self._trial.work / name
        network: Network = self.network.extract(Architecture.from_json(point.architecture), point.input_size)
        if (tensor := checkpoint.first_nonfinite(network)) is not None:
            raise DivergedError(
                f"training diverged: {tensor} of {point.key} has infinite or NaN values; lower learning_rate"
            )
        named = point.model_copy(update={"weights": name})
        checkpoint.save(path, network, named.model_dump(mode="json"))
        loaded = evaluation.load(path, self._evaluation, self._device)
        report = self._inputs.of("report", len(self._dataset.split("report")), point.input_size)
        top1 = evaluation.accuracy(loaded, report)
        final = named.model_copy(update={"metrics": {**point.metrics, "top1": top1}})
        checkpoint.save(path, network, final.model_dump(mode="json"))
        return final

    def _architecture(self, candidate: Candidate) -> Architecture:
        return self._params.network(self._profile, candidate.config)

    def _make_inputs(self, split: str, number: int, size: Size) -> Iterator[Batch]:
        """Images of a split; a larger number includes those of a smaller one."""
        images = self._dataset.split(split)
        rows: Any = None
        if split == "train":
            rows = np.sort(self._drawn[:number])
        elif number < len(images):
            rows = splits.subset(images.labels, number, self._trial.spec.seed)
        return evaluation.inputs(
            self._dataset, split, self._preprocessing, self._evaluation, size, device=self._device, rows=rows
        )

    def _whole(self, images: int) -> int:
        """In whole batches, if there are enough for one."""
        return images // self._evaluation.batch_size * self._evaluation.batch_size or images


def _watched(batches: Iterable[Batch], interrupted: Callable[[], bool]) -> Iterator[Batch]:
    for batch in batches:
        if interrupted():
            raise InterruptedMeasurementError
        yield batch


def _bytes(batches: list[Batch]) -> int:
    return sum(batch.images.nbytes for batch in batches)
