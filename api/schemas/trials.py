"""Trials: a search's units of work, their attempts, curves and logs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.schemas.artifacts import Artifact
from api.schemas.base import Response

TrialState = Literal["queued", "running", "completed", "pruned", "infeasible", "failed", "cancelled"]


class Trial(Response):
    """A unit of work as lists show it."""

    id: str
    search_id: str
    number: int = Field(description="Counts from 0 within its search.")
    state: TrialState
    params: dict[str, Any]
    inputs: dict[str, Any] = Field(
        description="By name: the artifact that it starts from, of an earlier trial or (no trial) the search."
    )
    progress: float = Field(description="Done fraction in [0, 1], as the trainer reports it.")
    worker: str | None = Field(description="Who runs it now.")
    crash_count: int
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Attempt(Response):
    """One claim of a trial by a worker; `outcome` is null while it runs."""

    epoch: int
    worker: str
    device: str | None
    outcome: str | None
    error: dict[str, Any] | None
    started_at: datetime
    computing_at: datetime | None = Field(
        description="When it had the machine: a measurement waits for the trainings on it, and they for that."
    )
    ended_at: datetime | None


class TrialDetail(Trial):
    """A trial with what it returned, its attempts and its files."""

    outputs: dict[str, Any] | None
    attempts: list[Attempt]
    artifacts: list[Artifact]


class Measurement(Response):
    """One value of a curve; null where it was not finite."""

    step: int
    value: float | None
    at: datetime


class Curve(Response):
    """A metric over steps. If there are more than was asked for, every value here is still one that was measured: the
    first, the last, and the least and the greatest of each stretch between them."""

    name: str
    total: int = Field(description="Values that were recorded after `since_step`.")
    points: list[Measurement]


class Curves(Response):
    """The curves of a trial."""

    trial_id: str
    curves: list[Curve]


class LogLine(Response):
    """A line that an attempt wrote."""

    seq: int
    epoch: int
    stream: str
    line: str
    at: datetime
