"""Gain of a learned allocation on Fashion-MNIST: narrow ScaleNet-20s at the MACs of the plain ResNet, 3 seeds.

For each seed one search trains the seed network and, with the default recipe, the learned structure, even parts, random
channels, and the largest scale alone (the plain ResNet). Accuracies are on the report split, which selects nothing.

- `learned_over_even`, `learned_over_random`, `learned_over_single`: gain of the learned structure in percentage points,
  mean over the seeds. Goal: 0.
- `macs_spread`: the most MACs of the compared networks over the least. Goal: 1.1.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

from statistics import mean
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import Searches, SearchOutcome, SearchRun, cached_searches
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
    searches = cached_searches("scalenet", DATASET, METHOD)
    found = [
        _metrics(each)
        for each in searches.run({f"seed-{seed}": _search_run(searches, seed) for seed in SEEDS}).values()
    ]
    gains = {rival: [100 * (each["learned"]["top1"] - each[rival]["top1"]) for each in found] for rival in RIVALS}
    macs = [metrics["macs"] for each in found for metrics in each.values()]
    claims = (
        *(Claim(f"learned_over_{rival}", mean(gains[rival]), goal=0.0, better="higher") for rival in RIVALS),
        Claim("macs_spread", max(macs) / min(macs), goal=1.1, better="lower"),
    )
    return Report("scalenet_accuracy", claims, {"seeds": dict(zip(SEEDS, found, strict=True)), "gains": gains})


def _search_run(searches: Searches, seed: int) -> SearchRun:
    """A search for networks at the cost of the plain one."""
    params = searches.resolve(SearchRun(METHOD, seed)).params(ScaleNetParams)
    return SearchRun(METHOD | {"budgets": [params.targets(searches.profile)[-1]]}, seed)


def _metrics(outcome: SearchOutcome) -> dict[str, dict[str, float]]:
    """The metrics by allocation."""
    return {str(point.config["allocation"]): point.metrics for point in outcome.points}


if __name__ == "__main__":
    run(main)
