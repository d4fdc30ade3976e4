"""Order of trials, and distribution of epochs and seconds under constraints."""

from __future__ import annotations

import math
from typing import Any

import pytest

from paretofit.search.contracts.plan import NewTrial, TrialRecord, TrialState
from paretofit.search.contracts.spec import RESERVE, ResolvedSpec, SearchSpec
from paretofit.search.methods.scalenet import budget
from paretofit.search.methods.scalenet.plan import ALLOCATE, SEED, plan
from tests.search.methods.scalenet.test_params import DATASET

NETWORKS = [{"allocation": "learned", "budget": b, "structure": "1-2-3-4"} for b in (1e7, 2e7, 3e7)]


def spec(method: dict[str, Any] | None = None, **more: Any) -> ResolvedSpec:
    params = {"kind": "scalenet", "budgets": [1e7, 2e7, 3e7], "epochs": 10} | (method or {})
    return SearchSpec.model_validate({"name": "x", "dataset_id": "d", "method": params, **more}).resolve(DATASET)


def record(number: int, new: NewTrial, state: TrialState = "completed", **outputs: Any) -> TrialRecord:
    return TrialRecord(number=number, state=state, params=new.params, outputs=outputs or None)


def test_seed_then_allocation_then_all_networks_in_parallel() -> None:
    assert plan(spec(), []).trials == (SEED,)
    assert plan(spec(), [record(0, SEED, "running")]).trials == ()
    assert plan(spec(), [record(0, SEED)]).trials == (ALLOCATE,)
    history = [record(0, SEED), record(1, ALLOCATE, networks=NETWORKS)]
    planned = plan(spec(), history)
    assert planned.done
    assert [new.params for new in planned.trials] == [
        {"stage": "network", "epochs": 10, "config": each} for each in NETWORKS
    ]
    # If only some were started, the others follow.
    left = plan(spec(), [*history, record(2, planned.trials[1], "running")])
    assert left.trials == (planned.trials[0], planned.trials[2])


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_search_ends_after_an_unsuccessful_seed_or_allocation(state: TrialState) -> None:
    for history in ([record(0, SEED, state)], [record(0, SEED), record(1, ALLOCATE, state)]):
        planned = plan(spec(), history)
        assert (planned.trials, planned.done) == ((), True)


@pytest.mark.parametrize(
    ("method", "most", "expected"),
    [
        ({}, None, budget.Epochs(10, 10, 3)),
        ({"seed_epochs": 4}, 34, budget.Epochs(4, 10, 3)),
        ({}, 20, budget.Epochs(5, 5, 3)),
        ({"baselines": ["even", "single"]}, 11, budget.Epochs(2, 1, 9)),
        ({}, 3, budget.Epochs(1, 1, 2)),
        ({}, 1, budget.Epochs(1, 0, 0)),
    ],
)
def test_epochs_are_distributed_in_proportion(
    method: dict[str, Any], most: int | None, expected: budget.Epochs
) -> None:
    epochs = budget.epochs(spec(method), most)
    assert epochs == expected
    assert most is None or epochs.total <= most


def test_number_of_networks_is_limited_by_epochs() -> None:
    limited = spec(limits={"max_epochs": 3})
    planned = plan(limited, [record(0, SEED), record(1, ALLOCATE, networks=NETWORKS)])
    assert [new.params["config"]["budget"] for new in planned.trials] == [1e7, 2e7]


def test_seconds_are_distributed_like_epochs() -> None:
    assert budget.seconds(spec(), 10) == math.inf
    sequential = spec(limits={"max_wall_seconds": 400, "max_device_seconds": 800})
    assert budget.seconds(sequential, 10) == pytest.approx((1 - RESERVE) * 100)
    parallel = spec(limits={"max_wall_seconds": 400, "max_parallel_trials": 3})
    assert budget.seconds(parallel, 10) == pytest.approx((1 - RESERVE) * 200)


def test_constraint_replaces_larger_budgets() -> None:
    bound = spec(constraints=[{"metric": "macs", "value": 1.5e7}, {"metric": "params", "value": 1e5}])
    assert budget.targets(bound) == (1e7, 1.5e7)
    assert budget.bounds(bound, 1e7) == {"macs": 1e7, "params": 1e5}
    assert budget.bounds(bound, 1.5e7) == {"macs": 1.5e7, "params": 1e5}
