"""The tenant's audit log."""

from __future__ import annotations

from fastapi import APIRouter

from paretofit.api import paging, problems
from paretofit.api.access import requires
from paretofit.api.schemas.access import AuditEntry
from paretofit.api.schemas.pages import Page
from paretofit.api.security import Tenant
from paretofit.api.services import Db
from paretofit.db import audit

router = APIRouter(prefix="/audit", tags=["access"])


@router.get("", dependencies=[requires("manage")], operation_id="list_audit_entries", responses=problems.responses())
def read_list(session: Db, tenant: Tenant, limit: paging.Limit = 50, cursor: paging.Cursor = None) -> Page[AuditEntry]:
    """List mutating requests, newest first: who sent them and how they ended."""
    before = None if cursor is None else paging.position(cursor, start=0)
    rows = audit.page(session, tenant, before=before, limit=limit + 1)
    return paging.numbered(
        rows,
        limit,
        lambda row: row.id,
        lambda row: AuditEntry.model_validate({name: getattr(row, name) for name in AuditEntry.model_fields}),
    )
