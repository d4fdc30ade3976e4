"""Secrets are redacted from logs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CANARY = "canary0123456789"


@pytest.mark.parametrize("variable", ["DATABASE_URL", "PARETOFIT_DATABASE_URL", "REDIS_URL", "PARETOFIT_REDIS_URL"])
def test_server_password_is_redacted(variable: str) -> None:
    program = "import logging; from paretofit.core.logging import configure_logging; configure_logging('INFO'); "
    program += f"logging.warning('it said {CANARY}')"
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {variable: f"scheme://user:{CANARY}@host/0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "it said [secret]" in done.stderr
    assert CANARY not in done.stderr
