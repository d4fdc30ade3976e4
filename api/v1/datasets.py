"""Datasets: creation and upload; workers validate them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from paretofit.api import paging, problems, quotas, sources
from paretofit.api.access import requires
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.lookup import found_dataset
from paretofit.api.receiving import Receiver
from paretofit.api.schemas.datasets import Dataset, DatasetState
from paretofit.api.schemas.pages import Page
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service, Services
from paretofit.db import datasets
from paretofit.db.engine import transaction
from paretofit.db.idempotency import StoredResponse
from paretofit.db.jobs import DATASETS
from paretofit.db.tables import DatasetRow
from paretofit.search.contracts.dataset import DatasetSpec

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.post(
    "",
    dependencies=[requires("write")],
    operation_id="create_dataset",
    status_code=201,
    response_model=Dataset,
    responses=problems.responses(problems.QuotaExceededError, problems.KeyInFlightError, problems.KeyReusedError),
)
def create(spec: DatasetSpec, tenant: Tenant, service: Service, once: IdempotentOnce) -> Response:
    """Create a dataset. Uploads stay `pending` until their content is received; other sources are validated
    immediately."""
    sources.check_source(spec, tenant, service.settings)

    def effect(session: Session) -> StoredResponse:
        quotas.admit_bytes(session, tenant, service.settings, more=0)
        fields = spec.model_dump(mode="json")
        row = datasets.insert(session, tenant, name=fields.pop("name"), source=fields.pop("source"), options=fields)
        return answer(201, _dataset(row, service), {"Location": f"/v1/datasets/{row.id}"})

    return once(effect)


@router.get("", dependencies=[requires("read")], operation_id="list_datasets", responses=problems.responses())
def read_list(
    session: Db,
    tenant: Tenant,
    service: Service,
    state: Annotated[DatasetState | None, Query()] = None,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
) -> Page[Dataset]:
    """List datasets, newest first."""
    rows = datasets.page(session, tenant, state=state, after=paging.keyset(cursor), limit=limit + 1)
    return paging.newest_first(rows, limit, lambda row: _dataset(row, service, report=None))


@router.get(
    "/{dataset_id}",
    dependencies=[requires("read")],
    operation_id="get_dataset",
    responses=problems.responses(problems.NotFoundError),
)
def read(dataset_id: str, session: Db, tenant: Tenant, service: Service) -> Dataset:
    """Get a dataset with its state and validation report."""
    return _dataset(found_dataset(session, tenant, dataset_id), service)


@router.put(
    "/{dataset_id}/content",
    dependencies=[requires("write")],
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
        str | None, Header(description="`bytes FIRST-LAST/TOTAL`: continues an upload at `uploaded_bytes`.")
    ] = None,
) -> Dataset:
    """Upload the archive (zip or tar) as the body, whole or from where an earlier request was interrupted."""
    receiver = Receiver(service, DATASETS, tenant, dataset_id, path="/v1/datasets")
    await receiver.receive(request, content_range)
    return await run_in_threadpool(_current, service, tenant, dataset_id)


@router.delete(
    "/{dataset_id}",
    dependencies=[requires("write")],
    operation_id="delete_dataset",
    status_code=204,
    responses=problems.responses(problems.NotFoundError, problems.DatasetInUseError),
)
def delete(dataset_id: str, tenant: Tenant, service: Service) -> None:
    """Delete a dataset that no search uses."""
    used = problems.DatasetInUseError("searches use this dataset: delete them first")
    try:
        with transaction(service.engine) as session:
            found_dataset(session, tenant, dataset_id)
            if not datasets.delete(session, tenant, dataset_id):
                raise used
    except IntegrityError as error:
        raise used from error
    service.uploads.discard(dataset_id)


def _current(service: Services, tenant: str, dataset_id: str) -> Dataset:
    with transaction(service.engine) as session:
        return _dataset(found_dataset(session, tenant, dataset_id), service)


def _dataset(row: DatasetRow, service: Services, **others: Any) -> Dataset:
    """A dataset as a response, with the given values replaced."""
    # During an upload the file is more recent than the row, which is written when a request ends.
    arrived = service.uploads.arrived(row.id) if row.state == "uploading" else row.uploaded_bytes
    others = {"uploaded_bytes": arrived, **others}
    fields = {name: getattr(row, name) for name in Dataset.model_fields if name not in others}
    return Dataset.model_validate(fields | others)
