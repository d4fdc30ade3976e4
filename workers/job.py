"""A leased job of the light queue (`paretofit.db.jobs`): claimed, renewed while it is worked on, ended once."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog
from sqlalchemy.orm import Session

from paretofit.core import tracing
from paretofit.core.settings import Settings
from paretofit.db import counters, jobs, outbox
from paretofit.db.blobs import BlobCorruptError, BlobMissingError
from paretofit.db.engine import transaction
from paretofit.db.jobs import Job, JobKind
from paretofit.db.leases import ControlFlags
from paretofit.search.latency import lock
from paretofit.workers.helper_process import HelperCrashedError
from paretofit.workers.lease_renewer import LeaseRenewer, StoppedError
from paretofit.workers.messages import storable
from paretofit.workers.runtime import Runtime
from paretofit.workers.scratch import scratch
from paretofit.workers.shutdown_signal import draining

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_BUSY_SECONDS: Final = 1.0
"""Until a job message is sent again, for each that waits like it: however many there are, about one comes each
second."""
J = TypeVar("J", bound=Job)
J_co = TypeVar("J_co", bound=Job, covariant=True)
JobResult = dict[str, Any]
"""`state` is a state of the work's own, `drained` (to be started over by another worker), or `crashed`, with an `error`
and further column `values` if there are any."""
Work = Callable[[J, Path, Callable[[], None]], JobResult]
End = Callable[[Session, J, JobResult], None]


class Claim(Protocol[J_co]):
    """Takes the row `subject` for `seconds`, if it waits."""

    def __call__(self, session: Session, subject: str, /, *, seconds: float) -> J_co | None: ...


def run_job(
    runtime: Runtime,
    kind: JobKind[Any],
    subject: str,
    claim: Claim[J],
    work: Work[J],
    end: End[J],
    *,
    is_long: bool = True,
    crash_code: str = "crashed",
) -> None:
    """Claim a job and do it, unless another worker does. A worker that stops claims nothing; one that is busy with
    other long jobs has the message sent again. Long ones wait while something is measured on this machine.

    `work` gets a scratch folder and a `check` to call often, which raises when the work is to end. `end` writes the
    answer under the lease, unless the work was drained or crashed; `crash_code` is the code of unexpected errors.
    """
    if draining.is_set():
        return
    if not is_long:
        _run(runtime, subject, claim, work, end, crash_code)
        return

    def unmeasured(job: J, folder: Path, check: Callable[[], None]) -> JobResult:
        with lock.held(runtime.settings.jobs_lock, "shared", check):
            return work(job, folder, check)

    with runtime.places.acquire() as has_place:
        if has_place:
            _run(runtime, subject, claim, unmeasured, end, crash_code)
        else:
            with transaction(runtime.engine) as session:
                waiting = max(1, outbox.postponed(session, kind.task))
                outbox.postpone(session, kind.task, subject, seconds=_BUSY_SECONDS * waiting)


def _run(runtime: Runtime, subject: str, claim: Claim[J], work: Work[J], end: End[J], crash_code: str) -> None:
    settings = runtime.settings
    claimed_at = time.monotonic()
    with transaction(runtime.engine) as session:
        job = claim(session, subject, seconds=settings.lease_seconds)
    if job is None:
        return

    def prolong(session: Session) -> ControlFlags:
        jobs.renew(session, job)
        return ControlFlags(cancel=False, pause=False, limit=False)

    with (
        tracing.span("job", subject=job.subject, epoch=job.epoch),
        structlog.contextvars.bound_contextvars(subject=job.subject, epoch=job.epoch),
        LeaseRenewer(
            runtime.engine,
            seconds=job.seconds,
            claimed_at=claimed_at,
            renew=prolong,
            renew_every=settings.renew_seconds,
            look=prolong,
            look_every=settings.renew_seconds,
        ) as renewer,
    ):

        def check() -> None:
            if renewer.is_over or draining.is_set():
                raise StoppedError

        _log.info("claimed")
        answer: JobResult | None
        try:
            with scratch(settings.home / "scratch", f"{job.subject}-{job.epoch}") as folder:
                answer = work(job, folder, check)
        except StoppedError:
            answer = None if renewer.is_over else {"state": "drained"}
        except (HelperCrashedError, BlobCorruptError, BlobMissingError, OSError) as error:
            _log.exception("crashed")
            if isinstance(error, BlobCorruptError):
                renewer.count(counters.DIGEST_MISMATCHES)
            answer = {"state": "crashed", "error": {"code": crash_code, "detail": str(error)}}
        if answer is not None and renewer.write(partial(_end, settings=settings, job=job, answer=answer, end=end)):
            _log.info("ended", state=answer["state"])


def _end(session: Session, settings: Settings, job: J, answer: JobResult, end: End[J]) -> None:
    match answer["state"]:
        case "drained":
            jobs.release(session, job)
        case "crashed":
            jobs.crash(
                session,
                job,
                storable(answer["error"]),
                max_crashes=settings.max_crashes,
                back_off=settings.retry_seconds,
                **answer.get("values", {}),
            )
        case _:
            end(session, job, answer)
