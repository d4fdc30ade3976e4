"""Plan of the search: trains a network for each chosen density, several at a time; then the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from paretofit.search.contracts.plan import NewTrial, Plan, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.spatial_sampling import budget
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams
from paretofit.search.methods.spatial_sampling.proposals import Proposals

_ACTIVE: Final = frozenset({"queued", "running"})


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Keeps `parallel_trials` trials active until `trials` are planned; the baselines follow at once."""
    if not spec.feasible():
        return Plan(done=True)
    params = spec.params(SpatialSamplingParams)
    own = [record for record in history if "baseline" not in record.params["config"]]
    active = sum(record.state in _ACTIVE for record in own)
    left = budget.trainings(spec) - len(own)
    proposals = Proposals(spec, own)
    trials = [
        _trial(spec, {proposals.name: proposals.ask(len(own) + i)})
        for i in range(min(left, params.parallel_trials - active))
    ]
    if len(trials) < left:
        return Plan(trials=tuple(trials))
    made = [record.params["config"] for record in history]
    trials += [_trial(spec, config) for config in budget.affordable_baselines(spec) if config not in made]
    return Plan(trials=tuple(trials), done=True)


def _trial(spec: ResolvedSpec, config: dict[str, Any]) -> NewTrial:
    return NewTrial(params={"config": config, "epochs": budget.epochs(spec)})
