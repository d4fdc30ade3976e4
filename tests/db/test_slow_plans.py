"""A plan runs outside any transaction. It may take longer than the idle timeout of transactions, and changes to the
search during the plan take precedence."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from paretofit.db import cancellation, outbox, planning, reports, search_control
from paretofit.db.engine import connect, transaction
from paretofit.db.leases import Lease
from paretofit.db.trials import finish
from paretofit.search.contracts.plan import Plan
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

PLAN_SECONDS = 2.0
DATABASE_TIMEOUT = 1.5
POINT = {"key": "k", "role": "candidate", "metrics": {"selection_top1": 0.5}}


@pytest.fixture
def strict_engine(engine: Engine) -> Iterator[Engine]:
    """An engine whose idle and lock timeouts are shorter than a plan."""
    strict_engine = connect(
        engine.url.render_as_string(hide_password=False), idle_seconds=DATABASE_TIMEOUT, lock_seconds=DATABASE_TIMEOUT
    )
    yield strict_engine
    strict_engine.dispose()


def add(engine: Engine, calls: Path, **labels: str) -> str:
    return rows.add_search(engine, labels={"seconds": str(PLAN_SECONDS), "calls": str(calls), **labels})


@contextmanager
def planning_in_background(engine: Engine, search_id: str, calls: Path) -> Iterator[None]:
    """Run the block while the method plans; at its end the plan is committed or dropped."""
    before = len(calls.read_bytes()) if calls.exists() else 0
    failed: list[BaseException] = []

    def advance() -> None:
        try:
            planning.advance(engine, search_id)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=advance)
    thread.start()
    deadline = time.monotonic() + 30
    while not calls.exists() or len(calls.read_bytes()) == before:
        assert time.monotonic() < deadline, failed
        time.sleep(0.01)
    yield
    assert thread.is_alive(), "the plan ended before the block, so the test is inconclusive"
    thread.join()
    assert not failed


def start_first_trial(engine: Engine, search_id: str) -> Lease:
    """Start the first trial of a search. Returns its lease."""
    lease = rows.take(engine, rows.plan(engine, search_id)[0])
    rows.pop_messages(engine)
    return lease


def test_plan_longer_than_the_idle_timeout_is_committed(strict_engine: Engine, tmp_path: Path) -> None:
    search_id = add(strict_engine, tmp_path / "calls", trials="2")
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"):
        pass
    assert len(rows.trials(strict_engine, search_id)) == 2
    assert not rows.search(strict_engine, search_id).advance_wanted


def test_reports_are_written_during_a_plan(strict_engine: Engine, tmp_path: Path) -> None:
    search_id = add(strict_engine, tmp_path / "calls", trials="3", at_once="1")
    lease = start_first_trial(strict_engine, search_id)
    with transaction(strict_engine) as session:
        search_control.set_limits(session, search_id, {"max_trials": 9})
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"), transaction(strict_engine) as session:
        reports.write(session, lease, reports.Report(points=[POINT], progress=0.5))
    assert rows.trial(strict_engine, lease.trial_id).progress == 0.5
    assert rows.event_types(strict_engine, search_id)[-1] == "front.updated"
    assert not rows.search(strict_engine, search_id).advance_wanted


def test_concurrent_advances_plan_once(strict_engine: Engine, tmp_path: Path) -> None:
    search_id = add(strict_engine, tmp_path / "calls", trials="2")
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"):
        planning.advance(strict_engine, search_id)
        assert rows.trials(strict_engine, search_id) == []
    assert [trial.number for trial in rows.trials(strict_engine, search_id)] == [0, 1]
    assert (tmp_path / "calls").read_bytes() == b"."


def test_second_of_two_plans_is_dropped(engine: Engine) -> None:
    search_id = rows.add_search(engine, labels={"trials": "4", "at_once": "2"})
    with transaction(engine) as session:
        first = planning.prepare(session, search_id)
    with transaction(engine) as session:
        second = planning.prepare(session, search_id)
    assert first is not None
    assert second is not None
    with transaction(engine) as session:
        planning.commit(session, first, first.plan())
    with transaction(engine) as session:
        outbox.request_advance(session, search_id)
    rows.pop_messages(engine)
    with transaction(engine) as session:
        planning.commit(session, second, second.plan())
    assert [trial.number for trial in rows.trials(engine, search_id)] == [0, 1]
    assert rows.search(engine, search_id).advance_wanted
    assert rows.pop_messages(engine) == [("advance", search_id)]


def test_cancel_during_a_plan_takes_precedence(strict_engine: Engine, tmp_path: Path) -> None:
    search_id = add(strict_engine, tmp_path / "calls", trials="2")
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"), transaction(strict_engine) as session:
        assert cancellation.request_cancel(session, search_id)
    assert rows.search(strict_engine, search_id).state == "cancelled"
    assert rows.trials(strict_engine, search_id) == []
    assert rows.event_types(strict_engine, search_id)[-1] == "search.cancelled"


def test_pause_during_a_plan_takes_precedence_until_the_search_is_resumed(
    strict_engine: Engine, tmp_path: Path
) -> None:
    search_id = add(strict_engine, tmp_path / "calls", trials="2")
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"), transaction(strict_engine) as session:
        assert search_control.request_pause(session, search_id)
    assert (rows.search(strict_engine, search_id).state, rows.trials(strict_engine, search_id)) == ("paused", [])
    with transaction(strict_engine) as session:
        assert search_control.resume(session, search_id)
    assert len(rows.plan(strict_engine, search_id)) == 2


def test_limits_changed_during_a_plan_drop_it(strict_engine: Engine, tmp_path: Path) -> None:
    search_id = add(strict_engine, tmp_path / "calls", trials="2")
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"), transaction(strict_engine) as session:
        assert search_control.set_limits(session, search_id, {"max_trials": 1})
    assert (tmp_path / "calls").read_bytes() == b".."
    assert len(rows.trials(strict_engine, search_id)) == 1
    assert not rows.search(strict_engine, search_id).advance_wanted


def test_end_of_a_trial_during_a_plan_plans_again(strict_engine: Engine, tmp_path: Path) -> None:
    """The running plan has not seen the end of the trial, which finishes the search or requires one more trial."""
    search_id = add(strict_engine, tmp_path / "calls", trials="1", retry="yes")
    lease = start_first_trial(strict_engine, search_id)
    with transaction(strict_engine) as session:
        search_control.set_limits(session, search_id, {"max_trials": 9})
    with planning_in_background(strict_engine, search_id, tmp_path / "calls"), transaction(strict_engine) as session:
        finish(session, lease, "failed", error={"code": "error", "detail": "bad"})
    search = rows.search(strict_engine, search_id)
    assert (search.state, search.advance_wanted) == ("running", False)
    assert [trial.state for trial in rows.trials(strict_engine, search_id)] == ["failed", "queued"]


def test_change_during_a_commit_is_planned_once(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second planner leaves the search to the first one, whether it runs just before or just after the commit."""
    search_id = rows.add_search(engine, labels={"trials": "2", "at_once": "1", "calls": str(tmp_path / "calls")})
    commit = planning.commit

    def between(session: Session, request: planning.PlanRequest, plan: Plan) -> None:
        monkeypatch.setattr(planning, "commit", commit)
        planning.advance(engine, search_id)
        assert (tmp_path / "calls").read_bytes() == b"."
        commit(session, request, plan)
        session.commit()
        with transaction(engine) as other:
            search_control.set_limits(other, search_id, {"max_parallel_trials": 9})
        planning.advance(engine, search_id)
        assert (tmp_path / "calls").read_bytes() == b"."

    monkeypatch.setattr(planning, "commit", between)
    planning.advance(engine, search_id)
    assert (tmp_path / "calls").read_bytes() == b".."
    assert not rows.search(engine, search_id).advance_wanted
    assert len(rows.trials(engine, search_id)) == 1


