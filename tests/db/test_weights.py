"""The conversion of weights as a leased job."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from paretofit.db import jobs, tenants, uploads, weights
from paretofit.db.blobs import Blob
from paretofit.db.engine import transaction
from paretofit.db.jobs import WEIGHTS, StaleLeaseError
from paretofit.db.weights import ConversionJob
from tests.db import rows
from tests.db.rows import RECORD

CRASHED = {"code": "crashed", "detail": "ended by SIGKILL"}
NAMED = {"kind": "named", "name": "mobilenet_v2"}


def blob(size: int = 7) -> Blob:
    return Blob("b" * 64, size)


@pytest.fixture
def weights_id(engine: Engine) -> str:
    return rows.add_weights(engine, state="pending", source=NAMED)


def claim(engine: Engine, weights_id: str) -> ConversionJob | None:
    with transaction(engine) as session:
        return weights.claim(session, weights_id, seconds=60)


def claimed(engine: Engine, weights_id: str) -> ConversionJob:
    job = claim(engine, weights_id)
    assert job is not None
    return job


def rejected(engine: Engine, code: str) -> int | None:
    """How often weights or datasets were rejected with this code."""
    query = "SELECT value FROM counters WHERE name = 'uploads_rejected' AND label = :code"
    with transaction(engine) as session:
        count: int | None = session.scalar(text(query), {"code": code})
    return count


def test_one_of_many_concurrent_claims_wins(engine: Engine, weights_id: str) -> None:
    claims: list[ConversionJob | None] = []
    threads = [threading.Thread(target=lambda: claims.append(claim(engine, weights_id))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [job] = [job for job in claims if job is not None]
    assert (job.epoch, job.file, job.uploaded, job.spec.source.kind) == (1, None, 0, "named")
    assert rows.weights(engine, weights_id).state == "converting"


def test_upload_is_claimed_when_it_is_complete(engine: Engine) -> None:
    with transaction(engine) as session:
        options = {"licence": "MIT", "mean": [0.5], "std": [0.25], "class_names": None}
        row = weights.insert(session, "default", name="w", source={"kind": "upload"}, options=options)
        assert uploads.start(session, WEIGHTS, "default", row.id)
    assert claim(engine, row.id) is None
    with transaction(engine) as session:
        assert uploads.finish(session, WEIGHTS, "default", row.id, sha256="a" * 64, size=7)
        assert not uploads.finish(session, WEIGHTS, "default", row.id, sha256="a" * 64, size=7)
    assert rows.pop_messages(engine) == [("convert", row.id)]
    job = claimed(engine, row.id)
    assert (job.file, job.uploaded, job.spec.mean, job.spec.licence) == ("a" * 64, 7, (0.5,), "MIT")


def test_converted_weights_are_ready_and_count_once(engine: Engine) -> None:
    source = {"kind": "upload", "sha256": "a" * 64, "size": 1000}
    weights_id = rows.add_weights(engine, state="converting", source=source, uploaded_bytes=1000)
    job = claimed(engine, weights_id)
    with transaction(engine) as session:
        assert tenants.used(session, "default").stored_bytes == 1000
        weights.mark_ready(session, job, record=RECORD, blob=blob(70))
    row = rows.weights(engine, weights_id)
    assert (row.state, row.record, row.sha256, row.size, row.lease_expires_at) == ("ready", RECORD, "b" * 64, 70, None)
    with transaction(engine) as session:
        assert tenants.used(session, "default").stored_bytes == 70


def test_rejected_weights_have_a_reason_and_are_counted(engine: Engine, weights_id: str) -> None:
    error = {"code": "non_finite", "detail": "blocks.0.conv.weight has 1 values that are NaN or infinite"}
    job = claimed(engine, weights_id)
    with transaction(engine) as session:
        jobs.fail(session, job, error)
    row = rows.weights(engine, weights_id)
    assert (row.state, row.error, row.sha256) == ("rejected", error, None)
    assert rejected(engine, "non_finite") == 1


def test_stale_epoch_writes_nothing(engine: Engine, weights_id: str) -> None:
    stale = claimed(engine, weights_id)
    with transaction(engine) as session:
        jobs.release(session, stale)
    assert claimed(engine, weights_id).epoch == 2
    writes: tuple[Callable[[Session], object], ...] = (
        lambda session: jobs.renew(session, stale),
        lambda session: jobs.release(session, stale),
        lambda session: jobs.fail(session, stale, CRASHED),
        lambda session: weights.mark_ready(session, stale, record=RECORD, blob=blob()),
    )
    for write in writes:
        with pytest.raises(StaleLeaseError), transaction(engine) as session:
            write(session)
    row = rows.weights(engine, weights_id)
    assert (row.state, row.lease_epoch) == ("converting", 2)


def test_crashes_back_off_and_then_reject(engine: Engine, weights_id: str) -> None:
    for expected in ("converting", "converting", "rejected"):
        job = claimed(engine, weights_id)
        with transaction(engine) as session:
            state = jobs.crash(session, job, CRASHED, max_crashes=3, back_off=60)
        assert state == expected
        assert rejected(engine, "crashed") == (1 if expected == "rejected" else None)
        assert claim(engine, weights_id) is None
        with transaction(engine) as session:
            session.execute(text("UPDATE weights SET run_after = clock_timestamp()"))
    assert rows.weights(engine, weights_id).error == CRASHED


def test_weights_can_be_deleted_during_conversion(engine: Engine, weights_id: str) -> None:
    job = claimed(engine, weights_id)
    with transaction(engine) as session:
        assert not weights.delete(session, "other", weights_id)
        assert weights.delete(session, "default", weights_id)
    with pytest.raises(StaleLeaseError), transaction(engine) as session:
        weights.mark_ready(session, job, record=RECORD, blob=blob())


def test_search_starts_from_the_newest_ready_weights(engine: Engine) -> None:
    old, new = (rows.add_weights(engine) for _ in range(2))
    converting = rows.add_weights(engine, state="converting")
    rows.add_weights(engine, tenant_id="other", name="theirs")
    other = rows.add_weights(engine, name=old)
    with transaction(engine) as session:

        def start(reference: str) -> str | None:
            resolved = weights.start(session, "default", reference)
            return None if resolved is None else resolved.id

        assert start("mine") == new
        assert start(converting) == converting
        # An id takes precedence over a name.
        assert start(old) == old != other
        assert start("theirs") is None
