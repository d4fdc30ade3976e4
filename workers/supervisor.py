"""What the task `train` does: claim a trial, run its trainer, write what it reports, end it.

The supervisor alone speaks with PostgreSQL and the blob store; it never imports torch. Whatever kills it closes the
trainer's pipe, and the trainer ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.orm import Session

from paretofit.core import tracing
from paretofit.core.settings import Settings
from paretofit.db import counters, latencies, leases, trials
from paretofit.db.blobs import BlobCorruptError
from paretofit.db.engine import transaction
from paretofit.db.leases import Assignment, Lease
from paretofit.db.trials import OUT_OF_MEMORY
from paretofit.search.contracts.latency import Measured, write_known
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial, trial_seed
from paretofit.search.latency import lock
from paretofit.search.latency.devices import describe
from paretofit.search.latency.stage import KNOWN
from paretofit.workers import materialise
from paretofit.workers.keeper import Keeper, StoppedError
from paretofit.workers.parent import draining
from paretofit.workers.runtime import Runtime
from paretofit.workers.scratch import scratch
from paretofit.workers.scribe import Scribe
from paretofit.workers.trainer import write_order
from paretofit.workers.watch import Ending, TrainerWatch, requested_stop

_ELSEWHERE_SECONDS: Final = 2.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def run(runtime: Runtime, trial_id: str) -> None:
    """Claim the most urgent trial, which need not be the one that woke this worker, and run it to its end. A worker
    that stops claims nothing."""
    if draining.is_set():
        return
    settings = runtime.settings
    claimed_at = time.monotonic()
    lease = _claim(runtime, trial_id)
    if lease is None:
        return
    with (
        tracing.span(
            "attempt", search=lease.search_id, trial=lease.trial_id, epoch=lease.epoch, device=runtime.slot.device
        ),
        structlog.contextvars.bound_contextvars(search=lease.search_id, trial=lease.trial_id, epoch=lease.epoch),
        Keeper(
            runtime.engine,
            seconds=lease.seconds,
            claimed_at=claimed_at,
            renew=partial(leases.renew, lease=lease),
            renew_every=settings.renew_seconds,
            look=partial(leases.asked, lease=lease),
            look_every=settings.poll_seconds,
        ) as keeper,
    ):
        _log.info("claimed")
        try:
            with scratch(settings.home / "scratch", f"{lease.trial_id}-{lease.epoch}") as folder:
                ending = _attempt(runtime, lease, keeper, folder)
        except OSError as error:
            _log.exception("attempt crashed")
            ending = Ending("crashed", error={"code": "system", "detail": str(error)})
        if ending is not None and keeper.write(partial(_end, lease=lease, ending=ending, settings=settings)):
            _log.info("ended", outcome=ending.kind, error=ending.error)


def _claim(runtime: Runtime, woken_by: str) -> Lease | None:
    settings, slot = runtime.settings, runtime.slot
    passed: set[str] = set()
    while True:
        with transaction(runtime.engine) as session:
            trial_id = trials.next_due(session, slot.offers, passed)
            if trial_id is None:
                trials.pass_on(session, woken_by, slot.offers, seconds=_ELSEWHERE_SECONDS)
                return None
            lease = leases.claim(
                session,
                trial_id,
                owner=slot.name,
                device=slot.device,
                seconds=settings.lease_seconds,
                stall_seconds=settings.stall_seconds,
                offers=slot.offers,
            )
        if lease is not None:
            return lease
        # Another worker was faster.
        passed.add(trial_id)


def _attempt(runtime: Runtime, lease: Lease, keeper: Keeper, folder: Path) -> Ending | None:
    """Lay the trial out, train, write what comes. None: the lease is over."""

    def check() -> None:
        if keeper.is_over or requested_stop(keeper) in {Stop.CANCEL, Stop.DRAIN}:
            raise StoppedError

    def wait() -> None:
        check()
        if requested_stop(keeper) is Stop.LIMIT:
            raise StoppedError

    try:
        assignment = keeper.read(partial(leases.assignment, lease=lease))
        if assignment is None:
            return None
        trial = _lay_out(runtime, assignment, folder, check)
        if assignment.device is not None:
            known = keeper.read(partial(_known, lease=lease, trial=trial, device=assignment.device))
            trial = _with_known(trial, known or [])
        check()
    except StoppedError:
        if keeper.is_over:
            return None
        return Ending("cancelled" if requested_stop(keeper) is Stop.CANCEL else "queued")
    except LookupError as error:
        return Ending("failed", error={"code": "missing_input", "detail": str(error)})
    except ValueError as error:
        _log.exception("trial not understood")
        return Ending(
            "failed", error={"code": "not_understood", "detail": f"this worker cannot run the trial: {error}"}
        )
    except (BlobCorruptError, OSError) as error:
        _log.exception("trial not laid out")
        if isinstance(error, BlobCorruptError):
            keeper.count(counters.DIGEST_MISMATCHES)
        return Ending("crashed", error={"code": "storage", "detail": str(error)})
    try:
        with ExitStack() as locks:
            if assignment.device is None:
                locks.enter_context(lock.held(runtime.settings.lock, "shared", wait))
            else:
                locks.enter_context(lock.held(runtime.settings.lock, "alone", wait))
                locks.enter_context(lock.held(runtime.settings.jobs_lock, "alone", wait))
            if not keeper.write(partial(leases.begin_computing, lease=lease)):
                return None
            return _train(runtime, lease, keeper, folder, trial)
    except StoppedError:
        # At a limit there is no time left to do anything.
        none_left = requested_stop(keeper) in {Stop.CANCEL, Stop.LIMIT}
        return None if keeper.is_over else Ending("cancelled" if none_left else "queued")


def _train(runtime: Runtime, lease: Lease, keeper: Keeper, folder: Path, trial: Trial) -> Ending | None:
    """Run the trainer to its end."""
    order = folder / "order.json"
    write_order(order, trial)
    scribe = Scribe(runtime.blobs, lease, keeper)
    scribe.start()
    try:
        with runtime.trainers.start(
            order, hurry=lambda: keeper.is_over or requested_stop(keeper) is not Stop.NO
        ) as process:
            ending = TrainerWatch(process, keeper, scribe, runtime.settings).wait()
    finally:
        written = scribe.finish()
    if written:
        return _advised(ending, trial)
    if isinstance(scribe.error, OSError):
        return Ending("crashed", error={"code": "storage", "detail": str(scribe.error)})
    if scribe.error is not None:
        return Ending("failed", error={"code": "bad_report", "detail": str(scribe.error)})
    return None


def _lay_out(runtime: Runtime, assignment: Assignment, folder: Path, check: Callable[[], None]) -> Trial:
    """Bring the dataset, the inputs and the last checkpoint to this machine.

    Raises what `check` does, BlobMissingError, BlobCorruptError, OSError, and ValueError for a specification that this
    worker does not know.
    """
    cache = runtime.settings.home / "cache" / "datasets"
    dataset = materialise.dataset(
        runtime.blobs, cache, assignment.dataset_id, assignment.manifest, partial=folder / "dataset", check=check
    )
    inputs = {name: folder / "inputs" / name for name in assignment.inputs}
    for name, sha256 in assignment.inputs.items():
        runtime.blobs.fetch(sha256, inputs[name], check)
    checkpoint = None
    if assignment.checkpoint is not None:
        checkpoint = materialise.files(runtime.blobs, folder / "checkpoint", assignment.checkpoint["files"], check)
    work = folder / "work"
    work.mkdir()
    spec = ResolvedSpec.model_validate(assignment.spec)
    return Trial(
        number=assignment.number,
        spec=spec,
        params=assignment.params,
        dataset=dataset,
        work=work,
        # The trainer sees one device only (`paretofit.workers.environment`).
        device=runtime.slot.device.partition(":")[0],
        seed=trial_seed(spec.seed, assignment.number),
        inputs=inputs,
        checkpoint=checkpoint,
        batch_scale=assignment.batch_scale,
        checkpoint_seconds=runtime.settings.checkpoint_seconds,
    )


def _known(session: Session, lease: Lease, trial: Trial, device: str) -> Sequence[Measured]:
    """What the cache has of the trial's candidates on this machine."""
    spec = trial.spec
    architectures = {spec.method.network(spec.dataset, candidate.config).key for candidate in spec.feasible()}
    return latencies.known(session, lease.tenant_id, device, architectures, machine=describe(device))


