"""docker-compose.yml against the schema of the Compose Specification, and its documented guarantees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from paretofit.core.settings import Settings
from tests.launch.processes import ROOT

COMPOSE = ROOT / "docker-compose.yml"
OURS = ("migrate", "api", "relay", "light-worker", "cpu-worker", "gpu-worker")


@pytest.fixture(scope="module")
def composition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return loaded


def test_compose_file_matches_the_schema(composition: dict[str, Any]) -> None:
    # The schema is that of Debian's docker-compose 1.29.2 (Apache-2.0), the oldest release that reads this file.
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    errors = [
        f"{list(error.absolute_path)}: {error.message}" for error in Draft7Validator(schema).iter_errors(composition)
    ]
    assert errors == []
    broken = composition | {"services": composition["services"] | {"api": {"no_such_key": 1}}}
    assert not Draft7Validator(schema).is_valid(broken), "the schema accepts an invalid key"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_docker_compose_accepts_the_file() -> None:
    command = ["docker-compose", "--file", str(COMPOSE), "--profile", "gpu", "config"]
    without = subprocess.run(command, capture_output=True, text=True, check=False)
    assert without.returncode != 0
    environment = os.environ | {"PARETOFIT_BOOTSTRAP_KEY": "key"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_compose_file_has_every_process(composition: dict[str, Any]) -> None:
    assert set(composition["services"]) == {"postgres", "redis", *OURS}


def test_api_requires_a_key_from_the_environment(composition: dict[str, Any]) -> None:
    environment = composition["services"]["api"]["environment"]
    assert re.fullmatch(r"\$\{PARETOFIT_BOOTSTRAP_KEY:\?.+\}", environment["PARETOFIT_BOOTSTRAP_KEY"])
    others = [s for name, s in composition["services"].items() if name != "api"]
    assert not any("PARETOFIT_BOOTSTRAP_KEY" in service.get("environment", {}) for service in others)


def test_services_run_unprivileged_and_write_only_to_volumes(composition: dict[str, Any]) -> None:
    for name, service in composition["services"].items():
        assert service["user"].partition(":")[0] not in {"", "0", "root"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["read_only"] is True, name
        assert "/tmp" in service["tmpfs"], name
        assert service["pids_limit"], name
    assert len(re.findall(r"^USER 10001:10001$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)) == 2
    assert {composition["services"][name]["user"] for name in OURS} == {"10001:10001"}


def test_long_running_services_have_a_health_check(composition: dict[str, Any]) -> None:
    for name, service in composition["services"].items():
        assert ("healthcheck" in service) == (name != "migrate"), name


def test_data_is_in_named_volumes(composition: dict[str, Any]) -> None:
    assert set(composition["volumes"]) == {"postgres", "redis", "home"}
    mounted = {
        name: [volume.split(":") for volume in service.get("volumes", ())]
        for name, service in composition["services"].items()
    }
    assert mounted["postgres"] == [["postgres", "/var/lib/postgresql"]]
    assert mounted["redis"] == [["redis", "/data"]]
    for name in ("api", "light-worker", "cpu-worker", "gpu-worker"):
        home = composition["services"][name]["environment"]["PARETOFIT_HOME"]
        assert mounted[name] == [["home", home]]


def test_redis_is_persistent_and_never_evicts(composition: dict[str, Any]) -> None:
    script = composition["services"]["redis"]["command"][-1]
    assert "maxmemory-policy noeviction" in script
    assert "appendonly yes" in script


def test_gpu_worker_has_its_profile_and_device(composition: dict[str, Any]) -> None:
    services = composition["services"]
    assert [name for name, service in services.items() if "profiles" in service] == ["gpu-worker"]
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    (device,) = services["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_api_alone_is_published_and_only_on_loopback(composition: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in composition["services"].items() if "ports" in service}
    assert published == {"api": ["${PARETOFIT_PUBLISH:-127.0.0.1:8000}:8000"]}
    assert composition["networks"]["inside"] == {"internal": True}
    outside = {name for name, service in composition["services"].items() if "outside" in service["networks"]}
    assert outside == {"api", "light-worker"}


def test_environment_names_settings_that_exist(composition: dict[str, Any]) -> None:
    known = {f"PARETOFIT_{name.upper()}" for name in Settings.model_fields} | {"DATABASE_URL", "REDIS_URL"}
    for name in OURS:
        assert set(composition["services"][name]["environment"]) <= known


def test_dockerfile_copies_every_package_and_names_no_index() -> None:
    text = (ROOT / "Dockerfile").read_text()
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "docs", "tests"}
    assert packages == set(re.findall(r"^COPY (\w+) \1$", text, re.MULTILINE))
    assert "://" not in text
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(f"!{package}" in ignored for package in packages)
