from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import Engine, select, text, update

from paretofit.db import limits
from paretofit.db.cancellation import request_cancel
from paretofit.db.engine import transaction
from paretofit.db.jobs import StaleLeaseError
from paretofit.db.leases import Lease, assignment, begin_computing, control_flags
from paretofit.db.outbox import request_advance
from paretofit.db.planning import prepare
from paretofit.db.tables import MetricRow, SearchRow, TrialRow
from paretofit.db.trials import OUT_OF_MEMORY, crash, finish
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

NO_MEMORY = {"code": OUT_OF_MEMORY, "detail": "out of memory"}


def started_ago(engine: Engine, seconds: float) -> None:
    with transaction(engine) as session:
        session.execute(text(f"UPDATE searches SET started_at = clock_timestamp() - interval '{seconds} s'"))


def enforce(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return limits.enforce(session)


@pytest.fixture
def search_id(engine: Engine) -> str:
    """A search with one completed and two queued trials."""
    search_id = rows.add_search(engine, labels={"trials": "3"}, limits={"max_wall_seconds": 100})
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    with transaction(engine) as session:
        finish(session, lease, "completed", outputs={})
    rows.plan(engine, search_id)
    rows.pop_messages(engine)
    return search_id


def test_plans_see_the_seconds_of_ended_trials(engine: Engine, search_id: str) -> None:
    """Over all attempts of a trial; trials that have not ended have none."""
    with transaction(engine) as session:
        session.execute(text("UPDATE attempts SET computing_at = ended_at - interval '30 s'"))
        request = prepare(session, search_id)
        assert request is None
        seconds = limits.trial_seconds(session, search_id)
    first, *others = rows.trials(engine, search_id)
    assert seconds == {first.id: pytest.approx(30)}
    rows.take(engine, others[0].id)
    with transaction(engine) as session:
        assert limits.trial_seconds(session, search_id)[others[0].id] == 0
        request_advance(session, search_id)
        request = prepare(session, search_id)
    assert request is not None
    assert [record.seconds for record in request.history] == [pytest.approx(30), 0, 0]


def test_wall_limit_ends_a_search_with_queued_trials(engine: Engine, search_id: str) -> None:
    started_ago(engine, 99)
    assert enforce(engine) == []
    started_ago(engine, 101)
    assert enforce(engine) == [search_id]
    assert enforce(engine) == []
    assert rows.pop_messages(engine) == [("advance", search_id)]
    rows.plan(engine, search_id)
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason) == ("succeeded", "max_wall_seconds")
    assert [trial.state for trial in rows.trials(engine, search_id)] == ["completed", "cancelled", "cancelled"]


def test_waiting_for_the_machine_is_neither_device_time_nor_a_stall(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "1"}, limits={"max_device_seconds": 100})
    lease = replace(rows.take(engine, rows.plan(engine, search_id)[0]), stall_seconds=100)

    def let_time_pass(seconds: float) -> None:
        with transaction(engine) as session:
            earlier = f"clock_timestamp() - interval '{seconds} s'"
            session.execute(text(f"UPDATE trials SET progressed_at = {earlier} WHERE id = '{lease.trial_id}'"))
            session.execute(
                text(
                    f"UPDATE attempts SET started_at = {earlier}, computing_at = computing_at - interval '{seconds} s'"
                )
            )

    let_time_pass(200)
    assert enforce(engine) == []
    with transaction(engine) as session:
        begin_computing(session, lease)
        assert limits.device_seconds(session, search_id) < 50
        assert not control_flags(session, lease).stalled
    let_time_pass(101)
    with transaction(engine) as session:
        assert limits.device_seconds(session, search_id) > 100
        assert control_flags(session, lease).stalled
        session.execute(
            update(TrialRow).where(TrialRow.id == lease.trial_id).values(lease_epoch=TrialRow.lease_epoch + 1)
        )
        with pytest.raises(StaleLeaseError):
            begin_computing(session, lease)


def test_pauses_are_not_counted(engine: Engine, search_id: str) -> None:
    started_ago(engine, 150)
    with transaction(engine) as session:
        session.execute(update(SearchRow).where(SearchRow.id == search_id).values(paused_seconds=51))
    assert enforce(engine) == []


def test_running_trial_sees_the_limit_and_then_that_it_is_overdue(engine: Engine, search_id: str) -> None:
    lease = rows.take(engine, rows.trials(engine, search_id)[1].id)
    for seconds, limit, overdue in ((80, False, False), (90, True, False), (101, True, True)):
        started_ago(engine, seconds)
        with transaction(engine) as session:
            flags = control_flags(session, lease)
        assert (flags.limit, flags.overdue) == (limit, overdue)


def out_of_memory(engine: Engine, lease: Lease) -> str | None:
    with transaction(engine) as session:
        return crash(session, lease, NO_MEMORY, max_crashes=1, back_off=0)


def test_out_of_memory_is_retried_once_with_half_the_batch(engine: Engine, search_id: str) -> None:
    lease = rows.take(engine, rows.trials(engine, search_id)[1].id)
    with transaction(engine) as session:
        session.execute(
            update(TrialRow)
            .where(TrialRow.id == lease.trial_id)
            .values(checkpoint={"step": 5, "files": {}}, progress=0.5)
        )
        session.add(MetricRow(trial_id=lease.trial_id, name="loss", step=5, value=1.0))
    assert out_of_memory(engine, lease) == "queued"
    trial = rows.trial(engine, lease.trial_id)
    assert (trial.batch_scale, trial.checkpoint, trial.progress, trial.crash_count) == (0.5, None, 0.0, 1)
    with transaction(engine) as session:
        assert session.scalars(select(MetricRow)).all() == []

    lease = rows.take(engine, lease.trial_id)
    with transaction(engine) as session:
        assert assignment(session, lease).batch_scale == 0.5
    assert out_of_memory(engine, lease) == "failed"
    assert rows.trial(engine, lease.trial_id).error == NO_MEMORY


def test_out_of_memory_while_cancelling_is_cancelled(engine: Engine, search_id: str) -> None:
    lease = rows.take(engine, rows.trials(engine, search_id)[1].id)
    with transaction(engine) as session:
        request_cancel(session, search_id)
    assert out_of_memory(engine, lease) == "cancelled"
