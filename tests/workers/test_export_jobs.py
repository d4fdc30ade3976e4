"""Exports through the light queue, with duplicate and lost messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import delete

from paretofit.db import outbox
from paretofit.db.engine import transaction
from paretofit.db.tables import ArtifactRow, OutboxRow
from paretofit.models import checkpoint
from tests.workers.exports import add_point, blobs, request_export, wait_for_export
from tests.workers.fleet import Fleet


@pytest.mark.integration
def test_duplicate_and_lost_messages_make_one_export(shared_fleet: Fleet, tmp_path: Path) -> None:
    duplicated, lost = (request_export(shared_fleet, add_point(shared_fleet, tmp_path)) for _ in range(2))
    with transaction(shared_fleet.engine) as session:
        session.execute(delete(OutboxRow).where(OutboxRow.subject == lost))
        outbox.enqueue(session, outbox.EXPORT, duplicated)
    for export_id in (duplicated, lost):
        export = wait_for_export(shared_fleet, export_id)
        assert (export.state, export.error) == ("ready", None)
        assert export.lease_epoch == 1
        assert export.parity is not None
        assert export.parity["max_abs_diff"] == 0
        path = tmp_path / export_id
        with transaction(shared_fleet.engine) as session:
            artifact = session.get_one(ArtifactRow, export_id)
        blobs(shared_fleet).fetch(artifact.sha256, path)
        assert checkpoint.load(path).record is not None
    # Only the result remains.
    assert list((shared_fleet.home / "scratch").iterdir()) == []


def test_invalid_weights_fail_with_a_reason(shared_fleet: Fleet, tmp_path: Path) -> None:
    failed = wait_for_export(
        shared_fleet, request_export(shared_fleet, add_point(shared_fleet, tmp_path, b"not safetensors"))
    )
    assert (failed.state, failed.crash_count) == ("failed", 0)
    assert failed.error is not None
    assert failed.error["code"] == "source"


@pytest.mark.integration
def test_nonfinite_logits_fail_with_their_parity(shared_fleet: Fleet, tmp_path: Path) -> None:
    # Weights are finite, because others are not stored, but their products overflow.
    failed = wait_for_export(
        shared_fleet, request_export(shared_fleet, add_point(shared_fleet, tmp_path, scale=3.4e38))
    )
    assert (failed.state, failed.crash_count) == ("failed", 0)
    assert failed.error is not None
    assert failed.error["code"] == "parity"
    assert failed.error["parity"]["max_abs_diff"] is None
