"""Benchmarks of spatial sampling, on tiny networks."""

from __future__ import annotations

import torch

from benchmarks.sparse_speed import DENSITIES, block, masked, measured
from benchmarks.spatial_accuracy import GOALS, METHOD
from paretofit.models.cost import cost
from paretofit.search.registry import methods


def test_time_savings_are_relative_to_saved_macs() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = measured(block(4), (12, 12), repeats=1)
    torch.set_num_threads(threads)
    assert list(result["milliseconds"]) == ["folded", "dense", *(f"zero {d}" for d in DENSITIES), "rbf 0.35"]
    row = result["densities"]["zero 0.35"]
    plain = cost(block(4), (12, 12)).macs
    assert row["macs"] == cost(masked(block(4), 0.35, "zero"), (12, 12)).macs / plain
    assert abs(row["share"] - (1 - row["time"]) / (1 - row["macs"])) < 1e-9


def test_every_baseline_of_the_method_is_compared() -> None:
    assert methods()["spatial_sampling"].params.model_validate(METHOD).model_dump()["baselines"] == tuple(GOALS)
