"""Exports of points in every format, against a running service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import numpy as np
import pytest
import torch

import paretofit
from paretofit import Client
from paretofit.api.schemas.exports import Format
from paretofit.api.schemas.points import Front
from paretofit.models.checkpoint import read_record
from paretofit.search.export.session import open_session
from paretofit.search.registry import methods
from tests.launch.service import Service
from tests.test_end_to_end import SECONDS, finish

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def client(service: Service) -> Any:
    with Client(service.url) as client:
        yield client


@pytest.fixture(scope="module")
def front(client: Client, service: Service) -> Front:
    """The points of a short search, including dominated ones."""
    source = {"kind": "builtin", "name": "fashion_mnist", "subset": 400}
    dataset = client.datasets.create({"name": uuid4().hex, "source": source})
    dataset = client.datasets.wait(dataset.id, timeout=SECONDS, poll=0.1)
    tiny = {"kind": "mutualnet", **methods()["mutualnet"].params.tiny, "epochs": 1}
    search = finish(client, service, {"name": "exported", "dataset_id": dataset.id, "method": tiny})
    return client.searches.front(search.id, dominated=True)


def test_points_are_exported_in_every_format(client: Client, service: Service, front: Front, tmp_path: Path) -> None:
    # One test, because the search takes longer than all of the checks.
    chosen = front.points[0]
    assert chosen.artifact is not None
    requested = {name: client.points.export(chosen.id, name) for name in get_args(Format)}
    assert front.dominated
    subnet = next(point for point in front.dominated if point.artifact is None)
    extracted = client.points.export(subnet.id, "safetensors")

    network = paretofit.load(client.artifacts.download(chosen.artifact.id, tmp_path / "checkpoint"))
    images = torch.randn(3, 1, *chosen.input_size)
    with torch.inference_mode():
        expected = network(images).numpy()
    for name, export in requested.items():
        ready = client.points.wait(export.id)
        assert ready.parity is not None
        assert ready.parity.max_abs_diff <= ready.parity.tolerance
        path = client.artifacts.download(ready.id, tmp_path / name)
        assert np.abs(open_session(path, name)(images.numpy()) - expected).max() <= ready.parity.tolerance
        assert client.points.export(chosen.id, name).id == export.id
    assert {export.id for export in client.points.exports(chosen.id)} == {export.id for export in requested.values()}
    assert (tmp_path / "safetensors").read_bytes() == (tmp_path / "checkpoint").read_bytes()

    path = client.artifacts.download(client.points.wait(extracted.id).id, tmp_path / "cut")
    assert read_record(path)["key"] == subnet.key
    with torch.inference_mode():
        assert paretofit.load(path)(torch.zeros(2, 1, *subnet.input_size)).shape == (2, 10)

    _export_from_the_command_line(service, f"{front.search_id}:{chosen.key}", tmp_path)


def _export_from_the_command_line(service: Service, point: str, folder: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "paretofit", "--url", service.url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)

    done = run("export", point, "--format", "torch_export", "-o", str(folder / "net.pt2"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "net.pt2")
    assert "largest difference from PyTorch's logits" in done.stderr
    assert (folder / "net.pt2").read_bytes() == (folder / "torch_export").read_bytes()
    card = run("card", point).stdout
    assert card.startswith("# fd_mobilenet: ")
    assert "license: MIT" in card
    refused = run("export", point, "--format", "safetensors", "--precision", "float16")
    assert (refused.returncode, "safetensors does not support float16" in refused.stderr) == (2, True)
