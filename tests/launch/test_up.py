"""`paretofit up`: one service per home, whose processes start, are replaced, and end together."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.launch.processes import eventually, gone
from tests.launch.service import FAST, Service

pytestmark = pytest.mark.integration


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _find(pid: int, *words: str) -> psutil.Process | None:
    """The outermost process of the service with these words on its command line, without guards."""
    for process in _descendants(pid):
        line = _command(process)
        if all(word in line for word in words) and not any(part.endswith("guard.py") for part in line):
            return process
    return None


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _up(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a service that is expected to fail."""
    return subprocess.run(
        [sys.executable, "-m", "paretofit", "up"],
        env=os.environ | FAST | {"PARETOFIT_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_processes_are_replaced_and_die_with_a_killed_service(tmp_path: Path) -> None:
    home = tmp_path / "home"
    key = "pf_a_key_that_nobody_should_see"
    service = Service.start(home, environment={"PARETOFIT_BOOTSTRAP_KEY": key})
    try:
        assert stat.S_IMODE((home / "service.json").stat().st_mode) == 0o600
        assert json.loads((home / "service.json").read_text())["pid"] == service.process.pid
        with urllib.request.urlopen(f"{service.url}/readyz") as response:
            assert response.status == 200

        secrets = [
            key,
            *(url.partition("@")[0].rpartition(":")[2] for url in (service.database_url, service.redis_url)),
        ]
        lines = [" ".join(_command(process)) for process in _descendants(service.process.pid)]
        assert (
            sum("paretofit.workers train --device cpu --threads" in line and "guard.py" in line for line in lines) == 2
        )
        assert not [line for line in lines for secret in secrets if secret in line]

        relay = _find(service.process.pid, "paretofit.workers.relay")
        assert relay is not None
        relay.kill()
        assert eventually(
            lambda: (
                (replacement := _find(service.process.pid, "paretofit.workers.relay")) is not None
                and replacement != relay
            ),
            within=30,
        )
        assert "relay exited with status 137" in (home / "up.txt").read_text()
    finally:
        descendants = _descendants(service.process.pid)
        service.process.kill()
        service.process.wait()
    assert len(descendants) > 8
    assert eventually(lambda: all(gone(process.pid) for process in descendants), within=15)


def test_external_servers_are_used_and_a_stop_leaves_no_process(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    home = tmp_path / "home"
    external = {
        "PARETOFIT_DEVICES": "cpu",
        "DATABASE_URL": database_url.replace("+psycopg", ""),
        "REDIS_URL": redis_url,
    }
    with Service.start(home, environment=external) as service:
        assert (service.database_url, service.redis_url) == (external["DATABASE_URL"], external["REDIS_URL"])
        descendants = _descendants(service.process.pid)
        assert service.stop() == 0
    assert all(gone(process.pid) for process in descendants)
    assert not any((home / name).exists() for name in ("postgres", "redis", "service.json"))


def test_second_service_of_a_home_is_refused(service: Service) -> None:
    second = _up(service.home)
    assert second.returncode == 1
    assert f"in use by another service (process {service.process.pid})" in second.stderr
    assert (service.home / "service.json").exists(), "the description of the first service is kept"


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = _up(tmp_path, PARETOFIT_PORT=str(port))
    assert refused.returncode == 1
    assert f"127.0.0.1:{port} cannot be bound" in refused.stderr
    assert "PARETOFIT_PORT" in refused.stderr


def test_unavailable_devices_are_named(tmp_path: Path) -> None:
    refused = _up(tmp_path, PARETOFIT_DEVICES="tpu")
    assert refused.returncode == 1
    assert "PARETOFIT_DEVICES=tpu" in refused.stderr


def test_part_that_does_not_start_is_reported(tmp_path: Path, database_url: str, redis_url: str) -> None:
    refused = _up(
        tmp_path,
        PARETOFIT_DEVICES="cpu",
        PARETOFIT_HOST="0.0.0.0",
        DATABASE_URL=database_url.replace("+psycopg", ""),
        REDIS_URL=redis_url,
    )
    assert refused.returncode == 1
    assert "api did not start" in refused.stderr
    assert "PARETOFIT_BOOTSTRAP_KEY" in refused.stderr


def test_interrupt_during_startup_stops_everything(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "paretofit", "up"],
        env=os.environ | FAST | {"PARETOFIT_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert eventually(lambda: (tmp_path / "postgres").exists(), within=60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
