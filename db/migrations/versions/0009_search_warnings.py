"""What the readers of a search that is over have to know of its result."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("searches", sa.Column("warnings", JSONB(), server_default=sa.text("'[]'"), nullable=False))
