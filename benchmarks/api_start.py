"""Startup time of the API: from the start of its process to the first `200` of `/healthz`, on a migrated database.

Goal: 2 s, so that a restarted API is back before the first retry of a client.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx

from benchmarks.harness import Claim, Report, run
from paretofit.core.settings import Settings
from paretofit.db.migrate import upgrade
from paretofit.launch.ports import free_port
from paretofit.launch.postgres import EmbeddedPostgres
from paretofit.launch.redis import EmbeddedRedis

REPEATS = 7


def startup_seconds(environment: dict[str, str]) -> float:
    """Start an API process, wait until it responds, and stop it. Returns the seconds until it responded."""
    port = free_port()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "paretofit.api"], env={**environment, "PARETOFIT_PORT": str(port)}
    )
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200:
                    return time.perf_counter() - started
            except httpx.TransportError:
                if process.poll() is not None:
                    raise RuntimeError(f"the API exited with status {process.returncode}") from None
                time.sleep(0.005)
    finally:
        process.terminate()
        process.wait()


def main() -> Report:
    with tempfile.TemporaryDirectory() as home:
        postgres = EmbeddedPostgres(Path(home) / "postgres")
        redis = EmbeddedRedis(Path(home) / "redis")
        try:
            environment = {
                **os.environ,
                "PARETOFIT_HOME": home,
                "DATABASE_URL": postgres.start(),
                "REDIS_URL": redis.start(),
                "PARETOFIT_LOG_LEVEL": "WARNING",
            }
            upgrade(Settings(database_url=environment["DATABASE_URL"]).sqlalchemy_url)
            startup_seconds(environment)
            seconds = [startup_seconds(environment) for _ in range(REPEATS)]
        finally:
            redis.stop()
            postgres.stop()
    claim = Claim("api_answers_seconds", median(seconds), goal=2.0, better="lower")
    return Report("api_start", (claim,), {"seconds": [round(value, 3) for value in seconds]})


if __name__ == "__main__":
    run(main)
