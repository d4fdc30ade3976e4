"""Writes a trainer's reports: files to the blob store, then everything else to PostgreSQL under the lease."""

from __future__ import annotations

import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.orm import Session

from paretofit.db import references, reports
from paretofit.db.blobs import BlobStore
from paretofit.db.leases import Lease
from paretofit.db.reports import Artifact, LogLine, Metric, Report
from paretofit.search.contracts.latency import Measured
from paretofit.workers import staging
from paretofit.workers.lease_renewer import LeaseRenewer

BATCH_SECONDS: Final = 0.2
MAX_PENDING: Final = 5_000


class ReportWriter:
    """Writes messages in order and in batches, in a thread, within a second of their arrival.

    While PostgreSQL is unavailable it buffers them and retries. It ends at `finish`, when the lease is lost, or with
    `error` if a message cannot be written.
    """

    def __init__(self, blobs: BlobStore, lease: Lease, renewer: LeaseRenewer) -> None:
        self._blobs = blobs
        self._lease = lease
        self._renewer = renewer
        self._pending: list[tuple[str, Any]] = []
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="report-writer", daemon=True)
        self.error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def put(self, kind: str, value: Any) -> None:
        """Queue a message of `paretofit.workers.messages`, or "log" with [stream, line]."""
        with self._changed:
            self._pending.append((kind, value))
            self._changed.notify()

    @property
    def is_full(self) -> bool:
        """Whether so many messages are pending that the trainer should be blocked."""
        return len(self._pending) >= MAX_PENDING

    def finish(self) -> bool:
        """Write the pending messages and end. False: not all were written; `error` or the renewer has the reason."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        while self._thread.is_alive() and not self._renewer.is_lost:
            self._thread.join(0.1)
        return not self._thread.is_alive() and not self._pending

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:
            self.error = error
            raise

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closed)
                if not self._pending:
                    return
                closed = self._closed
            if not closed:
                time.sleep(BATCH_SECONDS)
            with self._changed:
                batch = self._pending[:MAX_PENDING]
            report = self._report(batch)
            if not self._renewer.write(partial(self._write, report=report)):
                return
            with self._changed:
                del self._pending[: len(batch)]

    def _write(self, session: Session, report: Report) -> None:
        references.pin(session, self._blobs, report.blobs())
        reports.write(session, self._lease, report)

    def _report(self, batch: list[tuple[str, Any]]) -> Report:
        report = Report()
        checkpoints: list[tuple[Path, int]] = []
        for kind, value in batch:
            match kind:
                case "log":
                    report.logs.append(LogLine(*value))
                case "metric" if value[0] == "progress":
                    report.progress = value[2]
                case "metric":
                    report.metrics.append(Metric(*value))
                case "point":
                    report.points.append(value)
                case "artifact":
                    blob = self._blobs.put(Path(value[1]))
                    report.artifacts.append(Artifact(value[0], blob.sha256, blob.size))
                case "latency":
                    report.latencies.append(Measured.model_validate(value))
                case "checkpoint":
                    checkpoints.append((Path(value[0]), value[1]))
                case _:
                    raise ValueError(f"unknown message {kind!r}: {value}; report through the `Reporter` only")
        if checkpoints:
            folder, step = checkpoints[-1]
            report.checkpoint = {"step": step, "files": staging.store(self._blobs, folder)}
            for folder, _ in checkpoints:
                shutil.rmtree(folder, ignore_errors=True)
        return report
