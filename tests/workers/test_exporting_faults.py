"""Exports whose workers are killed or told to stop."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import func, select

from paretofit.db.engine import transaction
from paretofit.db.exports import Form
from paretofit.db.tables import ArtifactRow
from tests.workers.exports import SIZE, add_point, ask, ended, helper, row
from tests.workers.fleet import Fleet, _kill, stop

pytestmark = pytest.mark.integration


def test_a_killed_worker_loses_nothing(mortal: Fleet, tmp_path: Path) -> None:
    export_id = ask(mortal, add_point(mortal, tmp_path), Form("ncnn", "float16", SIZE))
    mortal.start("paretofit.workers.relay")
    worker = mortal.start("paretofit.workers", "light", "--processes", "1")
    process = mortal.wait(lambda: helper(export_id), "helper process")
    _kill(worker)
    assert process.wait(10) is not None or not process.is_running()
    assert row(mortal, export_id).state == "running"

    second = mortal.start("paretofit.workers", "light", "--processes", "1")
    mortal.wait(lambda: helper(export_id), "second attempt")
    assert stop(second) < 20
    assert helper(export_id) is None
    drained = row(mortal, export_id)
    assert (drained.state, drained.crash_count, drained.lease_epoch) == ("queued", 1, 2)

    mortal.start("paretofit.workers", "light", "--processes", "1")
    made = ended(mortal, export_id)
    assert (made.state, made.lease_epoch) == ("ready", 3)
    with transaction(mortal.engine) as session:
        assert session.scalar(select(func.count()).where(ArtifactRow.id == export_id)) == 1
    assert list((mortal.home / "blobs" / "incoming").iterdir()) == []
    deadline = time.monotonic() + 5
    while list((mortal.home / "scratch").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
