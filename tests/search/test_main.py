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
import yaml

from paretofit.core.settings import get_settings
from paretofit.models import checkpoint
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.__main__ import DIFFERS, main
from paretofit.search.run_command import INTERRUPTED
from tests.models.pretrained.test_fetch import shared_package


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
def test_wrong_specifications_say_what_is_wrong(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not YAML"), ("[1]", "write a mapping")])
def test_files_that_are_no_specification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(content)
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 1
    assert message in " ".join(capsys.readouterr().err.split())


def steps(folder: Path, stripes: Path, **method: Any) -> subprocess.CompletedProcess[str]:
    """A search by the method `steps`, whose networks are only reported."""
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump({"dataset": str(stripes), "method": {"kind": "steps", "steps": 4, **method}}))
    command = [sys.executable, "-m", "paretofit.search", "run", str(spec), "--out", str(folder / "out"), "--json"]
    environment = os.environ | {"PARETOFIT_METHODS": "tests.methods.steps"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def summary(ended: subprocess.CompletedProcess[str]) -> Any:
    """The last line: the method writes to stdout too."""
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.integration
def test_a_trial_that_learns_nothing_fails_and_the_others_go_on(stripes: Path, tmp_path: Path) -> None:
    ended = steps(tmp_path, stripes, fault="not_learning_first", trials=2)
    assert ended.returncode == 0, ended.stderr
    assert "trial 0 failed: the training accuracy stays at 14.0 % (not_learning)" in ended.stderr
    expected = [{"trial": 0, "code": "not_learning", "detail": "the training accuracy stays at 14.0 %"}]
    assert summary(ended)["failed"] == expected
    assert json.loads((tmp_path / "out" / "front.json").read_text())["failed"] == expected
    first, second = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert (first["state"], first["error"]["code"], second["state"]) == ("failed", "not_learning", "completed")
    # It is not tried again.
    again = steps(tmp_path, stripes, fault="not_learning_first", trials=2)
    assert (again.returncode, summary(again)) == (0, summary(ended))


def test_a_search_that_found_nothing_names_the_reason(stripes: Path, tmp_path: Path) -> None:
    ended = steps(tmp_path, stripes, fault="not_learning", trials=5)
    assert ended.returncode == 1
    message = "no network was found: trial 0 failed: the training accuracy stays at 14.0 % (not_learning)"
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads((tmp_path / "out" / "front.json").read_text())["points"] == []


@pytest.mark.integration
def test_an_error_without_a_code_ends_the_run_and_the_trial_is_tried_again(stripes: Path, tmp_path: Path) -> None:
    ended = steps(tmp_path, stripes, fault="raise", trials=2)
    assert ended.returncode == 1
    assert "ArithmeticError" in ended.stderr
    trials = json.loads((tmp_path / "out" / "search.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["queued", "queued"]


@pytest.mark.parametrize(("points", "warned"), [(1, True), (2, False)])
def test_a_best_network_at_chance_is_reported(stripes: Path, tmp_path: Path, points: int, warned: bool) -> None:
    """With 30 images of three equal classes a third and two standard errors are 50.5 %; the networks reach 50 and 60
    %."""
    ended = steps(tmp_path, stripes, points=points)
    assert ended.returncode == 0, ended.stderr
    assert ("warning: The best network reaches 50.0 % on the selection split" in ended.stderr) == warned
    written = json.loads((tmp_path / "out" / "front.json").read_text())
    for document in (summary(ended), written):
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
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(path)])
    assert ended.value.code == 2


def test_weights_of_a_file_that_was_downloaded_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARETOFIT_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    archive, out = str(shared_package(tmp_path, monkeypatch)), tmp_path / "weights.safetensors"
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
