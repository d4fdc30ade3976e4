"""Decides what happens next to a search: pure, from its limits, history, elapsed time and the method's plan.

When no trial is active and none follows, the search ends:

- a limit was met: succeeded, `stop_reason` names the limit, with or without points;
- it has points: succeeded, `stop_reason` is "completed", the limit that shortened its trials, or "trials_failed" if one
  failed;
- it has no points: failed, with the first failed trial's error, or code "infeasible" or "no_points".

A method sees its failed trials and may plan more. After `MAX_FAILURES` failures in a row no trial is planned, because
the next one is likely to fail for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from paretofit.search.contracts.plan import ACTIVE, NewTrial, Plan, TrialRecord
from paretofit.search.contracts.spec import RESERVE, Limits

MAX_FAILURES: Final = 3
"""Failed trials in a row after which no more trials are planned."""

_ROUNDING: Final = 1e-6

TimeLimit = Literal["max_wall_seconds", "max_device_seconds"]
StopReason = TimeLimit | Literal["max_trials", "max_epochs", "completed", "trials_failed"]


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that count against the time limits: since the first trial began, and the sum over all attempts."""

    wall_seconds: float = 0.0
    device_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of a search at one moment: its limits, its trials in the order of their numbers, the elapsed time."""

    limits: Limits
    history: Sequence[TrialRecord]
    spent: Spent = Spent()

    @property
    def active(self) -> int:
        """Number of trials that have not ended."""
        return sum(record.state in ACTIVE for record in self.history)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a search: succeeded with a `stop_reason`, or failed with an `error` {code, detail, ...}, which includes
    the number of the `trial` for a trial's error."""

    state: Literal["succeeded", "failed"]
    stop_reason: StopReason | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do next: `cancel` queued trials by number, request a plan for the snapshot `plan_from`, `queue` new
    trials, or end with this `result`. With none of these: wait for the active trials."""

    cancel: tuple[int, ...] = ()
    plan_from: Snapshot | None = None
    queue: tuple[NewTrial, ...] = ()
    result: SearchResult | None = None


def enforce_limits(snapshot: Snapshot) -> Decision:
    """First decision, from the limits alone: which queued trials to cancel, and whether to plan. If not, the search
    ends with its last active trial."""
    stop_reason = time_limit(snapshot.limits, snapshot.spent)
    within = 0 if stop_reason is not None else snapshot.limits.max_trials
    cancel: tuple[int, ...] = ()
    if within is not None:
        cancel = tuple(record.number for record in snapshot.history[within:] if record.state == "queued")
    snapshot = _cancelled(snapshot, cancel)
    if stop_reason is None and not keeps_failing(snapshot.history):
        return Decision(cancel=cancel, plan_from=snapshot)
    return Decision(cancel=cancel, result=None if snapshot.active else _result(snapshot, stop_reason))


def apply_plan(snapshot: Snapshot, plan: Plan) -> Decision:
    """Second decision, from the plan for this snapshot (`Decision.plan_from`): its trials as far as the limits allow,
    or the search's result if there are none and no trial is active."""
    limits, queue = snapshot.limits, plan.trials
    stop_reason: StopReason | None = plan.stop_reason if plan.done else None
    if (most := limits.max_trials) is not None:
        queue = queue[: max(most - len(snapshot.history), 0)]
        if len(queue) < len(plan.trials) or any(record.state == "cancelled" for record in snapshot.history[most:]):
            stop_reason = "max_trials"
    if limits.max_parallel_trials is not None:
        queue = queue[: max(limits.max_parallel_trials - snapshot.active, 0)]
    return Decision(queue=queue, result=None if snapshot.active or queue else _result(snapshot, stop_reason))


def time_limit(limits: Limits, spent: Spent, *, share: float = 1.0) -> TimeLimit | None:
    """The time limit of which at least `share` is used; None otherwise."""
    if limits.max_wall_seconds is not None and spent.wall_seconds >= share * limits.max_wall_seconds:
        return "max_wall_seconds"
    if limits.max_device_seconds is not None and spent.device_seconds >= share * limits.max_device_seconds:
        return "max_device_seconds"
    return None


def keeps_failing(history: Sequence[TrialRecord]) -> bool:
    """Whether the last `MAX_FAILURES` trials that ended all failed."""
    ended = [record.state for record in history if record.state not in ACTIVE]
    return ended[-MAX_FAILURES:] == ["failed"] * MAX_FAILURES


def out_of_epochs(snapshot: Snapshot) -> bool:
    """Whether the trials used up `max_epochs` and one of them would have trained longer.

    The method distributes the epochs, because only it knows how a shorter training changes its schedule. Its trials
    return the outputs `epochs` and `planned_epochs`.
    """
    most = snapshot.limits.max_epochs
    outputs = (record.outputs or {} for record in snapshot.history)
    trained = [output for output in outputs if "epochs" in output]
    shortened = any(output["epochs"] < output.get("planned_epochs", 0) for output in trained)
    # The rest is less than one epoch for each of the equal shares.
    left = len(trained) - 1 + _ROUNDING
    return most is not None and shortened and sum(output["epochs"] for output in trained) > most - left


def _cancelled(snapshot: Snapshot, numbers: Sequence[int]) -> Snapshot:
    if not numbers:
        return snapshot
    records = (
        record.model_copy(update={"state": "cancelled"}) if record.number in numbers else record
        for record in snapshot.history
    )
    return replace(snapshot, history=tuple(records))


def _result(snapshot: Snapshot, stop_reason: StopReason | None) -> SearchResult:
    failed = next((record for record in snapshot.history if record.state == "failed"), None)
    if stop_reason is None and not any(record.points for record in snapshot.history):
        return SearchResult("failed", error=_error(snapshot.history, failed))
    if stop_reason is None and out_of_epochs(snapshot):
        stop_reason = "max_epochs"
    # Trials at this point were asked to report their results early.
    stop_reason = stop_reason or time_limit(snapshot.limits, snapshot.spent, share=1 - RESERVE)
    return SearchResult("succeeded", stop_reason or ("completed" if failed is None else "trials_failed"))


def _error(history: Sequence[TrialRecord], failed: TrialRecord | None) -> dict[str, Any]:
    """The error of a search without points."""
    if failed is not None:
        return (failed.error or {}) | {"trial": failed.number}
    infeasible = [record for record in history if record.state == "infeasible"]
    if not infeasible:
        return {"code": "no_points", "detail": "the method ended without a network: check the logs of its trials"}
    error = {"code": "infeasible", "detail": "no network meets the constraints: relax them"}
    explained = next((record for record in infeasible if record.error is not None), None)
    return error if explained is None else error | (explained.error or {}) | {"trial": explained.number}
