"""A part of the service with one guard disabled: `python -m tests.chaos.without GUARD MODULE ARGUMENTS...`.

The run must then find a violation; otherwise it proves nothing. The service itself does not use this module.
"""

from __future__ import annotations

import hashlib
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from tests.chaos.schedule import Guard

_CHUNK: Final = 16 * 1024
_PAUSE: Final = 0.06


def _epoch_guard() -> None:
    """Writes check whether the trial is running, not whether it runs under the writer's epoch.

    The supervisor's clock is disabled too: it ends most attempts before they write. But a process may be suspended
    between its check of the clock and its write, and then only the epoch protects the trial.
    """
    from paretofit.db.leases import Lease
    from paretofit.db.tables import TrialRow
    from paretofit.workers import lease_renewer

    def held(lease: Lease) -> ColumnElement[bool]:
        return (TrialRow.id == lease.trial_id) & (TrialRow.state == "running")

    lease_renewer._USABLE_FRACTION = float("inf")  # type: ignore[misc]  # as below
    Lease.held = held  # type: ignore[assignment, method-assign]  # on purpose


def _outbox() -> None:
    """Job messages are sent at once instead of written to the outbox, and lost ones are not resent."""
    from paretofit.db import outbox

    def publish(
        session: Session, task: str, subject: str, *, priority: int = 0, send_after: datetime | None = None
    ) -> None:
        from paretofit.workers.app import send

        try:
            send(task, subject, priority)
        except (BrokerError, RedisError, OSError) as error:
            sys.stderr.write(f"job message lost: {error}\n")

    def nothing(session: Session, task: str, *, seconds: float) -> list[str]:
        return []

    # Patched before modules import it by name.
    outbox.enqueue = publish
    from paretofit.db import reaping

    reaping.resend = nothing


def _claim_guard() -> None:
    """A claim takes a trial in any state."""
    from paretofit.db import states

    def sources(machine: states.Machine, target: str) -> tuple[str, ...]:
        if machine is states.TRIAL and target == "running":
            return tuple(machine)
        return _sources(machine, target)

    _sources = states.sources
    states.sources = sources


def _rename() -> None:
    """A blob is written slowly under its final name and is not verified when it is read."""
    from paretofit.db import blobs
    from paretofit.db.blobs import Blob, LocalBlobStore

    def put(store: LocalBlobStore, path: Path) -> Blob:
        content = path.read_bytes()
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        target = store._root / blob.sha256[:2] / blob.sha256
        target.parent.mkdir(exist_ok=True)
        with target.open("wb", buffering=0) as file:
            for start in range(0, len(content), _CHUNK):
                file.write(content[start : start + _CHUNK])
                time.sleep(_PAUSE)
        return blob

    def unverified(chunks: Iterable[bytes], sha256: str) -> Iterator[bytes]:
        return iter(chunks)

    LocalBlobStore.put = put  # type: ignore[assignment, method-assign]  # as above
    blobs._verified = unverified


_DISABLE: Final[Mapping[Guard, Callable[[], None]]] = {
    "epoch_guard": _epoch_guard,
    "outbox": _outbox,
    "claim_guard": _claim_guard,
    "rename": _rename,
}


def main(guard: Guard, module: str) -> None:
    _DISABLE[guard]()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    guard, module, *_ = sys.argv[1:]
    del sys.argv[:2]
    main(next(known for known in _DISABLE if known == guard), module)
