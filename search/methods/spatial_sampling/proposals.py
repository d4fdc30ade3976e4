"""Chooses the next density, or weight of the sparsity loss, to train."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.distributions import FloatDistribution

from paretofit.search.contracts.plan import TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import trial_seed
from paretofit.search.methods.proposals import Estimator, first_feasible, objectives
from paretofit.search.methods.spatial_sampling import budget


class Proposals:
    """Deterministic: the same specification and history give the same proposals."""

    def __init__(self, spec: ResolvedSpec, history: Sequence[TrialRecord]) -> None:
        self._spec = spec
        self.name, low, high = budget.axis(spec)
        # Values of three digits may lie slightly outside the range.
        self._low, self._high = min(low, budget.rounded(low)), max(high, budget.rounded(high))
        distributions = {self.name: FloatDistribution(self._low, self._high, log=True)}
        self._first = budget.first(spec)
        self._left = budget.values(spec)
        self._estimator = Estimator(objectives(spec), distributions, budget.STARTUP)
        for record in history:
            self._tell(record)

    def ask(self, number: int) -> float:
        """Value for trial `number`: the remaining one nearest to the proposal."""
        seed = trial_seed(self._spec.seed, number)
        if self._first:
            proposal = self._estimator.ask_at({self.name: self._first.pop(0)}, seed)
        else:
            proposal = self._estimator.ask(seed)
        value = min(self._left, key=lambda each: abs(math.log(each / proposal.params[self.name])))
        self._left.remove(value)
        return value

    def _tell(self, record: TrialRecord) -> None:
        value = record.params["config"][self.name]
        self._first, self._left = ([each for each in values if each != value] for values in (self._first, self._left))
        # The first network of a trial, as it was trained, or else its first fixed budget within the constraints.
        metrics = first_feasible(self._spec, record)
        self._estimator.tell({self.name: min(max(value, self._low), self._high)}, record.state, metrics)
