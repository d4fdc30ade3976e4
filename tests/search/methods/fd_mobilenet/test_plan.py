"""Selection and order of trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paretofit.search.contracts.plan import TrialRecord, TrialState
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.fd_mobilenet.plan import plan
from tests.search.methods.fd_mobilenet.conftest import resolved


def key(spec: ResolvedSpec, record: TrialRecord) -> str:
    return spec.candidate(record.params["config"]).key


def run_search(
    spec: ResolvedSpec, ends: TrialState = "completed", *, top1: float | None = None, at_once: int = 1
) -> list[TrialRecord]:
    """History of a search whose trials end in order, `at_once` at a time. Accuracy grows with the MACs unless `top1` is
    set."""
    history: list[TrialRecord] = []
    while True:
        planned = plan(spec, history)
        for new in planned.trials:
            history.append(TrialRecord(number=len(history), state="queued", params=new.params))
        under_way = [record for record in history if record.state == "queued"]
        if not under_way:
            assert planned.done
            return history
        for record in under_way[:at_once]:
            cost = spec.candidate(record.params["config"]).cost
            metrics = {**cost, "selection_top1": cost["macs"] / 1e7 if top1 is None else top1}
            points = (metrics,) if ends == "completed" else ()
            history[record.number] = record.model_copy(update={"state": ends, "outputs": {}, "points": points})


def test_parallel_trials_are_limited_until_all_are_planned(spec: ResolvedSpec) -> None:
    first = plan(spec, [])
    assert len(first.trials) == 2
    assert not first.done
    history = run_search(spec)
    assert len(history) == 6
    assert len({key(spec, record) for record in history}) == 6
    assert {record.params["epochs"] for record in history} == {2}


def test_first_trials_are_spread_over_the_costs(stripes: Path) -> None:
    spec = resolved(stripes, method={"trials": 3})
    macs = [spec.candidate(record.params["config"]).cost["macs"] for record in run_search(spec)]
    costs = sorted(candidate.cost["macs"] for candidate in spec.candidates())
    assert macs[0] == costs[0]
    assert macs[-1] == costs[-1]


def test_trial_and_epoch_limits_are_used_completely(stripes: Path) -> None:
    spec = resolved(stripes, method={"trials": 100}, limits={"max_trials": 3})
    macs = [spec.candidate(record.params["config"]).cost["macs"] for record in run_search(spec)]
    costs = sorted(candidate.cost["macs"] for candidate in spec.candidates())
    assert (len(macs), macs[0], macs[-1]) == (3, costs[0], costs[-1])
    few = resolved(stripes, method={"trials": 100, "epochs": 20}, limits={"max_epochs": 84})
    assert sum(record.params["epochs"] for record in run_search(few)) == 84
    assert few.method.planned_epochs(few.dataset) == 8 * 20


def test_search_ends_after_all_networks_are_trained(stripes: Path) -> None:
    assert len(run_search(resolved(stripes, method={"trials": 100}))) == 8


@pytest.mark.parametrize("state", ["completed", "pruned", "failed", "cancelled"])
def test_infeasible_networks_are_never_trained(stripes: Path, state: TrialState) -> None:
    wide = {"widths": [0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0], "trials": 30}
    free = resolved(stripes, method=wide)
    macs = sorted(candidate.cost["macs"] for candidate in free.candidates())[len(free.candidates()) // 3]
    spec = resolved(stripes, method=wide, constraints=[{"metric": "macs", "value": macs}])
    history = run_search(spec, state)
    assert len(history) == len(spec.feasible())
    assert all(spec.candidate(record.params["config"]).cost["macs"] <= macs for record in history)


def test_infeasible_search_plans_no_trials(stripes: Path) -> None:
    planned = plan(resolved(stripes, constraints=[{"metric": "macs", "value": 1}]), [])
    assert (planned.trials, planned.done) == ((), True)


def test_estimator_prefers_promising_networks(stripes: Path) -> None:
    """With equal accuracy everywhere the cheap networks form the front, so they are planned first."""
    method = {"widths": [0.05 * i for i in range(1, 21)], "trials": 24, "families": ["fd_mobilenet"]}
    spec = resolved(stripes, method=method)
    macs = sorted(candidate.cost["macs"] for candidate in spec.candidates())
    history = run_search(spec, top1=0.5)
    late = [spec.candidate(record.params["config"]).cost["macs"] for record in history[8:]]
    cheap = sum(value <= macs[len(macs) // 2] for value in late)
    assert cheap >= 0.75 * len(late)


def test_tuned_recipe_parameters_are_searched(stripes: Path) -> None:
    ranges = {"learning_rate": [0.01, 0.5], "label_smoothing": [0.0, 0.2]}
    method = {"tuning": ranges, "trials": 20, "widths": [0.25], "resolutions": [16]}
    history = run_search(resolved(stripes, method=method))
    assert len(history) == 20
    recipes = [record.params["recipe"] for record in history]
    assert len({recipe["learning_rate"] for recipe in recipes}) == 20
    assert all(low <= recipe[name] <= high for recipe in recipes for name, (low, high) in ranges.items())


@pytest.mark.parametrize(
    ("most", "epochs"), [(None, [2] * 6), (100, [2] * 6), (8, [2, 2, 1, 1, 1, 1]), (4, [1] * 4), (1, [1])]
)
def test_epoch_limit_is_distributed_over_trials(stripes: Path, most: int | None, epochs: list[int]) -> None:
    limits = {} if most is None else {"max_epochs": most}
    history = run_search(resolved(stripes, limits=limits))
    assert [record.params["epochs"] for record in history] == epochs


def test_trial_gets_rivals_that_do_not_cost_more(stripes: Path) -> None:
    spec = resolved(stripes, method={"trials": 8, "parallel_trials": 8})
    *_, dear, dearest = sorted(spec.candidates(), key=lambda candidate: candidate.cost["macs"])
    compared = [{"fraction": fraction, "top1": 0.5, "hits": "f0"} for fraction in (0.25, 0.5)]

    def record(number: int, config: dict[str, Any]) -> TrialRecord:
        params = {"config": config, "recipe": {}, "epochs": 2, "rivals": []}
        return TrialRecord(number=number, state="pruned", params=params, outputs={"compared": compared})

    history = [record(0, dear.config)]
    rivals_by_key = {
        spec.candidate(new.params["config"]).key: new.params["rivals"] for new in plan(spec, history).trials
    }
    assert rivals_by_key[dearest.key] == [{"trial": 0, **each} for each in compared]
    assert [name for name, rivals in rivals_by_key.items() if rivals] == [dearest.key]
