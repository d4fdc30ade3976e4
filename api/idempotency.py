"""A POST is done at most once for each Idempotency-Key; its answer is stored in the transaction of its effect."""

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
    """An answer with a JSON body."""
    return StoredResponse(
        status, {**(headers or {}), "Content-Type": "application/json"}, body.model_dump_json().encode()
    )


class Once:
    """Runs what a POST does as one transaction; with a key, the same request again gets the first one's answer."""

    def __init__(self, engine: Engine, key: Key | None) -> None:
        self._engine = engine
        self._key = key

    def __call__(self, effect: Callable[[Session], StoredResponse]) -> Response:
        """The answer of `effect`, or the stored one. Raises KeyInFlightError, KeyReusedError, and what `effect`
        raises."""
        given, _ = self._done(effect, lambda answer: answer)
        return _response(given)

    def with_secret(self, effect: Callable[[Session], StoredResponse]) -> Response:
        """The answer of `effect`, which shows a secret and is not stored: of the same request again is told what the
        first one made, which its `Location` names. Raises ShownOnceError, and what a call raises."""
        given, is_stored = self._done(effect, lambda answer: StoredResponse(answer.status, answer.headers, b""))
        if is_stored:
            made = given.headers["Location"]
            raise ShownOnceError(
                f"it made {made}, whose secret was in its answer alone: if that is lost, delete what it made and use a "
                "new Idempotency-Key for another one",
                location=made,
            )
        return _response(given)

    def _done(
        self, effect: Callable[[Session], StoredResponse], kept: Callable[[StoredResponse], StoredResponse]
    ) -> tuple[StoredResponse, bool]:
        """What is stored for the key, and True; otherwise the answer of `effect`, of which `kept` is stored from now
        on."""
        with transaction(self._engine) as session:
            if self._key is None:
                return effect(session), False
            try:
                known = idempotency.claim(session, self._key)
            except idempotency.InFlightError as error:
                raise KeyInFlightError(
                    "wait for its answer, then send it again", headers={"Retry-After": "1"}
                ) from error
            except idempotency.MismatchError as error:
                raise KeyReusedError("use a new Idempotency-Key for a new request") from error
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
        Header(min_length=1, max_length=255, description="A name for this request: sent again, it is not done again."),
    ] = None,
) -> Once:
    if idempotency_key is None:
        return Once(service.engine, None)
    digest = hashlib.sha256(_canonical(await request.body())).hexdigest()
    route = f"{request.method} {request.url.path}"
    return Once(service.engine, Key(tenant, route, idempotency_key, digest))


IdempotentOnce = Annotated[Once, Depends(_once)]


def _canonical(body: bytes) -> bytes:
    """The same bytes for the same JSON."""
    try:
        return json.dumps(json.loads(body), sort_keys=True).encode()
    # The latter for brackets within brackets without end.
    except (ValueError, RecursionError):
        return body


def _response(given: StoredResponse) -> Response:
    return Response(content=given.body, status_code=given.status, headers=dict(given.headers))
