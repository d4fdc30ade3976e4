"""Pictures of a search: images among the files of its trials, and the scales of a ScaleNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from fastapi import Response
from sqlalchemy.orm import Session

from paretofit.api.fronts import Found
from paretofit.api.lookup import found_artifact
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.route import page_router
from paretofit.api.problems import NotFoundError
from paretofit.api.schemas.artifacts import Artifact
from paretofit.api.services import Db, Service
from paretofit.db import artifacts
from paretofit.db.tables import ArtifactRow, SearchRow
from paretofit.models.families.structures import SCALES, from_line

router = page_router()
_TYPES: Final = {".svg": "image/svg+xml", ".png": "image/png"}
_KINDS: Final = {
    "masks": "images, and where each layer computes (white)",
    "scales": "channels at each scale",
    "shape": "sizes over the training",
}
_LARGEST: Final = 4 * 1024**2
_SHOWN: Final = 24


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file of a trial."""

    id: str
    name: str
    title: str


def drawn(artifact: Artifact | ArtifactRow) -> Picture | None:
    """A file as a picture; None if it is not one."""
    path = PurePath(artifact.name)
    if path.suffix not in _TYPES or artifact.size > _LARGEST:
        return None
    key, kind = _key(artifact.name), path.stem.rpartition(".")[2]
    return Picture(artifact.id, artifact.name, f"{key}: {_KINDS.get(kind, kind)}" if key else kind)


def _key(name: str) -> str:
    """The key of the point of a file `KEY.KIND.SUFFIX`."""
    return PurePath(name).stem.rpartition(".")[0]


def of_search(session: Session, row: SearchRow, found: Found) -> dict[str, Any]:
    """`images` of the trials, and `scales`: the channels per block and scale of every network that has them."""
    images = artifacts.with_suffix(session, row.id, tuple(_TYPES), limit=_SHOWN)
    return {
        "images": [picture for picture in map(drawn, images) if picture is not None],
        "scales": _scales(found) if row.method == "scalenet" else [],
    }


def of_point(session: Session, trial_id: str, key: str) -> list[Picture]:
    """The pictures of a point."""
    files = artifacts.of_trial(session, trial_id)
    return [picture for file in files if _key(file.name) == key and (picture := drawn(file)) is not None]


@router.get("/artifacts/{artifact_id}/picture")
def read(artifact_id: str, session: Db, visitor: Visitor, service: Service) -> Response:
    """An image file for display. Opened as a document, it cannot run or load anything."""
    row = found_artifact(session, visitor.tenant, artifact_id)
    media_type = _TYPES.get(PurePath(row.name).suffix)
    if media_type is None or row.size > _LARGEST:
        raise NotFoundError(f"{row.name} is not a picture: download it from /v1/artifacts/{artifact_id}/content")
    headers = {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        "Cache-Control": "private, max-age=86400",
    }
    return Response(b"".join(service.blobs.stream(row.sha256)), media_type=media_type, headers=headers)


def _scales(found: Found) -> list[dict[str, Any]]:
    return [
        {
            "key": point.row.key,
            "id": point.row.id,
            "role": point.row.role,
            "blocks": [row[: len(SCALES)] for row in from_line(point.config["structure"])],
        }
        for point in (*found.candidates, *found.baselines)
        if "structure" in point.config
    ]
