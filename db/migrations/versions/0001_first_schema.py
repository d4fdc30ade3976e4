"""The first schema: datasets, searches, trials with their attempts and results, events, the outbox, workers."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("source", JSONB(), nullable=False),
        sa.Column("options", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("uploaded_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("report", JSONB()),
        sa.Column("profile", JSONB()),
        sa.Column("manifest", JSONB()),
        sa.Column("fingerprint", sa.Text()),
        sa.Column("error", JSONB()),
        sa.Column("lease_epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
        _moment("run_after"),
        sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
        _moment("woken_at"),
        _moment("updated_at"),
        _tenant(),
        _moment("created_at"),
        sa.CheckConstraint("(state = 'ready') = (manifest IS NOT NULL)", name=op.f("ck_datasets_ready_has_manifest")),
        sa.CheckConstraint(
            "state IN ('pending', 'uploading', 'validating', 'ready', 'rejected')", name=op.f("ck_datasets_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(op.f("ix_datasets_tenant_id_created_at_id"), "datasets", ["tenant_id", "created_at", "id"])
    op.create_table(
        "idempotency_keys",
        _tenant(),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("headers", JSONB()),
        sa.Column("body", sa.LargeBinary()),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "key", "route", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        _moment("send_after"),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
    )
    op.create_index(op.f("ix_outbox_send_after"), "outbox", ["send_after"])
    op.create_index(op.f("ix_outbox_subject"), "outbox", ["subject"])
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("device", sa.Text()),
        sa.Column("description", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        _moment("seen_at"),
        _moment("created_at"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "searches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("error", JSONB()),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("spec", JSONB(), nullable=False),
        sa.Column("limits", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("labels", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("dataset_id", sa.Text(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("pause_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("advance_wanted", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        _moment("woken_at"),
        sa.Column("event_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("front_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        _tenant(),
        _moment("created_at"),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_searches_terminal_is_finished"),
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_searches_state"),
        ),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_searches_dataset_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_searches")),
    )
    op.create_index(op.f("ix_searches_dataset_id"), "searches", ["dataset_id"])
    op.create_index(op.f("ix_searches_tenant_id_created_at_id"), "searches", ["tenant_id", "created_at", "id"])
    op.create_table(
        "events",
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("data", JSONB(), nullable=False),
        _moment("at"),
        _tenant(),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_events_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("search_id", "seq", name=op.f("pk_events")),
    )
    op.create_table(
        "trials",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("params", JSONB(), nullable=False),
        sa.Column("inputs", JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("outputs", JSONB()),
        sa.Column("error", JSONB()),
        sa.Column("progress", sa.Double(), server_default="0", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True)),
        _moment("run_after"),
        sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
        _moment("woken_at"),
        sa.Column("checkpoint", JSONB()),
        sa.Column("progressed_at", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        _tenant(),
        _moment("created_at"),
        sa.CheckConstraint(
            "(state = 'running') = (lease_expires_at IS NOT NULL)", name=op.f("ck_trials_running_is_leased")
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'completed', 'pruned', 'infeasible', 'failed', 'cancelled')",
            name=op.f("ck_trials_state"),
        ),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_trials_search_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.UniqueConstraint("search_id", "number", name=op.f("uq_trials_search_id_number")),
    )
    op.create_index("ix_trials_expiring", "trials", ["lease_expires_at"], postgresql_where=sa.text("state = 'running'"))
    op.create_index("ix_trials_waiting", "trials", ["run_after"], postgresql_where=sa.text("state = 'queued'"))
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("search_id", sa.Text()),
        sa.Column("trial_id", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), server_default="application/octet-stream", nullable=False),
        _tenant(),
        _moment("created_at"),
        sa.CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name=op.f("ck_artifacts_sha256")),
        sa.ForeignKeyConstraint(
            ["search_id"], ["searches.id"], name=op.f("fk_artifacts_search_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_artifacts_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifacts")),
        sa.UniqueConstraint("trial_id", "name", name=op.f("uq_artifacts_trial_id_name")),
    )
    op.create_index(op.f("ix_artifacts_search_id"), "artifacts", ["search_id"])
    op.create_index(op.f("ix_artifacts_sha256"), "artifacts", ["sha256"])
    op.create_table(
        "attempts",
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("device", sa.Text()),
        sa.Column("outcome", sa.Text()),
        sa.Column("error", JSONB()),
        _moment("started_at"),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        _tenant(),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_attempts_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", "epoch", name=op.f("pk_attempts")),
    )
    op.create_table(
        "logs",
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        _moment("at"),
        _tenant(),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_logs_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", "seq", name=op.f("pk_logs")),
    )
    op.create_table(
        "metrics",
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        _moment("at"),
        _tenant(),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_metrics_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("trial_id", "name", "step", name=op.f("pk_metrics")),
    )
    op.create_table(
        "points",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("search_id", sa.Text(), nullable=False),
        sa.Column("trial_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), server_default="candidate", nullable=False),
        sa.Column("metrics", JSONB(), nullable=False),
        sa.Column("record", JSONB(), nullable=False),
        sa.Column("artifact_id", sa.Text()),
        _moment("updated_at"),
        _tenant(),
        _moment("created_at"),
        sa.CheckConstraint("role IN ('candidate', 'baseline')", name=op.f("ck_points_role")),
        sa.ForeignKeyConstraint(["artifact_id"], ["artifacts.id"], name=op.f("fk_points_artifact_id")),
        sa.ForeignKeyConstraint(["search_id"], ["searches.id"], name=op.f("fk_points_search_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["trials.id"], name=op.f("fk_points_trial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_points")),
        sa.UniqueConstraint("trial_id", "key", name=op.f("uq_points_trial_id_key")),
    )
    op.create_index(op.f("ix_points_search_id_id"), "points", ["search_id", "id"])


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.Text(), server_default="default", nullable=False)


def _moment(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False)
