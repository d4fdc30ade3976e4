"""`client.fit` and `paretofit fit`: from photos to a deployable network."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import paretofit
from paretofit import Client
from paretofit.cli.chart import chart
from paretofit.cli.fit import _responds
from paretofit.client import fit
from paretofit.client.errors import ApiError, UsageError
from paretofit.client.fit import Budget
from paretofit.client.numbers import parse_milliseconds
from tests.launch.service import Service

COLORS = {"brick": (0.9, 0.4, 0.3), "grass": (0.3, 0.8, 0.3), "water": (0.2, 0.4, 0.9)}
SECONDS = 40


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of small images in three classes, with files that are not images."""
    random = np.random.default_rng(0)
    for name, color in COLORS.items():
        folder = tmp_path / "my photos" / name
        folder.mkdir(parents=True)
        for number in range(40):
            pixels = 120 * random.random((32, 32, 1)) * np.array(color) + random.normal(60, 12, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        (folder / ".DS_Store").write_bytes(b"\0")
    return tmp_path / "my photos"


def command(service: Service, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paretofit", "--url", service.url, "fit", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        **options,
    )


def test_folder_is_packed_without_hidden_files(photos: Path) -> None:
    with fit.archive(photos) as packed, tarfile.open(packed) as tar:
        names = tar.getnames()
    assert len(names) == 120
    assert "brick/0.png" in names
    assert not packed.exists()
    assert fit.name_of(photos) == "my photos"
    assert fit.name_of(Path("a/photos.tar.gz")) == "photos"


def test_archives_are_used_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "photos.zip"
    file.write_bytes(b"PK")
    with fit.archive(file) as packed:
        assert packed == file
    with pytest.raises(UsageError, match="not found"), fit.archive(tmp_path / "nothing"):
        pass
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    with pytest.raises(UsageError, match="contains no files"), fit.archive(tmp_path / "empty"):
        pass


def test_budget_becomes_constraints_and_an_export_format() -> None:
    budget = Budget(max_macs=2e7, max_latency_ms=5, device="ncnn-cpu-1t")
    assert [(bound.metric, bound.value, bound.device) for bound in budget.bounds] == [
        ("macs", 2e7, None),
        ("latency_ms", 5, "ncnn-cpu-1t"),
    ]
    assert budget.formats == ("ncnn",)
    assert Budget().formats == Budget(max_latency_ms=5, device="onnxruntime-cpu-1t").formats == ("onnx",)
    for incomplete in ({"device": "ncnn-cpu-1t"}, {"max_latency_ms": 5}):
        with pytest.raises(UsageError, match="give both or neither"):
            Budget(**incomplete)


@pytest.mark.parametrize(("text", "milliseconds"), [("5ms", 5), ("0.8 ms", 0.8), ("5", 5), ("1s", 1000), (".5", 0.5)])
def test_latencies_are_parsed(text: str, milliseconds: float) -> None:
    assert parse_milliseconds(text) == pytest.approx(milliseconds)


@pytest.mark.parametrize("text", ["", "0", "-1", "0,5", "5 m", "ms", "1e400"])
def test_invalid_latencies_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="decimal point" if "," in text else "invalid latency"):
        parse_milliseconds(text)


class _Point:
    def __init__(self, macs: float | None, top1: float) -> None:
        self.metrics = {"macs": macs, "selection_top1": top1}


class _Front:
    x, device, y = "macs", None, "selection_top1"

    def __init__(self, points: list[_Point], dominated: list[_Point] | None = None) -> None:
        self.points, self.dominated = points, dominated


def test_front_is_drawn_as_text() -> None:
    drawn = chart(_Front([_Point(1e6, 0.6), _Point(1e7, 0.9)], [_Point(5e6, 0.61), _Point(None, 0.5)]), 40, 10)  # type: ignore[arg-type]
    rows = drawn.splitlines()
    assert len(rows) == 12
    assert rows[0].endswith("|" + " " * 39 + "o")
    assert rows[9].split("|")[1].startswith("o")
    assert drawn.count("o") == 2
    assert drawn.count(".") == 1
    assert rows[0].startswith("  90%")
    assert rows[-1].split() == ["1M", "10M", "macs"]
    assert chart(_Front([])) == ""  # type: ignore[arg-type]
    assert "o" in chart(_Front([_Point(1e6, 0.6)]))  # type: ignore[arg-type]


@pytest.mark.integration
def test_command_writes_the_best_network_within_the_budget(service: Service, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command(
        service, str(photos), "--max-macs", "2M", "--time", f"{SECONDS}s", "--out", str(out), "--name", "fit", "--json"
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["state"] == "succeeded"
    assert summary["macs"] <= 2e6
    assert summary["top1"] > summary["majority"]
    assert summary["latency_ms"] is None
    assert set(summary["files"]) == {"checkpoint", "card", "onnx"}
    assert all(Path(path).stat().st_size for path in summary["files"].values())
    assert paretofit.load(summary["files"]["checkpoint"])
    assert "training from scratch" in done.stderr
    again = command(service, "fit", "--max-macs", "1", "--json")
    assert again.returncode == 5
    assert "macs" in again.stderr


@pytest.mark.integration
def test_client_fits(service: Service, photos: Path, tmp_path: Path) -> None:
    with Client(service.url) as client:
        found = client.fit(photos, name="client fit", seconds=SECONDS, out=tmp_path, formats=())
        assert found.files["checkpoint"].exists()
        assert found.point.metrics["selection_top1"] is not None
        with pytest.raises(ApiError) as infeasible:
            client.fit(photos, name="impossible", max_params=1, seconds=SECONDS)
        assert infeasible.value.code == "infeasible"


@pytest.mark.integration
def test_interrupted_command_says_how_to_go_on(service: Service, photos: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "paretofit", "--url", service.url, "fit", str(photos), "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
        # Shells make background processes ignore interrupts, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as started:
        assert started.stderr is not None
        lines: list[str] = []
        while not any("searching: " in line for line in lines):
            lines.append(started.stderr.readline())
            assert lines[-1], "".join(lines)
        time.sleep(1)
        started.send_signal(signal.SIGINT)
        try:
            _, rest = started.communicate(timeout=60)
        finally:
            started.kill()
    assert started.returncode == 130
    assert "paretofit watch" in rest
    search_id = lines[-1].split()[-1]
    with Client(service.url) as client:
        assert client.searches.get(search_id).state in {"queued", "running"}
        client.searches.cancel(search_id)


@pytest.mark.parametrize("content", [b"<html>", b'{"data": 1}', None])
def test_other_programs_on_the_default_port_are_ignored(content: bytes | None) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        assert not _responds(f"http://127.0.0.1:{other.server_port}", None)
        other.shutdown()
    assert not _responds(f"http://127.0.0.1:{other.server_port}", None)


def test_running_service_responds(service: Service) -> None:
    assert _responds(service.url, None)


def test_missing_photos_and_half_a_latency_bound_are_usage_errors(service: Service) -> None:
    missing = command(service, "nowhere/photos")
    assert (missing.returncode, "not found: nowhere/photos" in missing.stderr) == (2, True)
    half = command(service, "anything", "--latency", "5ms")
    assert half.returncode == 2
    assert "give both or neither" in half.stderr
    comma = command(service, "anything", "--latency", "0,5ms", "--device", "torch-cpu-1t")
    assert comma.returncode == 2
    assert "decimal point" in comma.stderr
