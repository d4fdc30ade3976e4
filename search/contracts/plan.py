"""Input and output of a method's `plan`: the history of a search and new trials."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from paretofit.search.contracts.base import Contract

TrialState = Literal["queued", "running", "completed", "pruned", "infeasible", "failed", "cancelled"]
ACTIVE: Final = frozenset({"queued", "running"})
"""States of trials that have not ended."""
INITIAL: Final = "initial.safetensors"
"""Artifact of a search and input of each of its trials: the weights that its method starts from
(`MethodParams.start`)."""
FLOOR: Final = "start_top1"
"""Output and metric of a training from trained weights: their selection accuracy before the first step."""
START: Final = "start"
"""Input of every trial of a search that starts from trained weights: the weights file."""


class TrialArtifact(Contract):
    """An artifact of an earlier trial of the same search or, without a trial, of the search itself."""

    trial: int | None
    artifact: str


class NewTrial(Contract):
    """A trial to queue."""

    params: dict[str, Any]
    inputs: dict[str, TrialArtifact] = Field(default_factory=dict)
    device: str | None = Field(
        default=None,
        description="Device that it measures on (`paretofit.search.latency.devices`); it runs on a worker that "
        "offers the device, and no other trial runs on the machine.",
    )


class TrialRecord(Contract):
    """A trial in a search's history, which is ordered by `number`."""

    number: int
    state: TrialState
    params: dict[str, Any]
    outputs: dict[str, Any] | None = Field(
        default=None,
        description="Return value of `run`. A training trial includes the `epochs` it ran, and how many it would "
        "run without limits (`planned_epochs`).",
    )
    points: tuple[dict[str, float], ...] = Field(default=(), description="Metrics of the points it reported.")
    seconds: float = Field(default=0.0, description="Time that its attempts computed, once it has ended.")
    error: dict[str, Any] | None = Field(
        default=None, description="Why it failed or is infeasible: {code, detail, ...} (`contracts.failures`)."
    )


class Plan(Contract):
    """The next trials to queue; `done` when none will follow the active ones."""

    trials: tuple[NewTrial, ...] = ()
    done: bool = False
    stop_reason: Literal["max_trials", "max_epochs", "max_wall_seconds", "max_device_seconds"] | None = Field(
        default=None, description="The limit that makes the method plan fewer or shorter trials than requested."
    )
