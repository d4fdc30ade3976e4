"""The page of a trial: its curves, attempts, log and files."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from paretofit.api.lookup import found_search
from paretofit.api.pages import pictures
from paretofit.api.pages.page_auth import Visitor
from paretofit.api.pages.rendering import page
from paretofit.api.pages.route import page_router
from paretofit.api.schemas.trials import ERROR_CODES
from paretofit.api.services import Db
from paretofit.api.v1 import trials as api
from paretofit.db import trial_queries

router = page_router()
_LINES: Final = 500
_ENDED: Final = frozenset({"completed", "pruned", "infeasible", "failed", "cancelled"})


@router.get("/trials/{trial_id}")
def read(trial_id: str, session: Db, visitor: Visitor) -> Response:
    """A trial with its current state."""
    trial = api.read(trial_id, session, visitor.tenant)
    lines = trial_queries.last_lines(session, trial_id, _LINES)
    return page(
        "trial.html",
        here="searches",
        visitor=visitor,
        trial=trial,
        error_codes=ERROR_CODES,
        search=found_search(session, visitor.tenant, trial.search_id),
        lines=lines,
        lines_shown=_LINES,
        active=trial.state not in _ENDED,
        pictures=[picture for picture in map(pictures.drawn, trial.artifacts) if picture is not None],
    )
