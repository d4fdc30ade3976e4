"""Costs of trainings, and distribution of epochs."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.models.cost import cost
from paretofit.search.contracts.spec import Limits, ResolvedSpec
from paretofit.search.methods.mutualnet import budget
from paretofit.search.methods.mutualnet.options import Baseline, Widths
from paretofit.search.methods.mutualnet.params import MutualNetParams, SlimmableParams, UsNetParams
from paretofit.search.methods.mutualnet.presets import PUBLISHED
from tests.search.methods.mutualnet.test_params import profile


@pytest.mark.parametrize(
    ("kind", "family", "least", "published"),
    [
        (MutualNetParams, "mobilenet_v1", 0.25, 1.63),
        (UsNetParams, "mobilenet_v1", 0.25, 1.97),
        (UsNetParams, "mobilenet_v1", 0.05, 1.74),
        (MutualNetParams, "mobilenet_v2", 0.7, 2.42),
        (UsNetParams, "mobilenet_v2", 0.7, 3.20),
        (UsNetParams, "mobilenet_v2", 0.35, 2.37),
    ],
)
def test_step_cost_equals_published_cost(
    kind: type[SlimmableParams], family: str, least: float, published: float
) -> None:
    """Yang et al., arXiv 2105.07085: in multiples of a pass of the full network."""
    data = profile((224, 224))
    values = {**PUBLISHED, "family": family, "base_width": 1.0, "widths": {"min": least}}
    params = kind.model_validate(values).resolved(data, None)
    full = cost(params.architecture(data), (224, 224)).macs
    assert budget.step_macs(params, data) / full == pytest.approx(published, rel=0.015)


def changed(spec: ResolvedSpec, **method: Any) -> ResolvedSpec:
    return spec.model_copy(update={"method": type(spec.method)(**spec.method.model_dump() | method)})


BASELINES = tuple(Baseline(width=width, resolution=16) for width in (1.0, 0.75, 0.5))


@pytest.mark.parametrize("kind", ["epochs", "compute"])
@pytest.mark.parametrize(
    ("most", "max_trials", "shared", "each", "count"),
    [
        (None, None, 10, 10, 3),
        (40, None, 10, 10, 3),
        (39, None, 9, 9, 3),
        (21, None, 5, 5, 3),
        (4, None, 1, 1, 3),
        (3, None, 1, 1, 2),
        (1, None, 1, 0, 0),
        (20, 2, 10, 0, 0),
        (20, 3, 10, 10, 1),
        (21, 4, 7, 7, 2),
    ],
)
def test_epochs_are_distributed_within_limits(
    spec: ResolvedSpec, kind: str, most: int | None, max_trials: int | None, shared: int, each: int, count: int
) -> None:
    limits = {"limits": Limits(max_epochs=most, max_trials=max_trials)}
    values = changed(spec, epochs=10, baselines=BASELINES, baseline_budget=kind).model_copy(update=limits)
    epochs = budget.epochs(values)
    assert epochs.baselines == BASELINES[:count]
    assert most is None or epochs.shared + epochs.each * count <= most
    if kind == "epochs":
        assert (epochs.shared, epochs.each if count else 0) == (shared, each)
    else:
        assert epochs.shared <= 10
        assert not count or epochs.each >= 1


def test_compute_matched_baselines_use_the_macs_of_the_shared_training(spec: ResolvedSpec) -> None:
    baselines = [Baseline(width=1.0, resolution=16), Baseline(width=0.5, resolution=12)]
    same = changed(spec, epochs=100, baselines=baselines, baseline_budget="compute")
    epochs = budget.epochs(same)
    assert (epochs.shared, epochs.baselines) == (100, tuple(baselines))
    params, data = same.params(SlimmableParams), same.dataset
    macs = sum(cost(params.architecture(data, b.width), (b.resolution, b.resolution)).macs for b in baselines)
    assert epochs.each * macs == pytest.approx(100 * budget.step_macs(params, data), rel=0.01)
    assert epochs.each > 100


def test_boosted_network_is_the_first_baseline_and_duplicates_are_dropped(spec: ResolvedSpec) -> None:
    full, small = Baseline(resolution=16), Baseline(width=0.5, resolution=12)
    requested = [small.model_dump(), full.model_dump(), small.model_dump()]
    assert budget.baselines(changed(spec, baselines=requested)) == (small, full)
    assert budget.baselines(changed(spec, baselines=requested, goal="boost")) == (full, small)
    assert budget.baselines(changed(spec, goal="boost", widths=Widths(min=0.9, max=1.1).model_dump())) == (
        Baseline(width=1.1, resolution=16),
    )
