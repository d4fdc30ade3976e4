"""Order of training, baselines, and the sweep or the boosted network."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.search.contracts.plan import Plan, TrialArtifact, TrialRecord, TrialState
from paretofit.search.contracts.spec import Constraint, Limits, ResolvedSpec
from paretofit.search.methods.mutualnet.plan import plan

TRAIN: dict[str, Any] = {"stage": "train", "epochs": 2}


def record(number: int, state: TrialState, params: dict[str, Any], trained: float | None = None) -> TrialRecord:
    """A trial record; a completed trial reports `trained` epochs, by default the planned ones."""
    epochs = params.get("epochs", 0) if trained is None else trained
    outputs = {"epochs": float(epochs)} if state == "completed" else None
    return TrialRecord(number=number, state=state, params=params, outputs=outputs)


def test_trains_then_sweeps_the_trained_network(spec: ResolvedSpec) -> None:
    first = plan(spec, [])
    assert [trial.params for trial in first.trials] == [TRAIN]
    assert not first.done
    assert plan(spec, [record(0, "queued", TRAIN)]) == Plan()
    assert plan(spec, [record(0, "running", TRAIN)]) == Plan()
    second = plan(spec, [record(0, "completed", TRAIN)])
    assert [trial.params for trial in second.trials] == [{"stage": "sweep"}]
    assert second.trials[0].inputs == {"supernet": TrialArtifact(trial=0, artifact="supernet")}
    assert second.done


@pytest.mark.parametrize("state", ["failed", "cancelled", "pruned", "infeasible"])
def test_search_ends_after_an_unsuccessful_training(spec: ResolvedSpec, state: TrialState) -> None:
    assert plan(spec, [record(0, state, TRAIN)]) == Plan(done=True)


@pytest.mark.parametrize("state", ["queued", "running", "completed", "failed", "cancelled"])
def test_search_ends_after_the_sweep(spec: ResolvedSpec, state: TrialState) -> None:
    history = [record(0, "completed", TRAIN), record(1, state, {"stage": "sweep"})]
    assert plan(spec, history) == Plan(done=True)


def test_infeasible_search_plans_no_trials(spec: ResolvedSpec) -> None:
    impossible = spec.model_copy(update={"constraints": (Constraint(metric="macs", value=1),)})
    assert plan(impossible, []) == Plan(done=True)


def with_baselines(spec: ResolvedSpec, *, limits: Limits | None = None, **method: Any) -> ResolvedSpec:
    fields = {"baselines": [{"width": 0.5, "resolution": 12}, {"resolution": 16}], **method}
    changed = type(spec.method)(**spec.method.model_dump() | fields)
    return spec.model_copy(update={"method": changed, "limits": limits or Limits()})


def baseline(width: float, resolution: int, epochs: int = 2) -> dict[str, Any]:
    return {"stage": "baseline", "width": width, "resolution": resolution, "epochs": epochs}


SWEEP, SMALL, FULL = {"stage": "sweep"}, baseline(0.5, 12), baseline(1.0, 16)


def test_baselines_are_planned_after_the_sweep(spec: ResolvedSpec) -> None:
    spec = with_baselines(spec)
    assert [trial.params for trial in plan(spec, []).trials] == [TRAIN]
    assert plan(spec, [record(0, "running", TRAIN)]) == Plan()
    last = plan(spec, [record(0, "completed", TRAIN)])
    assert [trial.params for trial in last.trials] == [SWEEP, SMALL, FULL]
    assert last.done
    assert plan(spec, [record(0, "failed", TRAIN)]) == Plan(done=True)


def test_missing_baselines_are_planned_later(spec: ResolvedSpec) -> None:
    spec = with_baselines(spec)
    history = [record(0, "completed", TRAIN), record(1, "queued", SWEEP), record(2, "failed", SMALL)]
    after = plan(spec, history)
    assert [trial.params for trial in after.trials] == [FULL]
    assert after.done
    assert plan(spec, [*history, record(3, "queued", FULL)]) == Plan(done=True)


def test_limits_reserve_required_trials_and_distribute_epochs(spec: ResolvedSpec) -> None:
    history = [record(0, "completed", TRAIN)]
    two = with_baselines(spec, limits=Limits(max_trials=2, max_epochs=2))
    assert [trial.params for trial in plan(two, []).trials] == [TRAIN]
    assert [trial.params for trial in plan(two, history).trials] == [SWEEP]
    three = with_baselines(spec, limits=Limits(max_trials=3, max_epochs=3))
    [train] = plan(three, []).trials
    assert train.params == TRAIN | {"epochs": 1}
    history = [record(0, "completed", train.params)]
    assert [trial.params for trial in plan(three, history).trials] == [SWEEP, baseline(0.5, 12, epochs=1)]


def test_baselines_added_later_get_the_remaining_epochs(spec: ResolvedSpec) -> None:
    history = [record(0, "completed", TRAIN)]
    more = with_baselines(spec, limits=Limits(max_epochs=4))
    planned = [trial.params for trial in plan(more, history).trials]
    assert planned == [SWEEP, baseline(0.5, 12, epochs=1), baseline(1.0, 16, epochs=1)]
    none = with_baselines(spec, limits=Limits(max_epochs=3))
    assert [trial.params for trial in plan(none, history).trials] == [SWEEP]


def test_boost_trains_the_full_network_as_baseline_and_compares(spec: ResolvedSpec) -> None:
    spec = with_baselines(spec, goal="boost", baselines=[])
    assert [trial.params for trial in plan(spec, []).trials] == [TRAIN, FULL]
    assert plan(spec, [record(0, "completed", TRAIN), record(1, "running", FULL)]) == Plan()
    last = plan(spec, [record(0, "completed", TRAIN), record(1, "completed", FULL)])
    assert last.done
    assert [trial.params for trial in last.trials] == [{"stage": "boost"}]
    assert last.trials[0].inputs == {
        "supernet": TrialArtifact(trial=0, artifact="supernet"),
        "baseline": TrialArtifact(trial=1, artifact="baseline.safetensors"),
    }
    history = [record(0, "completed", TRAIN), record(1, "completed", FULL), record(2, "queued", {"stage": "boost"})]
    assert plan(spec, history) == Plan(done=True)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_boost_without_baseline_reports_no_gain(spec: ResolvedSpec, state: TrialState) -> None:
    spec = with_baselines(spec, goal="boost", baselines=[])
    last = plan(spec, [record(0, "completed", TRAIN), record(1, state, FULL)])
    assert last.trials[0].inputs.keys() == {"supernet"}
    limited = with_baselines(spec, goal="boost", limits=Limits(max_trials=2))
    assert plan(limited, [record(0, "completed", TRAIN)]).trials[0].inputs.keys() == {"supernet"}


@pytest.mark.parametrize(("shared_epochs", "baseline_epochs"), [(2, 0.0), (2, 1.5), (1.9, 2)])
def test_boost_is_not_compared_after_unequal_training(
    spec: ResolvedSpec, shared_epochs: float, baseline_epochs: float
) -> None:
    spec = with_baselines(spec, goal="boost", baselines=[])
    history = [record(0, "completed", TRAIN, shared_epochs), record(1, "completed", FULL, baseline_epochs)]
    assert plan(spec, history).trials[0].inputs.keys() == {"supernet"}


def test_boost_plans_other_baselines_last(spec: ResolvedSpec) -> None:
    spec = with_baselines(spec, goal="boost")
    assert [trial.params for trial in plan(spec, []).trials] == [TRAIN, FULL]
    last = plan(spec, [record(0, "completed", TRAIN), record(1, "completed", FULL)])
    assert [trial.params for trial in last.trials] == [{"stage": "boost"}, SMALL]


@pytest.mark.parametrize(("limits", "reason"), [({"max_trials": 3}, "max_trials"), ({"max_epochs": 2}, "max_epochs")])
def test_limit_that_drops_baselines_is_the_stop_reason(spec: ResolvedSpec, limits: dict[str, int], reason: str) -> None:
    limited = with_baselines(spec, limits=Limits(**limits))
    params = plan(limited, []).trials[0].params
    assert plan(limited, [record(0, "completed", params)]).stop_reason == reason
    assert plan(with_baselines(spec), [record(0, "completed", TRAIN)]).stop_reason is None
