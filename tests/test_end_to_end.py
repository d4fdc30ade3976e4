"""End-to-end tests against a running service: HTTP in, networks out."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import paretofit
from paretofit import ApiError, Client
from paretofit.api.schemas.points import Bound
from paretofit.client.errors import DatasetRejectedError
from paretofit.client.search import SearchDetail
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.registry import methods
from tests.launch.service import Service, logs

T = TypeVar("T")
TEXTURES = {"brick": (0.9, 0.4, 0.3), "grass": (0.3, 0.8, 0.3), "water": (0.2, 0.4, 0.9)}
"""RGB color of each class."""

PER_CLASS = 40
SECONDS = 90.0


def textures() -> bytes:
    """A zip archive of noisy colored stripes, one folder per color."""
    noise = np.random.default_rng(0)
    rows, columns = np.mgrid[0:40, 0:44]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, color in TEXTURES.items():
            for number in range(PER_CLASS):
                waves = np.sin(noise.uniform(0, 1) * rows + noise.uniform(0, 1) * columns)
                stripes = (170 + 50 * waves[..., None]) * np.array(color) + noise.normal(0, 12, (40, 44, 3))
                image = io.BytesIO()
                Image.fromarray(stripes.clip(0, 255).astype(np.uint8)).save(image, "PNG")
                archive.writestr(f"{name}/{number}.png", image.getvalue())
    return content.getvalue()


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def fashion(client: Client) -> str:
    """The id of a small subset of Fashion-MNIST."""
    source = {"kind": "builtin", "name": "fashion_mnist", "subset": 1000}
    dataset = client.datasets.create({"name": f"fashion {uuid4().hex}", "source": source})
    return client.datasets.wait(dataset.id, timeout=SECONDS, poll=0.1).id


@pytest.fixture
def upload(client: Client, tmp_path: Path) -> Callable[..., str]:
    """Upload bytes as the archive of a new dataset. Returns its id."""

    def upload(content: bytes, **spec: Any) -> str:
        (tmp_path / "archive").write_bytes(content)
        dataset = client.datasets.create({"name": uuid4().hex, "source": {"kind": "upload"}, **spec})
        return client.datasets.upload(dataset.id, tmp_path / "archive").id

    return upload


def finish(client: Client, service: Service, spec: dict[str, Any]) -> SearchDetail:
    """Submit a search and follow its events until it has succeeded."""
    search = client.searches.create(spec)
    events = list(client.searches.events(search.id))
    search = client.searches.get(search.id)
    trials = [(trial.number, trial.state, trial.error) for trial in client.searches.trials(search.id)]
    assert search.state == "succeeded", f"{search.error}\n{trials}\n{logs(service.home)}"
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].type, events[-1].type) == ("search.created", "search.succeeded")
    assert search.progress.fraction == 1
    return search


def wait(ready: Callable[[], T | None]) -> T:
    """Poll until `ready` returns a true value."""
    deadline = time.monotonic() + SECONDS
    while not (result := ready()):
        assert time.monotonic() < deadline, f"not ready within {SECONDS:g} s"
        time.sleep(0.05)
    return result


def trainer(trial_id: str) -> psutil.Process | None:
    """The process that runs a trial, found by its scratch folder."""
    for process in psutil.process_iter():
        try:
            folder = Path(process.cwd())
        except psutil.Error:
            continue
        if folder.parent.name == "scratch" and folder.name.startswith(f"{trial_id}-"):
            return process
    return None


def evaluate(checkpoint: Path, dataset: str | Path) -> dict[str, Any]:
    """The result of `python -m paretofit.search evaluate`, without the service."""
    command = [
        sys.executable,
        "-m",
        "paretofit.search",
        "evaluate",
        str(checkpoint),
        "--dataset",
        str(dataset),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _marks(kind: str) -> Any:
    """One method is enough for `make test`; US-Net is MutualNet with one resolution."""
    return {"mutualnet": (), "us_net": pytest.mark.slow}.get(kind, pytest.mark.integration)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=_marks(kind)) for kind in sorted(methods())])
def test_every_method_runs_from_submission_to_checkpoints(
    client: Client, service: Service, fashion: str, tmp_path: Path, kind: str
) -> None:
    presets = {method.kind: method.presets for method in client.methods()}
    spec = {"name": f"tiny {kind}", "dataset_id": fashion, "method": {"kind": kind, **presets[kind]["tiny"]}}
    estimate = client.searches.estimate(spec)
    search = finish(client, service, spec)
    front = client.searches.front(search.id)
    assert len(front.points) >= 2
    assert front.hypervolume is not None
    for point in front.points:
        assert point.artifact is not None
        assert estimate.cost["macs"].min <= (point.metrics["macs"] or 0) <= estimate.cost["macs"].max
        network = paretofit.load(client.artifacts.download(point.artifact.id, tmp_path / f"{point.id}.safetensors"))
        with torch.inference_mode():
            assert network(torch.zeros(2, 1, *point.input_size)).shape == (2, 10)

    middle = front.points[len(front.points) // 2]
    again = evaluate(tmp_path / f"{middle.id}.safetensors", "fashion_mnist")
    assert (again["top1"], again["equal"], again["images"]) == (middle.metrics["top1"], True, 10_000)
    budget = middle.metrics["macs"] or 0
    assert client.searches.select(search.id, [Bound(metric="macs", value=budget)]).id == middle.id
    with pytest.raises(ApiError) as refused:
        client.searches.select(search.id, [Bound(metric="macs", value=1)])
    assert (refused.value.status, refused.value.code) == (409, "no_point_fits")


@pytest.mark.slow
def test_each_budget_yields_a_network_with_its_reported_accuracy(
    client: Client, service: Service, fashion: str, tmp_path: Path
) -> None:
    method = {"kind": "scalenet", **methods()["scalenet"].params.tiny, "budgets": [2e5, 4e5, 7e5]}
    search = finish(client, service, {"name": "three budgets", "dataset_id": fashion, "method": method})
    front = client.searches.front(search.id, dominated=True)
    points = sorted([*front.points, *(front.dominated or [])], key=lambda point: point.metrics["macs"] or 0)
    assert [point.config["budget"] for point in points] == [2e5, 4e5, 7e5]
    assert all((point.metrics["macs"] or 0) <= point.config["budget"] for point in points)
    data = Dataset.open(service.home / "cache" / "datasets" / fashion)
    for point in points:
        assert point.artifact is not None
        path = client.artifacts.download(point.artifact.id, tmp_path / f"{point.key}.safetensors")
        again = reevaluate(path, data)
        assert (again.top1, again.equal) == (point.metrics["top1"], True)


@pytest.mark.integration
def test_killed_training_yields_bit_identical_networks(client: Client, service: Service, fashion: str) -> None:
    tiny = methods()["mutualnet"].params.tiny
    # Long enough that training does not finish between two polls of its progress.
    method = {"kind": "mutualnet", **tiny, "epochs": 3, "resolutions": [24], "widths": {"step": 0.75}}
    spec = {"name": "uninterrupted", "dataset_id": fashion, "method": method, "seed": 3}
    interrupted = client.searches.create(spec | {"name": "interrupted"})
    trial = wait(lambda: next(iter(client.searches.trials(interrupted.id)), None))
    # By then several checkpoints have been saved, at steps that depend on the clock.
    done = random.uniform(0.2, 0.6)
    killed = wait(lambda: trainer(trial.id) if client.trials.get(trial.id).progress > done else None)
    killed.kill()
    assert client.searches.wait(interrupted.id, timeout=SECONDS).state == "succeeded"
    assert [attempt.outcome for attempt in client.trials.get(trial.id).attempts] == ["crashed", "completed"]
    assert "resuming from step" in "\n".join(line.line for line in client.trials.logs(trial.id))
    uninterrupted = finish(client, service, spec)
    digests = [
        {point.key: point.artifact and point.artifact.sha256 for point in client.searches.front(search).points}
        for search in (interrupted.id, uninterrupted.id)
    ]
    assert digests[0] == digests[1]


@pytest.mark.integration
def test_uploaded_images_run_from_archive_to_checkpoint(
    client: Client, service: Service, upload: Callable[..., str], tmp_path: Path
) -> None:
    dataset = client.datasets.wait(upload(textures(), image_size=32), timeout=SECONDS, poll=0.1)
    assert dataset.profile is not None
    assert dataset.profile["classes"] == sorted(TEXTURES)
    assert sum(dataset.profile["images"].values()) == PER_CLASS * len(TEXTURES)
    method = {
        "kind": "mutualnet",
        "epochs": 8,
        "batch_size": 16,
        "augmentation": {"kind": "none"},
        "calibration_images": 64,
        "widths": {"step": 0.75},
        "resolutions": [32, 24],
    }
    search = finish(client, service, {"name": "textures", "dataset_id": dataset.id, "method": method})
    best = client.searches.front(search.id).points[-1]
    assert best.artifact is not None
    assert (best.metrics["selection_top1"] or 0) > 0.5, "must be better than chance, which is 1/3"
    checkpoint = client.artifacts.download(best.artifact.id, tmp_path / "best.safetensors")
    assert paretofit.load(checkpoint)(torch.zeros(1, 3, *best.input_size)).shape == (1, 3)
    staged = service.home / "cache" / "datasets" / dataset.id
    assert evaluate(checkpoint, staged)["top1"] == best.metrics["top1"]


def test_unknown_dataset_is_rejected(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        client.searches.create({"name": "x", "dataset_id": "ds_" + 32 * "0", "method": {"kind": "mutualnet"}})
    assert refused.value.status == 422
    assert [error.pointer for error in refused.value.errors] == ["/dataset_id"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"seed": "first"}, "/seed"),
        ({"method": {"kind": "mutualnet", "epochs": "many"}}, "/method/epochs"),
        ({"method": {"kind": "mutualnet", "no_such_parameter": 1}}, "/method/no_such_parameter"),
        ({"method": {"kind": "no_such_method"}}, "/method/kind"),
        ({"constraints": [{"metric": "macs", "value": "little"}]}, "/constraints/0/value"),
        ({"limits": {"max_trials": 0}}, "/limits/max_trials"),
        ({"nmae": "x"}, "/nmae"),
    ],
)
def test_invalid_field_is_rejected_with_its_pointer(
    client: Client, fashion: str, change: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(ApiError) as refused:
        client.searches.create({"name": "x", "dataset_id": fashion, "method": {"kind": "mutualnet"}} | change)
    assert refused.value.status == 422
    assert [error.pointer for error in refused.value.errors] == [pointer]
    assert refused.value.errors[0].detail


def test_infeasible_constraint_is_rejected_with_the_nearest_cost(client: Client, fashion: str) -> None:
    spec = {"name": "x", "dataset_id": fashion, "method": {"kind": "mutualnet"}}
    least = client.searches.estimate(spec).cost["macs"].min
    with pytest.raises(ApiError) as refused:
        client.searches.create(spec | {"constraints": [{"metric": "macs", "value": least - 1}]})
    assert (refused.value.status, refused.value.code) == (422, "infeasible")
    assert str(least) in json.dumps(refused.value.problem)
    assert client.searches.estimate(spec | {"constraints": [{"metric": "macs", "value": least}]}).feasible == 1


@pytest.mark.parametrize("prefix", ["srch", "trl", "ds", "art", "anything"])
def test_unknown_ids_are_not_found(client: Client, prefix: str) -> None:
    unknown = f"{prefix}_{32 * '0'}"
    for get in (client.searches.get, client.trials.get, client.datasets.get, client.artifacts.get):
        with pytest.raises(ApiError) as refused:
            get(unknown)
        assert (refused.value.status, refused.value.code) == (404, "not_found")


def test_oversize_archive_is_rejected_before_it_is_sent(client: Client, tmp_path: Path) -> None:
    dataset = client.datasets.create({"name": uuid4().hex, "source": {"kind": "upload"}})
    with (tmp_path / "sparse.tar").open("wb") as file:
        file.truncate(5 * 1024**3)
    sent = [0]
    with pytest.raises(ApiError) as refused:
        client.datasets.upload(dataset.id, tmp_path / "sparse.tar", lambda done, _: sent.append(done))
    assert (refused.value.status, refused.value.code) == (413, "too_large")
    assert max(sent) < 1024**3


def empty_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w"):
        pass
    return content.getvalue()


def escaping_tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("../../class/image.png")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty file"),
        pytest.param(empty_zip(), id="empty archive"),
        pytest.param(textures()[: 50 * 1024], id="truncated"),
        pytest.param(b"these are not images" * 1000, id="not an archive"),
        pytest.param(escaping_tar(), id="path traversal"),
    ],
)
def test_invalid_archive_is_rejected_with_reasons(client: Client, upload: Callable[..., str], content: bytes) -> None:
    dataset_id = upload(content)
    with pytest.raises(DatasetRejectedError) as rejected:
        client.datasets.wait(dataset_id, timeout=SECONDS, poll=0.1)
    assert all(len(reason) > 10 for reason in rejected.value.reasons)
    assert rejected.value.dataset.error is not None
    with pytest.raises(ApiError) as refused:
        client.searches.create({"name": "x", "dataset_id": dataset_id, "method": {"kind": "mutualnet"}})
    assert (refused.value.status, refused.value.code) == (409, "dataset_not_ready")
