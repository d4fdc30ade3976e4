"""A supervised child process: started in its own session, asked to stop, killed, and confirmed dead."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from paretofit.search.contracts.trial import Stop
from paretofit.workers.messages import Lines, encode

REPORT: Final = "{report}"
"""Placeholder in a command for the number of the descriptor for messages, the output "report"."""

_MAX_LINE_BYTES: Final = {"report": 64 * 1024**2, "stdout": 4 * 1024**2, "stderr": 8_192}
_CONFIRM_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Ends:
    """The child's ends of its pipes: it reads `stdin` and writes the others."""

    stdin: int
    stdout: int
    stderr: int
    report: int


class Child(Protocol):
    """A child process that leads its own session."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int:
        """Wait for its end and return its exit status (-n: signal n)."""


class Process:
    """A process under a parent watchdog (`paretofit.workers.parent_watchdog`). It leads its own session, so its
    descendants are killed with it.

    `start` starts it with the given descriptors. Its outputs are "stdout", "stderr" and "report". At the end of a
    `with` block its whole process group has ended.
    """

    def __init__(self, start: Callable[[Ends], Child]) -> None:
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        try:
            theirs["stdin"], ours["stdin"] = os.pipe()
            for name in _MAX_LINE_BYTES:
                ours[name], theirs[name] = os.pipe()
            self._child = start(Ends(**theirs))
        except BaseException:
            _close(ours.values())
            raise
        finally:
            _close(theirs.values())
        self.pid = self._child.pid
        self._status: int | None = None
        self._ours = ours
        self._open = selectors.DefaultSelector()
        for name, longest in _MAX_LINE_BYTES.items():
            self._open.register(ours[name], selectors.EVENT_READ, (name, Lines(longest)))

    def read(self, seconds: float) -> list[tuple[str, bytes]]:
        """The lines that it wrote, as (output, line); waits at most `seconds` for them."""
        if not self._open.get_map():
            time.sleep(seconds)
            return []
        found = []
        for key, _ in self._open.select(seconds):
            name, lines = key.data
            piece = os.read(key.fd, 1 << 16)
            found += [(name, line) for line in (lines.feed(piece) if piece else lines.end())]
            if not piece:
                self._open.unregister(key.fd)
        return found

    def read_rest(self, seconds: float) -> list[tuple[str, bytes]]:
        """The rest of its output; waits at most `seconds` for processes that still hold its pipes."""
        found = []
        deadline = time.monotonic() + seconds
        while self._open.get_map() and time.monotonic() < deadline:
            found += self.read(0.1)
        return found

    def request_stop(self, stop: Stop) -> None:
        """Send a stop message. Does nothing if the process has ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ours["stdin"], encode("stop", stop.value))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def has_ended(self) -> bool:
        """Whether the process itself has ended. It is not reaped yet, so that its group id is not reused."""
        if self._status is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> int:
        """Kill the process group, wait until it has ended and return the exit status (-n: signal n).

        Raises RuntimeError if a process of the group is still alive after 10 s.
        """
        if self._status is None:
            self.signal(signal.SIGKILL)
            deadline = time.monotonic() + _CONFIRM_SECONDS
            while not self.has_ended():
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"process {self.pid} survived SIGKILL, blocked in the kernel: check its disks and drivers"
                    )
                time.sleep(0.01)
            self._status = self._child.wait()
            while _group_exists(self.pid):
                if time.monotonic() > deadline:
                    raise RuntimeError(
                        f"processes of group {self.pid} survived SIGKILL, blocked in the kernel: check the "
                        "machine's disks and drivers"
                    )
                time.sleep(0.01)
        return self._status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.end()
        finally:
            self._open.close()
            _close(self._ours.values())


def spawn(command: Sequence[str], *, environment: Mapping[str, str], directory: Path) -> Process:
    """Start a command. It gets the descriptor "report" if `REPORT` is one of its arguments."""

    def start(ends: Ends) -> Child:
        return subprocess.Popen(
            [str(ends.report) if part == REPORT else part for part in command],
            stdin=ends.stdin,
            stdout=ends.stdout,
            stderr=ends.stderr,
            env=dict(environment),
            cwd=directory,
            pass_fds=(ends.report,) if REPORT in command else (),
            start_new_session=True,
        )

    return Process(start)


def start_module(module: str, *arguments: str, environment: Mapping[str, str], directory: Path) -> Process:
    """Start `python -m module arguments...` under a parent watchdog."""
    command = [sys.executable, "-m", "paretofit.workers.parent_watchdog", module, *arguments]
    return spawn(command, environment=environment, directory=directory)


def _group_exists(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        # Reap adopted orphans (`paretofit.workers.prctl`).
        while os.waitpid(-group, os.WNOHANG) != (0, 0):
            pass
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
