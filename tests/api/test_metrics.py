"""The metrics for Prometheus."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, update

from paretofit.db import cancellation, counters, outbox
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import AttemptRow, DatasetRow, OutboxRow
from tests.api import rows
from tests.api.process import running

ID = re.compile(r"[a-z]+_[0-9a-f]{32}")


def read(http: httpx.Client) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name, then by the values of their labels."""
    response = http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            assert not any(ID.search(value) for value in sample.labels.values()), sample
            samples.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return samples


def test_metrics_match_the_database(tmp_path: Path, database_url: str, redis_url: str, engine: Engine) -> None:
    with running(tmp_path, database_url, redis_url) as api:
        empty = read(api.http)
        assert empty["paretofit_database_up"] == {(): 1}
        kinds = ("trial", "dataset", "weights", "export", "delivery")
        assert empty["paretofit_expired_leases"] == {(kind,): 0 for kind in kinds}
        assert empty["paretofit_stale_writes_total"] == {(): 0}
        _add_rows(engine)
        api.http.get("/v1/searches/srch_x/trials")
        api.http.get("/nothing")
        samples = read(api.http)
    assert samples["paretofit_searches"] == {("cancelled",): 1, ("running",): 1}
    assert samples["paretofit_trials"] == {("queued",): 1, ("running",): 1}
    assert samples["paretofit_datasets"] == {("ready",): 1, ("rejected",): 1}
    assert 50 < samples["paretofit_queue_age_seconds"][()] < 120
    assert 30 < samples["paretofit_outbox_lag_seconds"][()] < 120
    assert samples["paretofit_expired_leases"][("trial",)] == 1
    assert samples["paretofit_attempts"] == {("completed",): 1, ("running",): 1}
    assert 100 <= samples["paretofit_device_seconds"][("cuda",)] < 110
    assert 20 <= samples["paretofit_device_seconds"][("cpu",)] < 60
    assert set(samples["paretofit_cancel_latency_seconds"]) == {("0.5",), ("0.99",), ("1.0",)}
    assert 0 <= samples["paretofit_cancel_latency_seconds"][("1.0",)] < 10
    assert samples["paretofit_stale_writes_total"] == {(): 2}
    assert samples["paretofit_lost_steps_total"] == {(): 70}
    assert samples["paretofit_uploads_rejected_total"] == {("too_many_entries",): 1}
    assert samples["paretofit_http_request_seconds_count"][("GET", "/v1/searches/{search_id}/trials", "404")] == 1
    assert samples["paretofit_http_request_seconds_count"][("GET", "(none)", "404")] == 1
    assert samples["paretofit_pool_wait_seconds_count"][()] > 0


def test_every_metric_is_documented(http: httpx.Client) -> None:
    families = text_string_to_metric_families(http.get("/metrics").text)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    documented = set(re.findall(r"`(paretofit_\w+)`(?=.* \| (?:gauge|counter|histogram) \|)", page))
    # prometheus_client adds the creation time of each counter.
    assert documented == {name for name in names if not name.endswith("_created")}


def _add_rows(engine: Engine) -> None:
    dataset = rows.ready_dataset(engine)
    search = rows.search(engine, dataset)
    rows.set_search(engine, search, state="running")
    now = datetime.now(UTC)
    rows.trial(engine, search, 0, state="queued", run_after=now - timedelta(seconds=60))
    trial = rows.trial(engine, search, 1, state="running", lease_expires_at=now - timedelta(seconds=1))
    ended = AttemptRow(trial_id=trial, epoch=1, worker="w", device="cuda:1", outcome="completed")
    ended.computing_at, ended.ended_at = now - timedelta(seconds=100), now
    running = AttemptRow(trial_id=trial, epoch=2, worker="w", device="cpu", computing_at=now - timedelta(seconds=20))
    cancelled = rows.search(engine, dataset)
    with transaction(engine) as session:
        session.add_all([ended, running])
        session.add(DatasetRow(id=new_id("ds"), name="d", state="rejected", source={"kind": "upload"}))
        cancellation.request_cancel(session, cancelled)
        outbox.enqueue(session, outbox.TRAIN, trial)
    with transaction(engine) as session:
        session.execute(update(OutboxRow).values(send_after=now - timedelta(seconds=40)))
        for _ in range(2):
            counters.add(session, counters.STALE_WRITES)
        counters.add(session, counters.LOST_STEPS, amount=70)
        counters.add(session, counters.UPLOADS_REJECTED, "too_many_entries")


def test_metrics_report_an_unavailable_database(tmp_path: Path, redis_url: str) -> None:
    with running(tmp_path, "postgresql://nobody@127.0.0.1:1/none", redis_url) as api:
        assert read(api.http)["paretofit_database_up"] == {(): 0}


def test_dropped_streams_are_counted(http: httpx.Client, stored: Engine) -> None:
    search = rows.search(stored, rows.ready_dataset(stored))
    before = read(http)["paretofit_sse_dropped_total"][()]
    with http.stream("GET", f"/v1/searches/{search}/events", headers={"Accept": "text/event-stream"}) as stream:
        lines = stream.iter_lines()
        next(lines)
        assert read(http)["paretofit_sse_open"][()] >= 1
    deadline = time.monotonic() + 20
    while read(http)["paretofit_sse_dropped_total"][()] == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_refused_uploads_are_counted_by_reason(http: httpx.Client) -> None:
    dataset = http.post("/v1/datasets", json={"name": "d", "source": {"kind": "upload"}}).json()
    before = read(http).get("paretofit_uploads_refused_total", {}).get(("upload_offset",), 0)
    refused = http.put(f"/v1/datasets/{dataset['id']}/content", content=b"x", headers={"Content-Range": "bytes 5-5/10"})
    assert refused.status_code == 409
    assert read(http)["paretofit_uploads_refused_total"][("upload_offset",)] == before + 1
