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
        description="Accuracies, costs, and of each device of the search `latency_ms:DEVICE` (the median) and "
        "`latency_p95_ms:DEVICE`."
    )
    basis: Literal["measured", "estimated"]
    feasible: bool = Field(description="Whether it meets the search's constraints.")
    artifact: Artifact | None = Field(
        description="Its checkpoint (safetensors); null: it has no weights of its own yet."
    )


class PointDetail(FrontPoint):
    """A network with the whole record that its checkpoint carries."""

    exports: list[ExportForm] = Field(description="The formats that it can be exported in, and how each is loaded.")
    record: dict[str, Any] = Field(description="Architecture, preprocessing, classes, evaluation, provenance.")
    created_at: datetime
    updated_at: datetime


class Corner(Response):
    """A corner of the box that the hypervolume is measured in."""

    macs: float
    selection_top1: float


class BestUnder(Response):
    """The point to deploy under every bound from this one up to the next of its list."""

    bound: float
    point_id: str
    selection_top1: float


class Front(MajorityClass):
    """The points that no other one beats in both `x` and `y`; infeasible ones are never among them."""

    search_id: str
    sequence: int
    warnings: list[SearchWarning] = Field(
        default_factory=list, description="Those of its search, once it is over: the best network is at chance."
    )
    x: Cost
    device: str | None = Field(description="Of x latency_ms: what it was measured on.")
    y: Accuracy
    points: Sequence[FrontPoint] = Field(description="By growing `x`.")
    baselines: Sequence[FrontPoint] = Field(
        description="For comparison: never in the front, `select` or the hypervolume."
    )
    dominated: Sequence[FrontPoint] | None = Field(
        description="The remaining candidates, if asked for: those that are dominated, and those that miss a bound of "
        "the search (`feasible` is false)."
    )
    best_under: dict[str, list[BestUnder]] = Field(
        description="By cost (`latency_ms:DEVICE` for those of a device), growing: what `select` answers for a bound "
        "on it. Of the front over the search's own objectives."
    )
    hypervolume: float | None = Field(description="log10(MACs) x selection_top1, normalised to [0, 1].")
    reference: Corner | None = Field(description="1.1 x the largest candidate's MACs, and chance.")
    ideal: Corner | None = Field(description="The smallest candidate's MACs, and 1.")


class Bound(Request):
    """A bound on a metric of the point."""

    metric: Literal["macs", "pool_inputs", "params", "peak_activation_bytes", "latency_ms", "selection_top1"]
    device: str | None = Field(
        default=None, description="Of latency_ms alone; unset: the device of the search, if it has one only."
    )
    op: Literal["<=", ">="] = "<="
    value: float = Field(ge=0, allow_inf_nan=False)


class Selection(Request):
    """Which point of the front to deploy: the one with the most of `maximize` among those that meet every bound."""

    constraints: tuple[Bound, ...] = Field(default=(), max_length=16)
    maximize: Accuracy = "selection_top1"
