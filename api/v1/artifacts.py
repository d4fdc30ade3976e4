"""Artifacts: what they are, and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from api import problems, ranges
from api.lookup import found_artifact
from api.schemas.artifacts import Artifact
from api.security import Tenant
from api.services import Db, Service
from db.engine import transaction
from db.tables import ArtifactRow

router = APIRouter(prefix="/artifacts", tags=["artifacts"])


def artifact(row: ArtifactRow) -> Artifact:
    """An artifact as the API shows it."""
    return Artifact(
        id=row.id,
        search_id=row.search_id,
        trial_id=row.trial_id,
        name=row.name,
        sha256=row.sha256,
        size=row.size,
        media_type=row.media_type,
        created_at=row.created_at,
    )


@router.get(
    "/{artifact_id}",
    operation_id="get_artifact",
    responses=problems.responses(problems.NotFoundError, problems.ArtifactNotReadyError),
)
def read(artifact_id: str, session: Db, tenant: Tenant) -> Artifact:
    """What is known of a file."""
    return artifact(found_artifact(session, tenant, artifact_id))


@router.get(
    "/{artifact_id}/content",
    operation_id="download_artifact",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The range that was asked for."},
        304: {"description": "The client has it."},
        **problems.responses(
            problems.NotFoundError,
            problems.ArtifactNotReadyError,
            problems.UnsatisfiableRangeError,
            problems.ArtifactDamagedError,
        ),
    },
)
@router.head("/{artifact_id}/content", include_in_schema=False)
def download(artifact_id: str, request: Request, tenant: Tenant, service: Service) -> Response:
    """The file, or one range of it. A whole download is verified: one that is damaged never arrives complete."""
    with transaction(service.engine) as session:
        row = found_artifact(session, tenant, artifact_id)
    etag = f'"{row.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": _disposition(row.name),
        "X-Content-Type-Options": "nosniff",
    }
    if ranges.not_modified(request.headers, etag):
        return Response(status_code=304, headers=headers)
    # Without this, a lost file would show only after the headers are sent.
    size = service.blobs.size(row.sha256)
    span = ranges.requested(request.headers, etag, size)
    headers |= span.headers
    status = 206 if span.partial else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=row.media_type)
    chunks = service.blobs.stream(row.sha256, span.start, span.end)
    return StreamingResponse(_begun(chunks), status, headers, media_type=row.media_type)


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks, the first one read now, so that damage in a small file is an error and no broken download."""
    first = next(chunks, b"")

    def resumed() -> Iterator[bytes]:
        yield first
        yield from chunks

    return resumed()


def _disposition(name: str) -> str:
    """As an attachment with the artifact's name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
