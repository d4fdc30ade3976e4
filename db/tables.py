"""The schema: one class per table, suffix `Row`. States are text with a CHECK; every row belongs to a tenant.

Queries are in the other modules of this package (`searches`, `trials`, `datasets`, ...), never in endpoints or tasks.
`woken_at` is when a job message for a row was last written to the outbox; the relay resends messages of rows that stay
unclaimed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from paretofit.db import states

DEFAULT_TENANT = "default"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own declaration
        str: Text,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[Any]: JSONB(none_as_null=True),
        float: Double,
    }


def _one_of(machine: states.Machine, column: str = "state") -> CheckConstraint:
    listed = ", ".join(f"'{state}'" for state in machine)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


class _Tenant:
    tenant_id: Mapped[str] = mapped_column(server_default=DEFAULT_TENANT)


class _Created:
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class _Updated:
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Leased:
    """A row that workers claim (`paretofit.db.jobs`): it may be claimed from `run_after` on; `lease_epoch` counts the
    claims."""

    id: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    lease_epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_expires_at: Mapped[datetime | None]
    run_after: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    woken_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class DatasetRow(_Tenant, _Created, Leased, _Updated, Base):
    """`source` is the request's; `options` {image_size, splits, seed, ...}; `manifest` {file: {sha256, size}} once
    ready."""

    __tablename__ = "datasets"

    name: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="pending")
    source: Mapped[dict[str, Any]]
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    uploaded_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    report: Mapped[dict[str, Any] | None]
    profile: Mapped[dict[str, Any] | None]
    manifest: Mapped[dict[str, Any] | None]
    fingerprint: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    crash_count: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        _one_of(states.DATASET),
        CheckConstraint("(state = 'ready') = (manifest IS NOT NULL)", name="ready_has_manifest"),
        Index(None, "tenant_id", "created_at", "id"),
    )


class WeightsRow(_Tenant, _Created, Leased, _Updated, Base):
    """Trained weights that searches start from. `source` is the request's, an upload's with `sha256` and `size` once it
    is complete; `options` {`licence`, `mean`, `std`, `class_names`}. Once ready `sha256` and `size` are those of the
    converted file, and `record` is its `paretofit.models.pretrained.record.WeightsRecord`."""

    __tablename__ = "weights"

    name: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="pending")
    source: Mapped[dict[str, Any]]
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    uploaded_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    record: Mapped[dict[str, Any] | None]
    sha256: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None]
    crash_count: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        _one_of(states.WEIGHTS),
        CheckConstraint("(state = 'ready') = (sha256 IS NOT NULL)", name="ready_has_file"),
        CheckConstraint(
            "(sha256 IS NULL) = (size IS NULL) AND (sha256 IS NULL) = (record IS NULL)", name="file_has_record"
        ),
        Index(None, "tenant_id", "created_at", "id"),
    )


class SearchRow(_Tenant, _Created, Base):
    """`spec` is the accepted specification with its dataset profile resolved; it never changes; `name`, `limits`,
    `labels` and `priority` may. `warnings` are {code, detail} each, written when it ends (`paretofit.search.chance`).
    `advance_wanted`: there are changes that planning has not processed. `paused_seconds` is the length of the finished
    pauses since its first trial started; the current pause began at `paused_at`."""

    __tablename__ = "searches"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="queued")
    stop_reason: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    warnings: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    method: Mapped[str]
    spec: Mapped[dict[str, Any]]
    limits: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    labels: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    cancel_requested: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    pause_requested: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    advance_wanted: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    woken_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    event_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    front_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    paused_seconds: Mapped[float] = mapped_column(server_default="0")

    __table_args__ = (
        _one_of(states.SEARCH),
        CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="terminal_is_finished"
        ),
        CheckConstraint("(state = 'paused') = (paused_at IS NOT NULL)", name="paused_since"),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "dataset_id"),
    )


class TrialRow(_Tenant, _Created, Leased, Base):
    """`number` counts from 0 in its search; `inputs` {name: {trial, artifact}} are artifacts of earlier trials, or of
    the search itself if `trial` is null.

    `checkpoint` is {step, files: {name: {sha256, size}}} of the last one. `batch_scale` is a factor on its batch sizes,
    less than 1 after it ran out of memory. `device` is the one that it measures on, alone on the machine of a worker
    that offers it.
    """

    __tablename__ = "trials"

    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="queued")
    params: Mapped[dict[str, Any]]
    inputs: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    device: Mapped[str | None]
    outputs: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    progress: Mapped[float] = mapped_column(server_default="0")
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    lease_owner: Mapped[str | None]
    crash_count: Mapped[int] = mapped_column(Integer, server_default="0")
    checkpoint: Mapped[dict[str, Any] | None]
    batch_scale: Mapped[float] = mapped_column(server_default="1")
    progressed_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of(states.TRIAL),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="running_is_leased"),
        UniqueConstraint("search_id", "number"),
        Index("ix_trials_expiring", "lease_expires_at", postgresql_where=text("state = 'running'")),
        Index("ix_trials_waiting", "run_after", postgresql_where=text("state = 'queued'")),
    )


class AttemptRow(_Tenant, Base):
    """One attempt at a trial. `outcome` is null while it is running, `computing_at` while it waits for the machine."""

    __tablename__ = "attempts"

    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    worker: Mapped[str]
    device: Mapped[str | None]
    outcome: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    computing_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class SpentRow(_Tenant, Base):
    """The device time of attempts whose search was deleted; it still counts for the tenant."""

    __tablename__ = "spent"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    computing_at: Mapped[datetime]
    ended_at: Mapped[datetime]

    __table_args__ = (Index(None, "tenant_id", "ended_at"),)


class MetricRow(_Tenant, Base):
    __tablename__ = "metrics"

    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    value: Mapped[float]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class LogRow(_Tenant, Base):
    __tablename__ = "logs"

    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    stream: Mapped[str]
    line: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class ArtifactRow(_Tenant, _Created, Base):
    """A blob by its SHA-256, with its name in the trial that reported it or in the search that starts from it."""

    __tablename__ = "artifacts"

    id: Mapped[str] = mapped_column(primary_key=True)
    search_id: Mapped[str | None] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"))
    trial_id: Mapped[str | None] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    name: Mapped[str]
    sha256: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(server_default="application/octet-stream")

    __table_args__ = (
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256"),
        UniqueConstraint("trial_id", "name"),
        Index(None, "sha256"),
        Index(None, "search_id"),
    )


class PointRow(_Tenant, _Created, _Updated, Base):
    """One architecture with its measured metrics. `record` is the whole point as JSON; `key` identifies it."""

    __tablename__ = "points"

    id: Mapped[str] = mapped_column(primary_key=True)
    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"))
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    key: Mapped[str]
    role: Mapped[str] = mapped_column(server_default="candidate")
    metrics: Mapped[dict[str, Any]]
    record: Mapped[dict[str, Any]]
    artifact_id: Mapped[str | None] = mapped_column(ForeignKey("artifacts.id"))

    __table_args__ = (
        CheckConstraint("role IN ('candidate', 'baseline')", name="role"),
        UniqueConstraint("trial_id", "key"),
        Index(None, "search_id", "id"),
    )


class ExportRow(_Tenant, _Created, Leased, _Updated, Base):
    """A point's network in another file format; once it is `ready`, its artifact has the same `id`.

    `source_sha256` is the blob of the weights: a checkpoint or, if `from_supernet`, a supernet. `height`
    and `width` are the input's, pixels. `parity` is {max_abs_diff, tolerance, ...}.
    """

    __tablename__ = "exports"

    point_id: Mapped[str] = mapped_column(ForeignKey("points.id", ondelete="CASCADE"))
    source_sha256: Mapped[str]
    from_supernet: Mapped[bool] = mapped_column(Boolean)
    format: Mapped[str]
    precision: Mapped[str]
    height: Mapped[int]
    width: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="queued")
    parity: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    crash_count: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        _one_of(states.EXPORT),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="running_is_leased"),
        CheckConstraint("(state = 'failed') <= (error IS NOT NULL)", name="failed_has_error"),
        UniqueConstraint("point_id", "source_sha256", "format", "precision", "height", "width"),
    )


class LatencyRow(_Tenant, Base):
    """The latency of an architecture (key) at an input size, for batches of `batch` images. `machine` is the digest of
    `description`."""

    __tablename__ = "latencies"

    tenant_id: Mapped[str] = mapped_column(primary_key=True, server_default=DEFAULT_TENANT)
    architecture: Mapped[str] = mapped_column(primary_key=True)
    height: Mapped[int] = mapped_column(Integer, primary_key=True)
    width: Mapped[int] = mapped_column(Integer, primary_key=True)
    batch: Mapped[int] = mapped_column(Integer, primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    machine: Mapped[str] = mapped_column(primary_key=True)
    description: Mapped[dict[str, Any]]
    median_ms: Mapped[float]
    p95_ms: Mapped[float]
    runs: Mapped[int]
    measured_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class EventRow(_Tenant, Base):
    """An event of a search, numbered from 1 without gaps (`paretofit.db.events.append`)."""

    __tablename__ = "events"

    search_id: Mapped[str] = mapped_column(ForeignKey("searches.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    type: Mapped[str]
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class OutboxRow(_Created, Base):
    """A job message to be sent, written in the transaction of the state change that it announces
    (`paretofit.db.outbox.enqueue`). `traceparent` is its trace (W3C Trace Context)."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    task: Mapped[str]
    subject: Mapped[str]
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    send_after: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    traceparent: Mapped[str | None]

    __table_args__ = (Index(None, "send_after"), Index(None, "subject"))


