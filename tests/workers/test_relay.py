from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import select

from paretofit.db import outbox
from paretofit.db.engine import transaction
from paretofit.db.tables import OutboxRow
from paretofit.launch.redis import EmbeddedRedis
from tests.workers.fleet import Fleet


@pytest.mark.integration
def test_relay_retries_until_the_broker_is_available(empty_fleet: Fleet, tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "redis")
    url = redis.start()
    empty_fleet.environment["REDIS_URL"] = url
    try:
        redis.stop()
        empty_fleet.start("paretofit.workers.relay")
        with transaction(empty_fleet.engine) as session:
            outbox.enqueue(session, outbox.TRAIN, "trl_1")
        empty_fleet.wait(lambda: "task_failed" in empty_fleet.logs(), "log event")
        with transaction(empty_fleet.engine) as session:
            assert session.scalars(select(OutboxRow)).one().subject == "trl_1"
        assert redis.start() == url
        with Redis.from_url(url) as client:
            empty_fleet.wait(lambda: client.keys("train*"), "job message")
        empty_fleet.wait(empty_fleet.has_sent_all, "empty outbox")
    finally:
        redis.stop()
