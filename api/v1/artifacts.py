"""Artifacts: metadata and content."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from paretofit.api import downloads, problems
from paretofit.api.access import requires
from paretofit.api.lookup import found_artifact
from paretofit.api.schemas.artifacts import Artifact
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service
from paretofit.db.engine import transaction
from paretofit.db.tables import ArtifactRow

router = APIRouter(prefix="/artifacts", tags=["artifacts"])


def artifact(row: ArtifactRow) -> Artifact:
    """An artifact as a response."""
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
    dependencies=[requires("read")],
    operation_id="get_artifact",
    responses=problems.responses(problems.NotFoundError, problems.ArtifactNotReadyError),
)
def read(artifact_id: str, session: Db, tenant: Tenant) -> Artifact:
    """Get the metadata of an artifact."""
    return artifact(found_artifact(session, tenant, artifact_id))


@router.get(
    "/{artifact_id}/content",
    dependencies=[requires("read")],
    operation_id="download_artifact",
    response_class=StreamingResponse,
    responses={
        **downloads.RESPONSES,
        **problems.responses(
            problems.NotFoundError,
            problems.ArtifactNotReadyError,
            problems.UnsatisfiableRangeError,
            problems.ArtifactDamagedError,
        ),
    },
)
@router.head("/{artifact_id}/content", dependencies=[requires("read")], include_in_schema=False)
def download(artifact_id: str, request: Request, tenant: Tenant, service: Service) -> Response:
    """Download the file, or one range of it. A full download is verified: a corrupt file never arrives complete."""
    with transaction(service.engine) as session:
        row = found_artifact(session, tenant, artifact_id)
    return downloads.content(request, service.blobs, row.sha256, name=row.name, media_type=row.media_type)
