"""A POST runs at most once per Idempotency-Key; its response is stored in the transaction of its effect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from paretofit.api.problems import KeyInFlightError, KeyReusedError, ShownOnceError
from paretofit.api.security import Tenant
from paretofit.api.services import Service
from paretofit.db import idempotency
from paretofit.db.engine import transaction
from paretofit.db.idempotency import Key, StoredResponse


def answer(status: int, body: BaseModel, headers: Mapping[str, str] | None = None) -> StoredResponse:
    """A response with a JSON body."""
    return StoredResponse(
        status, {**(headers or {}), "Content-Type": "application/json"}, body.model_dump_json().encode()
    )


class Once:
    """Runs the effect of a POST in one transaction; with a key, a retry gets the response of the first request."""

    def __init__(self, engine: Engine, key: Key | None) -> None:
        self._engine = engine
        self._key = key

    def __call__(self, effect: Callable[[Session], StoredResponse]) -> Response:
        """The response of `effect`, or the stored one. Raises KeyInFlightError, KeyReusedError, and what `effect`
        raises."""
        given, _ = self._done(effect, lambda answer: answer)
        return _response(given)

    def with_secret(self, effect: Callable[[Session], StoredResponse]) -> Response:
        """The response of `effect`, which contains a secret and is not stored: a retry names the resource of the first
        request by its `Location`. Raises ShownOnceError, and what a call raises."""
        given, is_stored = self._done(effect, lambda answer: StoredResponse(answer.status, answer.headers, b""))
        if is_stored:
            made = given.headers["Location"]
            raise ShownOnceError(
                f"{made} was created, and only the first response has its secret: if that is lost, delete the "
                "resource and create another with a new Idempotency-Key",
                location=made,
            )
        return _response(given)

    def _done(
        self, effect: Callable[[Session], StoredResponse], kept: Callable[[StoredResponse], StoredResponse]
    ) -> tuple[StoredResponse, bool]:
        """The response stored for the key, and True; otherwise the response of `effect`, of which `kept` is stored."""
        with transaction(self._engine) as session:
            if self._key is None:
                return effect(session), False
            try:
                known = idempotency.claim(session, self._key)
            except idempotency.InFlightError as error:
                raise KeyInFlightError(
                    "the first request with this key has not finished: wait, then retry", headers={"Retry-After": "1"}
                ) from error
            except idempotency.MismatchError as error:
                raise KeyReusedError(
                    "the key was used with a different body: use a new Idempotency-Key for a new request"
                ) from error
            if known is not None:
                return known, True
            given = effect(session)
            idempotency.keep(session, self._key, kept(given))
        return given, False


async def _once(
    request: Request,
    service: Service,
    tenant: Tenant,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="A unique key of this request: a retry with the same key does not run it again.",
        ),
    ] = None,
) -> Once:
    if idempotency_key is None:
        return Once(service.engine, None)
    digest = hashlib.sha256(_canonical(await request.body())).hexdigest()
    route = f"{request.method} {request.url.path}"
    return Once(service.engine, Key(tenant, route, idempotency_key, digest))


IdempotentOnce = Annotated[Once, Depends(_once)]


def _canonical(body: bytes) -> bytes:
    """Canonical bytes of a JSON document."""
    try:
        return json.dumps(json.loads(body), sort_keys=True).encode()
    # RecursionError: for deeply nested brackets.
    except (ValueError, RecursionError):
        return body


def _response(given: StoredResponse) -> Response:
    return Response(content=given.body, status_code=given.status, headers=dict(given.headers))
