"""The tenant's API keys, where they are made, rotated and revoked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from fastapi import Query, Request, Response

from paretofit.api.pages.page_auth import Manager
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import following, page_router
from paretofit.api.schemas.access import SCOPES, ApiKey
from paretofit.api.services import Db
from paretofit.api.v1 import keys as api

router = page_router()
_LISTED: Final = 50
_MEANINGS: Final = {
    "read": "see datasets, searches and results",
    "write": "change them: upload, submit, steer, export, delete",
    "manage": "keys, webhooks and the audit log",
    "metrics": "/metrics, of all tenants together",
    "admin": "every tenant's quotas and keys",
}


@router.get("/keys")
def read(
    request: Request, session: Db, visitor: Manager, cursor: Annotated[str | None, Query(max_length=500)] = None
) -> Response:
    """The keys, newest first."""
    found = api.read_list(session, visitor.tenant, limit=_LISTED, cursor=cursor)
    now = datetime.now(UTC)
    return page(
        "keys.html",
        here="keys",
        visitor=visitor,
        keys=[(key, _state(key, now)) for key in found.data],
        # A key grants no scope that it does not have.
        scopes={scope: _MEANINGS[scope] for scope in SCOPES if scope in visitor.scopes},
        following=following(request, found.next_cursor),
    )


def _state(key: ApiKey, now: datetime) -> Literal["active", "replaced", "expired", "revoked"]:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active" if key.successor_id is None else "replaced"
