"""The benchmarks compare compact families at the stated costs."""

from __future__ import annotations

import pytest

from benchmarks.compact_accuracy import RIVAL, WIDTHS, matched
from benchmarks.compact_latency import BUDGETS, RUNTIMES, SIZE, Budget, report
from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.latency.clock import Timed


@pytest.mark.parametrize("budget", BUDGETS)
def test_networks_of_one_budget_have_similar_costs(budget: Budget) -> None:
    for network in budget.networks().values():
        assert cost(network, SIZE).macs == pytest.approx(budget.mmacs * 1e6, rel=0.09)


def test_claimed_gains_are_ratios_of_medians() -> None:
    timings = {
        (name, budget.mmacs, family): Timed(3.0 if family == "shufflenet_v1" else 2.0, 5.0, 60)
        for name in RUNTIMES
        for budget in BUDGETS
        for family in budget.networks()
    }
    claims = {claim.name: claim for claim in report(timings).claims}
    assert len(claims) == 12
    assert (claims["ncnn_40_speedup_over_shufflenet_v1"].value, claims["ncnn_40_speedup_over_shufflenet_v1"].goal) == (
        1.5,
        1.45,
    )
    assert not claims["onnxruntime_12_speedup_over_mobilenet_v1"].holds


@pytest.mark.parametrize("width", WIDTHS.values())
def test_accuracies_are_compared_at_equal_macs(width: float) -> None:
    profile = DatasetProfile(
        classes=tuple("0123456789"),
        channels=1,
        image_size=(32, 32),
        images={"train": 100, "selection": 10, "report": 10},
        mean=(0.5,),
        std=(0.5,),
        fingerprint="none",
    )
    macs = [
        cost(architecture(family, width=each, nominal=32, classes=10, channels=1), (32, 32)).macs
        for family, each in (("fd_mobilenet", width), (RIVAL, matched(profile, width)))
    ]
    assert macs[1] == pytest.approx(macs[0], rel=0.02)
