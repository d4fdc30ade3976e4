"""Writes a search as an Optuna study."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from paretofit.client.errors import DigestMismatchError
from paretofit.client.transport import Transport

_SQLITE: Final = frozenset({".db", ".sqlite", ".sqlite3"})


async def write(transport: Transport, search_id: str, path: Path) -> Path:
    """Write the Optuna study of a search to `path`, replacing an existing file.

    The service returns an Optuna journal. For an SQLite suffix, Optuna converts it.
    Raises ImportError for SQLite without Optuna, and DigestMismatchError.
    """
    response = await transport.request("GET", f"/v1/searches/{search_id}/study")
    expected, actual = response.headers["ETag"].strip('"'), hashlib.sha256(response.content).hexdigest()
    if expected != actual:
        raise DigestMismatchError(expected, actual)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{actual[:16]}.part")
    try:
        write = _write_sqlite if is_sqlite(path) else Path.write_bytes
        await transport.offload(write, partial, response.content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def is_sqlite(path: Path) -> bool:
    """Whether the suffix of `path` selects SQLite."""
    return path.suffix.lower() in _SQLITE


def _write_sqlite(path: Path, journal: bytes) -> None:
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ImportError(
            "SQLite studies need Optuna; run `pip install optuna`, or name the file *.log to get an Optuna journal"
        ) from error
    source = path.with_name(path.name + ".log")
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        path.unlink(missing_ok=True)
        source.write_bytes(journal)
        storage = JournalStorage(JournalFileBackend(str(source)))
        [study] = storage.get_all_studies()
        target = optuna.storages.RDBStorage(f"sqlite:///{path}")
        optuna.copy_study(
            from_study_name=study.study_name, from_storage=storage, to_storage=target, to_study_name=study.study_name
        )
        target.engine.dispose()
    finally:
        optuna.logging.set_verbosity(verbosity)
        source.unlink(missing_ok=True)
