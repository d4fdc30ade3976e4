"""Which density, or which weight of sparsity, to train next."""

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
    """A function of the specification and of a search's history: told the same again, it proposes the same."""

    def __init__(self, spec: ResolvedSpec, history: Sequence[TrialRecord]) -> None:
        self._spec = spec
        self.name, low, high = budget.axis(spec)
        # Values of three digits may lie a little outside.
        self._low, self._high = min(low, budget.rounded(low)), max(high, budget.rounded(high))
        distributions = {self.name: FloatDistribution(self._low, self._high, log=True)}
        self._first = budget.first(spec)
        self._left = budget.values(spec)
        self._estimator = Estimator(objectives(spec), distributions, budget.STARTUP)
        for record in history:
            self._tell(record)

    def ask(self, number: int) -> float:
        """The value for trial `number`: of those that are left the nearest to what is proposed."""
        seed = trial_seed(self._spec.seed, number)
        if self._first:
            asked = self._estimator.ask_at({self.name: self._first.pop(0)}, seed)
        else:
            asked = self._estimator.ask(seed)
        value = min(self._left, key=lambda each: abs(math.log(each / asked.params[self.name])))
        self._left.remove(value)
        return value

    def _tell(self, record: TrialRecord) -> None:
        value = record.params["config"][self.name]
        self._first, self._left = ([each for each in values if each != value] for values in (self._first, self._left))
        # As it was trained, which is its first network, or else the first fixed budget within the constraints.
        metrics = first_feasible(self._spec, record)
        self._estimator.tell({self.name: min(max(value, self._low), self._high)}, record.state, metrics)
