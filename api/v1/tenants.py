"""Tenants, their quotas and their usage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from paretofit.api import paging, problems, quotas
from paretofit.api.access import requires
from paretofit.api.schemas.access import NewQuota, TenantId, TenantQuota, TenantUsage
from paretofit.api.schemas.pages import Page
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service
from paretofit.db import tenants
from paretofit.db.tables import TenantRow
from paretofit.db.tenants import Quota

router = APIRouter(tags=["access"])


@router.get("/usage", dependencies=[requires("read")], operation_id="get_usage", responses=problems.responses())
def usage(session: Db, tenant: Tenant, service: Service) -> TenantUsage:
    """Get the usage and quotas of the caller's tenant."""
    quota = tenants.quota(session, tenant, quotas.default(service.settings))
    used = tenants.used(session, tenant)
    return TenantUsage(
        tenant=tenant,
        searches=used.searches,
        max_searches=quota.max_searches,
        device_seconds=used.device_seconds,
        max_device_seconds=quota.max_device_seconds,
        stored_bytes=used.stored_bytes,
        max_stored_bytes=quota.max_stored_bytes,
    )


@router.get("/tenants", dependencies=[requires("admin")], operation_id="list_tenants", responses=problems.responses())
def read_list(
    session: Db,
    limit: paging.Limit = 50,
    cursor: Annotated[TenantId | None, Query(description="The `next_cursor` of the previous page.")] = None,
) -> Page[TenantQuota]:
    """List every tenant that has ever had a key or a quota, by id."""
    rows = tenants.page(session, after=cursor or "", limit=limit + 1)
    shown, more = rows[:limit], len(rows) > limit
    return Page(data=[_quota(row) for row in shown], has_more=more, next_cursor=shown[-1].id if more else None)


@router.put(
    "/tenants/{tenant_id}",
    dependencies=[requires("admin")],
    operation_id="set_tenant_quota",
    responses=problems.responses(),
)
def change(tenant_id: Annotated[TenantId, Path()], quota: NewQuota, session: Db) -> TenantQuota:
    """Set the quotas of a tenant. An unknown tenant is created."""
    own = Quota(quota.max_searches, quota.max_device_seconds, quota.max_stored_bytes)
    return _quota(tenants.set_quota(session, tenant_id, own))


def _quota(row: TenantRow) -> TenantQuota:
    return TenantQuota.model_validate({name: getattr(row, name) for name in TenantQuota.model_fields})
