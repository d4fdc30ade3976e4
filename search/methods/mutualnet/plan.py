"""What a search does: train one network, and baselines beside it; then sweep it, or with goal boost measure its full
network against the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from search.methods.method import NewTrial, Plan, TrialArtifact, TrialRecord
from search.methods.mutualnet import budget
from search.spec import ResolvedSpec

SUPERNET: Final = "supernet"
BASELINE: Final = "baseline"
BASELINE_FILE: Final = "baseline.safetensors"
"""Artifact of a baseline's trial, the input `BASELINE` of the boosted network's."""
TRAIN: Final = NewTrial(params={"stage": "train"})
SWEEP: Final = NewTrial(params={"stage": "sweep"}, inputs={SUPERNET: TrialArtifact(trial=0, artifact=SUPERNET)})
_LAST: Final = ("sweep", "boost")


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Trial 0 trains the shared network, others beside it the baselines, the last measures what trial 0 trained; nothing
    follows a training that gave no network."""
    if not history:
        return Plan(trials=(TRAIN, *_baselines(spec))) if spec.feasible() else Plan(done=True)
    made = [record.params for record in history]
    baselines = tuple(new for new in _baselines(spec) if new.params not in made)
    if any(params.get("stage") in _LAST for params in made):
        return Plan(trials=baselines, done=True)
    match history[0].state:
        case "queued" | "running":
            return Plan(trials=baselines)
        case "completed":
            last = SWEEP if spec.method.goal == "front" else _boost(history, wanted=_baselines(spec)[:1])
            return Plan(trials=baselines) if last is None else Plan(trials=(last, *baselines), done=True)
        case _:
            return Plan(done=True)


def _boost(history: Sequence[TrialRecord], wanted: Sequence[NewTrial]) -> NewTrial | None:
    """The trial that measures the full network; None while the baseline it is compared with is to come."""
    inputs = {SUPERNET: TrialArtifact(trial=0, artifact=SUPERNET)}
    for baseline in wanted:
        record = next((record for record in history if record.params == baseline.params), None)
        if record is None or record.state in ("queued", "running"):
            return None
        if record.state == "completed":
            inputs[BASELINE] = TrialArtifact(trial=record.number, artifact=BASELINE_FILE)
    return NewTrial(params={"stage": "boost"}, inputs=inputs)


def _baselines(spec: ResolvedSpec) -> list[NewTrial]:
    """As many as `max_trials` leaves room for beside the two trials that a search is made of."""
    epochs = budget.epochs(spec, spec.limits.max_epochs)
    trials = [
        NewTrial(params={"stage": "baseline", "width": b.width, "resolution": b.resolution, "epochs": epochs.each})
        for b in budget.baselines(spec)[: epochs.baselines]
    ]
    most = spec.limits.max_trials
    return trials if most is None else trials[: max(0, most - 2)]
