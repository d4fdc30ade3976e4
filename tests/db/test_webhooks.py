"""Deliveries to webhooks as leased jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, update

from paretofit.db import events, jobs, reaping, webhooks
from paretofit.db.engine import transaction
from paretofit.db.jobs import StaleLeaseError
from paretofit.db.tables import DeliveryRow
from tests.db import rows


@pytest.fixture
def delivery_id(engine: Engine) -> str:
    """The delivery of the failure of a search."""
    search = rows.add_search(engine)
    with transaction(engine) as session:
        webhooks.insert(session, "default", url="https://a.example/", events=["search.failed"], secret="whsec_AA")
        webhooks.insert(session, "default", url="https://b.example/", events=["search.succeeded"], secret="whsec_AA")
    rows.pop_messages(engine)
    with transaction(engine) as session:
        events.append(session, search, "search.failed", {"error": {"code": "x"}})
        events.append(session, search, "trial.failed", {})
    [(task, subject)] = rows.pop_messages(engine)
    assert task == "deliver"
    return subject


def read(engine: Engine, delivery_id: str) -> DeliveryRow:
    with transaction(engine) as session:
        return session.get_one(DeliveryRow, delivery_id)


def test_delivery_is_claimed_once(engine: Engine, delivery_id: str) -> None:
    with transaction(engine) as session:
        job = webhooks.claim(session, delivery_id, seconds=60)
        assert job is not None
    assert "whsec" not in repr(job)
    with transaction(engine) as session:
        assert webhooks.claim(session, delivery_id, seconds=60) is None
        jobs.renew(session, job)
    with transaction(engine) as session:
        webhooks.mark_delivered(session, job, 200)
    assert read(engine, delivery_id).state == "delivered"
    with pytest.raises(StaleLeaseError), transaction(engine) as session:
        webhooks.mark_delivered(session, job, 200)


def test_lost_delivery_attempt_is_retried(engine: Engine, delivery_id: str) -> None:
    with transaction(engine) as session:
        job = webhooks.claim(session, delivery_id, seconds=60)
        session.execute(update(DeliveryRow).values(lease_expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert job is not None
    assert reaping.reap(engine, lease_seconds=0, max_crashes=3, back_off=1) == {delivery_id: "queued"}
    with pytest.raises(StaleLeaseError), transaction(engine) as session:
        jobs.renew(session, job)
    row = read(engine, delivery_id)
    assert (row.attempts, row.error) == (1, reaping.LOST)
    assert rows.pop_messages(engine) == [("deliver", delivery_id)]


def test_delivery_fails_after_three_days(engine: Engine, delivery_id: str) -> None:
    assert sum(jobs.RETRY_DELAYS) >= 3 * 86400
    delays = []
    while True:
        with transaction(engine) as session:
            session.execute(update(DeliveryRow).values(run_after=datetime.now(UTC)))
        with transaction(engine) as session:
            job = webhooks.claim(session, delivery_id, seconds=60)
            assert job is not None
        with transaction(engine) as session:
            error = {"code": "refused", "detail": "500"}
            state = jobs.crash(session, job, error, max_crashes=3, back_off=1, status=500)
        row = read(engine, delivery_id)
        if state == "failed":
            break
        delays.append(round((row.run_after - datetime.now(UTC)).total_seconds()))
    assert delays == pytest.approx(jobs.RETRY_DELAYS, abs=5)
    assert (row.attempts, row.status) == (len(jobs.RETRY_DELAYS) + 1, 500)


def test_delivery_to_a_disabled_webhook_fails(engine: Engine, delivery_id: str) -> None:
    with transaction(engine) as session:
        webhook = read(engine, delivery_id).webhook_id
        assert webhooks.change(session, "other", webhook, enabled=False) is None
        assert webhooks.change(session, "default", webhook, enabled=False) is not None
    with transaction(engine) as session:
        assert webhooks.claim(session, delivery_id, seconds=60) is None
    assert (read(engine, delivery_id).error or {})["code"] == "disabled"
