"""Plan of the search: trains networks, several at a time, each chosen from the results of the earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paretofit.search.contracts.plan import NewTrial, Plan, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.fd_mobilenet import budget, pruning
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.fd_mobilenet.proposals import Proposals

_ACTIVE: Final = frozenset({"queued", "running"})


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Keeps `parallel_trials` trials active until `trials` are planned or no network is left. Infeasible networks are
    never trained."""
    params = spec.params(FdMobileNetParams)
    proposals = Proposals(spec, history)
    costs = {record.number: _costs(spec, record) for record in history}
    active = sum(record.state in _ACTIVE for record in history)
    left = budget.trainings(spec) - len(history)
    trials: list[NewTrial] = []
    while len(trials) < min(left, params.parallel_trials - active):
        number = len(history) + len(trials)
        proposal = proposals.ask(number)
        if proposal is None:
            return Plan(trials=tuple(trials), done=True)
        trials.append(
            NewTrial(
                params={
                    "config": proposal.candidate.config,
                    "recipe": proposal.recipe,
                    "epochs": budget.epochs(spec, number),
                    "rivals": pruning.of(proposal.candidate, history, costs),
                }
            )
        )
    return Plan(trials=tuple(trials), done=len(trials) >= left)


def _costs(spec: ResolvedSpec, record: TrialRecord) -> dict[str, float]:
    cost = spec.candidate(record.params["config"]).cost
    return {name: cost[name] for name in spec.costs}
