"""Exports of points to other formats, written by a light worker."""

from __future__ import annotations

import re
from typing import Any, cast

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from paretofit.api import problems, quotas
from paretofit.api.access import requires
from paretofit.api.idempotency import IdempotentOnce, answer
from paretofit.api.lookup import found_export, found_point, found_search
from paretofit.api.schemas.exports import MAX_SIDE, Export, ExportForm, ExportList, ExportRequest
from paretofit.api.schemas.problems import FieldProblem
from paretofit.api.security import Tenant
from paretofit.api.services import Db, Service
from paretofit.api.v1.artifacts import artifact
from paretofit.db import datasets, exports
from paretofit.db.exports import Form, FoundExport
from paretofit.db.idempotency import StoredResponse
from paretofit.db.points import FoundPoint
from paretofit.models.architecture import Architecture
from paretofit.search.contracts.point import ALL_FORMATS, Format
from paretofit.search.export import card
from paretofit.search.export.formats import FORMS, file_name
from paretofit.search.registry import methods

router = APIRouter(tags=["exports"])
_SECONDS = "2"


@router.post(
    "/points/{point_id}/exports",
    dependencies=[requires("write")],
    operation_id="create_export",
    status_code=202,
    response_model=Export,
    responses=problems.responses(
        problems.NotFoundError,
        problems.NoWeightsError,
        problems.QuotaExceededError,
        problems.KeyInFlightError,
        problems.KeyReusedError,
    ),
)
def create(point_id: str, body: ExportRequest, tenant: Tenant, service: Service, once: IdempotentOnce) -> Response:
    """Export the network of a point to a format, run it and compare it with PyTorch. A failed export is retried."""

    def effect(session: Session) -> StoredResponse:
        point = found_point(session, tenant, point_id)
        form = _form(body, point, found_search(session, tenant, point.row.search_id).method)
        weights = exports.source(session, point)
        if weights is None:
            raise problems.NoWeightsError(
                "the trial of this point has not reported its weights yet: wait until the trial has ended"
            )
        made = exports.request(session, point, weights, form)
        if made.artifact is None:
            quotas.admit_bytes(session, tenant, service.settings, more=0)
        headers = {"Location": f"/v1/exports/{made.row.id}"}
        return answer(202, _export(made, point), headers if made.artifact else headers | {"Retry-After": _SECONDS})

    return once(effect)


@router.get(
    "/points/{point_id}/exports",
    dependencies=[requires("read")],
    operation_id="list_exports",
    responses=problems.responses(problems.NotFoundError),
)
def read_list(point_id: str, session: Db, tenant: Tenant) -> ExportList:
    """List the exports of a point, oldest first."""
    point = found_point(session, tenant, point_id)
    return ExportList(data=[_export(found, point) for found in exports.of_point(session, point_id)])


@router.get(
    "/exports/{export_id}",
    dependencies=[requires("read")],
    operation_id="get_export",
    responses=problems.responses(problems.NotFoundError),
)
def read(export_id: str, session: Db, tenant: Tenant) -> Export:
    """Get an export with its state and result."""
    found = found_export(session, tenant, export_id)
    return _export(found, found_point(session, tenant, found.row.point_id))


@router.get(
    "/points/{point_id}/card",
    dependencies=[requires("read")],
    operation_id="get_model_card",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"text/markdown": {"schema": {"type": "string"}}}},
        **problems.responses(problems.NotFoundError),
    },
)
def read_card(point_id: str, session: Db, tenant: Tenant) -> Response:
    """Get the model card of a point, in Markdown."""
    point = found_point(session, tenant, point_id)
    search = found_search(session, tenant, point.row.search_id)
    dataset = datasets.get(session, tenant, search.dataset_id)
    assert dataset is not None
    content = card.render(
        point.row.record,
        point_id=point_id,
        search_id=search.id,
        spec=search.spec,
        data=card.Data(dataset.name, dataset.source, dataset.options.get("licence")),
        formats=offered(search.method),
        exports=[
            card.Made(found.artifact.name, found.artifact.sha256, found.row.parity["max_abs_diff"])
            for found in exports.of_point(session, point_id)
            if found.artifact is not None and found.row.parity is not None
        ],
    )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", point.row.key)
    headers = {"Content-Disposition": f'attachment; filename="{name}.md"', "X-Content-Type-Options": "nosniff"}
    return Response(content, media_type="text/markdown; charset=utf-8", headers=headers)


def offered(method: str) -> tuple[Format, ...]:
    """The export formats of a method's points; all of them if the method no longer exists."""
    return methods()[method].params.exports if method in methods() else ALL_FORMATS


def forms(method: str, key: str) -> list[ExportForm]:
    """The export formats of a point, with how to load each."""
    return [
        ExportForm(
            format=name,
            title=FORMS[name].title,
            precisions=list(FORMS[name].precisions),
            packages=list(FORMS[name].packages),
            loading=FORMS[name].snippet(file_name(key, FORMS[name])),
        )
        for name in offered(method)
    ]


def _form(body: ExportRequest, point: FoundPoint, method: str) -> Form:
    formats = offered(method)
    if body.format not in formats:
        raise _invalid("/format", f"{method} does not support {body.format}: use one of {', '.join(formats)}")
    precisions = FORMS[body.format].precisions
    if body.precision not in precisions:
        raise _invalid(
            "/precision", f"{body.format} does not support {body.precision}: use one of {', '.join(precisions)}"
        )
    if body.input_shape is None:
        height, width = point.input_size
        return Form(body.format, body.precision, (height, width))
    channels, height, width = body.input_shape
    architecture = Architecture.from_json(point.row.record["architecture"])
    if channels != architecture.channels:
        raise _invalid(
            "/input_shape/0", f"wrong number of channels {channels}: the network takes {architecture.channels}"
        )
    for index, side in ((1, height), (2, width)):
        if not 1 <= side <= MAX_SIDE:
            raise _invalid(f"/input_shape/{index}", f"invalid side {side}: use 1 to {MAX_SIDE} pixels")
    try:
        architecture.layers((height, width))
    except ValueError as error:
        raise _invalid("/input_shape", str(error)) from error
    return Form(body.format, body.precision, (height, width))


def _invalid(pointer: str, detail: str) -> problems.InvalidError:
    return problems.InvalidError(detail, errors=[FieldProblem(pointer=pointer, detail=detail)])


def _export(found: FoundExport, point: FoundPoint) -> Export:
    row = found.row
    record: dict[str, Any] = point.row.record
    form = FORMS[cast("Format", row.format)]
    return Export.model_validate(
        {
            "id": row.id,
            "point_id": row.point_id,
            "format": row.format,
            "precision": row.precision,
            "input_shape": (record["architecture"]["channels"], row.height, row.width),
            "state": row.state,
            "artifact": None if found.artifact is None else artifact(found.artifact),
            "parity": row.parity,
            "error": row.error,
            "loading": form.snippet(file_name(point.row.key, form, row.precision)),
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )
