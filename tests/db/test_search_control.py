from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from paretofit.db import limits, outbox, planning, reaping, search_control
from paretofit.db.cancellation import request_cancel
from paretofit.db.engine import transaction
from paretofit.db.leases import Lease, claim
from paretofit.db.reports import Report, write
from paretofit.db.trials import crash, finish, release
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

CRASHED = {"code": "crashed", "detail": "the trainer ended by SIGKILL"}
POINT: dict[str, Any] = {"key": "k", "role": "candidate", "metrics": {"selection_top1": 0.5}}


def pause(engine: Engine, search_id: str) -> bool:
    with transaction(engine) as session:
        return search_control.request_pause(session, search_id)


def resume(engine: Engine, search_id: str) -> bool:
    with transaction(engine) as session:
        return search_control.resume(session, search_id)


def end(engine: Engine, lease: Lease, *, outputs: dict[str, Any] | None = None, failed: bool = False) -> None:
    with transaction(engine) as session:
        if failed:
            finish(session, lease, "failed", error={"code": "error", "detail": "bad"})
        else:
            write(session, lease, Report(points=[POINT]))
            finish(session, lease, "completed", outputs=outputs or {})


def can_be_claimed(engine: Engine, trial_id: str) -> bool:
    with transaction(engine) as session:
        lease_or_none = claim(session, trial_id, owner="w", device="cpu", seconds=60)
        session.rollback()
    return lease_or_none is not None


@pytest.fixture
def search_id(engine: Engine) -> str:
    return rows.add_search(engine, labels={"trials": "2"})


def test_search_without_running_trials_is_paused_immediately(engine: Engine, search_id: str) -> None:
    first, second = rows.plan(engine, search_id)
    rows.pop_messages(engine)
    assert pause(engine, search_id)
    assert pause(engine, search_id)
    assert rows.search(engine, search_id).state == "paused"
    assert rows.event_types(engine, search_id)[-2:] == ["search.pause_requested", "search.paused"]
    assert not can_be_claimed(engine, first)
    assert rows.plan(engine, search_id) == [first, second]
    assert resume(engine, search_id)
    assert resume(engine, search_id)
    assert rows.search(engine, search_id).state == "queued"
    assert rows.event_types(engine, search_id)[-2:] == ["search.resumed", "search.queued"]
    assert rows.pop_messages(engine) == [("train", first), ("train", second), ("advance", search_id)]
    assert can_be_claimed(engine, first)


@pytest.mark.parametrize("how", ["released", "crashed", "completed", "failed"])
def test_search_is_paused_when_its_last_trial_stops(engine: Engine, search_id: str, how: str) -> None:
    leases = [rows.take(engine, trial_id) for trial_id in rows.plan(engine, search_id)]
    assert pause(engine, search_id)
    for lease in leases:
        assert rows.search(engine, search_id).state == "running"
        with transaction(engine) as session:
            match how:
                case "released":
                    release(session, lease)
                case "crashed":
                    crash(session, lease, CRASHED, max_crashes=3, back_off=1)
                case _:
                    end(engine, lease, failed=how == "failed")
    assert rows.search(engine, search_id).state == "paused"
    assert rows.event_types(engine, search_id)[-1] == "search.paused"
    assert rows.search(engine, search_id).advance_wanted or how in {"released", "crashed"}
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).state == "paused"
    rows.pop_messages(engine)
    resume(engine, search_id)
    waiting = [] if how in {"completed", "failed"} else [("train", lease.trial_id) for lease in leases]
    assert rows.pop_messages(engine) == [*waiting, ("advance", search_id)]
    rows.plan(engine, search_id)
    ended = {"completed": "succeeded", "failed": "failed"}
    assert rows.search(engine, search_id).state == ended.get(how, "running")


def test_pause_request_can_be_revoked_while_a_trial_drains(engine: Engine, search_id: str) -> None:
    first, second = rows.plan(engine, search_id)
    lease = rows.take(engine, first)
    pause(engine, search_id)
    rows.pop_messages(engine)
    resume(engine, search_id)
    assert rows.search(engine, search_id).state == "running"
    assert rows.event_types(engine, search_id)[-2:] == ["search.pause_requested", "search.resumed"]
    assert rows.pop_messages(engine) == [("train", second), ("advance", search_id)]
    with transaction(engine) as session:
        release(session, lease)
    assert rows.search(engine, search_id).state == "running"
    assert can_be_claimed(engine, first)


def test_crash_back_off_continues_after_a_pause(engine: Engine, search_id: str) -> None:
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    pause(engine, search_id)
    with transaction(engine) as session:
        assert crash(session, lease, CRASHED, max_crashes=3, back_off=60) == "queued"
    rows.pop_messages(engine)
    resume(engine, search_id)
    assert not can_be_claimed(engine, lease.trial_id)
    sent: list[str] = []
    with transaction(engine) as session:
        outbox.send_due(session, lambda task, subject, priority: sent.append(subject), 10)
    assert lease.trial_id not in sent
    with transaction(engine) as session:
        assert reaping.resend(session, outbox.TRAIN, seconds=30) == []


