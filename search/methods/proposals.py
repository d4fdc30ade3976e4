"""Chooses the next network to train or measure: Optuna's multi-objective TPE over the networks of a search.

Source: Ozaki et al., Multiobjective Tree-Structured Parzen Estimator, JAIR 2022; constraints as in Watanabe & Hutter,
c-TPE, 2022 (arXiv 2211.14411).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import Trial, TrialState, create_trial

from paretofit.search.contracts import plan
from paretofit.search.contracts.plan import ACTIVE, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec

STARTUP: Final = 8
"""Networks chosen evenly before the estimator proposes any."""
ASKS: Final = 16
"""Unusable proposals after which a network is drawn at random."""


class Estimator:
    """Deterministic: the same history gives the same proposals. `objectives` are named as in points' metrics; a place
    has a value for each of the `distributions`."""

    def __init__(
        self, objectives: Sequence[str], distributions: Mapping[str, BaseDistribution], startup: int = STARTUP
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._objectives = objectives
        self._distributions = dict(distributions)
        self._startup = startup
        self._study = optuna.create_study(
            directions=["maximize" if name == "selection_top1" else "minimize" for name in objectives]
        )

    def tell(
        self,
        place: Mapping[str, Any],
        state: plan.TrialState,
        metrics: Mapping[str, float] | None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Adds a trial of the history: `metrics` of its network, or None if there are none; `violations` of
        constraints, where a value above 0 means infeasible."""
        under_way = state in ACTIVE
        outcome = TrialState.RUNNING if under_way else TrialState.FAIL if metrics is None else TrialState.COMPLETE
        self._study.add_trial(
            create_trial(
                state=outcome,
                values=None if metrics is None or under_way else self._values(metrics),
                params=dict(place),
                distributions=self._distributions,
                constraints=None if violations is None else dict(violations),
            )
        )

    def ask(self, seed: int) -> Trial:
        """A proposal; its `params` are a place. Each has its own sampler, so that a study rebuilt in another process
        continues identically."""
        self._study.sampler = TPESampler(n_startup_trials=self._startup, seed=seed % 2**31)
        return self._study.ask(self._distributions)

    def ask_at(self, place: Mapping[str, Any], seed: int) -> Trial:
        """A proposal with these values; the estimator chooses the others."""
        self._study.enqueue_trial(dict(place))
        return self.ask(seed)

    def reject(
        self,
        proposal: Trial,
        metrics: Mapping[str, float] | None = None,
        violations: Mapping[str, float] | None = None,
    ) -> None:
        """Discards a proposal that is unusable or known. The estimator learns the known metrics of its network."""
        for name, violation in (violations or {}).items():
            proposal.set_constraint(name, violation)
        if metrics is not None and all(name in metrics for name in self._objectives):
            self._study.tell(proposal, self._values(metrics))
        else:
            self._study.tell(proposal, state=TrialState.FAIL)

    def _values(self, metrics: Mapping[str, float]) -> list[float]:
        """Accuracies unchanged, costs as logarithms."""
        return [metrics[name] if name == "selection_top1" else math.log10(metrics[name]) for name in self._objectives]


def objectives(spec: ResolvedSpec) -> list[str]:
    """Names as in points' metrics."""
    return [objective.key for objective in spec.objectives]


def first_feasible(spec: ResolvedSpec, record: TrialRecord) -> Mapping[str, float] | None:
    """Metrics of the first network of a completed trial that meets the constraints; None without one. Latency
    constraints can only be checked after the measurement."""
    if record.state != "completed":
        return None
    met = (metrics for metrics in record.points if all(bound.holds(metrics) for bound in spec.constraints))
    return next(met, None)
