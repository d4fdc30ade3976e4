"""Evidence from outside the service: the trainers' diaries and triggers in the database.

Only the standard library: trainers import it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PARETOFIT_CHAOS_WITNESS"
"""Names the folder of the diaries: files outside the service's home, one for each attempt, `TRIAL-EPOCH`."""


@dataclass(frozen=True, slots=True)
class Life:
    """A process for good: its id together with the time it was started (clock ticks since the boot)."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Life:
        """The process that has this id now. Raises FileNotFoundError, ProcessLookupError."""
        return cls(pid, int(_stat(pid)[19]))

    @property
    def is_over(self) -> bool:
        """Whether it has ended; a zombie has."""
        try:
            fields = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return True
        return fields[0] in {"Z", "X"} or int(fields[19]) != self.started


def _stat(pid: int) -> list[str]:
    # proc(5): what follows the name in parentheses, from the state on.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Diary:
    """The diary of an attempt: its identity and every step with its time, append-only."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        life = Life.of(os.getpid())
        os.write(self._file, f"life {life.pid} {life.started}\n".encode())

    def write(self, step: int) -> None:
        os.write(self._file, f"step {step} {time.time():.6f}\n".encode())


@dataclass(frozen=True, slots=True)
class Attempt:
    """A diary that was read: who wrote in it, and (step, seconds since the epoch) in the order of the writing."""

    trial_id: str
    epoch: int
    lives: tuple[Life, ...]
    steps: tuple[tuple[int, float], ...]

    @property
    def name(self) -> str:
        return f"{self.trial_id}-{self.epoch}"


def read(folder: Path) -> list[Attempt]:
    """Every attempt that left a diary, by trial and epoch."""
    attempts = []
    for path in folder.iterdir():
        trial_id, _, epoch = path.name.rpartition("-")
        words = [line.split() for line in path.read_text().splitlines()]
        attempts.append(
            Attempt(
                trial_id,
                int(epoch),
                tuple(Life(int(a), int(b)) for kind, a, b in words if kind == "life"),
                tuple((int(a), float(b)) for kind, a, b in words if kind == "step"),
            )
        )
    return sorted(attempts, key=lambda attempt: (attempt.trial_id, attempt.epoch))
