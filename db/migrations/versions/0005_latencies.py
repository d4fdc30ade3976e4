"""What networks were measured to take on a device, and which trials measure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("trials", sa.Column("device", sa.Text()))
    op.create_table(
        "latencies",
        sa.Column("tenant_id", sa.Text(), server_default="default", nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("description", JSONB(none_as_null=True), nullable=False),
        sa.Column("median_ms", sa.Double(), nullable=False),
        sa.Column("p95_ms", sa.Double(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column(
            "measured_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.PrimaryKeyConstraint(
            "tenant_id",
            "architecture",
            "height",
            "width",
            "batch",
            "device",
            "machine",
            name=op.f("pk_latencies"),
        ),
    )
