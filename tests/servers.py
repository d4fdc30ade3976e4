"""PostgreSQL and Redis of a test session, started by whichever of its processes asks first: `Servers.start`.

They belong to a process of their own, `python -m tests.servers FOLDER PID`, which outlives the test process that
started it and ends when it is told to, or when the main process of the session is gone.
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
_PATIENCE = 90.0


@dataclass
class Servers:
    """Those of a session, in a folder that all its processes share; `owner` is the main one's process id."""

    folder: Path
    owner: int
    postgres_url: str = ""
    redis_url: str = ""

    @classmethod
    def new(cls) -> Self:
        """For a session of this process; nothing is started yet."""
        folder = Path(tempfile.mkdtemp(prefix="paretofit-tests-"))
        # PostgreSQL may run as another user.
        folder.chmod(0o711)
        return cls(folder, os.getpid())

    def start(self) -> None:
        """Start them, unless another process did, and find out where they are."""
        if self.postgres_url:
            return
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._described.exists():
                self._launch()
        found = json.loads(self._described.read_text())
        self.postgres_url, self.redis_url = found["postgres_url"], found["redis_url"]

    def stop(self) -> None:
        """End what any process of the session started, and remove the folder."""
        if self._described.exists():
            process = psutil.Process(json.loads(self._described.read_text())["pid"])
            process.terminate()
            process.wait(_PATIENCE)
        shutil.rmtree(self.folder)

    @property
    def _described(self) -> Path:
        return self.folder / "servers.json"

    def _launch(self) -> None:
        command = [sys.executable, "-m", "tests.servers", str(self.folder), str(self.owner)]
        log = self.folder / "servers.log"
        with log.open("w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        # Whoever started it may end before it does.
        threading.Thread(target=process.wait, daemon=True).start()
        deadline = time.monotonic() + _PATIENCE
        while not self._described.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


def main(folder: Path, owner: int) -> None:
    """Serve until SIGTERM, or until the process `owner` is gone."""
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    session = psutil.Process(owner)
    with (
        EmbeddedPostgres(folder / "postgres", sync=False) as postgres,
        EmbeddedRedis(folder / "redis", databases=REDIS_DATABASES) as redis,
    ):
        found = {"postgres_url": postgres.url, "redis_url": redis.url, "pid": os.getpid()}
        part = folder / "servers.json.part"
        part.write_text(json.dumps(found))
        part.rename(folder / "servers.json")
        while not told.wait(0.5) and session.is_running():
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
