from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, create_engine, text

from paretofit.db import migrate
from paretofit.db.tables import Base

CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'alembic_version'
    UNION ALL
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    ORDER BY 1, 2, 3
"""


@pytest.fixture
def empty_url(engine: Engine, database_url: str) -> str:
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return database_url


def test_migrations_create_the_tables_of_the_code(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    assert migrate.current(engine) == migrate.head()


def test_migrations_create_the_checks_and_indexes_of_the_code(engine: Engine) -> None:
    with engine.begin() as connection:
        migrated = connection.execute(text(CONSTRAINTS)).all()
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        Base.metadata.create_all(connection)
        assert connection.execute(text(CONSTRAINTS)).all() == migrated


def test_concurrent_upgrades_are_serialized(empty_url: str) -> None:
    reached: list[str] = []
    threads = [threading.Thread(target=lambda: reached.append(migrate.upgrade(empty_url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reached == [migrate.head()] * 4


def test_command_migrates_from_any_directory(empty_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "paretofit.db.migrate"],
        env=os.environ | {"DATABASE_URL": empty_url},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert migrate.head() in done.stdout
    engine = create_engine(empty_url)
    assert migrate.current(engine) == migrate.head()
    engine.dispose()


def test_empty_database_has_no_revision(empty_url: str) -> None:
    engine = create_engine(empty_url)
    assert migrate.current(engine) is None
    engine.dispose()
