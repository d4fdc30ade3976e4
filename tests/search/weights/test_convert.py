"""The weights conversion process: accepted and rejected files, and its sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from safetensors.torch import save_file

from paretofit.models import checkpoint
from paretofit.models.header import file_sha256
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.data import landlock
from paretofit.search.weights import FILE
from tests.models.pretrained import published
from tests.models.pretrained.graphs import graph, mobilenet_v1
from tests.prepared import Prepared, prepared
from tests.search.weights import files
from tests.workers.fleet import ROOT

MODULE: Final = "paretofit.search.weights"

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def forks() -> Iterator[Prepared]:
    """A preloaded process from which conversions are forked."""
    with prepared(MODULE) as process:
        yield process


@pytest.fixture
def run(forks: Prepared) -> Run:
    """Runs the process and returns its JSON result."""

    def run(folder: Path, file: Path | None, **spec: Any) -> dict[str, Any]:
        process = forks.run(request(folder, file, **spec), folder)
        assert process.returncode == 0, process.stderr
        result: dict[str, Any] = json.loads(process.stdout)
        return result

    return run


def request(folder: Path, file: Path | None, **spec: Any) -> list[str]:
    """Command-line arguments of the process."""
    body = {
        "spec": {"name": "mine", "source": {"kind": "upload"}, **spec},
        "file": None if file is None else str(file),
        "cache": str(folder / "cache"),
    }
    (folder / "request.json").write_text(json.dumps(body))
    return ["--request", str(folder / "request.json"), "--out", str(folder / "out")]


def test_process_started_like_a_worker_converts_a_file(tmp_path: Path) -> None:
    files.write(tmp_path / "file", classes=3)
    command = [sys.executable, "-m", MODULE, *request(tmp_path, tmp_path / "file")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["state"] == "ready"


def test_weights_file_is_converted_unchanged(run: Run, tmp_path: Path) -> None:
    written = files.write(tmp_path / "file", classes=3)
    result = run(tmp_path, tmp_path / "file", licence="CC0", class_names=["a", "b", "c"])
    assert (result["state"], result["file"]) == ("ready", FILE)
    tensors, record = checkpoint.read(tmp_path / "out" / FILE)
    assert record == result["record"]
    read = WeightsRecord.model_validate(record)
    assert (read.licence, read.class_names, read.mean, read.sha256) == (
        "CC0",
        ("a", "b", "c"),
        written.mean,
        written.sha256,
    )
    original, _ = checkpoint.read(tmp_path / "file")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in original.items()
    }


def test_double_and_half_precision_are_converted_to_single(run: Run, tmp_path: Path) -> None:
    record = files.record()
    values = files.tensors(record)
    kinds = (torch.float64, torch.float16, torch.bfloat16)
    mixed = {name: tensor.to(kinds[index % 3]) for index, (name, tensor) in enumerate(values.items())}
    (tmp_path / "file").write_bytes(files.content(mixed, record))
    assert run(tmp_path, tmp_path / "file")["state"] == "ready"
    tensors, _ = checkpoint.read(tmp_path / "out" / FILE)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_published_names_are_recognized(run: Run, tmp_path: Path) -> None:
    files.save_torchvision(tmp_path / "file")
    result = run(tmp_path, tmp_path / "file")
    assert result["state"] == "ready", result
    assert (result["record"]["family"], result["record"]["width"]) == ("mobilenet_v2", 1.0)
    assert result["record"]["licence"] == "not stated"


@pytest.mark.parametrize("name", sorted(files.hostile()))
def test_hostile_files_are_rejected(run: Run, tmp_path: Path, name: str) -> None:
    content, code, message = files.hostile()[name]
    (tmp_path / "file").write_bytes(content)
    result = run(tmp_path, tmp_path / "file")
    assert result["state"] == "rejected", result
    assert result["error"]["code"] == code
    assert message in result["error"]["detail"]


def test_rejection_detail_with_a_long_name_is_truncated(run: Run, tmp_path: Path) -> None:
    save_file({"x" * 10**6: torch.zeros(1)}, tmp_path / "file")
    result = run(tmp_path, tmp_path / "file")
    assert result["state"] == "rejected"
    assert len(result["error"]["detail"]) < 2010


def test_upload_without_file_is_rejected(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, None)["error"]["code"] == "no_file"


def test_oversized_file_is_rejected_without_reading(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1024**3 + 1)
    assert run(tmp_path, tmp_path / "file")["error"]["code"] == "too_large"


def test_unknown_source_is_rejected(run: Run, tmp_path: Path) -> None:
    result = run(tmp_path, None, source={"kind": "named", "name": "none"})
    assert result["error"]["code"] == "source_failed"
    assert "choose one of" in result["error"]["detail"]


def test_non_commercial_license_needs_confirmation(run: Run, tmp_path: Path) -> None:
    files.write(tmp_path / "file", licence="CC-BY-NC-4.0")
    rejected = run(tmp_path, tmp_path / "file")
    assert rejected["error"]["code"] == "not_usable"
    assert "allow_non_commercial" in rejected["error"]["detail"]
    assert run(tmp_path, tmp_path / "file", allow_non_commercial=True)["record"]["licence"] == "CC-BY-NC-4.0"


CONFINED = """
import json, os, socket, sys
from dataclasses import replace
from pathlib import Path

