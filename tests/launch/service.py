"""A service started like its users do: `paretofit up` in its own process and home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

FAST = {
    "PARETOFIT_DEVICES": "cpu:2",
    "PARETOFIT_PORT": "0",
    "PARETOFIT_LEASE_SECONDS": "8",
    "PARETOFIT_RENEW_SECONDS": "1",
    "PARETOFIT_POLL_SECONDS": "0.2",
    "PARETOFIT_REAP_SECONDS": "1",
    "PARETOFIT_RESEND_SECONDS": "5",
    "PARETOFIT_STOP_GRACE_SECONDS": "5",
    "PARETOFIT_RETRY_SECONDS": "0.5",
    "PARETOFIT_CHECKPOINT_SECONDS": "0.3",
}


class Service:
    """A running service; a context manager that stops it."""

    def __init__(self, process: subprocess.Popen[bytes], home: Path) -> None:
        self.process = process
        self.home = home
        description = json.loads((home / "service.json").read_text())
        self.url: str = description["url"]
        self.database_url: str = description["database_url"]
        self.redis_url: str = description["redis_url"]

    @classmethod
    def start(cls, home: Path, *, environment: Mapping[str, str] | None = None, timeout: float = 60.0) -> Self:
        """Start the service and wait until it is ready. Raises AssertionError with its output."""
        home.mkdir(parents=True, exist_ok=True)
        output = home / "up.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "paretofit", "up"],
                env=os.environ | FAST | {"PARETOFIT_HOME": str(home)} | dict(environment or {}),
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return cls.of(process, home, timeout=timeout)

    @classmethod
    def of(cls, process: subprocess.Popen[bytes], home: Path, *, timeout: float = 60.0) -> Self:
        """The service that this process starts, once it is ready. Raises AssertionError with its output."""
        deadline = time.monotonic() + timeout
        while not (home / "service.json").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.terminate()
                process.wait(60)
                raise AssertionError(f"the service did not start:\n{logs(home)}")
            time.sleep(0.02)
        return cls(process, home)

    def stop(self) -> int:
        """Stop the service like Ctrl-C and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def logs(home: Path) -> str:
    """The last output of the service and its processes."""
    files = [home / "up.txt", *sorted((home / "logs").glob("*.log"))]
    return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-4000:]}" for file in files if file.exists())
