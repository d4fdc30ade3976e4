"""Trials of a search, with their attempts, curves and logs."""

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
    "stalled": "The trainer reported no progress for too long; the end of the log shows where it stopped.",
    "crashed": "The trainer process exited without a result in every allowed attempt.",
    "lost": "Its worker did not renew the lease, in each of the allowed attempts.",
    "limit": "The trial did not stop within the grace period after a limit of the search; reported results are kept.",
    "infeasible": "No network meets the constraints: relax them.",
    "missing_input": "A required input file is missing.",
    "not_understood": "The worker does not know this specification: update the worker.",
    "storage": "Files could not be read from or written to the blob store.",
    "system": "The operating system of the worker returned an error, such as a full disk.",
    "bad_report": "The trainer reported an invalid value, such as an accuracy that is not a number.",
    "error": "The method raised an error; see `traceback` and the log.",
}
"""Error codes of trials and their meanings. Methods may define further codes."""


class Trial(Response):
    """A trial as shown in lists."""

    id: str
    search_id: str
    number: int = Field(description="Counts from 0 within its search.")
    state: TrialState
    params: dict[str, Any]
    inputs: dict[str, Any] = Field(
        description="By name: the artifacts it starts from, of an earlier trial or (without a trial) of the search."
    )
    progress: float = Field(description="Completed fraction in [0, 1], as the trainer reports it.")
    worker: str | None = Field(description="The worker that runs it now.")
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
        description="When computation began: measurements and trainings on one machine wait for each other."
    )
    ended_at: datetime | None


class TrialDetail(Trial):
    """A trial with its outputs, attempts and files."""

    outputs: dict[str, Any] | None
    attempts: list[Attempt]
    artifacts: list[Artifact]


class Measurement(Response):
    """One value of a curve; null where it was not finite."""

    step: int
    value: float | None
    at: datetime


class Curve(Response):
    """A metric over steps. A curve with more values than requested is downsampled to measured values: the first, the
    last, and the minimum and maximum of each interval between them."""

    name: str
    total: int = Field(description="Values recorded after `since_step`.")
    points: list[Measurement]


class Curves(Response):
    """The curves of a trial."""

    trial_id: str
    curves: list[Curve]


class LogLine(Response):
    """A log line of an attempt."""

    seq: int
    epoch: int
    stream: str
    line: str
    at: datetime