class IdempotencyRow(_Tenant, _Created, Base):
    """The response to a POST with an Idempotency-Key; `status` is null while the first request is in progress."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[str] = mapped_column(primary_key=True, server_default=DEFAULT_TENANT)
    key: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)


class WorkerRow(_Created, Base):
    """A registered worker process; `description` holds its machine, devices and queue."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    device: Mapped[str | None]
    description: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class TenantRow(_Created, Base):
    """A tenant. A quota that is null is that of the settings."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True)
    max_searches: Mapped[int | None]
    max_device_seconds: Mapped[float | None]
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)


class ApiKeyRow(_Tenant, _Created, Base):
    """`digest` is the SHA-256 of the key's secret; the key itself is not stored. A rotation sets `successor_id`."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scopes: Mapped[list[Any]]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    successor_id: Mapped[str | None]

    __table_args__ = (Index(None, "tenant_id", "created_at", "id"),)


class SessionRow(_Tenant, _Created, Base):
    """A dashboard session, by the SHA-256 of its cookie. It has the rights of its key: the API key `key_id`, or the
    bootstrap key with this digest."""

    __tablename__ = "sessions"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"))
    bootstrap: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("(key_id IS NULL) <> (bootstrap IS NULL)", name="of_a_key"),
        Index(None, "expires_at"),
    )


