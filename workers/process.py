"""A process that a supervisor holds: started in a session of its own, told to stop, killed, confirmed dead."""

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
"""In a command: becomes the number of the descriptor for messages, the output "report"."""

_LONGEST: Final = {"report": 64 * 1024**2, "stdout": 4 * 1024**2, "stderr": 8_192}
_CONFIRM_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Ends:
    """The descriptors that the process gets: it reads `leash` as its standard input and writes the others."""

    leash: int
    stdout: int
    stderr: int
    report: int


class Child(Protocol):
    """A child process of this one that leads a session of its own."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int:
        """Its exit status (-n: signal n), once it ended."""


class Process:
    """A process on a leash (`paretofit.workers.parent_watchdog`), leading a session of its own so that all it starts is
    killed with it.

    `start` starts it with the descriptors that it is given. Its outputs are "stdout", "stderr" and "report". At the end
    of a `with` block nothing of it runs any more.
    """

    def __init__(self, start: Callable[[Ends], Child]) -> None:
        ours: dict[str, int] = {}
        theirs: dict[str, int] = {}
        try:
            theirs["leash"], ours["leash"] = os.pipe()
            for name in _LONGEST:
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
        for name, longest in _LONGEST.items():
            self._open.register(ours[name], selectors.EVENT_READ, (name, Lines(longest)))

    def read(self, seconds: float) -> list[tuple[str, bytes]]:
        """What it wrote, as (output, line); waits for it at most so long."""
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
        """All that it wrote before its end; waits at most so long for whoever still holds its outputs."""
        found = []
        deadline = time.monotonic() + seconds
        while self._open.get_map() and time.monotonic() < deadline:
            found += self.read(0.1)
        return found

    def tell(self, stop: Stop) -> None:
        """Ask for a stop in words. A process that has ended hears nothing."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ours["leash"], encode("stop", stop.value))

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all it started that is still in its group."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def has_ended(self) -> bool:
        """Whether the process itself ended. It stays unreaped, so that its group's number is not given to others."""
        if self._status is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> int:
        """Kill what is left of the group, wait until all of it is gone and return the exit status (-n: signal n).

        Raises RuntimeError if something of the group is still there after 10 s.
        """
        if self._status is None:
            self.signal(signal.SIGKILL)
            deadline = time.monotonic() + _CONFIRM_SECONDS
            while not self.has_ended():
                if time.monotonic() > deadline:
                    raise RuntimeError(f"process {self.pid} survives SIGKILL: the kernel holds it")
                time.sleep(0.01)
            self._status = self._child.wait()
            while _group_exists(self.pid):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"processes of group {self.pid} survive SIGKILL: the kernel holds them")
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
    """Start a command. It gets the descriptor "report" if it asks for it by `REPORT`."""

    def start(ends: Ends) -> Child:
        return subprocess.Popen(
            [str(ends.report) if part == REPORT else part for part in command],
            stdin=ends.leash,
            stdout=ends.stdout,
            stderr=ends.stderr,
            env=dict(environment),
            cwd=directory,
            pass_fds=(ends.report,) if REPORT in command else (),
            start_new_session=True,
        )

    return Process(start)


def start_module(module: str, *arguments: str, environment: Mapping[str, str], directory: Path) -> Process:
    """Start `python -m module arguments...` on a leash."""
    command = [sys.executable, "-m", "paretofit.workers.parent_watchdog", module, *arguments]
    return spawn(command, environment=environment, directory=directory)


def _group_exists(group: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        # Those whose parent ended before them, if this process adopts orphans (`paretofit.workers.prctl`).
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
