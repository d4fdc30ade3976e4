"""Authentication: the caller of a request, from its key or session."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import SecretStr
from sqlalchemy import Engine
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from paretofit.api.problems import UnauthorizedError
from paretofit.api.schemas.access import SCOPES, Scope
from paretofit.core.settings import Settings
from paretofit.db import keys, sessions
from paretofit.db.engine import transaction
from paretofit.db.tables import DEFAULT_TENANT

COOKIE: Final = "paretofit_session"
ALL: Final[frozenset[Scope]] = frozenset(SCOPES)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller of `tenant`. `actor` is `key:ID`, `bootstrap` or `local`."""

    tenant: str
    actor: str
    scopes: frozenset[Scope]
    by_cookie: bool = False
    key_id: str | None = None
    expires_at: datetime | None = None


LOCAL: Final = Principal(DEFAULT_TENANT, "local", ALL)
"""The caller of a service that is bound to loopback and requires no key."""


class Authenticator:
    """Authenticates requests. With a bootstrap key set, every request needs a key or a session; a key that is sent must
    be valid in any case."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._engine = engine
        key = settings.bootstrap_key
        self.bootstrap = None if key is None else _digest(key)

    def __call__(self, headers: Headers) -> Principal:
        """Raises UnauthorizedError, and OperationalError while the database is unavailable."""
        authorization = headers.get("authorization")
        return self.by_cookie(headers) if authorization is None else self._by_key(authorization)

    def by_cookie(self, headers: Headers) -> Principal:
        """The caller of a browser request, which carries no key. Raises what a call raises."""
        token = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        found = None if token is None else self._by_session(token)
        if found is not None:
            return found
        if self.bootstrap is None:
            return LOCAL
        raise _refused("no API key in the request: send it as `Authorization: Bearer KEY`")

    def _by_key(self, authorization: str) -> Principal:
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise _refused("no API key in the request: send it as `Authorization: Bearer KEY`")
        if self.bootstrap is not None and hmac.compare_digest(_digest(SecretStr(text)), self.bootstrap):
            return Principal(DEFAULT_TENANT, "bootstrap", ALL)
        parsed = keys.parse(text)
        if parsed is not None:
            with transaction(self._engine) as session:
                row = keys.find(session, parsed)
                if row is not None:
                    return Principal(
                        row.tenant_id,
                        f"key:{row.id}",
                        frozenset(row.scopes),
                        key_id=row.id,
                        expires_at=row.expires_at,
                    )
        raise _refused("the API key is unknown, revoked or expired: use another one")

    def _by_session(self, token: str) -> Principal | None:
        with transaction(self._engine) as session:
            found = sessions.find(session, token)
        if found is None:
            return None
        row, key = found
        if key is not None:
            return Principal(
                row.tenant_id,
                f"key:{key.id}",
                frozenset(key.scopes),
                by_cookie=True,
                key_id=key.id,
                expires_at=row.expires_at,
            )
        # A changed bootstrap key ends the session.
        if self.bootstrap is None or row.bootstrap is None or not hmac.compare_digest(row.bootstrap, self.bootstrap):
            return None
        return Principal(row.tenant_id, "bootstrap", ALL, by_cookie=True, expires_at=row.expires_at)


def _digest(key: SecretStr) -> bytes:
    return hashlib.sha256(key.get_secret_value().encode(errors="replace")).digest()


def _refused(detail: str) -> UnauthorizedError:
    return UnauthorizedError(detail, headers={"WWW-Authenticate": "Bearer"})
