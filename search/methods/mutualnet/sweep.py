"""Stage 2, the sweep: measures networks of the supernet and extracts those on the front. No training.

`grid` measures every feasible width and resolution. `adaptive` compares networks on a part of the selection split, the
same for all, with statistics from a part of the calibration images. It compares all networks, or proposed ones if there
are too many. At each fidelity the networks that add most volume advance to the next, up to the full one (successive
halving; Jamieson & Talwalkar, 2016, arXiv 1502.07943). Networks compared on a part only are not reported.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import CostMetric
from paretofit.search.contracts.trial import InterruptedMeasurementError, Reporter, Stop, Trial
from paretofit.search.methods.mutualnet import supernet
from paretofit.search.methods.mutualnet.budget import POLISHED
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.plan import SUPERNET
from paretofit.search.methods.mutualnet.proposals import Proposals
from paretofit.search.methods.mutualnet.space import AT_LIMIT, Space, by_size, groups, spread_first
from paretofit.search.methods.proposals import STARTUP
from paretofit.search.pareto import best_under, by_volume, nondominated
from paretofit.search.training.loop import CHECKPOINT_SECONDS, DivergedError
from paretofit.search.training.subnet_evaluator import Fidelity, SubnetEvaluator

MEASURED_SHARE: Final = 0.7
"""Fraction of the trial's `progress`; the rest is the front."""
PARTS: Final = (1 / 16, 1 / 4)
"""Fidelities below the full one, relative to it."""
_LEAST_GROWTH: Final = 3
"""Minimum ratio of successive fidelities; closer ones are left out."""
_AT_ONCE: Final = (Stop.CANCEL, Stop.DRAIN)
_SUPERNET_FILE: Final = "supernet.safetensors"
LEAST_IMAGES: Final = 128
"""Minimum number of images: statistics and accuracies of fewer are too noisy."""


class Compared(NamedTuple):
    """A network and its accuracy on the images of a fidelity."""

    candidate: Candidate
    top1: float


def run(trial: Trial, reporter: Reporter, *, checkpoint_seconds: float = CHECKPOINT_SECONDS) -> dict[str, Any]:
    """Report a point for each measured network, and those on the front again with weights and `top1`."""
    sweep = _Sweep(trial, reporter, checkpoint_seconds)
    stop = sweep.measure()
    if stop not in _AT_ONCE:
        stop = sweep.front()
    if stop is Stop.DRAIN:
        sweep.save()
    return sweep.outputs()


