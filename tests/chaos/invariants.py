"""Invariants of a run, one function each, which returns one line per violation."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import Session

from paretofit.db import states
from paretofit.db.tables import ArtifactRow, AttemptRow, DatasetRow, EventRow, MetricRow, PointRow, SearchRow, TrialRow
from tests.chaos import triggers
from tests.chaos.cluster import Failures
from tests.chaos.load import LABEL, Load
from tests.chaos.method.run import chain_of
from tests.chaos.witness import Attempt

T = TypeVar("T")
_ENDED: Final = states.terminal(states.SEARCH)
_LAST: Final = {f"search.{state}" for state in _ENDED}
_BLOCK: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of a run: the database, the blobs, the diaries of trainers, the records of users, and the faults."""

    engine: Engine
    blobs: Path
    attempts: Sequence[Attempt]
    load: Load
    stopped: set[str]
    failures: Failures

    def session(self) -> Session:
        return Session(self.engine)

    def by_trial(self) -> dict[str, list[Attempt]]:
        """The diaries of each trial, by epoch."""
        by_id = defaultdict(list)
        for attempt in self.attempts:
            by_id[attempt.trial_id].append(attempt)
        return by_id


def unfinished(evidence: Evidence) -> Iterator[str]:
    """Every accepted submission ends in a terminal state."""
    with evidence.session() as session:
        known = _pairs(session, select(SearchRow.id, SearchRow.state))
        datasets = _pairs(session, select(DatasetRow.id, DatasetRow.state))
    for search_id in {*known, *evidence.load.accepted}:
        if known.get(search_id) not in _ENDED:
            yield f"search {search_id} is {known.get(search_id, 'lost')}"
    for dataset_id in evidence.load.datasets:
        if datasets.get(dataset_id) != "ready":
            yield f"dataset {dataset_id} is {datasets.get(dataset_id, 'lost')}"


def failed(evidence: Evidence) -> Iterator[str]:
    """No search fails: all searches are valid, and everything that faults break can be retried."""
    with evidence.session() as session:
        for row in session.scalars(select(SearchRow).where(SearchRow.state == "failed")):
            yield f"search {row.id}: {row.error}"
        for trial in session.scalars(select(TrialRow).where(TrialRow.state.in_(("failed", "infeasible", "pruned")))):
            yield f"trial {trial.id}: {trial.error}"


def doubled_submissions(evidence: Evidence) -> Iterator[str]:
    """One Idempotency-Key creates one search, and every response has its id."""
    with evidence.session() as session:
        by_key = defaultdict(set)
        for search_id, labels in session.execute(select(SearchRow.id, SearchRow.labels)):
            by_key[labels[LABEL]].add(search_id)
    for key, answered in evidence.load.submitted.items():
        if len(answered | by_key[key]) != 1:
            yield f"submission {key}: answered {sorted(answered)}, stored {sorted(by_key[key])}"


def terminal_events(evidence: Evidence) -> Iterator[str]:
    """A finished search has one terminal event, which matches its state and is the last event."""
    with evidence.session() as session:
        ended = _pairs(session, select(SearchRow.id, SearchRow.state).where(SearchRow.state.in_(_ENDED)))
        types = defaultdict(list)
        for search_id, kind in session.execute(
            select(EventRow.search_id, EventRow.type).order_by(EventRow.search_id, EventRow.seq)
        ):
            types[search_id].append(kind)
    for search_id, state in ended.items():
        last = [(index, kind) for index, kind in enumerate(types[search_id], start=1) if kind in _LAST]
        if last != [(len(types[search_id]), f"search.{state}")]:
            yield f"search {search_id} is {state}: terminal events {last} of {len(types[search_id])} events"


def event_numbers(evidence: Evidence) -> Iterator[str]:
    """The events of a search are numbered from 1 without gaps, up to the counter on its row."""
    with evidence.session() as session:
        rows = session.execute(
            select(SearchRow.id, SearchRow.event_seq, func.count(EventRow.seq), func.max(EventRow.seq))
            .outerjoin(EventRow, EventRow.search_id == SearchRow.id)
            .group_by(SearchRow.id)
        )
        for search_id, counter, count, highest in rows:
            if not counter == count == highest:
                yield f"search {search_id}: {count} events up to {highest}, the counter is at {counter}"


