"""Scheduling decisions: plans, results and limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretofit.search.contracts.plan import ACTIVE, NewTrial, Plan, TrialRecord, TrialState
from paretofit.search.contracts.spec import Limits
from paretofit.search.scheduler import (
    MAX_FAILURES,
    Decision,
    SearchResult,
    Snapshot,
    Spent,
    apply_plan,
    enforce_limits,
    keeps_failing,
    out_of_epochs,
    time_limit,
)

STATES: dict[str, TrialState] = {
    "q": "queued",
    "r": "running",
    "c": "completed",
    "p": "pruned",
    "i": "infeasible",
    "f": "failed",
    "x": "cancelled",
}
BAD = {"code": "not_learning", "detail": "flat"}
DONE = Plan(done=True)


def record(number: int, state: TrialState, **values: Any) -> TrialRecord:
    if state == "failed":
        values = {"error": BAD} | values
    if state == "completed":
        values = {"points": ({"selection_top1": 0.5},), "outputs": {}} | values
    return TrialRecord(number=number, state=state, params={}, **values)


def snapshot(
    states: str | Sequence[TrialRecord] = "", *, wall: float = 0.0, device: float = 0.0, **limits: Any
) -> Snapshot:
    """A search with trials given as state letters or as records, and with these limits."""
    history = (
        tuple(record(number, STATES[letter]) for number, letter in enumerate(states))
        if isinstance(states, str)
        else tuple(states)
    )
    return Snapshot(Limits(**limits), history, Spent(wall, device))


def planned(count: int, *, done: bool = False, **values: Any) -> Plan:
    return Plan(trials=tuple(NewTrial(params={"index": index}) for index in range(count)), done=done, **values)


def succeeded(stop_reason: Any) -> SearchResult:
    return SearchResult("succeeded", stop_reason)


def failed(**error: Any) -> SearchResult:
    return SearchResult("failed", error=error)


@pytest.mark.parametrize("states", ["", "c", "qr", "rc", "ffr", "cfx", "ffcf"])
def test_search_without_limits_requests_a_plan(states: str) -> None:
    search = snapshot(states)
    assert enforce_limits(search) == Decision(plan_from=search)


@pytest.mark.parametrize(
    ("states", "cancel", "remaining"),
    [
        ("cq", (), "cq"),
        ("cqq", (2,), "cqx"),
        ("qrqq", (2, 3), "qrxx"),
        ("crr", (), "crr"),
        ("cccq", (3,), "cccx"),
    ],
)
def test_queued_trials_beyond_a_lowered_max_trials_are_cancelled(
    states: str, cancel: tuple[int, ...], remaining: str
) -> None:
    decision = enforce_limits(snapshot(states, max_trials=2))
    assert decision == Decision(cancel=cancel, plan_from=snapshot(remaining, max_trials=2))


def test_search_cut_by_a_lowered_max_trials_reports_the_limit() -> None:
    decision = enforce_limits(snapshot("ccq", max_trials=2))
    assert decision.plan_from is not None
    assert apply_plan(decision.plan_from, DONE).result == succeeded("max_trials")
    # No trial was cancelled, so the limit did not cut the search.
    assert apply_plan(snapshot("cc", max_trials=2), DONE).result == succeeded("completed")


@pytest.mark.parametrize(
    ("states", "count", "limits", "queued", "result"),
    [
        ("", 3, {}, 3, None),
        ("", 3, {"max_trials": 3}, 3, None),
        ("", 3, {"max_trials": 2}, 2, None),
        ("cr", 3, {"max_trials": 4}, 2, None),
        ("cr", 3, {"max_trials": 2}, 0, None),
        ("cc", 3, {"max_trials": 2}, 0, succeeded("max_trials")),
        ("cc", 0, {"max_trials": 2}, 0, succeeded("completed")),
        ("ccc", 1, {"max_trials": 2}, 0, succeeded("max_trials")),
        ("pp", 1, {"max_trials": 2}, 0, succeeded("max_trials")),
        ("", 5, {"max_parallel_trials": 2}, 2, None),
        ("qr", 5, {"max_parallel_trials": 2}, 0, None),
        ("qrr", 5, {"max_parallel_trials": 2}, 0, None),
        ("cr", 5, {"max_parallel_trials": 2}, 1, None),
        ("cr", 5, {"max_parallel_trials": 3, "max_trials": 3}, 1, None),
    ],
)
def test_plan_is_queued_within_the_limits(
    states: str, count: int, limits: dict[str, int], queued: int, result: SearchResult | None
) -> None:
    decision = apply_plan(snapshot(states, **limits), planned(count))
    assert decision == Decision(queue=planned(queued).trials, result=result)


@pytest.mark.parametrize("plan", [Plan(), DONE, Plan(done=True, stop_reason="max_epochs")])
@pytest.mark.parametrize("states", ["q", "cr", "fq"])
def test_empty_plan_waits_for_active_trials(states: str, plan: Plan) -> None:
    assert apply_plan(snapshot(states), plan) == Decision()


@pytest.mark.parametrize(
    ("states", "plan", "result"),
    [
        ("c", DONE, succeeded("completed")),
        ("c", Plan(), succeeded("completed")),
        ("cx", DONE, succeeded("completed")),
        ("cf", DONE, succeeded("trials_failed")),
        ("cpi", DONE, succeeded("completed")),
        ("c", Plan(done=True, stop_reason="max_epochs"), succeeded("max_epochs")),
        ("cf", Plan(done=True, stop_reason="max_trials"), succeeded("max_trials")),
        ("i", Plan(done=True, stop_reason="max_trials"), succeeded("max_trials")),
        ("c", Plan(stop_reason="max_trials"), succeeded("completed")),
        ("", DONE, failed(code="no_points", detail="the method ended without a network: check the logs of its trials")),
        (
            "px",
            DONE,
            failed(code="no_points", detail="the method ended without a network: check the logs of its trials"),
        ),
        ("pi", DONE, failed(code="infeasible", detail="no network meets the constraints: relax them")),
        ("pff", DONE, failed(**BAD, trial=1)),
        ("if", DONE, failed(**BAD, trial=1)),
    ],
)
def test_search_ends_with_its_last_trial(states: str, plan: Plan, result: SearchResult) -> None:
    assert apply_plan(snapshot(states), plan) == Decision(result=result)


def test_infeasible_search_reports_the_error_of_its_trial() -> None:
    nearest = {"code": "infeasible", "detail": "the fastest takes 3 ms", "nearest": [3.0]}
    history = [record(0, "infeasible"), record(1, "infeasible", error=nearest)]
    assert apply_plan(snapshot(history), DONE).result == failed(**nearest, trial=1)


def test_failed_trial_without_an_error_is_reported_by_number() -> None:
    assert apply_plan(snapshot([record(0, "failed", error=None)]), DONE).result == failed(trial=0)


@pytest.mark.parametrize(
    ("states", "keeps"),
    [
        ("f" * MAX_FAILURES, True),
        ("f" * (MAX_FAILURES - 1), False),
        ("c" + "f" * MAX_FAILURES + "qr", True),
        ("f" * (MAX_FAILURES - 1) + "cf", False),
        ("f" * MAX_FAILURES + "x", False),
        ("", False),
    ],
)
def test_consecutive_failures_are_counted(states: str, keeps: bool) -> None:
    assert keeps_failing(snapshot(states).history) is keeps


@pytest.mark.parametrize(
    ("states", "result"),
    [("fff", failed(**BAD, trial=0)), ("cfff", succeeded("trials_failed")), ("fffr", None), ("fffq", None)],
)
def test_repeatedly_failing_search_stops_planning(states: str, result: SearchResult | None) -> None:
    assert enforce_limits(snapshot(states)) == Decision(result=result)


def test_trial_cancelled_by_a_lowered_limit_is_not_a_failure() -> None:
    """The method is asked for another plan, and the limit ends the search."""
    decision = enforce_limits(snapshot("fffq", max_trials=3))
    assert decision.cancel == (3,)
    assert decision.plan_from == snapshot("fffx", max_trials=3)


@pytest.mark.parametrize(
    ("spent", "share", "limits", "reached"),
    [
        ((9, 9), 1.0, {}, None),
        ((9, 0), 1.0, {"max_wall_seconds": 10}, None),
        ((10, 0), 1.0, {"max_wall_seconds": 10}, "max_wall_seconds"),
        ((8.5, 0), 0.85, {"max_wall_seconds": 10}, "max_wall_seconds"),
        ((0, 10), 1.0, {"max_wall_seconds": 10}, None),
        ((0, 10), 1.0, {"max_device_seconds": 10}, "max_device_seconds"),
        ((10, 10), 1.0, {"max_wall_seconds": 10, "max_device_seconds": 10}, "max_wall_seconds"),
    ],
)
def test_reached_time_limit_is_reported(
    spent: tuple[float, float], share: float, limits: dict[str, float], reached: str | None
) -> None:
    assert time_limit(Limits.model_validate(limits), Spent(*spent), share=share) == reached


@pytest.mark.parametrize(
    ("states", "cancel", "result"),
    [
        ("cqq", (1, 2), succeeded("max_wall_seconds")),
        ("crq", (2,), None),
        ("fff", (), succeeded("max_wall_seconds")),
        ("", (), succeeded("max_wall_seconds")),
    ],
)
def test_time_limit_cancels_queued_trials(states: str, cancel: tuple[int, ...], result: SearchResult | None) -> None:
    assert enforce_limits(snapshot(states, wall=10, max_wall_seconds=10)) == Decision(cancel=cancel, result=result)


def test_search_ending_within_the_reserve_reports_the_time_limit() -> None:
    late = snapshot("c", device=9, max_device_seconds=10)
    assert enforce_limits(late).plan_from == late
    assert apply_plan(late, DONE).result == succeeded("max_device_seconds")
    assert apply_plan(snapshot("c", device=8, max_device_seconds=10), DONE).result == succeeded("completed")
    # It does not explain an empty front, because no trial was cut off.
    assert apply_plan(snapshot("f", device=9, max_device_seconds=10), DONE).result == failed(**BAD, trial=0)


@pytest.mark.parametrize(
    ("outputs", "most", "out"),
    [
        ([(5, 5), (5, 5)], 10, False),
        ([(5, 8), (5, 8)], 10, True),
        ([(4.5, 8), (5, 8)], 10, True),
        ([(3.9, 8), (5, 8)], 10, False),
        ([(5, 8), (5, 8)], None, False),
        ([(5, None), (5, None)], 10, False),
        ([], 10, False),
    ],
)
def test_spent_epochs_are_compared_with_the_limit(
    outputs: list[tuple[float, float | None]], most: int | None, out: bool
) -> None:
    history = [
        record(number, "completed", outputs={"epochs": epochs} | ({} if of is None else {"planned_epochs": of}))
        for number, (epochs, of) in enumerate(outputs)
    ]
    # A trial that trains nothing.
    search = snapshot([*history, record(len(history), "completed")], max_epochs=most)
    assert out_of_epochs(search) is out
    assert apply_plan(search, DONE).result == succeeded("max_epochs" if out else "completed")


@given(
    states=st.text(alphabet="".join(STATES), max_size=8),
    count=st.integers(0, 6),
    done=st.booleans(),
    max_trials=st.none() | st.integers(1, 8),
    max_parallel_trials=st.none() | st.integers(1, 4),
    wall=st.floats(0, 20),
)
def test_limits_hold_and_search_continues_or_ends(
    states: str, count: int, done: bool, max_trials: int | None, max_parallel_trials: int | None, wall: float
) -> None:
    search = snapshot(
        states, wall=wall, max_trials=max_trials, max_parallel_trials=max_parallel_trials, max_wall_seconds=10
    )
    first = enforce_limits(search)
    queued = {record.number for record in search.history if record.state == "queued"}
    assert set(first.cancel) <= queued
    assert not first.queue
    assert first.result is None or first.plan_from is None
    left = sum(record.state in ACTIVE for record in search.history) - len(first.cancel)
    if first.plan_from is None:
        assert (first.result is None) == (left > 0)
        return
    assert wall < 10
    assert enforce_limits(first.plan_from).cancel == ()
    second = apply_plan(first.plan_from, planned(count, done=done))
    assert not second.cancel
    assert second.plan_from is None
    assert list(second.queue) == list(planned(count).trials)[: len(second.queue)]
    assert (second.result is None) == (left + len(second.queue) > 0)
    if second.queue:
        assert max_trials is None or len(states) + len(second.queue) <= max_trials
        assert max_parallel_trials is None or left + len(second.queue) <= max_parallel_trials
