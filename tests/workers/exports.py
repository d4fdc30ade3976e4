"""Points and exports for the tests of export jobs."""

from __future__ import annotations

from pathlib import Path

import psutil
from sqlalchemy import func
from torch import nn

from paretofit.db import exports, points
from paretofit.db.blobs import BlobStore, open_store
from paretofit.db.engine import transaction
from paretofit.db.exports import Form
from paretofit.db.ids import new_id
from paretofit.db.tables import ArtifactRow, ExportRow, PointRow, SearchRow, TrialRow
from paretofit.models import checkpoint
from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from tests.db import rows
from tests.workers.fleet import Fleet

SIZE = (32, 32)
FORM = Form("safetensors", "float32", SIZE)


def blobs(fleet: Fleet) -> BlobStore:
    return open_store((fleet.home / "blobs").as_uri())


def add_point(fleet: Fleet, folder: Path, content: bytes | None = None, *, scale: float = 1.0) -> str:
    """Add a point whose weights are those of a new network with a classifier of this `scale`, or these bytes."""
    network = build(architecture("wrn_10_1", nominal=32, classes=4, channels=1))
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.uniform_(layer.weight, 0.5 * scale, scale)
    record = {"key": "net", "architecture": network.architecture.to_json(), "input_size": list(SIZE), "config": {}}
    path = folder / "weights"
    checkpoint.save(path, network, record) if content is None else path.write_bytes(content)
    blob = blobs(fleet).put(path)
    dataset_id, search_id, trial_id = rows.add_dataset(fleet.engine), new_id("srch"), new_id("trl")
    with transaction(fleet.engine) as session:
        finished = {"state": "succeeded", "finished_at": func.now(), "advance_wanted": False}
        session.add(SearchRow(id=search_id, name="done", method="steps", spec={}, dataset_id=dataset_id, **finished))
        session.flush()
        session.add(TrialRow(id=trial_id, search_id=search_id, number=0, state="completed", params={}))
    weights = new_id("art")
    with transaction(fleet.engine) as session:
        names = {"search_id": search_id, "trial_id": trial_id}
        session.add(ArtifactRow(id=weights, name="net", sha256=blob.sha256, size=blob.size, **names))
        session.flush()
        row = PointRow(id=new_id("pt"), key="net", metrics={}, record=record, artifact_id=weights, **names)
        session.add(row)
    return row.id


def request_export(fleet: Fleet, point_id: str, form: Form = FORM) -> str:
    with transaction(fleet.engine) as session:
        point = points.get(session, "default", point_id)
        assert point is not None
        source = exports.source(session, point)
        assert source is not None
        return exports.request(session, point, source, form).row.id


def row(fleet: Fleet, export_id: str) -> ExportRow:
    with transaction(fleet.engine) as session:
        return session.get_one(ExportRow, export_id)


def wait_for_export(fleet: Fleet, export_id: str) -> ExportRow:
    def ended_row() -> ExportRow | None:
        now = row(fleet, export_id)
        return now if now.state in {"ready", "failed"} else None

    return fleet.wait(ended_row, "end of the export")


def helper(export_id: str) -> psutil.Process | None:
    """The helper process of an export."""
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        if "paretofit.search.export" in line and any(export_id in part for part in line):
            return process
    return None
