"""Rows that planners and workers would write."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, update

from paretofit.db import planning, searches
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import ArtifactRow, DatasetRow, PointRow, SearchRow, TrialRow
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import SearchSpec

PROFILE: dict[str, Any] = {
    "classes": ["bag", "boot", "coat", "dress"],
    "channels": 1,
    "image_size": [32, 32],
    "images": {"train": 1000, "selection": 100, "report": 200},
    "mean": [0.3],
    "std": [0.3],
    "fingerprint": "f" * 64,
}
COUNTS: dict[str, dict[str, int]] = {
    "train": {"boot": 400, "bag": 200, "coat": 200, "dress": 200},
    "selection": {"boot": 40, "bag": 20, "coat": 20, "dress": 20},
    "report": {"boot": 70, "bag": 40, "coat": 40, "dress": 50},
}
"""Images by class: always answering boot reaches 35 % of the report split, two standard errors of which are 6.7 %."""
MACS = (100_000.0, 10_000_000.0)


def ready_dataset(engine: Engine, **changes: Any) -> str:
    """Add a dataset that is ready for searches. Returns its id."""
    fields = {
        "name": "clothes",
        "state": "ready",
        "source": {"kind": "upload"},
        "manifest": {},
        "profile": PROFILE,
        "fingerprint": "f" * 64,
    }
    row = DatasetRow(id=new_id("ds"), **{**fields, **changes})
    with transaction(engine) as session:
        session.add(row)
    return row.id


def body(dataset: str, **changes: Any) -> dict[str, Any]:
    """The body of a submission."""
    method = {"kind": "mutualnet", "widths": {"step": 0.25}, "resolutions": [32, 24], "epochs": 2}
    return {"name": "small", "dataset_id": dataset, "method": method, **changes}


def search(engine: Engine, dataset_id: str, **changes: Any) -> str:
    """Add a search with candidates from `MACS[0]` to `MACS[1]` MACs. Returns its id."""
    spec = SearchSpec.model_validate(body(dataset_id, **changes)).resolve(DatasetProfile.model_validate(PROFILE))
    created = {"candidates": {"configurations": 8, "feasible": 8, "macs": list(MACS)}, "versions": {}}
    with transaction(engine) as session:
        row = searches.insert(
            session, "default", spec=spec.model_dump(mode="json"), dataset_id=dataset_id, created=created
        )
        return row.id


def set_search(engine: Engine, search_id: str, **values: Any) -> None:
    """Change columns of a search."""
    if values.get("state") in {"succeeded", "failed", "cancelled"}:
        values.setdefault("finished_at", datetime.now(UTC))
    with transaction(engine) as session:
        session.execute(update(SearchRow).where(SearchRow.id == search_id).values(**values))


def end(engine: Engine, search_id: str) -> None:
    """Let the planner end a search without running trials by its time limit."""
    began = datetime.now(UTC) - timedelta(hours=1)
    set_search(engine, search_id, limits={"max_wall_seconds": 1}, started_at=began, advance_wanted=True)
    planning.advance(engine, search_id)


def trial(engine: Engine, search_id: str, number: int = 0, **changes: Any) -> str:
    """Add a trial, by default completed. Returns its id."""
    row = TrialRow(
        id=new_id("trl"), search_id=search_id, number=number, **{"state": "completed", "params": {}, **changes}
    )
    with transaction(engine) as session:
        session.add(row)
    return row.id


def artifact(engine: Engine, search_id: str, trial_id: str, *, name: str, sha256: str, size: int) -> str:
    """Add an artifact of a trial. Returns its id."""
    row = ArtifactRow(id=new_id("art"), search_id=search_id, trial_id=trial_id, name=name, sha256=sha256, size=size)
    with transaction(engine) as session:
        session.add(row)
    return row.id


def point(engine: Engine, search_id: str, trial_id: str, key: str, **changes: Any) -> str:
    """Add a point; `changes` are its metrics, its `role` and its `artifact_id`. Returns its id."""
    role, artifact_id = changes.pop("role", "candidate"), changes.pop("artifact_id", None)
    row = PointRow(
        id=new_id("pt"),
        search_id=search_id,
        trial_id=trial_id,
        key=key,
        role=role,
        metrics=changes,
        record={"key": key, "config": {"width": 0.5}, "input_size": [32, 32], "architecture": {"version": 1}},
        artifact_id=artifact_id,
    )
    with transaction(engine) as session:
        session.add(row)
        session.execute(update(SearchRow).where(SearchRow.id == search_id).values(front_seq=SearchRow.front_seq + 1))
    return row.id