@pytest.mark.parametrize("change", ["limits", "outcome"])
def test_plan_error_for_an_outdated_history_is_ignored(engine: Engine, change: str) -> None:
    search_id = rows.add_search(engine, labels={"trials": "3", "at_once": "2"})
    lease = start_first_trial(engine, search_id)
    with transaction(engine) as session:
        outbox.request_advance(session, search_id)
    with transaction(engine) as session:
        request = planning.prepare(session, search_id)
    assert request is not None
    with transaction(engine) as session:
        if change == "limits":
            search_control.set_limits(session, search_id, {"max_trials": 9})
        else:
            finish(session, lease, "completed", outputs={})
    rows.pop_messages(engine)
    with transaction(engine) as session:
        planning.fail(session, planning.PlanError(request, ValueError("bad")))
    assert "cancelled" not in {trial.state for trial in rows.trials(engine, search_id)}
    assert rows.search(engine, search_id).state == "running"
    assert rows.pop_messages(engine) == [("advance", search_id)]
    rows.plan(engine, search_id)
    with transaction(engine) as session:
        planning.fail(session, planning.PlanError(request, ValueError("bad")))
    assert "cancelled" not in {trial.state for trial in rows.trials(engine, search_id)}


def test_search_of_a_killed_planner_is_planned_by_another(engine: Engine) -> None:
    search_id = rows.add_search(engine)
    with transaction(engine) as session:
        assert planning.prepare(session, search_id) is not None
    assert rows.search(engine, search_id).advance_wanted
    assert len(rows.plan(engine, search_id)) == 1
