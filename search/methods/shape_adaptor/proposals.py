"""Chooses the next shape to learn: network, adaptors, last side, mode and target.

The cost of a network is unknown until it is trained; the training keeps it within the constraints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from paretofit.models.families.shapes import Sizes
from paretofit.search.contracts.params import Config
from paretofit.search.contracts.plan import TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import trial_seed
from paretofit.search.methods.budget import evenly
from paretofit.search.methods.proposals import ASKS, STARTUP, Estimator, first_feasible, objectives
from paretofit.search.methods.shape_adaptor import budget
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.space import EXTREME

_LISTS: Final = ("adaptors", "last_side", "target")

_Place = tuple[Any, ...]


class Proposals:
    """Deterministic: the same specification and history give the same proposals. `count` trainings can be proposed in
    total; `proposed` of them were, including the history."""

    def __init__(self, spec: ResolvedSpec, history: Sequence[TrialRecord]) -> None:
        self._spec = spec
        configs = _distinct(spec)
        self._axes = {name: sorted({config.get(name, 0) for config in configs}) for name in _LISTS}
        self._distributions: dict[str, BaseDistribution] = (
            {
                "family": CategoricalDistribution(sorted({config["family"] for config in configs})),
                "mode": CategoricalDistribution(sorted({config["mode"] for config in configs})),
                **{name: IntDistribution(0, len(values) - 1) for name, values in self._axes.items()},
            }
            if configs
            else {}
        )
        self._free = {self._place(config): config for config in configs}
        self.count = len(self._free)
        self.proposed = len(history)
        ranked = sorted(configs, key=lambda config: (config["target"] or math.inf, str(self._place(config))))
        self._first = [
            self._place(config) for config in evenly(ranked, min(STARTUP, spec.params(ShapeAdaptorParams).trials))
        ]
        self._estimator = Estimator(objectives(spec), self._distributions)
        for record in history:
            self._tell(record)

    def ask(self, number: int) -> dict[str, Any] | None:
        """Configuration for trial `number` that was not proposed before; None if there is none left."""
        self._first = [place for place in self._first if place in self._free]
        if not self._free:
            return None
        seed = trial_seed(self._spec.seed, number)
        if self._first:
            return self._enqueued(self._first.pop(0), seed)
        for attempt in range(ASKS):
            proposal = self._estimator.ask(seed + attempt)
            place = tuple(proposal.params[name] for name in self._distributions)
            if place in self._free:
                return self._taken(place)
            self._estimator.reject(proposal)
        return self._enqueued(Random(seed).choice(list(self._free)), seed)

    def drop(self, family: str, mode: str) -> None:
        """Exclude these: a trial that they depend on failed."""
        self._free = {
            place: config
            for place, config in self._free.items()
            if (config["family"], config["mode"]) != (family, mode)
        }

    def _enqueued(self, place: _Place, seed: int) -> dict[str, Any]:
        self._estimator.ask_at(dict(zip(self._distributions, place, strict=True)), seed)
        return self._taken(place)

    def _taken(self, place: _Place) -> dict[str, Any]:
        self.proposed += 1
        return self._free.pop(place)

    def _tell(self, record: TrialRecord) -> None:
        place = self._place(record.params["config"])
        self._free.pop(place, None)
        named = dict(zip(self._distributions, place, strict=True))
        self._estimator.tell(named, record.state, first_feasible(self._spec, record))

    def _place(self, config: Config) -> _Place:
        """Position of a configuration on the searched axes."""
        lists = (self._axes[name].index(config.get(name, 0)) for name in _LISTS)
        return config["family"], config["mode"], *lists


def _distinct(spec: ResolvedSpec) -> list[dict[str, Any]]:
    """The configurations whose smallest shape meets the constraints; of targets that a constraint makes equal, the
    lowest."""
    params = spec.params(ShapeAdaptorParams)
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for config in params.configs(spec.dataset):
        rule = params.space(spec.dataset, config).rule
        least: Sizes = rule.sizes([-EXTREME] * rule.count)
        if budget.fits(spec, config, rule)(least):
            same = (*(config[name] for name in config if name != "target"), budget.macs(spec, config))
            if same not in found or 0 < config["target"] < (found[same]["target"] or math.inf):
                found[same] = config
    return list(found.values())
