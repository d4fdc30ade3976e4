"""Points: the networks found by searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from paretofit.db.tables import ArtifactRow, PointRow


@dataclass(frozen=True, slots=True)
class FoundPoint:
    """A point, the parts of its record for lists, and its checkpoint if it has its own weights."""

    row: PointRow
    config: dict[str, Any]
    input_size: list[int]
    artifact: ArtifactRow | None


_FOUND = select(PointRow, PointRow.record["config"], PointRow.record["input_size"], ArtifactRow).outerjoin(
    ArtifactRow, ArtifactRow.id == PointRow.artifact_id
)


def of_search(session: Session, search_id: str) -> Sequence[FoundPoint]:
    """Every point of a search, oldest first; their records, which are large, are not loaded."""
    query = _FOUND.options(defer(PointRow.record, raiseload=True)).where(PointRow.search_id == search_id)
    return [FoundPoint(*found) for found in session.execute(query.order_by(PointRow.id))]


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
