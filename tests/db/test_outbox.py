"""Job messages in the outbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, select

from paretofit.db import outbox
from paretofit.db.engine import transaction
from paretofit.db.tables import OutboxRow


def test_message_is_postponed_once(engine: Engine) -> None:
    with transaction(engine) as session:
        outbox.enqueue(session, outbox.EXPORT, "art_1")
        for _ in range(3):
            outbox.postpone(session, outbox.EXPORT, "art_1", seconds=60)
    with transaction(engine) as session:
        rows = session.scalars(select(OutboxRow).where(OutboxRow.subject == "art_1")).all()
        due = sorted(row.send_after for row in rows)
        assert outbox.postponed(session, outbox.EXPORT) == 1
        assert outbox.postponed(session, outbox.INGEST) == 0
    assert len(due) == 2
    assert due[0] <= datetime.now(UTC) < due[1] - timedelta(seconds=30)
