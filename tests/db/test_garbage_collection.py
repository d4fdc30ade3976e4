"""Unreferenced blobs are deleted, referenced ones are kept, also with concurrent writers."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore
from sqlalchemy import Engine, delete, select, text

from paretofit.db import garbage_collection, idempotency, references, weights
from paretofit.db.blobs import Blob, BlobMissingError, BlobStore, LocalBlobStore, S3BlobStore
from paretofit.db.engine import transaction
from paretofit.db.garbage_collection import Collected, collect
from paretofit.db.ids import new_id
from paretofit.db.references import BlobCollectedError
from paretofit.db.tables import ArtifactRow, IdempotencyRow, TrialRow
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")

DAY = 24 * 3600.0
TWO_DAYS_AGO = time.time() - 2 * DAY


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path / "blobs")


@pytest.fixture
def trial_id(engine: Engine) -> str:
    return rows.plan(engine, rows.add_search(engine))[0]


def put(store: BlobStore, folder: Path, content: str) -> Blob:
    path = folder / new_id("file")
    path.write_text(content)
    try:
        return store.put(path)
    finally:
        path.unlink()


def age(folder: Path) -> None:
    """Make every file below a folder two days old."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (TWO_DAYS_AGO, TWO_DAYS_AGO))


def collect_garbage(engine: Engine, store: BlobStore, folder: Path, seconds: float = DAY) -> Collected:
    return collect(engine, store, uploads=folder / "uploads", seconds=seconds)


def stored(store: BlobStore) -> set[str]:
    return {blob.sha256 for blob in store.list()}


def reference(engine: Engine, store: BlobStore, blob: Blob, trial_id: str) -> str:
    """Commit a row that references a blob. Returns its id."""
    row = ArtifactRow(id=new_id("art"), trial_id=trial_id, name=new_id("name"), sha256=blob.sha256, size=blob.size)
    with transaction(engine) as session:
        references.pin(session, store, [blob.sha256])
        session.add(row)
    return row.id


def test_referenced_blobs_are_kept(engine: Engine, store: LocalBlobStore, trial_id: str, tmp_path: Path) -> None:
    artifact, checkpoint, file, archive, orphan = (put(store, tmp_path, content) for content in "abcde")
    reference(engine, store, artifact, trial_id)
    entry: dict[str, Any] = {"sha256": file.sha256, "size": 1}
    rows.add_dataset(engine, manifest={"train.bin": entry})
    rows.add_dataset(engine, state="validating", manifest=None, source={"kind": "upload", "sha256": archive.sha256})
    with transaction(engine) as session:
        files = {"state": {"sha256": checkpoint.sha256, "size": 1}}
        session.get_one(TrialRow, trial_id).checkpoint = {"step": 3, "files": files}
    assert not collect_garbage(engine, store, tmp_path)
    age(tmp_path / "blobs")
    young = put(store, tmp_path, "young")
    assert collect_garbage(engine, store, tmp_path) == Collected(blobs=1, size=1, partial=0, uploads=0, responses=0)
    assert stored(store) == {blob.sha256 for blob in (artifact, checkpoint, file, archive, young)}
    with pytest.raises(BlobMissingError):
        store.find(orphan.sha256)


def test_uploaded_weights_file_is_kept_until_converted(engine: Engine, store: LocalBlobStore, tmp_path: Path) -> None:
    waiting, ready, original, rejected = (put(store, tmp_path, content) for content in "abcd")

    def uploaded(blob: Blob) -> dict[str, Any]:
        return {"source": {"kind": "upload", "sha256": blob.sha256, "size": 1}}

    rows.add_weights(engine, state="converting", **uploaded(waiting))
    # The original is no longer needed after its conversion.
    converted = rows.add_weights(engine, sha256=ready.sha256, size=1, **uploaded(original))
    rows.add_weights(engine, state="rejected", **uploaded(rejected))
    age(tmp_path / "blobs")
    assert collect_garbage(engine, store, tmp_path).blobs == 2
    assert stored(store) == {waiting.sha256, ready.sha256}
    with transaction(engine) as session:
        assert weights.delete(session, "default", converted)
    assert collect_garbage(engine, store, tmp_path).blobs == 1
    assert stored(store) == {waiting.sha256}


def test_abandoned_uploads_of_weights_are_removed(engine: Engine, store: LocalBlobStore, tmp_path: Path) -> None:
    weights_id = rows.add_weights(engine, state="uploading", uploaded_bytes=4)
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / weights_id).write_text("half")
    age(folder)
    assert collect_garbage(engine, store, tmp_path).uploads == 1
    row = rows.weights(engine, weights_id)
    assert (row.state, row.uploaded_bytes) == ("pending", 0)


def test_rewritten_blob_is_not_collected(engine: Engine, store: LocalBlobStore, tmp_path: Path) -> None:
    put(store, tmp_path, "a")
    age(tmp_path / "blobs")
    blob = put(store, tmp_path, "a")
    assert collect_garbage(engine, store, tmp_path).blobs == 0
    assert stored(store) == {blob.sha256}


def test_several_batches_are_collected(engine: Engine, store: LocalBlobStore, trial_id: str, tmp_path: Path) -> None:
    blobs = [put(store, tmp_path, str(index)) for index in range(garbage_collection._BATCH + 50)]
    kept = blobs[::2]
    with transaction(engine) as session:
        session.add_all(
            ArtifactRow(id=new_id("art"), trial_id=trial_id, name=blob.sha256, sha256=blob.sha256, size=blob.size)
            for blob in kept
        )
    age(tmp_path / "blobs")
    assert collect_garbage(engine, store, tmp_path).blobs == len(blobs) - len(kept)
    assert stored(store) == {blob.sha256 for blob in kept}


