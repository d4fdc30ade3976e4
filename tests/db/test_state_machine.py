"""A small model predicts the states of a search under any actions of users, planners, workers and the reaper.

The model does not use SQL; the database is real. `paretofit.db.states` defines the legal transitions.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from paretofit.db import cancellation, jobs, leases, planning, reaping, reports, search_control, states, trials
from paretofit.db.engine import transaction
from paretofit.db.jobs import DATASETS, WEIGHTS, StaleLeaseError
from paretofit.db.leases import Lease
from paretofit.db.tables import AttemptRow, EventRow, SearchRow, TrialRow
from paretofit.search import scheduler
from tests.db import rows

PROFILE = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    # Without shrinking, which would take minutes with a real database; forty steps are readable.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MAX_CRASHES = 2
ENDED = states.terminal(states.SEARCH)
CRASHED = {"code": "crashed", "detail": "the trainer ended by SIGKILL"}
FAILED = {"code": "error", "detail": "bad"}


@dataclass
class Trial:
    """The model of a trial."""

    state: str = "queued"
    is_due: bool = True
    epoch: int = 0
    crashes: int = 0
    outcomes: list[str | None] = field(default_factory=list)

    def leave(self, state: str, outcome: str) -> None:
        self.state = state
        self.outcomes[-1] = outcome


class Model:
    """The model of a search."""

    def __init__(self, planned: int, at_once: int) -> None:
        self.planned = planned
        self.at_once = at_once
        self.state = "queued"
        self.started = False
        self.pause = False
        self.cancel = False
        self.points = False
        self.trials: list[Trial] = []

    def in_states(self, *names: str) -> list[Trial]:
        return [trial for trial in self.trials if trial.state in names]

    @property
    def is_over(self) -> bool:
        return self.state in ENDED

    @property
    def is_active(self) -> bool:
        return not (self.is_over or self.pause or self.cancel)

    def advance(self) -> None:
        if self.is_over or (self.pause and not self.cancel):
            return
        if self.cancel:
            self.settle_cancel()
            return
        ended = [trial.state for trial in self.trials if trial.state not in {"queued", "running"}]
        if ended[-scheduler.MAX_FAILURES :] != ["failed"] * scheduler.MAX_FAILURES:
            room = self.at_once - len(self.in_states("queued", "running"))
            new = max(0, min(self.planned - len(self.trials), room))
            self.trials += [Trial() for _ in range(new)]
        if not self.in_states("queued", "running"):
            self.state = "succeeded" if self.points else "failed"

    def settle_cancel(self) -> None:
        for trial in self.in_states("queued"):
            trial.state = "cancelled"
        if not self.in_states("running"):
            self.state = "cancelled"

    def settle_pause(self) -> None:
        if self.pause and not self.cancel and not self.in_states("running"):
            self.state = "paused"

    def crash(self, trial: Trial, outcome: str) -> None:
        trial.crashes += 1
        if self.cancel:
            trial.leave("cancelled", outcome)
        elif trial.crashes >= MAX_CRASHES:
            trial.leave("failed", outcome)
        else:
            trial.leave("queued", outcome)
            trial.is_due = False
        self.settle_pause()


class SearchMachine(RuleBasedStateMachine):
    """A search with users, planners and workers, then another one. Preconditions avoid most no-op steps."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.leases: list[tuple[Trial, Lease]] = []

    @initialize(planned=st.integers(1, 4), at_once=st.integers(1, 3), claims_before_cancel=st.integers(0, 8))
    def create(self, planned: int, at_once: int, claims_before_cancel: int) -> None:
        self.model = Model(planned, at_once)
        self.claims_before_cancel = len(self.leases) + claims_before_cancel
        self.search_id = rows.add_search(self.engine, labels={"trials": str(planned), "at_once": str(at_once)})

    @precondition(lambda self: self.model.is_over)
    @rule(planned=st.integers(1, 4), at_once=st.integers(1, 3), claims_before_cancel=st.integers(0, 8))
    def create_another(self, planned: int, at_once: int, claims_before_cancel: int) -> None:
        self.create(planned, at_once, claims_before_cancel)
        self.advance()

    @rule()
    def advance(self) -> None:
        planning.advance(self.engine, self.search_id)
        self.model.advance()

    @precondition(lambda self: self.model.trials and not self.model.is_over)
    @rule(index=st.integers(0, 3))
    def claim(self, index: int) -> None:
        # Prefer a trial that can be claimed, so that trials run in most examples.
        numbers = range(len(self.model.trials))
        ready = [number for number in numbers if self.model.trials[number].state == "queued"]
        number = (ready or list(numbers))[index % len(ready or numbers)]
        trial = self.model.trials[number]
        trial_id = rows.trials(self.engine, self.search_id)[number].id
        with transaction(self.engine) as session:
            lease = leases.claim(session, trial_id, owner="w", device="cpu", seconds=600)
        assert (lease is not None) is (self.model.is_active and trial.state == "queued" and trial.is_due)
        if lease is not None:
            trial.state = self.model.state = "running"
            self.model.started = True
            trial.epoch += 1
            trial.outcomes.append(None)
            self.leases.append((trial, lease))

    @precondition(lambda self: self.leases)
    @rule(back=st.integers(1, 4), late=st.booleans())
    def renew(self, back: int, late: bool) -> None:
        self.write(back, leases.renew, late=late)

    @precondition(lambda self: self.model.in_states("running"))
    @rule(back=st.integers(1, 4), key=st.sampled_from("ab"))
    def report(self, back: int, key: str) -> None:
        point = {"key": key, "role": "candidate", "metrics": {"selection_top1": 0.5}}
        report = reports.Report(metrics=[reports.Metric("loss", 1, 0.5)], points=[point], progress=0.5)
        if self.write(back, lambda session, lease: reports.write(session, lease, report)) is not None:
            self.model.points = True

    @precondition(lambda self: self.model.in_states("running"))
    @rule(back=st.integers(1, 4), outcome=st.sampled_from(["completed", "failed", "infeasible", "cancelled"]))
    def finish(self, back: int, outcome: Literal["completed", "failed", "infeasible", "cancelled"]) -> None:
        error = FAILED if outcome == "failed" else None
        ended = self.write(back, lambda session, lease: trials.finish(session, lease, outcome, outputs={}, error=error))
        if ended is not None:
            ended.leave(outcome, outcome)
            self.model.settle_pause()

    @precondition(lambda self: self.model.in_states("running"))
    @rule(back=st.integers(1, 4))
    def release(self, back: int) -> None:
        if (trial := self.write(back, trials.release)) is not None:
            trial.is_due = True
            if self.model.cancel:
                trial.leave("cancelled", "cancelled")
            else:
                trial.leave("queued", "drained")
            self.model.settle_pause()

    @precondition(lambda self: self.model.in_states("running"))
    @rule(back=st.integers(1, 4))
    def crash(self, back: int) -> None:
        trial, lease = self.lease(back)
        held = self.is_held(trial, lease)
        with transaction(self.engine) as session:
            state = trials.crash(session, lease, CRASHED, max_crashes=MAX_CRASHES, back_off=600)
        if held:
            self.model.crash(trial, "crashed")
            assert state == trial.state
        else:
            assert state is None

    @precondition(lambda self: self.model.in_states("running"))
    @rule(back=st.integers(1, 4))
    def expire_and_reap(self, back: int) -> None:
        trial, lease = self.lease(back)
        with transaction(self.engine) as session:
            session.execute(
                text(
                    "UPDATE trials SET lease_expires_at = now() - interval '1 s' WHERE id = :id AND state = 'running'"
                ),
                {"id": lease.trial_id},
            )
        reaped = reaping.reap(self.engine, lease_seconds=0, max_crashes=MAX_CRASHES, back_off=600)
        if trial.state == "running":
            self.model.crash(trial, "lost")
            assert reaped[lease.trial_id] == trial.state
        else:
            assert lease.trial_id not in reaped

    @precondition(lambda self: not all(trial.is_due for trial in self.model.trials))
    @rule()
    def back_off_ends(self) -> None:
        with transaction(self.engine) as session:
            session.execute(text("UPDATE trials SET run_after = now() WHERE search_id = :id"), {"id": self.search_id})
        for trial in self.model.trials:
            trial.is_due = True

    @precondition(lambda self: len(self.leases) >= self.claims_before_cancel)
    @rule()
    def cancel(self) -> None:
        with transaction(self.engine) as session:
            assert cancellation.request_cancel(session, self.search_id) is not self.model.is_over
        if not self.model.is_over and not self.model.cancel:
            self.model.cancel = True
            self.model.settle_cancel()

    @precondition(lambda self: len(self.leases) >= self.claims_before_cancel // 2)
    @rule()
    def pause(self) -> None:
        can = not self.model.is_over and not self.model.cancel
        with transaction(self.engine) as session:
            assert search_control.request_pause(session, self.search_id) is can
        if can:
            self.model.pause = True
            self.model.settle_pause()

    @precondition(lambda self: self.model.pause or self.model.is_over)
    @rule()
    def resume(self) -> None:
        can = not self.model.is_over and not self.model.cancel
        with transaction(self.engine) as session:
            assert search_control.resume(session, self.search_id) is can
        if can:
            self.model.pause = False
            if self.model.state == "paused":
                self.model.state = "running" if self.model.started else "queued"

    def lease(self, back: int, *, late: bool = False) -> tuple[Trial, Lease]:
        """One of the latest leases of running trials, held or stale; with `late`, of any trials."""
        candidates = [entry for entry in self.leases if late or entry[0].state == "running"] or self.leases
        return candidates[-min(back, len(candidates))]

    def is_held(self, trial: Trial, lease: Lease) -> bool:
        return trial.state == "running" and trial.epoch == lease.epoch

    def write(self, back: int, work: Callable[[Session, Lease], object], *, late: bool = False) -> Trial | None:
        """Let a worker write. Returns its trial, or None if its lease was stale, in which case the write must fail."""
        trial, lease = self.lease(back, late=late)
        held = self.is_held(trial, lease)
        try:
            with transaction(self.engine) as session:
                work(session, lease)
        except StaleLeaseError:
            assert not held
            return None
        assert held
        return trial

    @invariant()
    def matches_the_model(self) -> None:
        model = self.model
        with transaction(self.engine) as session:
            search = session.get_one(SearchRow, self.search_id)
            trial_rows = session.scalars(
                select(TrialRow).where(TrialRow.search_id == self.search_id).order_by(TrialRow.number)
            ).all()
            ids = [trial.id for trial in trial_rows]
            attempts = session.execute(
                select(AttemptRow.trial_id, AttemptRow.epoch, AttemptRow.outcome)
                .where(AttemptRow.trial_id.in_(ids))
                .order_by(AttemptRow.epoch)
            ).all()
            events = session.scalars(
                select(EventRow).where(EventRow.search_id == self.search_id).order_by(EventRow.seq)
            ).all()
        assert (search.state, search.pause_requested, search.cancel_requested) == (
            model.state,
            model.pause,
            model.cancel,
        )
        assert (search.started_at is not None) is model.started
        assert [(trial.state, trial.lease_epoch, trial.crash_count) for trial in trial_rows] == [
            (trial.state, trial.epoch, trial.crashes) for trial in model.trials
        ]
        of_trial = defaultdict(list)
        for trial_id, epoch, outcome in attempts:
            of_trial[trial_id].append((epoch, outcome))
        assert [of_trial[trial_id] for trial_id in ids] == [
            list(enumerate(trial.outcomes, start=1)) for trial in model.trials
        ]
        assert [event.seq for event in events] == list(range(1, search.event_seq + 1))
        ends = [event.seq for event in events if event.type.removeprefix("search.") in ENDED]
        assert ends == ([search.event_seq] if model.is_over else [])
        self.transitions_are_legal(search, trial_rows, events)

    def transitions_are_legal(
        self, search: SearchRow, trial_rows: Sequence[TrialRow], events: Sequence[EventRow]
    ) -> None:
        """The events of each machine follow `paretofit.db.states`, and the last event is its state."""
        visited = defaultdict(list)
        for event in events:
            kind, _, state = event.type.partition(".")
            if kind == "search" and state in states.SEARCH:
                visited[search.id].append(state)
            elif kind == "trial":
                visited[event.data["trial"]].append(state)
        visited[search.id].insert(0, "queued")
        subjects = [(states.SEARCH, search.id, search.state)]
        subjects += [(states.TRIAL, trial.id, trial.state) for trial in trial_rows]
        for machine, subject, state in subjects:
            assert all(after in machine[before] for before, after in itertools.pairwise(visited[subject]))
            assert visited[subject][-1] == state


@pytest.mark.usefixtures("scripted")
def test_search_states_match_the_model(engine: Engine) -> None:
    class EngineSearchMachine(SearchMachine):
        def __init__(self) -> None:
            super().__init__(engine)

    run_state_machine_as_test(EngineSearchMachine, settings=PROFILE)


def test_dataset_transitions_match_the_state_machine(engine: Engine) -> None:
    for before, after in itertools.product(states.DATASET, repeat=2):
        manifest: dict[str, str] | None = {} if before == "ready" else None
        dataset_id = rows.add_dataset(engine, state=before, manifest=manifest)
        with transaction(engine) as session:
            moved = jobs.move(session, DATASETS, dataset_id, after, manifest={} if after == "ready" else manifest)
        assert (moved is not None) is (after in states.DATASET[before])
        assert rows.dataset(engine, dataset_id).state == (after if moved else before)


def test_weights_transitions_match_the_state_machine(engine: Engine) -> None:
    file = {"sha256": "a" * 64, "size": 1, "record": rows.RECORD}
    for before, after in itertools.product(states.WEIGHTS, repeat=2):
        weights_id = rows.add_weights(engine, state=before)
        values = file if after == "ready" and before != "ready" else {}
        with transaction(engine) as session:
            moved = jobs.move(session, WEIGHTS, weights_id, after, **values)
        assert (moved is not None) is (after in states.WEIGHTS[before])
        assert rows.weights(engine, weights_id).state == (after if moved else before)
