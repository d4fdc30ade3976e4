"""Trained weights from the command line and the clients, through a running service."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from paretofit.client.client import AsyncClient, Client
from paretofit.client.errors import ApiError, UsageError, WeightsRejectedError
from paretofit.models import checkpoint
from tests.launch.service import Service
from tests.models.pretrained.test_fetch import build_shared_package
from tests.paretofit.stored import Stored
from tests.paretofit.test_cli import Run, parsed, succeeded
from tests.paretofit.test_cli import run as run  # a fixture
from tests.search.weights import files


def test_sources_are_listed(run: Run) -> None:
    listed = parsed(run("weights", "sources", "--json"))
    assert {"mobilenet_v2", "mobilenet_v1", "resnet50"} <= {each["name"] for each in listed}
    assert "Apache-2.0" in succeeded(run("weights", "sources"))


def test_methods_list_the_sources_of_families(run: Run) -> None:
    shown = " ".join(succeeded(run("methods", "mutualnet")).split())
    assert "Published weights that a family can start from" in shown
    assert "resnet50 resnet50" in shown
    assert "Published weights" not in succeeded(run("methods", "scalenet"))


def test_safetensors_file_is_added_shown_and_deleted(run: Run, tmp_path: Path, name: str) -> None:
    files.write(tmp_path / "mine.safetensors", classes=2)
    arguments = ("--name", name, "--licence", "CC0", "--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")
    added = parsed(run("weights", "add", "mine.safetensors", *arguments, "--classes", "cat,dog", "--json"))
    assert (added["name"], added["state"]) == (name, "ready")
    record = added["record"]
    assert (record["family"], record["licence"], record["class_names"]) == ("fd_mobilenet", "CC0", ["cat", "dog"])
    assert record["mean"] == [0.5] * 3
    shown = succeeded(run("weights", "show", name))
    assert "fd_mobilenet x 0.25" in shown
    assert "CC0" in shown
    assert name in succeeded(run("weights", "list"))
    assert added["id"] in [each["id"] for each in parsed(run("weights", "list", "--json"))]
    assert parsed(run("weights", "show", added["id"][-12:], "--json"))["id"] == added["id"]
    assert added["id"] in run("weights", "delete", name).stderr
    assert run("weights", "show", name).exit_code == 3


@pytest.mark.integration
def test_class_names_are_read_from_a_file(run: Run, tmp_path: Path, name: str) -> None:
    files.write(tmp_path / "mine.safetensors", classes=2)
    (tmp_path / "classes.txt").write_text("cat\nbig dog\n\n")
    added = parsed(run("weights", "add", "mine.safetensors", "--name", name, "--classes", "classes.txt", "--json"))
    assert added["record"]["class_names"] == ["cat", "big dog"]


def test_pytorch_file_is_converted_locally(run: Run, tmp_path: Path, name: str) -> None:
    weights = files.torchvision_mobilenet_v2()
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / f"{name}.pth")
    added = parsed(run("weights", "add", f"{name}.pth", "--licence", "BSD-3-Clause", "--json"))
    assert (added["name"], added["state"], added["error"]) == (name, "ready", None)
    record = added["record"]
    assert (record["family"], record["licence"], record["source"]) == ("mobilenet_v2", "BSD-3-Clause", f"{name}.pth")


@pytest.mark.integration
def test_package_of_two_sources_needs_a_source_name(
    run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = build_shared_package(tmp_path, monkeypatch).name
    refused = run("weights", "add", file)
    assert refused.exit_code == 2
    assert "mobilenet_v1 and fd_mobilenet are both made from this file" in " ".join(refused.stderr.split())
    added = parsed(run("weights", "add", file, "--source", "fd_mobilenet", "--name", name, "--json"))
    assert (added["state"], added["record"]["family"]) == ("ready", "fd_mobilenet")
    wrong = run("weights", "add", "mobilenet_v2", "--source", "mobilenet_v2")
    assert (wrong.exit_code, "is not a file" in wrong.stderr) == (2, True)


@pytest.mark.integration
def test_weights_for_non_commercial_use_are_added_when_confirmed(run: Run, tmp_path: Path, name: str) -> None:
    files.write(tmp_path / "mine.safetensors", licence="CC-BY-NC-4.0")
    arguments = ("weights", "add", "mine.safetensors", "--name", name, "--json")
    refused = run(*arguments)
    assert (refused.exit_code, json.loads(refused.stdout)["state"]) == (1, "rejected")
    assert "--allow-non-commercial" in refused.stderr
    added = parsed(run(*arguments, "--allow-non-commercial"))
    assert (added["state"], added["record"]["licence"]) == ("ready", "CC-BY-NC-4.0")


def test_start_may_reference_a_point_by_its_search(run: Run, stored: Stored, name: str) -> None:
    method = {"kind": "mutualnet", "start": {"point": f"{name}:best"}}
    result = run("submit", "-", stdin=json.dumps({"name": "x", "dataset": name, "method": method}))
    # The stored point is only a stub, so the service rejects it and names its id.
    assert result.exit_code == 2
    assert "/method/start/point" in result.stderr
    assert stored.point_ids[2] in result.stderr
    method["start"] = {"point": f"{name}:none"}
    assert run("submit", "-", stdin=json.dumps({"name": "x", "dataset": name, "method": method})).exit_code == 3


class RunsCode:
    """An object that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pytorch_file_that_runs_code_is_rejected_locally(run: Run, tmp_path: Path) -> None:
    torch.save({"state_dict": RunsCode(tmp_path / "executed")}, tmp_path / "bad.pth")
    result = run("weights", "add", "bad.pth")
    assert result.exit_code == 2
    assert "was not loaded" in " ".join(result.stderr.split())
    assert not (tmp_path / "executed").exists()


