"""The task `train`: claims a trial, runs its trainer, writes its reports and ends it.

Only the supervisor accesses PostgreSQL and the blob store; it never imports torch. If it is killed, the trainer's pipe
closes and the trainer exits.
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
from paretofit.workers import staging
from paretofit.workers.lease_renewer import LeaseRenewer, StoppedError
from paretofit.workers.report_writer import ReportWriter
from paretofit.workers.runtime import Runtime
from paretofit.workers.scratch import scratch
from paretofit.workers.shutdown_signal import draining
from paretofit.workers.trainer import write_order
from paretofit.workers.watch import AttemptResult, TrainerWatch, requested_stop

_ELSEWHERE_SECONDS: Final = 2.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def run(runtime: Runtime, trial_id: str) -> None:
    """Claim the trial of the highest priority, not necessarily `trial_id`, and run it. A worker that is shutting down
    claims nothing."""
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
        LeaseRenewer(
            runtime.engine,
            seconds=lease.seconds,
            claimed_at=claimed_at,
            renew=partial(leases.renew, lease=lease),
            renew_every=settings.renew_seconds,
            poll=partial(leases.control_flags, lease=lease),
            poll_every=settings.poll_seconds,
        ) as renewer,
    ):
        _log.info("trial_claimed")
        try:
            with scratch(settings.home / "scratch", f"{lease.trial_id}-{lease.epoch}") as folder:
                result = _attempt(runtime, lease, renewer, folder)
        except OSError as error:
            _log.exception("attempt_crashed")
            result = AttemptResult("crashed", error={"code": "system", "detail": str(error)})
        if result is not None and renewer.write(partial(_end, lease=lease, result=result, settings=settings)):
            _log.info("attempt_ended", outcome=result.kind, error=result.error)


def _claim(runtime: Runtime, trial_id: str) -> Lease | None:
    settings, slot = runtime.settings, runtime.slot
    skipped: set[str] = set()
    while True:
        with transaction(runtime.engine) as session:
            due = trials.next_due(session, slot.offers, skipped)
            if due is None:
                trials.pass_on(session, trial_id, slot.offers, seconds=_ELSEWHERE_SECONDS)
                return None
            lease = leases.claim(
                session,
                due,
                owner=slot.name,
                device=slot.device,
                seconds=settings.lease_seconds,
                stall_seconds=settings.stall_seconds,
                offers=slot.offers,
            )
        if lease is not None:
            return lease
        # Another worker was faster.
        skipped.add(due)


def _attempt(runtime: Runtime, lease: Lease, renewer: LeaseRenewer, folder: Path) -> AttemptResult | None:
    """Stage the inputs, train and write the reports. None: the lease is lost."""

    def check() -> None:
        if renewer.is_lost or requested_stop(renewer) in {Stop.CANCEL, Stop.DRAIN}:
            raise StoppedError

    def wait() -> None:
        check()
        if requested_stop(renewer) is Stop.LIMIT:
            raise StoppedError

    try:
        assignment = renewer.read(partial(leases.assignment, lease=lease))
        if assignment is None:
            return None
        trial = _stage_inputs(runtime, assignment, folder, check)
        if assignment.device is not None:
            known = renewer.read(partial(_known, lease=lease, trial=trial, device=assignment.device))
            trial = _with_known(trial, known or [])
        check()
    except StoppedError:
        if renewer.is_lost:
            return None
        return AttemptResult("cancelled" if requested_stop(renewer) is Stop.CANCEL else "queued")
    except LookupError as error:
        return AttemptResult("failed", error={"code": "missing_input", "detail": str(error)})
    except ValueError as error:
        _log.exception("trial_rejected")
        detail = f"this worker does not support the trial's specification: {error}; update the worker"
        return AttemptResult("failed", error={"code": "not_understood", "detail": detail})
    except (BlobCorruptError, OSError) as error:
        _log.exception("staging_failed")
        if isinstance(error, BlobCorruptError):
            renewer.count(counters.DIGEST_MISMATCHES)
        return AttemptResult("crashed", error={"code": "storage", "detail": str(error)})
    try:
        with ExitStack() as locks:
            if assignment.device is None:
                locks.enter_context(lock.held(runtime.settings.lock, "shared", wait))
            else:
                locks.enter_context(lock.held(runtime.settings.lock, "alone", wait))
                locks.enter_context(lock.held(runtime.settings.jobs_lock, "alone", wait))
            if not renewer.write(partial(leases.begin_computing, lease=lease)):
                return None
            return _train(runtime, lease, renewer, folder, trial)
    except StoppedError:
        # A limit is reached before the training has started: nothing can be reported any more.
        is_final = requested_stop(renewer) in {Stop.CANCEL, Stop.LIMIT}
        return None if renewer.is_lost else AttemptResult("cancelled" if is_final else "queued")


def _train(runtime: Runtime, lease: Lease, renewer: LeaseRenewer, folder: Path, trial: Trial) -> AttemptResult | None:
    """Run the trainer until it ends."""
    order = folder / "order.json"
    write_order(order, trial)
    report_writer = ReportWriter(runtime.blobs, lease, renewer)
    report_writer.start()
    try:
        with runtime.trainers.start(
            order, cancelled=lambda: renewer.is_lost or requested_stop(renewer) is not Stop.NO
        ) as process:
            result = TrainerWatch(process, renewer, report_writer, runtime.settings).wait()
    finally:
        written = report_writer.finish()
    if written:
        return _with_advice(result, trial)
    if isinstance(report_writer.error, OSError):
        return AttemptResult("crashed", error={"code": "storage", "detail": str(report_writer.error)})
    if report_writer.error is not None:
        return AttemptResult("failed", error={"code": "bad_report", "detail": str(report_writer.error)})
    return None


def _stage_inputs(runtime: Runtime, assignment: Assignment, folder: Path, check: Callable[[], None]) -> Trial:
    """Download the dataset, the inputs and the last checkpoint.

    Raises what `check` raises, BlobMissingError, BlobCorruptError, OSError, and ValueError for a specification that
    this worker does not support.
    """
    cache = runtime.settings.home / "cache" / "datasets"
    dataset = staging.dataset(
        runtime.blobs, cache, assignment.dataset_id, assignment.manifest, partial=folder / "dataset", check=check
    )
    inputs = {name: folder / "inputs" / name for name in assignment.inputs}
    for name, sha256 in assignment.inputs.items():
        runtime.blobs.fetch(sha256, inputs[name], check)
    checkpoint = None
    if assignment.checkpoint is not None:
        checkpoint = staging.files(runtime.blobs, folder / "checkpoint", assignment.checkpoint["files"], check)
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
    """The cached latencies of the trial's candidates on this machine."""
    spec = trial.spec
    architectures = {spec.method.network(spec.dataset, candidate.config).key for candidate in spec.feasible()}
    return latencies.known(session, lease.tenant_id, device, architectures, machine=describe(device))


