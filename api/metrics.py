"""Prometheus metrics at `/metrics`: those of this process, and those of all processes, from the database."""

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
    counters.STALE_WRITES: ("Worker writes rejected because the lease was lost.", None),
    counters.LOST_STEPS: ("Training steps lost after the last checkpoint in crashed attempts.", None),
    counters.DIGEST_MISMATCHES: ("Files that did not match their SHA-256.", None),
    counters.UPLOADS_REJECTED: ("Datasets and weights rejected by validation, by reason.", "reason"),
}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counts since the start of the process. Labels hold no ids, so their cardinality stays low."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Histogram(
            "paretofit_http_request_seconds",
            "Duration of requests, by method, route and status.",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._waits = Histogram(
            "paretofit_pool_wait_seconds",
            "Time spent waiting for a PostgreSQL connection.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._refusals = Counter(
            "paretofit_uploads_refused", "Uploads rejected while receiving, by reason.", ("reason",), registry=registry
        )
        self._dropped = Counter(
            "paretofit_sse_dropped",
            "Event streams whose client disconnected before the search ended.",
            registry=registry,
        )
        self._streams = Gauge("paretofit_sse_open", "Open event streams.", registry=registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record a request; `route` is its path template."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def upload_refused(self, reason: str) -> None:
        """Record an upload rejected with this code."""
        self._refusals.labels(reason).inc()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count an event stream as open during the block. A block that does not complete counts as dropped."""
        with self._streams.track_inprogress():
            ended = False
            try:
                yield
                ended = True
            finally:
                if not ended:
                    self._dropped.inc()

    def waited(self, seconds: float) -> None:
        """Record the wait for a PostgreSQL connection."""
        self._waits.observe(seconds)

    def render(self, engine: Engine) -> tuple[bytes, str]:
        """All metrics in the Prometheus text format, and its media type."""
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

        everything = CollectorRegistry(auto_describe=False)
        everything.register(self._registry)
        everything.register(_Stored(engine))
        return generate_latest(everything), CONTENT_TYPE_PLAIN_0_0_4


class _Stored:
    """Metrics that are read from the database on each scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> list[Metric]:
        """Empty, so that registration does not query the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Without the database, only `paretofit_database_up`."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        up = GaugeMetricFamily("paretofit_database_up", "1 if PostgreSQL responds, else 0.")
        try:
            with transaction(self._engine) as session:
                gauges = [(gauge, service_metrics.read(session, gauge)) for gauge in service_metrics.GAUGES]
                counted = counters.read(session)
        except (OperationalError, PoolTimeoutError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        for gauge, values in gauges:
            family = GaugeMetricFamily(f"paretofit_{gauge.name}", gauge.documentation, labels=gauge.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
        for name, (meaning, label) in _COUNTED.items():
            counter = CounterMetricFamily(f"paretofit_{name}", meaning, labels=[] if label is None else [label])
            rows = [row for row in counted if row.name == name]
            for row in rows:
                counter.add_metric([] if label is None else [row.label], row.value)
            if label is None and not rows:
                counter.add_metric([], 0)
            yield counter
