"""Which network to measure next, near the front of those that have been: Optuna's multi-objective TPE.

Source: Ozaki et al., Multiobjective Tree-Structured Parzen Estimator, JAIR 2022.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from paretofit.search.methods.method import Candidate
from paretofit.search.methods.mutualnet.space import Place, Space
from paretofit.search.seeds import trial_seed

STARTUP: Final = 8
"""Networks that are known before the estimator is asked."""


class Proposals:
    """A function of the seed and of what it has been told: told the same again, it proposes the same."""

    def __init__(self, space: Space, objectives: Sequence[str], seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._objectives = objectives
        self._seed = seed
        self._taken: set[Place] = set()
        self._distributions: dict[str, BaseDistribution] = {
            name: IntDistribution(0, len(values) - 1) for name, values in space.axes.items()
        }
        self._study = optuna.create_study(
            directions=["maximize" if name == "selection_top1" else "minimize" for name in objectives]
        )

    def tell(self, candidate: Candidate, metrics: Mapping[str, float]) -> None:
        """What a network was measured to have: accuracies as they are, costs by their logarithm."""
        place = self._space.place(candidate.config)
        self._taken.add(place)
        self._study.add_trial(
            create_trial(
                params=dict(zip(self._space.axes, place, strict=True)),
                distributions=self._distributions,
                values=[
                    metrics[name] if name == "selection_top1" else math.log10(metrics[name])
                    for name in self._objectives
                ],
            )
        )

    def ask(self) -> Candidate | None:
        """A feasible network that was not told; None if there is none, or none could be found."""
        if len(self._taken) == self._space.size:
            return None
        seed = trial_seed(self._seed, len(self._taken))
        # A sampler for each proposal: a study that is told the trials of an earlier process goes on as that would have.
        self._study.sampler = TPESampler(n_startup_trials=STARTUP, seed=seed)
        asked = self._study.ask(self._distributions)
        place = tuple(asked.params[name] for name in self._space.axes)
        self._study.tell(asked, state=TrialState.FAIL)  # what is measured is told, and need not be what was asked
        free = self._space.free(place, self._taken, Random(seed))
        return None if free is None else self._space.candidate(free)
