"""What Prometheus reads at `/metrics`: this process's own figures, and those that the database has of all processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from paretofit.db import counters, service_metrics
from paretofit.db.engine import transaction

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_COUNTED = {
    counters.STALE_WRITES: ("Writes of workers that were refused because their lease was gone.", None),
    counters.LOST_STEPS: ("Training steps beyond the last checkpoint when an attempt crashed.", None),
    counters.DIGEST_MISMATCHES: ("Files that were not what their SHA-256 says.", None),
    counters.UPLOADS_REJECTED: ("Datasets and weights rejected by their validation.", "reason"),
}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts from the start of the process on. No label holds an id, so their number stays small."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Histogram(
            "paretofit_http_request_seconds",
            "Requests by route and status.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._waits = Histogram(
            "paretofit_pool_wait_seconds",
            "Waits for a connection with PostgreSQL.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._refusals = Counter(
            "paretofit_uploads_refused", "Uploads refused on their way in, by reason.", ("reason",), registry=registry
        )
        self._dropped = Counter(
            "paretofit_sse_dropped", "Event streams whose client left before the search's end.", registry=registry
        )
        self._streams = Gauge("paretofit_sse_open", "Event streams that are open.", registry=registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered; `route` is a path with its parameters' names."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def upload_refused(self, reason: str) -> None:
        """An upload was refused with this code."""
        self._refusals.labels(reason).inc()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """An event stream is open during the block. One that does not come to the block's end was dropped."""
        with self._streams.track_inprogress():
            ended = False
            try:
                yield
                ended = True
            finally:
                if not ended:
                    self._dropped.inc()

    def waited(self, seconds: float) -> None:
        """Somebody waited so long for a connection with PostgreSQL."""
        self._waits.observe(seconds)

    def render(self, engine: Engine) -> tuple[bytes, str]:
        """All of it in Prometheus' text format, and that format's media type."""
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

        everything = CollectorRegistry(auto_describe=False)
        everything.register(self._registry)
        everything.register(_Stored(engine))
        return generate_latest(everything), CONTENT_TYPE_PLAIN_0_0_4


class _Stored:
    """The database's figures at the moment they are asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Nothing is told before it is asked for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Without a database only that it is away."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        up = GaugeMetricFamily("paretofit_database_up", "Whether PostgreSQL answers.")
        try:
            with transaction(self._engine) as session:
                found = [(figure, service_metrics.read(session, figure)) for figure in service_metrics.GAUGES]
                counted = counters.read(session)
        except (OperationalError, PoolTimeoutError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        for figure, values in found:
            gauge = GaugeMetricFamily(f"paretofit_{figure.name}", figure.documentation, labels=figure.labels)
            for labels, value in values.items():
                gauge.add_metric(labels, value)
            yield gauge
        for name, (meaning, label) in _COUNTED.items():
            counter = CounterMetricFamily(f"paretofit_{name}", meaning, labels=[] if label is None else [label])
            rows = [row for row in counted if row.name == name]
            for row in rows:
                counter.add_metric([] if label is None else [row.label], row.value)
            if label is None and not rows:
                counter.add_metric([], 0)
            yield counter
