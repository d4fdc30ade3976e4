"""Trials of searches, with their curves and logs."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Query

from paretofit.api import paging, problems
from paretofit.api.access import requires
from paretofit.api.lookup import found_search, found_trial
from paretofit.api.schemas.pages import Page
from paretofit.api.schemas.trials import Attempt, Curve, Curves, LogLine, Measurement, Trial, TrialDetail, TrialState
from paretofit.api.security import Tenant
from paretofit.api.services import Db
from paretofit.api.v1.artifacts import artifact
from paretofit.db import artifacts, metrics, trial_queries
from paretofit.db.tables import AttemptRow, LogRow, TrialRow

router = APIRouter(tags=["trials"])


@router.get(
    "/searches/{search_id}/trials",
    dependencies=[requires("read")],
    operation_id="list_trials",
    responses=problems.responses(problems.NotFoundError),
)
def read_list(
    search_id: str,
    session: Db,
    tenant: Tenant,
    state: Annotated[TrialState | None, Query()] = None,
    limit: paging.Limit = 50,
    cursor: paging.Cursor = None,
) -> Page[Trial]:
    """List the trials of a search, in the order in which they were planned."""
    found_search(session, tenant, search_id)
    after = paging.position(cursor, start=-1)
    rows = trial_queries.page(session, search_id, state=state, after=after, limit=limit + 1)
    return paging.numbered(rows, limit, lambda row: row.number, lambda row: Trial(**_fields(row)))


@router.get(
    "/trials/{trial_id}",
    dependencies=[requires("read")],
    operation_id="get_trial",
    responses=problems.responses(problems.NotFoundError),
)
def read(trial_id: str, session: Db, tenant: Tenant) -> TrialDetail:
    """Get a trial with its attempts and files."""
    row = found_trial(session, tenant, trial_id)
    return TrialDetail(
        **_fields(row),
        outputs=row.outputs,
        attempts=[_attempt(attempt) for attempt in trial_queries.attempts(session, trial_id)],
        artifacts=[artifact(file) for file in artifacts.of_trial(session, trial_id)],
    )


@router.get(
    "/trials/{trial_id}/metrics",
    dependencies=[requires("read")],
    operation_id="get_metrics",
    responses=problems.responses(problems.NotFoundError),
)
def read_metrics(
    trial_id: str,
    session: Db,
    tenant: Tenant,
    name: Annotated[str | None, Query(max_length=200, description="Name of one metric. Unset: all metrics.")] = None,
    since_step: Annotated[int, Query(ge=-1, le=2**62, description="Only values after this step.")] = -1,
    max_points: Annotated[int, Query(ge=4, le=10_000, description="Maximum number of values per curve.")] = 1000,
) -> Curves:
    """Get the curves of a trial. Long curves are downsampled to measured values."""
    found_trial(session, tenant, trial_id)
    totals = metrics.totals(session, trial_id, since_step=since_step)
    if name is not None:
        totals = {name: totals.get(name, 0)}
    curves = []
    for metric, total in totals.items():
        samples = metrics.curve(session, trial_id, metric, since_step=since_step, max_points=max_points)
        curves.append(Curve(name=metric, total=total, points=[_measurement(sample) for sample in samples]))
    return Curves(trial_id=trial_id, curves=curves)


@router.get(
    "/trials/{trial_id}/logs",
    dependencies=[requires("read")],
    operation_id="get_logs",
    responses=problems.responses(problems.NotFoundError),
)
def read_logs(
    trial_id: str,
    session: Db,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=5000, description="Lines per page.")] = 500,
    cursor: paging.Cursor = None,
) -> Page[LogLine]:
    """List the log lines of a trial, oldest first. The cursor of the last page returns lines written later."""
    found_trial(session, tenant, trial_id)
    after = paging.position(cursor, start=0)
    rows = trial_queries.log_lines(session, trial_id, after=after, limit=limit + 1)
    return paging.numbered(rows, limit, lambda row: row.seq, _log_line, follow_from=after)


def _fields(row: TrialRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "search_id": row.search_id,
        "number": row.number,
        "state": row.state,
        "params": row.params,
        "inputs": row.inputs,
        "progress": row.progress,
        "worker": row.lease_owner,
        "crash_count": row.crash_count,
        "error": row.error,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


def _attempt(row: AttemptRow) -> Attempt:
    return Attempt(
        epoch=row.epoch,
        worker=row.worker,
        device=row.device,
        outcome=row.outcome,
        error=row.error,
        started_at=row.started_at,
        computing_at=row.computing_at,
        ended_at=row.ended_at,
    )


def _measurement(sample: metrics.Sample) -> Measurement:
    return Measurement(step=sample.step, value=sample.value if math.isfinite(sample.value) else None, at=sample.at)


def _log_line(row: LogRow) -> LogLine:
    return LogLine(seq=row.seq, epoch=row.epoch, stream=row.stream, line=row.line, at=row.at)
