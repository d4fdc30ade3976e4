"""Plan of the `steps` method."""

from __future__ import annotations

from collections.abc import Sequence

from paretofit.search.contracts.plan import NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from tests.methods.steps.params import StepsParams


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Plan `trials` trials, then one that takes the artifact of the first."""
    method = spec.params(StepsParams)
    if method.fault == "plan":
        raise ZeroDivisionError("this plan always fails")
    if len(history) < method.trials:
        left = range(len(history), method.trials)
        return Plan(trials=tuple(NewTrial(params={"index": index}) for index in left), done=not method.then)
    if not method.then or len(history) > method.trials:
        return Plan(done=True)
    if any(record.state in {"queued", "running"} for record in history):
        return Plan()
    if history[0].state != "completed":
        return Plan(done=True)
    inputs = {"before": TrialArtifact(trial=0, artifact="count")}
    return Plan(trials=(NewTrial(params={"index": len(history)}, inputs=inputs),), done=True)
