"""How accurate networks with masks are on Fashion-MNIST against smaller images and other masks: narrow WideResNets, 3
seeds.

For each seed one search trains, by the default recipe, networks of two densities with stochastic masks, and for each of
them masks without noise, rectified gates, and the plain network on images so small that it takes no more
multiply-accumulates. Accuracies are on the report split, on which nothing is chosen; MACs count what the masks compute,
and latencies are those of the form that computes no more, on one thread.

- `sampled_over_KIND`: percentage points by which stochastic masks are better, mean over the seeds and densities. Goal:
  0 over `uniform` (the paper, detection: at equal accuracy a third fewer MACs), -1 over the others.
- `macs_over_uniform`: their multiply-accumulates over those of the smaller images, mean. Goal: 1.1.
- `latency_over_uniform`: their milliseconds, in the form that computes no more, over those of the smaller images. Goal:
  1.1.

A run that was interrupted goes on (`benchmarks.searches`).
"""

from __future__ import annotations

from statistics import mean
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import Asked, kept
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.contracts.point import Point

SEEDS: Final = (0, 1, 2)
GOALS: Final = {"uniform": 0.0, "deterministic": -1.0, "gated": -1.0}
DATASET: Final = DatasetSpec.model_validate(
    {"name": "spatial", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 6000}}
)
METHOD: Final[dict[str, Any]] = {
    "kind": "spatial_sampling",
    "family": "wrn_10_1",
    "densities": [0.3, 0.6],
    "trials": 2,
    "fill": "zero",
    "epochs": 12,
    "baselines": list(GOALS),
}
_COLUMNS: Final = ("top1", "macs", "dense_macs", "sparse_ms", "dense_ms")


def main() -> Report:
    asked = {f"seed-{seed}": Asked(METHOD, seed) for seed in SEEDS}
    found = {
        name: [_line(point) for point in searched.points]
        for name, searched in kept("spatial", DATASET, METHOD).run(asked).items()
    }
    rows = [row for points in found.values() for row in points]
    sampled = _of(rows, "sampled")
    claims = [
        Claim(
            f"sampled_over_{kind}",
            100 * (_mean(sampled, "top1") - _mean(_of(rows, kind), "top1")),
            goal,
            "higher",
        )
        for kind, goal in GOALS.items()
    ]
    for name, metric in {"macs": "macs", "latency": "sparse_ms"}.items():
        over = _mean(sampled, metric) / _mean(_of(rows, "uniform"), metric)
        claims.append(Claim(f"{name}_over_uniform", over, 1.1, "lower"))
    return Report("spatial_accuracy", tuple(claims), {"seeds": found})


def _line(point: Point) -> dict[str, Any]:
    metrics: dict[str, Any] = {name: point.metrics[name] for name in _COLUMNS if name in point.metrics}
    return {"kind": point.config.get("baseline", "sampled"), "key": point.key, **metrics}


def _of(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return mean([float(row[name]) for row in rows])


if __name__ == "__main__":
    run(main)
