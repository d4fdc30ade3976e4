"""API keys through the service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from api.schemas.access import ApiKey, Caller, IssuedApiKey, Scope
from paretofit.pages import items
from paretofit.transport import Transport


class Keys:
    """`client.keys`: those of the caller's tenant; all but `caller` needs the scope `manage`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def caller(self) -> Caller:
        """Whom the service takes this client for."""
        return Caller.model_validate_json(self._transport.request("GET", "/v1/session").content)

    def create(
        self, name: str, scopes: Sequence[Scope], *, expires_in_seconds: int | None = None, tenant: str | None = None
    ) -> IssuedApiKey:
        """Issue a key; `key` of the answer is shown this once. For another tenant the scope `admin` is needed."""
        body = {"name": name, "scopes": list(scopes), "expires_in_seconds": expires_in_seconds, "tenant": tenant}
        return IssuedApiKey.model_validate_json(self._transport.request("POST", "/v1/api-keys", json=body).content)

    def list(self) -> Iterator[ApiKey]:
        """The keys, newest first."""
        return items(self._transport, "/v1/api-keys", ApiKey)

    def rotate(self, key_id: str, *, overlap_seconds: int, expires_in_seconds: int | None = None) -> IssuedApiKey:
        """Issue a successor with the same name and scopes; the old key stays valid for the overlap."""
        body = {"overlap_seconds": overlap_seconds, "expires_in_seconds": expires_in_seconds}
        answer = self._transport.request("POST", f"/v1/api-keys/{key_id}/rotate", json=body)
        return IssuedApiKey.model_validate_json(answer.content)

    def revoke(self, key_id: str) -> None:
        """End a key at once."""
        self._transport.request("DELETE", f"/v1/api-keys/{key_id}")
