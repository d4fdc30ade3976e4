"""Gauges for `/metrics` that come from the database: each is one statement over all tenants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import CompoundSelect, TextClause, func, literal, select, text, union_all
from sqlalchemy.orm import Session

from paretofit.db import jobs
from paretofit.db.jobs import KINDS


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge: its name, help text, labels, and the query that returns the labels and the value last."""

    name: str
    documentation: str
    labels: tuple[str, ...]
    query: TextClause | CompoundSelect[str, int]


GAUGES: Final = (
    Gauge(
        "searches", "Number of searches by state.", ("state",), text("SELECT state, count(*) FROM searches GROUP BY 1")
    ),
    Gauge("trials", "Number of trials by state.", ("state",), text("SELECT state, count(*) FROM trials GROUP BY 1")),
    Gauge(
        "datasets", "Number of datasets by state.", ("state",), text("SELECT state, count(*) FROM datasets GROUP BY 1")
    ),
    Gauge(
        "weights",
        "Number of trained weights by state.",
        ("state",),
        text("SELECT state, count(*) FROM weights GROUP BY 1"),
    ),
    Gauge(
        "queue_age_seconds",
        "Time since the oldest queued trial became due, in seconds.",
        (),
        text("""
            SELECT coalesce(max(extract(epoch FROM clock_timestamp() - trials.run_after)), 0)
            FROM trials JOIN searches ON searches.id = trials.search_id
            WHERE trials.state = 'queued' AND trials.run_after <= clock_timestamp()
              AND searches.state IN ('queued', 'running') AND NOT searches.pause_requested
        """),
    ),
    Gauge(
        "outbox_lag_seconds",
        "Time since the oldest unsent job message became due, in seconds.",
        (),
        text("""
            SELECT coalesce(max(extract(epoch FROM clock_timestamp() - send_after)), 0)
            FROM outbox WHERE send_after <= clock_timestamp()
        """),
    ),
    Gauge(
        "expired_leases",
        "Number of expired leases that have not been reclaimed, by kind of job.",
        ("kind",),
        union_all(*(select(literal(kind.noun), func.count()).where(jobs.expired(kind)) for kind in KINDS)),
    ),
    Gauge(
        "attempts",
        "Number of trial attempts by outcome.",
        ("outcome",),
        text("SELECT coalesce(outcome, 'running'), count(*) FROM attempts GROUP BY 1"),
    ),
    Gauge(
        "device_seconds",
        "Device time of all attempts in seconds, by device.",
        ("device",),
        text("""
            SELECT split_part(coalesce(device, 'unknown'), ':', 1),
                   sum(extract(epoch FROM coalesce(ended_at, clock_timestamp()) - computing_at))
            FROM attempts WHERE computing_at IS NOT NULL GROUP BY 1
        """),
    ),
    Gauge(
        "cancel_latency_seconds",
        "Seconds from request to completion of cancellations within the last hour, by quantile.",
        ("quantile",),
        text("""
            SELECT quantile, percentile_disc(quantile) WITHIN GROUP (ORDER BY seconds) FROM (
                SELECT extract(epoch FROM ended.at - asked.at) AS seconds FROM searches
                JOIN events AS asked ON asked.search_id = searches.id AND asked.type = 'search.cancel_requested'
                JOIN events AS ended ON ended.search_id = searches.id AND ended.type = 'search.cancelled'
                WHERE searches.state = 'cancelled' AND searches.finished_at > clock_timestamp() - interval '1 hour'
            ) AS cancelled, (VALUES (0.5::float8), (0.99), (1)) AS quantiles (quantile) GROUP BY 1
        """),
    ),
    Gauge(
        "deliveries",
        "Number of webhook deliveries by state.",
        ("state",),
        text("SELECT state, count(*) FROM deliveries GROUP BY 1"),
    ),
    Gauge(
        "workers_alive",
        "Number of workers with a heartbeat within the last minute, by queue.",
        ("queue",),
        text("SELECT queue, count(*) FROM workers WHERE seen_at > clock_timestamp() - interval '1 minute' GROUP BY 1"),
    ),
)


def read(session: Session, gauge: Gauge) -> Mapping[tuple[str, ...], float]:
    """A gauge's values by labels."""
    rows = session.execute(gauge.query).all()
    return {tuple(str(label) for label in row[:-1]): float(row[-1]) for row in rows}
