"""Workers, supervisors and brokers that fail while a trial is running."""

from __future__ import annotations

import os
import signal
from functools import partial

import psutil
import pytest
from redis import Redis
from sqlalchemy import select

from paretofit.db import outbox
from paretofit.db.engine import transaction
from paretofit.db.tables import AttemptRow, LogRow, MetricRow, TrialRow
from tests.db import rows
from tests.workers.fleet import Fleet, is_gone, stop

pytestmark = pytest.mark.integration

LONG = {"steps": 120, "seconds": 0.02, "checkpoint_every": 5}


@pytest.fixture
def fleet(disposable_fleet: Fleet) -> Fleet:
    return disposable_fleet


@pytest.fixture
def search_id(fleet: Fleet) -> str:
    return fleet.add_search(**LONG)


@pytest.fixture
def trial(fleet: Fleet, search_id: str) -> TrialRow:
    """A running trial with a checkpoint."""
    running = fleet.await_running(search_id)
    fleet.wait(lambda: rows.trial(fleet.engine, running.id).checkpoint, "checkpoint")
    return running


def outcomes(fleet: Fleet, trial_id: str) -> list[str | None]:
    with transaction(fleet.engine) as session:
        query = select(AttemptRow.outcome).where(AttemptRow.trial_id == trial_id).order_by(AttemptRow.epoch)
        return list(session.scalars(query))


def wait_until_finished(fleet: Fleet, search_id: str) -> TrialRow:
    fleet.await_state(search_id, "succeeded")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert trial.outputs is not None
    assert trial.outputs["began"] >= LONG["checkpoint_every"]
    with transaction(fleet.engine) as session:
        steps = session.scalars(select(MetricRow.step).where(MetricRow.trial_id == trial.id, MetricRow.name == "loss"))
        assert sorted(steps) == list(range(1, int(LONG["steps"]) + 1))
    numbers = [event.seq for event in rows.events(fleet.engine, search_id)]
    assert numbers == list(range(1, len(numbers) + 1))
    return trial


def test_drained_worker_releases_its_trial(fleet: Fleet, search_id: str, trial: TrialRow) -> None:
    (worker,) = fleet.trainers
    trainer = fleet.trainer(trial.id, 1)
    assert trainer is not None
    assert stop(worker) < 10
    assert worker.returncode == 0
    assert is_gone(trainer)
    released = rows.trial(fleet.engine, trial.id)
    assert (released.state, released.crash_count) == ("queued", 0)
    fleet.start_trainer()
    assert wait_until_finished(fleet, search_id).crash_count == 0
    assert outcomes(fleet, trial.id) == ["drained", "completed"]


def test_trainer_ends_with_a_killed_supervisor(fleet: Fleet, search_id: str, trial: TrialRow) -> None:
    (worker,) = fleet.trainers
    trainer, warm = fleet.trainer(trial.id, 1), fleet.warm(worker)
    assert trainer is not None
    os.kill(fleet.supervisor(worker), signal.SIGKILL)
    fleet.wait(lambda: is_gone(trainer) and is_gone(warm), "end of the trainer and the forkserver", 5)
    assert wait_until_finished(fleet, search_id).crash_count == 1
    assert outcomes(fleet, trial.id) == ["lost", "completed"]


def test_killed_worker_leaves_only_its_trial(fleet: Fleet, search_id: str, trial: TrialRow) -> None:
    (worker,) = fleet.trainers
    trainer, supervisor = fleet.trainer(trial.id, 1), fleet.supervisor(worker)
    assert trainer is not None
    worker.kill()
    fleet.wait(lambda: is_gone(supervisor) and is_gone(trainer), "end of supervisor and trainer", 5)
    fleet.start_trainer()
    assert wait_until_finished(fleet, search_id).lease_epoch == 2


