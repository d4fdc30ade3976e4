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
    return store(service, name="steered", state="succeeded").search_id


def run(service: Service, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--url", service.url, *arguments], catch_exceptions=False)


def parsed(service: Service, *arguments: str) -> Any:
    answer = run(service, *arguments, "--json")
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_copy_is_paused_changed_resumed(service: Service, search_id: str) -> None:
    limits = ("--limit", "max_wall_seconds=600", "--limit", "max_trials=")
    copy = parsed(service, "clone", search_id, "--name", "copy", "--seed", "7", "--label", "team=blue", *limits)
    assert (copy["name"], copy["spec"]["seed"], copy["labels"]["team"]) == ("copy", 7, "blue")
    assert (copy["limits"]["max_wall_seconds"], copy["limits"]["max_trials"]) == (600, None)
    assert copy["provenance"]["cloned_from"] == search_id
    assert parsed(service, "pause", copy["id"])["pause_requested"]
    changed = parsed(service, "change", copy["id"], "--priority", "8", "--label", "team=", "--limit", "max_trials=3")
    assert (changed["priority"], changed["limits"]["max_trials"]) == (8, 3)
    assert "team" not in changed["labels"]
    assert copy["id"] in run(service, "resume", copy["id"]).stdout
    assert run(service, "cancel", copy["id"]).exit_code == 0


def test_a_finished_search_is_not_paused(service: Service, search_id: str) -> None:
    answer = run(service, "pause", search_id)
    assert answer.exit_code == 5
    assert "clone it" in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), "--priority"), (("--label", "blue"), "NAME=VALUE"), (("--limit", "max_trials=many"), "is not a number")],
)
def test_usage_errors_say_what_to_do(
    service: Service, search_id: str, arguments: tuple[str, ...], expected: str
) -> None:
    answer = run(service, "change", search_id, *arguments)
    assert answer.exit_code == 2
    assert expected in " ".join(answer.stderr.split())
