"""Stage 2: measure every feasible width and resolution of the supernet, and cut out the networks on the front.

No training: a candidate needs its batch norm statistics, computed on one fixed subset of the training images, and its
accuracy on the selection split.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import torch

from models import checkpoint
from models.build import Network
from search import evaluation
from search.data.loader import Batch
from search.data.store import Dataset
from search.methods.method import Candidate
from search.methods.mutualnet import supernet
from search.methods.mutualnet.params import MutualNetParams
from search.methods.mutualnet.plan import SUPERNET
from search.pareto import nondominated
from search.reporter import Point, Preprocessing, Reporter, Stop, Trial

AT_LIMIT: Final = 8
"""Candidates that are measured even at a limit, spread over the costs: they come first."""
GRID_SHARE: Final = 0.7
"""Of the trial's `progress`; the rest is the front."""
KEPT_BYTES: Final = 512 * 1024**2
"""Inputs of one split and size that are kept for the next network; more are made anew."""


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Report a point for each feasible candidate, and those on the front again with weights and `top1`."""
    sweep = _Sweep(trial, reporter)
    stop = sweep.grid()
    if stop not in (Stop.CANCEL, Stop.DRAIN):
        stop = sweep.front()
    if stop is Stop.DRAIN:
        sweep.save()
    return {"evaluated": len(sweep.points), "candidates": len(sweep.candidates)}


@dataclass
class _Inputs:
    """Batches as networks of one input size get them, kept between the networks if they are small."""

    make: Callable[[tuple[int, int]], Iterator[Batch]]
    _size: tuple[int, int] = field(default=(0, 0), init=False)
    _kept: list[Batch] = field(default_factory=list, init=False)

    def at(self, size: tuple[int, int]) -> Iterator[Batch]:
        if self._size == size:
            yield from self._kept
            return
        kept: list[Batch] = []
        room = KEPT_BYTES
        for batch in self.make(size):
            room -= batch.images.nbytes
            if room >= 0:
                kept.append(batch)
            else:
                kept.clear()
            yield batch
        if room >= 0:
            self._size, self._kept = size, kept


class _Sweep:
    def __init__(self, trial: Trial, reporter: Reporter) -> None:
        self.trial = trial
        self.reporter = reporter
        self.device = torch.device(trial.device)
        self.params: MutualNetParams = trial.spec.method
        self.profile = trial.spec.dataset
        self.candidates = _spread_first(trial.spec.feasible())
        self.points: dict[str, Point] = {}

        dataset = Dataset.open(trial.dataset)
        height, width = max(candidate.input_size for candidate in self.candidates)
        batch_size = max(32, min(128, 2**19 // (height * width)))
        self.evaluation = evaluation.conditions(self.device, int(batch_size * trial.batch_scale))
        self.preprocessing = Preprocessing(
            crop=self.profile.image_size,
            mean=self.profile.mean,
            std=self.profile.std,
            antialias=self.params.antialias,
        )
        train = len(dataset.split("train"))
        whole = min(self.params.calibration_images, train) // self.evaluation.batch_size * self.evaluation.batch_size
        drawn = np.random.default_rng(trial.seed).permutation(train)[: whole or train]
        self._calibration = self._inputs(dataset, "train", np.sort(drawn))
        self._selection = self._inputs(dataset, "selection")
        self._report = self._inputs(dataset, "report")
        self.provenance = {
            "method": self.params.kind,
            "seed": trial.spec.seed,
            "trial": trial.number,
            "dataset": self.profile.fingerprint,
            "splits": {name: evaluation.digest(dataset.split(name)) for name in ("selection", "report")},
            "torch": torch.__version__,
        }
        self.network = supernet.load(trial.inputs[SUPERNET], self.device)
        if trial.checkpoint is not None:
            self._restore(trial.checkpoint)

    def grid(self) -> Stop:
        """Measure the candidates that have not been; returns why it ended early, if it did."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        objectives = [objective.metric for objective in self.trial.spec.objectives]
        study = optuna.create_study(
            directions=["maximize" if name == "selection_top1" else "minimize" for name in objectives],
            sampler=optuna.samplers.RandomSampler(seed=self.trial.seed),
        )
        choices: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(sorted({c.config[name] for c in self.candidates}))
            for name in ("width", "resolution")
        }
        waiting = {
            (candidate.config["width"], candidate.config["resolution"]): candidate
            for candidate in self.candidates
            if candidate.key not in self.points
        }
        for candidate in waiting.values():
            study.enqueue_trial(candidate.config)
        for _ in waiting:
            stop = self.reporter.should_stop()
            if stop in (Stop.CANCEL, Stop.DRAIN) or (stop is Stop.LIMIT and len(self.points) >= AT_LIMIT):
                return stop
            asked = study.ask(choices)
            candidate = waiting[asked.params["width"], asked.params["resolution"]]
            point = self._measure(candidate)
            study.tell(asked, [point.metrics[name] for name in objectives])
            self.points[candidate.key] = point
            self.reporter.point(point)
            self._progress(GRID_SHARE * len(self.points) / len(self.candidates))
        return Stop.NO

    def front(self) -> Stop:
        """Cut out the non-dominated networks, measure each as loaded back from its file, and report both; returns why
        it ended early, if it did."""
        points = list(self.points.values())
        costs = [o.metric for o in self.trial.spec.objectives if o.metric != "selection_top1"]
        chosen = [points[i] for i in nondominated([point.metrics for point in points], ["selection_top1"], costs)]
        path = self.trial.work / "swept.safetensors"
        supernet.save(path, self.network)
        self.reporter.artifact(SUPERNET, path)
        chosen.sort(key=lambda point: point.input_size)
        for done, point in enumerate(chosen, start=1):
            stop = self.reporter.should_stop()
            if stop in (Stop.CANCEL, Stop.DRAIN):
                return stop
            if point.weights is None:
                self._publish(point)
            self._progress(GRID_SHARE + (1 - GRID_SHARE) * done / len(chosen))
        return Stop.NO

    def save(self) -> None:
        """A checkpoint: the statistics so far, then the points."""
        folder = self.trial.work / f"checkpoint-{len(self.points)}"
        folder.mkdir()
        supernet.save(folder / "supernet.safetensors", self.network)
        manifest = folder / "manifest.json.partial"
        manifest.write_text(json.dumps([point.model_dump(mode="json") for point in self.points.values()]))
        manifest.rename(folder / "manifest.json")
        self.reporter.checkpoint(folder, len(self.points))

    def _restore(self, folder: Path) -> None:
        points = [Point.model_validate(point) for point in json.loads((folder / "manifest.json").read_bytes())]
        self.points = {point.key: point for point in points}
        self.network = supernet.load(folder / "supernet.safetensors", self.device)

    def _measure(self, candidate: Candidate) -> Point:
        architecture = self.params.architecture(self.profile, float(candidate.config["width"]))
        size = candidate.input_size
        self.network.calibrate(architecture, (batch.images for batch in self._calibration.at(size)))

        top1 = evaluation.accuracy(lambda images: self.network(images, architecture), self._selection.at(size))
        return Point(
            key=candidate.key,
            architecture=architecture.to_json(),
            input_size=size,
            classes=self.profile.classes,
            config=candidate.config,
            metrics={"selection_top1": top1, **candidate.cost},
            preprocessing=self.preprocessing,
            evaluation=self.evaluation,
            provenance=self.provenance,
            supernet=SUPERNET,
        )

    def _publish(self, point: Point) -> None:
        """Its `top1` is that of the file, so the file is written twice: to be measured, then with what was measured."""
        name = f"{point.key}.safetensors"
        path = self.trial.work / name
        architecture = self.params.architecture(self.profile, float(point.config["width"]))
        network: Network = self.network.extract(architecture, point.input_size)
        named = point.model_copy(update={"weights": name})
        checkpoint.save(path, network, named.model_dump(mode="json"))
        loaded = evaluation.load(path, self.evaluation, self.device)
        top1 = evaluation.accuracy(loaded, self._report.at(point.input_size))
        final = named.model_copy(update={"metrics": {**point.metrics, "top1": top1}})
        checkpoint.save(path, network, final.model_dump(mode="json"))
        self.reporter.artifact(name, path)
        self.reporter.point(final)
        self.points[final.key] = final

    def _inputs(self, dataset: Dataset, split: str, rows: Any = None) -> _Inputs:
        def make(size: tuple[int, int]) -> Iterator[Batch]:
            return evaluation.inputs(
                dataset, split, self.preprocessing, self.evaluation, size, device=self.device, rows=rows
            )

        return _Inputs(make)

    def _progress(self, fraction: float) -> None:
        self.reporter.metric("progress", round(1000 * fraction), fraction)


def _spread_first(candidates: list[Candidate]) -> list[Candidate]:
    """`AT_LIMIT` candidates evenly over the costs, then the others; both by input size, whose inputs are kept."""
    count = min(AT_LIMIT, len(candidates))
    ranks = {round(i * (len(candidates) - 1) / max(1, count - 1)) for i in range(count)}
    order = sorted(range(len(candidates)), key=lambda rank: (rank not in ranks, candidates[rank].input_size, rank))
    return [candidates[rank] for rank in order]
