"""The task `deliver`: one attempt to send an event to a webhook."""

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
    """Claim a delivery and attempt it, unless another worker has it."""
    work = partial(_send, Outbound.to(runtime.settings.outbound_networks))
    run_job(runtime, DELIVERIES, delivery_id, webhooks.claim, work, _end, is_long=False, crash_code="unreachable")


def _send(outbound: Outbound, job: DeliveryJob, _folder: Path, check: Callable[[], None]) -> JobResult:
    check()
    body = job.body.encode()
    headers = signatures.headers(job.secret, job.subject, int(time.time()), body)
    try:
        with outbound.post(job.url, headers, body) as response:
            status = response.status
    except RefusedError as error:
        return {"state": "refused", "error": {"code": "address", "detail": str(error)}, "status": None}
    if 200 <= status < 300:
        return {"state": "delivered", "status": status}
    if status == _GONE:
        return {
            "state": "gone",
            "error": {"code": "gone", "detail": "the receiver responded with 410 (gone); the webhook was disabled"},
            "status": status,
        }
    detail = f"the receiver responded with {status}"
    return {"state": "crashed", "error": {"code": "refused", "detail": detail}, "values": {"status": status}}


def _end(session: Session, job: DeliveryJob, result: JobResult) -> None:
    if result["state"] == "delivered":
        webhooks.mark_delivered(session, job, result["status"])
        return
    webhooks.mark_failed(session, job, result["error"], result["status"])
    if result["state"] == "gone":
        webhooks.disable(session, job.webhook_id)
