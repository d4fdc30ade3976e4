"""Evidence from outside the service: the diaries of trainers.

Trainers import this module, so it uses only the standard library.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PARETOFIT_CHAOS_WITNESS"
"""The variable with the folder of diaries, outside the home of the service; one file per attempt, `TRIAL-EPOCH`."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """The unique identity of a process: its id and its start time (clock ticks since boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """The process that currently has this id. Raises FileNotFoundError, ProcessLookupError."""
        return cls(pid, int(_stat(pid)[19]))

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended; a zombie has."""
        try:
            fields = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return True
        return fields[0] in {"Z", "X"} or int(fields[19]) != self.started


def _stat(pid: int) -> list[str]:
    # proc(5): the fields after the name in parentheses, starting with the state.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Diary:
    """The diary of an attempt: its identity and every step with its time, append-only."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        identity = ProcessIdentity.of(os.getpid())
        os.write(self._file, f"process {identity.pid} {identity.started}\n".encode())

    def write(self, step: int) -> None:
        os.write(self._file, f"step {step} {time.time():.6f}\n".encode())


@dataclass(frozen=True, slots=True)
class Attempt:
    """The content of a diary: the processes that wrote it, and (step, seconds since the epoch) in order."""

    trial_id: str
    epoch: int
    processes: tuple[ProcessIdentity, ...]
    steps: tuple[tuple[int, float], ...]

    @property
    def name(self) -> str:
        return f"{self.trial_id}-{self.epoch}"


def read(folder: Path) -> list[Attempt]:
    """Every attempt with a diary, by trial and epoch."""
    attempts = []
    for path in folder.iterdir():
        trial_id, _, epoch = path.name.rpartition("-")
        words = [line.split() for line in path.read_text().splitlines()]
        attempts.append(
            Attempt(
                trial_id,
                int(epoch),
                tuple(ProcessIdentity(int(a), int(b)) for kind, a, b in words if kind == "process"),
                tuple((int(a), float(b)) for kind, a, b in words if kind == "step"),
            )
        )
    return sorted(attempts, key=lambda attempt: (attempt.trial_id, attempt.epoch))
