from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any, Protocol

import optuna
import pytest
from typer.testing import CliRunner, Result

from paretofit.cli.main import app
from paretofit.client.client import Client
from tests.launch.service import Service
from tests.paretofit.stored import Stored, store


class Run(Protocol):
    def __call__(self, *arguments: str, stdin: str | None = None, url: str | None = None) -> Result: ...


@pytest.fixture
def run(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | None = None, url: str | None = None) -> Result:
        return CliRunner().invoke(app, ["--url", url or service.url, *arguments], input=stdin, catch_exceptions=False)

    return run


def run_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process."""
    command = [sys.executable, "-m", "paretofit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def succeeded(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def parsed(result: Result) -> Any:
    return json.loads(succeeded(result))


def test_help_names_the_exit_codes() -> None:
    result = run_process("--help")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    assert "0 success" in text
    assert "130 interrupted" in text


def test_methods_are_listed_with_their_schemas(run: Run) -> None:
    assert "mutualnet" in succeeded(run("methods"))
    assert "epochs" in succeeded(run("methods", "mutualnet"))
    assert parsed(run("methods", "mutualnet", "--json"))["properties"]["kind"]["const"] == "mutualnet"


def test_devices_are_listed(run: Run) -> None:
    names = [device["name"] for device in parsed(run("devices", "--json"))]
    listed = succeeded(run("devices"))
    assert "machines" in listed
    assert all(name in listed for name in names)


def test_datasets_are_listed_and_shown(run: Run, stored: Stored, name: str) -> None:
    assert name in succeeded(run("datasets", "list"))
    assert name in [dataset["name"] for dataset in parsed(run("datasets", "list", "--json"))]
    assert "cat, dog" in succeeded(run("datasets", "show", name))
    assert parsed(run("datasets", "show", stored.dataset_id[-12:], "--json"))["id"] == stored.dataset_id


def test_archive_without_images_is_rejected_with_the_reason(run: Run, tmp_path: Path, name: str) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("readme.txt", "no images")
    (tmp_path / "empty.zip").write_bytes(content.getvalue())
    result = run("datasets", "add", "empty.zip", "--name", name, "--json")
    assert result.exit_code == 1
    dataset = json.loads(result.stdout)
    assert (dataset["name"], dataset["state"]) == (name, "rejected")
    assert f"error: dataset '{name}' was rejected" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("datasets", "add", "missing.zip"), "file not found: missing.zip"),
        (("datasets", "add", "."), "is a folder"),
        (("datasets", "add", "no_such_builtin"), "/source"),
        (("submit", "missing.yaml"), "cannot read missing.yaml"),
        (("submit", "--no-such-option", "x"), "--no-such-option"),
        (("select", "latest", "--max-macs", "many"), "5M"),
        (("select", "latest", "--device", "torch-cuda"), "--max-latency"),
    ],
)
def test_usage_errors_say_what_to_do(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_specification_is_submitted_and_cancelled(run: Run, stored: Stored, name: str, tmp_path: Path) -> None:
    spec = f"dataset: {name}\nmethod:\n  kind: mutualnet\n  epochs: 1\n"
    (tmp_path / f"sub-{name}.yaml").write_text(spec)
    assert "networks" in succeeded(run("submit", f"sub-{name}.yaml", "--estimate"))
    search = parsed(run("submit", f"sub-{name}.yaml", "--json"))
    assert (search["name"], search["dataset_id"]) == (f"sub-{name}", stored.dataset_id)
    assert search["id"] in succeeded(run("cancel", search["id"][-12:]))


def test_invalid_specification_names_the_field(run: Run, stored: Stored, name: str) -> None:
    spec = {"name": "x", "dataset": name, "method": {"kind": "mutualnet", "epochs": "many"}}
    result = run("submit", "-", stdin=json.dumps(spec))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "/method/epochs" in result.stderr


def test_infeasible_budget_names_the_nearest_cost(run: Run, stored: Stored, name: str) -> None:
    spec = {
        "name": "x",
        "dataset": name,
        "method": {"kind": "mutualnet"},
        "constraints": [{"metric": "macs", "value": 10}],
    }
    result = run("submit", "-", stdin=json.dumps(spec))
    assert result.exit_code == 5
    assert "nearest" in result.stderr


def test_searches_are_listed_shown_and_deleted(run: Run, stored: Stored, name: str) -> None:
    assert name in succeeded(run("list", "--state", "succeeded"))
    assert stored.search_id in [search["id"] for search in parsed(run("list", "--json"))]
    shown = succeeded(run("show", name))
    assert "3 points, 200k - 3.20M MACs" in shown
    assert stored.trial_id in shown
    assert parsed(run("show", name, "--json"))["trials"][0]["id"] == stored.trial_id
    succeeded(run("delete", name))
    assert run("show", stored.search_id).exit_code == 3


def test_logs_are_printed(run: Run, stored: Stored, name: str) -> None:
    assert [line.split(" ", 1)[1] for line in succeeded(run("logs", f"{name}:0")).splitlines()] == [
        *("epoch 1 of 2", "epoch 2 of 2")
    ]
    assert [line["line"] for line in parsed(run("logs", stored.trial_id, "--json"))] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert run("logs", f"{name}:7").exit_code == 3


def test_watch_ends_with_the_search(run: Run, service: Service, stored: Stored, name: str) -> None:
    assert "search succeeded" in succeeded(run("watch", name))
    lines = succeeded(run("watch", name, "--json")).splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["search.created", "search.succeeded"]
    failed = store(service, name="bad " + name, state="failed")
    result = run("watch", failed.search_id)
    assert result.exit_code == 1
    assert "the trial failed" in result.stderr


def test_interrupt_ends_watch(service: Service, name: str) -> None:
    waiting = store(service, name=name, state="paused")  # the service would plan a queued one
    watching = subprocess.Popen(
        [sys.executable, "-m", "paretofit", "--url", service.url, "watch", waiting.search_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells make background processes ignore interrupts, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert watching.stdout is not None
        assert "search created" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=30)
    finally:
        watching.kill()
    assert watching.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_front_is_printed_and_plotted(run: Run, stored: Stored, name: str, tmp_path: Path) -> None:
    result = run("front", name, "--plot", "front.png")
    shown = succeeded(result)
    assert [line.split()[0] for line in shown.splitlines()[1:4]] == [point[-8:] for point in stored.point_ids[:3]]
    assert "90.00 %" in shown
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert [point["id"] for point in parsed(run("front", name, "--json"))["points"]] == list(stored.point_ids[:3])
    assert run("front", name, "--plot", "front.xyz").exit_code == 2


def test_joint_front_of_a_dataset_is_printed_and_plotted(run: Run, stored: Stored, name: str, tmp_path: Path) -> None:
    result = run("datasets", "front", name, "--x", "params", "--plot", "best.svg")
    header, *lines = succeeded(result).splitlines()
    assert header.split()[:4] == ["point", "network", "search", "method"]
    assert [line.split()[0] for line in lines[:3]] == [point[-8:] for point in stored.point_ids[:3]]
    assert all(name in line and "mutualnet" in line for line in lines[:3])
    assert "majority class" in lines[3]
    assert lines[4] == "3 points from 1 search"
    assert f"paretofit download {stored.search_id[-8:]} {stored.point_ids[2][-8:]}" in result.stderr
    assert (tmp_path / "best.svg").read_text().startswith("<?xml")
    front = parsed(run("datasets", "front", stored.dataset_id, "--json"))
    assert [(point["id"], point["search_name"]) for point in front["points"]] == [
        (point, name) for point in stored.point_ids[:3]
    ]
    assert front["dominated"] is None


def test_joint_front_without_points_says_what_to_do(run: Run, client: Client, name: str) -> None:
    dataset_id = client.datasets.create({"name": name, "source": {"kind": "upload"}}).id
    result = run("datasets", "front", dataset_id)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"no search of {name} has a network with a checkpoint and macs yet" in " ".join(result.stderr.split())
    assert "paretofit submit" in result.stderr
    assert run("datasets", "front", dataset_id, "--plot", "best.png").exit_code == 2
    refused = run("datasets", "front", dataset_id, "--x", "latency_ms")
    assert refused.exit_code == 2
    assert "use another cost" in " ".join(refused.stderr.split())
    assert run("datasets", "front", "nobody").exit_code == 3


def test_unmet_constraints_are_reported(run: Run, service: Service, name: str) -> None:
    tight = store(service, name=name, max_macs=100e3)
    expected = f"the constraint macs <= 100k; the nearest, {tight.point_ids[0][-8:]}, has 200k"
    assert expected in succeeded(run("show", name))
    for command in ("watch", "front"):
        result = run(command, name)
        assert result.exit_code == 0
        assert f"no network meets {expected}" in result.stderr


def test_result_at_chance_is_reported(run: Run, service: Service, stored: Stored, name: str) -> None:
    weak = f"weak-{name}"
    # 89 % on the report split, against 85 % and two standard errors of 7.1.
    store(service, name=weak, majority=0.85)
    warning = "always answering 'cat' reaches 85.0 %"
    assert warning in succeeded(run("show", weak))
    for command in ("watch", "front"):
        result = run(command, weak)
        assert result.exit_code == 0
        assert warning in result.stderr
    assert "search succeeded (at chance)" in run("watch", weak).stdout
    assert [each["code"] for each in parsed(run("show", weak, "--json"))["warnings"]] == ["at_chance"]
    assert [each["code"] for each in parsed(run("front", weak, "--json"))["warnings"]] == ["at_chance"]
    listed = {line.split()[1]: line for line in succeeded(run("list")).splitlines()}
    assert "succeeded, at chance" in listed[weak]
    assert "at chance" not in listed[name]
    assert "warning" not in run("watch", name).stderr + succeeded(run("show", name))


def test_front_shows_the_majority_class(run: Run, stored: Stored, name: str) -> None:
    assert "50.00 % top-1 (50.00 % on the selection split) by always predicting 'cat'" in succeeded(run("show", name))
    [line] = [line for line in succeeded(run("front", name)).splitlines() if line.endswith("majority class")]
    assert line.split()[:2] == ["always", "cat"]
    assert line.count("50.00 %") == 2


def test_best_point_within_a_budget_is_selected(run: Run, stored: Stored, name: str) -> None:
    chosen = parsed(run("select", name, "--max-macs", "1M", "--max-params", "50k", "--json"))
    assert chosen["id"] == stored.point_ids[1]
    result = run("select", name, "--max-macs", "10k")
    assert result.exit_code == 5
    assert "error: " in result.stderr


def test_checkpoint_is_downloaded(run: Run, stored: Stored, name: str, tmp_path: Path) -> None:
    path = Path(succeeded(run("download", name, "best")).strip())
    assert (tmp_path / path).read_bytes() == stored.content
    result = parsed(run("download", name, stored.point_ids[0][-8:], "--out", "small.safetensors", "--json"))
    assert result["path"] == "small.safetensors"
    assert (tmp_path / "small.safetensors").read_bytes() == stored.content
    assert run("download", name, "ffffffff").exit_code == 3


def test_search_is_exported_as_a_study(run: Run, stored: Stored, name: str) -> None:
    journal = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(succeeded(run("study", name, "-o", "study.log")).strip())
    )
    # Written twice: a study replaces the file instead of appending to it.
    for _ in range(2):
        succeeded(run("study", name, "-o", "study.db"))
    for storage in (journal, optuna.storages.RDBStorage("sqlite:///study.db")):
        study = optuna.load_study(study_name=name, storage=storage)
        assert study.metric_names == ["selection_top1", "macs"]
        assert {trial.user_attrs["point_id"] for trial in study.trials} == set(stored.point_ids)
        assert {trial.user_attrs["point_id"] for trial in study.best_trials} == set(stored.point_ids[:3])


def test_processes_exit_as_documented(service: Service, stored: Stored, name: str) -> None:
    result = run_process("--url", service.url, "front", name, "--json")
    assert result.returncode == 0
    assert len(json.loads(result.stdout)["points"]) == 3
    result = run_process("--url", service.url, "show", "nobody")
    assert result.returncode == 3
    assert result.stdout == ""
    assert result.stderr.startswith("error: no search matches 'nobody'")


def test_unknown_names_are_not_found(run: Run) -> None:
    for arguments in (("show", "nobody"), ("datasets", "show", "nobody"), ("cancel", "srch_" + 32 * "0")):
        result = run(*arguments)
        assert result.exit_code == 3
        assert result.stderr.startswith("error: ")


def test_unreachable_service_is_reported(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    before = time.monotonic()
    result = run("list", url=f"http://127.0.0.1:{port}")
    assert result.exit_code == 4
    assert "paretofit up" in result.stderr
    assert time.monotonic() - before < 15


def test_invalid_settings_stop_the_service_immediately() -> None:
    result = run_process("up", "--port", "99999")
    assert result.returncode == 2
    assert "port" in result.stderr
    assert "Traceback" not in result.stderr


def test_up_without_server_names_the_missing_extras(tmp_path: Path) -> None:
    # `None` in sys.modules is how Python marks a module that cannot be imported.
    code = f"""
import sys
sys.modules["fastapi"] = sys.modules["torch"] = None
sys.argv = ["paretofit", "up", "--home", {str(tmp_path)!r}]
from paretofit.cli.main import run
run()
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "pip install 'paretofit[server,worker]'" in " ".join(result.stderr.split())
