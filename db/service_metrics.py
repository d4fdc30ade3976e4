"""What the database knows of the service's work, for `/metrics`: each figure is one statement, of all tenants
together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import CompoundSelect, TextClause, func, literal, select, text, union_all
from sqlalchemy.orm import Session

from paretofit.db import jobs
from paretofit.db.jobs import KINDS


@dataclass(frozen=True, slots=True)
class Figure:
    """A gauge: its name, what it means, its labels, and the query that gives them with the value last."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    query: TextClause | CompoundSelect[str, int]


FIGURES: Final = (
    Figure("searches", "Searches by state.", ("state",), text("SELECT state, count(*) FROM searches GROUP BY 1")),
    Figure("trials", "Trials by state.", ("state",), text("SELECT state, count(*) FROM trials GROUP BY 1")),
    Figure("datasets", "Datasets by state.", ("state",), text("SELECT state, count(*) FROM datasets GROUP BY 1")),
    Figure("weights", "Trained weights by state.", ("state",), text("SELECT state, count(*) FROM weights GROUP BY 1")),
    Figure(
        "queue_age_seconds",
        "How long the trial that has been due for longest waits.",
        (),
        text("""
            SELECT coalesce(max(extract(epoch FROM clock_timestamp() - trials.run_after)), 0)
            FROM trials JOIN searches ON searches.id = trials.search_id
            WHERE trials.state = 'queued' AND trials.run_after <= clock_timestamp()
              AND searches.state IN ('queued', 'running') AND NOT searches.pause_requested
        """),
    ),
    Figure(
        "outbox_lag_seconds",
        "How long the job message that has been due for longest waits.",
        (),
        text("""
            SELECT coalesce(max(extract(epoch FROM clock_timestamp() - send_after)), 0)
            FROM outbox WHERE send_after <= clock_timestamp()
        """),
    ),
    Figure(
        "expired_leases",
        "Leases that ran out and were not taken back yet.",
        ("kind",),
        union_all(*(select(literal(kind.noun), func.count()).where(jobs.expired(kind)) for kind in KINDS)),
    ),
    Figure(
        "attempts",
        "Attempts at trials by outcome.",
        ("outcome",),
        text("SELECT coalesce(outcome, 'running'), count(*) FROM attempts GROUP BY 1"),
    ),
    Figure(
        "device_seconds",
        "Seconds that attempts have computed on devices.",
        ("device",),
        text("""
            SELECT split_part(coalesce(device, 'unknown'), ':', 1),
                   sum(extract(epoch FROM coalesce(ended_at, clock_timestamp()) - computing_at))
            FROM attempts WHERE computing_at IS NOT NULL GROUP BY 1
        """),
    ),
    Figure(
        "cancel_latency_seconds",
        "From the request to the end of the searches that were cancelled within the last hour, by quantile.",
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
    Figure(
        "deliveries",
        "Deliveries to webhooks by state.",
        ("state",),
        text("SELECT state, count(*) FROM deliveries GROUP BY 1"),
    ),
    Figure(
        "workers_alive",
        "Workers heard of within the last minute, by queue.",
        ("queue",),
        text("SELECT queue, count(*) FROM workers WHERE seen_at > clock_timestamp() - interval '1 minute' GROUP BY 1"),
    ),
)


def read(session: Session, figure: Figure) -> Mapping[tuple[str, ...], float]:
    """A figure's values by their labels."""
    rows = session.execute(figure.query).all()
    return {tuple(str(label) for label in row[:-1]): float(row[-1]) for row in rows}
