"""Conversions whose workers are killed or shut down, and sources that cannot be fetched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paretofit.db import weights
from paretofit.db.engine import transaction
from tests.db import rows
from tests.search.weights import files
from tests.workers.fleet import Fleet, _kill, stop
from tests.workers.test_conversion_jobs import helper, upload, wait_for_conversion

pytestmark = pytest.mark.integration

SOURCE = "mobilenet_v2"


def fetch(fleet: Fleet, name: str) -> str:
    """Insert weights of a named source like the API."""
    with transaction(fleet.engine) as session:
        return weights.insert(session, "default", name=name, source={"kind": "named", "name": name}, options={}).id


def test_conversion_survives_killed_and_drained_workers(empty_fleet: Fleet, tmp_path: Path) -> None:
    files.write(tmp_path / "file")
    weights_id = upload(empty_fleet, tmp_path / "file")
    empty_fleet.start("paretofit.workers.relay")
    worker = empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    process = empty_fleet.wait(lambda: helper(weights_id), "helper process")
    _kill(worker)
    assert process.wait(10) is not None or not process.is_running()
    assert rows.weights(empty_fleet.engine, weights_id).state == "converting"

    second = empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    empty_fleet.wait(lambda: helper(weights_id), "second attempt")
    assert stop(second) < 20
    assert helper(weights_id) is None
    drained = rows.weights(empty_fleet.engine, weights_id)
    assert (drained.state, drained.crash_count, drained.lease_epoch) == ("converting", 1, 2)
    assert drained.lease_expires_at is None

    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    row = wait_for_conversion(empty_fleet, weights_id)
    assert (row.state, row.lease_epoch) == ("ready", 3)
    assert list((empty_fleet.home / "blobs" / "incoming").iterdir()) == []
    deadline = time.monotonic() + 5
    while list((empty_fleet.home / "scratch").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_unreachable_source_names_the_remedy(empty_fleet: Fleet) -> None:
    empty_fleet.environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
    empty_fleet.start("paretofit.workers.relay")
    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    row = wait_for_conversion(empty_fleet, fetch(empty_fleet, SOURCE))
    assert row.error is not None
    assert row.error["code"] == "source_failed"
    assert "`paretofit weights add " in row.error["detail"]


def test_source_disabled_since_the_request_is_not_fetched(empty_fleet: Fleet) -> None:
    empty_fleet.environment |= {"PARETOFIT_WEIGHTS_SOURCES": "none"}
    empty_fleet.start("paretofit.workers.relay")
    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    row = wait_for_conversion(empty_fleet, fetch(empty_fleet, SOURCE))
    assert row.error is not None
    assert row.error["code"] == "source_disabled"
