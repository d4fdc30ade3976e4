"""Trained weights that searches start from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"

_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "weights",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="pending", nullable=False),
        sa.Column("source", JSONB(none_as_null=True), nullable=False),
        sa.Column("options", JSONB(none_as_null=True), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("uploaded_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("record", JSONB(none_as_null=True), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("error", JSONB(none_as_null=True), nullable=True),
        sa.Column("lease_epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", time, nullable=True),
        sa.Column("run_after", time, server_default=_NOW, nullable=False),
        sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("woken_at", time, server_default=_NOW, nullable=False),
        sa.Column("updated_at", time, server_default=_NOW, nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="default", nullable=False),
        sa.Column("created_at", time, server_default=_NOW, nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'uploading', 'converting', 'ready', 'rejected')", name=op.f("ck_weights_state")
        ),
        sa.CheckConstraint("(state = 'ready') = (sha256 IS NOT NULL)", name=op.f("ck_weights_ready_has_file")),
        sa.CheckConstraint(
            "(sha256 IS NULL) = (size IS NULL) AND (sha256 IS NULL) = (record IS NULL)",
            name=op.f("ck_weights_file_has_record"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_weights")),
    )
    op.create_index(op.f("ix_weights_tenant_id_created_at_id"), "weights", ["tenant_id", "created_at", "id"])
