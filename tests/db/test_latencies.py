"""Measured latencies: storage, lookup, and which workers may measure."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from paretofit.db import latencies, trials
from paretofit.db.engine import transaction
from paretofit.db.leases import assignment, claim
from paretofit.db.reports import Report, write
from paretofit.db.tables import OutboxRow, TrialRow
from paretofit.search.contracts.latency import Latency, Measured
from tests.db import rows

DEVICE = "onnxruntime-cpu-1t"
MACHINE = {"processor": "p", "cores": 2}


def measured(milliseconds: float = 1.0, **changes: Any) -> Measured:
    fields = {"architecture": "a", "input_size": (32, 24), "device": DEVICE, "machine": MACHINE}
    latency = Latency(median_ms=milliseconds, p95_ms=2 * milliseconds, runs=60)
    return Measured.model_validate({**fields, "latency": latency, **changes})


def known(engine: Engine, *architectures: str, tenant: str = "default", **machine: Any) -> list[Measured]:
    with transaction(engine) as session:
        return list(latencies.known(session, tenant, DEVICE, architectures, machine=machine or None))


def test_latest_measurement_is_kept(engine: Engine) -> None:
    for measurements in (
        [measured(1), measured(2)],
        [measured(3, machine={"cores": 8}), measured(4, architecture="b")],
    ):
        with transaction(engine) as session:
            latencies.record(session, "default", measurements)
    assert known(engine, "a", processor="p", cores=2) == [measured(2)]
    assert known(engine, "a") == [measured(3, machine={"cores": 8}), measured(2)]
    assert known(engine, "a", "b", cores=8) == [measured(3, machine={"cores": 8})]
    assert known(engine, "a", tenant="other") == []


@pytest.mark.usefixtures("scripted")
def test_latencies_are_written_under_the_lease(engine: Engine) -> None:
    lease = rows.take(engine, rows.plan(engine, rows.add_search(engine))[0])
    before = rows.trial(engine, lease.trial_id).progressed_at
    with transaction(engine) as session:
        write(session, lease, Report(latencies=[measured()]))
    assert known(engine, "a") == [measured()]
    after = rows.trial(engine, lease.trial_id).progressed_at
    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.usefixtures("scripted")
def test_only_a_worker_with_the_device_claims_a_measurement_trial(engine: Engine) -> None:
    [trial_id] = rows.plan(engine, rows.add_search(engine))
    with transaction(engine) as session:
        session.execute(update(TrialRow).values(device=DEVICE))
    rows.pop_messages(engine)
    with transaction(engine) as session:
        assert claim(session, trial_id, owner="w", device="cpu", seconds=9, offers=["ncnn-cpu-1t"]) is None
        trials.pass_on(session, trial_id, ["ncnn-cpu-1t"], seconds=60)
        sent = session.scalars(select(OutboxRow)).one()
        assert (sent.subject, sent.send_after > sent.created_at) == (trial_id, True)
    with transaction(engine) as session:
        lease = claim(session, trial_id, owner="w", device="cpu", seconds=9, offers=[DEVICE])
        assert lease is not None
        assert assignment(session, lease).device == DEVICE
        trials.pass_on(session, trial_id, [], seconds=60)
        assert len(session.scalars(select(OutboxRow)).all()) == 1, "a running trial is not passed on"
