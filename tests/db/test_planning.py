from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import Engine, text

from paretofit.db import planning
from paretofit.db.cancellation import request_cancel
from paretofit.db.engine import transaction
from paretofit.db.leases import Lease
from paretofit.db.reports import Report, write
from paretofit.db.trials import Outcome, finish
from paretofit.search import scheduler
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

ERROR = {"code": "error", "detail": "bad"}
POINT: dict[str, Any] = {"key": "k", "role": "candidate", "metrics": {"selection_top1": 0.5}}


def finish_trial(engine: Engine, lease: Lease, outcome: Outcome = "completed", *, point: bool = False) -> None:
    with transaction(engine) as session:
        if point:
            write(session, lease, Report(points=[POINT]))
        finish(session, lease, outcome, outputs={}, error=ERROR if outcome == "failed" else None)


def run(engine: Engine, search_id: str, outcome: Outcome = "completed", *, point: bool = False) -> None:
    """Run every trial of a search until no more trials are planned."""
    done: set[str] = set()
    while new := [trial_id for trial_id in rows.plan(engine, search_id) if trial_id not in done]:
        for trial_id in new:
            finish_trial(engine, rows.take(engine, trial_id), outcome, point=point)
        done |= set(new)


def test_planned_trials_are_numbered_and_enqueued(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "3"})
    rows.pop_messages(engine)
    planned = rows.plan(engine, search_id)
    assert [trial.number for trial in rows.trials(engine, search_id)] == [0, 1, 2]
    assert rows.pop_messages(engine) == [("train", trial_id) for trial_id in planned]
    assert rows.search(engine, search_id).state == "queued"


def test_duplicate_message_plans_once(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "10", "at_once": "2"})
    threads = [threading.Thread(target=rows.plan, args=(engine, search_id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows.trials(engine, search_id)) == 2


def test_search_with_a_point_succeeds(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "3", "at_once": "2"})
    run(engine, search_id, point=True)
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason, search.error) == ("succeeded", "completed", None)
    assert search.finished_at is not None
    event = rows.events(engine, search_id)[-1]
    assert (event.type, event.data) == (
        "search.succeeded",
        {"stop_reason": "completed", "points": 3, "warnings": []},
    )


def test_search_continues_while_a_trial_is_running(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "2"})
    first, second = (rows.take(engine, trial_id) for trial_id in rows.plan(engine, search_id))
    finish_trial(engine, first, point=True)
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).state == "running"
    finish_trial(engine, second)
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).state == "succeeded"


def test_failed_trial_without_any_point_fails_the_search(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    run(engine, search_id, "failed")
    search = rows.search(engine, search_id)
    assert (search.state, search.error) == ("failed", {**ERROR, "trial": 0})


def test_points_are_kept_after_a_failed_trial(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "2", "at_once": "1"})
    finish_trial(engine, rows.take(engine, rows.plan(engine, search_id)[0]), point=True)
    finish_trial(engine, rows.take(engine, rows.plan(engine, search_id)[1]), "failed")
    rows.plan(engine, search_id)
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason) == ("succeeded", "trials_failed")


def test_infeasible_search_reports_its_error(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    run(engine, search_id, "infeasible")
    error = rows.search(engine, search_id).error
    assert error is not None
    assert error["code"] == "infeasible"


def test_search_that_plans_nothing_fails(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "0"})
    rows.plan(engine, search_id)
    error = rows.search(engine, search_id).error
    assert error is not None
    assert error["code"] == "no_points"


def test_planning_stops_after_repeated_failures(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "1", "retry": "yes"})
    run(engine, search_id, "failed")
    assert len(rows.trials(engine, search_id)) == scheduler.MAX_FAILURES
    assert rows.search(engine, search_id).state == "failed"


def test_max_trials_ends_the_search_with_its_results(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "10"}, limits={"max_trials": 3})
    run(engine, search_id, point=True)
    assert len(rows.trials(engine, search_id)) == 3
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason) == ("succeeded", "max_trials")


def test_sufficient_max_trials_is_not_a_stop_reason(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "3"}, limits={"max_trials": 3})
    run(engine, search_id, point=True)
    assert rows.search(engine, search_id).stop_reason == "completed"


def test_parallel_trials_are_limited(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "5"}, limits={"max_parallel_trials": 2})
    first, _ = rows.plan(engine, search_id)
    finish_trial(engine, rows.take(engine, first), point=True)
    assert len(rows.plan(engine, search_id)) == 3


@pytest.mark.parametrize(
    ("limit", "statement"),
    [
        ("max_wall_seconds", "UPDATE searches SET started_at = clock_timestamp() - interval '1 hour'"),
        ("max_device_seconds", "UPDATE attempts SET computing_at = clock_timestamp() - interval '1 hour'"),
    ],
)
def test_time_limits_end_the_search(engine: Engine, limit: str, statement: str) -> None:
    search_id = rows.add_search(engine, labels={"trials": "3"}, limits={limit: 60})
    first, *others = rows.plan(engine, search_id)
    lease = rows.take(engine, first)
    with transaction(engine) as session:
        session.execute(text(statement))
    finish_trial(engine, lease, point=True)
    rows.plan(engine, search_id)
    assert [rows.trial(engine, trial_id).state for trial_id in others] == ["cancelled", "cancelled"]
    search = rows.search(engine, search_id)
    assert (search.state, search.stop_reason) == ("succeeded", limit)


def test_plan_that_raises_fails_the_search_when_nothing_runs(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"fail": "yes"})
    with pytest.raises(planning.PlanError) as raised:
        planning.advance(engine, search_id)
    assert rows.search(engine, search_id).advance_wanted
    with transaction(engine) as session:
        planning.fail(session, raised.value)
    search = rows.search(engine, search_id)
    assert search.state == "failed"
    assert search.error is not None
    assert search.error["code"] == "method_error"


def test_advance_of_an_unknown_or_finished_search_does_nothing(engine: Engine) -> None:
    assert rows.plan(engine, "srch_none") == []
    search_id = rows.add_search(engine)
    with transaction(engine) as session:
        request_cancel(session, search_id)
    events = rows.event_types(engine, search_id)
    assert rows.plan(engine, search_id) == []
    assert rows.event_types(engine, search_id) == events


def test_queued_search_is_cancelled_immediately(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "2"})
    rows.plan(engine, search_id)
    with transaction(engine) as session:
        assert request_cancel(session, search_id)
    assert [trial.state for trial in rows.trials(engine, search_id)] == ["cancelled", "cancelled"]
    assert rows.event_types(engine, search_id)[-4:] == [
        "search.cancel_requested",
        "trial.cancelled",
        "trial.cancelled",
        "search.cancelled",
    ]


def test_running_search_is_cancelled_when_its_trial_has_ended(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "2"})
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    with transaction(engine) as session:
        assert request_cancel(session, search_id)
        assert request_cancel(session, search_id)
    assert rows.search(engine, search_id).state == "running"
    assert [trial.state for trial in rows.trials(engine, search_id)] == ["running", "cancelled"]
    finish_trial(engine, lease, "cancelled")
    rows.plan(engine, search_id)
    assert rows.search(engine, search_id).state == "cancelled"
    assert rows.event_types(engine, search_id).count("search.cancel_requested") == 1


def test_finished_search_cannot_be_cancelled(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    run(engine, search_id, point=True)
    with transaction(engine) as session:
        assert not request_cancel(session, search_id)


def test_unknown_search_cannot_be_cancelled(engine: Engine) -> None:
    with transaction(engine) as session, pytest.raises(LookupError):
        request_cancel(session, "srch_none")
