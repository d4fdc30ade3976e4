"""Starts trainers: forked from a process that has torch and the methods imported (`paretofit.workers.forkserver`)."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from paretofit.workers import forkserver, prctl
from paretofit.workers.process import REPORT, Child, Ends, Process, spawn

_WARM_SECONDS: Final = 60.0
_FORK_SECONDS: Final = 10.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class TrainerPool:
    """Starts the trainers of a process that runs one at a time, all with the same environment.

    If no warm process is available (it died or did not become ready), the trainer starts as a new interpreter, which
    takes seconds longer.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._server: _Server | None = None

    def warm_up(self) -> None:
        """Start the warm process, which is ready a few seconds later and ends with the thread that calls this."""
        if self._server is not None and not self._server.has_ended():
            return
        self.cool_down()
        try:
            self._server = _Server(self._environment)
        except OSError as error:
            _log.warning("forkserver_start_failed", error=str(error))

    def cool_down(self) -> None:
        """Kill the warm process; trainers that it forked keep running."""
        if self._server is not None:
            self._server.end()
            self._server = None

    def start(self, order: Path, *, cancelled: Callable[[], bool] = lambda: False) -> Process:
        """Start the trainer of the trial in the file `order` (`paretofit.workers.trainer.write_order`).

        Waits until the warm process is ready, unless `cancelled` returns True first.
        """
        self.warm_up()
        if self._server is not None and self._server.is_ready(cancelled):
            try:
                return Process(partial(self._server.fork, order))
            except OSError as error:
                _log.warning("trainer_fork_failed", fallback="new interpreter", error=str(error))
                self.cool_down()
        command = [sys.executable, "-P", "-m", "paretofit.workers.trainer", str(order), "--report", REPORT]
        return spawn(command, environment=self._environment, directory=order.parent)


@dataclass(frozen=True, slots=True)
class _Forked:
    """A trainer that this process has adopted."""

    pid: int

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class _Server:
    """The warm process and the socket to it. Raises OSError if it cannot be started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        prctl.adopt_orphans()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "paretofit.workers.forkserver", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            try:
                self._popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    env=dict(environment),
                    cwd="/",
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except OSError:
                self._channel.close()
                raise
        self._ready = False

    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def is_ready(self, cancelled: Callable[[], bool]) -> bool:
        """Whether it can fork. Waits until it is ready, has ended or timed out, or `cancelled` returns True."""
        deadline = time.monotonic() + _WARM_SECONDS
        while not self._ready and not self.has_ended() and not cancelled() and time.monotonic() < deadline:
            self._ready = self._has_message(0.05) and self._channel.recv(forkserver.LONGEST) == forkserver.READY
        return self._ready

    def fork(self, order: Path, ends: Ends) -> Child:
        """Fork a trainer. Raises OSError."""
        socket.send_fds(self._channel, [os.fsencode(order)], [ends.stdin, ends.stdout, ends.stderr, ends.report])
        if not self._has_message(_FORK_SECONDS):
            raise TimeoutError("the warm process did not respond")
        response = self._channel.recv(forkserver.LONGEST)
        if not response.isdigit():
            raise ConnectionError(f"unexpected response of the warm process: {response!r}")
        # Raises ChildProcessError if the kernel did not reparent the trainer to this process.
        os.waitid(os.P_PID, int(response), os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return _Forked(int(response))

    def end(self) -> None:
        self._channel.close()
        self._popen.kill()
        self._popen.wait()

    def _has_message(self, seconds: float) -> bool:
        return bool(select.select([self._channel], [], [], seconds)[0])
