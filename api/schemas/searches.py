"""Searches: what they are asked for, how far they came, what they would cost."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from paretofit.api.schemas.base import Response
from paretofit.api.schemas.trials import TrialState

SearchState = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
TERMINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})


class Progress(Response):
    """How far a search came."""

    trials: dict[TrialState, int] = Field(description="Trials planned so far, by state; states without any are absent.")
    fraction: float = Field(ge=0, le=1, description="Of the trials planned so far; 1 when the search is over.")
    eta_seconds: float | None = Field(description="Extrapolated from the fraction and the time so far; null: unknown.")


class Usage(Response):
    """What a search spent."""

    device_seconds: float = Field(description="Time that its trials computed, attempts that failed included.")
    wall_seconds: float = Field(description="Time since its first trial started, without its pauses.")
    attempts: int


class UnmetBound(Response):
    """A bound of the search that no network meets, and how near the best of them came: of those that meet the other
    bounds, if any do."""

    metric: str = Field(description="As points call it: `latency_ms:DEVICE`.")
    op: Literal["<="]
    value: float
    nearest: float
    point_id: str


class SearchWarning(Response):
    """What the readers of a search have to know of its result."""

    code: str = Field(
        description="`at_chance`: the best network does not beat the majority class by two standard errors."
    )
    detail: str


class MajorityClass(Response):
    """The baseline that takes no learning: always answering the most frequent class of the training images. Null for a
    dataset whose classes were not counted."""

    majority_class: str | None = Field(description="The most frequent class of the training images.")
    majority_top1: float | None = Field(description="Accuracy of always answering it, on the report split.")
    majority_selection_top1: float | None = Field(description="The same on the selection split.")


class FrontSummary(MajorityClass):
    """The front in figures."""

    sequence: int = Field(description="Grows whenever a point or a warning is added or changes; the front's ETag.")
    points: int
    best_selection_top1: float | None
    best_top1: float | None = Field(
        description="On the report split, of the point that is best on the selection split; null until it is measured."
    )
    macs_min: float | None
    macs_max: float | None
    hypervolume: float | None = Field(description="log10(MACs) x selection_top1, normalised to [0, 1].")
    unmet: list[UnmetBound] = Field(
        default_factory=list,
        description="While there is no point: the constraints that keep every network from the front.",
    )


class Search(Response):
    """A search as lists show it."""

    id: str
    name: str
    state: SearchState
    stop_reason: str | None = Field(
        description="Why it succeeded: completed, trials_failed (with what the others found), or the limit that it met."
    )
    error: dict[str, Any] | None = Field(
        description="Why it failed: {code, detail, ...}. Beside the codes of trials: `no_points` (it ended without a "
        "network) and `method_error` (the method could not plan)."
    )
    warnings: list[SearchWarning] = Field(
        default_factory=list, description="Once it is over: what speaks against using its result although it succeeded."
    )
    method: str
    dataset_id: str
    labels: dict[str, str]
    priority: int
    limits: dict[str, int | float | None] = Field(description="What it may spend now; null: without limit.")
    cancel_requested: bool
    pause_requested: bool = Field(description="It is paused, or will be once its running trials saved their work.")
    progress: Progress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class SearchDetail(Search):
    """A search with its specification and what came of it."""

    spec: dict[str, Any] = Field(description="As accepted: with defaults filled in and the dataset's profile.")
    usage: Usage
    front: FrontSummary
    provenance: dict[str, Any] = Field(
        description="Versions of the service and its parts that accepted the search; cloned_from: the search it "
        "repeats."
    )


class CostRange(Response):
    """The least and the most of one cost among the feasible configurations."""

    min: int
    max: int


class KnownLatency(Response):
    """What is known of the feasible configurations' latencies on a device; the search measures the others first."""

    measured: int = Field(description="Configurations whose latency is known from earlier searches.")
    min_ms: float | None = Field(description="The least median among them; null: unknown.")
    max_ms: float | None


class Estimate(Response):
    """What a search would explore and take, without running it."""

    configurations: int = Field(description="Networks that the method may find.")
    feasible: int = Field(description="Of these, the ones that meet every constraint.")
    cost: dict[str, CostRange] = Field(description="By metric: macs, pool_inputs, params, peak_activation_bytes.")
    expected_seconds: float | None = Field(description="Device time, from earlier searches; null: unknown.")
    based_on: int = Field(description="Earlier searches that `expected_seconds` rests on.")
    latency: dict[str, KnownLatency] = Field(
        default_factory=dict, description="By device that constraints and objectives name."
    )
