"""The API in its own process, started like its users do: `python -m paretofit.api`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "listening on "


@dataclass(frozen=True, slots=True)
class Api:
    """A running API: a client at its address, its process, home, database, log and startup time."""

    http: httpx.Client
    process: subprocess.Popen[str]
    home: Path
    database_url: str
    log: Path
    seconds: float


def command(home: Path, database_url: str, redis_url: str, **variables: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment of an API on a free loopback port, unless `variables` set another address."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PARETOFIT_HOME": str(home),
        "PARETOFIT_PORT": "0",
    }
    return [sys.executable, "-m", "paretofit.api"], environment | variables


@contextmanager
def running(
    home: Path, database_url: str, redis_url: str, headers: Mapping[str, str] | None = None, **variables: str
) -> Iterator[Api]:
    """A running API, which has 15 s to stop at the end of the block."""
    arguments, environment = command(home, database_url, redis_url, **variables)
    home.mkdir(parents=True, exist_ok=True)
    log = home / "api.log"
    began = time.monotonic()
    with log.open("w") as errors:
        process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith(PREFIX), f"the API did not start: {line}\n{log.read_text()}"
        with httpx.Client(base_url=line.removeprefix(PREFIX), headers=headers, timeout=30, trust_env=False) as http:
            assert http.get("/healthz").status_code == 200, log.read_text()
            yield Api(http, process, home, database_url, log, time.monotonic() - began)
    finally:
        process.terminate()
        status = process.wait(15)
        if process.stdout is not None:
            process.stdout.close()
    assert status == 0, log.read_text()
