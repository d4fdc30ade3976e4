"""The benchmarks of spatial sampling, on networks of no size."""

from __future__ import annotations

import torch

from benchmarks.sparse_speed import DENSITIES, block, masked, measured
from benchmarks.spatial_accuracy import GOALS, METHOD
from paretofit.models.cost import cost
from paretofit.search.registry import methods


def test_shares_are_of_what_the_masks_save() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = measured(block(4), (12, 12), repeats=1)
    torch.set_num_threads(threads)
    assert list(found["milliseconds"]) == ["folded", "dense", *(f"zero {d}" for d in DENSITIES), "rbf 0.35"]
    row = found["densities"]["zero 0.35"]
    plain = cost(block(4), (12, 12)).macs
    assert row["macs"] == cost(masked(block(4), 0.35, "zero"), (12, 12)).macs / plain
    assert abs(row["share"] - (1 - row["time"]) / (1 - row["macs"])) < 1e-9


def test_what_is_compared_is_what_the_method_has() -> None:
    assert methods()["spatial_sampling"].params.model_validate(METHOD).model_dump()["baselines"] == tuple(GOALS)
