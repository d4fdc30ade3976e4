"""Which density, or which weight of sparsity, to train next: Optuna's multi-objective TPE.

Source: Ozaki et al., Multiobjective Tree-Structured Parzen Estimator, JAIR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from paretofit.search.methods.method import TrialRecord
from paretofit.search.methods.spatial_sampling import budget
from paretofit.search.seeds import trial_seed
from paretofit.search.spec import ResolvedSpec


class Proposals:
    """A function of the specification and of a search's history: told the same again, it proposes the same."""

    def __init__(self, spec: ResolvedSpec, history: Sequence[TrialRecord]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._spec = spec
        self.name, low, high = budget.axis(spec)
        # Values of three digits may lie a little outside.
        self._distributions: dict[str, BaseDistribution] = {
            self.name: FloatDistribution(min(low, budget.rounded(low)), max(high, budget.rounded(high)), log=True)
        }
        self._first = budget.first(spec)
        self._left = budget.values(spec)
        self._study = optuna.create_study(
            directions=["maximize" if o.key == "selection_top1" else "minimize" for o in spec.objectives]
        )
        for record in history:
            self._tell(record)

    def ask(self, number: int) -> float:
        """The value for trial `number`: of those that are left the nearest to what is proposed."""
        seed = trial_seed(self._spec.seed, number)
        if self._first:
            self._study.enqueue_trial({self.name: self._first.pop(0)})
        self._study.sampler = TPESampler(n_startup_trials=budget.STARTUP, seed=seed)
        asked = self._study.ask(self._distributions).params[self.name]
        value = min(self._left, key=lambda each: abs(math.log(each / asked)))
        self._left.remove(value)
        return value

    def _tell(self, record: TrialRecord) -> None:
        value = record.params["config"][self.name]
        self._first, self._left = ([each for each in values if each != value] for values in (self._first, self._left))
        state, values = TrialState.FAIL, None
        if record.state in ("queued", "running"):
            state = TrialState.RUNNING
        elif record.state == "completed" and (met := self._met(record)) is not None:
            state, values = TrialState.COMPLETE, self._values(met)
        bounds = self._distributions[self.name]
        assert isinstance(bounds, FloatDistribution)
        self._study.add_trial(
            create_trial(
                state=state,
                values=values,
                params={self.name: min(max(value, bounds.low), bounds.high)},
                distributions=self._distributions,
            )
        )

    def _met(self, record: TrialRecord) -> Mapping[str, float] | None:
        """The network as it was trained, which is the first, or else the first fixed budget that meets the constraints:
        whether one does on a device is known at last."""
        met = (metrics for metrics in record.points if all(bound.holds(metrics) for bound in self._spec.constraints))
        return next(met, None)

    def _values(self, metrics: Mapping[str, float]) -> list[float]:
        """Accuracies as they are, costs by their logarithm."""
        return [
            metrics[o.key] if o.key == "selection_top1" else math.log10(metrics[o.key]) for o in self._spec.objectives
        ]
