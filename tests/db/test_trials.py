from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from paretofit.db import states
from paretofit.db.cancellation import request_cancel
from paretofit.db.engine import transaction
from paretofit.db.jobs import StaleLeaseError
from paretofit.db.leases import Lease
from paretofit.db.tables import AttemptRow, OutboxRow, SearchRow, TrialRow
from paretofit.db.transitions import move_search, move_trial
from paretofit.db.trials import Outcome, crash, create, finish, next_due, release
from paretofit.search.contracts.plan import NewTrial
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

CRASHED = {"code": "crashed", "detail": "the trainer ended by SIGKILL"}


@pytest.fixture
def lease(engine: Engine) -> Lease:
    trial_id = rows.plan(engine, rows.add_search(engine))[0]
    rows.pop_messages(engine)
    return rows.take(engine, trial_id)


def attempts(engine: Engine, trial_id: str) -> list[str | None]:
    with transaction(engine) as session:
        query = select(AttemptRow.outcome).where(AttemptRow.trial_id == trial_id).order_by(AttemptRow.epoch)
        return list(session.scalars(query))


@pytest.mark.parametrize("outcome", ["completed", "failed", "infeasible", "cancelled"])
def test_end_of_a_trial_notifies_planner_and_users(engine: Engine, lease: Lease, outcome: Outcome) -> None:
    error = {"code": "error", "detail": "bad"} if outcome == "failed" else None
    with transaction(engine) as session:
        finish(session, lease, outcome, outputs={"x": 1}, error=error)
    trial = rows.trial(engine, lease.trial_id)
    assert (trial.state, trial.outputs, trial.error, trial.lease_owner) == (outcome, {"x": 1}, error, None)
    assert trial.finished_at is not None
    assert attempts(engine, lease.trial_id) == [outcome]
    assert rows.pop_messages(engine) == [("advance", lease.search_id)]
    assert rows.search(engine, lease.search_id).advance_wanted
    assert rows.event_types(engine, lease.search_id)[-1] == f"trial.{outcome}"


def test_finished_trial_cannot_be_finished_again(engine: Engine, lease: Lease) -> None:
    with transaction(engine) as session:
        finish(session, lease, "completed", outputs={})
    with pytest.raises(StaleLeaseError), transaction(engine) as session:
        finish(session, lease, "failed", error={"code": "error", "detail": ""})
    assert rows.trial(engine, lease.trial_id).state == "completed"


def test_released_trial_waits_without_a_crash(engine: Engine, lease: Lease) -> None:
    with transaction(engine) as session:
        release(session, lease)
    trial = rows.trial(engine, lease.trial_id)
    assert (trial.state, trial.crash_count, trial.lease_epoch) == ("queued", 0, 1)
    assert attempts(engine, lease.trial_id) == ["drained"]
    assert rows.pop_messages(engine) == [("train", lease.trial_id)]
    assert rows.events(engine, lease.search_id)[-1].data["reason"] == "drained"
    assert rows.take(engine, lease.trial_id).epoch == 2


def test_crashes_back_off_and_then_fail_the_trial(engine: Engine, lease: Lease) -> None:
    delays = []
    for _ in range(2):
        with transaction(engine) as session:
            assert crash(session, lease, CRASHED, max_crashes=3, back_off=50) == "queued"
        with transaction(engine) as session:
            sent = session.scalars(select(OutboxRow)).one()
            trial = session.get_one(TrialRow, lease.trial_id)
            assert sent.send_after == trial.run_after
            delays.append((trial.run_after - sent.created_at).total_seconds())
            trial.run_after = sent.created_at
            session.delete(sent)
        lease = rows.take(engine, lease.trial_id)
    assert delays == pytest.approx([50, 100], abs=2)
    with transaction(engine) as session:
        assert crash(session, lease, CRASHED, max_crashes=3, back_off=50) == "failed"
    trial = rows.trial(engine, lease.trial_id)
    assert (trial.state, trial.crash_count, trial.error) == ("failed", 3, CRASHED)
    assert attempts(engine, lease.trial_id) == ["crashed"] * 3
    assert rows.pop_messages(engine) == [("advance", lease.search_id)]


def test_crash_during_cancellation_cancels_the_trial(engine: Engine, lease: Lease) -> None:
    with transaction(engine) as session:
        request_cancel(session, lease.search_id)
    with transaction(engine) as session:
        assert crash(session, lease, CRASHED, max_crashes=3, back_off=1) == "cancelled"


def test_crash_with_a_lost_lease_changes_nothing(engine: Engine, lease: Lease) -> None:
    with transaction(engine) as session:
        release(session, lease)
    current = rows.take(engine, lease.trial_id)
    with transaction(engine) as session:
        assert crash(session, lease, CRASHED, max_crashes=3, back_off=1) is None
    assert rows.trial(engine, lease.trial_id).lease_epoch == current.epoch


LEASED: dict[str, Any] = {"lease_owner": "w", "lease_expires_at": "2100-01-01"}


def test_trial_transitions_match_the_state_machine(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    moves = [(before, after) for before in states.TRIAL for after in states.TRIAL]
    for number, (before, after) in enumerate(moves):
        trial_id = f"trl_{number}"
        with transaction(engine) as session:
            held = LEASED if before == "running" else {}
            session.add(TrialRow(id=trial_id, search_id=search_id, number=number, state=before, params={}, **held))
        events = rows.event_types(engine, search_id)
        with transaction(engine) as session:
            moved = move_trial(session, trial_id, after, **LEASED if after == "running" else {})
        allowed = after in states.TRIAL[before]
        assert (moved is not None) is allowed
        assert rows.trial(engine, trial_id).state == (after if allowed else before)
        assert rows.event_types(engine, search_id) == events + [f"trial.{after}"] * allowed


def test_search_transitions_match_the_state_machine(engine: Engine) -> None:
    for before in states.SEARCH:
        for after in states.SEARCH:
            search_id = rows.add_search(engine)
            with transaction(engine) as session:
                row = rows.search(engine, search_id)
                finished = row.created_at if not states.SEARCH[before] else None
                row.state, row.finished_at = before, finished
                row.paused_at = row.created_at if before == "paused" else None
                session.merge(row)
            with transaction(engine) as session:
                moved = move_search(session, search_id, after)
            allowed = after in states.SEARCH[before]
            assert moved is allowed
            assert rows.search(engine, search_id).state == (after if allowed else before)
            assert rows.event_types(engine, search_id) == ([f"search.{after}"] if allowed else [])


def test_older_search_runs_first(engine: Engine) -> None:
    first, second = (rows.add_search(engine) for _ in range(2))
    early, late = (rows.plan(engine, search_id)[0] for search_id in (first, second))
    rows.take(engine, early)

    def due(*passed: str) -> str | None:
        with transaction(engine) as session:
            return next_due(session, [], passed)

    assert due() == late
    with transaction(engine) as session:
        create(session, session.get_one(SearchRow, first), 1, NewTrial(params={}))
    later = rows.trials(engine, first)[1].id
    assert due() == later
    assert due(later) == late
    assert due(later, late) is None
    with transaction(engine) as session:
        session.get_one(TrialRow, late).priority = 5
    assert due() == late
    with transaction(engine) as session:
        session.get_one(SearchRow, second).pause_requested = True
    assert due() == later