def test_pytorch_file_without_torch_says_what_to_install(service: Service, tmp_path: Path) -> None:
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"a": [1.0] * 100}))
    # `None` in sys.modules is how Python marks a module that cannot be imported.
    code = f"""
import sys
sys.modules["torch"] = None
sys.argv = ["paretofit", "--url", {service.url!r}, "weights", "add", "old.pth"]
from paretofit.cli.main import run
run()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    errors = " ".join(result.stderr.split())
    assert "pip install 'paretofit[worker]'" in errors
    assert "save_file" in errors


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("missing.pth",), "file not found: missing.pth"),
        (("no_such_source",), "/source/name"),
        (("mobilenet_v2", "--licence", "MIT"), "the named source provides its own"),
        (("mobilenet_v2", "--mean", "a,b,c"), "--mean takes one number per channel"),
        (("mobilenet_v2", "--mean", "nan,0.5,0.5"), "--mean takes one number per channel"),
        (("mine", "--licence", "CC-BY-NC-4.0"), "--allow-non-commercial"),
        (("resnet50_swsl-1c2d.pth", "--licence", "MIT", "--name", "x"), "--allow-non-commercial"),
        (("mine", "--mean", "0.5"), "mean and std must be given together"),
    ],
)
def test_usage_errors_say_what_to_do(run: Run, tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    for file in ("mine", "resnet50_swsl-1c2d.pth"):
        (tmp_path / file).write_bytes(b"")
    result = run("weights", "add", *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_rejected_weights_exit_with_the_reason(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.safetensors").write_bytes(files.hostile()["NaN"][0])
    result = run("weights", "add", "bad.safetensors", "--name", name, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["state"] == "rejected"
    assert "not finite" in result.stderr


@pytest.mark.integration
def test_weights_add_can_return_immediately(run: Run, client: Client, tmp_path: Path, name: str) -> None:
    files.write(tmp_path / "mine.safetensors")
    added = parsed(run("weights", "add", "mine.safetensors", "--name", name, "--no-wait", "--json"))
    assert added["state"] in {"converting", "ready"}
    assert client.weights.wait(added["id"], timeout=60).state == "ready"


def test_client_adds_and_downloads_weights(client: Client, tmp_path: Path, name: str) -> None:
    files.write(tmp_path / "mine")
    added = client.weights.create({"name": name, "source": {"kind": "upload"}})
    with pytest.raises(UsageError, match="are pending"):
        client.weights.download(added.id, tmp_path / "copy")
    sent: list[tuple[int, int]] = []
    assert client.weights.upload(added.id, tmp_path / "mine", lambda *done: sent.append(done)).state == "converting"
    assert sent[-1] == ((tmp_path / "mine").stat().st_size,) * 2
    ready = client.weights.wait(added.id, timeout=60)
    copy = client.weights.download(added.id, tmp_path / "copy")
    assert load_file(copy).keys() == load_file(tmp_path / "mine").keys()
    assert checkpoint.read_record(copy) == ready.record
    client.weights.delete(added.id)
    with pytest.raises(ApiError, match="no weights"):
        client.weights.get(added.id)


@pytest.mark.integration
def test_async_client_adds_weights(service: Service, tmp_path: Path, name: str) -> None:
    files.write(tmp_path / "mine")
    (tmp_path / "bad").write_bytes(files.hostile()["another network"][0])

    async def add() -> None:
        async with AsyncClient(service.url) as client:
            assert len(await client.weights.sources()) > 5
            added = await client.weights.create({"name": name, "source": {"kind": "upload"}})
            await client.weights.upload(added.id, tmp_path / "mine")
            ready = await client.weights.wait(added.id, timeout=60)
            assert ready.id in [each.id async for each in client.weights.list()]
            bad = await client.weights.create({"name": name, "source": {"kind": "upload"}})
            await client.weights.upload(bad.id, tmp_path / "bad")
            with pytest.raises(WeightsRejectedError, match="unknown weights"):
                await client.weights.wait(bad.id, timeout=60)

    asyncio.run(add())


def test_pickle_is_rejected_by_the_service(client: Client, tmp_path: Path, name: str) -> None:
    (tmp_path / "old").write_bytes(pickle.dumps({"a": [1.0] * 100}))
    added = client.weights.create({"name": name, "source": {"kind": "upload"}})
    with pytest.raises(ApiError, match="converts a PyTorch file") as refused:
        client.weights.upload(added.id, tmp_path / "old")
    assert (refused.value.status, refused.value.code) == (415, "not_safetensors")
