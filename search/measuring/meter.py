"""Accuracies of the networks that a trained one contains, and the networks themselves as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models import checkpoint
from models.architecture import Architecture, channel_vector
from models.build import Network
from models.layers.slimmable import Slimmable
from search import evaluation
from search.data import splits
from search.data.loader import Batch
from search.data.store import Dataset
from search.measuring.together import Together
from search.methods.method import Candidate
from search.methods.training import TrainingParams
from search.reporter import Point, Preprocessing, Trial

KEPT_BYTES: Final = 512 * 1024**2
"""Inputs of one split, or part of it, that are kept for the next network; more are made anew."""

Size = tuple[int, int]


class InterruptedMeasurementError(Exception):
    """A measurement was given up because the trial is to end."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How many images a measurement passes through a network: to calibrate it, and to classify them."""

    calibration: int
    selection: int

    @property
    def images(self) -> int:
        return self.calibration + self.selection


@dataclass
class _Inputs:
    """Batches as networks of one input size get them, kept between the networks as far as there is room."""

    make: Callable[[Size], Iterator[Batch]]
    _kept: dict[Size, list[Batch]] = field(default_factory=dict, init=False)

    def at(self, size: Size) -> Iterator[Batch]:
        if size in self._kept:
            yield from self._kept[size]
            return
        made: list[Batch] = []
        for batch in self.make(size):
            if _bytes(made) <= KEPT_BYTES:
                made.append(batch)
            yield batch
        while self._kept and sum(map(_bytes, [made, *self._kept.values()])) > KEPT_BYTES:
            del self._kept[next(iter(self._kept))]
        if _bytes(made) <= KEPT_BYTES:
            self._kept[size] = made


class Meter:
    """Measures sub-networks of `network`, on the same images for all. `images` counts those that passed through one,
    but for the report split. `largest` input sizes decide on the batch; `supernet` names the artifact that points
    without weights of their own are cut from."""

    def __init__(self, trial: Trial, network: Slimmable, largest: Size, *, supernet: str | None = None) -> None:
        self.network = network
        self._supernet = supernet
        self.images = 0
        self._trial = trial
        self._params: TrainingParams = trial.spec.method
        self._profile = trial.spec.dataset
        self._device = torch.device(trial.device)
        self._dataset = Dataset.open(trial.dataset)
        height, width = largest
        batch_size = max(32, min(128, 2**19 // (height * width)))
        self._evaluation = evaluation.conditions(self._device, int(batch_size * trial.batch_scale))
        self._preprocessing = Preprocessing(
            crop=self._profile.image_size,
            mean=self._profile.mean,
            std=self._profile.std,
            antialias=self._params.antialias,
        )
        train = len(self._dataset.split("train"))
        self._drawn = np.random.default_rng(trial.spec.seed).permutation(train)
        self.full = Effort(
            calibration=self._whole(min(self._params.calibration_images, train)),
            selection=len(self._dataset.split("selection")),
        )
        self._inputs: dict[tuple[str, int], _Inputs] = {}
        self._provenance = {
            "method": self._params.kind,
            "seed": trial.spec.seed,
            "trial": trial.number,
            "dataset": self._profile.fingerprint,
            "splits": {name: evaluation.digest(self._dataset.split(name)) for name in ("selection", "report")},
            "torch": torch.__version__,
        }

    def part(self, fraction: float, least: int) -> Effort:
        """A fraction of the full effort, or `least` images of each kind if those are more."""
        return Effort(
            calibration=min(self.full.calibration, self._whole(max(least, int(fraction * self.full.calibration)))),
            selection=min(self.full.selection, max(least, int(fraction * self.full.selection))),
        )

    def accuracies(
        self, group: Sequence[Candidate], effort: Effort, interrupted: Callable[[], bool] = lambda: False
    ) -> list[float]:
        """Of networks of one input size, on selection images that are the same for all, classes in proportion. Their
        statistics are kept if the effort is the full one.

        Raises InterruptedMeasurementError if it is interrupted, which it asks at every batch.
        """
        return [hits.sum().item() / len(hits) for hits in self.hits(group, effort, interrupted)]

    def hits(
        self, group: Sequence[Candidate], effort: Effort, interrupted: Callable[[], bool] = lambda: False
    ) -> list[Tensor]:
        """As `accuracies`, image by image: bool [images] for each network."""
        size = group[0].input_size
        architectures = [self._architecture(candidate) for candidate in group]
        networks = Together(self.network, architectures, size)
        watched = partial(_watched, interrupted=interrupted)
        calibration = watched(self._images("train", effort.calibration).at(size))
        networks.calibrate(batch.images for batch in calibration)
        try:
            found = networks.hits(watched(self._images("selection", effort.selection).at(size)))
        finally:
            if effort != self.full:
                for architecture in architectures:
                    del self.network.bank[channel_vector(architecture), size]
        self.images += effort.images * len(group)
        return found

    def measure(self, candidate: Candidate) -> Point:
        """A network by itself, on the whole selection split. Its statistics are kept."""
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

    def publish(self, point: Point, name: str) -> Point:
        """The point with `top1` and weights: the file `name` in the trial's folder.

        Its `top1` is that of the file, so the file is written twice: to be measured, then with what was measured.
        """
        path = self._trial.work / name
        network: Network = self.network.extract(Architecture.from_json(point.architecture), point.input_size)
        named = point.model_copy(update={"weights": name})
        checkpoint.save(path, network, named.model_dump(mode="json"))
        loaded = evaluation.load(path, self._evaluation, self._device)
        top1 = evaluation.accuracy(loaded, self._images("report").at(point.input_size))
        final = named.model_copy(update={"metrics": {**point.metrics, "top1": top1}})
        checkpoint.save(path, network, final.model_dump(mode="json"))
        return final

    def _architecture(self, candidate: Candidate) -> Architecture:
        return self._params.network(self._profile, candidate.config)

    def _images(self, split: str, number: int | None = None) -> _Inputs:
        """So many images of a split, those of a smaller number among them; unset: all."""
        images = self._dataset.split(split)
        number = len(images) if number is None else number
        if (split, number) not in self._inputs:
            rows: Any = None
            if split == "train":
                rows = np.sort(self._drawn[:number])
            elif number < len(images):
                rows = splits.subset(images.labels, number, self._trial.spec.seed)
            self._inputs[split, number] = _Inputs(
                lambda size: evaluation.inputs(
                    self._dataset,
                    split,
                    self._preprocessing,
                    self._evaluation,
                    size,
                    device=self._device,
                    rows=rows,
                )
            )
        return self._inputs[split, number]

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
