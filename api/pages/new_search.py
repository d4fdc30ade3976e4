"""The form of a new search, made from the JSON schema of its method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Query, Response
from sqlalchemy.orm import Session

from paretofit.api.init_from import takes_start
from paretofit.api.lookup import found_search
from paretofit.api.pages import forms, fronts
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.quantities import axis_label
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import page_router
from paretofit.api.problems import NotFoundError
from paretofit.api.schemas.weights import Weights, WeightsSource
from paretofit.api.services import Db, Service, Services
from paretofit.api.v1 import datasets, devices
from paretofit.api.v1 import weights as weights_api
from paretofit.search.contracts.spec import Limits
from paretofit.search.registry import methods

router = page_router()
_DATASETS: Final = 200
_WEIGHTS: Final = 200
_NAME = Annotated[str, Query(max_length=200)]


@router.get("/searches/new")
def read(
    session: Db,
    visitor: Visitor,
    service: Service,
    method: _NAME = "",
    preset: _NAME = "",
    dataset: _NAME = "",
    weights: _NAME = "",
    origin: Annotated[str, Query(alias="from", max_length=200)] = "",
) -> Response:
    """The form for a method: with its defaults, a preset's values, or (`from`) those of a search that is repeated."""
    begun = _begun(session, visitor.tenant, origin) if origin else {}
    kind = method or begun.get("method", {}).get("kind") or next(iter(methods()))
    if kind not in methods():
        raise NotFoundError(f"no method {kind!r}: choose one of {', '.join(sorted(methods()))}")
    params = methods()[kind].params
    presets = {"tiny": params.tiny, **params.presets}
    if preset and preset not in presets:
        raise NotFoundError(f"{kind} has no preset {preset!r}: choose one of {', '.join(presets)}")
    same = begun.get("method", {}).get("kind") == kind
    values = presets[preset] if preset else begun["method"] if same else {}
    fields = forms.fields(params.model_json_schema(), values, "/method")
    return page(
        "new_search.html",
        here="new",
        visitor=visitor,
        methods=[methods()[each].params for each in methods()],
        kinds=list(methods()),
        kind=kind,
        params=params,
        presets=list(presets),
        preset=preset,
        begun=begun,
        origin=origin,
        dataset=dataset or begun.get("dataset_id", ""),
        datasets=datasets.read_list(session, visitor.tenant, service, state="ready", limit=_DATASETS).data,
        fields=[field for field in fields if field.pointer != "/method/start"],
        starts=_starts(session, visitor.tenant, service, begun, weights) if takes_start(params) else None,
        limits=forms.fields(Limits.model_json_schema(), begun.get("limits", {}), "/limits"),
        costs=[fronts.Axis(cost, axis_label(cost)) for cost in fronts.COUNTED],
        devices=_devices(session, begun),
    )


@dataclass(frozen=True, slots=True)
class _Starts:
    """What a search can start from: weights that are ready, enabled sources that were not added yet, and the point that
    the repeated search started from. `chosen` is the id of one of the weights, or of the point."""

    weights: list[Weights]
    sources: list[WeightsSource]
    point: str
    chosen: str


def _starts(session: Session, tenant: str, service: Services, begun: Mapping[str, Any], chosen: str) -> _Starts:
    ready = weights_api.read_list(session, tenant, service, state="ready", limit=_WEIGHTS).data
    added = {each.source.get("name") for each in ready}
    sources = [each for each in weights_api.read_sources(service).data if each.enabled and each.name not in added]
    before = begun.get("method", {}).get("start") or {}
    point = before.get("point") or ""
    return _Starts(ready, sources, point, chosen or before.get("weights") or point)


def _devices(session: Session, begun: Mapping[str, Any]) -> list[str]:
    """What latencies can be measured on now, and what the search that is repeated named."""
    named = [
        each["device"] for each in (*begun.get("constraints", ()), *begun.get("objectives", ())) if each.get("device")
    ]
    return list(dict.fromkeys([*(device.name for device in devices.read_list(session).data), *named]))


def _begun(session: Session, tenant: str, search_id: str) -> dict[str, Any]:
    """The specification of a search, with the name and limits that it has now."""
    row = found_search(session, tenant, search_id)
    return {**row.spec, "name": row.name, "limits": row.limits, "labels": row.labels}