def test_paused_search_can_be_cancelled(engine: Engine, search_id: str) -> None:
    rows.plan(engine, search_id)
    pause(engine, search_id)
    with transaction(engine) as session:
        assert request_cancel(session, search_id)
    assert rows.search(engine, search_id).state == "cancelled"
    assert {trial.state for trial in rows.trials(engine, search_id)} == {"cancelled"}
    assert not pause(engine, search_id)
    assert not resume(engine, search_id)


def test_cancel_takes_precedence_over_pause(engine: Engine, search_id: str) -> None:
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    pause(engine, search_id)
    with transaction(engine) as session:
        assert request_cancel(session, search_id)
    assert not resume(engine, search_id)
    # The trainer had drained before it received the cancellation.
    with transaction(engine) as session:
        release(session, lease)
    assert rows.trial(engine, lease.trial_id).state == "cancelled"
    assert ("advance", search_id) in rows.pop_messages(engine)
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).state == "cancelled"


def test_plan_error_fails_the_search_after_the_pause(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"fail": "yes"})
    with pytest.raises(planning.PlanError) as raised:
        rows.plan(engine, search_id)
    pause(engine, search_id)
    with transaction(engine) as session:
        planning.fail(session, raised.value)
    assert rows.search(engine, search_id).state == "paused"
    resume(engine, search_id)
    assert rows.search(engine, search_id).advance_wanted
    with transaction(engine) as session:
        planning.fail(session, raised.value)
    assert rows.search(engine, search_id).state == "failed"


def test_cancel_takes_precedence_over_a_plan_error(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"fail": "yes"})
    with pytest.raises(planning.PlanError) as raised:
        rows.plan(engine, search_id)
    with transaction(engine) as session:
        assert request_cancel(session, search_id)
    with transaction(engine) as session:
        planning.fail(session, raised.value)
    assert rows.search(engine, search_id).state == "cancelled"


def test_unknown_search_raises(engine: Engine) -> None:
    with transaction(engine) as session:
        for work in (search_control.request_pause, search_control.resume):
            with pytest.raises(LookupError):
                work(session, "srch_none")


def wall_seconds(engine: Engine, search_id: str) -> float:
    with transaction(engine) as session:
        return limits.wall_seconds(session, rows.search(engine, search_id))


def let_time_pass(engine: Engine, seconds: float) -> None:
    """Move the times of all searches back by these seconds."""
    with transaction(engine) as session:
        for column in ("started_at", "paused_at", "finished_at"):
            session.execute(text(f"UPDATE searches SET {column} = {column} - make_interval(secs => {seconds})"))


def test_paused_time_is_not_counted(engine: Engine, search_id: str) -> None:
    pause(engine, search_id)
    let_time_pass(engine, 1000)
    resume(engine, search_id)
    assert wall_seconds(engine, search_id) == 0
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    let_time_pass(engine, 100)
    with transaction(engine) as session:
        release(session, lease)
    pause(engine, search_id)
    let_time_pass(engine, 50)
    assert wall_seconds(engine, search_id) == pytest.approx(100, abs=5)
    resume(engine, search_id)
    assert rows.search(engine, search_id).state == "running"
    let_time_pass(engine, 10)
    assert wall_seconds(engine, search_id) == pytest.approx(110, abs=5)
    pause(engine, search_id)
    let_time_pass(engine, 500)
    with transaction(engine) as session:
        request_cancel(session, search_id)
    let_time_pass(engine, 50)
    assert wall_seconds(engine, search_id) == pytest.approx(110, abs=5)
    assert rows.search(engine, search_id).paused_at is None


def set_limits(engine: Engine, search_id: str, **changed: float) -> bool:
    with transaction(engine) as session:
        return search_control.set_limits(session, search_id, changed)


def test_changed_limits_apply_immediately(engine: Engine, search_id: str) -> None:
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    let_time_pass(engine, 100)
    rows.pop_messages(engine)
    assert set_limits(engine, search_id, max_wall_seconds=60)
    assert rows.pop_messages(engine) == [("advance", search_id)]
    assert rows.events(engine, search_id)[-1].data == {"limits": {"max_wall_seconds": 60}}
    with transaction(engine) as session:
        assert write(session, lease, Report()).limit
    rows.plan(engine, search_id)
    assert [trial.state for trial in rows.trials(engine, search_id)] == ["running", "cancelled"]
    end(engine, lease)
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).stop_reason == "max_wall_seconds"
    assert not set_limits(engine, search_id, max_wall_seconds=6000)


