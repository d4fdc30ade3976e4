"""What the task `deliver` does: send an event to a webhook, once for each attempt, and see what is answered."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from paretofit.core import signatures as signing
from paretofit.core.http import Outbound, RefusedError
from paretofit.db import delivering
from paretofit.db.delivering import Delivery
from paretofit.db.outbox import DELIVER
from paretofit.workers.job import Answer, run_job
from paretofit.workers.runtime import Runtime

_GONE: Final = 410


def run(runtime: Runtime, delivery_id: str) -> None:
    """Claim a delivery and make an attempt, if nobody else does."""
    run_job(
        runtime,
        DELIVER,
        delivery_id,
        claim=lambda session: delivering.claim(session, delivery_id, seconds=runtime.settings.lease_seconds),
        renew=delivering.renew,
        work=partial(_send, Outbound.to(runtime.settings.outbound_networks)),
        end=_end,
        is_long=False,
    )


def _send(outbound: Outbound, job: Delivery, _folder: Path, check: Callable[[], None]) -> Answer:
    check()
    body = job.body.encode()
    headers = signing.headers(job.secret, job.delivery_id, int(time.time()), body)
    try:
        with outbound.post(job.url, headers, body) as answer:
            return {"state": "answered", "status": answer.status}
    except RefusedError as error:
        return {"state": "refused", "detail": str(error)}


def _end(session: Session, job: Delivery, answer: Answer) -> None:
    status = answer.get("status")
    match answer["state"]:
        case "answered" if 200 <= answer["status"] < 300:
            delivering.delivered(session, job, answer["status"])
        case "answered" if status == _GONE:
            delivering.fail(session, job, {"code": "gone", "detail": "the receiver answered 410"}, status)
            delivering.disable(session, job.webhook_id)
        case "answered":
            error = {"code": "refused", "detail": f"the receiver answered {status}"}
            delivering.crash(session, job.delivery_id, job.epoch, error, status=status)
        case "refused":
            delivering.fail(session, job, {"code": "address", "detail": answer["detail"]}, None)
        case "drained":
            delivering.release(session, job)
        case _:
            error = {"code": "unreachable", "detail": answer["detail"]}
            delivering.crash(session, job.delivery_id, job.epoch, error)
