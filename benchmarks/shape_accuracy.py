"""Gain of a learned shape on Fashion-MNIST at the cost of the human-designed network: VGG-16s with a quarter of the
channels.

For each of 3 seeds, with the default recipe: the human-designed network, the shape learned with its
multiply-accumulates as the target, the shape learned without a target, and the shape found by compression (AutoSC). For
the first seed also 20 random shapes at that cost. Accuracies are on the report split, which selects nothing.

- `learned_over_human`, `learned_over_random_median`, `learned_over_random_best`: difference of the means over the
  seeds, in percentage points. Goal: 0.
- `macs_spread`: the most MACs of these networks over the least. Goal: 1.05.
- `autosc_over_human` (percentage points) and `autosc_macs` (share of those of the human-designed network). Goals: 0 and
  1.

In the details, `free` is the shape without a target, with its cost relative to the human-designed network.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

from statistics import mean, median
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import SearchRun, cached_searches
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.contracts.point import Point

SEEDS: Final = (0, 1, 2)
RANDOM_SHAPES: Final = 20
DATASET: Final = DatasetSpec.model_validate(
    {"name": "shapes", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 3000}}
)
METHOD: Final[dict[str, Any]] = {
    "kind": "shape_adaptor",
    "families": ["vgg16"],
    "base_width": 0.25,
    "resolutions": [24],
    "epochs": 12,
    # The paper trains for 80,000 steps; this benchmark for about 400.
    "alpha_interval": 5,
    "alpha_learning_rate": 1.0,
}
LEARNED: Final[dict[str, Any]] = {"adaptors": [6], "last_sides": [4], "targets": [0.0, 1.0], "trials": 2}
"""Six adaptors, because hardly any shape of four is as cheap as five pools."""
COMPRESSED: Final[dict[str, Any]] = {"modes": ["autosc"], "targets": [0.0], "trials": 1, "human": False}

Metrics = dict[str, float]


def main() -> Report:
    runs: dict[str, SearchRun] = {}
    for seed in SEEDS:
        drawn = {"random_shapes": RANDOM_SHAPES} if seed == SEEDS[0] else {}
        runs[f"seed-{seed}"] = SearchRun(METHOD | LEARNED | drawn, seed)
        runs[f"compressed-{seed}"] = SearchRun(METHOD | COMPRESSED, seed)
    outcomes = cached_searches("shape", DATASET, METHOD, LEARNED, COMPRESSED, RANDOM_SHAPES).run(runs)
    found = {
        seed: {
            _name(point): point.metrics
            for part in ("seed", "compressed")
            for point in outcomes[f"{part}-{seed}"].points
        }
        for seed in SEEDS
    }
    return Report("shape_accuracy", _claims(found), {"seeds": found, **_described(found)})


def _claims(found: dict[int, dict[str, Metrics]]) -> tuple[Claim, ...]:
    learned, human, compressed = (_top1(found, name) for name in ("learned", "human", "compressed"))
    drawn = [metrics for name, metrics in found[SEEDS[0]].items() if name.startswith("random")]
    randoms = [metrics["top1"] for metrics in drawn]
    macs = [each[name]["macs"] for each in found.values() for name in ("learned", "human")]
    macs += [metrics["macs"] for metrics in drawn]
    saved = mean(each["compressed"]["macs"] / each["human"]["macs"] for each in found.values())
    return (
        Claim("learned_over_human", 100 * (learned - human), 0.0, "higher"),
        Claim("learned_over_random_median", 100 * (learned - median(randoms)), 0.0, "higher"),
        Claim("learned_over_random_best", 100 * (learned - max(randoms)), 0.0, "higher"),
        Claim("macs_spread", max(macs) / min(macs), 1.05, "lower"),
        Claim("autosc_over_human", 100 * (compressed - human), 0.0, "higher"),
        Claim("autosc_macs", saved, 1.0, "lower"),
    )


def _described(found: dict[int, dict[str, Metrics]]) -> dict[str, Any]:
    cost = mean(each["free"]["macs"] / each["human"]["macs"] for each in found.values())
    gain = 100 * (_top1(found, "free") - _top1(found, "human"))
    return {"free": {"macs_over_human": round(cost, 2), "points_over_human": round(gain, 2)}}


def _top1(found: dict[int, dict[str, Metrics]], name: str) -> float:
    return mean(each[name]["top1"] for each in found.values())


def _name(point: Point) -> str:
    match point.config["mode"]:
        case "human":
            return "human"
        case "random":
            return f"random-{point.config['draw']}"
        case "autosc":
            return "compressed"
        case _:
            return "learned" if point.config["target"] else "free"


if __name__ == "__main__":
    run(main)
