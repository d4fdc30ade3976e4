"""Two processes of `python -m paretofit.search run --ranks 2` that train one network, compared with one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.local import LocalSearch
from paretofit.search.methods.mutualnet import supernet

pytestmark = pytest.mark.integration


def test_two_ranks_equal_one_rank_with_accumulation(method: dict[str, Any], stripes: Path, tmp_path: Path) -> None:
    # A low learning rate, because large steps amplify differences in the summation order.
    method |= {
        "learning_rate": 0.02,
        "ema_decay": 0.9,
        "warmup_epochs": 0.5,
        "baselines": [{"width": 0.5, "resolution": 12}],
    }
    method |= {"augmentation": {"kind": "pad_crop", "padding": 2, "colour_jitter": 0.2}}
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"dataset": str(stripes), "method": method}))
    command = [
        sys.executable,
        "-m",
        "paretofit.search",
        "run",
        str(spec),
        "--out",
        str(tmp_path / "two"),
        "--ranks",
        "2",
        "--json",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["finished"]

    body = {"name": "one", "dataset_id": "local", "method": method | {"accumulation": 2}}
    one = SearchSpec.model_validate(body).resolve(Dataset.open(stripes).profile)
    LocalSearch(one, stripes, tmp_path / "one").run(lambda: Stop.NO, lambda trial, fraction: None)
    shared, expected = (
        supernet.load(tmp_path / name / "trials" / "0" / "artifacts" / "supernet").state() for name in ("two", "one")
    )
    assert shared.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(shared[name], value, rtol=0, atol=2e-4)
    curves, single = (losses(tmp_path / name / "metrics.jsonl") for name in ("two", "one"))
    assert curves == pytest.approx(single, abs=1e-4)
    two = json.loads((tmp_path / "two" / "search.json").read_text())["trials"]
    assert [trial["state"] for trial in two] == ["completed"] * 3
    assert [point["role"] for point in two[2]["points"].values()] == ["baseline"]


def test_trial_failing_with_a_code_on_every_rank_is_followed_by_the_next(stripes: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    method = {"kind": "steps", "fault": "not_learning_first", "trials": 2}
    spec.write_text(yaml.safe_dump({"dataset": str(stripes), "method": method}))
    command = [
        sys.executable,
        "-m",
        "paretofit.search",
        "run",
        str(spec),
        "--out",
        str(tmp_path / "two"),
        "--ranks",
        "2",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PARETOFIT_METHODS": "tests.methods.steps"}
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=100)
    assert process.returncode == 0, process.stderr
    trials = json.loads((tmp_path / "two" / "search.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["failed", "completed"]


@pytest.mark.parametrize(
    ("ranks", "device", "message"),
    [
        ("0", "cpu", "--ranks: invalid number 0: use 1 or more"),
        ("2", "cuda:1", "--device: cuda:1 cannot be used with 2 ranks, which need a device each: use cpu or cuda"),
        ("64", "cuda", "--ranks: 64 processes need 64 GPUs"),
        ("2", "cpu", "is not a dataset directory"),
    ],
)
def test_invalid_options_are_reported_before_start(tmp_path: Path, ranks: str, device: str, message: str) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"dataset": str(tmp_path), "method": {"kind": "mutualnet", "epochs": 0}}))
    command = [sys.executable, "-m", "paretofit.search", "run", str(spec), "--out", str(tmp_path / "out")]
    process = subprocess.run(
        [*command, "--ranks", ranks, "--device", device], capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr


def losses(path: Path) -> dict[tuple[int, int], float]:
    """Losses by trial and step."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {(line["trial"], line["step"]): line["value"] for line in lines if line["name"] == "loss"}
