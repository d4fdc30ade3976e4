"""The health check of containers."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from sqlalchemy import Engine, text

from paretofit.db import outbox, workers
from paretofit.db.engine import transaction


def _check(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paretofit.workers.health", *arguments],
        env=os.environ | {"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )


def test_worker_is_healthy_after_its_heartbeat(engine: Engine, database_url: str) -> None:
    silent = _check(database_url)
    assert silent.returncode == 1
    assert platform.node() in silent.stderr
    with transaction(engine) as session:
        workers.beat(session, "light-1", queue="light", device=None, description={"host": platform.node()})
    assert _check(database_url).returncode == 0


def test_lagging_relay_is_unhealthy(engine: Engine, database_url: str) -> None:
    with transaction(engine) as session:
        outbox.enqueue(session, outbox.INGEST, "ds_1")
    assert _check(database_url, "relay").returncode == 0
    with transaction(engine) as session:
        session.execute(text("UPDATE outbox SET send_after = send_after - interval '2 minutes'"))
    lagging = _check(database_url, "relay")
    assert lagging.returncode == 1
    assert "overdue job messages: 1" in lagging.stderr


def test_unavailable_database_is_unhealthy() -> None:
    unavailable = _check("postgresql://nobody@127.0.0.1:1/none")
    assert unavailable.returncode == 1
    assert "Connection refused" in unavailable.stderr
