"""Points that are not reported before their latencies are known. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretofit.search.latency.stage import UNMEASURED
from paretofit.search.latency.table import Measured
from paretofit.search.reporter import Point, Reporter, Stop
from paretofit.search.spec import ResolvedSpec, metric_key


class Withheld:
    """A `paretofit.search.reporter.Reporter` that hands everything on but points with weights that lack a latency of
    the search."""

    def __init__(self, reporter: Reporter, spec: ResolvedSpec) -> None:
        self._reporter = reporter
        self._needed = [metric_key("latency_ms", device) for device in spec.devices]
        self._names: list[str] = []

    @property
    def outputs(self) -> dict[str, Any]:
        """For the trial's: the checkpoints to be measured, if there are any."""
        return {UNMEASURED: self._names} if self._names else {}

    def point(self, point: Point) -> None:
        if point.weights is None or all(name in point.metrics for name in self._needed):
            self._reporter.point(point)
        elif point.weights not in self._names:
            self._names.append(point.weights)

    def metric(self, name: str, step: int, value: float) -> None:
        self._reporter.metric(name, step, value)

    def artifact(self, name: str, path: Path) -> None:
        self._reporter.artifact(name, path)

    def latency(self, measured: Measured) -> None:
        self._reporter.latency(measured)

    def checkpoint(self, path: Path, step: int) -> None:
        self._reporter.checkpoint(path, step)

    def should_stop(self) -> Stop:
        return self._reporter.should_stop()
