from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import Engine, select, text, update

from paretofit.db.cancellation import request_cancel
from paretofit.db.engine import transaction
from paretofit.db.jobs import StaleLeaseError
from paretofit.db.leases import Lease, assignment, claim, control_flags, renew
from paretofit.db.reports import Metric, Report, write
from paretofit.db.tables import AttemptRow, MetricRow, SearchRow, TrialRow
from paretofit.db.trials import finish, release
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")


@pytest.fixture
def trial_id(engine: Engine) -> str:
    return rows.plan(engine, rows.add_search(engine))[0]


def test_one_of_many_concurrent_claims_wins(engine: Engine, trial_id: str) -> None:
    claims: list[Lease | None] = []
    start = threading.Barrier(8)

    def compete(number: int) -> None:
        start.wait()
        with transaction(engine) as session:
            claims.append(claim(session, trial_id, owner=f"w{number}", device="cpu", seconds=60))

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lease,) = [lease for lease in claims if lease is not None]
    row = rows.trial(engine, trial_id)
    assert (row.state, row.lease_epoch, row.lease_owner) == ("running", 1, lease.owner)
    with transaction(engine) as session:
        attempts = session.scalars(select(AttemptRow)).all()
    assert [(attempt.epoch, attempt.worker, attempt.outcome) for attempt in attempts] == [(1, lease.owner, None)]


def test_first_claim_starts_the_search(engine: Engine, trial_id: str) -> None:
    search_id = rows.trial(engine, trial_id).search_id
    assert rows.search(engine, search_id).state == "queued"
    rows.take(engine, trial_id)
    assert rows.search(engine, search_id).state == "running"
    assert rows.search(engine, search_id).started_at is not None
    assert rows.event_types(engine, search_id) == ["trial.queued", "trial.running", "search.running"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET run_after = clock_timestamp() + interval '1 minute'",
        "UPDATE searches SET pause_requested = true",
        "UPDATE searches SET cancel_requested = true",
        "UPDATE searches SET state = 'paused', paused_at = now()",
    ],
)
def test_inactive_trial_is_not_claimed(engine: Engine, trial_id: str, statement: str) -> None:
    with transaction(engine) as session:
        session.execute(text(statement))
        assert claim(session, trial_id, owner="w", device="cpu", seconds=60) is None
    assert rows.trial(engine, trial_id).state == "queued"


def test_unknown_trial_is_not_claimed(engine: Engine) -> None:
    with transaction(engine) as session:
        assert claim(session, "trl_none", owner="w", device="cpu", seconds=60) is None


def test_renewal_extends_the_lease(engine: Engine, trial_id: str) -> None:
    lease = rows.take(engine, trial_id, seconds=0.5)
    before = rows.trial(engine, trial_id).lease_expires_at
    time.sleep(0.05)
    with transaction(engine) as session:
        renew(session, lease)
    after = rows.trial(engine, trial_id).lease_expires_at
    assert before is not None
    assert after is not None
    assert after > before


def test_stale_epoch_writes_nothing(engine: Engine, trial_id: str) -> None:
    stale = rows.take(engine, trial_id)
    with transaction(engine) as session:
        release(session, stale)
    current = rows.take(engine, trial_id)
    assert current.epoch == stale.epoch + 1
    events = rows.event_types(engine, stale.search_id)
    for attempt in (
        lambda session: write(session, stale, Report(metrics=[Metric("loss", 1, 1.0)])),
        lambda session: renew(session, stale),
        lambda session: control_flags(session, stale),
        lambda session: finish(session, stale, "completed", outputs={}),
        lambda session: release(session, stale),
    ):
        with pytest.raises(StaleLeaseError), transaction(engine) as session:
            attempt(session)
    with transaction(engine) as session:
        assert session.scalars(select(MetricRow)).all() == []
    assert rows.event_types(engine, stale.search_id) == events
    assert rows.trial(engine, trial_id).lease_epoch == current.epoch


def test_lease_cannot_be_taken_between_the_guard_and_the_commit(engine: Engine, trial_id: str) -> None:
    lease = rows.take(engine, trial_id)
    taken = threading.Event()

    def take_away() -> None:
        with transaction(engine) as session:
            session.execute(
                update(TrialRow).where(TrialRow.id == trial_id).values(lease_epoch=TrialRow.lease_epoch + 1)
            )
        taken.set()

    with transaction(engine) as session:
        renew(session, lease)
        thief = threading.Thread(target=take_away)
        thief.start()
        assert not taken.wait(0.3)
    thief.join()
    assert taken.is_set()


def test_control_flags_are_read(engine: Engine, trial_id: str) -> None:
    lease = rows.take(engine, trial_id)
    with transaction(engine) as session:
        flags = control_flags(session, lease)
        assert (flags.cancel, flags.pause, flags.limit) == (False, False, False)
        request_cancel(session, lease.search_id)
        assert control_flags(session, lease).cancel


def test_time_limit_is_signaled_before_it_is_reached(engine: Engine) -> None:
    trial_id = rows.plan(engine, rows.add_search(engine, limits={"max_wall_seconds": 100}))[0]
    lease = rows.take(engine, trial_id)
    for seconds, limit in ((80, False), (90, True)):
        with transaction(engine) as session:
            session.execute(text(f"UPDATE searches SET started_at = clock_timestamp() - interval '{seconds} s'"))
            assert control_flags(session, lease).limit is limit


def test_missing_input_is_reported(engine: Engine, trial_id: str) -> None:
    lease = rows.take(engine, trial_id)
    with transaction(engine) as session:
        session.execute(update(TrialRow).values(inputs={"net": {"trial": 7, "artifact": "supernet"}}))
        with pytest.raises(LookupError, match=r"trial 7 .* no artifact 'supernet'"):
            assignment(session, lease)
        session.execute(update(TrialRow).values(inputs={"net": {"trial": None, "artifact": "initial"}}))
        with pytest.raises(LookupError, match=r"^search srch_\S+ has no artifact 'initial'"):
            assignment(session, lease)


def test_assignment_has_the_current_limits(engine: Engine, trial_id: str) -> None:
    lease = rows.take(engine, trial_id)
    with transaction(engine) as session:
        session.execute(update(SearchRow).values(limits={"max_trials": 5}))
        assert assignment(session, lease).spec["limits"] == {"max_trials": 5}
