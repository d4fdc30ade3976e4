"""Points and fronts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from paretofit.api.schemas.artifacts import Artifact
from paretofit.api.schemas.base import Request, Response
from paretofit.api.schemas.exports import ExportForm
from paretofit.api.schemas.searches import MajorityClass, SearchWarning

Cost = Literal["macs", "params", "peak_activation_bytes", "latency_ms"]
Accuracy = Literal["selection_top1"]


class FrontPoint(Response):
    """A network with its metrics."""

    id: str
    search_id: str
    trial_id: str
    key: str
    role: Literal["candidate", "baseline"]
    config: dict[str, Any] = Field(description="What the method varied, such as width and resolution.")
    input_size: tuple[int, int] = Field(description="Height and width, pixels.")
    metrics: dict[str, float | None] = Field(
        description="Accuracies and costs; for each device of the search `latency_ms:DEVICE` (median) and "
        "`latency_p95_ms:DEVICE`."
    )
    basis: Literal["measured", "estimated"]
    feasible: bool = Field(description="Whether it meets the search's constraints.")
    artifact: Artifact | None = Field(description="Its checkpoint (safetensors); null: it has no weights of its own.")


class PointDetail(FrontPoint):
    """A network with the full record that its checkpoint carries."""

    exports: list[ExportForm] = Field(description="The available export formats, and how to load each.")
    record: dict[str, Any] = Field(description="Architecture, preprocessing, classes, evaluation, provenance.")
    created_at: datetime
    updated_at: datetime


class Corner(Response):
    """A corner of the box in which the hypervolume is computed."""

    macs: float
    selection_top1: float


class BestUnder(Response):
    """Best point for bounds from this value up to the next entry."""

    bound: float
    point_id: str
    selection_top1: float


class Front(MajorityClass):
    """The Pareto front of the feasible points over `x` and `y`."""

    search_id: str
    sequence: int
    warnings: list[SearchWarning] = Field(
        default_factory=list, description="Warnings of the finished search, such as `at_chance`."
    )
    x: Cost
    device: str | None = Field(description="The device, if `x` is latency_ms.")
    y: Accuracy
    points: Sequence[FrontPoint] = Field(description="In ascending order of `x`.")
    baselines: Sequence[FrontPoint] = Field(
        description="For comparison only: excluded from the front, `select` and the hypervolume."
    )
    dominated: Sequence[FrontPoint] | None = Field(
        description="With `include=dominated`, the remaining candidates: dominated ones, and those that violate a "
        "constraint (`feasible` is false)."
    )
    best_under: dict[str, list[BestUnder]] = Field(
        description="By cost (`latency_ms:DEVICE` for a device), in ascending order: the result of `select` for a "
        "bound on it, over the front of the search's own objectives."
    )
    hypervolume: float | None = Field(description="log10(MACs) x selection_top1, normalized to [0, 1].")
    reference: Corner | None = Field(description="1.1 x the MACs of the largest candidate, and chance accuracy.")
    ideal: Corner | None = Field(description="The MACs of the smallest candidate, and accuracy 1.")


class DatasetPoint(FrontPoint):
    """A network with its metrics and the search that found it."""

    search_name: str
    method: str = Field(description="The method of the search.")
    feasible: bool = Field(description="Whether it meets the constraints of its own search; the front ignores them.")


class DatasetFront(MajorityClass):
    """The Pareto front over `x` and `y` of the networks that all searches of a dataset found."""

    dataset_id: str
    x: Cost
    device: str | None = Field(description="The device, if `x` is latency_ms.")
    y: Accuracy
    points: Sequence[DatasetPoint] = Field(description="In ascending order of `x`.")
    dominated: Sequence[DatasetPoint] | None = Field(
        description="With `include=dominated`, the remaining candidates: dominated ones, and those without `x`."
    )


class Bound(Request):
    """A constraint on a metric of the point."""

    metric: Literal["macs", "pool_inputs", "params", "peak_activation_bytes", "latency_ms", "selection_top1"]
    device: str | None = Field(
        default=None, description="For latency_ms only. Unset: the device of the search, if it has exactly one."
    )
    op: Literal["<=", ">="] = "<="
    value: float = Field(ge=0, allow_inf_nan=False)


class Selection(Request):
    """The point to deploy: the one with the highest `maximize` among those that meet every constraint."""

    constraints: tuple[Bound, ...] = Field(default=(), max_length=16)
    maximize: Accuracy = "selection_top1"
