"""Latency of trials on a running service with one CPU worker, over HTTP.

- `training_starts_seconds`: from the acceptance of a submission until the loss of the first step is recorded, both by
  the database's clock. Goal: 1.5 s. This covers the planner, the queue, the fork of the trainer, the first step and the
  batch of up to 0.2 s in which reports are written.
- `points_visible_seconds`: from the end of the trainer process that measured the points until the API reports the trial
  as completed and returns the front. Goal: 1 s.

The first search is not counted, because the worker may still be warming up.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeVar

import httpx
import psutil

from benchmarks.harness import Claim, Report, run

T = TypeVar("T")
REPEATS: Final = 7
TIMEOUT_SECONDS: Final = 120.0
IMAGES: Final = 300
DATASET: Final = {"name": "warm start", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": IMAGES}}
FINAL_STATES: Final = frozenset({"completed", "failed", "cancelled", "infeasible"})
METHOD: Final = {
    "kind": "mutualnet",
    "widths": {"step": 0.75},
    "resolutions": [32],
    "epochs": 1,
    "batch_size": 32,
    "calibration_images": 64,
    "augmentation": {"kind": "none"},
}


def main() -> Report:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = {**os.environ, "PARETOFIT_HOME": folder, "PARETOFIT_DEVICES": "cpu", "PARETOFIT_PORT": "0"}
        with (home / "up.log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "paretofit", "up"], env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            descriptor = home / "service.json"
            wait_for(lambda: descriptor.exists() or service.poll() is not None, 0.05)
            if service.poll() is not None:
                raise RuntimeError(f"the service did not start:\n{(home / 'up.log').read_text()}")
            with httpx.Client(base_url=json.loads(descriptor.read_text())["url"], timeout=30) as client:
                dataset_id = add_dataset(client)
                cold, *warm = [search(client, dataset_id, service.pid) for _ in range(1 + REPEATS)]
        finally:
            service.send_signal(signal.SIGINT)
            service.wait()
    starts, visible = ([pair[index] for pair in warm] for index in (0, 1))
    claims = (
        Claim("training_starts_seconds", median(starts), goal=1.5, better="lower"),
        Claim("points_visible_seconds", median(visible), goal=1.0, better="lower"),
    )
    details = {"first": cold, "training_starts": starts, "points_visible": visible}
    return Report("warm_start", claims, details)


def add_dataset(client: httpx.Client) -> str:
    """Create a dataset and wait until it is ready. Returns its id."""
    created = request(client, "POST", "/v1/datasets", json=DATASET)
    path = f"/v1/datasets/{created['id']}"
    ready = wait_for(lambda: _in_state(request(client, "GET", path), {"ready", "rejected"}), 0.1)
    if ready["state"] != "ready":
        raise RuntimeError(f"the dataset was rejected: {ready['error']}")
    dataset_id: str = created["id"]
    return dataset_id


def search(client: httpx.Client, dataset_id: str, service: int) -> tuple[float, float]:
    """Run a search. Returns the seconds until training started, and from the end of its last trainer to its front."""
    spec = {"name": "warm start", "dataset_id": dataset_id, "method": METHOD}
    accepted = request(client, "POST", "/v1/searches", json=spec)
    path = f"/v1/searches/{accepted['id']}"
    sweep = wait_for(lambda: _second(request(client, "GET", f"{path}/trials")["data"]), 0.1)
    trainer = wait_for(lambda: trainer_of(service, sweep["id"]), 0.01)
    wait_for(lambda: has_ended(trainer), 0.005)
    ended = time.perf_counter()
    completed = wait_for(lambda: _in_state(request(client, "GET", f"/v1/trials/{sweep['id']}"), FINAL_STATES), 0.01)
    front = request(client, "GET", f"{path}/front")
    visible = time.perf_counter() - ended
    if completed["state"] != "completed" or not front["points"]:
        raise RuntimeError(f"the trial {completed['state']} with {len(front['points'])} points: {completed['error']}")
    wait_for(lambda: _in_state(request(client, "GET", path), {"succeeded", "failed"}), 0.1)
    (train, *_) = request(client, "GET", f"{path}/trials")["data"]
    (losses,) = request(client, "GET", f"/v1/trials/{train['id']}/metrics", params={"name": "loss"})["curves"]
    return round(seconds_between(accepted["created_at"], losses["points"][0]["at"]), 3), round(visible, 3)


def trainer_of(service: int, trial_id: str) -> psutil.Process | None:
    """The descendant process of the service that runs in the folder of the trial."""
    for process in psutil.Process(service).children(recursive=True):
        try:
            if Path(process.cwd()).name.startswith(trial_id):
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return None


def has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def request(client: httpx.Client, method: str, path: str, **content: Any) -> Any:
    """The JSON of a response. Raises httpx.HTTPStatusError."""
    return client.request(method, path, **content).raise_for_status().json()


def wait_for(ready: Callable[[], T | None], pause: float) -> T:
    """Poll until `ready` returns a true value. Raises TimeoutError."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"condition not met within {TIMEOUT_SECONDS:g} s")
        time.sleep(pause)
    return found


def _in_state(resource: dict[str, Any], states: frozenset[str] | set[str]) -> dict[str, Any] | None:
    return resource if resource["state"] in states else None


def _second(trials: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(trials, key=lambda trial: trial["number"]) if len(trials) > 1 else None


if __name__ == "__main__":
    run(main)
