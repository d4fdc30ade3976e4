"""Trained weights that searches start from: uploaded or fetched, and converted by a worker."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from paretofit.api import downloads, paging, problems, quotas
from paretofit.api.access import requires
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.receiving import Receiver
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.problems import FieldProblem
from paretofit.api.schemas.weights import Weights, WeightsSource, WeightsSourceList, WeightsState
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service, Services
from paretofit.core.settings import Settings
from paretofit.db import weights
from paretofit.db.engine import transaction
from paretofit.db.idempotency import StoredResponse
from paretofit.db.jobs import WEIGHTS
from paretofit.db.tables import WeightsRow
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.sources import SOURCES, check_commercial_use
from paretofit.search.contracts.weights import MAX_FILE_BYTES, NamedSource, WeightsSpec

router = APIRouter(prefix="/weights", tags=["weights"])
_MAX_HEADER: Final = 100_000_000
_LENGTH: Final = 8
_MEDIA_TYPE: Final = "application/octet-stream"


@router.post(
    "",
    dependencies=[requires("write")],
    operation_id="create_weights",
    status_code=201,
    response_model=Weights,
    responses=problems.responses(problems.QuotaExceededError, problems.KeyInFlightError, problems.KeyReusedError),
)
def create(spec: WeightsSpec, tenant: Tenant, service: Service, once: IdempotentOnce) -> Response:
    """Create trained weights. Uploads stay `pending` until their content is received; a named source is fetched and
    converted immediately."""
    _check_source(spec, service.settings)
    _check_licence(spec)

    def effect(session: Session) -> StoredResponse:
        quotas.admit_bytes(session, tenant, service.settings, more=0)
        source = spec.source.model_dump(mode="json")
        row = weights.insert(session, tenant, name=spec.name, source=source, options=spec.options)
        return answer(201, _weights(row, service), {"Location": f"/v1/weights/{row.id}"})

    return once(effect)


@router.get("", dependencies=[requires("read")], operation_id="list_weights", responses=problems.responses())
def read_list(
    session: Db,
    tenant: Tenant,
    service: Service,
    state: Annotated[WeightsState | None, Query()] = None,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
) -> Page[Weights]:
    """List trained weights, newest first."""
    rows = weights.page(session, tenant, state=state, after=paging.keyset(cursor), limit=limit + 1)
    return paging.newest_first(rows, limit, lambda row: _weights(row, service))


@router.get(
    "/sources", dependencies=[requires("read")], operation_id="list_weights_sources", responses=problems.responses()
)
def read_sources(service: Service) -> WeightsSourceList:
    """List the published weights that can be added by name."""
    return WeightsSourceList(
        data=[
            WeightsSource(
                name=name,
                family=source.family,
                width=source.width,
                licence=source.licence,
                title=source.title,
                enabled=service.settings.fetches_weights(name),
            )
            for name, source in SOURCES.items()
        ]
    )


@router.get(
    "/{weights_id}",
    dependencies=[requires("read")],
    operation_id="get_weights",
    responses=problems.responses(problems.NotFoundError),
)
def read(weights_id: str, session: Db, tenant: Tenant, service: Service) -> Weights:
    """Get trained weights with their state and the result of their conversion."""
    return _weights(_found(session, tenant, weights_id), service)


@router.put(
    "/{weights_id}/content",
    dependencies=[requires("write")],
    operation_id="upload_weights",
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
        problems.NotSafetensorsError,
        problems.QuotaExceededError,
        problems.NoSpaceError,
    ),
)
async def upload(
    weights_id: str,
    request: Request,
    tenant: Tenant,
    service: Service,
    content_range: Annotated[
        str | None, Header(description="`bytes FIRST-LAST/TOTAL`: continues an upload at `uploaded_bytes`.")
    ] = None,
) -> Weights:
    """Upload the safetensors file (at most 1 GiB) as the body, whole or from where an earlier request stopped."""
    receiver = Receiver(
        service,
        WEIGHTS,
        tenant,
        weights_id,
        path="/v1/weights",
        max_bytes=MAX_FILE_BYTES,
        check_head=check_safetensors,
    )
    await receiver.receive(request, content_range)
    return await run_in_threadpool(_current, service, tenant, weights_id)


@router.get(
    "/{weights_id}/content",
    dependencies=[requires("read")],
    operation_id="download_weights",
    response_class=StreamingResponse,
    responses={
        **downloads.RESPONSES,
        **problems.responses(
            problems.NotFoundError,
            problems.WeightsNotReadyError,
            problems.UnsatisfiableRangeError,
            problems.ArtifactDamagedError,
        ),
    },
)
@router.head("/{weights_id}/content", dependencies=[requires("read")], include_in_schema=False)
def download(weights_id: str, request: Request, tenant: Tenant, service: Service) -> Response:
    """Download the converted file (safetensors), or one range of it."""
    with transaction(service.engine) as session:
        row = _found(session, tenant, weights_id)
    if row.sha256 is None:
        raise problems.WeightsNotReadyError(
            f"the weights are {row.state}: GET /v1/weights/{weights_id} shows their progress"
        )
    return downloads.content(request, service.blobs, row.sha256, name=f"{row.name}.safetensors", media_type=_MEDIA_TYPE)


@router.delete(
    "/{weights_id}",
    dependencies=[requires("write")],
    operation_id="delete_weights",
    status_code=204,
    responses=problems.responses(problems.NotFoundError),
)
def delete(weights_id: str, tenant: Tenant, service: Service) -> None:
    """Delete trained weights. Searches submitted with them keep a copy."""
    with transaction(service.engine) as session:
        _found(session, tenant, weights_id)
        weights.delete(session, tenant, weights_id)
    service.uploads.discard(weights_id)


def check_safetensors(head: bytes) -> None:
    """Refuse content whose first bytes cannot begin a safetensors file. Raises NotSafetensorsError."""
    length = int.from_bytes(head[:_LENGTH], "little")
    if len(head) > _LENGTH and head[_LENGTH:].startswith(b"{") and 2 <= length <= _MAX_HEADER:
        return
    # A zip archive (torch.save since 1.6), or a pickle.
    is_pickle = head.startswith((b"PK", b"\x80"))
    found = (
        "the file is a PyTorch file, which can run code when loaded"
        if is_pickle
        else "the safetensors header is invalid"
    )
    raise problems.NotSafetensorsError(
        f"{found}: upload a safetensors file, or run `paretofit weights add FILE`, which converts a PyTorch file on "
        "your computer"
    )


def _check_source(spec: WeightsSpec, settings: Settings) -> None:
    if not isinstance(spec.source, NamedSource):
        return
    name = spec.source.name
    enabled = [known for known in SOURCES if settings.fetches_weights(known)]
    if name not in SOURCES:
        detail = f"no source {name!r}: choose one of {', '.join(enabled)}" if enabled else f"no source {name!r}"
    elif name not in enabled:
        detail = (
            f"the operator of this service has disabled {name!r} (PARETOFIT_WEIGHTS_SOURCES): upload a file instead"
        )
    else:
        return
    raise problems.InvalidError(detail, errors=[FieldProblem(pointer="/source/name", detail=detail)])


def _check_licence(spec: WeightsSpec) -> None:
    """Raises InvalidError for an upload that says it is for non-commercial use. (The file's own record is checked
    later.)"""
    if spec.allow_non_commercial or isinstance(spec.source, NamedSource):
        return
    for name in ("name", "licence"):
        try:
            check_commercial_use(getattr(spec, name) or "")
        except PretrainedError as error:
            detail = str(error)
            raise problems.InvalidError(detail, errors=[FieldProblem(pointer=f"/{name}", detail=detail)]) from error


def _current(service: Services, tenant: str, weights_id: str) -> Weights:
    with transaction(service.engine) as session:
        return _weights(_found(session, tenant, weights_id), service)


def _found(session: Session, tenant: str, weights_id: str) -> WeightsRow:
    row = weights.get(session, tenant, weights_id)
    if row is None:
        raise problems.NotFoundError(f"no weights {weights_id!r}; GET /v1/weights lists yours")
    return row


def _weights(row: WeightsRow, service: Services) -> Weights:
    # During an upload the file is newer than the row, which is written when a request ends.
    arrived = service.uploads.arrived(row.id) if row.state == "uploading" else row.uploaded_bytes
    fields: dict[str, Any] = {name: getattr(row, name) for name in Weights.model_fields}
    return Weights.model_validate(fields | {"uploaded_bytes": arrived})
