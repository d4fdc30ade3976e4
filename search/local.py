"""A search without a service: the same plans and trials, in this process, in one folder.

OUT contains `search.json` (specification, trials and their reports: the state to resume from), `front.json`,
`points/KEY.safetensors`, `metrics.jsonl`, and `trials/N/` with each trial's artifacts and checkpoint.

`paretofit.search.scheduler` decides what comes next and how the search ends, as in the service. If a method raises an
error with a failure code (`contracts.failures`), its trial is kept as `failed` and the search continues. Any other
error ends the run, and the next run retries that trial.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Final

from paretofit.search import chance, scheduler, trials
from paretofit.search.chance import Majority
from paretofit.search.contracts import failures
from paretofit.search.contracts.plan import TrialArtifact, TrialState
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import RESERVE, ResolvedSpec
from paretofit.search.contracts.trial import Reporter, Stop, Trial, TrialEndedError, trial_seed
from paretofit.search.data.store import Dataset
from paretofit.search.local_folder import (
    LocalReporter,
    LocalSearchError,
    LocalState,
    LocalTrial,
    artifact_file,
    write_json,
)
from paretofit.search.pareto import hypervolume, nondominated, preference
from paretofit.search.scheduler import SearchResult, Snapshot, Spent, StopReason, time_limit

_STATE: Final = "search.json"

Launch = Callable[[Callable[[Trial, Reporter], dict[str, Any]], Trial, Reporter], dict[str, Any]]
"""Runs a method's `run`, here or in other processes."""


@dataclass(frozen=True, slots=True)
class Front:
    """Result of a search: its non-dominated points, cheapest first, and its normalized hypervolume.

    `stop_reason` says why it ended; None before the end or after a failure. `warnings` ({code, detail}) compare its
    most accurate point with `majority`, the majority class; none before the end. `failed` are the errors of trials,
    each with the trial's number.
    """

    points: list[Point]
    hypervolume: float
    finished: bool
    stop_reason: StopReason | None = None
    majority: Majority | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """As JSON, without the points."""
        return {
            "finished": self.finished,
            "stop_reason": self.stop_reason,
            "hypervolume": self.hypervolume,
            "majority": None if self.majority is None else {"class": self.majority.label, **self.majority.by_metric()},
            "warnings": self.warnings,
            "failed": [{name: error[name] for name in ("trial", "code", "detail")} for error in self.failed],
        }


