"""A search without a service: the same plans and runs, in this process, with everything in one folder.

OUT holds `search.json` (specification, trials and what they reported: it is what a later run goes on from),
`front.json`, `points/KEY.safetensors`, `metrics.jsonl`, and `trials/N/` with each trial's artifacts and checkpoint. A
trial whose method raises an error with a code of its own (`contracts.failures`) is kept as `failed`, and the
search goes on with the others; any other error ends the run, and the next run tries that trial again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from paretofit.search import chance, trials
from paretofit.search.chance import Majority
from paretofit.search.contracts import failures
from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.plan import NewTrial, TrialArtifact, TrialRecord
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import RESERVE, ResolvedSpec
from paretofit.search.contracts.trial import Reporter, Stop, Trial, TrialEndedError, trial_seed
from paretofit.search.data.store import Dataset
from paretofit.search.pareto import hypervolume, nondominated, preference

_STATE: Final = "search.json"

Launch = Callable[[Callable[[Trial, Reporter], dict[str, Any]], Trial, Reporter], dict[str, Any]]
"""Calls a method's `run`, here or elsewhere too."""


class LocalSearchError(ValueError):
    """A folder or a specification with which no search can be run or gone on with."""


class _Done(BaseModel):
    """A trial so far. `points` are by key, the last report of each."""

    model_config = ConfigDict(extra="forbid")

    new: NewTrial
    state: str = "queued"
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    points: dict[str, Point] = {}
    artifacts: list[str] = []


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    spec: dict[str, Any]
    seconds: float = 0.0
    trials: list[_Done] = []


