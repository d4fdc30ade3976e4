"""The plan of the method of the chaos run."""

from __future__ import annotations

from collections.abc import Sequence

from paretofit.search.contracts.plan import NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from tests.chaos.method.params import WitnessedParams


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Plan `trials` trials, then one with the weights of the first as its input."""
    first = spec.params(WitnessedParams).trials
    if len(history) < first:
        return Plan(trials=tuple(NewTrial(params={"index": index}) for index in range(len(history), first)))
    if any(record.state in {"queued", "running"} for record in history):
        return Plan()
    if len(history) > first or history[0].state != "completed":
        return Plan(done=True)
    inputs = {"before": TrialArtifact(trial=0, artifact="weights")}
    return Plan(trials=(NewTrial(params={"index": first}, inputs=inputs),), done=True)
