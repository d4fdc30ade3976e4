"""The task `convert`: claims weights, fetches or converts their file in a helper process and stores it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy.orm import Session

from paretofit.core.settings import Settings
from paretofit.db import jobs, references, tenants, weights
from paretofit.db.engine import transaction
from paretofit.db.jobs import WEIGHTS
from paretofit.db.tenants import Quota, QuotaError
from paretofit.db.weights import ConversionJob
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.contracts.weights import NamedSource
from paretofit.workers.helper_process import HelperCrashedError, HelperTimeoutError, own_file, run_helper
from paretofit.workers.job import JobResult, run_job
from paretofit.workers.messages import storable
from paretofit.workers.runtime import Runtime

_SECONDS: Final = 1800.0
"""Time limit of a conversion, including the download."""


def run(runtime: Runtime, weights_id: str) -> None:
    """Claim weights and convert them, unless another worker has them."""
    run_job(runtime, WEIGHTS, weights_id, weights.claim, work=partial(_convert, runtime), end=partial(_end, runtime))


def _convert(runtime: Runtime, job: ConversionJob, folder: Path, check: Callable[[], None]) -> JobResult:
    """The result of `paretofit.search.weights`, with the `blob` of the file if it is ready."""
    settings, source = runtime.settings, job.spec.source
    if isinstance(source, NamedSource) and not settings.fetches_weights(source.name):
        detail = (
            f"the source {source.name!r} is disabled on this service: ask the operator to add it to "
            "PARETOFIT_WEIGHTS_SOURCES, or upload the file"
        )
        return _rejected("source_disabled", detail)
    file = None
    if job.file is not None:
        file = folder / "upload"
        runtime.blobs.fetch(job.file, file, check)
    request, out = folder / "request.json", folder / "weights"
    content = {
        "spec": job.spec.model_dump(mode="json"),
        "file": None if file is None else str(file),
        "cache": str(settings.home / "cache" / "weights"),
    }
    request.write_text(json.dumps(content))
    try:
        result = run_helper(
            "paretofit.search.weights",
            *("--request", str(request), "--out", str(out)),
            directory=folder,
            threads=runtime.slot.threads,
            check=check,
            seconds=_SECONDS,
        )
    except HelperTimeoutError as error:
        return _rejected("timeout", f"{error}: download the file yourself and upload it")
    if result["state"] == "ready":
        path = own_file(out, result["file"])
        try:
            record = WeightsRecord.model_validate(result["record"])
        except ValidationError as error:
            raise HelperCrashedError(f"the helper process returned an invalid record: {error}") from error
        # Checked before the upload: the blob store would keep the file for a day.
        with transaction(runtime.engine) as session:
            over = _over_quota(session, job, path.stat().st_size, settings)
        if over is not None:
            return _rejected(**over)
        check()
        result |= {"record": storable(record.model_dump(mode="json")), "blob": runtime.blobs.put(path)}
    return result


def _end(runtime: Runtime, session: Session, job: ConversionJob, result: JobResult) -> None:
    settings = runtime.settings
    match result["state"]:
        case "ready" if (over := _over_quota(session, job, result["blob"].size, settings)) is not None:
            jobs.fail(session, job, over)
        case "ready":
            references.pin(session, runtime.blobs, [result["blob"].sha256])
            weights.mark_ready(session, job, record=result["record"], blob=result["blob"])
        case _:
            jobs.fail(session, job, storable(result["error"]))


def _rejected(code: str, detail: str) -> JobResult:
    return {"state": "rejected", "error": {"code": code, "detail": detail}}


def _over_quota(session: Session, job: ConversionJob, size: int, settings: Settings) -> dict[str, Any] | None:
    """The error if a file of `size` bytes, which replaces the uploaded one if any, exceeds the tenant's quota."""
    more = size - job.uploaded
    if more <= 0:
        return None
    try:
        tenants.admit_bytes(session, job.tenant, Quota(None, None, settings.max_stored_bytes), more=more)
    except QuotaError as error:
        detail = (
            f"{error}; these weights need {more} more: delete datasets, weights or searches that you no longer need"
        )
        return {"code": "quota_exceeded", "detail": detail}
    return None