class AuditRow(_Tenant, Base):
    """A request that may change data, with its actor and response status."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str]
    method: Mapped[str]
    path: Mapped[str]
    status: Mapped[int]
    request_id: Mapped[str]
    address: Mapped[str | None]

    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "at"))


class WebhookRow(_Tenant, _Created, Base):
    """A webhook of a tenant. `events` are types of `paretofit.db.events`; messages are signed with `secret`."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    events: Mapped[list[Any]]
    secret: Mapped[str]
    enabled: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))

    __table_args__ = (Index(None, "tenant_id", "created_at", "id"),)


class DeliveryRow(_Tenant, _Created, Leased, _Updated, Base):
    """The delivery of an event to a webhook. Every attempt sends the same `body`. `attempts` is their number;
    `status` is that of the last response."""

    __tablename__ = "deliveries"

    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    type: Mapped[str]
    body: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default="0")
    status: Mapped[int | None]
    error: Mapped[dict[str, Any] | None]

    __table_args__ = (
        _one_of(states.DELIVERY),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="running_is_leased"),
        Index(None, "webhook_id", "created_at", "id"),
        Index("ix_deliveries_waiting", "run_after", postgresql_where=text("state = 'queued'")),
    )


class CounterRow(Base):
    """A counter of rare events in any process (`paretofit.db.counters`)."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True, server_default="")
    value: Mapped[int] = mapped_column(BigInteger)
