"""Finished searches with known results, written directly to the database of a service."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from paretofit.db import blobs, events, search_warnings
from paretofit.db.engine import connect, transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import ArtifactRow, DatasetRow, LogRow, PointRow, SearchRow, TrialRow
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import SearchSpec
from tests.launch.service import Service

PROFILE = DatasetProfile(
    classes=("cat", "dog"),
    channels=3,
    image_size=(32, 32),
    images={"train": 800, "selection": 100, "report": 100},
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    fingerprint="f" * 64,
)

FRONT = ((0.25, 20, 200e3, 0.70), (0.5, 24, 800e3, 0.80), (1.0, 32, 3.2e6, 0.90))
"""Width, resolution, MACs and selection accuracy."""

DOMINATED = ((0.5, 20, 900e3, 0.75), (0.75, 32, 2.4e6, 0.60))


@dataclass(frozen=True)
class Stored:
    """The ids of the stored resources; `content` is that of every checkpoint."""

    dataset_id: str
    search_id: str
    trial_id: str
    point_ids: tuple[str, ...]
    artifact_id: str
    content: bytes


def store(
    service: Service,
    *,
    name: str,
    state: str = "succeeded",
    size: int = 10_000,
    max_macs: float | None = None,
    majority: float = 0.5,
) -> Stored:
    """Store a dataset and a search called `name`, with one trial, the points above and a checkpoint of `size` bytes.

    `max_macs` is a constraint, which may be unmet; `majority` is the share of the most frequent class.
    """
    content = random.Random(name).randbytes(size)
    dataset_id, search_id, trial_id = new_id("ds"), new_id("srch"), new_id("trl")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint"
        file.write_bytes(content)
        blob = blobs.open_store((service.home / "blobs").as_uri()).put(file)
    spec = SearchSpec.model_validate({"name": name, "dataset_id": dataset_id, "method": {"kind": "mutualnet"}})
    resolved = spec.resolve(PROFILE)
    bounds = [] if max_macs is None else [{"metric": "macs", "value": max_macs}]
    engine = connect(service.database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    with transaction(engine) as session:
        session.add(
            DatasetRow(
                id=dataset_id,
                name=name,
                state="ready",
                source={"kind": "builtin", "name": "fashion_mnist"},
                profile=PROFILE.model_dump(mode="json"),
                report={"class_counts": _counts(majority)},
                manifest={},
                fingerprint=PROFILE.fingerprint,
            )
        )
        session.flush()
        over = {"started_at": func.now(), "paused_at" if state == "paused" else "finished_at": func.now()}
        session.add(
            SearchRow(
                id=search_id,
                name=name,
                state=state,
                method="mutualnet",
                spec=resolved.model_dump(mode="json") | {"constraints": bounds},
                dataset_id=dataset_id,
                front_seq=1,
                error={"code": "error", "detail": "the trial failed"} if state == "failed" else None,
                **over,
            )
        )
        session.flush()
        search = session.get_one(SearchRow, search_id)
        macs = [candidate.cost["macs"] for candidate in resolved.candidates()]
        created = {"candidates": {"configurations": len(macs), "feasible": len(macs), "macs": [min(macs), max(macs)]}}
        events.append(session, search_id, "search.created", created)
        session.add(
            TrialRow(
                id=trial_id,
                search_id=search_id,
                number=0,
                state="completed",
                params={"stage": "train"},
                progress=1,
                started_at=func.now(),
                finished_at=func.now(),
            )
        )
        session.flush()
        session.add_all(
            LogRow(trial_id=trial_id, epoch=1, stream="stderr", line=line) for line in ("epoch 1 of 2", "epoch 2 of 2")
        )
        artifact = ArtifactRow(
            id=new_id("art"), search_id=search_id, trial_id=trial_id, name="best", sha256=blob.sha256, size=blob.size
        )
        session.add(artifact)
        session.flush()
        point_ids = [_add_point(session, search_id, trial_id, artifact.id, *p) for p in (*FRONT, *DOMINATED)]
        if state == "succeeded":
            search.warnings = search_warnings.compute(session, search)
        events.append(session, search_id, f"search.{state}", {"points": 5, "warnings": search.warnings})
    engine.dispose()
    return Stored(dataset_id, search_id, trial_id, tuple(point_ids), artifact.id, content)


def _counts(majority: float) -> dict[str, dict[str, int]]:
    cats = {split: round(majority * images) for split, images in PROFILE.images.items()}
    return {split: {"cat": cats[split], "dog": images - cats[split]} for split, images in PROFILE.images.items()}


def _add_point(
    session: Session,
    search_id: str,
    trial_id: str,
    artifact_id: str,
    width: float,
    side: int,
    macs: float,
    accuracy: float,
) -> str:
    metrics = {"selection_top1": accuracy, "top1": accuracy - 0.01, "macs": macs, "params": macs / 20}
    metrics |= {"pool_inputs": 64, "peak_activation_bytes": 4096}
    record: dict[str, Any] = {
        "key": f"w{width:g}-r{side}",
        "config": {"width": width, "resolution": side},
        "input_size": [side, side],
        "metrics": metrics,
    }
    row = PointRow(
        id=new_id("pt"),
        search_id=search_id,
        trial_id=trial_id,
        key=record["key"],
        metrics=metrics,
        record=record,
        artifact_id=artifact_id,
    )
    session.add(row)
    session.flush()
    return row.id
