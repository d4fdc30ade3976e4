"""A running API that requires keys, and keys of its tenants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine

from paretofit.api.principal import COOKIE
from paretofit.db.engine import connect
from tests.api.process import Api, running

BOOTSTRAP = "bootstrap-0123456789abcdef0123456789"


@dataclass(frozen=True, slots=True)
class KeyedApi:
    """An API that requires a key, and its database."""

    api: Api
    engine: Engine

    def send(self, method: str, path: str, key: str | None = BOOTSTRAP, **options: Any) -> httpx.Response:
        """Send a request with this key, if any, and without a session unless `headers` has one."""
        authorization = {"Authorization": f"Bearer {key}"} if key is not None else {}
        response = self.api.http.request(method, path, headers=authorization | options.pop("headers", {}), **options)
        self.api.http.cookies.clear()
        return response

    def issue(self, *scopes: str, **fields: object) -> str:
        """Issue a key. Returns its secret."""
        return str(self.issued(scopes, **fields)["key"])

    def issued(self, scopes: Sequence[str], **fields: object) -> dict[str, Any]:
        """Issue a key. Returns its document."""
        response = self.send("POST", "/v1/api-keys", json={"name": "test", "scopes": list(scopes), **fields})
        assert response.status_code == 201, response.text
        document: dict[str, Any] = response.json()
        return document

    def sign_in(self, key: str) -> dict[str, str]:
        """Start a session with a key. Returns the headers that a browser sends from then on."""
        token = self.send("POST", "/v1/session", key).cookies[COOKIE]
        return {"Cookie": f"{COOKIE}={token}"}


@contextmanager
def keyed_api(home: Path, database_url: str, redis_url: str, **variables: str) -> Iterator[KeyedApi]:
    """An API with a bootstrap key, on loopback."""
    engine = connect(database_url)
    try:
        with running(home, database_url, redis_url, None, PARETOFIT_BOOTSTRAP_KEY=BOOTSTRAP, **variables) as api:
            yield KeyedApi(api, engine)
    finally:
        engine.dispose()
