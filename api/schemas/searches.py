"""Searches: state, progress, usage and estimates."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from paretofit.api.schemas.base import Response
from paretofit.api.schemas.trials import TrialState

SearchState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Progress(Response):
    """Progress of a search."""

    trials: dict[TrialState, int] = Field(
        description="Trials planned so far, by state; states with no trials are omitted."
    )
    fraction: float = Field(
        ge=0, le=1, description="Completed fraction of the trials planned so far; 1 when the search has finished."
    )
    eta_seconds: float | None = Field(description="Extrapolated from the fraction and the elapsed time; null: unknown.")


class Usage(Response):
    """Resources that a search has used."""

    device_seconds: float = Field(description="Compute time of its trials, failed attempts included.")
    wall_seconds: float = Field(description="Time since its first trial started, without pauses.")
    attempts: int


class UnmetBound(Response):
    """A constraint that no network meets, with the nearest network: among those that meet the other constraints, if
    there are any."""

    metric: str = Field(description="Name as in the metrics of points: `latency_ms:DEVICE`.")
    op: Literal["<="]
    value: float
    nearest: float
    point_id: str


class SearchWarning(Response):
    """A caveat about the result of a search."""

    code: str = Field(
        description="`at_chance`: the best network does not beat the majority class by two standard errors."
    )
    detail: str


class MajorityClass(Response):
    """The trivial baseline: always predicting the most frequent class of the training images. Null for a dataset whose
    classes were not counted."""

    majority_class: str | None = Field(description="The most frequent class of the training images.")
    majority_top1: float | None = Field(description="Accuracy of always predicting it, on the report split.")
    majority_selection_top1: float | None = Field(description="The same on the selection split.")


class FrontSummary(MajorityClass):
    """Summary of the front."""

    sequence: int = Field(
        description="Increases whenever a point or a warning is added or changed; the ETag of the front."
    )
    points: int
    best_selection_top1: float | None
    best_top1: float | None = Field(
        description="Report-split accuracy of the point that is best on the selection split; null until measured."
    )
    macs_min: float | None
    macs_max: float | None
    hypervolume: float | None = Field(description="log10(MACs) x selection_top1, normalized to [0, 1].")
    unmet: list[UnmetBound] = Field(
        default_factory=list,
        description="While the front is empty: the constraints that no network meets.",
    )


class Search(Response):
    """A search as shown in lists."""

    id: str
    name: str
    state: SearchState
    stop_reason: str | None = Field(
        description="Why it ended: completed, trials_failed (some trials failed, others did not), or the limit "
        "that was reached."
    )
    error: dict[str, Any] | None = Field(
        description="Why it failed: {code, detail, ...}. Besides the codes of trials: `no_points` (it ended without "
        "a network) and `method_error` (planning failed)."
    )
    warnings: list[SearchWarning] = Field(
        default_factory=list, description="Reasons not to use the result although the search succeeded."
    )
    method: str
    dataset_id: str
    labels: dict[str, str]
    priority: int
    limits: dict[str, int | float | None] = Field(description="Current limits; null: unlimited.")
    cancel_requested: bool
    pause_requested: bool = Field(description="It is paused, or will be once its running trials have saved their work.")
    progress: Progress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class SearchDetail(Search):
    """A search with its specification and results."""

    spec: dict[str, Any] = Field(
        description="The accepted specification, with defaults and the profile of the dataset."
    )
    usage: Usage
    front: FrontSummary
    provenance: dict[str, Any] = Field(
        description="Versions of the service and its components at submission; cloned_from: the search it was cloned "
        "from."
    )


class CostRange(Response):
    """The range of one cost over the feasible configurations."""

    min: int
    max: int


class KnownLatency(Response):
    """Known latencies of the feasible configurations on a device; the search measures the others first."""

    measured: int = Field(description="Configurations whose latency is known from earlier searches.")
    min_ms: float | None = Field(description="Lowest median among them; null: unknown.")
    max_ms: float | None


class Estimate(Response):
    """Size and expected duration of a search, without running it."""

    configurations: int = Field(description="Networks in the search space.")
    feasible: int = Field(description="Networks that meet every constraint.")
    cost: dict[str, CostRange] = Field(description="By metric: macs, pool_inputs, params, peak_activation_bytes.")
    expected_seconds: float | None = Field(description="Expected device time, from earlier searches; null: unknown.")
    based_on: int = Field(description="Number of earlier searches that `expected_seconds` is based on.")
    latency: dict[str, KnownLatency] = Field(
        default_factory=dict, description="By the devices of constraints and objectives."
    )
