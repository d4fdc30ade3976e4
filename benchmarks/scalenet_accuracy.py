"""What a learned allocation gains on Fashion-MNIST: narrow ScaleNet-20s at the MACs of the plain ResNet, 3 seeds.

For each seed one search trains the seed network, and by the default recipe the learned structure, even parts, channels
at random and the largest scale alone (the plain ResNet). Accuracies are on the report split, on which nothing is
chosen.

- `learned_over_even`, `learned_over_random`, `learned_over_single`: percentage points that the learned structure is
  better by, mean over the seeds. Goal: 0.
- `macs_spread`: the most MACs of any network over the least, of those compared. Goal: 1.1.

A run that was interrupted goes on (`benchmarks.searches`).
"""

from __future__ import annotations

from statistics import mean
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import Asked, Searched, Searches, kept
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.methods.scalenet.params import ScaleNetParams

SEEDS: Final = (0, 1, 2)
RIVALS: Final = ("even", "random", "single")
DATASET: Final = DatasetSpec.model_validate(
    {"name": "scalenet", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 3600}}
)
METHOD: Final[dict[str, Any]] = {
    "kind": "scalenet",
    "family": "scalenet20",
    "base_width": 0.5,
    "seed_epochs": 4,
    "epochs": 12,
    "baselines": list(RIVALS),
}


def main() -> Report:
    searches = kept("scalenet", DATASET, METHOD)
    found = [
        _metrics(each) for each in searches.run({f"seed-{seed}": _asked(searches, seed) for seed in SEEDS}).values()
    ]
    gains = {rival: [100 * (each["learned"]["top1"] - each[rival]["top1"]) for each in found] for rival in RIVALS}
    macs = [metrics["macs"] for each in found for metrics in each.values()]
    claims = (
        *(Claim(f"learned_over_{rival}", mean(gains[rival]), goal=0.0, better="higher") for rival in RIVALS),
        Claim("macs_spread", max(macs) / min(macs), goal=1.1, better="lower"),
    )
    return Report("scalenet_accuracy", claims, {"seeds": dict(zip(SEEDS, found, strict=True)), "gains": gains})


def _asked(searches: Searches, seed: int) -> Asked:
    """Networks at the cost of the plain one."""
    params = searches.resolve(Asked(METHOD, seed)).params(ScaleNetParams)
    return Asked(METHOD | {"budgets": [params.targets(searches.profile)[-1]]}, seed)


def _metrics(found: Searched) -> dict[str, dict[str, float]]:
    """By allocation."""
    return {str(point.config["allocation"]): point.metrics for point in found.points}


if __name__ == "__main__":
    run(main)
