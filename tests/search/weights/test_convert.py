"""The conversion process: accepted and rejected files, and its sandbox."""

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
    """What runs the conversion's process without starting it anew."""
    with prepared(MODULE) as process:
        yield process


@pytest.fixture
def run(forks: Prepared) -> Run:
    """The answer of the process."""

    def run(folder: Path, file: Path | None, **spec: Any) -> dict[str, Any]:
        done = forks.run(request(folder, file, **spec), folder)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


def request(folder: Path, file: Path | None, **spec: Any) -> list[str]:
    """The arguments of the process."""
    body = {
        "spec": {"name": "mine", "source": {"kind": "upload"}, **spec},
        "file": None if file is None else str(file),
        "cache": str(folder / "cache"),
    }
    (folder / "request.json").write_text(json.dumps(body))
    return ["--request", str(folder / "request.json"), "--out", str(folder / "out")]


def test_started_as_the_worker_starts_it(tmp_path: Path) -> None:
    files.write(tmp_path / "file", classes=3)
    command = [sys.executable, "-m", MODULE, *request(tmp_path, tmp_path / "file")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "ready"


def test_a_weights_file_passes_through(run: Run, tmp_path: Path) -> None:
    made = files.write(tmp_path / "file", classes=3)
    answer = run(tmp_path, tmp_path / "file", licence="CC0", class_names=["a", "b", "c"])
    assert (answer["state"], answer["file"]) == ("ready", FILE)
    tensors, record = checkpoint.read(tmp_path / "out" / FILE)
    assert record == answer["record"]
    read = WeightsRecord.model_validate(record)
    assert (read.licence, read.class_names, read.mean, read.sha256) == ("CC0", ("a", "b", "c"), made.mean, made.sha256)
    given, _ = checkpoint.read(tmp_path / "file")
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: tensor.tolist() for name, tensor in given.items()
    }


def test_double_and_half_precision_become_single(run: Run, tmp_path: Path) -> None:
    made = files.record()
    values = files.tensors(made)
    kinds = (torch.float64, torch.float16, torch.bfloat16)
    mixed = {name: tensor.to(kinds[index % 3]) for index, (name, tensor) in enumerate(values.items())}
    (tmp_path / "file").write_bytes(files.content(mixed, made))
    assert run(tmp_path, tmp_path / "file")["state"] == "ready"
    tensors, _ = checkpoint.read(tmp_path / "out" / FILE)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_published_names_are_recognized(run: Run, tmp_path: Path) -> None:
    files.save_torchvision(tmp_path / "file")
    answer = run(tmp_path, tmp_path / "file")
    assert answer["state"] == "ready", answer
    assert (answer["record"]["family"], answer["record"]["width"]) == ("mobilenet_v2", 1.0)
    assert answer["record"]["licence"] == "not stated"


@pytest.mark.parametrize("name", sorted(files.hostile()))
def test_hostile_files_are_rejected(run: Run, tmp_path: Path, name: str) -> None:
    content, code, message = files.hostile()[name]
    (tmp_path / "file").write_bytes(content)
    answer = run(tmp_path, tmp_path / "file")
    assert answer["state"] == "rejected", answer
    assert answer["error"]["code"] == code
    assert message in answer["error"]["detail"]


def test_a_reason_that_quotes_a_long_name_is_cut_off(run: Run, tmp_path: Path) -> None:
    save_file({"x" * 10**6: torch.zeros(1)}, tmp_path / "file")
    answer = run(tmp_path, tmp_path / "file")
    assert answer["state"] == "rejected"
    assert len(answer["error"]["detail"]) < 2010


def test_an_upload_needs_its_file(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path, None)["error"]["code"] == "no_file"


def test_a_large_file_is_rejected_unread(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1024**3 + 1)
    assert run(tmp_path, tmp_path / "file")["error"]["code"] == "too_large"


def test_an_unknown_source_is_rejected(run: Run, tmp_path: Path) -> None:
    answer = run(tmp_path, None, source={"kind": "named", "name": "none"})
    assert answer["error"]["code"] == "source_failed"
    assert "choose one of" in answer["error"]["detail"]


def test_a_licence_for_non_commercial_use_needs_a_confirmation(run: Run, tmp_path: Path) -> None:
    files.write(tmp_path / "file", licence="CC-BY-NC-4.0")
    refused = run(tmp_path, tmp_path / "file")
    assert refused["error"]["code"] == "not_usable"
    assert "allow_non_commercial" in refused["error"]["detail"]
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
converting, found = weights.convert_original, {}


def observed(*given):
    "What can be reached while the file is read."
    reached = {
        "network": socket.socket,
        "program": lambda: os.execv("/bin/true", ["true"]),
        "file": lambda: (folder / "secret").read_text(),
        "writing": lambda: (folder / "cache" / "new").touch(),
    }
    for name, reach in reached.items():
        try:
            reach()
            found[name] = True
        except PermissionError:
            found[name] = False
    return converting(*given)


weights.convert_original = observed
status = weights.main()
sys.stderr.write(json.dumps(found))
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
def test_the_file_of_a_source_is_read_without_the_network(like: str, width: float, family: str, tmp_path: Path) -> None:
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
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["state"] == "ready", answer
    assert (answer["record"]["family"], answer["record"]["width"]) == (family, width)
    reached = json.loads(done.stderr)
    assert not reached["network"]
    assert not reached["program"]
    if landlock.version():
        assert not reached["file"]
        assert not reached["writing"]


def test_normalization_is_needed_where_the_layout_has_none(run: Run, tmp_path: Path) -> None:
    made = files.record(channels=1, mean=(0.5,), std=(0.5,))
    save_file(files.tensors(made), tmp_path / "file")
    assert run(tmp_path, tmp_path / "file")["state"] == "rejected"
