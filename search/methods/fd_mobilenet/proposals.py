"""Chooses the next network to train, and the searched values of its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from paretofit.search.contracts.params import Candidate, Config
from paretofit.search.contracts.plan import TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import trial_seed
from paretofit.search.methods.budget import evenly
from paretofit.search.methods.fd_mobilenet import budget
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.proposals import ASKS, STARTUP, Estimator, objectives

_AXES: Final = ("width", "resolution")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A network to train, with the chosen values of its recipe."""

    candidate: Candidate
    recipe: dict[str, float]


class Proposals:
    """Deterministic: the same specification and history give the same proposals."""

    def __init__(self, spec: ResolvedSpec, history: Sequence[TrialRecord]) -> None:
        params = spec.params(FdMobileNetParams)
        self._spec = spec
        listed = spec.candidates()
        self._axes = {name: sorted({float(c.config[name]) for c in listed}) for name in _AXES}
        distributions: dict[str, BaseDistribution] = {
            "network": CategoricalDistribution(sorted({_network(c.config) for c in listed})),
            **{name: IntDistribution(0, len(values) - 1) for name, values in self._axes.items()},
            **{
                name: FloatDistribution(low, high, log=name != "label_smoothing")
                for name, (low, high) in params.tuning.ranges.items()
            },
        }
        self._repeats = bool(params.tuning.ranges)
        self._listed = {self._place(c.config): c for c in listed}
        self._free = {c.key: c for c in spec.feasible()}
        self._first = evenly(list(self._free.values()), min(STARTUP, budget.trainings(spec)))
        self._estimator = Estimator(objectives(spec), distributions)
        for record in history:
            self._tell(record)

    def ask(self, number: int) -> Proposal | None:
        """Proposal for trial `number`: a feasible network that was not proposed before, unless its recipe is searched
        too. None if there is none left."""
        if not self._free:
            return None
        seed = trial_seed(self._spec.seed, number)
        if self._first:
            return self._enqueued(self._first.pop(0), seed)
        for attempt in range(ASKS):
            proposal = self._estimator.ask(seed + attempt)
            candidate = self._listed.get(tuple(proposal.params[name] for name in ("network", *_AXES)))
            if candidate is not None and candidate.key in self._free:
                return self._taken(candidate, proposal.params)
            known = {"selection_top1": 0.0, **({} if candidate is None else candidate.cost)}
            self._estimator.reject(proposal, known, self._violations(candidate))
        return self._enqueued(Random(seed).choice(list(self._free.values())), seed)

    def _enqueued(self, candidate: Candidate, seed: int) -> Proposal:
        """This network with a recipe that the sampler chooses."""
        network, width, resolution = self._place(candidate.config)
        place = {"network": network, "width": width, "resolution": resolution}
        return self._taken(candidate, self._estimator.ask_at(place, seed).params)

    def _taken(self, candidate: Candidate, params: Mapping[str, Any]) -> Proposal:
        if not self._repeats:
            del self._free[candidate.key]
        return Proposal(candidate, {name: params[name] for name in self._spec.params(FdMobileNetParams).tuning.ranges})

    def _tell(self, record: TrialRecord) -> None:
        config, recipe = record.params["config"], record.params["recipe"]
        network, width, resolution = self._place(config)
        candidate = self._listed[network, width, resolution]
        self._first = [c for c in self._first if c.key != candidate.key]
        if not self._repeats:
            self._free.pop(candidate.key, None)
        metrics = None
        if record.state in ("completed", "pruned") and (top1 := _top1(record)) is not None:
            # A pruned training stopped below its final accuracy, but its network is dominated anyway.
            metrics = {**candidate.cost, "selection_top1": top1}
        place = {"network": network, "width": width, "resolution": resolution, **recipe}
        self._estimator.tell(place, record.state, metrics, self._violations(candidate))

    def _violations(self, candidate: Candidate | None) -> dict[str, float]:
        """Violations by constraint: relative excess over the bound; feasible networks have none above 0."""
        if candidate is None:
            return {}
        found = {}
        for index, bound in enumerate(self._spec.constraints):
            if (value := candidate.cost.get(bound.key)) is not None:
                found[f"{index}:{bound.key}"] = value / bound.value - 1
        return found

    def _place(self, config: Config) -> tuple[str, int, int]:
        """Position of a network on the searched axes."""
        width, resolution = (self._axes[name].index(float(config[name])) for name in _AXES)
        return _network(config), width, resolution


def _network(config: Config) -> str:
    return f"{config['family']}-g{config['groups']}" if "groups" in config else str(config["family"])


def _top1(record: TrialRecord) -> float | None:
    if record.points:
        return record.points[0]["selection_top1"]
    compared = (record.outputs or {}).get("compared", [])
    return compared[-1]["top1"] if compared else None
