"""The devices that live workers offer."""

from __future__ import annotations

from datetime import timedelta

import httpx
from sqlalchemy import Engine, func, update

from paretofit.db import workers
from paretofit.db.engine import transaction
from paretofit.db.ids import new_id
from paretofit.db.tables import WorkerRow
from tests.api import rows
from tests.api.test_problems import pointers, problem

DEVICE = "onnxruntime-cpu-1t"


def worker(engine: Engine, *devices: str, cores: int = 2) -> str:
    name = new_id("w")
    machines = {device: {"processor": "p", "cores": cores} for device in devices}
    with transaction(engine) as session:
        workers.beat(session, name, queue="train", device="cpu", description={"devices": machines})
    return name


def expire(engine: Engine, *names: str) -> None:
    with transaction(engine) as session:
        ago = func.clock_timestamp() - timedelta(minutes=2)
        session.execute(update(WorkerRow).where(WorkerRow.name.in_(names)).values(seen_at=ago))


def test_devices_of_live_workers_list_distinct_machines(http: httpx.Client, stored: Engine) -> None:
    same_machine = [worker(stored, DEVICE, "ncnn-cpu-1t"), worker(stored, DEVICE)]
    other_machine = worker(stored, DEVICE, cores=8)
    devices = {device["name"]: device for device in http.get("/v1/devices").json()["data"]}
    assert {*same_machine, other_machine} <= set(devices[DEVICE]["workers"])
    assert devices[DEVICE]["runtime"] == "onnxruntime"
    machines = devices[DEVICE]["machines"]
    assert machines.count({"processor": "p", "cores": 2}) == machines.count({"processor": "p", "cores": 8}) == 1
    expire(stored, *same_machine, other_machine)
    assert "ncnn-cpu-1t" not in {device["name"] for device in http.get("/v1/devices").json()["data"]}


def test_latency_constraint_needs_an_available_device(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    other = worker(stored, "ncnn-cpu-1t")
    constraints = [{"metric": "macs", "value": 1e12}, {"metric": "latency_ms", "device": "torch-cuda", "value": 1}]
    document = problem(http.post("/v1/searches", json=rows.body(dataset, constraints=constraints)), 422, "invalid")
    assert pointers(document) == ["/constraints/1/device"]
    name = worker(stored, "torch-cuda")
    assert http.post("/v1/searches", json=rows.body(dataset, constraints=constraints)).status_code == 202
    expire(stored, name, other)


def test_search_is_accepted_without_any_worker(http: httpx.Client, stored: Engine) -> None:
    with transaction(stored) as session:
        names = [row.name for row in workers.seen_within(session, 60)]
    expire(stored, *names)
    constraints = [{"metric": "latency_ms", "device": DEVICE, "value": 1}]
    assert not http.get("/v1/devices").json()["data"]
    body = rows.body(rows.ready_dataset(stored), constraints=constraints)
    assert http.post("/v1/searches", json=body).status_code == 202


def test_device_of_a_front_must_be_one_of_the_search(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    bounds = [{"metric": "latency_ms", "device": device, "value": 5} for device in (DEVICE, "ncnn-cpu-1t")]
    search_id = rows.search(stored, dataset, constraints=bounds)
    trial_id = rows.trial(stored, search_id)
    for key, onnx, ncnn, top1 in (
        ("a", 1.0, 4.0, 0.5),
        ("b", 2.0, 3.0, 0.6),
        ("c", 3.0, 6.0, 0.9),
        ("d", 2.5, 2.0, 0.4),
    ):
        metrics = {f"latency_ms:{DEVICE}": onnx, "latency_ms:ncnn-cpu-1t": ncnn, "macs": 1.0, "selection_top1": top1}
        rows.point(stored, search_id, trial_id, key, **metrics)
    path = f"/v1/searches/{search_id}/front"

    def keys(**params: str) -> list[str]:
        return [point["key"] for point in http.get(path, params={"x": "latency_ms", **params}).json()["points"]]

    assert keys(device=DEVICE) == ["a", "b"]
    assert keys(device="ncnn-cpu-1t") == ["d", "b"]
    for params in ({"x": "latency_ms"}, {"x": "latency_ms", "device": "torch-cuda"}, {"device": DEVICE}):
        document = problem(http.get(path, params=params), 422, "invalid")
        assert pointers(document) == ["?device"]
    bound = {"metric": "latency_ms", "device": DEVICE, "value": 1.5}
    document = problem(
        http.post(f"{path}/select", json={"constraints": [bound | {"value": 0.5}]}), 409, "no_point_fits"
    )
    assert document["nearest"][0]["value"] == 1.0
    document = problem(http.post(f"{path}/select", json={"constraints": [bound | {"device": None}]}), 422, "invalid")
    assert pointers(document) == ["/constraints/0/device"]
