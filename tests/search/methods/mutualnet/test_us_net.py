"""US-Net is MutualNet at one resolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.loader import Batch
from paretofit.search.local import LocalSearch
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams, UsNetParams
from paretofit.search.methods.mutualnet.train import step
from paretofit.search.registry import methods
from tests.search.methods.mutualnet.test_params import candidates, profile


@pytest.fixture
def method(method: dict[str, Any]) -> dict[str, Any]:
    """The small search as a US-Net search."""
    return method | {"kind": "us_net"}


def test_us_net_is_a_separate_method_kind() -> None:
    assert methods()["us_net"].params is UsNetParams
    assert methods()["us_net"].package == methods()["mutualnet"].package


def test_us_net_trains_and_sweeps_at_the_largest_resolution() -> None:
    us_net, plus = UsNetParams(), UsNetParams(plus=True)
    assert us_net.trained_sides(profile()) == plus.trained_sides(profile()) == us_net.sides(profile()) == (32,)
    assert plus.sides(profile()) == MutualNetParams().sides(profile()) == MutualNetParams().trained_sides(profile())
    assert {c.config["resolution"] for c in candidates(us_net)} == {32}
    assert candidates(plus) == candidates(MutualNetParams())
    two_sides = UsNetParams(resolutions=(24, 28), plus=True)
    assert (two_sides.trained_sides(profile()), two_sides.sides(profile())) == ((28,), (28, 24))


def test_us_net_step_equals_mutualnet_at_a_single_resolution(spec: ResolvedSpec) -> None:
    us_net = spec.params(SlimmableParams)
    one = MutualNetParams(**us_net.model_dump(exclude={"kind", "plus", "resolutions"}), resolutions=(16,))
    batch = Batch(torch.randn(16, 1, 16, 16), torch.arange(16) % 3)
    gradients = []
    for params in (us_net, one):
        torch.manual_seed(0)
        network = Slimmable(params.architecture(spec.dataset)).train()
        losses = step(network, params, spec.dataset, 3, 5, batch)
        assert losses["distillation_loss"] > 0
        gradients.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(mine, other) for mine, other in zip(*gradients, strict=True))


def test_us_net_plus_sweeps_every_resolution(spec: ResolvedSpec, stripes: Path, tmp_path: Path) -> None:
    small = spec.model_copy(update={"method": spec.method.model_copy(update={"plus": True, "epochs": 1})})
    front = LocalSearch(small, stripes, tmp_path).run(lambda: Stop.NO, lambda trial, fraction: None)
    assert front.finished
    assert {candidate.config["resolution"] for candidate in small.candidates()} == {16, 12}
    assert {point.provenance["method"] for point in front.points} == {"us_net"}
