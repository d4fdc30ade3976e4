"""Train, and baselines beside it; then sweep or measure the boosted network."""

from __future__ import annotations

from typing import Any

import pytest

from search.methods.method import Plan, TrialArtifact, TrialRecord, TrialState
from search.methods.mutualnet.plan import plan
from search.spec import Constraint, Limits, ResolvedSpec


def record(number: int, state: TrialState, params: dict[str, Any]) -> TrialRecord:
    return TrialRecord(number=number, state=state, params=params)


def test_trains_then_sweeps_what_was_trained(spec: ResolvedSpec) -> None:
    first = plan(spec, [])
    assert [trial.params for trial in first.trials] == [{"stage": "train"}]
    assert not first.done
    assert plan(spec, [record(0, "queued", {"stage": "train"})]) == Plan()
    assert plan(spec, [record(0, "running", {"stage": "train"})]) == Plan()
    second = plan(spec, [record(0, "completed", {"stage": "train"})])
    assert [trial.params for trial in second.trials] == [{"stage": "sweep"}]
    assert second.trials[0].inputs == {"supernet": TrialArtifact(trial=0, artifact="supernet")}
    assert second.done


@pytest.mark.parametrize("state", ["failed", "cancelled", "pruned", "infeasible"])
def test_nothing_follows_a_training_that_gave_no_network(spec: ResolvedSpec, state: TrialState) -> None:
    assert plan(spec, [record(0, state, {"stage": "train"})]) == Plan(done=True)


@pytest.mark.parametrize("state", ["queued", "running", "completed", "failed", "cancelled"])
def test_nothing_follows_the_sweep(spec: ResolvedSpec, state: TrialState) -> None:
    history = [record(0, "completed", {"stage": "train"}), record(1, state, {"stage": "sweep"})]
    assert plan(spec, history) == Plan(done=True)


def test_trains_nothing_when_no_network_could_be_used(spec: ResolvedSpec) -> None:
    impossible = spec.model_copy(update={"constraints": (Constraint(metric="macs", value=1),)})
    assert plan(impossible, []) == Plan(done=True)


def with_baselines(spec: ResolvedSpec, *, limits: Limits | None = None, **method: Any) -> ResolvedSpec:
    fields = {"baselines": [{"width": 0.5, "resolution": 12}, {"resolution": 16}], **method}
    changed = type(spec.method)(**spec.method.model_dump() | fields)
    return spec.model_copy(update={"method": changed, "limits": limits or Limits()})


def baseline(width: float, resolution: int, epochs: int = 2) -> dict[str, Any]:
    return {"stage": "baseline", "width": width, "resolution": resolution, "epochs": epochs}


TRAIN, SWEEP, SMALL, FULL = {"stage": "train"}, {"stage": "sweep"}, baseline(0.5, 12), baseline(1.0, 16)


def test_baselines_are_trained_beside_the_shared_network(spec: ResolvedSpec) -> None:
    spec = with_baselines(spec)
    first = plan(spec, [])
    assert [trial.params for trial in first.trials] == [TRAIN, SMALL, FULL]
    running = [record(0, "running", TRAIN), record(1, "failed", SMALL), record(2, "queued", FULL)]
    assert plan(spec, running) == Plan()
    second = plan(spec, [record(0, "completed", TRAIN), *running[1:]])
    assert [trial.params for trial in second.trials] == [SWEEP]
    assert second.done


def test_baselines_that_found_no_room_come_later_and_the_sweep_before_them(spec: ResolvedSpec) -> None:
    spec = with_baselines(spec)
    assert [t.params for t in plan(spec, [record(0, "running", TRAIN)]).trials] == [SMALL, FULL]
    last = plan(spec, [record(0, "completed", TRAIN), record(1, "completed", SMALL)])
    assert [trial.params for trial in last.trials] == [SWEEP, FULL]
    after = plan(spec, [record(0, "completed", TRAIN), record(1, "queued", SWEEP)])
    assert [trial.params for trial in after.trials] == [SMALL, FULL]
    assert after.done
    assert plan(spec, [record(0, "failed", TRAIN)]) == Plan(done=True)


def test_limits_leave_the_search_its_own_trials_and_share_out_epochs(spec: ResolvedSpec) -> None:
    two = with_baselines(spec, limits=Limits(max_trials=2))
    assert [trial.params for trial in plan(two, []).trials] == [TRAIN]
    three = with_baselines(spec, limits=Limits(max_trials=3, max_epochs=3))
    assert [trial.params for trial in plan(three, []).trials] == [TRAIN, baseline(0.5, 12, epochs=1)]


def test_boost_trains_the_full_network_alone_and_compares(spec: ResolvedSpec) -> None:
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
def test_boost_without_its_baseline_gives_the_network_without_a_gain(spec: ResolvedSpec, state: TrialState) -> None:
    spec = with_baselines(spec, goal="boost", baselines=[])
    last = plan(spec, [record(0, "completed", TRAIN), record(1, state, FULL)])
    assert last.trials[0].inputs.keys() == {"supernet"}
    alone = with_baselines(spec, goal="boost", limits=Limits(max_trials=2))
    assert plan(alone, [record(0, "completed", TRAIN)]).trials[0].inputs.keys() == {"supernet"}
