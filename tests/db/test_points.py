"""Searches of a dataset, and their points."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from paretofit.db import points, searches
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from tests.db import rows

SEARCHES, POINTS = 5, 500
_TRIAL = text(
    "INSERT INTO trials (id, search_id, number, state, params) VALUES (:trial, :search, 99, 'completed', '{}')"
)
_ARTIFACT = text(
    "INSERT INTO artifacts (id, search_id, trial_id, name, sha256, size) "
    "VALUES (:file, :search, :trial, 'w', repeat('1', 64), 9)"
)
_POINTS = text(
    """
    INSERT INTO points (id, search_id, trial_id, key, metrics, record, artifact_id)
    SELECT :trial || n, :search, :trial, n::text, jsonb_build_object('selection_top1', 1 - 1.0 / n, 'macs', n),
        jsonb_build_object('config', '{}'::jsonb, 'input_size', '[32, 32]'::jsonb),
        CASE WHEN n % 10 = 0 THEN :file END
    FROM generate_series(1, :points) AS n
    """
)


@pytest.fixture
def large(engine: Engine) -> str:
    """A dataset with 2,500 of 27,500 points, a tenth of them with a checkpoint."""
    dataset_id, *_ = [_add_dataset(engine) for _ in range(11)]
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    return dataset_id


def _add_dataset(engine: Engine) -> str:
    dataset_id = rows.add_dataset(engine)
    for _ in range(SEARCHES):
        search_id = rows.add_search(engine, dataset_id=dataset_id)
        values = {"search": search_id, "trial": new_id("trl"), "file": new_id("art"), "points": POINTS}
        with engine.begin() as connection:
            for statement in (_TRIAL, _ARTIFACT, _POINTS):
                connection.execute(statement, values)
    return dataset_id


def test_candidates_of_a_dataset_take_one_query_by_index(engine: Engine, large: str) -> None:
    statements: list[tuple[str, Any]] = []
    with transaction(engine) as session:
        ids = [search.id for search in searches.of_dataset(session, "default", large)]
        event.listen(engine, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        found = points.with_checkpoints(session, ids)
        [(statement, values)] = statements
        plan = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar_one()
    assert {point.row.search_id for point in found} == set(ids)
    assert len(found) == SEARCHES * POINTS // 10
    assert [point.row.id for point in found] == sorted(point.row.id for point in found)
    assert "ix_points_search_id_id" in json.dumps(plan)


def test_searches_of_a_dataset_are_those_of_its_tenant(engine: Engine) -> None:
    dataset_id = rows.add_dataset(engine)
    added = [rows.add_search(engine, dataset_id=dataset_id) for _ in range(2)]
    rows.add_search(engine)
    with transaction(engine) as session:
        assert [search.id for search in searches.of_dataset(session, "default", dataset_id)] == added
        assert searches.of_dataset(session, "another", dataset_id) == []
        assert points.with_checkpoints(session, []) == []


def test_points_are_read_by_id(engine: Engine, large: str) -> None:
    with transaction(engine) as session:
        ids = [search.id for search in searches.of_dataset(session, "default", large)]
        first, second, *_ = (point.row.id for point in points.with_checkpoints(session, ids))
        found = points.of_ids(session, [second, first, "pt_deleted"])
    assert set(found) == {first, second}
    point = found[first]
    assert (point.row.role, point.config, point.input_size) == ("candidate", {}, [32, 32])
    assert point.artifact is not None