def test_suspended_supervisor_writes_nothing_after_its_lease_is_reclaimed(
    fleet: Fleet, search_id: str, trial: TrialRow
) -> None:
    (worker,) = fleet.trainers
    supervisor = fleet.supervisor(worker)
    os.kill(supervisor, signal.SIGSTOP)
    fleet.wait(lambda: rows.trial(fleet.engine, trial.id).state == "queued", "reclaimed trial", 10)
    fleet.start_trainer()
    fleet.wait(lambda: fleet.trainer(trial.id, 2), "second attempt")
    os.kill(supervisor, signal.SIGCONT)
    first = fleet.trainer(trial.id, 1)
    assert first is not None
    fleet.wait(lambda: is_gone(first), "end of the first trainer", 5)
    assert wait_until_finished(fleet, search_id).lease_epoch == 2
    assert outcomes(fleet, trial.id) == ["lost", "completed"]


def test_trainer_outlives_the_forkserver(fleet: Fleet, search_id: str, trial: TrialRow) -> None:
    (worker,) = fleet.trainers
    pid, warm = fleet.trainer(trial.id, 1), fleet.warm(worker)
    assert pid is not None
    trainer = psutil.Process(pid)
    assert trainer.cmdline() == psutil.Process(warm).cmdline()
    assert trainer.ppid() == fleet.supervisor(worker)
    assert os.getsid(pid) == pid
    for process in (trainer, psutil.Process(warm)):
        assert not {"DATABASE_URL", "REDIS_URL"} & process.environ().keys()
    os.kill(warm, signal.SIGKILL)
    fleet.await_state(search_id, "succeeded")
    assert outcomes(fleet, trial.id) == ["completed"]
    fleet.await_state(fleet.add_search(steps=5), "succeeded")
    assert fleet.warm(worker) != warm


def test_stalled_trainer_is_killed_and_logs_its_stacks(empty_fleet: Fleet) -> None:
    empty_fleet.environment["PARETOFIT_STALL_SECONDS"] = "2"
    empty_fleet.start("paretofit.workers.relay")
    empty_fleet.start("paretofit.workers", "light", "--processes", "1")
    empty_fleet.start_trainer()
    search_id = empty_fleet.add_search(fault="hang", steps=20)
    empty_fleet.await_state(search_id, "succeeded")
    (trial,) = rows.trials(empty_fleet.engine, search_id)
    assert (trial.lease_epoch, trial.crash_count) == (2, 1)
    with transaction(empty_fleet.engine) as session:
        attempt = session.get_one(AttemptRow, (trial.id, 1))
        assert attempt.error is not None
        assert attempt.error["code"] == "stalled"
        assert any("in _fail" in line for line in attempt.error["log"])


def test_duplicate_messages_make_one_attempt_per_epoch(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.start_trainer()
    search_id = fleet.add_search(fault="exit", steps=20, seconds=0.02)
    for epoch in (1, 2, 3):
        trial = fleet.wait(partial(attempted, fleet, search_id, epoch), f"attempt {epoch}")
        with transaction(fleet.engine) as session:
            for _ in range(20):
                outbox.enqueue(session, outbox.TRAIN, trial.id)
                outbox.enqueue(session, outbox.ADVANCE, search_id)
    fleet.await_state(search_id, "failed")
    fleet.wait(fleet.has_sent_all, "empty outbox")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert outcomes(fleet, trial.id) == ["crashed"] * 3
    with transaction(fleet.engine) as session:
        lines = select(LogRow.epoch).where(LogRow.trial_id == trial.id, LogRow.line.startswith("pid "))
        assert sorted(session.scalars(lines)) == [1, 2, 3]


def attempted(fleet: Fleet, search_id: str, epoch: int) -> TrialRow | None:
    trials = [trial for trial in rows.trials(fleet.engine, search_id) if trial.lease_epoch >= epoch]
    return trials[0] if trials else None


def test_flushed_broker_loses_nothing(fleet: Fleet) -> None:
    (worker,) = fleet.trainers
    worker.send_signal(signal.SIGSTOP)
    search_id = fleet.add_search(steps=5)
    with Redis.from_url(fleet.environment["REDIS_URL"]) as redis:
        fleet.wait(lambda: redis.llen("train") or redis.keys("train*"), "job message in the queue")
        redis.flushdb()
    worker.send_signal(signal.SIGCONT)
    fleet.await_state(search_id, "succeeded")
