from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import InternalError
from sqlalchemy.orm import Session

from paretofit.db import outbox, reaping
from paretofit.db.engine import connect, transaction
from paretofit.db.leases import Lease, renew
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

PAST = "clock_timestamp() - interval '1 minute'"


@pytest.fixture
def lease(engine: Engine) -> Lease:
    trial_id = rows.plan(engine, rows.add_search(engine))[0]
    rows.pop_messages(engine)
    return rows.take(engine, trial_id)


def execute(engine: Engine, statement: str) -> None:
    with transaction(engine) as session:
        session.execute(text(statement))


def reap(engine: Engine, *, lease_seconds: float = 0.0, max_crashes: int = 3) -> dict[str, str]:
    return reaping.reap(engine, lease_seconds=lease_seconds, max_crashes=max_crashes, back_off=60)


def resend(engine: Engine, task: str, seconds: float = 30) -> list[str]:
    with transaction(engine) as session:
        return reaping.resend(session, task, seconds=seconds)


def test_expired_lease_is_reclaimed(engine: Engine, lease: Lease) -> None:
    assert reap(engine) == {}
    execute(engine, f"UPDATE trials SET lease_expires_at = {PAST}")
    assert reap(engine) == {lease.trial_id: "queued"}
    trial = rows.trial(engine, lease.trial_id)
    assert (trial.state, trial.crash_count) == ("queued", 1)
    assert rows.events(engine, lease.search_id)[-1].data["reason"] == "lost"
    assert rows.pop_messages(engine) == [("train", lease.trial_id)]
    assert reap(engine) == {}


def test_trial_that_keeps_getting_lost_fails_with_a_reason(engine: Engine, lease: Lease) -> None:
    execute(engine, f"UPDATE trials SET lease_expires_at = {PAST}, crash_count = 2")
    assert reap(engine) == {lease.trial_id: "failed"}
    error = rows.trial(engine, lease.trial_id).error
    assert error is not None
    assert error["code"] == "lost"


def test_locked_rows_are_skipped(engine: Engine, database_url: str, lease: Lease) -> None:
    other = rows.take(engine, rows.plan(engine, rows.add_search(engine))[0])
    execute(engine, f"UPDATE trials SET lease_expires_at = {PAST}")
    short_timeout = connect(database_url, lock_seconds=0.2)
    with transaction(engine) as session:
        session.execute(text("SELECT 1 FROM searches WHERE id = :id FOR UPDATE"), {"id": lease.search_id})
        assert reap(short_timeout) == {other.trial_id: "queued"}
    assert reap(short_timeout) == {lease.trial_id: "queued"}
    short_timeout.dispose()


def test_hung_transaction_loses_its_locks(database_url: str, engine: Engine, lease: Lease) -> None:
    stopped = connect(database_url, idle_seconds=0.2)
    with stopped.connect() as connection, Session(connection) as session:
        renew(session, lease)
        time.sleep(0.4)
        execute(engine, f"UPDATE trials SET lease_expires_at = {PAST}")
        with pytest.raises(InternalError):
            session.execute(text("SELECT 1"))
    stopped.dispose()
    assert reap(engine) == {lease.trial_id: "queued"}


def test_leases_have_a_grace_period_after_a_start_of_postgres(engine: Engine, lease: Lease) -> None:
    execute(engine, f"UPDATE trials SET lease_expires_at = {PAST}")
    assert reap(engine, lease_seconds=1e6) == {}
    assert rows.trial(engine, lease.trial_id).state == "running"


def test_lost_validation_is_retried_with_a_limit(engine: Engine) -> None:
    leased = {"state": "validating", "manifest": None, "profile": None, "lease_epoch": 1}
    dataset_id = rows.add_dataset(engine, **leased)
    execute(engine, f"UPDATE datasets SET lease_expires_at = {PAST}")
    assert reap(engine) == {dataset_id: "validating"}
    assert rows.dataset(engine, dataset_id).lease_expires_at is None
    assert rows.pop_messages(engine) == [("ingest", dataset_id)]
    execute(engine, f"UPDATE datasets SET lease_expires_at = {PAST}, crash_count = 2")
    assert reap(engine) == {dataset_id: "rejected"}
    error = rows.dataset(engine, dataset_id).error
    assert error is not None
    assert error["code"] == "lost"


def test_lost_conversion_is_retried_with_a_limit(engine: Engine) -> None:
    weights_id = rows.add_weights(engine, state="converting", lease_epoch=1)
    execute(engine, f"UPDATE weights SET lease_expires_at = {PAST}")
    assert reap(engine) == {weights_id: "converting"}
    assert rows.weights(engine, weights_id).lease_expires_at is None
    assert rows.pop_messages(engine) == [("convert", weights_id)]
    execute(engine, f"UPDATE weights SET lease_expires_at = {PAST}, crash_count = 2")
    assert reap(engine) == {weights_id: "rejected"}
    error = rows.weights(engine, weights_id).error
    assert error is not None
    assert error["code"] == "lost"


