"""How soon a trial trains, and how soon its results are seen, on a running service with one CPU worker, over HTTP.

- `training_starts_seconds`: from the acceptance of a submission until the first step's loss is recorded, both by the
  database's clock. Goal: 1.5 s. In between lie the planner, the queue, the fork of the trainer, the first step and the
  batch of up to 0.2 s in which reports are written.
- `points_visible_seconds`: from the end of the trainer process that measured the points until the API says that the
  trial is completed and gives the front. Goal: 1 s.

The first search, during which the worker may still be warming up, is not counted.
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
PATIENCE: Final = 120.0
IMAGES: Final = 300
DATASET: Final = {"name": "warm start", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": IMAGES}}
ENDED: Final = frozenset({"completed", "failed", "cancelled", "infeasible"})
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
            described = home / "service.json"
            await_that(lambda: described.exists() or service.poll() is not None, 0.05)
            if service.poll() is not None:
                raise RuntimeError(f"the service did not start:\n{(home / 'up.log').read_text()}")
            with httpx.Client(base_url=json.loads(described.read_text())["url"], timeout=30) as client:
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
    """The id of a dataset that is ready."""
    created = ask(client, "POST", "/v1/datasets", json=DATASET)
    path = f"/v1/datasets/{created['id']}"
    ready = await_that(lambda: _in_state(ask(client, "GET", path), {"ready", "rejected"}), 0.1)
    if ready["state"] != "ready":
        raise RuntimeError(f"the dataset was rejected: {ready['error']}")
    identity: str = created["id"]
    return identity


def search(client: httpx.Client, dataset_id: str, service: int) -> tuple[float, float]:
    """Run a search to its end: seconds until it trained, and from the end of its last trainer until its front is
    seen."""
    spec = {"name": "warm start", "dataset_id": dataset_id, "method": METHOD}
    accepted = ask(client, "POST", "/v1/searches", json=spec)
    path = f"/v1/searches/{accepted['id']}"
    sweep = await_that(lambda: _second(ask(client, "GET", f"{path}/trials")["data"]), 0.1)
    trainer = await_that(lambda: trainer_of(service, sweep["id"]), 0.01)
    await_that(lambda: has_ended(trainer), 0.005)
    ended = time.perf_counter()
    completed = await_that(lambda: _in_state(ask(client, "GET", f"/v1/trials/{sweep['id']}"), ENDED), 0.01)
    front = ask(client, "GET", f"{path}/front")
    visible = time.perf_counter() - ended
    if completed["state"] != "completed" or not front["points"]:
        raise RuntimeError(f"the trial {completed['state']} with {len(front['points'])} points: {completed['error']}")
    await_that(lambda: _in_state(ask(client, "GET", path), {"succeeded", "failed"}), 0.1)
    (train, *_) = ask(client, "GET", f"{path}/trials")["data"]
    (losses,) = ask(client, "GET", f"/v1/trials/{train['id']}/metrics", params={"name": "loss"})["curves"]
    return round(seconds_between(accepted["created_at"], losses["points"][0]["at"]), 3), round(visible, 3)


def trainer_of(service: int, trial_id: str) -> psutil.Process | None:
    """The process below the service that works in the trial's folder."""
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


def ask(client: httpx.Client, method: str, path: str, **content: Any) -> Any:
    """The answer's JSON. Raises httpx.HTTPStatusError."""
    return client.request(method, path, **content).raise_for_status().json()


def await_that(ready: Callable[[], T | None], pause: float) -> T:
    """Poll until `ready` gives something true. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        if time.monotonic() > deadline:
            raise TimeoutError("the service did not get there in time")
        time.sleep(pause)
    return found


def _in_state(resource: dict[str, Any], states: frozenset[str] | set[str]) -> dict[str, Any] | None:
    return resource if resource["state"] in states else None


def _second(trials: list[dict[str, Any]]) -> dict[str, Any] | None:
    return max(trials, key=lambda trial: trial["number"]) if len(trials) > 1 else None


if __name__ == "__main__":
    run(main)
