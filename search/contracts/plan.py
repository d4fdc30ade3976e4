"""What a method's `plan` says and what it is told: new trials, and the history of a search."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from paretofit.search.contracts.base import Contract

TrialState = Literal["queued", "running", "completed", "pruned", "infeasible", "failed", "cancelled"]
ACTIVE: Final = frozenset({"queued", "running"})
"""States of trials that have not ended."""
INITIAL: Final = "initial.safetensors"
"""Artifact of a search, and input of each of its trials: the weights that its method starts from
(`MethodParams.start`)."""
FLOOR: Final = "start_top1"
"""Output and metric of a training from trained weights: the selection accuracy that they have before its first step."""
START: Final = "start"
"""Input of every trial of a search that starts from trained weights: their file."""


class TrialArtifact(Contract):
    """An artifact of an earlier trial of the same search, or (no trial) of the search itself."""

    trial: int | None
    artifact: str


class NewTrial(Contract):
    """A unit of work to be queued."""

    params: dict[str, Any]
    inputs: dict[str, TrialArtifact] = Field(default_factory=dict)
    device: str | None = Field(
        default=None,
        description="Device that it measures on (`paretofit.search.latency.devices`): it runs on a worker that offers "
        "it, alone on the machine.",
    )


class TrialRecord(Contract):
    """A trial of a search's history, in the order of `number`."""

    number: int
    state: TrialState
    params: dict[str, Any]
    outputs: dict[str, Any] | None = Field(
        default=None,
        description="What `run` returned. A trial that trains says for how many `epochs`, and for how many it would "
        "have without limits (`planned_epochs`).",
    )
    points: tuple[dict[str, float], ...] = Field(default=(), description="The metrics of the points it reported.")
    error: dict[str, Any] | None = Field(
        default=None, description="Why it failed or is infeasible: {code, detail, ...} (`contracts.failures`)."
    )


class Plan(Contract):
    """What comes next: trials to queue now; `done` when nothing will follow the trials that are still under way."""

    trials: tuple[NewTrial, ...] = ()
    done: bool = False
    stop_reason: Literal["max_trials", "max_epochs"] | None = Field(
        default=None, description="The limit for which the method plans less than was asked of it."
    )
