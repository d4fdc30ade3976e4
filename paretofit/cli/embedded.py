"""A service of this process, with embedded PostgreSQL and Redis, for the duration of a command."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from paretofit.client.errors import ParetofitError

LOG_LINES: Final = 30
"""Lines at the end of a log that an error shows."""
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 60.0


class StartError(ParetofitError):
    """The service did not start."""


@contextmanager
def service(home: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a service in `home` on a free port; yields its URL and stops it on exit. Raises StartError."""
    from paretofit.launch.process import GuardedProcess

    described = home / "service.json"
    former = _read(described)
    log = home / "up.log"
    command = [sys.executable, "-m", "paretofit", "up", "--port", "0", "--home", str(home)]
    with GuardedProcess(command, log=log, environment=dict(environment), grace=_STOP_SECONDS) as process:
        deadline = time.monotonic() + _START_SECONDS
        while (document := _read(described)) in (None, former):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"the service did not start; the end of {log}:\n{process.output(LOG_LINES)}")
            time.sleep(0.05)
        assert document is not None
        yield json.loads(document)["url"]


def url_of(home: Path) -> str | None:
    """The URL of the service that runs in `home`, by its `service.json`; None without one."""
    document = _read(home / "service.json")
    return None if document is None else str(json.loads(document)["url"])


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def private_environment(kept: tuple[str, ...]) -> dict[str, str]:
    """The environment without the settings of a service, except for those that are `kept`."""
    settings = ("PARETOFIT_", "DATABASE_URL", "REDIS_URL")
    return {name: value for name, value in os.environ.items() if name in kept or not name.startswith(settings)}
