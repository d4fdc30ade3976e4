"""The page of the tenant's API keys: creation, rotation, revocation."""

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
    "read": "view datasets, searches and results",
    "write": "upload, submit, control, export and delete",
    "manage": "manage keys, webhooks and the audit log",
    "metrics": "read /metrics, which covers all tenants",
    "admin": "manage quotas and keys of every tenant",
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
        # A key can only grant scopes that it has.
        scopes={scope: _MEANINGS[scope] for scope in SCOPES if scope in visitor.scopes},
        following=following(request, found.next_cursor),
    )


def _state(key: ApiKey, now: datetime) -> Literal["active", "replaced", "expired", "revoked"]:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active" if key.successor_id is None else "replaced"
