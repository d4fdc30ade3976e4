"""Fronts: read, chosen from, as a data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paretofit.api.schemas import points as schemas
from paretofit.api.schemas.points import Bound as MetricBound
from paretofit.api.schemas.points import Cost
from paretofit.client.api_object import Bound
from paretofit.client.calling import M, method
from paretofit.client.point import Point

if TYPE_CHECKING:
    import pandas


class Front(Bound[M], schemas.Front):
    """The points that no other one beats in both `x` and `y`."""

    points: Sequence[Point[M]]
    baselines: Sequence[Point[M]]
    dominated: Sequence[Point[M]] | None

    @method
    async def select(
        self,
        *,
        max_macs: float | None = None,
        max_params: float | None = None,
        max_activation_bytes: float | None = None,
        max_latency_ms: float | None = None,
        device: str | None = None,
        min_accuracy: float | None = None,
    ) -> Point[M]:
        """The point to deploy: the most accurate one (`selection_top1`) of the search that keeps every bound, as the
        service knows it by now. `device` is the latency's; unset: the search's, if it has one only.

        Raises ApiError (409) with the nearest values if no point does.
        """
        chosen = bounds(
            max_macs=max_macs,
            max_params=max_params,
            max_activation_bytes=max_activation_bytes,
            max_latency_ms=max_latency_ms,
            device=device,
            min_accuracy=min_accuracy,
        )
        return await select(self._transport, self.search_id, chosen)

    def records(self) -> list[dict[str, Any]]:
        """Its points, baselines and dominated points as flat rows: `on_front`, every metric, `config.NAME` of what the
        method varied."""
        shown = [(point, True) for point in self.points]
        shown += [(point, False) for point in (*self.baselines, *(self.dominated or ()))]
        return [_record(point, on_front=on_front) for point, on_front in shown]

    def to_pandas(self) -> pandas.DataFrame:
        """`records` as a data frame, indexed by the points' ids. Raises ImportError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("data frames need pandas: pip install 'paretofit[pandas]'") from error
        rows = self.records()
        columns = list(dict.fromkeys(name for row in rows for name in row)) or ["id"]
        return pandas.DataFrame(rows, columns=columns).set_index("id")


def bounds(
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_activation_bytes: float | None = None,
    max_latency_ms: float | None = None,
    device: str | None = None,
    min_accuracy: float | None = None,
) -> list[MetricBound]:
    """Bounds as the service takes them. Raises ValueError for a device without a latency."""
    if device is not None and max_latency_ms is None:
        raise ValueError("a device is that of a latency: give both, or neither")
    upper: dict[Cost, float | None] = {
        "macs": max_macs,
        "params": max_params,
        "peak_activation_bytes": max_activation_bytes,
    }
    found = [MetricBound(metric=metric, value=value) for metric, value in upper.items() if value is not None]
    if max_latency_ms is not None:
        found.append(MetricBound(metric="latency_ms", device=device, value=max_latency_ms))
    if min_accuracy is not None:
        found.append(MetricBound(metric="selection_top1", op=">=", value=min_accuracy))
    return found


async def read(transport: M, search_id: str, *, x: Cost, device: str | None, dominated: bool) -> Front[M]:
    """The front of a search over a cost."""
    params: dict[str, str] = (
        {"x": x} | ({} if device is None else {"device": device}) | ({"include": "dominated"} if dominated else {})
    )
    return await transport.read(Front[M], f"/v1/searches/{search_id}/front", params=params)


async def select(transport: M, search_id: str, constraints: Sequence[MetricBound]) -> Point[M]:
    """The most accurate point of a search's front that meets every bound."""
    body = {"constraints": [bound.model_dump() for bound in constraints]}
    return await transport.read(Point[M], f"/v1/searches/{search_id}/front/select", method="POST", json=body)


def _record(point: schemas.FrontPoint, *, on_front: bool) -> dict[str, Any]:
    return {
        "id": point.id,
        "key": point.key,
        "role": point.role,
        "on_front": on_front,
        "feasible": point.feasible,
        "basis": point.basis,
        "trial_id": point.trial_id,
        "height": point.input_size[0],
        "width": point.input_size[1],
        **point.metrics,
        **{f"config.{name}": value for name, value in point.config.items()},
        "sha256": None if point.artifact is None else point.artifact.sha256,
    }
