"""Since when a search is paused, and how long it was before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("searches", sa.Column("paused_at", sa.DateTime(timezone=True)))
    op.add_column("searches", sa.Column("paused_seconds", sa.Double(), server_default="0", nullable=False))
    op.execute("UPDATE searches SET paused_at = clock_timestamp() WHERE state = 'paused'")
    op.create_check_constraint(
        op.f("ck_searches_paused_since"), "searches", "(state = 'paused') = (paused_at IS NOT NULL)"
    )
