"""Exports whose workers are killed or shut down."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from paretofit.db.engine import transaction
from paretofit.db.exports import Form
from paretofit.db.tables import ArtifactRow
from tests.workers.exports import SIZE, add_point, helper, request_export, row, wait_for_export
from tests.workers.fleet import Fleet, _kill, stop

pytestmark = pytest.mark.integration


def test_export_survives_killed_and_drained_workers(empty_fleet: Fleet, tmp_path: Path) -> None:
    export_id = request_export(empty_fleet, add_point(empty_fleet, tmp_path), Form("ncnn", "float16", SIZE))
    empty_fleet.start("paretofit.workers.relay")
    worker = empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    process = empty_fleet.wait(lambda: helper(export_id), "helper process")
    _kill(worker)
    assert process.wait(10) is not None or not process.is_running()
    assert row(empty_fleet, export_id).state == "running"

    second = empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    empty_fleet.wait(lambda: helper(export_id), "second attempt")
    assert stop(second) < 20
    assert helper(export_id) is None
    drained = row(empty_fleet, export_id)
    assert (drained.state, drained.crash_count, drained.lease_epoch) == ("queued", 1, 2)

    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    export = wait_for_export(empty_fleet, export_id)
    assert (export.state, export.lease_epoch) == ("ready", 3)
    with transaction(empty_fleet.engine) as session:
        assert session.scalar(select(func.count()).where(ArtifactRow.id == export_id)) == 1
    assert list((empty_fleet.home / "blobs" / "incoming").iterdir()) == []
    deadline = time.monotonic() + 5
    while list((empty_fleet.home / "scratch").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
