"""What a learned allocation gains on Fashion-MNIST: narrow ScaleNet-20s at the MACs of the plain ResNet, 3 seeds.

For each seed one search trains the seed network, and by one recipe the learned structure, even parts, channels at random and
the largest scale alone (the plain ResNet). Accuracies are on the report split, on which nothing is chosen.

- `learned_over_even`, `learned_over_random`, `learned_over_single`: percentage points that the learned structure is better
  by, mean over the seeds. Goal: 0.
- `macs_spread`: the most MACs of any network over the least, of those compared. Goal: 1.1.

Searches are kept in PARETOFIT_HOME/cache/benchmarks: an interrupted run goes on, a finished one is told again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from statistics import mean
from typing import Any, Final

import torch

from benchmarks.harness import Claim, Report, run
from search.data.ingest import IngestRequest, ingest
from search.data.store import Dataset
from search.local import LocalSearch
from search.reporter import Point, Stop
from search.spec import DatasetSpec, ResolvedSpec, SearchSpec
from settings import get_settings

SEEDS: Final = (0, 1, 2)
RIVALS: Final = ("even", "random", "single")
DATASET: Final = DatasetSpec.model_validate(
    {"name": "scalenet", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 6000}}
)
METHOD: Final[dict[str, Any]] = {
    "kind": "scalenet",
    "family": "scalenet20",
    "base_width": 0.5,
    "seed_epochs": 4,
    "epochs": 8,
    "batch_size": 128,
    "learning_rate": 0.2,
    "augmentation": {"kind": "pad_crop", "padding": 2},
    "baselines": list(RIVALS),
}


def main() -> Report:
    # Threads that wait for a core make a training ten times slower, and something else may run for half an hour.
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    folder = _folder()
    dataset = folder / "dataset"
    if not (folder / "ready").exists():
        ingest(IngestRequest(spec=DATASET), dataset)
        (folder / "ready").touch()
    found = [_points(dataset, folder / f"seed-{seed}", seed) for seed in SEEDS]
    gains = {rival: [100 * (each["learned"]["top1"] - each[rival]["top1"]) for each in found] for rival in RIVALS}
    macs = [metrics["macs"] for each in found for metrics in each.values()]
    claims = (
        *(Claim(f"learned_over_{rival}", mean(gains[rival]), goal=0.0, better="higher") for rival in RIVALS),
        Claim("macs_spread", max(macs) / min(macs), goal=1.1, better="lower"),
    )
    return Report("scalenet_accuracy", claims, {"seeds": dict(zip(SEEDS, found, strict=True)), "gains": gains})


def _points(dataset: Path, out: Path, seed: int) -> dict[str, dict[str, float]]:
    """Metrics by allocation."""
    search = LocalSearch(_spec(dataset, seed), dataset, out)
    search.run(lambda: Stop.NO, lambda trial, done: _say(f"seed {seed}, trial {trial}: {done:4.0%}"))
    _say("\n")
    trials = json.loads((out / "search.json").read_text())["trials"]
    points = [Point.model_validate(point) for trial in trials for point in trial["points"].values()]
    return {str(point.config["allocation"]): point.metrics for point in points}


def _spec(dataset: Path, seed: int) -> ResolvedSpec:
    profile = Dataset.open(dataset).profile
    body = {"name": "scalenet", "dataset_id": "local", "method": METHOD, "seed": seed}
    plain = SearchSpec.model_validate(body).resolve(profile).method.targets(profile)[-1]
    return SearchSpec.model_validate(body | {"method": METHOD | {"budgets": [plain]}}).resolve(profile)


def _folder() -> Path:
    """Of this dataset and method, kept from one run to the next."""
    described = hashlib.sha256(f"{DATASET.model_dump_json()} {METHOD}".encode()).hexdigest()[:12]
    folder = get_settings().home / "cache" / "benchmarks" / f"scalenet-{described}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _say(text: str) -> None:
    sys.stderr.write(f"\r{text}")


if __name__ == "__main__":
    run(main)