class LocalSearch:
    """A search in a folder, new or resumed. Raises LocalSearchError if the folder contains another search, or no
    network meets the constraints. `launch` runs a trial; unset: in this process."""

    def __init__(
        self, spec: ResolvedSpec, dataset: Path, out: Path, *, device: str = "cpu", launch: Launch | None = None
    ) -> None:
        self.spec = spec
        self.out = out
        self._dataset = dataset
        self._device = device
        self._launch = launch or (lambda run, trial, reporter: run(trial, reporter))
        if (low := spec.low_limit()) is not None:
            field, detail = low
            raise LocalSearchError(f"limits.{field}: {detail}")
        try:
            spec.method.check_devices(spec.devices)
        except (ValueError, OSError) as error:
            raise LocalSearchError(str(error)) from error
        if not (candidates := spec.candidates()) or not spec.feasible():
            raise LocalSearchError(_infeasible(spec))
        macs = [candidate.cost["macs"] for candidate in candidates]
        self._macs = (min(macs), max(macs))
        described = spec.model_dump(mode="json")
        out.mkdir(parents=True, exist_ok=True)
        self._state = LocalState(spec=described)
        if (out / _STATE).exists():
            self._state = LocalState.model_validate_json((out / _STATE).read_bytes())
            if ResolvedSpec.model_validate(self._state.spec) != spec:
                raise LocalSearchError(f"{out} contains a search with another specification: choose another folder")
        self._began: float | None = monotonic() - self._state.seconds if self._state.seconds else None

    def run(self, stop: Callable[[], Stop], on_progress: Callable[[int, float], None]) -> Front:
        """Plan and run trials until the search ends, or until `stop` says cancel or drain; write the front.

        Raises LocalSearchError if the search fails: it found no network and met no limit.
        """
        while (result := self._schedule()) is None:
            number = next(number for number, trial in enumerate(self._state.trials) if trial.state == "queued")
            if stop() in (Stop.CANCEL, Stop.DRAIN) or not self._run(number, stop, on_progress):
                break
        front = self._write_front(result)
        if result is not None and (error := result.error) is not None:
            if front.failed:
                raise LocalSearchError(
                    f"no network was found: trial {error['trial']} failed: {failures.summary(error)}"
                )
            raise LocalSearchError(error["detail"])
        return front

    @property
    def seconds(self) -> float:
        """Seconds from the start of its first trial to its last saved state, over all runs."""
        return self._state.seconds

    def points(self) -> list[Point]:
        """Every network reported so far, including baselines, in the order of the trials."""
        return [point for trial in self._state.trials for point in trial.points.values()]

    def _schedule(self) -> SearchResult | None:
        """Apply the scheduler's decision. Returns the result of a finished search, or None if a trial is queued.

        The method plans only when no trial is queued, so that a resumed search plans like an uninterrupted one."""
        history = tuple(trial.record(number) for number, trial in enumerate(self._state.trials))
        decision = scheduler.enforce_limits(Snapshot(self.spec.limits, history, self._spent()))
        for number in decision.cancel:
            self._state.trials[number].state = "cancelled"
        if (snapshot := decision.plan_from) is not None and not snapshot.active:
            decision = scheduler.apply_plan(snapshot, trials.plan(self.spec, snapshot.history))
            self._state.trials += [LocalTrial(new=new) for new in decision.queue]
        self._save()
        return decision.result

    def _run(self, number: int, stop: Callable[[], Stop], on_progress: Callable[[int, float], None]) -> bool:
        """Run one trial; False if it was interrupted. Reraises errors without a failure code."""
        if self._began is None:
            self._began = monotonic()
        done = self._state.trials[number]
        folder = self.out / "trials" / str(number)
        work = folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        saved = folder / "checkpoint"
        reporter = LocalReporter(
            folder=folder,
            curves=self.out / "metrics.jsonl",
            number=number,
            trial=done,
            stop=lambda: self._limited(stop()),
            on_progress=on_progress,
        )
        inputs = {name: self._input(source) for name, source in done.new.inputs.items()}
        trial = Trial(
            number=number,
            spec=self.spec,
            params=done.new.params,
            dataset=self._dataset,
            work=work,
            device=self._device,
            seed=trial_seed(self.spec.seed, number),
            inputs=inputs,
            checkpoint=saved if saved.exists() else None,
        )
        state: TrialState = "completed"
        began = monotonic()
        try:
            outputs = self._launch(trials.run, trial, reporter)
        except TrialEndedError as ended:
            state, outputs, done.error = ended.state, ended.outputs, ended.error
        except Exception as error:
            if failures.code_of(error) is None:
                raise
            state, outputs, done.error = "failed", None, failures.describe(error)
        done.seconds += monotonic() - began
        interrupted = reporter.stop_sent in (Stop.CANCEL, Stop.DRAIN)
        if interrupted:
            done.error = None
        else:
            done.state, done.outputs = state, outputs
            shutil.rmtree(saved, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
        self._save()
        return not interrupted

    def _input(self, source: TrialArtifact) -> Path:
        if source.trial is None:
            assert self.spec.method.start is not None
            return Path(self.spec.method.start.reference)
        return artifact_file(self.out / "trials" / str(source.trial), source.artifact)

    def _limited(self, requested: Stop) -> Stop:
        is_late = time_limit(self.spec.limits, self._spent(), share=1 - RESERVE) is not None
        return Stop.LIMIT if requested is Stop.NO and is_late else requested

    def _spent(self) -> Spent:
        """Seconds since its first trial began, over all runs; one trial runs at a time, so both times are equal."""
        seconds = 0.0 if self._began is None else monotonic() - self._began
        return Spent(wall_seconds=seconds, device_seconds=seconds)

    def _save(self) -> None:
        self._state.seconds = self._spent().wall_seconds
        write_json(self.out / _STATE, self._state.model_dump(mode="json"))

    def _write_front(self, result: SearchResult | None) -> Front:
        found = [
            (number, point)
            for number, trial in enumerate(self._state.trials)
            for point in trial.points.values()
            if point.role == "candidate" and all(bound.holds(point.metrics) for bound in self.spec.constraints)
        ]
        kept = [found[i] for i in nondominated([p.metrics for _, p in found], ["selection_top1"], self.spec.costs)]
        kept.sort(key=lambda entry: entry[1].metrics["macs"])
        folder = self.out / "points"
        folder.mkdir(exist_ok=True)
        entries = []
        for number, point in kept:
            file = None
            if point.weights is not None:
                file = f"points/{point.key}.safetensors"
                shutil.copyfile(artifact_file(self.out / "trials" / str(number), point.weights), self.out / file)
            entries.append({"file": file, **point.model_dump(mode="json")})
        points = [point for _, point in kept]
        volume = hypervolume([p.metrics for _, p in found], macs=self._macs, classes=len(self.spec.dataset.classes))
        best = min(points, key=lambda point: preference(point.metrics, point.key), default=None)
        majority = chance.majority(Dataset.open(self._dataset).report.get("class_counts"))
        front = Front(
            points=points,
            hypervolume=volume,
            finished=result is not None,
            stop_reason=None if result is None else result.stop_reason,
            majority=majority,
            warnings=chance.warnings(None if best is None else best.metrics, majority) if result is not None else [],
            failed=[
                {"trial": number, **trial.error}
                for number, trial in enumerate(self._state.trials)
                if trial.state == "failed" and trial.error is not None
            ],
        )
        write_json(self.out / "front.json", front.summary() | {"points": entries})
        return front


def _infeasible(spec: ResolvedSpec) -> str:
    nearest = [
        f"{bound.metric} <= {bound.value:.12g} (minimum {min(c.cost[bound.metric] for c in spec.candidates())})"
        for bound in spec.constraints
        if bound.device is None
    ]
    return f"no network meets the constraints {', '.join(nearest)}: relax them, or extend the method's range"
