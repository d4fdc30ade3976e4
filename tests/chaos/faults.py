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
DUPLICATES: Final = 20
WRITE_WAIT_SECONDS: Final = 1.0
"""Seconds for which the kill of a supervisor waits for one that is writing an artifact."""
RECLAIM_SECONDS: Final = 8.0
"""Seconds after the end of its lease within which another worker should claim a trial."""


class _NoTargetError(LookupError):
    """The target of the fault is not running."""


@dataclass(frozen=True, slots=True)
class _Busy:
    """A train worker that is running a trial; `attempt` is TRIAL-EPOCH."""

    worker: Part
    supervisor: psutil.Process
    trainer: psutil.Process
    attempt: str


@dataclass(frozen=True, slots=True, eq=False)
class _Repair:
    """Reverts a fault at a time, or earlier when a condition holds."""

    action: Callable[[], object]
    at: float
    condition: Callable[[], bool] = lambda: False

    def is_due(self, now: float) -> bool:
        return now >= self.at or self.condition()


class Faults:
    """Injects faults and reverts them. `done` counts them by kind; `stopped` contains the attempts (TRIAL-EPOCH) whose
    supervisor was stopped for as long as its lease."""

    def __init__(self, cluster: Cluster, engine: Engine, rng: random.Random) -> None:
        self._cluster = cluster
        self._engine = engine
        self._rng = rng
        self._repairs: list[_Repair] = []
        self._injectors: Mapping[Fault, Callable[[], object]] = {
            "worker_kill": lambda: self._kill(self._busy().worker),
            "supervisor_kill": self._kill_supervisor,
            "trainer_kill": lambda: self._busy().trainer.kill(),
            "worker_stop": self._stop_worker,
            "supervisor_stop": self._stop_supervisor,
            "supervisor_doze": self._suspend_supervisor,
            "trainer_stop": self._stop_trainer,
            "worker_drain": lambda: self._cluster.drain(self._busy().worker),
            "light_kill": lambda: self._kill(self._choose(self._cluster.parts("light"))),
            "relay_kill": lambda: self._kill(self._choose(self._cluster.parts("relay"))),
            "redis_kill": self._kill_redis,
            "redis_flush": self._flush_redis,
            "postgres_restart": self._crash_postgres,
            "api_kill": lambda: self._kill(self._choose(self._cluster.parts("api"))),
            "duplicate_messages": self._duplicate_messages,
        }
        self.done: Counter[Fault] = Counter()
        self.stopped: set[str] = set()

    def inject(self, kind: Fault) -> bool:
        """Inject a fault. Returns False if it has no target at the moment."""
        try:
            self._injectors[kind]()
        except (_NoTargetError, psutil.NoSuchProcess, OperationalError, RedisError):
            return False
        self.done[kind] += 1
        return True

    def repair(self, *, everything: bool = False) -> None:
        """Revert the faults that are due, or all of them."""
        now = time.monotonic()
        due = [repair for repair in self._repairs if everything or repair.is_due(now)]
        self._repairs = [repair for repair in self._repairs if repair not in due]
        for repair in due:
            repair.action()

    def _schedule_repair(
        self, seconds: float, action: Callable[[], object], condition: Callable[[], bool] = lambda: False
    ) -> None:
        self._repairs.append(_Repair(action, time.monotonic() + seconds, condition))

    def _choose(self, choices: Sequence[T]) -> T:
        if not choices:
            raise _NoTargetError
        return self._rng.choice(choices)

    def _busy(self) -> _Busy:
        return self._choose(self._all_busy())

    def _all_busy(self) -> list[_Busy]:
        busy_workers = []
        for worker in self._cluster.parts("train"):
            for process in worker.tree():
                attempt, parent = attempt_of(process), process.parent()
                if attempt is not None and parent is not None:
                    busy_workers.append(_Busy(worker, parent, process, attempt))
        return busy_workers

    def _kill(self, part: Part) -> None:
        self._cluster.kill(part, tree=self._rng.random() < 0.5)

    def _kill_supervisor(self) -> None:
        """Kill a supervisor, preferably one that is writing to the store, where a crash can do the most harm."""
        store, deadline = self._cluster.home / "blobs", time.monotonic() + WRITE_WAIT_SECONDS
        while time.monotonic() < deadline:
            for busy in self._all_busy():
                if any(Path(file.path).is_relative_to(store) for file in busy.supervisor.open_files()):
                    busy.supervisor.kill()
                    return
            time.sleep(0.01)
        self._busy().supervisor.kill()

    def _stop(
        self, processes: Sequence[psutil.Process], seconds: float, condition: Callable[[], bool] = lambda: False
    ) -> None:
        stopped = [process for process in processes if send(process, signal.SIGSTOP)]
        self._schedule_repair(seconds, lambda: [send(process, signal.SIGCONT) for process in stopped], condition)

    def _stop_worker(self) -> None:
        busy = self._busy()
        self._stop_past_lease(busy, busy.worker.tree())

    def _stop_supervisor(self) -> None:
        busy = self._busy()
        self._stop_past_lease(busy, [busy.supervisor, busy.trainer] if self._rng.random() < 0.5 else [busy.supervisor])

    def _stop_past_lease(self, busy: _Busy, processes: Sequence[psutil.Process]) -> None:
        """Stop a supervisor until another worker runs its trial, or until a timeout."""
        self.stopped.add(busy.attempt)
        self._stop(processes, LEASE_SECONDS + RECLAIM_SECONDS, partial(self._is_reclaimed, busy.attempt))

    def _is_reclaimed(self, attempt: str) -> bool:
        """Whether the trial runs under a later epoch."""
        trial_id, _, epoch = attempt.rpartition("-")
        later = (TrialRow.id == trial_id) & (TrialRow.lease_epoch > int(epoch)) & (TrialRow.state == "running")
        try:
            with transaction(self._engine) as session:
                return session.scalar(select(TrialRow.id).where(later)) is not None
        except OperationalError:
            return False

    def _suspend_supervisor(self) -> None:
        """Suspend a supervisor until about the end of its lease, so that it gives up its trial before reclamation."""
        busy = self._busy()
        self.stopped.add(busy.attempt)
        self._stop([busy.supervisor], LEASE_SECONDS * self._rng.uniform(0.85, 1.1))

    def _stop_trainer(self) -> None:
        self._stop([self._busy().trainer], self._rng.uniform(0.5, LEASE_SECONDS))

    def _kill_redis(self) -> None:
        pid = self._cluster.redis.pid
        if pid is None:
            raise _NoTargetError
        os.kill(pid, signal.SIGKILL)
        self._schedule_repair(self._rng.uniform(0.2, 2), self._cluster.redis.restart)

    def _flush_redis(self) -> None:
        with Redis.from_url(self._cluster.redis.url, socket_timeout=2) as redis:
            redis.flushall()

    def _crash_postgres(self) -> None:
        if self._cluster.postgres.pid is None:
            raise _NoTargetError
        self._cluster.postgres.stop("immediate")
        self._schedule_repair(self._rng.uniform(0, 1.5), self._cluster.postgres.start)

    def _duplicate_messages(self) -> None:
        with transaction(self._engine) as session:
            running = session.execute(
                select(TrialRow.id, TrialRow.search_id).where(TrialRow.state == "running").order_by(TrialRow.id)
            ).all()
            trial = self._choose(running)
            for _ in range(DUPLICATES):
                outbox.enqueue(session, outbox.TRAIN, trial.id)
                outbox.enqueue(session, outbox.ADVANCE, trial.search_id)
