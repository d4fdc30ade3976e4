"""Runs a leased job of the light queue (`paretofit.db.jobs`): claims it, renews its lease and ends it once."""

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
"""Delay of a postponed job message, per postponed message of its task: about one is resent each second."""
J = TypeVar("J", bound=Job)
J_co = TypeVar("J_co", bound=Job, covariant=True)
JobResult = dict[str, Any]
"""`state` is specific to the kind of job, or `drained` (another worker starts over), or `crashed` with an `error` and
optionally further column `values`."""
Work = Callable[[J, Path, Callable[[], None]], JobResult]
End = Callable[[Session, J, JobResult], None]


class Claim(Protocol[J_co]):
    """Claims the row `subject` for `seconds`, if it is waiting."""

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
    """Claim a job and run it, unless another worker has it.

    A worker that is shutting down claims nothing. One without a free slot for long jobs postpones the message. Long
    jobs wait while a latency measurement runs on this machine. `work` gets a scratch folder and a `check` to call
    often, which raises when the work has to stop. `end` writes the result under the lease, unless the job was drained
    or crashed. `crash_code` is the code of unexpected errors.
    """
    if draining.is_set():
        return
    if not is_long:
        _run(runtime, subject, claim, work, end, crash_code)
        return

    def without_measurements(job: J, folder: Path, check: Callable[[], None]) -> JobResult:
        with lock.held(runtime.settings.jobs_lock, "shared", check):
            return work(job, folder, check)

    with runtime.job_slots.acquire() as has_slot:
        if has_slot:
            _run(runtime, subject, claim, without_measurements, end, crash_code)
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

    def renew(session: Session) -> ControlFlags:
        jobs.renew(session, job)
        return ControlFlags(cancel=False, pause=False, limit=False)

    with (
        tracing.span("job", subject=job.subject, epoch=job.epoch),
        structlog.contextvars.bound_contextvars(subject=job.subject, epoch=job.epoch),
        LeaseRenewer(
            runtime.engine,
            seconds=job.seconds,
            claimed_at=claimed_at,
            renew=renew,
            renew_every=settings.renew_seconds,
            poll=renew,
            poll_every=settings.renew_seconds,
        ) as renewer,
    ):

        def check() -> None:
            if renewer.is_lost or draining.is_set():
                raise StoppedError

        _log.info("job_claimed")
        result: JobResult | None
        try:
            with scratch(settings.home / "scratch", f"{job.subject}-{job.epoch}") as folder:
                result = work(job, folder, check)
        except StoppedError:
            result = None if renewer.is_lost else {"state": "drained"}
        except (HelperCrashedError, BlobCorruptError, BlobMissingError, OSError) as error:
            _log.exception("job_crashed")
            if isinstance(error, BlobCorruptError):
                renewer.count(counters.DIGEST_MISMATCHES)
            result = {"state": "crashed", "error": {"code": crash_code, "detail": str(error)}}
        if result is not None and renewer.write(partial(_end, settings=settings, job=job, result=result, end=end)):
            _log.info("job_ended", state=result["state"])


def _end(session: Session, settings: Settings, job: J, result: JobResult, end: End[J]) -> None:
    match result["state"]:
        case "drained":
            jobs.release(session, job)
        case "crashed":
            jobs.crash(
                session,
                job,
                storable(result["error"]),
                max_crashes=settings.max_crashes,
                back_off=settings.retry_seconds,
                **result.get("values", {}),
            )
        case _:
            end(session, job, result)
