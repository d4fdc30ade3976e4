"""What the task `ingest` does: claim a dataset, validate it in a process of its own, store its files."""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.orm import Session

from db import ingestion, publication
from db.blobs import BlobCorruptError, BlobMissingError
from db.engine import transaction
from db.ingestion import Ingestion
from db.leases import Asked
from workers import environment
from workers.keeper import Keeper, StoppedError
from workers.parent import draining
from workers.process import start_module
from workers.runtime import Runtime
from workers.scratch import scratch

_TICK: Final = 0.05
_LAST_LINES: Final = 20
_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class _CrashedError(RuntimeError):
    """The validation came to no answer: worth another try."""


def run(runtime: Runtime, dataset_id: str) -> None:
    """Claim a dataset and validate it, if nobody else does. A worker that stops claims nothing."""
    if draining.is_set():
        return
    settings = runtime.settings
    claimed_at = time.monotonic()
    with transaction(runtime.engine) as session:
        job = ingestion.claim(session, dataset_id, seconds=settings.lease_seconds)
    if job is None:
        return
    renew = partial(_renew, job=job)
    with (
        structlog.contextvars.bound_contextvars(dataset=dataset_id, epoch=job.epoch),
        Keeper(
            runtime.engine,
            seconds=job.seconds,
            claimed_at=claimed_at,
            renew=renew,
            renew_every=settings.renew_seconds,
            look=renew,
            look_every=settings.renew_seconds,
        ) as keeper,
    ):
        _log.info("claimed")
        answer: dict[str, Any] | None
        try:
            with scratch(settings.home / "scratch", f"{dataset_id}-{job.epoch}") as folder:
                answer = _validate(runtime, job, keeper, folder)
        except StoppedError:
            answer = None if keeper.is_over else {"state": "drained"}
        except (_CrashedError, BlobCorruptError, BlobMissingError, OSError) as error:
            _log.exception("validation crashed")
            answer = {"state": "crashed", "detail": str(error)}
        if answer is not None and keeper.write(partial(_end, runtime=runtime, job=job, answer=answer)):
            _log.info("ended", state=answer["state"])


def _validate(runtime: Runtime, job: Ingestion, keeper: Keeper, folder: Path) -> dict[str, Any]:
    """The answer of `search.data.ingest`, with a manifest if it is ready. Raises StoppedError, _CrashedError, OSError,
    BlobMissingError, BlobCorruptError."""

    def check() -> None:
        if keeper.is_over or draining.is_set():
            raise StoppedError

    archive = None
    if job.archive is not None:
        archive = folder / "archive"
        runtime.blobs.fetch(job.archive, archive, check)
    request, out = folder / "request.json", folder / "dataset"
    content = {"spec": job.spec.model_dump(mode="json"), "archive": None if archive is None else str(archive)}
    request.write_text(json.dumps(content))
    lines: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    with start_module(
        "search.data.ingest",
        *("--request", str(request), "--out", str(out)),
        environment=environment.here(device="cpu", threads=runtime.slot.threads),
        directory=folder,
    ) as process:
        while not process.has_ended():
            check()
            for source, line in process.read(_TICK):
                lines.setdefault(source, []).append(line)
                del lines[source][:-_LAST_LINES]
        status = process.end()
        for source, line in process.read_rest(1.0):
            lines.setdefault(source, []).append(line)
    if status != 0 or not lines["stdout"]:
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        said = b"\n".join(lines["stderr"][-_LAST_LINES:]).decode(errors="replace")
        raise _CrashedError(f"the validation ended by {name}: {said}")
    answer: dict[str, Any] = json.loads(lines["stdout"][-1])
    if answer["state"] == "ready":
        answer["manifest"] = {}
        for name in answer["files"]:
            check()
            blob = runtime.blobs.put(out / name)
            answer["manifest"][name] = {"sha256": blob.sha256, "size": blob.size}
    return answer


def _renew(session: Session, job: Ingestion) -> Asked:
    ingestion.renew(session, job)
    return Asked(cancel=False, pause=False, limit=False)


def _end(session: Session, runtime: Runtime, job: Ingestion, answer: dict[str, Any]) -> None:
    settings = runtime.settings
    match answer["state"]:
        case "ready":
            publication.confirm(session, runtime.blobs, (file["sha256"] for file in answer["manifest"].values()))
            ingestion.ready(
                session, job, manifest=answer["manifest"], profile=answer["profile"], report=answer["report"]
            )
        case "rejected":
            errors = answer["errors"]
            error = errors[0] | {"errors": errors}
            ingestion.reject(session, job, error, answer["report"])
        case "drained":
            ingestion.release(session, job)
        case _:
            ingestion.crash(
                session,
                job.dataset_id,
                job.epoch,
                {"code": "crashed", "detail": answer["detail"]},
                max_crashes=settings.max_crashes,
                back_off=settings.retry_seconds,
            )
