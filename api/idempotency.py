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

from api.problems import KeyInFlightError, KeyReusedError
from api.security import Tenant
from api.services import Service
from db import idempotency
from db.engine import transaction
from db.idempotency import Answer, Key


def answer(status: int, body: BaseModel, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status, {**(headers or {}), "Content-Type": "application/json"}, body.model_dump_json().encode())


class Once:
    """Runs what a POST does as one transaction; with a key, the same request again gets the first one's answer."""

    def __init__(self, engine: Engine, key: Key | None) -> None:
        self._engine = engine
        self._key = key

    def __call__(self, effect: Callable[[Session], Answer]) -> Response:
        """The answer of `effect`, or the stored one. Raises KeyInFlightError, KeyReusedError, and what `effect` raises."""
        with transaction(self._engine) as session:
            if self._key is None:
                return _response(effect(session))
            try:
                known = idempotency.claim(session, self._key)
            except idempotency.InFlightError as error:
                raise KeyInFlightError(
                    "wait for its answer, then send it again", headers={"Retry-After": "1"}
                ) from error
            except idempotency.MismatchError as error:
                raise KeyReusedError("use a new Idempotency-Key for a new request") from error
            if known is not None:
                return _response(known)
            given = effect(session)
            idempotency.keep(session, self._key, given)
        return _response(given)


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
    except ValueError:
        return body


def _response(given: Answer) -> Response:
    return Response(content=given.body, status_code=given.status, headers=dict(given.headers))
