"""Hostile archives are rejected with a reason, and the memory of the service stays bounded."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from paretofit.db.engine import connect
from tests.api.process import running
from tests.search.data.hostile import archives
from tests.workers.fleet import FAST, Fleet

pytestmark = pytest.mark.integration

MAX_MEMORY = 300 * 1024**2
# Archives that the default limits of the service reject; the other archives exceed only smaller limits.
CHOSEN = ("slip.zip", "link out.tar", "one file, 200 names.zip", "cut off.tar.gz", "picture and zip")


def test_hostile_archives_are_rejected_in_bounded_memory(tmp_path: Path, database_url: str, redis_url: str) -> None:
    cases = archives()
    home = tmp_path / "home"
    home.mkdir()
    engine = connect(database_url)
    variables = {name: value for name, value in FAST.items() if name != "PARETOFIT_METHODS"}
    with (
        Fleet(engine, database_url, redis_url, home) as fleet,
        running(home, database_url, redis_url, None, **variables) as api,
    ):
        fleet.start("paretofit.workers.relay")
        worker = fleet.start("paretofit.workers", "light", "--processes", "2")
        server, peak = psutil.Process(api.process.pid), 0
        uploaded = {}
        for name in CHOSEN:
            created = api.http.post("/v1/datasets", json={"name": name, "source": {"kind": "upload"}}).json()
            response = api.http.put(f"/v1/datasets/{created['id']}/content", content=cases[name].content)
            assert response.status_code == 200, (name, response.text)
            uploaded[created["id"]] = name
            peak = max(peak, server.memory_info().rss)
        deadline = time.monotonic() + 60
        waiting = dict(uploaded)
        while waiting:
            assert time.monotonic() < deadline, (waiting, fleet.logs())
            for dataset, name in list(waiting.items()):
                document = api.http.get(f"/v1/datasets/{dataset}").json()
                peak = max(peak, server.memory_info().rss, *(_memory(worker.pid)))
                if document["state"] == "rejected":
                    assert document["error"]["code"] == cases[name].rejection, (name, document["error"])
                    del waiting[dataset]
            time.sleep(0.05)
        assert peak < MAX_MEMORY
        assert list((home / "scratch").iterdir()) == []
        assert json.loads(api.http.get("/readyz").text)["status"] == "ready"
    engine.dispose()


def _memory(pid: int) -> list[int]:
    """Peak memory of each process of a worker."""
    sizes = [0]
    for process in psutil.Process(pid).children(recursive=True):
        try:
            sizes.append(process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return sizes
