"""Runs a module for one job in its own process, which prints its result in JSON as the last line of its output."""

from __future__ import annotations

import json
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from paretofit.workers import environment
from paretofit.workers.process import start_module

_TICK: Final = 0.05
_LAST_LINES: Final = 20


class HelperCrashedError(RuntimeError):
    """The process ended without a valid result: worth a retry."""


class HelperTimeoutError(RuntimeError):
    """The process exceeded its time limit."""


def run_helper(
    module: str,
    *arguments: str,
    directory: Path,
    threads: int,
    check: Callable[[], None],
    seconds: float = float("inf"),
) -> dict[str, Any]:
    """Run `python -m module arguments...` without credentials and return its result.

    `check` is called periodically; if it raises, the process is killed, as it is after `seconds`. Raises
    HelperCrashedError, HelperTimeoutError.
    """
    deadline = time.monotonic() + seconds
    lines: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    with start_module(
        module, *arguments, environment=environment.here(device="cpu", threads=threads), directory=directory
    ) as process:
        while not process.has_ended():
            check()
            if time.monotonic() > deadline:
                raise HelperTimeoutError(f"{module} did not finish within {seconds:g} s")
            for source, line in process.read(_TICK):
                lines.setdefault(source, []).append(line)
                del lines[source][:-_LAST_LINES]
        status = process.end()
        for source, line in process.read_rest(1.0):
            lines.setdefault(source, []).append(line)
    if status != 0 or not lines["stdout"]:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        stderr = b"\n".join(lines["stderr"][-_LAST_LINES:]).decode(errors="replace")
        raise HelperCrashedError(f"{module} exited with {name}: {stderr}")
    try:
        result: dict[str, Any] = json.loads(lines["stdout"][-1])
    except ValueError as error:
        raise HelperCrashedError(f"{module} printed an invalid result: {error}") from error
    return result


def own_file(folder: Path, name: str) -> Path:
    """The path of a file that a helper process created in its folder.

    A process that has read untrusted images is not trusted itself: it could name a file outside that it cannot read.
    Raises HelperCrashedError.
    """
    path = folder / name
    if path.name != name or not stat.S_ISREG(path.lstat().st_mode):
        raise HelperCrashedError(f"the helper process named {name!r}, which is not a file in its folder")
    return path
