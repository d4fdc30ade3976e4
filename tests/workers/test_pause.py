"""Paused searches with real workers."""

from __future__ import annotations

import time

from paretofit.db import cancellation, search_control
from paretofit.db.engine import transaction
from tests.db import rows
from tests.workers.fleet import Fleet, is_gone


def test_paused_search_resumes_from_its_checkpoint(fleet: Fleet) -> None:
    search_id = fleet.add_search(steps=100, seconds=0.02, checkpoint_every=1000)
    trial = fleet.await_running(search_id)
    trainer = fleet.trainer(trial.id, 1)
    assert trainer is not None
    with transaction(fleet.engine) as session:
        assert search_control.request_pause(session, search_id)
    fleet.await_state(search_id, "paused")
    assert is_gone(trainer)
    paused = rows.trial(fleet.engine, trial.id)
    assert (paused.state, paused.crash_count, paused.lease_epoch) == ("queued", 0, 1)
    assert paused.checkpoint is not None
    # The worker is free for other searches, and no message of the paused search is resent.
    fleet.await_state(fleet.add_search(steps=3), "succeeded")
    time.sleep(1.5)
    assert rows.trial(fleet.engine, trial.id).state == "queued"
    assert rows.event_types(fleet.engine, search_id)[-3:] == ["search.pause_requested", "trial.queued", "search.paused"]

    with transaction(fleet.engine) as session:
        assert search_control.resume(session, search_id)
    fleet.await_state(search_id, "succeeded")
    ended = rows.trial(fleet.engine, trial.id)
    assert (ended.crash_count, ended.lease_epoch) == (0, 2)
    assert ended.outputs is not None
    assert ended.outputs["began"] == paused.checkpoint["step"] > 0
    assert ended.outputs["step"] == 100


def test_paused_search_is_cancelled_immediately(fleet: Fleet) -> None:
    busy = fleet.add_search(steps=100_000, seconds=0.01)
    fleet.await_running(busy)
    with transaction(fleet.engine) as session:
        search_control.request_pause(session, busy)
    fleet.await_state(busy, "paused")
    with transaction(fleet.engine) as session:
        assert cancellation.request_cancel(session, busy)
    assert rows.search(fleet.engine, busy).state == "cancelled"
    assert rows.trials(fleet.engine, busy)[0].state == "cancelled"
