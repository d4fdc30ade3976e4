"""Interface between a method and its runner: trials go in; metrics, points and artifacts come out.

A method does not depend on the service: a script, a test or a trial process implements `Reporter`.
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
    """Requested stop of a running trial: none, end now, checkpoint and end, or report the results so far and end."""

    NO = "no"
    CANCEL = "cancel"
    DRAIN = "drain"
    LIMIT = "limit"


class InterruptedMeasurementError(Exception):
    """A measurement was aborted because the trial is to end."""


class TrialEndedError(Exception):
    """Raised by a method's `run` to end its trial in another state than `completed` without failing: `pruned`, because
    others dominate it, or `infeasible`, because it cannot meet the constraints. `error` states the reason."""

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
    """A trial with its inputs staged on this machine.

    `inputs` maps the plan's input names to files; `dataset` is a dataset directory (`paretofit.search.data`); `work` is
    an empty scratch folder; `checkpoint` is the folder of the last checkpoint of an earlier attempt; `seed` is the
    trial's own. `batch_scale` is 1, or 0.5 after an attempt ran out of memory: multiply batch sizes by it. A training
    saves a checkpoint every `checkpoint_seconds`.
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
    """Receives a method's results. Calls return immediately; results are kept in the order of the calls."""

    def metric(self, name: str, step: int, value: float) -> None:
        """The value of a curve at a step. The metric `progress` is the completed fraction of the trial in [0, 1]."""

    def point(self, point: Point) -> None:
        """A network that was found. Its `weights` artifact must have been reported before."""

    def artifact(self, name: str, path: Path) -> None:
        """A finished file of this trial under a unique name. The file must not change afterwards."""

    def latency(self, measured: Measured) -> None:
        """Latency of a network on a device, cached for other searches."""

    def checkpoint(self, path: Path, step: int) -> None:
        """A folder from which the trial can resume; its manifest is written last. The reporter takes ownership of the
        folder."""

    def should_stop(self) -> Stop:
        """The requested stop. Cheap: call it every step."""


@dataclass(slots=True)
class ForwardingReporter:
    """A `Reporter` that forwards all calls to another; subclasses override what they change."""

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