def stale_writes(evidence: Evidence) -> Iterator[str]:
    """No write is below the current epoch: only the holder of its lease writes to a trial."""
    yield from triggers.findings(evidence.engine)["stale_write"]


def claims_of_held_trials(evidence: Evidence) -> Iterator[str]:
    """A trial is claimed only when it is queued."""
    yield from triggers.findings(evidence.engine)["claimed_twice"]


def illegal_transitions(evidence: Evidence) -> Iterator[str]:
    """All transitions are allowed by `paretofit.db.states`."""
    yield from triggers.findings(evidence.engine)["illegal_transition"]


def damaged_artifacts(evidence: Evidence) -> Iterator[str]:
    """Every blob that the database references is in the store with its size and digest."""
    with evidence.session() as session:
        named = {row.sha256: row.size for row in session.execute(select(ArtifactRow.sha256, ArtifactRow.size))}
        manifests = [row["files"] for row in session.scalars(select(TrialRow.checkpoint)) if row is not None]
        for manifest in [*manifests, *session.scalars(select(DatasetRow.manifest).where(DatasetRow.state == "ready"))]:
            named |= {file["sha256"]: file["size"] for file in (manifest or {}).values()}
    for sha256, size in named.items():
        path = evidence.blobs / sha256[:2] / sha256
        if not path.is_file():
            yield f"blob {sha256} is missing"
        elif (path.stat().st_size, _digest(path)) != (size, sha256):
            yield f"blob {sha256} of {size} bytes holds {path.stat().st_size} bytes that hash to {_digest(path)}"


def partial_files(evidence: Evidence) -> Iterator[str]:
    """Every published file is complete, whether or not the database references it."""
    for path in evidence.blobs.glob("??/*"):
        if _digest(path) != path.name:
            yield f"{path} holds {path.stat().st_size} bytes that hash to {_digest(path)}"


def replays(evidence: Evidence) -> Iterator[str]:
    """A trial repeats at most as many steps as its crashes times its checkpoint interval."""
    with evidence.session() as session:
        crashes = _crashes(session)
        every = _intervals(session)
    for trial_id, attempts in evidence.by_trial().items():
        again = replayed(attempts)
        if again > crashes[trial_id] * every[trial_id]:
            allowed = f"{crashes[trial_id]} crashes, {every[trial_id]} allowed each"
            yield f"trial {trial_id}: {again} steps repeated in {allowed}"


def skipped_steps(evidence: Evidence) -> Iterator[str]:
    """A completed trial did every step, and its reports are complete and its own."""
    with evidence.session() as session:
        specs = _pairs(session, select(SearchRow.id, SearchRow.spec))
        completed = session.scalars(select(TrialRow).where(TrialRow.state == "completed")).all()
        losses = _counts(session, select(MetricRow.trial_id).where(MetricRow.name == "loss"))
        points = _counts(session, select(PointRow.trial_id).where(PointRow.artifact_id.is_not(None)))
    done = {trial_id: {s for a in attempts for s, _ in a.steps} for trial_id, attempts in evidence.by_trial().items()}
    for trial in completed:
        method = specs[trial.search_id]["method"]
        if method["kind"] != "witnessed":
            continue
        steps = method["steps"]
        chain = chain_of(chain_of("", steps) if trial.inputs else "", steps)
        if done.get(trial.id) != set(range(1, steps + 1)):
            yield f"trial {trial.id} did {len(done.get(trial.id, ()))} of {steps} steps"
        if trial.outputs != {"steps": steps, "chain": chain}:
            yield f"trial {trial.id} ended with {trial.outputs}"
        if (losses[trial.id], points[trial.id]) != (steps, 1):
            yield f"trial {trial.id} has {losses[trial.id]} losses and {points[trial.id]} points"