def _with_known(trial: Trial, known: Sequence[Measured]) -> Trial:
    path = trial.work.with_name(KNOWN)
    write_known(path, list(known))
    return replace(trial, inputs={**trial.inputs, KNOWN: path})


def _with_advice(result: AttemptResult | None, trial: Trial) -> AttemptResult | None:
    """The result, with advice in its error if the trainer ran out of memory."""
    if result is None or result.error is None or result.error["code"] != OUT_OF_MEMORY:
        return result
    size = getattr(trial.spec.method, "batch_size", None)
    batch = "its batch size" if size is None else f"batch_size {size}"
    if trial.batch_scale == 1:
        advice = f"out of memory with {batch}; the trial is retried once with half of it"
    else:
        advice = (
            f"out of memory even with half of {batch}: use a smaller batch_size, smaller images, a smaller network or "
            "a device with more memory"
        )
    return replace(result, error=result.error | {"detail": f"{advice} ({result.error['detail']})"})


def _end(session: Session, lease: Lease, result: AttemptResult, settings: Settings) -> None:
    match result.kind:
        case "queued":
            trials.release(session, lease)
        case "crashed":
            trials.crash(
                session,
                lease,
                result.error or {},
                max_crashes=settings.max_crashes,
                back_off=settings.retry_seconds,
            )
        case outcome:
            trials.finish(session, lease, outcome, outputs=result.outputs, error=result.error)
