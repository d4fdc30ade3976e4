"""A leased job of the light queue: kept while it is worked on, ended once, whatever becomes of the work."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import structlog
from sqlalchemy.orm import Session

from paretofit.core import tracing
from paretofit.db import counters, outbox
from paretofit.db.blobs import BlobCorruptError, BlobMissingError
from paretofit.db.engine import transaction
from paretofit.db.leases import Asked
from paretofit.search.latency import lock
from paretofit.workers.helper import HelperCrashedError
from paretofit.workers.keeper import Keeper, StoppedError
from paretofit.workers.parent import draining
from paretofit.workers.runtime import Runtime
from paretofit.workers.scratch import scratch

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_BUSY_SECONDS: Final = 1.0
"""Until a wake-up is sent again, for each that waits like it: however many there are, about one comes each second."""
Answer = dict[str, Any]
"""`state` says what became of the work: one of its own, `drained` (it is to begin anew), or `crashed` with a
`detail`."""


class Leased(Protocol):
    """The right to do a job: what it is about, the epoch that guards every write, how long it holds."""

    @property
    def subject(self) -> str: ...

    @property
    def epoch(self) -> int: ...

    @property
    def seconds(self) -> float: ...


J = TypeVar("J", bound=Leased)


def run_job(
    runtime: Runtime,
    task: str,
    subject: str,
    claim: Callable[[Session], J | None],
    renew: Callable[[Session, J], None],
    work: Callable[[J, Path, Callable[[], None]], Answer],
    end: Callable[[Session, J, Answer], None],
    *,
    is_long: bool = True,
) -> None:
    """Claim a job and do it, if nobody else does. A worker that stops claims nothing; one that is busy with other long
    jobs has the wake-up `task(subject)` sent again. Long ones wait while something is measured on this machine.

    `work` gets a scratch folder and a `check` to call often, which raises when the work is to end. `end` writes the
    answer under the lease.
    """
    if draining.is_set():
        return
    if not is_long:
        _run(runtime, claim, renew, work, end)
        return

    def unmeasured(job: J, folder: Path, check: Callable[[], None]) -> Answer:
        with lock.held(runtime.settings.jobs_lock, "shared", check):
            return work(job, folder, check)

    with runtime.places.taken() as has_place:
        if has_place:
            _run(runtime, claim, renew, unmeasured, end)
        else:
            with transaction(runtime.engine) as session:
                waiting = max(1, outbox.postponed(session, task))
                outbox.postpone(session, task, subject, seconds=_BUSY_SECONDS * waiting)


def _run(
    runtime: Runtime,
    claim: Callable[[Session], J | None],
    renew: Callable[[Session, J], None],
    work: Callable[[J, Path, Callable[[], None]], Answer],
    end: Callable[[Session, J, Answer], None],
) -> None:
    settings = runtime.settings
    claimed_at = time.monotonic()
    with transaction(runtime.engine) as session:
        job = claim(session)
    if job is None:
        return

    def prolong(session: Session) -> Asked:
        renew(session, job)
        return Asked(cancel=False, pause=False, limit=False)

    with (
        tracing.span("job", subject=job.subject, epoch=job.epoch),
        structlog.contextvars.bound_contextvars(subject=job.subject, epoch=job.epoch),
        Keeper(
            runtime.engine,
            seconds=job.seconds,
            claimed_at=claimed_at,
            renew=prolong,
            renew_every=settings.renew_seconds,
            look=prolong,
            look_every=settings.renew_seconds,
        ) as keeper,
    ):

        def check() -> None:
            if keeper.is_over or draining.is_set():
                raise StoppedError

        _log.info("claimed")
        answer: Answer | None
        try:
            with scratch(settings.home / "scratch", f"{job.subject}-{job.epoch}") as folder:
                answer = work(job, folder, check)
        except StoppedError:
            answer = None if keeper.is_over else {"state": "drained"}
        except (HelperCrashedError, BlobCorruptError, BlobMissingError, OSError) as error:
            _log.exception("crashed")
            if isinstance(error, BlobCorruptError):
                keeper.count(counters.DIGEST_MISMATCHES)
            answer = {"state": "crashed", "detail": str(error)}
        if answer is not None and keeper.write(_ending(end, job, answer)):
            _log.info("ended", state=answer["state"])


def _ending(end: Callable[[Session, J, Answer], None], job: J, answer: Answer) -> Callable[[Session], None]:
    return lambda session: end(session, job, answer)
