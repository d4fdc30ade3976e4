from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from paretofit.db import datasets, jobs
from paretofit.db.datasets import ValidationJob
from paretofit.db.engine import transaction
from paretofit.db.jobs import StaleLeaseError
from tests.db import rows
from tests.db.rows import PROFILE
from tests.db.test_weights import rejected

CRASHED = {"code": "crashed", "detail": "ended by SIGKILL"}


@pytest.fixture
def dataset_id(engine: Engine) -> str:
    return rows.add_dataset(engine, state="pending", manifest=None, profile=None, options={"seed": 3})


def claim(engine: Engine, dataset_id: str) -> ValidationJob | None:
    with transaction(engine) as session:
        return datasets.claim(session, dataset_id, seconds=60)


def test_one_of_many_concurrent_claims_wins(engine: Engine, dataset_id: str) -> None:
    claims: list[ValidationJob | None] = []
    threads = [threading.Thread(target=lambda: claims.append(claim(engine, dataset_id))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (job,) = [job for job in claims if job is not None]
    assert (job.epoch, job.archive, job.spec.seed) == (1, None, 3)
    assert rows.dataset(engine, dataset_id).state == "validating"


def test_upload_is_claimed_when_it_is_complete(engine: Engine) -> None:
    upload = {"kind": "upload", "sha256": "a" * 64, "size": 7}
    dataset_id = rows.add_dataset(engine, state="uploading", source=upload, manifest=None, profile=None)
    assert claim(engine, dataset_id) is None
    with transaction(engine) as session:
        session.execute(text("UPDATE datasets SET state = 'validating'"))
    job = claim(engine, dataset_id)
    assert job is not None
    assert (job.archive, job.spec.source.kind) == ("a" * 64, "upload")


def test_valid_dataset_is_ready(engine: Engine, dataset_id: str) -> None:
    job = claim(engine, dataset_id)
    assert job is not None
    manifest = {"images": {"sha256": "a" * 64, "size": 1}}
    with transaction(engine) as session:
        datasets.mark_ready(session, job, manifest=manifest, profile=PROFILE, report={"images": 10})
    row = rows.dataset(engine, dataset_id)
    assert (row.state, row.manifest, row.fingerprint, row.lease_expires_at) == ("ready", manifest, "f", None)


def test_invalid_dataset_is_rejected(engine: Engine, dataset_id: str) -> None:
    job = claim(engine, dataset_id)
    assert job is not None
    error = {"code": "empty", "detail": "no image"}
    with transaction(engine) as session:
        jobs.fail(session, job, error, report=None)
    row = rows.dataset(engine, dataset_id)
    assert (row.state, row.error, row.report) == ("rejected", error, None)


def test_stale_epoch_writes_nothing(engine: Engine, dataset_id: str) -> None:
    stale = claim(engine, dataset_id)
    assert stale is not None
    with transaction(engine) as session:
        jobs.release(session, stale)
    current = claim(engine, dataset_id)
    assert current is not None
    assert current.epoch == 2
    writes: tuple[Callable[[Session], object], ...] = (
        lambda session: jobs.renew(session, stale),
        lambda session: jobs.release(session, stale),
        lambda session: jobs.fail(session, stale, CRASHED, report=None),
        lambda session: datasets.mark_ready(session, stale, manifest={}, profile=PROFILE, report={}),
    )
    for write in writes:
        with pytest.raises(StaleLeaseError), transaction(engine) as session:
            write(session)
    row = rows.dataset(engine, dataset_id)
    assert (row.state, row.lease_epoch) == ("validating", 2)


def test_crashes_back_off_and_then_reject(engine: Engine, dataset_id: str) -> None:
    for expected in ("validating", "validating", "rejected"):
        job = claim(engine, dataset_id)
        assert job is not None
        with transaction(engine) as session:
            state = jobs.crash(session, job, CRASHED, max_crashes=3, back_off=60)
        assert state == expected
        assert claim(engine, dataset_id) is None
        with transaction(engine) as session:
            session.execute(text("UPDATE datasets SET run_after = clock_timestamp()"))
    assert rows.dataset(engine, dataset_id).error == CRASHED
    assert rejected(engine, "crashed") == 1
