"""Real relay and worker processes on the databases of a test, with short leases and the method `steps`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil
from sqlalchemy import Engine, select

from paretofit.db.engine import transaction
from paretofit.db.tables import LogRow, OutboxRow, TrialRow
from tests.db import rows

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
FAST = {
    "PARETOFIT_METHODS": "tests.methods.steps",
    "PARETOFIT_LEASE_SECONDS": "3",
    "PARETOFIT_RENEW_SECONDS": "0.3",
    "PARETOFIT_POLL_SECONDS": "0.1",
    "PARETOFIT_RELAY_SECONDS": "0.1",
    "PARETOFIT_REAP_SECONDS": "0.2",
    "PARETOFIT_RESEND_SECONDS": "1",
    "PARETOFIT_RETRY_SECONDS": "0.1",
    "PARETOFIT_STOP_GRACE_SECONDS": "1",
}


class Fleet:
    """The processes of a test; a context manager that ends them all."""

    def __init__(self, engine: Engine, database_url: str, redis_url: str, home: Path) -> None:
        self.engine = engine
        self.home = home
        self.environment = os.environ | FAST
        self.environment |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "PARETOFIT_HOME": str(home)}
        # Trainers run in scratch folders and import the method from here.
        self.environment["PYTHONPATH"] = str(ROOT)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.trainers: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `python -m ARGUMENTS...` with its output in a file in the home."""
        log = self.home / f"{len(self._processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env=self.environment,
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def start_trainer(self) -> None:
        """Start one train worker and add it to `trainers`."""
        self.trainers.append(self.start("paretofit.workers", "train", "--device", "cpu", "--threads", "1"))

    def kill_trainers(self) -> None:
        """Kill the train workers and their descendants."""
        while self.trainers:
            _kill(self.trainers.pop())

    def add_search(self, **method: Any) -> str:
        """Submit a search by the method `steps`."""
        limits = method.pop("limits", None)
        return rows.add_search(self.engine, method={"kind": "steps", **method}, limits=limits)

    def await_state(self, search_id: str, state: str, timeout: float = 30.0) -> None:
        """Wait until the search is in a state."""

        def reached() -> bool:
            now = rows.search(self.engine, search_id)
            assert now.state == state or now.finished_at is None, f"{now.state}: {now.error}\n{self.logs()}"
            return now.state == state

        self.wait(reached, f"search in state {state}", timeout)

    def await_running(self, search_id: str) -> TrialRow:
        """Wait until a trainer of the search has written a log line; returns the trial."""

        def running() -> TrialRow | None:
            for trial in rows.trials(self.engine, search_id):
                if trial.state == "running" and self.trainer(trial.id, trial.lease_epoch) is not None:
                    return trial
            return None

        return self.wait(running, "running trial")

    def trainer(self, trial_id: str, epoch: int) -> int | None:
        """The process id that an attempt's trainer printed."""
        with transaction(self.engine) as session:
            line = session.scalar(
                select(LogRow.line).where(
                    LogRow.trial_id == trial_id, LogRow.epoch == epoch, LogRow.line.startswith("pid ")
                )
            )
        return None if line is None else int(line.split()[1])

    def has_sent_all(self) -> bool:
        """Whether no job message waits in the outbox."""
        with transaction(self.engine) as session:
            return session.scalars(select(OutboxRow.id)).first() is None

    def supervisor(self, worker: subprocess.Popen[bytes]) -> int:
        """The process id of a train worker's Celery child."""
        (child,) = psutil.Process(worker.pid).children()
        return child.pid

    def warm(self, worker: subprocess.Popen[bytes]) -> int:
        """The process id of a train worker's forkserver."""
        children = psutil.Process(self.supervisor(worker)).children()
        (pid,) = [child.pid for child in children if child.status() != psutil.STATUS_ZOMBIE and _is_warm(child)]
        return pid

    def wait(self, ready: Callable[[], T | None], goal: str, timeout: float = 30.0) -> T:
        """Poll until `ready` returns a true value. Raises AssertionError with the logs."""
        deadline = time.monotonic() + timeout
        while not (result := ready()):
            assert time.monotonic() < deadline, f"no {goal}:\n{self.logs()}"
            time.sleep(0.05)
        return result

    def logs(self) -> str:
        """The output of the processes."""
        return "\n".join(f"--- {path.name}\n{path.read_text()[-6000:]}" for path in sorted(self.home.glob("*.log")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            _kill(process)


def _is_warm(process: psutil.Process) -> bool:
    """Forked trainers have the same command line and parent, but they run in the folder of a trial."""
    return "paretofit.workers.forkserver" in process.cmdline() and process.cwd() == "/"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its descendants."""
    for child in _descendants(process.pid):
        child.kill()
    process.kill()
    process.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def stop(process: subprocess.Popen[bytes], timeout: float = 30.0) -> float:
    """Send SIGTERM and wait. Returns the seconds until the process ended."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(timeout)
    return time.monotonic() - began
