"""Runs the whole service in the foreground, with all servers, migrations, API, relay and workers as child processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from paretofit.core.settings import Settings
from paretofit.launch.devices import Slot, slots
from paretofit.launch.environment import environment
from paretofit.launch.follow import Follower
from paretofit.launch.lock import FolderLock
from paretofit.launch.ports import free_port
from paretofit.launch.postgres import EmbeddedPostgres
from paretofit.launch.process import GuardedProcess, LaunchError
from paretofit.launch.redis import EmbeddedRedis

MIN_UPTIME_SECONDS = 10.0
MAX_QUICK_EXITS = 5
READY_SECONDS = 60.0


class Running(Protocol):
    """A started process or embedded server."""

    def poll(self) -> int | None: ...
    def stop(self) -> object: ...


class SupervisedProcess:
    """A process of the service that is restarted when it ends, with exponential backoff and a limit."""

    def __init__(self, name: str, log: Path, start: Callable[[], Running]) -> None:
        self.name = name
        self.log = log
        self._start = start
        self._quick_exits = 0
        self._start_at = 0.0
        self._started = 0.0
        self.running: Running | None = None

    def start(self) -> None:
        self.running = self._start()
        self._started = time.monotonic()

    def restart_if_ended(self) -> str | None:
        """Restart it if it has ended; returns a message for the terminal. Raises LaunchError if it keeps ending."""
        now = time.monotonic()
        if self.running is None:
            if now >= self._start_at:
                self.start()
            return None
        status = self.running.poll()
        if status is None:
            return None
        self.running = None
        quick = now - self._started < MIN_UPTIME_SECONDS
        self._quick_exits = self._quick_exits + 1 if quick else 0
        ended = f"{self.name} exited with status {status}"
        if self._quick_exits >= MAX_QUICK_EXITS:
            raise LaunchError(
                f"{ended}, {MAX_QUICK_EXITS} times in a row; fix the error at the end of {self.log}:\n{_tail(self.log)}"
            )
        delay = 0.25 * 2**self._quick_exits
        self._start_at = now + delay
        return f"{ended}; restarting it in {delay:g} s (see {self.log})"


def serve(settings: Settings, *, verbose: bool = False) -> int:
    """Run the service until SIGINT or SIGTERM; returns an exit status. `verbose` shows the logs of its processes.

    HOME/service.json (url, pid, database_url, redis_url; readable only by the owner) exists while it is ready.
    """
    with _stop_signals() as stopping:
        try:
            _Service(settings, verbose=verbose).run(stopping)
        except LaunchError as error:
            _print(f"error: {error}")
            return 1
    return 0


class _Service:
    """The processes of the service in the order of their start; they stop in reverse order."""

    def __init__(self, settings: Settings, *, verbose: bool) -> None:
        self.home = settings.home
        self._settings = settings
        self._follower = Follower(sys.stderr) if verbose else None
        self._processes: list[SupervisedProcess] = []
        self._service_file = self.home / "service.json"

    def run(self, stopping: threading.Event) -> None:
        _make_home(self.home)
        lock = FolderLock(self.home, timeout=0)
        try:
            self._service_file.unlink(missing_ok=True)
            plan = slots(self._settings.devices)
            port = _port(self._settings)
            variables = self._start_servers(port)
            if stopping.is_set():
                return
            migration = self._process("migrate", "paretofit.db.migrate", variables)()
            self._add("api", self._process("api", "paretofit.api", variables, grace=15.0))
            status = migration.wait()
            if status != 0:
                raise LaunchError(f"the database migration failed; fix the error below:\n{migration.output()}")
            if stopping.is_set():
                return
            self._start_workers(plan, variables)
            url = f"http://{_reachable(self._settings.host)}:{port}"
            self._await_ready(url, stopping)
            if not stopping.is_set():
                self._describe(url, variables)
                devices = ", ".join(slot.device for slot in plan) or "none"
                sys.stdout.write(f"Paretofit is ready at {url} (devices: {devices}; home: {self.home})\n")
                sys.stdout.flush()
            while not stopping.wait(0.2):
                self._restart_ended()
            _print("stopping: workers save their work first (press Ctrl+C again to stop at once)")
        finally:
            self._stop()
            lock.release()

    def _start_servers(self, port: int) -> dict[str, str]:
        """Start the embedded servers where no URL is set; returns the environment of all other processes."""
        database_url, redis_url = self._settings.database_url, self._settings.redis_url
        if database_url is None:
            postgres = EmbeddedPostgres(self.home / "postgres", log=self._log("postgres"))
            self._add("postgres", lambda: _started(postgres, postgres.begin))
        if redis_url is None:
            redis = EmbeddedRedis(self.home / "redis", log=self._log("redis"))
            self._add("redis", lambda: _started(redis, redis.start))
            redis_url = redis.url
        if database_url is None:
            postgres.wait()
            database_url = postgres.url
        return environment(self._settings, database_url=database_url, redis_url=redis_url, port=port)

    def _start_workers(self, plan: list[Slot], variables: Mapping[str, str]) -> None:
        grace = self._settings.stop_grace_seconds + 10
        self._add("relay", self._process("relay", "paretofit.workers.relay", variables))
        self._add("light", self._process("light", "paretofit.workers", variables, "light", grace=grace))
        for slot in plan:
            arguments = ("train", "--device", slot.device, "--threads", str(slot.threads))
            name = f"train-{slot.name}"
            self._add(name, self._process(name, "paretofit.workers", variables, *arguments, grace=grace))

    def _process(
        self, name: str, module: str, variables: Mapping[str, str], *arguments: str, grace: float = 10.0
    ) -> Callable[[], GuardedProcess]:
        return lambda: GuardedProcess(
            [sys.executable, "-m", module, *arguments],
            log=self._log(name),
            environment=variables,
            grace=grace,
            directory=self.home,
        )

    def _add(self, name: str, start: Callable[[], Running]) -> None:
        process = SupervisedProcess(name, self._log(name), start)
        process.start()
        self._processes.append(process)

    def _log(self, name: str) -> Path:
        path = self.home / "logs" / f"{name}.log"
        if self._follower is not None:
            self._follower.follow(name, path)
        return path

    def _restart_ended(self) -> None:
        for process in self._processes:
            message = process.restart_if_ended()
            if message is not None:
                _print(message)

    def _await_ready(self, url: str, stopping: threading.Event) -> None:
        """Wait until the API is ready. Raises LaunchError if a process ends before, or after a timeout."""
        deadline = time.monotonic() + READY_SECONDS
        while not stopping.is_set() and not _is_ready(url):
            for process in self._processes:
                if process.running is not None and process.running.poll() is not None:
                    raise LaunchError(
                        f"{process.name} did not start; see the end of {process.log}:\n{_tail(process.log)}"
                    )
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"the API was not ready within {READY_SECONDS:g} s; see the end of {self._log('api')}:\n"
                    f"{_tail(self._log('api'))}"
                )
            stopping.wait(0.05)

    def _describe(self, url: str, variables: Mapping[str, str]) -> None:
        description = {
            "url": url,
            "pid": os.getpid(),
            "database_url": variables["DATABASE_URL"],
            "redis_url": variables["REDIS_URL"],
        }
        fresh = self._service_file.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(description, indent=2) + "\n")
        fresh.replace(self._service_file)

    def _stop(self) -> None:
        """Drain all workers in parallel, then stop the API, then the servers."""
        self._service_file.unlink(missing_ok=True)
        processes = [
            process.running
            for process in self._processes
            if isinstance(process.running, GuardedProcess) and process.name != "api"
        ]
        for running in processes:
            running.request_stop()
        for process in reversed(self._processes):
            if process.running is not None:
                process.running.stop()
        if self._follower is not None:
            self._follower.stop()


def _started(server: Running, start: Callable[[], object]) -> Running:
    start()
    return server


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event; a second one ends this process, and the guards end the others."""
    stopping = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _make_home(home: Path) -> None:
    """Create HOME, which PostgreSQL's user may traverse but not list, and the private folder of logs."""
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        (home / "logs").mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"{home} cannot be used ({error.strerror}): set PARETOFIT_HOME to a writable folder"
        ) from error


def _port(settings: Settings) -> int:
    """The port to bind. Raises LaunchError if it is in use."""
    if settings.port == 0:
        return free_port(settings.host)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise LaunchError(
                f"{settings.host}:{settings.port} cannot be bound ({error.strerror}): stop the process that listens "
                "there, or set PARETOFIT_PORT to another port (0: any free one)"
            ) from error
    return settings.port


def _reachable(host: str) -> str:
    """The address under which this machine reaches a server bound to `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"[{host}]" if ":" in host else host


def _is_ready(url: str) -> bool:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
