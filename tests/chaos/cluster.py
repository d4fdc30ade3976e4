"""The whole service as separate processes, each of which can be a target of faults; the run restarts those that end.

This is not `paretofit up`, which stops all parts when one of them keeps failing, and whose guard processes kill the
process group of a worker with the worker. Here a killed process dies alone.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from paretofit.db import migrate
from paretofit.launch.ports import free_port
from paretofit.launch.postgres import EmbeddedPostgres
from paretofit.launch.redis import EmbeddedRedis
from tests.chaos import witness
from tests.chaos.schedule import Guard

ROOT: Final = Path(__file__).parents[2]
MARK: Final = "PARETOFIT_CHAOS_RUN"
"""A variable that every process of a run inherits."""
LEASE_SECONDS: Final = 4.0
DRAIN_SECONDS: Final = 30.0
_RESTART_SECONDS: Final = 0.5
_SETTINGS: Final = {
    "PARETOFIT_METHODS": "tests.chaos.method,paretofit.search.methods.mutualnet",
    "PARETOFIT_LEASE_SECONDS": str(LEASE_SECONDS),
    "PARETOFIT_RENEW_SECONDS": "0.5",
    "PARETOFIT_POLL_SECONDS": "0.2",
    "PARETOFIT_RELAY_SECONDS": "0.2",
    "PARETOFIT_REAP_SECONDS": "0.5",
    "PARETOFIT_RESEND_SECONDS": "2",
    "PARETOFIT_RETRY_SECONDS": "0.1",
    "PARETOFIT_STOP_GRACE_SECONDS": "2",
    # Every trial of the run can be completed, so a failed trial is a violation.
    "PARETOFIT_MAX_CRASHES": "1000",
}


@dataclass(slots=True)
class Part:
    """A process of the service. `expected`: the run has ended it on purpose."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes]
    expected: bool = False
    drain_until: float | None = None
    start_at: float | None = None

    def tree(self) -> list[psutil.Process]:
        """The living process and its descendants."""
        try:
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@dataclass(slots=True)
class Failures:
    """Misbehavior of parts, one line each."""

    ended: list[str] = field(default_factory=list)
    slow_drains: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Cluster:
    """PostgreSQL, Redis, the API, two relays, a light worker and train workers; a context manager that ends them
    all."""

    def __init__(self, folder: Path, *, trainers: int, without: Guard | None) -> None:
        self.home = folder / "home"
        self.diaries = folder / "diaries"
        self.logs = folder / "logs"
        for path in (self.home, self.diaries, self.logs):
            path.mkdir(parents=True)
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.redis = EmbeddedRedis(folder / "redis")
        self.failures = Failures()
        self._mark = secrets.token_hex(8)
        self._without = without
        self._trainers = trainers
        self._port = free_port()
        self._parts: dict[str, Part] = {}
        self._environment: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The URL of the API."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def database_url(self) -> str:
        """The URL for SQLAlchemy."""
        return self.postgres.url.replace("postgresql://", "postgresql+psycopg://", 1)

    def start(self) -> None:
        """Start everything. Returns when the processes are started, not when they are ready."""
        self.postgres.start()
        self.redis.start()
        migrate.upgrade(self.database_url)
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PARETOFIT_")},
            **_SETTINGS,
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "PARETOFIT_HOME": str(self.home),
            "PARETOFIT_PORT": str(self._port),
            # Trainers run in scratch folders and import the method from here.
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            MARK: self._mark,
            witness.VARIABLE: str(self.diaries),
        }
        self._add("api", "paretofit.api")
        self._add("relay-0", "paretofit.workers.relay")
        self._add("relay-1", "paretofit.workers.relay")
        self._add("light", "paretofit.workers", "light", "--processes", "2")
        for index in range(self._trainers):
            self._add(f"train-{index}", "paretofit.workers", "train", "--device", "cpu", "--threads", "1")

    def parts(self, kind: str) -> list[Part]:
        """The parts of a kind (api, relay, light, train) that run and are not being stopped."""
        return [
            part
            for name, part in self._parts.items()
            if name.partition("-")[0] == kind and part.start_at is None and not part.expected
        ]

    def kill(self, part: Part, *, tree: bool) -> None:
        """Send SIGKILL to a part, with or without its descendants; it is restarted soon."""
        part.expected = True
        for process in reversed(part.tree()) if tree else part.tree()[:1]:
            send(process, signal.SIGKILL)

    def drain(self, part: Part) -> None:
        """Send SIGTERM to a worker; it is restarted when it has ended."""
        part.expected = True
        part.drain_until = time.monotonic() + DRAIN_SECONDS
        part.process.send_signal(signal.SIGTERM)

    def check(self) -> None:
        """Restart ended parts after a delay; record parts that ended unexpectedly or not in time."""
        now = time.monotonic()
        for part in self._parts.values():
            if part.start_at is not None:
                if now >= part.start_at:
                    self._add(part.name, *part.arguments)
                continue
            status = part.process.poll()
            if status is not None:
                if not part.expected:
                    self.failures.ended.append(f"{part.name} ended with status {status}: see {self._log(part.name)}")
                part.start_at = now + _RESTART_SECONDS
            elif part.drain_until is not None and now > part.drain_until:
                self.failures.slow_drains.append(f"{part.name} did not end within {DRAIN_SECONDS:g} s of SIGTERM")
                part.drain_until = None
                self.kill(part, tree=True)

    def stop_parts(self) -> None:
        """Send SIGTERM to all parts while the servers run; record parts that do not end in time, and leftovers."""
        running = [part for part in self._parts.values() if part.process.poll() is None]
        for part in running:
            part.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DRAIN_SECONDS
        for part in running:
            try:
                part.process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                self.failures.slow_drains.append(f"{part.name} did not end within {DRAIN_SECONDS:g} s of SIGTERM")
                self.kill(part, tree=True)
                part.process.wait()
        # Give the children of killed processes some time to notice.
        deadline = time.monotonic() + 5
        while (left := self._marked()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.failures.left = [f"{process.pid} {_command(process)}" for process in left]
        self._parts.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._marked():
            send(process, signal.SIGKILL)
        for part in self._parts.values():
            part.process.wait()
        self.redis.stop()
        self.postgres.stop()

    def _add(self, name: str, *arguments: str) -> None:
        module = arguments if self._without is None else ("tests.chaos.without", self._without, *arguments)
        command = [sys.executable, "-m", *module]
        setpriv = shutil.which("setpriv")
        if setpriv is not None:
            # No part outlives the run, even if it is killed. Only the main thread of the run starts parts.
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(
                command, env=self._environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        self._parts[name] = Part(name, arguments, process)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _marked(self) -> list[psutil.Process]:
        """Every living process of this run except the servers."""
        living = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return living


def attempt_of(process: psutil.Process) -> str | None:
    """TRIAL-EPOCH of a trainer process, from its scratch folder; None for other processes."""
    try:
        folder = Path(process.cwd())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return folder.name if folder.parent.name == "scratch" and folder.name.startswith("trl_") else None


def send(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal; False if the process has ended."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
