"""The dataset pages: the list with a form for new ones, and a dataset with its validation report."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session

from paretofit.api import sources
from paretofit.api.lookup import found_dataset
from paretofit.api.pages import fronts, samples
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import following, page_router
from paretofit.api.problems import NotFoundError
from paretofit.api.searches import majority
from paretofit.api.services import Db, Service
from paretofit.api.v1 import datasets as api
from paretofit.db import datasets
from paretofit.db.engine import transaction

router = page_router()
_LISTED: Final = 50
_WORKING: Final = frozenset({"uploading", "validating"})


@router.get("/datasets")
def read_list(
    request: Request,
    session: Db,
    visitor: Visitor,
    service: Service,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """The datasets, newest first."""
    found = api.read_list(session, visitor.tenant, service, limit=_LISTED, cursor=cursor)
    return page(
        "datasets.html",
        here="datasets",
        visitor=visitor,
        found=found,
        active=any(dataset.state in _WORKING for dataset in found.data),
        max_bytes=service.settings.max_upload_bytes,
        buckets=sources.opened(service.settings, visitor.tenant),
        following=following(request, found.next_cursor),
    )


@router.get("/datasets/{dataset_id}")
def read(
    dataset_id: str,
    session: Db,
    visitor: Visitor,
    service: Service,
    x: Annotated[str, Query(max_length=200)] = "macs",
) -> Response:
    """A dataset with its state, the best known networks for it, and its validation report."""
    dataset = api.read(dataset_id, session, visitor.tenant, service)
    row = datasets.get(session, visitor.tenant, dataset_id)
    shown = samples.draw(service.blobs, row.manifest) if row is not None and row.manifest else []
    return page(
        "dataset.html",
        here="datasets",
        visitor=visitor,
        dataset=dataset,
        active=dataset.state in {*_WORKING, "pending"},
        samples=shown,
        max_bytes=service.settings.max_upload_bytes,
        **_front(session, visitor.tenant, dataset_id, x),
    )


@router.get("/datasets/{dataset_id}/parts/front")
def read_front(
    dataset_id: str, session: Db, visitor: Visitor, x: Annotated[str, Query(max_length=200)] = "macs"
) -> Response:
    """The best known networks for a dataset, over any cost."""
    found_dataset(session, visitor.tenant, dataset_id)
    return page("parts/front.html", **_front(session, visitor.tenant, dataset_id, x))


@router.get("/datasets/{dataset_id}/samples/{row}")
def read_sample(dataset_id: str, row: int, visitor: Visitor, service: Service) -> Response:
    """An image of the training split, as stored (before augmentation)."""
    with transaction(service.engine) as session:
        found = datasets.get(session, visitor.tenant, dataset_id)
    if found is None or not found.manifest:
        raise NotFoundError(f"no ready dataset {dataset_id!r}: /datasets lists yours")
    content, media_type = samples.picture(service.blobs, found.manifest, row)
    return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=86400"})


def _front(session: Session, tenant: str, dataset_id: str, x: str) -> dict[str, Any]:
    joint = fronts.joint_of(session, tenant, dataset_id)
    drawn = fronts.draw_joint(joint, x, majority(session, dataset_id))
    part = fronts.context(
        drawn,
        part=f"/datasets/{dataset_id}/parts/front",
        heading="Best known for this data",
        empty="No network with a checkpoint has this cost yet.",
    )
    return {"has_networks": bool(joint.candidates), **part}
