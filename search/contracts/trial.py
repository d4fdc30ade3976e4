"""What crosses between a method and whoever runs it: a trial goes in, metrics, points and artifacts come back.

A method knows nothing of the service; a script, a test or a trial process implements `Reporter`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec


class Stop(StrEnum):
    """What a running trial is asked to do: go on, end now, checkpoint and end, or report what it has and end."""

    NO = "no"
    CANCEL = "cancel"
    DRAIN = "drain"
    LIMIT = "limit"


class InterruptedMeasurementError(Exception):
    """A measurement was given up because the trial is to end."""


class TrialEndedError(Exception):
    """A method's `run` raises it to end its trial in another state than `completed`, which is no failure: `pruned`,
    because others dominate it, or `infeasible`, because it cannot meet the constraints. `error` tells its reader
    why."""

    def __init__(
        self,
        state: Literal["pruned", "infeasible"],
        outputs: dict[str, Any],
        error: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(state if error is None else error["detail"])
        self.state = state
        self.outputs = outputs
        self.error = error


@dataclass(frozen=True, slots=True)
class Trial:
    """A unit of work laid out on this machine.

    `inputs` maps the plan's input names to files; `dataset` is a dataset directory (`paretofit.search.data`); `work` is
    an empty scratch folder; `checkpoint` is the folder of the last checkpoint of an earlier attempt; `seed` is the
    trial's own. `batch_scale` is 1, or 0.5 after an attempt ran out of memory: multiply batch sizes by it. A training
    saves itself every `checkpoint_seconds`.
    """

    number: int
    spec: ResolvedSpec
    params: dict[str, Any]
    dataset: Path
    work: Path
    device: str = "cpu"
    seed: int = 0
    inputs: dict[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None
    batch_scale: float = 1.0
    checkpoint_seconds: float = 30.0


class Reporter(Protocol):
    """Where a method's results go. Calls return at once; what they hand over is kept in the order of the calls."""

    def metric(self, name: str, step: int, value: float) -> None:
        """A curve's value at a step. The metric `progress` is the trial's done fraction in [0, 1]."""

    def point(self, point: Point) -> None:
        """A network that was found. Its `weights` artifact must have been reported before."""

    def artifact(self, name: str, path: Path) -> None:
        """A finished file of this trial under a name of its own. The file must not change afterwards."""

    def latency(self, measured: Measured) -> None:
        """How long a network takes on a device: kept for other searches too."""

    def checkpoint(self, path: Path, step: int) -> None:
        """A folder from which the trial can go on; its manifest is written last. The reporter takes the folder."""

    def should_stop(self) -> Stop:
        """What is asked of the trial now. Cheap: call it every step."""


@dataclass(slots=True)
class ForwardingReporter:
    """A `Reporter` that hands everything on to another: what a special one changes is what it overrides."""

    reporter: Reporter

    def metric(self, name: str, step: int, value: float) -> None:
        self.reporter.metric(name, step, value)

    def point(self, point: Point) -> None:
        self.reporter.point(point)

    def artifact(self, name: str, path: Path) -> None:
        self.reporter.artifact(name, path)

    def latency(self, measured: Measured) -> None:
        self.reporter.latency(measured)

    def checkpoint(self, path: Path, step: int) -> None:
        self.reporter.checkpoint(path, step)

    def should_stop(self) -> Stop:
        return self.reporter.should_stop()


def trial_seed(search_seed: int, number: int) -> int:
    """The seed of a trial, in [0, 2**31): the same wherever the search runs."""
    digest = hashlib.sha256(f"{search_seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
