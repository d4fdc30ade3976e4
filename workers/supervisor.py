"""What the task `train` does: claim a trial, run its trainer, write what it reports, end it.

The supervisor alone speaks with PostgreSQL and the blob store; it never imports torch. Whatever kills it closes the
trainer's pipe, and the trainer ends.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from sqlalchemy.orm import Session

from paretofit.core import tracing
from paretofit.core.settings import Settings
from paretofit.db import counters, latencies, leases, trials
from paretofit.db.blobs import BlobCorruptError
from paretofit.db.engine import transaction
from paretofit.db.leases import Assignment, Lease
from paretofit.db.trials import OUT_OF_MEMORY, Outcome
from paretofit.search.contracts.latency import Measured, write_known
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop, Trial, trial_seed
from paretofit.search.latency import lock
from paretofit.search.latency.devices import describe
from paretofit.search.latency.stage import KNOWN
from paretofit.workers import materialise
from paretofit.workers.keeper import Keeper, StoppedError
from paretofit.workers.memory import oom_kills
from paretofit.workers.messages import decode, storable
from paretofit.workers.parent import draining
from paretofit.workers.process import Process
from paretofit.workers.runtime import Runtime
from paretofit.workers.scratch import scratch
from paretofit.workers.scribe import Scribe
from paretofit.workers.trainer import write_order

DRAIN_SECONDS: Final = 20.0
_LONGEST_LOG_LINE: Final = 8_192
_LAST_LINES: Final = 20
_TICK: Final = 0.05
_ELSEWHERE_SECONDS: Final = 2.0
_EXIT_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 3.0
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of an attempt: a state to finish in, "queued" to hand the trial back, or "crashed"."""

    kind: Outcome | Literal["queued", "crashed"]
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


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
        if keeper.is_over or _wanted(keeper) in {Stop.CANCEL, Stop.DRAIN}:
            raise StoppedError

    def wait() -> None:
        check()
        if _wanted(keeper) is Stop.LIMIT:
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
        return Ending("cancelled" if _wanted(keeper) is Stop.CANCEL else "queued")
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
        none_left = _wanted(keeper) in {Stop.CANCEL, Stop.LIMIT}
        return None if keeper.is_over else Ending("cancelled" if none_left else "queued")


def _train(runtime: Runtime, lease: Lease, keeper: Keeper, folder: Path, trial: Trial) -> Ending | None:
    """Run the trainer to its end."""
    order = folder / "order.json"
    write_order(order, trial)
    scribe = Scribe(runtime.blobs, lease, keeper)
    scribe.start()
    try:
        with runtime.trainers.start(order, hurry=lambda: keeper.is_over or _wanted(keeper) is not Stop.NO) as process:
            ending = _Watch(process, keeper, scribe, runtime.settings).until_the_end()
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


def _wanted(keeper: Keeper) -> Stop:
    asked = keeper.asked
    if asked.cancel:
        return Stop.CANCEL
    if asked.pause or draining.is_set():
        return Stop.DRAIN
    return Stop.LIMIT if asked.limit else Stop.NO


