"""Datasets: created, uploaded, validated elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from api import paging, problems, quotas, sources
from api.idempotency import IdempotentOnce, answer
from api.schemas.datasets import Dataset, DatasetState
from api.schemas.pages import Page
from api.security import Tenant
from api.services import Db, Service, Services
from api.uploads import Part
from db import datasets, publication
from db.engine import transaction
from db.idempotency import Answer
from db.tables import DatasetRow
from search.spec import DatasetSpec

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.post(
    "",
    operation_id="create_dataset",
    status_code=201,
    response_model=Dataset,
    responses=problems.responses(problems.QuotaExceededError, problems.KeyInFlightError, problems.KeyReusedError),
)
def create(spec: DatasetSpec, tenant: Tenant, service: Service, once: IdempotentOnce) -> Response:
    """Create a dataset. An uploaded one waits for its content; any other is validated at once."""
    sources.check_source(spec, tenant, service.settings)

    def effect(session: Session) -> Answer:
        quotas.admit_bytes(session, tenant, service.settings, more=0)
        fields = spec.model_dump(mode="json")
        row = datasets.insert(session, tenant, name=fields.pop("name"), source=fields.pop("source"), options=fields)
        return answer(201, _dataset(row, service), {"Location": f"/v1/datasets/{row.id}"})

    return once(effect)


@router.get("", operation_id="list_datasets", responses=problems.responses())
def read_list(
    session: Db,
    tenant: Tenant,
    service: Service,
    state: Annotated[DatasetState | None, Query()] = None,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
) -> Page[Dataset]:
    """The datasets, newest first."""
    rows = datasets.page(session, tenant, state=state, after=paging.keyset(cursor), limit=limit + 1)
    return paging.newest_first(rows, limit, lambda row: _dataset(row, service, report=None))


@router.get("/{dataset_id}", operation_id="get_dataset", responses=problems.responses(problems.NotFoundError))
def read(dataset_id: str, session: Db, tenant: Tenant, service: Service) -> Dataset:
    """A dataset: its state, and what validation found."""
    return _dataset(_found(session, tenant, dataset_id), service)


@router.put(
    "/{dataset_id}/content",
    operation_id="upload_dataset",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
    responses=problems.responses(
        problems.NotFoundError,
        problems.BadRequestError,
        problems.NotUploadableError,
        problems.UploadInProgressError,
        problems.UploadOffsetError,
        problems.TooLargeError,
        problems.QuotaExceededError,
        problems.NoSpaceError,
    ),
)
async def upload(
    dataset_id: str,
    request: Request,
    tenant: Tenant,
    service: Service,
    content_range: Annotated[
        str | None, Header(description="`bytes FIRST-LAST/TOTAL`: where an upload goes on (`uploaded_bytes`).")
    ] = None,
) -> Dataset:
    """Send the archive (zip or tar) as the body, in whole or from where a former request was cut off."""
    part = Part.of(content_range, request.headers.get("content-length"))
    await run_in_threadpool(_current, service, tenant, dataset_id)
    async with service.uploads.writing(dataset_id) as file:
        try:
            await run_in_threadpool(_begin, service, tenant, dataset_id, part)
            await service.uploads.receive(file, part, request.stream())
        except (problems.ProblemError, ClientDisconnect) as error:
            if isinstance(error, problems.ProblemError):
                service.metrics.upload_refused(error.code)
            await run_in_threadpool(_keep, service, tenant, dataset_id)
            raise
        if part.last:
            return await run_in_threadpool(_finish, service, tenant, dataset_id)
        await run_in_threadpool(_keep, service, tenant, dataset_id)
    return await run_in_threadpool(_current, service, tenant, dataset_id)


@router.delete(
    "/{dataset_id}",
    operation_id="delete_dataset",
    status_code=204,
    responses=problems.responses(problems.NotFoundError, problems.DatasetInUseError),
)
def delete(dataset_id: str, tenant: Tenant, service: Service) -> None:
    """Remove a dataset that no search uses."""
    used = problems.DatasetInUseError("searches were made on it: delete them first")
    try:
        with transaction(service.engine) as session:
            _found(session, tenant, dataset_id)
            if not datasets.delete(session, tenant, dataset_id):
                raise used
    except IntegrityError as error:
        raise used from error
    service.uploads.discard(dataset_id)


def _begin(service: Services, tenant: str, dataset_id: str, part: Part) -> None:
    with transaction(service.engine) as session:
        row = _found(session, tenant, dataset_id)
        quotas.admit_bytes(session, tenant, service.settings, more=max((part.total or 0) - row.uploaded_bytes, 0))
        if row.source["kind"] != "upload":
            raise problems.NotUploadableError(
                f"its source is {row.source['kind']!r}: create a dataset with source {{'kind': 'upload'}} to send an archive"
            )
        if not datasets.start_upload(session, tenant, dataset_id):
            raise problems.NotUploadableError(
                f"its archive is complete (state {row.state}): create another dataset for another archive"
            )


def _keep(service: Services, tenant: str, dataset_id: str) -> None:
    """What has arrived counts from now on. Nothing of it stays, if it is more than the tenant may have: others were quicker,
    or nobody had said how much it is."""
    arrived = service.uploads.arrived(dataset_id)
    try:
        with transaction(service.engine) as session:
            row = datasets.get(session, tenant, dataset_id)
            if row is not None and arrived > row.uploaded_bytes:
                quotas.admit_bytes(session, tenant, service.settings, more=arrived - row.uploaded_bytes)
            datasets.keep_upload(session, tenant, dataset_id, arrived)
    except problems.QuotaExceededError:
        _discard(service, tenant, dataset_id)
        raise


def _discard(service: Services, tenant: str, dataset_id: str) -> None:
    service.uploads.discard(dataset_id)
    with transaction(service.engine) as session:
        datasets.keep_upload(session, tenant, dataset_id, 0)


def _finish(service: Services, tenant: str, dataset_id: str) -> Dataset:
    gone = problems.NotFoundError(f"dataset {dataset_id!r} was deleted meanwhile")
    # Before it is in the blob store, which would have it for a day. (Of nothing, the dataset would be as before.)
    if service.uploads.arrived(dataset_id):
        _keep(service, tenant, dataset_id)
    try:
        blob = service.blobs.put(service.uploads.path(dataset_id))
    except FileNotFoundError as error:
        raise gone from error
    with transaction(service.engine) as session:
        publication.confirm(session, service.blobs, [blob.sha256])
        if not datasets.finish_upload(session, tenant, dataset_id, sha256=blob.sha256, size=blob.size):
            raise gone
    service.uploads.discard(dataset_id)
    return _current(service, tenant, dataset_id)


def _current(service: Services, tenant: str, dataset_id: str) -> Dataset:
    with transaction(service.engine) as session:
        return _dataset(_found(session, tenant, dataset_id), service)


def _found(session: Session, tenant: str, dataset_id: str) -> DatasetRow:
    row = datasets.get(session, tenant, dataset_id)
    if row is None:
        raise problems.NotFoundError(f"no dataset {dataset_id!r}; GET /v1/datasets lists yours")
    return row


def _dataset(row: DatasetRow, service: Services, **others: Any) -> Dataset:
    """A dataset as the API shows it, with other values where some are named."""
    # While it is uploaded the file knows better than the row, which is written when a request ends.
    arrived = service.uploads.arrived(row.id) if row.state == "uploading" else row.uploaded_bytes
    others = {"uploaded_bytes": arrived, **others}
    fields = {name: getattr(row, name) for name in Dataset.model_fields if name not in others}
    return Dataset.model_validate(fields | others)
