from __future__ import annotations

from sqlalchemy import Engine, text

from paretofit.db import workers
from paretofit.db.engine import transaction


def names(engine: Engine) -> list[str]:
    with transaction(engine) as session:
        return [worker.name for worker in workers.seen_within(session, 60)]


def test_workers_are_listed_until_they_deregister(engine: Engine) -> None:
    for name in ("a", "b", "a"):
        with transaction(engine) as session:
            workers.beat(session, name, queue="train", device="cpu", description={"threads": 1})
    assert names(engine) == ["a", "b"]
    with transaction(engine) as session:
        workers.deregister(session, "b")
    assert names(engine) == ["a"]


def test_silent_workers_are_hidden_and_then_deleted(engine: Engine) -> None:
    with transaction(engine) as session:
        workers.beat(session, "a", queue="light", device=None, description={})
        session.execute(text("UPDATE workers SET seen_at = clock_timestamp() - interval '1 hour'"))
    assert names(engine) == []
    with transaction(engine) as session:
        workers.purge_expired(session, 7200)
        assert session.scalar(text("SELECT count(*) FROM workers")) == 1
        workers.purge_expired(session, 60)
        assert session.scalar(text("SELECT count(*) FROM workers")) == 0
