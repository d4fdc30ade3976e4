"""API keys through the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from paretofit.api.schemas.access import ApiKey, Caller, IssuedApiKey, Scope
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.pages import items


class Keys(Resource[M]):
    """`client.keys`: those of the caller's tenant; all but `caller` needs the scope `manage`."""

    @method
    async def caller(self) -> Caller:
        """Whom the service takes this client for."""
        return await self._transport.read(Caller, "/v1/session")

    @method
    async def create(
        self, name: str, scopes: Sequence[Scope], *, expires_in_seconds: int | None = None, tenant: str | None = None
    ) -> IssuedApiKey:
        """Issue a key; `key` of the answer is shown this once. For another tenant the scope `admin` is needed."""
        body = {"name": name, "scopes": list(scopes), "expires_in_seconds": expires_in_seconds, "tenant": tenant}
        answer = await self._transport.request("POST", "/v1/api-keys", json=body)
        return IssuedApiKey.model_validate_json(answer.content)

    @listing
    def list(self) -> AsyncIterator[ApiKey]:
        """The keys, newest first."""
        return items(self._transport, "/v1/api-keys", ApiKey)

    @method
    async def rotate(self, key_id: str, *, overlap_seconds: int, expires_in_seconds: int | None = None) -> IssuedApiKey:
        """Issue a successor with the same name and scopes; the old key stays valid for the overlap."""
        body = {"overlap_seconds": overlap_seconds, "expires_in_seconds": expires_in_seconds}
        answer = await self._transport.request("POST", f"/v1/api-keys/{key_id}/rotate", json=body)
        return IssuedApiKey.model_validate_json(answer.content)

    @method
    async def revoke(self, key_id: str) -> None:
        """End a key at once."""
        await self._transport.request("DELETE", f"/v1/api-keys/{key_id}")
