"""`Front`: the Pareto front of a search; `DatasetFront`: the joint front of all searches of a dataset."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from paretofit.api.schemas import points as schemas
from paretofit.api.schemas.points import Bound, Cost
from paretofit.client.api_object import ApiObject
from paretofit.client.calling import M, method
from paretofit.client.point import DatasetPoint, Point

if TYPE_CHECKING:
    import pandas


class Tabular(ABC):
    """A front that can be read as a table."""

    @abstractmethod
    def _shown(self) -> Iterable[tuple[schemas.FrontPoint, bool]]:
        """The points of the table, each with whether it is on the front."""

    def records(self) -> list[dict[str, Any]]:
        """The points shown as flat rows.

        Columns include `on_front`, every metric, and `config.NAME` for each value that the method varied.
        """
        return [_record(point, on_front=on_front) for point, on_front in self._shown()]

    def to_pandas(self) -> pandas.DataFrame:
        """`records` as a data frame, indexed by point id. Raises ImportError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("data frames need pandas; install it with `pip install 'paretofit[pandas]'`") from error
        rows = self.records()
        columns = list(dict.fromkeys(name for row in rows for name in row)) or ["id"]
        return pandas.DataFrame(rows, columns=columns).set_index("id")


class Front(ApiObject[M], schemas.Front, Tabular):
    """The points that no other one dominates in the cost `x` and the metric `y`."""

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
        """Select the point to deploy: the one with the highest `selection_top1` within every bound.

        The service selects from all points that the search has by now.

        Args:
            max_macs: Multiply-accumulates per image.
            max_params: Number of parameters.
            max_activation_bytes: Peak activation memory, in bytes.
            max_latency_ms: Median latency at batch size 1, in milliseconds.
            device: The device of the latency; may be omitted if the search has exactly one.
            min_accuracy: Top-1 accuracy on the selection split, 0 to 1.

        Raises:
            ApiError: No point meets the bounds (409); the message states the nearest values.
        """
        constraints = bounds(
            max_macs=max_macs,
            max_params=max_params,
            max_activation_bytes=max_activation_bytes,
            max_latency_ms=max_latency_ms,
            device=device,
            min_accuracy=min_accuracy,
        )
        return await select(self._transport, self.search_id, constraints)

    def _shown(self) -> Iterable[tuple[schemas.FrontPoint, bool]]:
        yield from ((point, True) for point in self.points)
        yield from ((point, False) for point in (*self.baselines, *(self.dominated or ())))


class DatasetFront(ApiObject[M], schemas.DatasetFront, Tabular):
    """The best known networks for a dataset: the points of all its searches that no other one dominates in the cost `x`
    and the metric `y`. `records` has the columns `search_id`, `search_name` and `method` too."""

    points: Sequence[DatasetPoint[M]]
    dominated: Sequence[DatasetPoint[M]] | None

    def _shown(self) -> Iterable[tuple[schemas.FrontPoint, bool]]:
        yield from ((point, True) for point in self.points)
        yield from ((point, False) for point in self.dominated or ())


def bounds(
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    max_activation_bytes: float | None = None,
    max_latency_ms: float | None = None,
    device: str | None = None,
    min_accuracy: float | None = None,
) -> list[Bound]:
    """Build the constraints of a selection. Raises ValueError for a device without a latency."""
    if device is not None and max_latency_ms is None:
        raise ValueError("`device` requires `max_latency_ms`; give both or neither")
    upper: dict[Cost, float | None] = {
        "macs": max_macs,
        "params": max_params,
        "peak_activation_bytes": max_activation_bytes,
    }
    constraints = [Bound(metric=metric, value=value) for metric, value in upper.items() if value is not None]
    if max_latency_ms is not None:
        constraints.append(Bound(metric="latency_ms", device=device, value=max_latency_ms))
    if min_accuracy is not None:
        constraints.append(Bound(metric="selection_top1", op=">=", value=min_accuracy))
    return constraints


async def read(transport: M, search_id: str, *, x: Cost, device: str | None, dominated: bool) -> Front[M]:
    """Read the front of a search over a cost."""
    params = _params(x, device, dominated=dominated)
    return await transport.read(Front[M], f"/v1/searches/{search_id}/front", params=params)


async def read_joint(transport: M, dataset_id: str, *, x: Cost, device: str | None, dominated: bool) -> DatasetFront[M]:
    """Read the joint front of a dataset over a cost."""
    params = _params(x, device, dominated=dominated)
    return await transport.read(DatasetFront[M], f"/v1/datasets/{dataset_id}/front", params=params)


async def select(transport: M, search_id: str, constraints: Sequence[Bound]) -> Point[M]:
    """Select the most accurate point of a front that meets every constraint."""
    body = {"constraints": [bound.model_dump() for bound in constraints]}
    return await transport.read(Point[M], f"/v1/searches/{search_id}/front/select", method="POST", json=body)


def _params(x: Cost, device: str | None, *, dominated: bool) -> dict[str, str]:
    return {"x": x} | ({} if device is None else {"device": device}) | ({"include": "dominated"} if dominated else {})


def _record(point: schemas.FrontPoint, *, on_front: bool) -> dict[str, Any]:
    found_by = {}
    if isinstance(point, schemas.DatasetPoint):
        found_by = {"search_id": point.search_id, "search_name": point.search_name, "method": point.method}
    return {
        "id": point.id,
        "key": point.key,
        "role": point.role,
        "on_front": on_front,
        "feasible": point.feasible,
        "basis": point.basis,
        **found_by,
        "trial_id": point.trial_id,
        "height": point.input_size[0],
        "width": point.input_size[1],
        **point.metrics,
        **{f"config.{name}": value for name, value in point.config.items()},
        "sha256": None if point.artifact is None else point.artifact.sha256,
    }
