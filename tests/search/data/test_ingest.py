"""The ingestion process, started as workers start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from paretofit.search.data.store import Dataset
from tests.search.data.archives import encoded, pictures, zipped


def run(tmp_path: Path, request: dict[str, Any]) -> tuple[int, str, str]:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request))
    process = subprocess.run(
        [sys.executable, "-m", "paretofit.search.data.ingest", "--request", path, "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


def request(archive: Path | None, limits: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "spec": {"name": "test", "source": {"kind": "upload"}},
        "archive": None if archive is None else str(archive),
        "limits": limits or {},
    }


def test_valid_archive_is_ready(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", pictures({"cat": 5, "dog": 5}))
    code, out, progress = run(tmp_path, request(archive))
    assert code == 0
    (line,) = out.splitlines()
    result = json.loads(line)
    assert result["state"] == "ready"
    assert sorted(result["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert result["files"][-1] == "dataset.json"
    dataset = Dataset.open(tmp_path / "out")
    assert result["profile"] == dataset.profile.model_dump(mode="json")
    assert result["report"] == dataset.report
    stages = [json.loads(line) for line in progress.splitlines()]
    assert [stage["stage"] for stage in stages if stage["done"] == stage["total"]] == ["extract", "decode"]


def test_invalid_archive_is_rejected(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"../evil.png": b"", "cat/1.png": b""})
    code, out, _ = run(tmp_path, request(archive))
    result = json.loads(out)
    assert (code, result["state"], result["report"]) == (0, "rejected", None)
    assert [error["code"] for error in result["errors"]] == ["unsafe_name"]
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_archive_is_rejected(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, request(None))
    assert (code, json.loads(out)["errors"][0]["code"]) == (0, "no_archive")


def test_invalid_request_exits_with_2(tmp_path: Path) -> None:
    code, out, errors = run(tmp_path, {"spec": {"name": "x", "source": {"kind": "builtin", "name": "imagenet"}}})
    assert (code, out) == (2, "")
    assert "fashion_mnist" in errors


def test_image_that_exceeds_memory_is_skipped(tmp_path: Path) -> None:
    files = pictures({"cat": 15, "dog": 15})
    files["dog/huge.png"] = encoded(np.zeros((6000, 6000, 3), dtype=np.uint8), compress_level=1)
    archive = zipped(tmp_path / "a.zip", files)
    code, out, _ = run(tmp_path, request(archive, {"max_memory_bytes": 100 * 1024**2}))
    result = json.loads(out)
    assert (code, result["state"]) == (0, "ready")
    (corrupt,) = result["report"]["corrupt"]
    assert corrupt["name"] == "dog/huge.png"
    assert "memory" in corrupt["reason"]


def test_torch_is_not_imported() -> None:
    imported = "import paretofit.search.data.ingest, paretofit.search.data.store, sys"
    code = f"{imported}; assert not {{'torch', 'optuna'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
