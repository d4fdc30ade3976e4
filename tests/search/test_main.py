"""`python -m search`: run, go on, evaluate, and what it says of wrong input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from models import checkpoint
from search.__main__ import DIFFERS, INTERRUPTED, main


@pytest.fixture
def file(stripes: Path, method: dict[str, Any], tmp_path: Path) -> Path:
    """A specification in YAML."""
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump({"dataset": str(stripes), "method": method}))
    return path


def test_run_then_evaluate(file: Path, stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["run", str(file), "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["finished"] is True
    best = max(summary["points"], key=lambda point: point["metrics"]["selection_top1"])

    path = out / "points" / f"{best['key']}.safetensors"
    assert main(["evaluate", str(path), "--dataset", str(stripes), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "top1": best["metrics"]["top1"],
        "reported": best["metrics"]["top1"],
        "equal": True,
        "images": 60,
    }
    assert main(["evaluate", str(path), "--dataset", str(stripes), "--split", "selection"]) == 0
    assert "exactly as reported" in capsys.readouterr().out

    network, record = checkpoint.load(path), checkpoint.read_record(path)
    record["metrics"]["top1"] = 0.999
    checkpoint.save(path, network, record)
    assert main(["evaluate", str(path), "--dataset", str(stripes)]) == DIFFERS
    assert "but 0.999000 was reported" in capsys.readouterr().out

    assert main(["run", str(file), "--out", str(out)]) == 0
    assert f"hypervolume {summary['hypervolume']:.4f}" in capsys.readouterr().out


def test_ctrl_c_keeps_a_checkpoint_and_the_same_command_goes_on(
    file: Path, method: dict[str, Any], tmp_path: Path
) -> None:
    body = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(body | {"method": method | {"epochs": 2000}}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "search", "run", str(file), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 90
        while not (out / "metrics.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, said
    assert "the same command goes on" in said
    assert (out / "trials" / "0" / "checkpoint" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "nowhere"}, "nowhere is no dataset directory"),
        ({"dataset": None}, "dataset: is missing"),
        ({"dataset_id": "ds_1"}, "dataset_id: without a service name the data itself"),
        ({"dataset": {"source": {"kind": "builtin", "name": "imagenet"}}}, "fashion_mnist"),
        ({"dataset": {"source": {"kind": "upload"}}}, "kind upload needs a service"),
        ({"method": {"kind": "magic"}}, "mutualnet"),
        ({"method": {"kind": "mutualnet", "temperature": 2}}, "method.mutualnet.temperature: Extra inputs"),
        ({"method": {"kind": "mutualnet", "resolutions": [64]}}, "resolutions: 64 is beyond"),
        ({"constraints": [{"metric": "macs", "value": 1}]}, "no network meets the constraints"),
        ({"limits": {"max_epochs": "many"}}, "limits.max_epochs"),
    ],
)
def test_wrong_specifications_say_what_is_wrong(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 1
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("content", "said"), [("a: [", "is not YAML"), ("[1]", "must be a mapping")])
def test_files_that_are_no_specification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(content)
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 1
    assert said in " ".join(capsys.readouterr().err.split())


def test_what_evaluate_refuses(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.safetensors"
    assert main(["evaluate", str(path), "--dataset", str(stripes)]) == 1
    assert "none.safetensors" in capsys.readouterr().err
    path.write_bytes(b"no checkpoint at all")
    assert main(["evaluate", str(path), "--dataset", str(stripes)]) == 1
    assert "no safetensors file" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(path), "--dataset", "cifar"]) == 1
    assert "no folder and no built-in" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(path), "--dataset", "fashion_mnist", "--split", "selection"]) == 1
    assert "give that dataset's folder" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(path)])
    assert ended.value.code == 2