def test_lower_max_trials_cancels_queued_trials(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "4"}, limits={"max_trials": 10})
    leases = [rows.take(engine, trial_id) for trial_id in rows.plan(engine, search_id)[:2]]
    assert set_limits(engine, search_id, max_trials=1)
    rows.plan(engine, search_id)
    assert [trial.state for trial in rows.trials(engine, search_id)] == ["running", "running", "cancelled", "cancelled"]
    for lease in leases:
        end(engine, lease)
    rows.plan(engine, search_id)
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason) == ("succeeded", "max_trials")


def test_higher_max_trials_plans_more_trials_immediately(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "3", "at_once": "3"}, limits={"max_trials": 1})
    assert len(rows.plan(engine, search_id)) == 1
    set_limits(engine, search_id, max_trials=3)
    assert len(rows.plan(engine, search_id)) == 3


def test_signaled_limit_is_the_stop_reason(engine: Engine) -> None:
    search_id = rows.add_search(engine, limits={"max_wall_seconds": 100})
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    let_time_pass(engine, 90)
    with transaction(engine) as session:
        assert write(session, lease, Report()).limit
    end(engine, lease)
    rows.plan(engine, search_id)
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason) == ("succeeded", "max_wall_seconds")


@pytest.mark.parametrize(
    ("most", "outputs", "reason"),
    [
        (3, [{"epochs": 3.0, "planned_epochs": 10}, {"evaluated": 5}], "max_epochs"),
        (3, [{"epochs": 1.0, "planned_epochs": 1}, {"epochs": 2.0, "planned_epochs": 4}], "max_epochs"),
        (10, [{"epochs": 10.0, "planned_epochs": 10}, {}], "completed"),
        (10, [{"epochs": 4.0, "planned_epochs": 4}, {"epochs": 4.0, "planned_epochs": 4}], "completed"),
        (None, [{"epochs": 3.0, "planned_epochs": 10}, {}], "completed"),
    ],
)
def test_training_shortened_by_max_epochs_is_reported(
    engine: Engine, most: int | None, outputs: list[dict[str, Any]], reason: str
) -> None:
    search_id = rows.add_search(engine, labels={"trials": "2"}, limits={"max_epochs": most})
    for trial_id, output in zip(rows.plan(engine, search_id), outputs, strict=True):
        end(engine, rows.take(engine, trial_id), outputs=output)
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).stop_reason == reason


def test_priority_applies_to_queued_work(engine: Engine, search_id: str) -> None:
    first, second = rows.plan(engine, search_id)
    lease = rows.take(engine, first)
    with transaction(engine) as session:
        assert search_control.set_priority(session, search_id, 7)
        assert search_control.set_priority(session, search_id, 7)
    assert [trial.priority for trial in rows.trials(engine, search_id)] == [7, 7]
    assert rows.events(engine, search_id)[-1].data == {"priority": 7}
    sent: list[tuple[str, int]] = []
    with transaction(engine) as session:
        outbox.send_due(session, lambda task, subject, priority: sent.append((subject, priority)), 20)
    assert {priority for _, priority in sent} == {7}
    assert {subject for subject, _ in sent} == {search_id, first, second}
    with transaction(engine) as session:
        release(session, lease)
    with transaction(engine) as session:
        outbox.send_due(session, lambda task, subject, priority: sent.append((subject, priority)), 20)
    assert sent[-1] == (first, 7)
    with transaction(engine) as session:
        request_cancel(session, search_id)
    with transaction(engine) as session:
        assert not search_control.set_priority(session, search_id, 1)


def test_trial_without_progress_is_stalled(engine: Engine, search_id: str) -> None:
    trial_id = rows.plan(engine, search_id)[0]
    with transaction(engine) as session:
        lease = claim(session, trial_id, owner="w", device="cpu", seconds=60, stall_seconds=100)
    assert lease is not None

    def idle(seconds: float) -> None:
        with transaction(engine) as session:
            session.execute(
                text(f"UPDATE trials SET progressed_at = clock_timestamp() - make_interval(secs => {seconds})")
            )

    def stalled(report: Report | None = None) -> bool:
        with transaction(engine) as session:
            return write(session, lease, report or Report()).stalled

    idle(50)
    assert not stalled()
    idle(150)
    assert stalled()
    stalled(Report(progress=0.5))
    assert not stalled()
    idle(150)
    with transaction(engine) as session:
        assert crash(session, lease, {"code": "stalled", "detail": ""}, max_crashes=3, back_off=1) == "queued"
    assert rows.trial(engine, trial_id).crash_count == 1
    with transaction(engine) as session:
        session.execute(text("UPDATE trials SET run_after = clock_timestamp()"))
    again = rows.take(engine, trial_id)
    with transaction(engine) as session:
        assert not write(session, again, Report()).stalled
