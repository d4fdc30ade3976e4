"""Latency constraints against a running service: feasible and infeasible bounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from paretofit import ApiError, Client
from paretofit.api.schemas.points import Bound
from paretofit.models.architecture import Architecture
from paretofit.models.checkpoint import read_record
from paretofit.search.contracts.latency import DEVICES
from paretofit.search.latency.clock import timed
from paretofit.search.latency.prepare import prepare
from paretofit.search.registry import methods
from tests.launch.service import Service
from tests.test_end_to_end import SECONDS, finish, wait

pytestmark = pytest.mark.integration

DEVICE = "onnxruntime-cpu-1t"
METRIC = f"latency_ms:{DEVICE}"
METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["fd_mobilenet"],
    "widths": [0.1, 0.3],
    "resolutions": [24],
    "trials": 2,
    "epochs": 1,
    "calibration_images": 64,
    "pruning": {"fractions": []},
}


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    """The client, after the workers have registered their devices."""
    with Client(service.url) as client:
        wait(client.devices)
        yield client


@pytest.fixture(scope="module")
def spec(client: Client) -> dict[str, Any]:
    """A search that takes seconds, without constraints."""
    source = {"kind": "builtin", "name": "fashion_mnist", "subset": 500}
    dataset = client.datasets.create({"name": f"latency {uuid4().hex}", "source": source})
    ready = client.datasets.wait(dataset.id, timeout=SECONDS, poll=0.1)
    return {"name": "latency", "dataset_id": ready.id, "method": METHOD}


def bound(value: float) -> dict[str, Any]:
    return {"metric": "latency_ms", "device": DEVICE, "value": value}


def test_workers_list_devices_with_their_machine(client: Client) -> None:
    devices = {device.name: device for device in client.devices()}
    assert {name for name, device in DEVICES.items() if device.kind == "cpu"} <= devices.keys()
    assert devices[DEVICE].threads == 1
    assert devices[DEVICE].machines[0].keys() == {"processor", "cores", "onnxruntime"}


def test_unavailable_device_is_rejected(client: Client, spec: dict[str, Any]) -> None:
    if "torch-cuda" in {device.name for device in client.devices()}:
        pytest.skip("a GPU is available")
    with pytest.raises(ApiError) as refused:
        client.searches.create(spec | {"constraints": [bound(5) | {"device": "torch-cuda"}]})
    assert (refused.value.status, refused.value.errors[0].pointer) == (422, "/constraints/0/device")
    assert DEVICE in refused.value.errors[0].detail


def test_infeasible_bound_fails_before_training(client: Client, spec: dict[str, Any]) -> None:
    search = client.searches.create(spec | {"constraints": [bound(1e-4)]})
    search = client.searches.wait(search.id, timeout=SECONDS, poll=0.1)
    assert (search.state, search.summary.points) == ("failed", 0)
    assert search.error is not None
    assert search.error["code"] == "infeasible"
    [nearest] = search.error["nearest"]
    assert nearest["device"] == DEVICE
    assert nearest["value"] > 1e-4
    assert nearest["key"] in search.error["detail"]
    assert [(trial.state, trial.params["stage"]) for trial in client.searches.trials(search.id)] == [
        ("infeasible", "latency")
    ]


def test_points_stay_within_the_bound_when_measured_again(
    client: Client, service: Service, spec: dict[str, Any], tmp_path: Path
) -> None:
    both = [{"metric": "selection_top1"}, {"metric": "latency_ms", "device": DEVICE}]
    free = finish(client, service, spec | {"constraints": [bound(1e6)], "objectives": both})
    trials = list(client.searches.trials(free.id))
    assert [trial.params.get("stage") for trial in trials] == ["latency", None, None]
    table = client.trials.get(trials[0].id).outputs
    assert table is not None
    medians = {key: each["median_ms"] for key, each in table["table"]["latencies"].items()}
    full_front = client.searches.front(free.id, dominated=True)
    points = [*full_front.points, *(full_front.dominated or [])]
    assert {point.key: point.metrics[METRIC] for point in points} == medians

    by_latency = client.searches.front(free.id, x="latency_ms")
    assert by_latency.device == DEVICE
    assert by_latency.points
    assert by_latency.best_under[METRIC]
    chosen = client.searches.select(free.id, [Bound(metric="latency_ms", value=max(medians.values()))])
    assert chosen.metrics["selection_top1"] == by_latency.points[-1].metrics["selection_top1"]

    max_ms = min(medians.values())
    estimate = client.searches.estimate(spec | {"constraints": [bound(max_ms)]})
    assert estimate.latency[DEVICE].measured == len(medians)
    assert estimate.latency[DEVICE].min_ms == min(medians.values())
    search = finish(client, service, spec | {"constraints": [bound(max_ms)]})
    front = client.searches.front(search.id, dominated=True)
    feasible = [*front.points, *(front.dominated or [])]
    # Earlier measurements are reused.
    assert {point.key for point in feasible} == {key for key, value in medians.items() if value <= max_ms}
    for point in feasible:
        assert point.artifact is not None
        record = read_record(client.artifacts.download(point.artifact.id, tmp_path / f"{point.id}.safetensors"))
        assert record["metrics"][METRIC] == point.metrics[METRIC]
        assert record["provenance"]["latency"][DEVICE]["batch"] == 1
        folder = tmp_path / point.id
        folder.mkdir()
        again = prepare(Architecture.from_json(record["architecture"]), point.input_size, 1, DEVICES[DEVICE], folder)
        # Other tests may load the machine, so one of many measurements must meet the bound.
        assert any(timed([again])[0].median_ms <= 1.1 * max_ms for _ in range(300))


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(kind for kind, method in methods().items() if method.params.learns))
def test_learned_networks_are_measured_after_training(
    client: Client, service: Service, spec: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    device = "torch-cpu-1t"
    objectives = [{"metric": "selection_top1"}, {"metric": "latency_ms", "device": device}]
    method = {"kind": kind, **methods()[kind].params.tiny, "trials": 1}
    bounds = [bound(1e6) | {"device": device}]
    search = finish(client, service, spec | {"method": method, "objectives": objectives, "constraints": bounds})
    trials = sorted(client.searches.trials(search.id), key=lambda trial: trial.number)
    assert [trial.params.get("of") for trial in trials if trial.params.get("stage") == "latency"] == [None, 1]
    front = client.searches.front(search.id, dominated=True)
    points = [*front.points, *(front.dominated or [])]
    assert points
    for point in points:
        assert point.artifact is not None
        record = read_record(client.artifacts.download(point.artifact.id, tmp_path / f"{point.id}.safetensors"))
        assert record["metrics"][f"latency_ms:{device}"] == point.metrics[f"latency_ms:{device}"]
