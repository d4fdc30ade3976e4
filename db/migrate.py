"""Migrates the schema: `python -m paretofit.db.migrate` upgrades the database of DATABASE_URL."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from paretofit.core.settings import get_settings

_LOCK: Final = 0x5061_7265_746F


def upgrade(url: str) -> str:
    """Upgrade the database at `url` (postgresql+psycopg://...) to the latest migration and return its name.

    An advisory lock serializes concurrent upgrades; the migrations run in one transaction. Raises
    alembic.util.CommandError if the database is at a migration unknown to this version.
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return head()


def head() -> str:
    """The latest migration of this version."""
    name = ScriptDirectory.from_config(_config()).get_current_head()
    if name is None:
        raise RuntimeError("no migrations are installed beside db/migrate.py: reinstall Paretofit")
    return name


def current(engine: Engine) -> str | None:
    """The migration of a database; None if it is empty."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


if __name__ == "__main__":
    sys.stdout.write(f"database is at migration {upgrade(get_settings().sqlalchemy_url)}\n")