class _Watch:
    """One trainer from its start to its end: hands on what it says, and stops it when that is asked.

    Stopping begins with a word. A cancelled trainer gets SIGTERM half a second later and SIGKILL after the grace; one
    that drains has 20 s to save its work; one that is told of a limit has until the limit and the grace. One that
    stalls writes its stacks to the log and is killed.
    """

    _RANK: Final = (Stop.NO, Stop.LIMIT, Stop.DRAIN, Stop.CANCEL)

    def __init__(self, process: Process, keeper: Keeper, scribe: Scribe, settings: Settings) -> None:
        self._process = process
        self._keeper = keeper
        self._scribe = scribe
        self._grace = settings.stop_grace_seconds
        self._stall_seconds = settings.stall_seconds
        self._began = time.monotonic()
        self._oom_kills = oom_kills()
        self._told = Stop.NO
        self._broke: Literal["limit", "stalled"] | None = None
        self._due: list[tuple[float, signal.Signals]] = []
        self._sent: set[signal.Signals] = set()
        self._said: tuple[str, Any] | None = None
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def until_the_end(self) -> Ending | None:
        """Returns when nothing of the trainer runs any more; None if it was killed because nothing can be written."""
        while not self._process.has_ended():
            if self._keeper.is_over or self._scribe.error is not None:
                _log.warning("trainer killed: its reports cannot be written")
                self._process.end()
                return None
            if self._scribe.is_full:
                time.sleep(_TICK)
            else:
                self._take(self._process.read(_TICK))
            self._stop()
        status = self._process.end()
        self._take(self._process.read_rest(_EXIT_SECONDS))
        return self._ending(status)

    def _take(self, lines: list[tuple[str, bytes]]) -> None:
        for source, line in lines:
            if source != "report":
                # PostgreSQL's text holds no NUL.
                text = line[:_LONGEST_LOG_LINE].decode(errors="replace").replace("\0", "\ufffd")
                self._scribe.put("log", [source, text])
                if source == "stderr":
                    self._last.append(text)
                continue
            try:
                kind, value = decode(line)
            except ValueError as error:
                kind, value = "malformed", str(error)
            if kind in {"ended", "failed"}:
                self._said = (kind, storable(value))
                self._later((_EXIT_SECONDS, signal.SIGKILL))
            else:
                self._scribe.put(kind, value)

    def _stop(self) -> None:
        now = time.monotonic()
        wanted, asked = _wanted(self._keeper), self._keeper.asked
        if self._RANK.index(wanted) > self._RANK.index(self._told):
            self._told = wanted
            _log.info("trainer asked to stop", stop=wanted.value)
            self._process.tell(wanted)
            if wanted is Stop.CANCEL:
                self._later((0.5, signal.SIGTERM), (0.5 + self._grace, signal.SIGKILL))
            elif wanted is Stop.DRAIN:
                self._later((DRAIN_SECONDS, signal.SIGTERM), (DRAIN_SECONDS + _LAST_SECONDS, signal.SIGKILL))
        # Progress is counted from the claim on, but laying a large dataset out is not the trainer's fault.
        if self._broke is None and asked.stalled and now > self._began + self._stall_seconds:
            self._broke = "stalled"
            _log.warning("trainer stalled")
            self._later((0, signal.SIGABRT), (_LAST_SECONDS, signal.SIGKILL))
        elif self._broke is None and asked.overdue:
            self._broke = "limit"
            self._later((self._grace, signal.SIGTERM), (self._grace + _LAST_SECONDS, signal.SIGKILL))
        for at, number in self._due:
            if now >= at and number not in self._sent:
                self._sent.add(number)
                self._process.signal(number)

    def _later(self, *signals: tuple[float, signal.Signals]) -> None:
        now = time.monotonic()
        self._due += [(now + seconds, number) for seconds, number in signals]

    def _ending(self, status: int) -> Ending:
        match self._said:
            case ("ended", {"told": Stop.NO | Stop.LIMIT, "state": state, "outputs": outputs, "error": error}):
                return Ending(state, outputs=outputs, error=error)
            case ("failed", error) if self._told in {Stop.NO, Stop.LIMIT}:
                return Ending("crashed" if error["code"] == OUT_OF_MEMORY else "failed", error=error)
        if self._told == Stop.CANCEL:
            return Ending("cancelled")
        if self._told == Stop.DRAIN:
            return Ending("queued")
        last = list(self._last)
        if self._broke == "limit" and self._sent:
            detail = f"it did not end within {self._grace:g} s of the search's time limit; its reports are kept"
            return Ending("cancelled", error={"code": "limit", "detail": detail})
        if self._broke == "stalled":
            detail = f"the trainer reported nothing for {self._stall_seconds:g} s; the log ends with where it was"
            return Ending("crashed", error={"code": "stalled", "detail": detail, "log": last})
        if status == -signal.SIGKILL and signal.SIGKILL not in self._sent and oom_kills() > self._oom_kills:
            detail = "the system ran out of memory and killed the trainer"
            return Ending("crashed", error={"code": OUT_OF_MEMORY, "detail": detail, "log": last})
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Ending("crashed", error={"code": "crashed", "detail": f"the trainer ended by {name}", "log": last})


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
