"""Points: the networks found by searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Text, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, defer

from paretofit.db.tables import ArtifactRow, PointRow


@dataclass(frozen=True, slots=True)
class FoundPoint:
    """A point, the parts of its record for lists, and its checkpoint if it has its own weights."""

    row: PointRow
    config: dict[str, Any]
    input_size: list[int]
    artifact: ArtifactRow | None


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """The columns of a point that a front is computed from."""

    id: str
    search_id: str
    key: str
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """A point without its record and checkpoint, for fronts over many points."""

    row: ScoredRow


class HasRow(Protocol):
    """A `FoundPoint` or a `ScoredPoint`."""

    @property
    def row(self) -> PointRow | ScoredRow: ...


_FOUND = select(PointRow, PointRow.record["config"], PointRow.record["input_size"], ArtifactRow).outerjoin(
    ArtifactRow, ArtifactRow.id == PointRow.artifact_id
)


def of_search(session: Session, search_id: str) -> Sequence[FoundPoint]:
    """Every point of a search, oldest first; their records, which are large, are not loaded."""
    query = _FOUND.options(defer(PointRow.record, raiseload=True)).where(PointRow.search_id == search_id)
    return [FoundPoint(*found) for found in session.execute(query.order_by(PointRow.id))]


def with_checkpoints(session: Session, search_ids: Sequence[str]) -> list[ScoredPoint]:
    """The candidates of several searches that have a checkpoint, oldest first."""
    query = select(PointRow.id, PointRow.search_id, PointRow.key, PointRow.metrics).where(
        PointRow.search_id == any_(literal(list(search_ids), ARRAY(Text))),
        PointRow.role == "candidate",
        PointRow.artifact_id.is_not(None),
    )
    return [ScoredPoint(ScoredRow(*row)) for row in session.execute(query.order_by(PointRow.id))]


def of_ids(session: Session, ids: Sequence[str]) -> dict[str, FoundPoint]:
    """Points by id; those that were deleted are missing."""
    query = _FOUND.options(defer(PointRow.record, raiseload=True))
    query = query.where(PointRow.id == any_(literal(list(ids), ARRAY(Text))))
    return {found.row.id: found for found in (FoundPoint(*row) for row in session.execute(query))}


def get(session: Session, tenant: str, point_id: str) -> FoundPoint | None:
    """A point of this tenant."""
    query = _FOUND.where(PointRow.id == point_id, PointRow.tenant_id == tenant)
    found = session.execute(query).one_or_none()
    return None if found is None else FoundPoint(*found)


def checkpoint(session: Session, point: FoundPoint) -> ArtifactRow | None:
    """The file of a point's own weights, locked against changes until the transaction ends; None: it has none, or they
    were deleted concurrently."""
    if point.artifact is None:
        return None
    query = select(ArtifactRow).where(ArtifactRow.id == point.artifact.id)
    return session.scalar(query.with_for_update(read=True).execution_options(populate_existing=True))
