"""Services with keys: a running API that wants them, and keys of its tenants."""

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
class Locked:
    """An API that wants a key, and its database."""

    api: Api
    engine: Engine

    def send(self, method: str, path: str, key: str | None = BOOTSTRAP, **options: Any) -> httpx.Response:
        """A request with this key, if any, and no session but one that `headers` name."""
        sent = {"Authorization": f"Bearer {key}"} if key is not None else {}
        answer = self.api.http.request(method, path, headers=sent | options.pop("headers", {}), **options)
        self.api.http.cookies.clear()
        return answer

    def issue(self, *scopes: str, **fields: object) -> str:
        """A new key."""
        return str(self.issued(scopes, **fields)["key"])

    def issued(self, scopes: Sequence[str], **fields: object) -> dict[str, Any]:
        """A new key, as the API answers."""
        answer = self.send("POST", "/v1/api-keys", json={"name": "test", "scopes": list(scopes), **fields})
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def sign_in(self, key: str) -> dict[str, str]:
        """A new session of a key: what a browser sends from then on."""
        token = self.send("POST", "/v1/session", key).cookies[COOKIE]
        return {"Cookie": f"{COOKIE}={token}"}


@contextmanager
def locked(home: Path, database_url: str, redis_url: str, **variables: str) -> Iterator[Locked]:
    """An API with a bootstrap key, on loopback."""
    engine = connect(database_url)
    try:
        with running(home, database_url, redis_url, None, PARETOFIT_BOOTSTRAP_KEY=BOOTSTRAP, **variables) as api:
            yield Locked(api, engine)
    finally:
        engine.dispose()
