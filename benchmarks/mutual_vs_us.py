"""What a network learns from its narrower ones at other resolutions: MutualNet against US-Net, US-Net+ and networks
trained one by one, on Fashion-MNIST (10,000 training images), with three seeds.

All train the same FD-MobileNet by the same recipe for the same epochs, except the single networks: those get so many
epochs that all of them together take MutualNet's multiply-accumulates. US-Net is measured at the largest resolution,
US-Net+ (the same weights) and MutualNet at all four. Compared is the hypervolume of the fronts by selection accuracy,
of all with the same bounds:

- `mutualnet_over_us_net_plus`, `us_net_plus_over_us_net`, `mutualnet_over_singles`: the difference of the hypervolumes,
  mean of the seeds. Goal: above 0.

Beside them stand the spread, and the accuracies of MutualNet and US-Net+ at what the single networks are. As many
searches run side by side as there are cores, each on one thread. Nothing is trained twice: each is kept in
PARETOFIT_HOME/cache/benchmarks, and gone on with if it was interrupted.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Final

import torch

from benchmarks.harness import Claim, Report, run
from search.allocator import keep_freed_memory
from search.data.ingest import IngestRequest, ingest
from search.data.store import MANIFEST, Dataset
from search.local import LocalSearch
from search.pareto import hypervolume
from search.reporter import Point, Stop
from search.spec import DatasetSpec, SearchSpec
from settings import get_settings
from workers import prctl

SEEDS: Final = (0, 1, 2)
DATASET: Final = DatasetSpec.model_validate(
    {
        "name": "mutual_vs_us",
        "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 12_500},
        "splits": {"selection": 0.2},
    }
)
RECIPE: Final[dict[str, Any]] = {
    "epochs": 5,
    "calibration_images": 1024,
    "augmentation": {"kind": "none"},
}
SINGLES: Final = ((1.0, 32), (0.75, 28), (0.5, 24), (0.25, 20))
"""Width and resolution of the networks that are trained one by one."""
METHODS: Final[dict[str, dict[str, Any]]] = {
    "mutualnet": {
        **RECIPE,
        "kind": "mutualnet",
        "baselines": [{"width": width, "resolution": side} for width, side in SINGLES],
        "baseline_budget": "compute",
    },
    "us_net": {**RECIPE, "kind": "us_net", "plus": True},
}

Metrics = Mapping[str, float]
Searched = tuple[list[Point], float]
"""The points of a search, and the seconds that all its runs took together."""


def main() -> Report:
    folder = _folder()
    runs = [(name, seed) for seed in SEEDS for name in METHODS]
    cores, spawn = len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, spawn, initializer=_prepare, initargs=(os.getpid(),)) as pool:
        searched = dict(zip(runs, pool.map(partial(_search, folder), *zip(*runs, strict=True)), strict=True))
    found = [_compare({name: searched[name, seed] for name in METHODS}, seed) for seed in SEEDS]
    differences = {
        "mutualnet_over_us_net_plus": [each["mutualnet"] - each["us_net_plus"] for each in found],
        "us_net_plus_over_us_net": [each["us_net_plus"] - each["us_net"] for each in found],
        "mutualnet_over_singles": [each["mutualnet"] - each["singles"] for each in found],
    }
    claims = tuple(Claim(name, mean(values), goal=0, better="higher") for name, values in differences.items())
    spread = {name: {"mean": mean(values), "stdev": stdev(values)} for name, values in differences.items()}
    return Report("mutual_vs_us", claims, {"seeds": found, "differences": spread})


def _compare(searched: Mapping[str, Searched], seed: int) -> dict[str, Any]:
    """Hypervolumes of each with one seed, and accuracies at the single networks' configurations."""
    points = {name: found for name, (found, _) in searched.items()}
    seconds = {name: spent for name, (_, spent) in searched.items()}
    mutual = _by_network(point for point in points["mutualnet"] if point.role == "candidate")
    singles = _by_network(point for point in points["mutualnet"] if point.role == "baseline")
    plus = _by_network(points["us_net"])
    largest = max(side for _, side in plus)
    us_net = {network: metrics for network, metrics in plus.items() if network[1] == largest}
    macs = [metrics["macs"] for metrics in mutual.values()]
    compared = {"mutualnet": mutual, "us_net_plus": plus, "us_net": us_net, "singles": singles}
    volumes = {
        name: hypervolume(list(metrics.values()), macs=(min(macs), max(macs)), classes=10)
        for name, metrics in compared.items()
    }
    accuracies = [
        {"macs": network[0], "resolution": network[1]}
        | {name: compared[name][network]["selection_top1"] for name in ("mutualnet", "us_net_plus", "singles")}
        for network in singles
    ]
    return {"seed": seed, **volumes, "selection_top1": accuracies, "seconds": seconds}


def _by_network(points: Iterable[Point]) -> dict[tuple[float, int], Metrics]:
    """By MACs and resolution: several widths are one network."""
    return {(point.metrics["macs"], int(point.config["resolution"])): point.metrics for point in points}


def _prepare(parent: int) -> None:
    """Of a process that searches: it ends with the one that waits for it."""
    prctl.die_with(parent)
    torch.set_num_threads(1)
    keep_freed_memory()


def _search(folder: Path, name: str, seed: int) -> Searched:
    """Run a search as far as it was not before."""
    dataset = Dataset.open(folder / "dataset").profile
    body = {"name": name, "dataset_id": "local", "method": METHODS[name], "seed": seed}
    spec = SearchSpec.model_validate(body).resolve(dataset)
    search = LocalSearch(spec, folder / "dataset", folder / f"{name}-{seed}")
    search.run(lambda: Stop.NO, lambda *_: None)
    sys.stderr.write(f"{name}, seed {seed}: {search.seconds:.0f} s\n")
    return search.points(), round(search.seconds, 1)


def _folder() -> Path:
    """Of this dataset and these methods, kept from one run to the next."""
    described = hashlib.sha256(f"{DATASET.model_dump_json()} {METHODS}".encode()).hexdigest()[:12]
    folder = get_settings().home / "cache" / "benchmarks" / f"mutual_vs_us-{described}"
    if not (folder / "dataset" / MANIFEST).exists():
        shutil.rmtree(folder / "dataset", ignore_errors=True)
        ingest(IngestRequest(spec=DATASET), folder / "dataset")
    return folder


if __name__ == "__main__":
    run(main)
