"""Passes settings to child processes in environment variables, so that no secret is on a command line."""

from __future__ import annotations

import os
from typing import Any

from pydantic import SecretStr

from paretofit.core.settings import Settings

_CUSTOMARY = {"database_url": "DATABASE_URL", "redis_url": "REDIS_URL"}


def environment(settings: Settings, **changes: Any) -> dict[str, str]:
    """This process's environment, with the variables of these settings and changes for a child process."""
    values = {name: getattr(settings, name) for name in Settings.model_fields} | changes
    result = dict(os.environ)
    for name, value in values.items():
        for variable in (f"PARETOFIT_{name.upper()}", _CUSTOMARY.get(name, "")):
            result.pop(variable, None)
        if value is not None:
            result[_CUSTOMARY.get(name, f"PARETOFIT_{name.upper()}")] = _text(value)
    # Keeps folders such as `api` or `models` in the working directory from shadowing modules.
    return result | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _text(value: Any) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)
