"""What a MutualNet search does: train one network, then sweep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from search.methods.method import NewTrial, Plan, TrialArtifact, TrialRecord
from search.spec import ResolvedSpec

SUPERNET: Final = "supernet"
TRAIN: Final = NewTrial(params={"stage": "train"})
SWEEP: Final = NewTrial(params={"stage": "sweep"}, inputs={SUPERNET: TrialArtifact(trial=0, artifact=SUPERNET)})


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Trial 0 trains, trial 1 sweeps what it trained; nothing follows a training that gave no network."""
    if not history:
        return Plan(trials=(TRAIN,)) if spec.feasible() else Plan(done=True)
    if len(history) > 1:
        return Plan(done=True)
    match history[0].state:
        case "queued" | "running":
            return Plan()
        case "completed":
            return Plan(trials=(SWEEP,), done=True)
        case _:
            return Plan(done=True)