def _with_known(trial: Trial, known: Sequence[Measured]) -> Trial:
    path = trial.work.with_name(KNOWN)
    write_known(path, list(known))
    return replace(trial, inputs={**trial.inputs, KNOWN: path})


def _advised(ending: Ending | None, trial: Trial) -> Ending | None:
    """An ending that says what to do if memory ran out."""
    if ending is None or ending.error is None or ending.error["code"] != OUT_OF_MEMORY:
        return ending
    size = getattr(trial.spec.method, "batch_size", None)
    batch = "its batch size" if size is None else f"batch_size {size}"
    if trial.batch_scale == 1:
        advice = f"out of memory with {batch}; it is tried once more, with half of it"
    else:
        advice = (
            f"out of memory even with half of {batch}: use a smaller batch_size, smaller images, a smaller network or "
            "a device with more memory"
        )
    return replace(ending, error=ending.error | {"detail": f"{advice} ({ending.error['detail']})"})


def _end(session: Session, lease: Lease, ending: Ending, settings: Settings) -> None:
    match ending.kind:
        case "queued":
            trials.release(session, lease)
        case "crashed":
            trials.crash(
                session,
                lease,
                ending.error or {},
                max_crashes=settings.max_crashes,
                back_off=settings.retry_seconds,
            )
        case outcome:
            trials.finish(session, lease, outcome, outputs=ending.outputs, error=ending.error)
