"""A reporter that records its calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paretofit.search.contracts.latency import Measured
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Stop


def never(checks: int) -> Stop:
    """Never request a stop."""
    del checks
    return Stop.NO


@dataclass
class Recorder:
    """Records reports, with copies of files in `folder`. `stop` receives the number of earlier calls."""

    folder: Path
    stop: Callable[[int], Stop] = never
    metrics: dict[tuple[str, int], float] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    artifacts: dict[str, Path] = field(default_factory=dict)
    latencies: list[Measured] = field(default_factory=list)
    checkpoints: list[tuple[int, Path]] = field(default_factory=list)
    checks: int = 0

    def metric(self, name: str, step: int, value: float) -> None:
        self.metrics[name, step] = value

    def point(self, point: Point) -> None:
        assert point.weights is None or point.weights in self.artifacts
        self.points.append(point)

    def artifact(self, name: str, path: Path) -> None:
        self.artifacts[name] = Path(shutil.copy(path, self.folder / f"artifact-{name}"))

    def latency(self, measured: Measured) -> None:
        self.latencies.append(measured)

    def checkpoint(self, path: Path, step: int) -> None:
        copied = self.folder / f"kept-{step}"
        path.rename(copied)
        self.checkpoints.append((step, copied))

    def should_stop(self) -> Stop:
        self.checks += 1
        return self.stop(self.checks - 1)
