"""Folder of a search without a service: its state in `search.json`, and the reports of each trial."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.plan import NewTrial, TrialRecord, TrialState
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Stop


class LocalSearchError(ValueError):
    """The folder or the specification cannot be used to run or resume a search."""


class LocalTrial(BaseModel):
    """State of a trial. `points` holds the last report of each key."""

    model_config = ConfigDict(extra="forbid")

    new: NewTrial
    state: TrialState = "queued"
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    points: dict[str, Point] = {}
    artifacts: list[str] = []
    seconds: float = 0.0

    def record(self, number: int) -> TrialRecord:
        """The trial as input of plans."""
        return TrialRecord(
            number=number,
            state=self.state,
            params=self.new.params,
            outputs=self.outputs,
            points=tuple(point.metrics for point in self.points.values() if point.role == "candidate"),
            error=self.error,
            seconds=self.seconds,
        )


class LocalState(BaseModel):
    """Contents of `search.json`: the specification, the seconds since the first trial began, the trials by number."""

    model_config = ConfigDict(extra="forbid")

    spec: dict[str, Any]
    seconds: float = 0.0
    trials: list[LocalTrial] = []


@dataclass(slots=True)
class LocalReporter:
    """A `Reporter` that writes below `folder`. `should_stop` calls `stop`."""

    folder: Path
    curves: Path
    number: int
    trial: LocalTrial
    stop: Callable[[], Stop]
    on_progress: Callable[[int, float], None]
    stop_sent: Stop = field(default=Stop.NO, init=False)

    def metric(self, name: str, step: int, value: float) -> None:
        if name == "progress":
            self.on_progress(self.number, value)
        line = {"trial": self.number, "name": name, "step": step, "value": value}
        with self.curves.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def point(self, point: Point) -> None:
        if point.weights is not None and point.weights not in self.trial.artifacts:
            raise LocalSearchError(
                f"point {point.key!r} refers to weights {point.weights!r}, which were not reported: report the "
                "artifact first"
            )
        self.trial.points[point.key] = point

    def artifact(self, name: str, path: Path) -> None:
        target = artifact_file(self.folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        if name not in self.trial.artifacts:
            self.trial.artifacts.append(name)

    def latency(self, measured: Measured) -> None:
        """The table in the trial's artifact is sufficient without a service."""

    def checkpoint(self, path: Path, step: int) -> None:
        del step
        kept, former = self.folder / "checkpoint", self.folder / "checkpoint.former"
        shutil.rmtree(former, ignore_errors=True)
        with suppress(FileNotFoundError):
            kept.rename(former)
        path.rename(kept)
        shutil.rmtree(former, ignore_errors=True)

    def should_stop(self) -> Stop:
        self.stop_sent = self.stop()
        return self.stop_sent


def artifact_file(folder: Path, name: str) -> Path:
    """Path of a trial's artifact. Raises LocalSearchError for a name that is not a file name."""
    if name in {"", ".", ".."} or Path(name).name != name:
        raise LocalSearchError(f"invalid artifact name {name!r}: use a plain file name")
    return folder / "artifacts" / name


def write_json(path: Path, value: object) -> None:
    """Write a file atomically: an interruption leaves the former one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)