def test_blobs_of_a_bucket_are_collected(engine: Engine, trial_id: str, tmp_path: Path) -> None:
    bucket = S3BlobStore(MemoryStore())
    kept, orphan = put(bucket, tmp_path, "a"), put(bucket, tmp_path, "b")
    reference(engine, bucket, kept, trial_id)
    assert collect_garbage(engine, bucket, tmp_path, seconds=60).blobs == 0
    assert bucket.find(orphan.sha256).put_at > datetime.now(UTC) - timedelta(seconds=60)
    assert collect_garbage(engine, bucket, tmp_path, seconds=1e-6).blobs == 1
    assert stored(bucket) == {kept.sha256}


def test_partial_files_are_deleted(engine: Engine, store: LocalBlobStore, tmp_path: Path) -> None:
    incoming = tmp_path / "blobs" / "incoming"
    (incoming / "dead").write_text("half of it")
    age(incoming)
    (incoming / "alive").write_text("half of it")
    assert collect_garbage(engine, store, tmp_path) == Collected(blobs=0, size=0, partial=1, uploads=0, responses=0)
    assert [path.name for path in incoming.iterdir()] == ["alive"]


def test_abandoned_uploads_are_deleted(engine: Engine, store: LocalBlobStore, tmp_path: Path) -> None:
    uploading = {"state": "uploading", "manifest": None, "source": {"kind": "upload"}, "uploaded_bytes": 4}
    abandoned, growing, held = (rows.add_dataset(engine, **uploading) for _ in range(3))
    folder = tmp_path / "uploads"
    folder.mkdir()
    for dataset_id in (abandoned, held, "ds_deleted"):
        (folder / dataset_id).write_text("half")
    age(folder)
    (folder / growing).write_text("half")
    with (folder / held).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert collect_garbage(engine, store, tmp_path).uploads == 2
    assert {path.name for path in folder.iterdir()} == {growing, held}
    states = [rows.dataset(engine, dataset_id).state for dataset_id in (abandoned, growing, held)]
    assert states == ["pending", "uploading", "uploading"]
    assert rows.dataset(engine, abandoned).uploaded_bytes == 0


def test_stored_responses_expire(engine: Engine, store: LocalBlobStore, tmp_path: Path) -> None:
    for key in ("old", "new"):
        with transaction(engine) as session:
            claimed = idempotency.Key("default", "POST /v1/searches", key, "f")
            idempotency.keep(session, claimed, idempotency.StoredResponse(202, {}, b"{}"))
    with transaction(engine) as session:
        session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'"))
    assert collect_garbage(engine, store, tmp_path).responses == 1
    with transaction(engine) as session:
        assert session.scalars(select(IdempotencyRow.key)).all() == ["new"]


def test_pin_rejects_a_collected_blob(engine: Engine, store: LocalBlobStore, trial_id: str, tmp_path: Path) -> None:
    blob = put(store, tmp_path, "a")
    assert collect_garbage(engine, store, tmp_path, seconds=1e-6).blobs == 1
    with pytest.raises(BlobCollectedError, match=blob.sha256):
        reference(engine, store, blob, trial_id)
    reference(engine, store, put(store, tmp_path, "a"), trial_id)


def test_collector_waits_for_uncommitted_references(
    engine: Engine, store: LocalBlobStore, trial_id: str, tmp_path: Path
) -> None:
    blob = put(store, tmp_path, "a")
    collecting = threading.Thread(target=collect_garbage, args=(engine, store, tmp_path, 1e-6))
    with transaction(engine) as session:
        references.pin(session, store, [blob.sha256])
        collecting.start()
        collecting.join(0.5)
        assert collecting.is_alive()
        session.add(ArtifactRow(id=new_id("art"), trial_id=trial_id, name="a", sha256=blob.sha256, size=1))
    collecting.join(10)
    assert stored(store) == {blob.sha256}


def test_concurrent_writers_and_collectors_leave_no_dangling_reference(
    engine: Engine, store: LocalBlobStore, trial_id: str, tmp_path: Path
) -> None:
    """Six writers add and delete references to the same few blobs while two collectors delete unreferenced ones."""
    ended = threading.Event()
    deadline = time.monotonic() + 3
    counts = Counter[str]()

    def publish(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < deadline:
            content = str(draw.randrange(8))
            try:
                row = reference(engine, store, put(store, tmp_path, content), trial_id)
            except (BlobCollectedError, FileNotFoundError):
                counts["collected before it was referenced"] += 1
                continue
            with transaction(engine) as session:
                sha256 = session.get_one(ArtifactRow, row).sha256
                assert b"".join(store.stream(sha256)) == content.encode()
                session.execute(delete(ArtifactRow).where(ArtifactRow.id == row))
            counts["referenced"] += 1

    def collect_repeatedly() -> None:
        while not ended.is_set():
            counts["collected"] += collect_garbage(engine, store, tmp_path, seconds=1e-6).blobs

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(publish, seed) for seed in range(6)]
        collectors = [pool.submit(collect_repeatedly) for _ in range(2)]
        wait(writers)
        ended.set()
    for thread in [*writers, *collectors]:
        thread.result()
    assert counts["referenced"] > 20
    assert counts["collected"] > 5
