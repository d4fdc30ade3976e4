"""Trained weights against a running service: upload, a search that starts from them, provenance in the checkpoint."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from paretofit import Client
from paretofit.models import checkpoint
from paretofit.search.registry import methods
from tests.launch.service import Service
from tests.search.weights import files
from tests.test_end_to_end import SECONDS, evaluate, finish, trainer, wait

pytestmark = pytest.mark.integration

LICENSE = "CC0-1.0 (a test)"


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def fashion(client: Client) -> str:
    """The id of a small subset of Fashion-MNIST."""
    source = {"kind": "builtin", "name": "fashion_mnist", "subset": 1000}
    dataset = client.datasets.create({"name": f"fashion {uuid4().hex}", "source": source})
    return client.datasets.wait(dataset.id, timeout=SECONDS, poll=0.1).id


@pytest.fixture(scope="module")
def weights(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An FD-MobileNet x 0.25 for color images, without a classifier."""
    path = tmp_path_factory.mktemp("weights") / "fd.safetensors"
    files.write(path, calibrated=True)
    created = client.weights.create({"name": uuid4().hex, "source": {"kind": "upload"}, "licence": LICENSE})
    client.weights.upload(created.id, path)
    return client.weights.wait(created.id, timeout=SECONDS)


def spec_from_weights(fashion: str, weights: Any, **changes: Any) -> dict[str, Any]:
    tiny = {
        name: value
        for name, value in methods()["mutualnet"].params.tiny.items()
        if name not in {"family", "base_width"}
    }
    # A low rate, so that the few steps do not make random weights worse than they are with their fitted classifier.
    slow = {"learning_rate": 0.001}
    method = {"kind": "mutualnet", **tiny, **slow, "start": {"weights": weights.name}, **changes}
    return {"name": "started", "dataset_id": fashion, "method": method, "seed": 5}


def test_search_starts_from_uploaded_weights(
    client: Client, service: Service, fashion: str, weights: Any, tmp_path: Path
) -> None:
    search = finish(client, service, spec_from_weights(fashion, weights))
    assert search.spec["start"]["sha256"] == weights.sha256
    assert search.spec["method"]["start"]["weights"] == weights.id
    assert (search.spec["method"]["family"], search.spec["method"]["base_width"]) == ("fd_mobilenet", 0.25)
    # Gray images are normalized by the averages over the colors.
    assert search.spec["dataset"]["mean"] == pytest.approx([0.4])
    best = client.searches.front(search.id).points[-1]
    assert best.artifact is not None
    path = client.artifacts.download(best.artifact.id, tmp_path / "best.safetensors")
    start = checkpoint.read_record(path)["provenance"]["start"]
    assert (start["family"], start["licence"], start["sha256"]) == ("fd_mobilenet", LICENSE, weights.sha256)
    assert start["source"] == weights.record["source"]
    card = httpx.get(f"{service.url}/v1/points/{best.id}/card").text
    assert LICENSE in card
    again = evaluate(path, "fashion_mnist")
    assert (again["top1"], again["equal"]) == (best.metrics["top1"], True)


def test_killed_training_from_weights_yields_identical_networks(
    client: Client, service: Service, fashion: str, weights: Any
) -> None:
    spec = spec_from_weights(fashion, weights, epochs=3, resolutions=[24], widths={"step": 0.75})
    interrupted = client.searches.create(spec | {"name": "interrupted"})
    trial = wait(lambda: next(iter(client.searches.trials(interrupted.id)), None))
    done = random.uniform(0.2, 0.6)
    killed = wait(lambda: trainer(trial.id) if client.trials.get(trial.id).progress > done else None)
    killed.kill()
    assert client.searches.wait(interrupted.id, timeout=SECONDS).state == "succeeded"
    assert "crashed" in [attempt.outcome for attempt in client.trials.get(trial.id).attempts]
    uninterrupted = finish(client, service, spec)
    digests = [
        {point.key: point.artifact and point.artifact.sha256 for point in client.searches.front(search).points}
        for search in (interrupted.id, uninterrupted.id)
    ]
    assert digests[0] == digests[1]


def test_search_starts_from_a_point(client: Client, service: Service, fashion: str, weights: Any) -> None:
    first = finish(client, service, spec_from_weights(fashion, weights))
    point = client.searches.front(first.id).points[-1]
    spec = spec_from_weights(fashion, weights, start={"point": point.id})
    second = finish(client, service, spec | {"name": "from a point"})
    assert second.spec["start"]["kind"] == "point"
    assert point.id in second.spec["start"]["source"]
    # Deleting the first search does not affect the second.
    client.searches.delete(first.id)
    assert client.searches.front(second.id).points
