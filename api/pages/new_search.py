"""The form of a new search, made from the JSON schema of its method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Final

from fastapi import Query, Response
from pydantic import ValidationError
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
from paretofit.models.families.registry import FAMILIES
from paretofit.search.contracts.params import MethodParams
from paretofit.search.contracts.spec import Limits
from paretofit.search.registry import methods

router = page_router()
_DATASETS: Final = 200
_WEIGHTS: Final = 200
_WIDE_RESNETS: Final = ("wrn_16_1", "wrn_16_4", "wrn_22_4", "wrn_28_2", "wrn_28_4", "wrn_28_10", "wrn_40_2")
"""Depths and widths offered for the family wrn_D_K; the API takes others too."""
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
    """The form for a method, with its defaults, the values of a preset, or (`from`) those of an earlier search."""
    base = _base(session, visitor.tenant, origin) if origin else {}
    kind = method or base.get("method", {}).get("kind") or next(iter(methods()))
    if kind not in methods():
        raise NotFoundError(f"no method {kind!r}: choose one of {', '.join(sorted(methods()))}")
    params = methods()[kind].params
    presets = {"tiny": params.tiny, **params.presets}
    if preset and preset not in presets:
        raise NotFoundError(f"{kind} has no preset {preset!r}: choose one of {', '.join(presets)}")
    same = base.get("method", {}).get("kind") == kind
    values = presets[preset] if preset else base["method"] if same else {}
    fields = forms.fields(params.model_json_schema(), values, "/method", _families(params))
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
        base=base,
        origin=origin,
        dataset=dataset or base.get("dataset_id", ""),
        datasets=datasets.read_list(session, visitor.tenant, service, state="ready", limit=_DATASETS).data,
        fields=_without_start(fields),
        starts=_starts(session, visitor.tenant, service, base, weights) if takes_start(params) else None,
        limits=forms.fields(Limits.model_json_schema(), base.get("limits", {}), "/limits"),
        costs=[fronts.Axis(cost, axis_label(cost)) for cost in fronts.COUNTED],
        devices=_devices(session, base),
    )


def _without_start(fields: Sequence[forms.Field]) -> list[forms.Field]:
    """The fields without those of the trained weights, which are chosen once, from a list."""
    return [replace(field, fields=_without_start(field.fields)) for field in fields if field.name != "start"]


@cache
def _families(params: type[MethodParams]) -> dict[str, list[str]]:
    """The network families that a method accepts, by the name of the parameter that takes one or several."""
    names = [*(name for name in FAMILIES if name != "wrn_D_K"), *_WIDE_RESNETS]
    values: dict[str, dict[str, Any]] = {
        "family": {name: name for name in names},
        "families": {name: [name] for name in names},
    }
    kind = params.model_fields["kind"].default
    return {
        field: [name for name, value in values[field].items() if _accepted(params, {"kind": kind, field: value})]
        for field in values.keys() & params.model_fields.keys()
    }


def _accepted(params: type[MethodParams], values: dict[str, Any]) -> bool:
    try:
        params.model_validate(values)
    except ValidationError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Starts:
    """Weights to start from: ready ones, enabled sources that were not added yet, and the starting point of the
    repeated search. `chosen` is the id of weights or of the point."""

    weights: list[Weights]
    sources: list[WeightsSource]
    point: str
    chosen: str


def _starts(session: Session, tenant: str, service: Services, base: Mapping[str, Any], chosen: str) -> _Starts:
    ready = weights_api.read_list(session, tenant, service, state="ready", limit=_WEIGHTS).data
    added = {each.source.get("name") for each in ready}
    sources = [each for each in weights_api.read_sources(service).data if each.enabled and each.name not in added]
    before = base.get("method", {}).get("start") or {}
    point = before.get("point") or ""
    return _Starts(ready, sources, point, chosen or before.get("weights") or point)


def _devices(session: Session, base: Mapping[str, Any]) -> list[str]:
    """Devices of live workers, and those of the repeated search."""
    named = [
        each["device"] for each in (*base.get("constraints", ()), *base.get("objectives", ())) if each.get("device")
    ]
    return list(dict.fromkeys([*(device.name for device in devices.read_list(session).data), *named]))


def _base(session: Session, tenant: str, search_id: str) -> dict[str, Any]:
    """The specification of a search, with its current name and limits."""
    row = found_search(session, tenant, search_id)
    return {**row.spec, "name": row.name, "limits": row.limits, "labels": row.labels}
