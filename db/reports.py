"""Writes a trainer's reports under its trial's lease: metrics, logs, artifacts, points, checkpoint, progress."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from paretofit.db import events, latencies
from paretofit.db.ids import new_id
from paretofit.db.leases import ControlFlags, Lease, renew
from paretofit.db.tables import ArtifactRow, LogRow, MetricRow, PointRow, SearchRow, TrialRow
from paretofit.db.transitions import lock_search
from paretofit.search.contracts.latency import Measured


@dataclass(frozen=True, slots=True)
class Metric:
    """A value of a metric at a step."""

    name: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file of the trial that is already in the blob store."""

    name: str
    sha256: str
    size: int
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the trainer's `stdout` or `stderr`."""

    stream: str
    line: str


@dataclass(slots=True)
class Report:
    """The reports since the last write. `points` are `paretofit.search.contracts.point.Point` as JSON; `checkpoint` is
    {step, files: {name: {sha256, size}}}."""

    metrics: list[Metric] = field(default_factory=list)
    logs: list[LogLine] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    latencies: list[Measured] = field(default_factory=list)
    checkpoint: dict[str, Any] | None = None
    progress: float | None = None

    def __bool__(self) -> bool:
        return bool(
            self.metrics
            or self.logs
            or self.artifacts
            or self.points
            or self.latencies
            or self.checkpoint is not None
            or self.progress is not None
        )

    def blobs(self) -> list[str]:
        """The SHA-256 of every blob that it references, to be pinned in the transaction of `write`
        (`paretofit.db.references`)."""
        checkpoint = {} if self.checkpoint is None else self.checkpoint["files"]
        return [artifact.sha256 for artifact in self.artifacts] + [file["sha256"] for file in checkpoint.values()]


def write(session: Session, lease: Lease, report: Report) -> ControlFlags:
    """Write a report and renew the lease. Values that a resumed trial reports again replace the earlier ones.

    Raises StaleLeaseError (then nothing may be committed), and LookupError if a point names an artifact that the trial
    has not reported as its weights.
    """
    if report.points:
        lock_search(session, lease.search_id)
    flags = renew(session, lease)
    _write_metrics(session, lease, report.metrics)
    session.add_all(
        LogRow(trial_id=lease.trial_id, tenant_id=lease.tenant_id, epoch=lease.epoch, stream=log.stream, line=log.line)
        for log in report.logs
    )
    _write_artifacts(session, lease, report.artifacts)
    _write_points(session, lease, report.points)
    latencies.record(session, lease.tenant_id, report.latencies)
    progressed: dict[str, Any] = {}
    if replace(report, logs=[]):
        progressed["progressed_at"] = func.clock_timestamp()
    if report.progress is not None:
        progressed["progress"] = min(max(report.progress, 0.0), 1.0)
    if report.checkpoint is not None:
        progressed["checkpoint"] = report.checkpoint
    if progressed:
        session.execute(
            update(TrialRow)
            .where(TrialRow.id == lease.trial_id)
            .values(progressed)
            .execution_options(synchronize_session=False)
        )
    return flags


def _write_metrics(session: Session, lease: Lease, metrics: Iterable[Metric]) -> None:
    last = {(metric.name, metric.step): metric.value for metric in metrics}
    if not last:
        return
    statement = insert(MetricRow).values(
        [
            {"trial_id": lease.trial_id, "tenant_id": lease.tenant_id, "name": name, "step": step, "value": value}
            for (name, step), value in last.items()
        ]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["trial_id", "name", "step"],
            set_={"value": statement.excluded.value, "at": statement.excluded.at},
        )
    )


def _write_artifacts(session: Session, lease: Lease, artifacts: Iterable[Artifact]) -> None:
    for artifact in artifacts:
        content = {"sha256": artifact.sha256, "size": artifact.size, "media_type": artifact.media_type}
        session.execute(
            insert(ArtifactRow)
            .values(
                id=new_id("art"),
                tenant_id=lease.tenant_id,
                search_id=lease.search_id,
                trial_id=lease.trial_id,
                name=artifact.name,
                **content,
            )
            .on_conflict_do_update(index_elements=["trial_id", "name"], set_=content)
        )


def _write_points(session: Session, lease: Lease, points: Iterable[dict[str, Any]]) -> None:
    last = {point["key"]: point for point in points}
    if not last:
        return
    rows = session.execute(select(ArtifactRow.name, ArtifactRow.id).where(ArtifactRow.trial_id == lease.trial_id))
    artifacts = {row.name: row.id for row in rows}
    for key, point in last.items():
        weights = point.get("weights")
        if weights is not None and weights not in artifacts:
            raise LookupError(f"point {key!r} names weights {weights!r}: report that artifact before the point")
        content = {
            "role": point["role"],
            "metrics": point["metrics"],
            "record": point,
            "artifact_id": None if weights is None else artifacts[weights],
        }
        session.execute(
            insert(PointRow)
            .values(
                id=new_id("pt"),
                tenant_id=lease.tenant_id,
                search_id=lease.search_id,
                trial_id=lease.trial_id,
                key=key,
                **content,
            )
            .on_conflict_do_update(
                index_elements=["trial_id", "key"], set_=content | {"updated_at": func.clock_timestamp()}
            )
        )
    front_seq = session.execute(
        update(SearchRow)
        .where(SearchRow.id == lease.search_id)
        .values(front_seq=SearchRow.front_seq + 1)
        .returning(SearchRow.front_seq)
        .execution_options(synchronize_session=False)
    ).scalar_one()
    number = session.scalar(select(TrialRow.number).where(TrialRow.id == lease.trial_id))
    data = {"front_seq": front_seq, "trial": lease.trial_id, "number": number, "points": len(last)}
    events.append(session, lease.search_id, "front.updated", data)
