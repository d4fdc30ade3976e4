"""Trials: a search's units of work, their attempts, curves and logs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from paretofit.api.schemas.artifacts import Artifact
from paretofit.api.schemas.base import Response

TrialState = Literal["queued", "running", "completed", "pruned", "infeasible", "failed", "cancelled"]


ERROR_CODES: Final[Mapping[str, str]] = {
    "not_learning": "The training learned nothing beyond the frequencies of the classes, even after a restart at a "
    "lower learning rate: check the labels, lower `learning_rate`, or start from trained weights (`start`).",
    "below_start": "The training ended below the accuracy of the weights that it started from: lower `learning_rate`, "
    "or train for longer.",
    "diverged": "The loss or the weights became infinite or not a number: lower `learning_rate`.",
    "oom": "Memory ran out, even with half of the batch size: use a smaller `batch_size`, smaller images or networks.",
    "stalled": "It reported no progress for too long; its log ends with where it was.",
    "crashed": "The trainer process ended without a result, as often as it may be tried again.",
    "lost": "Its worker did not renew its lease, as often as it may be tried again.",
    "limit": "It went on for too long after the search had reached a limit; what it reported is kept.",
    "infeasible": "No network meets the constraints: relax them.",
    "missing_input": "A file that it needs is not there.",
    "not_understood": "The worker does not know this specification: update the worker.",
    "storage": "Its files could not be read from or written to the blob store.",
    "system": "The worker's machine refused something, such as disk space.",
    "bad_report": "It reported something that cannot be stored, such as an accuracy that is not a number.",
    "error": "The method raised an error; `traceback` and the log say where.",
}
"""What the codes of trials' errors mean. A method may raise errors with further codes of its own."""


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
    error: dict[str, Any] | None = Field(
        description="Why it failed: {code, detail, ...}. "
        + " ".join(f"`{code}`: {meaning}" for code, meaning in ERROR_CODES.items())
    )
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
