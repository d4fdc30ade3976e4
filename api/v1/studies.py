"""Searches as Optuna studies."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from paretofit.api import problems, ranges, studies
from paretofit.api.access import requires
from paretofit.api.fronts import Found
from paretofit.api.lookup import found_search
from paretofit.api.security import Tenant
from paretofit.api.services import Db
from paretofit.db import points, trial_queries

router = APIRouter(prefix="/searches/{search_id}/study", tags=["searches"])
_MEDIA_TYPE: Final = "application/x-ndjson"


@router.get(
    "",
    dependencies=[requires("read")],
    operation_id="export_study",
    response_class=Response,
    responses={
        200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string"}}}},
        304: {"description": "Not modified."},
        **problems.responses(problems.NotFoundError),
    },
)
def read(search_id: str, request: Request, session: Db, tenant: Tenant) -> Response:
    """Download the search as an Optuna study: a journal file for `optuna.storages.JournalStorage` or
    `optuna-dashboard`. Each candidate is a trial with its objectives and parameters; its metrics and ids are user
    attributes. The ETag is the SHA-256 of the content."""
    row = found_search(session, tenant, search_id)
    found = Found(points.of_search(session, search_id), row.spec)
    content = "".join(studies.journal(row, found, trial_queries.of_search(session, search_id))).encode()
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row.id, safe='')}.log",
        "X-Content-Type-Options": "nosniff",
    }
    if ranges.not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_MEDIA_TYPE, headers=headers)
