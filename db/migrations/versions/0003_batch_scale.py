"""By what a trial multiplies its batch sizes since it ran out of memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("trials", sa.Column("batch_scale", sa.Double(), server_default="1", nullable=False))
