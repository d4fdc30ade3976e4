"""All rows of a search belong to its tenant."""

from __future__ import annotations

from sqlalchemy import select

from paretofit.db import searches
from paretofit.db.engine import transaction
from paretofit.db.tables import Base
from tests.db import rows
from tests.workers.fleet import Fleet

WRITTEN = {"datasets", "searches", "trials", "attempts", "metrics", "logs", "artifacts", "points", "events"}


def test_every_row_has_the_tenant_of_its_search(empty_fleet: Fleet) -> None:
    dataset = rows.add_dataset(empty_fleet.engine, tenant_id="acme")
    spec = {
        "name": "count",
        "dataset_id": dataset,
        "method": {"kind": "steps"},
        "dataset": rows.PROFILE,
        "limits": {},
        "labels": {},
        "priority": 0,
    }
    with transaction(empty_fleet.engine) as session:
        search = searches.insert(session, "acme", spec=spec, dataset_id=dataset, created={}).id
    empty_fleet.start("paretofit.workers.relay")
    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    empty_fleet.start_trainer()
    empty_fleet.await_state(search, "succeeded")
    with transaction(empty_fleet.engine) as session:
        owners: dict[str, set[str]] = {
            name: set(session.scalars(select(table.c.tenant_id).distinct()))
            for name, table in Base.metadata.tables.items()
            if "tenant_id" in table.c
        }
    assert {name for name, owned in owners.items() if owned} >= WRITTEN - {"artifacts"}
    assert all(owned <= {"acme"} for owned in owners.values()), owners


def test_every_table_has_a_tenant() -> None:
    shared = {name for name, table in Base.metadata.tables.items() if "tenant_id" not in table.c}
    # These tables belong to the service itself.
    assert shared == {"outbox", "workers", "counters", "tenants"}
