"""The router of the dashboard: pages and static files."""

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
    """Redirect to the list of searches."""
    return RedirectResponse("/searches")
