"""When an attempt began to compute, after it had waited for the machine."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("computing_at", sa.TIMESTAMP(timezone=True)))
    op.execute("UPDATE attempts SET computing_at = started_at")
