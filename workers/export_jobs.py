"""The task `export`: claims an export, writes its file in a helper process and stores it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, cast

from sqlalchemy.orm import Session

from paretofit.db import exports, jobs, references
from paretofit.db.exports import ExportJob
from paretofit.db.jobs import EXPORTS
from paretofit.search.contracts.point import Format
from paretofit.search.export.formats import FORMS, file_name
from paretofit.workers.helper_process import HelperTimeoutError, run_helper
from paretofit.workers.job import JobResult, run_job
from paretofit.workers.messages import storable
from paretofit.workers.runtime import Runtime

_SECONDS: Final = 900.0
"""Time limit of an export; a longer one is considered hung."""


def run(runtime: Runtime, export_id: str) -> None:
    """Claim an export and run it, unless another worker has it."""
    run_job(runtime, EXPORTS, export_id, exports.claim, work=partial(_export, runtime), end=partial(_end, runtime))


def _export(runtime: Runtime, job: ExportJob, folder: Path, check: Callable[[], None]) -> JobResult:
    """The result of `paretofit.search.export`, with the `blob` of the file if it is ready."""
    # The runtimes depend on the suffix.
    out = folder / f"export{FORMS[cast('Format', job.format)].suffix}"
    weights, request = folder / "weights", folder / "request.json"
    runtime.blobs.fetch(job.source_sha256, weights, check)
    content = {
        "weights": str(weights),
        "from_supernet": job.from_supernet,
        "method": job.method,
        "record": job.record,
        "format": job.format,
        "precision": job.precision,
        "size": job.size,
    }
    request.write_text(json.dumps(content))
    arguments = ("--request", str(request), "--out", str(out))
    try:
        result = run_helper(
            "paretofit.search.export",
            *arguments,
            directory=folder,
            threads=runtime.slot.threads,
            check=check,
            seconds=_SECONDS,
        )
    except HelperTimeoutError as error:
        return {"state": "failed", "error": {"code": "conversion", "detail": str(error)}}
    if result["state"] == "ready":
        check()
        result["blob"] = runtime.blobs.put(out)
    return result


def _end(runtime: Runtime, session: Session, job: ExportJob, result: JobResult) -> None:
    match result["state"]:
        case "ready":
            references.pin(session, runtime.blobs, [result["blob"].sha256])
            form = FORMS[cast("Format", job.format)]
            exports.mark_ready(
                session,
                job,
                name=file_name(job.record["key"], form, job.precision),
                blob=result["blob"],
                media_type=form.media_type,
                parity=result["parity"],
            )
        case _:
            jobs.fail(session, job, storable(result["error"]))
