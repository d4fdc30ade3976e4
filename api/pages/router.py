"""The dashboard: every page's routes and the files that they use."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from paretofit.api.pages import (
    assets,
    compare,
    datasets,
    keys,
    new_search,
    pictures,
    points,
    searches,
    trials,
    weights,
    workers,
)

PARTS = (new_search, searches, trials, points, pictures, compare, datasets, weights, workers, keys, assets)

router = APIRouter(include_in_schema=False)
for part in PARTS:
    router.include_router(part.router)


@router.get("/")
def home() -> RedirectResponse:
    """The searches are where everything begins."""
    return RedirectResponse("/searches")