class _Sweep:
    def __init__(self, trial: Trial, reporter: Reporter, checkpoint_seconds: float) -> None:
        self.trial = trial
        self.reporter = reporter
        self.params = trial.spec.params(SlimmableParams)
        self.candidates = trial.spec.feasible()
        self.costs = trial.spec.costs
        self.space = Space(trial.spec)
        few = self.space.listed and len(self.candidates) <= AT_LIMIT
        self.adaptive = self.params.sweep.mode == "adaptive" and not few
        source = trial.inputs[SUPERNET] if trial.checkpoint is None else trial.checkpoint / _SUPERNET_FILE
        largest = max(candidate.input_size for candidate in self.candidates)
        self.evaluator = SubnetEvaluator(trial, supernet.load(source, trial.device), largest, supernet=SUPERNET)
        self.efforts = _efforts(self.evaluator) if self.adaptive else [self.evaluator.full]
        self.compared: list[dict[str, Compared]] = [{} for _ in self.efforts]
        """Measurements at each fidelity, by key, in the order in which they were made."""
        self.points: dict[str, Point] = {}
        if trial.checkpoint is not None:
            self._restore(trial.checkpoint)
        self.stop = Stop.NO
        self.checkpoint_seconds = checkpoint_seconds
        self.checkpointed = time.monotonic()

    @property
    def budget(self) -> float:
        """In images."""
        if not self.adaptive:
            return float(len(self.candidates) * self.evaluator.full.images)
        grid = len(self.candidates if self.space.listed else self.trial.spec.candidates())
        least = AT_LIMIT * self.evaluator.full.images
        if len(self.efforts) > 1:
            least += grid * self.efforts[0].images
        return max(self.params.sweep.budget * grid * self.evaluator.full.images, least)

    def measure(self) -> Stop:
        """Measure the remaining networks; returns the reason for an early end, if any."""
        spread = spread_first(self.candidates)
        return self._halve(spread) if self.adaptive else self._compare(len(self.efforts) - 1, spread)

    def front(self) -> Stop:
        """Extract the non-dominated networks, measure each as loaded from its file, and report both. Returns the reason
        for an early end, if any. Raises DivergedError if no measured network is finite."""
        if self.compared[-1] and not self.points:
            raise DivergedError(
                "training diverged: every measured network has infinite or NaN weights or statistics; lower "
                "learning_rate"
            )
        chosen = self._front()
        path = self.trial.work / "swept.safetensors"
        supernet.save(path, self.evaluator.network)
        self.reporter.artifact(SUPERNET, path)
        chosen.sort(key=lambda point: point.input_size)
        for done, point in enumerate(chosen, start=1):
            stop = self.reporter.should_stop()
            if stop in _AT_ONCE:
                return stop
            if point.weights is None:
                self._publish(point)
            self._progress(MEASURED_SHARE + (1 - MEASURED_SHARE) * done / len(chosen))
        return Stop.NO

    def outputs(self) -> dict[str, Any]:
        """Outputs of the trial."""
        return {
            "evaluated": len(self.points),
            "nonfinite": len(self.compared[-1]) - len(self.points),
            "compared": len({key for compared in self.compared for key in compared}),
            "candidates": self.space.size if not self.space.listed else len(self.candidates),
            "images": self.evaluator.images,
            "best_under": {cost: self._table(cost) for cost in get_args(CostMetric)},
            "polish": self._to_polish(),
        }

    def save(self) -> None:
        """A checkpoint: the statistics so far, then the measurements."""
        done = sum(map(len, self.compared))
        folder = self.trial.work / f"checkpoint-{done}"
        folder.mkdir()
        supernet.save(folder / _SUPERNET_FILE, self.evaluator.network)
        state = {
            "images": self.evaluator.images,
            "points": [point.model_dump(mode="json") for point in self.points.values()],
            "compared": [
                [{"candidate": found.candidate.model_dump(mode="json"), "top1": found.top1} for found in each.values()]
                for each in self.compared
            ],
        }
        manifest = folder / "manifest.json.partial"
        manifest.write_text(json.dumps(state))
        manifest.rename(folder / "manifest.json")
        self.reporter.checkpoint(folder, done)
        self.checkpointed = time.monotonic()

    def _restore(self, folder: Path) -> None:
        state = json.loads((folder / "manifest.json").read_bytes())
        self.evaluator.images = state["images"]
        self.points = {point["key"]: Point.model_validate(point) for point in state["points"]}
        for each, saved in zip(self.compared, state["compared"], strict=True):
            for found in saved:
                candidate = Candidate.model_validate(found["candidate"])
                each[candidate.key] = Compared(candidate, found["top1"])

    def _halve(self, spread: list[Candidate]) -> Stop:
        left, last = self.budget, len(self.efforts) - 1
        ranked, stop = spread, Stop.NO
        for rung, effort in enumerate(self.efforts):
            # Equal shares of the rest, as in successive halving, and enough for the last.
            spared = AT_LIMIT * self.evaluator.full.images if rung < last else 0
            count = int(min(left / (last + 1 - rung), left - spared) / effort.images)
            if 0 < rung < last and count <= AT_LIMIT:
                continue
            stop = self._propose(count, spread) if rung == 0 else self._compare(rung, by_size(ranked[:count]))
            if stop in _AT_ONCE:
                return stop
            left -= len(self.compared[rung]) * effort.images
            if rung < last:
                # The rest of the budget is not enough for more.
                ranked = self._ranked(self.compared[rung], most=int(left / self.efforts[rung + 1].images)) or ranked
            if stop is Stop.LIMIT:
                break
        if stop is Stop.LIMIT:
            first = {candidate.key: candidate for candidate in (*ranked, *spread)}
            stop = self._compare(last, by_size(list(first.values())))
        return stop

    def _propose(self, count: int, spread: list[Candidate]) -> Stop:
        """Compare networks at the lowest fidelity: all if their number is within the limit, else some spread over all
        costs, then proposed ones."""
        if self.space.listed and count >= len(spread):
            return self._compare(0, spread)
        known = self.compared[0]
        objectives = [objective.key for objective in self.trial.spec.objectives]
        proposals = Proposals(self.space, objectives, self.trial.seed)
        for found in known.values():
            proposals.tell(found.candidate, _metrics(found))
        first = [candidate for candidate in spread[:STARTUP] if candidate.key not in known]
        while len(known) < count:
            candidate = first.pop(0) if first else proposals.ask()
            if candidate is None:
                break
            stop = self._compare(0, [candidate])
            if stop is not Stop.NO:
                return stop
            proposals.tell(candidate, _metrics(known[candidate.key]))
        return Stop.NO

    def _compare(self, rung: int, candidates: Iterable[Candidate]) -> Stop:
        """Measure the remaining networks at this fidelity; returns the reason for an early end, if any. At the full
        fidelity some are measured even at a limit. Networks with infinite or NaN weights or statistics do not become
        points."""
        known, effort, full = self.compared[rung], self.efforts[rung], rung == len(self.efforts) - 1
        for group in groups([candidate for candidate in candidates if candidate.key not in known], effort.images):
            stop = self._requested_stop()
            if stop in _AT_ONCE or (stop is Stop.LIMIT and not (full and len(known) < AT_LIMIT)):
                return stop
            try:
                found = self.evaluator.accuracies(group, effort, lambda: self._requested_stop() in _AT_ONCE)
            except InterruptedMeasurementError:
                return self.stop
            for candidate, top1 in zip(group, found, strict=True):
                known[candidate.key] = Compared(candidate, top1)
                if full and self.evaluator.finite(candidate):
                    self.points[candidate.key] = point = self.evaluator.point(candidate, top1)
                    self.reporter.point(point)
            self._progress(MEASURED_SHARE * min(1.0, self.evaluator.images / self.budget))
            if time.monotonic() - self.checkpointed >= self.checkpoint_seconds:
                self.save()
        return Stop.NO

    def _requested_stop(self) -> Stop:
        self.stop = self.reporter.should_stop()
        return self.stop

    def _ranked(self, compared: Mapping[str, Compared], most: int) -> list[Candidate]:
        """Networks by added volume in accuracy and the logarithms of the costs: at most the given number, and at least
        one."""
        # Latencies are known for networks that meet the other bounds.
        every = [c for c in self.trial.spec.candidates() if all(cost in c.cost for cost in self.costs)]
        reference = (
            -1 / len(self.trial.spec.dataset.classes),
            *(math.log10(1.1 * max(candidate.cost[cost] for candidate in every)) for cost in self.costs),
        )
        found = list(compared.values())
        values = [(-each.top1, *(math.log10(each.candidate.cost[cost]) for cost in self.costs)) for each in found]
        return [found[index].candidate for index in by_volume(values, reference, most=max(1, most))]

    def _front(self) -> list[Point]:
        points = list(self.points.values())
        return [points[i] for i in nondominated([point.metrics for point in points], ["selection_top1"], self.costs)]

    def _table(self, cost: str) -> list[dict[str, Any]]:
        """The best of all networks for every bound on each cost, including costs that are not objectives."""
        points = list(self.points.values())
        return [
            {"bound": bound, "key": points[at].key, "selection_top1": points[at].metrics["selection_top1"]}
            for bound, at in best_under([(point.key, point.metrics) for point in points], cost)
        ]

    def _to_polish(self) -> dict[str, Any] | None:
        """Configurations of the front networks to polish, by covered volume, and of their teacher: the best network of
        all, or the full one if constraints exclude it from measurement."""
        if not self.params.polish or not self.points:
            return None
        spec = self.trial.spec
        front = {p.key: Compared(spec.candidate(p.config), p.metrics["selection_top1"]) for p in self._front()}
        full = self.params.candidate(spec.dataset, self.params.full_config(spec.dataset))
        best = max(front.values(), key=lambda each: each.top1).candidate
        teacher = best if full.key in self.points else full
        taught = {
            key: each for key, each in front.items() if each.candidate.cost["macs"] <= POLISHED * full.cost["macs"]
        }
        networks = self._ranked(taught, most=self.params.polish_networks) if taught else []
        return {"teacher": dict(teacher.config), "networks": [dict(each.config) for each in networks]}

    def _publish(self, point: Point) -> None:
        name = f"{point.key}.safetensors"
        final = self.evaluator.publish(point, name)
        self.reporter.artifact(name, self.trial.work / name)
        self.reporter.point(final)
        self.points[final.key] = final

    def _progress(self, fraction: float) -> None:
        self.reporter.metric("progress", round(1000 * fraction), fraction)


def _efforts(evaluator: SubnetEvaluator) -> list[Fidelity]:
    """With increasing numbers of images, the last one full."""
    efforts: list[Fidelity] = []
    for part in (evaluator.part(fraction, LEAST_IMAGES) for fraction in PARTS):
        if part.images * _LEAST_GROWTH <= evaluator.full.images and (
            not efforts or part.images >= _LEAST_GROWTH * efforts[-1].images
        ):
            efforts.append(part)
    return [*efforts, evaluator.full]


def _metrics(found: Compared) -> dict[str, float]:
    return {"selection_top1": found.top1, **found.candidate.cost}
