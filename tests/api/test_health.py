"""Health checks, start and shutdown of the API process."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import psutil

from paretofit.api.schemas.events import Event
from paretofit.db.engine import connect
from tests.api import rows
from tests.api.process import Api, command, running


def test_service_is_ready(http: httpx.Client) -> None:
    response = http.get("/readyz")
    assert response.status_code == 200, response.text
    assert response.json() == {"status": "ready", "checks": {"postgres": "ok", "migrations": "ok", "redis": "ok"}}


def test_startup_takes_little_cpu_time(tmp_path: Path, database_url: str, redis_url: str) -> None:
    # CPU time, because wall time depends on the load of the machine. Load also increases CPU time, so this is the best
    # of three, with a limit a quarter above that of `benchmarks.api_start` on an idle machine.
    spent: list[float] = []
    while len(spent) < 3 and min(spent, default=9.0) > 2.5:
        with running(tmp_path, database_url, redis_url) as api:
            times = psutil.Process(api.process.pid).cpu_times()
            spent.append(times.user + times.system)
    assert min(spent) <= 2.5, spent


def test_service_is_unavailable_without_a_database(tmp_path: Path, redis_url: str) -> None:
    with running(tmp_path, "postgresql://nobody@127.0.0.1:1/none", redis_url) as api:
        assert api.http.get("/healthz").json() == {"status": "ok"}
        assert api.http.get("/readyz").status_code == 503
        response = api.http.get("/v1/datasets")
        assert response.status_code == 503
        assert response.json()["code"] == "unavailable"
        assert response.headers["Retry-After"] == "1"


def test_service_works_and_stops_cleanly_without_redis(tmp_path: Path, database_url: str) -> None:
    with running(tmp_path, database_url, "redis://127.0.0.1:1/0") as api:
        response = api.http.get("/readyz")
        assert (response.status_code, response.json()["status"]) == (200, "degraded")
        engine = connect(database_url)
        response = api.http.post("/v1/searches", json=rows.body(rows.ready_dataset(engine)))
        assert response.status_code == 202
        engine.dispose()
        url = f"/v1/searches/{response.json()['id']}/events"
        with api.http.stream("GET", url, headers={"Accept": "text/event-stream"}) as stream:
            data = (line for line in stream.iter_lines() if line.startswith("data: "))
            assert Event.model_validate_json(next(data).removeprefix("data: ")).type == "search.created"
            assert api.http.post(url.replace("events", "cancel")).status_code == 202
            assert Event.model_validate_json(next(data).removeprefix("data: ")).type == "search.cancel_requested"
        search = api.http.post("/v1/searches", json=rows.body(response.json()["dataset_id"])).json()
        with api.http.stream(
            "GET", f"/v1/searches/{search['id']}/events", headers={"Accept": "text/event-stream"}
        ) as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event: ")) == "event: search.created"
            # The search does not end, so only the shutdown of the service ends the stream.
            api.process.terminate()
            assert not any(line.startswith("event: ") for line in lines)
        assert api.process.wait(10) == 0


def test_api_process_loads_no_torch_and_no_numpy(api: Api) -> None:
    mapped = {Path(mapping.path) for mapping in psutil.Process(api.process.pid).memory_maps()}
    assert any("psycopg" in path.as_posix() for path in mapped)
    assert not [path for path in mapped if {"torch", "numpy"} & set(path.parts)]


def test_public_bind_requires_a_bootstrap_key(tmp_path: Path, database_url: str, redis_url: str) -> None:
    arguments, environment = command(tmp_path, database_url, redis_url, PARETOFIT_HOST="0.0.0.0")
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "PARETOFIT_BOOTSTRAP_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_guessable_bootstrap_key_is_rejected_and_not_printed(tmp_path: Path, database_url: str, redis_url: str) -> None:
    for key in ("", "hunter2"):
        arguments, environment = command(tmp_path, database_url, redis_url, PARETOFIT_BOOTSTRAP_KEY=key)
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert "bootstrap_key" in done.stderr
        assert "hunter2" not in done.stderr
        assert "Traceback" not in done.stderr


def test_port_in_use_is_named(api: Api, tmp_path: Path, redis_url: str) -> None:
    port = str(httpx.URL(str(api.http.base_url)).port)
    arguments, environment = command(tmp_path, api.database_url, redis_url, PARETOFIT_PORT=port)
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "PARETOFIT_PORT" in done.stderr
