"""The lease of a trial: claim, renewal, and the control flags of a running trial. `paretofit.db.jobs` describes how
leases guard the writes of workers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy import Double, cast, extract, func, select, update
from sqlalchemy.orm import Session

from paretofit.db import jobs, limits
from paretofit.db.jobs import TRIALS, Job
from paretofit.db.tables import ArtifactRow, AttemptRow, DatasetRow, SearchRow, TrialRow
from paretofit.db.transitions import lock_search, move_search, move_trial
from paretofit.search.contracts.spec import RESERVE

_IDLE_SECONDS: Final = cast(extract("epoch", func.clock_timestamp() - TrialRow.progressed_at), Double)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Job):
    """A lease on a trial. `stall_seconds` is the longest time that the trial may run without progress."""

    search_id: str
    tenant_id: str
    owner: str
    stall_seconds: float = float("inf")

    @classmethod
    def of(cls, row: TrialRow, *, seconds: float, stall_seconds: float = float("inf")) -> Self:
        """The current lease of a trial."""
        return cls(
            kind=TRIALS,
            subject=row.id,
            epoch=row.lease_epoch,
            seconds=seconds,
            search_id=row.search_id,
            tenant_id=row.tenant_id,
            owner=row.lease_owner or "",
            stall_seconds=stall_seconds,
        )

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self.subject


@dataclass(frozen=True, slots=True)
class Assignment:
    """The data of a claimed trial for its trainer. `inputs` maps names to SHA-256; `manifest` is the dataset's. It
    measures on `device`."""

    number: int
    spec: dict[str, Any]
    params: dict[str, Any]
    inputs: dict[str, str]
    checkpoint: dict[str, Any] | None
    batch_scale: float
    device: str | None
    dataset_id: str
    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ControlFlags:
    """Requests to a running trial: cancel it, pause it (save its work and release it), or finish within the reserve of
    a time limit.

    `stalled`: it made no progress for too long (`paretofit.db.reports.write`), so its trainer is killed and the attempt
    crashes. `overdue`: the limit is exceeded, including the reserve.
    """

    cancel: bool
    pause: bool
    limit: bool
    stalled: bool = False
    overdue: bool = False


def claim(
    session: Session,
    trial_id: str,
    *,
    owner: str,
    device: str,
    seconds: float,
    stall_seconds: float = float("inf"),
    offers: Collection[str] = (),
) -> Lease | None:
    """Claim a queued trial that is due. None: another worker has it, its search is not active, or its device is not in
    `offers`, the devices that can be measured on.

    The first claim of a search's trials starts the search.
    """
    search_id = session.scalar(select(TrialRow.search_id).where(TrialRow.id == trial_id))
    search = None if search_id is None else lock_search(session, search_id)
    if search is None or search.state not in {"queued", "running"} or search.cancel_requested or search.pause_requested:
        return None
    moved = move_trial(
        session,
        trial_id,
        "running",
        TrialRow.run_after <= func.clock_timestamp(),
        TrialRow.device.is_(None) | TrialRow.device.in_(offers),
        lease_owner=owner,
        started_at=func.coalesce(TrialRow.started_at, func.clock_timestamp()),
        progressed_at=func.clock_timestamp(),
        **jobs.lease_values(TRIALS, seconds),
        data={"worker": owner, "device": device},
    )
    if moved is None:
        return None
    lease = Lease.of(moved, seconds=seconds, stall_seconds=stall_seconds)
    session.add(
        AttemptRow(trial_id=trial_id, epoch=lease.epoch, worker=owner, device=device, tenant_id=lease.tenant_id)
    )
    if search.state == "queued":
        move_search(
            session, search.id, "running", started_at=func.coalesce(SearchRow.started_at, func.clock_timestamp())
        )
    return lease


def assignment(session: Session, lease: Lease) -> Assignment:
    """The data of a claimed trial for its trainer. Raises LookupError if an input artifact is missing."""
    search = session.get_one(SearchRow, lease.search_id)
    trial = session.get_one(TrialRow, lease.trial_id)
    dataset = session.get_one(DatasetRow, search.dataset_id)
    return Assignment(
        number=trial.number,
        spec=search.spec | {"limits": search.limits},
        params=trial.params,
        inputs={name: _digest(session, search.id, artifact) for name, artifact in trial.inputs.items()},
        checkpoint=trial.checkpoint,
        batch_scale=trial.batch_scale,
        device=trial.device,
        dataset_id=dataset.id,
        manifest=dataset.manifest or {},
    )


def renew(session: Session, lease: Lease) -> ControlFlags:
    """Begin a write: renew the lease and lock the trial's row until the commit.

    Raises StaleLeaseError.
    """
    return _control_flags(session, lease, jobs.renew(session, lease, _IDLE_SECONDS)[1])


def begin_computing(session: Session, lease: Lease) -> None:
    """Record that the attempt has the machine: device time and the stall timer start. Raises StaleLeaseError."""
    renew(session, lease)
    now = func.clock_timestamp()
    session.execute(update(TrialRow).where(TrialRow.id == lease.trial_id).values(progressed_at=now))
    session.execute(
        update(AttemptRow)
        .where(AttemptRow.trial_id == lease.trial_id, AttemptRow.epoch == lease.epoch)
        .values(computing_at=now)
    )


def control_flags(session: Session, lease: Lease) -> ControlFlags:
    """The current control flags of the trial; writes nothing. Raises StaleLeaseError."""
    held = session.execute(select(_IDLE_SECONDS).where(lease.held())).one_or_none()
    if held is None:
        raise lease.stale()
    return _control_flags(session, lease, held[0])


def _control_flags(session: Session, lease: Lease, idle_seconds: float | None) -> ControlFlags:
    search = session.get_one(SearchRow, lease.search_id, populate_existing=True)
    limit = limits.reached(session, search, share=1 - RESERVE) is not None
    return ControlFlags(
        stalled=idle_seconds is not None and idle_seconds > lease.stall_seconds,
        cancel=search.cancel_requested,
        pause=search.pause_requested,
        limit=limit,
        overdue=limit and limits.reached(session, search) is not None,
    )


def _digest(session: Session, search_id: str, artifact: dict[str, Any]) -> str:
    number, name = artifact["trial"], artifact["artifact"]
    digest = session.scalar(
        select(ArtifactRow.sha256)
        .outerjoin(TrialRow, TrialRow.id == ArtifactRow.trial_id)
        .where(
            ArtifactRow.search_id == search_id,
            # An artifact of the search itself has no trial.
            TrialRow.number.is_not_distinct_from(number),
            ArtifactRow.name == name,
        )
    )
    if digest is None:
        owner = f"search {search_id}" if number is None else f"trial {number} of search {search_id}"
        raise LookupError(f"{owner} has no artifact {name!r}: a plan may only refer to reported artifacts")
    return digest
