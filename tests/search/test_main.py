"""`python -m paretofit.search`: run, resume, evaluate, and errors for invalid input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from paretofit.core.settings import get_settings
from paretofit.models import checkpoint
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.__main__ import DIFFERS, main
from paretofit.search.run_command import INTERRUPTED
from tests.models.pretrained.test_fetch import build_shared_package


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
    result = json.loads(capsys.readouterr().out)
    assert result == {
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


def test_ctrl_c_saves_a_checkpoint_and_suggests_resuming(file: Path, method: dict[str, Any], tmp_path: Path) -> None:
    body = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(body | {"method": method | {"epochs": 2000}}))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "paretofit.search", "run", str(file), "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 90
        while not (out / "metrics.jsonl").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, message
    assert "run the same command again to resume" in message
    assert (out / "trials" / "0" / "checkpoint" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "nowhere"}, "nowhere is not a dataset directory"),
        ({"dataset": None}, "dataset: is missing"),
        ({"dataset_id": "ds_1"}, "dataset_id: needs a service; use `dataset` instead"),
        ({"dataset": {"source": {"kind": "builtin", "name": "imagenet"}}}, "fashion_mnist"),
        ({"dataset": {"source": {"kind": "upload"}}}, "kind upload needs a service"),
        ({"method": {"kind": "magic"}}, "mutualnet"),
        ({"method": {"kind": "mutualnet", "temperature": 2}}, "method.mutualnet.temperature: Extra inputs"),
        ({"method": {"kind": "mutualnet", "resolutions": [64]}}, "resolutions: 64 exceeds"),
        ({"constraints": [{"metric": "macs", "value": 1}]}, "no network meets the constraints"),
        ({"limits": {"max_epochs": "many"}}, "limits.max_epochs"),
    ],
)
def test_invalid_specifications_are_reported(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("nowhere.safetensors", "method.start.file: {file}: No such file or directory; give the path of a file"),
        (".", "method.start.file: {file}: Is a directory; give the path of a file"),
        ("raw.safetensors", "`python -m paretofit.search weights {file} --out FILE` converts published weights"),
        ("damaged.safetensors", "method.start.file: {file}: the file's record is not supported by this Paretofit"),
    ],
)
def test_unusable_start_files_are_reported(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str, message: str
) -> None:
    save_file({"a": torch.zeros(1)}, file.parent / "raw.safetensors")
    checkpoint.write(file.parent / "damaged.safetensors", {"a": torch.zeros(1)}, {"kind": "weights"})
    method = {"kind": "fd_mobilenet", "start": {"file": start}}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"method": method}))
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message.format(file=file.parent / start) in " ".join(error.split())
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not YAML"), ("[1]", "write a mapping")])
def test_non_specification_files_are_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(content)
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def run_steps_search(folder: Path, stripes: Path, **method: Any) -> subprocess.CompletedProcess[str]:
    """Run a search with the `steps` method, which reports networks without training."""
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump({"dataset": str(stripes), "method": {"kind": "steps", "steps": 4, **method}}))
    command = [sys.executable, "-m", "paretofit.search", "run", str(spec), "--out", str(folder / "out"), "--json"]
    environment = os.environ | {"PARETOFIT_METHODS": "tests.methods.steps"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def summary(process: subprocess.CompletedProcess[str]) -> Any:
    """The last line of stdout; the method writes to stdout too."""
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.integration
def test_trial_that_does_not_learn_fails_and_others_continue(stripes: Path, tmp_path: Path) -> None:
    process = run_steps_search(tmp_path, stripes, fault="not_learning_first", trials=2)
    assert process.returncode == 0, process.stderr
    assert "trial 0 failed: the training accuracy stays at 14.0 % (not_learning)" in process.stderr
    expected = [{"trial": 0, "code": "not_learning", "detail": "the training accuracy stays at 14.0 %"}]
    assert summary(process)["failed"] == expected
    assert json.loads((tmp_path / "out" / "front.json").read_text())["failed"] == expected
    first, second = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert (first["state"], first["error"]["code"], second["state"]) == ("failed", "not_learning", "completed")
    # A rerun does not repeat it.
    rerun = run_steps_search(tmp_path, stripes, fault="not_learning_first", trials=2)
    assert (rerun.returncode, summary(rerun)) == (0, summary(process))


def test_search_without_points_reports_the_reason(stripes: Path, tmp_path: Path) -> None:
    process = run_steps_search(tmp_path, stripes, fault="not_learning", trials=5)
    assert process.returncode == 1
    message = "no network was found: trial 0 failed: the training accuracy stays at 14.0 % (not_learning)"
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert json.loads((tmp_path / "out" / "front.json").read_text())["points"] == []


@pytest.mark.integration
def test_error_without_a_code_ends_the_run_and_requeues_the_trial(stripes: Path, tmp_path: Path) -> None:
    process = run_steps_search(tmp_path, stripes, fault="raise", trials=2)
    assert process.returncode == 1
    assert "ArithmeticError" in process.stderr
    trials = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["queued", "queued"]


@pytest.mark.parametrize(("points", "warned"), [(1, True), (2, False)])
def test_best_network_at_chance_gives_a_warning(stripes: Path, tmp_path: Path, points: int, warned: bool) -> None:
    """With 30 images of three equal classes, a third plus two standard errors is 50.5 %; the networks reach 50 and
    60 %."""
    process = run_steps_search(tmp_path, stripes, points=points)
    assert process.returncode == 0, process.stderr
    assert ("warning: The best network reaches 50.0 % on the selection split" in process.stderr) == warned
    written = json.loads((tmp_path / "out" / "front.json").read_text())
    for document in (summary(process), written):
        assert [warning["code"] for warning in document["warnings"]] == (["at_chance"] if warned else [])
        assert document["majority"] == {"class": "across", "top1": 1 / 3, "selection_top1": 1 / 3}


def test_evaluate_rejects_invalid_input(stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.safetensors"
    assert main(["evaluate", str(path), "--dataset", str(stripes)]) == 1
    assert "none.safetensors" in capsys.readouterr().err
    path.write_bytes(b"no checkpoint at all")
    assert main(["evaluate", str(path), "--dataset", str(stripes)]) == 1
    assert "is not a safetensors file" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(path), "--dataset", "cifar"]) == 1
    assert "is neither a folder nor a built-in" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", str(path), "--dataset", "fashion_mnist", "--split", "selection"]) == 1
    assert "give that dataset directory" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit) as exited:
        main(["evaluate", str(path)])
    assert exited.value.code == 2


def test_weights_command_converts_a_manually_downloaded_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARETOFIT_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    archive, out = str(build_shared_package(tmp_path, monkeypatch)), tmp_path / "weights.safetensors"
    for arguments, message in (
        ([archive], "mobilenet_v1 and fd_mobilenet are both made from this file: choose one by `--source NAME`"),
        ([archive, "--source", "resnet19"], "unknown source 'resnet19'"),
        (
            [archive, "--source", "mobilenet_v1", "--licence", "MIT"],
            "--licence: the source mobilenet_v1 provides its own",
        ),
        (["mobilenet_v1", "--source", "mobilenet_v1"], "--source: applies to a file"),
    ):
        assert main(["weights", *arguments, "--out", str(out)]) == 1
        assert message in capsys.readouterr().err
        assert not out.exists()
    assert main(["weights", archive, "--source", "fd_mobilenet", "--out", str(out)]) == 0
    record = WeightsRecord.model_validate(checkpoint.read_record(out))
    assert (record.family, record.width, record.layout) == ("fd_mobilenet", 0.25, "tf_slim")
    get_settings.cache_clear()
