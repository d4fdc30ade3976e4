"""PostgreSQL and Redis of a test session, started by the first process that calls `Servers.start`.

They run in their own process, `python -m tests.servers FOLDER PID`, which outlives the test process that started it.
The process ends on SIGTERM or when the main process of the session has exited.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from paretofit.launch.postgres import EmbeddedPostgres
from paretofit.launch.redis import EmbeddedRedis

ROOT = Path(__file__).resolve().parents[1]
REDIS_DATABASES = 256
_TIMEOUT = 90.0


@dataclass
class Servers:
    """The servers of a session, in a folder shared by its processes; `owner` is the id of the main process."""

    folder: Path
    owner: int
    postgres_url: str = ""
    redis_url: str = ""

    @classmethod
    def new(cls) -> Self:
        """Servers for a session of this process, not started yet."""
        folder = Path(tempfile.mkdtemp(prefix="paretofit-tests-"))
        # PostgreSQL may run as another user.
        folder.chmod(0o711)
        return cls(folder, os.getpid())

    def start(self) -> None:
        """Start the servers unless another process did, and read their URLs."""
        if self.postgres_url:
            return
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._description.exists():
                self._await(self._process() or self._launch())
        urls = json.loads(self._description.read_text())
        self.postgres_url, self.redis_url = urls["postgres_url"], urls["redis_url"]

    def stop(self) -> None:
        """Stop the servers and remove the folder."""
        try:
            if (process := self._process()) is not None:
                process.terminate()
                process.wait(_TIMEOUT)
        finally:
            shutil.rmtree(self.folder)

    @property
    def _description(self) -> Path:
        return self.folder / "servers.json"

    @property
    def _log(self) -> Path:
        return self.folder / "servers.log"

    def _process(self) -> psutil.Process | None:
        """The server process, running or starting; None if it was not started or has ended."""
        try:
            return psutil.Process(int((self.folder / "pid").read_text()))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def _launch(self) -> psutil.Process:
        command = [sys.executable, "-m", "tests.servers", str(self.folder), str(self.owner)]
        with self._log.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        (self.folder / "pid").write_text(str(process.pid))
        # A daemon thread reaps the process, so that this process may end first.
        threading.Thread(target=process.wait, daemon=True).start()
        return psutil.Process(process.pid)

    def _await(self, process: psutil.Process) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while not self._description.exists():
            assert process.is_running(), self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)


def main(folder: Path, owner: int) -> None:
    """Serve until SIGTERM, or until the process `owner` has ended."""
    stop_requested = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
    session = psutil.Process(owner)
    with (
        EmbeddedPostgres(folder / "postgres", sync=False) as postgres,
        EmbeddedRedis(folder / "redis", databases=REDIS_DATABASES) as redis,
    ):
        urls = {"postgres_url": postgres.url, "redis_url": redis.url}
        part = folder / "servers.json.part"
        part.write_text(json.dumps(urls))
        part.rename(folder / "servers.json")
        while not stop_requested.wait(0.5) and session.is_running():
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
