"""The trained weights that a search starts from: its method's `start`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy.orm import Session

from paretofit.api.pointers import pointer
from paretofit.api.problems import InvalidError
from paretofit.api.schemas.problems import FieldProblem
from paretofit.db import artifacts, points, weights
from paretofit.db.blobs import Blob
from paretofit.db.tables import SearchRow
from paretofit.models.pretrained.sources import SOURCES
from paretofit.search.contracts.params import MethodParams
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.start import Start, StartRecord


@dataclass(frozen=True, slots=True)
class FoundStart:
    """`blob` holds the weights and stays until the transaction ends; `reference` names them by their id."""

    blob: Blob
    record: StartRecord
    reference: Start


def found(session: Session, tenant: str, spec: SearchSpec) -> FoundStart | None:
    """The start of a specification; None: its method trains from scratch. Raises InvalidError for one that does not
    exist, is another tenant's, or is not ready."""
    start = spec.method.start
    if start is None:
        return None
    if start.weights is not None:
        return _weights(session, tenant, start.weights, _field(spec.method, "weights"))
    if start.point is not None:
        return _point(session, tenant, start.point, _field(spec.method, "point"))
    raise _refused(
        "the service does not read local files: add the file with `paretofit weights add FILE`, and set start.weights "
        "to its name",
        _field(spec.method, "file"),
    )


def of_search(session: Session, row: SearchRow) -> FoundStart | None:
    """The start of an accepted search, from its own copy; None: it has none, or a version accepted it that recorded
    none."""
    artifact = artifacts.initial(session, row.id)
    if artifact is None or row.spec.get("start") is None:
        return None
    reference = Start.model_validate(row.spec["method"]["start"])
    record = StartRecord.model_validate(row.spec["start"])
    return FoundStart(Blob(artifact.sha256, artifact.size), record, reference)


def takes_start(params: type[MethodParams]) -> bool:
    """Whether a method can start from trained weights."""
    try:
        params.model_validate({"kind": params.model_fields["kind"].default, "start": {"weights": "any"}})
    except ValidationError:
        return False
    return True


def place(method: MethodParams) -> list[str]:
    """The path of the start in a search's document: `shape_adaptor` also takes `init_from`."""
    return ["method", "init_from" if getattr(method, "init_from", None) is not None else "start"]


def _field(method: MethodParams, name: str) -> list[str]:
    """The path of one of the start's fields; `init_from` is a text and has none."""
    found = place(method)
    return found if found[-1] == "init_from" else [*found, name]


def _weights(session: Session, tenant: str, reference: str, path: Sequence[str]) -> FoundStart:
    row = weights.start(session, tenant, reference)
    if row is None:
        remedy = (
            f"`paretofit weights add {reference}` fetches them"
            if reference in SOURCES
            else "GET /v1/weights lists yours, GET /v1/weights/sources what can be added"
        )
        raise _refused(f"you have no weights {reference!r}: {remedy}", path)
    if row.sha256 is None or row.size is None or row.record is None:
        remedy = "add others" if row.state == "rejected" else "wait until they are ready"
        raise _refused(f"weights {reference!r} are {row.state}: {remedy}", path)
    record = StartRecord.of(row.record, row.sha256)
    return FoundStart(Blob(row.sha256, row.size), record, Start(weights=row.id))


def _point(session: Session, tenant: str, point_id: str, path: Sequence[str]) -> FoundStart:
    point = points.get(session, tenant, point_id)
    artifact = None if point is None else points.checkpoint(session, point)
    if point is None or artifact is None:
        missing = "no such point" if point is None else "the point has no weights of its own"
        raise _refused(f"{point_id}: {missing}; GET /v1/searches/{{id}}/front?include=dominated lists points", path)
    try:
        record = StartRecord.of(point.row.record, artifact.sha256)
    except ValueError as error:
        raise _refused(f"{point_id}: {error}", path) from error
    record = record.model_copy(update={"source": f"{record.source} ({point_id})"})
    return FoundStart(Blob(artifact.sha256, artifact.size), record, Start(point=point_id))


def _refused(detail: str, path: Sequence[str]) -> InvalidError:
    return InvalidError(f"{path[-1]}: {detail}", errors=[FieldProblem(pointer=pointer(path), detail=detail)])
