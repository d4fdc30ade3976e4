"""Faults that are injected into the running service, one function for each kind."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import psutil
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from paretofit.db import outbox
from paretofit.db.engine import transaction
from paretofit.db.tables import TrialRow
from tests.chaos.cluster import LEASE_SECONDS, Cluster, Part, attempt_of, send
from tests.chaos.schedule import Fault

T = TypeVar("T")
DOUBLED: Final = 20
WRITES_WITHIN: Final = 1.0
"""Seconds that the kill of a supervisor waits for one that is in the middle of writing an artifact."""
TAKEN_WITHIN: Final = 8.0
"""Seconds after its lease in which a trial should be taken by another worker."""


class _NothingToHitError(LookupError):
    """The target of the fault is not running."""


@dataclass(frozen=True, slots=True)
class _Busy:
    """A train worker that runs a trial; `attempt` is TRIAL-EPOCH."""

    worker: Part
    supervisor: psutil.Process
    trainer: psutil.Process
    attempt: str


@dataclass(frozen=True, slots=True, eq=False)
class _Repair:
    """Takes a fault back: at a time, or as soon as something holds."""

    act: Callable[[], object]
    at: float
    early: Callable[[], bool] = lambda: False

    def is_due(self, now: float) -> bool:
        return now >= self.at or self.early()


class Faults:
    """Injects faults and takes them back. `done` counts them by kind; `stopped` names the attempts (TRIAL-EPOCH) whose
    supervisor was stopped for as long as its lease."""

    def __init__(self, cluster: Cluster, engine: Engine, rng: random.Random) -> None:
        self._cluster = cluster
        self._engine = engine
        self._rng = rng
        self._repairs: list[_Repair] = []
        self._how: Mapping[Fault, Callable[[], object]] = {
            "worker_kill": lambda: self._kill(self._busy().worker),
            "supervisor_kill": self._kill_supervisor,
            "trainer_kill": lambda: self._busy().trainer.kill(),
            "worker_stop": self._stop_worker,
            "supervisor_stop": self._stop_supervisor,
            "supervisor_doze": self._doze_supervisor,
            "trainer_stop": self._stop_trainer,
            "worker_drain": lambda: self._cluster.drain(self._busy().worker),
            "light_kill": lambda: self._kill(self._one(self._cluster.parts("light"))),
            "relay_kill": lambda: self._kill(self._one(self._cluster.parts("relay"))),
            "redis_kill": self._kill_redis,
            "redis_flush": self._flush_redis,
            "postgres_restart": self._crash_postgres,
            "api_kill": lambda: self._kill(self._one(self._cluster.parts("api"))),
            "duplicate_messages": self._duplicate_messages,
        }
        self.done: Counter[Fault] = Counter()
        self.stopped: set[str] = set()

    def inject(self, kind: Fault) -> bool:
        """Inject a fault; False if it has no target at the moment."""
        try:
            self._how[kind]()
        except (_NothingToHitError, psutil.NoSuchProcess, OperationalError, RedisError):
            return False
        self.done[kind] += 1
        return True

    def repair(self, *, everything: bool = False) -> None:
        """Take back the faults whose time has come, or all of them."""
        now = time.monotonic()
        due = [repair for repair in self._repairs if everything or repair.is_due(now)]
        self._repairs = [repair for repair in self._repairs if repair not in due]
        for repair in due:
            repair.act()

    def _later(self, seconds: float, act: Callable[[], object], early: Callable[[], bool] = lambda: False) -> None:
        self._repairs.append(_Repair(act, time.monotonic() + seconds, early))

    def _one(self, choices: Sequence[T]) -> T:
        if not choices:
            raise _NothingToHitError
        return self._rng.choice(choices)

    def _busy(self) -> _Busy:
        return self._one(self._all_busy())

    def _all_busy(self) -> list[_Busy]:
        found = []
        for worker in self._cluster.parts("train"):
            for process in worker.tree():
                attempt, parent = attempt_of(process), process.parent()
                if attempt is not None and parent is not None:
                    found.append(_Busy(worker, parent, process, attempt))
        return found

    def _kill(self, part: Part) -> None:
        self._cluster.kill(part, tree=self._rng.random() < 0.5)

    def _kill_supervisor(self) -> None:
        """Kill one that is writing into the store, if one is soon: that is where a crash can do most harm."""
        store, deadline = self._cluster.home / "blobs", time.monotonic() + WRITES_WITHIN
        while time.monotonic() < deadline:
            for busy in self._all_busy():
                if any(Path(file.path).is_relative_to(store) for file in busy.supervisor.open_files()):
                    busy.supervisor.kill()
                    return
            time.sleep(0.01)
        self._busy().supervisor.kill()

    def _stop(
        self, processes: Sequence[psutil.Process], seconds: float, early: Callable[[], bool] = lambda: False
    ) -> None:
        stopped = [process for process in processes if send(process, signal.SIGSTOP)]
        self._later(seconds, lambda: [send(process, signal.SIGCONT) for process in stopped], early)

    def _stop_worker(self) -> None:
        busy = self._busy()
        self._outlast_lease(busy, busy.worker.tree())

    def _stop_supervisor(self) -> None:
        busy = self._busy()
        self._outlast_lease(busy, [busy.supervisor, busy.trainer] if self._rng.random() < 0.5 else [busy.supervisor])

    def _outlast_lease(self, busy: _Busy, processes: Sequence[psutil.Process]) -> None:
        """Stop a supervisor until another worker runs its trial, or until that takes too long."""
        self.stopped.add(busy.attempt)
        self._stop(processes, LEASE_SECONDS + TAKEN_WITHIN, partial(self._is_taken, busy.attempt))

    def _is_taken(self, attempt: str) -> bool:
        """Whether the trial runs under a later epoch."""
        trial_id, _, epoch = attempt.rpartition("-")
        later = (TrialRow.id == trial_id) & (TrialRow.lease_epoch > int(epoch)) & (TrialRow.state == "running")
        try:
            with transaction(self._engine) as session:
                return session.scalar(select(TrialRow.id).where(later)) is not None
        except OperationalError:
            return False

    def _doze_supervisor(self) -> None:
        """Suspend a supervisor until about the end of its lease: it gives up its trial before it is reclaimed."""
        busy = self._busy()
        self.stopped.add(busy.attempt)
        self._stop([busy.supervisor], LEASE_SECONDS * self._rng.uniform(0.85, 1.1))

    def _stop_trainer(self) -> None:
        self._stop([self._busy().trainer], self._rng.uniform(0.5, LEASE_SECONDS))

    def _kill_redis(self) -> None:
        pid = self._cluster.redis.pid
        if pid is None:
            raise _NothingToHitError
        os.kill(pid, signal.SIGKILL)
        self._later(self._rng.uniform(0.2, 2), self._cluster.redis.restart)

    def _flush_redis(self) -> None:
        with Redis.from_url(self._cluster.redis.url, socket_timeout=2) as redis:
            redis.flushall()

    def _crash_postgres(self) -> None:
        if self._cluster.postgres.pid is None:
            raise _NothingToHitError
        self._cluster.postgres.stop("immediate")
        self._later(self._rng.uniform(0, 1.5), self._cluster.postgres.start)

    def _duplicate_messages(self) -> None:
        with transaction(self._engine) as session:
            running = session.execute(
                select(TrialRow.id, TrialRow.search_id).where(TrialRow.state == "running").order_by(TrialRow.id)
            ).all()
            trial = self._one(running)
            for _ in range(DOUBLED):
                outbox.enqueue(session, outbox.TRAIN, trial.id)
                outbox.enqueue(session, outbox.ADVANCE, trial.search_id)
