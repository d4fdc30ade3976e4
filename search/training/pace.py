"""A training that leaves time for those after it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from paretofit.search.latency.table import Measured
from paretofit.search.reporter import Point, Reporter, Stop


@dataclass(frozen=True, slots=True)
class Paced:
    """A `paretofit.search.reporter.Reporter` that hands everything on, and tells of the limit once its seconds are
    over."""

    reporter: Reporter
    seconds: float
    began: float = field(default_factory=time.monotonic)

    def metric(self, name: str, step: int, value: float) -> None:
        self.reporter.metric(name, step, value)

    def point(self, point: Point) -> None:
        self.reporter.point(point)

    def artifact(self, name: str, path: Path) -> None:
        self.reporter.artifact(name, path)

    def latency(self, measured: Measured) -> None:
        self.reporter.latency(measured)

    def checkpoint(self, path: Path, step: int) -> None:
        self.reporter.checkpoint(path, step)

    def should_stop(self) -> Stop:
        """What the reporter was asked comes first."""
        asked = self.reporter.should_stop()
        return Stop.LIMIT if asked is Stop.NO and time.monotonic() - self.began >= self.seconds else asked
