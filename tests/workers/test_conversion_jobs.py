"""Weights through the light queue."""

from __future__ import annotations

import struct
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from paretofit.db import tenants, uploads, weights
from paretofit.db.blobs import open_store
from paretofit.db.engine import transaction
from paretofit.db.jobs import WEIGHTS
from paretofit.db.tables import WeightsRow
from paretofit.db.tenants import Quota
from paretofit.models import checkpoint
from paretofit.models.pretrained.record import WeightsRecord
from tests.db import rows
from tests.search.weights import files
from tests.workers.fleet import Fleet


def upload(fleet: Fleet, path: Path, **options: object) -> str:
    """Complete an upload like the API."""
    blob = open_store((fleet.home / "blobs").as_uri()).put(path)
    with transaction(fleet.engine) as session:
        row = weights.insert(session, "default", name="mine", source={"kind": "upload"}, options=options)
        assert uploads.start(session, WEIGHTS, "default", row.id)
        assert uploads.finish(session, WEIGHTS, "default", row.id, sha256=blob.sha256, size=blob.size)
    return row.id


def wait_for_conversion(fleet: Fleet, weights_id: str) -> WeightsRow:
    def ended_row() -> WeightsRow | None:
        weights_row = rows.weights(fleet.engine, weights_id)
        return weights_row if weights_row.state in {"ready", "rejected"} else None

    return fleet.wait(ended_row, "end of the conversion", timeout=60)


def helper(weights_id: str) -> psutil.Process | None:
    """The helper process of a conversion."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "paretofit.search.weights" in command and any(weights_id in word for word in command):
            return process if process.status() != psutil.STATUS_ZOMBIE else None
    return None


def test_uploaded_file_becomes_weights(shared_fleet: Fleet, tmp_path: Path) -> None:
    written = files.write(tmp_path / "file", classes=2)
    row = wait_for_conversion(
        shared_fleet, upload(shared_fleet, tmp_path / "file", licence="CC0", class_names=["cat", "dog"])
    )
    assert (row.state, row.error) == ("ready", None)
    assert row.record is not None
    assert row.sha256 is not None
    record = WeightsRecord.model_validate(row.record)
    assert (record.family, record.licence, record.class_names) == (written.family, "CC0", ("cat", "dog"))
    out = tmp_path / "out"
    blobs = open_store((shared_fleet.home / "blobs").as_uri())
    blobs.fetch(row.sha256, out)
    assert blobs.size(row.sha256) == row.size == out.stat().st_size
    assert checkpoint.read_record(out) == row.record
    assert list((shared_fleet.home / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "NaN",
        # tests/search/weights/test_convert.py rejects them too, without a service.
        *(
            pytest.param(name, marks=pytest.mark.integration)
            for name in ("truncated data", "another network", "record with a wrong width", "a pickle")
        ),
    ],
)
def test_hostile_files_are_rejected_with_the_reason(shared_fleet: Fleet, tmp_path: Path, name: str) -> None:
    content, code, message = files.hostile()[name]
    (tmp_path / "file").write_bytes(content)
    row = wait_for_conversion(shared_fleet, upload(shared_fleet, tmp_path / "file"))
    assert row.state == "rejected"
    assert row.error is not None
    assert row.error["code"] == code
    assert message in row.error["detail"]
    assert (row.record, row.sha256, row.lease_expires_at) == (None, None, None)


def test_error_details_are_storable(shared_fleet: Fleet, tmp_path: Path) -> None:
    header = b'{"a\\u0000b\\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (tmp_path / "file").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    row = wait_for_conversion(shared_fleet, upload(shared_fleet, tmp_path / "file"))
    assert (row.state, row.crash_count) == ("rejected", 0)


def test_weights_over_quota_are_rejected(shared_fleet: Fleet, tmp_path: Path) -> None:
    files.write(tmp_path / "file")
    with transaction(shared_fleet.engine) as session:
        used = tenants.used(session, "default").stored_bytes
        tenants.set_quota(session, "default", Quota(None, None, used + 10))
    try:
        # The record makes the converted file a little larger than the uploaded one.
        row = wait_for_conversion(shared_fleet, upload(shared_fleet, tmp_path / "file", licence="x" * 500))
    finally:
        with transaction(shared_fleet.engine) as session:
            tenants.set_quota(session, "default", Quota(None, None, None))
    assert row.error is not None
    assert row.error["code"] == "quota_exceeded"


def test_lost_file_is_rejected(shared_fleet: Fleet, tmp_path: Path) -> None:
    files.write(tmp_path / "file")
    blob = open_store((shared_fleet.home / "blobs").as_uri()).put(tmp_path / "file")
    with transaction(shared_fleet.engine) as session:
        row = weights.insert(session, "default", name="mine", source={"kind": "upload"}, options={})
        assert uploads.start(session, WEIGHTS, "default", row.id)
        assert uploads.finish(session, WEIGHTS, "default", row.id, sha256="0" * 64, size=blob.size)
    lost = wait_for_conversion(shared_fleet, row.id)
    assert (lost.state, lost.crash_count) == ("rejected", 3)
    assert lost.error is not None
    assert lost.error["code"] == "crashed"


def test_deleted_weights_leave_nothing(shared_fleet: Fleet, tmp_path: Path) -> None:
    files.write(tmp_path / "file")
    weights_id = upload(shared_fleet, tmp_path / "file")
    shared_fleet.wait(lambda: helper(weights_id), "helper process")
    with transaction(shared_fleet.engine) as session:
        assert weights.delete(session, "default", weights_id)
    shared_fleet.wait(lambda: helper(weights_id) is None, "end of the helper")
    with transaction(shared_fleet.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM weights WHERE id = :id"), {"id": weights_id}) == 0
