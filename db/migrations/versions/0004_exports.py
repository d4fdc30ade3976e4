"""Points as files of other formats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

_NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "exports",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("point_id", sa.Text(), nullable=False),
        sa.Column("source_sha256", sa.Text(), nullable=False),
        sa.Column("from_supernet", sa.Boolean(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("precision", sa.Text(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("parity", JSONB(none_as_null=True), nullable=True),
        sa.Column("error", JSONB(none_as_null=True), nullable=True),
        sa.Column("lease_epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease_expires_at", time, nullable=True),
        sa.Column("run_after", time, server_default=_NOW, nullable=False),
        sa.Column("crash_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("woken_at", time, server_default=_NOW, nullable=False),
        sa.Column("updated_at", time, server_default=_NOW, nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="default", nullable=False),
        sa.Column("created_at", time, server_default=_NOW, nullable=False),
        sa.CheckConstraint("state IN ('queued', 'running', 'ready', 'failed')", name=op.f("ck_exports_state")),
        sa.CheckConstraint(
            "(state = 'running') = (lease_expires_at IS NOT NULL)", name=op.f("ck_exports_running_is_leased")
        ),
        sa.CheckConstraint("(state = 'failed') <= (error IS NOT NULL)", name=op.f("ck_exports_failed_has_error")),
        sa.ForeignKeyConstraint(["point_id"], ["points.id"], name=op.f("fk_exports_point_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint(
            "point_id",
            "source_sha256",
            "format",
            "precision",
            "height",
            "width",
            name=op.f("uq_exports_point_id_source_sha256_format_precision_height_width"),
        ),
    )
