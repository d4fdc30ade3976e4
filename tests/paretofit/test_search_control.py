"""Controlling a search from the command line and the client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from paretofit.cli.main import app
from tests.launch.service import Service
from tests.paretofit.stored import store


@pytest.fixture(scope="module")
def search_id(service: Service) -> str:
    return store(service, name="finished", state="succeeded").search_id


def run(service: Service, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--url", service.url, *arguments], catch_exceptions=False)


def parsed(service: Service, *arguments: str) -> Any:
    result = run(service, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_clone_is_paused_changed_and_resumed(service: Service, search_id: str) -> None:
    limits = ("--limit", "max_wall_seconds=600", "--limit", "max_trials=")
    clone = parsed(service, "clone", search_id, "--name", "copy", "--seed", "7", "--label", "team=blue", *limits)
    assert (clone["name"], clone["spec"]["seed"], clone["labels"]["team"]) == ("copy", 7, "blue")
    assert (clone["limits"]["max_wall_seconds"], clone["limits"]["max_trials"]) == (600, None)
    assert clone["provenance"]["cloned_from"] == search_id
    assert parsed(service, "pause", clone["id"])["pause_requested"]
    changed = parsed(service, "change", clone["id"], "--priority", "8", "--label", "team=", "--limit", "max_trials=3")
    assert (changed["priority"], changed["limits"]["max_trials"]) == (8, 3)
    assert "team" not in changed["labels"]
    assert clone["id"] in run(service, "resume", clone["id"]).stdout
    assert run(service, "cancel", clone["id"]).exit_code == 0


def test_finished_search_cannot_be_paused(service: Service, search_id: str) -> None:
    result = run(service, "pause", search_id)
    assert result.exit_code == 5
    assert "clone it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), "--priority"), (("--label", "blue"), "NAME=VALUE"), (("--limit", "max_trials=many"), "is not a number")],
)
def test_usage_errors_say_what_to_do(
    service: Service, search_id: str, arguments: tuple[str, ...], expected: str
) -> None:
    result = run(service, "change", search_id, *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
