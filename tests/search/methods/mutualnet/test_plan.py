"""Train, then sweep."""

from __future__ import annotations

from typing import Any

import pytest

from search.methods.method import Plan, TrialArtifact, TrialRecord, TrialState
from search.methods.mutualnet.plan import plan
from search.spec import Constraint, ResolvedSpec


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
