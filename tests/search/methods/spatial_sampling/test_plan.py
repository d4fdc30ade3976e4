"""Proposed densities, following trials, and distribution of epochs under constraints."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.models.kinds.sampling import densities
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.plan import TrialRecord, TrialState
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.methods.spatial_sampling import budget
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams, from_line, to_line
from paretofit.search.methods.spatial_sampling.plan import plan

DATASET = DatasetProfile(
    classes=tuple("abcdefghij"),
    channels=1,
    image_size=(28, 28),
    images={"train": 1000, "selection": 100, "report": 100},
    mean=(0.5,),
    std=(0.25,),
    fingerprint="f",
)


def spec(method: dict[str, Any] | None = None, **more: Any) -> ResolvedSpec:
    params = {"kind": "spatial_sampling", "trials": 6, "parallel_trials": 2, "epochs": 10} | (method or {})
    return SearchSpec.model_validate({"name": "x", "dataset_id": "d", "method": params, **more}).resolve(DATASET)


def histories(search: ResolvedSpec, state: TrialState = "completed") -> list[TrialRecord]:
    """History of a whole search whose trials run in sequence: sparser networks are less accurate."""
    history: list[TrialRecord] = []
    while True:
        planned = plan(search, history)
        for new in planned.trials:
            config = new.params["config"]
            value = config.get("density", config.get("gamma", 0.5))
            metrics = {"selection_top1": 0.5 + value / 4, "macs": 1e6 * value}
            points = () if "baseline" in config or state != "completed" else (metrics,)
            record = TrialRecord(number=len(history), state=state, params=new.params, outputs={}, points=points)
            history.append(record)
        if planned.done:
            return history


def test_densities_start_evenly_spaced_then_follow_results() -> None:
    search = spec()
    first = plan(search, [])
    assert [new.params["config"] for new in first.trials] == [{"density": 0.7}, {"density": 0.533}]
    assert not first.done
    chosen = [record.params["config"]["density"] for record in histories(search)]
    assert chosen[:4] == [0.7, 0.533, 0.367, 0.2]
    assert len(chosen) == 6
    assert all(0.2 <= value <= 0.7 for value in chosen)
    assert chosen == [record.params["config"]["density"] for record in histories(search)]


def test_sparsity_weights_are_spaced_logarithmically() -> None:
    chosen = [record.params["config"]["gamma"] for record in histories(spec({"loss": "gamma", "gammas": [0.02, 0.2]}))]
    assert chosen[:4] == [0.02, 0.0431, 0.0928, 0.2]
    assert all(0.02 <= value <= 0.2 for value in chosen)


@pytest.mark.parametrize(
    ("axis", "low", "high", "expected"),
    [
        ("density", 0.4, 0.4, {0.4}),
        ("density", 0.4, 0.403, {0.4, 0.401, 0.402, 0.403}),
        ("gamma", 0.0998, 0.101, {0.0998, 0.0999, 0.1, 0.101}),
    ],
)
def test_values_are_trained_only_once(axis: str, low: float, high: float, expected: set[float]) -> None:
    ranges = {"density": "densities", "gamma": "gammas"}
    search = spec({"loss": axis, ranges[axis]: [low, high], "trials": 8})
    chosen = [record.params["config"][axis] for record in histories(search)]
    assert set(chosen) == expected
    assert len(chosen) == len(expected)
    assert len(histories(search)) == budget.trainings(search)
    # Parallel trials do not choose duplicates either.
    at_once = spec({"loss": axis, ranges[axis]: [low, high], "trials": 8, "parallel_trials": 8})
    assert len(plan(at_once, []).trials) == len(expected)


def test_baselines_are_planned_once_at_the_end() -> None:
    search = spec({"baselines": ["uniform", "deterministic", "gated"], "trials": 2})
    history = histories(search)
    configs = [record.params["config"] for record in history[2:]]
    assert [config["baseline"] for config in configs] == ["uniform"] * 2 + ["deterministic"] * 2 + ["gated"] * 2
    assert [config.get("density") for config in configs[2:]] == [0.7, 0.2, 0.7, 0.2]
    params = search.params(SpatialSamplingParams)
    for config, density in zip(configs[:2], (0.7, 0.2), strict=True):
        candidate = params.candidate(DATASET, config)
        larger = params.candidate(DATASET, {**config, "side": config["side"] + 1})
        assert candidate.cost["macs"] <= params.cost(DATASET, density)["macs"] < larger.cost["macs"]
    assert plan(search, history).trials == ()
    sides = [c["side"] for c in budget.baselines(spec({"baselines": ["uniform"], "loss": "gamma"}))]
    assert sides == sorted(sides, reverse=True)


def test_epochs_are_distributed_over_trials() -> None:
    assert budget.epochs(spec()) == 10
    search = spec({"trials": 2, "baselines": ["deterministic"]}, limits={"max_epochs": 8})
    assert budget.epochs(search) == 2
    assert [record.params["epochs"] for record in histories(search)] == [2] * 4
    short = spec({"trials": 4, "baselines": ["deterministic"]}, limits={"max_epochs": 3})
    assert [record.params["epochs"] for record in histories(short)] == [1] * 3


def test_constraint_limits_the_density_range() -> None:
    bound = spec().params(SpatialSamplingParams).cost(DATASET, 0.5)["macs"]
    search = spec(constraints=[{"metric": "macs", "value": bound}])
    name, low, high = budget.axis(search)
    assert (name, low) == ("density", 0.2)
    assert high == pytest.approx(0.5, abs=1e-3)
    impossible = spec(constraints=[{"metric": "macs", "value": 1}])
    assert plan(impossible, []).done
    assert plan(impossible, []).trials == ()


def test_densities_are_scaled_to_meet_the_bound() -> None:
    free = spec()
    config: dict[str, Any] = {"density": 0.7, "draw": "budget", "mask_seed": 0}
    learned = [0.81239, 0.43218] * 6
    assert budget.fitting(free, config, learned) == [0.8123, 0.4321] * 6
    bound = free.params(SpatialSamplingParams).cost(DATASET, 0.3)["macs"]
    bounded = spec(constraints=[{"metric": "macs", "value": bound}])
    fits = budget.fitting(bounded, config, learned)
    assert fits is not None
    cost = free.method.candidate(DATASET, {**config, "mask_densities": to_line(fits)}).cost["macs"]
    assert 0.97 * bound <= cost <= bound
    assert fits[0] / fits[1] == pytest.approx(learned[0] / learned[1], rel=1e-3)
    assert budget.fitting(spec(constraints=[{"metric": "macs", "value": 1}]), config, learned) is None


def test_configuration_defines_a_network() -> None:
    params = spec().params(SpatialSamplingParams)
    line = to_line([0.25, 0.5] * 6)
    assert from_line(line) == (0.25, 0.5) * 6
    config: dict[str, Any] = {"gamma": 0.02, "draw": "budget", "mask_seed": 3, "mask_densities": line}
    assert densities(params.network(DATASET, config)) == (0.25, 0.5) * 6
    assert params.candidate(DATASET, config).key == "gamma-0.02"
    assert params.candidate(DATASET, {**config, "share": 0.5}).key == "gamma-0.02-budget-0.5"
    # Before learning, all masks share one density.
    assert densities(params.network(DATASET, {"density": 0.5})) == (0.5,) * 12


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"family": "mobilenet_v1"}, "family: mobilenet_v1 has no residual blocks"),
        ({"densities": [0.7, 0.2]}, "the range must be ascending, not 0.7 to 0.2"),
        ({"densities": [0.2, 1.5]}, "less than or equal to 1"),
        # Below float resolution the search for the next distinct value would not terminate.
        ({"densities": [1e-322, 0.5]}, "greater than or equal to 0.001"),
        ({"loss": "gamma", "gammas": [1e-322, 0.5]}, "greater than or equal to 0.000001"),
        ({"draw": "gated"}, "stochastic"),
        ({"baselines": ["resize"]}, "uniform"),
        ({"shares": [1.0]}, "less than 1"),
    ],
)
def test_invalid_parameters_are_rejected(method: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(method)


def test_candidates_span_the_cost_range() -> None:
    costs = {candidate.key: candidate.cost["macs"] for candidate in spec().candidates()}
    assert list(costs) == ["least", "density-0.2", "density-0.7", "all"]
    assert list(costs.values()) == sorted(costs.values())
    assert [candidate.key for candidate in spec({"loss": "gamma"}).candidates()] == ["least", "all"]
