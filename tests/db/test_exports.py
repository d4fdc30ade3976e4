"""Rows of exports: requested, claimed, finished, reclaimed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, func, select, text

from paretofit.db import exports, jobs, points, reaping
from paretofit.db.blobs import Blob
from paretofit.db.engine import transaction
from paretofit.db.exports import ExportJob, Form, FoundExport
from paretofit.db.ids import new_id
from paretofit.db.jobs import StaleLeaseError
from paretofit.db.tables import ArtifactRow, ExportRow, PointRow
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

FORM = Form("onnx", "float32", (32, 32))
ERROR = {"code": "parity", "detail": "it computes something else"}


@pytest.fixture
def point_id(engine: Engine) -> str:
    """A point whose weights are in the supernet of its trial."""
    search_id = rows.add_search(engine)
    trial_id = rows.plan(engine, search_id)[0]
    row = PointRow(
        id=new_id("pt"),
        search_id=search_id,
        trial_id=trial_id,
        key="net",
        metrics={},
        record={"key": "net", "config": {}, "input_size": [32, 32], "supernet": "shared"},
    )
    with transaction(engine) as session:
        session.add(row)
        for name, letter in (("shared", "a"), ("own", "b")):
            session.add(
                ArtifactRow(
                    id=new_id("art"), search_id=search_id, trial_id=trial_id, name=name, sha256=letter * 64, size=1
                )
            )
    rows.pop_messages(engine)
    return row.id


def request(engine: Engine, point_id: str, form: Form = FORM) -> FoundExport:
    with transaction(engine) as session:
        point = points.get(session, "default", point_id)
        assert point is not None
        source = exports.source(session, point)
        assert source is not None
        return exports.request(session, point, source, form)


def claim(engine: Engine, export_id: str) -> ExportJob:
    with transaction(engine) as session:
        job = exports.claim(session, export_id, seconds=60)
    assert job is not None
    return job


def row(engine: Engine, export_id: str) -> ExportRow:
    with transaction(engine) as session:
        return session.get_one(ExportRow, export_id)


def ready(engine: Engine, job: ExportJob) -> None:
    with transaction(engine) as session:
        blob = Blob("c" * 64, 3)
        exports.mark_ready(session, job, name="net.onnx", blob=blob, media_type="x/y", parity={"max_abs_diff": 0.0})


def test_repeated_request_returns_the_same_export(engine: Engine, point_id: str) -> None:
    first = request(engine, point_id)
    assert first.row.state == "queued"
    assert first.artifact is None
    assert rows.pop_messages(engine) == [("export", first.row.id)]
    assert request(engine, point_id).row.id == first.row.id
    assert rows.pop_messages(engine) == []
    others = [replace(FORM, format="ncnn"), replace(FORM, precision="float16"), replace(FORM, size=(32, 24))]
    assert len({request(engine, point_id, form).row.id for form in others} | {first.row.id}) == 4


def test_own_weights_are_preferred_over_the_supernet(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    job = claim(engine, export_id)
    assert (job.source_sha256, job.from_supernet) == ("a" * 64, True)
    with transaction(engine) as session:
        own = select(ArtifactRow.id).where(ArtifactRow.name == "own").scalar_subquery()
        session.get_one(PointRow, point_id).artifact_id = session.scalar(select(own))
    again = request(engine, point_id)
    assert again.row.id != export_id
    assert (again.row.source_sha256, again.row.from_supernet) == ("b" * 64, False)


def test_ready_export_has_an_artifact_with_its_id(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    job = claim(engine, export_id)
    assert (job.epoch, job.record["key"], job.size) == (1, "net", (32, 32))
    with transaction(engine) as session:
        assert exports.claim(session, export_id, seconds=60) is None
        jobs.renew(session, job)
    ready(engine, job)
    export = request(engine, point_id)
    assert export.row.state == "ready"
    assert export.artifact is not None
    assert (export.artifact.id, export.artifact.sha256, export.artifact.trial_id) == (export_id, "c" * 64, None)


def test_failed_export_is_retried_on_request(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    with transaction(engine) as session:
        jobs.fail(session, claim(engine, export_id), ERROR)
    assert row(engine, export_id).error == ERROR
    rows.pop_messages(engine)
    assert request(engine, point_id).row.state == "queued"
    assert rows.pop_messages(engine) == [("export", export_id)]
    assert claim(engine, export_id).epoch == 2


def test_worker_with_a_lost_lease_writes_nothing(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    lost = claim(engine, export_id)
    rows.pop_messages(engine)
    with transaction(engine) as session:
        session.execute(text("UPDATE exports SET lease_expires_at = clock_timestamp() - interval '1 minute'"))
    reaped = reaping.reap(engine, lease_seconds=0.0, max_crashes=3, back_off=0)
    assert reaped == {export_id: "queued"}
    assert rows.pop_messages(engine) == [("export", export_id)]
    ready(engine, claim(engine, export_id))
    with pytest.raises(StaleLeaseError):
        ready(engine, lost)
    for stale in (jobs.renew, jobs.release):
        with pytest.raises(StaleLeaseError), transaction(engine) as session:
            stale(session, lost)
    with transaction(engine) as session:
        assert session.scalar(select(func.count()).where(ArtifactRow.id == export_id)) == 1


def test_export_that_keeps_crashing_fails_with_a_reason(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    for state in ("queued", "failed"):
        job = claim(engine, export_id)
        with transaction(engine) as session:
            error = {"code": "crashed", "detail": "killed"}
            crashed = jobs.crash(session, job, error, max_crashes=2, back_off=0)
        assert crashed == state
    assert row(engine, export_id).error == {"code": "crashed", "detail": "killed"}


def test_drained_export_is_queued_again(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    rows.pop_messages(engine)
    with transaction(engine) as session:
        jobs.release(session, claim(engine, export_id))
    assert rows.pop_messages(engine) == [("export", export_id)]
    assert (row(engine, export_id).state, row(engine, export_id).crash_count) == ("queued", 0)


def test_lost_message_is_resent(engine: Engine, point_id: str) -> None:
    export_id = request(engine, point_id).row.id
    rows.pop_messages(engine)
    with transaction(engine) as session:
        assert reaping.unclaimed(session, "export") == 1
        assert reaping.resend(session, "export", seconds=0) == [export_id]
    assert rows.pop_messages(engine) == [("export", export_id)]
