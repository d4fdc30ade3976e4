"""API keys: issuing, listing, rotation, revocation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Response
from sqlalchemy.orm import Session

from paretofit.api import paging, problems
from paretofit.api.access import requires
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.principal import Principal
from paretofit.api.schemas.access import ApiKey, IssuedApiKey, NewApiKey, Rotation, Scope
from paretofit.api.schemas.pages import Page
from paretofit.api.security import Caller, Tenant
from paretofit.api.services import Db
from paretofit.db import keys
from paretofit.db.idempotency import StoredResponse
from paretofit.db.tables import ApiKeyRow

router = APIRouter(prefix="/api-keys", tags=["access"])


@router.post(
    "",
    dependencies=[requires("manage")],
    operation_id="create_api_key",
    status_code=201,
    response_model=IssuedApiKey,
    responses=problems.responses(problems.KeyInFlightError, problems.ShownOnceError, problems.KeyReusedError),
)
def create(body: NewApiKey, caller: Caller, once: IdempotentOnce) -> Response:
    """Create an API key. It is shown only once: a retry with the same `Idempotency-Key` returns 409 and creates no
    other key."""
    _check_grant(caller, body.scopes)
    tenant = body.tenant or caller.tenant
    if tenant != caller.tenant and "admin" not in caller.scopes:
        raise problems.ForbiddenError(
            "creating a key of another tenant requires the scope 'admin': use a key that has it", needed="admin"
        )

    def effect(session: Session) -> StoredResponse:
        expires_at = _in(body.expires_in_seconds)
        return _issued(keys.issue(session, tenant, name=body.name, scopes=body.scopes, expires_at=expires_at))

    return once.with_secret(effect)


@router.get("", dependencies=[requires("manage")], operation_id="list_api_keys", responses=problems.responses())
def read_list(session: Db, tenant: Tenant, limit: paging.Limit = 50, cursor: paging.Cursor = None) -> Page[ApiKey]:
    """List the API keys of the tenant, newest first."""
    rows = keys.page(session, tenant, after=paging.keyset(cursor), limit=limit + 1)
    return paging.newest_first(rows, limit, _key)


@router.get(
    "/{key_id}",
    dependencies=[requires("manage")],
    operation_id="get_api_key",
    responses=problems.responses(problems.NotFoundError),
)
def read(key_id: str, session: Db, tenant: Tenant) -> ApiKey:
    """Get an API key without its secret."""
    row = keys.get(session, tenant, key_id)
    if row is None:
        raise _unknown(key_id)
    return _key(row)


@router.post(
    "/{key_id}/rotate",
    dependencies=[requires("manage")],
    operation_id="rotate_api_key",
    status_code=201,
    response_model=IssuedApiKey,
    responses=problems.responses(
        problems.NotFoundError,
        problems.KeyNotUsableError,
        problems.KeyInFlightError,
        problems.ShownOnceError,
        problems.KeyReusedError,
    ),
)
def rotate(
    key_id: str, caller: Caller, once: IdempotentOnce, how: Annotated[Rotation | None, Body()] = None
) -> Response:
    """Replace a key by one with the same name and scopes, shown only once. Both are valid during the overlap."""
    how = how or Rotation()

    def effect(session: Session) -> StoredResponse:
        row = keys.get(session, caller.tenant, key_id)
        if row is None:
            raise _unknown(key_id)
        _check_grant(caller, row.scopes)
        overlap = timedelta(seconds=how.overlap_seconds)
        made = keys.rotate(session, row, overlap=overlap, expires_at=_in(how.expires_in_seconds))
        if made is None:
            raise problems.KeyNotUsableError(
                "the key was rotated, was revoked or has expired: rotate its successor, or create a new key"
            )
        return _issued(made)

    return once.with_secret(effect)


@router.delete(
    "/{key_id}",
    dependencies=[requires("manage")],
    operation_id="revoke_api_key",
    status_code=204,
    responses=problems.responses(problems.NotFoundError),
)
def revoke(key_id: str, session: Db, tenant: Tenant) -> None:
    """Revoke a key and its sessions immediately. It stays in the list."""
    if not keys.revoke(session, tenant, key_id):
        raise _unknown(key_id)


def _check_grant(caller: Principal, scopes: Sequence[Scope]) -> None:
    lacking = sorted(set(scopes) - caller.scopes)
    if lacking:
        raise problems.ForbiddenError(f"your key lacks {', '.join(lacking)}: grant only scopes that it has")


def _in(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)


def _unknown(key_id: str) -> problems.NotFoundError:
    return problems.NotFoundError(f"no API key {key_id!r}; GET /v1/api-keys lists yours")


def _key(row: ApiKeyRow) -> ApiKey:
    fields = {name: getattr(row, name) for name in ApiKey.model_fields if name != "tenant"}
    return ApiKey.model_validate({**fields, "tenant": row.tenant_id})


def _issued(made: keys.Issued) -> StoredResponse:
    shown = IssuedApiKey(**_key(made.row).model_dump(), key=made.text)
    return answer(201, shown, {"Location": f"/v1/api-keys/{made.row.id}"})
