"""Runs a command and ends it when the parent process has exited, even if the parent was killed by SIGKILL.

    python -I -S guard.py SIGNAL GRACE REMOVE COMMAND...

Standard input is a pipe whose other end only the parent holds. The byte `s` requests an orderly stop: SIGNAL to the
command, and SIGKILL to its process group GRACE seconds later. End of file means that the parent has exited: the same
with at most `ORPHAN_GRACE` seconds. At the end the folder REMOVE is deleted with its files (`-`: none). Exits with the
command's status, as a shell does. It imports little of the standard library, because there is one guard per process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

ORPHAN_GRACE = 5.0


def main(arguments: list[str]) -> int:
    stop_signal, grace, remove, *command = arguments
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_w, False)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            setsid=True,
            setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - goes to the log
        return 127

    listening = [0, wake_r]
    deadline: float | None = None
    while not _ended(child):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            _kill_group(child)
            left = None
        ready = select.select(listening, [], [], left)[0]
        signals = os.read(wake_r, 512) if wake_r in ready else b""
        request = os.read(0, 1) if 0 in ready else None
        if request == b"":
            listening.remove(0)
        if request is not None or set(signals) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            allowed = ORPHAN_GRACE if request == b"" else float(grace)
            deadline = min(deadline or float("inf"), time.monotonic() + allowed)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, int(stop_signal))
    # Not reaped yet, so the group id cannot have been reused.
    _kill_group(child)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if remove != "-":
        _remove(remove)
    return status if status >= 0 else 128 - status


def _ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(child: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            os.unlink(entry.path)  # noqa: PTH108 - pathlib would double the time to start
        os.rmdir(folder)  # noqa: PTH106 - as above


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