def overlaps(evidence: Evidence) -> Iterator[str]:
    """Attempts of a trial do not overlap. If its supervisor was stopped past the lease, an attempt may continue to its
    next checkpoint."""
    with evidence.session() as session:
        every = _intervals(session)
    for trial_id, attempts in evidence.by_trial().items():
        for attempt in attempts:
            if len(attempt.processes) > 1:
                yield f"attempt {attempt.name} ran as {attempt.processes}"
        for earlier, later in pairwise(attempt for attempt in attempts if attempt.steps):
            since = later.steps[0][1]
            late = sum(at > since for _, at in earlier.steps)
            if late > (every[trial_id] if earlier.name in evidence.stopped else 0):
                yield f"attempt {earlier.name} did {late} steps after {later.name} had started"


def undone_cancels(evidence: Evidence) -> Iterator[str]:
    """An acknowledged cancellation ends the search as cancelled, and none of its trials runs afterwards."""
    with evidence.session() as session:
        states_by_id = _pairs(session, select(SearchRow.id, SearchRow.state))
        trials = _pairs(session, select(TrialRow.id, TrialRow.search_id))
        ended = {
            search_id: at.timestamp()
            for search_id, at in session.execute(
                select(EventRow.search_id, EventRow.at).where(EventRow.type == "search.cancelled")
            )
        }
        every = _intervals(session)
    for search_id in evidence.load.cancelled:
        if states_by_id.get(search_id) != "cancelled":
            yield f"search {search_id} was cancelled and is {states_by_id.get(search_id)}"
    for attempt in evidence.attempts:
        at = ended.get(trials.get(attempt.trial_id, ""))
        late = 0 if at is None else sum(time > at for _, time in attempt.steps)
        if late > (every[attempt.trial_id] if attempt.name in evidence.stopped else 0):
            yield f"attempt {attempt.name} did {late} steps after its search was cancelled"


def living_trainers(evidence: Evidence) -> Iterator[str]:
    """No trainer is running when all searches have ended."""
    for attempt in evidence.attempts:
        for process in attempt.processes:
            if not process.has_ended:
                yield f"the trainer of attempt {attempt.name} still runs as process {process.pid}"


def processes_that_ended(evidence: Evidence) -> Iterator[str]:
    """No part of the service ends because of a fault in another part."""
    yield from evidence.failures.ended


def slow_drains(evidence: Evidence) -> Iterator[str]:
    """A worker ends within 30 s of SIGTERM."""
    yield from evidence.failures.slow_drains


def leftover_processes(evidence: Evidence) -> Iterator[str]:
    """No process is left after the service has stopped."""
    yield from evidence.failures.left


def surprising_answers(evidence: Evidence) -> Iterator[str]:
    """Users receive the documented responses, possibly after retries."""
    yield from evidence.load.unexpected_responses


INVARIANTS: Final[Mapping[str, Callable[[Evidence], Iterator[str]]]] = {
    check.__name__: check
    for check in (
        unfinished,
        failed,
        doubled_submissions,
        terminal_events,
        event_numbers,
        stale_writes,
        claims_of_held_trials,
        illegal_transitions,
        damaged_artifacts,
        partial_files,
        replays,
        skipped_steps,
        overlaps,
        undone_cancels,
        living_trainers,
        processes_that_ended,
        slow_drains,
        leftover_processes,
        surprising_answers,
    )
}


def replayed(attempts: Sequence[Attempt]) -> int:
    """The number of repeated steps of a trial."""
    steps = [step for attempt in attempts for step, _ in attempt.steps]
    return len(steps) - len(set(steps))


def crashes(engine: Engine) -> int:
    """The number of attempts that ended by a crash of the trainer or a loss of the worker."""
    with Session(engine) as session:
        return sum(_crashes(session).values())


def _crashes(session: Session) -> Counter[str]:
    return _counts(session, select(AttemptRow.trial_id).where(AttemptRow.outcome.in_(("crashed", "lost"))))


def _intervals(session: Session) -> dict[str, int]:
    """The steps between checkpoints by trial."""
    rows = session.execute(select(TrialRow.id, SearchRow.spec).join(SearchRow, SearchRow.id == TrialRow.search_id))
    return {trial_id: spec["method"].get("checkpoint_every", 0) for trial_id, spec in rows}


def _pairs(session: Session, query: Select[str, T]) -> dict[str, T]:
    return dict(session.execute(query).tuples().all())


def _counts(session: Session, query: Select[str]) -> Counter[str]:
    return Counter(session.scalars(query))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