@dataclass(slots=True)
class LocalReporter:
    """A `Reporter` that writes below `folder`. `stop` is asked at every `should_stop`."""

    folder: Path
    curves: Path
    number: int
    done: _Done
    stop: Callable[[], Stop]
    on_progress: Callable[[int, float], None]
    told: Stop = field(default=Stop.NO, init=False)

    def metric(self, name: str, step: int, value: float) -> None:
        if name == "progress":
            self.on_progress(self.number, value)
        line = {"trial": self.number, "name": name, "step": step, "value": value}
        with self.curves.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def point(self, point: Point) -> None:
        if point.weights is not None and point.weights not in self.done.artifacts:
            raise LocalSearchError(f"point {point.key!r} names weights {point.weights!r} that were not reported before")
        self.done.points[point.key] = point

    def artifact(self, name: str, path: Path) -> None:
        target = artifact_file(self.folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        if name not in self.done.artifacts:
            self.done.artifacts.append(name)

    def latency(self, measured: Measured) -> None:
        """The trial's table is all that a search by itself needs."""

    def checkpoint(self, path: Path, step: int) -> None:
        del step
        kept, former = self.folder / "checkpoint", self.folder / "checkpoint.former"
        shutil.rmtree(former, ignore_errors=True)
        with suppress(FileNotFoundError):
            kept.rename(former)
        path.rename(kept)
        shutil.rmtree(former, ignore_errors=True)

    def should_stop(self) -> Stop:
        self.told = self.stop()
        return self.told


def artifact_file(folder: Path, name: str) -> Path:
    """Where a trial's artifact is kept. Raises LocalSearchError for a name that is no file name."""
    if name in {"", ".", ".."} or Path(name).name != name:
        raise LocalSearchError(f"an artifact's name must be a plain file name, not {name!r}")
    return folder / "artifacts" / name


@dataclass(frozen=True, slots=True)
class Front:
    """What a search found: its non-dominated points, cheapest first, and its normalised hypervolume.

    `warnings` ({code, detail}) are about its most accurate point, compared with `majority`, the majority class; there
    are none before it has finished. `failed` are the errors of trials, each with the trial's number.
    """

    points: list[Point]
    hypervolume: float
    finished: bool
    majority: Majority | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """As JSON, without the points."""
        return {
            "finished": self.finished,
            "hypervolume": self.hypervolume,
            "majority": None if self.majority is None else {"class": self.majority.label, **self.majority.by_metric()},
            "warnings": self.warnings,
            "failed": [{name: error[name] for name in ("trial", "code", "detail")} for error in self.failed],
        }


class LocalSearch:
    """A search in a folder: new, or gone on with where it was interrupted. Raises LocalSearchError if the folder holds
    another search, or the specification spans no feasible network. `launch` is what runs a trial; unset: this
    process."""

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
        self._state = _State(spec=described)
        if (out / _STATE).exists():
            self._state = _State.model_validate_json((out / _STATE).read_bytes())
            if ResolvedSpec.model_validate(self._state.spec) != spec:
                raise LocalSearchError(f"{out} holds a search with another specification: choose another folder")
        self._began = time.monotonic() - self._state.seconds

    def run(self, stop: Callable[[], Stop], on_progress: Callable[[int, float], None]) -> Front:
        """Plan and run trials until nothing follows, or until `stop` says cancel or drain; write the front.

        Raises LocalSearchError if it ends without a network because a trial failed or nothing meets the constraints.
        """
        stopped = False
        while not stopped:
            done = self._plan()
            queued = [number for number, trial in enumerate(self._state.trials) if trial.state == "queued"]
            if not queued and done:
                self._require_feasible()
                break
            if not queued:
                raise LocalSearchError(f"method {self.spec.method.kind} plans no trial and is not done")
            for number in queued:
                if stop() in (Stop.CANCEL, Stop.DRAIN) or not self._run(number, stop, on_progress):
                    stopped = True
                    break
        front = self._write_front(finished=not stopped)
        if front.finished and not front.points and front.failed:
            first = front.failed[0]
            raise LocalSearchError(f"no network was found: trial {first['trial']} failed: {failures.said(first)}")
        return front

    @property
    def seconds(self) -> float:
        """Spent on it when its state was last kept, all its runs together."""
        return self._state.seconds

    def points(self) -> list[Point]:
        """Every network that was reported so far, baselines among them, in the order of the trials."""
        return [point for trial in self._state.trials for point in trial.points.values()]

    def _plan(self) -> bool:
        """Queue what the method wants; whether nothing follows."""
        history = [_record(number, trial) for number, trial in enumerate(self._state.trials)]
        if failures.keeps_failing(record.state for record in history):
            return True
        plan = trials.plan(self.spec, history)
        room = (self.spec.limits.max_trials or len(history) + len(plan.trials)) - len(history)
        self._state.trials += [_Done(new=new) for new in plan.trials[: max(0, room)]]
        self._save()
        return plan.done or len(plan.trials) > room

    def _run(self, number: int, stop: Callable[[], Stop], on_progress: Callable[[int, float], None]) -> bool:
        """Run one trial; False if it was interrupted. Raises what it raises, unless that has a failure code."""
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
            done=done,
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
        state = "completed"
        try:
            outputs = self._launch(trials.run, trial, reporter)
        except TrialEndedError as ended:
            state, outputs, done.error = ended.state, ended.outputs, ended.error
        except Exception as error:
            if failures.code_of(error) is None:
                raise
            state, outputs, done.error = "failed", None, failures.describe(error)
        interrupted = reporter.told in (Stop.CANCEL, Stop.DRAIN)
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

    def _require_feasible(self) -> None:
        for trial in self._state.trials:
            if trial.state == "infeasible" and trial.error is not None:
                raise LocalSearchError(trial.error["detail"])

    def _limited(self, asked: Stop) -> Stop:
        limits = self.spec.limits
        seconds = min(limits.max_wall_seconds or float("inf"), limits.max_device_seconds or float("inf"))
        spent = time.monotonic() - self._began
        return Stop.LIMIT if asked is Stop.NO and spent >= (1 - RESERVE) * seconds else asked

    def _save(self) -> None:
        self._state.seconds = time.monotonic() - self._began
        _write(self.out / _STATE, self._state.model_dump(mode="json"))

    def _write_front(self, *, finished: bool) -> Front:
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
            finished=finished,
            majority=majority,
            warnings=chance.warnings(None if best is None else best.metrics, majority) if finished else [],
            failed=[
                {"trial": number, **trial.error}
                for number, trial in enumerate(self._state.trials)
                if trial.state == "failed" and trial.error is not None
            ],
        )
        _write(self.out / "front.json", front.summary() | {"points": entries})
        return front


def _record(number: int, trial: _Done) -> TrialRecord:
    points = tuple(point.metrics for point in trial.points.values() if point.role == "candidate")
    return TrialRecord.model_validate(
        {
            "number": number,
            "state": trial.state,
            "params": trial.new.params,
            "outputs": trial.outputs,
            "points": points,
        }
    )


def _infeasible(spec: ResolvedSpec) -> str:
    nearest = [
        f"{bound.metric} <= {bound.value:.12g} (the least is {min(c.cost[bound.metric] for c in spec.candidates())})"
        for bound in spec.constraints
        if bound.device is None
    ]
    return f"no network meets the constraints {', '.join(nearest)}: relax them, or widen the method's range"


def _write(path: Path, value: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)
