"""A module that does one job in a process of its own and prints its answer as the last line of its output, in JSON."""

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
    """The process came to no answer: worth another try."""


class HelperTimeoutError(RuntimeError):
    """The process was not done in its time."""


def run_helper(
    module: str,
    *arguments: str,
    directory: Path,
    threads: int,
    check: Callable[[], None],
    seconds: float = float("inf"),
) -> dict[str, Any]:
    """Run `python -m module arguments...` without credentials and return its answer.

    `check` is called again and again, and may raise: the process is killed, as it is after so many `seconds`. Raises
    HelperCrashedError, HelperTimeoutError.
    """
    until = time.monotonic() + seconds
    lines: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    with start_module(
        module, *arguments, environment=environment.here(device="cpu", threads=threads), directory=directory
    ) as process:
        while not process.has_ended():
            check()
            if time.monotonic() > until:
                raise HelperTimeoutError(f"{module} was not done after {seconds:g} s")
            for source, line in process.read(_TICK):
                lines.setdefault(source, []).append(line)
                del lines[source][:-_LAST_LINES]
        status = process.end()
        for source, line in process.read_rest(1.0):
            lines.setdefault(source, []).append(line)
    if status != 0 or not lines["stdout"]:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        said = b"\n".join(lines["stderr"][-_LAST_LINES:]).decode(errors="replace")
        raise HelperCrashedError(f"{module} ended by {name}: {said}")
    try:
        answer: dict[str, Any] = json.loads(lines["stdout"][-1])
    except ValueError as error:
        raise HelperCrashedError(f"{module} gave no answer that can be read: {error}") from error
    return answer


def own_file(folder: Path, name: str) -> Path:
    """A file that a process says it made in its folder. One that has read a stranger's images is not trusted: it could
    name another file, which it cannot read itself. Raises HelperCrashedError."""
    path = folder / name
    if path.name != name or not stat.S_ISREG(path.lstat().st_mode):
        raise HelperCrashedError(f"it names {name!r}, which is no file of its own")
    return path
