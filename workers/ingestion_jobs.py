"""What the task `ingest` does: claim a dataset, validate it in a process of its own, store its files."""

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
    """Claim a dataset and validate it, if nobody else does."""
    run_job(runtime, DATASETS, dataset_id, datasets.claim, work=partial(_validate, runtime), end=partial(_end, runtime))


def _validate(runtime: Runtime, job: ValidationJob, folder: Path, check: Callable[[], None]) -> JobResult:
    """The answer of `paretofit.search.data.ingest`, with a manifest if it is ready."""
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
    answer = run_helper(
        "paretofit.search.data.ingest", *arguments, directory=folder, threads=runtime.slot.threads, check=check
    )
    if answer["state"] == "ready":
        paths = {name: own_file(out, name) for name in answer["files"]}
        # Before they are in the blob store, which would have them for a day.
        with transaction(runtime.engine) as session:
            over = _over_quota(session, job, sum(path.stat().st_size for path in paths.values()), settings)
        if over is not None:
            return {"state": "rejected", "errors": [over], "report": answer["report"]}
        answer["manifest"] = {}
        for name, path in paths.items():
            check()
            blob = runtime.blobs.put(path)
            answer["manifest"][name] = {"sha256": blob.sha256, "size": blob.size}
    return answer


def _end(runtime: Runtime, session: Session, job: ValidationJob, answer: JobResult) -> None:
    settings = runtime.settings
    size = sum(file["size"] for file in answer.get("manifest", {}).values())
    match answer["state"]:
        case "ready" if (over := _over_quota(session, job, size, settings)) is not None:
            jobs.fail(session, job, over | {"errors": [over]}, report=answer["report"])
        case "ready":
            references.pin(session, runtime.blobs, (file["sha256"] for file in answer["manifest"].values()))
            datasets.ready(
                session, job, manifest=answer["manifest"], profile=answer["profile"], report=answer["report"]
            )
        case _:
            errors = answer["errors"]
            jobs.fail(session, job, errors[0] | {"errors": errors}, report=answer["report"])


def _over_quota(session: Session, job: ValidationJob, size: int, settings: Settings) -> dict[str, Any] | None:
    """Why the tenant may not keep files of `size` bytes. Of what is fetched nobody knew it before."""
    try:
        tenants.admit_bytes(session, job.tenant, Quota(None, None, settings.max_stored_bytes), more=size)
    except QuotaError as error:
        detail = f"{error}, {size} more are too many: delete datasets or searches that are not needed"
        return {"code": "quota_exceeded", "detail": detail}
    return None
