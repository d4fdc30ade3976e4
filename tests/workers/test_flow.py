"""Searches through the relay and real workers."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import psutil
import pytest
from redis import Redis
from sqlalchemy import func, select

from paretofit.db import cancellation, workers
from paretofit.db.blobs import open_store
from paretofit.db.engine import transaction
from paretofit.db.events import CHANNEL
from paretofit.db.tables import ArtifactRow, AttemptRow, LogRow, MetricRow, PointRow
from paretofit.search.contracts.trial import trial_seed
from tests.db import rows
from tests.workers.fleet import Fleet, is_gone


def test_search_runs_to_its_end(fleet: Fleet) -> None:
    with Redis.from_url(fleet.environment["REDIS_URL"]) as redis, redis.pubsub() as subscription:
        subscription.subscribe(CHANNEL)
        search_id = fleet.add_search(trials=2, then=True, steps=6)
        fleet.await_state(search_id, "succeeded")
        # Channels are shared by the server, so notifications of other tests arrive too.
        fleet.wait(
            lambda: (subscription.get_message() or {}).get("data") == search_id.encode(),
            "notification of event streams",
        )

    search = rows.search(fleet.engine, search_id)
    assert (search.stop_reason, search.front_seq) == ("completed", 3)
    trials = rows.trials(fleet.engine, search_id)
    assert [(trial.number, trial.state, trial.progress) for trial in trials] == [
        (0, "completed", 1.0),
        (1, "completed", 1.0),
        (2, "completed", 1.0),
    ]
    outputs = [trial.outputs or {} for trial in trials]
    assert [output["before"] for output in outputs] == [{}, {}, {"before": 6}]
    assert [output["seed"] for output in outputs] == [trial_seed(0, number) for number in range(3)]
    assert {(output["device"], output["threads"]) for output in outputs} == {("cpu", "1")}
    assert not {"DATABASE_URL", "REDIS_URL"} & set(outputs[0]["environment"])

    types = rows.event_types(fleet.engine, search_id)
    assert [event.seq for event in rows.events(fleet.engine, search_id)] == list(range(1, len(types) + 1))
    assert types.count("front.updated") == 3
    assert types[-1] == "search.succeeded"
    with transaction(fleet.engine) as session:
        losses = select(func.count()).select_from(MetricRow).where(MetricRow.name == "loss")
        assert session.scalar(losses.where(MetricRow.trial_id == trials[0].id)) == 6
        points = session.scalars(select(PointRow).where(PointRow.trial_id == trials[0].id).order_by(PointRow.key))
        assert [(point.key, point.metrics["macs"]) for point in points] == [("net-0", 1000.0), ("net-1", 2000.0)]
        lines = session.scalars(select(LogRow).where(LogRow.trial_id == trials[0].id)).all()
        assert {(line.stream, line.line.split()[0], line.epoch) for line in lines} == {
            ("stdout", "pid", 1),
            ("stderr", "a", 1),
        }
        attempts = session.scalars(
            select(AttemptRow.outcome).where(AttemptRow.trial_id.in_([trial.id for trial in trials]))
        )
        assert list(attempts) == ["completed"] * 3
        artifact = session.scalars(select(ArtifactRow).where(ArtifactRow.trial_id == trials[2].id)).one()
    assert artifact.sha256 == hashlib.sha256(b"12").hexdigest()
    store = open_store((fleet.home / "blobs").as_uri())
    assert b"".join(store.stream(artifact.sha256)) == b"12"
    assert list((fleet.home / "scratch").iterdir()) == []


def test_dominated_trial_is_pruned(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="prune")
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.outputs, trial.error) == ("pruned", {"dominated_by": 3}, None)
    assert (rows.search(fleet.engine, search_id).error or {})["code"] == "no_points"


def test_infeasible_search_reports_the_nearest_candidate(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="infeasible")
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert trial.state == "infeasible"
    expected = {"code": "infeasible", "detail": "the least is 7", "nearest": [7], "trial": 0}
    assert rows.search(fleet.engine, search_id).error == expected


def test_method_error_fails_the_trial_with_its_message(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="raise")
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.lease_epoch, trial.crash_count) == ("failed", 1, 0)
    assert trial.error is not None
    assert (trial.error["code"], trial.error["exception"]) == ("error", "ArithmeticError")
    # Characters that PostgreSQL cannot store are replaced.
    assert trial.error["detail"] == "step sums to nothing\ufffd?"
    assert trial.error["traceback"][-1] == "ArithmeticError: step sums to nothing\ufffd?"
    error = rows.search(fleet.engine, search_id).error
    assert error == {**trial.error, "trial": 0}


def test_training_that_does_not_learn_fails_without_retry(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="not_learning")
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.lease_epoch, trial.crash_count) == ("failed", 1, 0)
    expected = {"code": "not_learning", "detail": "the training accuracy stays at 14.0 %"}
    assert trial.error is not None
    assert {name: trial.error[name] for name in expected} == expected
    assert rows.search(fleet.engine, search_id).error == {**trial.error, "trial": 0}


def test_other_trials_of_a_search_continue(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="not_learning_first", trials=2)
    fleet.await_state(search_id, "succeeded")
    assert [trial.state for trial in rows.trials(fleet.engine, search_id)] == ["failed", "completed"]
    assert rows.search(fleet.engine, search_id).stop_reason == "trials_failed"


def test_diverged_trial_fails_with_its_code(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="diverge")
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.crash_count) == ("failed", 0)
    assert trial.error is not None
    assert trial.error["code"] == "diverged"
    assert trial.error["detail"].endswith("lower learning_rate")
    error = rows.search(fleet.engine, search_id).error
    assert error is not None
    assert error["code"] == "diverged"


def test_crashed_trainer_is_retried_with_a_limit(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="exit", steps=4)
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.lease_epoch, trial.crash_count) == ("failed", 3, 3)
    assert trial.error is not None
    assert trial.error["code"] == "crashed"
    assert "status 3" in trial.error["detail"]


def test_out_of_memory_is_retried_once_with_half_the_batch(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="memory", steps=40, checkpoint_every=5)
    fleet.await_state(search_id, "succeeded")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.lease_epoch, trial.crash_count, trial.batch_scale) == ("completed", 2, 1, 0.5)
    assert trial.outputs is not None
    assert (trial.outputs["batch_scale"], trial.outputs["began"]) == (0.5, 0)
    with transaction(fleet.engine) as session:
        first, second = session.scalars(
            select(AttemptRow).where(AttemptRow.trial_id == trial.id).order_by(AttemptRow.epoch)
        )
        assert first.error is not None
        assert (first.outcome, first.error["code"], second.outcome) == ("crashed", "oom", "completed")
        assert "retried once with half" in first.error["detail"]
    assert rows.search(fleet.engine, search_id).stop_reason == "completed"


def test_second_out_of_memory_fails_with_advice(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="memory_always", steps=4)
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert (trial.state, trial.lease_epoch) == ("failed", 2)
    assert trial.error is not None
    assert trial.error["code"] == "oom"
    assert "use a smaller batch_size" in trial.error["detail"]


def test_plan_that_raises_fails_the_search(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="plan")
    fleet.await_state(search_id, "failed")
    error = rows.search(fleet.engine, search_id).error
    assert error is not None
    assert error["code"] == "method_error"
    assert "ZeroDivisionError: this plan always fails" in error["detail"]


def test_nonfinite_point_fails_the_trial(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="nan", steps=4)
    fleet.await_state(search_id, "failed")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert trial.error is not None
    assert "not JSON compliant" in trial.error["detail"]


@pytest.mark.parametrize(("fault", "within"), [("none", 3.0), ("deaf", 3.0), ("stubborn", 5.0)])
def test_cancel_ends_the_trainer(fleet: Fleet, fault: str, within: float) -> None:
    search_id = fleet.add_search(fault=fault, steps=100_000, seconds=0.01)
    trial = fleet.await_running(search_id)
    trainer = fleet.trainer(trial.id, 1)
    assert trainer is not None
    began = time.monotonic()
    with transaction(fleet.engine) as session:
        assert cancellation.request_cancel(session, search_id)
    fleet.await_state(search_id, "cancelled")
    assert time.monotonic() - began < within
    assert is_gone(trainer)
    assert rows.trial(fleet.engine, trial.id).state == "cancelled"
    assert rows.event_types(fleet.engine, search_id)[-2:] == ["trial.cancelled", "search.cancelled"]


def test_killed_trainer_resumes_from_its_checkpoint(fleet: Fleet) -> None:
    search_id = fleet.add_search(steps=60, seconds=0.02, checkpoint_every=5)
    trial = fleet.await_running(search_id)
    fleet.wait(lambda: rows.trial(fleet.engine, trial.id).checkpoint, "checkpoint")
    trainer = fleet.trainer(trial.id, 1)
    assert trainer is not None
    psutil.Process(trainer).kill()
    fleet.await_state(search_id, "succeeded")
    trial = rows.trial(fleet.engine, trial.id)
    assert (trial.lease_epoch, trial.crash_count) == (2, 1)
    assert trial.outputs is not None
    assert trial.outputs["began"] >= 5
    assert trial.outputs["step"] == 60


def test_wall_limit_ends_the_search_with_its_results(fleet: Fleet) -> None:
    search_id = fleet.add_search(steps=100_000, seconds=0.01, limits={"max_wall_seconds": 3})
    fleet.await_state(search_id, "succeeded")
    (trial,) = rows.trials(fleet.engine, search_id)
    assert trial.state == "completed"
    with transaction(fleet.engine) as session:
        assert session.scalar(select(func.count()).where(PointRow.search_id == search_id)) == 2


def test_trial_that_ignores_its_limit_is_killed_and_keeps_its_reports(fleet: Fleet) -> None:
    search_id = fleet.add_search(fault="deaf", steps=100_000, seconds=0.01, limits={"max_wall_seconds": 2})
    fleet.await_state(search_id, "succeeded")
    search = rows.search(fleet.engine, search_id)
    assert search.stop_reason == "max_wall_seconds"
    (trial,) = rows.trials(fleet.engine, search_id)
    assert trial.error is not None
    assert (trial.state, trial.error["code"], trial.crash_count) == ("cancelled", "limit", 0)
    with transaction(fleet.engine) as session:
        assert session.scalar(select(func.count()).where(MetricRow.trial_id == trial.id))


def test_celery_processes_import_no_torch_and_send_heartbeats(fleet: Fleet) -> None:
    fleet.await_state(fleet.add_search(), "succeeded")
    celery = [
        process
        for main in psutil.Process().children()
        if "paretofit.workers" in main.cmdline()
        for process in [main, *main.children()]
    ]
    assert len(celery) == 4
    for process in celery:
        assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()

    def queues() -> list[str]:
        with transaction(fleet.engine) as session:
            return sorted(worker.queue for worker in workers.seen_within(session, 60))

    assert fleet.wait(lambda: len(queues()) == 2 and queues(), "heartbeats") == ["light", "train"]
