"""What a network learns from its narrower ones at other resolutions: MutualNet against US-Net, US-Net+ and networks
trained one by one, on Fashion-MNIST (10,000 training images), with three seeds.

All train the same FD-MobileNet by the same recipe for the same epochs, except the single networks: those get so many
epochs that all of them together take MutualNet's multiply-accumulates. US-Net is measured at the largest resolution,
US-Net+ (the same weights) and MutualNet at all four. Compared is the hypervolume of the fronts by selection accuracy,
of all with the same bounds:

- `mutualnet_over_us_net_plus`, `us_net_plus_over_us_net`, `mutualnet_over_singles`: the difference of the hypervolumes,
  mean of the seeds. Goal: above 0.

Beside them stand the spread, and the accuracies of MutualNet and US-Net+ at what the single networks are. A run
that was interrupted goes on (`benchmarks.searches`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import mean, stdev
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import Asked, Searched, kept
from search.pareto import hypervolume
from search.reporter import Point
from search.spec import DatasetSpec

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


def main() -> Report:
    wanted = {f"{name}-{seed}": Asked(method, seed) for seed in SEEDS for name, method in METHODS.items()}
    searched = kept("mutual_vs_us", DATASET, METHODS).run(wanted)
    found = [_compare({name: searched[f"{name}-{seed}"] for name in METHODS}, seed) for seed in SEEDS]
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


if __name__ == "__main__":
    run(main)