@pytest.mark.parametrize(
    ("values", "resent"),
    [
        ({"state": "pending"}, False),
        ({"state": "pending", "source": {"kind": "named", "name": "mobilenet_v2"}}, True),
        ({"state": "uploading"}, False),
        ({"state": "converting"}, True),
        ({"state": "rejected"}, False),
    ],
)
def test_lost_message_of_a_conversion_is_resent(engine: Engine, values: dict[str, Any], resent: bool) -> None:
    weights_id = rows.add_weights(engine, **values)
    execute(engine, f"UPDATE weights SET woken_at = {PAST}")
    assert resend(engine, outbox.CONVERT) == ([weights_id] if resent else [])


def test_lost_message_of_a_trial_is_resent(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    (trial_id,) = rows.plan(engine, search_id)
    execute(engine, f"UPDATE trials SET woken_at = {PAST}")
    assert resend(engine, outbox.TRAIN) == []  # The first message is still in the outbox.
    rows.pop_messages(engine)
    assert resend(engine, outbox.TRAIN, seconds=90) == []
    assert resend(engine, outbox.TRAIN) == [trial_id]
    assert rows.pop_messages(engine) == [("train", trial_id)]
    assert resend(engine, outbox.TRAIN) == []


@pytest.mark.parametrize("flag", ["pause_requested", "cancel_requested"])
def test_message_of_an_inactive_trial_is_not_resent(engine: Engine, flag: str) -> None:
    rows.plan(engine, rows.add_search(engine))
    rows.pop_messages(engine)
    execute(engine, f"UPDATE trials SET woken_at = {PAST}")
    execute(engine, f"UPDATE searches SET {flag} = true")
    assert resend(engine, outbox.TRAIN) == []


def test_unclaimed_rows_are_counted(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    [trial_id] = rows.plan(engine, search_id)

    def unclaimed() -> int:
        with transaction(engine) as session:
            return reaping.unclaimed(session, outbox.TRAIN)

    assert unclaimed() == 1
    rows.take(engine, trial_id)
    assert unclaimed() == 0


def test_lost_message_of_the_planner_is_resent(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    rows.pop_messages(engine)
    execute(engine, f"UPDATE searches SET woken_at = {PAST}")
    assert resend(engine, outbox.ADVANCE) == [search_id]
    rows.plan(engine, search_id)
    rows.pop_messages(engine)
    execute(engine, f"UPDATE searches SET woken_at = {PAST}")
    assert resend(engine, outbox.ADVANCE) == []


@pytest.mark.parametrize(
    ("values", "resent"),
    [
        ({"state": "pending"}, True),
        ({"state": "validating"}, True),
        ({"state": "pending", "source": {"kind": "upload"}}, False),
        ({"state": "validating", "source": {"kind": "upload"}}, True),
        ({"state": "rejected"}, False),
    ],
)
def test_lost_message_of_a_validation_is_resent(engine: Engine, values: dict[str, str], resent: bool) -> None:
    dataset_id = rows.add_dataset(engine, manifest=None, profile=None, **values)
    execute(engine, f"UPDATE datasets SET woken_at = {PAST}")
    assert resend(engine, outbox.INGEST) == ([dataset_id] if resent else [])


def test_message_that_cannot_be_published_stays(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    other_id = rows.add_search(engine)
    sent: list[tuple[str, str, int]] = []

    def publish(task: str, subject: str, priority: int) -> None:
        if sent:
            raise ConnectionError("the broker is unavailable")
        sent.append((task, subject, priority))

    with pytest.raises(ConnectionError), transaction(engine) as session:
        outbox.send_due(session, publish, 10)
    assert rows.pop_messages(engine) == [("advance", search_id), ("advance", other_id)]


def test_messages_are_sent_by_priority_when_due(engine: Engine) -> None:
    sent: list[tuple[str, str, int]] = []
    with transaction(engine) as session:
        outbox.enqueue(session, outbox.TRAIN, "usual")
        outbox.enqueue(session, outbox.TRAIN, "urgent", priority=9)
        outbox.enqueue(session, outbox.TRAIN, "later")
        session.flush()
        session.execute(text("UPDATE outbox SET send_after = 'infinity' WHERE subject = 'later'"))
    with transaction(engine) as session:
        assert outbox.send_due(session, lambda *message: sent.append(message), 10) == 2
    assert sent == [("train", "urgent", 9), ("train", "usual", 0)]
    with transaction(engine) as session:
        assert session.scalars(text("SELECT subject FROM outbox")).all() == ["later"]
