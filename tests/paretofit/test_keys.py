"""Keys on the command line and through the client."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from paretofit.cli.main import app
from paretofit.client.client import Client
from paretofit.client.errors import ApiError
from paretofit.client.numbers import parse_seconds
from tests.launch.service import Service


@pytest.mark.parametrize(
    ("text", "seconds"), [("45", 45), ("45s", 45), ("30m", 1800), ("12 h", 43200), ("90d", 7776000)]
)
def test_durations_are_parsed(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5h", "1w", "1d1h"])
def test_invalid_durations_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_seconds(text)


def test_keys_are_created_rotated_and_revoked(service: Service) -> None:
    def run(*arguments: str, key: str | None = None) -> Result:
        before = ["--url", service.url, *([] if key is None else ["--key", key])]
        return CliRunner().invoke(app, [*before, *arguments], catch_exceptions=False)

    created = run(
        "keys", "create", "ci", "--scope", "read", "--scope", "manage", "--tenant", "acme", "--expires", "90d"
    )
    assert created.exit_code == 0, created.stderr
    key = created.stdout.strip()
    assert key.startswith("pf_")
    assert "will not be shown again" in created.stderr
    caller = json.loads(run("keys", "whoami", "--json", key=key).stdout)
    assert (caller["tenant"], caller["scopes"]) == ("acme", ["read", "manage"])
    assert "acme" in run("keys", "whoami", key=key).stdout
    key_id = caller["actor"].removeprefix("key:")
    listed = run("keys", "list", key=key).stdout
    assert key_id in listed
    assert "valid until" in listed
    rotated = json.loads(run("keys", "rotate", key_id, "--overlap", "0s", "--json", key=key).stdout)
    assert rotated["key"] != key
    assert run("keys", "list", key=key).exit_code == 6
    with Client(service.url, rotated["key"]) as client:
        assert {each.id for each in client.keys.list()} == {key_id, rotated["id"]}
        assert run("keys", "revoke", rotated["id"], key=rotated["key"]).exit_code == 0
        with pytest.raises(ApiError) as refused:
            client.keys.caller()
    assert refused.value.status == 401
    assert run("keys", "create", "x", "--scope", "everything").exit_code == 2
    assert run("keys", "create", "x", "--expires", "soon").exit_code == 2
