"""What the task `deliver` does: send an event to a webhook, once for each attempt, and see what is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from paretofit.core import signatures
from paretofit.core.http import Outbound, RefusedError
from paretofit.db import webhooks
from paretofit.db.jobs import DELIVERIES
from paretofit.db.webhooks import DeliveryJob
from paretofit.workers.job import JobResult, run_job
from paretofit.workers.runtime import Runtime

_GONE: Final = 410


def run(runtime: Runtime, delivery_id: str) -> None:
    """Claim a delivery and make an attempt, unless another worker does."""
    work = partial(_send, Outbound.to(runtime.settings.outbound_networks))
    run_job(runtime, DELIVERIES, delivery_id, webhooks.claim, work, _end, is_long=False, crash_code="unreachable")


def _send(outbound: Outbound, job: DeliveryJob, _folder: Path, check: Callable[[], None]) -> JobResult:
    check()
    body = job.body.encode()
    headers = signatures.headers(job.secret, job.subject, int(time.time()), body)
    try:
        with outbound.post(job.url, headers, body) as answer:
            status = answer.status
    except RefusedError as error:
        return {"state": "refused", "error": {"code": "address", "detail": str(error)}, "status": None}
    if 200 <= status < 300:
        return {"state": "delivered", "status": status}
    if status == _GONE:
        return {"state": "gone", "error": {"code": "gone", "detail": "the receiver answered 410"}, "status": status}
    detail = f"the receiver answered {status}"
    return {"state": "crashed", "error": {"code": "refused", "detail": detail}, "values": {"status": status}}


def _end(session: Session, job: DeliveryJob, answer: JobResult) -> None:
    if answer["state"] == "delivered":
        webhooks.delivered(session, job, answer["status"])
        return
    webhooks.give_up(session, job, answer["error"], answer["status"])
    if answer["state"] == "gone":
        webhooks.disable(session, job.webhook_id)
