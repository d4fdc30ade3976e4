"""Accuracy of masked networks on Fashion-MNIST against smaller images and other masks: narrow WideResNets, 3 seeds.

For each seed one search trains, with the default recipe, networks of two densities with stochastic masks. For each of
them it trains masks without noise, rectified gates, and the plain network on images small enough to need no more
multiply-accumulates. Accuracies are on the report split, which selects nothing. MACs count what the masks compute.
Latencies are those of the sparse form, which computes no more than that, on one thread.

- `sampled_over_KIND`: gain of stochastic masks in percentage points, mean over the seeds and densities. Goal: 0 over
  `uniform` (the paper, detection: at equal accuracy a third fewer MACs), -1 over the others.
- `macs_over_uniform`: multiply-accumulates over those of the smaller images, mean. Goal: 1.1.
- `latency_over_uniform`: milliseconds of the sparse form over those of the smaller images. Goal: 1.1.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

from statistics import mean
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import SearchRun, cached_searches
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
    runs = {f"seed-{seed}": SearchRun(METHOD, seed) for seed in SEEDS}
    found = {
        name: [_row(point) for point in outcome.points]
        for name, outcome in cached_searches("spatial", DATASET, METHOD).run(runs).items()
    }
    rows = [row for points in found.values() for row in points]
    sampled = _rows_of_kind(rows, "sampled")
    claims = [
        Claim(
            f"sampled_over_{kind}",
            100 * (_mean(sampled, "top1") - _mean(_rows_of_kind(rows, kind), "top1")),
            goal,
            "higher",
        )
        for kind, goal in GOALS.items()
    ]
    for name, metric in {"macs": "macs", "latency": "sparse_ms"}.items():
        over = _mean(sampled, metric) / _mean(_rows_of_kind(rows, "uniform"), metric)
        claims.append(Claim(f"{name}_over_uniform", over, 1.1, "lower"))
    return Report("spatial_accuracy", tuple(claims), {"seeds": found})


def _row(point: Point) -> dict[str, Any]:
    metrics: dict[str, Any] = {name: point.metrics[name] for name in _COLUMNS if name in point.metrics}
    return {"kind": point.config.get("baseline", "sampled"), "key": point.key, **metrics}


def _rows_of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["kind"] == kind]


def _mean(rows: list[dict[str, Any]], name: str) -> float:
    return mean([float(row[name]) for row in rows])


if __name__ == "__main__":
    run(main)
