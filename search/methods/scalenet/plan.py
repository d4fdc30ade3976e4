"""Plan of the search: train the seed network, allocate its channels for every budget, and train the resulting networks
in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from paretofit.search.contracts.plan import NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.latency.stage import INPUT, LATENCY_FILE
from paretofit.search.methods.scalenet import budget

SEED_NETWORK: Final = "seed"
"""Artifact of the first trial, input of the second."""
SEED: Final = NewTrial(params={"stage": "seed"})
ALLOCATE: Final = NewTrial(
    params={"stage": "allocate"}, inputs={SEED_NETWORK: TrialArtifact(trial=0, artifact=SEED_NETWORK)}
)
"""Input of the allocation, on the device where structures are measured if the search names one."""
LEARNED: Final = f"{INPUT}learned"
"""Input of a network's trial: the latencies that the allocation measured."""


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Trial 0 trains the seed network, trial 1 allocates, the others train the networks in its outputs. Nothing follows
    if one of the first two fails."""
    if not spec.feasible():
        return Plan(done=True)
    measuring = next(iter(spec.devices), None)
    for number, new in enumerate((SEED, ALLOCATE.model_copy(update={"device": measuring}))):
        if len(history) == number:
            return Plan(trials=(new,))
        if history[number].state in ("queued", "running"):
            return Plan()
        if history[number].state != "completed":
            return Plan(done=True)
    made = [record.params for record in history]
    return Plan(
        trials=tuple(new for new in _networks(spec, history[1].outputs or {}) if new.params not in made), done=True
    )


def _networks(spec: ResolvedSpec, outputs: dict[str, Any]) -> list[NewTrial]:
    """A trial for each allocated network, as far as epochs remain."""
    epochs = budget.epochs(spec, spec.limits.max_epochs)
    allocated = outputs.get("networks", [])[: epochs.networks]
    inputs = {LEARNED: TrialArtifact(trial=1, artifact=LATENCY_FILE)} if spec.devices else {}
    return [
        NewTrial(params={"stage": "network", "epochs": epochs.each, "config": config}, inputs=inputs)
        for config in allocated
    ]
