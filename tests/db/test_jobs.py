"""Properties of every kind of leased job; each kind also has its own tests."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, event

from paretofit.db import jobs
from paretofit.db.engine import transaction
from paretofit.db.jobs import DATASETS, KINDS, JobKind
from paretofit.db.tables import DatasetRow
from tests.db import rows


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_every_job_transition_is_in_the_state_machine(kind: JobKind[Any]) -> None:
    first = next(iter(kind.machine))
    assert kind.leased in kind.machine[first]
    assert kind.failed in kind.machine[kind.leased]
    assert kind.queued == kind.leased or {kind.queued} <= set(kind.machine[kind.leased])


def test_each_kind_has_its_own_table_and_message() -> None:
    assert len({kind.row for kind in KINDS}) == len({kind.task for kind in KINDS}) == len(KINDS)


def test_move_loads_current_json_lazily(engine: Engine) -> None:
    dataset_id = rows.add_dataset(engine, state="validating", manifest=None, report={"images": 1})
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    with transaction(engine) as session:
        before = session.get_one(DatasetRow, dataset_id)
        row = jobs.move(session, DATASETS, dataset_id, "ready", manifest={"a": 1})
        returned = next(sql for sql in statements if sql.startswith("UPDATE")).partition("RETURNING")[2]
        assert "lease_epoch" in returned
        assert not {name for name in ("manifest", "profile", "report", "source") if f".{name}" in returned}
        assert row is before
        assert (row.state, row.manifest, row.report) == ("ready", {"a": 1}, {"images": 1})
