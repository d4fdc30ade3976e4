"""The Celery tasks. They are thin: the state in PostgreSQL at the time they run decides what happens."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import structlog
from celery import current_task

from paretofit.core import tracing
from paretofit.db import outbox, planning
from paretofit.db.engine import transaction
from paretofit.workers import conversion_jobs, export_jobs, ingestion_jobs, supervisor, webhook_jobs
from paretofit.workers.app import TRACE, app
from paretofit.workers.runtime import runtime

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def advance(search_id: str) -> None:
    """Plan a search's next trials, or end it."""
    engine = runtime().engine
    with structlog.contextvars.bound_contextvars(search=search_id):
        try:
            planning.advance(engine, search_id)
        except planning.PlanError as error:
            _log.exception("plan_failed")
            with transaction(engine) as session:
                planning.fail(session, error)


def train(trial_id: str) -> None:
    """Claim a trial and run it until it ends or has to be released."""
    supervisor.run(runtime(), trial_id)


def ingest(dataset_id: str) -> None:
    """Claim a dataset, validate it and store its files."""
    ingestion_jobs.run(runtime(), dataset_id)


def convert(weights_id: str) -> None:
    """Claim weights, fetch or convert their file and store it."""
    conversion_jobs.run(runtime(), weights_id)


def export(export_id: str) -> None:
    """Claim an export, write its file, compare it with PyTorch and store it."""
    export_jobs.run(runtime(), export_id)


def deliver(delivery_id: str) -> None:
    """Claim a webhook delivery and attempt it."""
    webhook_jobs.run(runtime(), delivery_id)


def _traced(task: Callable[[str], None]) -> Callable[[str], None]:
    """Run the task within the trace of its job message."""

    @wraps(task)
    def traced(subject: str) -> None:
        with tracing.within((current_task.request.headers or {}).get(TRACE)):
            task(subject)

    return traced


for _name, _task in (
    (outbox.ADVANCE, advance),
    (outbox.TRAIN, train),
    (outbox.INGEST, ingest),
    (outbox.CONVERT, convert),
    (outbox.EXPORT, export),
    (outbox.DELIVER, deliver),
):
    app.task(_traced(_task), name=_name)
