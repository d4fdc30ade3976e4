"""MutualNet against US-Net, US-Net+ and networks trained one by one, on Fashion-MNIST (10,000 training images).

All get the same total training compute: that of four single networks trained for 5 and for 20 epochs. It counts the
multiply-accumulates of all forward passes, including the polish and its teacher
(`paretofit.search.methods.mutualnet.budget`). The weight-sharing methods train the same FD-MobileNet with the default
recipe. US-Net evaluates networks at the largest resolution, US-Net+ and MutualNet at all four. The claims compare the
hypervolumes of the fronts by selection accuracy, with the same bounds for all, as means over the seeds (three at 5
epochs, one at 20):

- `mutualnet_over_us_net_plus_N`, `us_net_plus_over_us_net_N`: goal above 0.
- `mutualnet_over_singles_N`: goal above 0 at 20 epochs, above -.02 at 5.
- `least_gain_over_singles_20`: the smallest gain, over the four configurations, of the best MutualNet point that costs
  no more.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import mean, stdev
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import Searches, SearchOutcome, SearchRun, cached_searches
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.contracts.point import Point
from paretofit.search.methods.mutualnet import budget
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.pareto import hypervolume

SEEDS: Final = {5: (0, 1, 2), 20: (0,)}
"""Seeds by budget: the epochs of the four single networks."""
DATASET: Final = DatasetSpec.model_validate(
    {
        "name": "mutual_vs_us",
        "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 12_500},
        "splits": {"selection": 0.2},
    }
)
SINGLES: Final = ((1.0, 32), (0.75, 28), (0.5, 24), (0.25, 20))
"""Width and resolution of the networks trained one by one."""
SHARED: Final[dict[str, Any]] = {"widths": {"step": 0.25}, "calibration_images": 1024, "polish_networks": len(SINGLES)}
METHODS: Final[dict[str, dict[str, Any]]] = {
    "mutualnet": {**SHARED, "kind": "mutualnet"},
    "us_net_plus": {**SHARED, "kind": "us_net", "plus": True},
    "us_net": {**SHARED, "kind": "us_net"},
}
POLISH: Final = 1 / 3
"""Polish steps per network, as a share of the steps of the shared training: the default."""


def main() -> Report:
    searches = cached_searches("mutual_vs_us", DATASET, "equal compute")
    contenders = {
        epochs: {
            **{name: _shared(searches, method, epochs) for name, method in METHODS.items()},
            **{f"single-{width}": _single(width, side, epochs) for width, side in SINGLES},
        }
        for epochs in SEEDS
    }
    # Seed by seed, so that an interrupted run has whole comparisons.
    runs = {
        f"{name}-{epochs}-{seed}": SearchRun(method, seed)
        for epochs, seeds in SEEDS.items()
        for seed in seeds
        for name, method in contenders[epochs].items()
    }
    outcomes = searches.run(runs)
    results = {epochs: [_compare(outcomes, epochs, seed) for seed in seeds] for epochs, seeds in SEEDS.items()}
    claims: list[Claim] = []
    spread: dict[str, dict[str, float | None]] = {}
    for epochs in SEEDS:
        for name, (above, below, goal) in {
            f"mutualnet_over_us_net_plus_{epochs}": ("mutualnet", "us_net_plus", 0.0),
            f"us_net_plus_over_us_net_{epochs}": ("us_net_plus", "us_net", 0.0),
            f"mutualnet_over_singles_{epochs}": ("mutualnet", "singles", -0.02 if epochs == min(SEEDS) else 0.0),
        }.items():
            values = [each["hypervolume"][above] - each["hypervolume"][below] for each in results[epochs]]
            claims.append(Claim(name, mean(values), goal, "higher"))
            spread[name] = {"mean": mean(values), "stdev": stdev(values) if len(values) > 1 else None}
    gains = [mean(gains) for gains in zip(*(each["gains"] for each in results[max(SEEDS)]), strict=True)]
    claims.append(Claim(f"least_gain_over_singles_{max(SEEDS)}", min(gains), 0, "higher"))
    return Report("mutual_vs_us", tuple(claims), {"seeds": results, "differences": spread})


def _single(width: float, side: int, epochs: int) -> dict[str, Any]:
    """A network with the channels of MutualNet at this width, trained alone."""
    return {
        "kind": "mutualnet",
        "widths": {"min": width, "max": width},
        "resolutions": [side],
        "random_widths": 0,
        "full_first": 1.0,
        "lowering": 0.0,
        "polish": 0,
        "epochs": epochs,
        "calibration_images": 1024,
    }


def _shared(searches: Searches, method: dict[str, Any], epochs: int) -> dict[str, Any]:
    """A weight-sharing method with as many epochs as the compute of the single networks allows."""
    profile = searches.profile
    params = searches.resolve(SearchRun(method, 0)).params(SlimmableParams)
    spent = epochs * sum(_macs(params, searches, width, side) for width, side in SINGLES)
    each = budget.step_macs(params, profile) + POLISH * params.polish_networks * budget.polish_macs(params, profile)
    shared = max(1, round(spent / each))
    steps = shared * (profile.images["train"] // params.batch_size)
    # The polish absorbs the difference from rounding to whole epochs.
    left = (spent - shared * budget.step_macs(params, profile)) / (
        params.polish_networks * budget.polish_macs(params, profile) * shared
    )
    return method | {"epochs": shared, "polish": max(1, round(left * steps))}


def _macs(params: SlimmableParams, searches: Searches, width: float, side: int) -> float:
    return float(params.candidate(searches.profile, {"width": width, "resolution": side}).cost["macs"])


def _compare(outcomes: Mapping[str, SearchOutcome], epochs: int, seed: int) -> dict[str, Any]:
    """Hypervolumes for one seed, and the gains of MutualNet at the costs of the single networks."""
    metrics = {name: _metrics(outcomes[f"{name}-{epochs}-{seed}"].points) for name in METHODS}
    singles = [each for width, _ in SINGLES for each in _metrics(outcomes[f"single-{width}-{epochs}-{seed}"].points)]
    metrics["singles"] = singles
    costs = [each["macs"] for each in metrics["mutualnet"]]
    volumes = {name: hypervolume(found, macs=(min(costs), max(costs)), classes=10) for name, found in metrics.items()}
    gains = [
        max(each["selection_top1"] for each in metrics["mutualnet"] if each["macs"] <= single["macs"])
        - single["selection_top1"]
        for single in singles
    ]
    seconds = {name: outcomes[f"{name}-{epochs}-{seed}"].seconds for name in METHODS}
    return {"seed": seed, "hypervolume": volumes, "gains": gains, "seconds": seconds}


def _metrics(points: Iterable[Point]) -> list[dict[str, float]]:
    return [point.metrics for point in points if point.role == "candidate"]


if __name__ == "__main__":
    run(main)
