"""Browser sessions: the key is sent once, a cookie from then on."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from paretofit.api import problems
from paretofit.api.access import requires
from paretofit.api.principal import COOKIE, Principal
from paretofit.api.schemas.access import SCOPES
from paretofit.api.schemas.access import Caller as CallerSchema
from paretofit.api.security import Caller
from paretofit.api.services import Db, Service
from paretofit.db import sessions

router = APIRouter(prefix="/session", tags=["access"])


@router.post("", dependencies=[requires()], operation_id="sign_in", status_code=201, responses=problems.responses())
def sign_in(caller: Caller, request: Request, response: Response, service: Service, session: Db) -> CallerSchema:
    """Open a session with the key in `Authorization`. The response sets a cookie that scripts cannot read and other
    sites cannot send (HttpOnly, SameSite=Strict). Without authentication no cookie is set."""
    expires_at = caller.expires_at
    bootstrap = service.authenticate.bootstrap if caller.actor == "bootstrap" else None
    if not caller.by_cookie and (caller.key_id is not None or bootstrap is not None):
        token, ends = sessions.begin(
            session,
            caller.tenant,
            key_id=caller.key_id,
            bootstrap=bootstrap,
            seconds=service.settings.session_seconds,
        )
        expires_at = ends if expires_at is None else min(ends, expires_at)
        response.set_cookie(
            COOKIE,
            token,
            max_age=int(service.settings.session_seconds),
            path="/",
            secure=request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://"),
            httponly=True,
            samesite="strict",
        )
    return _shown(caller).model_copy(update={"expires_at": expires_at})


@router.get("", dependencies=[requires()], operation_id="get_caller", responses=problems.responses())
def read(caller: Caller) -> CallerSchema:
    """Get the authenticated caller."""
    return _shown(caller)


@router.delete("", dependencies=[requires()], operation_id="sign_out", status_code=204, responses=problems.responses())
def sign_out(request: Request, response: Response, session: Db) -> None:
    """Close the session of the cookie."""
    token = request.cookies.get(COOKIE)
    if token is not None:
        sessions.end(session, token)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def _shown(caller: Principal) -> CallerSchema:
    return CallerSchema(
        tenant=caller.tenant,
        actor=caller.actor,
        scopes=[scope for scope in SCOPES if scope in caller.scopes],
        expires_at=caller.expires_at,
    )
