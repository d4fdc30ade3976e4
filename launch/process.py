"""Child processes that cannot outlive their parent."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from paretofit.launch import guard

LOG_BYTES = 16 * 1024**2


class LaunchError(RuntimeError):
    """A process of the service cannot be started; the message has the reason and the remedy."""


class GuardedProcess:
    """A command under its own guard (`paretofit.launch.guard`), in its own session.

    On `stop`, and whenever this process ends, it gets `stop_signal`, and its process group is killed `grace` seconds
    later. Its output is appended to `log`. It inherits the descriptors in `keep`; the folder `remove` is deleted when
    it has ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10.0,
        keep: Sequence[int] = (),
        remove: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".old"))
        with log.open("ab") as output:
            self._log_start = output.tell()
            self._guard = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(Path(guard.__file__).resolve())),
                    *(str(int(stop_signal)), str(grace), str(remove or "-")),
                    *_killed_with_guard(stop_signal),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                cwd=directory,
                pass_fds=tuple(keep),
                start_new_session=True,
                umask=0o077,
            )

    @property
    def pid(self) -> int:
        """The guard's process id; the command is its only child."""
        return self._guard.pid

    def poll(self) -> int | None:
        """The command's exit status, 128 + n after signal n; None while it runs."""
        status = self._guard.poll()
        if status is not None:
            self._close_stdin()
        return status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; returns its exit status. Raises subprocess.TimeoutExpired."""
        status = self._guard.wait(timeout)
        self._close_stdin()
        return status

    def _close_stdin(self) -> None:
        if self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()

    def request_stop(self) -> None:
        """Request an orderly stop without waiting."""
        if self._guard.stdin is not None and self._guard.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(b"s")
                self._guard.stdin.flush()

    def stop(self) -> int:
        """Stop the command, wait until its process group has ended, and return its exit status."""
        self.request_stop()
        return self.wait()

    def output(self, lines: int = 20) -> str:
        """The last lines of output of this run."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _killed_with_guard(stop_signal: signal.Signals) -> list[str]:
    """Prefix of a command that the kernel kills when the guard ends, where `setpriv` is available."""
    setpriv = shutil.which("setpriv") if os.uname().sysname == "Linux" else None
    return [] if setpriv is None else [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "--"]