from paretofit.models.pretrained import sources
from paretofit.models.pretrained.sources import PublishedFile
from paretofit.search import weights

folder, file, like, width = sys.argv.pop(1).split(":")
folder, file = Path(folder), Path(file)
origin = PublishedFile(url=f"https://published.example/{file.name}")
sources.SOURCES = {"mine": replace(sources.SOURCES[like], name="mine", width=float(width), origin=origin)}
convert_original, reachable = weights.convert_original, {}


def observed(*args):
    "Records what is reachable while the file is read."
    reached = {
        "network": socket.socket,
        "program": lambda: os.execv("/bin/true", ["true"]),
        "file": lambda: (folder / "secret").read_text(),
        "writing": lambda: (folder / "cache" / "new").touch(),
    }
    for name, reach in reached.items():
        try:
            reach()
            reachable[name] = True
        except PermissionError:
            reachable[name] = False
    return convert_original(*args)


weights.convert_original = observed
status = weights.main()
sys.stderr.write(json.dumps(reachable))
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("like", "width", "family"),
    [
        ("mobilenet_v2", 0.35, "mobilenet_v2"),
        ("mobilenet_v1", 0.25, "mobilenet_v1"),
        ("fd_mobilenet", 0.25, "fd_mobilenet"),
    ],
)
def test_source_file_is_read_in_a_sandbox(like: str, width: float, family: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "secret").write_text("of another tenant")
    path = tmp_path / "cache" / "mine"
    if like == "mobilenet_v2":
        weights = published.Weights()
        published.mobilenet_v2(weights, torch.zeros(1, 3, 32, 32), "torchvision", width, 5)
        torch.save(weights.tensors, path)
    else:
        path.write_bytes(graph(mobilenet_v1(width)))
    path = path.rename(path.with_name(f"mine-{file_sha256(path)[:8]}.pth"))
    spec = {"name": "mine", "source": {"kind": "named", "name": "mine"}}
    (tmp_path / "request.json").write_text(json.dumps({"spec": spec, "cache": str(path.parent)}))
    command = [
        sys.executable,
        "-c",
        CONFINED,
        f"{tmp_path}:{path}:{like}:{width}",
        "--request",
        str(tmp_path / "request.json"),
    ]
    command += ["--out", str(tmp_path / "out")]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert result["state"] == "ready", result
    assert (result["record"]["family"], result["record"]["width"]) == (family, width)
    reached = json.loads(process.stderr)
    assert not reached["network"]
    assert not reached["program"]
    if landlock.version():
        assert not reached["file"]
        assert not reached["writing"]


def test_missing_normalization_is_rejected(run: Run, tmp_path: Path) -> None:
    record = files.record(channels=1, mean=(0.5,), std=(0.5,))
    save_file(files.tensors(record), tmp_path / "file")
    assert run(tmp_path, tmp_path / "file")["state"] == "rejected"
