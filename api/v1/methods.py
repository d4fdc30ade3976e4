"""Search methods and network families."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from paretofit.api import init_from, problems
from paretofit.api.access import requires
from paretofit.api.schemas.methods import Family, FamilyList, Method, MethodList
from paretofit.models.families.registry import FAMILIES
from paretofit.models.pretrained.sources import SOURCES
from paretofit.search.registry import methods

router = APIRouter(tags=["methods"])


@router.get("/methods", dependencies=[requires("read")], operation_id="list_methods", responses=problems.responses())
def read_methods() -> MethodList:
    """List the search methods."""
    return MethodList(
        data=[
            Method(
                kind=method.kind,
                summary=method.params.summary,
                paper=method.params.paper,
                exports=list(method.params.exports),
                presets={"tiny": method.params.tiny, **method.params.presets},
                takes_start=init_from.takes_start(method.params),
            )
            for method in methods().values()
        ]
    )


@router.get(
    "/methods/{kind}/schema",
    dependencies=[requires("read")],
    operation_id="get_method_schema",
    responses=problems.responses(problems.NotFoundError),
)
def read_schema(kind: str) -> dict[str, Any]:
    """Get the JSON schema of a method's parameters, the field `method` of a search."""
    method = methods().get(kind)
    if method is None:
        raise problems.NotFoundError(f"no method {kind!r}: choose one of {', '.join(sorted(methods()))}")
    return method.params.model_json_schema()


@router.get("/families", dependencies=[requires("read")], operation_id="list_families", responses=problems.responses())
def read_families() -> FamilyList:
    """List the network families that methods build on."""
    return FamilyList(
        data=[
            Family(
                name=name,
                title=family.title,
                paper=family.paper,
                pattern=family.pattern.pattern,
                stages=family.stages,
                groups=list(family.groups),
                sources=[source.name for source in SOURCES.values() if family.pattern.fullmatch(source.family)],
            )
            for name, family in FAMILIES.items()
        ]
    )
