from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from paretofit.db.engine import transaction
from paretofit.db.leases import Lease
from paretofit.db.reports import Artifact, LogLine, Metric, Report, write
from paretofit.db.tables import ArtifactRow, LogRow, MetricRow, PointRow
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

SHA = "a" * 64


def point(key: str, accuracy: float, *, weights: str | None = None, role: str = "candidate") -> dict[str, Any]:
    return {"key": key, "role": role, "metrics": {"selection_top1": accuracy}, "weights": weights}


@pytest.fixture
def lease(engine: Engine) -> Lease:
    return rows.take(engine, rows.plan(engine, rows.add_search(engine))[0])


def test_report_is_written_completely(engine: Engine, lease: Lease) -> None:
    checkpoint = {"step": 7, "files": {"net": {"sha256": SHA, "size": 3}}}
    report = Report(
        metrics=[Metric("loss", 1, 0.5), Metric("loss", 2, float("nan"))],
        logs=[LogLine("stdout", "one"), LogLine("stderr", "two")],
        artifacts=[Artifact("net", SHA, 3)],
        points=[point("k", 0.5, weights="net")],
        checkpoint=checkpoint,
        progress=0.25,
    )
    with transaction(engine) as session:
        write(session, lease, report)
    trial = rows.trial(engine, lease.trial_id)
    assert (trial.progress, trial.checkpoint) == (0.25, checkpoint)
    with transaction(engine) as session:
        assert session.scalar(select(func.count()).select_from(MetricRow)) == 2
        logs = session.scalars(select(LogRow).order_by(LogRow.seq)).all()
        assert [(log.stream, log.line, log.epoch) for log in logs] == [("stdout", "one", 1), ("stderr", "two", 1)]
        artifact = session.scalars(select(ArtifactRow)).one()
        stored_point = session.scalars(select(PointRow)).one()
    assert (artifact.name, artifact.sha256, artifact.search_id) == ("net", SHA, lease.search_id)
    assert (stored_point.artifact_id, stored_point.record["key"]) == (artifact.id, "k")


def test_repeated_reports_of_a_resumed_trial_replace_earlier_ones(engine: Engine, lease: Lease) -> None:
    first = Report(metrics=[Metric("loss", 1, 0.5)], artifacts=[Artifact("net", SHA, 3)], points=[point("k", 0.5)])
    again = Report(
        metrics=[Metric("loss", 1, 0.9), Metric("loss", 1, 0.4)],
        artifacts=[Artifact("net", "b" * 64, 4)],
        points=[point("k", 0.1), point("k", 0.6), point("l", 0.7)],
    )
    for report in (first, again):
        with transaction(engine) as session:
            write(session, lease, report)
    with transaction(engine) as session:
        assert session.scalars(select(MetricRow.value)).all() == [0.4]
        assert session.scalars(select(ArtifactRow.sha256)).all() == ["b" * 64]
        points = session.execute(select(PointRow.key, PointRow.metrics).order_by(PointRow.key)).all()
    assert [(key, metrics["selection_top1"]) for key, metrics in points] == [("k", 0.6), ("l", 0.7)]


def test_points_update_the_front_and_append_an_event(engine: Engine, lease: Lease) -> None:
    for report in (Report(metrics=[Metric("loss", 1, 1.0)]), Report(points=[point("k", 0.5)])):
        with transaction(engine) as session:
            write(session, lease, report)
    assert rows.search(engine, lease.search_id).front_seq == 1
    event = rows.events(engine, lease.search_id)[-1]
    assert event.type == "front.updated"
    assert event.data == {"front_seq": 1, "trial": lease.trial_id, "number": 0, "points": 1}


def test_unreported_weights_are_rejected(engine: Engine, lease: Lease) -> None:
    report = Report(metrics=[Metric("loss", 1, 1.0)], points=[point("k", 0.5, weights="net")])
    with pytest.raises(LookupError, match="'net': report that artifact before"), transaction(engine) as session:
        write(session, lease, report)
    with transaction(engine) as session:
        assert session.scalars(select(MetricRow)).all() == []


@pytest.mark.parametrize(("reported", "stored"), [(1.5, 1.0), (-1.0, 0.0)])
def test_progress_is_clamped_to_a_fraction(engine: Engine, lease: Lease, reported: float, stored: float) -> None:
    with transaction(engine) as session:
        write(session, lease, Report(progress=reported))
    assert rows.trial(engine, lease.trial_id).progress == stored
