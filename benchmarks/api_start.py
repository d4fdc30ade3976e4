"""How soon the API answers: from the start of its process to the first `200` of `/healthz`, on a migrated database.

Goal: 2 s (a restarted API is away for less than a client's first retry).
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


def start_and_answer(environment: dict[str, str]) -> float:
    """Seconds from starting an API process until it answers; the process is ended again."""
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
                    raise RuntimeError(f"the API ended with status {process.returncode}") from None
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
            start_and_answer(environment)
            seconds = [start_and_answer(environment) for _ in range(REPEATS)]
        finally:
            redis.stop()
            postgres.stop()
    claim = Claim("api_answers_seconds", median(seconds), goal=2.0, better="lower")
    return Report("api_start", (claim,), {"seconds": [round(value, 3) for value in seconds]})


if __name__ == "__main__":
    run(main)
