"""`client.keys`: API keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from paretofit.api.schemas.access import ApiKey, Caller, IssuedApiKey, Scope
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.pages import items


class Keys(Resource[M]):
    """API keys of the caller's tenant (`client.keys`). All methods but `caller` require the scope `manage`."""

    @method
    async def caller(self) -> Caller:
        """The tenant, actor and scopes of this client's key."""
        return await self._transport.read(Caller, "/v1/session")

    @method
    async def create(
        self, name: str, scopes: Sequence[Scope], *, expires_in_seconds: int | None = None, tenant: str | None = None
    ) -> IssuedApiKey:
        """Create a key. Its secret (`key` of the result) is returned only once.

        Args:
            name: Name of the key.
            scopes: Scopes of the key.
            expires_in_seconds: Lifetime; None means that it does not expire.
            tenant: Tenant of the key; default: the caller's. Another tenant requires the scope `admin`.
        """
        body = {"name": name, "scopes": list(scopes), "expires_in_seconds": expires_in_seconds, "tenant": tenant}
        response = await self._transport.request("POST", "/v1/api-keys", json=body)
        return IssuedApiKey.model_validate_json(response.content)

    @listing
    def list(self) -> AsyncIterator[ApiKey]:
        """List keys, newest first."""
        return items(self._transport, "/v1/api-keys", ApiKey)

    @method
    async def rotate(self, key_id: str, *, overlap_seconds: int, expires_in_seconds: int | None = None) -> IssuedApiKey:
        """Replace a key by a new one with the same name and scopes. The old key stays valid for `overlap_seconds`."""
        body = {"overlap_seconds": overlap_seconds, "expires_in_seconds": expires_in_seconds}
        response = await self._transport.request("POST", f"/v1/api-keys/{key_id}/rotate", json=body)
        return IssuedApiKey.model_validate_json(response.content)

    @method
    async def revoke(self, key_id: str) -> None:
        """Revoke a key immediately."""
        await self._transport.request("DELETE", f"/v1/api-keys/{key_id}")
