"""Quotas of tenants, enforced by the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.orm import Session

from paretofit.api.problems import QuotaExceededError
from paretofit.core.settings import Settings
from paretofit.db import tenants
from paretofit.db.tenants import Quota, QuotaError

_RETRY_SECONDS: Final = "60"
_REMEDY: Final = {
    "max_searches": "wait for a search to end, or cancel one",
    "max_device_seconds": "wait: device time older than 30 days does not count",
    "max_stored_bytes": "delete datasets, weights or searches that you no longer need",
}


def default(settings: Settings) -> Quota:
    """The default quotas of a tenant."""
    return Quota(settings.max_searches, settings.max_device_seconds, settings.max_stored_bytes)


def admit_search(session: Session, tenant: str, settings: Settings) -> None:
    """Call in the transaction that inserts a search. Raises QuotaExceededError."""
    with _refusing():
        tenants.admit_search(session, tenant, default(settings))


def admit_bytes(session: Session, tenant: str, settings: Settings, *, more: int) -> None:
    """Call in the transaction that references `more` bytes of files. Raises QuotaExceededError."""
    with _refusing():
        tenants.admit_bytes(session, tenant, default(settings), more=more)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except QuotaError as error:
        raise QuotaExceededError(
            f"{error}: {_REMEDY[error.name]}",
            headers={"Retry-After": _RETRY_SECONDS},
            quota=error.name,
            used=error.used,
            limit=error.limit,
        ) from error
