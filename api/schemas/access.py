"""API keys, sessions, tenants and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, get_args

from pydantic import Field

from paretofit.api.schemas.base import Request, Response

Scope = Literal["read", "write", "manage", "metrics", "admin"]
"""read: view searches, datasets and results; write: change them; manage: the tenant's keys, webhooks and audit log;
metrics: /metrics; admin: every tenant's quotas and keys."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
TenantId = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Lower-case letters, digits, - and _.")
]


class NewApiKey(Request):
    """A new API key."""

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(default=["read", "write"], min_length=1, max_length=len(SCOPES))
    expires_in_seconds: int | None = Field(
        default=None, ge=1, le=10 * 366 * 24 * 3600, description="Unset: it does not expire."
    )
    tenant: TenantId | None = Field(
        default=None, description="Unset: the caller's own. Another tenant requires the scope `admin`."
    )


class Rotation(Request):
    """Options of a key rotation."""

    overlap_seconds: int = Field(
        default=24 * 3600, ge=0, le=30 * 24 * 3600, description="How long the old key stays valid."
    )
    expires_in_seconds: int | None = Field(
        default=None,
        ge=1,
        le=10 * 366 * 24 * 3600,
        description="Lifetime of the new key, s; unset: no expiry.",
    )


class ApiKey(Response):
    """An API key without its secret."""

    id: str
    tenant: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None = Field(description="When it was last used, to the minute.")
    successor_id: str | None = Field(description="The key that replaced it in a rotation.")


class IssuedApiKey(ApiKey):
    """A new API key. `key` is shown only once."""

    key: str


class Caller(Response):
    """The authenticated caller."""

    tenant: str
    actor: str = Field(description="`key:ID`, `bootstrap`, or `local` where no key is required.")
    scopes: list[Scope]
    expires_at: datetime | None = Field(description="When the session or key ends.")


class NewQuota(Request):
    """A tenant's quotas. Unset: the defaults from the settings."""

    max_searches: int | None = Field(default=None, ge=0, le=2**31 - 1, description="Searches that have not finished.")
    max_device_seconds: float | None = Field(default=None, ge=0, description="Device time within 30 days.")
    max_stored_bytes: int | None = Field(default=None, ge=0, le=2**63 - 1, description="Total size of its files.")


class TenantQuota(Response):
    """A tenant and its own quotas; null: the default from the settings."""

    id: str
    created_at: datetime
    max_searches: int | None
    max_device_seconds: float | None
    max_stored_bytes: int | None


class TenantUsage(Response):
    """A tenant's usage and the quotas that apply to it (null: unlimited)."""

    tenant: str
    searches: int
    max_searches: int | None
    device_seconds: float
    max_device_seconds: float | None
    stored_bytes: int
    max_stored_bytes: int | None


class AuditEntry(Response):
    """A mutating request and its status."""

    id: int
    at: datetime
    actor: str
    method: str
    path: str
    status: int
    request_id: str
    address: str | None
