"""The task `ingest`: claims a dataset, validates it in a helper process and stores its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from paretofit.core.http import Outbound
from paretofit.core.settings import Settings
from paretofit.db import datasets, jobs, references, tenants
from paretofit.db.datasets import ValidationJob
from paretofit.db.engine import transaction
from paretofit.db.jobs import DATASETS
from paretofit.db.tenants import Quota, QuotaError
from paretofit.search.contracts.dataset import S3Source, UrlSource
from paretofit.workers import download
from paretofit.workers.download import UnusableError
from paretofit.workers.helper_process import own_file, run_helper
from paretofit.workers.job import JobResult, run_job
from paretofit.workers.runtime import Runtime


def run(runtime: Runtime, dataset_id: str) -> None:
    """Claim a dataset and validate it, unless another worker has it."""
    run_job(runtime, DATASETS, dataset_id, datasets.claim, work=partial(_validate, runtime), end=partial(_end, runtime))


def _validate(runtime: Runtime, job: ValidationJob, folder: Path, check: Callable[[], None]) -> JobResult:
    """The result of `paretofit.search.data.ingest`, with a manifest if it is ready."""
    archive, settings = None, runtime.settings
    if job.archive is not None:
        archive = folder / "archive"
        runtime.blobs.fetch(job.archive, archive, check)
    elif isinstance(job.spec.source, UrlSource | S3Source):
        archive = folder / "archive"
        try:
            download.fetch(job.spec.source, archive, settings, Outbound.to(settings.outbound_networks), check)
        except UnusableError as error:
            return {"state": "rejected", "errors": error.reasons(), "report": None}
    request, out = folder / "request.json", folder / "dataset"
    content = {"spec": job.spec.model_dump(mode="json"), "archive": None if archive is None else str(archive)}
    request.write_text(json.dumps(content))
    arguments = ("--request", str(request), "--out", str(out))
    result = run_helper(
        "paretofit.search.data.ingest", *arguments, directory=folder, threads=runtime.slot.threads, check=check
    )
    if result["state"] == "ready":
        paths = {name: own_file(out, name) for name in result["files"]}
        # Checked before the upload: the blob store would keep the files for a day.
        with transaction(runtime.engine) as session:
            over = _over_quota(session, job, sum(path.stat().st_size for path in paths.values()), settings)
        if over is not None:
            return {"state": "rejected", "errors": [over], "report": result["report"]}
        result["manifest"] = {}
        for name, path in paths.items():
            check()
            blob = runtime.blobs.put(path)
            result["manifest"][name] = {"sha256": blob.sha256, "size": blob.size}
    return result


def _end(runtime: Runtime, session: Session, job: ValidationJob, result: JobResult) -> None:
    settings = runtime.settings
    size = sum(file["size"] for file in result.get("manifest", {}).values())
    match result["state"]:
        case "ready" if (over := _over_quota(session, job, size, settings)) is not None:
            jobs.fail(session, job, over | {"errors": [over]}, report=result["report"])
        case "ready":
            references.pin(session, runtime.blobs, (file["sha256"] for file in result["manifest"].values()))
            datasets.mark_ready(
                session, job, manifest=result["manifest"], profile=result["profile"], report=result["report"]
            )
        case _:
            errors = result["errors"]
            jobs.fail(session, job, errors[0] | {"errors": errors}, report=result["report"])


def _over_quota(session: Session, job: ValidationJob, size: int, settings: Settings) -> dict[str, Any] | None:
    """The error if files of `size` bytes exceed the tenant's quota. The size of a fetched source is known only now."""
    try:
        tenants.admit_bytes(session, job.tenant, Quota(None, None, settings.max_stored_bytes), more=size)
    except QuotaError as error:
        detail = f"{error}; this dataset needs {size} more: delete datasets or searches that you no longer need"
        return {"code": "quota_exceeded", "detail": detail}
    return None
